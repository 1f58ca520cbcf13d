"""Wall clocks that the campaign sets, one for each process that has one.

Decides how: a small library (`wall_clock.c`) is loaded into the process by the dynamic linker and
adds what a file says to its wall clock. libfaketime, which does the like, makes Python's `sleep`
fail (EINVAL) and leaves shared memory of killed processes behind. Promises that a step is there
when `set` returns, and that no other clock is touched. Needs a C compiler.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("wall_clock.c")
_NANOS = 1_000_000_000


class CompilerMissingError(RuntimeError):
    """Clocks cannot be set: there is no C compiler on this machine."""


def build(folder: Path) -> Path:
    """Compiles the library into a folder."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise CompilerMissingError("setting clocks needs a C compiler: run .ci/setup campaign")
    library = folder / "wall_clock.so"
    argv = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(argv, check=True, capture_output=True)
    return library


class WallClock:
    """The wall clock of one process and its children."""

    def __init__(self, library: Path, file: Path) -> None:
        self._library = library
        self._file = file
        file.write_bytes(struct.pack("q", 0))

    @property
    def environment(self) -> dict[str, str]:
        """What the process must be started with."""
        return {"LD_PRELOAD": str(self._library), "WALL_CLOCK_FILE": str(self._file)}

    def set(self, ahead_s: float) -> None:
        """From now on it is so much ahead of the machine's; negative: behind."""
        # In place and in one write: the file is mapped by those that read it.
        file = os.open(self._file, os.O_WRONLY)
        try:
            os.pwrite(file, struct.pack("q", round(ahead_s * _NANOS)), 0)
        finally:
            os.close(file)
