"""The history of a simulated cluster: one line a transition, and a digest of them all.

Decides how a line looks. The same seed gives the same lines, whatever else a process does. Does not
know what the lines mean to anybody.
"""

from __future__ import annotations

import hashlib

from tests.sim.virtual import START_MONO_S

LEGEND = """\
Each line: virtual seconds since the start, a sign, what happened.
  F  a fault, with its index        f  the end of one, or a part of it
  C  somebody's command
  T  a shard is taken over          B  a batch is committed: its rows
  >  a frame to an agent            <  a frame of an agent
  S  a process is spawned           E  a process ended: exit code, signal
  .  an agent or a node starts, ends or is healed
  V  the verdict
"""
# What may go on for ever without anything coming to an end.
_IDLE_SIGNS = frozenset("CB<>")
LINES_SHOWN = 400


class History:
    """See the module. `lines`: all of them; `moves`: how many tell of progress."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.moves = 0
        self._digest = hashlib.blake2b(digest_size=12)

    @property
    def digest(self) -> str:
        """Of the whole history."""
        return self._digest.hexdigest()

    def note(self, now_s: float, sign: str, *words: object) -> None:
        """Adds a line."""
        line = f"{now_s - START_MONO_S:9.3f} {sign} {' '.join(map(str, words))}"
        self._digest.update(line.encode())
        self.lines.append(line)
        if sign not in _IDLE_SIGNS:
            self.moves += 1

    def told(self, heading: str, most: int = LINES_SHOWN) -> str:
        """The legend, a heading and the last lines."""
        left_out = max(0, len(self.lines) - most)
        gap = [f"… {left_out} earlier lines"] if left_out else []
        return "\n".join([LEGEND + heading, *gap, *self.lines[left_out:]])
