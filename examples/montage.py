"""Prints `montage.yaml`: a DAG in the shape of Montage, the mosaic of astronomical images.

Decides our own counts and durations; the names of the stages and the shape are those of the public
workflow: every image is projected, every pair of overlapping neighbours is compared, one model of
the background is fitted to all differences and taken off every image, and one mosaic is made of
them. Promises the same file every time. Needs no installation.

    python examples/montage.py > examples/montage.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

SIDE = 6  # images along each side of the field
MILLIS = {
    "mProject": 600,
    "mDiffFit": 300,
    "mConcatFit": 300,
    "mBgModel": 800,
    "mBackground": 150,
    "mImgtbl": 250,
    "mAdd": 900,
    "mViewer": 350,
}
SPREAD_MS = 20  # images differ a little, so that stages do not end all at once
OVERLAP_STEPS = 22  # overlaps differ a lot: most of them go on when half of the tasks have ended

HEAD = """\
# Made by examples/montage.py; do not edit.
# Every task writes its start and its end to $MAINSPRING_LEDGER and sleeps in between.
dag: montage
description: A mosaic of 36 images in the shape of the Montage workflow; the work is simulated.
run_timeout: 5m
labels:
  shape: montage
tasks:
"""

# The lines of this script are the format of `mainspring.ledger`; a test holds the two equal.
SCRIPT = """\
        - &ledger |
          set -eu
          ledger=${MAINSPRING_LEDGER:-/dev/null}
          line="$MAINSPRING_ATTEMPT_ID $MAINSPRING_RUN $MAINSPRING_TASK $$"
          date "+start $line %s%N" >>"$ledger"
          [ "$1" = 0 ] || sleep "$1"
          exec date "+end $line %s%N" >>"$ledger"
"""


def overlaps() -> Iterator[tuple[int, int]]:
    """Pairs of neighbouring images, diagonal ones included."""
    for first in range(SIDE * SIDE):
        row, column = divmod(first, SIDE)
        for down, right in ((0, 1), (1, -1), (1, 0), (1, 1)):
            if row + down < SIDE and 0 <= column + right < SIDE:
                yield first, (row + down) * SIDE + column + right


def stages() -> Iterator[tuple[str, str, int, list[str]]]:
    """Stage, id, extra time in SPREAD_MS and parents of every task."""
    images = range(SIDE * SIDE)
    pairs = list(overlaps())
    for image in images:
        yield "mProject", f"mProject-{image:02}", image % 10, []
    for first, second in pairs:
        parents = [f"mProject-{first:02}", f"mProject-{second:02}"]
        extra = second % 5 * OVERLAP_STEPS
        yield "mDiffFit", f"mDiffFit-{first:02}-{second:02}", extra, parents
    differences = [f"mDiffFit-{first:02}-{second:02}" for first, second in pairs]
    yield "mConcatFit", "mConcatFit", 0, differences
    yield "mBgModel", "mBgModel", 0, ["mConcatFit"]
    for image in images:
        parents = [f"mProject-{image:02}", "mBgModel"]
        yield "mBackground", f"mBackground-{image:02}", image % 4, parents
    yield "mImgtbl", "mImgtbl", 0, [f"mBackground-{image:02}" for image in images]
    yield "mAdd", "mAdd", 0, ["mImgtbl"]
    yield "mViewer", "mViewer", 0, ["mAdd"]


def text() -> str:
    parts = [HEAD]
    for stage, task, extra, parents in stages():
        seconds = (MILLIS[stage] + SPREAD_MS * extra) / 1_000
        parts.append(f"  - task: {task}\n    label: {stage}\n")
        if len(parents) > 2:
            parts.append("    depends_on:\n" + "".join(f"      - {name}\n" for name in parents))
        elif parents:
            parts.append(f"    depends_on: [{', '.join(parents)}]\n")
        if len(parts) == 2:
            parts.append(f"    process:\n      argv:\n        - sh\n        - -c\n{SCRIPT}")
            parts.append(f'        - sh\n        - "{seconds}"\n')
        else:
            parts.append(f'    process: {{argv: [sh, -c, *ledger, sh, "{seconds}"]}}\n')
        parts.append("    resources: {cpu: 0.05, memory: 16MiB}\n")
    return "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(text())
