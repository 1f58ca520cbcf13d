"""The settings of an agent, from its command line.

Decides: what may be set, what is right, and what holds where nothing is said. Promises: all that is
wrong is reported together; a credential is read here once and never printed.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from agent.core.types import Amount

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class SettingsError(Exception):
    """Every error of a command line, one per line."""

    def __init__(self, errors: Sequence[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = tuple(errors)


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What one agent process was told."""

    name: str
    nodes: tuple[str, ...]
    token: str = field(repr=False)
    work: Path
    objects_url: str
    capacity: Amount
    labels: tuple[tuple[str, str], ...] = ()
    task_env: tuple[tuple[str, str | None], ...] = ()
    log_format: str = "auto"


def is_loopback(address: str) -> bool:
    """Whether host:port names this machine without asking anybody."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def machine_capacity() -> Amount:
    """The processors this process may run on and the memory of the machine."""
    return Amount(len(os.sched_getaffinity(0)) * 1000, psutil.virtual_memory().total)


def parse(argv: Sequence[str]) -> AgentSettings:
    """Reads a command line; raises SettingsError with everything that is wrong in it."""
    arguments = _parser().parse_args(argv)
    reader = _Reader()
    work = Path(arguments.work or ".").resolve()
    settings = AgentSettings(
        name=reader.name(arguments.name),
        nodes=reader.nodes(arguments.nodes),
        token=reader.token(arguments.token_file),
        work=reader.folder(arguments.work, work),
        objects_url=reader.objects(arguments.objects or f"file://{work / 'objects'}"),
        capacity=reader.capacity(arguments.capacity),
        labels=tuple(map(reader.label, arguments.label)),
        task_env=tuple(map(reader.variable, arguments.task_env)),
        log_format=arguments.log_format,
    )
    if reader.errors:
        raise SettingsError(reader.errors)
    return settings


@dataclass(frozen=True, slots=True)
class JournalCommand:
    """`journal show`: print the journal in a work folder, or one that was put aside."""

    path: Path
    as_json: bool


def parse_journal(argv: Sequence[str]) -> JournalCommand:
    """Reads what follows `journal` on a command line; ends the process with a usage text if it is
    wrong.
    """
    parser = argparse.ArgumentParser(prog="mainspring-agent journal")
    commands = parser.add_subparsers(required=True, metavar="show")
    show = commands.add_parser(
        "show", help="print what an agent has written down, also while it runs"
    )
    show.add_argument(
        "path",
        metavar="WORK",
        type=Path,
        help="folder that is given as --work, or a journal that was put aside in it",
    )
    show.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args(argv)
    return JournalCommand(arguments.path, arguments.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mainspring-agent run",
        description="Run tasks of a Mainspring cluster on this machine.",
        epilog="example: mainspring-agent run --name build-1 --nodes 127.0.0.1:7001 "
        "--token-file admin.token --work /var/lib/mainspring/build-1 | "
        "what an agent has written down: mainspring-agent journal show WORK",
    )
    add = parser.add_argument
    add("--name", help="name of the agent, unique in the cluster")
    add("--nodes", help="addresses of nodes, host:port[,host:port]; one is enough")
    add("--token-file", help="file that holds the token of the cluster")
    add("--work", help="folder of the agent: journal, supervisor, output that waits for its upload")
    add("--objects", help="where logs are kept, a URL (default: file://WORK/objects)")
    add("--capacity", help="what to offer, CPU[,MEMORY], e.g. 4,8G (default: the machine)")
    add("--label", action="append", default=[], help="NAME=VALUE, for placement; repeatable")
    add(
        "--task-env",
        action="append",
        default=[],
        help="NAME=VALUE for every task, or NAME to pass the agent's own on; repeatable",
    )
    add("--log-format", choices=("auto", "json", "console"), default="auto")
    return parser


class _Reader:
    """Reads single values and collects what is wrong with them."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def name(self, text: str | None) -> str:
        if text is None:
            self.errors.append("--name is missing")
        elif not NAME.fullmatch(text):
            self.errors.append(f"--name: {text!r} is not a name: letters, digits, '_', '.', '-'")
        return text or ""

    def nodes(self, text: str | None) -> tuple[str, ...]:
        if not text:
            self.errors.append("--nodes is missing")
            return ()
        return tuple(self._node(part.strip()) for part in text.split(","))

    def _node(self, address: str) -> str:
        host, _, port = address.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
            self.errors.append(f"--nodes: {address!r} is not host:port")
        elif not is_loopback(address):
            self.errors.append(f"--nodes: {address!r}: without TLS only loopback addresses")
        return address

    def token(self, path: str | None) -> str:
        if path is None:
            self.errors.append("--token-file is missing")
            return ""
        try:
            token = Path(path).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            self.errors.append(f"--token-file: cannot read {path}: {_reason(error)}")
            return ""
        if not token or not token.isascii() or not token.isprintable():
            self.errors.append(f"--token-file: {path} holds no token")
        return token

    def folder(self, given: str | None, folder: Path) -> Path:
        if given is None:
            self.errors.append("--work is missing")
            return folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self.errors.append(f"--work: cannot make {folder}: {_reason(error)}")
            return folder
        if not os.access(folder, os.W_OK | os.X_OK):
            self.errors.append(f"--work: {folder} is not writable")
        return folder

    def objects(self, url: str) -> str:
        if not re.match(r"[a-z][a-z0-9+.-]*://", url):
            self.errors.append(f"--objects: {url!r} is not a URL")
        return url

    def capacity(self, text: str | None) -> Amount:
        machine = machine_capacity()
        if text is None:
            return machine
        cpu, comma, memory = text.partition(",")
        try:
            cpu_millis = round(float(cpu) * 1000)
        except (ValueError, OverflowError):
            cpu_millis = 0
        size = MEMORY.fullmatch(memory.strip())
        memory_bytes = machine.memory_bytes
        if size is not None:
            memory_bytes = int(float(size[1]) * UNITS[size[2].upper()])
        if cpu_millis <= 0 or memory_bytes <= 0 or bool(comma) != bool(size):
            self.errors.append(f"--capacity: {text!r} is not CPU[,MEMORY], such as 4 or 2.5,8G")
        return Amount(cpu_millis, memory_bytes)

    def label(self, text: str) -> tuple[str, str]:
        name, separator, value = text.partition("=")
        if not separator or not NAME.fullmatch(name):
            self.errors.append(f"--label: {text!r} is not NAME=VALUE")
        return name, value

    def variable(self, text: str) -> tuple[str, str | None]:
        name, separator, value = text.partition("=")
        if not VARIABLE.fullmatch(name) or "\0" in value:
            self.errors.append(f"--task-env: {text!r} is not NAME or NAME=VALUE")
        return name, value if separator else None


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "it is not text"
