"""Runs simulated clusters from seeds: `python -m tests.sim --seed 7 [--count 20] [--seconds 60]`.

Prints a line a seed; a violation prints the last lines of its history. Ends with status 1 after the
last seed if there was one.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.sim.invariants import ViolationError
from tests.sim.swarm import Options
from tests.sim.world import simulate


def main() -> int:
    """Runs the seeds that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    violations = 0
    for seed in range(options.seed, options.seed + options.count):
        begun = time.monotonic()
        try:
            report = simulate(seed, Options(seconds=options.seconds))
        except ViolationError as error:
            print(error, flush=True)
            violations += 1
        else:
            print(f"{report} in {time.monotonic() - begun:.2f} s", flush=True)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
