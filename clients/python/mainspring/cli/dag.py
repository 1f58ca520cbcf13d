"""`mainspring dag …`, but for the commands that read DAG files (see `dag_files`)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from mainspring.cli import text
from mainspring.cli.flags import ANYWHERE, AS_TABLE, Connect, DagArgument, Limit, Print, switch
from mainspring.cli.output import Table, say, show
from mainspring.client.names import last_segment

if TYPE_CHECKING:
    from mainspring.v1 import dag_pb2

_DIGEST_SHOWN = 12


def list_dags(
    *, limit: Limit = 100, connection: Connect = ANYWHERE, output: Print = AS_TABLE
) -> None:
    """Lists DAGs."""
    with connection.client() as client:
        answer = client.dags.list(limit)
    show(output.format, [answer], lambda: [_dag_table(answer.dags)])
    if answer.next_page_token:
        say(f"there are more than {limit}: --limit shows more")


def get(
    dag: DagArgument,
    /,
    *,
    definition: Annotated[bool, switch("Print the definition as a DAG file (YAML).")] = False,
    connection: Connect = ANYWHERE,
    output: Print = AS_TABLE,
) -> None:
    """Shows one DAG."""
    with connection.client() as client:
        answer = client.dags.get(dag)
    if definition:
        from mainspring.definition import dump_yaml

        print(dump_yaml(answer.spec), end="")
        return
    show(output.format, [answer], lambda: _one_dag(answer))


def versions(
    dag: DagArgument,
    /,
    *,
    limit: Limit = 100,
    connection: Connect = ANYWHERE,
    output: Print = AS_TABLE,
) -> None:
    """Lists the versions of a DAG."""
    with connection.client() as client:
        answer = client.dags.versions(dag, limit)
    show(output.format, [answer], lambda: [_version_table(answer.versions)])


def next_instants(
    dag: DagArgument,
    /,
    *,
    count: Annotated[
        int,
        Parameter(
            name=["--count", "-n"],
            validator=Number(gte=1, lte=1_000),
            help="How many instants, over all schedules.",
        ),
    ] = 5,
    after: Annotated[
        dt.datetime | None,
        Parameter(help="Only instants after this time (UTC if it names no zone)."),
    ] = None,
    connection: Connect = ANYWHERE,
    output: Print = AS_TABLE,
) -> None:
    """Lists the next instants of a DAG."""
    with connection.client() as client:
        paused = client.dags.get(dag).paused
        answer = client.dags.instants(dag, after=after, count=count)
    show(output.format, [answer], lambda: [_instant_table(answer.instants)])
    if not answer.instants:
        say("no instant is due: the DAG has no schedule, or none that fires again")
    elif paused:
        name = last_segment(dag)
        say(f"DAG {name} is paused: nothing fires until it is resumed")
        say(f"next:  mainspring dag resume {name}")


def pause(
    dag: DagArgument,
    /,
    *,
    reason: Annotated[str, Parameter(show_default=False, help="Why; people will read it.")] = "",
    connection: Connect = ANYWHERE,
    output: Print = AS_TABLE,
) -> None:
    """Pauses a DAG."""
    with connection.client() as client:
        answer = client.dags.pause(dag, reason=reason)
    show(output.format, [answer], lambda: [_dag_table([answer])])


def resume(
    dag: DagArgument,
    /,
    *,
    connection: Connect = ANYWHERE,
    output: Print = AS_TABLE,
) -> None:
    """Resumes a DAG."""
    with connection.client() as client:
        answer = client.dags.resume(dag)
    show(output.format, [answer], lambda: [_dag_table([answer])])


def _dag_table(dags: Iterable[dag_pb2.Dag]) -> Table:
    table = Table(("DAG", "SCHEDULES", "TASKS", "NEXT", "DIGEST", "CHANGED"))
    for dag in dags:
        table.add(
            last_segment(dag.name),
            "paused" if dag.paused else "active",
            dag.task_count,
            text.moment(dag.next_instant, known=dag.HasField("next_instant")),
            dag.digest[:_DIGEST_SHOWN],
            text.moment(dag.update_time, known=dag.HasField("update_time")),
        )
    return table


def _one_dag(dag: dag_pb2.Dag) -> list[Table]:
    facts = Table()
    facts.add("DAG", last_segment(dag.name))
    if dag.spec.description:
        facts.add("description", dag.spec.description)
    facts.add("tasks", dag.task_count)
    facts.add("schedules", _schedules_word(dag))
    for schedule in dag.spec.schedules:
        facts.add("schedule", schedule_text(schedule))
    facts.add("next instant", text.moment(dag.next_instant, known=dag.HasField("next_instant")))
    facts.add("digest", dag.digest)
    facts.add("shard", dag.shard)
    facts.add("created", text.moment(dag.create_time, known=dag.HasField("create_time")))
    facts.add("changed", text.moment(dag.update_time, known=dag.HasField("update_time")))
    return [facts]


def _schedules_word(dag: dag_pb2.Dag) -> str:
    count = text.plural(len(dag.spec.schedules), "schedule")
    if not dag.paused:
        return count
    return f"{count}, paused: {dag.pause_reason}" if dag.pause_reason else f"{count}, paused"


def schedule_text(schedule: dag_pb2.ScheduleSpec) -> str:
    """When it fires, as a DAG file says it; with its id, unless that is the default."""
    name = "" if schedule.schedule in {"", "default"} else f"{schedule.schedule}: "
    if schedule.WhichOneof("timetable") == "interval":
        from mainspring.definition.quantities import format_duration

        return f"{name}every {format_duration(schedule.interval.ToNanoseconds())}"
    return f'{name}cron "{schedule.cron}" {schedule.timezone or "UTC"}'


def _version_table(versions: Iterable[dag_pb2.DagVersion]) -> Table:
    table = Table(("DIGEST", "CURRENT", "TASKS", "CREATED"))
    for version in versions:
        table.add(
            version.digest,
            "yes" if version.current else "",
            version.task_count,
            text.moment(version.create_time, known=version.HasField("create_time")),
        )
    return table


def _instant_table(instants: Iterable[dag_pb2.Instant]) -> Table:
    table = Table(("INSTANT", "LOCAL TIME", "SCHEDULE"))
    for instant in instants:
        table.add(
            text.moment(instant.time), text.local_moment(instant.local_time), instant.schedule
        )
    return table
