"""What `context`, `docs` and `re` are in the REPL when the corpus is too big to be a `str`.

A model writes code for a string. `Text` gives it that string's slicing, searching and lines over the mapped corpus,
with the results a `str` would give, and refuses in one line, naming the spelling that works, what would copy gigabytes.
`re` is the standard module whose functions also take a `Text`. Nothing here takes memory with the size of the corpus.

Where it differs from `str`, on purpose:
  - a slice of more than `SLICE` characters is again a `Text`;
  - `splitlines()` and `split()` give lazy sequences (iterate, `len`, index), and lines end at "\\n" only;
  - going through it character by character is an error that names `splitlines()`;
  - regular expressions run in windows of about a million characters, cut at line ends and looking `AHEAD` characters
    beyond and `BEHIND` back. A match that begins in one window and reaches more than `AHEAD` beyond its end is cut
    short or missed; a lookbehind sees `BEHIND` characters.

A subclass of `str` was rejected: C code would see an empty string and give wrong answers in silence.
Loaded by host and REPL alike: standard library only, and of this package only `corpus`.
"""

from __future__ import annotations

import re as _re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from itertools import islice
from types import ModuleType
from typing import Any, NoReturn, TypeVar, overload

from .corpus import WINDOW, Corpus, Document

SLICE = 16 << 20
"""Characters; a slice up to here is a `str`, a longer one a `Text`."""
AHEAD = 1 << 16
BEHIND = 1 << 10
Spans = Sequence[tuple[int, int]]
"""Slices of the corpus, [start, stop) in characters."""
T = TypeVar("T")


def view(corpus: Corpus, spans: Spans | None = None, memory_limit: int = 256 << 20) -> str | Text:
    """The value of `context`: the spans one after the other (None: the whole corpus), as `str` while that takes at most
    `memory_limit` bytes by the widest character of the corpus, else as `Text`."""
    text = Text(corpus, (corpus.whole,) if spans is None else spans)
    return str(text._take(0, len(text))) if len(text) * corpus.char_width <= memory_limit else text


