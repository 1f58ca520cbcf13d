"""Published and real cron expressions, where the optional tables lie beside the repository."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from controlplane.core.time.cron import next_match, parse_cron
from controlplane.core.time.errors import CronError
from controlplane.core.time.timetable import (
    MICROS_PER_S,
    Cron,
    instants,
    next_instant,
    parse_timetable,
    warnings_of,
)
from controlplane.core.time.zone import span_at

TABLES = Path(__file__).parents[4].parent / "shared" / "data" / "cron"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Where Lord Howe Island moves its clocks by half an hour, the oracle of the second table keeps
# stepping whole hours from the old half and passes over one real, matching time (06:00 of
# `0 */6 * * *`). A due instant is never dropped here, so these rows hold ours as a superset.
PASSED_OVER = {
    *("r9916a5f358", "rd2606c0fd1", "r45e698bda0", "r63b290122c", "rfc04530f11"),
    *("r477433585c", "rba88045d00", "re49b6bc7f6", "rf2a6caf900", "ra6160792e2"),
    *("r6f47b4aa6c", "re0caa1a2cc", "rdd2237190e", "r848a4e6391"),
}


def rows(name: str) -> list[dict[str, str]]:
    with (TABLES / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def us(text: str) -> int:
    moment = datetime.fromisoformat(text)
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - EPOCH) // timedelta(microseconds=1)


def zone_of(row: dict[str, str]) -> str:
    return "UTC" if row["timezone"] in {"", "naive"} else row["timezone"]


def outcome(row: dict[str, str]) -> tuple[list[int], list[int]]:
    expected = [us(text) for text in json.loads(row["expected"])]
    timetable = Cron(row["expression"], zone_of(row))
    return expected, list(instants(timetable, us(row["after"]), len(expected)))


def refused(expression: str) -> bool:
    try:
        parse_cron(expression)
    except CronError as error:
        count = len(expression.split())
        assert count == 5 or f"{count} fields" in str(error)
        return True
    return False


def shows_a_match(instant: int, expression: str, zone: str) -> bool:
    t = instant // MICROS_PER_S
    minute = (t + span_at(zone, t).offset_s) // 60
    return next_match(parse_cron(expression), minute) == minute


if TABLES.is_dir():

    def test_published_instants():
        cases = [row for row in rows("cases.csv") if row["semantics"] == "debian-cron"]
        due = [r for r in cases if r["kind"] == "next" and len(r["expression"].split()) == 5]
        wrong = [row["id"] for row in due if outcome(row)[0] != outcome(row)[1]]
        assert len(due) > 80
        assert wrong == []

    def test_published_refusals():
        cases = [row for row in rows("cases.csv") if row["semantics"] == "debian-cron"]
        for row in cases:
            expression = row["expression"]
            never = row["kind"] == "never" or expression == "* * 30 2 *"
            if never:
                assert warnings_of(Cron(expression))
                assert next_instant(Cron(expression), us("2020-01-01T00:00:00")) is None
            else:
                five = len(expression.split()) == 5
                assert refused(expression) == (row["kind"] == "invalid" or not five), expression

    def test_real_expressions_over_real_changes_of_the_clock():
        cases = rows("real_expr_dst.csv")
        outcomes = {row["id"]: outcome(row) for row in cases}
        wrong = {row_id for row_id, (expected, found) in outcomes.items() if expected != found}
        assert len(cases) > 1_000
        assert wrong == PASSED_OVER

    def test_instants_that_the_oracle_passes_over_are_real():
        for row in rows("real_expr_dst.csv"):
            if row["id"] in PASSED_OVER:
                expected, found = outcome(row)
                missed = set(found) - set(expected)
                assert row["timezone"] == "Australia/Lord_Howe"
                assert len(missed) == 1
                assert sorted({*expected, *missed})[: len(found)] == found
                for instant in missed:
                    assert shows_a_match(instant, row["expression"], row["timezone"])

    def test_real_expressions_are_accepted():
        refusals, warned = [], []
        for row in rows("expressions.csv"):
            try:
                timetable = parse_timetable("cron", expression=row["expression"])
            except CronError:
                refusals.append(row["expression"])
            else:
                warned += [row["expression"]] if warnings_of(timetable) else []
        assert refusals == ["@quarterly"]
        assert warned == ["0 0 30 2 *"]
