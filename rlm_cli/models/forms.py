"""What a question asks for, by its form: a number, a date, a duration, an explanation, a way; and who has that form.

Factors on the score of a sentence, found by trying on the labelled questions of `tests/benchmarks/bench_offline.py`;
small, so that words decide first. English mostly; the stop words are those of questions in seven languages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_ENGLISH = (
    "a about all am an and any are as at be been being but by can could did do does doing for from get had has have he"
    " her his how i if in into is it its just may me might must my no not of on one or our out over please say shall"
    " she should so some such tell than that the their them then there these they this those to under up upon us use"
    " used was we were what when where which who whom whose why will with would you your document documents text file"
    " files according list name give does many much long most least mean"
)
_OTHERS = (
    "der die das den dem des ein eine einer einen einem und oder ist sind war wer wie was wo wann warum welche welcher"
    " welches welchen hat haben wird werden von zu zum zur im am auf mit für bei gilt viel viele hoch"
    " le la les un une des du de et ou est sont qui que quoi quel quelle quels quelles où quand comment combien"
    " pourquoi en au aux pour dans par avec il elle cas el los las y o es son qué cuál cuáles quién cuándo dónde cómo"
    " cuánto cuánta por para con se lo gli uno una che chi quale quando dove come quanto perché di da è sono"
    " het een van en wat wie waar wanneer hoe welke"
    " и в на с по не что кто где когда как какой какая какое какова каков сколько почему это"
)
_ASKED_IN_ENGLISH = frozenset("what which who whose how when where why is are does do did has have can the of".split())
_STOP = {True: frozenset(_ENGLISH.split()), False: frozenset(f"{_ENGLISH} {_OTHERS}".split())}
STOP_WORDS = _STOP[False]


def stop_words(words: Iterable[str]) -> frozenset[str]:
    """Those of a question: in English a war, a hat and a van are something to look for."""
    return _STOP[not _ASKED_IN_ENGLISH.isdisjoint(words)]


_NUMBER_WORDS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirty|sixty|ninety|hundred|half|third"
    "|ein|eine|zwei|drei|vier|fünf|sechs|deux|trois|quatre|cinq|cent|dos|tres"
)
_NUMBER = re.compile(rf"\d|\b(?:{_NUMBER_WORDS})\b|[一二三四五六七八九十百千万]", re.IGNORECASE)
_TIME = re.compile(
    r"\b(?:years?|months?|weeks?|days?|hours?|minutes?|seconds?|characters?|lines?|bytes?|metres?|meters?|km|mm|cm)\b"
    r"|[年月日天週周]|Monate?|Jahre?|Tage?|mois|jours?|ans",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"\b(?:1[5-9]|20)\d\d\b|\b\d{1,2}[./]\d{1,2}[./]\d{2,4}\b"
    r"|\b(?:January|February|March|April|May|June|July|August|September|October|November|December)\b"
)
_MOST = re.compile(r"\b(?:up to|at most|maximum|no more than|exceed|less than|fewer than|under|limit\w*|longest)\b")
_LEAST = re.compile(r"\b(?:at least|minimum|no less than|no fewer than|more than)\b")
_COUNTS = re.compile(r"^\s*(?:how (?:many|much|old|far|often|big|large|high|fast)|what number)\b", re.IGNORECASE)
_LASTS = re.compile(r"^\s*(?:how long|for how|within how|wie lange|combien de temps)\b", re.IGNORECASE)
_WHEN = re.compile(r"^\s*(?:when|what (?:year|date|time)|on which (?:day|date)|wann|quand)\b", re.IGNORECASE)
_WAY = re.compile(r"^\s*how (?:do|can|to|does|should)\b", re.IGNORECASE)
_AT_MOST = re.compile(r"\b(?:at most|maximum|how long may|limit|longest|largest)\b", re.IGNORECASE)
_AT_LEAST = re.compile(r"\b(?:at least|minimum|shortest|smallest)\b", re.IGNORECASE)
_EXPLAIN = re.compile(
    r"^\s*(?:what\s+(?:is|are|was)(?:\s+meant\s+by)?|what\s+does|define|explain|who\s+is)\s+(?:(?:an?|the|it)\s+)?"
    r"(?:mean\s+)?(?:(?:to|by)\s+)?(?P<what>.+?)\s*(?:\bmean\b|\bstand for\b)?\s*[?.!]*\s*$",
    re.IGNORECASE,
)
_MEANS = r"(?:means?|refers?\s+to|stands?\s+for|shall\s+mean|denotes)\b"
_IS = r"(?:is|are|was)\s+(?!not\b|\w+ed\b|made\b|given\b|subject\b|under\b|[io]n\b|at\b|for\b|to\b|by\b|also\b|only\b)"
_AFTER = r"[\"”’'*)]*,?\s+(?:\([^)]{1,40}\)\s*)?"
_EXPLAINS = rf"{_AFTER}(?:{_MEANS}|{_IS})"


def fits(question: str, said: str, *, code: bool = False) -> float:
    """How much better or worse a sentence is than its words say. `code`: it is some."""
    factor = 1 / (1 + max(len(said) - 200, 0) / 1_000)
    number = _NUMBER.search(said) is not None
    if _WHEN.match(question):
        factor *= 1.5 if _DATE.search(said) else 1.1 if number else 1.0
    elif _LASTS.match(question):
        factor *= 1.5 if number and _TIME.search(said) else 1.0
    elif _COUNTS.match(question):
        factor *= 1.3 if number else 1.0
    if _AT_MOST.search(question) and number and _MOST.search(said):
        factor *= 1.4
    if _AT_LEAST.search(question) and number and _LEAST.search(said):
        factor *= 1.4
    if _WAY.match(question) and (code or "`" in said):
        factor *= 1.3
    return factor * 0.6 if said.rstrip().endswith((":", "?", "：", "？")) else factor


def to_explain(question: str) -> str | None:
    """What is to be explained, in lower case: "What is a covered work?" → "covered work"; None for other questions."""
    match = _EXPLAIN.match(question)
    what = " ".join(match["what"].lower().split()) if match else ""
    return what if 0 < len(what) <= 60 else None


def explanation(question: str) -> str | None:
    """A pattern for where a text, in lower case, says what something is; None where that is not the question."""
    what = to_explain(question)
    if what is None:
        return None
    words = r"\s+".join(re.escape(word) for word in what.rstrip("s").split())
    return rf"(?:^|[\n.;:\"“‘'*(]\s*)(?:an?\s+|the\s+|to\s+)?[\"“‘'*]*{words}s?{_EXPLAINS}"


def is_explained(question: str, heading: str, said: str) -> float:
    """A factor above 1 for a sentence that says what something is, where that is the question."""
    what = to_explain(question)
    if what is None:
        return 1.0
    begins = " ".join(said[:200].lower().split())
    # One word of an inflected language may differ from the question's: its beginning counts.
    stem = re.escape(what.rstrip("s"))
    titled = re.sub(r"^[\W\d]+|\W+$", "", " ".join(heading.lower().split()))
    if titled.rstrip("s") == what.rstrip("s") and re.match(rf"{_MEANS}|{_IS}", begins):
        return 3.2  # it has the heading's words only, at their smaller weight
    if re.search(rf"\b{stem}s?{_AFTER}{_MEANS}|[\"“‘'*]{stem}s?[\"”’'*]", begins):
        return 2.0
    if re.match(rf"(?:[\W\d]*(?:an?|the|to|in|by)?\s*)[\"“‘'*]*{stem}s?{_AFTER}{_IS}", begins):
        return 2.0
    return 1.2 if re.search(rf"\b{stem}s?\b{_EXPLAINS}|\bto {stem}\b", begins) else 1.0
