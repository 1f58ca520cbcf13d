"""Writes the Python of every contract under `proto/` to `clients/python/mainspring`.

Decides: which files are compiled together, where their modules land, and which package files they
need. Promises: the same sources give the same bytes; a file is rewritten only when its content
changed, and generated files without a source disappear. Does not know: whether the result is
committed (`make generated` asks that).
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "proto"
TARGET = ROOT / "clients" / "python"
GENERATED = "*_pb2*.py*"
# etcd's files are compiled as if they lay in our package, so that their module names
# (`mainspring.etcd.…`) cannot collide with those of another etcd client in the same process.
ETCD_ROOT = "mainspring/etcd"


def contracts() -> list[str]:
    """All proto files by the name that protoc and imports know them by."""
    ours = [path.relative_to(SOURCES).as_posix() for path in SOURCES.glob("mainspring/**/*.proto")]
    etcd = [f"{ETCD_ROOT}/{path.name}" for path in (SOURCES / "etcd").glob("*.proto")]
    return sorted(ours) + sorted(etcd)


def include_paths() -> Iterator[str]:
    """Where imports are looked up: ours, etcd's, protobuf's own, google.rpc and google.api."""
    yield f"-I{SOURCES}"
    if (SOURCES / "etcd").is_dir():
        yield f"-I{ETCD_ROOT}={SOURCES / 'etcd'}"
    yield f"-I{files('grpc_tools') / '_proto'}"
    spec = importlib.util.find_spec("google.rpc")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        yield f"-I{Path(folder).parent.parent}"


def compile_into(folder: Path, names: list[str]) -> None:
    """Runs protoc with the message, gRPC and type-stub plugins of this interpreter."""
    scripts = Path(sys.executable).parent
    status = protoc.main(
        [
            "protoc",
            *include_paths(),
            f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
            f"--python_out={folder}",
            f"--grpc_python_out={folder}",
            f"--mypy_out=quiet:{folder}",
            f"--mypy_grpc_out=quiet:{folder}",
            *names,
        ]
    )
    if status:
        raise SystemExit("protoc refused the contracts; its messages are above")


def drop_empty_services(folder: Path) -> None:
    """Removes the gRPC modules of files that define no service: protoc writes them regardless."""
    for stub in folder.rglob("*_pb2_grpc.py"):
        if "class " not in stub.read_text():
            stub.unlink()
            stub.with_suffix(".pyi").unlink(missing_ok=True)


def add_packages(folder: Path) -> None:
    """Makes every folder with generated modules, and those above it, a package."""
    package = folder / "mainspring"
    for directory in [path for path in package.rglob("*") if path.is_dir()]:
        name = directory.relative_to(folder).as_posix().replace("/", ".")
        text = f'"""Messages and stubs of the contracts in `{name}`; written by `make proto`."""\n'
        (directory / "__init__.py").write_text(text)


def synchronise(folder: Path) -> int:
    """Copies what differs to the target, removes what has no source; returns how many changed."""
    fresh = {path.relative_to(folder): path for path in folder.rglob("*.py*") if path.is_file()}
    stale = [
        path
        for path in (TARGET / "mainspring").rglob(GENERATED)
        if path.suffix in {".py", ".pyi"} and path.relative_to(TARGET) not in fresh
    ]
    for path in stale:
        path.unlink()
    changed = len(stale)
    for name, source in sorted(fresh.items()):
        target = TARGET / name
        if not target.exists() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            changed += 1
    return changed


def main() -> None:
    """Compiles everything aside first: a refused contract leaves the tree as it was."""
    names = contracts()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if names:
            compile_into(folder, names)
        drop_empty_services(folder)
        add_packages(folder)
        changed = synchronise(folder)
    print(f"{len(names)} contracts compiled, {changed} generated files changed")


if __name__ == "__main__":
    main()
