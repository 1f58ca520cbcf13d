"""The exit codes of `mainspring`, in one table, and the failure that carries one.

Decides: what scripts may rely on. docs/cli.md shows this table.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Self


class ExitCode(IntEnum):
    """How a command ended; `meaning` is the sentence for people."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Self:
        """An integer with a sentence."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    OK = 0, "The command did what it was asked."
    FAILED = 1, "It ran, and the result is bad: a run failed, doctor or verify found problems."
    USAGE = 2, "The command line is wrong: an unknown command or flag, or a value out of range."
    INVALID = 3, "The input was refused: a definition, a file or a name."
    CONFLICT = 4, "It does not exist, exists already, or its state forbids the request."
    UNREACHABLE = 5, "No server is known, none answered in time, or the server failed."
    NOT_ALLOWED = 6, "The token is missing or wrong, or this machine forbids it (files, set-up)."
    DEFECT = 70, "A defect of mainspring; MAINSPRING_DEBUG=1 shows the traceback."
    INTERRUPTED = 130, "Ctrl-C."
    PIPE_CLOSED = 141, "The reader of the output went away."


class CommandError(Exception):
    """A failure that a command foresees: the sentence, the exit code, and what to do next."""

    def __init__(self, message: str, code: ExitCode, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.next_step = next_step
