from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mainspring.logkeys import chunk_key
from obstore.store import MemoryStore

from agent.core.entries import Assign
from agent.logs.spool import STDERR, STDOUT, Spool
from agent.logs.upload import Uploader

ID = b"a" * 16
ASSIGN = Assign(0, 1, 1, ID, b"i", 1, 1, "d", "r", "t", "acme")
PREFIX = f"logs/acme/d/r/t/{ID.hex()}"
TEXT = b"0123456789"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path)


@pytest.fixture
async def uploader(spool: Spool, store: MemoryStore) -> AsyncIterator[Uploader]:
    uploader = Uploader(spool, store)
    running = asyncio.create_task(uploader.run())
    yield uploader
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def write_output(tmp_path: Path) -> None:
    (tmp_path / f"{ID.hex()}.stdout").write_bytes(TEXT)
    (tmp_path / f"{ID.hex()}.stderr").write_bytes(b"wrong")


def chunks(store: MemoryStore, stream: str) -> dict[str, bytes]:
    listed = store.list(prefix=f"{PREFIX}/{stream}").collect()
    return {c["path"].rpartition("/")[2]: bytes(store.get(c["path"]).bytes()) for c in listed}


def left(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def drain(uploader: Uploader) -> None:
    async with asyncio.timeout(5):
        await uploader.drain()


async def test_an_attempt_that_is_over_is_uploaded_and_forgotten(
    uploader: Uploader, spool: Spool, store: MemoryStore, tmp_path: Path
):
    uploader.watch(ID, spool.create(ASSIGN))
    write_output(tmp_path)
    uploader.finish(ID)
    await drain(uploader)
    assert chunks(store, "stdout") == {f"{0:016d}": TEXT}
    assert chunks(store, "stderr") == {f"{0:016d}": b"wrong"}
    assert left(tmp_path) == []
    uploader.finish(ID)


async def test_an_adopted_log_goes_on_where_the_store_ends(
    uploader: Uploader, spool: Spool, store: MemoryStore, tmp_path: Path
):
    write_output(tmp_path)
    store.put(chunk_key(PREFIX, "stdout", 0), TEXT[:3])
    store.put(chunk_key(PREFIX, "stdout", 3), TEXT[3:4])
    uploader.watch(ID, spool.adopt(ASSIGN))
    uploader.finish(ID)
    await drain(uploader)
    offsets = [f"{offset:016d}" for offset in (0, 3, 4)]
    assert chunks(store, "stdout") == dict(
        zip(offsets, (TEXT[:3], TEXT[3:4], TEXT[4:]), strict=True)
    )
    assert chunks(store, "stderr") == {f"{0:016d}": b"wrong"}


async def test_a_gap_in_the_store_is_filled(
    uploader: Uploader, spool: Spool, store: MemoryStore, tmp_path: Path
):
    write_output(tmp_path)
    store.put(chunk_key(PREFIX, "stdout", 0), TEXT[:2])
    store.put(chunk_key(PREFIX, "stdout", 6), TEXT[6:])
    uploader.watch(ID, spool.adopt(ASSIGN))
    uploader.finish(ID)
    await drain(uploader)
    assert chunks(store, "stdout")[f"{2:016d}"] == TEXT[2:]


async def test_what_is_owed_of_an_earlier_start_is_uploaded(
    uploader: Uploader, spool: Spool, store: MemoryStore, tmp_path: Path
):
    earlier = Spool(tmp_path)
    log = earlier.create(ASSIGN)
    write_output(tmp_path)
    earlier.end(ID)
    assert log.waiting() == 15
    store.put(chunk_key(PREFIX, "stdout", 0), TEXT)
    for attempt_id, owed in spool.recover(()).items():
        uploader.complete(attempt_id, owed)
    await drain(uploader)
    assert chunks(store, "stdout") == {f"{0:016d}": TEXT}
    assert chunks(store, "stderr") == {f"{0:016d}": b"wrong"}
    assert left(tmp_path) == []


async def test_what_is_in_the_store_already_is_not_uploaded_again(
    uploader: Uploader, spool: Spool, store: MemoryStore, tmp_path: Path
):
    write_output(tmp_path)
    store.put(chunk_key(PREFIX, "stdout", 0), TEXT)
    store.put(chunk_key(PREFIX, "stderr", 0), b"wrong")
    log = spool.adopt(ASSIGN)
    uploader.watch(ID, log)
    uploader.finish(ID)
    await drain(uploader)
    assert (log.uploaded[STDOUT], log.uploaded[STDERR]) == (10, 5)
    assert left(tmp_path) == []
