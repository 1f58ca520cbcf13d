"""What the kernel says of processes and of time.

Decides nothing. Promises: a process that is gone is answered with None, never with an error; one
is signalled only if it is still the one that was meant.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time

MARK = b"MAINSPRING_ATTEMPT_ID="
ENVIRON_MOST = 8 << 20
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class Stat:
    """What /proc/PID/stat says. `ticks`: the start, in clock ticks since the boot."""

    __slots__ = ("parent", "session", "state", "ticks")

    def __init__(self, state: str, parent: int, session: int, ticks: int) -> None:
        self.state = state
        self.parent = parent
        self.session = session
        self.ticks = ticks


def complain(text: str) -> None:
    """Leaves a line in the log; that the disk is full must not end anything."""
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode("utf-8", "replace"))


def boottime_ms() -> int:
    """Milliseconds since the boot, sleep of the machine included."""
    return boottime_ns() // 1_000_000


def boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def wall_us() -> int:
    return time.time_ns() // 1_000


def read(path: str, most: int) -> bytes | None:
    """The beginning of a file; None if it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        pieces = []
        while most > 0 and (piece := os.read(descriptor, min(most, 1 << 16))):
            pieces.append(piece)
            most -= len(piece)
        return b"".join(pieces)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def boot_id() -> str:
    return (read("/proc/sys/kernel/random/boot_id", 64) or b"").decode("ascii").strip()


def pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def stat(pid: int) -> Stat | None:
    text = read(f"/proc/{pid}/stat", 4096)
    if not text:
        return None
    # The name of the program stands in parentheses and may hold anything.
    fields = text[text.rindex(b")") + 2 :].split()
    return Stat(fields[0].decode("ascii"), int(fields[1]), int(fields[3]), int(fields[19]))


def start_ticks(pid: int) -> int:
    """The start of a process; 0: it is gone."""
    found = stat(pid)
    return found.ticks if found else 0


def ticks_of_new(pid: int, before_ns: int) -> int:
    """The start of a process that was spawned just now, after `before_ns`. The kernel counts in
    ticks of the same clock; it is asked only when one has passed (125 us during an exec).
    """
    before, after = before_ns // TICK_NS, boottime_ns() // TICK_NS
    return before if before == after else start_ticks(pid)


def attempt_of(pid: int) -> str:
    """The attempt that a process was started for, in hex, by its environment; empty: none."""
    environ = b"\0" + (read(f"/proc/{pid}/environ", ENVIRON_MOST) or b"")
    # The last one counts: a name may be given twice.
    at = environ.rfind(b"\0" + MARK)
    if at < 0:
        return ""
    return environ[at + 1 + len(MARK) :].partition(b"\0")[0].decode("ascii", "replace")


def kill(pid: int, ticks: int) -> int:
    """Kills the process that began at `ticks`. Answers its pidfd; -1: it is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except (OSError, ValueError):
        return -1
    if start_ticks(pid) != ticks or not pidfd_kill(descriptor):
        os.close(descriptor)
        return -1
    return descriptor


def pidfd_kill(descriptor: int) -> bool:
    """Whether there was something to kill that may be killed."""
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def wait_gone(descriptor: int, deadline_s: float) -> bool:
    """Whether the process of a pidfd has ended within this time."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0, round(deadline_s * 1_000))))


def signal_group(pid: int, number: int) -> None:
    """The group may be gone, or belong to another user by now: neither can be helped here."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return
