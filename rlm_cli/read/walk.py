"""Which files of a folder are read, as ripgrep would choose, with an account of what was not.

One walk: a folder's entries are sorted by their bytes, each is asked for in turn of `-g`, of what is hidden, of the
ignore files that hold there (`excludes.py`), of `-t`. What keeps it out is charged by name: `hidden`, `--glob`, or the
very ignore file. A folder that is kept out counts once and is not entered.

`-g` means what it means to ripgrep: patterns as in an ignore file, turned round, the last match wins, `{a,b}` is
alternatives, a pattern with a slash counts from the working directory (from the folder that was named where that lies
elsewhere), and a file that is asked for so is read whatever ignore files say. What is hidden stays so unless the
pattern's own last part begins with a dot: `!*/` must not open `.git`.
"""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from ..errors import UsageError
from .excludes import Excludes, above
from .formats import CONTAINERS
from .patterns import Patterns, Unmatchable, by_bytes, expression

if TYPE_CHECKING:
    from .connect import Cut
    from .incoming import Fetched

HIDDEN, GLOB, TYPE, LINK, LEADS_OUT = "hidden", "--glob", "--type", "links to folders", "links out of the folder"

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
MOST_ALTERNATIVES = 1_000
"""Of one glob, by its braces."""


@dataclass(frozen=True)
class Rules:
    """What is read of a folder. `unrestricted`: 1 = ignore files off, 2 = hidden files too."""

    globs: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    unrestricted: int = 0

    @cached_property
    def suffixes(self) -> frozenset[str]:
        return frozenset(suffix for name in self.types for suffix in TYPES[name])

    @cached_property
    def wanted(self) -> Globs | None:
        """What `-g` says; None where nothing was said. Raises `UsageError`."""
        return Globs(self.globs) if self.globs else None


class Globs:
    """The patterns of `-g`. Raises `UsageError` for one that is none."""

    def __init__(self, globs: tuple[str, ...]) -> None:
        self._including = not all(glob.startswith("!") for glob in globs)
        lines = []
        for glob in globs:
            _check_glob(glob)
            lines += _alternatives(glob)
        self._patterns = Patterns(iter(lines), GLOB)
        dotted = [line for line in lines if line.rstrip("/").rpartition("/")[2].startswith(".")]
        self._dotted = Patterns(iter(dotted), GLOB)

    def decide(self, name: str, path: str, folder: bool) -> bool | None:
        """True: asked for; False: kept out; None: neither."""
        said = self._patterns.decide(name, path, folder)
        if said is None:
            return False if self._including and not folder else None
        return said

    def opens(self, name: str, path: str) -> bool:
        """Whether a hidden file is asked for by a pattern that begins with a dot itself."""
        return bool(self._dotted) and self._dotted.decide(name, path, False) is True

    def keeps(self, way: Sequence[tuple[str, bool]], path: str = "") -> bool:
        """Whether a member of an archive is read. `way`: the path of each folder and archive on the way to it, and
        whether it is an archive.

        None of them may be kept out, nor the member; asking for an archive (`-g a.zip`) asks for what is in it. Without
        a `path`: whether what is at the end of the way is looked into.
        """
        asked = False
        for place, archive in way:
            said = self._patterns.decide(place.rpartition("/")[2], place, True)
            if said is False:
                return False
            asked = asked or (said is True and archive)
        said = self._patterns.decide(path.rpartition("/")[2], path, False) if path else True
        return (asked or not self._including) if said is None else said


@dataclass(frozen=True, slots=True)
class Found:
    """A file to read. `path`: as a user would type it; `file`: as the system knows it; `problem`: why it cannot be;
    `named`: it stood on the command line; `regular`: it is known to be a regular file; `root`: the folder it was found
    in; `only`: the member that is wanted; `away`: it is elsewhere, and this brings it."""

    path: str
    file: str | None
    problem: str = ""
    named: bool = False
    regular: bool = False
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
    _ = rules.wanted


def folder(root: str, rules: Rules, account: Account) -> Iterator[Found]:
    """The files of a folder that the rules leave, sorted by path."""
    excludes = above(root) if rules.unrestricted < 1 else Excludes()
    walk = _Walk(root, rules, account)
    waiting = [walk.entries(root, excludes, walk.below, first=True)]
    while waiting:  # a stack of its own: folders may be nested deeper than calls
        found = next(waiting[-1], None)
        if found is None:
            waiting.pop()
        elif isinstance(found, Found):
            yield found
        else:
            waiting.append(walk.entries(*found))


Deeper = tuple[str, Excludes, str]


