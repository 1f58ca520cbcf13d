"""The client: one connection, four groups of calls."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from mainspring.client.addresses import parse_addresses
from mainspring.client.admin import Admin
from mainspring.client.approvals import Approvals
from mainspring.client.connection import Connection
from mainspring.client.dags import Dags
from mainspring.client.runs import Runs
from mainspring.client.settings import Asked, Settings, resolve


class Client:
    """Calls a Mainspring cluster; use it as a context manager, from one thread.

    `dags`, `runs`, `approvals` and `admin` are the calls. A call without an answer within
    `deadline_s` seconds fails; one that finds nobody is tried again for `patience_s` seconds over
    all addresses.
    Calls that change something carry a request id, so that a repetition has no second effect.
    """

    def __init__(
        self, settings: Settings, *, deadline_s: float = 10.0, patience_s: float = 3.0
    ) -> None:
        self.settings = settings
        self._connection = Connection(settings, patience_s=patience_s)
        self.dags = Dags(self._connection, deadline_s)
        self.runs = Runs(self._connection, deadline_s)
        self.approvals = Approvals(self._connection, deadline_s)
        self.admin = Admin(self._connection, deadline_s)

    @classmethod
    def open(
        cls,
        *,
        address: str | None = None,
        token_file: Path | None = None,
        data: Path | None = None,
        ca: Path | None = None,
        environment: Mapping[str, str] | None = None,
        patience_s: float = 3.0,
    ) -> Self:
        """A client of the server that the arguments, the environment or the data folder name.

        Raises ConfigurationError when a file of these cannot be used, InvalidArgumentError when an
        address cannot be read, UnavailableError when there is none. Nothing is called yet.
        """
        asked = Asked(address=address, token_file=token_file, data=data, ca=ca)
        settings = resolve(asked, os.environ if environment is None else environment)
        return cls(settings, patience_s=patience_s)

    @classmethod
    def at(cls, addresses: str, token: str, *, ca: bytes | None = None) -> Self:
        """A client of HOST:PORT (several are separated by commas); `ca` are PEM certificates."""
        parsed = parse_addresses(addresses)
        return cls(Settings(parsed, source="argument", token=token, ca=ca))

    @property
    def address(self) -> str:
        """HOST:PORT where the next call goes first."""
        return str(self._connection.address)

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
