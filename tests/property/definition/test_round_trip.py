"""Whatever the loader accepts, the writer writes so that the loader reads the same."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from mainspring.definition import dump_yaml, load
from mainspring.definition.json_source import json_documents
from mainspring.definition.problems import SourceError
from mainspring.definition.yaml_source import yaml_documents
from mainspring.v1.dag_pb2 import (
    ON_DISCONNECT_CONTINUE,
    ON_DISCONNECT_FENCE,
    ON_DISCONNECT_RETRY,
    TRIGGER_RULE_ALL_DONE,
    DagSpec,
    TaskSpec,
)

IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True)
CHARACTERS = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")) | st.sampled_from(
    "\t\n\r"
)
TEXTS = st.text(CHARACTERS, max_size=40) | st.sampled_from(["no", "~", "2024", "- a", "a:\n  b\n"])
NANOS = st.integers(0, 10**18) | st.integers(0, 10**6).map(lambda ms: ms * 10**6)
VARIABLES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)


@st.composite
def tasks(draw: st.DrawFn) -> TaskSpec:
    task = TaskSpec(task=draw(IDS), label=draw(TEXTS), depends_on=draw(st.lists(IDS, max_size=3)))
    task.process.argv[:] = draw(st.lists(TEXTS, min_size=1, max_size=4))
    task.process.env.update(draw(st.dictionaries(VARIABLES, TEXTS, max_size=3)))
    task.priority = draw(st.integers(-1_000, 1_000))
    if draw(st.booleans()):
        task.trigger_rule = TRIGGER_RULE_ALL_DONE
        task.resources.cpu = draw(st.floats(0, 100_000))
        task.resources.memory_bytes = draw(st.integers(0, 2**50))
    if draw(st.booleans()):
        task.retry.max_attempts = draw(st.integers(1, 1_000))
        task.retry.jitter = draw(st.floats(0, 1))
        task.timeout.FromNanoseconds(draw(NANOS))
    if draw(st.booleans()):
        _disconnected(draw, task)
    return task


def _disconnected(draw: st.DrawFn, task: TaskSpec) -> None:
    task.on_disconnect = draw(st.sampled_from([ON_DISCONNECT_CONTINUE, ON_DISCONNECT_RETRY]))
    task.idempotent = task.on_disconnect == ON_DISCONNECT_RETRY or draw(st.booleans())
    if draw(st.booleans()):
        task.disconnect_limit.FromMilliseconds(draw(st.integers(1, 30 * 86_400_000)))
    else:
        task.on_disconnect = ON_DISCONNECT_FENCE


@st.composite
def specs(draw: st.DrawFn) -> DagSpec:
    spec = DagSpec(dag=draw(IDS), description=draw(TEXTS))
    spec.labels.update(draw(st.dictionaries(TEXTS.filter(bool), TEXTS, max_size=2)))
    spec.tasks.extend(draw(st.lists(tasks(), min_size=1, max_size=3)))
    if draw(st.booleans()):
        spec.schedules.add(cron=draw(TEXTS.filter(bool)), timezone="UTC")
        spec.schedules.add(schedule=draw(IDS)).interval.FromSeconds(draw(st.integers(1, 10**9)))
    return spec


@settings(max_examples=150, deadline=None)
@given(specs())
def test_written_definition_is_read_back(spec: DagSpec) -> None:
    loaded = load(dump_yaml(spec))
    assert loaded.problems == []
    assert loaded.documents[0].spec == spec


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200) | st.text("dagtsk:- [],{}\"'\n\t&*!|>%", max_size=60))
def test_no_text_raises_anything_but_problems(text: str) -> None:
    for problem in load(text).problems:
        assert str(problem)
    for source in (yaml_documents, json_documents):
        try:
            list(source(text))
        except SourceError as error:
            assert 0 <= error.offset <= len(text)
