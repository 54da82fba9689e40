-- How much of a property (by default conductance) does a neuron of each type receive in all?
set variable property = coalesce(getvariable('property'), 'conductance'); -- the property summed

with valued as (
    select
        source_type,
        target_type,
        columns(lambda name: name = getvariable('property'))::double as measured
    from synapses
),

-- infinite values are left out, as they are of statistics
finite as (
    select *
    from valued
    where isfinite(measured)
),

received as (
    select
        finite.target_type,
        sum(finite.measured) filter (where sources.synapse_class = 'EXC') as excitatory,
        sum(finite.measured) filter (where sources.synapse_class = 'INH') as inhibitory,
        sum(finite.measured) as total
    from finite
    inner join types as sources
        on finite.source_type = sources.type and sources.side = 'source'
    group by finite.target_type
)

select
    types.type as target_type,
    types.n_nodes as n_neurons,
    coalesce(received.excitatory, 0) / nullif(types.n_nodes, 0) as excitatory,
    coalesce(received.inhibitory, 0) / nullif(types.n_nodes, 0) as inhibitory,
    coalesce(received.total, 0) / nullif(types.n_nodes, 0) as total
from types
left join received on types.type = received.target_type
where types.side = 'target'
order by types.code;
