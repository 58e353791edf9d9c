-- Prompt tokens looked up and found in the prefix caches of each cell and replica, warm-up included: on live pools by the engines'
-- own counters. Where a cell does not tell them apart, its last samples do.
CREATE TABLE prefix_hits AS
WITH sampled AS (
    SELECT cell_id, replica_id, max(prefix_hit_tokens) AS hit_tokens, max(prefix_query_tokens) AS query_tokens
    FROM samples
    GROUP BY ALL
)
SELECT
    cell_id,
    replica_id,
    coalesce(told.hit_tokens, sampled.hit_tokens)::BIGINT AS hit_tokens,
    coalesce(told.query_tokens, sampled.query_tokens)::BIGINT AS query_tokens
FROM sampled
FULL JOIN prefixes AS told USING (cell_id, replica_id)
ORDER BY cell_id, replica_id;
