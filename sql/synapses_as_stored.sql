-- one row per synapse: its connection, and every property, NaN where it is NaN
with shared as (
    select columns(lambda name: list_contains(getvariable('connection_columns'), name))
    from connections_as_stored
)

select
    shared.*,
    rows.* exclude (pathway, first_edge)
from synapse_rows as rows
inner join shared on rows.first_edge = shared.first_edge
