"""JSON files: values with places, texts that stay texts, faults at their exact place."""

from __future__ import annotations

import json

import pytest
from mainspring.definition import load
from mainspring.definition.json_source import json_documents
from mainspring.definition.nodes import Mapping, Null, Scalar, Sequence
from mainspring.definition.problems import SourceError

WORK = {"tasks": [{"task": "t", "process": {"argv": ["x"]}}]}

BAD = {
    '{"dag": "a",}': "f.json:1:13: not valid JSON: expected a key in double quotes",
    '{"dag" "a"}': "f.json:1:8: not valid JSON: expected ':' after the key",
    '{"dag": a}': "f.json:1:9: not valid JSON: expected a value, found 'a'",
    '{"dag": "a" "b"}': "f.json:1:13: not valid JSON: expected ',' or '}'",
    "[1 2]": "f.json:1:4: not valid JSON: expected ',' or ']'",
    '{"dag": ': "f.json:1:9: not valid JSON: expected a value, found the end of the text",
    "": "f.json:1:1: not valid JSON: expected a value, found the end of the text",
    '{"dag": ,}': "f.json:1:9: not valid JSON: expected a value, found ','",
    '{"dag": 01}': "f.json:1:9: not valid JSON: expected a value, found '01'",
    '{"dag": NaN}': "f.json:1:9: not valid JSON: expected a value, found 'NaN'",
    '{"dag": "a': "f.json:1:9: not valid JSON: unterminated string starting at",
    '{"dag": "\\q"}': "f.json:1:10: not valid JSON: invalid \\escape",
    '{\n"dag": "\t"}': "f.json:2:9: not valid JSON: invalid control character at",
    "{} {}": "f.json:1:4: not valid JSON: more text after the end of the value",
    "[" * 100: "f.json:1:66: nested deeper than 64 levels",
    "[]": "f.json:1:1: the file holds no DAG (a DAG begins with `dag: <id>`)",
    "[1]": "f.json:1:2: a DAG must be a mapping, found '1'",
}


@pytest.mark.parametrize(("text", "expected"), BAD.items())
def test_fault_has_its_place(text: str, expected: str) -> None:
    assert [str(problem) for problem in load(text, filename="f.json").problems] == [expected]


def test_values_keep_offsets_and_numbers_stay_texts() -> None:
    (node,) = json_documents('{"a": [1, true, null, "b"], "c": {}}')
    assert node == Mapping(
        0,
        [
            (
                Scalar(1, "a", plain=False),
                Sequence(
                    6,
                    [
                        Scalar(7, "1", plain=True),
                        Scalar(10, "true", plain=True),
                        Null(16),
                        Scalar(22, "b", plain=False),
                    ],
                ),
            ),
            (Scalar(28, "c", plain=False), Mapping(33, [])),
        ],
    )


def test_number_of_values_is_limited() -> None:
    with pytest.raises(SourceError, match="more than 3 values"):
        list(json_documents("[1, 2, 3]", max_nodes=3))


def test_array_holds_several_dags() -> None:
    loaded = load(json.dumps([WORK | {"dag": "a"}, WORK | {"dag": "b"}]), filename="f.json")
    assert [document.spec.dag for document in loaded.documents] == ["a", "b"]


def test_surrogate_pairs_are_read_and_halves_refused() -> None:
    whole = json.dumps(WORK | {"dag": "a", "description": "🌙"})
    assert load(whole).documents[0].spec.description == "🌙"
    half = whole.replace("\\ude19", "").replace("\\udf19", "")
    assert load(half).problems[0].message == "control character U+D83C is not allowed"


def test_text_that_looks_like_json_but_is_yaml_is_read_as_yaml() -> None:
    text = "{dag: a, tasks: [{task: t, process: {argv: [x]}}]}"
    assert not load(text).problems


def test_duplicate_key_is_found() -> None:
    loaded = load('{"dag": "a", "dag": "b"}', filename="f.json")
    assert str(loaded.problems[0]) == "f.json:1:14: dag: key 'dag' is given twice"
