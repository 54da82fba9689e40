-- Which distributions does the model use for each property, and in how many pathways?
with distributions as (
    select distinct
        source_type,
        target_type,
        property,
        distribution,
        level
    from model
    where other_property is null and level = -1
)

select
    property,
    distribution,
    count(*) as n_pathways,
    count(*) / sum(count(*)) over (partition by property) as part
from distributions
group by property, distribution
order by property asc, n_pathways desc, distribution asc;
