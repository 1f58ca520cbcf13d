"""Random DAGs and random commands, from the seed."""

from __future__ import annotations

from random import Random

from mainspring.v1 import dag_pb2 as pb


def random_dag(random: Random, dag: str) -> pb.DagSpec:
    """A DAG of up to 20 tasks with random edges, rules, requests, retries and promises."""
    count = random.randint(1, 20)
    spec = pb.DagSpec(dag=dag)
    for number in range(count):
        task = spec.tasks.add(task=f"t{number}", process=pb.ProcessSpec(argv=["work"]))
        parents = random.sample(range(number), min(number, random.choice((0, 1, 1, 2, 3))))
        task.depends_on.extend(f"t{parent}" for parent in sorted(parents))
        task.resources.cpu = random.choice((0.1, 0.5, 1.0, 2.0))
        task.resources.memory_bytes = random.choice((0, 1 << 20, 1 << 28))
        task.priority = random.choice((0, 0, 5))
        if random.random() < 0.2:
            task.trigger_rule = pb.TRIGGER_RULE_ALL_DONE
        if random.random() < 0.5:
            task.retry.max_attempts = random.randint(1, 4)
            task.retry.initial_backoff.FromMilliseconds(random.choice((0, 50, 700)))
        if random.random() < 0.1:
            task.timeout.FromMilliseconds(random.choice((800, 4_000)))
            task.grace.FromMilliseconds(random.choice((0, 100, 1_500)))
        _promise(random, task)
    if random.random() < 0.2:
        spec.max_active_runs = random.randint(1, 2)
    if random.random() < 0.2:
        spec.run_timeout.FromMilliseconds(random.choice((2_000, 6_000, 20_000)))
    if random.random() < 0.3:
        spec.schedules.add(schedule="often").interval.FromMilliseconds(
            random.choice((2_000, 5_000, 7_000))
        )
    return spec


def _promise(random: Random, task: pb.TaskSpec) -> None:
    """Whether it may be done twice, and what becomes of it without its leader."""
    chance = random.random()
    if chance < 0.15:
        task.idempotent = False
    elif chance < 0.25:
        task.on_disconnect = pb.ON_DISCONNECT_RETRY
        task.disconnect_limit.FromMilliseconds(random.choice((1_000, 8_000)))
        return
    if random.random() < 0.1:
        task.on_disconnect = pb.ON_DISCONNECT_CONTINUE
        task.disconnect_limit.FromMilliseconds(random.choice((1_000, 4_000)))
