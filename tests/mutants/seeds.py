"""Random simulated clusters until an invariant is broken: `python -m tests.mutants.seeds 1 30`.

Takes so many seeds from the first on. The last line says the seed and what it broke; the status is
1 then.
"""

from __future__ import annotations

import argparse
import sys

from tests.sim.swarm import Options, drawn
from tests.sim.world import SeedFailedError, simulate

# Small: what few nodes and agents can break, more of them break later. Each seed draws its faults.
WORLD = Options(nodes=3, shards=2, agents=3, dags=5, seconds=30.0)


def broken_by(seed: int) -> str:
    """What a seed breaks, in one line; empty: nothing."""
    try:
        simulate(seed, drawn(seed, WORLD))
    except SeedFailedError as error:
        return f"seed {seed}: {error.violation}".splitlines()[0]
    return ""


def main() -> int:
    """Runs seeds as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    asked = parser.parse_args()
    for seed in range(asked.first, asked.first + asked.count):
        print(f"seed {seed}", flush=True)
        if broken := broken_by(seed):
            print(broken, flush=True)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
