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
SELECT shard, epoch, batch, holder, node, address, taken_over_us FROM shard WHERE shard = $1;

-- name: take_over
-- Compare-and-set of the epoch, and its entry in the book of takeovers.
WITH taken AS (
    UPDATE shard
    SET epoch = epoch + 1, batch = 0, holder = $3, node = $4, address = $5,
        taken_over_us = (extract(epoch FROM clock_timestamp()) * 1000000)::int8
    WHERE shard = $1 AND epoch = $2
    RETURNING shard, epoch, holder, node, address, taken_over_us
)
INSERT INTO shard_epoch (shard, epoch, holder, node, address, taken_over_us)
SELECT shard, epoch, holder, node, address, taken_over_us FROM taken
RETURNING epoch;

-- name: terminate_blockers
-- Whoever holds the lock that the backend $1 waits for. Repeated while it waits.
SELECT count(pg_terminate_backend(blocker)) AS terminated
FROM unnest(pg_blocking_pids($1)) AS blocker;

-- name: reserve_run_keys
-- The sequence steps by blocks; a block is ours alone.
SELECT nextval('run_key');
