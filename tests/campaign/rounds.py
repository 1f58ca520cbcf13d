"""One round: warm-up, faults while work runs, heal, drain, check.

Decides when load is proven, when a round is void, and how long each phase may take. A round without
load before its faults, or whose faults met no running attempt, proves nothing and is void. A phase
that does not end in its time is a violation with what is left, never a hang.
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import TypeVar

from tests.campaign.checks import Violation
from tests.campaign.evidence import Evidence, Ledger, Lines, boot_ns, read_lines
from tests.campaign.faults import Fault
from tests.campaign.load import LoadProcess
from tests.campaign.plan import Planned
from tests.campaign.shapes import DISCONNECT_LIMIT_S, LONGEST_PATH_S
from tests.campaign.site import Site
from tests.campaign.store_look import Undone, undone
from tests.system.parts import LOST_AFTER_TAKEOVER_S

WARM_UP_S = 30.0
LOADED_FOR_S = 3.0
# Attempts that must start in a second before anything is broken.
LOAD_PER_S = 5.0
HEAL_S = 60.0
# When faults stop, due work proceeds within the LOST period and 30 s; then it takes its own time.
DRAIN_S = LOST_AFTER_TAKEOVER_S + DISCONNECT_LIMIT_S + 30.0 + LONGEST_PATH_S
POLL_S = 0.5
Result = TypeVar("Result")


class Rounds:
    """Runs one round after the other and writes down what happened."""

    def __init__(self, site: Site, load: LoadProcess) -> None:
        self._site = site
        self._load = load
        self._evidence = site.evidence
        self._rounds = Lines(self._evidence.rounds)
        self._faults = Lines(self._evidence.faults)
        self._ledger = Ledger(self._evidence.ledger)
        self._over = threading.Event()
        # In force together are only faults that touch no part in common.
        self._parts: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._pool = ThreadPoolExecutor(16, thread_name_prefix="fault")
        self._broken: list[Violation] = []
        self._healed_s = 0.0
        self.void: dict[int, str] = {}

    def close(self) -> None:
        """Ends it in the middle too: what is broken is healed at once."""
        self._over.set()
        self._pool.shutdown()
        self._ledger.close()
        self._rounds.close()
        self._faults.close()

    def run(self, number: int, plan: Sequence[Planned]) -> list[Violation]:
        """A whole round; what it found."""
        self._broken = []
        since_ns = boot_ns()
        loaded = self._phase(number, "warm-up", self._warm_up)
        self._phase(number, "faults", lambda: self._break(number, plan))
        self._phase(number, "heal", lambda: self._heal(number))
        self._phase(number, "drain", lambda: self._drain(number))
        reason = void_reason(loaded, self._begins(number), self._ledger.spans(since_ns))
        if reason:
            self.void[number] = reason
            self._rounds.write(round=number, phase="void", void=reason)
        return self._broken

    def _phase(self, number: int, name: str, work: Callable[[], Result]) -> Result:
        began_ns = boot_ns()
        result = work()
        self._rounds.write(round=number, phase=name, began_ns=began_ns, ended_ns=boot_ns())
        return result

    def _warm_up(self) -> bool:
        """Whether attempts started at a good rate before the time was up."""
        self._load.tell("load")
        ends_s = time.monotonic() + WARM_UP_S
        while time.monotonic() < ends_s:
            before = self._ledger.started()
            self._over.wait(LOADED_FOR_S)
            if self._ledger.started() - before >= LOAD_PER_S * LOADED_FOR_S:
                return True
        return False

    def _break(self, number: int, plan: Sequence[Planned]) -> None:
        begun_s = time.monotonic()
        done = [self._pool.submit(self._one, number, each, begun_s) for each in plan]
        for each in done:
            each.result()

    def _one(self, number: int, planned: Planned, begun_s: float) -> None:
        fault = planned.fault
        if self._over.wait(max(0.0, begun_s + planned.begins_s - time.monotonic())):
            return
        with self._hands_on(fault):
            self._break_and_heal(number, fault)

    @contextmanager
    def _hands_on(self, fault: Fault) -> Iterator[None]:
        """Healing may take longer than was planned: whoever comes next to the same part waits."""
        with ExitStack() as held:
            for part in sorted(fault.touches):
                held.enter_context(self._parts[part])
            yield

    def _break_and_heal(self, number: int, fault: Fault) -> None:
        began_ns = boot_ns()
        try:
            fault.begin(self._site)
            self._over.wait(fault.lasts_s)
        finally:
            fault.heal(self._site)
            self._faults.write(
                round=number,
                kind=fault.kind,
                target=fault.target,
                began_ns=began_ns,
                healed_ns=boot_ns(),
                detail=fault.detail(),
            )

    def _heal(self, number: int) -> None:
        """Everything serves again, by itself."""
        self._healed_s = time.monotonic()
        ends_s = self._healed_s + HEAL_S
        while not self._site.ready():
            if time.monotonic() > ends_s:
                self._violate(number, f"not every part works {HEAL_S:g} s after the last fault")
                return
            self._over.wait(POLL_S)

    def _drain(self, number: int) -> None:
        """All that was asked for is over."""
        self._load.tell("drain")
        acknowledged = set(acknowledged_runs(self._evidence))
        ends_s = self._healed_s + DRAIN_S
        while not (left := undone(self._site.dsn, acknowledged)).nothing:
            if time.monotonic() > ends_s:
                self._violate(number, f"{DRAIN_S:g} s after the last fault: {left}")
                self._keep(number, left)
                return
            self._over.wait(POLL_S)

    def _keep(self, number: int, left: Undone) -> None:
        file = self._evidence.folder / f"undone-{number}.json"
        file.write_text(json.dumps(asdict(left), indent=1))

    def _violate(self, number: int, what: str) -> None:
        self._broken.append(Violation("I13", f"round {number}", what))

    def _begins(self, number: int) -> list[int]:
        """When the faults of a round began."""
        faults = read_lines(self._evidence.faults)
        return [fault["began_ns"] for fault in faults if fault["round"] == number]


def void_reason(loaded: bool, begins_ns: Sequence[int], spans: Sequence[tuple[int, int]]) -> str:
    """Why a round proves nothing; empty if it counts.

    `spans` are starts and ends of attempts that ended by themselves: of one that was killed nobody
    knows until when it ran.
    """
    if not loaded:
        return "no load before the faults"
    if not any(begun <= at < ended for at in begins_ns for begun, ended in spans):
        return "no attempt ran when a fault began"
    return ""


def acknowledged_runs(evidence: Evidence) -> Iterator[str]:
    """The runs whose trigger was answered."""
    for call in read_lines(evidence.clients):
        if call["call"] == "trigger" and call["outcome"] == "ok":
            yield call["run"]
