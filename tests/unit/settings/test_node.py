"""The flags of a node: what they mean, and that all wrong ones are told together."""

from __future__ import annotations

import pytest

from controlplane.settings.node import NodeSettings, SettingsError, parse


@pytest.fixture
def files(tmp_path):
    (tmp_path / "dsn").write_text("postgresql://u:secret@/d\n")
    (tmp_path / "token").write_text("a-token\n")
    return tmp_path


def flags(files, **changed: str) -> list[str]:
    given = {
        "node": "node-1",
        "listen": "127.0.0.1:7070",
        "etcd": "127.0.0.1:2379, etcd-2:2379",
        "dsn-file": str(files / "dsn"),
        "token-file": str(files / "token"),
        "objects": "file:///var/logs",
    } | {name.replace("_", "-"): value for name, value in changed.items()}
    return [f"--{name}={value}" for name, value in given.items()]


def test_every_flag_arrives_and_secrets_come_from_files(files):
    found = parse(flags(files, cluster="acme", log_level="debug"))
    assert found == NodeSettings(
        node="node-1",
        cluster="acme",
        listen="127.0.0.1:7070",
        etcd=("127.0.0.1:2379", "etcd-2:2379"),
        objects_url="file:///var/logs",
        dsn="postgresql://u:secret@/d",
        token="a-token",
        log_level="debug",
    )
    assert "secret" not in repr(found)
    assert "a-token" not in repr(found)


def test_all_that_is_wrong_is_told_together(files):
    (files / "empty").write_text("\n")
    wrong = {
        "node": "Node 1",
        "cluster": "-",
        "listen": "nowhere",
        "etcd": "h:0,h:99999",
        "objects": "logs",
        "dsn_file": str(files / "gone"),
        "token_file": str(files / "empty"),
    }
    with pytest.raises(SettingsError) as refused:
        parse(flags(files, **wrong))
    told = [line.partition(":")[0] for line in refused.value.errors]
    assert sorted(set(told)) == sorted(f"--{name.replace('_', '-')}" for name in wrong)
    assert told.count("--etcd") == 2


def test_a_secret_that_is_not_text_is_refused(files):
    (files / "dsn").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="it is not text"):
        parse(flags(files))


def test_a_missing_flag_is_told(files, capsys):
    with pytest.raises(SystemExit):
        parse(flags(files)[1:])
    assert "--node" in capsys.readouterr().err
