-- A row a replica and second (as sampled), times in seconds; counters run from the start of the cell.
CREATE TABLE samples AS
SELECT
    facts.cell_id,
    seen.t_us / 1e6 AS t_s,
    seen.replica_id,
    seen.running,
    seen.waiting,
    seen.kv_used,
    seen.prefix_hit_tokens,
    seen.prefix_query_tokens,
    seen.preemptions,
    seen.queue_age_us / 1e6 AS queue_age_s,
    phases.phase
FROM read_parquet(getvariable('sample_files'), filename = true) AS seen
JOIN cell_facts AS facts ON facts.samples_file = seen.filename
LEFT JOIN phases
    ON phases.cell_id = facts.cell_id
    AND seen.t_us >= phases.start_us
    AND seen.t_us < phases.until_us;
