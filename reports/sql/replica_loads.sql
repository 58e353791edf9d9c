-- What each replica was given in each phase (by when the attempt was due). In a prefill/decode pair the prefill replica is
-- credited with the prefilled tokens. `share` is of the cell's and phase's tokens.
CREATE TABLE replica_loads AS
WITH work AS (
    SELECT cell_id, phase, replica_id, 1 AS attempts, decoded_tokens + if(prefill_id IS NULL, prefilled_tokens, 0) AS tokens
    FROM attempts
    WHERE replica_id IS NOT NULL
    UNION ALL
    SELECT cell_id, phase, prefill_id, 0, prefilled_tokens
    FROM attempts
    WHERE prefill_id IS NOT NULL
)
SELECT
    cell_id,
    phase,
    replica_id,
    sum(attempts)::BIGINT AS attempts,
    sum(tokens)::BIGINT AS tokens,
    sum(tokens) / nullif(sum(sum(tokens)) OVER (PARTITION BY cell_id, phase), 0) AS share
FROM work
GROUP BY cell_id, phase, replica_id
ORDER BY ALL;
