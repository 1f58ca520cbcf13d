-- What `mainspring verify` reads: pages by key, each one statement or one short snapshot. Nothing
-- here locks more than a read does, and nothing writes.

-- name: verify_now
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8;

-- name: verify_shards
-- Each shard beside its book of takeovers.
SELECT shard.shard, shard.epoch, shard.batch, shard.holder, shard.node,
    book.takeovers, book.holders, coalesce(book.last, 0), coalesce(last.holder, '')
FROM shard
CROSS JOIN LATERAL (
    SELECT count(*) AS takeovers, count(DISTINCT holder) AS holders, max(epoch) AS last
    FROM shard_epoch WHERE shard_epoch.shard = shard.shard
) AS book
LEFT JOIN shard_epoch AS last ON last.shard = shard.shard AND last.epoch = book.last
ORDER BY shard.shard;

-- name: verify_run_keys
-- With the size of the version, which says how much there may be to read of a run.
SELECT run.day, run.run, run.shard, run.digest, coalesce(octet_length(version.spec), 0)
FROM run LEFT JOIN dag_version AS version ON version.digest = run.digest
WHERE (run.day, run.run) > ($1::int4, $2::int8) AND run.day >= $3 AND run.created_us >= $4
ORDER BY run.day, run.run LIMIT $5;

-- name: verify_live_run_keys
-- Runs that are older than $3 and still live, from the partial index.
SELECT run.day, run.run, run.shard, run.digest, coalesce(octet_length(version.spec), 0)
FROM run LEFT JOIN dag_version AS version ON version.digest = run.digest
WHERE run.finished_us IS NULL AND (run.shard, run.run) > ($1::int4, $2::int8)
    AND run.created_us < $3
ORDER BY run.shard, run.run LIMIT $4;

-- name: verify_run_key
SELECT run.day, run.run, run.shard, run.digest, coalesce(octet_length(version.spec), 0), run.dag
FROM run LEFT JOIN dag_version AS version ON version.digest = run.digest
WHERE run.day = $1 AND run.run_id = $2;

-- name: verify_runs
SELECT run.*
FROM unnest($1::int4[], $2::int8[]) AS given (day, run)
CROSS JOIN LATERAL (
    SELECT day, run, run_id, shard, tenant, dag, digest, state, reason, cause, schedule,
        logical_us, created_us, started_us, finished_us, semantics_version
    FROM run WHERE run.day = given.day AND run.run = given.run
    OFFSET 0
) AS run;

-- name: verify_attempts
-- The history and what is live, of runs given by day, key and shard.
SELECT given.run, tried.*
FROM unnest($1::int4[], $2::int8[], $3::int4[]) AS given (day, run, shard)
CROSS JOIN LATERAL (
    SELECT task, expansion, attempt_id, number, state::int4, agent, exit_code, signal, epoch,
        batch, ended_epoch, ended_batch
    FROM attempt WHERE attempt.day = given.day AND attempt.run = given.run
    UNION ALL
    SELECT task, expansion, attempt_id, number, CASE WHEN started_us IS NULL THEN 1 ELSE 2 END,
        agent, NULL, 0, epoch, batch, NULL, NULL
    FROM attempt_live WHERE attempt_live.shard = given.shard AND attempt_live.run = given.run
    OFFSET 0
) AS tried;

-- name: verify_late
SELECT given.run, late.*
FROM unnest($1::int4[], $2::int8[]) AS given (day, run)
CROSS JOIN LATERAL (
    SELECT task, expansion, attempt_id, state, epoch, batch, adopted
    FROM attempt_late WHERE attempt_late.day = given.day AND attempt_late.run = given.run
    OFFSET 0
) AS late;

-- name: verify_waits
SELECT given.run, wait.*
FROM unnest($1::int8[], $2::int4[]) AS given (run, shard)
CROSS JOIN LATERAL (
    SELECT task, expansion, kind, number
    FROM task_wait WHERE task_wait.shard = given.shard AND task_wait.run = given.run
    OFFSET 0
) AS wait;

-- name: verify_sealed
SELECT given.run, sealed.states
FROM unnest($1::int4[], $2::int8[]) AS given (day, run)
CROSS JOIN LATERAL (
    SELECT states FROM sealed_run
    WHERE sealed_run.day = given.day AND sealed_run.run = given.run
    OFFSET 0
) AS sealed;

-- name: verify_epochs
-- Of the epochs given, those that the book of takeovers has, with their last batches where known.
SELECT given.shard, given.epoch,
    CASE WHEN shard.epoch = given.epoch THEN shard.batch ELSE taken.last_batch END
FROM unnest($1::int4[], $2::int8[]) AS given (shard, epoch)
JOIN shard_epoch AS taken ON taken.shard = given.shard AND taken.epoch = given.epoch
JOIN shard ON shard.shard = given.shard;

-- name: verify_restores
-- The first epoch after the store went back in time, of the shards where it did.
SELECT shard, restored_epoch FROM shard WHERE restored_epoch > 0;

-- name: verify_instants_of
-- The ledger's rows of the instants that runs were made for.
SELECT given.run, ledger.outcome, ledger.run_id
FROM unnest($1::int8[], $2::text[], $3::text[], $4::text[], $5::int8[])
    AS given (run, tenant, dag, schedule, instant_us)
