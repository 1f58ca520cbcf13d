"""Holds the main thread of a process for a while; its other threads run on.

    python -m tests.campaign.hold_thread PID SECONDS

So does an event loop that is blocked by one long call, without any switch in the program that is
held: the thread is stopped as a debugger stops it (PTRACE_SEIZE and PTRACE_INTERRUPT). Decides
nothing. Lets go early when its standard input ends. Promises that the thread goes on when this
process ends, however it ends: the kernel lets go of what a dead tracer held. It is a process of its
own because the parent of the held process would be told of the stop as if it were its end. Exit
status 1: it could not be held.
"""

from __future__ import annotations

import ctypes
import os
import select
import sys

_SEIZE, _INTERRUPT, _DETACH = 0x4206, 0x4207, 17
_WALL = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request: int, pid: int) -> None:
    if _libc.ptrace(request, pid, None, None) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def main() -> int:
    pid, seconds = int(sys.argv[1]), float(sys.argv[2])
    try:
        _ptrace(_SEIZE, pid)
        _ptrace(_INTERRUPT, pid)
        os.waitpid(pid, _WALL)
        select.select([sys.stdin], [], [], seconds)
        _ptrace(_DETACH, pid)
    except OSError as error:
        print(f"cannot hold {pid}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
