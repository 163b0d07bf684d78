"""The patterns of one ignore file, with git's own meaning: git is the oracle, and a test asks it.

What git does with a pattern is `wildmatch.c` and `dir.c`: bytes, not characters (`?` is one byte of `ü`); `{a,b}` is
literal; a literal beginning is compared first, so that `a**/b` is `a` and then a `**/` of its own; trailing spaces go
unless escaped; a class that is not closed matches nothing. A name here is text of one character a byte.

Files of thousands of patterns, and hostile ones, stay cheap: literal names, `*.suffix` and literal paths are looked up,
what is left is a regular expression in which nothing that was matched is tried again (atomic groups: what follows a `*`
is taken where it first stands, which is right because a later star can absorb the rest).

Rejected: the engine of ripgrep (`ignore-python`), which has `{a,b}`, `?`, escapes and `**` of its own (8 % of random
trees with such patterns differ from git) and does not say which file decided; pathspec (a sixth of the trees wrong).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MOST_BYTES = 16 << 20
"""A larger ignore file is none; git draws the line at 100 MB."""
_SPECIAL = re.compile(r"[*?\[\\]")
_CLASSES = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "blank": " \\t", "cntrl": "\\x00-\\x1f\\x7f", "digit": "0-9",
    "graph": "!-~", "lower": "a-z", "print": " -~", "space": " \\t-\\r", "upper": "A-Z", "xdigit": "0-9A-Fa-f",
    "punct": "!-/:-@\\[-`{-~",
}  # fmt: skip

Match = "re.Pattern[str]"


class Unmatchable(ValueError):
    """A pattern that matches nothing, and why."""


class Patterns:
    """The patterns of one file, the last match wins. `source`: how that file is called in the account."""

    __slots__ = ("_last", "_names", "_negated", "_paths", "_slow_names", "_slow_paths", "_suffixes", "source")

    def __init__(self, lines: Iterator[str], source: str) -> None:
        self.source = source
        self._negated: list[bool] = []
        # For files and for folders: what a pattern for folders only says is looked up among the latter alone.
        self._names: tuple[dict[str, int], dict[str, int]] = ({}, {})
        self._paths: tuple[dict[str, int], dict[str, int]] = ({}, {})
        self._suffixes: tuple[dict[int, dict[str, int]], dict[int, dict[str, int]]] = ({}, {})
        self._slow_names: list[tuple[int, bool, re.Pattern[str]]] = []
        self._slow_paths: list[tuple[int, bool, re.Pattern[str]]] = []
        for line in lines:
            self._add(line)
        self._slow_names.reverse()
        self._slow_paths.reverse()

    def __bool__(self) -> bool:
        return bool(self._negated)

    def decide(self, name: str, path: str, folder: bool) -> bool | None:
        """Whether an entry is matched (True), brought back (False), or neither. `path`: from the file's folder."""
        found = -1
        if names := self._names[folder]:
            found = names.get(name, -1)
        if paths := self._paths[folder]:
            found = max(found, paths.get(path, -1))
        for length, suffixes in self._suffixes[folder].items():
            if (number := suffixes.get(name[-length:] if length else "", -1)) > found:
                found = number
        for number, folders_only, pattern in self._slow_names:
            if number < found:
                break
            if (folder or not folders_only) and pattern.fullmatch(name):
                found = number
                break
        for number, folders_only, pattern in self._slow_paths:
            if number < found:
                break
            if (folder or not folders_only) and pattern.fullmatch(path):
                found = number
                break
        return None if found < 0 else not self._negated[found]

    def _add(self, line: str) -> None:
        negated = line.startswith("!")
        pattern = line[1:] if negated else line
        folders_only = pattern.endswith("/")
        pattern = pattern[:-1] if folders_only else pattern
        number = len(self._negated)
        self._negated.append(negated)
        kinds = (1,) if folders_only else (0, 1)
        literal = _SPECIAL.search(pattern)
        if "/" not in pattern:
            if literal is None:
                for kind in kinds:
                    self._names[kind][pattern] = number
            elif pattern[0] == "*" and _SPECIAL.search(pattern, 1) is None:
                for kind in kinds:
                    self._suffixes[kind].setdefault(len(pattern) - 1, {})[pattern[1:]] = number
            elif (compiled := _compiled(pattern, 0, in_path=False)) is not None:
                self._slow_names.append((number, folders_only, compiled))
            return
        pattern = pattern.removeprefix("/")
        literal = _SPECIAL.search(pattern)
        if literal is None:
            for kind in kinds:
                self._paths[kind][pattern] = number
        elif (compiled := _compiled(pattern, literal.start(), in_path=True)) is not None:
            self._slow_paths.append((number, folders_only, compiled))


def lines_of(data: bytes) -> Iterator[str]:
    """The patterns of an ignore file's bytes: without comments, empty lines and trailing spaces."""
    text = data.removeprefix(b"\xef\xbb\xbf").decode("latin-1")
    for line in text.split("\n"):
        line = line.removesuffix("\r").split("\0", 1)[0]
        if line and line[0] != "#" and (line := _trimmed(line)):
            yield line


