-- To how many neurons do the neurons of each type project? Neurons without any output count, too.
with degrees as (
    select
        nodes.code,
        count(connections.target_node) as degree
    from nodes
    left join connections on nodes.node = connections.source_node
    where nodes.side = 'source'
    group by nodes.code, nodes.node
)

select
    types.type as source_type,
    count(*) as n_neurons,
    avg(degrees.degree) as mean,
    stddev_pop(degrees.degree) as std,
    min(degrees.degree) as min,
    median(degrees.degree) as median,
    max(degrees.degree) as max
from degrees
inner join types on degrees.code = types.code and types.side = 'source'
group by types.code, types.type
order by types.code;
