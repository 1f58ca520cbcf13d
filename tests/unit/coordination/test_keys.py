import pytest

from controlplane.coordination.keys import Keyspace, range_end

KEYS = Keyspace("main")


def test_keys_of_a_cluster():
    assert KEYS.leader(3) == "/mainspring/main/shards/3/leader"
    assert KEYS.node("n1") == "/mainspring/main/nodes/n1"
    assert KEYS.node_of(KEYS.node("n1")) == "n1"


def test_a_leader_key_names_its_shard():
    assert KEYS.shard_of(KEYS.leader(17)) == 17


@pytest.mark.parametrize("name", ["03/leader", "-1/leader", "x/leader", "3", "3/leader/x", ""])
def test_other_keys_name_no_shard(name):
    assert KEYS.shard_of(KEYS.shards + name) is None


def test_range_end_is_the_first_key_after_the_prefix():
    assert range_end("/a/") == b"/a0"
    assert range_end("é") > "é\U0010ffff".encode()
