-- one row per pathway that has connections
with counts as (
    select
        pathway,
        count(*) as n_connections,
        sum(n_syn_per_conn)::bigint as n_synapses
    from connection_rows
    group by pathway
)

select
    source_types.type as source_type,
    target_types.type as target_type,
    source_types.synapse_class as source_class,
    target_types.synapse_class as target_class,
    source_types.layer as source_layer,
    target_types.layer as target_layer,
    counts.n_connections,
    counts.n_synapses,
    counts.pathway
from counts
inner join types as source_types
    on
        counts.pathway // getvariable('n_target_types') = source_types.code
        and source_types.side = 'source'
inner join types as target_types
    on
        counts.pathway % getvariable('n_target_types') = target_types.code
        and target_types.side = 'target'
order by counts.pathway
