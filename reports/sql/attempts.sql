-- Every row the replay wrote, times in seconds, with the phase in which this attempt was due.
-- Rows with attempt = 0 are turns never sent because their session quit: no times, no phase. Rows with client_attempt = 0 were
-- never started: those, requests whose next attempt was not due yet when the run ended (outcome censored), and attempts that were
-- between two router tries when the client gave up or the run ended.
CREATE TABLE attempts AS
SELECT
    facts.cell_id,
    tries.request_id,
    tries.attempt,
    tries.client_attempt,
    tries.router_try,
    tries.replica_id,
    tries.prefill_id,
    tries.scheduled_us / 1e6 AS scheduled_s,
    tries.sent_us / 1e6 AS sent_s,
    tries.first_token_us / 1e6 AS first_token_s,
    tries.ended_us / 1e6 AS ended_s,
    tries.engine_ended_us / 1e6 AS engine_ended_s,
    tries.max_gap_us / 1e6 AS max_gap_s,
    tries.prompt_tokens,
    tries.cached_tokens,
    tries.prefilled_tokens,
    tries.decoded_tokens,
    tries.output_tokens,
    tries.outcome,
    tries.status,
    tries.error,
    phases.phase
FROM read_parquet(getvariable('attempt_files'), filename = true) AS tries
JOIN cell_facts AS facts ON facts.attempts_file = tries.filename
LEFT JOIN phases
    ON phases.cell_id = facts.cell_id
    AND tries.scheduled_us >= phases.start_us
    AND tries.scheduled_us < phases.until_us;
