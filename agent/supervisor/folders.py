"""The fresh working folders of attempts.

Decides: a folder that an attempt left empty, and as it was, serves a later one under a new name;
any other is removed by a process of its own, so that a large tree holds nobody up. (Making and
removing a folder costs 0.3 to 1 ms on ext4, which does not use freed inodes again at once; a rename
20 us.)

Promises: whoever gets a folder finds it empty; nothing of earlier supervisors is left.
"""

from __future__ import annotations

import contextlib
import os
import stat

from agent.supervisor import proc
from agent.supervisor.spawn import find_program

SPARES_MOST = 64
FRESH_MODE = stat.S_IFDIR | 0o700


class Folders:
    """The folders below one. `helpers` takes the pids of the processes that remove trees."""

    def __init__(self, root: str, helpers: set[int]) -> None:
        self._root = root
        self._helpers = helpers
        self._spares: list[str] = []
        self._numbered = 0
        os.makedirs(root, mode=0o700, exist_ok=True)
        self._remove([f"{root}/{name}" for name in os.listdir(root)])

    def path(self, attempt_id: str) -> str:
        return f"{self._root}/{attempt_id}"

    def make(self, attempt_id: str) -> str:
        """An empty folder; raises OSError if it cannot be."""
        path = self.path(attempt_id)
        if self._spares:
            with contextlib.suppress(OSError):
                os.rename(self._spares.pop(), path)
                return path
            # Somebody removed them; whether a new one can be made will be seen.
            self._spares.clear()
        os.mkdir(path, 0o700)
        return path

    def give_back(self, attempt_id: str) -> None:
        """Nobody works in this folder any more."""
        path = self.path(attempt_id)
        try:
            fresh = os.lstat(path).st_mode == FRESH_MODE and not os.listdir(path)
            if fresh and len(self._spares) < SPARES_MOST:
                self._numbered += 1
                spare = f"{self._root}/spare-{self._numbered}"
                os.rename(path, spare)
                self._spares.append(spare)
                return
        except FileNotFoundError:
            return
        except OSError as error:
            proc.complain(f"cannot use {path!r} again: {error}")
        self._remove([path])

    def _remove(self, paths: list[str]) -> None:
        """A file of somebody else's making among them stays where it is."""
        if not paths:
            return
        actions = [(os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0)]
        argv = ["rm", "-rf", "--one-file-system", "--", *paths]
        try:
            rm = find_program("rm", {})
            self._helpers.add(os.posix_spawn(rm, argv, {}, file_actions=actions, setsid=True))
        except OSError as error:
            proc.complain(f"cannot remove {paths[0]!r}: {error}")
