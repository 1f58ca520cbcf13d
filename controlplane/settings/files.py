"""Files that hold one secret or one certificate each.

Decides what such a file may look like. Promises that no problem repeats what is in the file.
"""

from __future__ import annotations

from pathlib import Path

from controlplane.core.graph.names import shown


def first_line(path: str) -> str:
    """The text of a file of one line, without the spaces around it."""
    return Path(path).read_text(encoding="utf-8").strip()


def file_problem(path: str) -> str:
    """Why a file is not one line of text; empty if it is."""
    try:
        content = first_line(path)
    except (OSError, UnicodeDecodeError) as error:
        return f"{shown(path)} cannot be read: {getattr(error, 'strerror', None) or 'no text'}"
    if not content or len(content.splitlines()) > 1:
        return f"{shown(path)} must hold one line"
    return ""