class Text:
    """Text of the corpus that is not in memory: what a `str` is, as far as a `str` can be without holding it."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, corpus: Corpus, spans: Spans) -> None:
        self._corpus = corpus
        self.spans = tuple((start, stop) for start, stop in spans if start < stop)
        self._chars, self._bytes, self._low = [0], [0], []
        for start, stop in self.spans:
            low = corpus.byte_of(start)
            self._low.append(low)
            self._chars.append(self._chars[-1] + stop - start)
            self._bytes.append(self._bytes[-1] + corpus.byte_of(stop) - low)

    @property
    def span(self) -> tuple[int, int]:
        """The slice of the corpus it is. Raises `ValueError` when it is made of several."""
        if len(self.spans) != 1:
            raise ValueError("this text is made of several slices of the corpus")
        return self.spans[0]

    # what a str does

    def __len__(self) -> int:
        return self._chars[-1]

    def __bool__(self) -> bool:
        return len(self) > 0

    @overload
    def __getitem__(self, key: int) -> str: ...
    @overload
    def __getitem__(self, key: slice) -> str | Text: ...
    def __getitem__(self, key: int | slice) -> str | Text:
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step == 1:
                return self._part(start, stop)
            places = range(start, stop, step)
            if not places:
                return ""
            low, high = min(places[0], places[-1]), max(places[0], places[-1]) + 1
            if high - low > SLICE:
                _refuse("a step over this much text", "step through a slice: context[:1_000_000][::2]")
            part = self._take(low, high)
            return part[:: abs(step)] if step > 0 else part[::step]
        position = key + len(self) if key < 0 else key
        if not 0 <= position < len(self):
            raise IndexError("string index out of range")
        return self._take(position, position + 1)

    def __contains__(self, part: str) -> bool:
        return self.find(part) >= 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (str, Text)):
            return NotImplemented
        if len(self) != len(other):
            return False
        lows = range(0, len(self), WINDOW)
        return all(self._take(low, low + WINDOW) == other[low : low + WINDOW] for low in lows)

    def find(self, sub: str, start: int | None = None, stop: int | None = None) -> int:
        low, high = self._range(start, stop)
        if low > high:
            return -1
        found = self._find(sub.encode("utf-8", "replace"), self._byte_of(low), self._byte_of(high))
        return -1 if found < 0 else self._char_of(found)

    def rfind(self, sub: str, start: int | None = None, stop: int | None = None) -> int:
        low, high = self._range(start, stop)
        if low > high:
            return -1
        needle = sub.encode("utf-8", "replace")
        first, last = self._byte_of(low), self._byte_of(high)
        while True:
            at = max(first, last - WINDOW - len(needle))
            found = self._read(at, last).rfind(needle)
            if found >= 0:
                return self._char_of(at + found)
            if at == first:
                return -1
            last = at + len(needle) - 1

    def index(self, sub: str, start: int | None = None, stop: int | None = None) -> int:
        found = self.find(sub, start, stop)
        if found < 0:
            raise ValueError("substring not found")
        return found

    def rindex(self, sub: str, start: int | None = None, stop: int | None = None) -> int:
        found = self.rfind(sub, start, stop)
        if found < 0:
            raise ValueError("substring not found")
        return found

    def count(self, sub: str, start: int | None = None, stop: int | None = None) -> int:
        low, high = self._range(start, stop)
        if not sub:
            return high - low + 1 if low <= high else 0
        needle = sub.encode("utf-8", "replace")
        at, last, total = self._byte_of(low), self._byte_of(high), 0
        # Where a part can overlap the next (as in "aa"), counting has to go on exactly behind the last one counted.
        overlaps = any(needle.startswith(needle[shift:]) for shift in range(1, len(needle)))
        while at < last:
            data = self._read(at, min(at + WINDOW + len(needle), last))
            if overlaps:
                pieces = data.split(needle)
                total += len(pieces) - 1
                after = len(data) - len(pieces[-1]) if len(pieces) > 1 else 0
            else:
                total += data.count(needle)
                after = data.rfind(needle) + len(needle)
            if at + len(data) >= last:
                break
            at += max(after, len(data) - len(needle) + 1)
        return total

    def startswith(self, prefix: str | tuple[str, ...], start: int | None = None, stop: int | None = None) -> bool:
        low, high = self._range(start, stop)
        options = (prefix,) if isinstance(prefix, str) else prefix
        return any(low + len(p) <= high and self._take(low, low + len(p)) == p for p in options)

    def endswith(self, suffix: str | tuple[str, ...], start: int | None = None, stop: int | None = None) -> bool:
        low, high = self._range(start, stop)
        options = (suffix,) if isinstance(suffix, str) else suffix
        return any(low + len(s) <= high and self._take(high - len(s), high) == s for s in options)

    def splitlines(self, keepends: bool = False) -> Series[str]:
        """The lines, read as they are gone through."""
        return Series(lambda: self._lines(keepends, last=False), "lines")

    def split(self, sep: str | None = None, maxsplit: int = -1) -> Series[Any]:
        """The parts between separators (None: white space), read as they are gone through."""
        if sep == "":
            raise ValueError("empty separator")
        if maxsplit >= 0:
            _refuse("split with a limit", "position = context.find(sep), then slice")
        if sep == "\n":
            return Series(lambda: self._lines(False, last=True), "lines")
        if sep is None:
            return Series(lambda: (match[0] for match in self.finditer(r"\S+")), "words")
        return Series(lambda: self._split(sep), "parts")

    # as methods, because the prompt says so and models try it

    def finditer(self, pattern: Any, flags: int = 0) -> Iterator[Match]:
        return re.finditer(pattern, self, flags)  # type: ignore[no-any-return]

    def findall(self, pattern: Any, flags: int = 0) -> list[Any]:
        return re.findall(pattern, self, flags)  # type: ignore[no-any-return]

    def search(self, pattern: Any, flags: int = 0) -> Match | None:
        return re.search(pattern, self, flags)  # type: ignore[no-any-return]

    # what would copy all of it

    def __repr__(self) -> str:
        return f"<lazy text of {len(self):,} characters: slice it, as in context[:2000]>"

    def __str__(self) -> str:
        _refuse("str() or print() of all of it", "a slice: context[:2000]")

    def __format__(self, spec: str) -> str:
        _refuse("an f-string with all of it", "a slice, {context[:2000]}, or llm_query(prompt, context=...)")

    def __iter__(self) -> NoReturn:
        _refuse("going through it character by character", "for line in context.splitlines()")

    def __add__(self, other: object) -> NoReturn:
        _refuse("+ with all of it", "a slice: context[:2000] + ..., or llm_query(prompt, context=...)")

    __radd__ = __add__

    def __mod__(self, other: object) -> NoReturn:
        _refuse("% with all of it", "a slice: context[:2000]")

    def __mul__(self, other: object) -> NoReturn:
        _refuse("* with all of it", "a slice: context[:2000]")

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_") or not hasattr(str, name):
            raise AttributeError(f"text has no attribute {name!r}")
        raise AttributeError(
            f"context.{name}() would copy {len(self):,} characters: use re.finditer(pattern, context, re.I),"
            f" or line.{name}() for each line in context.splitlines()"
        )

    # offsets: characters and bytes of this text, which may be several slices of the corpus

    def _range(self, start: int | None, stop: int | None) -> tuple[int, int]:
        """`start` and `stop` as `str.find` reads them: negative from the end; a start behind the end finds nothing."""
        low, high, _ = slice(start, stop).indices(len(self))
        return (len(self) + 1 if start is not None and start > len(self) else low), high

    def _part(self, start: int, stop: int) -> str | Text:
        if stop - start <= SLICE:
            return self._take(start, stop)
        return Text(self._corpus, self._cut(start, stop))

    def _take(self, start: int, stop: int) -> str:
        return "".join(self._corpus.text(low, high) for low, high in self._cut(start, stop))

    def _cut(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The characters [start, stop) of this text as slices of the corpus."""
        spans = []
        for index in range(max(bisect_right(self._chars, start) - 1, 0), len(self.spans)):
            begin, before = self.spans[index][0], self._chars[index]
            if before >= stop:
                break
            low, high = max(start, before), min(stop, self._chars[index + 1])
            if low < high:
                spans.append((begin + low - before, begin + high - before))
        return spans

    def _read(self, start: int, stop: int) -> bytes:
        pieces = []
        for index in range(max(bisect_right(self._bytes, start) - 1, 0), len(self.spans)):
            begin, before = self._low[index], self._bytes[index]
            if before >= stop:
                break
            low, high = max(start, before), min(stop, self._bytes[index + 1])
            pieces.append(self._corpus.read(begin + low - before, begin + high - before))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _byte_of(self, char: int) -> int:
        if char >= len(self):
            return self._bytes[-1]
        index = bisect_right(self._chars, char) - 1
        at = self._corpus.byte_of(self.spans[index][0] + char - self._chars[index])
        return at - self._low[index] + self._bytes[index]

    def _char_of(self, byte: int) -> int:
        if byte >= self._bytes[-1]:
            return len(self)
        index = bisect_right(self._bytes, byte) - 1
        at = self._corpus.char_of(self._low[index] + byte - self._bytes[index])
        return at - self.spans[index][0] + self._chars[index]

    def _find(self, needle: bytes, start: int, stop: int) -> int:
        if not needle:
            return start
        step = max(WINDOW, 4 * len(needle))
        for low in range(start, stop - len(needle) + 1, step):
            found = self._read(low, min(low + step + len(needle) - 1, stop)).find(needle)
            if found >= 0:
                return low + found
        return -1

    def _lines(self, keepends: bool, last: bool) -> Iterator[str]:
        """Lines in order; `last`: also the empty one behind a final newline, as `str.split` gives."""
        rest: list[bytes] = []
        for low in range(0, self._bytes[-1], WINDOW):
            head, newline, tail = self._read(low, min(low + WINDOW, self._bytes[-1])).rpartition(b"\n")
            if newline:
                for line in b"".join((*rest, head)).decode().split("\n"):
                    yield line + "\n" if keepends else line
                rest = []
            rest.append(tail)
        end = b"".join(rest).decode()
        if end or last:
            yield end

    def _split(self, sep: str) -> Iterator[str | Text]:
        needle = sep.encode("utf-8", "replace")
        low = char = 0
        while (found := self._find(needle, low, self._bytes[-1])) >= 0:
            stop = self._char_of(found)
            yield self._part(char, stop)
            low, char = found + len(needle), stop + len(sep)
        yield self._part(char, len(self))


