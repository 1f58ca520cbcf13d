"""One agent for each work folder.

Promises: a second agent of a folder does not come past `lock_folder` while the first lives; nothing
of a dead one holds the folder, since the lock goes with its process and is not handed to children.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

LOCK = "agent.lock"


class FolderTaken(Exception):  # noqa: N818  # it says what is so
    """Another agent works in the folder."""


def lock_folder(work: Path) -> int:
    """Takes a folder for this process; returns the descriptor that holds it. Raises FolderTaken,
    OSError.
    """
    descriptor = os.open(work / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise FolderTaken(f"another agent works in {work}: process {holder}") from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
    return descriptor
