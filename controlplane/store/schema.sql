-- The schema as all migrations leave it, for readers; a test proves it equal.

CREATE TABLE shard (
    shard int4 PRIMARY KEY,
    epoch int8 NOT NULL CHECK (epoch >= 0),
    batch int8 NOT NULL CHECK (batch >= 0),
    holder bytea NOT NULL,
    node text NOT NULL,
    address text NOT NULL,
    taken_over_us int8 NOT NULL,
    -- Last batch of the epoch before, written by the takeover itself.
    batch_before int8 NOT NULL DEFAULT 0,
    -- System identifier and timeline of the server, as the last takeover found them.
    server text NOT NULL DEFAULT '',
    -- The first epoch after the store went back for the last time, when that was found, and how.
    restored_epoch int8 NOT NULL DEFAULT 0,
    restored_us int8 NOT NULL DEFAULT 0,
    restored_reason text NOT NULL DEFAULT '',
    -- What is held back since: 0 nothing, 1 tasks that may run longer than a lease, 2 everything.
    hold int2 NOT NULL DEFAULT 0 CHECK (hold IN (0, 1, 2)),
    hold_until_us int8 NOT NULL DEFAULT 0
) WITH (
    -- The fence updates a row up to a thousand times a second: room for HOT, and early vacuum.
    fillfactor = 10,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 1000000
);

-- Every takeover, for ever: epochs of a shard strictly grow. `last_batch`: of an epoch that is over.
CREATE TABLE shard_epoch (
    shard int4 NOT NULL,
    epoch int8 NOT NULL,
    holder bytea NOT NULL,
    node text NOT NULL,
    address text NOT NULL,
    taken_over_us int8 NOT NULL,
    last_batch int8,
    PRIMARY KEY (shard, epoch)
);

CREATE TABLE bucket (
    bucket int4 PRIMARY KEY CHECK (bucket BETWEEN 0 AND 4095),
    shard int4 NOT NULL REFERENCES shard
);
CREATE INDEX bucket_by_shard ON bucket (shard);

-- Definitions by their content; whoever used the same one before has stored it already.
CREATE TABLE dag_version (
    digest bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    spec bytea NOT NULL,
    created_us int8 NOT NULL
);

-- Which DAG had which version, since when.
CREATE TABLE dag_version_use (
    tenant text COLLATE "C" NOT NULL,
    dag text COLLATE "C" NOT NULL,
    digest bytea NOT NULL,
    task_count int4 NOT NULL,
    created_us int8 NOT NULL,
    PRIMARY KEY (tenant, dag, digest)
);
CREATE INDEX dag_version_use_by_time ON dag_version_use (tenant, dag, created_us, digest);

CREATE TABLE dag (
    tenant text COLLATE "C" NOT NULL,
    dag text COLLATE "C" NOT NULL,
    bucket int4 NOT NULL,
    digest bytea NOT NULL,
    task_count int4 NOT NULL,
    paused bool NOT NULL,
    pause_reason text NOT NULL,
    revision int8 NOT NULL,
    created_us int8 NOT NULL,
    updated_us int8 NOT NULL,
    PRIMARY KEY (tenant, dag)
);
CREATE INDEX dag_by_bucket ON dag (bucket);

CREATE TABLE schedule (
    tenant text COLLATE "C" NOT NULL,
    dag text COLLATE "C" NOT NULL,
    schedule text COLLATE "C" NOT NULL,
    bucket int4 NOT NULL,
    definition text NOT NULL,
    next_us int8,
    PRIMARY KEY (tenant, dag, schedule)
) WITH (fillfactor = 80);
CREATE INDEX schedule_by_bucket ON schedule (bucket);

-- The ledger of instants: a second firing of one fails on the primary key.
CREATE TABLE schedule_instant (
    instant_us int8 NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    dag text COLLATE "C" NOT NULL,
    schedule text COLLATE "C" NOT NULL,
    outcome int2 NOT NULL CHECK (outcome IN (1, 2, 3)),
    run_id bytea,
    reason text NOT NULL,
    PRIMARY KEY (tenant, dag, schedule, instant_us)
) PARTITION BY RANGE (instant_us);
CREATE TABLE schedule_instant_default PARTITION OF schedule_instant DEFAULT;

-- Keys of runs are handed out in blocks, never twice; what is left of a block is lost.
CREATE SEQUENCE run_key AS int8 INCREMENT BY 65536 START WITH 65536;

