"""The direction of imports: cli → run → kinds → pure, read from every file with ast."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "rlm_cli"
CORPUS = {"builder", "corpus", "kept", "lazy"}
"""The text, how it is written and how the REPL sees it: anything may import them."""
KINDS = CORPUS | {"models", "sandbox", "read", "views", "trace", "tools"}
RUN = {
    "run",
    "prepare",
    "question",
    "dispatch",
    "documents",
    "deadline",
    "pace",
    "request",
    "forecast",
    "stream",
    "contexts",
    "seen",
    "samples",
    "earlier",
    "structured",
    "queries",
    "report",
}
"""What drives a run: may import kinds, may not import cli. Everything else beside cli and kinds is pure."""
LATE = {"fit": {"jsonschema", "referencing"}, "schema": {"jsonschema"}, "trust": {"certifi", "truststore"}}
"""Packages that a pure module may import, within its functions: they do no I/O, and only who needs them loads them."""
FILES = sorted(ROOT.rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every imported module by its full name, and whether it is of this package. Imports for types count too."""
    package = ("rlm_cli", *path.relative_to(ROOT).parts[:-1])
    for found in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match found:
            case ast.Import(names=names):
                yield from ((name.name, name.name.split(".")[0] == "rlm_cli") for name in names)
            case ast.ImportFrom(module=module, names=names, level=0) if module:
                yield module, module.split(".")[0] == "rlm_cli"
            case ast.ImportFrom(module=module, names=names, level=level):
                base = ".".join(package[: len(package) - level + 1])
                yield from ((f"{base}.{module or name.name}", True) for name in names)


def room(module: str) -> str:
    """`rlm_cli.models.catalog` → `models`"""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def own_room(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    """No room imports one above it, and no kind another kind (but the corpus)."""
    here = own_room(path)
    if here in ("cli", "__main__", "__init__"):
        return
    rooms = {room(module) for module, ours in imports(path) if ours} - {here, "", "__version__"}
    # Pure modules too may import the corpus: quotes and coverage are places in the text.
    forbidden = {"cli"} if here in RUN else ({"cli"} | RUN | KINDS) - CORPUS
    assert not rooms & forbidden


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pure_modules_use_the_standard_library_only(path: Path) -> None:
    """What a run is made of needs no other package, and neither does the corpus, which the sandbox loads."""
    here = own_room(path)
    if here in {"cli", "__main__"} | RUN | KINDS - CORPUS:
        return
    foreign = {module.split(".")[0] for module, ours in imports(path) if not ours} - sys.stdlib_module_names
    assert not foreign - LATE.get(here, set())
    at_once = {
        name.name if isinstance(node, ast.Import) else str(node.module)
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in node.names
    }
    assert not {name.split(".")[0] for name in at_once} & foreign


def test_litellm_is_imported_in_one_file() -> None:
    """A provider library has one door."""
    users = {
        p.relative_to(ROOT).as_posix()
        for p in FILES
        for m, ours in imports(p)
        if not ours and m.split(".")[0] == "litellm"
    }
    assert users <= {"models/litellm.py"}
