"""`mainspring up`: becomes the embedded cluster of `mainspring-server`.

Decides: the data folder, so that all other commands find the cluster there. Does not know what the
server does with its flags.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from mainspring.cli.server import become
from mainspring.client.settings import data_folder

_AT_LEAST_ONE = Number(gte=1)
_FOLDER_HELP = (
    "Folder for everything that the cluster keeps; default: MAINSPRING_DATA, or else mainspring "
    "in XDG_DATA_HOME or ~/.local/share."
)


_Nodes = Annotated[
    int | None, Parameter(validator=_AT_LEAST_ONE, help="Control-plane processes; default: 1.")
]
_Shards = Annotated[
    int | None,
    Parameter(
        validator=_AT_LEAST_ONE, help="Shards, fixed once the data folder exists; default: 4."
    ),
]
_Agents = Annotated[
    int | None, Parameter(validator=Number(gte=0), help="Agents on this machine; default: 1.")
]
_Data = Annotated[Path | None, Parameter(help=_FOLDER_HELP)]
_Dsn = Annotated[str | None, Parameter(help="PostgreSQL to use instead of the embedded one.")]
_Etcd = Annotated[str | None, Parameter(help="etcd endpoints to use instead of the embedded one.")]
_EtcdCa = Annotated[Path | None, Parameter(help="Authority of etcd's certificates, PEM.")]
_EtcdCert = Annotated[Path | None, Parameter(help="Certificate that nodes show to etcd, PEM.")]
_EtcdKey = Annotated[Path | None, Parameter(help="Its key, PEM, without a password.")]
_EtcdUser = Annotated[str | None, Parameter(help="User of etcd.")]
_EtcdPassword = Annotated[Path | None, Parameter(help="File with the password of that user.")]
_Port = Annotated[
    int | None,
    Parameter(validator=Number(gte=1, lte=65_535), help="Port of the first node; default: 7070."),
]
_Capacity = Annotated[
    str | None,
    Parameter(help="CPU[,MEMORY] of each agent, as 4,8GiB; default: its share of the machine."),
]
_Heartbeat = Annotated[
    str | None, Parameter(help="How often agents are heard, as 1s; default: 5s.")
]
_AttemptLease = Annotated[
    str | None,
    Parameter(help="How long tasks go on after their agent's last answer, as 6s; default: 2m."),
]
_TaskEnv = Annotated[
    list[str] | None,
    Parameter(negative="", help="NAME[=VALUE] that tasks may see; several times."),
]


def up(
    *,
    nodes: _Nodes = None,
    shards: _Shards = None,
    agents: _Agents = None,
    data: _Data = None,
    dsn: _Dsn = None,
    etcd: _Etcd = None,
    etcd_ca: _EtcdCa = None,
    etcd_cert: _EtcdCert = None,
    etcd_key: _EtcdKey = None,
    etcd_user: _EtcdUser = None,
    etcd_password_file: _EtcdPassword = None,
    port: _Port = None,
    capacity: _Capacity = None,
    heartbeat: _Heartbeat = None,
    attempt_lease: _AttemptLease = None,
    task_env: _TaskEnv = None,
) -> None:
    """Starts a local cluster."""
    flags = {
        "--nodes": nodes,
        "--shards": shards,
        "--agents": agents,
        "--data": data_folder(data, os.environ),
        "--dsn": dsn,
        "--etcd": etcd,
        "--etcd-ca": etcd_ca,
        "--etcd-cert": etcd_cert,
        "--etcd-key": etcd_key,
        "--etcd-user": etcd_user,
        "--etcd-password-file": etcd_password_file,
        "--port": port,
        "--capacity": capacity,
        "--heartbeat": heartbeat,
        "--attempt-lease": attempt_lease,
    }
    become("up", "up", flags, [f"--task-env={each}" for each in task_env or ()])
