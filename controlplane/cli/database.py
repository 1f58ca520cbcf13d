"""Commands on a database that is named by its DSN, whether nodes are up or not.

Decides where the DSN is looked for, and the exit code of what a database refuses: 4 another version
of the schema, 5 it is not known or cannot be reached. Does not know what is asked of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from mainspring.cli.exit_codes import CommandError, ExitCode
from mainspring.cli.output import say

from controlplane.store.errors import SchemaError, StoreError


class Parser(argparse.ArgumentParser):
    """Says what is wrong in the words of the other commands. `purpose`: which database it is."""

    def __init__(self, command: str, purpose: str, description: str, example: str) -> None:
        super().__init__(
            prog=f"mainspring {command}",
            description=description,
            epilog=f"example: mainspring {command} {example}",
            allow_abbrev=False,
        )
        self.add_argument("--dsn", help=f"PostgreSQL {purpose} (or MAINSPRING_DSN)")
        self.add_argument("--dsn-file", type=Path, help="file that holds it")

    def error(self, message: str) -> NoReturn:
        say(f"error: {message}")
        say(f"next:  {self.prog} --help")
        self.exit(ExitCode.USAGE)


def dsn_of(options: argparse.Namespace, environ: Mapping[str, str]) -> str:
    """What the flags name, else the environment. Raises CommandError."""
    if options.dsn:
        return str(options.dsn)
    how = "`mainspring up` starts a cluster here; --dsn or MAINSPRING_DSN names a database"
    file: Path | None = options.dsn_file
    if file is None:
        if dsn := environ.get("MAINSPRING_DSN"):
            return dsn
        raise CommandError("no database is known", ExitCode.UNREACHABLE, how)
    try:
        return file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        sentence = f"no database is known: there is no {file}"
        raise CommandError(sentence, ExitCode.UNREACHABLE, how) from None
    except (OSError, ValueError) as error:
        sentence = f"{file} cannot be read: {error}"
        raise CommandError(sentence, ExitCode.NOT_ALLOWED, "check who may read it") from None


def answered(work: Callable[[], ExitCode]) -> ExitCode:
    """The exit code of some work; what it raises is told, with the way out."""
    try:
        return work()
    except CommandError as error:
        return _failed(error.code, error.message, error.next_step)
    except SchemaError as error:
        return _failed(ExitCode.CONFLICT, str(error), "use the program of the same version")
    except StoreError as error:
        return _failed(ExitCode.UNREACHABLE, str(error), "check the DSN, and that it is up")


def _failed(code: ExitCode, sentence: str, next_step: str) -> ExitCode:
    say(f"error: {sentence}")
    say(f"next:  {next_step}")
    return code
