"""The entry point of the agent process: `python -P -m agent.main`.

Decides: how the agent logs (lines for people on a terminal, JSON elsewhere, always to standard
error) and what its exit code means: 0 stopped, 2 wrong settings, 3 refused by the nodes, 70 broken.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version

import structlog
import uvloop

from agent.settings import AgentSettings, SettingsError, parse
from agent.shell import AgentShell, new_identity

EXIT_SETTINGS = 2


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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


async def run(settings: AgentSettings) -> int:
    """Runs an agent until a signal or a refusal ends it."""
    shell = AgentShell(settings, new_identity(), version("mainspring-server"))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, shell.stop)
    return await shell.run()


def main(argv: Sequence[str]) -> int:
    try:
        settings = parse(argv)
    except SettingsError as error:
        for line in error.errors:
            print(f"error: {line}", file=sys.stderr)
        return EXIT_SETTINGS
    configure_logging(settings.log_format)
    return uvloop.run(run(settings))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
