"""The format of DAG files as tables: which keys there are, what they hold, what they mean.

Decides the format, once: the loader, the writer, the JSON Schema and the reference of keys all walk
these tables. Promises that every key names a field of `mainspring.v1.DagSpec`. Does not know any
source format, and leaves to the server what needs the whole DAG or a calendar: cycles, duplicate
tasks, cron expressions, time zones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from mainspring.definition.quantities import (
    MAX_DURATION_NS,
    NANOS_PER_DAY,
    NANOS_PER_MILLISECOND,
    NANOS_PER_SECOND,
)
from mainspring.v1 import dag_pb2

MAX_INT32 = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Text:
    """A text of `minimum` to `maximum` characters; `rule` says in words what `pattern` wants."""

    maximum: int
    minimum: int = 0
    pattern: str = ""
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number."""

    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True)
class Real:
    """A finite number."""

    minimum: float
    maximum: float


@dataclass(frozen=True, slots=True)
class Span:
    """A duration; limits in nanoseconds."""

    minimum_ns: int = 0
    maximum_ns: int = MAX_DURATION_NS


@dataclass(frozen=True, slots=True)
class Size:
    """An amount of memory; limit in bytes."""

    maximum: int


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words, each a value of an enumeration."""

    values: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""


@dataclass(frozen=True, slots=True)
class TextMap:
    """A mapping of texts."""

    key: Text
    value: Text
    maximum: int


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of `minimum` to `maximum` texts or sections."""

    item: Text | Section
    maximum: int
    minimum: int = 0


@dataclass(frozen=True, slots=True)
class Pairing:
    """Where `key` is given, as `word` if one is named, `other` holds one of `words`; `optional`:
    or is not given. `message` and `hint` are for the author who did otherwise.
    """

    key: str
    other: str
    words: tuple[str, ...]
    message: str
    hint: str
    word: str = ""
    optional: bool = False


@dataclass(frozen=True, eq=False)
class Section:
    """A mapping with known keys; exactly one of the keys in `exactly_one` is given."""

    what: str
    keys: tuple[Key, ...]
    exactly_one: tuple[str, ...] = ()
    pairings: tuple[Pairing, ...] = ()

    @cached_property
    def by_name(self) -> dict[str, Key]:
        return {key.name: key for key in self.keys}

    @cached_property
    def required(self) -> tuple[str, ...]:
        return tuple(key.name for key in self.keys if key.required)


