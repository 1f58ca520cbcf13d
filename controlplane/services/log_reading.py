"""Use case of logs: what an attempt wrote, from the archive and from its agent as one view.

The archive is what agents uploaded; what is not there yet is read live from the agent. Promises
every byte of a stream in order and once. Following ends when the attempt is final and all it wrote
has been sent, or when the rest has not appeared some seconds after its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from mainspring.logkeys import STREAMS, log_prefix
from mainspring.v1 import run_pb2

from controlplane.codec.runs import RunView
from controlplane.core.states import AttemptState, RunState, TaskState
from controlplane.core.types import uuid_text
from controlplane.objectstore.logs import LogPiece, LogStore
from controlplane.services.errors import FailedPrecondition, refused
from controlplane.services.names import TaskName, parse_run_or_task
from controlplane.services.pictures import Pictures, no_task
from controlplane.services.ports import LogTails
from controlplane.services.requests import check_range
from controlplane.store.api import ApiStore
from controlplane.store.records import AttemptItem, AttemptKey, RunItem
from controlplane.telemetry.clock import Clock

MOST_ATTEMPTS = 10_000
POLL_MS = 200
QUIET_MS = 500
UPLOAD_WAIT_MS = 10_000
# The offset of a stream that nobody wants: beyond all that can be written.
_UNWANTED = 1 << 62
_NUMBERS = {"stdout": run_pb2.LOG_STREAM_STDOUT, "stderr": run_pb2.LOG_STREAM_STDERR}


@dataclass(slots=True)
class _Reading:
    """How far the streams of one attempt have been sent."""

    run: RunItem
    task: str
    task_number: int
    attempt: AttemptItem
    offsets: dict[str, int] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        run, attempt = self.run, self.attempt
        return log_prefix(run.tenant, run.dag, uuid_text(run.run_id), self.task, attempt.attempt_id)

    @property
    def final(self) -> bool:
        return AttemptState(self.attempt.state).final

    @property
    def complete(self) -> bool:
        sizes = {"stdout": self.attempt.stdout_bytes, "stderr": self.attempt.stderr_bytes}
        return all(offset >= sizes[stream] for stream, offset in self.offsets.items())

    def take(self, piece: LogPiece) -> run_pb2.ReadLogsResponse | None:
        """The part of a piece that was not sent; None: nothing, or what is before it is missing."""
        sent = self.offsets.get(piece.stream)
        if sent is None or piece.offset > sent or piece.offset + len(piece.data) <= sent:
            return None
        data = piece.data[sent - piece.offset :]
        self.offsets[piece.stream] = sent + len(data)
        return run_pb2.ReadLogsResponse(
            stream=_NUMBERS[piece.stream],
            offset=sent,
            data=data,
            attempt_number=self.attempt.number,
        )


class LogService:
    """Raises a ServiceError, LogStoreError or an error of the store."""

    def __init__(
        self, store: ApiStore, pictures: Pictures, archive: LogStore, tails: LogTails, clock: Clock
    ) -> None:
        self._store = store
        self._pictures = pictures
        self._archive = archive
        self._tails = tails
        self._clock = clock

    async def read(
        self, tenant: str, request: run_pb2.ReadLogsRequest
    ) -> AsyncGenerator[run_pb2.ReadLogsResponse, None]:
        """What an attempt wrote; with `follow`, also what it writes later."""
        streams = _streams(request.stream)
        reading = await self._open(tenant, request)
        reading.offsets = dict.fromkeys(streams, 0)
        give_up_ms: int | None = None
        while True:
            final = reading.final
            async for piece in self._stored(reading):
                yield piece
            if final and reading.complete:
                return
            async with aclosing(self._live(reading, request.follow)) as pieces:
                async for piece in pieces:
                    yield piece
            now_ms = self._clock.now().mono_ms
            if final:
                give_up_ms = give_up_ms or now_ms + UPLOAD_WAIT_MS
            if not final and not request.follow:
                return
            if give_up_ms is not None and now_ms >= give_up_ms:
                return
            await asyncio.sleep(POLL_MS / 1_000)
            await self._refresh(reading)

    async def _open(self, tenant: str, request: run_pb2.ReadLogsRequest) -> _Reading:
        name = parse_run_or_task("name", request.name)
        check_range("attempt_number", request.attempt_number, 0, MOST_ATTEMPTS)
        if name.task is None:
            raise refused("name", "names no task; write dags/{dag}/runs/{run}/tasks/{task}")
        while True:
            run = await self._pictures.find(tenant, name.run)
            reading = None
            if not isinstance(run, RunView):
                reading = await self._attempt(run, name, request.attempt_number)
            if reading is not None:
                return reading
            ended = not isinstance(run, RunView) and RunState(run.state).final
            if ended or not request.follow:
                message = await self._missing(run, name, request.attempt_number)
                raise FailedPrecondition(
                    "NO_ATTEMPT", message, metadata={"run": uuid_text(run.run_id)}
                )
            await asyncio.sleep(POLL_MS / 1_000)

    async def _missing(self, run: RunItem | RunView, name: TaskName, number: int) -> str:
        """Why there is no such attempt to read."""
        task = name.task
        if isinstance(run, RunView):
            return f"task {task} has not started: the run is pending"
        picture = await self._pictures.of(run)
        position = picture.version.numbers[task or ""]
        items = await self._store.list_attempts(run, position, AttemptKey(), MOST_ATTEMPTS)
        if items:
            count = f"{len(items):,} attempts" if len(items) > 1 else "1 attempt"
            which = f"number {number}" if number else "of this id"
            return f"task {task} has {count}, and none {which}"
        state = TaskState(picture.states[position]).name.lower()
        if RunState(run.state).final:
            return f"task {task} was not run: {state}"
        return f"task {task} has not started yet: {state}"

    async def _attempt(self, run: RunItem, name: TaskName, number: int) -> _Reading | None:
        """The attempt that is named: by its id, by its number, or the last one."""
        assert name.task is not None
        task = (await self._pictures.version_of(run)).numbers.get(name.task)
        if task is None:
            raise no_task(run, name.task)
        items = await self._store.list_attempts(run, task, AttemptKey(), MOST_ATTEMPTS)
        for item in reversed(items):
            if item.attempt_id == (name.attempt_id or item.attempt_id) and item.number == (
                number or item.number
            ):
                return _Reading(run, name.task, task, item)
        return None

    async def _refresh(self, reading: _Reading) -> None:
        items = await self._store.list_attempts(
            reading.run, reading.task_number, AttemptKey(), MOST_ATTEMPTS
        )
        known = reading.attempt.attempt_id
        reading.attempt = next(
            (item for item in items if item.attempt_id == known), reading.attempt
        )

    async def _stored(self, reading: _Reading) -> AsyncGenerator[run_pb2.ReadLogsResponse, None]:
        for stream in reading.offsets:
            pieces = self._archive.read(reading.prefix, stream, reading.offsets[stream])
            async for piece in pieces:
                if answer := reading.take(piece):
                    yield answer

    async def _live(
        self, reading: _Reading, follow: bool
    ) -> AsyncGenerator[run_pb2.ReadLogsResponse, None]:
        """What the agent holds; without `follow`, until nothing comes for a moment."""
        attempt = reading.attempt
        stdout, stderr = (reading.offsets.get(stream, _UNWANTED) for stream in STREAMS)
        pieces = self._tails.tail(attempt.agent, attempt.attempt_id, (stdout, stderr))
        quiet_s = None if follow else QUIET_MS / 1_000
        async with aclosing(pieces):
            while True:
                try:
                    async with asyncio.timeout(quiet_s):
                        piece = await anext(pieces)
                except (StopAsyncIteration, TimeoutError):
                    return
                if answer := reading.take(piece):
                    yield answer


def _streams(given: run_pb2.LogStream.ValueType) -> tuple[str, ...]:
    if given == run_pb2.LOG_STREAM_UNSPECIFIED:
        return STREAMS
    names = {number: name for name, number in _NUMBERS.items()}
    if given not in names:
        raise refused("stream", f"{given} is no stream of a log")
    return (names[given],)
