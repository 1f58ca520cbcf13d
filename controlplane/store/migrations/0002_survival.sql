-- node versions: 2
-- Late results, unknown outcomes, approvals and marks. A node of schema 1 could not read the new
-- states, hence the number above.

ALTER TABLE attempt
    DROP CONSTRAINT attempt_state_check,
    ADD CONSTRAINT attempt_state_check CHECK (state IN (3, 4, 5, 6, 7, 8, 9));

ALTER TABLE task_wait
    DROP CONSTRAINT task_wait_kind_check,
    ADD CONSTRAINT task_wait_kind_check CHECK (kind IN (1, 2, 4));

-- The oldest approval first. Partial: a backoff never touches it.
CREATE INDEX task_wait_approvals ON task_wait (due_us, run, task, expansion) WHERE kind = 2;

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

-- What surely ends together with the agent's supervisor; empty where it was never said.
ALTER TABLE agent ADD COLUMN containment text NOT NULL DEFAULT '';
