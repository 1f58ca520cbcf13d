"""Prints data to standard output and messages to standard error.

Decides: JSON is the proto3 JSON of the API's message, with its lowerCamelCase names (as every other
door of the server speaks it) and with fields that hold their default; YAML is the same document;
several messages follow each other. Tables are for people: columns may change, and colours appear on
a terminal only.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mainspring.cli.text import one_line

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from rich.text import Text

    from mainspring.cli.flags import Format

_COLOURS = {
    "succeeded": "green",
    "running": "cyan",
    "assigned": "cyan",
    "failed": "red",
    "upstream_failed": "red",
    "problem": "red",
    "cancelled": "yellow",
    "awaiting_approval": "yellow",
    "unknown": "yellow",
    "lost": "yellow",
    "warning": "yellow",
    "ok": "green",
    "paused": "yellow",
}
_WIDEST_CELL = 120
_WIDEST_FACT = 1_000


@dataclass(slots=True)
class Table:
    """Columns and rows for people; no column has a name in a list of facts about one thing."""

    columns: tuple[str, ...] = ()
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, *cells: object) -> None:
        """One more row."""
        widest = _WIDEST_CELL if self.columns else _WIDEST_FACT
        self.rows.append(tuple(one_line(str(cell), widest) for cell in cells))


def show(form: Format, messages: Sequence[Message], tables: Callable[[], Iterable[Table]]) -> None:
    """Prints the messages in a machine's form, or else the tables made of them."""
    if form == "table":
        print_tables(tables())
        return
    from google.protobuf.json_format import MessageToDict

    print_documents(
        form,
        [MessageToDict(each, always_print_fields_with_no_presence=True) for each in messages],
    )


def print_documents(form: Format, documents: Sequence[Any]) -> None:
    """Prints plain values as JSON documents, or as one YAML stream."""
    if form == "json":
        for document in documents:
            print(json.dumps(document, indent=2, ensure_ascii=False))
        return
    import yaml

    print(yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True), end="")


def print_json_line(message: Message) -> None:
    """Prints a message as one line of JSON, at once: for streams."""
    from google.protobuf.json_format import MessageToDict

    document = MessageToDict(message, always_print_fields_with_no_presence=True)
    print(json.dumps(document, ensure_ascii=False, separators=(",", ":")), flush=True)


def print_tables(tables: Iterable[Table]) -> None:
    """Prints tables with an empty line between them."""
    draw = _draw_rich if sys.stdout.isatty() else _draw_plain
    for number, table in enumerate(tables):
        if number:
            print()
        draw(table)


def say(text: str) -> None:
    """Prints a message to standard error."""
    print(text, file=sys.stderr, flush=True)


def _draw_plain(table: Table) -> None:
    lines = [table.columns, *table.rows] if table.columns else table.rows
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(padded).rstrip())


def _draw_rich(table: Table) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable

    drawn = RichTable(
        box=None, pad_edge=False, show_header=bool(table.columns), header_style="bold"
    )
    for column in table.columns or [""] * max(map(len, table.rows), default=0):
        drawn.add_column(column, overflow="fold")
    for row in table.rows:
        drawn.add_row(*(_coloured(cell) for cell in row))
    Console(file=sys.stdout, highlight=False).print(drawn)


def _coloured(cell: str) -> Text:
    from rich.text import Text

    return Text(cell, style=_COLOURS.get(cell, ""))
