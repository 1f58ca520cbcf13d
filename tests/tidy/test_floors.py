"""What we ask of installed libraries is at least what the generated code asks of them."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.tidy.sources import ROOT

ASKED = {
    "grpcio": r"GRPC_GENERATED_VERSION = '([\d.]+)'",
    "protobuf": r"# Protobuf Python Version: ([\d.]+)",
}
Version = tuple[int, ...]


def version(text: str) -> Version:
    return tuple(int(part) for part in text.split("."))


def floors(text: str) -> dict[str, Version]:
    """Lowest version of each dependency of a pyproject file."""
    found = [
        re.match(r"([\w-]+)>=([\d.]+)", line)
        for line in tomllib.loads(text)["project"]["dependencies"]
    ]
    return {match[1]: version(match[2]) for match in found if match}


def asked(pattern: str) -> Version:
    """Highest version that any generated module asks for."""
    folder = ROOT / "clients/python/mainspring"
    texts = [path.read_text() for path in folder.rglob("*_pb2*.py")]
    return max(version(found) for text in texts for found in re.findall(pattern, text))


@pytest.mark.parametrize("name", ASKED)
def test_floors_meet_the_generated_code(name: str) -> None:
    declared = floors((ROOT / "clients/python/pyproject.toml").read_text())
    assert declared[name] >= asked(ASKED[name])


def test_a_floor_is_read() -> None:
    text = '[project]\ndependencies = ["grpcio>=1.71", "rich"]'
    assert floors(text) == {"grpcio": (1, 71)}
