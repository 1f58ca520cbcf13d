"""Every fault of a file has one clear message at its exact place."""

from __future__ import annotations

import pytest
from mainspring.definition import load

TASK = "dag: a\ntasks:\n  - task: t\n    process: {argv: [x]}\n"
DURATION_HINT = '(write it as "500ms", "90s", "5m", "1h30m" or a number of seconds)'
SIZE_HINT = '(write it as "512MiB", "2GB" or a whole number of bytes)'
ID_HINT = "(use letters, digits, '.', '_' and '-', first a letter or digit)"
LIMIT_PROBLEM = (
    "has no meaning without `on_disconnect: continue` or `retry` (fence, the default, ends an "
    "attempt with its attempt lease: remove this key, or choose one of the two)"
)
WORK = "tasks:\n  - {task: t, process: {argv: [x]}}\n"

BAD: dict[str, tuple[str | bytes, list[str]]] = {
    "unknown_top_key": (
        "dag: a\ntask: []\n" + WORK,
        ["f.yaml:2:1: task: unknown key 'task' (did you mean 'tasks'?)"],
    ),
    "unknown_task_key": (
        "dag: a\ntasks:\n  - task: t\n    depend_on: [u]\n    process: {argv: [x]}\n",
        ["f.yaml:4:5: tasks[0].depend_on: unknown key 'depend_on' (did you mean 'depends_on'?)"],
    ),
    "unknown_but_known_elsewhere": (
        (
            "dag: a\nschedules:\n  - every: 10s\n    interval: 5s\n"
            "tasks:\n  - task: t\n    process: {argv: [x]}\n"
        ),
        ["f.yaml:3:5: schedules[0].every: unknown key 'every' (did you mean 'interval'?)"],
    ),
    "unknown_without_guess": (
        "dag: a\ntasks:\n  - task: t\n    process: {argv: [x], qqqq: 1}\n",
        ["f.yaml:4:26: tasks[0].process.qqqq: unknown key 'qqqq' (known keys: argv, env, cwd)"],
    ),
    "merge_key": (
        (
            "dag: a\ntasks:\n  - &t\n    task: t\n    process: {argv: [x]}\n  - <<: "
            "*t\n    task: u\n    process: {argv: [x]}\n"
        ),
        [
            (
                "f.yaml:6:5: tasks[1]: merge keys are not supported (an alias works as a "
                "whole value: `env: *shared`)"
            )
        ],
    ),
    "missing_dag": (
        WORK,
        ["f.yaml:1:1: dag: missing: a DAG needs 'dag'"],
    ),
    "missing_tasks": (
        "dag: a\n",
        ["f.yaml:1:1: tasks: missing: a DAG needs 'tasks'"],
    ),
    "no_tasks": (
        "dag: a\ntasks: []\n",
        ["f.yaml:2:8: tasks: must not be empty"],
    ),
    "missing_task_keys": (
        "dag: a\ntasks:\n  - label: x\n",
        [
            "f.yaml:3:5: tasks[0].task: missing: a task needs 'task'",
            "f.yaml:3:5: tasks[0].process: missing: a task needs 'process'",
        ],
    ),
    "missing_argv": (
        "dag: a\ntasks:\n  - task: t\n    process: {env: {A: b}}\n",
        ["f.yaml:4:14: tasks[0].process.argv: missing: a process needs 'argv'"],
    ),
    "empty_argv": (
        "dag: a\ntasks:\n  - task: t\n    process: {argv: []}\n",
        ["f.yaml:4:21: tasks[0].process.argv: must not be empty"],
    ),
    "argv_text": (
        "dag: a\ntasks:\n  - task: t\n    process: {argv: echo hi}\n",
        ["f.yaml:4:21: tasks[0].process.argv: expected a list, found 'echo hi'"],
    ),
    "argv_nested": (
        "dag: a\ntasks:\n  - task: t\n    process: {argv: [x, [y], {a: b}]}\n",
        [
            "f.yaml:4:25: tasks[0].process.argv[1]: expected a text, found a list",
            "f.yaml:4:30: tasks[0].process.argv[2]: expected a text, found a mapping",
        ],
    ),
    "argv_no_value": (
        "dag: a\ntasks:\n  - task: t\n    process:\n      argv:\n        - x\n        -\n",
        [
            (
                "f.yaml:7:10: tasks[0].process.argv[1]: expected a text, found no value "
                '(write "" for an empty text)'
            )
        ],
    ),
    "tasks_mapping": (
        "dag: a\ntasks:\n  t: {process: {argv: [x]}}\n",
        ["f.yaml:3:3: tasks: expected a list, found a mapping"],
    ),
    "task_is_text": (
        "dag: a\ntasks:\n  - build\n",
        ["f.yaml:3:5: tasks[0]: a task must be a mapping, found 'build'"],
    ),
    "bad_dag_id": (
        "dag: my dag\n" + WORK,
        ["f.yaml:1:6: dag: 'my dag' is not allowed here " + ID_HINT],
    ),
    "bad_task_id": (
        "dag: a\ntasks:\n  - {task: -t, process: {argv: [x]}}\n",
        ["f.yaml:3:12: tasks[0].task: '-t' is not allowed here " + ID_HINT],
    ),
    "long_id": (
        f"dag: {'a' * 201}\n{WORK}",
        ["f.yaml:1:6: dag: 201 characters, at most 200 are allowed"],
    ),
    "huge_id": (
        f"dag: {'é' * 1_000_000}\n{WORK}",
        ["f.yaml:1:6: dag: 1,000,000 characters, at most 200 are allowed"],
    ),
    "nul": (
        'dag: a\ntasks:\n  - task: t\n    process: {argv: [x, "a\\0b"]}\n',
        ["f.yaml:4:25: tasks[0].process.argv[1]: control character U+0000 is not allowed"],
    ),
    "escape_character": (
        'dag: a\ndescription: "\\e[1m"\n' + WORK,
        ["f.yaml:2:14: description: control character U+001B is not allowed"],
    ),
    "raw_control": (
        "dag: a\ndescription: \x07\n",
        ["f.yaml:2:14: control character U+0007 is not allowed"],
    ),
    "duplicate_key": (
        "dag: a\ndag: b\n" + WORK,
        ["f.yaml:2:1: dag: key 'dag' is given twice"],
    ),
    "duplicate_label": (
        "dag: a\nlabels: {x: 1, x: 2}\n" + WORK,
        ["f.yaml:2:16: labels['x']: key 'x' is given twice"],
    ),
    "labels_list": (
        "dag: a\nlabels: [x]\n" + WORK,
        ["f.yaml:2:9: labels: expected a mapping of texts, found a list"],
    ),
    "label_without_value": (
        "dag: a\nlabels:\n  team:\n" + WORK,
        [
            (
                "f.yaml:3:8: labels['team']: expected a text, found no value (write \"\" "
                "for an empty text)"
            )
        ],
    ),
    "key_is_list": (
        "dag: a\n[x]: b\n" + WORK,
        ["f.yaml:2:1: a key must be a text, found a list"],
    ),
    "bad_env_name": (
        "dag: a\ntasks:\n  - task: t\n    process: {argv: [x], env: {A-B: c}}\n",
        [
            (
                "f.yaml:4:32: tasks[0].process.env['A-B']: 'A-B' is not allowed here "
                "(use letters, digits and '_', first not a digit)"
            )
        ],
    ),
    "relative_cwd": (
        "dag: a\ntasks:\n  - task: t\n    process: {argv: [x], cwd: tmp}\n",
        ["f.yaml:4:31: tasks[0].process.cwd: 'tmp' is not allowed here (use an absolute path)"],
    ),
    "negative_duration": (
        "dag: a\nrun_timeout: -5s\n" + WORK,
        ["f.yaml:2:14: run_timeout: must not be negative, found -5s " + DURATION_HINT],
    ),
    "bad_duration": (
        "dag: a\nrun_timeout: 5 minutes\n" + WORK,
        ["f.yaml:2:14: run_timeout: '5 minutes' is not a duration " + DURATION_HINT],
    ),
    "units_out_of_order": (
        "dag: a\nrun_timeout: 30m1h\n" + WORK,
        ["f.yaml:2:14: run_timeout: '30m1h' is not a duration " + DURATION_HINT],
    ),
    "fine_duration": (
        "dag: a\nrun_timeout: 0.0000000001s\n" + WORK,
        ["f.yaml:2:14: run_timeout: '0.0000000001s' is finer than a nanosecond"],
    ),
    "long_duration": (
        "dag: a\nrun_timeout: 99999999d\n" + WORK,
        ["f.yaml:2:14: run_timeout: '99999999d' is longer than 10,000 years"],
    ),
    "duration_list": (
        "dag: a\nrun_timeout: [5s]\n" + WORK,
        ["f.yaml:2:14: run_timeout: expected a duration, found a list"],
    ),
    "nan_cpu": (
        TASK + "    resources: {cpu: .nan}\n",
        ["f.yaml:5:22: tasks[0].resources.cpu: .nan is not a finite number"],
    ),
    "infinite_cpu": (
        TASK + "    resources: {cpu: 1e999}\n",
        ["f.yaml:5:22: tasks[0].resources.cpu: 1e999 is too large"],
    ),
    "negative_cpu": (
        TASK + "    resources: {cpu: -1}\n",
        ["f.yaml:5:22: tasks[0].resources.cpu: must be 0 to 100,000, found -1"],
    ),
    "quoted_cpu": (
        TASK + '    resources: {cpu: "2"}\n',
        [
            (
                "f.yaml:5:22: tasks[0].resources.cpu: expected a number, found a quoted "
                "text (remove the quotes)"
            )
        ],
    ),
    "cpu_word": (
        TASK + "    resources: {cpu: two}\n",
        ["f.yaml:5:22: tasks[0].resources.cpu: expected a number, found 'two'"],
    ),
    "octal_priority": (
        TASK + "    priority: 010\n",
        ["f.yaml:5:15: tasks[0].priority: expected a whole number, found '010'"],
    ),
    "high_priority": (
        TASK + "    priority: 5000\n",
        ["f.yaml:5:15: tasks[0].priority: must be -1,000 to 1,000, found 5,000"],
    ),
    "huge_runs": (
        "dag: a\nmax_active_runs: 9999999999\n" + WORK,
        ["f.yaml:2:18: max_active_runs: must be 0 to 2,147,483,647, found 9,999,999,999"],
    ),
    "ambiguous_memory": (
        TASK + "    resources: {memory: 2G}\n",
        [
            (
                "f.yaml:5:25: tasks[0].resources.memory_bytes: '2G' may mean powers of "
                "1,000 or of 1,024 (write GB or GiB)"
            )
        ],
    ),
    "negative_memory": (
        TASK + "    resources: {memory: -1}\n",
        [
            "f.yaml:5:25: tasks[0].resources.memory_bytes: must not be negative, found -1 "
            + SIZE_HINT
        ],
    ),
    "unknown_unit": (
        TASK + "    resources: {memory: 2 boxes}\n",
        [
            "f.yaml:5:25: tasks[0].resources.memory_bytes: '2 boxes' has an unknown unit "
            + SIZE_HINT
        ],
    ),
    "half_byte": (
        TASK + "    resources: {memory: 0.5}\n",
        [
            "f.yaml:5:25: tasks[0].resources.memory_bytes: '0.5' is not a whole number of bytes "
            + SIZE_HINT
        ],
    ),
    "much_memory": (
        TASK + "    resources: {memory: 5000TiB}\n",
        ["f.yaml:5:25: tasks[0].resources.memory_bytes: must be at most 1PiB"],
    ),
    "bad_rule": (
        TASK + "    trigger_rule: all_sucess\n",
        [
            (
                "f.yaml:5:19: tasks[0].trigger_rule: expected all_success or all_done, "
                "found 'all_sucess' (did you mean 'all_success'?)"
            )
        ],
    ),
    "retry_without_attempts": (
        TASK + "    retry: {jitter: 2}\n",
        [
            "f.yaml:5:21: tasks[0].retry.jitter: must be 0 to 1, found 2",
            (
                "f.yaml:5:12: tasks[0].retry.max_attempts: missing: a retry policy needs "
                "'max_attempts'"
            ),
        ],
    ),
    "cron_and_interval": (
        "dag: a\nschedules:\n  - {cron: '@daily', interval: 1h}\n" + WORK,
        [
            (
                "f.yaml:3:5: schedules[0]: a schedule has exactly one of 'cron' or "
                "'interval' (both are given)"
            )
        ],
    ),
    "neither_cron_nor_interval": (
        "dag: a\nschedules:\n  - {schedule: s}\n" + WORK,
        [
            (
                "f.yaml:3:5: schedules[0]: a schedule has exactly one of 'cron' or "
                "'interval' (none is given)"
            )
        ],
    ),
    "short_interval": (
        "dag: a\nschedules:\n  - {interval: 10ms}\n" + WORK,
        ["f.yaml:3:16: schedules[0].interval: must be at least 1s, found 10ms"],
    ),
    "tab": (
        "dag: a\ntasks:\n\t- task: t\n",
        [
            (
                "f.yaml:3:1: not valid YAML: found character that cannot start any token "
                "(indent with spaces: YAML allows no tabs there)"
            )
        ],
    ),
    "unclosed": (
        "dag: a\ntasks: [x\n",
        ["f.yaml:3:1: not valid YAML: did not find expected ',' or ']'"],
    ),
    "bad_escape": (
        'dag: "a\\q"\n',
        ["f.yaml:1:8: not valid YAML: found unknown escape character"],
    ),
    "unknown_alias": (
        "dag: *a\n",
        ["f.yaml:1:6: alias *a has no anchor before it"],
    ),
    "own_alias": (
        "dag: a\ntasks: &t [*t]\n",
        ["f.yaml:2:12: alias *t stands inside its own value"],
    ),
    "tag": (
        "dag: !!python/object:os.system a\n",
        [
            (
                "f.yaml:1:6: tag tag:yaml.org,2002:python/object:os.system is not "
                "supported (write the value without a tag)"
            )
        ],
    ),
    "list_at_top": (
        "- dag: a\n",
        ["f.yaml:1:1: a DAG must be a mapping, found a list"],
    ),
    "text_at_top": (
        "hello\n",
        ["f.yaml:1:1: a DAG must be a mapping, found 'hello'"],
    ),
    "empty": (
        "",
        ["f.yaml:1:1: the file holds no DAG (a DAG begins with `dag: <id>`)"],
    ),
    "only_comment": (
        "# nothing\n---\n",
        ["f.yaml:1:1: the file holds no DAG (a DAG begins with `dag: <id>`)"],
    ),
    "second_document": (
        "dag: a\ntasks:\n  - {task: t, process: {argv: [x]}}\n---\ndag: b\n",
        ["f.yaml:5:1: tasks: missing: a DAG needs 'tasks'"],
    ),
    "same_dag_twice": (
        "dag: a\ntasks: &t\n  - {task: t, process: {argv: [x]}}\n---\ndag: a\n" + WORK,
        ["f.yaml:5:6: dag: DAG 'a' is defined twice in this file, first in line 1"],
    ),
    "deep": (
        "dag: " + "[" * 100,
        ["f.yaml:1:69: nested deeper than 64 levels"],
    ),
    "not_utf8": (
        b"dag: \xc3\xa9\xff\n",
        ["f.yaml:1:7: not valid UTF-8: byte 0xFF (save the file as UTF-8)"],
    ),
    "flag_word": (
        TASK + "    idempotent: no\n",
        ["f.yaml:5:17: tasks[0].idempotent: expected true or false, found 'no' (write false)"],
    ),
    "flag_quoted": (
        TASK + '    idempotent: "true"\n',
        [
            (
                "f.yaml:5:17: tasks[0].idempotent: expected true or false, found a quoted text "
                "(remove the quotes)"
            )
        ],
    ),
    "flag_number": (
        TASK + "    idempotent: 1\n",
        ["f.yaml:5:17: tasks[0].idempotent: expected true or false, found '1'"],
    ),
    "flag_list": (
        TASK + "    idempotent: [true]\n",
        ["f.yaml:5:17: tasks[0].idempotent: expected true or false, found a list"],
    ),
    "limit_without_policy": (
        TASK + "    disconnect_limit: 30m\n",
        ["f.yaml:5:23: tasks[0].disconnect_limit: " + LIMIT_PROBLEM],
    ),
    "limit_of_fence": (
        TASK + "    disconnect_limit: 30m\n    on_disconnect: fence\n",
        ["f.yaml:5:23: tasks[0].disconnect_limit: " + LIMIT_PROBLEM],
    ),
    "limit_of_unknown_policy": (
        TASK + "    disconnect_limit: 30m\n    on_disconnect: fenced\n",
        [
            (
                "f.yaml:6:20: tasks[0].on_disconnect: expected fence or continue or retry, "
                "found 'fenced' (did you mean 'fence'?)"
            )
        ],
    ),
    "limit_too_short": (
        TASK + "    on_disconnect: retry\n    disconnect_limit: 0\n",
        ["f.yaml:6:23: tasks[0].disconnect_limit: must be at least 1ms, found 0s"],
    ),
    "limit_too_long": (
        TASK + "    on_disconnect: continue\n    disconnect_limit: 31d\n",
        ["f.yaml:6:23: tasks[0].disconnect_limit: must be at most 30d, found 31d"],
    ),
    "retry_without_idempotence": (
        TASK + "    on_disconnect: retry\n    idempotent: false\n",
        [
            (
                "f.yaml:5:20: tasks[0].on_disconnect: retry may have two attempts alive "
                "together, and the task is not idempotent (choose fence or continue, or remove "
                "`idempotent: false`)"
            )
        ],
    ),
    "null_number": (
        "dag: a\nmax_active_runs: ~\n" + WORK,
        ["f.yaml:2:18: max_active_runs: expected a whole number, found '~'"],
    ),
}


@pytest.mark.parametrize(("source", "expected"), BAD.values(), ids=BAD)
def test_bad_file_names_place_field_reason_and_way_out(
    source: str | bytes, expected: list[str]
) -> None:
    problems = load(source, filename="f.yaml").problems
    assert [str(problem) for problem in problems] == expected
