"""Every event reaches the shard, and every record of recovery has a row that it comes from."""

from __future__ import annotations

from typing import get_args

from controlplane.core import effects, events
from controlplane.core.events import Event
from controlplane.core.fleet.placement import Fleet
from controlplane.core.shard.shard import Shard
from controlplane.core.time.deadlines import Now


def test_a_shard_has_an_answer_to_every_event():
    assert set(Shard(0, Fleet(), Now(0, 0))._on_event) == set(get_args(Event))


def test_what_recovery_reads_was_written():
    pairs = {
        events.LiveRecord: (effects.LiveRow, effects.StartedRow),
        events.WaitRecord: (effects.WaitRow,),
        events.EndRecord: (effects.DoneRow, effects.LiveRow),
        events.ScheduleRecord: (effects.ScheduleRow,),
        events.DagRecord: (effects.DagRow,),
        events.RunRecord: (effects.RunRow, effects.RunChangeRow),
    }
    for record, rows in pairs.items():
        written = {name for row in rows for name in row._fields} | {"key", "epoch"}
        assert set(record._fields) <= written
