"""Which files of a folder are read: ripgrep's ignore engine decides, this file keeps the account.

The engine (`ignore-python`) walks the folder once with all rules and says what is left. A plain walk beside it sees
what is there; the difference was excluded, and each entry of it is charged to one rule: hidden, `-g`, or the name of
the ignore file without which the engine would have kept it (asked folder by folder, so that nothing that was pruned is
ever entered). A folder that is kept out counts once.

Rejected: an own matcher (git's rules have corners, the engine was right on all of 400 random trees, pathspec wrong on
a sixth); the engine alone (it cannot say what it left out, and "every path is accounted for" is a promise).
"""

from __future__ import annotations

import difflib
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .formats import CONTAINERS

if TYPE_CHECKING:
    from .connect import Cut
    from .incoming import Fetched

HIDDEN, GLOB, TYPE, LINK, LEADS_OUT = "hidden", "--glob", "--type", "links to folders", "links out of the folder"
OWN_IGNORE = ".rlmignore"
_SOURCES = (".gitignore", ".ignore", OWN_IGNORE, "git's global excludes")

TYPES: dict[str, tuple[str, ...]] = {
    "c": (".c", ".h"),
    "config": (".cfg", ".conf", ".ini", ".toml", ".yaml", ".yml"),
    "cpp": (".cpp", ".cc", ".cxx", ".hpp", ".hh", ".hxx"),
    "cs": (".cs",),
    "css": (".css", ".scss", ".sass", ".less"),
    "csv": (".csv", ".tsv"),
    "go": (".go",),
    "html": (".html", ".htm", ".xhtml"),
    "java": (".java",),
    "js": (".js", ".mjs", ".cjs", ".jsx"),
    "json": (".json", ".jsonl", ".ndjson"),
    "log": (".log",),
    "mail": (".eml", ".mbox"),
    "md": (".md", ".markdown", ".mdx"),
    "pdf": (".pdf",),
    "php": (".php",),
    "py": (".py", ".pyi"),
    "rb": (".rb",),
    "rs": (".rs",),
    "rst": (".rst",),
    "rtf": (".rtf",),
    "sh": (".sh", ".bash", ".zsh", ".fish"),
    "sql": (".sql",),
    "srt": (".srt", ".vtt"),
    "tex": (".tex", ".bib"),
    "toml": (".toml",),
    "ts": (".ts", ".tsx", ".mts", ".cts"),
    "txt": (".txt", ".text"),
    "xml": (".xml", ".xsd", ".xsl", ".svg"),
    "yaml": (".yaml", ".yml"),
}
"""`--type` → suffixes."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What is read of a folder. `unrestricted`: 1 = ignore files off, 2 = hidden files too."""

    globs: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    unrestricted: int = 0

    @property
    def suffixes(self) -> frozenset[str]:
        return frozenset(suffix for name in self.types for suffix in TYPES[name])


@dataclass(frozen=True, slots=True)
class Found:
    """A file to read. `path`: as a user would type it; `file`: as the system knows it; `problem`: why it cannot be;
    `named`: it stood on the command line; `root`: the folder it was found in; `only`: the member that is wanted;
    `away`: it is elsewhere, and this brings it."""

    path: str
    file: str | None
    problem: str = ""
    named: bool = False
    root: str = ""
    only: str = ""
    away: Callable[[Cut], Fetched] | None = None


@dataclass(slots=True)
class Account:
    """Rule → how many entries it kept out."""

    excluded: Counter[str] = field(default_factory=Counter)


def check(rules: Rules) -> None:
    """Raises `UsageError` for a type that is not known or a glob that is none."""
    for name in rules.types:
        if name not in TYPES:
            near = difflib.get_close_matches(name, TYPES, n=3) or sorted(TYPES)
            raise UsageError(f"--type: there is no type {name!r}", hint=f"one of {', '.join(near)}; or -g '*.{name}'")
    for glob in rules.globs:
        try:
            _overrides(".", (glob,))
        except Exception as error:  # the engine's own exception type
            raise UsageError(f"--glob: {glob!r} is no glob", why=str(error)) from error


def folder(root: str, rules: Rules, account: Account) -> Iterator[Found]:
    """The files of a folder that the rules leave, sorted by path."""
    kept = _engine(root, rules)
    waiting = [_files(root, root, rules, kept, account)]
    while waiting:  # a stack of its own: folders may be nested deeper than calls
        found = next(waiting[-1], None)
        if found is None:
            waiting.pop()
        elif isinstance(found, str):
            waiting.append(_files(root, found, rules, kept, account))
        else:
            yield found


