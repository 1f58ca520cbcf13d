"""Each module of the pure cores has its own unit test file, at the mirrored path."""

from __future__ import annotations

import ast
from pathlib import PurePosixPath

from tests.tidy.sources import Source, expect_none, product, sample, tracked

CORES = ("controlplane/core/", "agent/core/")


def has_code(source: Source) -> bool:
    """False for package files that only re-export."""
    inert = (ast.Import, ast.ImportFrom, ast.Expr, ast.Assign, ast.AnnAssign)
    return not all(isinstance(statement, inert) for statement in source.tree.body)


def expected(path: str) -> set[str]:
    """Where the tests of a module may lie; the prefix `controlplane/` may be left out."""
    module = PurePosixPath(path)
    name = module.parent.name if module.stem == "__init__" else module.stem
    mirrored = (module.parent / f"test_{name}.py").as_posix()
    return {f"tests/unit/{mirrored}", f"tests/unit/{mirrored.removeprefix('controlplane/')}"}


def untested(modules: list[Source], files: set[str]) -> list[str]:
    cores = [source for source in modules if source.path.startswith(CORES) and has_code(source)]
    return [source.path for source in cores if not expected(source.path) & files]


def test_every_core_module_has_its_own_test_file() -> None:
    expect_none(untested(product(), set(tracked())))


def test_a_core_module_without_its_tests_is_found() -> None:
    wheel = sample("def tick(): ...", "controlplane/core/time/wheel.py")
    assert untested([wheel], {"tests/unit/core/time/test_cron.py"}) == [wheel.path]
    assert untested([wheel], {"tests/unit/core/time/test_wheel.py"}) == []
    assert untested([sample("import math", wheel.path)], set()) == []
