"""`mainspring admin`: has `mainspring-server` do what only the owner of the database may.

Promises: this process is replaced, so that the exit status is the server's own. Does not know what
is done.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from mainspring.cli.exit_codes import CommandError, ExitCode
from mainspring.cli.verify import dsn_file


def recover(
    *,
    reason: Annotated[str, Parameter(help="Why; it is shown wherever somebody waits for it.")],
    dsn: Annotated[
        str | None,
        Parameter(help="PostgreSQL that went back; default: MAINSPRING_DSN, else the local one."),
    ] = None,
    data: Annotated[
        Path | None, Parameter(help="Data folder of a local cluster (`mainspring up`).")
    ] = None,
    shard: Annotated[
        list[int] | None,
        Parameter(negative="", validator=Number(gte=0), help="Only this one; several times."),
    ] = None,
) -> None:
    """Says that a database went back in time."""
    given = [f"--reason={reason}", *(f"--shard={number}" for number in shard or ())]
    named = {"--dsn": dsn, "--dsn-file": dsn_file(dsn, data)}
    given += [f"{name}={value}" for name, value in named.items() if value is not None]
    if find_spec("controlplane") is None:
        raise CommandError(
            "`mainspring admin recover` needs the server, which is not installed here",
            ExitCode.NOT_ALLOWED,
            "pip install 'mainspring[local]'",
        )
    command = [sys.executable, "-P", "-m", "controlplane.cli", "recover", *given]
    os.execv(sys.executable, command)  # noqa: S606 -- no shell is wanted
