"""What can keep an embedded cluster from running, said so that a person knows what to do next.

Every error is typed, carries its facts as fields and ends its message with the way out. Nothing
here decides anything.
"""

from __future__ import annotations

from pathlib import Path


class EmbeddedError(Exception):
    """The embedded cluster cannot start or go on; the message names the way out."""


class FolderError(EmbeddedError):
    """A folder cannot be used as a data folder."""

    def __init__(self, path: Path, reason: str, advice: str) -> None:
        super().__init__(f"cannot use {path} as data folder: {reason}. {advice}")
        self.path = path
        self.reason = reason
        self.advice = advice


class NewerLayoutError(FolderError):
    """The folder was written by a newer Mainspring than this one."""

    def __init__(self, path: Path, found: int, known: int) -> None:
        super().__init__(
            path,
            f"it has layout {found}, this Mainspring knows layouts up to {known}",
            "Upgrade Mainspring, or pass --data with another folder.",
        )
        self.found = found
        self.known = known


class AlreadyRunning(EmbeddedError):  # noqa: N818 - a state of the world, not a failure
    """Another live process holds the data folder."""

    def __init__(self, path: Path, pid: int | None, address: str | None) -> None:
        who = "another process" if pid is None else f"process {pid}"
        where = "" if address is None else f" and serves {address}"
        super().__init__(
            f"a cluster already runs on {path}: {who} holds it{where}. "
            "Use that one, stop it with Ctrl-C, or pass --data with another folder."
        )
        self.path = path
        self.pid = pid
        self.address = address


class ProgramMissingError(EmbeddedError):
    """A binary that the embedded cluster needs is not installed, or is of a wrong version."""

    def __init__(self, program: str, reason: str, advice: str) -> None:
        super().__init__(f"cannot run {program}: {reason}. {advice}")
        self.program = program
        self.reason = reason


class UserMappingError(EmbeddedError):
    """PostgreSQL refuses to run as this user, and no other user can be lent to it."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"PostgreSQL refuses to run as this user, and a user namespace cannot be made: {reason}"
            ". Run as an ordinary user, allow user namespaces (kernel.unprivileged_userns_clone,"
            " or the seccomp profile of the container), or pass --dsn with your own PostgreSQL."
        )
        self.reason = reason


class ServerStartError(EmbeddedError):
    """An embedded server ended, or did not become ready in time; its last log lines are here."""

    def __init__(self, server: str, reason: str, log_file: Path, log_tail: str) -> None:
        lines = f" Its last lines:\n{log_tail}" if log_tail else ""
        super().__init__(f"{server} did not start: {reason}. See {log_file}.{lines}")
        self.server = server
        self.reason = reason
        self.log_file = log_file
        self.log_tail = log_tail


class StillRunningError(EmbeddedError):
    """A server of an earlier start is alive on the same folder and does not go away."""

    def __init__(self, server: str, folder: Path, pids: tuple[int, ...]) -> None:
        named = " ".join(str(pid) for pid in pids)
        super().__init__(
            f"{server} of an earlier start still runs on {folder} (process {named}). "
            f"Stop it with: kill -INT {named}"
        )
        self.folder = folder
        self.pids = pids


class NotStoppedError(EmbeddedError):
    """A child process outlived SIGKILL, which means that the kernel holds it."""

    def __init__(self, name: str, pid: int) -> None:
        super().__init__(
            f"{name} (process {pid}) does not end after SIGKILL: it is stuck in the kernel, "
            "most often on a disk or a network file system that does not answer."
        )
        self.pid = pid


class PortTakenError(EmbeddedError):
    """No port for a node: the asked one is in use, or none is free above it."""

    def __init__(self, port: int) -> None:
        super().__init__(
            f"port {port} is in use, or no port above it is free for the other nodes. "
            "Pass --port with a free one, or stop the program that listens there."
        )
        self.port = port


class ProcessStartError(EmbeddedError):
    """A node or an agent ended before the cluster was ready; its last log lines are here."""

    def __init__(self, process: str, reason: str, log_file: Path, log_tail: str) -> None:
        lines = f" Its last lines:\n{log_tail}" if log_tail else ""
        super().__init__(f"{process} did not start: {reason}. See {log_file}.{lines}")
        self.process = process


class NotReadyError(EmbeddedError):
    """The processes run, but the cluster does not become ready; `missing` says what it lacks."""

    def __init__(self, deadline_s: float, missing: str, logs: Path) -> None:
        super().__init__(
            f"the cluster is not ready after {deadline_s:g} s: {missing}. See the logs in {logs}."
        )
        self.missing = missing


class ShardsFixedError(EmbeddedError):
    """The store was made with another number of shards."""

    def __init__(self, found: int, asked: int) -> None:
        super().__init__(
            f"this cluster has {found} shards, not {asked}: their number is fixed when it is made. "
            "Leave --shards out, or pass --data with another folder."
        )
        self.found = found
        self.asked = asked


class BackendError(EmbeddedError):
    """The PostgreSQL or the etcd of `--dsn` or `--etcd` cannot be used."""
