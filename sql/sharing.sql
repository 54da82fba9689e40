-- one row per pathway and property: whether connections share it, as far as the data show
with of_pathways as (
    select
        pathway,
        source_type,
        target_type,
        count(*) as n_connections,
        count(*) filter (where n_syn_per_conn > 1) as n_multi
    from connections
    group by all
),

of_properties as (
    select
        pathway,
        property,
        count(*) as n_each,
        count(*) filter (where n_syn_per_conn > 1 and isfinite(value)) as n_shared,
        min(value) = max(value) and bool_and(isfinite(value)) as one_value
    from connection_values
    group by all
)

select
    of_pathways.pathway,
    of_pathways.source_type,
    of_pathways.target_type,
    names.property,
    of_pathways.n_connections,
    of_pathways.n_multi,
    coalesce(of_properties.n_shared, 0) as n_shared,
    -- a connection has a value only where all its synapses share it
    coalesce(of_properties.n_each, 0) = of_pathways.n_connections as one_each,
    one_each and coalesce(of_properties.one_value, false) as is_constant,
    case
        when is_constant or of_pathways.n_multi = 0 then null
        when one_each and of_properties.n_shared = 0 then null
        else one_each
    end as shared_within
from of_pathways
cross join (select unnest(getvariable('properties')) as property) as names
left join of_properties
    on
        of_pathways.pathway = of_properties.pathway
        and names.property = of_properties.property
