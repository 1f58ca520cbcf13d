"""Random mistakes: of each kind, in functions only, and nowhere where nothing would follow."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.copies import Copy
from tests.mutants.mistakes import chosen, mistakes


def made(body: str, head: str = "def f(x, y):") -> list[tuple[str, str]]:
    source = f"{head}\n    {body}\n"
    return [(found.kind, found.reads) for found in mistakes("a.py", source)]


@pytest.mark.parametrize(
    ("body", "kind", "reads"),
    [
        ("return x < y", "operator", "return (x <= y)"),
        ("return x is y", "operator", "return (x is not y)"),
        ("return x not in y", "operator", "return (x in y)"),
        ("return x + y", "operator", "return (x - y)"),
        ("x += y", "operator", "x -= y"),
        ("x += y", "statement", "pass"),
        ("return x and y", "operator", "return (x or y)"),
        ("return x[0]", "off by one", "return x[1]"),
        ("return True", "constant", "return False"),
        ("return min(x, y)", "call", "return max(x, y)"),
        ("return x if y else y", "condition", "return x if (not (y)) else y"),
        ("if x: return y", "condition", "if (not (x)): return y"),
        ("x.clear()", "statement", "pass"),
        ("x.a = y", "statement", "pass"),
        ("x[y] = y", "statement", "pass"),
    ],
)
def test_a_mistake_of_each_kind(body: str, kind: str, reads: str):
    assert (kind, reads) in made(body)


@pytest.mark.parametrize(
    "body",
    [
        '"""Says why."""',
        "assert x < 1",
        "assert x, 'no ' + y",
        "if TYPE_CHECKING: import a",
        "x: int | None",
        "_log.info('so', x=1)",
        "return f'{x + 1}'",
        "x = y",
    ],
)
def test_what_is_left_alone(body: str):
    assert made(body) == []


def test_what_is_outside_of_functions_is_left_alone():
    assert list(mistakes("a.py", "LIMIT = 1 + 2\nclass A:\n    x: int = 3\n")) == []
    assert made("return x", "def f(x: int | None, y: list[0]) -> 'a' | None:") == []


def test_the_function_is_named():
    source = "class A:\n    def f(self):\n        return 1\n"
    assert [(m.function, m.line, m.was) for m in mistakes("a.py", source)] == [("f", 3, "return 1")]


def test_a_mistake_is_a_patch(tmp_path: Path):
    source = "def f(x):\n    # ünïcode\n    return ('ü', x < 1)\n"
    (tmp_path / "a.py").write_text(source)
    operator = next(m for m in mistakes("a.py", source) if m.kind == "operator")
    with Copy(tmp_path).changed(operator.diff, ("a.py",)):
        assert (tmp_path / "a.py").read_text() == source.replace("x < 1", "(x <= 1)")


def test_a_seed_chooses_the_same_again():
    files = dict.fromkeys(("a.py", "b.py"), "def f(x):\n    return x + 1 - 2 * 3\n")
    once = chosen(files, 5, 4)
    assert chosen(dict(reversed(files.items())), 5, 4) == once
    assert chosen(files, 6, 4) != once
    assert len(set(once)) == 4
    assert len(chosen(files, 5, 1_000)) == len(list(mistakes("a.py", files["a.py"]))) * 2
