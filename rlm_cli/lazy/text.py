"""`Text`: text of the corpus that is not in memory, with the manners of a `str`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from operator import index
from typing import Any, NoReturn, overload

from ..corpus import WINDOW, Corpus
from .parts import SLICE, Lines, Series, refuse
from .slices import Slices, Spans

MOST_SINGLE = 10_000_000
"""Characters taken one by one, in some 10 s, until the spelling is named that takes a hundredth of the time."""
LONGEST_WORD = 32 << 20
"""Bytes."""


def view(corpus: Corpus, spans: Spans | None = None, memory_limit: int = 256 << 20) -> str | Text:
    """The value of `context`: the spans one after the other (None: the whole corpus), as `str` while that takes at most
    `memory_limit` bytes by the widest character of the corpus, else as `Text`."""
    text = Text(corpus, (corpus.whole,) if spans is None else spans)
    return text._take(0, len(text)) if len(text) * corpus.char_width <= memory_limit else text


class Text:
    """Text of the corpus that is not in memory: what a `str` is, as far as a `str` can be without holding it."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, corpus: Corpus, spans: Spans) -> None:
        self._slices = Slices(corpus, spans)
        self._take = self._slices.take
        self._singles = 0

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """The slices of the corpus it is made of, in characters."""
        return self._slices.spans

    @property
    def span(self) -> tuple[int, int]:
        """The slice of the corpus it is. Raises `ValueError` when it is made of several."""
        if len(self.spans) != 1:
            raise ValueError("this text is made of several slices of the corpus")
        return self.spans[0]

    # what a str does

    def __len__(self) -> int:
        return self._slices.chars

    def __bool__(self) -> bool:
        return len(self) > 0

    @overload
    def __getitem__(self, key: int) -> str: ...
    @overload
    def __getitem__(self, key: slice) -> str | Text: ...
    def __getitem__(self, key: int | slice) -> str | Text:
        if isinstance(key, slice):
            return self._sliced(key)
        key = index(key)
        position = key + len(self) if key < 0 else key
        if not 0 <= position < len(self):
            raise IndexError("string index out of range")
        self._singles += 1
        if self._singles > MOST_SINGLE:
            self._singles = 0
            raise ValueError(
                f"context[i], {MOST_SINGLE:,} times, is slow; use pieces, part = context[i : i + 1_000_000], or"
                " for line in context.splitlines()"
            )
        return self._take(position, position + 1)

    def __contains__(self, part: str) -> bool:
        return self.find(part) >= 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (str, Text)):
            return NotImplemented
        if len(self) != len(other):
            return False
        lows = range(0, len(self), WINDOW)
        return all(self[low : low + WINDOW] == other[low : low + WINDOW] for low in lows)

    def find(self, sub: str, start: int | None = None, stop: int | None = None) -> int:
        low, high = self._range(start, stop)
        needle = _needle(sub)
        if low > high:
            return -1
        found = self._slices.find(needle, self._slices.byte_of(low), self._slices.byte_of(high))
        return -1 if found < 0 else self._slices.char_of(found)

    def rfind(self, sub: str, start: int | None = None, stop: int | None = None) -> int:
        low, high = self._range(start, stop)
        needle = _needle(sub)
        if low > high:
            return -1
        first, last = self._slices.byte_of(low), self._slices.byte_of(high)
        while True:
            at = max(first, last - WINDOW - len(needle))
            found = self._slices.read(at, last).rfind(needle)
            if found >= 0:
                return self._slices.char_of(at + found)
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
        needle = _needle(sub)
        if not needle:
            return high - low + 1 if low <= high else 0
        at, last, total = self._slices.byte_of(low), self._slices.byte_of(high), 0
        # Where a part can overlap the next (as in "aa"), counting has to go on exactly behind the last one counted.
        overlaps = len(needle) > 1_000 or any(needle.startswith(needle[shift:]) for shift in range(1, len(needle)))
        while at < last:
            data = self._slices.read(at, min(at + WINDOW + len(needle), last))
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
        options = prefix if isinstance(prefix, tuple) else (prefix,)
        return any(low + len(p) <= high and self[low : low + len(p)] == p for p in options)

    def endswith(self, suffix: str | tuple[str, ...], start: int | None = None, stop: int | None = None) -> bool:
        low, high = self._range(start, stop)
        options = suffix if isinstance(suffix, tuple) else (suffix,)
        return any(low + len(s) <= high and self[high - len(s) : high] == s for s in options)

    def splitlines(self, keepends: bool = False) -> Lines:
        """The lines, read as they are gone through."""
        return Lines(self, keepends, last=False)

    def split(self, sep: str | None = None, maxsplit: int = -1) -> Lines | Series[Any]:
        """The parts between separators (None: white space), read as they are gone through."""
        if sep is not None and not _needle(sep):
            raise ValueError("empty separator")
        if sep == "\n" and maxsplit < 0:
            return Lines(self, False, last=True)
        if sep is not None and maxsplit >= 0:
            return Series(lambda: self._first_parts(sep, maxsplit), "parts")
        if sep is not None:
            return Series(lambda: self._split(sep), "parts", lambda: self.count(sep) + 1)
        if maxsplit >= 0:
            return Series(lambda: self._first_words(maxsplit), "words")
        return Series(self._words, "words", lambda: sum(len(piece.split()) for piece in self._pieces()))

    def rsplit(self, sep: str | None = None, maxsplit: int = -1) -> list[str | Text]:
        """As `str.rsplit`, with a separator and a limit."""
        if sep is None or not 0 <= maxsplit <= 1000:
            refuse("rsplit without a separator and a limit", "context.split(…)")
        parts: list[str | Text] = []
        high = len(self)
        while len(parts) < maxsplit and (found := self.rfind(sep, 0, high)) >= 0:
            parts.append(self._part(found + len(sep), high))
            high = found
        return [self._part(0, high), *reversed(parts)]

    def partition(self, sep: str) -> tuple[str | Text, str, str | Text]:
        at = self.find(sep)
        return (self._part(0, len(self)), "", "") if at < 0 else self._around(at, sep)

    def rpartition(self, sep: str) -> tuple[str | Text, str, str | Text]:
        at = self.rfind(sep)
        return ("", "", self._part(0, len(self))) if at < 0 else self._around(at, sep)

    def strip(self, chars: str | None = None) -> str | Text:
        return self._part(*self._stripped(chars, left=True, right=True))

    def lstrip(self, chars: str | None = None) -> str | Text:
        return self._part(*self._stripped(chars, left=True, right=False))

    def rstrip(self, chars: str | None = None) -> str | Text:
        return self._part(*self._stripped(chars, left=False, right=True))

    def removeprefix(self, prefix: str) -> str | Text:
        return self._part(len(prefix) if self.startswith(prefix) else 0, len(self))

    def removesuffix(self, suffix: str) -> str | Text:
        return self._part(0, len(self) - (len(suffix) if self.endswith(suffix) else 0))

    def __add__(self, other: object) -> Text:
        if isinstance(other, Text) and other._slices.corpus is self._slices.corpus:
            return Text(self._slices.corpus, self.spans + other.spans)
        refuse("+ with all of it", "a slice: context[:2000] + ..., or llm_query(prompt, context=...)")

    def __str__(self) -> str:
        if not _there_is_room(self._slices.bytes + len(self) * (1 + self._slices.corpus.char_width)):
            refuse("str() or print() of all of it", "a slice: context[:2000]")
        return self._take(0, len(self))

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

    def __format__(self, spec: str) -> str:
        refuse("an f-string with all of it", "a slice, {context[:2000]}, or llm_query(prompt, context=...)")

    def __iter__(self) -> NoReturn:
        refuse("going through it character by character", "for line in context.splitlines()")

    __reversed__ = __iter__

    def __radd__(self, other: object) -> NoReturn:
        refuse("+ with all of it", "a slice: ... + context[:2000], or llm_query(prompt, context=...)")

    def __mod__(self, other: object) -> NoReturn:
        refuse("% with all of it", "a slice: context[:2000]")

    def __mul__(self, other: object) -> NoReturn:
        refuse("* with all of it", "a slice: context[:2000]")

    __rmul__ = __mul__

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(f"text has no attribute {name!r}")
        if not hasattr(str, name):
            raise AttributeError(
                f"context is text and has no {name!r}: slice it; .text .lines .pages .path are of docs[i]"
            )
        anyhow = "re.finditer(pattern, context, re.I), or " if name in ("lower", "upper", "casefold") else ""
        raise AttributeError(
            f"context.{name}() would go over {len(self):,} characters: use {anyhow}line.{name}(...) for each line in"
            f" context.splitlines(), or context[:2000].{name}(...)"
        )

    # the same for all

    def _range(self, start: int | None, stop: int | None) -> tuple[int, int]:
        """`start` and `stop` as `str.find` reads them: negative from the end; a start behind the end finds nothing."""
        low, high, _ = slice(start, stop).indices(len(self))
        return (len(self) + 1 if start is not None and start > len(self) else low), high

    def _part(self, start: int, stop: int) -> str | Text:
        if stop - start <= SLICE:
            return self._take(start, stop)
        return Text(self._slices.corpus, self._slices.cut(start, stop))

    def _sliced(self, key: slice) -> str | Text:
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

    def _around(self, at: int, sep: str) -> tuple[str | Text, str, str | Text]:
        return self._part(0, at), sep, self._part(at + len(sep), len(self))

    def _stripped(self, chars: str | None, left: bool, right: bool) -> tuple[int, int]:
        low, high = 0, len(self)
        while left and low < high:
            part = self._take(low, min(low + WINDOW, high))
            kept = len(part.lstrip(chars))
            low += len(part) - kept
            left = not kept
        while right and low < high:
            part = self._take(max(high - WINDOW, low), high)
            kept = len(part.rstrip(chars))
            high -= len(part) - kept
            right = not kept
        return low, high

    def _split(self, sep: str) -> Iterator[str | Text]:
        slices, needle, low = self._slices, _needle(sep), 0
        while True:
            data = slices.read(low, min(low + WINDOW + len(needle), slices.bytes))
            *parts, last = data.split(needle)
            yield from [part.decode() for part in parts]
            if low + len(data) == slices.bytes:
                yield last.decode()
                return
            if parts:
                low += len(data) - len(last)
                continue
            found = slices.find(needle, low, slices.bytes)
            yield self._part(slices.char_of(low), slices.char_of(found) if found >= 0 else len(self))
            if found < 0:
                return
            low = found + len(needle)

    def _first_parts(self, sep: str, most: int) -> Iterator[str | Text]:
        at = 0
        while most and (found := self.find(sep, at)) >= 0:
            yield self._part(at, found)
            at = found + len(sep)
            most -= 1
        yield self._part(at, len(self))

    def _words(self) -> Iterator[str]:
        for piece in self._pieces():
            yield from piece.split()

    def _first_words(self, most: int) -> Iterator[str | Text]:
        at = 0
        for match in islice(self.finditer(r"\S+"), most):
            yield match[0]
            at = match.end()
        rest = Text(self._slices.corpus, self._slices.cut(at, len(self))).lstrip()
        if rest:
            yield rest

    def _pieces(self) -> Iterator[str]:
        """All of it in pieces that end at white space, or at its end."""
        low, rest = 0, b""
        while low < self._slices.bytes:
            data = rest + self._slices.read(low, low + WINDOW)
            low += WINDOW
            end = max(data.rfind(b"\n"), data.rfind(b" ")) + 1 if low < self._slices.bytes else len(data)
            if not end and len(data) > LONGEST_WORD:
                refuse("a word of many megabytes", "a slice of the text, context[a:b]")
            yield data[:end].decode()
            rest = data[end:]


Text.__module__ = "builtins"
Text.__name__ = Text.__qualname__ = "lazy text; use a slice, context[a:b], its .splitlines(), or str(context)"
"""What C code says it was given when it wants a `str`: at most 80 characters of it are shown."""


def _needle(text: str) -> bytes:
    """What to look for; a lone surrogate is found nowhere, for the corpus has none."""
    if not isinstance(text, str):
        raise TypeError(f"what to look for is a str, not {type(text).__name__}")
    return text.encode("utf-8", "surrogatepass")


def _there_is_room(size: int) -> bool:
    """Whether as many bytes of memory can be had. Zeros that nobody looks at take none."""
    try:
        return bool(bytes(size)) or not size
    except MemoryError:
        return False
