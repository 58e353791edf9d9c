-- The cards of a live pool, as sampled: share of the last period with a kernel running, and memory.
CREATE TABLE gpu_samples AS
SELECT
    facts.cell_id,
    seen.t_us / 1e6 AS t_s,
    seen.card::VARCHAR AS card,
    seen.busy,
    seen.memory_used_bytes,
    seen.memory_bytes
FROM read_parquet(getvariable('gpu_files'), filename = true, union_by_name = true) AS seen
JOIN cell_facts AS facts ON facts.attempts_file = replace(seen.filename, 'gpu_samples.parquet', 'attempts.parquet');
