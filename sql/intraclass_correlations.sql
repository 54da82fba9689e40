-- one row per pathway and property that varies within connections: how alike the synapses of a
-- connection are, by the normal scores of their values (docs/numbers.md, "Within connections")
with several as (
    select
        *,
        count(*) over (partition by pathway, property, first_edge) as n_alike
    from synapse_values
    where isfinite(value)
),

ranked as (
    select
        pathway,
        property,
        first_edge,
        n_alike,
        rank() over (partition by pathway, property order by value) - 1
        + count(*) over (partition by pathway, property, value) / 2 as below,
        below / count(*) over (partition by pathway, property) - 0.5 as q
    from several
    where n_alike > 1
),

-- the normal quantile of q + 1/2, to 16 digits (Wichura 1988, algorithm AS 241)
scored as (
    select
        *,
        0.180625 - q * q as c,
        sqrt(-ln(0.5 - abs(q))) as tail,
        tail - 1.6 as t,
        tail - 5 as u,
        case
            when abs(q) <= 0.425
                then
                    q
                    * ((((((
                        (2509.0809287301226727 * c + 33430.575583588128105) * c
                        + 67265.770927008700853
                    ) * c + 45921.953931549871457) * c
                    + 13731.693765509461125) * c + 1971.5909503065514427) * c
                    + 133.14166789178437745) * c + 3.387132872796366608)
                    / ((((((
                        (5226.495278852545925 * c + 28729.085735721942674) * c
                        + 39307.89580009271061
                    ) * c + 21213.794301586595867) * c
                    + 5394.1960214247511077) * c + 687.1870074920579083) * c
                    + 42.313330701600911252) * c + 1)
            when tail <= 5
                then
                    sign(q)
                    * ((((((
                        (7.7454501427834140764e-4 * t + 0.0227238449892691845833) * t
                        + 0.24178072517745061177
                    ) * t + 1.27045825245236838258) * t
                    + 3.64784832476320460504) * t + 5.7694972214606914055) * t
                    + 4.6303378461565452959) * t + 1.42343711074968357734)
                    / ((((((
                        (1.05075007164441684324e-9 * t + 5.475938084995344946e-4) * t
                        + 0.0151986665636164571966
                    ) * t + 0.14810397642748007459) * t
                    + 0.68976733498510000455) * t + 1.6763848301838038494) * t
                    + 2.05319162663775882187) * t + 1)
            else
                sign(q)
                * ((((((
                    (2.01033439929228813265e-7 * u + 2.71155556874348757815e-5) * u
                    + 0.0012426609473880784386
                ) * u + 0.026532189526576123093) * u
                + 0.29656057182850489123) * u + 1.7848265399172913358) * u
                + 5.4637849111641143699) * u + 6.6579046435011037772)
                / ((((((
                    (2.04426310338993978564e-15 * u + 1.4215117583164458887e-7) * u
                    + 1.8463183175100546818e-5
                ) * u + 7.868691311456132591e-4) * u
                + 0.0148753612908506148525) * u + 0.13692988092273580531) * u
                + 0.59983220655588793769) * u + 1)
        end as z
    from ranked
),

of_connections as (
    select
        pathway,
        property,
        any_value(n_alike) as m,
        sum(z) as total,
        sum(z * z) as squares
    from scored
    group by pathway, property, first_edge
),

of_pathways as (
    select
        pathway,
        property,
        count(*) as k,
        sum(m)::double as n,
        sum(m * m)::double as second,
        sum(m * m * m)::double as third,
        (n - second / n) / nullif(k - 1, 0) as mean_size,
        (sum(total * total / m) - sum(total) * sum(total) / n) / nullif(k - 1, 0) as between_them,
        (sum(squares) - sum(total * total / m)) / (n - k) as within_them,
        (between_them - within_them)
        / nullif(between_them + (mean_size - 1) * within_them, 0) as icc
    from of_connections
    group by pathway, property
)

-- the standard error is that of Smith (1957)
select
    pathway,
    property,
    icc,
    case when icc is not null then least(greatest(icc, 0), 1) end as r,
    (1 - r) / mean_size * sqrt(
        2 * (1 + r * (mean_size - 1)) ** 2 / (n - k)
        + 2 * (k - 1) * (1 - r) * (1 + r * (2 * mean_size - 1)) / (k - 1) ** 2
        + 2 * r ** 2 * (second - 2 * third / n + (second / n) ** 2) / (k - 1) ** 2
    ) as icc_error
from of_pathways
where k > 1
