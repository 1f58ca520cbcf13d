"""Makes values readable: states, moments, spans, sizes, and texts of unknown origin.

Promises: what leaves this module is printable, so that nothing a server or a file says can move a
cursor or hide a line.
"""

from __future__ import annotations

import datetime as dt
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

NOTHING = "-"


def printable(text: str, limit: int = 2_000) -> str:
    """The text with control characters as escapes (line feeds stay), cut to `limit` characters."""
    cut = text[:limit]
    escaped = "".join(
        each if each.isprintable() or each == "\n" else ascii(each)[1:-1] for each in cut
    )
    more = len(text) - limit
    return f"{escaped}… ({more} more characters)" if more > 0 else escaped


def one_line(text: str, limit: int = 200) -> str:
    """As `printable`, with line feeds as spaces."""
    return printable(text, limit).replace("\n", " ")


def state_word(enum_name: str, prefix: str) -> str:
    """`RUN_STATE_RUNNING` with prefix `RUN_STATE_` as `running`."""
    return enum_name.removeprefix(prefix).lower()


def moment(timestamp: Timestamp, *, known: bool = True) -> str:
    """A time in UTC, to the second; a dash when it is not known."""
    if not known:
        return NOTHING
    try:
        return timestamp.ToDatetime(tzinfo=dt.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (OverflowError, ValueError):
        return f"{timestamp.seconds} s"


def seconds_between(start: Timestamp, end: Timestamp) -> float:
    """Seconds from one time to another."""
    return (end.seconds - start.seconds) + (end.nanos - start.nanos) / 1e9


def elapsed(start: Timestamp) -> str:
    """How long something that goes on has taken until now, by the clock of this machine."""
    return f"{span(time.time() - start.seconds - start.nanos / 1e9)} so far"


def clock(moment_s: float) -> str:
    """The time of day in UTC, to the second."""
    return dt.datetime.fromtimestamp(moment_s, dt.UTC).strftime("%H:%M:%SZ")


def local_moment(iso: str) -> str:
    """A time with its own offset, in the form of `moment`; a text that is none stays as it is."""
    try:
        return dt.datetime.fromisoformat(iso).isoformat(" ", "seconds").replace("+00:00", "Z")
    except ValueError:
        return iso


def signal_word(number: int) -> str:
    """`SIGKILL (9)`; the bare number if it has no name here."""
    try:
        return f"{signal.Signals(number).name} ({number})"
    except ValueError:
        return f"signal {number}"


def span(seconds: float) -> str:
    """A length of time with two units at most."""
    if seconds < 60:
        return f"{max(seconds, 0):.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def size(count: int) -> str:
    """A number of bytes in the largest binary unit that keeps it at least 1."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def plural(count: int, noun: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
