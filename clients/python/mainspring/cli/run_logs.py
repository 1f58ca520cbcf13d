"""`mainspring run logs`: what an attempt wrote, byte for byte."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from mainspring.cli.flags import ANYWHERE, Connect, RunArgument, switch


def logs(
    run: RunArgument,
    task: Annotated[str, Parameter(help="Id of the task.")],
    /,
    *,
    attempt: Annotated[
        int,
        Parameter(
            validator=Number(gte=0, lt=2**31), help="Number of the attempt; 0 is the last one."
        ),
    ] = 0,
    follow: Annotated[
        bool,
        switch("Go on until the attempt is final.", name=["--follow", "-f"]),
    ] = False,
    stream: Annotated[
        Literal["stdout", "stderr"] | None, Parameter(help="Only this stream; default: both.")
    ] = None,
    connection: Connect = ANYWHERE,
) -> None:
    """Prints logs."""
    from mainspring.v1 import run_pb2

    number = run_pb2.LogStream.Value(f"LOG_STREAM_{(stream or 'unspecified').upper()}")
    with connection.client() as client:
        pieces = client.runs.logs(run, task, attempt=attempt, stream=number, follow=follow)
        for piece in pieces:
            sys.stdout.buffer.write(piece.data)
            if follow:
                sys.stdout.buffer.flush()
    sys.stdout.buffer.flush()
