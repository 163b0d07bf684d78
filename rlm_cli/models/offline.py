"""`offline/extractive`: no language model, but something that reads the same messages and keeps the same protocol.

For a first try without a key, for tests, for machines that may not talk to anybody. As root LM it writes one block of
code that ranks passages of all documents by the question's words and asks the sub-LM about the best; as sub-LM, and in
direct mode, it returns the sentences that match best, word for word, as quotes. It never puts anything in words of its
own, so it can be incomplete but not wrong about what a document says.

Passages are ranked as by BM25, rarity times a count that saturates, without its correction for length: they are of one
size. The code for it searches texts as they are, so 100 MB take a second and 1 GB some ten, in the memory of the hits.

Which role it has it reads from the messages, as a model would: a system message that speaks of a REPL makes a root.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..call import Completion, Dialect, Message
from ..ledger import Price, Usage
from ..prompts import QUESTION_MARK, question_of
from ..schema import Schema
from .extract import best, terms
from .forms import explanation

WINDOW = 250_000
"""Tokens. Reading costs nothing, but a sub-prompt should stay something a trace can show."""
PASSAGE_CHARS = 1_500
MOST_CHARS = 40_000
"""Of passages in one sub-prompt."""

_NOT_FOUND = "NOT FOUND"
_LANDING = "The work ends here"
_SUB_CHARS = re.compile(r"at most\s+([\d,]+)\s+characters")


class ExtractiveModel:
    """See `Model` for the attributes."""

    name = "offline/extractive"
    endpoint: str | None = None
    window = WINDOW
    max_output = 16_000
    price: Price | None = Price(0.0, 0.0)
    protocol: Dialect = "text"
    reasons = False
    structured = False
    rpm: int | None = None
    transport: str | None = None
    tpm: int | None = None

    async def ready(self) -> None:
        """Nothing has to be loaded."""

    async def complete(
        self, messages: Sequence[Message], *, max_output_tokens: int, sub: bool, schema: Schema | None = None
    ) -> Completion:
        """The reply, computed. Limits, options and schema of a request mean nothing here. Raises nothing."""
        text = reply(messages)
        read = sum(len(message.content) for message in messages)
        return Completion(text, usage=Usage(read // 4 + 1, len(text) // 4 + 1), cost_usd=0.0)

    async def close(self) -> None:
        """Nothing is open."""


def reply(messages: Sequence[Message]) -> str:
    """What the model answers."""
    system = "\n".join(message.content for message in messages if message.role == "system")
    if "REPL" in system:
        return _as_root(system, messages)
    return _as_reader(messages[0].content)  # what follows is its own reply and why it will not do


def _as_reader(prompt: str) -> str:
    """The best sentences of a prompt that holds a text and, at its end, a question."""
    text, question = _parted(prompt)
    found = best(question, text)
    if not found:
        return _NOT_FOUND
    several = len({unit.path for unit in found} | {None}) > 2 or any(unit.path for unit in found)
    said = [f"{unit.text} [{n}]" for n, unit in enumerate(found, 1)]
    quotes = []
    for unit in found:
        words = " ".join(unit.text.split())
        quotes.append(f"> {unit.path}: {words}" if several and unit.path else f"> {words}")
    return "\n".join([*said, "", *quotes])


def _parted(prompt: str) -> tuple[str, str]:
    """Text and question. Instructions between a line `---` and the question are neither."""
    start = prompt.rfind(f"\n{QUESTION_MARK}")
    if start < 0:
        text, _, question = prompt.rstrip().rpartition("\n\n")
        return text, question
    text = prompt[:start]
    rule = text.rfind("\n---\n")
    return (text[:rule] if rule >= 0 else text), prompt[start + 1 + len(QUESTION_MARK) :].strip()


def _as_root(system: str, messages: Sequence[Message]) -> str:
    """One block that answers; when it has run and the call still goes on, one that does without sub-calls."""
    asked = [message for message in messages if message.role == "user" and question_of(message.content) is not None]
    question = (question_of(asked[-1].content) if asked else None) or ""  # the last one, in a follow-up
    since = messages[messages.index(asked[-1]) :] if asked else messages
    again = any(message.role == "assistant" for message in since) or _LANDING in messages[-1].content
    if again and "No more code runs" in messages[-1].content:
        return "No answer was extracted before the limit."
    wanted = [term for term in terms(question) if len(term) > 2 or not term.isalpha() or not term.isascii()]
    wanted = wanted or terms(question)
    if not wanted:
        return "The question has no words to look for.\n```repl\nFINAL(None)\n```"
    size = _SUB_CHARS.search(system)
    most = min(MOST_CHARS, int(size[1].replace(",", "")) // 2 if size else MOST_CHARS)
    take = max(most // (2 * PASSAGE_CHARS), 1)
    said = explanation(question)
    code = _RANK.format(question=question, wanted=wanted, explained=said, size=PASSAGE_CHARS, take=take)
    return f"Passages are ranked by the question's words.\n```repl\n{code}{_QUOTE if again else _ASK}```"


_RANK = '''\
import math
import re

question = {question!r}
terms = {wanted!r}
explained = {explained!r}
SIZE, BLOCK, TAKE = {size}, {size} * 700, {take}

# Which passages hold which terms, one bit a term. After a hit the search goes on in the next passage. A term is a
# word's beginning, a short one all of it; Chinese and Japanese have no words to begin.
places = {{}}
spaced = [not "\u3040" <= term[0] <= "\u9fff" for term in terms]
whole = [term.isdigit() or term.isascii() and len(term) < 3 for term in terms]
for number, doc in enumerate(docs):
    text = doc.text
    for base in range(0, len(text), BLOCK):
        block = text[base:base + BLOCK].lower()
        for bit, term in enumerate(terms):
            at = block.find(term)
            while at >= 0:
                after = block[at + len(term):at + len(term) + 1]
                if spaced[bit] and at and block[at - 1].isalnum() or whole[bit] and after.isalnum():
                    at = block.find(term, at + 1)
                    continue
                place = (number, (base + at) // SIZE)
                places[place] = places.get(place, 0) | 1 << bit
                at = block.find(term, (at // SIZE + 1) * SIZE)

# Rare terms weigh more; of passages with the same terms those that repeat them come first.
spread = [sum(mask >> bit & 1 for mask in places.values()) for bit in range(len(terms))]
weight = [math.log(1 + (len(places) + 1) / (count + 0.5)) for count in spread]


def piece(place, around=300):
    """A passage with some text around it, from line to line."""
    text, start = docs[place[0]].text, place[1] * SIZE
    low, high = max(start - around, 0), min(start + SIZE + around, len(text))
    found = text[low:high]
    if low:
        found = found[found.find("\\n", 0, around) + 1:]
    if high < len(text) and (cut := found.rfind("\\n", len(found) - around)) > 0:
        found = found[:cut]
    return found


def by_terms(place):
    return sum(w for bit, w in enumerate(weight) if places[place] >> bit & 1)


# Words that follow each other in the question, and a text that says what something is, count more.
pairs = [re.compile(re.escape(a) + r"\\w{{0,6}}\\W{{1,3}}" + re.escape(b)) for a, b in zip(terms, terms[1:])]


def by_counts(place):
    text = piece(place).lower()
    score = by_terms(place) + sum(w * text.count(t) / (text.count(t) + 4) for t, w in zip(terms, weight)) / 2
    near = sum(bool(pair.search(text)) for pair in pairs) / max(len(pairs), 1)
    said = explained is not None and re.search(explained, text, re.MULTILINE) is not None
    return score + sum(weight) * (near / 4 + said / 2)


best = sorted(places, key=lambda place: (-by_terms(place), place))[:400]
best = sorted(best, key=lambda place: (-by_counts(place), place))[:TAKE]
passages = [(docs[place[0]].path, piece(place)) for place in sorted(best)]
print(len(places), "passages hold a term;", "best:", sorted({{path for path, _ in passages}}))
'''

_ASK = """
if not passages:
    FINAL(None)