def _files(root: str, here: str, rules: Rules, kept: frozenset[str], account: Account) -> Iterator[Found | str]:
    """The entries of one folder; a folder in it by its path alone."""
    try:
        with os.scandir(here) as listing:
            entries = sorted(listing, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        yield Found(here, here, f"unreadable folder ({error.strerror})")
        return
    # An ignore file's `!*/` would open `.git` as well: what is hidden is for -uu only.
    hidden = {entry.name for entry in entries if rules.unrestricted < 2 and entry.name.startswith(".")}
    left_out = [
        entry.name
        for entry in entries
        if entry.name in hidden or _normal(os.path.join(here, entry.name)) not in kept  # noqa: PTH118
    ]
    if left_out:
        account.excluded.update(_reasons(root, here, left_out, rules))
    out = frozenset(left_out)
    for entry in entries:
        if entry.name in out:
            continue
        path = os.path.join(here, entry.name)  # noqa: PTH118
        if _is_folder(entry):
            if entry.is_symlink():
                account.excluded[LINK] += 1
            else:
                yield path
        elif entry.is_symlink() and not _within(root, path):
            account.excluded[LEADS_OUT] += 1  # in a folder from elsewhere it may lead to your keys
        elif rules.types and os.path.splitext(entry.name)[1].lower() not in rules.suffixes | CONTAINERS:  # noqa: PTH122
            account.excluded[TYPE] += 1
        else:
            yield Found(path, path, _problem(path), root=root)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


def _within(root: str, path: str) -> bool:
    """Whether a link ends in the folder that was named. One that ends nowhere does; one nobody may follow does not."""
    try:
        target, top = os.path.realpath(path), os.path.realpath(root)
    except OSError:
        return False
    return os.path.commonpath((target, top)) == top


def _problem(path: str) -> str:
    """Links that lead nowhere are named here; what kind of file it is, the reader sees."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except OSError as error:
        return f"unreadable ({error.strerror})"
    return "" if stat.S_ISREG(mode) or not stat.S_ISDIR(mode) else "a folder"


def _reasons(root: str, here: str, names: list[str], rules: Rules) -> Counter[str]:
    """For each entry the rule that kept it out: the first one without which it would be there."""
    reasons: Counter[str] = Counter()
    rest = names
    if rules.unrestricted < 2:
        hidden = [name for name in rest if name.startswith(".")]
        reasons[HIDDEN] += len(hidden)
        rest = [name for name in rest if not name.startswith(".")]
    if rest and rules.globs:
        rest = _charge(reasons, rest, GLOB, _level(root, here, rules, without=GLOB))
    if rules.unrestricted < 1:
        for source in _SOURCES:
            if rest:
                rest = _charge(reasons, rest, source, _level(root, here, rules, without=source))
    if rest:  # kept out by two rules at once
        reasons[GLOB if rules.globs else "ignore files"] += len(rest)
    return +reasons


def _charge(reasons: Counter[str], names: list[str], rule: str, present: frozenset[str]) -> list[str]:
    back = [name for name in names if name in present]
    reasons[rule] += len(back)
    return [name for name in names if name not in present]


def _level(root: str, here: str, rules: Rules, without: str) -> frozenset[str]:
    """The names the engine keeps in one folder when one rule is off."""
    builder = _builder(here, root, rules, without).max_depth(1)
    return frozenset(os.path.basename(str(entry.path())) for entry in builder.build() if entry.depth() == 1)  # noqa: PTH119


def _engine(root: str, rules: Rules) -> frozenset[str]:
    """Every path the engine keeps."""
    kept = set()
    walk = _builder(root, root, rules).build()
    while True:
        try:
            kept.add(str(next(walk).path()))
        except StopIteration:
            return frozenset(kept)
        except Exception:  # an entry that cannot be read: the plain walk meets and names it
            continue


def _builder(start: str, root: str, rules: Rules, without: str = "") -> Any:
    from ignore import WalkBuilder

    on = rules.unrestricted < 1
    builder = WalkBuilder(Path(start)).require_git(False).hidden(rules.unrestricted < 2)
    builder.git_ignore(on and without != ".gitignore").git_exclude(on and without != ".gitignore")
    builder.git_global(on and without != "git's global excludes").ignore(on and without != ".ignore").parents(on)
    if on and without != OWN_IGNORE:
        builder.add_custom_ignore_filename(OWN_IGNORE)
    if rules.globs and without != GLOB:
        builder.overrides(_overrides(root, rules.globs))
    return builder


def _overrides(root: str, globs: tuple[str, ...]) -> Any:
    from ignore.overrides import OverrideBuilder

    overrides = OverrideBuilder(Path(root))
    if any(not glob.startswith("!") for glob in globs):
        globs = (*(f"*{suffix}" for suffix in sorted(CONTAINERS)), *globs)  # their members are asked, like a folder's
    for glob in globs:
        overrides.add(glob)
    return overrides.build()


def _normal(path: str) -> str:
    """A path as the engine spells it: it goes through `pathlib`, which drops `./` and doubled slashes."""
    return str(Path(path))
