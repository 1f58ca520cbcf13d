"""Wall clocks that are set under a running process; every other clock goes on as it was."""

import subprocess
import sys
import time

import pytest

from tests.campaign import clocks
from tests.campaign.clocks import WallClock

HOUR_S = 3_600.0
# Says the wall clock and the one since boot whenever it is asked, then how long it slept.
WITNESS = """
import sys, threading, time
for line in sys.stdin:
    print(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), flush=True)
begun = time.monotonic()
time.sleep(0.05)
threading.Event().wait(0.05)
print(time.monotonic() - begun)
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    return clocks.build(tmp_path_factory.mktemp("clocks"))


@pytest.fixture
def clock(library, tmp_path):
    return WallClock(library, tmp_path / "clock")


class Witness:
    """A process that says what time it is."""

    def __init__(self, clock):
        self._process = subprocess.Popen(
            [sys.executable, "-c", WITNESS],
            env=clock.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ahead_s(self):
        """By how much its wall clock is ahead; its clock since boot is that of everybody."""
        self._process.stdin.write("time\n")
        self._process.stdin.flush()
        wall, boot = map(float, self._process.stdout.readline().split())
        assert boot <= time.clock_gettime(time.CLOCK_BOOTTIME)
        assert time.clock_gettime(time.CLOCK_BOOTTIME) - boot < HOUR_S / 4
        return wall - time.time()

    def slept_s(self):
        """How long it slept, when asked for a tenth of a second."""
        said, _ = self._process.communicate()
        assert self._process.returncode == 0
        return float(said)


@pytest.mark.parametrize("step_s", [HOUR_S, -HOUR_S])
def test_a_clock_jumps_under_a_running_process_and_back(clock, step_s):
    witness = Witness(clock)
    assert abs(witness.ahead_s()) < HOUR_S / 4
    clock.set(step_s)
    assert abs(witness.ahead_s() - step_s) < HOUR_S / 4
    assert 0.1 <= witness.slept_s() < HOUR_S / 4


def test_a_clock_that_is_set_back_is_right_again(clock):
    witness = Witness(clock)
    clock.set(-HOUR_S)
    clock.set(0.0)
    assert abs(witness.ahead_s()) < HOUR_S / 4
    witness.slept_s()


def test_processes_with_clocks_of_their_own_do_not_disturb_each_other(library, tmp_path):
    first, second = (WallClock(library, tmp_path / name) for name in "ab")
    witness = Witness(second)
    first.set(HOUR_S)
    assert abs(witness.ahead_s()) < HOUR_S / 4
    witness.slept_s()


def test_without_a_compiler_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(clocks.CompilerMissingError, match=r"\.ci/setup campaign"):
        clocks.build(tmp_path)
