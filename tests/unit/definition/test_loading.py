"""Loading: what files become, what stays in place when a part is broken, where fields stand."""

from __future__ import annotations

from pathlib import Path

import pytest
from mainspring.definition import Position, dump_yaml, load
from mainspring.definition.loading import MAX_FILE_BYTES
from mainspring.definition.problems import MAX_PROBLEMS
from mainspring.v1.dag_pb2 import TRIGGER_RULE_ALL_DONE, DagSpec

FULL = """\
dag: etl
description: Loads, then reports.
run_timeout: 1h30m
max_active_runs: 2
labels: {team: data, no: yes}
schedules:
  - {schedule: nightly, cron: 0 2 * * *, timezone: Europe/Berlin}
  - interval: 90
tasks:
  - task: load
    label: Load the data
    process:
      argv: [python, -m, load, 2024]
      env: {MODE: on}
      cwd: /srv
    resources: {cpu: 0.5, memory: 512MiB}
    retry: {max_attempts: 3, initial_backoff: 500ms, max_backoff: 1m, multiplier: 3, jitter: 0}
    timeout: 10m
    grace: 0s
    priority: -5
  - task: 2024
    depends_on: [load]
    trigger_rule: all_done
    process: {argv: ["true"]}
"""


def one(text: str) -> DagSpec:
    loaded = load(text)
    assert loaded.problems == []
    (document,) = loaded.documents
    return document.spec


def test_every_key_reaches_its_field() -> None:
    spec = one(FULL)
    first, second = spec.tasks
    assert dict(spec.labels) == {"team": "data", "no": "yes"}
    assert spec.run_timeout.seconds == 5_400
    assert (spec.schedules[0].cron, spec.schedules[1].interval.seconds) == ("0 2 * * *", 90)
    assert list(first.process.argv) == ["python", "-m", "load", "2024"]
    assert (first.resources.cpu, first.resources.memory_bytes) == (0.5, 512 * 2**20)
    assert (first.retry.multiplier, first.retry.jitter) == (3, 0)
    assert first.HasField("grace")
    assert (second.task, second.trigger_rule) == ("2024", TRIGGER_RULE_ALL_DONE)
    assert one(dump_yaml(spec)) == spec


@pytest.mark.parametrize("word", ["no", "yes", "on", "null", "2024", "1.5", "true"])
def test_text_is_what_the_file_says(word: str) -> None:
    spec = one(f"dag: {word}\ntasks:\n  - {{task: {word}, process: {{argv: [{word}]}}}}\n")
    assert (spec.dag, spec.tasks[0].task, spec.tasks[0].process.argv[0]) == (word, word, word)


def test_broken_parts_keep_their_index() -> None:
    text = """\
dag: a
tasks:
  - nonsense
  - task: b
    depends_on: [x, [y], z]
    process: {argv: [run]}
    resources: {cpu: 200000}
    priority: 99999999999
"""
    document = load(text).documents[0]
    assert len(document.problems) == 4
    assert [task.task for task in document.spec.tasks] == ["", "b"]
    assert list(document.spec.tasks[1].depends_on) == ["x", "", "z"]
    assert document.spec.tasks[1].resources.cpu == 200_000
    assert document.spec.tasks[1].priority == 0


@pytest.mark.parametrize(
    ("field", "line", "col"),
    [
        ("dag", 1, 6),
        ("tasks[1].depends_on[0]", 22, 18),
        ("tasks[0].resources.memory_bytes", 16, 35),
        ("tasks[0].resources.memory", 16, 35),
        ("tasks[0].process.env['MODE']", 14, 19),
        ("schedules[0].cron", 7, 31),
        ("labels[team]", 5, 16),
        ("tasks[1].timeout", 21, 5),
        ("tasks[9].task", 10, 3),
        ("tasks[0].label.more", 11, 12),
        ("tasks[x]", 10, 3),
        ("", 1, 1),
    ],
)
def test_position_of_a_field_or_of_what_is_around_it(field: str, line: int, col: int) -> None:
    document = load(FULL, filename="etl.yaml").documents[0]
    assert document.position(field) == Position("etl.yaml", line, col)


def test_field_of_no_file_has_no_position() -> None:
    assert load(FULL).documents[0].position("request_id") is None


def test_path_is_read_and_named(tmp_path: Path) -> None:
    path = tmp_path / "etl.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + FULL.replace("\n", "\r\n").encode())
    loaded = load(path)
    assert loaded.problems == []
    position = loaded.documents[0].position("tasks[1].task")
    assert str(position) == f"{path}:21:11"


def test_missing_file_is_for_the_caller(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.yaml")


def test_file_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    assert load(path).problems[0].message == "the file is larger than 64 MiB"


def test_documents_before_a_fault_are_there() -> None:
    loaded = load(FULL + "---\ndag: [\n")
    assert [document.spec.dag for document in loaded.documents] == ["etl"]
    assert len(loaded.file_problems) == 1


def test_problems_are_bounded() -> None:
    text = FULL + "".join(f"  - {{task: t{n}, x: y, z: y}}\n" for n in range(MAX_PROBLEMS))
    problems = load(text).problems
    assert len(problems) == MAX_PROBLEMS + 1
    assert problems[-1].message == "too many problems; the rest is not listed"


def test_task_limit() -> None:
    text = "dag: a\ntasks:\n- &t {task: t, process: {argv: [x]}}\n" + "- *t\n" * 100_000
    (problem,) = load(text, filename="f").problems
    assert str(problem) == "f:3:1: tasks: 100,001 entries, at most 100,000 are allowed"


def test_too_many_labels() -> None:
    labels = "".join(f"  k{n}: v\n" for n in range(65))
    text = FULL.replace("labels: {team: data, no: yes}\n", f"labels:\n{labels}")
    (problem,) = load(text).problems
    assert problem.message == "65 entries, at most 64"


def test_chain_of_100_000_tasks_needs_no_recursion() -> None:
    tasks = "".join(
        f"- {{task: t{n}, depends_on: [t{n - 1}], process: {{argv: [x]}}}}\n"
        for n in range(1, 100_000)
    )
    spec = one(f"dag: chain\ntasks:\n- {{task: t0, process: {{argv: [x]}}}}\n{tasks}")
    assert spec.tasks[99_999].depends_on == ["t99998"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("nightly", '"a\\0"', "control character U+0000 is not allowed"),
        ("2 * * *", '2 * * *, interval: ""', "'' is not a duration"),
        ("trigger_rule: all_done", "trigger_rule: [x]", "expected all_success or all_done"),
        ("trigger_rule: all_done", "trigger_rule: xyz", "expected all_success or all_done"),
        ("{MODE: on}", "{[a]: b}", "a key must be a text, found a list"),
        ("{MODE: on}", '{"a\\0": b}', "control character U+0000 is not allowed"),
        ("label: Load the data", "label: [a]", "expected a text, found a list"),
        ("priority: -5", "priority: [1]", "expected a whole number, found a list"),
    ],
)
def test_value_of_the_wrong_kind_is_named(old: str, new: str, message: str) -> None:
    assert load(FULL.replace(old, new)).problems[0].message.startswith(message)


def test_unprintable_key_is_shown_escaped() -> None:
    (problem,) = load(FULL + '"a\\u202eb": c\n', filename="f").problems
    assert problem.field == "a\\u202eb"
