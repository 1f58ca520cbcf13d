"""Help, usage errors and the ends that no command decides."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from mainspring.cli import main
from mainspring.cli.commands import COMMANDS, GROUPS
from mainspring.cli.exit_codes import ExitCode

from tests.unit.cli.conftest import Cli
from tests.unit.cli.fake_server import RUN, TOKEN, FakeServer

HEAVY = ("grpc", "google.protobuf", "yaml", "mainspring.v1", "mainspring.definition")


def python(code: str, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-c", code]
    return subprocess.run(command, check=False, capture_output=True, text=True, **options)


@pytest.mark.parametrize("words", [each.words for each in COMMANDS] + list(GROUPS) + [""])
def test_every_help_has_an_example(cli: Cli, words: str) -> None:
    ended = cli(*words.split(), "--help")
    assert ended.code == 0
    assert ended.err == ""
    assert "\nExample" in ended.out
    assert f"  mainspring {words}".rstrip() in ended.out


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: each.words)
def test_examples_are_accepted_by_the_parser(command) -> None:
    app = main.build_app()
    for example in command.examples:
        words = example.split(" | ")[0].split(" > ")[0].replace('"', "").split()
        if "source" not in words:
            app.parse_args(words[1:])


def test_help_imports_no_heavy_module() -> None:
    code = "import sys; from mainspring.cli.main import run; run(['--help']); "
    ended = python(code + "print('LOADED', *sorted(sys.modules))")
    loaded = ended.stdout.split("LOADED")[1].split()
    heavy = [name for name in loaded if name.startswith((*HEAVY, "rich.markdown", "asyncio"))]
    assert heavy == []


def test_help_of_a_command_imports_no_heavy_module() -> None:
    code = (
        "import sys; from mainspring.cli.main import run; "
        "from mainspring.cli.commands import COMMANDS; "
        "[run([*each.words.split(), '--help']) for each in COMMANDS]; "
    )
    ended = python(code + "print('LOADED', *sorted(sys.modules))")
    loaded = ended.stdout.split("LOADED")[1].split()
    assert [name for name in loaded if name.startswith(HEAVY)] == []


def test_errors_of_the_sdk_come_without_grpc() -> None:
    ended = python("import sys, mainspring.client; print('grpc' in sys.modules)")
    assert ended.stdout == "False\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dag", "aply"], "aply"),
        (["run", "get"], "requires an argument"),
        (["run", "get", "x", "--nonsense"], "--nonsense"),
        (["dag", "list", "-o", "xml"], "xml"),
        (["dag", "list", "--limit", "0"], ">= 1"),
        (["dag", "next", "etl", "-n", "1001"], "<= 1000"),
        (["dag", "next", "etl", "-n", "nan"], "nan"),
        (["run", "wait", "x", "--timeout", "nan"], "nan"),
        (["run", "trigger", "etl", "--logical-time", "yesterday"], "yesterday"),
        (["run", "list", "--state", "sleeping"], "sleeping"),
        (["up", "--nodes", "0"], ">= 1"),
        (["up", "--port", "70000"], "<= 65535"),
    ],
)
def test_a_wrong_command_line_says_so_with_exit_code_2(cli: Cli, arguments, said: str) -> None:
    ended = cli(*arguments)
    assert ended.code == ExitCode.USAGE
    assert ended.out == ""
    assert said in ended.err
    assert "--help" in ended.err
    assert "Traceback" not in ended.err


def test_version_flag(cli: Cli) -> None:
    ended = cli("--version")
    assert ended.code == 0
    assert ended.out.startswith("mainspring 0.")


def test_an_unforeseen_failure_is_one_line_and_the_way_to_its_traceback(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("wheel\x1b[2J came off")

    monkeypatch.setattr(main, "build_app", lambda: lambda _arguments: broken())
    ended = cli("anything")
    assert ended.code == ExitCode.DEFECT
    assert "RuntimeError: wheel\\x1b[2J came off" in ended.err
    assert "MAINSPRING_DEBUG=1" in ended.err
    assert "Traceback" not in ended.err
    monkeypatch.setenv("MAINSPRING_DEBUG", "1")
    assert "Traceback" in cli("anything").err


def test_ctrl_c_is_130(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_arguments: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "build_app", lambda: interrupted)
    assert cli("anything").code == ExitCode.INTERRUPTED


def process(*arguments: str, **options) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "mainspring.cli.main", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def environment(server: FakeServer) -> dict[str, str]:
    return {**os.environ, "MAINSPRING_ADDRESS": server.address, "MAINSPRING_TOKEN": TOKEN}


def test_the_process_ends_with_the_exit_code(server: FakeServer) -> None:
    started = process("dag", "list", "--json", env=environment(server))
    out, err = started.communicate(timeout=60)
    assert (started.returncode, err) == (0, b"")
    assert json.loads(out) == {"dags": [], "nextPageToken": ""}


def test_a_reader_that_goes_away_ends_the_command_silently(server: FakeServer) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-P", "-m", "mainspring.cli.main", "dag", "list", "--json"]
    ended = subprocess.run(
        command,
        check=False,
        stdout=write_end,
        stderr=subprocess.PIPE,
        env=environment(server),
        timeout=60,
    )
    os.close(write_end)
    assert (ended.returncode, ended.stderr) == (ExitCode.PIPE_CLOSED, b"")


def test_ctrl_c_interrupts_a_call_under_way(server: FakeServer) -> None:
    with process("run", "wait", RUN, env=environment(server)) as held:
        assert server.script.entered.wait(60)
        held.send_signal(signal.SIGINT)
        assert held.wait(timeout=60) == ExitCode.INTERRUPTED
        server.script.release.set()
        assert held.stderr.read() == b""
