-- one row per pathway and property: the definition of what `connprops extract` computes
with units as (
    -- powers of two, in which squares neither overflow nor vanish
    select
        source_type,
        target_type,
        property,
        coalesce(pow(2, floor(log2(nullif(max(abs(value)), 0)))), 1) as unit
    from property_values
    where isfinite(value)
    group by all
),

described as (
    select
        source_type,
        target_type,
        property,
        count(*) as n,
        favg(value / unit) * any_value(unit) as mean,
        stddev_pop(value / unit) * any_value(unit) as std,
        min(value) as min,
        max(value) as max,
        quantile_cont(value, [0.05, 0.25, 0.5, 0.75, 0.95]) as q,
        count(distinct value) as n_unique,
        -- DuckDB's skewness is corrected for sample size, this one is not
        case
            when min(value) = max(value) then null
            when count(*) = 2 then 0
            else skewness(value / unit) * (count(*) - 2) / sqrt(count(*) * (count(*) - 1))
        end as skewness,
        case when min(value) < max(value) then kurtosis_pop(value / unit) end as kurtosis
    from property_values
    inner join units using (source_type, target_type, property)
    where isfinite(value)
    group by all
),

left_out as (
    select
        source_type,
        target_type,
        property,
        coalesce(sum(n_synapses) filter (where not isfinite(value)), 0)::bigint as n_null
    from property_values
    group by all
)

select
    left_out.source_type,
    left_out.target_type,
    left_out.property,
    coalesce(described.n, 0) as n,
    left_out.n_null,
    coalesce(sharing.n_shared, 0) as n_shared,
    sharing.shared_within,
    described.mean,
    described.std,
    described.min,
    described.max,
    described.q[1] as q05,
    described.q[2] as q25,
    described.q[3] as q50,
    described.q[4] as q75,
    described.q[5] as q95,
    coalesce(described.n_unique, 0) as n_unique,
    described.skewness,
    described.kurtosis,
    alike.icc,
    alike.icc_error
from left_out
left join described using (source_type, target_type, property)
left join sharing using (source_type, target_type, property)
left join intraclass_correlations as alike using (pathway, property)
