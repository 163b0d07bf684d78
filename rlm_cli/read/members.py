"""Which members of an archive are wanted: the same globs, types and hidden-ness as in folders; ignore files do not
look inside.

The path a rule is asked of is the whole one, `docs/a.zip!/dir/b.pdf`. A container is like a folder: `-g '*.pdf'` and
`-t pdf` look into it, `-g '!*.zip'` keeps it out, and `-g '*.zip'` takes all that is in it.

The ignore engine knows files on disk only, so globs are translated here: the syntax of gitignore, with `{a,b}`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache

HIDDEN, GLOB, TYPE = "hidden", "--glob", "--type"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a user wants of a file. `root`: what its path begins with that globs do not look at (the folder named).

    `suffixes`: of the types, empty = any. `only`: the member that was named, or a folder of members; what is named
    itself is read whatever the rules say.
    """

    path: str = ""
    root: str = ""
    globs: tuple[str, ...] = ()
    suffixes: frozenset[str] = field(default_factory=frozenset)
    hidden: bool = False
    only: str = ""
    bypass: bool = True
    """The file itself stood on the command line."""

    def named(self, inside: str) -> bool:
        """Whether a member (`dir/x.zip!/b.pdf`) is what was named, or below it."""
        return not self.only or inside == self.only or inside.startswith((self.only + "/", self.only + "!/"))

    def passes(self, inside: str) -> bool:
        """Whether it is that, or holds it."""
        return self.named(inside) or self.only.startswith(inside + "!/")

    def rule(self, path: str, name: str | None) -> str:
        """The rule that keeps a document out; empty when none does.

        `path`: what is appended to the file's own, `!/dir/b.pdf`; `name`: what tells its type; None: it is a container,
        of whose members this will be asked.
        """
        inside = path.removeprefix("!/")
        if (not inside and self.bypass) or (self.only and (inside == self.only or not self.named(inside))):
            return ""
        below = inside.removeprefix(self.only)
        if not self.hidden and any(part.startswith(".") and part.strip(".") for part in re.split("!?/", below)):
            return HIDDEN
        if self.globs and not self._by_globs(path, name):
            return GLOB
        if self.suffixes and name is not None:
            names = (name, self.path, *path.split("!/"))
            if not any(part.lower().endswith(tuple(self.suffixes)) for part in names):
                return TYPE
        return ""

    def _by_globs(self, path: str, name: str | None) -> bool:
        whole = self.path.removeprefix(self.root).lstrip("/") + path
        asked = [whole[: found.start()] for found in re.finditer("!?/", whole)] + [whole]
        if name is not None:
            asked.append(whole[: whole.rfind("/") + 1] + name.rpartition("/")[2])
        for glob in reversed(self.globs):
            pattern = _pattern(glob.removeprefix("!"))
            if any(pattern.fullmatch(part) for part in asked):
                return not glob.startswith("!")
        return name is None or all(glob.startswith("!") for glob in self.globs)


@cache
def _pattern(glob: str) -> re.Pattern[str]:
    """A glob as gitignore means it: without a slash it is asked of the last name, with one from the root."""
    anchored = "/" in glob.rstrip("/")
    out = "" if anchored else "(?:.*/)?"
    glob = glob.strip("/")
    at = 0
    depth = 0
    while at < len(glob):
        rest = glob[at:]
        if rest.startswith("**/"):
            out, at = out + "(?:.*/)?", at + 3
        elif rest.startswith("**"):
            out, at = out + ".*", at + 2
        elif rest[0] == "*":
            out, at = out + "[^/]*", at + 1
        elif rest[0] == "?":
            out, at = out + "[^/]", at + 1
        elif rest[0] == "[" and (found := re.match(r"\[([!^]?)(\]?[^\]]*)\]", rest)):
            inner = found[2].replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace("^", "\\^")
            out, at = out + f"[{'^' * bool(found[1])}{inner}]", at + found.end()
        elif rest[0] == "{":
            out, at, depth = out + "(?:", at + 1, depth + 1
        elif rest[0] == "}" and depth:
            out, at, depth = out + ")", at + 1, depth - 1
        elif rest[0] == "," and depth:
            out, at = out + "|", at + 1
        elif rest[0] == "\\" and len(rest) > 1:
            out, at = out + re.escape(rest[1]), at + 2
        else:
            out, at = out + re.escape(rest[0]), at + 1
    return re.compile(out + ")" * depth, re.DOTALL)
