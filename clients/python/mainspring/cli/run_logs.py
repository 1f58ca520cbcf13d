"""`mainspring run logs`: what an attempt wrote.

Promises the bytes of one stream unchanged. Decides that where two streams meet, the second begins
on a line of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from mainspring.cli.flags import ANYWHERE, Connect, RunArgument, switch

if TYPE_CHECKING:
    from mainspring.v1.run_pb2 import ReadLogsResponse


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
        Literal["stdout", "stderr"] | None,
        Parameter(help="Only this stream, unchanged; default: both."),
    ] = None,
    connection: Connect = ANYWHERE,
) -> None:
    """Prints logs."""
    from mainspring.v1 import run_pb2

    number = run_pb2.LogStream.Value(f"LOG_STREAM_{(stream or 'unspecified').upper()}")
    with connection.client() as client:
        pieces = client.runs.logs(run, task, attempt=attempt, stream=number, follow=follow)
        for data in pieces_apart(pieces):
            sys.stdout.buffer.write(data)
            if follow:
                sys.stdout.buffer.flush()
    sys.stdout.buffer.flush()


def pieces_apart(pieces: Iterable[ReadLogsResponse]) -> Iterator[bytes]:
    """The bytes of all pieces, with a line feed where another stream would go on within a line."""
    stream, last = 0, b""
    for piece in pieces:
        if stream not in (0, piece.stream) and last not in (b"", b"\n"):
            yield b"\n"
        yield piece.data
        stream, last = piece.stream, piece.data[-1:]
