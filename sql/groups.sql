-- one row per pair of groups that selected connections join: how many of them, and of synapses
select
    source_groups.code as source_code,
    target_groups.code as target_code,
    count(*) as n_connections,
    sum(rows.n_syn_per_conn)::bigint as n_synapses
from connection_rows as rows
inner join source_groups on rows.source_node = source_groups.node
inner join target_groups on rows.target_node = target_groups.node
group by all
order by all
