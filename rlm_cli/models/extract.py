"""Which sentences of a text answer a question best, judged by words alone.

Rare words of the question weigh more (inverse frequency among the text's own sentences), the words of a heading or of a
table's first line count for what stands under it, and a few forms are favoured: a number, a date or a time where one is
asked for, "X is" and "X means" where X is to be explained, commands where a way is asked for (`forms.py`). Words are
compared by their beginnings; Chinese and Japanese, which have none, by pairs of characters. Heuristics, all of them: it
finds words, not meanings, and a question in other words than the text's finds nothing. Deterministic: the same text
gives the same answer. How often it is right: `tests/benchmarks/bench_offline.py`.

Rejected: a library for BM25 (those of any use bring numpy, which is heavy and cannot be loaded where the root's code
runs; over a few hundred sentences these lines do as well), snowball stemmers (one must know the language first, and
those written in Python are slower than all of the rest).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from .forms import STOP_WORDS, fits, is_explained, stop_words

LONGEST_UNIT = 500
"""Characters; what is longer is taken line by line."""
PART_CHARS = 320
"""Of a part of a longer sentence."""
MOST_UNITS = 3
NEAR_BEST = 0.6
"""A sentence is given beside the best one when it scores this share of it."""
HEADING_SHARE = 0.6
"""What a word in the heading counts, against one in the sentence itself."""

SHORTEST_BEGINNING = 4
"""Characters: a word matches one that begins with it when it has as many."""
NAME_WEIGHT = 1.5
"""Of a word with a capital letter inside the question: who asks for the Eiffel Tower wants no mill."""
LEAD_CHARS = 60
"""Of a line that ends in a colon and belongs to what follows it."""

_ENDING = re.compile(
    r"(?<=\w{3})(?:i?zations?|ations?|ments?|ities|ity|ating|ate[ds]?|ings?|ions?|ers?|ie[sd]|e[ds]|[sey])$"
)
_UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Kana and Han: written without spaces."""
_WORD = re.compile(rf"[{_UNSPACED}]+|(?:(?![{_UNSPACED}])[^\W_])+(?:['’][^\W_]+)?")
_FUNCTION = re.compile(
    "多少|什么|什麼|怎么|为何|哪里|哪些|如何|谁|吗|呢|的|是|了|需要|有|几"  # what a question in Chinese is made of
    "|ですか|ますか|いくら|いつ|どこ|だれ|どの|どれ|なに|なん|する|しますか|され|です|ます|[ぁ-ん何誰]"
)
_PARTICLE = re.compile(
    r"(?<=[가-힣]{2})(?:은|는|이|가|을|를|의|에|에서|으로|로|와|과|도|까지|부터)$|^(?:얼마|무엇|언제|어디|누가|누구|됩니까|입니까).*$"
)
_DOCUMENT = re.compile(r"^===== (?P<path>.+) =====(?: \w+)?$")
_FENCE = re.compile(r"^\s*(```|~~~)")
_UNDERLINE = re.compile(r"^\s*([=~^*+\"-])\1{2,}\s*$")
_HEADING = re.compile(r"^(?:#{1,6}\s+(?P<marked>.+?)\s*#*|(?P<shouted>[A-Z][A-Z0-9 &/()'-]{2,60}))$")
_NUMBERED = re.compile(r"^(?:§\s*|Article |Section |Chapter )?\d+(?:\.\d+)*[.)]?\s+\S[^.;:,]{0,60}$")
_ITEM = re.compile(r"^\s*(?:[-*+•]|\d{1,3}[.)])\s+")
_RECORD = re.compile(r"^\W{0,2}\d{2,4}[-/.:]\d|^\s*\||^\S+,\S*,")
_RULE = re.compile(r"^\s*\|(?:\s*:?-+:?\s*\|)+\s*$")
_CSV = re.compile(r"^[^\d,;]+(?:[,;][^\d,;]+){2,}$")
"""The first line of a table of values: names only."""
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_SENTENCE_END = re.compile(
    r"(?<!\b[A-Z])(?<!\b(?:Mr|Dr|No|vs|St|cf))(?<!\b(?:e\.g|i\.e|etc|Mrs))"  # no end after these
    r"[.!?]['\")\]”]*\s+(?=[\"“'(\[«]?(?:\d|§|[^\W\d_a-zß-öø-ÿа-я]))|[。！？]+[」』）]?"
)
_NAME = re.compile(r"(?<=[^\W]\s)[A-ZÄÖÜА-Я][\w-]+")
_LEAD = re.compile(rf"^\S.{{0,{LEAD_CHARS - 2}}}:$")


