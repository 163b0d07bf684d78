"""`Text`: text of the corpus that is not in memory, with the manners of a `str`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NoReturn, TypeVar, overload

from ..corpus import WINDOW, Corpus

SLICE = 16 << 20
"""Characters; a slice up to here is a `str`, a longer one a `Text`."""
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
                refuse("a step over this much text", "step through a slice: context[:1_000_000][::2]")
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
        found = self._find(_needle(sub), self._byte_of(low), self._byte_of(high))
        return -1 if found < 0 else self._char_of(found)

    def rfind(self, sub: str, start: int | None = None, stop: int | None = None) -> int:
        low, high = self._range(start, stop)
        if low > high:
            return -1
        needle = _needle(sub)
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
        needle = _needle(sub)
        at, last, total = self._byte_of(low), self._byte_of(high), 0
        # Where a part can overlap the next (as in "aa"), counting has to go on exactly behind the last one counted.
        overlaps = len(needle) > 1_000 or any(needle.startswith(needle[shift:]) for shift in range(1, len(needle)))
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
            refuse("split with a limit", "position = context.find(sep), then slice")
        if sep == "\n":
            return Series(lambda: self._lines(False, last=True), "lines")
        if sep is None:
            return Series(lambda: (match[0] for match in self.finditer(r"\S+")), "words")
        return Series(lambda: self._split(sep), "parts")

    # as methods, because the prompt says so and models try it

    def finditer(self, pattern: Any, flags: int = 0) -> Any:
        from .regex import re

        return re.finditer(pattern, self, flags)

    def findall(self, pattern: Any, flags: int = 0) -> Any:
        from .regex import re

        return re.findall(pattern, self, flags)

    def search(self, pattern: Any, flags: int = 0) -> Any:
        from .regex import re

        return re.search(pattern, self, flags)

    # what would copy all of it

    def __repr__(self) -> str:
        return f"<lazy text of {len(self):,} characters: slice it, as in context[:2000]>"

    def __str__(self) -> str:
        refuse("str() or print() of all of it", "a slice: context[:2000]")

    def __format__(self, spec: str) -> str:
        refuse("an f-string with all of it", "a slice, {context[:2000]}, or llm_query(prompt, context=...)")

    def __iter__(self) -> NoReturn:
        refuse("going through it character by character", "for line in context.splitlines()")

    def __add__(self, other: object) -> NoReturn:
        refuse("+ with all of it", "a slice: context[:2000] + ..., or llm_query(prompt, context=...)")

    __radd__ = __add__

    def __mod__(self, other: object) -> NoReturn:
        refuse("% with all of it", "a slice: context[:2000]")

    def __mul__(self, other: object) -> NoReturn:
        refuse("* with all of it", "a slice: context[:2000]")

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
        needle = _needle(sep)
        low = char = 0
        while (found := self._find(needle, low, self._bytes[-1])) >= 0:
            stop = self._char_of(found)
            yield self._part(char, stop)
            low, char = found + len(needle), stop + len(sep)
        yield self._part(char, len(self))


def _needle(text: str) -> bytes:
    """What to look for; a lone surrogate is found nowhere, for the corpus has none."""
    return text.encode("utf-8", "surrogatepass")


def refuse(what: str, instead: str) -> NoReturn:
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
