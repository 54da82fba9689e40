-- How often are connections of two types reciprocal, and how often would they be by chance?
-- Pairs are ordered, and of two different neurons: autapses do not count.
-- Of a circuit that was cut out of a larger one, neurons near the cut have lost partners: these are
-- probabilities of what is here, not of the whole.
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

-- neurons that are of both types have no pair with themselves
selves as (
    select
        sources.code as source_code,
        targets.code as target_code,
        count(*) as n
    from nodes as sources
    inner join nodes as targets on sources.node = targets.node
    where sources.side = 'source' and targets.side = 'target'
    group by sources.code, targets.code
),

possible as (
    select
        counted.*,
        sources.n_nodes * targets.n_nodes - coalesce(selves.n, 0) as n_pairs
    from counted
    inner join types as sources
        on counted.source_type = sources.type and sources.side = 'source'
    inner join types as targets
        on counted.target_type = targets.type and targets.side = 'target'
    left join selves
        on sources.code = selves.source_code and targets.code = selves.target_code
)

-- By chance, a connection is reciprocated as often as any pair is connected in that direction. This
-- is known where source and target types are of one attribute.
select
    there.source_type,
    there.target_type,
    there.n_connections,
    there.n_reciprocal,
    there.n_reciprocal / there.n_connections as part,
    case
        when edge_population.source_grouping = edge_population.target_grouping
            then coalesce(back.n_connections, 0) / there.n_pairs
    end as by_chance
from possible as there
cross join edge_population
left join possible as back
    on there.source_type = back.target_type and there.target_type = back.source_type
order by there.n_reciprocal desc, there.source_type asc, there.target_type asc;
