"""The checkers that mutants are shown to, from the most general one to the last resort.

Decides in which order, which of them run the changed code at all (the simulation has doubles for
some of it), how long each may take, and what counts as seeing a mutant: a seed or a test fails with
it, does so again, and does not without it. What does not end has failed. Does not know why a mutant
was made.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple, Protocol

from tests.mutants.copies import Copy

# About a second each on an idle core. A number and not a time: so the same is seen anywhere.
SEEDS = 30
SEEDS_MOST_S = 240
TESTS_MOST_S = 240
WIND_UP_S = 20
# Of pytest.
PASSED, NONE_LEFT = 0, 5
# So many tests that fail without the mutant too, or not each time, are passed over.
UNRELIABLE_MOST = 2
PYTEST = ("-m", "pytest", "-x", "-p", "no:cacheprovider", "--timeout=60", "--tb=no", "-rfE")

# What the simulation has doubles for, or does not start at all; but for some of it.
DOUBLED = (
    *("controlplane/store/", "controlplane/coordination/", "controlplane/api/"),
    *("agent/journal/file.py", "agent/journal/frames.py", "agent/journal/reading.py"),
    *("agent/supervisor/", "agent/runtime/", "agent/stream/streams.py", "agent/shell.py"),
)
NOT_DOUBLED = ("agent/supervisor/attempts.py",)
FAILURE_TABLE = ("tests/sim/test_failure_table.py", "tests/sim/test_survival.py")
# Suites against the real part, by what was changed: the first that fits.
CONTRACTS = (
    ("controlplane/store/", ("tests/contract/store",)),
    ("controlplane/coordination/", ("tests/contract/coordination",)),
    ("controlplane/", ("tests/contract/leader",)),
    ("agent/supervisor/", ("tests/system/test_supervisor.py", "tests/contract/agent")),
    ("agent/", ("tests/contract/agent",)),
)
CORES = ("controlplane/core/", "agent/core/")
STORIES = ("tests/property", "tests/golden")

_FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - (.*))?$", re.MULTILINE)
_SEED = re.compile(r"^seed (\d+)$", re.MULTILINE)


class Seen(NamedTuple):
    """What a checker saw of a mutant: a seed or a test, and what it said."""

    by: str
    why: str


class Unreliable(NamedTuple):
    """A seed or a test that fails without the mutant too, or not each time with it."""

    by: str
    why: str


class Ran(NamedTuple):
    """A program that ended, or was ended because it took too long."""

    status: int
    output: str
    ended: bool


class Checker(Protocol):
    """See Seeds and Suite."""

    @property
    def name(self) -> str: ...
    def look(self, mutated: Copy, intact: Copy) -> Seen | Unreliable | None: ...


@dataclass(frozen=True, slots=True)
class Seeds:
    """Random simulated clusters; a seed has one history, so once is enough."""

    name: str = "simulation"
    count: int = SEEDS

    def look(self, mutated: Copy, intact: Copy) -> Seen | Unreliable | None:
        ran = _run_seeds(mutated, "1", self.count)
        begun = _SEED.findall(ran.output)
        if ran.status == 0:
            return None
        seed = begun[-1] if begun else "1"
        if _run_seeds(intact, seed, 1).status:
            return Unreliable(f"seed {seed}", "it fails without the mutant too")
        told = ran.output.strip().splitlines()[-1] if ran.ended else "it does not end"
        return Seen(f"seed {seed}", told.removeprefix(f"seed {seed}: "))


def _run_seeds(copy: Copy, first: str, count: int) -> Ran:
    return run(("-m", "tests.mutants.seeds", first, str(count)), copy, SEEDS_MOST_S)


@dataclass(frozen=True, slots=True)
class Suite:
    """Tests, up to the first that fails."""

    name: str
    targets: tuple[str, ...]

    def look(self, mutated: Copy, intact: Copy) -> Seen | Unreliable | None:
        targets = [target for target in self.targets if (mutated.folder / target).exists()]
        found: Seen | Unreliable | None = None
        apart: list[str] = []
        while targets and len(apart) <= UNRELIABLE_MOST:
            seen = _run_tests(mutated, targets, apart)
            if seen is None:
                break
            found = _judged(seen, targets, mutated, intact)
            if isinstance(found, Seen) or not seen.by:
                break
            apart.append(seen.by)
        return found


def _judged(seen: Seen, targets: Sequence[str], mutated: Copy, intact: Copy) -> Seen | Unreliable:
    """Whether what failed once fails because of the mutant."""
    alone = [seen.by] if seen.by else targets
    if _run_tests(mutated, alone) is None:
        return Unreliable(seen.by, "it does not fail each time")
    if _run_tests(intact, alone) is not None:
        return Unreliable(seen.by, "it fails without the mutant too")
    return seen


def _run_tests(copy: Copy, targets: Sequence[str], apart: Sequence[str] = ()) -> Seen | None:
    ran = run((*PYTEST, *(f"--deselect={name}" for name in apart), *targets), copy, TESTS_MOST_S)
    if ran.ended and ran.status in {PASSED, NONE_LEFT}:
        return None
    if (failed := _FAILED.search(ran.output)) is not None:
        return Seen(failed[1], failed[2] or "")
    return Seen("", "the tests do not end" if not ran.ended else "the tests cannot be run")


def run(command: Sequence[str], copy: Copy, limit_s: float) -> Ran:
    """Runs a Python program in a copy. One that takes too long is asked to end, then killed."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=copy.folder,
        env={**copy.env, "COLUMNS": "250"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit_s)
        return Ran(process.returncode, output, ended=True)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    try:
        output, _ = process.communicate(timeout=WIND_UP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
    return Ran(process.returncode, output, ended=False)


def general(paths: Sequence[str]) -> list[Checker]:
    """For a written mutant: the most general ones first."""
    simulated = [p for p in paths if not p.startswith(DOUBLED) or p in NOT_DOUBLED]
    checkers: list[Checker] = [Seeds(), Suite("failure table", FAILURE_TABLE)] if simulated else []
    suites = dict.fromkeys(suite for path in paths for suite in contracts_of(path))
    if suites:
        checkers.append(Suite("contract", tuple(suites)))
    units = dict.fromkeys(unit_tests_of(path)[-1] for path in paths)
    return [*checkers, Suite("unit", tuple(units))]


def of_core(path: str) -> list[Checker]:
    """For a random mutant of a core: its own unit tests, all of its core, then stories."""
    own, every = unit_tests_of(path)
    return [Suite("its unit tests", (own,)), Suite("unit", (every,)), Suite("stories", STORIES)]


def contracts_of(path: str) -> tuple[str, ...]:
    """The suites that run a file against the real thing."""
    return next((suites for prefix, suites in CONTRACTS if path.startswith(prefix)), ())


def unit_tests_of(path: str) -> tuple[str, str]:
    """The unit tests of a module, and those of the component that it belongs to."""
    module = PurePosixPath(path.removeprefix("controlplane/"))
    parts = module.parts[:2] if module.parts[0] == "agent" else module.parts[:1]
    own = f"tests/unit/{module.parent}/test_{module.stem}.py"
    return own, "/".join(("tests/unit", *parts))
