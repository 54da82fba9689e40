-- Which properties do all synapses of a connection share, and in how many pathways?
select
    property,
    count(*) as n_pathways,
    count(*) filter (where shared_within) as shared,
    count(*) filter (where not shared_within) as varying,
    count(*) filter (where shared_within is null) as cannot_tell
from statistics
where property != 'n_syn_per_conn'
group by property
order by property;
