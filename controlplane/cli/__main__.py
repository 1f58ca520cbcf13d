"""`python -P -m controlplane.cli NAME …`: starts the entry point of that name.

Promises that only the chosen entry point is imported. Does not know their flags.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from mainspring.cli.exit_codes import ExitCode

NAMES = ("up", "node", "verify", "recover")
_USAGE = """\
usage: python -P -m controlplane.cli {up,node,verify,recover} …

  up       start a local cluster (users call `mainspring up`)
  node     run one node of the control plane
  verify   judge a database (users call `mainspring verify`)
  recover  say that a database went back (users call `mainspring admin recover`)

example: python -P -m controlplane.cli up --nodes 2 --data ./cluster
"""


def entry_point(name: str) -> Callable[[Sequence[str]], int]:
    """The main function of an entry point: arguments in, exit code out."""
    if name == "up":
        from controlplane.cli import up

        return up.main
    if name == "verify":
        from controlplane.cli import verify

        return verify.main
    if name == "recover":
        from controlplane.cli import recover

        return recover.main
    from controlplane.cli import node

    return node.main


def main(arguments: Sequence[str]) -> int:
    """Runs the entry point that the first argument names."""
    name = arguments[0] if arguments else ""
    if name in {"-h", "--help"}:
        print(_USAGE, end="")
        return ExitCode.OK
    if name not in NAMES:
        print(f"error: {name!r} is no entry point\n\n{_USAGE}", end="", file=sys.stderr)
        return ExitCode.USAGE
    return entry_point(name)(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
