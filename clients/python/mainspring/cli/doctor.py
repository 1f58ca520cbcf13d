"""`mainspring doctor`: looks at set-up, connection and cluster, and says what to do.

Decides: what is a problem (exit code 1) and what only a warning. Promises: every check is told,
also when an earlier one failed; a check that cannot be made says why.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING, Literal

from mainspring.cli import text
from mainspring.cli.exit_codes import ExitCode
from mainspring.cli.failures import DOCTOR_HINT, next_step_of
from mainspring.cli.flags import ANYWHERE, AS_TABLE, Connect, Print, client_class
from mainspring.cli.output import Table, print_documents, print_tables
from mainspring.client.errors import MainspringError
from mainspring.client.names import last_segment
from mainspring.client.settings import Asked, resolve

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from mainspring.client import Client
    from mainspring.v1 import admin_pb2

_SLOW_ANSWER_S = 0.5
_MOST_NAMES = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    result: Literal["ok", "warning", "problem"]
    detail: str
    next_step: str = ""


def doctor(*, connection: Connect = ANYWHERE, output: Print = AS_TABLE) -> int:
    """Checks everything."""
    findings = list(_findings(connection))
    if output.format == "table":
        print_tables([_table(findings)])
    else:
        documents = [dataclasses.asdict(each) for each in findings]
        print_documents(output.format, [{"findings": documents}])
    bad = any(each.result == "problem" for each in findings)
    return ExitCode.FAILED if bad else ExitCode.OK


def _findings(connection: Connect) -> Iterator[Finding]:
    yield _server_package()
    try:
        settings = resolve(
            Asked(connection.address, connection.token_file, connection.data, connection.ca),
            os.environ,
        )
    except MainspringError as error:
        yield _problem("settings", error)
        return
    addresses = ", ".join(map(str, settings.addresses))
    yield Finding("address", "ok", f"{addresses} (from {settings.source})")
    if settings.token is None:
        yield Finding(
            "token",
            "problem",
            settings.withheld or "none is known",
            "--token-file FILE, MAINSPRING_TOKEN, or --data DIR of its cluster",
        )
        return
    yield Finding("token", "ok", f"from {settings.token_source}")
    with client_class()(settings) as client:
        yield from _cluster(client)


def _cluster(client: Client) -> Iterator[Finding]:
    connected = list(_checked("connection", lambda: _connection(client)))
    yield from connected
    if any(each.result == "problem" for each in connected):
        return
    yield from _checked("nodes", lambda: _nodes(client))
    yield from _checked("shards", lambda: _shards(client))
    yield from _checked("agents", lambda: _agents(client))


def _checked(check: str, find: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return find()
    except MainspringError as error:
        return [_problem(check, error)]


def _problem(check: str, error: MainspringError) -> Finding:
    next_step = next_step_of(error).removesuffix(DOCTOR_HINT)
    return Finding(check, "problem", text.one_line(error.message, 500), next_step)


def _server_package() -> Finding:
    try:
        found = installed_version("mainspring-server")
    except PackageNotFoundError:
        return Finding("server package", "ok", "not installed here; only `up` needs it")
    return Finding("server package", "ok", f"mainspring-server {found}")


def _connection(client: Client) -> list[Finding]:
    started_s = time.monotonic()
    info = client.admin.server_info()
    took_s = time.monotonic() - started_s
    detail = f"node {info.node} of cluster {info.cluster} answered in {took_s * 1_000:.0f} ms"
    slow = took_s > _SLOW_ANSWER_S
    return [
        Finding("connection", "warning" if slow else "ok", detail, "is it busy?" if slow else ""),
        _versions(installed_version("mainspring"), info.version),
        *_replication(info.asynchronous_standbys),
    ]


def _versions(client: str, server: str) -> Finding:
    detail = f"client {client}, server {server}"
    if client.split(".")[:2] == server.split(".")[:2]:
        return Finding("version", "ok", detail)
    return Finding("version", "warning", detail, "use the same minor version on both sides")


def _nodes(client: Client) -> list[Finding]:
    nodes = client.admin.nodes().nodes
    names = ", ".join(last_segment(node.name) for node in nodes)
    if nodes:
        return [Finding("nodes", "ok", f"{len(nodes)}: {names}")]
    return [Finding("nodes", "problem", "none is a member of the cluster", "is etcd up?")]


def _shards(client: Client) -> list[Finding]:
    shards = client.admin.shards().shards
    orphans = [last_segment(shard.name) for shard in shards if not shard.node]
    spoilt = [last_segment(shard.name) for shard in shards if shard.quarantined]
    findings = []
    if orphans or not shards:
        detail = f"without leader: {', '.join(orphans)}" if orphans else "there are none"
        findings.append(Finding("shards", "problem", detail, "the log of the nodes says why"))
    else:
        findings.append(Finding("shards", "ok", f"all {len(shards)} are led"))
    findings += _recovering(shards)
    if spoilt:
        detail = f"quarantined rows in shard {', '.join(spoilt)}"
        findings.append(Finding("quarantine", "problem", detail, "the log of the leader says why"))
    return findings


def _recovering(shards: Sequence[admin_pb2.Shard]) -> Iterator[Finding]:
    """Shards whose store went back in time."""
    held = [shard for shard in shards if shard.HasField("recovering_until")]
    if held:
        names = ", ".join(last_segment(shard.name) for shard in held)
        until = text.moment(max((each.recovering_until for each in held), key=_order), known=True)
        detail = f"shard {names}, until {until}: {held[0].recovering_reason}"
        step = "nothing is assigned before; then see `mainspring approval list`"
        yield Finding("restored store", "warning", text.one_line(detail, 500), step)


def _order(moment: Timestamp) -> tuple[int, int]:
    return moment.seconds, moment.nanos


def _replication(standbys: Sequence[str]) -> Iterator[Finding]:
    """Standbys that a failover of PostgreSQL would lose commits on."""
    if standbys:
        detail = f"asynchronous standby: {', '.join(standbys)}"
        step = (
            "name it in synchronous_standby_names: its promotion would lose what was acknowledged"
        )
        yield Finding("replication", "warning", text.one_line(detail, 500), step)


def _agents(client: Client) -> list[Finding]:
    agents = client.admin.agents().agents
    connected = [agent for agent in agents if agent.connected]
    gone = len(agents) - len(connected)
    if not connected:
        detail = f"none is connected ({gone} known)"
        return [Finding("agents", "problem", detail, "start an agent: tasks cannot run")]
    cpu = sum(agent.cpu for agent in connected)
    detail = f"{len(connected)} connected with {cpu:g} cores, {gone} gone"
    return [Finding("agents", "ok", detail), *_absent(agents), *_contained(connected)]


def _absent(agents: Sequence[admin_pb2.Agent]) -> Iterator[Finding]:
    """Attempts that nobody hears of."""
    away = [agent for agent in agents if agent.live_attempts and not agent.connected]
    if away:
        count = text.plural(sum(agent.live_attempts for agent in away), "attempt")
        detail = f"{count} with agents that are away: {_names(away)}"
        yield Finding("attempts", "warning", detail, "`mainspring run get RUN` says until when")


def _contained(agents: Sequence[admin_pb2.Agent]) -> Iterator[Finding]:
    """Agents whose tasks may leave processes behind."""
    weak = [agent for agent in agents if agent.containment == "process"]
    if weak:
        detail = f"no PID namespace: processes of tasks may outlive a supervisor: {_names(weak)}"
        step = "allow user namespaces on these machines, or run their agents as root"
        yield Finding("containment", "warning", detail, step)


def _names(agents: Sequence[admin_pb2.Agent]) -> str:
    names = [last_segment(agent.name) for agent in agents[:_MOST_NAMES]]
    more = len(agents) - len(names)
    return ", ".join(names) + (f" and {more:,} more" if more else "")


def _table(findings: list[Finding]) -> Table:
    table = Table(("CHECK", "RESULT", "DETAIL", "NEXT STEP"))
    for each in findings:
        table.add(each.check, each.result, each.detail, each.next_step)
    return table
