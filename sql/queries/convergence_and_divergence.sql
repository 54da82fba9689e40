-- How many sources has a connected target in each pathway, and how many targets a source?
select
    source_type,
    target_type,
    count(*) as n_connections,
    count(distinct source_node) as n_sources,
    count(distinct target_node) as n_targets,
    count(*) / count(distinct target_node) as convergence,
    count(*) / count(distinct source_node) as divergence
from connections
group by source_type, target_type
order by convergence desc, source_type asc, target_type asc;
