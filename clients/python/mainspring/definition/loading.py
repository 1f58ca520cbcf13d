"""Loads DAG files: bytes or text in, definitions with their problems and positions out.

Decides what counts as JSON and what as YAML, and which bytes are text at all. Promises that nothing
a file holds raises: every fault is a `Problem` with a position, all of them at once. Only reading
the file itself can fail, with `OSError`. Does not know the server and its further checks; it maps
their field paths to positions.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mainspring.definition.json_source import json_documents
from mainspring.definition.nodes import Mapping, Node, Scalar, Sequence
from mainspring.definition.problems import Position, Problem, Report, SourceError, TextMap
from mainspring.definition.reading import read_dag
from mainspring.definition.tables import DAG, Key, ListOf, Section
from mainspring.definition.yaml_source import yaml_documents
from mainspring.v1.dag_pb2 import DagSpec

MAX_FILE_BYTES = 64 * 1024 * 1024

_SEGMENT = re.compile(r"\.?([^.\[\]]+)|\[([^\]]*)\]")


@dataclass(slots=True)
class Document:
    """One definition of a file: what is valid of it, and what is wrong with it."""

    spec: DagSpec
    problems: list[Problem]
    _node: Node = field(repr=False)
    _places: TextMap = field(repr=False)

    def position(self, field_path: str) -> Position | None:
        """Where a field of the spec stands, or the nearest value around it.

        Takes the paths of this package and of the API (`tasks[3].depends_on[0]`); None for a field
        that no DAG file has.
        """
        segments = [name or index for name, index in _SEGMENT.findall(field_path)]
        if segments and not any(key.api_field == segments[0] for key in DAG.keys):
            return None
        return self._places.position(_find(self._node, segments).offset)


@dataclass(slots=True)
class LoadedFile:
    """The documents of a file in its order, and problems of the file as a whole."""

    documents: list[Document]
    file_problems: list[Problem]

    @property
    def problems(self) -> list[Problem]:
        """Every problem; those of the file as a whole come last."""
        found = [problem for document in self.documents for problem in document.problems]
        return found + self.file_problems


def load(source: Path | str | bytes, *, filename: str | None = None) -> LoadedFile:
    """Loads a file (a `Path`) or its content (text or bytes).

    `filename` is what positions name. A name that ends in `.json`, or content that begins with an
    opening brace or bracket and is valid JSON, is read as JSON; everything else as YAML.
    """
    name = filename or (str(source) if isinstance(source, Path) else "<text>")
    content = _read(source) if isinstance(source, Path) else source
    try:
        text = _decoded(content)
    except SourceError as error:
        return LoadedFile([], [_file_problem(_decoded_part(content, error), name, error)])
    return _load_text(text, name)


def _read(path: Path) -> bytes:
    """A file, or as much of it as tells that it is too large."""
    with path.open("rb") as file:
        return file.read(MAX_FILE_BYTES + 1)


def _decoded(content: str | bytes) -> str:
    """The text of a file without its byte order mark; raises `SourceError`."""
    if len(content) > MAX_FILE_BYTES:
        raise SourceError(0, f"the file is larger than {MAX_FILE_BYTES // 1024**2} MiB")
    text = content if isinstance(content, str) else _utf8(content)
    return text.removeprefix("\ufeff")


def _utf8(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        offset = len(content[: error.start].decode("utf-8"))
        message = f"not valid UTF-8: byte 0x{content[error.start]:02X}"
        raise SourceError(offset, message, "save the file as UTF-8") from None


def _decoded_part(content: str | bytes, error: SourceError) -> str:
    """The text before a fault in the encoding, for its position."""
    if error.offset == 0:
        return ""
    assert isinstance(content, bytes)
    return content.decode("utf-8", errors="replace")[: error.offset]


def _file_problem(text: str, name: str, error: SourceError) -> Problem:
    position = TextMap(name, text).position(error.offset)
    return Problem("", error.message, error.hint, position)


def _load_text(text: str, name: str) -> LoadedFile:
    places = TextMap(name, text)
    loaded = LoadedFile([], [])
    first_by_id: dict[str, Position] = {}
    try:
        with _no_collection():
            for node in _documents(text, name):
                document = _document(node, places)
                _check_unique(document, first_by_id)
                loaded.documents.append(document)
        if not loaded.documents:
            raise SourceError(0, "the file holds no DAG", "a DAG begins with `dag: <id>`")
    except SourceError as error:
        loaded.file_problems.append(_file_problem(text, name, error))
    return loaded


@contextmanager
def _no_collection() -> Iterator[None]:
    """Pauses the cycle collector: a large file makes a million values and none of them is a cycle.

    It would walk all of them again and again, a quarter of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _documents(text: str, name: str) -> Iterator[Node]:
    if name.lower().endswith(".json"):
        return json_documents(text)
    if text.lstrip()[:1] in {"{", "["}:
        try:
            return iter(list(json_documents(text)))
        except SourceError:
            return yaml_documents(text)
    return yaml_documents(text)


def _document(node: Node, places: TextMap) -> Document:
    report = Report(places)
    spec = read_dag(node, report)
    return Document(spec, report.problems, node, places)


def _check_unique(document: Document, first_by_id: dict[str, Position]) -> None:
    dag = document.spec.dag
    position = document.position("dag")
    if not dag or position is None:
        return
    first = first_by_id.setdefault(dag, position)
    if first is not position:
        message = f"DAG {dag!r} is defined twice in this file, first in line {first.line}"
        document.problems.append(Problem("dag", message, "", position))


def _find(node: Node, segments: list[str]) -> Node:
    """The node at a path, or the last one on the way to it."""
    kind: object = DAG
    for segment in segments:
        key = _key(kind, segment)
        child = _child(node, key.name if key else segment)
        if child is None:
            break
        node = child
        kind = key.kind if key else (kind.item if isinstance(kind, ListOf) else None)
    return node


def _key(kind: object, segment: str) -> Key | None:
    """The key of a section that the API knows by this name."""
    keys = kind.keys if isinstance(kind, Section) else ()
    return next((key for key in keys if segment in {key.api_field, key.name}), None)


def _child(node: Node, segment: str) -> Node | None:
    if isinstance(node, Sequence):
        index = int(segment) if segment.isdecimal() else len(node.items)
        return node.items[index] if index < len(node.items) else None
    pairs = node.pairs if isinstance(node, Mapping) else []
    return next(
        (
            value
            for key, value in pairs
            if isinstance(key, Scalar) and key.text == segment.strip("'\"")
        ),
        None,
    )
