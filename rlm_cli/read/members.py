"""Which members of an archive are wanted: the same globs, types and hidden-ness as in folders. What ignore files say of
them is asked where those are known (`excludes.Inside`).

The path a rule is asked of is the whole one, `docs/a.zip!/dir/b.pdf`. A container is like a folder: `-g '*.pdf'` and
`-t pdf` look into it, `-g '!*.zip'` keeps it out, and `-g '*.zip'` takes all that is in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from glob import has_magic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .walk import Globs

HIDDEN, GLOB, TYPE = "hidden", "--glob", "--type"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a user wants of a file. `path`: as globs count it, from the working directory.

    `suffixes`: of the types, empty = any. `only`: the member that was named, a folder of them, or a glob for them;
    what is named itself is read whatever the rules say.
    """

    path: str = ""
    globs: tuple[str, ...] = ()
    suffixes: frozenset[str] = field(default_factory=frozenset)
    hidden: bool = False
    only: str = ""
    bypass: bool = True
    """The file itself stood on the command line."""

    def named(self, inside: str) -> bool:
        """Whether a member (`dir/x.zip!/b.pdf`) is what was named, or below it."""
        if not self.only or inside == self.only or inside.startswith((self.only + "/", self.only + "!/")):
            return True
        return has_magic(self.only) and any(map(_glob(self.only).fullmatch, _upward(inside)))

    def passes(self, inside: str) -> bool:
        """Whether it is that, or holds it."""
        if self.named(inside) or self.only.startswith(inside + "!/"):
            return True
        marks = [mark.start() for mark in re.finditer("!/", self.only)] if has_magic(self.only) else []
        return any(_glob(self.only[:mark]).fullmatch(inside) for mark in marks)

    def rule(self, path: str, name: str | None) -> str:
        """The rule that keeps a document out; empty when none does.

        `path`: what is appended to the file's own, `!/dir/b.pdf`; `name`: what tells its type; None: it is a container,
        of whose members this will be asked.
        """
        inside = path.removeprefix("!/")
        if (not inside and self.bypass) or (self.only and (inside == self.only or not self.named(inside))):
            return ""
        below = "/" + inside.removeprefix(self.only)
        if (
            not self.hidden
            and "/." in below
            and any(part.startswith(".") and part.strip(".") for part in re.split("!?/", below))
        ):
            return HIDDEN
        if self.globs and not self._by_globs(path, name):
            return GLOB
        if self.suffixes and name is not None:
            names = (name, self.path, *path.split("!/"))
            if not any(part.lower().endswith(tuple(self.suffixes)) for part in names):
                return TYPE
        return ""

    def _by_globs(self, path: str, name: str | None) -> bool:
        """A glob without a slash is asked of names, `a.zip` and `b.pdf`; one with a slash of `a.zip!/dir/b.pdf`."""
        whole = os.path.normpath(self.path) + path
        way = [(whole[: found.start()], found[0] == "!/") for found in re.finditer("!?/", whole) if found.start()]
        globs = _globs(self.globs)
        if name is None:  # a folder to globs
            return globs.keeps([*way, (whole, True)])
        inner = whole.rpartition("/")[0] + "/" + name.rpartition("/")[2]  # a.log of a.log.gz
        return globs.keeps(way, whole) or globs.keeps(way, inner)


@cache
def _glob(pattern: str) -> re.Pattern[str]:
    """As a shell has it: `*` stops at a `/`, `**` does not."""
    from .patterns import Unmatchable, expression

    try:
        return re.compile(expression(pattern, 0, in_path=True), re.DOTALL)
    except Unmatchable:
        return re.compile(re.escape(pattern))


def _upward(inside: str) -> Iterator[str]:
    """A member, and each folder and archive on the way to it."""
    yield inside
    for found in re.finditer("!?/", inside):
        yield inside[: found.start()]


@cache
def _globs(globs: tuple[str, ...]) -> Globs:
    from .walk import Globs

    return Globs(globs)
