-- How are two properties correlated within each pathway, over its connections?
set variable x = coalesce(getvariable('x'), 'conductance'); -- one property
set variable y = coalesce(getvariable('y'), 'n_rrp_vesicles'); -- another property
set variable at_least = coalesce(getvariable('at_least'), 10); -- fewest connections of a pathway

with pairs as (
    select
        first_edge,
        source_type,
        target_type,
        columns(lambda name: name = getvariable('x'))::double as x
    from connections
),

others as (
    select
        first_edge,
        columns(lambda name: name = getvariable('y'))::double as y
    from connections
)

select
    pairs.source_type,
    pairs.target_type,
    count(*) as n,
    -- null where one of them is constant
    case
        when min(pairs.x) < max(pairs.x) and min(others.y) < max(others.y)
            then nullif(corr(pairs.x, others.y), 'nan'::double)
    end as pearson
from pairs
inner join others on pairs.first_edge = others.first_edge
where isfinite(pairs.x) and isfinite(others.y)
group by pairs.source_type, pairs.target_type
having count(*) >= getvariable('at_least')
order by abs(pearson) desc nulls last, pairs.source_type asc, pairs.target_type asc;
