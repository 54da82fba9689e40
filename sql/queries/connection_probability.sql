-- What fraction of the possible pairs of neurons does each pathway connect?
select
    pathways.source_type,
    pathways.target_type,
    pathways.n_connections,
    sources.n_nodes * targets.n_nodes as n_pairs,
    pathways.n_connections / n_pairs as probability
from pathways
inner join types as sources
    on pathways.source_type = sources.type and sources.side = 'source'
inner join types as targets
    on pathways.target_type = targets.type and targets.side = 'target'
order by probability desc, pathways.source_type asc, pathways.target_type asc;
