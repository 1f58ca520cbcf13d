"""Knows what a wall clock shows at an instant, and when it first shows a given time.

Zones come from the pinned `tzdata` distribution alone, never from the machine's own files,
so that every node computes the same instants; `TZDATA_VERSION` is what a schedule records.
Unknown names are refused with the closest known ones. Reading a zone's file, once, is the
only contact with the outside. Seconds here are whole seconds since the epoch: of UTC (`t`),
or of the wall clock read as though it were UTC (`wall`).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from importlib import metadata, resources
from zoneinfo import ZoneInfo

from controlplane.core.time.errors import ZoneError

TZDATA_VERSION = metadata.version("tzdata")

_SECOND = timedelta(seconds=1)
_DAY_S = 86_400
# Two changes of a zone's offset have never been nearer to each other than six days; a probe
# every fourth day sees them all.
_PROBE_S = 4 * _DAY_S
_CHUNK_S = 384 * _DAY_S


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of constant offset: `start_s` ≤ t < `end_s`.

    `offset_before_s` held just before it; where the stretch begins for bookkeeping only, both
    offsets are equal.
    """

    start_s: int
    end_s: int
    offset_s: int
    offset_before_s: int


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """Every zone name of the pinned tz database."""
    return frozenset(resources.files("tzdata").joinpath("zones").read_text("utf-8").split())


@lru_cache(maxsize=1024)
def _load(name: str) -> ZoneInfo:
    with resources.files("tzdata.zoneinfo").joinpath(*name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def check_zone(name: str) -> None:
    """Raises `ZoneError`, with close names, unless `name` is in the tz database."""
    if name in zone_names():
        return
    by_folded = {known.casefold(): known for known in sorted(zone_names())}
    close = get_close_matches(name.casefold()[:64], by_folded, n=3, cutoff=0.6)
    matches = tuple(by_folded[folded] for folded in close)
    way_out = f"did you mean {', '.join(matches)}?" if matches else "use a name like Europe/Berlin"
    raise ZoneError(f"zone: {name[:64]!r} is not in the tz database; {way_out}", matches)


def _offset_at(zone: ZoneInfo, t: int) -> int:
    offset = zone.utcoffset(datetime.fromtimestamp(t, zone))
    assert offset is not None, zone
    return offset // _SECOND


def _change_between(zone: ZoneInfo, low: int, high: int) -> int:
    """The first second of the offset that holds at `high`, knowing that `low` has another."""
    before = _offset_at(zone, low)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_at(zone, middle) == before:
            low = middle
        else:
            high = middle
    return high


@lru_cache(maxsize=8192)
def _spans(name: str, chunk: int) -> tuple[list[int], list[Span]]:
    zone = _load(name)
    first, last = chunk * _CHUNK_S, (chunk + 1) * _CHUNK_S
    starts = [first]
    offsets = [_offset_at(zone, first - 1), _offset_at(zone, first)]
    for probe in range(first + _PROBE_S, last + 1, _PROBE_S):
        # `last` itself belongs to the next chunk, which sees it as its own first second.
        inside = min(probe, last - 1)
        offset = _offset_at(zone, inside)
        if offset != offsets[-1]:
            starts.append(_change_between(zone, probe - _PROBE_S, inside))
            offsets.append(offset)
    ends = [*starts[1:], last]
    spans = [
        Span(start, end, offset, before)
        for start, end, offset, before in zip(starts, ends, offsets[1:], offsets, strict=False)
    ]
    return starts, spans


def span_at(name: str, t: int) -> Span:
    """The stretch of constant offset of the zone around the UTC second `t`."""
    starts, spans = _spans(name, t // _CHUNK_S)
    return spans[bisect_right(starts, t) - 1]


def first_reach(name: str, wall: int) -> int:
    """The first UTC second at which the zone's clock shows `wall` or later.

    A repeated time is its first occurrence; a time inside a gap is the instant after the gap.
    """
    # Two days earlier no zone shows `wall` yet: offsets stay under 16 hours.
    t = wall - 2 * _DAY_S
    while True:
        span = span_at(name, t)
        if wall - span.offset_s < span.end_s:
            return max(span.start_s, wall - span.offset_s)
        t = span.end_s
