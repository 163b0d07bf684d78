"""Several independent answers to one question: which of them say the same, and which one to hand over. Pure.

Numbers, dates, yes and no, lists and objects are compared by value, however they are written; short texts but for case,
punctuation and citation marks. Texts that still differ may say the same in other words: that is for one judging call,
whose reply is read here. Self-consistency: Wang et al., arXiv 2203.11171; among RLM trajectories: arXiv 2603.15653.

Confessed: `05/01/2024` is a text, for it is two dates; members of a list count in any order.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

LONGEST_SHOWN = 4_000
"""Characters of an answer that the judge is shown."""
_YES, _NO = frozenset({"yes", "true", "ja", "oui", "sí", "si"}), frozenset({"no", "false", "nein", "non"})
_NUMBER = re.compile(r"(?P<before>[$€£¥]?)\s*(?P<sign>[-+−]?)(?P<digits>\d[\d,_\s’']*(?:\.\d+)?)\s*(?P<after>[%$€£¥]?)")
_DATES = ("%Y-%m-%d", "%d.%m.%Y", "%d %B %Y", "%d %b %Y", "%B %d, %Y", "%b %d, %Y", "%B %d %Y", "%Y/%m/%d")
_MARK = re.compile(r"\s*\[\d{1,4}\]")
_ORDINAL = re.compile(r"(?<=\d)(st|nd|rd|th)\b")
Groups = list[list[int]]
"""Indices of answers that say the same, the largest group first, then by the earliest member."""


def group(values: Sequence[Any]) -> Groups:
    """Answers of the same value, None (not in the documents) included."""
    found: dict[Hashable, list[int]] = defaultdict(list)
    for n, value in enumerate(values):
        found[_key(value)].append(n)
    return _ordered(found.values())


def differ_in_words(values: Sequence[Any], groups: Groups) -> bool:
    """Whether groups are apart that only a reader can tell apart."""
    return len(groups) > 1 and any(_key(values[members[0]])[0] == "text" for members in groups)


def decided(values: Sequence[Any], asked: int) -> bool:
    """Whether the answers that are still missing cannot change which group is the largest."""
    groups = group(values)
    if not groups:
        return False
    first, left = len(groups[0]), asked - len(values)
    if differ_in_words(values, groups) or _key(values[groups[0][0]])[0] == "text":
        return first > asked - first  # all others may turn out to say the same
    second = len(groups[1]) if len(groups) > 1 else 0
    return first > second + left


def merged(groups: Groups, same: Sequence[Sequence[int]]) -> Groups:
    """The groups, with those put together that the judge says are the same; `same` holds places in `groups`."""
    return _ordered([n for place in places for n in groups[place]] for places in same)


def read_judgement(text: str, count: int) -> list[list[int]] | None:
    """A judge's reply: a JSON list of lists of numbers from 1 to `count`; places it does not name stand alone, one that
    it names twice counts where it came first. None where there is no such list."""
    for start in (match.start() for match in re.finditer(r"\[\s*\[", text)):
        try:
            lists, _ = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if not all(isinstance(one, list) for one in lists):
            continue
        left = set(range(count))
        same = []
        for one in lists:
            places = [n - 1 for n in dict.fromkeys(n for n in one if type(n) is int) if n - 1 in left]
            left -= set(places)
            if places:
                same.append(places)
        return [*same, *([place] for place in sorted(left))]
    return None


def choose(groups: Groups, located: Mapping[int, int]) -> int:
    """Of the largest group (of several: the one with the most located quotes in one answer) the answer with the most
    located quotes; of several the earliest."""
    most = len(groups[0])
    candidates = [n for members in groups if len(members) == most for n in members]
    return max(candidates, key=lambda n: (located.get(n, 0), -n))


def shown(value: Any) -> str:
    """An answer as the judge sees it."""
    text = "(not in the documents)" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + " …"


def _ordered(groups: Iterable[Iterable[int]]) -> Groups:
    return sorted((sorted(members) for members in groups), key=lambda members: (-len(members), members[0]))


def _key(value: Any) -> tuple[str, Hashable]:
    """The kind of a value, and what equal ones of that kind have in common."""
    match value:
        case None:
            return "none", None
        case bool():
            return "truth", value
        case int() | float():
            return "number", (Decimal(str(value)).normalize(), "")
        case list():
            return "list", tuple(sorted(map(repr, map(_key, value))))
        case dict():
            return "object", tuple(sorted((str(name), repr(_key(item))) for name, item in value.items()))
        case _:
            return _key_of_text(str(value))


def _key_of_text(text: str) -> tuple[str, Hashable]:
    bare = _MARK.sub("", text).strip().rstrip(".!").strip("*_` \n\"“”'")
    word = bare.casefold()
    if word in _YES or word in _NO:
        return "truth", word in _YES
    if (number := _number(bare)) is not None:
        return "number", number
    if (day := _day(bare)) is not None:
        return "date", day
    if bare[:1] in ("[", "{"):
        try:
            return _key(json.loads(bare))
        except (ValueError, RecursionError):
            pass
    return "text", " ".join(re.findall(r"\w+", word))


def _number(text: str) -> tuple[Decimal, str] | None:
    """The value, and its currency or percent sign."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    digits = re.sub(r"[,_\s’']", "", match["digits"])
    try:
        value = Decimal(("-" if match["sign"] in ("-", "−") else "") + digits)
    except InvalidOperation:
        return None
    return value.normalize(), match["before"] or match["after"]


def _day(text: str) -> date | None:
    plain = _ORDINAL.sub("", text)
    for form in _DATES:
        try:
            return datetime.strptime(plain, form).date()
        except ValueError:
            continue
    return None
