"""The clients' process, as the campaign drives it.

Promises that a command is done when `tell` returns, and that the process is gone after `end`.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from typing import IO

from tests.campaign.site import Site, tail

# Repetitions of a call that nobody answers take some time; nobody need be asked longer.
ANSWER_S = 60.0


class LoadProcess:
    """Started at once; `expect("prepare")` before the first command."""

    def __init__(self, site: Site, runs_per_s: float, enduring_runs: int, seed: int) -> None:
        folder = site.evidence.folder
        settings = folder / "clients.json"
        settings.write_text(
            json.dumps(
                {
                    "folder": str(folder),
                    "addresses": site.addresses,
                    "token_file": str(site.token_file),
                    "runs_per_s": runs_per_s,
                    "enduring_runs": enduring_runs,
                    "seed": seed,
                }
            )
        )
        self._file = folder / "logs" / "clients.log"
        self._log = self._file.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.campaign.clients", str(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self._answers: list[str] = []
        self._answered = threading.Condition()
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,))
        self._reader.start()

    def _read(self, stdout: IO[bytes]) -> None:
        with stdout:
            for line in stdout:
                with self._answered:
                    self._answers.append(line.decode().strip())
                    self._answered.notify_all()

    def expect(self, answer: str) -> None:
        """Returns once it says that something is done."""
        with self._answered:
            told = self._answered.wait_for(lambda: answer in self._answers, ANSWER_S)
            assert told, f"the clients did not answer {answer!r}: {tail(self._file)}"
            self._answers.remove(answer)

    def tell(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n".encode())
        self._process.stdin.flush()
        self.expect(command)

    def end(self) -> None:
        """Ends it, whatever it does."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._log.close()
