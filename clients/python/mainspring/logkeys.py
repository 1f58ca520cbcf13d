"""Where the logs of an attempt are kept in the object store.

Decides: the names of the objects, for the agents that write them and for whoever reads them. A log
is a sequence of chunks named by the offset of their first byte, so that the names in order are the
log in order:

    logs/{tenant}/{dag}/{run}/{task}/{attempt id, hex}/{stdout|stderr}/{offset, 16 digits}

Promises: any text may be a part of a name; different texts give different names, and none of them
can leave its folder. A chunk written again may be longer than before, never different: of two
chunks that overlap, the bytes they share are the same.
"""

from __future__ import annotations

import re

STREAMS = ("stdout", "stderr")
_FOREIGN = re.compile(r"[^A-Za-z0-9_.-]|^\.")


def _escape(part: str) -> str:
    """Replaces what an object store could mistake by `=XX` for each byte."""
    return _FOREIGN.sub(lambda found: "".join(f"={b:02X}" for b in found[0].encode()), part)


def log_prefix(tenant: str, dag: str, run: str, task: str, attempt_id: bytes) -> str:
    """The folder of an attempt's log, without a slash at the end."""
    names = "/".join(_escape(part) for part in (tenant, dag, run, task))
    return f"logs/{names}/{attempt_id.hex()}"


def chunk_key(prefix: str, stream: str, offset: int) -> str:
    """The name of the chunk of `stream` that begins at byte `offset`."""
    return f"{prefix}/{stream}/{offset:016d}"


def parse_offset(key: str) -> int:
    """The offset of the first byte of a chunk; ValueError: not the name of a chunk."""
    stream, _, offset = key.rpartition("/")
    if stream.rpartition("/")[2] not in STREAMS or not re.fullmatch(r"[0-9]{16}", offset):
        raise ValueError(f"not the name of a chunk of a log: {key!r}")
    return int(offset)
