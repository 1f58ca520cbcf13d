"""The flags of `up`: what they mean, how wrong ones are refused, and with which exit code."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from mainspring.cli.exit_codes import ExitCode

from controlplane.cli import up
from controlplane.embedded import errors
from controlplane.embedded.plan import Capacity, ClusterSettings, LeaseFlags


def parse(*arguments: str, **environ: str) -> ClusterSettings:
    return up.parse(["--data", "d", *arguments], environ)


def test_defaults():
    assert parse() == ClusterSettings(data=Path("d"))
    assert (parse().nodes, parse().agents, parse().port) == (1, 1, 7070)


def test_every_flag_arrives():
    text = "--nodes 2 --shards 8 --agents 3 --port 9000 --capacity 4,8GiB --etcd 10.0.0.1:1,h:2"
    text += " --heartbeat 500ms --attempt-lease 6s --dsn postgresql://u@h/d --task-env=A"
    found = parse(*text.split(), "--task-env=B=x=y")
    assert found == ClusterSettings(
        data=Path("d"),
        nodes=2,
        shards=8,
        agents=3,
        port=9000,
        capacity=Capacity(4.0, 8 * 1024**3),
        etcd="10.0.0.1:1,h:2",
        dsn="postgresql://u@h/d",
        task_env=("A", "B=x=y"),
        leases=LeaseFlags(500, 6_000),
    )


def test_nodes_are_told_how_etcd_is_reached(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "password").write_text("hush\n")
    found = parse("--etcd=https://h:1", "--etcd-user=u", "--etcd-password-file=password")
    assert found.etcd == "https://h:1"
    assert found.etcd_access == (
        *("--etcd-password-file", str(tmp_path / "password")),
        *("--etcd-user", "u"),
    )


def test_the_dsn_may_come_from_the_environment():
    assert parse(MAINSPRING_DSN="postgresql://u@h/d").dsn == "postgresql://u@h/d"
    assert parse("--dsn=postgres://a@b/c", MAINSPRING_DSN="postgresql://u@h/d").dsn == (
        "postgres://a@b/c"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nodes=0"],
        ["--nodes=-1"],
        ["--nodes=two"],
        ["--nodes=٢"],
        ["--shards=5000"],
        ["--agents=1001"],
        ["--port=0"],
        ["--port=70000"],
        ["--port=99999999999999"],
        ["--capacity=0"],
        ["--capacity=-1"],
        ["--capacity=nan"],
        ["--capacity=2,"],
        ["--capacity=2,0"],
        ["--capacity=2,8 parsecs"],
        ["--task-env=1A=x"],
        ["--task-env="],
        ["--etcd=nowhere"],
        ["--etcd=a:1,,b:2"],
        ["--etcd=ftp://a:1"],
        ["--etcd=a:1", "--etcd-user=u"],
        ["--etcd=a:1", "--etcd-ca=ca.pem"],
        ["--etcd=https://a:1", "--etcd-ca=/nowhere/ca.pem"],
        ["--etcd-user=u", "--etcd-password-file=p"],
        ["--dsn=mysql://u:secret@h/d"],
        ["--heartbeat=soon"],
        ["--heartbeat=99ms"],
        ["--heartbeat=31s"],
        ["--heartbeat=2s", "--attempt-lease=6s"],
        ["--attempt-lease=999ms"],
        ["--attempt-lease=-6s"],
        ["--attempt-lease=25h"],
        ["--node=2"],
        ["more"],
    ],
)
def test_a_wrong_flag_is_refused_in_words(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(*arguments)
    said = capsys.readouterr().err
    assert ended.value.code == ExitCode.USAGE
    assert "error:" in said
    assert "Traceback" not in said
    assert "secret" not in said


def test_a_wrong_dsn_of_the_environment_is_refused_without_repeating_it(capsys):
    with pytest.raises(SystemExit) as ended:
        parse(MAINSPRING_DSN="mysql://u:secret@h/d")
    said = capsys.readouterr().err
    assert ended.value.code == ExitCode.USAGE
    assert "MAINSPRING_DSN" in said
    assert "secret" not in said


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as ended:
        up.parse(["--help"], {})
    assert ended.value.code == 0
    assert "example: mainspring up" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.AlreadyRunning(Path("d"), 1, "127.0.0.1:7070"), ExitCode.CONFLICT),
        (errors.PortTakenError(7070), ExitCode.CONFLICT),
        (errors.ShardsFixedError(4, 8), ExitCode.CONFLICT),
        (errors.FolderError(Path("d"), "no", "Other."), ExitCode.NOT_ALLOWED),
        (errors.NewerLayoutError(Path("d"), 2, 1), ExitCode.NOT_ALLOWED),
        (errors.ProgramMissingError("etcd", "gone", "Install."), ExitCode.NOT_ALLOWED),
        (errors.BackendError("no"), ExitCode.UNREACHABLE),
        (errors.NotStoppedError("etcd", 7), ExitCode.UNREACHABLE),
    ],
)
def test_every_error_has_an_exit_code(error, code):
    assert up.exit_code(error) is code


def test_a_folder_that_cannot_be_used_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert up.main(["--data", str(tmp_path / "file")]) == ExitCode.NOT_ALLOWED
    said = capsys.readouterr().err
    assert said.startswith("error: cannot use ")
    assert "--data" in said


def test_a_port_in_use_names_its_flag(tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code = up.main(["--data", str(tmp_path / "data"), "--port", str(port)])
    assert code == ExitCode.CONFLICT
    assert "--port" in capsys.readouterr().err
