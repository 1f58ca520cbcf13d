"""Moments that processes of a cluster wrote into their logs.

Decides nothing. Lines that are not JSON (a crash, a warning of a library) are passed over.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """One line of a log: when it was written, in seconds since the epoch, and what it says."""

    at: float
    event: str
    fields: dict[str, Any]


def entries_of(text: str) -> list[Entry]:
    """All lines that can be read, in their order."""
    return [entry for line in text.splitlines() if (entry := _entry(line)) is not None]


def last(entries: Iterable[Entry], event: str) -> Entry:
    """The last entry of a kind; raises LookupError."""
    found = [entry for entry in entries if entry.event == event]
    if not found:
        raise LookupError(f"no {event} in the log")
    return found[-1]


def _entry(line: str) -> Entry | None:
    try:
        fields = json.loads(line)
        at = dt.datetime.fromisoformat(fields["timestamp"]).timestamp()
        return Entry(at, fields["event"], fields)
    except (ValueError, KeyError, TypeError):
        return None
