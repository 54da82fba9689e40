-- one row per connection, as stored, its ends by the ids that the input has for them
select rows.* replace (sources."@id" as source_node, targets."@id" as target_node)
from connection_numbers as rows
inner join node_numbers as sources
    on rows.source_node = sources.node and sources.side = 'source'
inner join node_numbers as targets
    on rows.target_node = targets.node and targets.side = 'target'
