"""What the host can prove: where a quote stands (`locate`) and what of the corpus models were shown (`Coverage`).

Coverage is a lower bound: lines that were shown in a changed form are not recognised, a line that stands in several
places counts once, and after `SCAN` bytes of searching only what continues the last match is found.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from .corpus import Corpus
from .quotes import find
from .result import Citation, Located, Quote

SCAN = 16 << 30
"""Bytes that `Coverage` may search in one run."""
NO_QUOTE = "it has no quote: --strict wants at least one that proves it"
TOLD = 5
"""Quotes that `--strict` names."""
_NUMBER = re.compile(rb"\s*\d{1,9}[:.)|\]]?[ \t]+")
_WHITE = b" \t\n\r\v\f"
ANCHOR = 12
"""Characters, white space apart, that a line needs to be looked for on its own."""


def locate(corpus: Corpus, quote: Quote, n: int) -> Citation:
    """Find the quote in the corpus; never raises for what a model wrote.

    `path` is where the words really stand, whatever document the quote names. `matches` counts what was found there.
    """
    hits, difference = find(corpus, quote.text, quote.path)
    if not hits:
        return Citation(n, quote.text, Located.NO)
    if len({hit.document for hit in hits}) > 1:
        return Citation(n, quote.text, Located.AMBIGUOUS, difference=difference, matches=len(hits))
    first = hits[0]
    begin = corpus.place(corpus.char_of(first.start))
    last = begin.line + corpus.newlines(first.stop - 1) - corpus.newlines(first.start)
    located = Located.EXACT if difference is None else Located.APPROXIMATE
    return Citation(n, quote.text, located, begin.path, begin.page, (begin.line, last), difference, len(hits))


def unproved(citations: Sequence[Citation]) -> str:
    """What `--strict` has against an answer with these quotes; empty = nothing."""
    told = {Located.NO: "is not in the documents", Located.AMBIGUOUS: "is in several documents"}
    bad = [f"quote [{c.n}] {told[c.located]}" for c in citations if c.located in told]
    return "; ".join(bad[:TOLD]) if citations else NO_QUOTE


class Coverage:
    """Which lines of the documents stood in prompts and print-outs. One thread at a time.

    Memory: one interval for each stretch of lines that was seen, one byte a document.
    """

    def __init__(self, corpus: Corpus, scan: int = SCAN) -> None:
        self.lines_seen = 0
        self._corpus = corpus
        self._left = scan
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._documents = bytearray(len(corpus.documents))
        self._after = 0
        self._absent: set[int] = set()

    @property
    def documents_seen(self) -> int:
        documents = self._corpus.documents
        seen = {documents[n].sha256 for n in range(len(documents)) if self._documents[n]}
        return sum(document.sha256 in seen for document in documents)  # of two with the same bytes one is shown

    def saw_all(self) -> None:
        """The whole text was shown."""
        self._mark(0, self._corpus.bytes)

    def saw(self, text: str) -> None:
        """`text` was shown: mark every line of the corpus that is recognised in it."""
        data = text.encode("utf-8", "replace")
        at = taken = 0
        while at < len(data):
            end = data.find(b"\n", at)
            end = len(data) if end < 0 else end
            found = self._find(data[at : _anchored(data, at, end)])
            if found < 0 and (number := _NUMBER.match(data, at, end)):  # as code prints lines
                taken = at = number.end()
                found = self._find(data[at : _anchored(data, at, end)])
            if found < 0:
                at = end + 1
                continue
            back = self._common_back(data, taken, at, found)
            length = self._common(data, at, found)
            self._mark(found - back, found + length)
            self._after = found + length
            at += length
            taken = at

    def _find(self, line: bytes) -> int:
        """Where a line of a text stands in the corpus: behind the last match if it is there, else wherever; or -1."""
        corpus, after = self._corpus, self._after
        if not line:
            return -1
        if corpus.read(after, after + len(line)) == line and len(line.strip()) >= ANCHOR:
            return after
        key = hash(line)
        if len(b"".join(line.split())) < ANCHOR or key in self._absent:
            return -1
        for low, high in ((after, corpus.bytes), (0, min(after + len(line), corpus.bytes))):
            if self._left <= 0:
                return -1
            found = corpus.find_bytes(line, low, high)
            self._left -= (high if found < 0 else found) - low
            if found >= 0:
                return found
        self._absent.add(key)
        return -1

    def _common(self, data: bytes, at: int, place: int) -> int:
        """How many bytes of `data` from `at` on are those of the corpus from `place` on."""
        length, step = 0, 1 << 12
        while True:
            ours = data[at + length : at + length + step]
            theirs = self._corpus.read(place + length, place + length + len(ours))
            if not ours or ours != theirs:
                same = next((n for n, (x, y) in enumerate(zip(ours, theirs, strict=False)) if x != y), len(theirs))
                return length + same
            length += len(ours)
            step = min(2 * step, 1 << 20)

    def _common_back(self, data: bytes, floor: int, at: int, place: int) -> int:
        """The same backwards, over the short lines before an anchor."""
        length = 0
        most = min(at - floor, place, 1 << 12)
        ours, theirs = data[at - most : at], self._corpus.read(place - most, place)
        while length < most and ours[-1 - length] == theirs[-1 - length]:
            length += 1
        return length

    def _mark(self, start: int, stop: int) -> None:
        """Bytes [start, stop) were shown: the lines they touch count, headers do not."""
        corpus = self._corpus
        if start >= stop:
            return
        first, last = corpus.newlines(start), corpus.newlines(stop - 1) + 1
        count = len(corpus.documents)
        begin = bisect_right(corpus.column("stop_byte"), start, 0, count)
        end = bisect_left(corpus.column("start_byte"), stop, 0, count)
        self._documents[begin:end] = b"\1" * (end - begin)
        low, high = bisect_left(self._stops, first), bisect_right(self._starts, last)
        replaced = sum(map(self._lines, self._starts[low:high], self._stops[low:high]))
        if low < high:
            first, last = min(first, self._starts[low]), max(last, self._stops[high - 1])
        self._starts[low:high], self._stops[low:high] = [first], [last]
        self.lines_seen += self._lines(first, last) - replaced

    def _lines(self, first: int, last: int) -> int:
        """Lines of documents among the lines [first, last) of the corpus: those that are no headers."""
        firsts, count = self._corpus.column("first_line"), len(self._corpus.documents)
        headers = bisect_right(firsts, last, 0, count) - bisect_right(firsts, first, 0, count)
        return last - first - headers


def _anchored(data: bytes, start: int, end: int) -> int:
    """Where an anchor ends that begins with the line [start, end): a short line needs the next ones to be one."""
    while len(data[start:end].translate(None, _WHITE)) < ANCHOR and 0 <= end < len(data) and end - start < 8 * ANCHOR:
        after = data.find(b"\n", end + 1)
        end = len(data) if after < 0 else after
    return end
