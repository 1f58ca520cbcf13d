"""`mainspring verify`: has `mainspring-server` judge a database.

Decides where the database is looked for: what is said explicitly, then MAINSPRING_DSN, then the
local cluster that all other commands would call. Promises: this process is replaced, so that the
exit status is the server's own. Does not know what is judged.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mainspring.cli.exit_codes import CommandError, ExitCode
from mainspring.cli.flags import AS_TABLE, Print
from mainspring.client.settings import data_folder

# Where `mainspring up` leaves the address of its database, inside the data folder.
DSN_FILE = Path("run/dsn")


def verify(
    *,
    dsn: Annotated[
        str | None,
        Parameter(help="PostgreSQL to read; default: MAINSPRING_DSN, else the local cluster's."),
    ] = None,
    data: Annotated[
        Path | None, Parameter(help="Data folder of a local cluster (`mainspring up`).")
    ] = None,
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
    given = [f"{name}={value}" for name, value in flags.items() if value is not None]
    if find_spec("controlplane") is None:
        raise CommandError(
            "`mainspring verify` needs the server, which is not installed here",
            ExitCode.NOT_ALLOWED,
            "pip install 'mainspring[local]'",
        )
    command = [sys.executable, "-P", "-m", "controlplane.cli", "verify", *given]
    os.execv(sys.executable, command)  # noqa: S606 -- no shell is wanted


def dsn_file(dsn: str | None, data: Path | None) -> Path | None:
    """The file of the local cluster, unless a database was named in another way."""
    if dsn is not None or (data is None and os.environ.get("MAINSPRING_DSN")):
        return None
    return data_folder(data, os.environ) / DSN_FILE
