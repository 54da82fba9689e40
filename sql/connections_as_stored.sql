-- one row per connection: its pathway, its ends, its number of synapses, and each property's
-- value where all its synapses share it, NaN where they share that, else null
select
    source_types.type as source_type,
    target_types.type as target_type,
    rows.*
from connection_rows as rows
inner join types as source_types
    on
        rows.pathway // getvariable('n_target_types') = source_types.code
        and source_types.side = 'source'
inner join types as target_types
    on
        rows.pathway % getvariable('n_target_types') = target_types.code
        and target_types.side = 'target'
