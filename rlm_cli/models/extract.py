"""Which sentences of a text answer a question best, judged by words alone.

Rare words of the question weigh more (inverse frequency among the text's own sentences), the words of a heading count
for what stands under it, and a few forms are favoured: numbers where a quantity is asked for, commands where a way is.
Heuristics, all of them, and English only in its stop words and endings; it finds words, not meanings, and a question in
other words than the text's finds nothing. Deterministic: the same text gives the same answer.

Rejected: a library for BM25 (over a few hundred sentences these lines do as well), stemming by dictionary.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

LONGEST_UNIT = 500
"""Characters; what is longer is taken line by line."""
MOST_UNITS = 3
NEAR_BEST = 0.6
"""A sentence is given beside the best one when it scores this share of it."""
HEADING_SHARE = 0.6
"""What a word in the heading counts, against one in the sentence itself."""

_STOP_WORDS = (
    "a about all am an and any are as at be been being but by can could did do does doing for from get had has have he"
    " her his how i if in into is it its just may me might must my no not of on one or our out over please say shall"
    " she should so some such tell than that the their them then there these they this those to under up upon us use"
    " used was we were what when where which who whom whose why will with would you your document documents text file"
    " files according list name give does"
)
_STOP = frozenset(_STOP_WORDS.split())
_ENDING = re.compile(
    r"(?<=\w{3})(?:i?zations?|ations?|ments?|ities|ity|ating|ate[ds]?|ings?|ions?|ers?|ie[sd]|e[ds]|[sey])$"
)
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_DOCUMENT = re.compile(r"^===== (?P<path>.+) =====(?: \w+)?$")
_FENCE = re.compile(r"^\s*(```|~~~)")
_HEADING = re.compile(r"^(?:#{1,6}\s+(?P<marked>.+?)\s*#*|(?P<shouted>[A-Z][A-Z0-9 &/()'-]{2,60}))$")
_NUMBERED = re.compile(r"^(?:§\s*|Article |Section |Chapter )?\d+(?:\.\d+)*[.)]?\s+\S[^.;:,]{0,60}$")
_ITEM = re.compile(r"^\s*(?:[-*+•]|\d{1,3}[.)])\s+")
_RECORD = re.compile(r"^\W{0,2}\d{2,4}[-/.:]\d|^\s*\||^\S+,\S*,")
_RULE = re.compile(r"^\s*\|(?:\s*:?-+:?\s*\|)+\s*$")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_SENTENCE_END = re.compile(
    r"(?<!\b[A-Z])(?<!\b(?:Mr|Dr|No|vs|St|cf))(?<!\b(?:e\.g|i\.e|etc|Mrs))"  # no end after these
    r"[.!?]['\")\]”]*\s+(?=[\"“'(\[]?[A-Z0-9§])"
)
_QUANTITY = re.compile(
    r"^\s*(?:how (?:many|much|long|old|far|often|big|large)|when|what (?:year|date|time))\b", re.IGNORECASE
)
_WAY = re.compile(r"^\s*how (?:do|can|to|does|should)\b", re.IGNORECASE)
_WHAT_IS = re.compile(r"^\s*(?:what (?:is|are)|define)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Unit:
    """A sentence, list item, record or short block of code. `path`: the document, where the text says so."""

    text: str
    path: str | None
    heading: str
    code: bool = False


def terms(question: str) -> list[str]:
    """The question's words that can be looked for: stemmed, without stop words, in order, each once."""
    return list(dict.fromkeys(stem for stem in stems(question) if stem not in _STOP))


def stems(text: str) -> list[str]:
    """Lower-case words without their endings; stop words stay as they are."""
    return [_stem(word) for word in _WORD.findall(text.lower())]