Kind: TypeAlias = Text | Whole | Real | Span | Size | Choice | Flag | TextMap | ListOf | Section


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a section. `field` is its name in the API where that differs."""

    name: str
    kind: Kind
    description: str
    required: bool = False
    field: str = ""

    @property
    def api_field(self) -> str:
        return self.field or self.name


ID = Text(
    maximum=200,
    minimum=1,
    pattern=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    rule="letters, digits, '.', '_' and '-', first a letter or digit",
)
VARIABLE = Text(
    maximum=255,
    minimum=1,
    pattern=r"[A-Za-z_][A-Za-z0-9_]*",
    rule="letters, digits and '_', first not a digit",
)
LABEL = Text(maximum=1_000)
MEMORY = Size(maximum=2**50)
PRIORITY = Whole(minimum=-1_000, maximum=1_000)
# What one process can be given; the kernel's own limit on a single argument.
ARGUMENT = Text(maximum=131_071)
FOLDER = Text(maximum=4_095, minimum=1, pattern=r"/.*", rule="an absolute path")

PROCESS = Section(
    "a process",
    (
        Key(
            "argv",
            ListOf(ARGUMENT, maximum=10_000, minimum=1),
            "Program and arguments. No shell is involved unless the program is one.",
            required=True,
        ),
        Key(
            "env",
            TextMap(VARIABLE, ARGUMENT, maximum=1_000),
            "Environment variables, added to the small environment that the agent passes on.",
        ),
        Key(
            "cwd",
            FOLDER,
            "Working folder, an absolute path. Default: a fresh folder, removed afterwards.",
        ),
    ),
)

RESOURCES = Section(
    "a resource request",
    (
        Key("cpu", Real(0, 100_000), "Processor time, in cores; 0.25 is a quarter. Default: 1."),
        Key(
            "memory",
            MEMORY,
            "Memory: bytes, or with a unit such as 512MiB or 2GB. Default: none counted.",
            field="memory_bytes",
        ),
    ),
)

RETRY = Section(
    "a retry policy",
    (
        Key(
            "max_attempts",
            Whole(1, 1_000),
            "Most attempts of a task instance, the first included.",
            required=True,
        ),
        Key("initial_backoff", Span(), "Pause after the first failed attempt. Default: 1s."),
        Key("max_backoff", Span(), "Longest pause between two attempts. Default: 1h."),
        Key("multiplier", Real(1, 100), "Factor from one pause to the next. Default: 2."),
        Key("jitter", Real(0, 1), "Share of a pause that varies from task to task. Default: 0.1."),
    ),
)

TASK = Section(
    "a task",
    (
        Key("task", ID, "Id of the task, unique in its DAG.", required=True),
        Key("label", LABEL, "Name for display."),
        Key(
            "depends_on",
            ListOf(Text(200, minimum=1), maximum=100_000),
            "Ids of the tasks that must be final before this one starts.",
        ),
        Key(
            "trigger_rule",
            Choice(
                {
                    "all_success": dag_pb2.TRIGGER_RULE_ALL_SUCCESS,
                    "all_done": dag_pb2.TRIGGER_RULE_ALL_DONE,
                },
            ),
            "When the task starts, once its parents are final: all_success (the default) if all "
            "succeeded, all_done however they ended.",
        ),
        Key(
            "process",
            PROCESS,
            "What the task does: a process of the operating system.",
            required=True,
        ),
        Key("resources", RESOURCES, "What the task occupies on its agent while it runs."),
        Key("retry", RETRY, "What happens after a failed attempt. Default: one attempt."),
        Key("timeout", Span(), "An attempt that takes longer is killed. Default: no limit."),
        Key("grace", Span(), "Time between SIGTERM and SIGKILL. Default: 10s."),
        Key(
            "priority",
            PRIORITY,
            "Order among ready tasks: higher first. Default: 0.",
        ),
        Key(
            "idempotent",
            Flag(),
            "False: where nobody knows how far an attempt got, a person decides whether another "
            "is started. Default: true.",
        ),
        Key(
            "on_disconnect",
            Choice(
                {
                    "fence": dag_pb2.ON_DISCONNECT_FENCE,
                    "continue": dag_pb2.ON_DISCONNECT_CONTINUE,
                    "retry": dag_pb2.ON_DISCONNECT_RETRY,
                },
            ),
            "What becomes of an attempt whose agent is cut off: fence (the default) ends it with "
            "its attempt lease, continue lets it run on, retry too and starts another beside it.",
        ),
        Key(
            "disconnect_limit",
            Span(minimum_ns=NANOS_PER_MILLISECOND, maximum_ns=30 * NANOS_PER_DAY),
            "How long an attempt may run on after its attempt lease, with continue and retry. "
            "Default: 1h; at most 30d.",
        ),
    ),
    pairings=(
        Pairing(
            key="disconnect_limit",
            other="on_disconnect",
            words=("continue", "retry"),
            message="has no meaning without `on_disconnect: continue` or `retry`",
            hint="fence, the default, ends an attempt with its attempt lease: remove this key, "
            "or choose one of the two",
        ),
        Pairing(
            key="on_disconnect",
            word="retry",
            other="idempotent",
            words=("true",),
            optional=True,
            message="retry may have two attempts alive together, and the task is not idempotent",
            hint="choose fence or continue, or remove `idempotent: false`",
        ),
    ),
)

SCHEDULE = Section(
    "a schedule",
    (
        Key("schedule", ID, 'Id of the schedule, unique in its DAG. Default: "default".'),
        Key(
            "cron",
            Text(1_000, minimum=1),
            "Cron expression of five fields (Debian semantics) or a macro such as @daily.",
        ),
        Key(
            "interval",
            Span(minimum_ns=NANOS_PER_SECOND),
            "Every so often, counted from 1970-01-01 UTC; at least 1s.",
        ),
        Key("timezone", Text(100, minimum=1), "IANA time zone of the expression. Default: UTC."),
    ),
    exactly_one=("cron", "interval"),
)

DAG = Section(
    "a DAG",
    (
        Key("dag", ID, "Id of the DAG.", required=True),
        Key("description", Text(10_000), "What the DAG is for."),
        Key("run_timeout", Span(), "A run that takes longer is stopped. Default: no limit."),
        Key("max_active_runs", Whole(0, MAX_INT32), "Most runs at one time; 0: no limit."),
        Key(
            "labels",
            TextMap(Text(63, minimum=1), Text(255), maximum=64),
            "Labels for people and filters.",
        ),
        Key(
            "schedules",
            ListOf(SCHEDULE, maximum=100),
            "When runs are made. Default: only when triggered.",
        ),
        Key("tasks", ListOf(TASK, maximum=100_000, minimum=1), "The tasks.", required=True),
    ),
)
