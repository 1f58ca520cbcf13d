"""Random simulated clusters until an invariant is broken: `python -m tests.mutants.seeds 1 30`.

Takes so many seeds from the first on. The last line says the seed and what it broke; the status is
1 then.
"""

from __future__ import annotations

import argparse
import sys

from tests.sim.invariants import ViolationError
from tests.sim.world import Options, simulate

# Small worlds in turn: what two nodes and two agents can break, more of them break later.
SIZES = (
    Options(nodes=3, shards=2, agents=3, seconds=20.0),
    Options(nodes=2, shards=1, agents=2, dags=3, seconds=30.0),
    Options(nodes=3, shards=4, agents=4, seconds=40.0),
)


def broken_by(seed: int) -> str:
    """What a seed breaks, in one line; empty: nothing."""
    try:
        simulate(seed, SIZES[seed % len(SIZES)])
    except ViolationError as error:
        return f"seed {seed}: {_innermost(error)}".splitlines()[0]
    return ""


def _innermost(error: BaseException) -> str:
    """What the world wraps: a violation in its own words, anything else with its type."""
    found = error.__cause__ or error
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return str(found) if isinstance(found, ViolationError) else repr(found)


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
