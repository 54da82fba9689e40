-- What fraction of a property's variance (by default delay's) lies within connections?
set variable property = coalesce(getvariable('property'), 'delay'); -- the property
set variable at_least = coalesce(getvariable('at_least'), 10); -- fewest connections of a pathway

with valued as (
    select
        source_type,
        target_type,
        first_edge,
        columns(lambda name: name = getvariable('property'))::double as measured
    from synapses
),

of_connections as (
    select
        source_type,
        target_type,
        count(*) as n,
        var_pop(measured) as variance,
        avg(measured) as mean
    from valued
    where isfinite(measured)
    group by source_type, target_type, first_edge
),

of_pathways as (
    select
        source_type,
        target_type,
        count(*) as n_connections,
        sum(n * variance) / sum(n) as within_connections,
        sum(n * mean * mean) / sum(n) - (sum(n * mean) / sum(n)) ** 2 as between_connections
    from of_connections
    group by source_type, target_type
)

select
    source_type,
    target_type,
    n_connections,
    within_connections,
    within_connections / nullif(within_connections + between_connections, 0) as part
from of_pathways
where n_connections >= getvariable('at_least')
order by part desc nulls last, source_type asc, target_type asc;
