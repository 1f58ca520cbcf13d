"""The live readings of logs.

Decides: which readings exist. A reading belongs to the session that asked for it and ends with it,
with its own last piece, or when the node says so.
"""

from __future__ import annotations

from agent.core.actions import StartTail, StopTail
from agent.core.entries import LogData, LogTail
from agent.core.events import LogPiece
from agent.core.turn import Turn

Key = tuple[str, int, int]


class Tails:
    """All readings, by (address, session, tail)."""

    def __init__(self) -> None:
        self._open: set[Key] = set()

    def ask(self, stream: tuple[str, int], tail: LogTail, turn: Turn) -> None:
        """Starts, moves or ends a reading."""
        key = (*stream, tail.tail)
        if key in self._open:
            self._open.remove(key)
            turn.act(StopTail(*key))
        if not tail.stop:
            self._open.add(key)
            turn.act(StartTail(*key, tail.attempt_id, tail.stdout_offset, tail.stderr_offset))

    def piece(self, piece: LogPiece, turn: Turn) -> None:
        """Passes a piece on, unless its reading is over."""
        key = (piece.address, piece.session, piece.tail)
        if key not in self._open:
            return
        if piece.eof:
            self._open.remove(key)
        entry = LogData(piece.tail, piece.is_stderr, piece.offset, piece.data, piece.eof)
        turn.send(key[:2], entry)

    def end_of(self, stream: tuple[str, int], turn: Turn) -> None:
        """Ends all readings of a session."""
        for key in sorted(key for key in self._open if key[:2] == stream):
            self._open.remove(key)
            turn.act(StopTail(*key))
