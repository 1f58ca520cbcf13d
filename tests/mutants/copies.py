"""Copies of the tree in which one thing is changed at a time.

Decides: what is copied (all files of ours, as they lie in the working tree) and how a change is put
in and taken out. Promises that the tree itself is never touched, that what runs in a copy imports
the copy, and that no bytecode of another version of a file is used. Does not know what a change
breaks.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.tidy.sources import ROOT, tracked

PACKAGES = ("controlplane", "agent", "clients/python/mainspring")
IMPORTED = "import agent, controlplane, mainspring; print(agent, controlplane, mainspring)"


class DoesNotApply(Exception):  # noqa: N818  (a state of a patch)
    """The tree is not what the change was made for."""


class Copy:
    """A folder with all files of the tree."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def env(self) -> dict[str, str]:
        """For programs that shall import this copy, whatever is installed."""
        paths = f"{self.folder}{os.pathsep}{self.folder / 'clients/python'}"
        return {**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "0"}

    def clone(self, folder: Path) -> Copy:
        """Another one, with the compiled modules of this one."""
        shutil.copytree(self.folder, folder)
        return Copy(folder)

    @contextmanager
    def changed(self, diff: str, paths: tuple[str, ...]) -> Iterator[None]:
        """The copy with a unified diff applied; raises DoesNotApply."""
        files = [self.folder / path for path in paths]
        try:
            before = {file: file.read_bytes() for file in files}
        except OSError as error:
            raise DoesNotApply(str(error)) from error
        self._apply(diff)
        try:
            self._forget_compiled(files)
            yield
        finally:
            for file, content in before.items():
                file.write_bytes(content)
            self._forget_compiled(files)

    def _apply(self, diff: str) -> None:
        # The copy is no part of a repository, wherever it lies.
        env = {**os.environ, "GIT_CEILING_DIRECTORIES": str(self.folder.parent)}
        done = subprocess.run(
            ["git", "apply", "--whitespace=nowarn", "-"],
            cwd=self.folder,
            env=env,
            input=diff,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise DoesNotApply(done.stderr.strip())

    def _forget_compiled(self, files: list[Path]) -> None:
        for file in files:
            for compiled in file.parent.glob(f"__pycache__/{file.stem}.*.pyc"):
                compiled.unlink()


def make_copy(folder: Path) -> Copy:
    """Copies the tree; raises RuntimeError when programs would not import the copy."""
    for name in tracked():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    copy = Copy(folder)
    compile_all = [sys.executable, "-m", "compileall", "-q", *PACKAGES, "tests"]
    subprocess.run(compile_all, cwd=folder, env=copy.env, check=True)
    told = subprocess.run(
        [sys.executable, "-P", "-c", IMPORTED],
        cwd=folder,
        env=copy.env,
        capture_output=True,
        text=True,
        check=True,
    )
    if told.stdout.count(str(folder)) != len(PACKAGES):
        raise RuntimeError(f"programs in the copy would import other files: {told.stdout}")
    return copy
