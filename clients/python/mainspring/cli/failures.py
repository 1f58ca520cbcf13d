"""Turns what a command raised into one message, the next step and an exit code.

Decides: which exception becomes which exit code, and what a person should try next. Promises: no
traceback unless MAINSPRING_DEBUG is set. Does not know which command failed.
"""

from __future__ import annotations

import os
import traceback

from cyclopts import CycloptsError

from mainspring.cli.exit_codes import CommandError, ExitCode
from mainspring.cli.output import say
from mainspring.cli.text import one_line, printable
from mainspring.client import errors

_MOST_VIOLATIONS = 100
# What a command says and the doctor itself leaves out.
DOCTOR_HINT = "; `mainspring doctor` looks closer"
_BY_ERROR: tuple[tuple[type[errors.MainspringError], ExitCode, str], ...] = (
    (errors.InvalidArgumentError, ExitCode.INVALID, "correct what is named above and try again"),
    (
        errors.NotFoundError,
        ExitCode.CONFLICT,
        "`mainspring dag list` and `mainspring run list` show what exists",
    ),
    (errors.AlreadyExistsError, ExitCode.CONFLICT, "choose another request id, or leave it out"),
    (errors.FailedPreconditionError, ExitCode.CONFLICT, "read its state again and decide anew"),
    (
        errors.UnauthenticatedError,
        ExitCode.NOT_ALLOWED,
        "give the right token: --token-file FILE, MAINSPRING_TOKEN, or --data DIR of its cluster",
    ),
    (errors.PermissionDeniedError, ExitCode.NOT_ALLOWED, "ask for a token that allows this call"),
    (
        errors.ConfigurationError,
        ExitCode.NOT_ALLOWED,
        "check the file: its path, who may read it, and what it holds",
    ),
    (
        errors.UnavailableError,
        ExitCode.UNREACHABLE,
        f"check the address and that the cluster is up{DOCTOR_HINT}",
    ),
    (errors.ServerError, ExitCode.UNREACHABLE, "the log of that node says more"),
)
_TASKS_OF_RUN = "`mainspring run get {run} --tasks` lists its tasks"
# Words in braces come from the metadata of the error.
_BY_REASON = {
    "NO_ADDRESS": "start it: `mainspring up{data}`, or name a server: "
    "--address HOST:PORT or MAINSPRING_ADDRESS",
    "PLAIN_TEXT": "leave out what turns encryption off; --ca FILE names the certificates to trust",
    "DAG": "`mainspring dag list` shows the DAGs",
    "RUN": "`mainspring run list` shows the runs",
    "TASK": _TASKS_OF_RUN,
    "NO_ATTEMPT": _TASKS_OF_RUN,
    "NOT_WAITING": "`mainspring approval list` shows what waits",
    "STILL_RUNNING": "`mainspring run watch` shows how it goes on",
}


_UNKNOWN = {"run": "RUN", "data": ""}
_BY_FIELD = {
    "address": "--address 127.0.0.1:7070, for example",
    "dag": "`mainspring dag list` shows the DAGs",
    "run": "`mainspring run list` shows the runs",
    "task": "`mainspring run get RUN --tasks` lists the tasks of a run",
}


def report(error: BaseException) -> ExitCode:
    """Says what went wrong on standard error; the answer is the exit code."""
    if os.environ.get("MAINSPRING_DEBUG"):
        traceback.print_exception(error)
    if isinstance(error, CommandError):
        return _say(error.code, error.message, error.next_step)
    if isinstance(error, CycloptsError):
        return _usage(error)
    if isinstance(error, errors.MainspringError):
        return _failed_call(error)
    if isinstance(error, OSError):
        return _say(ExitCode.NOT_ALLOWED, _os_sentence(error), "check the path, and who may use it")
    sentence = f"a defect of mainspring: {type(error).__name__}: {one_line(str(error), 500)}"
    return _say(ExitCode.DEFECT, sentence, "set MAINSPRING_DEBUG=1 to see the traceback")


def exit_code_of(error: errors.MainspringError) -> ExitCode:
    """The exit code of an error of the SDK."""
    return next(code for kind, code, _ in _BY_ERROR if isinstance(error, kind))


def next_step_of(error: errors.MainspringError) -> str:
    """What a person should try after an error of the SDK; empty when there is nothing to say."""
    general = next(step for kind, _, step in _BY_ERROR if isinstance(error, kind))
    if error.reason in _BY_REASON:
        known = {word: one_line(text) for word, text in error.metadata.items()}
        return _BY_REASON[error.reason].format_map(_UNKNOWN | known)
    fields = [each.field for each in error.violations]
    return _BY_FIELD.get(fields[0], general) if len(fields) == 1 else general


def _failed_call(error: errors.MainspringError) -> ExitCode:
    lines = [error.message]
    known = [each for each in error.violations if each.description not in error.message]
    lines += [
        f"  {one_line(each.field)}: {one_line(each.description, 500)}"
        for each in known[:_MOST_VIOLATIONS]
    ]
    if len(known) > _MOST_VIOLATIONS:
        lines.append(f"  … and {len(known) - _MOST_VIOLATIONS} more")
    return _say(exit_code_of(error), "\n".join(lines), next_step_of(error))


def _usage(error: CycloptsError) -> ExitCode:
    chain = " ".join(("mainspring", *(error.command_chain or ())))
    return _say(ExitCode.USAGE, str(error).strip(), f"{chain} --help")


def _os_sentence(error: OSError) -> str:
    reason = error.strerror or type(error).__name__
    return f"{error.filename}: {reason}" if error.filename else reason


def _say(code: ExitCode, sentence: str, next_step: str) -> ExitCode:
    say(f"error: {printable(sentence, 20_000)}")
    if next_step:
        say(f"next:  {next_step}")
    return code
