-- one row per pathway, property and distinct value, with its count
select
    source_type,
    target_type,
    property,
    value,
    count(*) as count,
    count(*) / sum(count(*)) over (partition by source_type, target_type, property) as p
from property_values
where isfinite(value)
group by source_type, target_type, property, value
