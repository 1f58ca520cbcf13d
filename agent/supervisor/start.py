"""How a supervisor comes to be, and how one is ended.

Decides: in a PID namespace where that can be had (tried, not guessed), else without. Before it
says anything, what an earlier one left behind is killed, as the machine sees it.

Promises: one supervisor per folder: the lock is held by every process of it, so a start that gets
it comes after the end of all others. `start` returns when the new one listens; it is a child of
nobody by then. `end` returns when nothing of the old one runs any more.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import time

from agent.supervisor import proc
from agent.supervisor.claims import Claims
from agent.supervisor.door import short_path
from agent.supervisor.protocol import PROTOCOL, frame
from agent.supervisor.supervisor import NAMESPACE, PROCESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

EXIT_LOCKED = 4
EXIT_FAILED = 1
LOG_MOST = 1 << 20
LEFTOVER_S = 5.0
MAIN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "__main__.py")
# Without the site packages: a third less to start and to keep in memory.
PYTHON = (sys.executable, "-I", "-S", "-X", "utf8", MAIN)
# What is mounted later is seen by tasks too.
PID_NAMESPACE = ("--pid", "--fork", "--mount-proc", "--propagation", "slave")
UNSHARE = ("unshare", *PID_NAMESPACE)
UNSHARE_AS_USER = ("unshare", "-U", "--map-current-user", *PID_NAMESPACE)
# A task can read the environment of its supervisor: no secret of the agent may be there.
PASSED_ON = ("PATH", "LD_LIBRARY_PATH")


def start(folder: str, containment: str, idle_ms: int) -> int:
    """Starts a supervisor; the exit code of whoever asked. `containment` empty: the best."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    lock = os.open(f"{folder}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"another supervisor lives in {folder}", file=sys.stderr)
        return EXIT_LOCKED
    kill_leftovers(Claims(f"{folder}/attempts"))
    prefix = () if containment == PROCESS else namespace_command()
    if containment == NAMESPACE and not prefix:
        print("PID namespaces are forbidden here", file=sys.stderr)
        return EXIT_FAILED
    kind = NAMESPACE if prefix else PROCESS
    ready, tells = os.pipe()
    if os.fork() == 0:
        inherited = (str(lock), str(tells))
        _become([*prefix, *PYTHON, "--inside", kind, str(idle_ms), *inherited, folder])
    os.close(lock)
    os.close(tells)
    told = os.read(ready, 1)
    os.close(ready)
    if told:
        return 0
    print(f"the supervisor did not start; see {folder}/log", file=sys.stderr)
    return EXIT_FAILED


def _become(command: list[str]) -> None:
    """The child: a session of its own, no descriptors but the lock and the one to tell by."""
    folder, lock, tells = command[-1], int(command[-3]), int(command[-2])
    try:
        os.setsid()
        log = f"{folder}/log"
        fresh = os.O_TRUNC if os.path.exists(log) and os.stat(log).st_size > LOG_MOST else 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | fresh
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(os.open(log, flags, 0o600), 1)
        os.dup2(1, 2)
        # Not all that start programs keep their own descriptors from them: uvloop does not.
        low, high = sorted((lock, tells))
        for first, end in ((3, low), (low + 1, high), (high + 1, os.sysconf("SC_OPEN_MAX"))):
            os.closerange(first, end)
        for descriptor in (lock, tells):
            os.set_inheritable(descriptor, True)
        env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        os.execvpe(command[0], command, env)
    finally:
        os._exit(EXIT_FAILED)


def namespace_command() -> Sequence[str]:
    """What starts a program as process 1 of a PID namespace; empty: nothing does here."""
    for command in (UNSHARE, UNSHARE_AS_USER) if os.geteuid() == 0 else (UNSHARE_AS_USER,):
        try:
            tried = subprocess.run(
                [*command, "true"], capture_output=True, check=False, timeout=LEFTOVER_S
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if tried.returncode == 0:
            return command
    return ()


def kill_leftovers(claims: Claims) -> None:
    """Kills what runs of attempts whose supervisor is gone: their groups, and whatever has their
    id in its environment; looks again until nothing is found.
    """
    claimed = claims.spawned()
    for pid, ticks in _first_processes(claimed):
        if proc.start_ticks(pid) == ticks:
            proc.signal_group(pid, signal.SIGKILL)
    deadline_s = time.monotonic() + LEFTOVER_S
    while claimed and time.monotonic() < deadline_s:
        killed = [_kill_if_of(pid, claimed) for pid in proc.pids() if pid != os.getpid()]
        left = [descriptor for descriptor in killed if descriptor >= 0]
        for descriptor in left:
            proc.wait_gone(descriptor, deadline_s - time.monotonic())
            os.close(descriptor)
        if not left:
            return


def _first_processes(claimed: dict[str, dict[str, Any]]) -> list[tuple[int, int]]:
    """Pids of attempts that ran without a namespace: others mean nothing here."""
    known = [found for found in claimed.values() if found["by"] == PROCESS and "pid" in found]
    return [(found["pid"], found["ticks"]) for found in known]


def _kill_if_of(pid: int, claimed: dict[str, dict[str, Any]]) -> int:
    """The pidfd of a killed process; -1: it is none of these attempts, or gone."""
    found = proc.stat(pid)
    if found is None or found.state in "ZX" or proc.attempt_of(pid) not in claimed:
        return -1
    return proc.kill(pid, found.ticks)


def end(folder: str, deadline_s: float) -> bool:
    """Ends the supervisor of a folder, kindly if it answers. Whether none runs now."""
    descriptor = _ask(folder)
    if descriptor < 0:
        descriptor = pidfd_of_file(f"{folder}/pid")
        if descriptor < 0:
            return True
        proc.pidfd_kill(descriptor)
    gone = proc.wait_gone(descriptor, deadline_s)
    if not gone:
        proc.pidfd_kill(descriptor)
        gone = proc.wait_gone(descriptor, deadline_s)
    os.close(descriptor)
    return gone


def _ask(folder: str) -> int:
    """Asks for the end. The pidfd of who was asked; -1: nobody listens."""
    asking = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_path(folder) as path:
            asking.connect(path)
        descriptor = os.pidfd_open(peer_pid(asking))
        asking.send(frame("hello", {"version": PROTOCOL}) + frame("end", {}))
    except (OSError, ValueError):
        return -1
    finally:
        asking.close()
    return descriptor


def peer_pid(sock: socket.socket) -> int:
    """The pid, as seen from here, of who listens at the other end; 0: it cannot be seen."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[0])


def pidfd_of_file(path: str) -> int:
    """The pidfd of the process that a pid file names; -1: that one is gone."""
    words = (proc.read(path, 4096) or b"").decode("ascii", "replace").split()
    if len(words) != 3 or not words[0].isdigit() or words[2] != proc.boot_id():
        return -1
    pid, ticks = int(words[0]), words[1]
    try:
        descriptor = os.pidfd_open(pid)
    except (OSError, ValueError):
        return -1
    if str(proc.start_ticks(pid)) != ticks:
        os.close(descriptor)
        return -1
    return descriptor
