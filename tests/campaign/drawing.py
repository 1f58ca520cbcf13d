"""Draws the plots of a report as SVG, with nothing but text.

Decides sizes and colours. Does not know what is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

WIDTH, HEIGHT = 960, 280
LEFT, BELOW, ABOVE, RIGHT = 56, 36, 24, 12
_GRID = 4


def series(
    title: str,
    values: Sequence[float],
    shaded: Iterable[tuple[float, float]] = (),
    *,
    unit: str = "s",
) -> str:
    """A line over its places (one a `unit`), with spans shaded behind it."""
    last = max(len(values) - 1, 1)
    most = max([*values, 1])
    parts = _frame(title, most, [(0, "0"), (last, f"{last} {unit}")], last)
    for begin, end in shaded:
        left, right = (_x(min(max(each, 0), last), last) for each in (begin, end))
        parts.append(
            f'<rect x="{left:.1f}" y="{ABOVE}" width="{max(right - left, 0.5):.1f}"'
            f' height="{HEIGHT - ABOVE - BELOW}" fill="#d33" fill-opacity="0.12"/>'
        )
    points = " ".join(
        f"{_x(place, last):.1f},{_y(value, most):.1f}" for place, value in enumerate(values)
    )
    parts.append(f'<polyline points="{points}" fill="none" stroke="#26c" stroke-width="1"/>')
    return _document(parts)


def distribution(title: str, values: Iterable[float], *, unit: str = "s") -> str:
    """The share of values that are at most so large."""
    ordered = sorted(values)
    most = max([*ordered, 1e-9])
    parts = _frame(title, 1.0, [(0, "0"), (most, f"{most:.2f} {unit}")], most)
    points, below = [f"{_x(0, most):.1f},{_y(0, 1):.1f}"], 0.0
    for place, value in enumerate(ordered, start=1):
        share = place / len(ordered)
        points.append(f"{_x(value, most):.1f},{_y(below, 1):.1f}")
        points.append(f"{_x(value, most):.1f},{_y(share, 1):.1f}")
        below = share
    line = " ".join(points)
    parts.append(f'<polyline points="{line}" fill="none" stroke="#26c" stroke-width="1.5"/>')
    return _document(parts)


def _x(value: float, most: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * value / most


def _y(value: float, most: float) -> float:
    return HEIGHT - BELOW - (HEIGHT - ABOVE - BELOW) * value / most


def _frame(title: str, most: float, ticks: Iterable[tuple[float, str]], last: float) -> list[str]:
    parts = [f'<text x="{LEFT}" y="16" font-weight="bold">{escape(title)}</text>']
    for step in range(_GRID + 1):
        value = most * step / _GRID
        y = _y(value, most)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
        )
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value, text in ticks:
        anchor = "end" if value else "start"
        parts.append(
            f'<text x="{_x(value, last):.1f}" y="{HEIGHT - 14}" text-anchor="{anchor}">'
            f"{escape(text)}</text>"
        )
    return parts


def _document(parts: Iterable[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        f' width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">'
    )
    background = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
    return "\n".join((head, background, *parts, "</svg>\n"))
