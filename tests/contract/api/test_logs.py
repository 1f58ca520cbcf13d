from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2
from mainspring.logkeys import chunk_key, log_prefix
from mainspring.v1 import run_pb2

from controlplane.core.states import AttemptState
from controlplane.core.types import uuid_text
from controlplane.objectstore.logs import LogPiece
from tests.contract.api.harness import TENANT, details_of
from tests.contract.api.test_runs import applied

OUT, ERR = run_pb2.LOG_STREAM_STDOUT, run_pb2.LOG_STREAM_STDERR


def store(world, attempt, data: bytes, offset: int = 0, stream: str = "stdout") -> None:
    """What an agent uploads."""
    ids = (TENANT, attempt.dag, uuid_text(attempt.run_id), attempt.task, attempt.attempt_id)
    path = world.folder / chunk_key(log_prefix(*ids), stream, offset)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


async def started(world):
    """A run whose only task has an attempt."""
    await world.add_agent()
    run = await applied(world, await world.apply("a"))
    return run, world.leader.take("a")


def read(world, name: str, **fields):
    return world.runs.ReadLogs(run_pb2.ReadLogsRequest(name=name, **fields), timeout=20)


async def test_an_archived_log_is_read_from_both_streams(world) -> None:
    run, attempt = await started(world)
    store(world, attempt, b"out")
    store(world, attempt, b"err", stream="stderr")
    await world.leader.end(attempt, run.shard, written=3)
    pieces = [each async for each in read(world, f"{run.name}/tasks/a")]
    assert [(each.stream, each.offset, each.data) for each in pieces] == [
        (OUT, 0, b"out"),
        (ERR, 0, b"err"),
    ]
    only = [each.data async for each in read(world, f"{run.name}/tasks/a", stream=ERR)]
    assert only == [b"err"]


async def test_archive_and_live_tail_are_one_view(world) -> None:
    run, attempt = await started(world)
    store(world, attempt, b"abc")
    call = read(world, f"{run.name}/tasks/a", follow=True)
    assert (await call.read()).data == b"abc"
    world.tails.pieces.put_nowait(LogPiece("stdout", 1, b"bcde"))
    piece = await call.read()
    assert (piece.offset, piece.data) == (3, b"de")
    assert world.tails.asked == [("agent-1", attempt.attempt_id, (3, 0))]
    world.tails.pieces.put_nowait(LogPiece("stderr", 0, b"x"))
    assert (await call.read()).stream == ERR
    await world.leader.end(attempt, run.shard, written=5)
    store(world, attempt, b"de", 3)
    world.tails.pieces.put_nowait(None)
    assert await call.read() is grpc.aio.EOF


async def test_what_was_uploaded_late_is_still_read(world) -> None:
    run, attempt = await started(world)
    await world.leader.end(attempt, run.shard, written=4)
    call = read(world, f"{run.name}/tasks/a")
    world.tails.pieces.put_nowait(LogPiece("stdout", 0, b"ab"))
    assert (await call.read()).data == b"ab"
    store(world, attempt, b"abcd")
    world.tails.pieces.put_nowait(None)
    assert (await call.read()).data == b"cd"
    assert await call.read() is grpc.aio.EOF


async def test_a_running_attempt_is_read_as_far_as_it_is(world) -> None:
    run, _ = await started(world)
    world.tails.pieces.put_nowait(LogPiece("stdout", 0, b"so far"))
    pieces = [each.data async for each in read(world, f"{run.name}/tasks/a")]
    assert pieces == [b"so far"]


async def test_attempts_are_chosen_by_number_and_by_id(world) -> None:
    run, attempt = await started(world)
    store(world, attempt, b"one")
    await world.leader.end(attempt, run.shard, AttemptState.FAILED, written=3)
    name = f"{run.name}/tasks/a/attempts/{attempt.attempt_id.hex()}"
    assert [each.data async for each in read(world, name)] == [b"one"]
    numbered = [each async for each in read(world, f"{run.name}/tasks/a", attempt_number=1)]
    assert [each.attempt_number for each in numbered] == [1]


async def test_an_attempt_that_is_not_there_is_refused(world) -> None:
    run, _ = await started(world)
    for fields, code in (
        ({"name": run.name}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"name": f"{run.name}/tasks/b"}, grpc.StatusCode.NOT_FOUND),
        ({"name": f"{run.name}/tasks/a", "attempt_number": 2}, grpc.StatusCode.FAILED_PRECONDITION),
        ({"name": f"{run.name}/tasks/a", "stream": 9}, grpc.StatusCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read(world, **fields).read()
        assert caught.value.code() is code
        assert details_of(caught.value, error_details_pb2.ErrorInfo).domain == "mainspring"


async def why_missing(world, name: str, **fields) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read(world, name, **fields).read()
    return caught.value.details()


async def test_what_never_ran_says_why_there_is_nothing_to_read(world) -> None:
    waiting = await applied(world, await world.apply("a>b"))
    assert await why_missing(world, f"{waiting.name}/tasks/b") == (
        "task b has not started yet: waiting"
    )
    await world.add_agent()
    await world.leader.end(world.leader.take("a"), waiting.shard, AttemptState.FAILED)
    assert await why_missing(world, f"{waiting.name}/tasks/b") == (
        "task b was not run: upstream_failed"
    )
    assert await why_missing(world, f"{waiting.name}/tasks/a", attempt_number=7) == (
        "task a has 1 attempt, and none number 7"
    )


async def test_a_pending_run_has_nothing_to_read(world) -> None:
    dag = await world.apply("a")
    world.leader.away = True
    run = await world.runs.TriggerRun(run_pb2.TriggerRunRequest(parent=dag.name))
    assert "the run is pending" in await why_missing(world, f"{run.name}/tasks/a")


async def test_following_begins_before_the_attempt_does(world) -> None:
    run = await applied(world, await world.apply("a"))
    call = read(world, f"{run.name}/tasks/a", follow=True)
    world.tails.pieces.put_nowait(LogPiece("stdout", 0, b"hello"))
    await world.add_agent()
    assert (await call.read()).data == b"hello"
    call.cancel()
