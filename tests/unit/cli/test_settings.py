"""Where the address and the token come from, and where a token never goes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mainspring.client.errors import (
    ConfigurationError,
    InvalidArgumentError,
    UnavailableError,
)
from mainspring.client.settings import Asked, Settings, data_folder, resolve


def write_cluster(folder: Path, *, token: str = "folder-token", addresses=("127.0.0.1:7070",)):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "admin.token").write_text(f"{token}\n")
    said = {
        "address": addresses[0],
        "addresses": list(addresses),
        "token_file": str(folder / "admin.token"),
    }
    (folder / "client.json").write_text(json.dumps(said))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_cluster(tmp_path / "cluster")


def found(settings: Settings) -> tuple[str, str | None]:
    return ",".join(map(str, settings.addresses)), settings.token


def test_the_data_folder_gives_address_and_token(folder: Path) -> None:
    settings = resolve(Asked(), {"MAINSPRING_DATA": str(folder)})
    assert found(settings) == ("127.0.0.1:7070", "folder-token")
    assert settings.source == str(folder / "client.json")


def test_all_nodes_of_the_folder_are_known_the_first_one_first(tmp_path: Path) -> None:
    addresses = ("127.0.0.1:7070", "127.0.0.1:7071")
    folder = write_cluster(tmp_path, addresses=addresses)
    assert found(resolve(Asked(data=folder), {}))[0] == ",".join(addresses)


def test_a_token_file_may_be_named_relative_to_the_folder(folder: Path) -> None:
    said = {"address": "127.0.0.1:7070", "token_file": "admin.token"}
    (folder / "client.json").write_text(json.dumps(said))
    assert found(resolve(Asked(data=folder), {})) == ("127.0.0.1:7070", "folder-token")


def test_the_environment_beats_the_folder(folder: Path) -> None:
    said = {
        "MAINSPRING_DATA": str(folder),
        "MAINSPRING_ADDRESS": "10.0.0.1:99",
        "MAINSPRING_TOKEN": "said",
    }
    assert found(resolve(Asked(), said)) == ("10.0.0.1:99", "said")


def test_a_flag_beats_the_environment(folder: Path, tmp_path: Path) -> None:
    said = {"MAINSPRING_ADDRESS": "10.0.0.1:99", "MAINSPRING_TOKEN": "said"}
    file = tmp_path / "flag.token"
    file.write_text("flag-token\n")
    flags = Asked(address="localhost:1", token_file=file)
    assert found(resolve(flags, said)) == ("localhost:1", "flag-token")
    assert found(resolve(Asked(data=folder), said)) == ("127.0.0.1:7070", "folder-token")


def test_the_token_of_the_environment_beats_its_token_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from-file")
    said = {"MAINSPRING_ADDRESS": "h:1", "MAINSPRING_TOKEN_FILE": str(file)}
    assert found(resolve(Asked(), said)) == ("h:1", "from-file")
    assert found(resolve(Asked(), {**said, "MAINSPRING_TOKEN": "said"})) == ("h:1", "said")


def test_the_token_of_a_folder_goes_to_no_other_address(folder: Path) -> None:
    said = {"MAINSPRING_DATA": str(folder)}
    assert found(resolve(Asked(address="10.0.0.1:7070"), said)) == ("10.0.0.1:7070", None)
    both = "127.0.0.1:7070,10.0.0.1:7070"
    assert found(resolve(Asked(address=both), said))[1] is None


def test_the_token_of_a_folder_goes_to_every_spelling_of_its_address(folder: Path) -> None:
    said = {"MAINSPRING_DATA": str(folder)}
    assert found(resolve(Asked(address="localhost:7070"), said))[1] == "folder-token"
    assert found(resolve(Asked(address="[::1]:7070"), said))[1] == "folder-token"


def test_a_folder_named_by_a_flag_lends_its_token(folder: Path) -> None:
    flags = Asked(address="127.0.0.1:1234", data=folder)
    assert found(resolve(flags, {})) == ("127.0.0.1:1234", "folder-token")


def test_the_default_folder_follows_the_desktop_standard() -> None:
    assert data_folder(None, {"XDG_DATA_HOME": "/x"}) == Path("/x/mainspring")
    home = Path("~/.local/share/mainspring").expanduser()
    assert data_folder(None, {}) == home
    assert data_folder(None, {"XDG_DATA_HOME": "relative"}) == home
    assert data_folder(Path("~/d"), {"MAINSPRING_DATA": "/m"}) == Path("~/d").expanduser()


def test_no_server_is_known(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as caught:
        resolve(Asked(data=tmp_path), {})
    assert caught.value.reason == "NO_ADDRESS"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"address": 7}', '{"address": "nowhere"}', '"x"', "null"]
)
def test_a_damaged_client_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "client.json").write_text(text)
    with pytest.raises(ConfigurationError, match=r"client\.json is damaged"):
        resolve(Asked(data=tmp_path), {})


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines", b"\xff\xfe", b"a" * 5_000, b"\x00"])
def test_a_file_without_a_token_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match="token"):
        resolve(Asked(address="h:1", token_file=file), {})


def test_a_token_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(ConfigurationError, match=f"{missing} .token. cannot be read: No such file"):
        resolve(Asked(address="h:1", token_file=missing), {})
    with pytest.raises(ConfigurationError, match="certificates"):
        resolve(Asked(address="h:1", ca=missing), {})


def test_an_address_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="HOST:PORT"):
        resolve(Asked(), {"MAINSPRING_ADDRESS": "http://x"})
