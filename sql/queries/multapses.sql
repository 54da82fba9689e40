-- What fraction of each pathway's connections has several synapses, and how many at most?
set variable at_least = coalesce(getvariable('at_least'), 10); -- fewest connections of a pathway

select
    source_type,
    target_type,
    count(*) as n_connections,
    count(*) filter (where n_syn_per_conn > 1) / count(*) as part,
    max(n_syn_per_conn) as largest
from connections
group by source_type, target_type
having count(*) >= getvariable('at_least')
order by part desc, source_type asc, target_type asc;
