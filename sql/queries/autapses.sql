-- Which neurons connect to themselves, by type? None where sources are another population.
select
    connections.source_type as type,
    count(*) as n_autapses,
    sum(connections.n_syn_per_conn)::bigint as n_synapses
from connections
cross join edge_population
where
    connections.source_node = connections.target_node
    and edge_population.source_nodes = edge_population.target_nodes
group by connections.source_type
order by n_autapses desc, type asc;
