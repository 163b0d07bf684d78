"""Which ignore files hold in a folder, and what they say of an entry: the chain from a folder up to git's own excludes.

As ripgrep has it: `.rlmignore` before `.ignore` before `.gitignore` before the repository's `info/exclude` before git's
global excludes, each kind from the nearest folder upward; the first that says something decides, so a `!` in one kind
brings back what a later kind excludes. The files count without a repository too, but a `.gitignore` never reaches into
a repository below it. A folder that is kept out is not entered: nothing in it can be brought back. Members of archives
are asked for as if they lay in a folder of the archive's name; ignore files that are members themselves say nothing.

Confessed: git's configuration is read here and not by git (no process is started for a folder of documents), so a
conditional include of it is not followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from .patterns import MOST_BYTES, Patterns, by_bytes, lines_of

OWN_IGNORE = ".rlmignore"
NAMES = (OWN_IGNORE, ".ignore", ".gitignore")
"""Ignore files, the one that decides first first."""
_GIT = NAMES.index(".gitignore")

_DEEPEST = 100
"""Folders in an archive that ignore files are asked of; a name of thousands is nobody's."""

Rule = tuple[Patterns, str]
"""The patterns of a file, and the way from its folder to here, empty or with a `/` at its end."""


@dataclass(frozen=True, slots=True)
class Excludes:
    """What holds for the entries of one folder. `kinds`: rules of each of `NAMES`, the nearest first; of a repository
    (`repository`), and where there is none, git's own excludes come last."""

    kinds: tuple[tuple[Rule, ...], ...] = ((), (), ())
    repository: tuple[Rule, ...] = ()

    def decide(self, name: str, folder: bool) -> str:
        """The ignore file that keeps an entry out, empty when none does. `name`: as `by_bytes` gives it."""
        for rules in (*self.kinds, self.repository):
            for patterns, way in rules:
                said = patterns.decide(name, way + name, folder)
                if said is not None:
                    return patterns.source if said else ""
        return ""

    @property
    def empty(self) -> bool:
        return not (any(self.kinds) or self.repository)

    def inside(self, name: str, here: str, shown: str, names: Collection[str]) -> Excludes:
        """The same one folder further down. `here`: that folder; `shown`: how it is called in the account; `names`: of
        its entries."""
        step = by_bytes(name) + "/"
        kinds = [tuple((patterns, way + step) for patterns, way in rules) for rules in self.kinds]
        repository = tuple((patterns, way + step) for patterns, way in self.repository)
        if ".git" in names:
            kinds[_GIT], repository = (), of_repository(here, shown)
        return Excludes(tuple(kinds), repository).with_files_of(here, shown, names)

    def with_files_of(self, here: str, shown: str, names: Collection[str]) -> Excludes:
        """With the ignore files of the folder itself, the nearest."""
        if not any(name in names for name in NAMES):
            return self
        kinds = []
        for name, rules in zip(NAMES, self.kinds, strict=True):
            found = _patterns(os.path.join(here, name), _said(shown, name), name != ".gitignore") if name in names else None  # fmt: skip  # noqa: PTH118, E501
            kinds.append(((found, ""), *rules) if found else rules)
        return Excludes(tuple(kinds), self.repository)


class Inside:
    """What ignore files say of the members of an archive, which is a folder to them: `a.zip!/dir/b.pdf`."""

    def __init__(self, excludes: Excludes, archive: str) -> None:
        self._top = excludes.inside(f"{archive}!", "", "", ())
        self._known: dict[str, Excludes | str] = {}

    def decide(self, inside: str) -> str:
        """The ignore file that keeps a member out, or a folder or an archive on the way to it; empty when none does."""
        *folders, last = inside.removeprefix("!/").split("/")
        here, way = self._top, ""
        for name in folders[:_DEEPEST]:
            way += name + "/"
            known = self._known.get(way)
            if known is None:
                known = here.decide(by_bytes(name.removesuffix("!")), True) or here.inside(name, "", "", ())
                self._known[way] = known
            if isinstance(known, str):
                return known
            here = known
        return here.decide(by_bytes(last), False) if last and len(folders) <= _DEEPEST else ""


def above(root: str) -> Excludes:
    """What holds at a folder that is walked, from the files of those above it."""
    top = os.path.abspath(root)  # noqa: PTH100  # names that are not UTF-8 stay as they are
    parents = []
    while (parent := os.path.dirname(top)) != top:  # noqa: PTH120
        parents.append(parent)
        top = parent
    places = [os.path.abspath(root), *parents]  # noqa: PTH100
    at = next((n for n, place in enumerate(places) if os.path.lexists(os.path.join(place, ".git"))), None)  # noqa: PTH118
    way = by_bytes(os.path.relpath(places[0], places[at])) + "/" if at else ""
    repository = of_repository(places[at or 0], _above(root, at or 0))
    kinds: list[list[Rule]] = [[], [], []]
    for number, parent in enumerate(parents, 1):
        for kind, name in enumerate(NAMES):
            if kind == _GIT and at is not None and number > at:
                continue
            found = _patterns(os.path.join(parent, name), _said(_above(root, number), name), kind != _GIT)  # noqa: PTH118
            if found:
                kinds[kind].append((found, by_bytes(os.path.relpath(places[0], parent)) + "/"))
    return Excludes(tuple(tuple(rules) for rules in kinds), tuple((patterns, way) for patterns, _ in repository))


