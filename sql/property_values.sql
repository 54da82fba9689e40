-- one row per value that enters a statistic: one per connection where all connections of the
-- pathway have a single value each, else one per synapse (also where connections share values), and
-- the number of synapses that have it
select
    connection_values.source_type,
    connection_values.target_type,
    connection_values.property,
    connection_values.value,
    connection_values.n_syn_per_conn as n_synapses
from connection_values
inner join sharing using (pathway, property)
where sharing.one_each and not (sharing.is_constant and sharing.n_connections > 1)

union all

select
    synapse_values.source_type,
    synapse_values.target_type,
    synapse_values.property,
    synapse_values.value,
    1 as n_synapses
from synapse_values
inner join sharing using (pathway, property)
where not sharing.one_each or (sharing.is_constant and sharing.n_connections > 1)

union all

select
    source_type,
    target_type,
    'n_syn_per_conn' as property,
    n_syn_per_conn::double as value,
    n_syn_per_conn as n_synapses
from connections
