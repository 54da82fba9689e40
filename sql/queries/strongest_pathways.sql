-- Which pathways have the most synapses, and what fraction of all synapses is theirs?
set variable n = coalesce(getvariable('n'), 20); -- how many pathways to list

select
    source_type,
    target_type,
    n_connections,
    n_synapses,
    n_synapses / sum(n_synapses) over () as part
from pathways
order by n_synapses desc, source_type asc, target_type asc
limit getvariable('n');
