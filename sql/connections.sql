-- one row per connection: its pathway, its ends, its number of synapses, and each property's
-- value where all its synapses share a number, else null
select
    columns(lambda name: not list_contains(getvariable('properties'), name)),
    nullif(columns(lambda name: list_contains(getvariable('properties'), name)), 'nan'::float)
from connections_as_stored
