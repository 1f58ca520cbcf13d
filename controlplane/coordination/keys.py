"""Where things are in etcd.

Decides the names of keys. Knows nothing of their values.
"""

from __future__ import annotations

import dataclasses

_LEADER = "/leader"


@dataclasses.dataclass(frozen=True, slots=True)
class Keyspace:
    """The keys of one cluster."""

    cluster: str

    @property
    def shards(self) -> str:
        return f"/mainspring/{self.cluster}/shards/"

    @property
    def nodes(self) -> str:
        return f"/mainspring/{self.cluster}/nodes/"

    def leader(self, shard: int) -> str:
        return f"{self.shards}{shard}{_LEADER}"

    def node(self, node: str) -> str:
        return self.nodes + node

    def shard_of(self, key: str) -> int | None:
        """The shard whose leader key this is; None for any other key."""
        number = key.removeprefix(self.shards).removesuffix(_LEADER)
        canonical = number.isascii() and number.isdecimal() and self.leader(int(number)) == key
        return int(number) if canonical else None

    def node_of(self, key: str) -> str:
        return key.removeprefix(self.nodes)


def range_end(prefix: str) -> bytes:
    """First key after all keys that begin with the prefix, which must not be empty."""
    assert prefix, "a watch or a read of everything is never meant"
    raw = prefix.encode()
    return raw[:-1] + bytes([raw[-1] + 1])  # the last byte of UTF-8 is never 255