@dataclass(frozen=True, slots=True)
class Unit:
    """A sentence, list item, record or short block of code. `path`: the document, where the text says so."""

    text: str
    path: str | None
    heading: str
    code: bool = False


def terms(question: str) -> list[str]:
    """The question's words that can be looked for: stemmed, without stop words, in order, each once."""
    asked = _FUNCTION.sub(" ", question)
    if not _WORD.search(asked):
        asked = question
    stop = stop_words(question.lower().split())
    return list(dict.fromkeys(stem for stem in stems(asked) if stem and stem not in stop))


def stems(text: str) -> list[str]:
    """Lower-case words without their endings, and pairs of characters where there are no words; stop words stay."""
    found: list[str] = []
    for word in _WORD.findall(text.lower()):
        if "\u3040" <= word[0] <= "\u9fff" or "\uf900" <= word[0] <= "\ufaff":
            found += [word[n : n + 2] for n in range(len(word) - 1)] or [word]
        else:
            found.append(_stem(word))
    return found


def best(question: str, text: str) -> list[Unit]:
    """The sentences that answer, in the order of the text; empty when too few of the question's words are there."""
    wanted = terms(question)
    asked = " ".join(question.split()).lower()
    by_words = {" ".join(unit.text.split()): unit for unit in reversed(list(units(text)))}  # of copies the first
    candidates = [unit for said, unit in reversed(by_words.items()) if not asked or asked not in said.lower()]
    words = [_held(wanted, unit.text) for unit in candidates]
    titles = {unit.heading: _held(wanted, unit.heading) for unit in candidates}
    spread = Counter(term for found in words for term in found)
    spread.update({term for found in titles.values() for term in found})
    weights = {t: math.log(1 + (len(candidates) + 1) / (spread[t] + 0.5)) for t in wanted if spread[t]}
    if not weights:
        return []
    # A word that is nowhere in the text weighs as much as the others do on average: it must not decide alone.
    average = sum(weights.values()) / len(weights)
    names = {stem for word in _NAME.findall(question) for stem in stems(word)}
    weights = {t: w * NAME_WEIGHT if t in names else w for t, w in weights.items()}
    total = sum(weights.get(t, average * NAME_WEIGHT if t in names else average) for t in wanted)
    needed = total * (0.5 if len(wanted) <= 2 else 0.4)
    scored = []
    for order, (unit, found) in enumerate(zip(candidates, words, strict=True)):
        above = titles[unit.heading]
        matched = sum(w if t in found else HEADING_SHARE * w for t, w in weights.items() if t in found or t in above)
        if matched > needed:
            factor = fits(question, unit.text, code=unit.code) * _nearness(wanted, found)
            factor *= is_explained(question, unit.heading, unit.text)
            scored.append((-matched * factor, order))
    chosen: list[int] = []
    for score, order in sorted(scored):
        if len(chosen) == MOST_UNITS or score > NEAR_BEST * min(scored)[0]:
            break
        if not any(_overlap(candidates[order].text, candidates[other].text) for other in chosen):
            chosen.append(order)
    return [candidates[order] for order in sorted(chosen)]


def _held(wanted: list[str], text: str) -> dict[str, int]:
    """Which of the words are there, and at which place among the words of `text` for the first time."""
    found: dict[str, int] = {}
    for place, word in enumerate(stems(text)):
        for term in wanted:
            if term not in found and (
                word == term or (len(term) >= SHORTEST_BEGINNING <= len(word) and _begin_alike(word, term))
            ):
                found[term] = place
    return found


