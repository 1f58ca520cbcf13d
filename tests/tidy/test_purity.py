"""Decisions are pure: the cores touch nothing outside, and only the shell reads the world.

The cores may import a short list of modules. Everywhere else clocks, random numbers and sockets are
read only in the packages listed in `SHELL`, so that the rest runs in virtual time from one seed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.tidy.sources import Source, expect_none, product, sample

CORES = ("controlplane/core/", "agent/core/")
CORE_IMPORTS = {
    *("__future__", "abc", "array", "bisect", "collections", "contextlib", "copy", "dataclasses"),
    "difflib",
    *("datetime", "decimal", "enum", "fractions", "functools", "hashlib", "heapq", "itertools"),
    *("math", "operator", "re", "string", "struct", "types", "typing", "unicodedata", "zoneinfo"),
    *("controlplane", "agent", "croniter", "json"),
}
# The data of time zones is read from a pinned package once; it is a constant, not an input.
CORE_EXCEPTIONS = {"controlplane/core/time/zone.py": "importlib"}
# `hash` of a string differs from process to process; the others are input and output.
CORE_CALLS = {"open", "print", "input", "hash", "exec", "eval", "breakpoint", "__import__"}

# Who may read the world, and why.
SHELL = {
    "agent/": "runs processes on a real machine (its core is checked above)",
    "controlplane/api/": "deadlines of calls and made-up ids of requests",
    "controlplane/cli/": "starts processes",
    "controlplane/coordination/": "leases are measured on the monotonic clock, pauses are jittered",
    "controlplane/embedded/": "boots servers on free ports",
    "controlplane/telemetry/": "stamps and measures",
    "clients/python/mainspring/": "runs at the user's terminal",
    "proto/": "runs at build time",
    "loadtest/": "measures",
    "docs/model/__main__.py": "measures how long a search takes",
    "examples/": "is run by people",
}
READS = {
    "time": {
        *("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"),
        *("clock_gettime", "clock_gettime_ns", "sleep", "process_time", "thread_time"),
    },
    "os": {"urandom", "getrandom"},
    "uuid": {"uuid1", "uuid4", "uuid6", "uuid7", "getnode"},
}
READ_MODULES = {"random", "secrets", "socket"}
CLOCK_METHODS = {"now", "utcnow", "today"}


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return []


def called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""


def impurities(source: Source) -> Iterator[str]:
    """What a core must not contain: other imports, input and output, coroutines."""
    for node in ast.walk(source.tree):
        where = f"{source.path}:{getattr(node, 'lineno', 0)}"
        for module in imported(node):
            allowed = CORE_IMPORTS | {CORE_EXCEPTIONS.get(source.path, "")}
            if module.split(".")[0] not in allowed:
                yield f"{where} imports {module}"
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield f"{where} waits"
        if isinstance(node, ast.Call) and called(node) in CORE_CALLS:
            yield f"{where} calls {called(node)}"


def reads(source: Source) -> Iterator[str]:
    """Clocks, random numbers, made-up ids and sockets that a file reads or takes hold of."""
    for node in ast.walk(source.tree):
        where = f"{source.path}:{getattr(node, 'lineno', 0)}"
        for module in imported(node):
            if module.split(".")[0] in READ_MODULES:
                yield f"{where} imports {module}"
        if isinstance(node, ast.ImportFrom):
            taken = {alias.name for alias in node.names} & READS.get(node.module or "", set())
            yield from (f"{where} takes {node.module}.{name}" for name in sorted(taken))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            yield from read_of(where, node)


def read_of(where: str, node: ast.Attribute) -> Iterator[str]:
    holder = node.value.id if isinstance(node.value, ast.Name) else node.value.attr  # type: ignore[attr-defined]
    if node.attr in READS.get(holder, set()):
        yield f"{where} reads {holder}.{node.attr}"
    if holder in {"datetime", "date"} and node.attr in CLOCK_METHODS:
        yield f"{where} reads {holder}.{node.attr}"


def in_core(source: Source) -> bool:
    return source.path.startswith(CORES)


def in_shell(source: Source) -> bool:
    return source.path.startswith(tuple(SHELL)) and not in_core(source)


def test_the_cores_are_pure() -> None:
    expect_none(found for source in product() if in_core(source) for found in impurities(source))


def test_only_the_shell_reads_clocks_random_numbers_and_sockets() -> None:
    held = [source for source in product() if not in_shell(source)]
    expect_none(found for source in held for found in reads(source))


@pytest.mark.parametrize(
    "text",
    [
        "import asyncio",
        "import logging",
        "import os.path",
        "from random import random",
        "async def f(): ...",
        "def f(path): return open(path)",
        "def f(name): return hash(name)",
    ],
)
def test_an_impurity_is_found(text: str) -> None:
    assert len(list(impurities(sample(text)))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "import time\nnow = time.monotonic()",
        "import time\ndef f(clock=time.time_ns): ...",
        "from time import perf_counter",
        "import random",
        "from secrets import token_bytes",
        "import socket",
        "import uuid\nname = uuid.uuid4()",
        "import os\nname = os.urandom(16)",
        "from datetime import datetime\nnow = datetime.now(None)",
        "import datetime\nnow = datetime.datetime.now(None)",
    ],
)
def test_a_read_of_the_world_is_found(text: str) -> None:
    assert len(list(reads(sample(text)))) == 1


def test_times_as_arguments_pass() -> None:
    text = "from datetime import datetime\nfrom uuid import UUID\ndef f(now: datetime): return now"
    assert [*impurities(sample("import math")), *reads(sample(text))] == []


def test_a_core_inside_the_shell_is_still_a_core() -> None:
    assert not in_shell(sample("", "agent/core/session.py"))
    assert in_shell(sample("", "agent/stream.py"))
