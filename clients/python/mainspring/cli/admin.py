"""`mainspring admin`: has `mainspring-server` do what only the owner of the database may.

Does not know what is done.
"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from mainspring.cli.server import LocalData, become, dsn_file


def recover(
    *,
    reason: Annotated[str, Parameter(help="Why; it is shown wherever somebody waits for it.")],
    dsn: Annotated[
        str | None,
        Parameter(help="PostgreSQL that went back; default: MAINSPRING_DSN, else the local one."),
    ] = None,
    data: LocalData = None,
    shard: Annotated[
        list[int] | None,
        Parameter(negative="", validator=Number(gte=0), help="Only this one; several times."),
    ] = None,
) -> None:
    """Says that a database went back in time."""
    flags = {"--reason": reason, "--dsn": dsn, "--dsn-file": dsn_file(dsn, data)}
    become("recover", "admin recover", flags, [f"--shard={number}" for number in shard or ()])
