-- one row per synapse: its connection, and every property, null where it is NaN
select
    columns(lambda name: not list_contains(getvariable('properties'), name)),
    nullif(columns(lambda name: list_contains(getvariable('properties'), name)), 'nan'::float)
from synapses_as_stored
