-- How many excitatory and inhibitory synapses does a neuron of each layer receive?
with received as (
    select
        targets.layer,
        sum(pathways.n_synapses) filter (where sources.synapse_class = 'EXC') as excitatory,
        sum(pathways.n_synapses) filter (where sources.synapse_class = 'INH') as inhibitory
    from pathways
    inner join types as sources
        on pathways.source_type = sources.type and sources.side = 'source'
    inner join types as targets
        on pathways.target_type = targets.type and targets.side = 'target'
    group by targets.layer
),

layers as (
    select
        layer,
        sum(n_nodes) as n_neurons
    from types
    where side = 'target'
    group by layer
)

select
    layers.layer,
    layers.n_neurons::bigint as n_neurons,
    coalesce(received.excitatory, 0) / nullif(layers.n_neurons, 0) as excitatory_per_neuron,
    coalesce(received.inhibitory, 0) / nullif(layers.n_neurons, 0) as inhibitory_per_neuron,
    received.excitatory / received.inhibitory as ratio
from layers
left join received on layers.layer is not distinct from received.layer
order by layers.layer;
