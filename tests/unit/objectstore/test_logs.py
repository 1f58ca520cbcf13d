from __future__ import annotations

from pathlib import Path

import pytest
from mainspring.logkeys import chunk_key, log_prefix

from controlplane.objectstore.logs import PIECE_BYTES, LogStore, LogStoreError

PREFIX = log_prefix("t", "d", "run", "task", bytes(16))


def write(folder: Path, offset: int, data: bytes, stream: str = "stdout") -> None:
    path = folder / chunk_key(PREFIX, stream, offset)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


async def read(folder: Path, offset: int = 0, stream: str = "stdout") -> list[tuple[int, bytes]]:
    store = LogStore(f"file://{folder}")
    return [(piece.offset, piece.data) async for piece in store.read(PREFIX, stream, offset)]


async def test_chunks_come_in_the_order_of_their_offsets(tmp_path: Path) -> None:
    write(tmp_path, 3, b"def")
    write(tmp_path, 0, b"abc")
    write(tmp_path, 0, b"other", "stderr")
    assert await read(tmp_path) == [(0, b"abc"), (3, b"def")]
    assert await read(tmp_path, 4) == [(4, b"ef")]
    assert await read(tmp_path, 0, "stderr") == [(0, b"other")]


async def test_bytes_that_chunks_share_come_once(tmp_path: Path) -> None:
    write(tmp_path, 0, b"abcd")
    write(tmp_path, 2, b"cd")
    write(tmp_path, 3, b"def")
    assert await read(tmp_path) == [(0, b"abcd"), (4, b"ef")]


async def test_a_gap_ends_the_log(tmp_path: Path) -> None:
    write(tmp_path, 0, b"ab")
    write(tmp_path, 5, b"f")
    assert await read(tmp_path) == [(0, b"ab")]


async def test_large_chunks_come_in_pieces(tmp_path: Path) -> None:
    write(tmp_path, 0, bytes(PIECE_BYTES + 1))
    assert [(offset, len(data)) for offset, data in await read(tmp_path)] == [
        (0, PIECE_BYTES),
        (PIECE_BYTES, 1),
    ]


async def test_an_attempt_without_output_has_no_log(tmp_path: Path) -> None:
    assert await read(tmp_path / "new") == []


async def test_other_files_are_not_chunks(tmp_path: Path) -> None:
    write(tmp_path, 0, b"ab")
    (tmp_path / PREFIX / "stdout" / "notes.txt").write_bytes(b"x")
    assert await read(tmp_path) == [(0, b"ab")]


class Broken:
    """An object store that lists a chunk and cannot read it, or cannot even list."""

    def __init__(self, *, lists: bool) -> None:
        self.lists = lists

    def list(self, prefix: str) -> Broken:
        self.path = chunk_key(PREFIX, "stdout", 0)
        return self

    async def collect_async(self) -> list[dict[str, str]]:
        if not self.lists:
            raise OSError("disk on fire")
        return [{"path": self.path}]

    async def get_async(self, path: str) -> None:
        raise OSError("disk on fire")


@pytest.mark.parametrize("lists", [True, False])
async def test_a_store_that_cannot_be_read_says_so(tmp_path: Path, lists: bool) -> None:
    store = LogStore(f"file://{tmp_path}")
    store._store = Broken(lists=lists)
    with pytest.raises(LogStoreError, match="disk on fire"):
        [piece async for piece in store.read(PREFIX, "stdout", 0)]
