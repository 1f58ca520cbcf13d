"""Importing a workflow from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mainspring.cli.exit_codes import ExitCode
from mainspring.definition import load

from tests.unit.cli.conftest import Cli

WORKFLOW = {
    "name": "two-steps",
    "schemaVersion": "1.5",
    "workflow": {
        "specification": {
            "tasks": [
                {"name": "a", "id": "a", "parents": [], "children": ["b"]},
                {"name": "b", "id": "b", "parents": ["a"], "children": []},
            ],
            "files": [],
        },
        "execution": {
            "makespanInSeconds": 30,
            "executedAt": "2026-01-01T00:00:00Z",
            "tasks": [
                {"id": "a", "runtimeInSeconds": 10.0},
                {"id": "b", "runtimeInSeconds": 20.0},
            ],
            "machines": [],
        },
    },
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "w.json"
    path.write_text(json.dumps(WORKFLOW))
    return path


def test_a_workflow_becomes_a_dag_file(cli: Cli, file: Path, tmp_path: Path) -> None:
    output = tmp_path / "dag.yaml"
    ended = cli("import", "wfformat", str(file), "-o", str(output), "--dag", "mine")
    assert (ended.code, ended.out) == (0, "")
    assert "DAG mine: 2 tasks" in ended.err
    loaded = load(output)
    assert loaded.problems == []
    assert [task.task for task in loaded.documents[0].spec.tasks] == ["a", "b"]


def test_without_a_file_it_prints(cli: Cli, file: Path) -> None:
    ended = cli("import", "wfformat", str(file))
    assert load(ended.out.encode()).documents[0].spec.dag == "two-steps"


def test_what_cannot_be_imported_is_refused_with_the_reason(
    cli: Cli, file: Path, tmp_path: Path
) -> None:
    file.write_text("{")
    ended = cli("import", "wfformat", str(file))
    assert ended.code == ExitCode.INVALID
    assert str(file) in ended.err
    absent = cli("import", "wfformat", str(tmp_path / "absent"))
    assert (absent.code, "No such file" in absent.err) == (ExitCode.INVALID, True)
    assert cli("import", "wfformat", str(file), "--dag", "a b").code == ExitCode.INVALID
    assert "next:  name a WfFormat file" in absent.err
    assert cli("import", "wfformat", str(file), "--time-scale", "-1").code == ExitCode.USAGE
    unclear = cli("import", "wfformat", str(file), "--time-scale", "nan")
    assert (unclear.code, "a finite number" in unclear.err) == (ExitCode.USAGE, True)


def test_a_place_that_cannot_be_written_is_6(cli: Cli, file: Path, tmp_path: Path) -> None:
    ended = cli("import", "wfformat", str(file), "-o", str(tmp_path / "no" / "dag.yaml"))
    assert ended.code == ExitCode.NOT_ALLOWED
    assert "No such file or directory\nnext:  check the path" in ended.err
