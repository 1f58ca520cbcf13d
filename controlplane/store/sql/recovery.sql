-- What a new leader reads, in one snapshot; and what it asks for later.

-- name: recover_runs
SELECT day, run, run_id, tenant, dag, digest, state, reason, cause, schedule, logical_us,
    created_us, started_us
FROM run WHERE shard = $1 AND finished_us IS NULL ORDER BY run;

-- name: recover_restored
SELECT restored_epoch, restored_us, hold, restored_reason FROM shard WHERE shard = $1;

-- name: recover_live
SELECT run, task, expansion, attempt_id, number, agent, incarnation, assigned_us, started_us, epoch
FROM attempt_live WHERE shard = $1;

-- name: recover_ended
-- By the primary key of each live run (LATERAL with OFFSET 0 leaves no other way). Of the attempts
-- of the last number the one whose end was recorded last counts, whatever the clocks of nodes say;
-- of those of one batch, one that says something of its task before one that was refused (7), lost
-- (8) or is unknown (9). A late success that was adopted makes its attempt count as succeeded (3).
SELECT ended.run, ended.task, ended.expansion, ended.number,
    CASE WHEN late.finished_us IS NULL THEN ended.state ELSE 3 END,
    coalesce(late.finished_us, ended.finished_us), ended.attempt_id, ended.epoch
FROM run
CROSS JOIN LATERAL (
    SELECT DISTINCT ON (task, expansion)
        attempt.run, task, expansion, number, attempt.state, attempt.finished_us, attempt_id,
        epoch
    FROM attempt WHERE attempt.day = run.day AND attempt.run = run.run
    ORDER BY task, expansion, number DESC, ended_epoch DESC, ended_batch DESC,
        attempt.state IN (7, 8, 9), attempt_id DESC
    OFFSET 0
) AS ended
LEFT JOIN LATERAL (
    SELECT attempt_late.finished_us FROM attempt_late
    WHERE ended.state IN (8, 9) AND attempt_late.day = run.day AND attempt_late.run = run.run
        AND attempt_late.task = ended.task AND attempt_late.expansion = ended.expansion
        AND attempt_late.attempt_id = ended.attempt_id AND adopted
    OFFSET 0
) AS late ON true
WHERE run.shard = $1 AND run.finished_us IS NULL;

-- name: recover_waits
-- Of live runs only: marks of final ones stay.
SELECT wait.run, wait.task, wait.expansion, wait.kind, wait.due_us, wait.number, wait.reason
FROM run
CROSS JOIN LATERAL (
    SELECT task_wait.run, task, expansion, kind, due_us, number, task_wait.reason
    FROM task_wait WHERE task_wait.shard = $1 AND task_wait.run = run.run
    OFFSET 0
) AS wait
WHERE run.shard = $1 AND run.finished_us IS NULL;

-- name: recover_unsaid
-- Attempts of live runs that were refused (7), lost (8) or are unknown (9).
SELECT ended.attempt_id
FROM run
CROSS JOIN LATERAL (
    SELECT attempt_id FROM attempt
    WHERE attempt.day = run.day AND attempt.run = run.run AND attempt.state IN (7, 8, 9)
    OFFSET 0
) AS ended
WHERE run.shard = $1 AND run.finished_us IS NULL;

-- name: recover_dags
SELECT dag.tenant, dag.dag, dag.digest, dag.task_count, dag.paused, dag.pause_reason,
    dag.revision, dag.created_us
FROM bucket JOIN dag USING (bucket) WHERE bucket.shard = $1;

-- name: recover_schedules
SELECT schedule.tenant, schedule.dag, schedule.schedule, schedule.definition, schedule.next_us
FROM bucket JOIN schedule USING (bucket) WHERE bucket.shard = $1;

-- name: read_specs
SELECT digest, spec FROM dag_version WHERE digest = ANY($1::bytea[]);

-- name: read_commands
SELECT command, tenant, body FROM inbox
WHERE shard = $1 AND applied_us IS NULL AND command <> ALL($3::int8[])
ORDER BY command LIMIT $2;
