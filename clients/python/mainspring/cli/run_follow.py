"""`mainspring run watch` and `run wait`: until the run is final.

Decides: progress goes to standard error, the final run to standard output; the exit code is the
result of the run. With a machine's form, `watch` prints every step of the stream as a line of JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from mainspring.cli.exit_codes import CommandError, ExitCode
from mainspring.cli.flags import ANYWHERE, AS_TABLE, Connect, Format, Print, RunArgument, finite
from mainspring.cli.output import print_json_line, show

if TYPE_CHECKING:
    from mainspring.client import Client
    from mainspring.v1 import run_pb2


def watch(run: RunArgument, /, *, connection: Connect = ANYWHERE, output: Print = AS_TABLE) -> int:
    """Follows a run."""
    if output.format == "yaml":
        raise CommandError(
            "a watch has no YAML form: it is a stream", ExitCode.USAGE, "use -o json or no -o"
        )
    with connection.client() as client:
        if output.format == "table":
            return finish(follow(client, run), output.format)
        return _print_steps(client, run)


def wait(
    run: RunArgument,
    /,
    *,
    timeout: Annotated[
        float | None,
        Parameter(
            validator=(finite, Number(gt=0, lt=1e9)),
            help="Most seconds to wait; then exit code 5.",
        ),
    ] = None,
    connection: Connect = ANYWHERE,
    output: Print = AS_TABLE,
) -> int:
    """Waits for a run."""
    with connection.client() as client:
        return finish(client.runs.wait(run, timeout_s=timeout), output.format)


def follow(client: Client, run: str) -> run_pb2.Run:
    """Shows progress until the run is final; the answer is the final run."""
    from mainspring.cli.progress import progress
    from mainspring.v1 import run_pb2

    final = run_pb2.Run()
    with progress() as shown:
        for step in client.runs.watch(run):
            shown.update(step)
            final = step.run
    return final


def finish(run: run_pb2.Run, form: Format) -> int:
    """Prints the final run; the answer is the exit code of its result."""
    from mainspring.cli import run_table

    show(form, [run], lambda: run_table.one_run(run))
    return result_code(run)


def result_code(run: run_pb2.Run) -> int:
    """0 only for a run that succeeded."""
    from mainspring.v1 import run_pb2

    return ExitCode.OK if run.state == run_pb2.RUN_STATE_SUCCEEDED else ExitCode.FAILED


def _print_steps(client: Client, run: str) -> int:
    """Prints every step as JSON; the answer is the exit code of the result."""
    code: int = ExitCode.FAILED
    for step in client.runs.watch(run):
        print_json_line(step)
        code = result_code(step.run)
    return code
