"""DAG files: YAML or JSON in, `mainspring.v1.DagSpec` out, with the position of every value.

`load` reads a file and reports every problem at once; `dump_yaml` writes a definition back. The
format is one set of tables (`tables`); the loader, the writer and the JSON Schema follow from it.
"""

from __future__ import annotations

from mainspring.definition.loading import Document, LoadedFile, load
from mainspring.definition.problems import Position, Problem
from mainspring.definition.writing import dump_yaml

__all__ = ["Document", "LoadedFile", "Position", "Problem", "dump_yaml", "load"]
