-- The writes of a batch, behind the fence. $1 shard, $2 epoch, $3 batch where they take part; then
-- one array a column. Each query changes a row at most once: what a batch says twice of one row was
-- made one before, so the parts of a query do not depend on their order.
--
-- Rows of tables that churn are looked up one by one, by their whole key, through LATERAL with
-- OFFSET 0, and then touched by the place that was found: behind the fence nobody moves them. A
-- plain join would leave the planner a choice, and on the statistics of an empty table it chooses to
-- read the table from end to end, for as long as that plan is kept.

-- name: end_attempts
-- A live row moves to the history. Fewer rows back than given: one was not live.
WITH found AS MATERIALIZED (
    SELECT given.*, live.*
    FROM unnest($4::int4[], $5::int8[], $6::int4[], $7::int4[], $8::bytea[], $9::int2[],
                $10::int8[], $11::int8[], $12::int4[], $13::int4[], $14::int8[], $15::int8[],
                $16::text[])
        AS given (day, run, task, expansion, attempt_id, state, started_us, finished_us,
                  exit_code, signal, stdout_bytes, stderr_bytes, message)
    CROSS JOIN LATERAL (
        SELECT ctid AS place, number, agent, incarnation, assigned_us, epoch, batch,
            started_us AS noted_us
        FROM attempt_live
        WHERE shard = $1 AND run = given.run AND task = given.task
            AND expansion = given.expansion AND attempt_id = given.attempt_id
        OFFSET 0
    ) AS live
), gone AS (
    DELETE FROM attempt_live WHERE ctid = ANY(ARRAY(SELECT place FROM found))
)
INSERT INTO attempt (day, run, task, expansion, attempt_id, number, state, agent, incarnation,
    assigned_us, started_us, finished_us, exit_code, signal, stdout_bytes, stderr_bytes, message,
    epoch, batch, ended_epoch, ended_batch)
SELECT day, run, task, expansion, attempt_id, number, state, agent, incarnation,
    assigned_us, coalesce(started_us, noted_us), finished_us, exit_code, signal, stdout_bytes,
    stderr_bytes, message, epoch, batch, $2, $3
FROM found;

-- name: assign_attempts
INSERT INTO attempt_live (shard, epoch, batch, day, run, task, expansion, attempt_id, number,
    agent, incarnation, assigned_us)
SELECT $1::int4, $2::int8, $3::int8, *
FROM unnest($4::int4[], $5::int8[], $6::int4[], $7::int4[], $8::bytea[], $9::int4[], $10::text[],
            $11::bytea[], $12::int8[]);

-- name: turn_attempts
-- Both of the above, for the batch of a hop: one round trip. No task instance may be in both.
WITH found AS MATERIALIZED (
    SELECT given.*, live.*
    FROM unnest($4::int4[], $5::int8[], $6::int4[], $7::int4[], $8::bytea[], $9::int2[],
                $10::int8[], $11::int8[], $12::int4[], $13::int4[], $14::int8[], $15::int8[],
                $16::text[])
        AS given (day, run, task, expansion, attempt_id, state, started_us, finished_us,
                  exit_code, signal, stdout_bytes, stderr_bytes, message)
    CROSS JOIN LATERAL (
        SELECT ctid AS place, number, agent, incarnation, assigned_us, epoch, batch,
            started_us AS noted_us
        FROM attempt_live
        WHERE shard = $1 AND run = given.run AND task = given.task
            AND expansion = given.expansion AND attempt_id = given.attempt_id
        OFFSET 0
    ) AS live
), gone AS (
    DELETE FROM attempt_live WHERE ctid = ANY(ARRAY(SELECT place FROM found))
), assigned AS (
    INSERT INTO attempt_live (shard, epoch, batch, day, run, task, expansion, attempt_id, number,
        agent, incarnation, assigned_us)
    SELECT $1::int4, $2::int8, $3::int8, *
    FROM unnest($17::int4[], $18::int8[], $19::int4[], $20::int4[], $21::bytea[], $22::int4[],
                $23::text[], $24::bytea[], $25::int8[])
)
INSERT INTO attempt (day, run, task, expansion, attempt_id, number, state, agent, incarnation,
    assigned_us, started_us, finished_us, exit_code, signal, stdout_bytes, stderr_bytes, message,
    epoch, batch, ended_epoch, ended_batch)
SELECT day, run, task, expansion, attempt_id, number, state, agent, incarnation,
    assigned_us, coalesce(started_us, noted_us), finished_us, exit_code, signal, stdout_bytes,
    stderr_bytes, message, epoch, batch, $2, $3
FROM found;

-- name: add_late_results
-- An attempt ends late once: what it says again is not heard.
INSERT INTO attempt_late (epoch, batch, day, run, task, expansion, attempt_id, state, started_us,
    finished_us, exit_code, signal, stdout_bytes, stderr_bytes, message, adopted, reported_us)
SELECT $1::int8, $2::int8, *
FROM unnest($3::int4[], $4::int8[], $5::int4[], $6::int4[], $7::bytea[], $8::int2[], $9::int8[],
            $10::int8[], $11::int4[], $12::int4[], $13::int8[], $14::int8[], $15::text[],
            $16::bool[], $17::int8[])
ON CONFLICT DO NOTHING;

-- name: note_starts
WITH found AS MATERIALIZED (
    SELECT live.place, given.started_us
    FROM unnest($2::int8[], $3::int4[], $4::int4[], $5::int8[])
        AS given (run, task, expansion, started_us)
    CROSS JOIN LATERAL (
        SELECT ctid AS place FROM attempt_live
        WHERE shard = $1 AND run = given.run AND task = given.task
            AND expansion = given.expansion
        OFFSET 0
    ) AS live
)
UPDATE attempt_live SET started_us = found.started_us FROM found
WHERE attempt_live.ctid = ANY(ARRAY(SELECT place FROM found))
    AND attempt_live.ctid = found.place;

