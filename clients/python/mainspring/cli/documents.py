"""DAG files as documents with their problems, the local ones and those that the server finds.

Decides: a problem is told once, at the place of its field, sorted by file, line and column.
Promises that all problems of all files come together. Does not know the rules themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mainspring.cli import text
from mainspring.cli.exit_codes import CommandError, ExitCode
from mainspring.cli.output import print_documents, say
from mainspring.client.errors import InvalidArgumentError, UnavailableError, Violation
from mainspring.definition import Document, LoadedFile, Position, Problem, load

if TYPE_CHECKING:
    from mainspring.cli.flags import Format
    from mainspring.client import Client
    from mainspring.v1 import dag_pb2


@dataclass(frozen=True, slots=True)
class NamedDocument:
    """A document with the file it stands in, in the order in which files were given."""

    file: str
    order: int
    document: Document


class Found:
    """All problems so far, with the order of their files."""

    def __init__(self) -> None:
        self._problems: list[tuple[int, Problem]] = []

    def add(self, order: int, problems: Iterable[Problem]) -> None:
        self._problems += [(order, problem) for problem in problems]

    def __bool__(self) -> bool:
        return bool(self._problems)

    def sorted(self) -> list[Problem]:
        """By file, line and column."""
        at = [
            (order, problem.position.line, problem.position.col, number)
            for number, (order, problem) in enumerate(self._problems)
        ]
        return [self._problems[number][1] for *_, number in sorted(at)]


def load_all(files: Sequence[Path]) -> tuple[list[NamedDocument], Found]:
    documents: list[NamedDocument] = []
    found = Found()
    first_seen: dict[str, Position] = {}
    for order, path in enumerate(dict.fromkeys(files)):
        loaded = _load(path)
        found.add(order, loaded.problems)
        for document in loaded.documents:
            found.add(order, _defined_before(document, str(path), first_seen))
            documents.append(NamedDocument(str(path), order, document))
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


def ask_server(
    client: Client,
    documents: Sequence[NamedDocument],
    found: Found,
    *,
    validate_only: bool = True,
) -> list[dag_pb2.ApplyDagResponse]:
    """Lets the server check every document; its problems join those found before."""
    answers = []
    for each in documents:
        try:
            answers.append(client.dags.apply(each.document.spec, validate_only=validate_only))
        except InvalidArgumentError as error:
            found.add(each.order, _translated(each, error))
        except UnavailableError:
            # What is known already helps more than that the server is away.
            refuse(found, len({one.file for one in documents}), "the server was not asked")
            raise
    return answers


def _translated(named: NamedDocument, error: InvalidArgumentError) -> list[Problem]:
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


def refuse(found: Found, files: int, consequence: str, form: Format = "table") -> None:
    """Prints all problems and ends the command, if there are any.

    A machine's form of them goes to standard output; the sentences are told all the same.
    """
    problems = found.sorted()
    if not problems:
        return
    if form != "table":
        print_documents(form, [{"problems": [_problem_document(each) for each in problems]}])
    for problem in problems:
        say(text.printable(str(problem).replace("\n", " "), 4_000))
    count, where = text.plural(len(problems), "problem"), text.plural(files, "file")
    after = f"; {consequence}" if consequence else ""
    raise CommandError(f"{count} in {where}{after}", ExitCode.INVALID, "correct them and try again")


def _problem_document(problem: Problem) -> dict[str, str | int]:
    hint = f" ({problem.hint})" if problem.hint else ""
    return {
        "file": problem.position.file,
        "line": problem.position.line,
        "column": problem.position.col,
        "field": problem.field,
        "message": f"{problem.message}{hint}",
    }
