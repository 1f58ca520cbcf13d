"""Triggering, reading, following and cancelling runs; logs."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest
from mainspring.cli.exit_codes import ExitCode
from mainspring.cli.progress import LineProgress
from mainspring.v1 import run_pb2

from tests.unit.cli.conftest import Cli
from tests.unit.cli.fake_server import RUN, RUN_NAME, Script, at, final_run


def step(
    state: run_pb2.RunState.ValueType, *tasks: run_pb2.TaskInstance, done: int = 0, of: int = 2
) -> run_pb2.WatchRunResponse:
    counts = [
        run_pb2.TaskCount(state=run_pb2.TASK_STATE_SUCCEEDED, count=done),
        run_pb2.TaskCount(state=run_pb2.TASK_STATE_WAITING, count=of - done),
    ]
    run = run_pb2.Run(name=RUN_NAME, state=state, task_counts=counts)
    return run_pb2.WatchRunResponse(run=run, task_instances=tasks)


FAILED_TASK = run_pb2.TaskInstance(
    name=f"{RUN_NAME}/tasks/extract",
    state=run_pb2.TASK_STATE_FAILED,
    attempt_number=2,
    agent="agents/a1",
    exit_code=3,
    start_time=at(0),
    end_time=at(2),
)


def test_a_trigger_prints_the_run(cli: Cli, script: Script) -> None:
    ended = cli("run", "trigger", "etl", "--logical-time", "2026-01-31", "--request-id", "r1")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[1].split()[:2] == [f"etl/{RUN}", "pending"]
    request = script.asked(run_pb2.TriggerRunRequest)[0]
    assert (request.parent, request.request_id) == ("dags/etl", "r1")
    assert request.logical_time.ToJsonString() == "2026-01-31T00:00:00Z"


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (run_pb2.RUN_STATE_SUCCEEDED, ExitCode.OK),
        (run_pb2.RUN_STATE_FAILED, ExitCode.FAILED),
        (run_pb2.RUN_STATE_CANCELLED, ExitCode.FAILED),
    ],
)
def test_the_result_of_a_run_is_the_exit_code(cli: Cli, script: Script, state, code) -> None:
    final = final_run(state)
    script.waits = [final]
    script.steps = [run_pb2.WatchRunResponse(run=final)]
    assert cli("run", "wait", RUN).code == code
    assert cli("run", "watch", RUN).code == code
    assert cli("run", "watch", RUN, "--json").code == code
    assert cli("run", "trigger", "etl", "--wait").code == code
    ended = cli("run", "trigger", "etl", "--watch", "--json")
    assert ended.code == code
    assert json.loads(ended.out)["name"] == RUN_NAME
    assert f"run etl/{RUN}" in ended.err


def test_a_wait_that_is_over_is_5(cli: Cli, script: Script) -> None:
    script.waits = [run_pb2.Run(state=run_pb2.RUN_STATE_RUNNING)]
    ended = cli("run", "wait", RUN, "--timeout", "0.001")
    assert ended.code == ExitCode.UNREACHABLE
    assert "not final after 0.001 s" in ended.err
    assert "run watch" in ended.err


def test_a_watch_without_a_terminal_prints_lines(cli: Cli, script: Script) -> None:
    script.steps = [
        step(run_pb2.RUN_STATE_RUNNING, FAILED_TASK),
        step(run_pb2.RUN_STATE_RUNNING, FAILED_TASK, done=1),
        run_pb2.WatchRunResponse(run=final_run(run_pb2.RUN_STATE_FAILED)),
    ]
    ended = cli("run", "watch", RUN)
    stamps, lines = zip(*(line.split(" ", 1) for line in ended.err.splitlines()), strict=True)
    assert all(re.fullmatch(r"\d\d:\d\d:\d\dZ", stamp) for stamp in stamps)
    assert list(lines) == [
        "task extract failed: exit status 3",
        "running: 2 waiting",
        "failed: 3 succeeded",
    ]
    assert "took          1 min 15 s" in ended.out


def test_a_watch_tells_of_every_question_once(cli: Cli, script: Script) -> None:
    asked = run_pb2.TaskInstance(
        name=f"{RUN_NAME}/tasks/pay",
        state=run_pb2.TASK_STATE_AWAITING_APPROVAL,
        attempt_number=1,
        reason="nobody knows",
    )
    again = run_pb2.TaskInstance()
    again.CopyFrom(asked)
    again.attempt_number = 2
    script.steps = [
        step(run_pb2.RUN_STATE_RUNNING, asked),
        step(run_pb2.RUN_STATE_RUNNING, asked, done=1),
        step(run_pb2.RUN_STATE_RUNNING, again, done=1),
        run_pb2.WatchRunResponse(run=final_run(run_pb2.RUN_STATE_FAILED)),
    ]
    told = [line for line in cli("run", "watch", RUN).err.splitlines() if "approval" in line]
    assert len(told) == 2
    assert "task pay waits for an approval: nobody knows (`mainspring approval list`" in told[0]


def test_lines_come_at_most_once_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    shown = LineProgress(clock=lambda: now[0])
    for done in range(1, 100):
        shown.update(step(run_pb2.RUN_STATE_RUNNING, done=done, of=100))
        now[0] += 0.1
    assert len(capsys.readouterr().err.splitlines()) == 10


def test_a_watch_as_json_is_a_line_for_each_step(cli: Cli, script: Script) -> None:
    final = run_pb2.WatchRunResponse(run=final_run(run_pb2.RUN_STATE_SUCCEEDED))
    script.steps = [step(run_pb2.RUN_STATE_RUNNING, FAILED_TASK), final]
    lines = cli("run", "watch", RUN, "-o", "json").out.splitlines()
    assert [json.loads(line)["run"]["state"] for line in lines] == [
        "RUN_STATE_RUNNING",
        "RUN_STATE_SUCCEEDED",
    ]
    assert cli("run", "watch", RUN, "-o", "yaml").code == ExitCode.USAGE


def test_a_watch_on_a_terminal_has_a_bar(
    cli: Cli, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    script.steps = [
        step(run_pb2.RUN_STATE_RUNNING, FAILED_TASK, done=1),
        run_pb2.WatchRunResponse(run=final_run(run_pb2.RUN_STATE_FAILED)),
    ]
    ended = cli("run", "watch", RUN)
    assert ended.code == ExitCode.FAILED
    assert "task extract failed: exit status 3" in ended.err
    assert "3/3" in ended.err


def test_a_run_says_why_it_does_not_go_on(cli: Cli, script: Script) -> None:
    script.run = run_pb2.Run(
        name=RUN_NAME,
        state=run_pb2.RUN_STATE_RUNNING,
        reason="waits",
        cause=run_pb2.RUN_CAUSE_SCHEDULE,
        schedule="nightly",
        notices=["no agent has 64 cores", "agent a1 vanished"],
        create_time=at(0),
    )
    out = cli("run", "get", f"etl/{RUN}").out
    assert "why           no agent has 64 cores\n" in out
    assert "why           agent a1 vanished\n" in out
    assert "cause         schedule nightly\n" in out
    assert script.asked(run_pb2.GetRunRequest)[0].name == RUN_NAME


def test_tasks_and_attempts_of_a_run(cli: Cli, script: Script) -> None:
    script.run = final_run(run_pb2.RUN_STATE_FAILED)
    script.steps = [step(run_pb2.RUN_STATE_FAILED, FAILED_TASK)]
    out = cli("run", "get", RUN, "--tasks", "--attempts").out
    tasks, attempts = out.split("\n\n")[1:]
    assert tasks.splitlines()[1].split()[:5] == ["extract", "failed", "2", "a1", "3"]
    assert attempts.splitlines()[1].split()[:6] == [
        "extract",
        "1",
        "failed",
        "a1",
        "SIGKILL",
        "(9)",
    ]
    decoder = json.JSONDecoder()
    out = cli("run", "get", RUN, "--tasks", "--json").out
    run, end = decoder.raw_decode(out)
    listed = decoder.raw_decode(out[end:].lstrip())[0]
    assert run["state"] == "RUN_STATE_FAILED"
    assert listed["taskInstances"][0]["exitCode"] == 3


@pytest.mark.parametrize(
    ("adopted", "said"), [(True, ", which counts"), (False, ", which changes nothing (slow)")]
)
def test_what_was_heard_late_of_an_attempt_is_told(
    cli: Cli, script: Script, adopted: bool, said: str
) -> None:
    late = run_pb2.LateResult(
        state=run_pb2.ATTEMPT_STATE_SUCCEEDED, adopted=adopted, reason="" if adopted else "slow"
    )
    script.attempts = [
        run_pb2.Attempt(
            name=f"{RUN_NAME}/tasks/extract/attempts/{'1' * 32}",
            number=2,
            state=run_pb2.ATTEMPT_STATE_LOST,
            reason="" if adopted else "its agent was not heard",
            late_result=late,
        )
    ]
    line = cli("run", "get", RUN, "--attempts").out.splitlines()[-1]
    assert line.split()[:3] == ["extract", "2", "lost"]
    assert line.endswith(f"reported late: succeeded{said}")


def test_a_watch_counts_what_waits_for_an_approval(cli: Cli, script: Script) -> None:
    counts = [
        run_pb2.TaskCount(state=run_pb2.TASK_STATE_AWAITING_APPROVAL, count=1),
        run_pb2.TaskCount(state=run_pb2.TASK_STATE_BACKOFF, count=2),
    ]
    script.run = run_pb2.Run(name=RUN_NAME, task_counts=counts)
    assert "2 backoff, 1 awaiting_approval" in cli("run", "get", RUN).out


def test_runs_are_listed_by_state(cli: Cli, script: Script) -> None:
    script.run = final_run(run_pb2.RUN_STATE_SUCCEEDED)
    out = cli("run", "list", "etl", "--state", "running", "--state", "queued").out
    assert out.splitlines()[1].split()[:2] == [f"etl/{RUN}", "succeeded"]
    request = script.asked(run_pb2.ListRunsRequest)[0]
    assert request.parent == "dags/etl"
    assert list(request.states) == [run_pb2.RUN_STATE_RUNNING, run_pb2.RUN_STATE_QUEUED]
    cli("run", "list")
    assert script.asked(run_pb2.ListRunsRequest)[1].parent == "dags/-"


def test_a_cancelled_run_is_what_was_asked_for(cli: Cli, script: Script) -> None:
    script.waits = [final_run(run_pb2.RUN_STATE_CANCELLED)]
    assert "cancelling" in cli("run", "cancel", RUN, "--reason", "wrong day").out
    assert script.asked(run_pb2.CancelRunRequest)[0].reason == "wrong day"
    ended = cli("run", "cancel", RUN, "--wait")
    assert ended.code == 0
    assert "cancelled" in ended.out


def test_a_second_cancellation_says_so(cli: Cli, script: Script) -> None:
    script.run = final_run(run_pb2.RUN_STATE_CANCELLED)
    ended = cli("run", "cancel", RUN)
    assert (ended.code, ended.err) == (0, f"run etl/{RUN} is already cancelled\n")


def test_what_goes_on_shows_the_time_until_now(
    cli: Cli, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only here: gRPC counts its deadlines by the same clock.
    clock = SimpleNamespace(time=lambda: at(90).seconds + 0.0)
    monkeypatch.setattr("mainspring.cli.text.time", clock)
    script.run = run_pb2.Run(
        name=RUN_NAME, state=run_pb2.RUN_STATE_RUNNING, create_time=at(0), start_time=at(1)
    )
    running = run_pb2.TaskInstance(
        name=f"{RUN_NAME}/tasks/load", state=run_pb2.TASK_STATE_RUNNING, start_time=at(30)
    )
    script.steps = [step(run_pb2.RUN_STATE_RUNNING, running)]
    run, tasks = cli("run", "get", RUN, "--tasks").out.split("\n\n")
    assert "took          1 min 30 s so far" in run
    assert "1 min 00 s so far" in tasks


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([(1, b"out"), (2, b"err")], b"out\nerr"),
        ([(1, b"out\n"), (2, b"err\n")], b"out\nerr\n"),
        ([(1, b"o"), (1, b"ut")], b"out"),
        ([(2, b"err")], b"err"),
    ],
)
def test_a_second_stream_begins_on_its_own_line(script: Script, capsysbinary, pieces, said) -> None:
    from mainspring.cli.main import run

    offset = {1: 0, 2: 0}
    for stream, data in pieces:
        piece = run_pb2.ReadLogsResponse(stream=stream, data=data, offset=offset[stream])
        script.pieces.append(piece)
        offset[stream] += len(data)
    assert run(["run", "logs", RUN, "load"]) == 0
    assert capsysbinary.readouterr().out == said


def test_logs_are_bytes_unchanged(script: Script, capsysbinary) -> None:
    from mainspring.cli.main import run

    raw = bytes(range(256)) + b"\r\n\xff no newline"
    script.pieces = [
        run_pb2.ReadLogsResponse(data=raw[:100], attempt_number=1),
        run_pb2.ReadLogsResponse(data=raw[100:], offset=100, attempt_number=1),
    ]
    code = run(["run", "logs", RUN, "load", "--attempt", "1", "--stream", "stdout", "--follow"])
    assert (code, capsysbinary.readouterr()) == (0, (raw, b""))
    request = script.asked(run_pb2.ReadLogsRequest)[0]
    assert request.name == f"dags/-/runs/{RUN}/tasks/load"
    assert (request.attempt_number, request.follow) == (1, True)
    assert request.stream == run_pb2.LOG_STREAM_STDOUT
