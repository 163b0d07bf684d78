"""The module `re` of the REPL: its functions and compiled patterns also take a `Text`.

They run in windows of about a million characters, cut at line ends, looking `AHEAD` characters beyond and `BEHIND`
back. Matches that span windows are not possible: one that begins in a window and reaches more than `AHEAD` beyond its
end is cut short or missed; a lookbehind sees `BEHIND` characters. Where a pattern begins with plain letters, these are
looked for first, as bytes: what has none of them is never decoded, which is most of the work.
"""

from __future__ import annotations

import re as _re
from collections.abc import Iterable, Iterator
from itertools import islice
from types import ModuleType
from typing import Any

from ..corpus import WINDOW
from .parts import Series, refuse
from .text import Text

AHEAD = 1 << 16
BEHIND = 1 << 10
_BEGINS = _re.compile(r"(?:\\b|\^)*([\w \-,:;=<>@/'\"~!%&\n\t]{2,})([*?{+]?)")


class Match:
    """A match in a lazy text; positions are those of the text, everything else is `re.Match`."""

    __slots__ = ("_match", "_offset", "string")

    def __init__(self, match: _re.Match[str], offset: int, string: Text) -> None:
        self._match = match
        self._offset = offset
        self.string = string

    def start(self, group: int | str = 0, /) -> int:
        return self.span(group)[0]

    def end(self, group: int | str = 0, /) -> int:
        return self.span(group)[1]

    def span(self, group: int | str = 0, /) -> tuple[int, int]:
        low, high = self._match.span(group)
        return (low, high) if low < 0 else (low + self._offset, high + self._offset)

    def __getitem__(self, group: int | str) -> Any:
        return self._match[group]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._match, name)

    def __repr__(self) -> str:
        return f"<re.Match object; span={self.span()}, match={self._match[0][:50]!r}>"


class Pattern:
    """A compiled pattern that takes a `str` or a `Text`."""

    def __init__(self, pattern: _re.Pattern[str]) -> None:
        self._pattern = pattern
        self._begins = _literal(pattern)

    def finditer(self, string: str | Text, pos: int = 0, endpos: int | None = None) -> Iterator[Any]:
        if not isinstance(string, Text):
            return self._pattern.finditer(string, pos, len(string) if endpos is None else endpos)
        return (Match(match, low, string) for match, low in self._windows(string, pos, endpos))

    def findall(self, string: str | Text, pos: int = 0, endpos: int | None = None) -> list[Any]:
        if not isinstance(string, Text):
            return self._pattern.findall(string, pos, len(string) if endpos is None else endpos)
        found = self._windows(string, pos, endpos)
        if self._pattern.groups > 1:
            return [match.groups("") for match, _ in found]
        return [match[match.re.groups] or "" for match, _ in found]

    def search(self, string: str | Text, pos: int = 0, endpos: int | None = None) -> Any:
        return next(self.finditer(string, pos, endpos), None)

    def match(self, string: str | Text, pos: int = 0, endpos: int | None = None) -> Any:
        if not isinstance(string, Text):
            return self._pattern.match(string, pos, len(string) if endpos is None else endpos)
        size = len(string) if endpos is None else max(min(endpos, len(string)), 0)
        pos = min(max(pos, 0), len(string))
        if pos > size:
            return None
        low, high = max(pos - BEHIND, 0), min(size, pos + WINDOW + AHEAD)
        match = self._pattern.match(string._take(low, high), pos - low)
        return match and Match(match, low, string)

    def fullmatch(self, string: str | Text, pos: int = 0, endpos: int | None = None) -> Any:
        if not isinstance(string, Text):
            return self._pattern.fullmatch(string, pos, len(string) if endpos is None else endpos)
        refuse("re.fullmatch of all of it", "re.search, or fullmatch on each line of context.splitlines()")

    def split(self, string: str | Text, maxsplit: int = 0) -> Any:
        if not isinstance(string, Text):
            return self._pattern.split(string, maxsplit)
        return Series(lambda: self._pieces(string, maxsplit), "parts")

    def sub(self, repl: Any, string: str | Text, count: int = 0) -> str:
        if not isinstance(string, Text):
            return self._pattern.sub(repl, string, count)
        refuse("re.sub on all of it", "re.sub on a slice, or on each line of context.splitlines()")

    def subn(self, repl: Any, string: str | Text, count: int = 0) -> tuple[str, int]:
        if not isinstance(string, Text):
            return self._pattern.subn(repl, string, count)
        refuse("re.subn on all of it", "re.subn on a slice, or on each line of context.splitlines()")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pattern, name)

    def __eq__(self, other: object) -> bool:
        return bool(_bare(other) == self._pattern)

    def __hash__(self) -> int:
        return hash(self._pattern)

    def __repr__(self) -> str:
        return repr(self._pattern)

    def _windows(self, text: Text, pos: int, endpos: int | None) -> Iterator[tuple[_re.Match[str], int]]:
        """Matches window by window, each with the place of what it was found in.

        A match counts for the window it begins in; the text around the window is part of what the pattern sees, so
        anchors, word borders and lookarounds mean what they mean in one string.
        """
        size = len(text) if endpos is None else max(min(endpos, len(text)), 0)
        at = min(max(pos, 0), len(text))
        while at <= size:
            if self._begins and (at := text.find(self._begins, at, size)) < 0:
                return
            low, high = max(0, at - BEHIND), min(size, at + WINDOW + AHEAD)
            data = text._take(low, high)
            edge = len(data) + 1
            if high < size:
                edge = at - low + WINDOW
                edge = data.rfind("\n", at - low, edge) + 1 or edge
            reached = edge
            for match in self._pattern.finditer(data, at - low):
                if match.start() >= edge:
                    break
                reached = max(reached, match.end())
                yield match, low
            at = low + reached

    def _pieces(self, text: Text, maxsplit: int) -> Iterator[Any]:
        at = 0
        for match, low in islice(self._windows(text, 0, None), maxsplit or None):
            yield text._part(at, low + match.start())
            yield from match.groups()
            at = low + match.end()
        yield text._part(at, len(text))


