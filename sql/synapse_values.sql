-- one row per synapse and property, with the value, also NaN
select *
from (
    unpivot (
        select
            pathway,
            source_type,
            target_type,
            first_edge,
            edge_id,
            columns(lambda name: list_contains(getvariable('properties'), name))::double
        from synapses_as_stored
    )
    on columns(* exclude (pathway, source_type, target_type, first_edge, edge_id))
    into name property value value
)
