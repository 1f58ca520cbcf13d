"""`mainspring dag apply` and `mainspring dag validate`: DAG files in, every problem out at once.

Decides: nothing is applied unless every document of every file is free of problems, by the local
checks and by the server's; then the documents are applied in order. Promises: problems are sorted
by file, line and column, each with field and reason. Does not know the rules themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mainspring.cli import text
from mainspring.cli.exit_codes import CommandError, ExitCode
from mainspring.cli.flags import ANYWHERE, AS_TABLE, Connect, Print, switch
from mainspring.cli.output import Table, say, show
from mainspring.client import Client
from mainspring.client.errors import (
    ConfigurationError,
    InvalidArgumentError,
    UnauthenticatedError,
    UnavailableError,
    Violation,
)
from mainspring.client.names import last_segment
from mainspring.definition import Document, LoadedFile, Position, Problem, load
from mainspring.v1 import dag_pb2

_DIGEST_SHOWN = 12
Files = Annotated[
    list[Path], Parameter(negative="", help="DAG files, YAML or JSON; /dev/stdin works too.")
]


@dataclass(frozen=True, slots=True)
class _Named:
    """A document with the file it stands in, in the order in which files were given."""

    file: str
    order: int
    document: Document


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
    documents, found = _load_all(files)
    with connection.client() as client:
        checked = _ask_server(client, documents, found)
        _refuse(found, len(files), "nothing was applied")
        answers = checked if dry_run else _apply_all(client, documents)
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
    documents, found = _load_all(files)
    answers = [] if offline else _ask_if_possible(connection, documents, found)
    _refuse(found, len(files), "")
    if not answers:
        say("checked locally only: cycles, dependencies and schedules are checked by the server")
        answers = [_local_answer(each.document) for each in documents]
    _warn(documents, answers)
    show(output.format, answers, lambda: [_table(answers, dry_run=True)])


class _Found:
    """All problems so far, with the order of their files."""

    def __init__(self) -> None:
        self._problems: list[tuple[int, Problem]] = []

    def add(self, order: int, problems: Iterable[Problem]) -> None:
        self._problems += [(order, problem) for problem in problems]

    def sorted(self) -> list[Problem]:
        """By file, line and column."""
        at = [
            (order, problem.position.line, problem.position.col, number)
            for number, (order, problem) in enumerate(self._problems)
        ]
        return [self._problems[number][1] for *_, number in sorted(at)]


def _load_all(files: Sequence[Path]) -> tuple[list[_Named], _Found]:
    documents: list[_Named] = []
    found = _Found()
    first_seen: dict[str, Position] = {}
    for order, path in enumerate(dict.fromkeys(files)):
        loaded = _load(path)
        found.add(order, loaded.problems)
        for document in loaded.documents:
            found.add(order, _defined_before(document, str(path), first_seen))
            documents.append(_Named(str(path), order, document))
    return documents, found


def _load(path: Path) -> LoadedFile:
    try:
        return load(path)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        raise CommandError(f"{path}: {reason}", ExitCode.INVALID, "name DAG files") from None


def _defined_before(
    document: Document, file: str, first_seen: dict[str, Position]
) -> list[Problem]:
    """The problem that another file defines the same DAG; within a file the loader sees it."""
    position = document.position("dag") or _start(file)
    first = first_seen.setdefault(document.spec.dag, position)
    if not document.spec.dag or first.file == position.file:
        return []
    return [Problem("dag", f"DAG {document.spec.dag!r} is defined twice", f"at {first}", position)]


def _ask_if_possible(
    connection: Connect, documents: Sequence[_Named], found: _Found
) -> list[dag_pb2.ApplyDagResponse]:
    """The server's answers; none when there is no server to ask, and then a word about it."""
    try:
        with connection.client() as client:
            return _ask_server(client, documents, found)
    except (UnavailableError, UnauthenticatedError, ConfigurationError) as error:
        say(f"the server was not asked: {text.one_line(error.message)}")
        return []


def _ask_server(
    client: Client, documents: Sequence[_Named], found: _Found
) -> list[dag_pb2.ApplyDagResponse]:
    """Lets the server check every document; its problems join those found before."""
    answers = []
    for each in documents:
        try:
            answers.append(client.dags.apply(each.document.spec, validate_only=True))
        except InvalidArgumentError as error:
            found.add(each.order, _translated(each, error))
        except UnavailableError:
            # What is known already helps more than that the server is away.
            _refuse(found, len({one.file for one in documents}), "the server was not asked")
            raise
    return answers


def _translated(named: _Named, error: InvalidArgumentError) -> list[Problem]:
    """The server's problems at their positions, without those that local checks told already."""
    violations = error.violations or (Violation("", error.message),)
    known = [problem.field for problem in named.document.problems]
    problems = []
    for violation in violations:
        field = violation.field.removeprefix("spec").removeprefix(".")
        if not any(_within(field, other) for other in known):
            position = named.document.position(field) or named.document.position("dag")
            message = text.one_line(violation.description, 2_000)
            problems.append(Problem(field, message, "", position or _start(named.file)))
    return problems


def _within(field: str, other: str) -> bool:
    """Whether a field is another one or a part of it."""
    return not other or field == other or field.startswith((f"{other}.", f"{other}["))


def _start(file: str) -> Position:
    return Position(file, 1, 1)


def _refuse(found: _Found, files: int, consequence: str) -> None:
    """Prints all problems and ends the command, if there are any."""
    problems = found.sorted()
    if not problems:
        return
    for problem in problems:
        say(text.printable(str(problem).replace("\n", " "), 4_000))
    count, where = text.plural(len(problems), "problem"), text.plural(files, "file")
    after = f"; {consequence}" if consequence else ""
    raise CommandError(f"{count} in {where}{after}", ExitCode.INVALID, "correct them and try again")


def _apply_all(client: Client, documents: Sequence[_Named]) -> list[dag_pb2.ApplyDagResponse]:
    answers: list[dag_pb2.ApplyDagResponse] = []
    try:
        for each in documents:
            answers.append(client.dags.apply(each.document.spec))  # noqa: PERF401 -- told when it breaks off
    except Exception:
        if answers:
            say(f"applied before the failure: {', '.join(map(_dag_of, answers))}")
        raise
    return answers


def _warn(documents: Sequence[_Named], answers: Sequence[dag_pb2.ApplyDagResponse]) -> None:
    for named, answer in zip(documents, answers, strict=True):
        for warning in answer.warnings:
            say(f"warning: {named.file}: {named.document.spec.dag}: {text.one_line(warning)}")


def _local_answer(document: Document) -> dag_pb2.ApplyDagResponse:
    """What `validate_only` would answer, as far as it is known without a server."""
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
