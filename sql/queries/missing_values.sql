-- Which properties have NaN or infinite values, and in how many pathways?
select
    property,
    count(*) as n_pathways,
    sum(n_null)::bigint as n_missing,
    sum(n_null) / sum(n + n_null) as part
from statistics
where n_null > 0
group by property
order by n_missing desc, property asc;
