"""Searches the models: every state that can follow from a first one, breadth-first.

A state tells what may come next, by itself (`steps`) and by a fault (`faults`), a line and a state
each; what is `broken`; and if it is `good`, which must stay within reach without faults. The rules
are the table in README.md. The exit status is 1 if they are not enough, or one is not needed.
"""

import argparse
import re
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from docs.model import assignment, leadership

PAGE = Path(__file__).with_name("README.md").read_text()
RULES = {rule: row for rule, *row in re.findall(r"(?m)^\| `(\w+)` \| (.+) \| (\w+) \| (\d+)", PAGE)}
SCENES = {scene: model for model in (leadership, assignment) for scene in model.SCENES}
Found = tuple[str, tuple[str, ...], int]  # what breaks; the way there; how many states


def search(first: Any) -> Found:
    """What breaks, or leads nowhere, after the fewest steps."""
    traces: dict[Any, tuple[str, ...]] = {first: ()}
    before: dict[Any, list[Any]] = defaultdict(list)
    states = [first]
    for state in states:
        steps = [("", *step) for step in state.steps()]
        steps += [step for step in state.faults() if step[0] in state.left]
        for fault, line, then in steps:
            after = then._replace(left=then.left.replace(fault, "", 1))
            if not fault:
                before[after].append(state)
            if after not in traces:
                traces[after] = (*traces[state], line)
                states.append(after)
                for invariant in [name for name, broken in after.broken().items() if broken]:
                    return invariant, traces[after], len(states)
    well = [state for state in states if state.good()]
    for state in well:
        well += before.pop(state, ())
    stuck = set(states).difference(well)
    for state in [state for state in states if state in stuck]:
        return "stuck: only a fault leads on", traces[state], len(states)
    return "", (), len(states)


def look(scene: str, off: str = "", *, large: bool = False) -> Found:
    """Searches a scene, with a rule taken out, and prints a line of the table."""
    began, model = time.process_time(), SCENES[scene]
    broken, steps, states = found = search(model.World(model.SCENES[scene][large], off))
    row = f"{off or '(all rules)':26}{scene:9}{len(steps) or '-':>5}{states:>9}"
    print(f"{row}{time.process_time() - began:>7.1f}  {broken or 'holds'}", flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m docs.model", description="Search the models.")
    parser.add_argument("--without", metavar="RULE", choices=RULES, help="show what breaks then")
    parser.add_argument("--all", action="store_true", help="take out each rule in turn")
    parser.add_argument("--large", action="store_true", help="let more faults happen")
    chosen = parser.parse_args()
    print(f"{'without':26}{'scene':9}{'steps':>5}{'states':>9}{'CPU s':>7}  what breaks")
    if off := chosen.without:
        broken, steps, _ = look(RULES[off][1], off)
        print(RULES[off][0], *(f"{n:3}. {line}" for n, line in enumerate(steps, 1)), sep="\n")
        return int(not broken)
    wrong = [scene for scene in SCENES if look(scene, large=chosen.large)[0]]
    wrong += [off for off in RULES if chosen.all and not look(RULES[off][1], off)[0]]
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
