-- Shards, agents and credentials.

-- name: list_shards
SELECT shard.shard, epoch, batch, node, address, taken_over_us,
    coalesce(runs.number, 0), coalesce(attempts.number, 0), coalesce(poisoned.number, 0),
    hold, hold_until_us, restored_reason
FROM shard
LEFT JOIN (SELECT shard, count(*) AS number FROM run WHERE finished_us IS NULL GROUP BY shard)
    AS runs USING (shard)
LEFT JOIN (SELECT shard, count(*) AS number FROM attempt_live GROUP BY shard)
    AS attempts USING (shard)
LEFT JOIN (SELECT shard, count(*) AS number FROM quarantine GROUP BY shard)
    AS poisoned USING (shard)
ORDER BY shard.shard;

-- name: list_asynchronous_standbys
-- Streams of logical replication and of a backup that is being taken are no standbys.
SELECT coalesce(nullif(walsender.application_name, ''), walsender.client_addr::text, 'unnamed')
FROM pg_stat_replication AS walsender
LEFT JOIN pg_replication_slots AS slot ON slot.active_pid = walsender.pid
WHERE walsender.sync_state = 'async' AND walsender.state IN ('streaming', 'catchup')
    AND walsender.application_name <> 'pg_basebackup' AND slot.slot_type IS DISTINCT FROM 'logical'
ORDER BY 1;

-- name: list_agents
SELECT agent, incarnation, boot_id, version, cpu_millis, memory_bytes, connected_us,
    coalesce(attempts.number, 0), containment
FROM agent
LEFT JOIN (SELECT agent, count(*) AS number FROM attempt_live GROUP BY agent)
    AS attempts USING (agent)
WHERE agent > $1 ORDER BY agent LIMIT $2;

-- name: put_agent
-- The latest session wins; an older one that arrives late changes nothing.
INSERT INTO agent AS known (agent, incarnation, boot_id, version, cpu_millis, memory_bytes,
    connected_us, containment)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (agent) DO UPDATE SET incarnation = excluded.incarnation,
    boot_id = excluded.boot_id, version = excluded.version, cpu_millis = excluded.cpu_millis,
    memory_bytes = excluded.memory_bytes, connected_us = excluded.connected_us,
    containment = excluded.containment
WHERE known.connected_us <= excluded.connected_us;

-- name: put_token
-- A name has one token: a new one replaces it.
INSERT INTO api_token (hash, tenant, role, name, created_us)
VALUES ($1, $2, $3, $4, (extract(epoch FROM clock_timestamp()) * 1000000)::int8)
ON CONFLICT (tenant, name) DO UPDATE SET hash = excluded.hash, role = excluded.role,
    created_us = excluded.created_us;

-- name: read_token
SELECT tenant, role, name, created_us FROM api_token WHERE hash = $1;

-- name: list_tokens
SELECT tenant, role, name, created_us FROM api_token WHERE tenant = $1 ORDER BY name;

-- name: drop_token
DELETE FROM api_token WHERE tenant = $1 AND name = $2;
