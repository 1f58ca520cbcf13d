"""Nothing unfinished is kept: no reminders, no excuses from coverage, no tests that do not run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.tidy.sources import Source, expect_none, sample, sources, texts

# The brackets keep this file from finding itself.
REMINDERS = re.compile(r"\bTOD[O]\b|\bFIXM[E]\b|\bXX[X]\b|pragma: no[ ]cover")
UNFINISHED = "NotImplementedError"
NOT_RUN = {"skip", "skipif", "skipIf", "skipUnless", "skipTest", "xfail", "importorskip"}
LONGEST_SLEEP_S = 0.1


def reminders(path: str, text: str) -> list[str]:
    lines = enumerate(text.splitlines(), 1)
    return [f"{path}:{n} {line.strip()}" for n, line in lines if REMINDERS.search(line)]


def is_sleep(node: ast.expr) -> str:
    """`time`, `asyncio`, … when the expression names a sleep of that module; else empty."""
    if isinstance(node, ast.Attribute) and node.attr == "sleep":
        return node.value.id if isinstance(node.value, ast.Name) else ""
    return ""


def waits(call: ast.Call) -> bool:
    """True for a sleep that lets real time pass instead of waiting for a signal."""
    module = is_sleep(call.func)
    if module != "asyncio":
        return module == "time"
    seconds = call.args[0] if call.args else None
    short = isinstance(seconds, ast.Constant) and isinstance(seconds.value, int | float)
    return not short or seconds.value >= LONGEST_SLEEP_S  # type: ignore[union-attr]


def names(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Attribute):
        return {node.attr}
    if isinstance(node, ast.Name):
        return {node.id}
    if isinstance(node, ast.ImportFrom):
        return {alias.name for alias in node.names}
    return set()


def hollow(node: ast.AST) -> bool:
    """True for an assertion of a constant, which cannot fail."""
    return (
        isinstance(node, ast.Assert)
        and isinstance(node.test, ast.Constant)
        and bool(node.test.value)
    )


def leftovers(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        where = f"{source.path}:{getattr(node, 'lineno', 0)}"
        if UNFINISHED in names(node):
            yield f"{where} raises {UNFINISHED}"
        if hollow(node):
            yield f"{where} asserts a constant"
        if source.is_test:
            yield from (f"{where} {name}" for name in names(node) & NOT_RUN)
            if isinstance(node, ast.Call) and waits(node):
                yield f"{where} sleeps"
            if (
                isinstance(node, ast.ImportFrom)
                and node.module == "time"
                and "sleep" in names(node)
            ):
                yield f"{where} sleeps"


def test_no_reminder_is_left_in_any_text() -> None:
    expect_none(found for path, text in texts() for found in reminders(path, text))


def test_nothing_is_unfinished_or_skipped_and_no_test_sleeps() -> None:
    expect_none(found for source in sources() for found in leftovers(source))


@pytest.mark.parametrize("spaced", ["T O D O", "F I X M E", "X X X", "p r a g m a :_n o_c o v e r"])
def test_a_reminder_is_found(spaced: str) -> None:
    word = spaced.replace(" ", "").replace("_", " ")
    assert reminders("a.py", f"x = 1  # {word}\n") == [f"a.py:1 x = 1  # {word}"]


@pytest.mark.parametrize(
    "text",
    [
        "raise NotImplementedError",
        "assert True",
        "import time\ntime.sleep(0)",
        "from time import sleep",
        "import asyncio\nasyncio.sleep(0.1)",
        "import asyncio\nasyncio.sleep(delay)",
        "import pytest\npytest.skip('later')",
        "import pytest\n@pytest.mark.xfail\ndef test_x(): ...",
        "from pytest import importorskip",
    ],
)
def test_a_leftover_is_found(text: str) -> None:
    assert len(list(leftovers(sample(text, "tests/unit/test_sample.py")))) == 1


@pytest.mark.parametrize("text", ["import asyncio\nasyncio.sleep(0)", "clock.sleep(5)", "assert x"])
def test_signals_and_virtual_time_pass(text: str) -> None:
    assert list(leftovers(sample(text, "tests/unit/test_sample.py"))) == []
