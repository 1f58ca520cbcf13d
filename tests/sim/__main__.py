"""Runs simulated clusters from seeds.

`python -m tests.sim --seed 7` runs one: its outcome, and its history if something is violated (or
with --log). `--count 300` runs so many on all cores and adds them up; `--shrink` makes a failing
seed small; `--bench` says how fast virtual time goes. Ends with status 1 if something is violated.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

from tests.sim.history import LEGEND
from tests.sim.many import Totals, cores, jobs_of, run_many, settle_memory
from tests.sim.shrink import Shrinker
from tests.sim.swarm import Options, drawn
from tests.sim.world import SeedFailedError, simulate, told

BENCH = Options(seconds=60.0, wish_s=0.8, fault_s=2.0)
BENCH_ROUNDS = 3


def command(seed: int, options: Options, asked: argparse.Namespace) -> str:
    """What reproduces a seed."""
    words = [f"python -m tests.sim --seed {seed} --seconds {options.seconds:g}"]
    words += ["--swarm"] if asked.swarm else []
    if options.only is not None:
        words.append(f"--only {','.join(map(str, sorted(options.only))) or 'none'}")
    return " ".join(words)


def one(seed: int, options: Options, asked: argparse.Namespace) -> int:
    """One seed, with its history if it is wanted or wrong."""
    begun_s = time.process_time()
    try:
        report, history = told(seed, options)
    except SeedFailedError as failed:
        print(failed)
        print(f"violation of seed {seed}: {failed.violation}")
        print(f"reproduce it: {command(seed, options, asked)}")
        print(f"make it small: {command(seed, options, asked)} --shrink")
        return 1
    if asked.log:
        print("\n".join([f"{LEGEND}seed {seed}: {options}", *history.lines]))
    speed = report.virtual_s / (time.process_time() - begun_s)
    print(f"seed {seed}: {options}\n{report}\nno violation; {speed:.0f} virtual seconds a second")
    return 0


def many(asked: argparse.Namespace, base: Options) -> int:
    """Many seeds, side by side."""
    totals = Totals()
    seeds = range(asked.seed, asked.seed + asked.count)
    for outcome in run_many(jobs_of(seeds, base, sizes=asked.swarm or None), asked.jobs):
        totals.add(outcome)
        if outcome.report is None:
            print(f"violation of seed {outcome.seed} ({outcome.options}): {outcome.violation}")
            print(f"reproduce it: {command(outcome.seed, base, asked)}", flush=True)
    print(totals)
    if asked.json:
        Path(asked.json).write_text(totals.json() + "\n")
    return 1 if totals.violations else 0


def shrink(seed: int, options: Options, asked: argparse.Namespace) -> int:
    """Makes a failing seed small."""
    shrinker = Shrinker(seed, options, lambda text: print(text, flush=True))
    failed = shrinker.shrink()
    if failed is None:
        print(f"seed {seed} violates nothing: {options}")
        return 0
    print(failed)
    print(f"after {shrinker.runs} runs: {failed.violation}")
    print(f"reproduce it: {command(seed, shrinker.options, asked)}")
    return 1


def bench() -> int:
    """How fast virtual time goes in a world of the usual size, on one core: with the short leases
    and heartbeats of all seeds, and with those of an installation.
    """
    settle_memory()
    for options in (BENCH, replace(BENCH, usual_times=True)):
        speeds = []
        for seed in range(1, BENCH_ROUNDS + 1):
            begun_s = time.process_time()
            report = simulate(seed, options)
            speeds.append(report.virtual_s / (time.process_time() - begun_s))
        told = ", ".join(f"{speed:.0f}" for speed in speeds)
        print(f"{median(speeds):.0f} virtual seconds a second of one core ({told}): {options}")
    return 0


def indexes(text: str) -> frozenset[int]:
    """The faults of `--only`."""
    return frozenset() if text == "none" else frozenset(map(int, text.split(",")))


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the (first) seed")
    parser.add_argument("--count", type=int, default=1, help="how many seeds")
    parser.add_argument("--seconds", type=float, default=60.0, help="of work with faults")
    parser.add_argument("--swarm", action="store_true", help="every seed draws its sizes, too")
    parser.add_argument("--only", type=indexes, help="the indexes of the faults that happen")
    parser.add_argument("--log", action="store_true", help="print the whole history")
    parser.add_argument("--shrink", action="store_true", help="make a failing seed small")
    parser.add_argument("--jobs", type=int, default=cores(), help="seeds side by side")
    parser.add_argument("--json", help="write the sum into this file, in one line")
    parser.add_argument("--bench", action="store_true", help="measure the simulation itself")
    return parser.parse_args()


def main() -> int:
    """Does what the command line says."""
    asked = parsed()
    base = Options(seconds=asked.seconds, only=asked.only)
    if asked.bench:
        return bench()
    if asked.count > 1 or asked.json:
        return many(asked, base)
    options = drawn(asked.seed, base, sizes=asked.swarm or None)
    return (shrink if asked.shrink else one)(asked.seed, options, asked)


if __name__ == "__main__":
    sys.exit(main())
