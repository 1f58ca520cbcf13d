"""`up`: a whole cluster on this machine, from one folder, until Ctrl-C.

Decides the flags, what is printed where, and the exit code of each error: what runs where goes to
standard output, everything that happens later to standard error. Promises one sentence for a
foreseeable error. Does not know how the cluster is started and stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from mainspring.cli.exit_codes import ExitCode
from mainspring.cli.output import Table, print_tables, say

from controlplane.embedded import errors
from controlplane.embedded.cluster import EmbeddedCluster
from controlplane.embedded.folder import DataFolder
from controlplane.embedded.plan import (
    DEFAULT_PORT,
    DEFAULT_SHARDS,
    Capacity,
    ClusterSettings,
    LeaseFlags,
)

MOST_NODES = 64
MOST_SHARDS = 1_024
MOST_AGENTS = 1_000
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENDPOINT = re.compile(r"(?:https?://)?\[?[A-Za-z0-9_.:-]+\]?:[0-9]{1,5}")
_ETCD_FILES = ("etcd_ca", "etcd_cert", "etcd_key", "etcd_password_file")
_DSN = re.compile(r"postgres(?:ql)?://")
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_EXIT_CODES: tuple[tuple[type[errors.EmbeddedError], ExitCode], ...] = (
    (errors.AlreadyRunning, ExitCode.CONFLICT),
    (errors.PortTakenError, ExitCode.CONFLICT),
    (errors.ShardsFixedError, ExitCode.CONFLICT),
    (errors.StillRunningError, ExitCode.CONFLICT),
    (errors.FolderError, ExitCode.NOT_ALLOWED),
    (errors.ProgramMissingError, ExitCode.NOT_ALLOWED),
    (errors.UserMappingError, ExitCode.NOT_ALLOWED),
    (errors.EmbeddedError, ExitCode.UNREACHABLE),
)


def main(arguments: Sequence[str]) -> int:
    """Runs a cluster until a signal ends it; 0 after a clean stop."""
    settings = parse(arguments, os.environ)
    try:
        with DataFolder(settings.data) as folder:
            return asyncio.run(_run(settings, folder))
    except errors.EmbeddedError as error:
        say(f"error: {error}")
        return exit_code(error)


def exit_code(error: errors.EmbeddedError) -> ExitCode:
    return next(code for kind, code in _EXIT_CODES if isinstance(error, kind))


async def _run(settings: ClusterSettings, folder: DataFolder) -> int:
    begun_s = time.monotonic()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    cluster = EmbeddedCluster(settings, folder, os.environ, say)
    starting = asyncio.ensure_future(cluster.start())
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, _stop, stop, starting)
    try:
        await starting
    except asyncio.CancelledError:
        say("stopped before the cluster was ready")
        return ExitCode.INTERRUPTED
    try:
        _show(cluster, folder, time.monotonic() - begun_s)
        await cluster.serve(stop)
        say("stopping")
    finally:
        await cluster.stop()
    say("stopped")
    return ExitCode.OK


def _stop(stop: asyncio.Event, starting: asyncio.Future[None]) -> None:
    """Once the cluster serves, `stop` ends it; before that the start itself is given up."""
    if not stop.is_set():
        stop.set()
        starting.cancel()


def _show(cluster: EmbeddedCluster, folder: DataFolder, took_s: float) -> None:
    table = Table(("WHAT", "WHERE", "PROCESS"))
    for place in cluster.places():
        table.add(place.name, place.where, place.pid or "")
    table.add("logs", folder.logs, "")
    table.add("shards", cluster.shards, "")
    print_tables([table])
    print(f"ready in {took_s:.1f} s on {cluster.addresses[0]}. Ctrl-C stops it.", flush=True)


def parse(arguments: Sequence[str], environ: Mapping[str, str]) -> ClusterSettings:
    """The settings that a command line asks for; a wrong one ends the process with code 2."""
    parser = _parser()
    options = parser.parse_args(arguments)
    leases = LeaseFlags(options.heartbeat, options.attempt_lease)
    if problem := leases.problem():
        parser.error(problem)
    return ClusterSettings(
        data=options.data,
        nodes=options.nodes,
        shards=options.shards,
        agents=options.agents,
        dsn=options.dsn or _dsn_of(environ, parser),
        etcd=options.etcd,
        etcd_access=_etcd_access(options, parser),
        port=options.port,
        capacity=options.capacity,
        task_env=tuple(options.task_env),
        leases=leases,
    )


def _etcd_access(options: argparse.Namespace, parser: argparse.ArgumentParser) -> tuple[str, ...]:
    """Flags that nodes are given as they are; files by paths that do not depend on a folder."""
    found = {
        name: str(getattr(options, name).absolute() if getattr(options, name) else "")
        for name in _ETCD_FILES
    }
    found["etcd_user"] = options.etcd_user or ""
    given = {name.replace("_", "-"): text for name, text in found.items()}
    if not any(given.values()):
        return ()
    from controlplane.settings.etcd import etcd_problems

    if options.etcd is None:
        parser.error("--etcd is missing: who may use the embedded etcd is settled by `up`")
    for flag, reason in etcd_problems({"etcd": options.etcd, **given}):
        parser.error(f"{flag} {reason}")
    return tuple(word for name, text in given.items() if text for word in (f"--{name}", text))


def _dsn_of(environ: Mapping[str, str], parser: argparse.ArgumentParser) -> str | None:
    text = environ.get("MAINSPRING_DSN")
    if not text:
        return None
    try:
        return dsn(text)
    except argparse.ArgumentTypeError as error:
        parser.error(f"MAINSPRING_DSN: {error}")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in the words of the other commands."""

    def error(self, message: str) -> NoReturn:
        say(f"error: {message}")
        say(f"next:  {self.prog} --help")
        self.exit(ExitCode.USAGE)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="mainspring up",
        description="Start a local cluster and keep it up until Ctrl-C.",
        epilog="example: mainspring up --nodes 2 --shards 4 --agents 2 --data ./cluster",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--nodes", type=_number(1, MOST_NODES), default=1, help="control-plane processes")
    add(
        "--shards",
        type=_number(1, MOST_SHARDS),
        help=f"fixed when the cluster is made (default then: {DEFAULT_SHARDS})",
    )
    add("--agents", type=_number(0, MOST_AGENTS), default=1, help="agents on this machine")
    add("--data", type=Path, required=True, help="folder for all that the cluster keeps")
    add("--dsn", type=dsn, help="PostgreSQL to use (or MAINSPRING_DSN, which `ps` does not show)")
    add("--etcd", type=endpoints, help="etcd to use, [https://]HOST:PORT[,…]")
    add("--etcd-ca", type=Path, metavar="FILE", help="authority of etcd's certificates")
    add("--etcd-cert", type=Path, metavar="FILE", help="certificate that nodes show to etcd")
    add("--etcd-key", type=Path, metavar="FILE", help="its key")
    add("--etcd-user", metavar="NAME", help="user of etcd")
    add("--etcd-password-file", type=Path, metavar="FILE", help="file with that user's password")
    add("--port", type=_number(1, 65_535), default=DEFAULT_PORT, help="port of the first node")
    add("--capacity", type=capacity, help="CPU[,MEMORY] of each agent, such as 4,8GiB")
    add("--heartbeat", type=duration_ms, help="how often agents are heard, such as 1s")
    add("--attempt-lease", type=duration_ms, help="how long tasks outlive the last answer")
    add(
        "--task-env",
        type=variable,
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="a variable for all tasks; repeatable",
    )
    return parser


