"""Reads the logs of attempts from an object store.

Chunks are objects that agents upload; their names say which bytes they hold. Promises the bytes of
a stream in order, each once, as far as they follow one another without a gap. Writes nothing, and
does not know whether more is to come.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from mainspring.logkeys import STREAMS, parse_offset
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

PIECE_BYTES = 256 * 1_024
_DEADLINE_S = 30.0
_FILE_SCHEME = "file://"


class LogStoreError(Exception):
    """The object store could not be read; asking again may help."""


class LogPiece(NamedTuple):
    """Bytes of one stream: `stream` is `stdout` or `stderr`, `offset` that of the first byte."""

    stream: str
    offset: int
    data: bytes


class LogStore:
    """The logs under one URL; `file:///folder` is a local folder, which is created."""

    def __init__(self, url: str) -> None:
        self._store = _open(url)

    async def read(self, prefix: str, stream: str, offset: int) -> AsyncIterator[LogPiece]:
        """The bytes of a stream from `offset` on, up to the first gap. Raises LogStoreError.

        `prefix` is the folder of the attempt's log (see mainspring.logkeys).
        """
        for start, key in await self._chunks(f"{prefix}/{stream}"):
            if start > offset:
                return
            data = await self._get(key)
            fresh = data[offset - start :]
            for at in range(0, len(fresh), PIECE_BYTES):
                piece = fresh[at : at + PIECE_BYTES]
                yield LogPiece(stream, offset, piece)
                offset += len(piece)

    async def _chunks(self, folder: str) -> list[tuple[int, str]]:
        try:
            async with asyncio.timeout(_DEADLINE_S):
                listed = await self._store.list(prefix=folder).collect_async()
        except FileNotFoundError:
            return []
        except (BaseError, OSError, TimeoutError) as error:
            raise LogStoreError(f"logs cannot be listed: {error}") from error
        keys = [str(each["path"]) for each in listed]
        return sorted((parse_offset(key), key) for key in keys if _is_chunk(key))

    async def _get(self, key: str) -> bytes:
        try:
            async with asyncio.timeout(_DEADLINE_S):
                found = await self._store.get_async(key)
                return bytes(await found.bytes_async())
        except (BaseError, OSError, TimeoutError) as error:
            raise LogStoreError(f"a log cannot be read: {error}") from error


def _is_chunk(key: str) -> bool:
    folder, _, name = key.rpartition("/")
    return folder.rpartition("/")[2] in STREAMS and len(name) == 16 and name.isdecimal()


def _open(url: str) -> ObjectStore:
    if not url.startswith(_FILE_SCHEME):
        return from_url(url)
    folder = Path(url.removeprefix(_FILE_SCHEME))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return LocalStore(folder)
