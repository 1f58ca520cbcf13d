"""`mainspring import wfformat`: a workflow of another format in, a DAG file out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from mainspring.cli import text
from mainspring.cli.exit_codes import CommandError, ExitCode
from mainspring.cli.flags import finite
from mainspring.cli.output import say
from mainspring.client.names import dag_name, last_segment

_EXPECTED = "name a WfFormat file (JSON) of version 1.4, 1.5 or 1.6"


def wfformat(
    file: Annotated[Path, Parameter(help="WfFormat file (JSON), version 1.4, 1.5 or 1.6.")],
    /,
    *,
    time_scale: Annotated[
        float,
        Parameter(
            validator=(finite, Number(gte=0, lte=1e6)),
            help="Recorded run times are multiplied by this.",
        ),
    ] = 0.01,
    dag: Annotated[str | None, Parameter(help="Id of the DAG; default: from the file.")] = None,
    cpu_limit: Annotated[
        float | None,
        Parameter(
            validator=(finite, Number(gt=0)), help="Requests for more cores are lowered to this."
        ),
    ] = None,
    memory_limit: Annotated[
        int | None,
        Parameter(validator=Number(gt=0), help="Requests for more bytes are lowered to this."),
    ] = None,
    output: Annotated[
        Path | None,
        Parameter(name=["--output", "-o"], help="File to write; default: standard output."),
    ] = None,
) -> None:
    """Imports a workflow."""
    from mainspring.definition import dump_yaml
    from mainspring.definition.wfformat import import_workflow

    try:
        imported = import_workflow(
            file,
            time_scale=time_scale,
            dag_id=None if dag is None else last_segment(dag_name(dag)),
            cpu_limit=cpu_limit,
            memory_limit_bytes=memory_limit,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CommandError(f"{file}: {reason}", ExitCode.INVALID, _EXPECTED) from None
    for warning in imported.warnings:
        say(f"warning: {text.one_line(warning, 1_000)}")
    _write(dump_yaml(imported.spec), output)
    say(f"DAG {imported.spec.dag}: {text.plural(len(imported.spec.tasks), 'task')}")


def _write(definition: str, output: Path | None) -> None:
    if output is None:
        print(definition, end="")
    else:
        output.write_text(definition, "utf-8")
