-- DAGs as the API reads them. Pages go on strictly after the last key of the page before.

-- name: read_dag
SELECT dag.tenant, dag.dag, dag.bucket, bucket.shard, dag.digest, dag.task_count, dag.paused,
    dag.pause_reason, dag.revision, dag.created_us, dag.updated_us,
    (SELECT min(next_us) FROM schedule WHERE tenant = $1 AND dag = $2) AS next_us
FROM dag JOIN bucket USING (bucket) WHERE dag.tenant = $1 AND dag.dag = $2;

-- name: list_dags
SELECT dag.tenant, dag.dag, dag.bucket, bucket.shard, dag.digest, dag.task_count, dag.paused,
    dag.pause_reason, dag.revision, dag.created_us, dag.updated_us,
    (SELECT min(next_us) FROM schedule
     WHERE schedule.tenant = dag.tenant AND schedule.dag = dag.dag) AS next_us
FROM dag JOIN bucket USING (bucket)
WHERE dag.tenant = $1 AND dag.dag > $2 ORDER BY dag.dag LIMIT $3;

-- name: list_versions
SELECT digest, task_count, created_us FROM dag_version_use
WHERE tenant = $1 AND dag = $2 AND (created_us, digest) < ($3, $4)
ORDER BY created_us DESC, digest DESC LIMIT $5;

-- name: list_schedules
SELECT schedule, definition, next_us FROM schedule WHERE tenant = $1 AND dag = $2
ORDER BY schedule;
