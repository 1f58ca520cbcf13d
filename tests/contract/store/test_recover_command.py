"""`recover` on a real database: what it marks, what it says, and what it refuses."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from mainspring.cli.exit_codes import ExitCode

from controlplane.cli import recover
from tests.contract.store.harness import SHARDS


async def holds(dsn: str) -> list[int]:
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch("SELECT hold FROM shard ORDER BY shard")
    await connection.close()
    return [row["hold"] for row in rows]


async def recovered(*arguments: str) -> int:
    return await asyncio.to_thread(recover.main, arguments)


async def test_all_shards_are_marked(dsn, capsys):
    assert await recovered(f"--dsn={dsn}", "--reason=restored") == ExitCode.OK
    assert await holds(dsn) == [2] * SHARDS
    assert "shard 0 recovers, in epochs above 1000" in capsys.readouterr().err


async def test_some_shards_can_be_named(dsn):
    assert await recovered(f"--dsn={dsn}", "--reason=x", "--shard=1", "--shard=3") == ExitCode.OK
    assert await holds(dsn) == [0, 2, 0, 2]


async def test_a_shard_that_does_not_exist_marks_nothing(dsn, capsys):
    assert await recovered(f"--dsn={dsn}", "--reason=x", "--shard=9") == ExitCode.INVALID
    assert "there is no shard 9" in capsys.readouterr().err
    assert await holds(dsn) == [0] * SHARDS


async def test_a_database_that_was_never_migrated_is_refused(empty_dsn):
    assert await recovered(f"--dsn={empty_dsn}", "--reason=x") == ExitCode.CONFLICT


async def test_a_server_that_is_not_there_is_said():
    dsn = "postgresql://u@127.0.0.1:1/d"
    assert await recovered(f"--dsn={dsn}", "--reason=x") == ExitCode.UNREACHABLE


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
def test_a_reason_is_needed(reason):
    with pytest.raises(SystemExit) as ended:
        recover.main(["--dsn=postgresql://u@h/d", f"--reason={reason}"])
    assert ended.value.code == ExitCode.USAGE


def test_without_a_database_it_says_so(monkeypatch, capsys):
    monkeypatch.delenv("MAINSPRING_DSN", raising=False)
    assert recover.main(["--reason=x"]) == ExitCode.UNREACHABLE
    assert "no database is known" in capsys.readouterr().err