class _number:  # noqa: N801 - argparse calls it as a type
    """A whole number within limits."""

    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, most

    def __call__(self, text: str) -> int:
        if not text.isascii() or not text.isdecimal() or len(text) > 9:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
        number = int(text)
        if not self._least <= number <= self._most:
            raise argparse.ArgumentTypeError(f"{number} is not from {self._least} to {self._most}")
        return number


def capacity(text: str) -> Capacity:
    """CPU[,MEMORY]."""
    from mainspring.definition.quantities import QuantityError, parse_number, parse_size

    cpu_text, comma, memory_text = text.partition(",")
    try:
        cpu = parse_number(cpu_text.strip())
        memory_bytes = parse_size(memory_text.strip()) if comma else None
    except QuantityError as error:
        raise argparse.ArgumentTypeError(f"{error.message}. {error.hint}".strip()) from None
    if cpu < 0.001 or memory_bytes == 0:
        raise argparse.ArgumentTypeError(f"{text!r} leaves nothing to offer")
    return Capacity(cpu, memory_bytes)


def duration_ms(text: str) -> int:
    """Milliseconds of a duration such as 500ms or 6s."""
    from mainspring.definition.quantities import QuantityError, parse_duration

    try:
        return parse_duration(text.strip()) // 1_000_000
    except QuantityError as error:
        raise argparse.ArgumentTypeError(f"{error.message}. {error.hint}".strip()) from None


def variable(text: str) -> str:
    """NAME or NAME=VALUE."""
    if not _VARIABLE.fullmatch(text.partition("=")[0]):
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not NAME or NAME=VALUE")
    return text


def dsn(text: str) -> str:
    """A PostgreSQL URL. It is a secret: no message repeats it."""
    if not _DSN.match(text):
        raise argparse.ArgumentTypeError("a URL is expected, postgresql://USER@HOST/DATABASE")
    return text


def endpoints(text: str) -> str:
    """[https://]HOST:PORT, several separated by commas."""
    if not all(_ENDPOINT.fullmatch(each) for each in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not HOST:PORT[,HOST:PORT…]")
    return text
