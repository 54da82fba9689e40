-- one row per node and side, by the id that the input has for it
select
    side,
    "@id" as node,
    * exclude (side, node, "@id")
from node_numbers
