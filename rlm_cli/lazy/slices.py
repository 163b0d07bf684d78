"""Slices of the corpus, one after the other, as one run of text: offsets and reading, for `text.py` and `parts.py`."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import cached_property

from ..corpus import WINDOW, Corpus

NEAR = 1 << 14
"""Characters read ahead for who goes on where the last slice ended, as loops over `context[i]` do."""
Spans = Sequence[tuple[int, int]]
"""Slices of the corpus, [start, stop) in characters."""


class Slices:
    """Text at `spans`; `chars` and `bytes` of it count from 0, whatever lies between the slices."""

    def __init__(self, corpus: Corpus, spans: Spans) -> None:
        self.corpus = corpus
        self.spans = tuple((start, stop) for start, stop in spans if start < stop)
        self._chars, self._bytes, self._low = [0], [0], []
        for start, stop in self.spans:
            low = corpus.byte_of(start)
            self._low.append(low)
            self._chars.append(self._chars[-1] + stop - start)
            self._bytes.append(self._bytes[-1] + corpus.byte_of(stop) - low)
        self.chars, self.bytes = self._chars[-1], self._bytes[-1]
        self._near = 0, ""
        self._reached = 0

    def take(self, start: int, stop: int) -> str:
        """The characters [start, stop)."""
        if start >= stop:
            return ""
        base, near = self._near
        if base <= start and stop <= base + len(near):
            return near[start - base : stop - base]
        if max(stop - start, abs(start - self._reached)) > NEAR // 4:
            self._reached = stop
            return self._decoded(start, stop)
        near = self._decoded(start, start + NEAR)
        self._near, self._reached = (start, near), start + len(near)
        return near[: stop - start]

    def cut(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The characters [start, stop) as slices of the corpus."""
        spans = []
        for index in range(max(bisect_right(self._chars, start) - 1, 0), len(self.spans)):
            begin, before = self.spans[index][0], self._chars[index]
            if before >= stop:
                break
            low, high = max(start, before), min(stop, self._chars[index + 1])
            if low < high:
                spans.append((begin + low - before, begin + high - before))
        return spans

    def read(self, start: int, stop: int) -> bytes:
        """The bytes [start, stop)."""
        pieces = []
        for index in range(max(bisect_right(self._bytes, start) - 1, 0), len(self.spans)):
            begin, before = self._low[index], self._bytes[index]
            if before >= stop:
                break
            low, high = max(start, before), min(stop, self._bytes[index + 1])
            pieces.append(self.corpus.read(begin + low - before, begin + high - before))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def find(self, needle: bytes, start: int, stop: int) -> int:
        """`bytes.find` within [start, stop), a window at a time."""
        if not needle:
            return start
        step = max(WINDOW, 4 * len(needle))
        for low in range(start, stop - len(needle) + 1, step):
            found = self.read(low, min(low + step + len(needle) - 1, stop)).find(needle)
            if found >= 0:
                return low + found
        return -1

    def byte_of(self, char: int) -> int:
        """The byte at which a character begins."""
        if char >= self.chars:
            return self.bytes
        index = bisect_right(self._chars, char) - 1
        at = self.corpus.byte_of(self.spans[index][0] + char - self._chars[index])
        return at - self._low[index] + self._bytes[index]

    def char_of(self, byte: int) -> int:
        """The character that begins at a byte."""
        if byte >= self.bytes:
            return self.chars
        index = bisect_right(self._bytes, byte) - 1
        at = self.corpus.char_of(self._low[index] + byte - self._bytes[index])
        return at - self.spans[index][0] + self._chars[index]

    @property
    def newlines(self) -> int:
        return self._newlines[0][-1]

    def line_start(self, number: int) -> int:
        """The byte at which a line begins; lines count from 0, and there is none behind number `newlines`."""
        if not number:
            return 0
        counts, before = self._newlines
        index = bisect_left(counts, number) - 1
        at = self.corpus.line_start(before[index] + number - counts[index])
        return at - self._low[index] + self._bytes[index]

    @cached_property
    def _newlines(self) -> tuple[list[int], list[int]]:
        """Newlines of this text before each slice and at the end; newlines of the corpus before each slice."""
        counts, before = [0], []
        for index, low in enumerate(self._low):
            before.append(self.corpus.newlines(low))
            stop = low + self._bytes[index + 1] - self._bytes[index]
            counts.append(counts[-1] + self.corpus.newlines(stop) - before[-1])
        return counts, before

    def _decoded(self, start: int, stop: int) -> str:
        return "".join(self.corpus.text(low, high) for low, high in self.cut(start, stop))
