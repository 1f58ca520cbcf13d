"""Writing: a file that people can read, and quotes only where they are needed."""

from __future__ import annotations

import pytest
from mainspring.definition import dump_yaml, load
from mainspring.definition.writing import quoted
from mainspring.v1.dag_pb2 import DagSpec

READABLE = """\
dag: report
description: |
  Builds the report.
    Slowly.
labels:
  team: data
schedules:
  - schedule: nightly
    cron: "0 2 * * *"
    timezone: Europe/Berlin
tasks:
  - task: fetch
    process:
      argv:
        - sh
        - -c
        - &script1 |
          set -e
          fetch "$1"
        - sh
        - "2024"
      env:
        MODE: fast
    resources:
      cpu: 0.5
      memory: 512MiB
    retry:
      max_attempts: 3
      initial_backoff: 1m30s
    timeout: 1h
    idempotent: false
    on_disconnect: continue
    disconnect_limit: 30m
  - task: check
    depends_on: [fetch]
    trigger_rule: all_done
    process:
      argv: [sh, -c, *script1, sh, "2025"]
    priority: 5
"""


def test_file_is_readable_and_stable() -> None:
    loaded = load(READABLE)
    assert loaded.problems == []
    assert dump_yaml(loaded.documents[0].spec) == READABLE


@pytest.mark.parametrize("text", ["a", "a.b/c", "-c", "--utc", "two words", "Done.", "/bin/sh"])
def test_safe_text_needs_no_quotes(text: str) -> None:
    assert quoted(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no",
        "True",
        "null",
        "-inf",
        ".nan",
        "2024",
        "1e5",
        "a: b",
        "a #b",
        "- a",
        "*a",
        "é",
        "~",
    ],
)
def test_other_text_is_quoted(text: str) -> None:
    assert quoted(text) == f'"{text}"'


@pytest.mark.parametrize(
    "script", ["a\n\n\nb\n", "a\n  b\n\n", "\na", " a\nb", "a\tb\nc", "a\n ", "é\nb", "a\n\u2028b"]
)
def test_script_of_any_shape_is_read_back(script: str) -> None:
    spec = DagSpec(dag="a")
    for task_id in ("t", "u"):
        task = spec.tasks.add(task=task_id)
        task.process.argv[:] = ["sh", "-c", script]
        task.process.env["SCRIPT"] = script
    loaded = load(dump_yaml(spec))
    assert loaded.problems == []
    assert loaded.documents[0].spec == spec


def test_long_lists_are_written_below_each_other() -> None:
    spec = DagSpec(dag="a")
    spec.tasks.add(task="t").depends_on.extend(f"parent-{number}" for number in range(20))
    assert "\n      - parent-19\n" in dump_yaml(spec)


def test_empty_messages_keep_their_presence() -> None:
    spec = DagSpec(dag="a")
    task = spec.tasks.add()
    assert "  - {}\n" in dump_yaml(spec)
    task.resources.SetInParent()
    assert "  - resources: {}\n" in dump_yaml(spec)
