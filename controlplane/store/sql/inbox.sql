-- Commands as the API appends them and asks after them.

-- name: append_command
-- One statement, so one transaction and one round trip: the definition it needs, the key of its
-- request, and the command. No row back: the key is taken (read_request tells by whom), or the
-- bucket does not exist. A key whose window is over is taken again.
WITH clock AS MATERIALIZED (
    SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8 AS now_us
), place AS MATERIALIZED (
    SELECT nextval(pg_get_serial_sequence('inbox', 'command')) AS command, bucket, shard
    FROM bucket WHERE bucket = $2::int4
), version AS (
    INSERT INTO dag_version (digest, spec, created_us)
    SELECT $5::bytea, $6::bytea, now_us FROM clock, place WHERE $5::bytea IS NOT NULL
    ON CONFLICT DO NOTHING
), keyed AS (
    INSERT INTO request_key AS taken (tenant, key_hash, body_hash, command, run_id, expires_us)
    SELECT $1::text, $7::bytea, $8::bytea, place.command, $4::bytea, now_us + $9::int8
    FROM clock, place WHERE $7::bytea IS NOT NULL
    ON CONFLICT (tenant, key_hash) DO UPDATE SET body_hash = excluded.body_hash,
        command = excluded.command, run_id = excluded.run_id, expires_us = excluded.expires_us
    WHERE taken.expires_us < (SELECT now_us FROM clock)
    RETURNING command
)
INSERT INTO inbox (command, created_us, bucket, shard, run_id, tenant, body)
SELECT place.command, now_us, place.bucket, place.shard, $4::bytea, $1::text, $3::bytea
FROM clock, place WHERE $7::bytea IS NULL OR EXISTS (SELECT FROM keyed)
RETURNING command, shard;

-- name: read_request
SELECT request_key.body_hash, request_key.command, request_key.run_id, bucket.shard
FROM request_key, bucket
WHERE request_key.tenant = $1 AND request_key.key_hash = $2 AND bucket.bucket = $3;

-- name: read_command
SELECT command, shard, outcome, detail, applied_us FROM inbox WHERE command = $1;

-- name: find_pending_run
-- The command that will make a run, or was refused.
SELECT command, shard, body, created_us, outcome, detail FROM inbox
WHERE run_id = $1 AND tenant = $2;
