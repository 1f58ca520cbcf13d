"""`mainspring verify`: has `mainspring-server` judge a database.

Decides where the database is looked for: what is said explicitly, then MAINSPRING_DSN, then the
local cluster that all other commands would call. Does not know what is judged.
"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from mainspring.cli.flags import AS_TABLE, Print
from mainspring.cli.server import LocalData, become, dsn_file


def verify(
    *,
    dsn: Annotated[
        str | None,
        Parameter(help="PostgreSQL to read; default: MAINSPRING_DSN, else the local cluster's."),
    ] = None,
    data: LocalData = None,
    run: Annotated[
        str | None, Parameter(help="One run: UUID, DAG/UUID, or its resource name.")
    ] = None,
    since: Annotated[
        str | None, Parameter(help="Only what is newer, as 24h, and what is live.")
    ] = None,
    output: Print = AS_TABLE,
) -> None:
    """Judges a database."""
    flags = {
        "--dsn": dsn,
        "--dsn-file": dsn_file(dsn, data),
        "--run": run,
        "--since": since,
        "--output": output.format,
    }
    become("verify", "verify", flags)
