-- What a new leader reads, in one snapshot; and what it asks for later.

-- name: recover_runs
SELECT day, run, run_id, tenant, dag, digest, state, reason, cause, schedule, logical_us,
    created_us, started_us
FROM run WHERE shard = $1 AND finished_us IS NULL ORDER BY run;

-- name: recover_live
SELECT run, task, expansion, attempt_id, number, agent, incarnation, assigned_us, started_us
FROM attempt_live WHERE shard = $1;

-- name: recover_ended
-- By the primary key of each live run (LATERAL with OFFSET 0 leaves no other way). Of the attempts
-- of the last number the one whose end was recorded last counts, whatever the clocks of nodes say;
-- of those of one batch, one that says something of its task before a refused (7) or lost (8) one.
SELECT ended.run, ended.task, ended.expansion, ended.number, ended.state, ended.finished_us
FROM run
CROSS JOIN LATERAL (
    SELECT DISTINCT ON (task, expansion)
        attempt.run, task, expansion, number, attempt.state, attempt.finished_us
    FROM attempt WHERE attempt.day = run.day AND attempt.run = run.run
    ORDER BY task, expansion, number DESC, ended_epoch DESC, ended_batch DESC,
        attempt.state IN (7, 8), attempt_id DESC
    OFFSET 0
) AS ended
WHERE run.shard = $1 AND run.finished_us IS NULL;

-- name: recover_waits
SELECT run, task, expansion, kind, due_us, number, reason FROM task_wait WHERE shard = $1;

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
