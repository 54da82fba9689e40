-- What fraction of the possible pairs of neurons does each pathway connect?
-- Pairs are ordered, and of two different neurons; autapses are counted apart.
-- Of a circuit that was cut out of a larger one, neurons near the cut have lost partners: these are
-- probabilities of what is here, not of the whole.
with flagged as (
    select
        connections.source_type,
        connections.target_type,
        connections.source_node = connections.target_node
        and edge_population.source_nodes = edge_population.target_nodes as is_autapse
    from connections
    cross join edge_population
),

counted as (
    select
        source_type,
        target_type,
        count(*) filter (where not is_autapse) as n_connections,
        count(*) filter (where is_autapse) as n_autapses
    from flagged
    group by source_type, target_type
),

-- neurons that are of both types have no pair with themselves
selves as (
    select
        sources.code as source_code,
        targets.code as target_code,
        count(*) as n
    from nodes as sources
    inner join nodes as targets on sources.node = targets.node
    cross join edge_population
    where
        sources.side = 'source'
        and targets.side = 'target'
        and edge_population.source_nodes = edge_population.target_nodes
    group by sources.code, targets.code
)

select
    counted.source_type,
    counted.target_type,
    counted.n_connections,
    counted.n_autapses,
    sources.n_nodes * targets.n_nodes - coalesce(selves.n, 0) as n_pairs,
    counted.n_connections / nullif(n_pairs, 0) as probability
from counted
inner join types as sources
    on counted.source_type = sources.type and sources.side = 'source'
inner join types as targets
    on counted.target_type = targets.type and targets.side = 'target'
left join selves
    on sources.code = selves.source_code and targets.code = selves.target_code
order by probability desc nulls last, counted.source_type asc, counted.target_type asc;