else:
    shown = "\\n\\n".join(f"===== {path} =====\\n{text}" for path, text in passages)
    reply = llm_query(
        f"{shown}\\n\\n---\\nAnswer the question from the passages above and from nothing else. After the answer, one"
        " line `> path: words` for each statement, copied verbatim. If they do not answer it, reply NOT FOUND."
        f"\\n\\nQuestion: {question}"
    )
    paths = sorted({path for path, _ in passages}, key=len, reverse=True)
    said, quotes = [], []
    for line in reply.splitlines():
        words = line[1:].strip()
        if not line.startswith(">"):
            said.append(line)
        elif words:
            path = next((path for path in paths if words.startswith(path + ": ")), None)
            quotes.append((path, words[len(path) + 2:]) if path else words)
    answer = "\\n".join(said).strip()
    FINAL(None if answer.rstrip(".").upper() == "NOT FOUND" else answer, quotes=quotes)
"""

_QUOTE = """
lines = [(path, line.strip()) for path, text in passages for line in text.splitlines() if line.strip()]
lines.sort(key=lambda item: -sum(w for t, w in zip(terms, weight) if t in item[1].lower()))
quotes = [(path, line[:500]) for path, line in lines[:3]]
FINAL("\\n".join(f"{line} [{n}]" for n, (_, line) in enumerate(quotes, 1)) or None, quotes=quotes)
"""
