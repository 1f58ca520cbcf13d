"""`mainspring up` and the `mainspring` command as real processes, for tests.

Promises that whatever a test does, no process of its cluster outlives it: every process that was
seen is named with the time of its start, so that no stranger with its number is meant. Supervisors
are seen as well, though they are children of nobody.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

import psutil
from mainspring.client.client import Client

from controlplane.embedded.etcd import free_ports

MAINSPRING = str(Path(sys.executable).with_name("mainspring"))
READY_DEADLINE_S = 60.0
STOP_DEADLINE_S = 30.0
COMMAND_DEADLINE_S = 60.0


def environment(data: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """That of the caller without settings of other clusters."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MAINSPRING_")}
    return {**kept, "MAINSPRING_DATA": str(data), **(more or {})}


def mainspring(
    data: Path, *arguments: str, env: Mapping[str, str] | None = None, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs one command of the real command line to its end."""
    return subprocess.run(
        [MAINSPRING, *arguments],
        env=environment(data, env),
        input=text,
        stdin=subprocess.DEVNULL if text is None else None,
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_DEADLINE_S,
    )


class Lines:
    """What a process prints, line by line, read by a thread so that it never blocks."""

    def __init__(self, stream: IO[str]) -> None:
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, args=(stream,))
        self._reader.start()

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self._add(line)
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _add(self, line: str) -> None:
        with self._changed:
            self._lines.append(line)
            self._changed.notify_all()

    def wait_for(self, pattern: str, deadline_s: float = READY_DEADLINE_S) -> str:
        """The first line that matches; fails when the process ends or time is up before."""

        def found() -> str | None:
            return next((line for line in self._lines if re.search(pattern, line)), None)

        with self._changed:
            self._changed.wait_for(lambda: found() is not None or self._ended, deadline_s)
            line = found()
        assert line is not None, f"no line like {pattern!r} in:\n{self.text}"
        return line

    @property
    def text(self) -> str:
        return "".join(self._lines)

    def join(self) -> None:
        self._reader.join(STOP_DEADLINE_S)


class Up:
    """One `mainspring up`. `start`, then `stop` or `kill`; `stop` may be called again."""

    def __init__(self, data: Path, *flags: str, port: int | None = None) -> None:
        self.data = data
        self.port = port or free_ports().client
        self._flags = flags
        self._process: subprocess.Popen[str] | None = None
        self._seen: dict[int, psutil.Process] = {}
        self.out: Lines
        self.err: Lines

    def start(self) -> None:
        """Starts it; returns at once."""
        argv = [MAINSPRING, "up", f"--port={self.port}", *self._flags]
        self._process = subprocess.Popen(
            argv,
            env=environment(self.data),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.out, self.err = Lines(self._process.stdout), Lines(self._process.stderr)

    def wait_ready(self) -> None:
        """Returns once it says that it is ready."""
        try:
            self.out.wait_for(r"^ready ")
        except AssertionError as error:
            self.stop(signal.SIGKILL)
            logs = sorted((self.data / "logs").glob("*.log"))
            tails = [f"--- {log.name}\n{log.read_text()[-3_000:]}" for log in logs]
            raise AssertionError("\n".join((str(error), self.err.text, *tails))) from None
        self.see()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def see(self) -> None:
        """Notes all processes that live now."""
        self._seen |= {each.pid: each for each in (psutil.Process(self.pid), *self.children())}

    def children(self) -> list[psutil.Process]:
        """All its processes that live now: its own, its supervisors, and what these started."""
        found = psutil.Process(self.pid).children(recursive=True)
        for supervisor in self.supervisors().values():
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile
                found += (supervisor, *supervisor.children(recursive=True))
        return found

    def supervisors(self) -> dict[str, psutil.Process]:
        """The supervisors that live now, by the names of their agents."""
        found = {}
        for file in self.data.glob("work/*/supervisor/pid"):
            with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
                pid, ticks, _boot_id = file.read_text("ascii").split()
                if start_ticks(int(pid)) == int(ticks):
                    found[file.parts[-3]] = psutil.Process(int(pid))
        return found

    def command_lines(self) -> list[str]:
        """Those of all its processes that live now."""
        return [" ".join(argv) for each in self.children() if (argv := command_line(each))]

    def child(self, name: str) -> psutil.Process:
        """The process of a node or an agent, by its name; one that was just begun is not yet told
        by its command line.
        """
        eventually(lambda: self._child(name) is not None)
        found = self._child(name)
        assert found is not None, f"{name} ended meanwhile"
        return found

    def _child(self, name: str) -> psutil.Process | None:
        for each in psutil.Process(self.pid).children(recursive=True):
            argv = command_line(each)
            if ("--node" in argv and argv[argv.index("--node") + 1] == name) or (
                "agent.main" in argv and argv[argv.index("--name") + 1] == name
            ):
                return each
        return None

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Sends a signal and waits; returns the exit status."""
        assert self._process is not None
        if self._process.poll() is None:
            with contextlib.suppress(psutil.Error):
                self.see()
            self._process.send_signal(number)
        status = self._process.wait(STOP_DEADLINE_S)
        self.out.join()
        self.err.join()
        return status

    def left(self) -> list[psutil.Process]:
        """Processes of it that still live, a moment being given to those that were just told."""
        return psutil.wait_procs(self._seen.values(), timeout=10)[1]

    def client(self) -> Client:
        return Client.open(data=self.data, environment={})


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since the boot."""
    text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    return int(text[text.rindex(")") + 2 :].split()[19])


def command_line(process: psutil.Process) -> list[str]:
    """The arguments of a process; none of one that has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):  # a zombie as well
        return list(process.cmdline())
    return []


def runs_anywhere(argument: str) -> bool:
    """Whether a process of this machine has an argument that contains some text."""
    return any(argument in word for each in psutil.process_iter() for word in command_line(each))


@contextlib.contextmanager
def running(data: Path, *flags: str, port: int | None = None) -> Iterator[Up]:
    """A cluster that is ready, and is stopped and gone afterwards."""
    up = Up(data, *flags, port=port)
    up.start()
    try:
        up.wait_ready()
        yield up
    finally:
        up.stop()
        left = up.left()
        for each in left:
            each.kill()
    assert left == []


def eventually(condition: Callable[[], bool], deadline_s: float = 30.0) -> None:
    """Returns once a fact that another process makes true is so."""
    pause, ends_s = threading.Event(), time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < ends_s, "it did not become so in time"
        pause.wait(0.02)
