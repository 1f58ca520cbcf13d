"""What the store needs before nodes may start, and what it tells of their progress.

Decides that a new store has DEFAULT_SHARDS shards unless another number is asked for, and that the
number of an old one stands. Promises that the admin's token opens this store, that only its hash is
in it, and that progress is judged by what is *new*: rows of an earlier start count for nothing.
Does not know processes.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Self

from controlplane.embedded.errors import BackendError, ShardsFixedError
from controlplane.embedded.plan import DEFAULT_SHARDS
from controlplane.store.api import ApiStore
from controlplane.store.connections import StoreSettings
from controlplane.store.errors import NotInitialised, StoreError
from controlplane.store.store import Store, migrate_database

TENANT = "default"
ADMIN = "admin"
_PAGE = 1_000


class Preparation:
    """One store around one start of nodes and agents. Use `of`, and `close` at the end."""

    def __init__(self, api: ApiStore, shards: int) -> None:
        self._api = api
        self.shards = shards
        self._epochs: dict[int, int] = {}
        self._connected_us: dict[str, int] = {}

    @classmethod
    async def of(cls, dsn: str, shards: int | None, token: str, token_name: str) -> Self:
        """Brings schema, shards and token up to date. Raises BackendError, ShardsFixedError.

        `shards` None: as many as the store has. A token of the same name is replaced.
        """
        try:
            await migrate_database(dsn)
            count = await _initialised(dsn, shards)
            api = ApiStore(dsn, StoreSettings())
            made = cls(api, count)
            await api.put_token(sha256(token.encode()).digest(), TENANT, ADMIN, token_name)
            await made._note_the_past()
        except StoreError as error:
            raise BackendError(f"the store cannot be used: {error}") from error
        return made

    async def close(self) -> None:
        await self._api.close()

    async def unled(self) -> int:
        """How many shards nobody has taken over since."""
        shards = await self._api.list_shards()
        return sum(1 for shard in shards if shard.epoch <= self._epochs[shard.shard])

    async def connected_agents(self) -> frozenset[str]:
        """Agents that have begun a session since."""
        agents = await self._api.list_agents("", _PAGE)
        return frozenset(
            each.agent
            for each in agents
            if each.connected_us > self._connected_us.get(each.agent, 0)
        )

    async def _note_the_past(self) -> None:
        self._epochs = {shard.shard: shard.epoch for shard in await self._api.list_shards()}
        agents = await self._api.list_agents("", _PAGE)
        self._connected_us = {each.agent: each.connected_us for each in agents}


async def _initialised(dsn: str, asked: int | None) -> int:
    store = await Store.open(dsn)
    try:
        found = await store.count_shards()
    except NotInitialised:
        found = asked or DEFAULT_SHARDS
        await store.initialise(found)
    finally:
        await store.close()
    if asked not in (None, found):
        raise ShardsFixedError(found, asked or 0)
    return found
