"""Calls of RunService."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator, Sequence

from mainspring.client.connection import Connection
from mainspring.client.dags import new_request_id, timestamp
from mainspring.client.errors import DeadlineExceededError, UnavailableError
from mainspring.client.names import ANY_DAG, dag_name, run_name, task_name
from mainspring.client.paging import gather
from mainspring.client.states import FINAL_RUN_STATES
from mainspring.v1 import run_pb2

# A caller that waits for a run would rather wait for a failover than be told of it.
_FOLLOWING_PATIENCE_S = 60.0
_LONGEST_WAIT_S = 30.0


class Runs:
    """Runs, task instances, attempts and logs.

    A run is named by its UUID, by `dag/uuid` or by its resource name. Every method raises a
    `MainspringError`: InvalidArgumentError for a name that is wrong, NotFoundError for a run that
    is not there, and the errors of the connection.
    """

    def __init__(
        self,
        connection: Connection,
        deadline_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._deadline_s = deadline_s
        self._clock = clock

    def trigger(
        self,
        dag: str,
        *,
        logical_time: dt.datetime | None = None,
        request_id: str | None = None,
    ) -> run_pb2.Run:
        """Makes a run of the current version of a DAG; returns once the command is durable."""
        request = run_pb2.TriggerRunRequest(
            parent=dag_name(dag),
            logical_time=timestamp(logical_time),
            request_id=request_id or new_request_id(),
        )
        return self._connection.call(
            lambda node: node.runs.TriggerRun, request, deadline_s=self._deadline_s
        )

    def get(self, run: str) -> run_pb2.Run:
        """One run, with the notices that say why work does not go on."""
        request = run_pb2.GetRunRequest(name=run_name(run))
        return self._connection.call(
            lambda node: node.runs.GetRun, request, deadline_s=self._deadline_s
        )

    def list(
        self,
        dag: str | None = None,
        *,
        states: Sequence[run_pb2.RunState.ValueType] = (),
        limit: int | None = None,
    ) -> run_pb2.ListRunsResponse:
        """The newest `limit` runs (None: all) of a DAG (None: of all), in the given states."""
        parent = f"dags/{ANY_DAG}" if dag is None else dag_name(dag)
        answer = run_pb2.ListRunsResponse()

        def read(page_size: int, page_token: str) -> tuple[int, str]:
            request = run_pb2.ListRunsRequest(
                parent=parent, page_size=page_size, page_token=page_token, states=states
            )
            page = self._connection.call(
                lambda node: node.runs.ListRuns, request, deadline_s=self._deadline_s
            )
            answer.runs.extend(page.runs)
            return len(page.runs), page.next_page_token

        answer.next_page_token = gather(read, limit)
        return answer

    def task_instances(
        self,
        run: str,
        *,
        states: Sequence[run_pb2.TaskState.ValueType] = (),
        limit: int | None = None,
    ) -> run_pb2.ListTaskInstancesResponse:
        """The first `limit` task instances (None: all) of a run, in the order of its version."""
        answer, parent = run_pb2.ListTaskInstancesResponse(), run_name(run)

        def read(page_size: int, page_token: str) -> tuple[int, str]:
            request = run_pb2.ListTaskInstancesRequest(
                parent=parent, page_size=page_size, page_token=page_token, states=states
            )
            page = self._connection.call(
                lambda node: node.runs.ListTaskInstances, request, deadline_s=self._deadline_s
            )
            answer.task_instances.extend(page.task_instances)
            return len(page.task_instances), page.next_page_token

        answer.next_page_token = gather(read, limit)
        return answer

    def attempts(
        self, run: str, task: str | None = None, *, limit: int | None = None
    ) -> run_pb2.ListAttemptsResponse:
        """The oldest `limit` attempts (None: all) of a task instance (None: of the whole run)."""
        parent = run_name(run) if task is None else task_name(run, task)
        answer = run_pb2.ListAttemptsResponse()

        def read(page_size: int, page_token: str) -> tuple[int, str]:
            request = run_pb2.ListAttemptsRequest(
                parent=parent, page_size=page_size, page_token=page_token
            )
            page = self._connection.call(
                lambda node: node.runs.ListAttempts, request, deadline_s=self._deadline_s
            )
            answer.attempts.extend(page.attempts)
            return len(page.attempts), page.next_page_token

        answer.next_page_token = gather(read, limit)
        return answer

    def cancel(self, run: str, *, reason: str = "", request_id: str | None = None) -> run_pb2.Run:
        """Starts the cancellation of a run: nothing new is assigned once this has returned."""
        request = run_pb2.CancelRunRequest(
            name=run_name(run), reason=reason, request_id=request_id or new_request_id()
        )
        return self._connection.call(
            lambda node: node.runs.CancelRun, request, deadline_s=self._deadline_s
        )

    def wait(self, run: str, *, timeout_s: float | None = None) -> run_pb2.Run:
        """The run once it is final; DeadlineExceededError after `timeout_s` (None: no limit)."""
        name = run_name(run)
        end_s = None if timeout_s is None else self._clock() + timeout_s
        while True:
            left_s = _LONGEST_WAIT_S if end_s is None else end_s - self._clock()
            slice_s = min(_LONGEST_WAIT_S, max(left_s, 0.001))
            request = run_pb2.WaitRunRequest(name=name, wait_ms=max(1, int(slice_s * 1_000)))
            answer = self._connection.call(
                lambda node: node.runs.WaitRun,
                request,
                deadline_s=slice_s + self._deadline_s,
                patience_s=_FOLLOWING_PATIENCE_S,
            )
            if answer.state in FINAL_RUN_STATES:
                return answer
            if end_s is not None and self._clock() >= end_s:
                raise DeadlineExceededError(
                    f"the run is not final after {timeout_s:g} s; it goes on",
                    reason="STILL_RUNNING",
                )

    def watch(self, run: str) -> Iterator[run_pb2.WatchRunResponse]:
        """The run with all its task instances, then every change, until the run is final.

        After a lost connection the next answer holds all task instances again.
        """
        request = run_pb2.WatchRunRequest(name=run_name(run))
        ends_without_news = 0
        while True:
            news = False
            for answer in self._connection.stream(
                lambda node: node.runs.WatchRun, request, patience_s=_FOLLOWING_PATIENCE_S
            ):
                news = True
                yield answer
                if answer.run.state in FINAL_RUN_STATES:
                    return
            ends_without_news = 0 if news else ends_without_news + 1
            if ends_without_news > 3:
                raise UnavailableError(f"{self._connection.address} ends every watch of {run}")

    def logs(
        self,
        run: str,
        task: str,
        *,
        attempt: int = 0,
        stream: run_pb2.LogStream.ValueType = run_pb2.LOG_STREAM_UNSPECIFIED,
        follow: bool = False,
    ) -> Iterator[run_pb2.ReadLogsResponse]:
        """What an attempt wrote, in pieces; `attempt` 0 is the last one.

        With `follow` it goes on until the attempt is final. A lost connection costs nothing and
        doubles nothing: bytes that came before are dropped by their offsets.
        """
        request = run_pb2.ReadLogsRequest(
            name=task_name(run, task), attempt_number=attempt, stream=stream, follow=follow
        )
        seen: dict[int, int] = {}
        for piece in self._connection.stream(
            lambda node: node.runs.ReadLogs, request, patience_s=_FOLLOWING_PATIENCE_S
        ):
            # If the connection is lost, the same attempt is read on, not a newer one.
            request.attempt_number = piece.attempt_number
            fresh = _unseen(piece, seen)
            if fresh is not None:
                yield fresh


def _unseen(
    piece: run_pb2.ReadLogsResponse, seen: dict[int, int]
) -> run_pb2.ReadLogsResponse | None:
    """The part of a piece beyond the end of its stream in `seen`, which is moved on."""
    end = seen.get(piece.stream, 0)
    following = piece.offset + len(piece.data)
    if following <= end:
        return None
    seen[piece.stream] = following
    if piece.offset < end:
        piece.data = piece.data[end - piece.offset :]
        piece.offset = end
    return piece