class LazyRe(ModuleType):
    """The module `re`, whose functions and compiled patterns also take a `Text`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_re, name)

    def __dir__(self) -> Iterable[str]:
        return dir(_re)

    def compile(self, pattern: Any, flags: int = 0) -> Any:
        """A `Pattern`; for bytes the standard one."""
        made = _re.compile(_bare(pattern), flags)
        return Pattern(made) if isinstance(made.pattern, str) else made

    def finditer(self, pattern: Any, string: Any, flags: int = 0) -> Any:
        return self.compile(pattern, flags).finditer(string)

    def findall(self, pattern: Any, string: Any, flags: int = 0) -> Any:
        return self.compile(pattern, flags).findall(string)

    def search(self, pattern: Any, string: Any, flags: int = 0) -> Any:
        return self.compile(pattern, flags).search(string)

    def match(self, pattern: Any, string: Any, flags: int = 0) -> Any:
        return self.compile(pattern, flags).match(string)

    def fullmatch(self, pattern: Any, string: Any, flags: int = 0) -> Any:
        return self.compile(pattern, flags).fullmatch(string)

    def split(self, pattern: Any, string: Any, maxsplit: int = 0, flags: int = 0) -> Any:
        return self.compile(pattern, flags).split(string, maxsplit)

    def sub(self, pattern: Any, repl: Any, string: Any, count: int = 0, flags: int = 0) -> Any:
        return self.compile(pattern, flags).sub(repl, string, count)

    def subn(self, pattern: Any, repl: Any, string: Any, count: int = 0, flags: int = 0) -> Any:
        return self.compile(pattern, flags).subn(repl, string, count)


def _literal(pattern: _re.Pattern[str]) -> str:
    """What every match begins with, if the pattern plainly says so: letters and the like, before anything special."""
    if pattern.flags & (_re.IGNORECASE | _re.VERBOSE) or "|" in pattern.pattern:
        return ""
    found = _BEGINS.match(pattern.pattern)
    return "" if found is None else found[1][:-1] if found[2] else found[1]


def _bare(pattern: Any) -> Any:
    return pattern._pattern if isinstance(pattern, Pattern) else pattern


re = LazyRe("re")