def _refuse(what: str, instead: str) -> NoReturn:
    # Not TypeError: str.join would replace its words by its own.
    raise ValueError(f"{what} would copy the whole corpus; use {instead}")


class Series(Sequence[T]):
    """Parts of a text in order, made anew each time they are gone through; `len` and an index go through them too."""

    def __init__(self, parts: Callable[[], Iterator[T]], what: str) -> None:
        self._parts = parts
        self._what = what
        self._count: int | None = None

    def __iter__(self) -> Iterator[T]:
        return self._parts()

    def __len__(self) -> int:
        if self._count is None:
            self._count = sum(1 for _ in self._parts())
        return self._count

    def __bool__(self) -> bool:
        return next(self._parts(), None) is not None

    @overload
    def __getitem__(self, key: int) -> T: ...
    @overload
    def __getitem__(self, key: slice) -> list[T]: ...
    def __getitem__(self, key: int | slice) -> T | list[T]:
        if isinstance(key, slice):
            ahead = all(part is None or part >= 0 for part in (key.start, key.stop)) and (key.step or 1) > 0
            if ahead:
                return list(islice(self._parts(), key.start, key.stop, key.step))
            places = range(*key.indices(len(self)))
            if not places:
                return []
            low, high = min(places[0], places[-1]), max(places[0], places[-1]) + 1
            part = list(islice(self._parts(), low, high))
            return part[:: places.step]
        position = key + len(self) if key < 0 else key
        if position >= 0:
            for found in islice(self._parts(), position, None):
                return found
        raise IndexError("list index out of range")

    def __repr__(self) -> str:
        return f"<lazy sequence of {self._what}: go through it with for>"


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

    def finditer(self, string: str | Text, pos: int = 0, endpos: int | None = None) -> Iterator[Any]:
        if not isinstance(string, Text):
            return self._pattern.finditer(string, pos, len(string) if endpos is None else endpos)
        return self._windows(string, pos, endpos)

    def findall(self, string: str | Text, pos: int = 0, endpos: int | None = None) -> list[Any]:
        if not isinstance(string, Text):
            return self._pattern.findall(string, pos, len(string) if endpos is None else endpos)
        groups = self._pattern.groups
        found = self._windows(string, pos, endpos)
        if groups == 0:
            return [match[0] for match in found]
        return [match.groups("")[0] if groups == 1 else match.groups("") for match in found]

    def search(self, string: str | Text, pos: int = 0, endpos: int | None = None) -> Any:
        return next(self.finditer(string, pos, endpos), None)

    def match(self, string: str | Text, pos: int = 0, endpos: int | None = None) -> Any:
        if not isinstance(string, Text):
            return self._pattern.match(string, pos, len(string) if endpos is None else endpos)
        low, high = max(pos - BEHIND, 0), min(len(string) if endpos is None else endpos, pos + WINDOW + AHEAD)
        match = self._pattern.match(string._take(low, high), pos - low)
        return match and Match(match, low, string)

    def fullmatch(self, string: str | Text, pos: int = 0, endpos: int | None = None) -> Any:
        if not isinstance(string, Text):
            return self._pattern.fullmatch(string, pos, len(string) if endpos is None else endpos)
        _refuse("re.fullmatch of all of it", "re.search, or fullmatch on each line of context.splitlines()")

    def split(self, string: str | Text, maxsplit: int = 0) -> Any:
        if not isinstance(string, Text):
            return self._pattern.split(string, maxsplit)
        return Series(lambda: self._pieces(string, maxsplit), "parts")

    def sub(self, repl: Any, string: str | Text, count: int = 0) -> str:
        if not isinstance(string, Text):
            return self._pattern.sub(repl, string, count)
        _refuse("re.sub on all of it", "re.sub on a slice, or on each line of context.splitlines()")

    def subn(self, repl: Any, string: str | Text, count: int = 0) -> tuple[str, int]:
        if not isinstance(string, Text):
            return self._pattern.subn(repl, string, count)
        _refuse("re.subn on all of it", "re.subn on a slice, or on each line of context.splitlines()")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pattern, name)

    def __eq__(self, other: object) -> bool:
        return bool(_bare(other) == self._pattern)

    def __hash__(self) -> int:
        return hash(self._pattern)

    def __repr__(self) -> str:
        return repr(self._pattern)

    def _windows(self, text: Text, pos: int, endpos: int | None) -> Iterator[Match]:
        """Matches window by window. A match counts for the window it begins in; the text around the window is part of
        what the pattern sees, so anchors, word borders and lookarounds mean what they mean in one string."""
        size = len(text) if endpos is None else max(min(endpos, len(text)), 0)
        at = max(pos, 0)
        while at <= size:
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
                yield Match(match, low, text)
            at = low + reached

    def _pieces(self, text: Text, maxsplit: int) -> Iterator[Any]:
        at = 0
        for match in islice(self._windows(text, 0, None), maxsplit or None):
            yield text._part(at, match.start())
            yield from match.groups()
            at = match.end()
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


