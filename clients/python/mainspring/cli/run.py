"""`mainspring run …`, but for the commands that follow a run (`run_follow`) or its logs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from mainspring.cli.exit_codes import ExitCode
from mainspring.cli.flags import (
    ANYWHERE,
    AS_TABLE,
    Connect,
    DagArgument,
    Limit,
    Print,
    RequestId,
    RunArgument,
    switch,
)
from mainspring.cli.output import Table, say, show
from mainspring.cli.run_follow import finish, follow

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from mainspring.client import Client

StateWord = Literal[
    "pending", "queued", "running", "cancelling", "succeeded", "failed", "cancelled"
]


def trigger(
    dag: DagArgument,
    /,
    *,
    logical_time: Annotated[
        dt.datetime | None,
        Parameter(help="Logical time of the run (UTC if it names no zone); default: now."),
    ] = None,
    wait: Annotated[bool, switch("Wait until it is final; the exit code is its result.")] = False,
    watch: Annotated[bool, switch("As --wait, with progress on standard error.")] = False,
    request_id: RequestId = None,
    connection: Connect = ANYWHERE,
    output: Print = AS_TABLE,
) -> int:
    """Triggers a run."""
    from mainspring.cli import run_table

    with connection.client() as client:
        run = client.runs.trigger(dag, logical_time=logical_time, request_id=request_id)
        if not (wait or watch):
            show(output.format, [run], lambda: [run_table.runs([run])])
            return ExitCode.OK
        say(f"run {run_table.short_name(run)}")
        final = follow(client, run.name) if watch else client.runs.wait(run.name)
    return finish(final, output.format)


def list_runs(
    dag: Annotated[str | None, Parameter(help="Only runs of this DAG.")] = None,
    /,
    *,
    state: Annotated[
        list[StateWord] | None,
        Parameter(negative="", help="Only runs in this state; may be given several times."),
    ] = None,
    limit: Limit = 100,
    connection: Connect = ANYWHERE,
    output: Print = AS_TABLE,
) -> None:
    """Lists runs."""
    from mainspring.cli import run_table
    from mainspring.v1 import run_pb2

    states = [run_pb2.RunState.Value(f"RUN_STATE_{each.upper()}") for each in state or ()]
    with connection.client() as client:
        answer = client.runs.list(dag, states=states, limit=limit)
    show(output.format, [answer], lambda: [run_table.runs(answer.runs)])
    if answer.next_page_token:
        say(f"there are more than {limit}: --limit shows more")


def get(
    run: RunArgument,
    /,
    *,
    tasks: Annotated[bool, switch("Also list its task instances (a second document).")] = False,
    attempts: Annotated[bool, switch("Also list its attempts (one more document).")] = False,
    connection: Connect = ANYWHERE,
    output: Print = AS_TABLE,
) -> None:
    """Shows one run."""
    from mainspring.cli import run_table

    with connection.client() as client:
        answer = client.runs.get(run)
        more = _more(client, answer.name, tasks=tasks, attempts=attempts)
    messages: Sequence[Message] = [answer, *(message for message, _ in more)]
    tables = [*run_table.one_run(answer), *(table for _, table in more)]
    show(output.format, messages, lambda: tables)


def cancel(
    run: RunArgument,
    /,
    *,
    reason: Annotated[str, Parameter(show_default=False, help="Why; people will read it.")] = "",
    wait: Annotated[bool, switch("Wait until every attempt has ended.")] = False,
    request_id: RequestId = None,
    connection: Connect = ANYWHERE,
    output: Print = AS_TABLE,
) -> None:
    """Cancels a run; with --wait it is final afterwards, however it ended."""
    from mainspring.cli import run_table
    from mainspring.v1 import run_pb2

    with connection.client() as client:
        before = client.runs.get(run).state
        answer = client.runs.cancel(run, reason=reason, request_id=request_id)
        if wait:
            answer = client.runs.wait(answer.name)
    if before == run_pb2.RUN_STATE_CANCELLED:
        say(f"run {run_table.short_name(answer)} is already cancelled")
    show(output.format, [answer], lambda: [run_table.runs([answer])])


def _more(client: Client, name: str, *, tasks: bool, attempts: bool) -> list[tuple[Message, Table]]:
    from mainspring.cli import run_table

    found: list[tuple[Message, Table]] = []
    if tasks:
        listed = client.runs.task_instances(name)
        found.append((listed, run_table.task_instances(listed.task_instances)))
    if attempts:
        tried = client.runs.attempts(name)
        found.append((tried, run_table.attempts(tried.attempts)))
    return found
