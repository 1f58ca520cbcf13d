from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from io import StringIO

import pytest
import structlog

from controlplane.telemetry.logs import configure_logs


@pytest.fixture
def out() -> Iterator[StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_line_is_an_object_without_secrets(out: StringIO) -> None:
    configure_logs(out=out)
    structlog.get_logger("n").info("began", token="s3cret", shard=3)
    line = json.loads(out.getvalue())
    assert line["event"] == "began"
    assert (line["token"], line["shard"], line["level"]) == ("[hidden]", 3, "info")


def test_libraries_log_the_same_way(out: StringIO) -> None:
    configure_logs(out=out, json=True)
    logging.getLogger("library").warning("late by %d s", 3)
    assert json.loads(out.getvalue())["event"] == "late by 3 s"


def test_an_exception_is_written_once_into_its_line(out: StringIO) -> None:
    configure_logs(out=out, json=True)
    try:
        raise ValueError("odd")
    except ValueError:
        structlog.get_logger("n").exception("failed")
    assert "ValueError: odd" in json.loads(out.getvalue())["exception"]


def test_levels_below_are_silent_and_people_get_words(out: StringIO) -> None:
    configure_logs("warning", json=False, out=out)
    structlog.get_logger("n").info("hidden")
    assert out.getvalue() == ""
    structlog.get_logger("n").warning("seen")
    assert "seen" in out.getvalue()