def _begin_alike(word: str, term: str) -> bool:
    """One is the other's beginning, but for what an ending may be."""
    if abs(len(word) - len(term)) > (5 if len(term) > 5 else 3):
        return False
    return word.startswith(term) or (len(word) >= SHORTEST_BEGINNING and term.startswith(word))


def _nearness(wanted: list[str], found: dict[str, int]) -> float:
    """A little better when words that follow each other in the question do so in the sentence."""
    pairs = list(pairwise(wanted))
    near = sum(1 for one, other in pairs if one in found and other in found and 0 < found[other] - found[one] < 4)
    return 1 + 0.2 * near / len(pairs) if pairs else 1.0


def _overlap(one: str, other: str) -> bool:
    """They hold a piece of each other: parts of one long sentence."""
    piece = other[:60]
    return len(one) > 60 and len(other) > 60 and (piece in one or one[:60] in other)


def units(text: str) -> Iterator[Unit]:
    """What a text consists of, sentence by sentence."""
    lead: Unit | None = None
    as_one_line = " ".join(text.split())
    for unit in _units(text):
        if lead is not None:
            together = f"{lead.text} {unit.text}"
            if together in as_one_line:  # nothing stands between them that a quote would leave out
                unit = replace(unit, text=together)
            else:
                yield lead
        lead = None
        if _LEAD.match(unit.text) and not unit.code:
            lead = unit
        else:
            yield unit
    if lead is not None:
        yield lead


def _units(text: str) -> Iterator[Unit]:
    path: str | None = None
    heading = columns = ""
    paragraph: list[str] = []
    fence: list[str] | None = None
    for line in [*_COMMENT.sub("", text).splitlines(), ""]:
        if fence is not None and _DOCUMENT.match(line):
            yield from _block(fence, path, heading)  # of a passage that ended within it
            fence = None
        if len(paragraph) == 1 and fence is None and _UNDERLINE.match(line):
            heading, paragraph = paragraph[0].strip(), []
            continue
        if _FENCE.match(line):
            if fence is not None:
                yield from _block(fence, path, heading)
            fence = [] if fence is None else None
        elif fence is not None:
            fence.append(line)
            continue
        if _RULE.match(line):
            columns, paragraph = " ".join(paragraph), []  # a table's header, not a statement
            continue
        document = _DOCUMENT.match(line)
        title = _title(line, bool(paragraph))
        if document or title or not line.strip() or _FENCE.match(line) or _ITEM.match(line) or _RECORD.match(line):
            above = f"{heading} {columns}" if columns and paragraph and _RECORD.match(paragraph[0]) else heading
            yield from _sentences(paragraph, path, above)
            if not columns and len(paragraph) == 1 and _CSV.match(paragraph[0]) and _RECORD.match(line):
                columns = paragraph[0]
            if not line.strip():
                columns = ""
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
        if len(piece) <= LONGEST_UNIT:
            if _WORD.search(piece):
                yield Unit(piece, path, heading)
        else:
            yield from (Unit(part, path, heading) for part in _parts(piece))


def _parts(piece: str) -> Iterator[str]:
    """A sentence too long to hand over whole, in parts that overlap by a half."""
    words = piece.split(" ")
    size = max(len(words) * PART_CHARS // len(piece), 1)
    for start in range(0, len(words), max(size // 2, 1)):
        yield " ".join(words[start : start + size])[: 2 * LONGEST_UNIT]
        if start + size >= len(words):
            break


def _stem(word: str) -> str:
    if "가" <= word[0] <= "힣":
        return _PARTICLE.sub("", word)
    if word in STOP_WORDS or len(word) < 4 or word[0].isdigit():
        return word
    if not word.isascii() and word[0] > "\u0370":  # endings of Greek, Cyrillic and others
        return word[: max(len(word) - 2, SHORTEST_BEGINNING)]
    return _ENDING.sub("", re.sub(r"['’]s$", "", word))
