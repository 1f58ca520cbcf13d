"""What the doubles of the simulation promise, taken out: an invariant sees it in a story.

The rules of the production code are taken out by the patches of tests/mutants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from controlplane.core.effects import Writes
from controlplane.store.records import Fence
from tests.sim.cluster import Cluster
from tests.sim.invariants import ViolationError
from tests.sim.memory_store import MemoryStore, Transaction
from tests.sim.memory_store import plan as plan_batch
from tests.sim.supervisors import SimSupervisor
from tests.sim.test_survival import SEEDS, Scene, restart_after_spawn, stopped_leader

Patch = pytest.MonkeyPatch


class UnfencedStore(MemoryStore):
    """Writes whatever epoch it is asked for."""

    async def commit(self, fence: Fence, writes: Writes, *, settle: bool = False) -> bool:
        transaction = Transaction(self.database, fence.shard)
        plan_batch(transaction, fence, writes)
        self.database.apply(None, transaction.changes)
        return True


def the_store_fences(patch: Patch) -> None:
    patch.setattr(Cluster, "store_class", UnfencedStore)


def claims_are_checked(patch: Patch) -> None:
    patch.setattr(SimSupervisor, "_may_claim", lambda *_: True)
    welcome = SimSupervisor.welcome

    def say_nothing(self: SimSupervisor, connection: object, feed: Any) -> None:
        self._known = {}
        welcome(self, connection, feed)

    patch.setattr(SimSupervisor, "welcome", say_nothing)


@pytest.mark.parametrize(
    ("forget", "scene", "seen_by"),
    [
        (the_store_fences, Scene(stopped_leader), "I2"),
        (claims_are_checked, Scene(restart_after_spawn), "I4"),
    ],
)
def test_its_absence_is_seen(
    forget: Callable[[Patch], None], scene: Scene, seen_by: str, monkeypatch: pytest.MonkeyPatch
):
    forget(monkeypatch)
    found = []
    for seed in SEEDS:
        try:
            scene.told(seed)
        except ViolationError as error:
            found.append(str(error))
    assert any(seen_by in violation for violation in found)
