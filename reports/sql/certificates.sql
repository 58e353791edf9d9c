-- Delivered load and conservation of each cell, recomputed from its rows and compared with what the replay counted.
-- send_lag = sent − scheduled of first attempts. Guards may hold a request in virtual time, where the sender itself cannot fall
-- behind: there the lag is shown and not judged. A live run is void too where its sender says so, read answers too late or had
-- no socket left; its lags are those of the slowest sender. Attempts must be numbered 1 … n without gap or repeat: their largest number,
-- sum and sum of squares show it.
CREATE TABLE certificates AS
WITH recounted AS (
    SELECT
        done.cell_id,
        count(*) AS scheduled,
        count(done.sent_s) AS sent,
        count(*) FILTER (done.outcome = 'ok') AS ok,
        count(*) FILTER (done.outcome IN ('timeout', 'refused', 'error')) AS failed,
        count(*) FILTER (done.outcome = 'abandoned') AS abandoned,
        count(*) FILTER (done.outcome = 'censored') AS censored,
        count(*) FILTER (asked.session_id IS NULL) AS unplanned,
        count(*) FILTER (
            done.answers > 1
            OR done.never_sent > 1
            OR (done.never_sent = 1 AND done.numbered_rows > 0)
            OR done.last_attempt <> done.numbered_rows
            OR done.attempt_sum <> done.numbered_rows * (done.numbered_rows + 1) // 2
            OR done.attempt_squares <> done.numbered_rows * (done.numbered_rows + 1) * (2 * done.numbered_rows + 1) // 6
            OR (done.numbered_rows > 0 AND done.scheduled_s IS NULL)
        ) AS miscounted,
        quantile_cont(done.send_lag_s, 0.5) AS send_lag_p50_s,
        quantile_cont(done.send_lag_s, 0.99) AS send_lag_p99_s
    FROM outcomes AS done
    JOIN requests AS asked USING (cell_id, request_id)
    GROUP BY done.cell_id
),
checked AS (
    SELECT
        facts.cell_id,
        facts.arm_id,
        facts.planned,
        facts.not_due,
        coalesce(found.scheduled, 0) AS scheduled,
        coalesce(found.sent, 0) AS sent,
        coalesce(found.ok, 0) AS ok,
        coalesce(found.failed, 0) AS failed,
        coalesce(found.abandoned, 0) AS abandoned,
        coalesce(found.censored, 0) AS censored,
        found.send_lag_p50_s,
        found.send_lag_p99_s,
        facts.replay_conserved
        AND coalesce(found.scheduled, 0) = facts.scheduled
        AND facts.planned = facts.scheduled + facts.not_due
        AND coalesce(found.ok, 0) = facts.ok
        AND coalesce(found.abandoned, 0) = facts.abandoned
        AND coalesce(found.failed, 0) = facts.failed
        AND coalesce(found.censored, 0) = facts.censored
        AND coalesce(found.ok + found.failed + found.abandoned + found.censored = found.scheduled, true)
        AND coalesce(found.unplanned, 0) = 0
        AND coalesce(found.miscounted, 0) = 0 AS conserved,
        facts.driver = 'virtual'
        AND coalesce(found.send_lag_p99_s, 0) > getvariable('send_lag_limit_s')
        AND NOT facts.may_hold AS sender_late,
        facts.driver,
        facts.replicas,
        live.read_lag_p50_s,
        live.read_lag_p99_s,
        live.no_socket,
        live.scrapes_missed,
        live.resets_verified,
        live.sender_void
    FROM cell_facts AS facts
    LEFT JOIN recounted AS found USING (cell_id)
    LEFT JOIN live_cells AS live USING (cell_id)
),
reasons AS (
    SELECT
        *,
        nullif(concat_ws(
            '; ',
            CASE WHEN NOT conserved THEN 'requests lost or counted twice' END,
            CASE WHEN sender_late THEN 'the sender fell behind' END,
            nullif(sender_void, ''),
            CASE WHEN driver <> 'virtual' AND coalesce(sender_void, '') = '' THEN nullif(concat_ws(
                '; ',
                CASE
                    WHEN send_lag_p99_s > getvariable('live_lag_limit_s')
                        THEN format('the sender fell behind: p99 send lag {:.0f} ms, {:.0f} ms allowed',
                                    send_lag_p99_s * 1e3, getvariable('live_lag_limit_s')::DOUBLE * 1e3)
                END,
                CASE
                    WHEN read_lag_p99_s > getvariable('live_lag_limit_s')
                        THEN format('the sender read too late: p99 read lag {:.0f} ms, {:.0f} ms allowed',
                                    read_lag_p99_s * 1e3, getvariable('live_lag_limit_s')::DOUBLE * 1e3)
                END,
                CASE WHEN no_socket > 0 THEN format('the machine had no socket left for {} attempts', no_socket) END
            ), '') END
        ), '') AS reason
    FROM checked
)
SELECT
    * EXCLUDE (reason),
    reason IS NOT NULL AS void,
    reason
FROM reasons
ORDER BY cell_id;
