"""The real PostgreSQL of the wheel: boots, keeps its data, lets nobody else in, leaves nothing."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from controlplane.embedded import postgres as module
from controlplane.embedded.errors import FolderError, ServerStartError, StillRunningError
from controlplane.embedded.postgres import EmbeddedPostgres, lent_user_id, server_user
from controlplane.embedded.process import ChildProcess, Command, processes_in, wait_until_left
from tests.servers.postgres import PostgresServer
from tests.servers.until import until

DEADLINE_S = 30.0
# Never waits, so that it never learns that its postmaster died.
BUSY = "DO $$ BEGIN LOOP NULL; END LOOP; END $$"


@asynccontextmanager
async def running(server: EmbeddedPostgres):
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
    assert processes_in(server.data, "postgres") == ()


@asynccontextmanager
async def connected(dsn: str):
    connection = await asyncpg.connect(dsn, timeout=DEADLINE_S)
    try:
        yield connection
    finally:
        await connection.close()


async def write(dsn: str, number: int) -> None:
    async with connected(dsn) as connection:
        await connection.execute("CREATE TABLE IF NOT EXISTS kept (number int)")
        await connection.execute("INSERT INTO kept VALUES ($1)", number)


async def kept(dsn: str) -> list[int]:
    async with connected(dsn) as connection:
        return [row[0] for row in await connection.fetch("SELECT number FROM kept ORDER BY 1")]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_first_boot_is_durable_and_closed_to_others(tmp_path):
    async with running(EmbeddedPostgres(tmp_path / "pg")) as server:
        async with connected(server.dsn) as connection:
            said = {
                name: await connection.fetchval("SELECT current_setting($1)", name)
                for name in ("listen_addresses", "fsync", "synchronous_commit", "server_encoding")
            }
            assert connection.get_server_version().major == 18
            assert await connection.fetchval("SELECT current_database()") == "mainspring"
        assert said == {
            "listen_addresses": "",
            "fsync": "on",
            "synchronous_commit": "on",
            "server_encoding": "UTF8",
        }
        assert [mode(tmp_path / "pg" / name) for name in ("", "data", "run")] == [0o700] * 3
        assert mode(tmp_path / "pg" / "run" / ".s.PGSQL.5432") == 0o700
        assert mode(tmp_path / "pg" / "password") == 0o600
        assert (tmp_path / "pg" / "data" / "PG_VERSION").stat().st_uid == os.geteuid()


async def test_nobody_enters_without_the_password(tmp_path):
    async with running(EmbeddedPostgres(tmp_path / "pg")) as server:
        password = (tmp_path / "pg" / "password").read_text().strip()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.dsn.replace(password, "guessed"))


async def test_data_survive_a_stop_and_a_sigkill(tmp_path):
    server = EmbeddedPostgres(tmp_path / "pg")
    async with running(server):
        dsn = server.dsn
        await write(dsn, 1)
        await server.stop()
        assert server.pid is None
        await server.start()
        await write(dsn, 2)
        await server.kill()
        assert await server.wait() == -signal.SIGKILL
        assert (server.data / "postmaster.pid").exists()
        await server.start()
        assert await kept(dsn) == [1, 2]
    async with running(EmbeddedPostgres(tmp_path / "pg")) as another:
        assert await kept(another.dsn) == [1, 2]


async def test_a_stale_pid_file_with_the_number_of_a_stranger_is_no_obstacle(tmp_path):
    server = EmbeddedPostgres(tmp_path / "pg")
    async with running(server):
        await server.kill()
    pid_file = server.data / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    async with running(server):
        assert await asyncio.to_thread(pid_file.read_text) != ""


async def test_it_restarts_with_the_same_dsn_after_any_end(tmp_path):
    server = EmbeddedPostgres(tmp_path / "pg")
    async with running(server):
        dsn = server.dsn
        numbers = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGSEGV)
        for number in numbers:
            await write(dsn, number)
            os.kill(server.pid, number)
            await server.wait()
            await server.restart()
            assert server.dsn == dsn
        assert await kept(dsn) == sorted(numbers)


async def test_a_busy_child_of_a_killed_postmaster_does_not_hold_up_the_restart(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "_ORPHANS_DEADLINE_S", 0.05)
    server = EmbeddedPostgres(tmp_path / "pg")
    async with running(server):
        await write(server.dsn, 1)
        connection = await asyncpg.connect(server.dsn)
        busy = asyncio.ensure_future(connection.execute(BUSY))
        backend = connection.get_server_pid()
        title = Path(f"/proc/{backend}/cmdline")
        await until(lambda: title.read_text().rstrip("\0 ").endswith(" DO"), DEADLINE_S)
        await server.kill()
        assert backend in processes_in(server.data, "postgres")
        await server.restart()
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await busy
        connection.terminate()
        assert await kept(server.dsn) == [1]


async def test_one_that_waits_for_its_clients_to_leave_is_told_not_to(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_LOOK_S", 0.01)
    server = EmbeddedPostgres(tmp_path / "pg")
    async with running(server), connected(server.dsn) as connection:
        assert await connection.fetchval("SELECT 1") == 1
        os.kill(server.pid, signal.SIGTERM)
        async with asyncio.timeout(DEADLINE_S):
            assert await server.wait() == 0
        await server.restart()
        await write(server.dsn, 1)


async def test_locks_of_the_socket_with_the_number_of_a_stranger_are_no_obstacle(tmp_path):
    server = EmbeddedPostgres(tmp_path / "pg")
    async with running(server):
        dsn = server.dsn
        await server.kill()
        lock = tmp_path / "pg" / "run" / ".s.PGSQL.5432.lock"
        lines = lock.read_text().splitlines()
        lock.write_text("\n".join([str(os.getppid()), *lines[1:]]) + "\n")
        await server.restart()
        await write(dsn, 1)


async def test_a_temporary_socket_folder_that_was_cleaned_away_is_made_again(tmp_path):
    server = EmbeddedPostgres(tmp_path / ("long" * 25) / "pg")
    async with running(server):
        dsn, folder = server.dsn, server._socket_folder
        await server.kill()
        shutil.rmtree(folder)
        await server.restart()
        assert server.dsn == dsn
        await write(dsn, 1)
        await server.kill()
        folder.chmod(0o755)
        with pytest.raises(FolderError, match="replaced by somebody"):
            await server.restart()
    shutil.rmtree(folder)


async def test_a_second_start_on_the_same_folder_is_refused(tmp_path, monkeypatch):
    async with running(EmbeddedPostgres(tmp_path / "pg")) as server:
        with monkeypatch.context() as patch, pytest.raises(StillRunningError) as refused:
            patch.setattr(module, "_LEFT_DEADLINE_S", 0.05)
            await EmbeddedPostgres(tmp_path / "pg").start()
        assert server.pid in refused.value.pids
        await write(server.dsn, 1)


async def test_a_first_boot_that_died_half_way_starts_afresh(tmp_path):
    server = EmbeddedPostgres(tmp_path / "pg")
    (tmp_path / "pg" / "data.new" / "base").mkdir(parents=True)
    async with running(server):
        await write(server.dsn, 1)
    server._made_marker.unlink()  # and as if it had died after CREATE DATABASE
    async with running(server):
        assert await kept(server.dsn) == [1]


async def test_a_server_that_cannot_start_says_why_and_is_gone(tmp_path):
    server = EmbeddedPostgres(tmp_path / "pg", settings={"no_such_setting": "1"})
    with pytest.raises(ServerStartError, match="no_such_setting"):
        await server.start()
    assert server.pid is None
    assert processes_in(server.data, "postgres") == ()


async def test_a_long_path_moves_only_the_socket(tmp_path):
    folder = tmp_path / ("long" * 25) / "pg"
    server = EmbeddedPostgres(folder)
    async with running(server):
        dsn = server.dsn
        await write(dsn, 1)
    again = EmbeddedPostgres(folder)
    try:
        async with running(again):
            assert again.dsn == dsn
            assert await kept(dsn) == [1]
    finally:
        again._socket_folder.rmdir()


async def test_open_connections_do_not_delay_a_stop(tmp_path):
    async with running(EmbeddedPostgres(tmp_path / "pg")) as server:
        connection = await asyncpg.connect(server.dsn)
        busy = asyncio.ensure_future(connection.execute("SELECT pg_sleep(60)"))
        await asyncio.sleep(0)
        await server.stop()
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await busy
        connection.terminate()


PARENT = """
import asyncio, sys
from pathlib import Path
from controlplane.embedded.postgres import EmbeddedPostgres

