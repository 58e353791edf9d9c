-- Each measured cell and the simulated one that replayed the same requests through the same router, guards and client. A twin's
-- pool is called after the live one (its label begins so); the longest live label that fits is the one that is meant.
CREATE TABLE twins AS
WITH live_pools AS (
    SELECT DISTINCT pool
    FROM cell_facts
    WHERE driver <> 'virtual'
),
simulated AS (
    SELECT facts.*, arg_max(live_pools.pool, length(live_pools.pool)) OVER (PARTITION BY facts.cell_id) AS twin_of
    FROM cell_facts AS facts
    JOIN live_pools ON starts_with(facts.pool, live_pools.pool)
    WHERE facts.driver = 'virtual'
)
SELECT DISTINCT live.cell_id, simulated.cell_id AS twin_id
FROM cell_facts AS live
JOIN simulated
    ON simulated.twin_of = live.pool
    AND simulated.router = live.router
    AND simulated.guard = live.guard
    AND simulated.client = live.client
    AND simulated.seed = live.seed
    AND simulated.workload_hash = live.workload_hash
WHERE live.driver <> 'virtual'
ORDER BY live.cell_id, simulated.cell_id;
