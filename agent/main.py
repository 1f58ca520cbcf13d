"""The entry point of the agent process: `mainspring-agent`, or `python -P -m agent.main`.

Decides: how the agent logs (lines for people on a terminal, JSON elsewhere, always to standard
error), what its signals mean (SIGTERM, SIGINT: stop with the tasks; SIGUSR2: leave the tasks to the
supervisor for the next start) and what its exit code means: 0 stopped, 2 wrong settings or a folder
in use, 3 refused by the nodes, 70 broken. Promises: one agent for each work folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TextIO, cast

import structlog
import uvloop

from agent.core.records import JournalState
from agent.journal.file import Journal, open_journal
from agent.journal.lock import FolderTaken, lock_folder
from agent.journal.reading import NotAJournal
from agent.journal.show import show
from agent.settings import AgentSettings, SettingsError, parse, parse_journal
from agent.shell import EXIT_BROKEN, AgentShell, read_clocks

EXIT_NO_JOURNAL = 1
EXIT_SETTINGS = 2
JOURNAL = "journal"
STDERR = 2
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class _StandardError:
    """Takes lines of the log; one that cannot be written (disk full) is lost, the agent is not."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            os.write(STDERR, text.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        """Nothing waits."""


def configure_logging(log_format: str) -> None:
    """`auto` writes for people if standard error is a terminal."""
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer()
    if console:
        renderer = structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if console else [structlog.processors.format_exc_info]),
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _StandardError())),
        cache_logger_on_first_use=True,
    )


async def run(settings: AgentSettings, journal: Journal, state: JournalState) -> int:
    """Runs an agent until a signal, a refusal or a fault ends it."""
    shell = AgentShell(settings, journal, state, version("mainspring-server"))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, shell.stop)
    loop.add_signal_handler(signal.SIGUSR2, shell.hand_over)
    return await shell.run()


def run_agent(argv: Sequence[str]) -> int:
    try:
        settings = parse(argv)
        lock = lock_folder(settings.work)
    except SettingsError as error:
        return _complain(error.errors, EXIT_SETTINGS)
    except (FolderTaken, OSError) as error:
        return _complain([str(error)], EXIT_SETTINGS)
    configure_logging(settings.log_format)
    try:
        boot_id = BOOT_ID.read_text("ascii").strip()
        opened = open_journal(settings.work / JOURNAL, boot_id, read_clocks().wall_us)
    except OSError as error:
        return _complain([f"the journal cannot be opened: {error}"], EXIT_BROKEN)
    try:
        return uvloop.run(run(settings, *opened))
    finally:
        os.close(lock)


def show_journal(argv: Sequence[str]) -> int:
    command = parse_journal(argv)
    path = command.path / JOURNAL if command.path.is_dir() else command.path
    try:
        for line in show(path, as_json=command.as_json):
            print(line)
    except (OSError, NotAJournal) as error:
        return _complain([f"no journal to show at {path}: {_why(error)}"], EXIT_NO_JOURNAL)
    return 0


def main(argv: Sequence[str]) -> int:
    """Runs a command; options alone are those of `run`."""
    match list(argv):
        case ["journal", *rest]:
            return show_journal(rest)
        case ["run", *rest]:
            return run_agent(rest)
        case rest:
            return run_agent(rest)


def _why(error: OSError | NotAJournal) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _complain(errors: Sequence[str], code: int) -> int:
    for line in errors:
        print(f"error: {line}", file=sys.stderr)
    return code


def command() -> None:
    """The program `mainspring-agent`."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    command()
