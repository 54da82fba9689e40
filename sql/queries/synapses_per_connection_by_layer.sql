-- How many synapses does a connection have, by the layers of source and target?
select
    sources.layer as source_layer,
    targets.layer as target_layer,
    sum(pathways.n_connections)::bigint as n_connections,
    sum(pathways.n_synapses)::bigint as n_synapses,
    sum(pathways.n_synapses) / sum(pathways.n_connections) as synapses_per_connection
from pathways
inner join types as sources
    on pathways.source_type = sources.type and sources.side = 'source'
inner join types as targets
    on pathways.target_type = targets.type and targets.side = 'target'
group by sources.layer, targets.layer
order by sources.layer, targets.layer;
