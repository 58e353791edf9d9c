-- Attempts folded into requests. Latencies count from the FIRST attempt's scheduled_s to the successful attempt's tokens;
-- A router may send on for an older attempt that was given up, so the last row need not be the open one.
-- TPOT = (E2E − TTFT) / (output_tokens − 1), NULL (and within its SLO) at one token.
-- An answer that was still streaming when the run ended, within every limit so far, is undecided: a miss in all that is counted
-- here (slo_met), but no evidence of trouble to the verdicts.
CREATE TEMP MACRO span(start_s, end_s) AS round(end_s - start_s, 6); -- whole microseconds again

CREATE TEMP TABLE outcomes AS
WITH folded AS (
    SELECT
        cell_id,
        request_id,
        count(*) FILTER (client_attempt >= 1) AS attempts,
        count(*) FILTER (attempt >= 1) AS numbered_rows,
        count(*) FILTER (attempt = 0) AS never_sent,
        max(attempt) AS last_attempt,
        sum(attempt)::BIGINT AS attempt_sum,
        sum(attempt * attempt)::BIGINT AS attempt_squares,
        max(client_attempt) AS client_attempts,
        count(*) FILTER (outcome = 'ok') AS answers,
        count(*) FILTER (outcome = 'censored') AS still_open,
        max(first_token_s) FILTER (outcome = 'censored') AS open_first_token_s,
        max(decoded_tokens) FILTER (outcome = 'censored') AS open_tokens,
        coalesce(sum(prefilled_tokens + decoded_tokens) FILTER (outcome = 'censored'), 0)::BIGINT AS open_work_tokens,
        max(scheduled_s) FILTER (attempt = 1) AS scheduled_s,
        max(sent_s) FILTER (attempt = 1) AS sent_s,
        max(phase) FILTER (attempt = 1) AS phase,
        arg_max(outcome, attempt) AS last_outcome,
        arg_max_null(replica_id, attempt) AS last_replica_id,
        arg_max(prompt_tokens, attempt) AS last_prompt_tokens,
        arg_max(cached_tokens, attempt) AS last_cached_tokens,
        max(replica_id) FILTER (outcome = 'ok') AS ok_replica_id,
        max(first_token_s) FILTER (outcome = 'ok') AS first_token_s,
        max(ended_s) FILTER (outcome = 'ok') AS ended_s,
        max(prompt_tokens) FILTER (outcome = 'ok') AS ok_prompt_tokens,
        max(cached_tokens) FILTER (outcome = 'ok') AS ok_cached_tokens,
        max(output_tokens) FILTER (outcome = 'ok') AS output_tokens,
        sum(prefilled_tokens + decoded_tokens)::BIGINT AS computed_tokens,
        coalesce(sum(prefilled_tokens + decoded_tokens) FILTER (outcome = 'ok'), 0)::BIGINT AS useful_tokens,
        sum(prompt_tokens) FILTER (prefilled_tokens + cached_tokens > 0)::BIGINT AS looked_up_tokens,
        sum(cached_tokens)::BIGINT AS found_tokens
    FROM attempts
    GROUP BY ALL
),
timed AS (
    SELECT
        *,
        CASE WHEN answers > 0 THEN 'ok' WHEN still_open > 0 THEN 'censored' ELSE last_outcome END AS outcome,
        span(scheduled_s, first_token_s) AS ttft_s,
        span(scheduled_s, ended_s) AS e2e_s,
        span(scheduled_s, sent_s) AS send_lag_s,
        span(first_token_s, ended_s) / nullif(output_tokens - 1, 0) AS tpot_s
    FROM folded
)
SELECT
    timed.*,
    timed.outcome = 'ok'
    AND timed.ttft_s <= coalesce(slo.ttft_s, 'Infinity')
    AND coalesce(timed.tpot_s, 0) <= coalesce(slo.tpot_s, 'Infinity')
    AND timed.e2e_s <= coalesce(slo.e2e_s, 'Infinity') AS slo_met,
    coalesce(
        timed.outcome = 'censored'
        AND timed.open_first_token_s - timed.scheduled_s <= coalesce(slo.ttft_s, 'Infinity')
        AND (facts.until_s - timed.open_first_token_s) / greatest(timed.open_tokens - 1, 1) <= coalesce(slo.tpot_s, 'Infinity')
        AND facts.until_s - timed.scheduled_s <= coalesce(slo.e2e_s, 'Infinity'),
        false
    ) AS undecided
FROM timed
JOIN cell_facts AS facts USING (cell_id), slo;
