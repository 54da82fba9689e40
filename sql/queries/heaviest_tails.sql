-- Which properties of which pathways have the heaviest tails, measured by excess kurtosis?
set variable n = coalesce(getvariable('n'), 20); -- how many to list
set variable at_least = coalesce(getvariable('at_least'), 100); -- fewest values

select
    source_type,
    target_type,
    property,
    n,
    kurtosis,
    skewness,
    (max - q50) / nullif(q95 - q50, 0) as reach
from statistics
where kurtosis is not null and n >= getvariable('at_least')
order by kurtosis desc, source_type asc, target_type asc, property asc
limit getvariable('n');
