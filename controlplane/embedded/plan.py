"""What an embedded cluster consists of: its processes, their names, ports and command lines.

Decides who is called what, which port a node gets, and which share of the machine an agent offers.
Promises that no command line holds a secret: tokens and DSNs are named by their files, values of
task variables travel in the environment. Starts nothing, and does not know what a node or an agent
does with what it is told.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from controlplane.embedded.errors import PortTakenError
from controlplane.embedded.etcd import is_free
from controlplane.embedded.folder import DataFolder
from controlplane.embedded.process import Command

HOST = "127.0.0.1"
DEFAULT_PORT = 7070
DEFAULT_SHARDS = 4
CLUSTER = "local"
# An agent below one core could never take a task that does not say how small it is.
LEAST_CPU = 1.0
BEATS_PER_LEASE = 6
LEAST_BEAT_MS = 100
LEAST_LEASE_MS = 1_000
# What nodes keep to when they are told nothing, and what they accept; a test holds the two equal,
# so that `up` need not import what only nodes need.
HEARTBEAT_MS = 5_000
ATTEMPT_LEASE_MS = 120_000
LONGEST_ATTEMPT_LEASE_MS = 86_400_000
LEAST_GRACE_MS, LEASE_GRACE_MS = 2_000, 10_000
_LAST_PORT = 65_535
# What a process needs to find programs, its home and its language; anything else is asked for.
_PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR")


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one agent offers; memory None: its part of the machine."""

    cpu: float
    memory_bytes: int | None = None

    def __str__(self) -> str:
        cpu = f"{self.cpu:g}"
        return cpu if self.memory_bytes is None else f"{cpu},{self.memory_bytes}"


