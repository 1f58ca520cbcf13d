-- node versions: 3
-- What a shard must know when its store went back in time. A node of schema 2 would assign while
-- attempts that the store has forgotten may run, hence the number above.

ALTER TABLE shard
    -- Last batch of the epoch before, written by the takeover itself.
    ADD COLUMN batch_before int8 NOT NULL DEFAULT 0,
    -- System identifier and timeline of the server, as the last takeover found them.
    ADD COLUMN server text NOT NULL DEFAULT '',
    -- The first epoch after the store went back for the last time, when that was found, and how.
    ADD COLUMN restored_epoch int8 NOT NULL DEFAULT 0,
    ADD COLUMN restored_us int8 NOT NULL DEFAULT 0,
    ADD COLUMN restored_reason text NOT NULL DEFAULT '',
    -- What is held back since: 0 nothing, 1 tasks that may run longer than a lease, 2 everything.
    ADD COLUMN hold int2 NOT NULL DEFAULT 0 CHECK (hold IN (0, 1, 2)),
    ADD COLUMN hold_until_us int8 NOT NULL DEFAULT 0;

-- The last batch of each epoch that is over, as the takeover after it found it.
ALTER TABLE shard_epoch ADD COLUMN last_batch int8;
