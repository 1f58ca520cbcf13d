"""The JSON Schema: up to date, and of the same keys as the API."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor
from mainspring.definition import schema
from mainspring.definition.tables import DAG, ListOf, Section
from mainspring.v1.dag_pb2 import DagSpec


def test_stored_schema_is_up_to_date() -> None:
    assert schema.SCHEMA_PATH.read_text("utf-8") == schema.schema_text()


def test_main_writes_the_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "SCHEMA_PATH", tmp_path / "dag.schema.json")
    schema.main()
    assert (tmp_path / "dag.schema.json").read_text("utf-8") == schema.schema_text()


def test_every_key_is_described() -> None:
    task = schema.dag_schema()["properties"]["tasks"]["items"]
    assert task["required"] == ["task", "process"]
    assert task["additionalProperties"] is False
    assert task["properties"]["priority"] == {
        "description": "Order among ready tasks: higher first. Default: 0.",
        "type": "integer",
        "minimum": -1_000,
        "maximum": 1_000,
    }
    assert task["properties"]["idempotent"]["type"] == "boolean"
    limited, repeated = task["allOf"]
    assert limited["if"] == {"required": ["disconnect_limit"]}
    assert limited["then"]["required"] == ["on_disconnect"]
    assert repeated["if"]["properties"] == {"on_disconnect": {"const": "retry"}}
    assert repeated["then"] == {"properties": {"idempotent": {"enum": [True]}}}
    schedule = schema.dag_schema()["properties"]["schedules"]["items"]
    assert schedule["oneOf"] == [{"required": ["cron"]}, {"required": ["interval"]}]


def test_tables_have_exactly_the_fields_of_the_api() -> None:
    assert_same_fields(DAG, DagSpec.DESCRIPTOR)


def assert_same_fields(section: Section, descriptor: Descriptor) -> None:
    assert {key.api_field for key in section.keys} == set(descriptor.fields_by_name)
    for key in section.keys:
        kind = key.kind.item if isinstance(key.kind, ListOf) else key.kind
        if isinstance(kind, Section):
            assert_same_fields(kind, descriptor.fields_by_name[key.api_field].message_type)