def best(question: str, text: str) -> list[Unit]:
    """The sentences that answer, in the order of the text; empty when too few of the question's words are there."""
    wanted = terms(question)
    asked = " ".join(question.split()).lower()
    candidates = [unit for unit in dict.fromkeys(units(text)) if asked not in " ".join(unit.text.split()).lower()]
    words = [set(stems(unit.text)) for unit in candidates]
    spread = Counter(term for term in wanted for found in words if term in found)
    for term in wanted:
        spread[term] += any(term in stems(unit.heading) for unit in candidates)
    weights = {t: math.log(1 + (len(candidates) + 1) / (spread[t] + 0.5)) for t in wanted if spread[t]}
    if not weights:
        return []
    # A word that is nowhere in the text weighs as much as the others do on average: it must not decide alone.
    total = sum(weights.values()) * len(wanted) / len(weights)
    needed = total * (0.5 if len(wanted) <= 2 else 0.4)
    scored = []
    for order, (unit, found) in enumerate(zip(candidates, words, strict=True)):
        matched = _matched(unit, found, weights)
        if matched > needed:
            scored.append((-matched * _form(question, unit), order))
    chosen = [order for score, order in sorted(scored)[:MOST_UNITS] if score <= NEAR_BEST * min(scored)[0]]
    return [candidates[order] for order in sorted(chosen)]


def _matched(unit: Unit, found: set[str], weights: dict[str, float]) -> float:
    above = set(stems(unit.heading))
    return sum(w if t in found else HEADING_SHARE * w for t, w in weights.items() if t in found or t in above)


def _form(question: str, unit: Unit) -> float:
    """How much better or worse a sentence is than its words say."""
    factor = 1 / (1 + max(len(unit.text) - 200, 0) / 1_000)
    if _QUANTITY.match(question) and re.search(r"\d", unit.text):
        factor *= 1.25
    if _WAY.match(question) and (unit.code or "`" in unit.text):
        factor *= 1.3
    if _WHAT_IS.match(question) and re.search(r"\b(?:is|are|means?|refers? to|stands? for)\b", unit.text[:120]):
        factor *= 1.25
    if unit.text.rstrip().endswith((":", "?")):
        factor *= 0.6
    return factor


def units(text: str) -> Iterator[Unit]:
    """What a text consists of, sentence by sentence."""
    path: str | None = None
    heading = ""
    paragraph: list[str] = []
    fence: list[str] | None = None
    for line in [*_COMMENT.sub("", text).splitlines(), ""]:
        if _FENCE.match(line):
            if fence is not None:
                yield from _block(fence, path, heading)
            fence = [] if fence is None else None
        elif fence is not None:
            fence.append(line)
            continue
        if _RULE.match(line):
            paragraph = []  # what stood above was a table's header, not a statement
            continue
        document = _DOCUMENT.match(line)
        title = _title(line, bool(paragraph))
        if document or title or not line.strip() or _FENCE.match(line) or _ITEM.match(line) or _RECORD.match(line):
            yield from _sentences(paragraph, path, heading)
            paragraph = []
        if document:
            path, heading = document["path"], ""
        elif title:
            heading = title
        elif line.strip() and not _FENCE.match(line):
            paragraph.append(line)
    yield from _block(fence or [], path, heading)


def _title(line: str, inside: bool) -> str:
    """The words of a heading, else empty. A numbered line is one only where a paragraph may begin."""
    match = _HEADING.match(line.strip())
    if match:
        return match["marked"] or match["shouted"]
    return line.strip() if not inside and _NUMBERED.match(line.strip()) else ""


def _block(lines: list[str], path: str | None, heading: str) -> Iterator[Unit]:
    whole = "\n".join(lines).strip("\n")
    if whole.strip() and len(whole) <= LONGEST_UNIT:
        yield Unit(whole, path, heading, code=True)
    else:
        yield from (Unit(line.strip(), path, heading, code=True) for line in lines if line.strip())


def _sentences(lines: list[str], path: str | None, heading: str) -> Iterator[Unit]:
    whole = _ITEM.sub("", " ".join(line.strip() for line in lines), count=1)
    start = 0
    pieces = []
    for end in _SENTENCE_END.finditer(whole):
        pieces.append(whole[start : end.end()].strip())
        start = end.end()
    pieces.append(whole[start:].strip())
    for piece in pieces:
        if len(piece) > LONGEST_UNIT and len(lines) > 1:
            yield from (Unit(line.strip(), path, heading) for line in lines)
            return
    yield from (Unit(piece[: 2 * LONGEST_UNIT], path, heading) for piece in pieces if _WORD.search(piece))


def _stem(word: str) -> str:
    if word in _STOP or len(word) < 4 or word[0].isdigit():
        return word
    return _ENDING.sub("", re.sub(r"['’]s$", "", word))