class _Walk:
    """The walk of one folder that was named. `below`: the way to it from where `-g` counts."""

    def __init__(self, root: str, rules: Rules, account: Account) -> None:
        self.root = root
        self.rules = rules
        self.excluded = account.excluded
        self.below = way(root)
        self._top = ""

    def entries(self, here: str, excludes: Excludes, way: str, first: bool = False) -> Iterator[Found | Deeper]:
        """The entries of one folder; a folder in it by its path, what held here, and the way to it."""
        try:
            with os.scandir(here) as listing:
                entries = list(listing)
        except OSError as error:
            yield Found(here, here, f"unreadable folder ({error.strerror})")
            return
        # By bytes, as git and `LC_ALL=C sort` do; names of ASCII alone sort the same as text.
        entries.sort(key=_name)
        if not all(entry.name.isascii() for entry in entries):
            entries.sort(key=lambda entry: os.fsencode(entry.name))
        if self.rules.unrestricted < 1:
            names = {entry.name for entry in entries if entry.name.startswith(".")}
            if first:
                excludes = excludes.with_files_of(here, here, names)
            else:
                excludes = excludes.inside(os.path.basename(here), here, here, names)  # noqa: PTH119
        prefix = here if here.endswith("/") else here + "/"
        free = excludes.empty and self.rules.wanted is None
        show_hidden = self.rules.unrestricted >= 2
        for entry in entries:
            name = entry.name
            is_folder = _is_folder(entry)
            if (not free or (name[0] == "." and not show_hidden)) and (
                rule := self._kept_out(name, is_folder, way, excludes)
            ):
                self.excluded[rule] += 1
            elif entry.is_symlink():
                yield from self._link(prefix + name, is_folder)
            elif is_folder:
                yield prefix + name, excludes, f"{way}{name}/"
            elif self.rules.types and _suffix(name) not in self.rules.suffixes | CONTAINERS:
                self.excluded[TYPE] += 1
            elif entry.is_file(follow_symlinks=False):
                path = prefix + name
                yield Found(path, path, "", False, True, self.root)
            else:
                yield Found(prefix + name, prefix + name, root=self.root)

    def _kept_out(self, name: str, is_folder: bool, way: str, excludes: Excludes) -> str:
        """The rule that keeps an entry out, empty when none does."""
        wanted = self.rules.wanted
        if name[0] == "." and self.rules.unrestricted < 2:
            return "" if wanted is not None and not is_folder and wanted.opens(name, way + name) else HIDDEN
        if wanted is not None:
            # A container is a folder to globs: its members are asked.
            said = wanted.decide(name, way + name, is_folder or _suffix(name) in CONTAINERS)
            if said is not None:
                return "" if said else GLOB
        return excludes.decide(by_bytes(name), is_folder)

    def _link(self, path: str, is_folder: bool) -> Iterator[Found]:
        if is_folder:
            self.excluded[LINK] += 1
        elif not self._within(path):
            self.excluded[LEADS_OUT] += 1  # in a folder from elsewhere it may lead to your keys
        elif self.rules.types and _suffix(path) not in self.rules.suffixes | CONTAINERS:
            self.excluded[TYPE] += 1
        else:
            yield Found(path, path, _problem(path), root=self.root)

    def _within(self, path: str) -> bool:
        """Whether a link ends in the folder that was named. One that ends nowhere does; one nobody may follow not."""
        try:
            self._top = self._top or os.path.realpath(self.root)
            target = os.path.realpath(path)
        except OSError:
            return False
        return os.path.commonpath((target, self._top)) == self._top


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


def _problem(path: str) -> str:
    """Links that lead nowhere are named here; what kind of file it is, the reader sees."""
    try:
        os.stat(path)  # noqa: PTH116
    except OSError as error:
        return f"unreadable ({error.strerror})"
    return ""


def way(root: str) -> str:
    """From the working directory to a folder, with a `/` at its end; empty where it is not below it."""
    try:
        way = os.path.relpath(root)
    except OSError:  # the working directory is gone
        return ""
    return "" if way == "." or way.startswith("..") else way + "/"


def _check_glob(glob: str) -> None:
    body = glob.removeprefix("!")
    try:
        for line in _alternatives(body):
            expression(line, 0, in_path=True)
    except Unmatchable as error:
        raise UsageError(f"--glob: {glob!r} is no glob", why=str(error), hint="write \\[ for a bracket") from error


def _alternatives(glob: str) -> list[str]:
    """`*.{md,txt}` as `*.md` and `*.txt`; braces may stand in braces. Raises `Unmatchable`."""
    done, waiting = [], [glob]
    while waiting:
        one = waiting.pop(0)
        braces = _braces(one)
        if braces is None:
            done.append(one)
            continue
        start, commas, end = braces
        cuts = [start, *commas, end]
        if len(done) + len(waiting) + len(cuts) > MOST_ALTERNATIVES:
            raise Unmatchable(f"more than {MOST_ALTERNATIVES} alternatives")
        waiting += [one[:start] + one[low + 1 : high] + one[end + 1 :] for low, high in pairwise(cuts)]
    return done


def _braces(glob: str) -> tuple[int, list[int], int] | None:
    """The first `{`, the commas between its alternatives, its `}`. Raises `Unmatchable` where it is not closed."""
    start, commas, depth, skip = -1, [], 0, False
    for at, char in enumerate(glob):
        if skip:
            skip = False
        elif char == "\\":
            skip = True
        elif char == "{":
            start = at if depth == 0 else start
            depth += 1
        elif char == "," and depth == 1:
            commas.append(at)
        elif char == "}" and depth:
            depth -= 1
            if depth == 0:
                return start, commas, at
    if depth:
        raise Unmatchable("unclosed {")
    return None
