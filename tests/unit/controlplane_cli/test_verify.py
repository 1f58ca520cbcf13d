"""The flags of `verify`: which database, which rows; and how what was found is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from mainspring.cli.exit_codes import CommandError, ExitCode

from controlplane.cli import verify
from controlplane.verify.findings import VIOLATIONS_KEPT, Findings, Invariant, Violation

RUN = "01890a5d-ac96-774b-bcce-b302099a8057"
RAW = bytes.fromhex(RUN.replace("-", ""))


def parse(*arguments: str, **environ: str) -> verify.Asked:
    return verify.parse(["--dsn=d", *arguments], environ)


def test_defaults():
    assert parse() == verify.Asked("d", None, None, "table")


@pytest.mark.parametrize(
    ("text", "dag"), [(RUN, None), (f"etl/{RUN}", "etl"), (f"dags/etl/runs/{RUN.upper()}", "etl")]
)
def test_a_run_may_be_named_in_all_forms(text, dag):
    assert parse(f"--run={text}").run == (dag, RAW)


def test_a_time_is_a_duration():
    assert parse("--since=24h").since_us == 24 * 3_600_000_000
    assert parse("--since=1h30m", "--output=yaml").form == "yaml"


def test_the_database_is_named_by_flag_file_or_environment(tmp_path: Path):
    file = tmp_path / "dsn"
    file.write_text("from file\n")
    assert verify.parse(["--dsn=flag"], {"MAINSPRING_DSN": "env"}).dsn == "flag"
    assert verify.parse([f"--dsn-file={file}"], {"MAINSPRING_DSN": "env"}).dsn == "from file"
    assert verify.parse([], {"MAINSPRING_DSN": "env"}).dsn == "env"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], ExitCode.UNREACHABLE),
        (["--dsn-file=/nowhere/dsn"], ExitCode.UNREACHABLE),
        (["--dsn-file=/"], ExitCode.NOT_ALLOWED),
        (["--dsn=d", "--run=my run"], ExitCode.INVALID),
    ],
)
def test_what_cannot_be_used_is_told(arguments, code, capsys):
    with pytest.raises(CommandError) as refused:
        verify.parse(arguments, {})
    assert refused.value.code == code
    assert refused.value.next_step


@pytest.mark.parametrize("arguments", [["--since=soon"], ["--run=x", "--since=1h"], ["--rows=3"]])
def test_a_wrong_flag_is_a_usage_error(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        verify.parse(["--dsn=d", *arguments], {})
    assert ended.value.code == ExitCode.USAGE
    assert "error: " in capsys.readouterr().err


def found(count: int) -> Findings:
    findings = Findings()
    evidence = (("attempt", "00ff"), ("assigned", "3:7"))
    findings.add(Violation(Invariant.I3, f"etl/{n}", "two", evidence) for n in range(count))
    return findings


def test_a_violation_is_shown_with_its_evidence():
    summary, one = verify.tables(found(1))
    assert [row[0] for row in summary.rows] == [each.name for each in Invariant]
    assert ("I3", "0", "1", Invariant.I3.value) in summary.rows
    assert one.rows == [("I3", "etl/0"), ("", "two"), ("", "attempt: 00ff"), ("", "assigned: 3:7")]


def test_all_violations_are_counted_and_a_bound_of_them_is_kept():
    findings = found(VIOLATIONS_KEPT + 7)
    assert findings.found[Invariant.I3] == VIOLATIONS_KEPT + 7
    assert len(findings.violations) == VIOLATIONS_KEPT
    assert verify.tables(findings)[-1].rows == [("more", "7 violations are counted and not shown")]
    assert not findings.clean
    assert len(findings.as_document()["violations"]) == VIOLATIONS_KEPT
