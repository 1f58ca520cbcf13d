-- The row of a shard: who leads it, and which batch was the last.

-- name: prepare_fence
-- A statement of its own, so that under READ COMMITTED it sees the row as it is once its lock is
-- free: a deposed leader matches nothing. Prepared by SQL, since the message that opens a
-- transaction is a simple one and would be planned each time.
PREPARE fence (int4, int8, int8) AS
UPDATE shard SET batch = $3 WHERE shard = $1 AND epoch = $2 AND batch = $3 - 1;

-- name: open_batch
-- Two commands in one message save a round trip. The numbers are ints that we format ourselves.
BEGIN; EXECUTE fence({shard}, {epoch}, {batch});

-- name: empty_batch
-- Nothing to write: the fence alone, as one transaction.
EXECUTE fence({shard}, {epoch}, {batch});

-- name: read_shard
SELECT shard, epoch, batch, holder, node, address, taken_over_us, hold, hold_until_us
FROM shard WHERE shard = $1;

-- name: take_over
-- Compare-and-set of the epoch, and its entry in the book of takeovers, which also learns the last
-- batch of the epoch before: as the row is under the lock, not as it was when it was read. Another
-- server, or another timeline of it, may lack what was committed last: the shard is marked.
WITH found AS MATERIALIZED (
    SELECT control.system_identifier::text
            || '/' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) AS server,
        (extract(epoch FROM clock_timestamp()) * 1000000)::int8 AS now_us
    FROM pg_control_system() AS control
), taken AS (
    UPDATE shard
    SET epoch = epoch + CASE WHEN shard.server IN ('', found.server) THEN 1 ELSE $6::int8 END,
        batch_before = batch, batch = 0, holder = $3, node = $4, address = $5,
        taken_over_us = found.now_us, server = found.server,
        restored_epoch = CASE WHEN shard.server IN ('', found.server) THEN restored_epoch
            ELSE epoch + $6::int8 END,
        restored_us = CASE WHEN shard.server IN ('', found.server) THEN restored_us
            ELSE found.now_us END,
        restored_reason = CASE WHEN shard.server IN ('', found.server) THEN restored_reason
            ELSE 'the server is ' || found.server || ' and was ' || shard.server END,
        hold = CASE WHEN shard.server IN ('', found.server) THEN hold ELSE 2 END
    FROM found
    WHERE shard.shard = $1 AND shard.epoch = $2
    RETURNING shard.shard, epoch, holder, node, address, taken_over_us, batch_before
), closed AS (
    UPDATE shard_epoch SET last_batch = taken.batch_before FROM taken
    WHERE shard_epoch.shard = taken.shard AND shard_epoch.epoch = $2
)
INSERT INTO shard_epoch (shard, epoch, holder, node, address, taken_over_us)
SELECT shard, epoch, holder, node, address, taken_over_us FROM taken
RETURNING epoch;

-- name: note_server
-- Part of the first batch on a connection. Who passes the fence on another server lost nothing
-- there, so the next takeover is not one of a store that may have gone back.
UPDATE shard SET server = found.server
FROM (
    SELECT control.system_identifier::text
        || '/' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) AS server
    FROM pg_control_system() AS control
) AS found
WHERE shard.shard = $1 AND shard.server <> found.server;

-- name: terminate_blockers
-- Whoever holds the lock that the backend $1 waits for. Repeated while it waits.
SELECT count(pg_terminate_backend(blocker)) AS terminated
FROM unnest(pg_blocking_pids($1)) AS blocker;

-- name: contradicted
-- Words that a leader had committed before it said them, and that this store does not have: it went
-- back in time. What was said before the store went back the last time is no news.
SELECT given.shard, given.epoch, given.holder, given.batch
FROM unnest($1::int4[], $2::int8[], $3::bytea[], $4::int8[])
    AS given (shard, epoch, holder, batch)
JOIN shard USING (shard)
LEFT JOIN shard_epoch AS taken ON taken.shard = given.shard AND taken.epoch = given.epoch
WHERE given.epoch >= shard.restored_epoch AND (
    taken.epoch IS NULL
    OR (given.holder <> '' AND given.holder <> taken.holder)
    OR given.batch > CASE WHEN given.epoch = shard.epoch THEN shard.batch
        ELSE taken.last_batch END
);

-- name: lock_shards
-- In their order, so that two who do so wait for each other.
SELECT shard FROM shard ORDER BY shard FOR UPDATE;

-- name: close_epochs
UPDATE shard_epoch SET last_batch = shard.batch FROM shard
WHERE shard.shard = ANY($1::int4[]) AND shard_epoch.shard = shard.shard
    AND shard_epoch.epoch = shard.epoch;

-- name: mark_restored
-- Deposes the leaders. The new epochs are far above any that was known before the store went back.
UPDATE shard
SET epoch = greatest(epoch, given.above) + $3::int8, batch = 0, holder = '',
    restored_epoch = greatest(epoch, given.above) + $3::int8,
    restored_us = (extract(epoch FROM clock_timestamp()) * 1000000)::int8,
    restored_reason = $4, hold = 2, hold_until_us = 0
FROM unnest($1::int4[], $2::int8[]) AS given (shard, above)
WHERE shard.shard = given.shard
RETURNING shard.shard, epoch;

-- name: reserve_run_keys
-- The sequence steps by blocks; a block is ours alone.
SELECT nextval('run_key');
