"""`mainspring dag apply` and `mainspring dag validate`.

Decides: nothing is applied unless every document of every file is free of problems, by the local
checks and by the server's (see `documents`); then the documents are applied in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from mainspring.cli import text
from mainspring.cli.flags import ANYWHERE, AS_TABLE, Connect, Print, switch
from mainspring.cli.output import Table, say, show
from mainspring.client.errors import ConfigurationError, UnauthenticatedError, UnavailableError
from mainspring.client.names import last_segment

if TYPE_CHECKING:
    from mainspring.cli.documents import Found, NamedDocument
    from mainspring.client import Client
    from mainspring.definition import Document
    from mainspring.v1 import dag_pb2

_DIGEST_SHOWN = 12
Files = Annotated[
    list[Path], Parameter(negative="", help="DAG files, YAML or JSON; /dev/stdin works too.")
]


def apply(
    files: Files,
    /,
    *,
    dry_run: Annotated[
        bool, switch("Let the server check everything, and change nothing.")
    ] = False,
    connection: Connect = ANYWHERE,
    output: Print = AS_TABLE,
) -> None:
    """Applies all documents, or none."""
    from mainspring.cli.documents import ask_server, load_all, refuse

    documents, found = load_all(files)
    with connection.client() as client:
        # One good document needs no rehearsal: the server checks it before it applies it.
        alone = len(documents) == 1 and not found
        answers = ask_server(client, documents, found, validate_only=dry_run or not alone)
        refuse(found, len(files), "nothing was applied")
        if not (dry_run or alone):
            answers = _apply_all(client, documents)
    _warn(documents, answers)
    show(output.format, answers, lambda: [_table(answers, dry_run=dry_run)])


def validate(
    files: Files,
    /,
    *,
    offline: Annotated[
        bool, switch("Check locally only: form, but no cycles or schedules.")
    ] = False,
    connection: Connect = ANYWHERE,
    output: Print = AS_TABLE,
) -> None:
    """Checks all documents."""
    from mainspring.cli.documents import load_all, refuse

    documents, found = load_all(files)
    answers = [] if offline else _ask_if_possible(connection, documents, found)
    refuse(found, len(files), "", output.format)
    if not answers:
        say("checked locally only: cycles, dependencies and schedules are checked by the server")
        answers = [_local_answer(each.document) for each in documents]
    _warn(documents, answers)
    show(output.format, answers, lambda: [_table(answers, dry_run=True)])


def _ask_if_possible(
    connection: Connect, documents: Sequence[NamedDocument], found: Found
) -> list[dag_pb2.ApplyDagResponse]:
    """The server's answers; none when there is no server to ask, and then a word about it."""
    from mainspring.cli.documents import ask_server

    try:
        with connection.client() as client:
            return ask_server(client, documents, found)
    except (UnavailableError, UnauthenticatedError, ConfigurationError) as error:
        say(f"the server was not asked: {text.one_line(error.message)}")
        return []


def _apply_all(
    client: Client, documents: Sequence[NamedDocument]
) -> list[dag_pb2.ApplyDagResponse]:
    answers: list[dag_pb2.ApplyDagResponse] = []
    try:
        for each in documents:
            answers.append(client.dags.apply(each.document.spec))  # noqa: PERF401 -- told when it breaks off
    except Exception:
        if answers:
            say(f"applied before the failure: {', '.join(map(_dag_of, answers))}")
        raise
    return answers


def _warn(documents: Sequence[NamedDocument], answers: Sequence[dag_pb2.ApplyDagResponse]) -> None:
    for named, answer in zip(documents, answers, strict=True):
        for warning in answer.warnings:
            say(f"warning: {named.file}: {named.document.spec.dag}: {text.one_line(warning)}")


def _local_answer(document: Document) -> dag_pb2.ApplyDagResponse:
    """What `validate_only` would answer, as far as it is known without a server."""
    from mainspring.v1 import dag_pb2

    spec = document.spec
    dag = dag_pb2.Dag(name=f"dags/{spec.dag}", spec=spec, task_count=len(spec.tasks))
    return dag_pb2.ApplyDagResponse(dag=dag)


def _table(answers: Sequence[dag_pb2.ApplyDagResponse], *, dry_run: bool) -> Table:
    table = Table(("DAG", "RESULT", "TASKS", "DIGEST"))
    for answer in answers:
        table.add(
            _dag_of(answer),
            "valid" if dry_run else _result(answer),
            answer.dag.task_count,
            answer.dag.digest[:_DIGEST_SHOWN] or text.NOTHING,
        )
    return table


def _dag_of(answer: dag_pb2.ApplyDagResponse) -> str:
    return last_segment(answer.dag.name) or answer.dag.spec.dag


def _result(answer: dag_pb2.ApplyDagResponse) -> str:
    if answer.created:
        return "created"
    return "changed" if answer.changed else "unchanged"
