-- How much of a property (by default conductance) does a neuron of each type receive in all?
set variable property = coalesce(getvariable('property'), 'conductance'); -- the property summed

with valued as (
    select
        source_type,
        target_type,
        columns(lambda name: name = getvariable('property'))::double as measured
    from synapses
),

received as (
    select
        valued.target_type,
        sum(valued.measured) filter (where sources.synapse_class = 'EXC') as excitatory,
        sum(valued.measured) filter (where sources.synapse_class = 'INH') as inhibitory,
        sum(valued.measured) as total
    from valued
    inner join types as sources
        on valued.source_type = sources.type and sources.side = 'source'
    group by valued.target_type
)

select
    types.type as target_type,
    types.n_nodes as n_neurons,
    coalesce(received.excitatory, 0) / types.n_nodes as excitatory,
    coalesce(received.inhibitory, 0) / types.n_nodes as inhibitory,
    coalesce(received.total, 0) / types.n_nodes as total
from types
left join received on types.type = received.target_type
where types.side = 'target'
order by types.code;
