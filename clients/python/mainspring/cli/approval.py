"""`mainspring approval …`: what waits for a person, and the decision.

Decides: a task is named by its run, in any form that a run is named in, and the task behind a
slash. A decision returns once it is recorded, so that `run get` shows it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from mainspring.cli import text
from mainspring.cli.exit_codes import CommandError, ExitCode
from mainspring.cli.flags import ANYWHERE, AS_TABLE, Connect, Limit, Print, RequestId
from mainspring.cli.output import Table, say, show

if TYPE_CHECKING:
    from mainspring.v1 import approval_pb2

TaskArgument = Annotated[
    str, Parameter(help="RUN/TASK: the run as UUID, DAG/UUID or resource name, and its task.")
]
Reason = Annotated[
    str,
    Parameter(show_default=False, help="Why, required; people will read it."),
]
_RUN_AND_TASK = "name the run and its task: mainspring approval {verb} RUN/TASK --reason TEXT"


def list_approvals(
    parent: Annotated[
        str | None, Parameter(name="parent", help="Only those of this DAG, or of this run.")
    ] = None,
    /,
    *,
    limit: Limit = 100,
    connection: Connect = ANYWHERE,
    output: Print = AS_TABLE,
) -> None:
    """Lists approvals."""
    with connection.client() as client:
        answer = client.approvals.list(parent, limit=limit)
    show(output.format, [answer], lambda: [_table(answer.approvals)])
    if answer.approvals and output.format == "table":
        say("decide: mainspring approval approve RUN/TASK --reason TEXT (or reject)")
    if answer.next_page_token:
        say(f"there are more than {limit}: --limit shows more")


def approve(
    task: TaskArgument,
    /,
    *,
    reason: Reason = "",
    request_id: RequestId = None,
    connection: Connect = ANYWHERE,
    output: Print = AS_TABLE,
) -> None:
    """Has another attempt started."""
    _decide("approve", task, reason, request_id, connection, output)


def reject(
    task: TaskArgument,
    /,
    *,
    reason: Reason = "",
    request_id: RequestId = None,
    connection: Connect = ANYWHERE,
    output: Print = AS_TABLE,
) -> None:
    """Has the task fail."""
    _decide("reject", task, reason, request_id, connection, output)


def _decide(
    verb: str, task: str, reason: str, request_id: str | None, connection: Connect, output: Print
) -> None:
    run, _, name = task.removesuffix("/approval").rpartition("/")
    run = run.removesuffix("/tasks")
    if not run or not name:
        sentence = f"{task!a} names no task of a run"
        raise CommandError(sentence, ExitCode.USAGE, _RUN_AND_TASK.format(verb=verb))
    if not reason.strip():
        sentence = "a decision needs its reason: others will ask for it"
        raise CommandError(sentence, ExitCode.USAGE, 'say it: --reason "…"')
    with connection.client() as client:
        answer = client.approvals.decide(
            run, name, approved=verb == "approve", reason=reason, request_id=request_id
        )
    show(output.format, [answer], lambda: [_decided(answer)])


def _target(approval: approval_pb2.Approval) -> str:
    """`dag/uuid/task`, as the commands take it."""
    parts = approval.name.split("/")
    return "/".join(parts[1:6:2]) if len(parts) == 7 else approval.name


def _table(listed: Iterable[approval_pb2.Approval]) -> Table:
    table = Table(("RUN/TASK", "ATTEMPT", "SINCE", "REASON"))
    for approval in listed:
        since = text.moment(approval.create_time, known=approval.HasField("create_time"))
        table.add(_target(approval), approval.attempt_number, since, approval.reason)
    return table


def _decided(approval: approval_pb2.Approval) -> Table:
    from mainspring.v1 import approval_pb2

    word = text.state_word(approval_pb2.Decision.Name(approval.decision), "DECISION_")
    approved = approval.decision == approval_pb2.DECISION_APPROVED
    table = Table(("RUN/TASK", "DECISION", "WHAT FOLLOWS"))
    table.add(_target(approval), word, "another attempt" if approved else "the task has failed")
    return table
