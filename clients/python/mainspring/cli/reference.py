"""Writes docs/cli.md from the command line itself: `python -m mainspring.cli.reference FILE`.

Decides the order of the page: what holds for all commands first, then each command with its help.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from rich.console import Console

from mainspring.cli.commands import COMMANDS
from mainspring.cli.exit_codes import ExitCode
from mainspring.cli.main import build_app

_WIDTH = 88
_INTRODUCTION = """\
# The command line

This page is generated from `mainspring --help`; see `mainspring.cli.reference`.

Data goes to standard output, messages to standard error. A message of failure says what is wrong,
names the field or the place in the file, and says what to do next.

## Which server, which token

The address comes from the first of these that says one:

1. `--address HOST:PORT` (several, separated by commas, are tried in turn)
2. `client.json` in the folder of `--data`, which `mainspring up` writes
3. `MAINSPRING_ADDRESS`
4. `client.json` in the folder of `MAINSPRING_DATA`, or else in `$XDG_DATA_HOME/mainspring`
   (`~/.local/share/mainspring` if that is not set)

The token comes from the first of these:

1. `--token-file`
2. the token file of the folder of `--data`
3. `MAINSPRING_TOKEN`
4. the file that `MAINSPRING_TOKEN_FILE` names
5. the token file of the folder of point 4 above, but only for the addresses of that cluster

Addresses of this machine (`localhost`, `127.0.0.0/8`, `::1`) are called in plain text unless `--ca`
or `MAINSPRING_CA` names certificates; every other address is called with TLS, so that a token never
leaves the machine unencrypted.

A call that nobody answers goes to the next address and is tried again for a short while. Commands
that change something carry a request id, so that a repetition has no second effect.

## Forms of output

`-o table` (the default) is for people: columns may change, and colours appear on a terminal only.
`-o json` or `--json` prints the message of the API as proto3 JSON: names in lowerCamelCase, as on
every other door of the server, 64-bit integers as strings, fields at their default included. Lists
are the `List…Response` message of all pages read, with the `nextPageToken` of what `--limit` left
out. A command with several answers prints several documents, one after the other. `-o yaml` prints
the same documents as YAML. `run watch -o json` prints one line for each step.

Times are in UTC, unless they name their zone.
"""


def reference() -> str:
    """The whole page."""
    parts = [_INTRODUCTION, _exit_codes()]
    parts += [f"## mainspring {each.words}\n\n{_help(each.words)}" for each in COMMANDS]
    return "\n".join(parts)


def _exit_codes() -> str:
    lines = ["## Exit codes", "", "| code | meaning |", "|---|---|"]
    lines += [f"| {code.value} | {code.meaning} |" for code in ExitCode]
    return "\n".join(lines) + "\n"


def _help(words: str) -> str:
    drawn = io.StringIO()
    build_app().help_print(words.split(), console=Console(file=drawn, width=_WIDTH))
    lines = "\n".join(line.rstrip() for line in drawn.getvalue().strip().splitlines())
    return f"```text\n{lines}\n```\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), "utf-8")
