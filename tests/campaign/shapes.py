"""The DAGs of a campaign: what runs while things break.

Decides shapes, how long tasks work, and which of them fail, may not be repeated, or may outlive
their agent. Promises that a run of any of them is over within `LONGEST_PATH_S` of work, retries and
backoffs included, once nothing fails any more.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mainspring.definition import load
from mainspring.v1 import dag_pb2

PROGRAM = Path(__file__).with_name("attempt.pl")
# Of every shape there are so many DAGs, so that each shard leads some.
COPIES = 4
LONGEST_PATH_S = 20.0
DISCONNECT_LIMIT_S = 5.0
TICK_S = 5
# How many runs of a hundred have a shape.
WEIGHTS = {
    "chain": 34,
    "fan": 26,
    "retried": 16,
    "broken": 8,
    "overdue": 2,
    "long": 5,
    "precious": 9,
}
SCHEDULED = "tick"
# Runs of it begin with the load. They outlast attempt lease, grace and drift together, so that a
# process that ought to be dead is still there to be seen; at the end of the load they would only
# be waited for.
ENDURING = "enduring"
ALL_SHAPES = (*WEIGHTS, ENDURING, SCHEDULED)


class Shapes:
    """Builds definitions whose tasks write to one ledger."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger

    def specs(self, revision: int = 0) -> Iterator[dag_pb2.DagSpec]:
        """All DAGs; another revision is another version of each of them."""
        for shape in ALL_SHAPES:
            for copy in range(COPIES):
                yield self.spec(shape, copy, revision)

    def spec(self, shape: str, copy: int, revision: int = 0) -> dag_pb2.DagSpec:
        definition = {
            "dag": dag_id(shape, copy),
            "description": f"revision {revision}",
            **getattr(self, f"_{shape}")(),
        }
        loaded = load(json.dumps(definition), filename=f"{shape}.json")
        assert not loaded.problems, loaded.problems
        return loaded.documents[0].spec

    def _task(self, name: str, *parents: str, work_ms: int = 0, **more: Any) -> dict[str, Any]:
        failures, manners = more.pop("failures", 0), more.pop("manners", ())
        words = [str(self._ledger), str(work_ms), str(failures), *manners]
        return {
            "task": name,
            "process": {"argv": ["perl", str(PROGRAM), *words]},
            "depends_on": list(parents),
            "resources": {"cpu": 0.1},
            "grace": "1s",
            **more,
        }

    def _chain(self) -> dict[str, Any]:
        works = (0, 20, 0, 100, 0, 300)
        tasks = [
            self._task(f"t{place}", *([f"t{place - 1}"] if place else []), work_ms=work_ms)
            for place, work_ms in enumerate(works)
        ]
        return {"tasks": tasks}

    def _fan(self) -> dict[str, Any]:
        middle = [f"m{place}" for place in range(8)]
        tasks = [self._task(name, "first", work_ms=50 * place) for place, name in enumerate(middle)]
        return {"tasks": [self._task("first"), *tasks, self._task("last", *middle)]}

    def _retried(self) -> dict[str, Any]:
        """A diamond of which one side fails once, and the other twice."""
        patient = {"max_attempts": 3, "initial_backoff": "200ms"}
        return {
            "tasks": [
                self._task("first", manners=("loud",)),
                self._task("left", "first", failures=1, retry=patient),
                self._task("right", "first", failures=2, retry=patient, work_ms=100),
                self._task("last", "left", "right"),
            ]
        }

    def _broken(self) -> dict[str, Any]:
        """What fails for good, what depends on it, and what cleans up."""
        twice = {"max_attempts": 2, "initial_backoff": "100ms"}
        return {
            "tasks": [
                self._task("first"),
                self._task("fails", "first", failures=99, retry=twice),
                self._task("never", "fails"),
                self._task("clean", "first", "never", trigger_rule="all_done"),
            ]
        }

    def _overdue(self) -> dict[str, Any]:
        """It takes longer than it may, and does not listen."""
        late = {"timeout": "1s", "retry": {"max_attempts": 2, "initial_backoff": "100ms"}}
        return {
            "tasks": [
                self._task("late", work_ms=10_000, manners=("stubborn",), **late),
                self._task("clean", "late", trigger_rule="all_done"),
            ]
        }

    def _long(self) -> dict[str, Any]:
        """They run while agents come and go, each with its own answer to that."""
        limit = f"{DISCONNECT_LIMIT_S:g}s"
        away = {
            "fenced": {},
            "continued": {"on_disconnect": "continue", "disconnect_limit": limit},
            "overlapping": {"on_disconnect": "retry", "disconnect_limit": limit},
        }
        works = {"fenced": 4_000, "continued": 10_000, "overlapping": 6_000}
        tasks = [self._task(name, work_ms=works[name], **more) for name, more in away.items()]
        stubborn = self._task("stubborn", work_ms=3_000, manners=("stubborn",))
        return {"tasks": [*tasks, stubborn, self._task("last", *away, "stubborn")]}

    def _enduring(self) -> dict[str, Any]:
        limit = f"{DISCONNECT_LIMIT_S:g}s"
        continued = {"on_disconnect": "continue", "disconnect_limit": limit}
        names: dict[str, dict[str, Any]] = {
            "fenced": {},
            "once": {"idempotent": False},
            "continued": continued,
        }
        return {"tasks": [self._task(name, work_ms=18_000, **more) for name, more in names.items()]}

    def _precious(self) -> dict[str, Any]:
        """Nobody may run them again but a person."""
        works = (200, 1_500, 3_000)
        tasks = [
            self._task(f"once{place}", work_ms=work_ms, idempotent=False)
            for place, work_ms in enumerate(works)
        ]
        return {"tasks": [*tasks, self._task("last", "once0", "once1", "once2")]}

    def _tick(self) -> dict[str, Any]:
        """Due by the clock, not by a client."""
        return {
            "schedules": [{"schedule": "often", "interval": f"{TICK_S}s"}],
            "tasks": [self._task("first"), self._task("second", "first", work_ms=100)],
        }


def dag_id(shape: str, copy: int) -> str:
    return f"{shape}-{copy}"
