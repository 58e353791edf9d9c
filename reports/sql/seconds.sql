-- One row per cell and second. By arrival cohort (requests first due in that second): scheduled, ok, slo_met = succeeded,
-- undecided (see outcomes.sql; not in succeeded), cohort_attempts (all their attempts, whenever made), computed_tokens and
-- useful_tokens (undecided ones' included). By the clock: attempts (started), goodput (answers within the SLO that arrived),
-- engine_ended (attempts that left an engine, wanted or not). From samples:
-- in_flight = running + waiting in the engines (orphans too), waiting, queue_age_s (oldest), hit_rate; NULL where not sampled.
CREATE TABLE seconds AS
WITH ticks AS (
    SELECT cell_id, unnest(range(0, ceil(until_s)::BIGINT)) AS t_s
    FROM cell_facts
),
clock AS (
    SELECT ticks.cell_id, ticks.t_s, phases.phase
    FROM ticks
    JOIN phases
        ON phases.cell_id = ticks.cell_id
        AND ticks.t_s * 1000000 >= phases.start_us
        AND ticks.t_s * 1000000 < phases.until_us
),
cohorts AS (
    SELECT
        cell_id,
        floor(scheduled_s)::BIGINT AS t_s,
        count(*) AS scheduled,
        count(*) FILTER (outcome = 'ok') AS ok,
        count(*) FILTER (slo_met) AS slo_met,
        count(*) FILTER (undecided) AS undecided,
        sum(attempts)::BIGINT AS cohort_attempts,
        sum(computed_tokens)::BIGINT AS computed_tokens,
        sum(useful_tokens + if(undecided, open_work_tokens, 0))::BIGINT AS useful_tokens
    FROM outcomes
    WHERE scheduled_s IS NOT NULL
    GROUP BY ALL
),
starts AS (
    SELECT cell_id, floor(coalesce(sent_s, scheduled_s))::BIGINT AS t_s, count(*) AS attempts
    FROM attempts
    WHERE client_attempt >= 1
    GROUP BY ALL
),
engine_ends AS (
    SELECT cell_id, floor(engine_ended_s)::BIGINT AS t_s, count(*) AS engine_ended
    FROM attempts
    WHERE engine_ended_s IS NOT NULL
    GROUP BY ALL
),
answers AS (
    SELECT cell_id, floor(ended_s)::BIGINT AS t_s, count(*) AS goodput
    FROM outcomes
    WHERE slo_met
    GROUP BY ALL
),
gauges AS (
    SELECT
        cell_id,
        replica_id,
        floor(t_s)::BIGINT AS t_s,
        arg_max(running, samples.t_s) AS running,
        arg_max(waiting, samples.t_s) AS waiting,
        arg_max(kv_used, samples.t_s) AS kv_used,
        max(queue_age_s) AS queue_age_s,
        max(prefix_hit_tokens) AS hits,
        max(prefix_query_tokens) AS queries
    FROM samples
    GROUP BY ALL
),
grown AS (
    SELECT
        *,
        hits - lag(hits, 1, 0) OVER replica AS new_hits,
        queries - lag(queries, 1, 0) OVER replica AS new_queries
    FROM gauges
    WINDOW replica AS (PARTITION BY cell_id, replica_id ORDER BY t_s)
),
pools AS (
    SELECT
        cell_id,
        t_s,
        sum(running + waiting)::BIGINT AS in_flight,
        sum(waiting)::BIGINT AS waiting,
        max(waiting) AS waiting_max,
        max(queue_age_s) AS queue_age_s,
        avg(kv_used) AS kv_used,
        sum(new_hits) / nullif(sum(new_queries), 0) AS hit_rate
    FROM grown
    GROUP BY ALL
)
SELECT
    clock.cell_id,
    clock.t_s::DOUBLE AS t_s,
    clock.phase,
    coalesce(scheduled, 0) AS scheduled,
    coalesce(slo_met, 0) AS succeeded,
    coalesce(ok, 0) AS ok,
    coalesce(slo_met, 0) AS slo_met,
    coalesce(undecided, 0) AS undecided,
    coalesce(cohort_attempts, 0) AS cohort_attempts,
    coalesce(computed_tokens, 0) AS computed_tokens,
    coalesce(useful_tokens, 0) AS useful_tokens,
    in_flight,
    waiting,
    waiting_max,
    coalesce(attempts, 0) AS attempts,
    coalesce(goodput, 0) AS goodput,
    coalesce(engine_ended, 0) AS engine_ended,
    queue_age_s,
    kv_used,
    hit_rate
FROM clock
LEFT JOIN cohorts USING (cell_id, t_s)
LEFT JOIN starts USING (cell_id, t_s)
LEFT JOIN engine_ends USING (cell_id, t_s)
LEFT JOIN answers USING (cell_id, t_s)
LEFT JOIN pools USING (cell_id, t_s)
ORDER BY clock.cell_id, clock.t_s;
