"""A campaign from its first process to its last.

Decides how many rounds fit into the time, and that a violation ends the campaign: what would follow
proves nothing more, and would cover its traces. Promises an end in bounded time with all processes
gone, also after Ctrl-C or a mistake of ours, and that the folder of evidence is complete before the
servers go.
"""

from __future__ import annotations

import json
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from types import FrameType
from typing import Self, TypeAlias

from tests.campaign.checks import Violation
from tests.campaign.evidence import Evidence, Lines, boot_ns
from tests.campaign.faults import Fault
from tests.campaign.load import LoadProcess
from tests.campaign.plan import Planner
from tests.campaign.rounds import Rounds
from tests.campaign.site import End, Site, Size, opened
from tests.campaign.store_look import EpochWatch
from tests.system.parts import BEAT_S, DRIFT_S, GRACE_S, LEASE_S

# A round takes about so long; one that would not end in time is not begun.
ROUND_S = 75.0
TEND_S = 0.2
_SHARE = 9


@dataclass(frozen=True, slots=True)
class Plan:
    """What a campaign is asked to do. At least one round is made."""

    minutes: float
    seed: int
    kinds: Sequence[type[Fault]]
    size: Size = field(default_factory=Size)
    runs_per_s: float = 7.0
    enduring_runs: int = 6
    faults_of_round: int = 7
    faults_within_s: float = 25.0


@dataclass
class Outcome:
    """What is known so far; `void` rounds with their reasons."""

    rounds: int = 0
    void: dict[int, str] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)


# Finds violations in the evidence, given those that the campaign saw by itself.
Judge: TypeAlias = Callable[[Sequence[Violation]], Sequence[Violation]]


def run(evidence: Evidence, plan: Plan, judge: Judge, say: Callable[[Outcome], None]) -> Outcome:
    """Runs all of it; `say` is told after every round."""
    outcome = Outcome()
    ends_s = time.monotonic() + plan.minutes * 60.0
    with ended_by_signals(), ExitStack() as stack:
        site = stack.enter_context(opened(evidence, plan.size))
        describe(site, plan)
        load = LoadProcess(site, plan.runs_per_s, plan.enduring_runs, plan.seed)
        stack.callback(load.end)
        stack.enter_context(EpochWatch(site.dsn, evidence))
        tending = stack.enter_context(Tending(site))
        load.expect("prepare")
        rounds = Rounds(site, load)
        stack.callback(rounds.close)
        outcome.void = rounds.void
        planner, pace = Planner(site, plan.kinds, plan.seed), Pace()
        last = False
        while not (last or outcome.violations):
            outcome.rounds += 1
            faults = planner.round(plan.faults_of_round, plan.faults_within_s)
            seen = rounds.run(outcome.rounds, faults) + tending.unexpected(outcome.rounds)
            last = time.monotonic() + ROUND_S > ends_s
            with pace.of(bool(last or seen)) as due:
                outcome.violations += judge(seen) if due else []
            say(outcome)
    return outcome


class Pace:
    """All evidence is judged anew each time: as often as that costs a tenth of the time at most."""

    def __init__(self) -> None:
        self._judged_s = time.monotonic()
        self._took_s = 0.0

    @contextmanager
    def of(self, asked: bool) -> Iterator[bool]:
        """Whether it is time to judge, or asked for; what is done meanwhile is its cost."""
        begun_s = time.monotonic()
        due = asked or begun_s - self._judged_s >= _SHARE * self._took_s
        yield due
        if due:
            self._judged_s = time.monotonic()
            self._took_s = self._judged_s - begun_s


class Tending:
    """Starts parts again that end by themselves, and notes it."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lines = Lines(site.evidence.folder / "ends.jsonl")
        self._over = threading.Event()
        self._ends: list[End] = []
        self._thread = threading.Thread(target=self._tend, name="tending")

    def unexpected(self, number: int) -> list[Violation]:
        """Ends for which there was no reason, each told once."""
        ends, self._ends = self._ends, []
        return [
            Violation("end", f"{end.name}, round {number}", f"status {end.status}: {end.log}")
            for end in ends
            if not end.expected
        ]

    def _tend(self) -> None:
        while not self._over.wait(TEND_S):
            for end in self._site.tend():
                self._ends.append(end)
                self._lines.write(at_ns=boot_ns(), **asdict(end))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._lines.close()


def describe(site: Site, plan: Plan) -> None:
    """Writes what runs where."""
    about = {
        "dsn": site.dsn,
        "agents": {name: str(agent.work) for name, agent in site.agents.items()},
        "seed": plan.seed,
        "minutes": plan.minutes,
        "size": asdict(plan.size),
        "runs_per_s": plan.runs_per_s,
        "lease": {"lease_s": LEASE_S, "beat_s": BEAT_S, "grace_s": GRACE_S, "drift_s": DRIFT_S},
        "kinds": [kind.kind for kind in plan.kinds],
        "versions": {"mainspring-server": version("mainspring-server")},
        "machine": f"{platform.platform()}, Python {platform.python_version()}",
    }
    site.evidence.cluster.write_text(json.dumps(about, indent=1))


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM ends the campaign as Ctrl-C does: with everything cleaned up."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
