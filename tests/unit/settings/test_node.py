import pytest

from controlplane.settings.node import SettingsError, parse_node_settings


@pytest.fixture
def given(tmp_path):
    (tmp_path / "dsn").write_text("postgresql://u:secret@/db\n")
    (tmp_path / "token").write_text("hush\n")
    return {
        "node": "n-1",
        "cluster": "main",
        "listen": "127.0.0.1:7070",
        "etcd": "127.0.0.1:2379,[::1]:2379",
        "objects": "file:///var/lib/mainspring",
        "dsn-file": str(tmp_path / "dsn"),
        "token-file": str(tmp_path / "token"),
        "log-level": "debug",
    }


def test_settings_are_parsed_once(given):
    settings = parse_node_settings(given)
    assert (settings.node, settings.cluster, settings.listen) == ("n-1", "main", "127.0.0.1:7070")
    assert settings.etcd == ("127.0.0.1:2379", "[::1]:2379")
    assert (settings.dsn, settings.token) == ("postgresql://u:secret@/db", "hush")
    assert settings.log_level == "debug"


def test_others_are_told_the_address_that_is_advertised(given):
    assert parse_node_settings(given).advertise == given["listen"]
    given["advertise"] = "node.example:7070"
    assert parse_node_settings(given).advertise == "node.example:7070"


def test_secrets_are_not_shown(given):
    assert "secret" not in repr(parse_node_settings(given))
    assert "hush" not in repr(parse_node_settings(given))


def test_all_problems_are_found_at_once():
    with pytest.raises(SettingsError) as caught:
        parse_node_settings({"node": "a b", "log-level": "loud"})
    flags = [flag for flag, _ in caught.value.problems]
    assert flags == [
        "--node",
        "--cluster",
        "--listen",
        "--objects",
        "--dsn-file",
        "--token-file",
        "--log-level",
        "--etcd",
    ]
    assert "--cluster is missing" in str(caught.value)


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        ("listen", "7070", "not host:port"),
        ("listen", "host:0", "not host:port"),
        ("listen", "host:65536", "not host:port"),
        ("listen", "host:port", "not host:port"),
        ("advertise", "7070", "not host:port"),
        ("etcd", "a:1,b", "'b' is not host:port"),
        ("objects", "/folder", "not a URL"),
        ("dsn-file", "/nowhere/at/all", "cannot be read: No such file"),
        ("log-level", "loud", "none of debug, info, warning"),
        ("heartbeat", "soon", "'soon' is not a duration; write it as"),
        ("lease-grace", "0", "must be above 0"),
        ("lease-drift", "99999999d", "is longer than"),
    ],
)
def test_a_wrong_value_is_named(given, flag, value, words):
    with pytest.raises(SettingsError, match=words) as caught:
        parse_node_settings({**given, flag: value})
    assert [name for name, _ in caught.value.problems] == [f"--{flag}"]


def test_times_are_given_only_where_asked_for(given):
    assert parse_node_settings(given).times_ms == {}
    asked = {"heartbeat": "1s", "attempt-lease": "1m30s", "leader-lease": "0.2ms"}
    assert parse_node_settings({**given, **asked}).times_ms == {
        "heartbeat": 1_000,
        "attempt-lease": 90_000,
        "leader-lease": 1,
    }


@pytest.mark.parametrize("content", [b"", b"one\ntwo\n", b"\xff\xfe"])
def test_a_file_holds_one_line_of_text(given, tmp_path, content):
    (tmp_path / "dsn").write_bytes(content)
    with pytest.raises(SettingsError, match="--dsn-file"):
        parse_node_settings(given)
