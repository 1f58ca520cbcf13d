"""Runs the model: `python -m docs.model` searches every scene with all rules in force.

`--without RULE` takes a rule out and prints a shortest counter-example; `--all` does so for each
rule in turn; `--large` lets more faults come. The exit status is 1 when something is found that
should not be, or not found that should be.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from docs.model import assignment, leadership
from docs.model.search import Found, Model, search

MODELS: tuple[Model[Any], ...] = (leadership.MODEL, assignment.MODEL)
OWNERS = {rule: model for model in MODELS for rule in model.rules}


def whole(model: Model[Any], scene: str, *, large: bool = False) -> Found:
    """Searches a scene with all rules."""
    return search(model, model.scenes[scene][large], frozenset(model.rules))


def without(rule: str) -> Found:
    """Searches the scene of a rule without it."""
    model = OWNERS[rule]
    first, _ = model.scenes[model.rules[rule][0]]
    return search(model, first, frozenset(model.rules) - {rule})


def told(name: str, look: Callable[[], Found]) -> Found:
    """One line of the table, and how long the search took."""
    began = time.process_time()
    found = look()
    seconds = time.process_time() - began
    steps = str(len(found.trace)) if found.broken else "-"
    print(
        f"{name:24}{steps:>6}{found.states:>9}{seconds:>7.1f}  {found.broken or 'holds'}",
        flush=True,
    )
    return found


def shown(rule: str) -> int:
    """The counter-example of a rule, a line a step."""
    found = without(rule)
    print(f"Without {rule}: {OWNERS[rule].rules[rule][1]}\n")
    for step, line in enumerate(found.trace, 1):
        print(f"{step:3}. {line}")
    print(f"\n{found.broken or 'no violation'} ({found.states} states)")
    return not found.broken


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m docs.model", description=__doc__)
    parser.add_argument("--without", metavar="RULE", choices=sorted(OWNERS))
    parser.add_argument("--all", action="store_true", help="take out each rule in turn")
    parser.add_argument("--large", action="store_true", help="search with more faults")
    chosen = parser.parse_args()
    if chosen.without:
        return shown(chosen.without)
    wrong = 0
    print(f"{'scene, or missing rule':24}{'steps':>6}{'states':>9}{'CPU s':>7}  what breaks")
    for model in MODELS:
        for scene in model.scenes:
            found = told(scene, partial(whole, model, scene, large=chosen.large))
            wrong += bool(found.broken)
            for line in found.trace:
                print(f"    {line}")
    for rule in OWNERS if chosen.all else ():
        wrong += not told(rule, partial(without, rule)).broken
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
