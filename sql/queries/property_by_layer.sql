-- What is the mean of a property (by default conductance), by layer and class of both sides?
set variable property = coalesce(getvariable('property'), 'conductance'); -- the property

select
    sources.layer as source_layer,
    sources.synapse_class as source_class,
    targets.layer as target_layer,
    targets.synapse_class as target_class,
    count(*) as n_pathways,
    sum(described.n)::bigint as n,
    sum(described.n * described.mean) / sum(described.n) as mean
from statistics as described
inner join types as sources
    on described.source_type = sources.type and sources.side = 'source'
inner join types as targets
    on described.target_type = targets.type and targets.side = 'target'
where described.property = getvariable('property') and described.n > 0
group by all
order by all;
