from __future__ import annotations

import pytest

from agent.core.entries import Assign
from agent.core.types import ExecSpec
from agent.runtime.environment import (
    DEFAULT_PATH,
    attempt_environment,
    base_environment,
    rfc3339,
)


def test_only_what_every_program_needs_is_passed_on():
    own = {"PATH": "/p", "LC_ALL": "C", "TZ": "UTC", "TOKEN": "x", "PYTHONPATH": "y"}
    assert base_environment(own, []) == {"PATH": "/p", "LC_ALL": "C", "TZ": "UTC"}


def test_the_operator_names_more():
    named = [("A", "1"), ("B", None), ("C", None)]
    assert base_environment({"B": "2"}, named) == {"PATH": DEFAULT_PATH, "A": "1", "B": "2"}


def test_what_mainspring_tells_cannot_be_overridden():
    spec = ExecSpec(("true",), env=(("MAINSPRING_RUN", "forged"), ("PATH", "/own")))
    assign = Assign(0, 1, 1, b"\1" * 16, b"i", run="r", spec=spec)
    seen = attempt_environment({"PATH": "/p"}, assign)
    assert (seen["PATH"], seen["MAINSPRING_RUN"]) == ("/own", "r")
    assert seen["MAINSPRING_ATTEMPT_ID"] == "01" * 16


@pytest.mark.parametrize(
    ("instant_us", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_700_000_000_000_001, "2023-11-14T22:13:20.000001Z"),
        (-1_000_000, "1969-12-31T23:59:59Z"),
    ],
)
def test_instants_are_written_in_utc(instant_us: int, text: str):
    assert rfc3339(instant_us) == text
