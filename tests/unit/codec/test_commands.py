from __future__ import annotations

import pytest

from controlplane.codec import commands
from controlplane.codec.dag import compile_version
from controlplane.codec.errors import CodecError
from controlplane.core.events import ApplyDag, CancelRun, DecideApproval, PauseDag, TriggerRun
from controlplane.core.types import DagKey
from tests.unit.codec.test_dag import spec_of, task_of

RUN = bytes(range(16))
DIGEST = bytes(32)
KEY = DagKey("t", "d")


@pytest.mark.parametrize(
    ("body", "event"),
    [
        (commands.trigger_run("d", RUN, 5), TriggerRun(7, KEY, RUN, 5)),
        (commands.cancel_run("d", RUN, "why"), CancelRun(7, KEY, RUN, "why")),
        (commands.pause_dag("d", "why", paused=True), PauseDag(7, KEY, True, "why")),
        (commands.pause_dag("d", "", paused=False), PauseDag(7, KEY, False, "")),
        (
            commands.decide_approval("d", RUN, "a", "why", approved=True),
            DecideApproval(7, KEY, RUN, "a", True, "why"),
        ),
        (
            commands.decide_approval("d", RUN, "a", "no", approved=False),
            DecideApproval(7, KEY, RUN, "a", False, "no"),
        ),
    ],
)
def test_a_body_becomes_its_event(body: bytes, event: commands.CommandEvent) -> None:
    command = commands.parse_command(body)
    assert commands.wanted_version("t", command) is None
    assert commands.command_event(7, "t", command) == event


def test_an_application_wants_its_version() -> None:
    version = compile_version("t", spec_of(task_of("a")), DIGEST)
    command = commands.parse_command(commands.apply_dag("d", DIGEST, "3"))
    assert commands.wanted_version("t", command) == ("t", "d", DIGEST)
    assert commands.command_event(7, "t", command, version) == ApplyDag(7, version, "3")


def test_an_application_without_its_version_is_refused() -> None:
    command = commands.parse_command(commands.apply_dag("d", DIGEST, ""))
    with pytest.raises(CodecError, match="no version 0000"):
        commands.command_event(7, "t", command)


@pytest.mark.parametrize(
    "body", [b"", commands.trigger_run("d", b"short", 1), commands.cancel_run("d", b"", "")]
)
def test_what_is_no_command_is_refused(body: bytes) -> None:
    with pytest.raises(CodecError):
        commands.command_event(1, "t", commands.parse_command(body))


def test_bytes_that_are_no_message_are_refused() -> None:
    with pytest.raises(CodecError, match="cannot be read"):
        commands.parse_command(b"\xff\xff")
