-- How many pathways have no data of their own, and from which level do they borrow a model?
with own as (
    select distinct
        source_type,
        target_type,
        property,
        level
    from model
    where other_property is null and source_type is not null and target_type is not null
),

lent as (
    select distinct
        property,
        level,
        source_type,
        target_type,
        source_class,
        target_class,
        source_layer,
        target_layer
    from model
    where other_property is null and (source_type is null or target_type is null)
),

pairs as (
    select
        source_types.type as source_type,
        target_types.type as target_type,
        source_types.synapse_class as source_class,
        target_types.synapse_class as target_class,
        source_types.layer as source_layer,
        target_types.layer as target_layer
    from types as source_types
    cross join types as target_types
    where source_types.side = 'source' and target_types.side = 'target'
),

borrowed as (
    select
        lent.property,
        min(lent.level) as level
    from pairs
    cross join lent
    anti join own
        on
            pairs.source_type = own.source_type
            and pairs.target_type = own.target_type
            and lent.property = own.property
    where
        coalesce(lent.source_type = pairs.source_type, lent.source_type is null)
        and coalesce(lent.target_type = pairs.target_type, lent.target_type is null)
        and coalesce(lent.source_class = pairs.source_class, lent.source_class is null)
        and coalesce(lent.target_class = pairs.target_class, lent.target_class is null)
        and coalesce(lent.source_layer = pairs.source_layer, lent.source_layer is null)
        and coalesce(lent.target_layer = pairs.target_layer, lent.target_layer is null)
    group by lent.property, pairs.source_type, pairs.target_type
),

distributions as (
    select
        property,
        level
    from own
    union all
    select
        property,
        level
    from borrowed
)

select
    property,
    count(*) filter (where level = -1) as observed,
    count(*) filter (where level = 0) as level_0,
    count(*) filter (where level = 1) as level_1,
    count(*) filter (where level = 2) as level_2,
    count(*) filter (where level = 3) as level_3,
    count(*) filter (where level = 4) as level_4,
    count(*) filter (where level >= 0) / count(*) as part
from distributions
group by property
order by property;
