"""Finds out which server to call and with which token.

Decides: the order of the sources. For the address and for the token alike: what is said explicitly
(`address`, `token_file`, `data`), then the environment (MAINSPRING_ADDRESS, MAINSPRING_TOKEN,
MAINSPRING_TOKEN_FILE), then `client.json` of the data folder (MAINSPRING_DATA, or the default
folder), which `mainspring up` writes. Promises: the token of a data folder goes only to the
addresses of that folder, unless the folder was named explicitly. Does not know: gRPC.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mainspring.client.addresses import Address, parse_address, parse_addresses
from mainspring.client.errors import ConfigurationError, InvalidArgumentError, UnavailableError

CLIENT_FILE = "client.json"
_LONGEST_TOKEN = 4_096


@dataclass(frozen=True, slots=True)
class Asked:
    """What the caller says explicitly; None: not said."""

    address: str | None = None
    token_file: Path | None = None
    data: Path | None = None
    ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to call: addresses in the order in which they are tried, token, root certificates.

    `source` tells people where the address came from; `token` None means that there is none, and
    `withheld` says of a known one why it is not used.
    """

    addresses: tuple[Address, ...]
    source: str
    token: str | None = None
    token_source: str = ""
    ca: bytes | None = None
    withheld: str = ""


@dataclass(frozen=True, slots=True)
class _Folder:
    """What the data folder of a local cluster says; empty when there is no cluster in it."""

    path: Path
    addresses: tuple[Address, ...] = ()
    token_file: Path | None = None


def data_folder(asked: Path | None, environment: Mapping[str, str]) -> Path:
    """The data folder: as asked, else MAINSPRING_DATA, else the default of the desktop standard."""
    if asked is not None:
        return asked.expanduser()
    if said := environment.get("MAINSPRING_DATA"):
        return Path(said).expanduser()
    shared = environment.get("XDG_DATA_HOME", "")
    root = Path(shared) if shared.startswith("/") else Path("~/.local/share").expanduser()
    return root / "mainspring"


def resolve(asked: Asked, environment: Mapping[str, str]) -> Settings:
    """Applies the order of the sources.

    Raises UnavailableError when no address is known, ConfigurationError when a named file cannot
    be used, and InvalidArgumentError when an address cannot be read.
    """
    folder = _read_folder(data_folder(asked.data, environment))
    addresses, source = _addresses(asked, environment, folder)
    token, token_source = _token(asked, environment, folder, addresses)
    ca = asked.ca or _path(environment.get("MAINSPRING_CA"))
    return Settings(
        addresses=addresses,
        source=source,
        token=token,
        token_source=token_source,
        ca=_read(ca, "certificates").encode() if ca else None,
        withheld=_withheld(folder) if token is None else "",
    )


def _withheld(folder: _Folder) -> str:
    if folder.token_file is None:
        return ""
    own = ", ".join(map(str, folder.addresses))
    return f"the token of {folder.path} is used for its own addresses only ({own})"


def _addresses(
    asked: Asked, environment: Mapping[str, str], folder: _Folder
) -> tuple[tuple[Address, ...], str]:
    said = environment.get("MAINSPRING_ADDRESS")
    if asked.address is not None:
        return parse_addresses(asked.address), "--address"
    if said and asked.data is None:
        return parse_addresses(said), "MAINSPRING_ADDRESS"
    if folder.addresses:
        return folder.addresses, str(folder.path / CLIENT_FILE)
    named = asked.data is not None or environment.get("MAINSPRING_DATA")
    raise UnavailableError(
        f"no server is known: no cluster is running on {folder.path}",
        reason="NO_ADDRESS",
        metadata={"data": f" --data {shlex.quote(str(folder.path))}"} if named else None,
    )


def _token(
    asked: Asked,
    environment: Mapping[str, str],
    folder: _Folder,
    addresses: tuple[Address, ...],
) -> tuple[str | None, str]:
    if asked.token_file is not None:
        return _read_token(asked.token_file), "--token-file"
    named = asked.data is not None
    if named and folder.token_file:
        return _read_token(folder.token_file), str(folder.token_file)
    if token := environment.get("MAINSPRING_TOKEN"):
        return _checked_token(token, "MAINSPRING_TOKEN"), "MAINSPRING_TOKEN"
    if path := _path(environment.get("MAINSPRING_TOKEN_FILE")):
        return _read_token(path), "MAINSPRING_TOKEN_FILE"
    if folder.token_file and {one.key for one in addresses} <= {
        one.key for one in folder.addresses
    }:
        return _read_token(folder.token_file), str(folder.token_file)
    return None, ""


def _read_folder(path: Path) -> _Folder:
    file = path / CLIENT_FILE
    try:
        said = json.loads(file.read_text("utf-8"))
        listed = said.get("addresses") or [said["address"]]
        addresses = tuple(parse_address(each) for each in dict.fromkeys([said["address"], *listed]))
        token_file = said.get("token_file")
        return _Folder(path, addresses, path / token_file if token_file else None)
    except (FileNotFoundError, NotADirectoryError):
        return _Folder(path)
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, InvalidArgumentError):
        raise ConfigurationError(
            f"{file} is damaged; `mainspring up` writes it anew, --address does without it"
        ) from None


def _read_token(path: Path) -> str:
    return _checked_token(_read(path, "token").strip(), str(path))


def _checked_token(token: str, source: str) -> str:
    if not token or len(token) > _LONGEST_TOKEN or not token.isascii() or not token.isprintable():
        raise ConfigurationError(
            f"{source} holds no token: one line of printable ASCII is expected"
        )
    return token


def _read(path: Path, what: str) -> str:
    try:
        return path.expanduser().read_text("utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path} ({what}) cannot be read: {error.strerror}") from None
    except ValueError:
        raise ConfigurationError(f"{path} ({what}) is not text") from None


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