def by_bytes(name: str) -> str:
    """A name as patterns see it: a character for each byte."""
    return name if name.isascii() else name.encode("utf-8", "surrogateescape").decode("latin-1")


def _trimmed(line: str) -> str:
    """Without trailing spaces; one that a backslash stands before is kept."""
    if not line.endswith(" "):
        return line
    end = at = 0
    while at < len(line):
        if line[at] == "\\":
            at += 1
            if at == len(line):
                return line
            end = at + 1
        elif line[at] != " ":
            end = at + 1
        at += 1
    return line[:end]


def _compiled(pattern: str, literal: int, in_path: bool) -> re.Pattern[str] | None:
    try:
        return re.compile(expression(pattern, literal, in_path), re.DOTALL)
    except Unmatchable:
        return None


def expression(pattern: str, literal: int, in_path: bool) -> str:
    """A regular expression for `re.fullmatch`. `literal`: how many characters at the beginning are compared as they
    are; `in_path`: `*` and `?` stop at `/`. Raises `Unmatchable`.
    """
    one = "[^/]" if in_path else "."
    pieces: list[tuple[str, str]] = [("", re.escape(pattern[:literal]))]  # (star, what follows it)
    at = literal
    while at < len(pattern):
        char = pattern[at]
        if char == "*":
            start = at
            while pattern[at : at + 1] == "*":
                at += 1
            star = one + "*"
            bounded = start == literal or pattern[start - 1] == "/"
            if in_path and at - start >= 2 and bounded:
                if pattern[at : at + 1] == "/":
                    star = "(?:.*/)?"
                    at += 1
                elif at == len(pattern) or pattern[at : at + 2] == "\\/":
                    star = ".*"
            pieces.append((star, ""))
            continue
        if char == "?":
            said, at = one, at + 1
        elif char == "[":
            said, at = _class(pattern, at + 1, in_path)
        elif char == "\\":
            if at + 1 == len(pattern):
                raise Unmatchable("it ends in a backslash")
            said, at = re.escape(pattern[at + 1]), at + 2
        else:
            said, at = re.escape(char), at + 1
        pieces[-1] = (pieces[-1][0], pieces[-1][1] + said)
    return _joined(pieces, one + "*")


def _joined(pieces: list[tuple[str, str]], short: str) -> str:
    """The stars with what follows each: between two that span folders, and between two `*`, nothing is tried again."""
    runs: list[list[tuple[str, str]]] = [[pieces[0]]]
    for piece in pieces[1:]:
        if piece[0] == short:
            runs[-1].append(piece)
        else:
            runs.append([piece])
    said = []
    for number, run in enumerate(runs):
        (star, first), *rest = run
        last_run = number == len(runs) - 1
        inner = first
        for place, (_, fixed) in enumerate(rest):
            final = last_run and place == len(rest) - 1
            inner += f"{short}{fixed}" if final else f"(?>{short}?{fixed})"
        lazy = {"(?:.*/)?": "(?:.*?/)??", ".*": ".*?"}.get(star, "")
        said.append(f"{star}{inner}" if last_run or not star else f"(?>{lazy}{inner})")
    return "".join(said)


def _class(pattern: str, at: int, in_path: bool) -> tuple[str, int]:
    """A character class from behind its `[` on: its expression, and where it ends. Raises `Unmatchable`."""
    negated = pattern[at : at + 1] in ("!", "^")
    at += negated
    said, before = "", ""
    first = True
    while first or pattern[at : at + 1] != "]":
        first = False
        char = pattern[at : at + 1]
        if char == "\\":
            at += 1
            char = pattern[at : at + 1]
            said += re.escape(char)
            before = char
        elif char == "-" and before and pattern[at + 1 : at + 2] not in ("", "]"):
            at += 1
            if pattern[at] == "\\":
                at += 1
            char = pattern[at : at + 1]
            if char and before <= char:
                said += f"{re.escape(before)}-{re.escape(char)}"
            before = ""
        elif char == "[" and pattern[at + 1 : at + 2] == ":":
            end = pattern.find("]", at + 2)
            if end < 0:
                raise Unmatchable("unclosed class of characters")
            if end > at + 2 and pattern[end - 1] == ":":
                name = pattern[at + 2 : end - 1]
                if name not in _CLASSES:
                    raise Unmatchable(f"there is no class [:{name}:]")
                said += _CLASSES[name]
                at, before = end, ""
            else:
                said += re.escape("[")
                before = "["
        else:
            said += re.escape(char)
            before = char
        if not char:
            raise Unmatchable("unclosed class of characters")
        at += 1
    slash = "(?!/)" if in_path else ""
    if negated:
        return f"{slash}[^{said}]" if said else "[^/]" if in_path else ".", at + 1
    return f"{slash}[{said}]" if said else "(?!)", at + 1
