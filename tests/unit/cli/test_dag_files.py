"""Applying and validating DAG files: all problems at once, all documents or none."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest
import yaml
from mainspring.cli.exit_codes import ExitCode
from mainspring.v1 import dag_pb2

from tests.unit.cli.conftest import Cli
from tests.unit.cli.fake_server import Failure, Script

GOOD = """\
dag: {id}
tasks:
  - task: extract
    process: {{argv: ["true"]}}
  - task: load
    depends_on: [extract]
    process: {{argv: ["true"]}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def good(folder: Path, name: str, *ids: str) -> str:
    (folder / name).write_text("---\n".join(GOOD.format(id=each) for each in ids))
    return name


def applied(script: Script) -> list[str]:
    asked = script.asked(dag_pb2.ApplyDagRequest)
    return [each.spec.dag for each in asked if not each.validate_only]


def cycle(spec: dag_pb2.DagSpec) -> tuple[tuple[str, str], ...]:
    return (("spec.tasks[1].depends_on[0]", "cycle: extract -> load -> extract"),)


def test_all_documents_of_all_files_are_applied(cli: Cli, script: Script, folder: Path) -> None:
    ended = cli("dag", "apply", good(folder, "a.yaml", "a", "b"), good(folder, "c.yaml", "c"))
    assert ended.code == 0
    assert applied(script) == ["a", "b", "c"]
    lines = ended.out.splitlines()
    assert lines[0].split() == ["DAG", "RESULT", "TASKS", "DIGEST"]
    assert lines[1].split() == ["a", "created", "2", "abababababab"]


def test_one_good_document_costs_one_call(cli: Cli, script: Script, folder: Path) -> None:
    cli("dag", "apply", good(folder, "a.yaml", "a"))
    assert [each.validate_only for each in script.asked(dag_pb2.ApplyDagRequest)] == [False]


def test_a_dry_run_changes_nothing(cli: Cli, script: Script, folder: Path) -> None:
    ended = cli("dag", "apply", "--dry-run", good(folder, "a.yaml", "a"))
    assert (ended.code, applied(script), script.dags) == (0, [], {})
    assert "valid" in ended.out


def test_answers_have_machine_forms(cli: Cli, script: Script, folder: Path) -> None:
    file = good(folder, "a.yaml", "a", "b")
    decoder = json.JSONDecoder()
    out = cli("dag", "apply", file, "--json").out
    first, end = decoder.raw_decode(out)
    assert first["created"] is True
    assert first["dag"]["spec"]["tasks"][1]["dependsOn"] == ["extract"]
    assert decoder.raw_decode(out[end:].lstrip())[0]["dag"]["name"] == "dags/b"
    documents = list(yaml.safe_load_all(cli("dag", "apply", file, "-o", "yaml").out))
    assert [each["dag"]["name"] for each in documents] == ["dags/a", "dags/b"]


def test_problems_of_the_server_stand_at_their_place(
    cli: Cli, script: Script, folder: Path
) -> None:
    script.judge = cycle
    ended = cli("dag", "apply", good(folder, "a.yaml", "a"))
    assert ended.code == ExitCode.INVALID
    assert ended.out == ""
    assert "a.yaml:6:18: tasks[1].depends_on[0]: cycle: extract -> load -> extract" in ended.err
    assert "1 problem in 1 file; nothing was applied" in ended.err
    assert script.dags == {}


def test_local_and_server_problems_come_together_in_order(
    cli: Cli, script: Script, folder: Path
) -> None:
    script.judge = cycle
    (folder / "bad.yaml").write_text(
        GOOD.format(id="bad").replace("extract\n    process", "extract\n    prosess")
    )
    good(folder, "good.yaml", "good")
    ended = cli("dag", "apply", "bad.yaml", "good.yaml")
    assert ended.code == ExitCode.INVALID
    places = [line.split(": ")[0] for line in ended.err.splitlines() if ".yaml:" in line]
    assert places == ["bad.yaml:3:5", "bad.yaml:4:5", "bad.yaml:6:18", "good.yaml:6:18"]
    assert applied(script) == []


def test_what_a_local_check_told_is_not_told_again(cli: Cli, script: Script, folder: Path) -> None:
    script.judge = lambda _spec: (("spec.tasks[0].task", "not an id"), ("spec", "too few tasks"))
    (folder / "a.yaml").write_text(GOOD.format(id="a").replace("task: extract", "task: '!'"))
    ended = cli("dag", "apply", "a.yaml")
    assert ended.err.count("tasks[0].task: ") == 1
    assert "a.yaml:1:1: too few tasks" in ended.err


def test_a_problem_without_a_field_stands_at_the_dag(
    cli: Cli, script: Script, folder: Path
) -> None:
    script.failures["ApplyDag"] = Failure(grpc.StatusCode.INVALID_ARGUMENT, "too large")
    ended = cli("dag", "apply", good(folder, "a.yaml", "x", "a"))
    assert "a.yaml:1:1: too large" in ended.err
    assert "a.yaml:9:1: too large" in ended.err


def test_two_files_with_one_dag_are_refused(cli: Cli, script: Script, folder: Path) -> None:
    ended = cli("dag", "apply", good(folder, "a.yaml", "x"), good(folder, "b.yaml", "x"))
    assert ended.code == ExitCode.INVALID
    assert "b.yaml:1:6: dag: DAG 'x' is defined twice (at a.yaml:1:6)" in ended.err


def test_a_file_named_twice_counts_once(cli: Cli, script: Script, folder: Path) -> None:
    file = good(folder, "a.yaml", "a")
    assert cli("dag", "apply", file, file).code == 0
    assert applied(script) == ["a"]


def test_a_file_that_is_not_there(cli: Cli, script: Script, folder: Path) -> None:
    ended = cli("dag", "apply", "absent.yaml")
    assert ended.code == ExitCode.INVALID
    assert "absent.yaml: cannot be read: No such file or directory" in ended.err
    assert cli("dag", "apply", str(folder)).code == ExitCode.INVALID


def test_local_problems_are_told_although_the_server_is_away(
    cli: Cli, folder: Path, dead_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAINSPRING_TOKEN", "x")
    (folder / "a.yaml").write_text("dag: a\ntasks: []\n")
    ended = cli("dag", "apply", "a.yaml", "--address", dead_address)
    assert ended.code == ExitCode.INVALID
    assert "the server was not asked" in ended.err
    ended = cli("dag", "apply", good(folder, "b.yaml", "b"), "--address", dead_address)
    assert ended.code == ExitCode.UNREACHABLE


def test_what_was_applied_before_a_failure_is_told(
    cli: Cli, script: Script, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mainspring.client.dags import Dags

    apply = Dags.apply

    def full(dags: Dags, spec: dag_pb2.DagSpec, **options) -> dag_pb2.ApplyDagResponse:
        if spec.dag == "b" and not options:
            script.failures["ApplyDag"] = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        return apply(dags, spec, **options)

    monkeypatch.setattr(Dags, "apply", full)
    ended = cli("dag", "apply", good(folder, "a.yaml", "a", "b", "c"))
    assert ended.code == ExitCode.CONFLICT
    assert "applied before the failure: a\n" in ended.err


def test_warnings_are_messages(cli: Cli, script: Script, folder: Path) -> None:
    script.warnings = ("the 31st of February never comes",)
    ended = cli("dag", "apply", good(folder, "a.yaml", "a"))
    assert ended.code == 0
    assert "warning: a.yaml: a: the 31st of February never comes" in ended.err


def test_a_huge_value_makes_no_huge_message(cli: Cli, script: Script, folder: Path) -> None:
    (folder / "a.yaml").write_text(f"dag: {'x' * 1_000_000}\ntasks: [{{'\\x1b': 1}}]\n")
    ended = cli("dag", "apply", "a.yaml")
    assert ended.code == ExitCode.INVALID
    assert len(ended.err) < 5_000
    assert "\x1b" not in ended.err


def test_validate_asks_the_server(cli: Cli, script: Script, folder: Path) -> None:
    file = good(folder, "a.yaml", "a")
    ended = cli("dag", "validate", file)
    assert (ended.code, ended.err, applied(script)) == (0, "", [])
    script.judge = cycle
    assert cli("dag", "validate", file).code == ExitCode.INVALID


def test_problems_have_machine_forms(cli: Cli, script: Script, folder: Path) -> None:
    script.judge = cycle
    ended = cli("dag", "validate", good(folder, "a.yaml", "a"), "-o", "json")
    assert ended.code == ExitCode.INVALID
    assert json.loads(ended.out) == {
        "problems": [
            {
                "file": "a.yaml",
                "line": 6,
                "column": 18,
                "field": "tasks[1].depends_on[0]",
                "message": "cycle: extract -> load -> extract",
            }
        ]
    }
    assert "a.yaml:6:18" in ended.err


def test_validate_offline_says_so(cli: Cli, script: Script, folder: Path) -> None:
    ended = cli("dag", "validate", "--offline", good(folder, "a.yaml", "a"))
    assert ended.code == 0
    assert "checked locally only" in ended.err
    assert script.requests == []
    assert ended.out.splitlines()[1].split() == ["a", "valid", "2", "-"]


def test_validate_without_a_server_checks_locally(cli: Cli, folder: Path) -> None:
    ended = cli("dag", "validate", good(folder, "a.yaml", "a"))
    assert ended.code == 0
    assert "the server was not asked: no server is known" in ended.err
    assert "checked locally only" in ended.err
