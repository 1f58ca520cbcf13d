"""`verify`: judges a database that may be in use, and says what it violates.

Decides where the database is looked for, what is printed, and the exit code: 0 nothing was found, 1
something was, 5 the database cannot be read. Promises to change nothing. Does not know what is
judged.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from mainspring.cli.exit_codes import CommandError, ExitCode
from mainspring.cli.output import Table, print_documents, print_tables, say
from mainspring.client.errors import InvalidArgumentError
from mainspring.client.names import ANY_DAG, run_name
from mainspring.definition.quantities import QuantityError, parse_duration

from controlplane.store.errors import SchemaError, StoreError
from controlplane.store.evidence import EVER_US, EvidenceStore
from controlplane.verify.findings import Findings, Invariant, Violation
from controlplane.verify.verification import NoSuchRunError, Verification

if TYPE_CHECKING:
    from mainspring.cli.flags import Format


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command line asks for. `run`: DAG (None: any) and id; `since_us`: so long ago."""

    dsn: str
    run: tuple[str | None, bytes] | None
    since_us: int | None
    form: Format


def main(arguments: Sequence[str]) -> int:
    """Verifies once; the answer is the exit code."""
    try:
        asked = parse(arguments, os.environ)
        findings = asyncio.run(_verify(asked))
    except CommandError as error:
        return _failed(error.code, error.message, error.next_step)
    except SchemaError as error:
        return _failed(ExitCode.CONFLICT, str(error), "use the program of the same version")
    except StoreError as error:
        return _failed(ExitCode.UNREACHABLE, str(error), "check the DSN, and that it is up")
    if asked.form == "table":
        print_tables(tables(findings))
    else:
        print_documents(asked.form, [findings.as_document()])
    return ExitCode.OK if findings.clean else ExitCode.FAILED


def _failed(code: ExitCode, sentence: str, next_step: str) -> ExitCode:
    say(f"error: {sentence}")
    say(f"next:  {next_step}")
    return code


async def _verify(asked: Asked) -> Findings:
    async with EvidenceStore.opened(asked.dsn) as store:
        verification = Verification(store)
        if asked.run is not None:
            dag, run_id = asked.run
            try:
                return await verification.one_run(run_id, dag)
            except NoSuchRunError:
                raise CommandError(
                    "there is no such run, or none of its rows yet",
                    ExitCode.CONFLICT,
                    "`mainspring run list` shows the runs",
                ) from None
        if asked.since_us is None:
            return await verification.everything(EVER_US)
        return await verification.everything(await store.now_us() - asked.since_us)


def tables(findings: Findings) -> list[Table]:
    """One line for each invariant, then what was found, with its evidence."""
    summary = Table(("INVARIANT", "JUDGED", "VIOLATIONS", "MEANING"))
    for each in Invariant:
        counted = (findings.judged[each], findings.found[each])
        summary.add(each.name, *counted, each.value)
    found = [_violation(each) for each in findings.violations]
    kept, all_found = len(findings.violations), sum(findings.found.values())
    if kept < all_found:
        rest = Table()
        rest.add("more", f"{all_found - kept} violations are counted and not shown")
        found.append(rest)
    return [summary, *found]


def _violation(violation: Violation) -> Table:
    table = Table()
    table.add(violation.invariant.name, violation.subject)
    table.add("", violation.detail)
    for name, fact in violation.evidence:
        table.add("", f"{name}: {fact}")
    return table


class Parser(argparse.ArgumentParser):
    """Says what is wrong in the words of the other commands."""

    def error(self, message: str) -> NoReturn:
        say(f"error: {message}")
        say(f"next:  {self.prog} --help")
        self.exit(ExitCode.USAGE)


def parse(arguments: Sequence[str], environ: Mapping[str, str]) -> Asked:
    """What a command line asks for. Raises CommandError; wrong flags end the process with 2."""
    parser = Parser(
        prog="mainspring verify",
        description="Judge what a database says against what must always hold.",
        epilog="example: mainspring verify --since 24h",
        allow_abbrev=False,
    )
    parser.add_argument("--dsn", help="PostgreSQL to read (or MAINSPRING_DSN)")
    parser.add_argument("--dsn-file", type=Path, help="file that holds it")
    parser.add_argument("--run", help="one run: UUID, DAG/UUID, or its resource name")
    parser.add_argument("--since", help="only what is newer, such as 24h; and what is live")
    parser.add_argument("--output", choices=("table", "json", "yaml"), default="table")
    options = parser.parse_args(arguments)
    if options.run is not None and options.since is not None:
        parser.error("--run and --since exclude each other")
    return Asked(
        dsn=options.dsn or dsn_of(options.dsn_file, environ),
        run=None if options.run is None else _run_of(options.run),
        since_us=None if options.since is None else _duration_us(options.since, parser),
        form=options.output,
    )


def dsn_of(file: Path | None, environ: Mapping[str, str]) -> str:
    """From a file that is named, else from the environment."""
    how = "`mainspring up` starts a cluster here; --dsn or MAINSPRING_DSN names a database"
    if file is None:
        if dsn := environ.get("MAINSPRING_DSN"):
            return dsn
        raise CommandError("no database is known", ExitCode.UNREACHABLE, how)
    try:
        return file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        sentence = f"no database is known: there is no {file}"
        raise CommandError(sentence, ExitCode.UNREACHABLE, how) from None
    except (OSError, ValueError) as error:
        sentence = f"{file} cannot be read: {error}"
        raise CommandError(sentence, ExitCode.NOT_ALLOWED, "check who may read it") from None


def _run_of(text: str) -> tuple[str | None, bytes]:
    try:
        _, dag, _, run = run_name(text).split("/")
    except InvalidArgumentError as error:
        step = "`mainspring run list` shows the runs"
        raise CommandError(error.message, ExitCode.INVALID, step) from None
    return None if dag == ANY_DAG else dag, bytes.fromhex(run.replace("-", ""))


def _duration_us(text: str, parser: argparse.ArgumentParser) -> int:
    try:
        return parse_duration(text.strip()) // 1_000
    except QuantityError as error:
        parser.error(f"--since: {error.message}. {error.hint}".strip())
