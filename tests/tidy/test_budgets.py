"""Functions, files and classes stay within their budgets; the tail is what goes wrong."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from statistics import median

import pytest

from tests.tidy.sources import Source, expect_none, product, sample, sources

FUNCTION_MEDIAN = 10
FUNCTION_NINE_OF_TEN = 40
FUNCTION_MOST = 60
FILE_MOST = 700
CLASS_LINES_MOST = 500
CLASS_METHODS_MOST = 25

Function = ast.FunctionDef | ast.AsyncFunctionDef


def is_docstring(statement: ast.stmt) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def code_lines(source: Source, function: Function) -> int:
    """Lines from `def` to the end, without the docstring, comments and empty lines."""
    first, last = function.lineno, function.end_lineno or function.lineno
    skipped: range = range(0)
    if is_docstring(function.body[0]):
        skipped = range(function.body[0].lineno, (function.body[0].end_lineno or 0) + 1)
    lines = source.text.splitlines()
    counted = [lines[n - 1].strip() for n in range(first, last + 1) if n not in skipped]
    return sum(1 for line in counted if line and not line.startswith("#"))


def functions(source: Source) -> Iterator[tuple[str, int]]:
    for node in ast.walk(source.tree):
        if isinstance(node, Function):
            yield f"{source.path}:{node.lineno} {node.name}", code_lines(source, node)


def lengths(files: list[Source]) -> list[int]:
    return sorted(size for source in files for _, size in functions(source))


def oversized(source: Source) -> Iterator[str]:
    for name, size in functions(source):
        if size > FUNCTION_MOST:
            yield f"{name}: {size} lines, at most {FUNCTION_MOST}"
    if (size := len(source.text.splitlines())) > FILE_MOST:
        yield f"{source.path}: {size} lines, at most {FILE_MOST}"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef):
            yield from oversized_class(source, node)


def oversized_class(source: Source, node: ast.ClassDef) -> Iterator[str]:
    methods = sum(1 for part in node.body if isinstance(part, Function))
    size = (node.end_lineno or node.lineno) - node.lineno + 1
    if methods > CLASS_METHODS_MOST:
        yield f"{source.path} {node.name}: {methods} methods, at most {CLASS_METHODS_MOST}"
    if size > CLASS_LINES_MOST:
        yield f"{source.path} {node.name}: {size} lines, at most {CLASS_LINES_MOST}"


def broken_shares(sizes: list[int]) -> Iterator[str]:
    if median(sizes) > FUNCTION_MEDIAN:
        yield f"median function {median(sizes)} lines, at most {FUNCTION_MEDIAN}"
    if (most := sizes[math.ceil(len(sizes) * 0.9) - 1]) > FUNCTION_NINE_OF_TEN:
        yield f"nine of ten functions reach {most} lines, at most {FUNCTION_NINE_OF_TEN}"


def test_nothing_is_oversized() -> None:
    expect_none(found for source in sources() for found in oversized(source))


def test_most_functions_of_the_product_are_short() -> None:
    expect_none(broken_shares(lengths(product())))


def test_most_functions_of_the_tests_are_short() -> None:
    tests = [source for source in sources() if source.is_test]
    expect_none(broken_shares(lengths(tests)))


def body(lines: int, indent: str = "    ") -> str:
    return f"{indent}x = 1\n" * lines


def test_docstring_comments_and_empty_lines_do_not_count() -> None:
    text = 'def f():\n    """One.\n\n    Two.\n    """\n\n    # why\n    return 1\n'
    assert lengths([sample(text)]) == [2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def f():\n" + body(60), "61 lines, at most 60"),
        ("async def f():\n" + body(60), "61 lines, at most 60"),
        (body(701, ""), "701 lines, at most 700"),
        ("class C:\n" + "    def m(self): ...\n" * 26, "26 methods"),
        ("class C:\n" + body(500), "501 lines, at most 500"),
    ],
    ids=["function", "coroutine", "file", "methods", "class"],
)
def test_an_oversized_sample_is_found(text: str, words: str) -> None:
    assert any(words in found for found in oversized(sample(text)))


def test_a_sample_within_its_budget_passes() -> None:
    assert list(oversized(sample("def f():\n" + body(59)))) == []


def test_long_medians_and_long_tails_are_found() -> None:
    assert any("median" in found for found in broken_shares([11] * 10))
    assert any("nine of ten" in found for found in broken_shares([1] * 8 + [41] * 2))
    assert list(broken_shares([10] * 9 + [60])) == []
