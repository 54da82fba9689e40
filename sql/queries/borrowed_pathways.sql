-- How many pathways have no data of their own, and from which level do they borrow a model?
with distributions as (
    select distinct
        source_type,
        target_type,
        property,
        level
    from model
    where other_property is null
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
