-- How often are connections of two types reciprocal, and how often would they be by chance?
with pairs as (
    select
        connections.source_type,
        connections.target_type,
        connections.source_node,
        connections.target_node
    from connections
    cross join edge_population
    where
        connections.source_node != connections.target_node
        and edge_population.source_nodes = edge_population.target_nodes
),

counted as (
    select
        there.source_type,
        there.target_type,
        count(*) as n_connections,
        count(back.source_node) as n_reciprocal
    from pairs as there
    left join pairs as back
        on there.source_node = back.target_node and there.target_node = back.source_node
    group by there.source_type, there.target_type
),

possible as (
    select
        counted.*,
        sources.n_nodes * (
            targets.n_nodes - (sources.type = targets.type)::bigint
        ) as n_pairs
    from counted
    inner join types as sources
        on counted.source_type = sources.type and sources.side = 'source'
    inner join types as targets
        on counted.target_type = targets.type and targets.side = 'target'
)

-- By chance, a connection is reciprocated as often as any pair is connected in that direction.
select
    there.source_type,
    there.target_type,
    there.n_connections,
    there.n_reciprocal,
    there.n_reciprocal / there.n_connections as part,
    coalesce(back.n_connections, 0) / there.n_pairs as by_chance
from possible as there
left join possible as back
    on there.source_type = back.target_type and there.target_type = back.source_type
order by there.n_reciprocal desc, there.source_type asc, there.target_type asc;
