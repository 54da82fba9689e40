-- Which properties have NaN or infinite values, in how many pathways, and how many synapses?
-- `part` is of all synapses of these pathways; statistics of a sample count those of the sample.
select
    statistics.property,
    count(*) as n_pathways,
    sum(statistics.n_null)::bigint as n_missing,
    sum(statistics.n_null) / sum(pathways.n_synapses) as part
from statistics
inner join pathways
    on
        statistics.source_type = pathways.source_type
        and statistics.target_type = pathways.target_type
where statistics.n_null > 0
group by statistics.property
order by n_missing desc, statistics.property asc;
