"""Commands that `mainspring-server` does itself.

Promises: this process is replaced, not wrapped, so that signals and exit status are the server's
own. Does not know what the server does with its flags.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mainspring.cli.exit_codes import CommandError, ExitCode
from mainspring.client.settings import data_folder

# Where `mainspring up` leaves the address of its database, inside the data folder.
DSN_FILE = Path("run/dsn")
LocalData = Annotated[
    Path | None, Parameter(help="Data folder of a local cluster (`mainspring up`).")
]


def become(command: str, said: str, flags: Mapping[str, object], more: Iterable[str] = ()) -> None:
    """Goes on as a command of the server, with the flags that are not None, and `more` as it is.

    `said`: how people call it. Raises CommandError where the server is not installed.
    """
    if find_spec("controlplane") is None:
        raise CommandError(
            f"`mainspring {said}` needs the server, which is not installed here",
            ExitCode.NOT_ALLOWED,
            "pip install 'mainspring[local]'",
        )
    given = [f"{name}={value}" for name, value in flags.items() if value is not None]
    argv = [sys.executable, "-P", "-m", "controlplane.cli", command, *given, *more]
    os.execv(sys.executable, argv)  # noqa: S606 -- no shell is wanted


def dsn_file(dsn: str | None, data: Path | None) -> Path | None:
    """The file of the local cluster, unless a database was named in another way."""
    if dsn is not None or (data is None and os.environ.get("MAINSPRING_DSN")):
        return None
    return data_folder(data, os.environ) / DSN_FILE