@dataclass(frozen=True, slots=True)
class LeaseFlags:
    """How often agents are heard and how long they may not be; None: what nodes choose."""

    heartbeat_ms: int | None = None
    attempt_lease_ms: int | None = None

    def problem(self) -> str:
        """Why nodes would refuse them; empty when they would not."""
        beat_ms, lease_ms = self.heartbeat_ms, self.attempt_lease_ms
        if beat_ms is not None and beat_ms < LEAST_BEAT_MS:
            return f"--heartbeat must not be below {LEAST_BEAT_MS} ms"
        if lease_ms is not None and not LEAST_LEASE_MS <= lease_ms <= LONGEST_ATTEMPT_LEASE_MS:
            return f"--attempt-lease must be from {LEAST_LEASE_MS} ms to one day"
        if (beat_ms or LEAST_BEAT_MS) * 4 > (lease_ms or ATTEMPT_LEASE_MS):
            return "--attempt-lease must be at least four times --heartbeat"
        return ""

    def arguments(self) -> tuple[str, ...]:
        """Flags of a node. A lease that was asked for brings beats, grace and drift that fit it:
        those of the default lease, in proportion, and within what nodes accept.
        """
        times: dict[str, int] = {}
        if (lease_ms := self.attempt_lease_ms) is not None:
            times["--heartbeat"] = min(lease_ms // BEATS_PER_LEASE, HEARTBEAT_MS)
            times["--attempt-lease"] = lease_ms
            times["--lease-grace"] = min(max(lease_ms // 12, LEAST_GRACE_MS), LEASE_GRACE_MS)
            times["--lease-drift"] = max(lease_ms // 60, 100)
        if self.heartbeat_ms is not None:
            times["--heartbeat"] = self.heartbeat_ms
        return tuple(word for flag, ms in times.items() for word in (flag, f"{ms}ms"))


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """What `up` was asked for. `shards` None: those that the store has, or the default.

    `task_env` holds NAME or NAME=VALUE; `etcd_access`: more flags of a node for etcd. None in `dsn`
    and `etcd` means the embedded one.
    """

    data: Path
    nodes: int = 1
    shards: int | None = None
    agents: int = 1
    dsn: str | None = None
    etcd: str | None = None
    etcd_access: tuple[str, ...] = ()
    port: int = DEFAULT_PORT
    capacity: Capacity | None = None
    task_env: tuple[str, ...] = ()
    leases: LeaseFlags = LeaseFlags()


@dataclass(frozen=True, slots=True)
class Backends:
    """Where the servers are that nodes use: a file with the DSN, and the endpoints of etcd, with
    more flags of a node for etcd.
    """

    dsn_file: Path
    etcd: str
    etcd_access: tuple[str, ...] = ()


def node_addresses(settings: ClusterSettings) -> tuple[str, ...]:
    """The asked port for the first node, the next free ones for the others."""
    if not is_free(settings.port):
        raise PortTakenError(settings.port)
    ports = [settings.port]
    port = settings.port
    while len(ports) < settings.nodes:
        port += 1
        if port > _LAST_PORT:
            raise PortTakenError(settings.port)
        if is_free(port):
            ports.append(port)
    return tuple(f"{HOST}:{port}" for port in ports)


def machine() -> Capacity:
    """The cores that this process may use and the memory of the machine."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Capacity(float(len(os.sched_getaffinity(0))), memory_bytes)


def share(whole: Capacity, agents: int) -> Capacity:
    """An equal part of the machine for each agent, and never less than one core."""
    memory_bytes = None if whole.memory_bytes is None else whole.memory_bytes // agents
    return Capacity(max(whole.cpu / agents, LEAST_CPU), memory_bytes)


def objects_url(folder: DataFolder) -> str:
    """As nodes and agents read it: the path behind the scheme, with nothing escaped."""
    return f"file://{folder.objects}"


def node_command(
    folder: DataFolder,
    number: int,
    address: str,
    backends: Backends,
    env: Mapping[str, str],
    leases: LeaseFlags = LeaseFlags(),
) -> Command:
    """The command line of a node."""
    name = f"node-{number}"
    return _python(
        name,
        folder,
        env,
        "controlplane.cli",
        "node",
        *("--node", name),
        *("--cluster", CLUSTER),
        *("--listen", address),
        *("--dsn-file", str(backends.dsn_file)),
        *("--etcd", backends.etcd, *backends.etcd_access),
        *("--token-file", str(folder.admin_token_file)),
        *("--objects", objects_url(folder)),
        *leases.arguments(),
    )


def agent_command(
    folder: DataFolder,
    number: int,
    nodes: Iterable[str],
    settings: ClusterSettings,
    env: Mapping[str, str],
) -> Command:
    """The command line of an agent."""
    name = f"agent-{number}"
    capacity = settings.capacity or share(machine(), settings.agents)
    names, given = _variables(settings.task_env)
    return _python(
        name,
        folder,
        {**env, **given},
        "agent.main",
        *("--name", name),
        *("--nodes", ",".join(nodes)),
        *("--token-file", str(folder.admin_token_file)),
        *("--work", str(folder.work / name)),
        *("--objects", objects_url(folder)),
        *("--capacity", str(capacity)),
        *(word for variable in names for word in ("--task-env", variable)),
        passed=names,
    )


def end_supervisor_command(folder: DataFolder, agent: Command, env: Mapping[str, str]) -> Command:
    """What ends the supervisor that a dead agent left behind; it works in its folder."""
    supervisor = folder.work / agent.name / "supervisor"
    arguments = ("agent.supervisor", "--end", str(supervisor))
    command = _python(f"{agent.name} supervisor", folder, env, *arguments)
    return replace(command, cwd=supervisor, log_file=agent.log_file)


def _variables(task_env: Iterable[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The names of task variables, and the values of those that were given one."""
    parts = [each.partition("=") for each in task_env]
    names = dict.fromkeys(name for name, _, _ in parts)
    return tuple(names), {name: value for name, given, value in parts if given}


def _python(
    name: str,
    folder: DataFolder,
    env: Mapping[str, str],
    module: str,
    *arguments: str,
    passed: Iterable[str] = (),
) -> Command:
    """A module of ours under this interpreter; `-P` keeps the current folder off its path."""
    return Command(
        name=name,
        argv=(sys.executable, "-P", "-m", module, *arguments),
        env={key: env[key] for key in (*_PASSED_ON, *passed) if key in env},
        cwd=folder.path,
        log_file=folder.logs / f"{name}.log",
    )
