"""Flags that many commands share: where to call, and in which form to print.

Decides their names and help. Imports nothing heavy: the client is made when it is asked for.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter
from cyclopts.validators import Number

if TYPE_CHECKING:
    from mainspring.client import Client

Format = Literal["table", "json", "yaml"]
# Long enough for a node that is being restarted beside others, short enough for a wrong address.
_PATIENCE_S = 1.0
_CONNECTION = Group("Connection", sort_key=10)
_OUTPUT = Group("Output", sort_key=9)


def switch(text: str, **more: Any) -> Parameter:
    """A flag that is off unless it is given."""
    return Parameter(help=text, negative="", show_default=False, **more)


def finite(_type: Any, value: float | None) -> None:
    """Refuses what is no number, and infinity: comparisons alone let the first one pass."""
    if value is not None and not math.isfinite(value):
        raise ValueError("Must be a finite number.")


def client_class() -> type[Client]:
    """The client; gRPC's own log, which is no message for people, is silenced before its import."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from mainspring.client import Client

    return Client


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class ConnectionFlags:
    """Where to call and with which token."""

    address: Annotated[
        str | None,
        Parameter(group=_CONNECTION, help="HOST:PORT of a node; several separated by commas."),
    ] = None
    token_file: Annotated[
        Path | None, Parameter(group=_CONNECTION, help="File that holds the token.")
    ] = None
    data: Annotated[
        Path | None,
        Parameter(group=_CONNECTION, help="Data folder of a local cluster (`mainspring up`)."),
    ] = None
    ca: Annotated[
        Path | None,
        Parameter(group=_CONNECTION, help="PEM file of the certificates to trust."),
    ] = None

    def client(self) -> Client:
        """A client of the server that flags, environment or data folder name."""
        return client_class().open(
            address=self.address,
            token_file=self.token_file,
            data=self.data,
            ca=self.ca,
            environment=os.environ,
            patience_s=_PATIENCE_S,
        )


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class OutputFlags:
    """In which form data is printed."""

    output: Annotated[
        Format, Parameter(name=["--output", "-o"], group=_OUTPUT, help="Form of the output.")
    ] = "table"
    json: Annotated[bool, switch("The same as -o json.", name="--json", group=_OUTPUT)] = False

    @property
    def format(self) -> Format:
        """The form that was asked for."""
        return "json" if self.json else self.output


Connect = Annotated[ConnectionFlags, Parameter(name="*")]
Print = Annotated[OutputFlags, Parameter(name="*")]
Limit = Annotated[
    int,
    Parameter(name=["--limit", "-n"], validator=Number(gte=1), help="Most lines to list."),
]
DagArgument = Annotated[str, Parameter(help="Id of the DAG, or its resource name.")]
RunArgument = Annotated[str, Parameter(help="UUID of the run, DAG/UUID, or its resource name.")]
RequestId = Annotated[
    str | None,
    Parameter(help="Makes a repeated command harmless: the same id gets the same answer."),
]

ANYWHERE = ConnectionFlags()
AS_TABLE = OutputFlags()
