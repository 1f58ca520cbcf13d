"""The settings of a node.

Decides what a node must be told and what each value may be. Promises that all problems are found at
once, each with the flag and the reason, and that no problem repeats a secret. Does not know what
the values are used for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from controlplane.core.graph.names import id_problem, shown
from controlplane.settings.etcd import ACCESS_FLAGS, EtcdAccess, etcd_problems, read_access
from controlplane.settings.files import file_problem, first_line

NANOS_PER_MS = 1_000_000
LOG_LEVELS = ("debug", "info", "warning")
# Durations of the protocol; how they must fit together is for those to say who keep them.
TIMES = ("heartbeat", "attempt-lease", "lease-grace", "lease-drift", "leader-lease")
_LAST_PORT = 65_535


class SettingsError(ValueError):
    """What is wrong with settings: (flag, reason) pairs."""

    def __init__(self, problems: tuple[tuple[str, str], ...]) -> None:
        super().__init__("; ".join(f"{flag} {reason}" for flag, reason in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """`listen`: host:port; `advertise`: the address that agents and other nodes are told. `etcd`:
    endpoints, host:port or https://host:port.

    `times_ms`: those of the protocol that were given, in milliseconds, by flag.
    """

    node: str
    cluster: str
    listen: str
    advertise: str
    etcd: tuple[str, ...]
    objects: str
    dsn: str = field(repr=False)
    token: str = field(repr=False)
    log_level: str = "info"
    times_ms: Mapping[str, int] = field(default_factory=dict)
    etcd_access: EtcdAccess = field(default_factory=EtcdAccess)


def parse_node_settings(given: Mapping[str, str]) -> NodeSettings:
    """Settings from flags by name (`listen`, `dsn-file`, …). Raises SettingsError."""
    texts = {
        name: given.get(name) or ""
        for name in (*_RULES, "etcd", *ACCESS_FLAGS, "advertise", *TIMES)
    }
    problems = tuple(_problems(texts))
    if problems:
        raise SettingsError(problems)
    return NodeSettings(
        node=texts["node"],
        cluster=texts["cluster"],
        listen=texts["listen"],
        advertise=texts["advertise"] or texts["listen"],
        etcd=tuple(texts["etcd"].split(",")),
        objects=texts["objects"],
        dsn=first_line(texts["dsn-file"]),
        token=first_line(texts["token-file"]),
        log_level=texts["log-level"],
        times_ms={name: _duration_ms(texts[name]) for name in TIMES if texts[name]},
        etcd_access=read_access(texts),
    )


def _problems(texts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, rule in _RULES.items():
        reason = rule(texts[name]) if texts[name] else "is missing"
        if reason:
            yield f"--{name}", reason
    yield from etcd_problems(texts)
    if texts["advertise"] and (reason := _address_problem(texts["advertise"])):
        yield "--advertise", reason
    for name in TIMES:
        reason = _duration_problem(texts[name]) if texts[name] else ""
        if reason:
            yield f"--{name}", reason


def _address_problem(text: str) -> str:
    host, _, port = text.rpartition(":")
    number = int(port) if port.isascii() and port.isdecimal() and len(port) <= 5 else 0
    if not host or not 0 < number <= _LAST_PORT:
        return f"{shown(text)} is not host:port"
    return ""


def _id_problem(text: str) -> str:
    return id_problem(text) or ""


def _url_problem(text: str) -> str:
    scheme, found, rest = text.partition("://")
    return "" if scheme and found and rest else f"{shown(text)} is not a URL"


def _duration_ms(text: str) -> int:
    """Milliseconds, rounded up; raises QuantityError."""
    # The package of definitions loads slowly, and most nodes are given no times.
    from mainspring.definition.quantities import parse_duration

    return -(-parse_duration(text.strip()) // NANOS_PER_MS)


def _duration_problem(text: str) -> str:
    from mainspring.definition.quantities import QuantityError

    try:
        return "" if _duration_ms(text) else "must be above 0"
    except QuantityError as error:
        return f"{error.message}; {error.hint}" if error.hint else error.message


def _level_problem(text: str) -> str:
    return "" if text in LOG_LEVELS else f"{shown(text)} is none of {', '.join(LOG_LEVELS)}"


_RULES: Mapping[str, Callable[[str], str]] = {
    "node": _id_problem,
    "cluster": _id_problem,
    "listen": _address_problem,
    "objects": _url_problem,
    "dsn-file": file_problem,
    "token-file": file_problem,
    "log-level": _level_problem,
}
