"""Which node is the preferred owner of a shard.

Decides by rendezvous hashing (Thaler and Ravishankar, 1998): every node has a score per shard, the
highest wins. Promises that all nodes with the same view of the members agree, and that a node that
joins or leaves moves only the shards it wins or held. Knows nothing of who leads now.
"""

from __future__ import annotations

from collections.abc import Collection
from hashlib import blake2b


def preferred(shard: int, nodes: Collection[str]) -> str:
    """Return the node that should lead the shard; nodes must not be empty."""
    return max(nodes, key=lambda node: (_score(shard, node), node))


def _score(shard: int, node: str) -> bytes:
    return blake2b(f"{shard}/{node}".encode(), digest_size=8).digest()
