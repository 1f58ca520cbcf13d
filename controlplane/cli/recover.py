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

from mainspring.cli.exit_codes import CommandError, ExitCode
from mainspring.cli.output import say

from controlplane.cli.database import Parser, answered, dsn_of
from controlplane.store.store import Store

MOST_REASON = 500


def main(arguments: Sequence[str]) -> int:
    """Marks once; the answer is the exit code."""
    options = _parse(arguments)
    return answered(lambda: _recover(options))


def _recover(options: argparse.Namespace) -> ExitCode:
    dsn = dsn_of(options, os.environ)
    epochs = asyncio.run(_mark(dsn, options.reason.strip(), options.shard))
    for shard, epoch in sorted(epochs.items()):
        say(f"shard {shard} recovers, in epochs above {epoch}")
    say("next:  `mainspring shard list` says until when, `mainspring approval list` what to decide")
    return ExitCode.OK


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        "admin recover",
        "that went back",
        "Say that a database went back in time.",
        '--reason "restored last night\'s backup"',
    )
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