async def main():
    server = EmbeddedPostgres(Path(sys.argv[1]))
    await server.start()
    print("ready", flush=True)
    if sys.argv[2] == "stay":
        await server.wait()
    await server.stop()

asyncio.run(main())
"""


def parent(tmp_path: Path, then: str, *prefix: str) -> Command:
    return Command(
        name="parent",
        argv=(*prefix, sys.executable, "-P", "-c", PARENT, str(tmp_path / "pg"), then),
        env={"PATH": os.environ["PATH"]},
        cwd=tmp_path,
        log_file=tmp_path / "parent.log",
    )


async def test_the_server_ends_when_our_process_is_killed(tmp_path):
    child = ChildProcess(parent(tmp_path, "stay"))
    await until(lambda: "ready" in (tmp_path / "parent.log").read_text(), DEADLINE_S)
    assert processes_in(tmp_path / "pg" / "data", "postgres") != ()
    os.kill(child.pid, signal.SIGKILL)
    await child.wait()
    await wait_until_left(tmp_path / "pg" / "data", "postgres", DEADLINE_S)
    assert "database system is shut down" in (tmp_path / "pg" / "postgres.log").read_text()


async def test_an_ordinary_user_runs_it_as_well(tmp_path):
    """Inside a user namespace our own id is an ordinary one, whoever runs the tests."""
    inside = server_user() or ("unshare", "--user", f"--map-user={lent_user_id([os.geteuid()])}")
    child = ChildProcess(parent(tmp_path, "stop", *inside))
    async with asyncio.timeout(DEADLINE_S):
        assert await child.wait() == 0, (tmp_path / "parent.log").read_text()
    assert "ready" in (tmp_path / "parent.log").read_text()


def test_the_server_of_the_tests_hands_out_databases():
    with PostgresServer() as server:
        first = server.create_database("first")
        asyncio.run(write(first, 1))
        copy = server.fresh_database(template="first")
        asyncio.run(write(copy, 2))
        server.kill()
        server.restart()
        assert asyncio.run(kept(first)) == [1]
        assert asyncio.run(kept(copy)) == [1, 2]
