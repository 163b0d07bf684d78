"""Where words stand in the corpus: word for word, or but for case, typography, hyphenation and emphasis.

A quote is there when its words stand in a document one after the other, white space apart; it may begin and end within
a word, as a slice does. The search runs over the mapped bytes: the longest word is an anchor for `bytes.find`, and only
where it stands the others are tried. If they are nowhere, a second, tolerant search folds case, typographic characters,
ligatures, hyphenation and Markdown emphasis, around anchors again: three of them in four spellings at most.

A hostile quote can make it slow but not for long. Patterns hold escaped words and runs of white space, nothing that
explodes; anchors and whole trials are counted, and so are the characters that are folded. Past those bounds a quote
counts as not there. Folding the whole corpus was rejected: 1 GB takes minutes.

Loaded by host and REPL alike: standard library only, and of this package only `corpus`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from .corpus import Corpus

LONGEST_QUOTE = 20_000
"""Characters of a quote that are looked for; a longer one is not a quote."""
LEAST_QUOTE = 3
"""Characters, white space apart, that may be a part of words; fewer are there only as words of their own."""
MOST_NAMED = 10
"""Missing quotes of an answer that are named."""
MOST_SEARCHED, PASSES = 20 << 30, 13
"""Bytes searched for the quotes of an answer before it is taken, some seconds; passes for one that is missing."""
MOST_MATCHES = 1_000
MOST_ANCHORS, MOST_TRIALS = 1_000_000, 5_000
"""Places of the anchor that are looked at, and those of them where all the words are tried."""
FIRST_WORDS = 8
"""That are tried before all of them."""
MOST_FOLDED = 2_000_000
"""Characters that the tolerant search folds for one quote: some seconds."""
_SPACE = rb"(?:[\s\x1c-\x1f]|\xc2[\x85\xa0]|\xe1\x9a\x80|\xe2\x80[\x80-\x8a\xa8\xa9\xaf]|\xe2\x81\x9f|\xe3\x80\x80)"
_FAMILIES = ("case", "typographic characters", "hyphenation", "emphasis marks")
_MARKS = "\u0300-\u036f\u1dc4-\u1dff\u20d0-\u20f0"
_COMBINING = re.compile(f"[{_MARKS}]")
_TYPOGRAPHIC = {
    **dict.fromkeys("‘’‚‛′`´", "'"),
    **dict.fromkeys("“”„‟″«»", '"'),
    **dict.fromkeys("‐‑‒–—―−", "-"),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff", ""),
    "…": "...",
    "|": " ",  # how a model writes down a row of a table
}


@dataclass(frozen=True, slots=True)
class Hit:
    """Bytes [start, stop) of the corpus, within the text of one document."""

    document: int
    start: int
    stop: int


def find(corpus: Corpus, text: str, path: str | None = None) -> tuple[list[Hit], str | None]:
    """Where the words of `text` stand, `MOST_MATCHES` at most, and what had to be folded (None: nothing).

    A path that names one document (whole, or by its last parts) is looked in first; elsewhere only when they are not
    there. Never raises for what a model wrote.
    """
    words = text.encode("utf-8", "replace").decode().split()
    if not words or len(text) > LONGEST_QUOTE:
        return [], None
    if len("".join(words)) < LEAST_QUOTE:
        return [hit for hit in _exact(corpus, words, 0, corpus.bytes) if _is_word(corpus, hit)], None
    hinted = _hinted(corpus, path) if path else None
    ranges = ([hinted] if hinted else []) + [(0, corpus.bytes)]
    for low, high in ranges:
        if hits := _exact(corpus, words, low, high):
            return hits, None
    for low, high in ranges:
        if hits := _tolerant(corpus, " ".join(words), low, high):
            return hits, _difference(corpus, hits[0], " ".join(words))
    return [], None


def objection(corpus: Corpus, quotes: Sequence[Sequence[str | None]]) -> str:
    """Which of these [path or None, text] pairs are not in the documents, a line each with how much of it is; "" for
    none. In a large corpus it looks at the first ones only."""
    missing, left = [], MOST_SEARCHED
    for n, (path, text) in enumerate(quotes, 1):
        if left <= 0:
            break
        found = text is None or bool(find(corpus, text, path)[0])
        left -= corpus.bytes * (1 if found else PASSES)
        if text is not None and not found:
            missing.append((n, text))
    lines = []
    for n, text in missing[:MOST_NAMED]:
        there = beginning(corpus, text)
        hint = f" (there as far as “{there[-200:]}”)" if there else ""
        lines.append(f"  quote {n}: “{text[:200]}”{hint}")
    if len(missing) > MOST_NAMED:
        lines.append(f"  and {len(missing) - MOST_NAMED} more")
    return "\n".join(lines)


def beginning(corpus: Corpus, text: str) -> str:
    """The longest run of the first words of `text` that stands somewhere, word for word; "" under three words."""
    words = text.encode("utf-8", "replace").decode()[:LONGEST_QUOTE].split()
    low, high = 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        if _exact(corpus, words[:middle], 0, corpus.bytes, most=1):
            low = middle
        else:
            high = middle - 1
    return " ".join(words[:low]) if low >= 3 else ""


def _hinted(corpus: Corpus, path: str) -> tuple[int, int] | None:
    """Bytes of the one document a model means by `path`."""
    wanted = path.strip().removeprefix("./")
    found = [d for d in corpus.documents if d.path == wanted or d.path == path]
    found = found or [d for d in corpus.documents if d.path.endswith("/" + wanted)]
    return (found[0].start_byte, found[0].stop_byte) if len(found) == 1 else None


def _exact(corpus: Corpus, words: list[str], low: int, high: int, most: int = MOST_MATCHES) -> list[Hit]:
    """Where the words stand in a row, white space apart."""
    encoded = [re.escape(word.encode()) for word in words]
    anchor = max(range(len(words)), key=lambda index: len(words[index].encode()))
    gap = _SPACE + rb"{1,200}"
    first = re.compile(gap.join(encoded[anchor : anchor + FIRST_WORDS]))
    after = re.compile(gap.join(encoded[anchor:]))
    # The part before the anchor is read backwards: it ends where the anchor begins.
    before = re.compile(gap.join(encoded[:anchor]) + gap + rb"\Z") if anchor else None
    reach = sum(len(word.encode()) + 600 for word in words[:anchor])
    hits: list[Hit] = []
    trials = 0
    for at in islice(corpus.occurrences(words[anchor].encode(), low, high), MOST_ANCHORS):
        if first.match(corpus.buffer, at, high) is None:
            continue
        trials += 1
        if trials > MOST_TRIALS:
            break
        tail = after.match(corpus.buffer, at, high)
        start = at
        if before is not None and tail is not None:
            start = _ending(corpus, before, words[0].encode(), max(low, at - reach), at)
        hit = _within(corpus, start, tail.end()) if tail is not None and start >= 0 else None
        if hit is not None and (not hits or hit.start >= hits[-1].stop):
            hits.append(hit)
            if len(hits) >= most:
                break
    return hits


def _is_word(corpus: Corpus, hit: Hit) -> bool:
    """Whether no letter or digit stands before or after it."""
    around = corpus.read(max(hit.start - 4, 0), hit.stop + 4).decode("utf-8", "ignore")
    word = re.escape(corpus.read(hit.start, hit.stop).decode())
    return re.search(rf"(?<!\w){word}(?!\w)", around) is not None


def _ending(corpus: Corpus, pattern: re.Pattern[bytes], first: bytes, low: int, end: int) -> int:
    """Where the nearest match within [low, end) begins that reaches up to `end`; -1 without one. Tries only places of
    the first word, the nearest 64."""
    at = end
    for _ in range(64):
        at = corpus.buffer.rfind(first, low, at + len(first) - 1)
        if at < 0 or pattern.match(corpus.buffer, at, end):
            return at
    return -1


def _within(corpus: Corpus, start: int, stop: int) -> Hit | None:
    """The document that holds all of [start, stop): headers are not evidence."""
    index = corpus.document_at(start)
    if index is None or stop > corpus.column("stop_byte")[index]:
        return None
    return Hit(index, start, stop)


def _tolerant(corpus: Corpus, quote: str, low: int, high: int) -> list[Hit]:
    """Where the quote stands but for case, typography, hyphenation and emphasis."""
    wanted, _ = fold(quote)
    if len(wanted) < LEAST_QUOTE:
        return []
    reach = 6 * len(wanted) + 400
    left = MOST_FOLDED
    for anchor in _anchors(wanted):
        hits: dict[tuple[int, int], Hit] = {}
        for spelling in dict.fromkeys((anchor, anchor.capitalize(), anchor.upper(), anchor.title())):
            done = 0
            for at in islice(corpus.occurrences(spelling.encode(), low, high), MOST_ANCHORS):
                if left <= 0 or len(hits) >= MOST_MATCHES:
                    break
                index = corpus.document_at(at)
                if at < done or index is None:
                    continue
                begin = max(low, at - reach, corpus.column("start_byte")[index])
                stop = min(high, at + 3 * reach, corpus.column("stop_byte")[index])
                hits |= {(hit.start, hit.stop): hit for hit in _folded(corpus, wanted, index, begin, stop)}
                left -= stop - begin
                done = stop - reach  # anchors up to here have had all their neighbourhood searched
        if hits:
            return [hits[key] for key in sorted(hits)]
    return []


def _anchors(folded: str) -> list[str]:
    """Up to three words to look for: long, and without the letter pairs that fonts join."""
    words = sorted(set(re.findall(r"\w{3,}", folded)) or set(re.findall(r"\w+", folded)), key=len, reverse=True)
    plain = [word for word in words if not re.search("f[fil]|ss|ae|oe", word)] or words
    # In a text of decomposed letters only words without accents stand as they are written.
    plain.sort(key=lambda word: not word.isascii())
    return [word if word.isascii() else word[:6] for word in plain[:3]]


def _folded(corpus: Corpus, wanted: str, document: int, begin: int, stop: int) -> Iterator[Hit]:
    """Where the folded quote stands within the bytes [begin, stop) of a document."""
    while corpus.read(begin, begin + 1)[0] & 0xC0 == 0x80:
        begin += 1
    text = corpus.read(begin, stop).decode("utf-8", "ignore")
    folded, places = fold(text)
    at = folded.find(wanted)
    while at >= 0:
        first, last = places[at], places[at + len(wanted) - 1] + 1
        start = begin + len(text[:first].encode())
        yield Hit(document, start, start + len(text[first:last].encode()))
        at = folded.find(wanted, at + len(wanted))


def _difference(corpus: Corpus, hit: Hit, quote: str) -> str:
    """In a few words, what had to be folded."""
    found = corpus.read(hit.start, hit.stop).decode("utf-8", "replace")
    needed = [family for family in _FAMILIES if fold(found, family)[0] != fold(quote, family)[0]]
    return ", ".join(needed) or "typographic characters"


def _clusters(text: str) -> Iterator[tuple[int, str]]:
    """Each character with the marks that combine with it, and where it stands: ü may be one character or two."""
    if not _COMBINING.search(text):
        yield from enumerate(text)
        return
    for match in re.finditer(rf"[^{_MARKS}][{_MARKS}]*|[{_MARKS}]+", text, re.DOTALL):
        yield match.start(), match[0]


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
    for at, char in _clusters(text):
        if at in dropped:
            continue
        piece = " " if char.isspace() else char
        if skip != "typographic characters":
            piece = _TYPOGRAPHIC.get(piece, piece)
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
