-- One row per request that came due (or whose session quit before it: outcome 'abandoned', no phase), with its place in the plan.
CREATE TABLE requests AS
SELECT
    done.cell_id,
    done.request_id,
    plan.session_id,
    plan.turn,
    plan.tenant,
    done.phase,
    done.scheduled_s,
    done.ttft_s,
    done.tpot_s,
    done.e2e_s,
    done.attempts,
    done.client_attempts,
    done.outcome,
    coalesce(done.slo_met, false) AS slo_met,
    coalesce(done.ok_prompt_tokens, nullif(done.last_prompt_tokens, 0), plan.prompt_tokens) AS prompt_tokens,
    coalesce(done.ok_cached_tokens, done.last_cached_tokens) AS cached_tokens,
    coalesce(done.output_tokens, 0) AS output_tokens,
    coalesce(done.ok_replica_id, done.last_replica_id) AS replica_id,
    done.computed_tokens,
    done.useful_tokens
FROM outcomes AS done
JOIN cell_facts AS facts USING (cell_id)
LEFT JOIN read_parquet(getvariable('workload_files'), filename = true) AS plan
    ON plan.filename = facts.workload_file
    AND plan.request_id = done.request_id
ORDER BY done.cell_id, done.request_id;
