-- Which fits are most surely poor?
set variable n = coalesce(getvariable('n'), 20); -- how many to list
set variable at_least = coalesce(getvariable('at_least'), 30); -- fewest values of a fit

select
    source_type,
    target_type,
    property,
    distribution,
    n,
    status,
    ks,
    ks * sqrt(n) as ks_root_n,
    wasserstein / nullif(data_std, 0) as wasserstein_in_std,
    data_mean,
    model_mean,
    data_std,
    model_std
from fits
where level = -1 and n >= getvariable('at_least') and ks is not null
order by ks_root_n desc, source_type asc, target_type asc, property asc
limit getvariable('n');
