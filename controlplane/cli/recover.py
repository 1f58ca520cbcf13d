"""`recover`: says that a database went back in time, so that its shards recover from it.

Decides the exit code: 0 the shards are marked, 3 one of them does not exist, 5 the database cannot
be reached. Works with nodes up or down: leaders that are up are deposed. Does not know what a shard
then holds back.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from mainspring.cli.exit_codes import CommandError, ExitCode
from mainspring.cli.output import say

from controlplane.cli.verify import Parser, dsn_of
from controlplane.store.errors import SchemaError, StoreError
from controlplane.store.store import Store

MOST_REASON = 500


def main(arguments: Sequence[str]) -> int:
    """Marks once; the answer is the exit code."""
    options = _parse(arguments)
    try:
        dsn = options.dsn or dsn_of(options.dsn_file, os.environ)
        epochs = asyncio.run(_mark(dsn, options.reason.strip(), options.shard))
    except CommandError as error:
        return _failed(error.code, error.message, error.next_step)
    except SchemaError as error:
        return _failed(ExitCode.CONFLICT, str(error), "use the program of the same version")
    except StoreError as error:
        return _failed(ExitCode.UNREACHABLE, str(error), "check the DSN, and that it is up")
    for shard, epoch in sorted(epochs.items()):
        say(f"shard {shard} recovers, in epochs above {epoch}")
    say("next:  `mainspring shard list` says until when, `mainspring approval list` what to decide")
    return ExitCode.OK


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="mainspring admin recover",
        description="Say that a database went back in time.",
        epilog='example: mainspring admin recover --reason "restored last night\'s backup"',
        allow_abbrev=False,
    )
    parser.add_argument("--dsn", help="PostgreSQL that went back (or MAINSPRING_DSN)")
    parser.add_argument("--dsn-file", type=Path, help="file that holds it")
    parser.add_argument("--shard", type=int, action="append", help="only this one; several times")
    parser.add_argument("--reason", required=True, help="why; at most 500 characters")
    options = parser.parse_args(arguments)
    if not 0 < len(options.reason.strip()) <= MOST_REASON or "\0" in options.reason:
        parser.error(f"--reason: between 1 and {MOST_REASON} characters")
    return options


async def _mark(dsn: str, reason: str, shards: Sequence[int] | None) -> dict[int, int]:
    store = await Store.open(dsn)
    try:
        count = await store.count_shards()
        unknown = [number for number in shards or () if not 0 <= number < count]
        if unknown:
            sentence = f"there is no shard {unknown[0]}; there are {count}, from 0 on"
            raise CommandError(sentence, ExitCode.INVALID, "`mainspring shard list` shows them")
        return await store.mark_restored(reason, shards)
    finally:
        await store.close()


def _failed(code: ExitCode, sentence: str, next_step: str) -> ExitCode:
    say(f"error: {sentence}")
    say(f"next:  {next_step}")
    return code
