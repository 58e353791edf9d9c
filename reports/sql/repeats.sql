-- A/A: what differs between two runs of one arm and seed is noise. One row a pair of repeats, phase and metric, void runs and
-- censored values left out; `relative` = difference / mean of the two. recovery_s: pairs that both came back;
-- prefix_hit: of the whole run (phase 'all'), by the engines' counters.
CREATE TABLE repeats AS
WITH sound AS (
    SELECT cells.*
    FROM cells
    JOIN certificates USING (cell_id)
    WHERE NOT void
),
told AS (
    UNPIVOT (
        SELECT
            cell_id, arm_id, seed, repeat, phase,
            ttft_p50_s, ttft_p90_s, ttft_p99_s, tpot_p50_s, tpot_p90_s, tpot_p99_s, e2e_p50_s, e2e_p90_s, e2e_p99_s,
            goodput_rps::DOUBLE AS goodput_rps, success::DOUBLE AS success, cache_hit::DOUBLE AS cache_hit
        FROM sound
    )
    ON ttft_p50_s, ttft_p90_s, ttft_p99_s, tpot_p50_s, tpot_p90_s, tpot_p99_s, e2e_p50_s, e2e_p90_s, e2e_p99_s,
        goodput_rps, success, cache_hit
    INTO NAME metric VALUE value
    UNION ALL
    SELECT cell_id, arm_id, seed, repeat, 'recovery', 'recovery_s', recovery_s
    FROM verdicts
    WHERE recovery_s IS NOT NULL
    UNION ALL
    SELECT facts.cell_id, facts.arm_id, facts.seed, facts.repeat, 'all', 'prefix_hit', sum(hit_tokens) / nullif(sum(query_tokens), 0)
    FROM prefix_hits
    JOIN cell_facts AS facts USING (cell_id)
    JOIN certificates USING (cell_id)
    WHERE NOT void
    GROUP BY ALL
    HAVING sum(query_tokens) > 0
)
SELECT
    one.arm_id,
    one.seed,
    one.phase,
    one.metric,
    one.cell_id,
    other.cell_id AS other_id,
    one.value,
    other.value AS other_value,
    abs(other.value - one.value) AS difference,
    abs(other.value - one.value) / nullif((other.value + one.value) / 2, 0) AS relative
FROM told AS one
JOIN told AS other USING (arm_id, seed, phase, metric)
WHERE one.repeat < other.repeat
ORDER BY one.arm_id, one.seed, one.phase, one.metric, one.repeat, other.repeat;
