"""The command line of the supervisor.

    python -P -m agent.supervisor FOLDER        starts one, if none lives there; waits until it can
    python -P -m agent.supervisor --end FOLDER  ends the one that lives there, and waits for that

FOLDER is WORK/supervisor. Exit codes: 0 done, 1 failed, 2 wrong arguments, 4 another one lives.
`--inside` is for its own use: it is what a start becomes. It runs without site packages, so this
file makes its own package importable; nothing else is imported from there.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
if ROOT not in sys.path:
    sys.path.append(ROOT)

USAGE = "usage: python -P -m agent.supervisor [--containment namespace|process] [--idle-ms N]"
USAGE += " FOLDER | --end FOLDER"
EXIT_USAGE = 2
IDLE_MS = 60_000
END_S = 5.0


def main(argv: Sequence[str]) -> int:
    match list(argv):
        case ["--inside", containment, idle_ms, lock, ready, folder]:
            return inside(folder, containment, int(idle_ms), int(lock), int(ready))
        case ["--end", folder]:
            from agent.supervisor.start import end

            return 0 if end(os.path.abspath(folder), END_S) else 1
    options = {"--containment": "", "--idle-ms": str(IDLE_MS)}
    words = list(argv)
    while len(words) > 2 and words[0] in options:
        options[words[0]] = words[1]
        del words[:2]
    kinds = ("", "namespace", "process")
    if len(words) != 1 or words[0].startswith("-") or options["--containment"] not in kinds:
        print(USAGE, file=sys.stderr)
        return EXIT_USAGE
    from agent.supervisor.start import start

    return start(os.path.abspath(words[0]), options["--containment"], int(options["--idle-ms"]))


def inside(folder: str, containment: str, idle_ms: int, lock: int, ready: int) -> int:
    """Supervises. The lock is kept open, and not passed on to tasks."""
    from agent.supervisor.supervisor import Supervisor

    for descriptor in (lock, ready):
        os.set_inheritable(descriptor, False)
    supervisor = Supervisor(folder, containment, idle_ms)
    os.write(ready, b"1")
    os.close(ready)
    supervisor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
