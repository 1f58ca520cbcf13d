"""The main thread of a process is held while its other threads run on."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.up import eventually

# Its main thread says "main" for every signal; another one answers whatever it is told.
TWO_THREADS = """
import os, signal, sys, threading
signal.signal(signal.SIGUSR1, lambda *_: os.write(1, b"main\\n"))
def answer():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    for line in sys.stdin:
        os.write(1, line.encode())
threading.Thread(target=answer, daemon=True).start()
os.write(1, b"ready\\n")
while True:
    signal.pause()
"""


class TwoThreads:
    """A process whose threads can be asked one by one."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", TWO_THREADS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.hears() == "ready"

    def hears(self):
        return self.process.stdout.readline().strip()

    def ask_main(self):
        self.process.send_signal(signal.SIGUSR1)

    def ask_other(self):
        self.process.stdin.write("other\n")
        self.process.stdin.flush()
        return self.hears()

    def is_held(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return "tracing stop" in status

    def end(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def threads():
    started = TwoThreads()
    yield started
    started.end()


def hold(pid, seconds=3_600.0):
    argv = [sys.executable, "-m", "tests.campaign.hold_thread", str(pid), str(seconds)]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE)


def test_only_the_main_thread_is_held_and_goes_on_afterwards(threads):
    threads.ask_main()
    assert threads.hears() == "main"
    with hold(threads.process.pid) as holder:
        eventually(threads.is_held)
        threads.ask_main()
        assert [threads.ask_other() for _ in range(20)] == ["other"] * 20
        holder.communicate()
    assert holder.returncode == 0
    assert threads.hears() == "main"


def test_a_holder_lets_go_when_its_time_is_over(threads):
    with hold(threads.process.pid, 0.2) as holder:
        holder.wait()
        threads.ask_main()
        assert threads.hears() == "main"
    assert holder.returncode == 0


def test_a_holder_that_is_killed_lets_go(threads):
    with hold(threads.process.pid) as holder:
        eventually(threads.is_held)
        threads.ask_main()
        holder.kill()
        assert threads.hears() == "main"


def test_a_process_that_is_not_there_cannot_be_held(threads):
    threads.end()
    with hold(threads.process.pid, 0.0) as holder:
        _, said = holder.communicate()
    assert holder.returncode == 1
    assert b"cannot hold" in said
