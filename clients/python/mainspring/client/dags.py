"""Calls of DagService."""

from __future__ import annotations

import datetime as dt
import uuid

from google.protobuf.timestamp_pb2 import Timestamp

from mainspring.client.connection import Connection
from mainspring.client.names import dag_name
from mainspring.client.paging import gather
from mainspring.v1 import dag_pb2

_APPLY_DEADLINE_S = 60.0


class Dags:
    """Definitions, versions and schedules. A DAG is named by its id or its resource name.

    Every method raises a `MainspringError`: InvalidArgumentError for a name or a definition that
    is wrong, NotFoundError for a DAG that is not there, and the errors of the connection.
    """

    def __init__(self, connection: Connection, deadline_s: float) -> None:
        self._connection = connection
        self._deadline_s = deadline_s

    def apply(
        self,
        spec: dag_pb2.DagSpec,
        *,
        etag: str = "",
        request_id: str | None = None,
        validate_only: bool = False,
    ) -> dag_pb2.ApplyDagResponse:
        """Creates a DAG or gives it a new version; `validate_only` checks and changes nothing.

        InvalidArgumentError carries every problem of the definition, with fields under `spec`;
        FailedPreconditionError says that `etag` is not the current one any more.
        """
        request = dag_pb2.ApplyDagRequest(
            spec=spec,
            etag=etag,
            request_id="" if validate_only else request_id or new_request_id(),
            validate_only=validate_only,
        )
        return self._connection.call(
            lambda node: node.dags.ApplyDag, request, deadline_s=_APPLY_DEADLINE_S
        )

    def get(self, dag: str) -> dag_pb2.Dag:
        """One DAG with its current definition."""
        request = dag_pb2.GetDagRequest(name=dag_name(dag))
        return self._connection.call(
            lambda node: node.dags.GetDag, request, deadline_s=self._deadline_s
        )

    def list(self, limit: int | None = None) -> dag_pb2.ListDagsResponse:
        """The first `limit` DAGs (None: all) in the order of their ids, without definitions."""
        answer = dag_pb2.ListDagsResponse()

        def read(page_size: int, page_token: str) -> tuple[int, str]:
            request = dag_pb2.ListDagsRequest(page_size=page_size, page_token=page_token)
            page = self._connection.call(
                lambda node: node.dags.ListDags, request, deadline_s=self._deadline_s
            )
            answer.dags.extend(page.dags)
            return len(page.dags), page.next_page_token

        answer.next_page_token = gather(read, limit)
        return answer

    def versions(self, dag: str, limit: int | None = None) -> dag_pb2.ListDagVersionsResponse:
        """The newest `limit` versions (None: all) of a DAG, the newest first."""
        answer, parent = dag_pb2.ListDagVersionsResponse(), dag_name(dag)

        def read(page_size: int, page_token: str) -> tuple[int, str]:
            request = dag_pb2.ListDagVersionsRequest(
                parent=parent, page_size=page_size, page_token=page_token
            )
            page = self._connection.call(
                lambda node: node.dags.ListDagVersions, request, deadline_s=self._deadline_s
            )
            answer.versions.extend(page.versions)
            return len(page.versions), page.next_page_token

        answer.next_page_token = gather(read, limit)
        return answer

    def instants(
        self, dag: str, *, after: dt.datetime | None = None, count: int = 5
    ) -> dag_pb2.ListInstantsResponse:
        """The next `count` (1 to 1,000) instants of all schedules after `after` (None: now)."""
        request = dag_pb2.ListInstantsRequest(
            parent=dag_name(dag), after=timestamp(after), count=count
        )
        return self._connection.call(
            lambda node: node.dags.ListInstants, request, deadline_s=self._deadline_s
        )

    def pause(self, dag: str, *, reason: str = "", request_id: str | None = None) -> dag_pb2.Dag:
        """Stops the schedules of a DAG; runs that exist go on."""
        request = dag_pb2.PauseDagRequest(
            name=dag_name(dag), reason=reason, request_id=request_id or new_request_id()
        )
        return self._connection.call(
            lambda node: node.dags.PauseDag, request, deadline_s=self._deadline_s
        )

    def resume(self, dag: str, *, request_id: str | None = None) -> dag_pb2.Dag:
        """Starts the schedules of a paused DAG again."""
        request = dag_pb2.ResumeDagRequest(
            name=dag_name(dag), request_id=request_id or new_request_id()
        )
        return self._connection.call(
            lambda node: node.dags.ResumeDag, request, deadline_s=self._deadline_s
        )


def new_request_id() -> str:
    """A request id that no other call has; it lets a call be repeated without a second effect."""
    return str(uuid.uuid4())


def timestamp(moment: dt.datetime | None) -> Timestamp | None:
    """The moment as a message; a moment without a zone is read as UTC."""
    if moment is None:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    answer = Timestamp()
    answer.FromDatetime(aware)
    return answer