def of_repository(place: str, shown: str) -> tuple[Rule, ...]:
    """`info/exclude` of the repository whose root is `place`, if it is one, and git's global excludes."""
    rules = []
    folder = _git_folder(place)
    if folder and (found := _patterns(os.path.join(folder, "info", "exclude"), _said(shown, ".git/info/exclude"))):  # noqa: PTH118
        rules.append((found, ""))
    path = global_file()
    if path and (found := _patterns(path, _with_tilde(path))):
        rules.append((found, ""))
    return tuple(rules)


def global_file() -> str:
    """The file of git's global excludes: `core.excludesFile`, or the place it has without."""
    configured = ""
    home = os.path.expanduser("~")  # noqa: PTH111
    xdg = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")  # noqa: PTH118
    files = [os.path.join(xdg, "git", "config"), os.path.join(home, ".gitconfig")]  # noqa: PTH118
    if (only := os.environ.get("GIT_CONFIG_GLOBAL")) is not None:
        files = [only]
    if os.environ.get("GIT_CONFIG_NOSYSTEM", "0") in ("", "0", "false", "no", "off"):
        files.insert(0, os.environ.get("GIT_CONFIG_SYSTEM", "/etc/gitconfig"))
    for file in files:
        configured = _configured(file, configured, 0)
    return os.path.expanduser(configured) if configured else os.path.join(xdg, "git", "ignore")  # noqa: PTH111, PTH118


def _configured(path: str, before: str, depth: int) -> str:
    """`core.excludesFile` in a file of git's configuration and those it includes; else what was found before."""
    data = _content(path, follow=True) if depth < 10 else None
    section, found = "", before
    for line in (data or b"").decode("utf-8", "surrogateescape").splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line[1:].partition("]")[0].strip().lower()
            line = line.partition("]")[2].strip()
        key, equals, value = line.partition("=")
        if not equals or line[0] in "#;":
            continue
        if section == "core" and key.strip().lower() == "excludesfile":
            found = _value(value)
        elif section == "include" and key.strip().lower() == "path":
            included = os.path.expanduser(_value(value))  # noqa: PTH111
            found = _configured(os.path.join(os.path.dirname(path), included), found, depth + 1)  # noqa: PTH118, PTH120
    return found


def _value(written: str) -> str:
    """A value as git reads it: quotation marks and escapes undone, a comment and the spaces around left out."""
    said, kept, quoted, escaped = "", 0, False, False
    for char in written.strip():
        if escaped:
            said, escaped = said + {"n": "\n", "t": "\t", "b": "\b"}.get(char, char), False
        elif char == "\\":
            escaped = True
            continue
        elif char == '"':
            quoted = not quoted
        elif char in "#;" and not quoted:
            break
        else:
            said += char
        if quoted or not char.isspace():
            kept = len(said)
    return said[:kept]


def _git_folder(place: str) -> str:
    """Where a repository keeps its own: `.git`, or where the `.git` of a work tree points to."""
    folder = os.path.join(place, ".git")  # noqa: PTH118
    if link := _content(folder, follow=True):
        folder = os.path.join(place, os.fsdecode(link.removeprefix(b"gitdir:").strip()))  # noqa: PTH118
    if common := _content(os.path.join(folder, "commondir"), follow=True):  # noqa: PTH118
        folder = os.path.join(folder, os.fsdecode(common.strip()))  # noqa: PTH118
    return folder


def _patterns(path: str, source: str, follow: bool = True) -> Patterns | None:
    data = _content(path, follow)
    return Patterns(lines_of(data), source) if data else None


def _content(path: str, follow: bool) -> bytes | None:
    """Of a regular file; a FIFO in its place is not waited for. git does not follow a `.gitignore` that is a link."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    except (OSError, ValueError):
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_BYTES:
            return None
        data = b""
        while more := os.read(descriptor, MOST_BYTES):
            data += more
        return data
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _said(shown: str, name: str) -> str:
    """An ignore file as a user would type it."""
    return os.path.normpath(os.path.join(shown, name))  # noqa: PTH118


def _above(root: str, levels: int) -> str:
    return os.path.normpath(os.path.join(root, *([".."] * levels)))  # noqa: PTH118


def _with_tilde(path: str) -> str:
    home = str(Path("~").expanduser())
    return "~" + path.removeprefix(home) if path.startswith(home + "/") else path
