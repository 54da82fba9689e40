-- one row per pair of types: the integer that names the pathway in the large tables
select
    source_types.code * getvariable('n_target_types') + target_types.code as pathway,
    source_types.code as source_code,
    target_types.code as target_code
from types as source_types
cross join types as target_types
where source_types.side = 'source' and target_types.side = 'target'
