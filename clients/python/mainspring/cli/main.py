"""The entry point: builds the command line from the table of commands, runs one, exits.

Promises: `--help` imports no command and neither gRPC nor protobuf; whatever happens ends in one of
the exit codes. Does not know any command.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import App

from mainspring.cli.commands import COMMANDS, GROUPS
from mainspring.cli.exit_codes import ExitCode

_ABOUT = (
    "A distributed scheduler of DAGs and one-time tasks.\n\n"
    "Commands call the server of --address or MAINSPRING_ADDRESS, or else the local cluster of "
    "`mainspring up`. Data goes to standard output, messages to standard error."
)
_EXAMPLES = (
    "mainspring up",
    "mainspring dag apply etl.yaml",
    "mainspring run trigger etl --watch",
)


def build_app() -> App:
    """The command line as cyclopts sees it."""
    app = App(
        name="mainspring",
        help=_ABOUT,
        help_epilogue=_epilogue(_EXAMPLES),
        help_format="plaintext",
        help_formatter="plain",
        version=_version,
        result_action="return_value",
        print_error=False,
        exit_on_error=False,
        suppress_keyboard_interrupt=False,
    )
    groups = {name: _group(app, name, text) for name, text in GROUPS.items()}
    for command in COMMANDS:
        group, _, name = command.words.rpartition(" ")
        parent = groups[group] if group else app
        parent.command(
            command.target,
            name=name,
            help=command.help,
            help_epilogue=_epilogue(command.examples),
        )
    return app


def run(arguments: Sequence[str]) -> int:
    """Runs one command line; the answer is its exit code."""
    try:
        result = build_app()(list(arguments))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # What is still buffered must not fail once more when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.PIPE_CLOSED
    except Exception as error:  # noqa: BLE001 -- the one place that turns everything into a message
        from mainspring.cli.failures import report

        return report(error)
    return result if isinstance(result, int) else ExitCode.OK


def main() -> None:
    """Runs the command line of this process and exits."""
    sys.exit(int(run(sys.argv[1:])))


def _group(app: App, name: str, text: str) -> App:
    first = next(each for each in COMMANDS if each.words.startswith(f"{name} "))
    group = App(name=name, help=text, help_epilogue=_epilogue(first.examples))
    app.command(group)
    return group


def _epilogue(examples: Sequence[str]) -> str:
    return "\n".join(
        ("Example:" if len(examples) == 1 else "Examples:", *map("  {}".format, examples))
    )


def _version() -> str:
    from importlib.metadata import version

    return f"mainspring {version('mainspring')}"


if __name__ == "__main__":
    main()
