-- Frequent questions as table macros: `from inputs_of('L5_TTPC1')`. They find connections and
-- synapses by name, so views.sql or a session has to provide these.

-- the histogram of one property of one pathway
create or replace macro histogram_of(source, target, property_name) as table
    select
        bin,
        "left",
        "right",
        count,
        count / (sum(count) over () * ("right" - "left")) as density
    from histograms
    where
        source_type = source
        and target_type = target
        and property = property_name
    order by bin;

-- the pathways onto a type, the strongest first
create or replace macro inputs_of(target) as table
    select
        source_type,
        source_class,
        source_layer,
        n_connections,
        n_synapses,
        n_synapses / n_connections as synapses_per_connection,
        n_synapses / sum(n_synapses) over () as part
    from pathways
    where target_type = target
    order by n_synapses desc, source_type asc;

-- the pathways from a type, the strongest first
create or replace macro outputs_of(source) as table
    select
        target_type,
        target_class,
        target_layer,
        n_connections,
        n_synapses,
        n_synapses / n_connections as synapses_per_connection,
        n_synapses / sum(n_synapses) over () as part
    from pathways
    where source_type = source
    order by n_synapses desc, target_type asc;

-- quantiles of a property, grouped by a list of columns of connections (or of the relation given),
-- to which belong source_class, target_class, source_layer and target_layer
create or replace macro quantiles_of(
    property_name, grouping_columns, relation := 'connections'
) as table
    with described as (
        select
            source_types.synapse_class as source_class,
            target_types.synapse_class as target_class,
            source_types.layer as source_layer,
            target_types.layer as target_layer,
            pairs.*
        from query_table(relation) as pairs
        inner join types as source_types
            on pairs.source_type = source_types.type and source_types.side = 'source'
        inner join types as target_types
            on pairs.target_type = target_types.type and target_types.side = 'target'
    ),

    valued as (
        select
            columns(lambda name: list_contains(grouping_columns, name)),
            columns(lambda name: name = property_name)::double as measured
        from described
    )

    select
        columns(* exclude (measured)),
        count(measured) as n,
        quantile_cont(measured, 0.05) as q05,
        quantile_cont(measured, 0.25) as q25,
        quantile_cont(measured, 0.5) as q50,
        quantile_cont(measured, 0.75) as q75,
        quantile_cont(measured, 0.95) as q95
    from valued
    where isfinite(measured)
    group by all
    order by all;

-- the rows of a model, or of its fits, that count for a pathway: its own, or those it borrows
create or replace macro model_of(source, target, relation := 'model') as table
    select lent.*
    from query_table(relation) as lent
    inner join types as source_types
        on source_types.side = 'source' and source_types.type = source
    inner join types as target_types
        on target_types.side = 'target' and target_types.type = target
    where
        coalesce(lent.source_type = source, lent.source_type is null)
        and coalesce(lent.target_type = target, lent.target_type is null)
        and coalesce(lent.source_class = source_types.synapse_class, lent.source_class is null)
        and coalesce(lent.target_class = target_types.synapse_class, lent.target_class is null)
        and coalesce(lent.source_layer = source_types.layer, lent.source_layer is null)
        and coalesce(lent.target_layer = target_types.layer, lent.target_layer is null)
    qualify
        lent.level = min(lent.level) over (
            partition by lent.property, lent.distribution = 'copula'
        );

-- each property of one pathway: its distribution and parameters beside the data
create or replace macro model_against_data(source, target) as table
    with parameters as (
        select
            property,
            map_from_entries(
                list({ 'key': parameter, 'value': value } order by parameter)
            ) as parameters
        from model_of(source, target)
        where other_property is null and position = 0
        group by property
    )

    select
        fits.property,
        fits.distribution,
        parameters.parameters,
        fits.level,
        fits.n,
        fits.data_mean,
        fits.model_mean,
        fits.data_std,
        fits.model_std,
        fits.ks,
        fits.wasserstein
    from model_of(source, target, relation := 'fits') as fits
    inner join parameters on fits.property = parameters.property
    order by fits.property;
