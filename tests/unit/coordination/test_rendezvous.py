from collections import Counter

from controlplane.coordination.rendezvous import preferred

SHARDS = range(4_096)
NODES = [f"node-{n}" for n in range(5)]


def test_order_of_nodes_does_not_matter():
    forward = [preferred(shard, NODES) for shard in SHARDS]
    assert forward == [preferred(shard, NODES[::-1]) for shard in SHARDS]


def test_shards_are_balanced():
    counts = Counter(preferred(shard, NODES) for shard in SHARDS)
    mean = len(SHARDS) / len(NODES)
    assert set(counts) == set(NODES)
    assert all(0.85 * mean < count < 1.15 * mean for count in counts.values())


def test_a_node_that_leaves_moves_only_its_own_shards():
    rest = NODES[:-1]
    for shard in SHARDS:
        before = preferred(shard, NODES)
        assert before == NODES[-1] or preferred(shard, rest) == before


def test_a_node_that_joins_takes_its_part_and_moves_nothing_else():
    joined = [*NODES, "node-5"]
    moved = {s for s in SHARDS if preferred(s, joined) != preferred(s, NODES)}
    assert all(preferred(shard, joined) == "node-5" for shard in moved)
    assert 0.8 < len(moved) / (len(SHARDS) / len(joined)) < 1.2


def test_one_node_is_preferred_for_everything():
    assert preferred(7, ["alone"]) == "alone"
