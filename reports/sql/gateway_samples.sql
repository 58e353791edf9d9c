-- What stood in front of a live pool, as sampled: processors in use since the sample before, and resident memory.
CREATE TABLE gateway_samples AS
SELECT
    facts.cell_id,
    seen.t_us / 1e6 AS t_s,
    greatest(seen.cpu_s - lag(seen.cpu_s) OVER clock, 0) / nullif((seen.t_us - lag(seen.t_us) OVER clock) / 1e6, 0) AS cores,
    seen.memory_bytes
FROM read_parquet(getvariable('gateway_files'), filename = true, union_by_name = true) AS seen
JOIN cell_facts AS facts ON facts.attempts_file = replace(seen.filename, 'gateway_samples.parquet', 'attempts.parquet')
WINDOW clock AS (PARTITION BY facts.cell_id ORDER BY seen.t_us);
