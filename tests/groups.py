"""Runs the groups of tests one after the other and adds up what they said.

Decides: which folders form a group, how long a group may take, and that the pure cores are covered
completely by their own unit tests. Promises: every group runs even when an earlier one failed; the
last line printed is the sum; the exit status is 0 only if every test of every group passed, and a
hang ends. Does not know: what the tests are about.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parent.parent
COVERED = "controlplane/core,agent/core"
# The tests that must reach all of it; measuring slows down, so the others run without.
CORE_TESTS = ("tests/unit/core", "tests/unit/agent/core")


@dataclass(frozen=True, slots=True)
class Group:
    """Folders under `tests/` that run together, and the seconds they may take together.

    `apart`: folders inside them that belong to another group. `workers`: how many tests run at a
    time, where they mostly wait.
    """

    name: str
    folders: tuple[str, ...]
    limit_s: int
    apart: tuple[str, ...] = ()
    workers: int = 1


GROUPS = (
    Group("unit", ("unit", "property", "golden"), 60),
    Group("contract", ("contract",), 120, workers=2),
    Group("simulation", ("sim", "museum"), 120),
    Group("system", ("system", "integration"), 240, apart=("system/survival",)),
    Group("survival", ("system/survival",), 400, workers=2),
    Group("docs", ("docs", "tidy", "mutants"), 120),
)
# A loaded machine is slower than the one the limits were set on; beyond this it is a hang.
PATIENCE = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many tests of a run passed and failed; a run that could not be counted is one failure."""

    passed: int = 0
    failed: int = 0

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.passed + other.passed, self.failed + other.failed)


def present(group: Group) -> list[str]:
    """The folders of a group that hold tests."""
    folders = [f"tests/{name}" for name in group.folders]
    return [name for name in folders if any((ROOT / name).rglob("test_*.py"))]


def count(report: Path, status: int) -> Outcome:
    """Reads a JUnit report; a skipped test counts as failed, since none may be skipped."""
    try:
        suites = ET.parse(report).getroot().iter("testsuite")
    except (OSError, ET.ParseError):
        return Outcome(failed=1)
    total = failed = 0
    for suite in suites:
        total += int(suite.get("tests", "0"))
        failed += sum(int(suite.get(kind, "0")) for kind in ("failures", "errors", "skipped"))
    if status and not failed:
        failed = 1
    return Outcome(max(total - failed, 0), failed)


def run(command: list[str], limit_s: float) -> int:
    """Runs a command in its own process group; at the limit the whole group is killed."""
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        return process.wait(timeout=limit_s)
    except subprocess.TimeoutExpired:
        print(f"no end after {limit_s:.0f} s: killed", flush=True)
        return -1
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run_pytest(
    folders: list[str], limit_s: float, *, covered: bool = False, workers: int = 1
) -> Outcome:
    """One pytest over the folders, under branch coverage of the cores if asked."""
    measured = ["-m", "coverage", "run", "--branch", f"--source={COVERED}"] if covered else []
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch, "report.xml")
        junit = [f"--junitxml={report}", "-o", "junit_logging=no"]
        several = ["-n", str(workers)] if workers > 1 else []
        command = [sys.executable, *measured, "-m", "pytest", *junit, *several, *folders]
        return count(report, run(command, limit_s))


def covered_completely() -> Outcome:
    """The cores' own unit tests reach every line and branch of them; no other test counts."""
    command = ["-m", "coverage", "report", "--fail-under=100", "--skip-covered", "--show-missing"]
    status = run([sys.executable, *command], 60)
    return Outcome(failed=1) if status else Outcome(passed=1)


def run_group(group: Group) -> Outcome:
    """All tests of a group; those of the cores run by themselves because coverage is judged."""
    folders, limit_s = present(group), group.limit_s * PATIENCE
    outcome = Outcome()
    if "tests/unit" in folders:
        outcome += run_pytest(list(CORE_TESTS), limit_s, covered=True) + covered_completely()
        folders += [f"--ignore={name}" for name in CORE_TESTS]
    if folders:
        folders += [f"--ignore=tests/{name}" for name in group.apart]
        outcome += run_pytest(folders, limit_s, workers=group.workers)
    return outcome


def run_all(groups: Iterable[Group]) -> Outcome:
    """Every group in turn, each with a heading and the time it took against its limit."""
    outcome = Outcome()
    for group in groups:
        if not present(group):
            continue
        print(f"== {group.name} (at most {group.limit_s} s)", flush=True)
        started = time.monotonic()
        outcome += run_group(group)
        print(f"== {group.name}: {time.monotonic() - started:.1f} s", flush=True)
    return outcome


def main() -> None:
    """`python -m tests.groups [NAME …]`: all groups, or the named ones."""
    parser = argparse.ArgumentParser(description="Run the groups of tests and add them up.")
    names = [group.name for group in GROUPS]
    parser.add_argument("names", nargs="*", choices=[*names, []], help="groups to run")
    chosen = parser.parse_args().names or names
    outcome = run_all(group for group in GROUPS if group.name in chosen)
    print(f"{outcome.passed} passed, {outcome.failed} failed", flush=True)
    sys.exit(1 if outcome.failed or not outcome.passed else 0)


if __name__ == "__main__":
    main()