CREATE TABLE run (
    run int8 NOT NULL,
    logical_us int8 NOT NULL,
    created_us int8 NOT NULL,
    started_us int8,
    finished_us int8,
    day int4 NOT NULL,
    shard int4 NOT NULL,
    bucket int4 NOT NULL,
    state int2 NOT NULL CHECK (state IN (2, 3, 4, 5, 6, 7, 8)),
    cause int2 NOT NULL CHECK (cause IN (1, 2)),
    semantics_version int2 NOT NULL,
    run_id bytea NOT NULL CHECK (octet_length(run_id) = 16),
    digest bytea NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    dag text COLLATE "C" NOT NULL,
    schedule text NOT NULL,
    reason text NOT NULL DEFAULT '',
    PRIMARY KEY (day, run),
    CONSTRAINT run_final CHECK ((state IN (5, 6, 7)) = (finished_us IS NOT NULL))
) PARTITION BY RANGE (day);
CREATE TABLE run_default PARTITION OF run DEFAULT;
-- The day of a run is inside its id, so one partition is asked.
CREATE UNIQUE INDEX run_by_id ON run (day, run_id);
CREATE INDEX run_by_dag ON run (tenant, dag, created_us, run);
CREATE INDEX run_by_tenant ON run (tenant, created_us, run);
-- Not by state: a change of state while the run lives then touches no index.
CREATE INDEX run_live ON run (shard, run) WHERE finished_us IS NULL;

-- A final run in one row: a byte for the state of each task.
CREATE TABLE sealed_run (
    run int8 NOT NULL,
    day int4 NOT NULL,
    states bytea NOT NULL,
    PRIMARY KEY (day, run)
) PARTITION BY RANGE (day);
CREATE TABLE sealed_run_default PARTITION OF sealed_run DEFAULT;

-- At most one live attempt of a task instance, by construction. INSERT and DELETE; an UPDATE only
-- to note the start of a long one. No other index.
CREATE TABLE attempt_live (
    run int8 NOT NULL,
    assigned_us int8 NOT NULL,
    started_us int8,
    epoch int8 NOT NULL,
    batch int8 NOT NULL,
    shard int4 NOT NULL,
    day int4 NOT NULL,
    task int4 NOT NULL,
    expansion int4 NOT NULL,
    number int4 NOT NULL CHECK (number >= 1),
    attempt_id bytea NOT NULL CHECK (octet_length(attempt_id) = 16),
    incarnation bytea NOT NULL,
    agent text COLLATE "C" NOT NULL,
    PRIMARY KEY (shard, run, task, expansion)
) WITH (
    autovacuum_vacuum_scale_factor = 0.1,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 1,
    autovacuum_vacuum_cost_delay = 0
);

-- The history, append-only. `epoch` and `batch`: of the assignment; `ended_*`: of the result.
CREATE TABLE attempt (
    run int8 NOT NULL,
    assigned_us int8 NOT NULL,
    started_us int8,
    finished_us int8 NOT NULL,
    stdout_bytes int8 NOT NULL,
    stderr_bytes int8 NOT NULL,
    epoch int8 NOT NULL,
    batch int8 NOT NULL,
    ended_epoch int8 NOT NULL,
    ended_batch int8 NOT NULL,
    day int4 NOT NULL,
    task int4 NOT NULL,
    expansion int4 NOT NULL,
    number int4 NOT NULL,
    exit_code int4,
    signal int4 NOT NULL,
    state int2 NOT NULL CHECK (state IN (3, 4, 5, 6, 7, 8, 9)),
    attempt_id bytea NOT NULL,
    incarnation bytea NOT NULL,
    agent text COLLATE "C" NOT NULL,
    message text NOT NULL,
    PRIMARY KEY (day, run, task, expansion, attempt_id)
) PARTITION BY RANGE (day);
CREATE TABLE attempt_default PARTITION OF attempt DEFAULT;

-- What an agent said of an attempt after it had been given up; append-only, the first word counts.
-- The attempt stays as it ended. `epoch` and `batch`: of this row.
CREATE TABLE attempt_late (
    run int8 NOT NULL,
    started_us int8,
    finished_us int8 NOT NULL,
    reported_us int8 NOT NULL,
    stdout_bytes int8 NOT NULL,
    stderr_bytes int8 NOT NULL,
    epoch int8 NOT NULL,
    batch int8 NOT NULL,
    day int4 NOT NULL,
    task int4 NOT NULL,
    expansion int4 NOT NULL,
    exit_code int4,
    signal int4 NOT NULL,
    state int2 NOT NULL CHECK (state IN (3, 4, 5, 6, 7, 8, 9)),
    adopted bool NOT NULL,
    attempt_id bytea NOT NULL,
    message text NOT NULL,
    PRIMARY KEY (day, run, task, expansion, attempt_id),
    CONSTRAINT attempt_late_adopted CHECK (NOT adopted OR state = 3)
) PARTITION BY RANGE (day);
CREATE TABLE attempt_late_default PARTITION OF attempt_late DEFAULT;

