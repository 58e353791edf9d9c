-- Every choice of the routers, times in seconds.
CREATE TABLE decisions AS
SELECT
    facts.cell_id,
    chosen.t_us / 1e6 AS t_s,
    chosen.request_id,
    chosen.client_attempt,
    chosen.router_try,
    chosen.replica_id,
    chosen.prefill_id,
    chosen.reason,
    chosen.scores,
    chosen.in_flight
FROM read_parquet(getvariable('decision_files'), filename = true) AS chosen
JOIN cell_facts AS facts ON facts.decisions_file = chosen.filename;
