"""What must hold for the words between agents and nodes, judged as they are sent.

An agent answers a leader with its inventory, and has on disk before that in which epoch (else a
lower one is obeyed after a crash). A shard assigns to an agent only in a session, and in an epoch,
in which it was sent the inventory; and the agent answers and accepts nothing of an epoch below one
that it has answered. Nothing is stopped that is live in a run that goes on. Lost frames break their
streams, so what was sent on a stream has arrived when what was sent later arrives. Does not know
what becomes of a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from controlplane.core.states import RunState
from tests.sim.hosts import SimHost
from tests.sim.memory_store import Key, Row
from tests.sim.network import Link
from tests.sim.violation import ViolationError, hold


class Protocol:
    """A tap of the network. `wrong` is told the violations: they are of no node and no agent."""

    def __init__(
        self,
        hosts: Mapping[str, SimHost],
        tables: Mapping[str, Mapping[Key, Row]],
        wrong: Callable[[BaseException], None],
    ) -> None:
        self._hosts = hosts
        self._tables = tables
        self._wrong = wrong
        # Shard and epoch of the inventories that were sent on a stream.
        self._told: WeakKeyDictionary[Link, set[tuple[int, int]]] = WeakKeyDictionary()
        # In which epoch an attempt was assigned last on a stream.
        self._epochs: WeakKeyDictionary[Link, dict[bytes, int]] = WeakKeyDictionary()
        # The highest epoch that a host has answered, by incarnation and shard.
        self._highest: dict[tuple[str, bytes, int], int] = {}

    def tap(self, link: Link, frame: Any) -> float:
        """Looks at a frame and lets it pass."""
        try:
            if type(frame).__name__ == "SessionRequest":
                self._heard(link, frame)
            else:
                for assign in frame.assigns:
                    self._assign(link, assign)
                for cancel in frame.cancels:
                    self._cancel(link, cancel.attempt_id)
        except ViolationError as error:
            self._wrong(error)
        return 0.0

    def _heard(self, link: Link, frame: Any) -> None:
        agent = self._hosts[link.agent].agent
        assert agent is not None, "the dead send nothing"
        for accepted in frame.accepted:
            highest = self._highest.get((link.agent, agent.incarnation, accepted.shard), 0)
            epoch = self._epochs[link][accepted.attempt_id]
            name = f"{accepted.attempt_id.hex()} of epoch {epoch}"
            hold(epoch >= highest, "I2", f"{link.agent} accepts {name} after epoch {highest}")
        for inventory in frame.inventories:
            shard, epoch = inventory.shard, inventory.epoch
            self._told.setdefault(link, set()).add((shard, epoch))
            place = (link.agent, agent.incarnation, shard)
            highest = self._highest.get(place, 0)
            evidence = f"{link.agent} answers epoch {epoch} of shard {shard} after {highest}"
            hold(epoch >= highest, "I2", evidence)
            self._highest[place] = epoch
            kept = agent.durable_epoch(shard)
            evidence = f"{link.agent} answers epoch {epoch} of shard {shard}, on disk is {kept}"
            hold(kept >= epoch, "I2", evidence)

    def _assign(self, link: Link, assign: Any) -> None:
        self._epochs.setdefault(link, {})[assign.attempt_id] = assign.epoch
        told = (assign.shard, assign.epoch) in self._told.get(link, ())
        name = f"{assign.attempt_id.hex()} of epoch {assign.epoch}"
        evidence = f"{link.node} assigns {name} to {link.agent} without its inventory"
        hold(told, "I3", evidence)

    def _cancel(self, link: Link, attempt_id: bytes) -> None:
        live = [r for r in self._tables["attempt_live"].values() if r["attempt_id"] == attempt_id]
        for row in live:
            run = self._tables["run"][row["day"], row["run"]]
            goes_on = run["state"] == RunState.RUNNING
            hold(not goes_on, "I14", f"{link.node} cancels {row}, whose run goes on")
