-- One row per cell and phase (cohorts of requests first due in it). Requests without a good answer rank as +infinity: a
-- percentile that lands there is NULL and its `_censored` column true. cache_hit = cached / prompt tokens over the attempts
-- whose prompt reached an engine's prefill, wasted or not. imbalance = the busiest replica's tokens / the mean over all.
CREATE TEMP MACRO finite(x) AS CASE WHEN isfinite(x) THEN x END;
CREATE TEMP MACRO beyond(x) AS coalesce(NOT isfinite(x), false);

CREATE TABLE cells AS
WITH ranked AS (
    SELECT
        *,
        coalesce(ttft_s, 'Infinity') AS ttft_rank,
        coalesce(e2e_s, 'Infinity') AS e2e_rank,
        CASE WHEN outcome = 'ok' THEN tpot_s ELSE 'Infinity' END AS tpot_rank
    FROM outcomes
    WHERE phase IS NOT NULL
),
totals AS (
    SELECT
        cell_id,
        phase,
        count(*) AS n,
        count(*) FILTER (outcome = 'ok') AS ok,
        count(*) FILTER (slo_met) AS slo_met,
        quantile_cont(ttft_rank, [0.5, 0.9, 0.99]) AS ttft,
        quantile_cont(tpot_rank, [0.5, 0.9, 0.99]) AS tpot,
        quantile_cont(e2e_rank, [0.5, 0.9, 0.99]) AS e2e,
        sum(found_tokens) / nullif(sum(looked_up_tokens), 0) AS cache_hit,
        sum(attempts) / count(*) AS attempts_per_request,
        sum(client_attempts) / count(*) AS client_attempts_per_request,
        1 - sum(useful_tokens) / nullif(sum(computed_tokens), 0) AS work_waste
    FROM ranked
    GROUP BY cell_id, phase
),
balance AS (
    SELECT cell_id, phase, max(tokens) * any_value(replicas) / nullif(sum(tokens), 0) AS imbalance
    FROM replica_loads
    JOIN cell_facts USING (cell_id)
    GROUP BY cell_id, phase
)
SELECT
    facts.cell_id,
    facts.arm_id,
    facts.router,
    facts.policy,
    facts.reference,
    facts.gateway,
    facts.arm,
    facts.guard,
    facts.client,
    facts.driver,
    facts.pool_engine,
    facts.engine,
    facts.pool,
    facts.workload,
    facts.load_rps,
    facts.trigger_kind,
    facts.trigger_words,
    facts.k,
    facts.d_s,
    facts.seed,
    facts.repeat,
    phases.phase,
    phases.start_s,
    phases.end_s,
    phases.load_rps AS planned_rps,
    coalesce(totals.n, 0) / (phases.end_s - phases.start_s) AS offered_rps,
    coalesce(totals.n, 0) AS n,
    totals.ok / totals.n AS answered,
    totals.slo_met / totals.n AS success,
    coalesce(totals.slo_met, 0) / (phases.end_s - phases.start_s) AS goodput_rps,
    finite(ttft[1]) AS ttft_p50_s,
    finite(ttft[2]) AS ttft_p90_s,
    finite(ttft[3]) AS ttft_p99_s,
    finite(tpot[1]) AS tpot_p50_s,
    finite(tpot[2]) AS tpot_p90_s,
    finite(tpot[3]) AS tpot_p99_s,
    finite(e2e[1]) AS e2e_p50_s,
    finite(e2e[2]) AS e2e_p90_s,
    finite(e2e[3]) AS e2e_p99_s,
    beyond(ttft[1]) AS ttft_p50_s_censored,
    beyond(ttft[2]) AS ttft_p90_s_censored,
    beyond(ttft[3]) AS ttft_p99_s_censored,
    beyond(tpot[1]) AS tpot_p50_s_censored,
    beyond(tpot[2]) AS tpot_p90_s_censored,
    beyond(tpot[3]) AS tpot_p99_s_censored,
    beyond(e2e[1]) AS e2e_p50_s_censored,
    beyond(e2e[2]) AS e2e_p90_s_censored,
    beyond(e2e[3]) AS e2e_p99_s_censored,
    totals.cache_hit,
    balance.imbalance,
    totals.attempts_per_request,
    totals.client_attempts_per_request,
    totals.work_waste
FROM cell_facts AS facts
JOIN phases USING (cell_id)
LEFT JOIN totals USING (cell_id, phase)
LEFT JOIN balance USING (cell_id, phase)
WHERE phases.phase <> 'drain'
ORDER BY facts.cell_id, phases.start_s;
