-- Which pathways have too few connections for statistics of their own?
set variable fewer_than = coalesce(getvariable('fewer_than'), 10); -- number of connections

select
    source_type,
    target_type,
    n_connections,
    n_synapses
from pathways
where n_connections < getvariable('fewer_than')
order by n_connections asc, source_type asc, target_type asc;
