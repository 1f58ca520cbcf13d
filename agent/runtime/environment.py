"""The environment of a task.

Decides: which variables a task sees. Of the agent's own environment only what every program needs
to find itself in the world, and what the operator named; then what the task's specification says;
last what Mainspring tells about the attempt. So no secret of the agent leaks into a task.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from agent.core.entries import Assign

PASSED_ON = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "USER")
PASSED_ON_PREFIX = "LC_"
DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def base_environment(
    own: Mapping[str, str], named: Iterable[tuple[str, str | None]]
) -> dict[str, str]:
    """What all tasks of an agent see. `named`: (name, value); None passes the agent's value on."""
    base = {"PATH": DEFAULT_PATH}
    base |= {
        name: value
        for name, value in own.items()
        if name in PASSED_ON or name.startswith(PASSED_ON_PREFIX)
    }
    for name, given in named:
        value_of = own.get(name) if given is None else given
        if value_of is not None:
            base[name] = value_of
    return base


def attempt_environment(base: Mapping[str, str], assign: Assign) -> dict[str, str]:
    """What one attempt sees."""
    return {
        **base,
        **(dict(assign.spec.env) if assign.spec else {}),
        "MAINSPRING_ATTEMPT_ID": assign.attempt_id.hex(),
        "MAINSPRING_ATTEMPT_NUMBER": str(assign.number),
        "MAINSPRING_TENANT": assign.tenant,
        "MAINSPRING_DAG": assign.dag,
        "MAINSPRING_RUN": assign.run,
        "MAINSPRING_TASK": assign.task,
        "MAINSPRING_LOGICAL_TIME": rfc3339(assign.logical_time_us),
    }


def rfc3339(instant_us: int) -> str:
    """An instant as text, with a fraction only where there is one."""
    return (EPOCH + timedelta(microseconds=instant_us)).isoformat().replace("+00:00", "Z")
