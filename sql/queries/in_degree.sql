-- From how many neurons do the neurons of each type receive? Neurons without any input count, too.
with degrees as (
    select
        nodes.code,
        count(connections.source_node) as degree
    from nodes
    left join connections on nodes.node = connections.target_node
    where nodes.side = 'target'
    group by nodes.code, nodes.node
)

select
    types.type as target_type,
    count(*) as n_neurons,
    avg(degrees.degree) as mean,
    stddev_pop(degrees.degree) as std,
    min(degrees.degree) as min,
    median(degrees.degree) as median,
    max(degrees.degree) as max
from degrees
inner join types on degrees.code = types.code and types.side = 'target'
group by types.code, types.type
order by types.code;
