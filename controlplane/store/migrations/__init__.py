"""Decides how a database gets its schema: numbered files, each once, in order, forward only.

`NNNN_name.sql` starts with `-- node versions: N`, the oldest schema number whose nodes still work
with a database that has this migration (expand first, contract later). A node works with databases
of its own number, and with newer ones that still serve it. What was applied is never changed: its
checksum is compared at every start.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

import asyncpg

from controlplane.store.errors import SchemaError, refusal_of
from controlplane.store.queries import query

_FILE = re.compile(r"(\d{4})_(\w+)\.sql")
_HEADER = re.compile(r"-- node versions: (\d+)\n")
_SCHEMA_TABLES = query("schema_tables")
_LOCK = query("lock_schema")
_HAS_SCHEMA = query("has_schema")
_READ = query("read_migrations")
_ADD = query("add_migration")


class Migration(NamedTuple):
    """One file. `oldest_node`: the oldest schema number that a node may know."""

    number: int
    name: str
    text: str
    oldest_node: int

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


class Applied(NamedTuple):
    """A migration that a database has had."""

    number: int
    name: str
    checksum: str
    oldest_node: int


def parse_migration(file_name: str, text: str) -> Migration:
    """A migration from its file. Raises ValueError for a bad name or header."""
    name, header = _FILE.fullmatch(file_name), _HEADER.match(text)
    if name is None or header is None:
        raise ValueError(f"{file_name}: not a migration (NNNN_name.sql, `-- node versions: N`)")
    return Migration(int(name[1]), name[2], text, int(header[1]))


def own_migrations() -> tuple[Migration, ...]:
    """The migrations of this program, in order, numbered from 1 without gaps."""
    folder = files(__package__)
    found = sorted(
        parse_migration(path.name, path.read_text(encoding="utf-8"))
        for path in folder.iterdir()
        if path.name.endswith(".sql")
    )
    if [item.number for item in found] != list(range(1, len(found) + 1)):
        raise ValueError("migrations must be numbered from 1 without gaps")
    return tuple(found)


def missing(known: Sequence[Migration], applied: Sequence[Applied]) -> Sequence[Migration]:
    """What is to be applied. Raises SchemaError where the database and this program differ."""
    for ours, theirs in zip(known, applied, strict=False):
        if ours.checksum != theirs.checksum:
            raise SchemaError(
                f"migration {theirs.number:04} ({theirs.name}) was changed after this database had"
                f" it: restore {ours.number:04}_{ours.name}.sql and put the change into a new one"
            )
    if len(applied) > len(known):
        raise SchemaError(
            f"the database has schema {applied[-1].number}, this program knows {len(known)}:"
            " migrate with the newer program"
        )
    return known[len(applied) :]


def check(known: Sequence[Migration], applied: Sequence[Applied]) -> None:
    """Raises SchemaError unless this program may work with the database as it is."""
    if len(applied) < len(known):
        raise SchemaError(
            f"the database has schema {len(applied)}, this program needs {len(known)}: migrate it"
        )
    oldest = max((item.oldest_node for item in applied), default=0)
    if len(known) < oldest:
        raise SchemaError(
            f"the database has schema {applied[-1].number} and serves programs from schema"
            f" {oldest} on; this one knows {len(known)}: upgrade it"
        )
    missing(known, applied[: len(known)])


async def read_applied(connection: asyncpg.Connection) -> list[Applied]:
    """What the database has had, in order."""
    if not await connection.fetchval(_HAS_SCHEMA):
        return []
    return [Applied(*row) for row in await connection.fetch(_READ)]


async def migrate(connection: asyncpg.Connection, known: Sequence[Migration]) -> int:
    """Brings the database up to date, all or nothing; the number of migrations applied."""
    try:
        async with connection.transaction():
            await connection.execute(_LOCK)
            await connection.execute(_SCHEMA_TABLES)
            todo = missing(known, await read_applied(connection))
            for item in todo:
                await connection.execute(item.text)
                await connection.execute(
                    _ADD, item.number, item.name, item.checksum, item.oldest_node
                )
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise refusal_of(error) from error
    return len(todo)
