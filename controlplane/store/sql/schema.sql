-- The state of the schema, migrations, and what a new database needs.

-- name: schema_tables
-- Before the first migration there is nothing that could have made them.
CREATE TABLE IF NOT EXISTS schema_migration (
    number int4 PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    oldest_node int4 NOT NULL,
    applied_us int8 NOT NULL
);

-- name: lock_schema
-- One runner at a time; the key is ours by choice. Ends with the transaction.
SELECT pg_advisory_xact_lock(7021001);

-- name: has_schema
SELECT to_regclass('schema_migration') IS NOT NULL;

-- name: read_migrations
SELECT number, name, checksum, oldest_node FROM schema_migration ORDER BY number;

-- name: add_migration
INSERT INTO schema_migration (number, name, checksum, oldest_node, applied_us)
VALUES ($1, $2, $3, $4, (extract(epoch FROM clock_timestamp()) * 1000000)::int8);

-- name: count_shards
SELECT count(*) FROM shard;

-- name: add_shards
INSERT INTO shard (shard, epoch, batch, holder, node, address, taken_over_us)
SELECT number, 0, 0, '', '', '', 0 FROM generate_series(0, $1::int4 - 1) AS number;

-- name: add_buckets
-- Neighbouring buckets share a shard, so that a shard can be split by halves.
INSERT INTO bucket (bucket, shard)
SELECT number, number * $1::int4 / $2::int4 FROM generate_series(0, $2::int4 - 1) AS number;

-- name: ensure_partition
SELECT ensure_partition($1, $2, $3, $4);

-- name: forget_expired
-- Keys of requests whose window is over.
DELETE FROM request_key WHERE expires_us < $1;
