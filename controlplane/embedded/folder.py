"""The data folder of an embedded cluster: what lies where, who holds it, who may enter.

Decides the layout on disk. Promises: one holder at a time (flock, so the lock ends with its
holder, however that dies); nobody but the owner reads anything in it; the admin token is random
and made once. Refuses a folder that it cannot write, that belongs to somebody else, that is full
of other things, or that a newer Mainspring wrote. Does not know what the servers keep in theirs.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

from controlplane.embedded.errors import AlreadyRunning, FolderError, NewerLayoutError

LAYOUT = 1
_FOLDERS = ("pg", "etcd", "logs", "objects", "run", "tokens", "work")
_LOCK = "lock"
_LAYOUT_FILE = "layout"
_ANOTHER = "Pass --data with another folder."
_WRITABLE = "Pass --data with a folder that you may write to."


class DataFolder:
    """A data folder held by this process, from construction to `close`. A context manager."""

    def __init__(self, path: Path) -> None:
        """Make or open the folder and lock it; raises FolderError or AlreadyRunning."""
        self.path = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - a link stays a link
        self._lock_fd = -1
        try:
            self._open()
        except OSError as error:
            self.close()
            raise FolderError(self.path, error.strerror or str(error), _WRITABLE) from error
        except FolderError:
            self.close()
            raise

    def _open(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_ours(self.path)
        _require_known(self.path)
        self._lock_fd = _lock(self.path)
        _check_layout(self.path)
        self.path.chmod(0o700)
        for name in _FOLDERS:
            (self.path / name).mkdir(mode=0o700, exist_ok=True)
            (self.path / name).chmod(0o700)
        if not self.admin_token_file.exists():
            write_private(self.admin_token_file, secrets.token_urlsafe(32) + "\n")

    @property
    def pg(self) -> Path:
        return self.path / "pg"

    @property
    def etcd(self) -> Path:
        return self.path / "etcd"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def objects(self) -> Path:
        return self.path / "objects"

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def tokens(self) -> Path:
        return self.path / "tokens"

    @property
    def work(self) -> Path:
        return self.path / "work"

    @property
    def admin_token_file(self) -> Path:
        return self.tokens / "admin"

    @property
    def client_file(self) -> Path:
        return self.path / "client.json"

    @property
    def admin_token(self) -> str:
        return self.admin_token_file.read_text(encoding="ascii").strip()

    def announce(self, address: str, *others: str) -> None:
        """Tell clients on this machine where the cluster is: `client.json`, and the lock file."""
        access = {
            "address": address,
            "addresses": [address, *others],
            "pid": os.getpid(),
            "token_file": str(self.admin_token_file),
        }
        write_private(self.client_file, json.dumps(access, indent=2) + "\n")
        _write_holder(self._lock_fd, address)

    def close(self) -> None:
        """Withdraw the announcement and let go of the folder; twice is harmless."""
        if self._lock_fd < 0:
            return
        self.client_file.unlink(missing_ok=True)
        os.ftruncate(self._lock_fd, 0)
        os.close(self._lock_fd)  # the file stays: removing it would let two holders lock two files
        self._lock_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def write_private(path: Path, text: str) -> None:
    """Replace a file at once, readable by its owner alone; durable when this returns."""
    staged = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(fd)
    replace_durably(staged, path)


def replace_durably(staged: Path, path: Path) -> None:
    """Rename, and have the folder remember it after a crash of the machine."""
    staged.replace(path)
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _require_ours(path: Path) -> None:
    if path.stat().st_uid != os.geteuid():
        raise FolderError(path, "it belongs to another user", _WRITABLE)


def _lock(path: Path) -> int:
    """Take the lock, or say who has it. Children do not inherit it."""
    fd = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid, address = _read_holder(fd)
        os.close(fd)
        raise AlreadyRunning(path, pid, address) from None
    except OSError:
        os.close(fd)
        raise
    _write_holder(fd, None)
    return fd


def _write_holder(fd: int, address: str | None) -> None:
    text = json.dumps({"pid": os.getpid(), "address": address}).encode()
    os.pwrite(fd, text, 0)
    os.ftruncate(fd, len(text))


def _read_holder(fd: int) -> tuple[int | None, str | None]:
    """Who wrote itself into the lock file; both None in the moment before it has."""
    with contextlib.suppress(ValueError, KeyError):
        holder = json.loads(os.pread(fd, 4096, 0))
        return holder["pid"], holder["address"]
    return None, None


def _require_known(path: Path) -> None:
    """A first boot tightens permissions and fills the folder: not on top of somebody's home."""
    if (path / _LAYOUT_FILE).exists():
        return
    half_made = f".{_LAYOUT_FILE}."  # a first boot that died while it wrote the layout
    others = {entry.name for entry in path.iterdir()} - {_LOCK, _LAYOUT_FILE}
    if not all(name.startswith(half_made) for name in others):
        raise FolderError(path, "it is not empty and Mainspring did not make it", _ANOTHER)


def _check_layout(path: Path) -> None:
    file = path / _LAYOUT_FILE
    if not file.exists():
        write_private(file, f"{LAYOUT}\n")
        return
    text = file.read_text(encoding="utf-8", errors="replace").strip()
    if not text.isdecimal():
        raise FolderError(path, f"its file {_LAYOUT_FILE} is damaged", _ANOTHER)
    if int(text) > LAYOUT:
        raise NewerLayoutError(path, int(text), LAYOUT)