-- name: add_runs
INSERT INTO run (shard, day, run, run_id, tenant, dag, bucket, digest, state, cause, schedule,
    logical_us, created_us, started_us, semantics_version, reason, finished_us)
SELECT $1::int4, *
FROM unnest($2::int4[], $3::int8[], $4::bytea[], $5::text[], $6::text[], $7::int4[], $8::bytea[],
            $9::int2[], $10::int2[], $11::text[], $12::int8[], $13::int8[], $14::int8[],
            $15::int2[], $16::text[], $17::int8[]);

-- name: change_runs
-- The arrays as conditions of the table itself: one partition a day, one lookup a run. `+ 0` keeps
-- the shard from being taken for a way to find the rows.
UPDATE run SET state = given.state, reason = given.reason, started_us = given.started_us,
    finished_us = given.finished_us
FROM unnest($2::int4[], $3::int8[], $4::int2[], $5::text[], $6::int8[], $7::int8[])
    AS given (day, run, state, reason, started_us, finished_us)
WHERE run.day = ANY($2) AND run.run = ANY($3) AND run.day = given.day AND run.run = given.run
    AND (run.shard + 0) = $1;

-- name: seal_runs
INSERT INTO sealed_run (day, run, states)
SELECT * FROM unnest($1::int4[], $2::int8[], $3::bytea[]);

-- name: change_and_seal_runs
-- A final run is one round trip.
WITH sealed AS (
    INSERT INTO sealed_run (day, run, states)
    SELECT * FROM unnest($8::int4[], $9::int8[], $10::bytea[])
)
UPDATE run SET state = given.state, reason = given.reason, started_us = given.started_us,
    finished_us = given.finished_us
FROM unnest($2::int4[], $3::int8[], $4::int2[], $5::text[], $6::int8[], $7::int8[])
    AS given (day, run, state, reason, started_us, finished_us)
WHERE run.day = ANY($2) AND run.run = ANY($3) AND run.day = given.day AND run.run = given.run
    AND (run.shard + 0) = $1;

-- name: drop_waits
DELETE FROM task_wait WHERE ctid = ANY(ARRAY(
    SELECT wait.place
    FROM unnest($2::int8[], $3::int4[], $4::int4[], $5::int2[])
        AS given (run, task, expansion, kind)
    CROSS JOIN LATERAL (
        SELECT ctid AS place FROM task_wait
        WHERE shard = $1 AND run = given.run AND task = given.task
            AND expansion = given.expansion AND kind = given.kind
        OFFSET 0
    ) AS wait
));

-- name: add_waits
INSERT INTO task_wait (shard, day, run, task, expansion, kind, due_us, number, reason)
SELECT $1::int4, *
FROM unnest($2::int4[], $3::int8[], $4::int4[], $5::int4[], $6::int2[], $7::int8[], $8::int4[],
            $9::text[]);

-- name: put_dags
INSERT INTO dag (tenant, dag, bucket, digest, task_count, paused, pause_reason, revision,
    created_us, updated_us)
SELECT * FROM unnest($1::text[], $2::text[], $3::int4[], $4::bytea[], $5::int4[], $6::bool[],
                     $7::text[], $8::int8[], $9::int8[], $10::int8[])
ON CONFLICT (tenant, dag) DO UPDATE SET digest = excluded.digest,
    task_count = excluded.task_count, paused = excluded.paused,
    pause_reason = excluded.pause_reason, revision = excluded.revision,
    updated_us = excluded.updated_us;

-- name: add_versions
-- A version that comes back keeps the time of its first use.
INSERT INTO dag_version_use (tenant, dag, digest, task_count, created_us)
SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::int4[], $5::int8[])
ON CONFLICT DO NOTHING;

-- name: drop_schedules
DELETE FROM schedule
USING unnest($1::text[], $2::text[], $3::text[]) AS given (tenant, dag, schedule)
WHERE schedule.tenant = given.tenant AND schedule.dag = given.dag
    AND schedule.schedule = given.schedule;

-- name: put_schedules
INSERT INTO schedule (tenant, dag, schedule, bucket, definition, next_us)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::int4[], $5::text[], $6::int8[])
ON CONFLICT (tenant, dag, schedule) DO UPDATE SET definition = excluded.definition,
    next_us = excluded.next_us;

-- name: add_instants
INSERT INTO schedule_instant (tenant, dag, schedule, instant_us, outcome, run_id, reason)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::int8[], $5::int2[], $6::bytea[],
                     $7::text[]);

-- name: answer_commands
-- A command is done with once: one that has an answer is not found again.
UPDATE inbox SET outcome = given.outcome, detail = given.detail, applied_us = given.applied_us
FROM unnest($2::int8[], $3::int2[], $4::text[], $5::int8[])
    AS given (command, outcome, detail, applied_us)
WHERE inbox.command = ANY($2) AND inbox.command = given.command AND (inbox.shard + 0) = $1
    AND inbox.applied_us IS NULL;

-- name: change_hold
-- What is held back after the store went back, and until when about.
UPDATE shard SET hold = $2, hold_until_us = $3 WHERE shard = $1;

-- name: quarantine_command
UPDATE inbox SET outcome = 5, detail = $3,
    applied_us = (extract(epoch FROM clock_timestamp()) * 1000000)::int8
WHERE command = $2 AND shard = $1 AND applied_us IS NULL;

-- name: add_quarantine
INSERT INTO quarantine (shard, epoch, batch, command, source, reason, created_us)
VALUES ($1, $2, $3, $4, $5, $6, (extract(epoch FROM clock_timestamp()) * 1000000)::int8);