def _bare(pattern: Any) -> Any:
    return pattern._pattern if isinstance(pattern, Pattern) else pattern


re = LazyRe("re")


class Doc:
    """One document in the REPL: `path`, `chars`, and, read when asked for, `text`, `lines`, `pages`.

    Where the REPL holds slices of the corpus, it is the part of the document they touch.
    """

    def __init__(self, corpus: Corpus, document: Document, spans: Spans) -> None:
        self._corpus = corpus
        self._document = document
        self._spans = _clip(spans, document.start, document.stop)
        self.path = document.path
        self.chars = sum(stop - start for start, stop in self._spans)

    @property
    def text(self) -> str | Text:
        text = Text(self._corpus, self._spans)
        return text._part(0, len(text))

    @property
    def lines(self) -> Sequence[str]:
        text = Text(self._corpus, self._spans)
        return text.splitlines() if self.chars > SLICE else list(text.splitlines())

    @property
    def pages(self) -> list[str]:
        """The text of each page; empty where the document has none."""
        parts = (_clip(self._spans, start, stop) for start, stop in self._corpus.page_spans(self._document))
        return ["".join(self._corpus.text(*span) for span in part) for part in parts]

    def __len__(self) -> int:
        return self.chars

    def __repr__(self) -> str:
        pages = f", {self._document.pages} pages" if self._document.pages else ""
        return f"<{self.path}: {self.chars:,} characters{pages}; .text .lines .pages>"


