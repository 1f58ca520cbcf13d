"""Builds and reads resource names.

Decides: which short forms people may write (an id, `dag/run`, a full name). Promises: a name that
leaves this module has the shape of the contract, so that no id can smuggle in another segment.
Does not know: whether the named thing exists.
"""

from __future__ import annotations

import re
import uuid

from mainspring.client.errors import InvalidArgumentError, Violation

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", re.ASCII)
_SHOWN = 60
ANY_DAG = "-"


def dag_name(dag: str) -> str:
    """`dags/{dag}` of an id or of a name.

    Raises InvalidArgumentError when it is neither.
    """
    return f"dags/{_checked('dag', dag.removeprefix('dags/'), dag)}"


def run_name(run: str) -> str:
    """`dags/{dag}/runs/{run}` of a UUID, of `dag/uuid` or of a name.

    Raises InvalidArgumentError when it is none of them.
    """
    parts = run.split("/")
    if len(parts) == 4 and (parts[0], parts[2]) == ("dags", "runs"):
        parts = [parts[1], parts[3]]
    dag, last = parts if len(parts) == 2 else [ANY_DAG, run]
    if dag != ANY_DAG:
        _checked("run", dag, run)
    return f"dags/{dag}/runs/{_uuid(last, run)}"


def task_name(run: str, task: str) -> str:
    """`dags/{dag}/runs/{run}/tasks/{task}`; raises InvalidArgumentError as `run_name` does."""
    return f"{run_name(run)}/tasks/{_checked('task', task, task)}"


def approval_name(run: str, task: str) -> str:
    """`dags/{dag}/runs/{run}/tasks/{task}/approval`; raises as `task_name` does."""
    return f"{task_name(run, task)}/approval"


def dag_or_run_name(name: str) -> str:
    """The name of a run where a run is named in any form, else that of a DAG.

    Raises InvalidArgumentError when it is neither.
    """
    is_run = _is_uuid(last_segment(name)) or name.count("/") > 1
    return run_name(name) if is_run else dag_name(name)


def last_segment(name: str) -> str:
    """The id at the end of a resource name."""
    return name.rpartition("/")[2]


def _checked(field: str, part: str, whole: str) -> str:
    if _ID.fullmatch(part):
        return part
    rule = "1 to 200 letters, digits, '.', '_' and '-', the first a letter or digit"
    raise _refused(field, whole, f"an id has {rule}")


def _is_uuid(part: str) -> bool:
    try:
        uuid.UUID(part)
    except ValueError:
        return False
    return True


def _uuid(part: str, whole: str) -> str:
    try:
        return str(uuid.UUID(part))
    except ValueError:
        raise _refused("run", whole, "a run is given as UUID or as DAG/UUID") from None


def _refused(field: str, value: str, rule: str) -> InvalidArgumentError:
    shown = ascii(value if len(value) <= _SHOWN else value[:_SHOWN] + "…")
    return InvalidArgumentError(
        f"{field}: {shown} cannot be a name: {rule}", violations=[Violation(field, rule)]
    )
