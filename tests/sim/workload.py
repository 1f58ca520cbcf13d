"""Random DAGs, from the seed, over everything that a DAG can say.

Trigger rules, retries with backoff, timeouts and graces, promises (`idempotent`, `on_disconnect`),
limits of active runs, run timeouts, priorities, schedules of every kind. What a schedule does with
missed instants is no choice of a DAG yet: it coalesces or skips them.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from mainspring.v1 import dag_pb2 as pb


class Shape(NamedTuple):
    """A taste in DAGs: how many tasks, how many parents of each, how often there is a schedule."""

    tasks: tuple[int, int]
    parents: tuple[int, ...]
    scheduled: float


SHAPES = {
    "mixed": Shape((1, 20), (0, 1, 1, 2, 3), 0.3),
    "small": Shape((1, 3), (0, 1), 0.1),
    "wide": Shape((8, 30), (0, 0, 0, 1, 8), 0.1),
    "deep": Shape((4, 16), (1,), 0.1),
    "timed": Shape((1, 4), (0, 1, 2), 0.9),
}
CRONS = ("* * * * *", "*/2 * * * *", "*/5 * * * *", "@once")
ZONES = ("", "UTC", "Europe/Berlin", "Asia/Kolkata")


def random_dag(random: Random, dag: str, mix: str = "mixed") -> pb.DagSpec:
    """A DAG with random edges, rules, requests, retries and promises."""
    shape = SHAPES[mix]
    spec = pb.DagSpec(dag=dag)
    for number in range(random.randint(*shape.tasks)):
        task = spec.tasks.add(task=f"t{number}", process=pb.ProcessSpec(argv=["work"]))
        parents = random.sample(range(number), min(number, random.choice(shape.parents)))
        task.depends_on.extend(f"t{parent}" for parent in sorted(parents))
        task.resources.cpu = random.choice((0.1, 0.5, 0.5, 1.0, 1.0, 2.0, 2.0, 4.0))
        task.resources.memory_bytes = random.choice((0, 1 << 20, 1 << 28))
        task.priority = random.choice((0, 0, 5))
        if random.random() < 0.2:
            task.trigger_rule = pb.TRIGGER_RULE_ALL_DONE
        if random.random() < 0.1:
            task.timeout.FromMilliseconds(random.choice((800, 4_000)))
            task.grace.FromMilliseconds(random.choice((0, 100, 1_500)))
        _retry(random, task)
        _promise(random, task)
    if random.random() < 0.2:
        spec.max_active_runs = random.randint(1, 2)
    if random.random() < 0.2:
        spec.run_timeout.FromMilliseconds(random.choice((2_000, 6_000, 20_000)))
    while len(spec.schedules) < 3 and random.random() < shape.scheduled:
        _schedule(random, spec)
    return spec


def _retry(random: Random, task: pb.TaskSpec) -> None:
    if random.random() < 0.5:
        task.retry.max_attempts = random.randint(1, 4)
        task.retry.initial_backoff.FromMilliseconds(random.choice((0, 50, 700)))
        task.retry.multiplier = random.choice((1.0, 2.0, 3.0))
        task.retry.jitter = random.choice((0.0, 0.1, 1.0))


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


def _schedule(random: Random, spec: pb.DagSpec) -> None:
    schedule = spec.schedules.add(schedule=f"s{len(spec.schedules)}")
    if random.random() < 0.75:
        schedule.interval.FromMilliseconds(random.choice((1_000, 2_000, 5_000, 7_000)))
    else:
        schedule.cron = random.choice(CRONS)
        schedule.timezone = random.choice(ZONES)
