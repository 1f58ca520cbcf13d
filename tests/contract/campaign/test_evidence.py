"""The folder of evidence, and an attempt that writes into it as a program of its own."""

import shutil
import subprocess
import time

import pytest

from tests.campaign.evidence import Evidence, Ledger, Lines, boot_ns, read_lines
from tests.campaign.shapes import ALL_SHAPES, COPIES, PROGRAM, SCHEDULED, Shapes


@pytest.fixture
def evidence(tmp_path):
    return Evidence(tmp_path)


def attempt(ledger, *words, attempt_id="a1", number=1):
    environment = {
        "MAINSPRING_ATTEMPT_ID": attempt_id,
        "MAINSPRING_TASK": "load",
        "MAINSPRING_RUN": "run",
        "MAINSPRING_ATTEMPT_NUMBER": str(number),
    }
    argv = [shutil.which("perl"), PROGRAM, ledger, *words]
    return subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE)


def test_an_attempt_writes_when_it_starts_and_how_it_ends(evidence):
    before_ns = boot_ns()
    with attempt(evidence.ledger, "20", "0") as process:
        assert process.wait() == 0
    start, end = (line.split("\t") for line in evidence.ledger.read_text().splitlines())
    assert start[:4] == ["a1", "load", "run", "start"]
    assert end[:4] == ["a1", "load", "run", "end"]
    assert start[4] == end[4] == str(process.pid)
    assert (start[6], end[6]) == ("-", "0")
    assert before_ns < int(start[5]) < int(end[5]) < boot_ns()
    assert int(end[5]) - int(start[5]) >= 20_000_000


@pytest.mark.parametrize(("number", "status"), [(1, 3), (2, 3), (3, 0)])
def test_an_attempt_fails_as_often_as_it_is_told(evidence, number, status):
    with attempt(evidence.ledger, "0", "2", number=number) as process:
        assert process.wait() == status
    assert evidence.ledger.read_text().splitlines()[-1].endswith(f"\t{status}")


def test_a_loud_attempt_says_so_and_a_stubborn_one_does_not_listen(evidence):
    with attempt(evidence.ledger, "60000", "0", "loud", "stubborn") as process:
        ledger = Ledger(evidence.ledger)
        while not ledger.started():
            assert process.poll() is None
        process.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.05)
        process.kill()
        assert process.stdout.read() in {b"", b"attempt a1\n"}  # its buffer dies with it
    ledger.close()


def test_an_attempt_that_works_for_long_says_that_it_is_alive(evidence):
    with attempt(evidence.ledger, "350", "0") as process:
        assert process.wait() == 0
    kinds = [line.split("\t")[3] for line in evidence.ledger.read_text().splitlines()]
    assert kinds == ["start", "alive", "alive", "alive", "end"]


def test_the_ledger_is_followed_while_lines_come_in_pieces(evidence):
    ledger = Ledger(evidence.ledger)
    with evidence.ledger.open("a") as file:
        file.write("a\tt\tr\tstart\t1\t100\t-\nb\tt\tr\tstart\t2\t2")
        file.flush()
        assert ledger.started() == 1
        file.write("00\t-\na\tt\tr\talive\t1\t250\t-\na\tt\tr\tend\t1\t300\t0\n")
        file.flush()
        assert ledger.started() == 2
        # b wrote no end: nobody knows until when it ran.
        assert ledger.spans(0) == [(100, 300)]
        assert ledger.spans(101) == []
    ledger.close()


def test_lines_are_read_back_and_a_missing_file_has_none(evidence):
    assert list(read_lines(evidence.faults)) == []
    lines = Lines(evidence.faults)
    lines.write(kind="node-kill", target="node-1")
    assert list(read_lines(evidence.faults)) == [{"kind": "node-kill", "target": "node-1"}]
    lines.close()


def test_times_are_those_since_boot():
    assert abs(boot_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) < 10**9


def test_every_shape_is_a_valid_definition_and_revisions_differ(evidence):
    shapes = Shapes(evidence.ledger)
    first = {spec.dag: spec for spec in shapes.specs()}
    second = {spec.dag: spec for spec in shapes.specs(revision=1)}
    assert len(first) == COPIES * len(ALL_SHAPES)
    assert all(first[dag] != second[dag] for dag in first)
    assert first[f"{SCHEDULED}-0"].schedules
