-- Runs and attempts as the API reads them.

-- name: find_run
-- The day is inside the id, so one partition is asked.
SELECT day, run, run_id, shard, tenant, dag, digest, state, reason, cause, schedule, logical_us,
    created_us, started_us, finished_us, semantics_version
FROM run WHERE day = $1 AND run_id = $2 AND tenant = $3;

-- name: read_run
SELECT day, run, run_id, shard, tenant, dag, digest, state, reason, cause, schedule, logical_us,
    created_us, started_us, finished_us, semantics_version
FROM run WHERE day = $1 AND run = $2;

-- name: list_runs_of_dag
SELECT day, run, run_id, shard, tenant, dag, digest, state, reason, cause, schedule, logical_us,
    created_us, started_us, finished_us, semantics_version
FROM run
WHERE tenant = $1 AND dag = $2 AND state = ANY($3::int2[]) AND (created_us, run) < ($4, $5)
ORDER BY created_us DESC, run DESC LIMIT $6;

-- name: list_runs_of_tenant
SELECT day, run, run_id, shard, tenant, dag, digest, state, reason, cause, schedule, logical_us,
    created_us, started_us, finished_us, semantics_version
FROM run WHERE tenant = $1 AND state = ANY($2::int2[]) AND (created_us, run) < ($3, $4)
ORDER BY created_us DESC, run DESC LIMIT $5;

-- name: read_live_attempts
SELECT task, expansion, attempt_id, number, CASE WHEN started_us IS NULL THEN 1 ELSE 2 END,
    agent, assigned_us, started_us, NULL::int8, NULL::int4, 0, 0::int8, 0::int8, '', epoch, batch,
    NULL::int8, NULL::int8, incarnation
FROM attempt_live WHERE shard = $1 AND run = $2;

-- name: read_last_attempts
-- In the order of recover_ended; then what was said of each late.
SELECT ended.*, late.state, late.started_us, late.finished_us, late.exit_code, late.signal, late.stdout_bytes,
    late.stderr_bytes, late.message, late.adopted, late.reported_us
FROM (
    SELECT DISTINCT ON (task, expansion) task, expansion, attempt_id, number, state, agent,
        assigned_us, started_us, finished_us, exit_code, signal, stdout_bytes, stderr_bytes,
        message, epoch, batch, ended_epoch, ended_batch, incarnation
    FROM attempt WHERE day = $1 AND run = $2
    ORDER BY task, expansion, number DESC, ended_epoch DESC, ended_batch DESC,
        state IN (7, 8, 9), attempt_id DESC
) AS ended
LEFT JOIN attempt_late AS late ON late.day = $1 AND late.run = $2 AND late.task = ended.task
    AND late.expansion = ended.expansion AND late.attempt_id = ended.attempt_id
ORDER BY ended.task, ended.expansion;

-- name: read_waits
SELECT run, task, expansion, kind, due_us, number, reason FROM task_wait
WHERE shard = $1 AND run = $2;

-- name: read_sealed
SELECT states FROM sealed_run WHERE day = $1 AND run = $2;

-- name: list_attempts
-- The history, with what was said late, and what is live. An attempt is never in both: one
-- transaction moves it.
SELECT attempts.*, late.state, late.started_us, late.finished_us, late.exit_code, late.signal, late.stdout_bytes,
    late.stderr_bytes, late.message, late.adopted, late.reported_us
FROM (
    SELECT * FROM (
        SELECT task, expansion, attempt_id, number, state, agent, assigned_us, started_us,
            finished_us, exit_code, signal, stdout_bytes, stderr_bytes, message, epoch, batch,
            ended_epoch, ended_batch, incarnation
        FROM attempt WHERE day = $1 AND run = $2 AND task BETWEEN $4 AND $5
        UNION ALL
        SELECT task, expansion, attempt_id, number, CASE WHEN started_us IS NULL THEN 1 ELSE 2 END,
            agent, assigned_us, started_us, NULL, NULL, 0, 0, 0, '', epoch, batch, NULL, NULL,
            incarnation
        FROM attempt_live WHERE shard = $3 AND run = $2 AND task BETWEEN $4 AND $5
    ) AS both_kinds
    WHERE (task, expansion, number, assigned_us, attempt_id) > ($6, $7, $8, $9, $10::bytea)
    ORDER BY task, expansion, number, assigned_us, attempt_id LIMIT $11
) AS attempts
LEFT JOIN attempt_late AS late ON late.day = $1 AND late.run = $2 AND late.task = attempts.task
    AND late.expansion = attempts.expansion AND late.attempt_id = attempts.attempt_id
ORDER BY attempts.task, attempts.expansion, attempts.number, attempts.assigned_us,
    attempts.attempt_id;

-- name: list_approvals
-- What waits for a person, the oldest first, from the partial index (2: approval); each run by its
-- key, which tells whose it is. $2 NULL: of all DAGs.
SELECT run.run_id, run.dag, run.digest, wait.day, wait.run, wait.task, wait.expansion, wait.number,
    wait.due_us, wait.reason
FROM task_wait AS wait
CROSS JOIN LATERAL (
    SELECT run_id, tenant, dag, digest FROM run WHERE run.day = wait.day AND run.run = wait.run
    OFFSET 0
) AS run
WHERE wait.kind = 2 AND run.tenant = $1 AND ($2::text IS NULL OR run.dag = $2)
    AND (wait.due_us, wait.run, wait.task, wait.expansion) > ($3, $4, $5, $6)
ORDER BY wait.due_us, wait.run, wait.task, wait.expansion LIMIT $7;

-- name: list_approvals_of_run
SELECT task, expansion, number, due_us, reason FROM task_wait
WHERE shard = $1 AND run = $2 AND kind = 2
    AND (due_us, task, expansion) > ($3, $4, $5)
ORDER BY due_us, task, expansion LIMIT $6;
