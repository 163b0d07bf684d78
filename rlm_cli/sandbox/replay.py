"""What a REPL is rebuilt from when its process is gone: the cells that ran, and what their sub-calls answered.

A fresh process runs the cells again, and whatever they ask is answered from here: by cell, by what is asked (kind,
model, a hash of prompts and contexts), and by how often that was asked before. So no model is asked twice, and threads
may ask in another order than the first time.

A cell counts when it ended by itself, also with an error: what was bound before an error stays, and the model relies on
it. A cell that was interrupted, or that ended its process, is not run again. The rebuilding ends at the first cell that
fails now and did not before, that asks something else, or that takes far longer: the cells after it were written for a
state that is not there.

Rejected: pickling the namespace (functions, generators and classes of the cells do not pickle, and unpickling what
hostile code wrote is running it); forking a spare copy before each cell (twice the memory, and threads do not fork).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from ..corpus import Corpus
from . import Ask, Context, Failed, Query, Span
from .messages import Done

SLOWER = 3.0
"""Times as long as the first time may a cell compute, when it is run again …"""
AT_LEAST_S = 2.0
"""… and this much in any case, in seconds."""
NOT_ASKED = "this was not asked when the cell first ran; no model is asked while the REPL is rebuilt"

Results = Sequence[str | Failed]


@dataclass(eq=False, slots=True)
class Record:
    """One cell: its code and the answers it got. `answers`: for each thing asked the results in the order of asking;
    None: they had not come when the cell ended. `done` and `computed` (seconds) are set when it has ended by itself."""

    number: int
    code: str
    subcalls: bool
    answers: dict[bytes, list[Results | None]] = field(default_factory=dict)
    done: Done | None = None
    computed: float = 0.0

    def remembering(self, ask: Ask) -> Ask:
        """`ask`, with its results kept here."""

        async def answer(query: Query) -> Results:
            results = self.answers.setdefault(_key(query), [])
            place = len(results)
            results.append(None)
            try:
                answered = await ask(query)
            except Exception as problem:  # who answers turns failures into values; what slips through is one too
                answered = [Failed(f"{type(problem).__name__}: {problem}")] * len(query.prompts)
            results[place] = answered
            return answered

        return answer

    def again(self) -> Again:
        return Again(self)

    @property
    def patience(self) -> float:
        """Seconds it may compute when it is run again."""
        return max(AT_LEAST_S, SLOWER * self.computed)


class Again:
    """The queries of one cell that is run again; answers them from its record."""

    def __init__(self, record: Record) -> None:
        self.strayed = False
        """It asked what it had not asked before."""
        self._record = record
        self._asked: dict[bytes, int] = {}

    async def ask(self, query: Query) -> Results:
        key = _key(query)
        nth = self._asked[key] = self._asked.get(key, -1) + 1
        known = self._record.answers.get(key, [])
        if nth >= len(known):
            self.strayed = True
            return [Failed(NOT_ASKED)] * len(query.prompts)
        results = known[nth]
        if results is None:  # it was not answered before its cell ended, and is not now
            await asyncio.Event().wait()
            raise AssertionError
        return results

    def wrong(self, done: Done) -> str:
        """Why the cells after it cannot be run any more; empty if they can."""
        before = self._record.done
        if self.strayed:
            return "asks for other sub-calls than it did"
        if done.error and not (before and before.error):
            said = [line for line in done.error.strip().splitlines() if not line.startswith("(")]  # without the hint
            return f"fails now ({said[-1][:200] if said else 'with an error'})"
        return ""

    def differs(self, done: Done) -> bool:
        """It printed something else, or its variables have another shape."""
        before = self._record.done
        return before is None or _shown(before) != _shown(done)


@dataclass(slots=True)
class Rebuilt:
    """What came of running the cells again. `wrong`: at which cell it ended, and why. `time_up`: nothing is there, for
    want of time; the cells are kept for another try."""

    cells: list[int] = field(default_factory=list)
    differing: list[int] = field(default_factory=list)
    wrong: tuple[int, str] | None = None
    time_up: bool = False


class Recording:
    """The cells of a REPL, in order."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._gone: dict[int, str] = {}
        """Cells that are not run again and what is said of them; told once."""

    def keep(self, record: Record, done: Done, computed: float) -> None:
        """It ended by itself."""
        record.done, record.computed = done, computed
        self.records.append(record)

    def skip(self, number: int, why: str) -> None:
        """It is not to be run again."""
        self._gone.setdefault(number, why)

    def drop_last(self, why: str) -> None:
        if self.records:
            self.skip(self.records.pop().number, why)

    def cut(self, number: int, why: str) -> None:
        """This cell and those after it are not to be run again."""
        for record in self.records:
            if record.number >= number:
                self.skip(record.number, why if record.number == number else "")
        self.records = [record for record in self.records if record.number < number]

    def told(self, why: str, rebuilt: Rebuilt) -> str:
        """What the model is told, in a line or two."""
        if rebuilt.time_up:
            return f"{why}. There was no time to rebuild it: that is tried before the next cell."
        if not rebuilt.cells:
            self._gone.clear()
            return f"{why}. A fresh one is here: all variables are gone; `context` and `docs` are there."
        parts = [
            f"{why}. A fresh one is here, and {_cells(rebuilt.cells)} ran again in it, sub-calls answered from memory:"
            " what they bound is back."
        ]
        if self._gone:
            reasons = "; ".join(f"cell {number} {why}" for number, why in self._gone.items() if why)
            parts.append(f"Gone is what {_cells(self._gone)} bound ({reasons}).")
        if rebuilt.differing:
            parts.append(f"Look before you rely on {_cells(rebuilt.differing)}: the output is not what it was.")
        self._gone.clear()
        return " ".join(parts)


def _cells(numbers: Iterable[int]) -> str:
    """`cell 2`, `cells 1-3, 5`"""
    spans = []
    for _, run in groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0]):
        block = [number for _, number in run]
        spans.append(str(block[0]) if len(block) == 1 else f"{block[0]}-{block[-1]}")
    one = len(spans) == 1 and "-" not in spans[0]
    return f"cell{'' if one else 's'} {', '.join(spans)}"


def _shown(done: Done) -> tuple[object, ...]:
    return done.stdout, done.omitted, done.error, done.variables


def _key(query: Query) -> bytes:
    digest = hashlib.blake2b(repr((query.kind, query.model, len(query.prompts))).encode(), digest_size=16)
    for prompt, context in zip(query.prompts, query.contexts, strict=True):
        mix(digest, prompt)
        mix(digest, context)
    return digest.digest()


def mix(digest: hashlib.blake2b, context: Context | None) -> None:
    """Add a context to a hash; a slice by its offsets. Lengths go in as well, so that no two different lists of texts
    are the same bytes."""
    match context:
        case None:
            digest.update(b"none;")
        case str():
            data = context.encode("utf-8", "replace")
            digest.update(b"text %d;" % len(data) + data)
        case Span(start, stop):
            digest.update(b"span %d %d;" % (start, stop))
        case Corpus():
            digest.update(b"corpus %d;" % context.chars + context.sha256.encode())
        case _:
            digest.update(b"list %d;" % len(context))
            for part in context:
                mix(digest, part)
