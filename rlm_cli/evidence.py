"""What the host can prove: where a quote stands (`locate`) and what of the corpus models were shown (`Coverage`).

A quote counts as exact when its words stand in a document one after the other, white space apart. The search runs over
the mapped bytes: the longest word is an anchor for `bytes.find`, and only where it stands the whole quote is tried, so
a quote costs one pass over the corpus and a hostile one cannot make a regular expression explode: words
are escaped and joined by runs of white space, nothing else. If it is nowhere, a second, tolerant search folds case,
typographic characters, ligatures, hyphenation and Markdown emphasis, around anchors again; worst case three anchors in
four spellings, twelve passes. Folding the whole corpus was rejected: 1 GB takes minutes.

Coverage is a lower bound: lines that were shown in a changed form are not recognised, a line that stands in several
places counts once, and after `SCAN` bytes of searching only what continues the last match is found.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from .corpus import Corpus
from .result import Citation, Located, Quote

LONGEST_QUOTE = 20_000
"""Characters of a quote that are looked for; a longer one is not a quote."""
MOST_MATCHES = 1_000
MOST_CANDIDATES = 5_000
"""Places of one anchor that the tolerant search folds."""
SCAN = 16 << 30
"""Bytes that `Coverage` may search in one run."""
ANCHOR = 12
"""Characters, white space apart, that a line needs to be looked for on its own."""
_SPACE = rb"(?:[\s\x1c-\x1f]|\xc2[\x85\xa0]|\xe1\x9a\x80|\xe2\x80[\x80-\x8a\xa8\xa9\xaf]|\xe2\x81\x9f|\xe3\x80\x80)"
_FAMILIES = ("case", "typographic characters", "hyphenation", "emphasis marks")
_TYPOGRAPHIC = {
    **dict.fromkeys("‘’‚‛′`´", "'"),
    **dict.fromkeys("“”„‟″«»", '"'),
    **dict.fromkeys("‐‑‒–—―−", "-"),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff", ""),
    "…": "...",
}


@dataclass(frozen=True, slots=True)
class _Hit:
    """Bytes [start, stop) of the corpus, within the text of one document."""

    document: int
    start: int
    stop: int


def locate(corpus: Corpus, quote: Quote, n: int) -> Citation:
    """Find the quote in the corpus; never raises for what a model wrote.

    A path that names one document (whole, or by its last parts) is looked in first; elsewhere only when it is not
    there. Then `path` is where the words really stand. `matches` counts what was found there, `MOST_MATCHES` at most.
    """
    words = quote.text.encode("utf-8", "replace").decode().split()
    if not words or len("".join(words)) < 3 or len(quote.text) > LONGEST_QUOTE:
        return Citation(n, quote.text, Located.NO)
    hinted = _hinted(corpus, quote.path) if quote.path else None
    for low, high in ([hinted] if hinted else []) + [(0, corpus.bytes)]:
        hits = _exact(corpus, words, low, high)
        if hits:
            return _cite(corpus, quote, n, hits, None)
    for low, high in ([hinted] if hinted else []) + [(0, corpus.bytes)]:
        hits = _tolerant(corpus, " ".join(words), low, high)
        if hits:
            return _cite(corpus, quote, n, hits, _difference(corpus, hits[0], " ".join(words)))
    return Citation(n, quote.text, Located.NO)


def _cite(corpus: Corpus, quote: Quote, n: int, hits: list[_Hit], difference: str | None) -> Citation:
    if len({hit.document for hit in hits}) > 1:
        return Citation(n, quote.text, Located.AMBIGUOUS, difference=difference, matches=len(hits))
    first = hits[0]
    begin = corpus.place(corpus.char_of(first.start))
    last = begin.line + corpus.newlines(first.stop - 1) - corpus.newlines(first.start)
    located = Located.EXACT if difference is None else Located.APPROXIMATE
    return Citation(n, quote.text, located, begin.path, begin.page, (begin.line, last), difference, len(hits))


def _hinted(corpus: Corpus, path: str) -> tuple[int, int] | None:
    """Bytes of the one document a model means by `path`."""
    wanted = path.strip().removeprefix("./")
    found = [d for d in corpus.documents if d.path == wanted or d.path == path]
    found = found or [d for d in corpus.documents if d.path.endswith("/" + wanted)]
    return (found[0].start_byte, found[0].stop_byte) if len(found) == 1 else None


def _exact(corpus: Corpus, words: list[str], low: int, high: int) -> list[_Hit]:
    """Where the words stand in a row, white space apart."""
    encoded = [word.encode() for word in words]
    anchor = max(range(len(encoded)), key=lambda index: len(encoded[index]))
    gap = _SPACE + rb"{1,200}"
    after = re.compile(gap.join(re.escape(word) for word in encoded[anchor:]))
    # The part before the anchor is read backwards: it ends where the anchor begins.
    before = re.compile(gap.join(re.escape(word) for word in encoded[:anchor]) + gap + rb"\Z") if anchor else None
    reach = sum(map(len, encoded)) + 200 * 3 * len(encoded)
    hits: list[_Hit] = []
    for at in _places(corpus, encoded[anchor], low, high):
        tail = after.match(corpus.read(at, at + reach))
        if tail is None:
            continue
        start = at
        if before is not None:
            floor = max(0, at - reach)
            head = corpus.read(floor, at)
            start = _ending(before, head, encoded[0])
            if start < 0:
                continue
            start += floor
        hit = _within(corpus, start, at + tail.end())
        if hit is not None and low <= hit.start and hit.stop <= high and (not hits or hit.start >= hits[-1].stop):
            hits.append(hit)
            if len(hits) >= MOST_MATCHES:
                break
    return hits


def _ending(pattern: re.Pattern[bytes], head: bytes, first: bytes) -> int:
    """Where the nearest match begins that ends with `head`; -1 without one. Tries only places of the first word."""
    at, tries = len(head), 0
    while (at := head.rfind(first, 0, at + len(first) - 1)) >= 0 and tries < 64:
        if pattern.match(head, at):
            return at
        tries += 1
    return -1


def _places(corpus: Corpus, needle: bytes, low: int, high: int) -> Iterator[int]:
    while (found := corpus.find_bytes(needle, low, high)) >= 0:
        yield found
        low = found + 1


def _within(corpus: Corpus, start: int, stop: int) -> _Hit | None:
    """The document that holds all of [start, stop): headers are not evidence."""
    index = corpus.document_at(start)
    if index is None or stop > corpus.column("stop_byte")[index]:
        return None
    return _Hit(index, start, stop)


def _tolerant(corpus: Corpus, quote: str, low: int, high: int) -> list[_Hit]:
    """Where the quote stands but for case, typography, hyphenation and emphasis."""
    wanted, _ = fold(quote)
    if len(wanted) < 3:
        return []
    for anchor in _anchors(wanted):
        hits: dict[tuple[int, int], _Hit] = {}
        spellings = dict.fromkeys((anchor, anchor.capitalize(), anchor.upper(), anchor.title()))
        for spelling in spellings:
            for tries, at in enumerate(_places(corpus, spelling.encode(), low, high)):
                if tries >= MOST_CANDIDATES or len(hits) >= MOST_MATCHES:
                    break
                hit = _around(corpus, wanted, at, low, high)
                if hit is not None:
                    hits[hit.start, hit.stop] = hit
        if hits:
            return [hits[key] for key in sorted(hits)]
    return []


def _anchors(folded: str) -> list[str]:
    """Up to three words to look for: long, and without the letter pairs that fonts join."""
    words = sorted(set(re.findall(r"\w{3,}", folded)) or set(re.findall(r"\w+", folded)), key=len, reverse=True)
    plain = [word for word in words if not re.search("f[fil]|ss|ae|oe", word)] or words
    return [word if word.isascii() else word[:6] for word in plain[:3]]


def _around(corpus: Corpus, wanted: str, at: int, low: int, high: int) -> _Hit | None:
    """The folded quote in the neighbourhood of a byte."""
    reach = 6 * len(wanted) + 400
    document = corpus.document_at(at)
    if document is None:
        return None
    floor = max(low, at - reach, corpus.column("start_byte")[document])
    while corpus.read(floor, floor + 1)[0] & 0xC0 == 0x80:
        floor += 1
    text = corpus.read(floor, min(high, at + reach, corpus.column("stop_byte")[document])).decode("utf-8", "ignore")
    folded, places = fold(text)
    anchor = bisect_left(places, len(corpus.read(floor, at).decode("utf-8", "ignore")))
    found = folded.find(wanted, max(0, anchor - len(wanted)))
    if found < 0 or found > anchor:
        return None
    begin, end = places[found], places[found + len(wanted) - 1] + 1
    start = floor + len(text[:begin].encode())
    return _Hit(document, start, start + len(text[begin:end].encode()))


def _difference(corpus: Corpus, hit: _Hit, quote: str) -> str:
    """In a few words, what had to be folded."""
    found = corpus.read(hit.start, hit.stop).decode("utf-8", "replace")
    needed = [family for family in _FAMILIES if fold(found, family)[0] != fold(quote, family)[0]]
    return ", ".join(needed) or "typographic characters"


def fold(text: str, skip: str = "") -> tuple[str, list[int]]:
    """The text as the tolerant search compares it, and for each of its characters where it came from.

    `skip` leaves out one of `_FAMILIES`. White space runs become one space, ends are trimmed.
    """
    dropped: set[int] = set()
    if skip != "emphasis marks":
        dropped.update(m.start() for m in re.finditer(r"[*`~]|(?<!\w)_|_(?!\w)", text))
    if skip != "hyphenation":
        dropped.update(m.start() for m in re.finditer("\u00ad", text))
        for match in re.finditer(r"(?<=[^\W\d])[-‐‑]\s*(?=[^\W\d])", text):
            dropped.update(range(match.start(), match.end()))
    folded: list[str] = []
    places: list[int] = []
    for at, char in enumerate(text):
        if at in dropped:
            continue
        piece = " " if char.isspace() else char
        if skip != "typographic characters":
            piece = _TYPOGRAPHIC.get(piece, piece) if len(piece) == 1 else piece
            piece = unicodedata.normalize("NFKC", piece)
        if skip != "case":
            piece = piece.casefold()
        if piece == " " and (not folded or folded[-1] == " "):
            continue
        folded.extend(piece)
        places.extend([at] * len(piece))
    if folded and folded[-1] == " ":
        folded.pop()
        places.pop()
    return "".join(folded), places


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
        return self._documents.count(1)

    def saw_span(self, start: int, stop: int) -> None:
        """Characters [start, stop) of the corpus were shown."""
        if start < stop:
            self._mark(self._corpus.byte_of(start), self._corpus.byte_of(stop))

    def saw(self, text: str) -> None:
        """`text` was shown: mark every line of the corpus that is recognised in it."""
        data = text.encode("utf-8", "replace")
        at = taken = 0
        while at < len(data):
            end = data.find(b"\n", at)
            end = len(data) if end < 0 else end
            found = self._find(data[at:end])
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
