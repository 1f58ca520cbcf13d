"""`verify`: judges a database that may be in use, and says what it violates.

Decides what is printed, and the exit code: 0 nothing was found, 1 something was. Promises to change
nothing. Does not know what is judged.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mainspring.cli.exit_codes import CommandError, ExitCode
from mainspring.cli.output import Table, print_documents, print_tables
from mainspring.client.errors import InvalidArgumentError
from mainspring.client.names import ANY_DAG, run_name
from mainspring.definition.quantities import QuantityError, parse_duration

from controlplane.cli.database import Parser, answered, dsn_of
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
    return answered(lambda: _judge(parse(arguments, os.environ)))


def _judge(asked: Asked) -> ExitCode:
    findings = asyncio.run(_verify(asked))
    if asked.form == "table":
        print_tables(tables(findings))
    else:
        print_documents(asked.form, [findings.as_document()])
    return ExitCode.OK if findings.clean else ExitCode.FAILED


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


def parse(arguments: Sequence[str], environ: Mapping[str, str]) -> Asked:
    """What a command line asks for. Raises CommandError; wrong flags end the process with 2."""
    parser = Parser(
        "verify",
        "to read",
        "Judge what a database says against what must always hold.",
        "--since 24h",
    )
    parser.add_argument("--run", help="one run: UUID, DAG/UUID, or its resource name")
    parser.add_argument("--since", help="only what is newer, such as 24h; and what is live")
    parser.add_argument("--output", choices=("table", "json", "yaml"), default="table")
    options = parser.parse_args(arguments)
    if options.run is not None and options.since is not None:
        parser.error("--run and --since exclude each other")
    return Asked(
        dsn=dsn_of(options, environ),
        run=None if options.run is None else _run_of(options.run),
        since_us=None if options.since is None else _duration_us(options.since, parser),
        form=options.output,
    )


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