class Docs(Sequence[Doc]):
    """`docs` in the REPL: the documents its slices touch, in order, by number or by path."""

    def __init__(self, corpus: Corpus, spans: Spans | None = None) -> None:
        self._corpus = corpus
        self._spans = sorted(((0, corpus.chars),) if spans is None else spans)
        self._indexes: Sequence[int] = range(len(corpus.documents)) if spans is None else self._touched()
        self._by_path: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._indexes)

    @overload
    def __getitem__(self, key: int | str) -> Doc: ...
    @overload
    def __getitem__(self, key: slice) -> list[Doc]: ...
    def __getitem__(self, key: int | str | slice) -> Doc | list[Doc]:
        if isinstance(key, slice):
            return [self[number] for number in range(*key.indices(len(self)))]
        if isinstance(key, str):
            return self._named(key)
        return Doc(self._corpus, self._corpus.documents[self._indexes[key]], self._spans)

    def __contains__(self, item: object) -> bool:
        return item in self._paths() if isinstance(item, str) else item in list(self)

    def get(self, path: str, default: Any = None) -> Any:
        """As `dict.get`."""
        number = self._paths().get(path)
        return default if number is None else self[number]

    def keys(self) -> list[str]:
        """The paths, as `dict.keys`."""
        return list(self._paths())

    def __repr__(self) -> str:
        shown = ", ".join(doc.path for doc in self[:3])
        more = f", … {len(self) - 3:,} more" if len(self) > 3 else ""
        return f"<{len(self):,} documents: {shown}{more}; docs[0] or docs[path], .path .text .lines .pages .chars>"

    def _named(self, path: str) -> Doc:
        paths = self._paths()
        if path not in paths:
            close = [other for other in paths if other.endswith("/" + path)][:3]
            close = close or get_close_matches(path, paths, 3, 0.5)
            hint = f"; close: {', '.join(map(repr, close))}" if close else ""
            raise KeyError(f"no document {path!r}{hint}")
        return self[paths[path]]

    def _paths(self) -> dict[str, int]:
        if not self._by_path:
            self._by_path = {self._corpus.documents[index].path: number for number, index in enumerate(self._indexes)}
        return self._by_path

    def _touched(self) -> list[int]:
        starts, stops, count = self._corpus.column("start"), self._corpus.column("stop"), len(self._corpus.documents)
        touched: set[int] = set()
        for start, stop in self._spans:
            first = bisect_right(stops, start, 0, count)
            touched.update(index for index in range(first, bisect_right(starts, stop - 1, 0, count)))
        return sorted(touched)


def _clip(spans: Spans, start: int, stop: int) -> list[tuple[int, int]]:
    """The parts of the spans that lie within [start, stop)."""
    clipped = ((max(low, start), min(high, stop)) for low, high in spans)
    return [(low, high) for low, high in clipped if low < high]
