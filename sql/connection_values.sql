-- one row per connection and property that all its synapses share, with the value, also NaN
select *
from (
    unpivot (
        select
            pathway,
            source_type,
            target_type,
            first_edge,
            n_syn_per_conn,
            columns(lambda name: list_contains(getvariable('properties'), name))::double
        from connections_as_stored
    )
    on columns(* exclude (pathway, source_type, target_type, first_edge, n_syn_per_conn))
    into name property value value
)