CROSS JOIN LATERAL (
    SELECT outcome, run_id FROM schedule_instant
    WHERE schedule_instant.tenant = given.tenant AND schedule_instant.dag = given.dag
        AND schedule_instant.schedule = given.schedule
        AND schedule_instant.instant_us = given.instant_us
    OFFSET 0
) AS ledger;

-- name: verify_live_page
SELECT live.shard, live.run, live.task, live.expansion, live.attempt_id, live.epoch, live.batch,
    run.shard, run.state
FROM attempt_live AS live
LEFT JOIN LATERAL (
    SELECT shard, state FROM run WHERE run.day = live.day AND run.run = live.run
    OFFSET 0
) AS run ON true
WHERE (live.shard, live.run, live.task, live.expansion) > ($1::int4, $2::int8, $3::int4, $4::int4)
ORDER BY live.shard, live.run, live.task, live.expansion LIMIT $5;

-- name: verify_wait_page
SELECT wait.shard, wait.run, wait.task, wait.expansion, wait.kind, run.shard, run.state
FROM task_wait AS wait
LEFT JOIN LATERAL (
    SELECT shard, state FROM run WHERE run.day = wait.day AND run.run = wait.run
    OFFSET 0
) AS run ON true
WHERE (wait.shard, wait.run, wait.task, wait.expansion, wait.kind)
    > ($1::int4, $2::int8, $3::int4, $4::int4, $5::int2)
ORDER BY wait.shard, wait.run, wait.task, wait.expansion, wait.kind LIMIT $6;

-- name: verify_instant_page
-- Each with the run that it names (whose day is inside its id), and with its schedule as it is now.
SELECT ledger.tenant, ledger.dag, ledger.schedule, ledger.instant_us, ledger.outcome,
    ledger.run_id, ledger.reason, run.tenant, run.dag, run.schedule, run.logical_us,
    now.definition, now.next_us, dag.updated_us
FROM (
    SELECT tenant, dag, schedule, instant_us, outcome, run_id, reason FROM schedule_instant
    WHERE (tenant, dag, schedule, instant_us) > ($1::text, $2::text, $3::text, $4::int8)
        AND instant_us >= $5
    ORDER BY tenant, dag, schedule, instant_us LIMIT $6
) AS ledger
LEFT JOIN LATERAL (
    SELECT tenant, dag, schedule, logical_us FROM run
    WHERE run.day =
            ('x' || encode(substr(ledger.run_id, 1, 6), 'hex'))::bit(48)::int8 / 86400000
        AND run.run_id = ledger.run_id
    OFFSET 0
) AS run ON true
LEFT JOIN LATERAL (
    SELECT definition, next_us FROM schedule
    WHERE schedule.tenant = ledger.tenant AND schedule.dag = ledger.dag
        AND schedule.schedule = ledger.schedule
    OFFSET 0
) AS now ON true
LEFT JOIN LATERAL (
    SELECT updated_us FROM dag WHERE dag.tenant = ledger.tenant AND dag.dag = ledger.dag
    OFFSET 0
) AS dag ON true
ORDER BY ledger.tenant, ledger.dag, ledger.schedule, ledger.instant_us;

-- name: verify_command_page
-- Few commands are set aside (5), and no index leads from them to what says so.
SELECT inbox.command, inbox.shard, inbox.tenant, inbox.outcome, inbox.run_id, inbox.body,
    CASE WHEN inbox.outcome = 5
        THEN EXISTS (SELECT FROM quarantine WHERE quarantine.command = inbox.command)
        ELSE false END
FROM inbox WHERE inbox.command > $1 AND inbox.created_us >= $2
ORDER BY inbox.command LIMIT $3;

-- name: verify_runs_by_id
SELECT given.run_id, run.tenant, run.state
FROM unnest($1::int4[], $2::bytea[]) AS given (day, run_id)
CROSS JOIN LATERAL (
    SELECT tenant, state FROM run WHERE run.day = given.day AND run.run_id = given.run_id
    OFFSET 0
) AS run;

-- name: verify_version_uses
SELECT given.tenant, given.dag, given.digest
FROM unnest($1::text[], $2::text[], $3::bytea[]) AS given (tenant, dag, digest)
WHERE EXISTS (
    SELECT FROM dag_version_use AS used
    WHERE used.tenant = given.tenant AND used.dag = given.dag AND used.digest = given.digest
);

-- name: verify_request_page
SELECT asked.tenant, asked.key_hash, asked.command, asked.run_id, inbox.tenant, inbox.run_id
FROM request_key AS asked LEFT JOIN inbox ON inbox.command = asked.command
WHERE (asked.tenant, asked.key_hash) > ($1::text, $2::bytea)
ORDER BY asked.tenant, asked.key_hash LIMIT $3;

-- name: verify_version_page
-- Every use of a version, current ones included, with the definition itself.
SELECT used.tenant, used.dag, used.digest, used.task_count, version.spec,
    dag.digest IS NOT DISTINCT FROM used.digest, coalesce(dag.task_count, 0)
FROM dag_version_use AS used
LEFT JOIN dag_version AS version ON version.digest = used.digest
LEFT JOIN dag ON dag.tenant = used.tenant AND dag.dag = used.dag
WHERE (used.tenant, used.dag, used.digest) > ($1::text, $2::text, $3::bytea)
ORDER BY used.tenant, used.dag, used.digest LIMIT $4;