-- INSERT and DELETE only.
CREATE TABLE task_wait (
    run int8 NOT NULL,
    due_us int8 NOT NULL,
    shard int4 NOT NULL,
    day int4 NOT NULL,
    task int4 NOT NULL,
    expansion int4 NOT NULL,
    number int4 NOT NULL,
    kind int2 NOT NULL CHECK (kind IN (1, 2, 4)),
    reason text NOT NULL,
    PRIMARY KEY (shard, run, task, expansion, kind)
) WITH (autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0);
-- The oldest approval first. Partial: a backoff never touches it.
CREATE INDEX task_wait_approvals ON task_wait (due_us, run, task, expansion) WHERE kind = 2;

-- Commands for leaders. Rows commit out of order: found by "not applied", never by a cursor.
CREATE TABLE inbox (
    command int8 GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    created_us int8 NOT NULL,
    applied_us int8,
    bucket int4 NOT NULL,
    shard int4 NOT NULL,
    outcome int2 CHECK (outcome IN (1, 2, 3, 4, 5)),
    run_id bytea,
    tenant text COLLATE "C" NOT NULL,
    body bytea NOT NULL,
    detail text NOT NULL DEFAULT '',
    CONSTRAINT inbox_applied CHECK ((outcome IS NULL) = (applied_us IS NULL))
) WITH (autovacuum_vacuum_scale_factor = 0.1);
CREATE INDEX inbox_open ON inbox (shard, command) WHERE applied_us IS NULL;
-- A run that is not a row yet is found by the command that will make it.
CREATE INDEX inbox_by_run ON inbox (run_id) WHERE run_id IS NOT NULL;

-- The same request twice has one effect. Written together with its command.
CREATE TABLE request_key (
    tenant text COLLATE "C" NOT NULL,
    key_hash bytea NOT NULL,
    body_hash bytea NOT NULL,
    command int8 NOT NULL,
    run_id bytea,
    expires_us int8 NOT NULL,
    PRIMARY KEY (tenant, key_hash)
);
CREATE INDEX request_key_by_expiry ON request_key (expires_us);

-- What could not be handled and would have stopped its shard.
CREATE TABLE quarantine (
    number int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shard int4 NOT NULL,
    epoch int8 NOT NULL,
    batch int8 NOT NULL,
    command int8,
    source text NOT NULL,
    reason text NOT NULL,
    created_us int8 NOT NULL
);
CREATE INDEX quarantine_by_shard ON quarantine (shard);

CREATE TABLE agent (
    agent text COLLATE "C" PRIMARY KEY,
    incarnation bytea NOT NULL,
    boot_id text NOT NULL,
    version text NOT NULL,
    cpu_millis int8 NOT NULL,
    memory_bytes int8 NOT NULL,
    connected_us int8 NOT NULL,
    -- What surely ends together with its supervisor; empty where it was never said.
    containment text NOT NULL DEFAULT ''
);

CREATE TABLE api_token (
    hash bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
    tenant text COLLATE "C" NOT NULL,
    role text NOT NULL,
    name text COLLATE "C" NOT NULL,
    created_us int8 NOT NULL,
    UNIQUE (tenant, name)
);

-- The partition of one table for one day. Rows that the default partition caught meanwhile move
-- over. Built aside and attached, so that only users of the default partition are waited for.
CREATE FUNCTION ensure_partition(parent text, day int4, lowest int8, above int8) RETURNS bool
LANGUAGE plpgsql AS $$
DECLARE
    part text := parent || '_' || day;
    range_key text := CASE parent WHEN 'schedule_instant' THEN 'instant_us' ELSE 'day' END;
BEGIN
    IF to_regclass(part) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)',
                   part, parent);
    EXECUTE format('WITH caught AS (DELETE FROM %I WHERE %I >= $1 AND %I < $2 RETURNING *)'
                   ' INSERT INTO %I SELECT * FROM caught',
                   parent || '_default', range_key, range_key, part) USING lowest, above;
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
                   parent, part, lowest, above);
    RETURN true;
END
$$;
