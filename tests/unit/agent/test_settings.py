from __future__ import annotations

from pathlib import Path

import pytest

from agent.core.types import Amount
from agent.settings import (
    JournalCommand,
    SettingsError,
    is_loopback,
    machine_capacity,
    parse,
    parse_journal,
)


def arguments(folder: Path, **changed: str) -> list[str]:
    token = folder / "token"
    token.write_text("secret\n")
    given = {
        "name": "a-1",
        "nodes": "127.0.0.1:1,localhost:2",
        "token-file": str(token),
        "work": str(folder / "d"),
        **changed,
    }
    return [word for name, value in given.items() for word in (f"--{name}", value)]


def errors(argv: list[str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse(argv)
    return list(caught.value.errors)


def test_a_plain_command_line_gets_the_defaults(tmp_path: Path):
    settings = parse(arguments(tmp_path))
    assert settings.nodes == ("127.0.0.1:1", "localhost:2")
    assert settings.token == "secret"
    assert "secret" not in repr(settings)
    assert settings.objects_url == f"file://{tmp_path}/d/objects"
    assert settings.capacity == machine_capacity()
    assert settings.work.is_dir()


@pytest.mark.parametrize(
    ("text", "capacity"),
    [
        ("2,1G", Amount(2000, 1 << 30)),
        ("0.5,1.5k", Amount(500, 1536)),
        ("1,2MiB", Amount(1000, 2 << 20)),
        ("1,7", Amount(1000, 7)),
        ("3", Amount(3000, machine_capacity().memory_bytes)),
    ],
)
def test_a_capacity_is_cores_and_memory(tmp_path: Path, text: str, capacity: Amount):
    assert parse(arguments(tmp_path, capacity=text)).capacity == capacity


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "nan", "inf", "1,", "1,x", "1,0", "1,2,3"])
def test_a_wrong_capacity_is_refused(tmp_path: Path, text: str):
    (line,) = errors(arguments(tmp_path, capacity=text))
    assert line.startswith("--capacity")


def test_variables_are_set_or_passed_on(tmp_path: Path):
    argv = [*arguments(tmp_path), "--task-env", "A=b=c", "--task-env", "D", "--label", "x=y"]
    settings = parse(argv)
    assert settings.task_env == (("A", "b=c"), ("D", None))
    assert settings.labels == (("x", "y"),)


def test_everything_that_is_missing_is_named():
    missing = ["--name", "--nodes", "--token-file", "--work"]
    assert errors([]) == [f"{name} is missing" for name in missing]


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"name": "a b"}, "is not a name"),
        ({"nodes": "127.0.0.1"}, "is not host:port"),
        ({"nodes": "127.0.0.1:0"}, "is not host:port"),
        ({"nodes": "10.0.0.1:80"}, "without TLS only loopback"),
        ({"token-file": "/no/such"}, "No such file"),
        ({"work": "/proc/no"}, "cannot make /proc/no"),
        ({"objects": "folder"}, "is not a URL"),
        ({"label": "x"}, "is not NAME=VALUE"),
        ({"task-env": "1=2"}, "is not NAME or NAME=VALUE"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changed: dict[str, str], part: str):
    (line,) = errors(arguments(tmp_path, **changed))
    assert part in line


@pytest.mark.parametrize("content", [b"", b" \n", b"two\nlines", b"\xff"])
def test_a_file_without_a_token_is_refused(tmp_path: Path, content: bytes):
    argv = arguments(tmp_path)
    (tmp_path / "token").write_bytes(content)
    (line,) = errors(argv)
    assert line.startswith("--token-file")


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        ("localhost.example.org:1", False),
    ],
)
def test_only_loopback_is_spoken_to_in_plain_text(address: str, local: bool):
    assert is_loopback(address) is local


def test_the_journal_of_a_folder_can_be_shown():
    assert parse_journal(["show", "/w", "--json"]) == JournalCommand(Path("/w"), as_json=True)
    assert parse_journal(["show", "/w"]) == JournalCommand(Path("/w"), as_json=False)


@pytest.mark.parametrize("argv", [[], ["show"], ["drop", "/w"]])
def test_a_wrong_command_about_the_journal_gets_its_usage(
    argv: list[str], capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit, match="2"):
        parse_journal(argv)
    assert "usage: mainspring-agent journal" in capsys.readouterr().err
