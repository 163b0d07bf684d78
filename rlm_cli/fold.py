"""The events of a run folded into the run as it stands: what the live tree draws and what `rlm show` prints.

Incremental: `RunState.apply` takes one event in O(1), and a finished call is poured into its parent's `Folded` count.
A frame is then a walk over the calls that are still at work, O(height), whether a hundred calls were made or a
hundred thousand (rendering every call of a tree of 10,000 took half a second a frame).

Pure: no clock (times are the events' own `t`), no terminal. Rejected: a tree rebuilt from a list of events for every
frame, and totals asked of the ledger: a trace that is read back has no ledger, and both must show the same figures.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from .events import (
    CallFinished,
    CallStarted,
    CitationChecked,
    CodeFinished,
    CodeStarted,
    CompletionFinished,
    CompletionStarted,
    CorpusLoaded,
    CoverageGrew,
    IterationStarted,
    LimitHit,
    NoticeGiven,
    Reading,
    RunFinished,
    RunStarted,
    SamplesCompared,
    Stamped,
    ToolFinished,
    ToolStarted,
)
from .ledger import Usage
from .result import ModelUsage

NOTHING = Usage()


class Standing(StrEnum):
    """Where a call stands. The last four are ends, spelled as `call.finished` spells them."""

    WAITING = "waiting"
    """started, nothing asked yet: no slot, or no room in the budget"""
    ASKING = "asking"
    """a request is in flight"""
    RETRYING = "retrying"
    """a request waits for a clock: it failed, or the model is asked as often as it may be"""
    CODING = "coding"
    """code runs in the REPL, or waits there for sub-calls"""
    COMPLETE = "complete"
    PARTIAL = "partial"
    NOT_FOUND = "not_found"
    FAILED = "failed"


ENDS = {str(end): end for end in (Standing.COMPLETE, Standing.PARTIAL, Standing.NOT_FOUND, Standing.FAILED)}
ENDS["invalid"] = Standing.FAILED  # an answer that is none


def add_cost(a: float | None, b: float | None) -> float | None:
    """USD; None = unknown, and a sum with an unknown part is unknown."""
    return None if a is None or b is None else a + b


def as_written(call: ToolStarted) -> str:
    """A call of a function of the user's, as code: `lookup("acme", limit=3)`."""
    try:
        places, names = json.loads(call.arguments)
        words = [json.dumps(value, ensure_ascii=False) for value in places]
        words += [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in names.items()]
        return f"{call.name}({', '.join(words)})"
    except (ValueError, TypeError, AttributeError, RecursionError):  # its beginning only, or another version's
        return f"{call.name}({call.arguments}…)"


def index_of(address: str) -> int:
    """The place of a call among its siblings: 3 for `0.3`."""
    return int(address.rpartition(".")[2])


@dataclass(slots=True)
class Folded:
    """Finished siblings, counted and no longer listed: `0.1 … 0.18 ✓ 18`. Usage and cost (USD): of their subtrees."""

    count: int = 0
    first: str = ""
    last: str = ""
    usage: Usage = NOTHING
    cost: float | None = 0.0
    cached: int = 0
    """Of their own replies, those that were on record."""
    models: set[str] = field(default_factory=set)

    def add(self, call: CallState) -> None:
        usage, cost = call.subtree()
        self.count += 1
        if not self.first or index_of(call.address) < index_of(self.first):
            self.first = call.address
        if not self.last or index_of(call.address) > index_of(self.last):
            self.last = call.address
        self.usage += usage
        self.cost = add_cost(self.cost, cost)
        self.cached += call.cached
        self.models.add(call.model)


@dataclass(slots=True)
class CallState:
    """One call. `usage` and `cost` are what its own completions used, not its children's. Times: seconds of the run.

    Of kind `tool`: a call of a function of the user's; `model` is its name, `question` the call as code writes it.
    """

    address: str
    parent: str | None
    depth: int
    kind: str
    model: str
    question: str
    context_chars: int
    started: float
    ended: float | None = None
    standing: Standing = Standing.WAITING
    iteration: int = 0
    completions: int = 0
    cached: int = 0
    """Of its completions, those that were on record."""
    retries: int = 0
    usage: Usage = NOTHING
    cost: float | None = 0.0
    detail: str = ""
    """Why it waits, while `standing` is RETRYING; why it failed, afterwards."""
    waits_until: float = 0.0
    """Seconds of the run; 0 = not known."""
    answer: str = ""
    active: dict[str, CallState] = field(default_factory=dict)
    """Children that have not finished, in the order they started."""
    folded: dict[Standing, Folded] = field(default_factory=dict)
    """Children that have finished, by how they ended."""
    tools: dict[Standing, Folded] = field(default_factory=dict)
    """The same for functions of the user's."""

    def subtree(self) -> tuple[Usage, float | None]:
        """Usage and cost (USD) of this call and all its finished children."""
        usage, cost = self.usage, self.cost
        for children in self.folded.values():
            usage, cost = usage + children.usage, add_cost(cost, children.cost)
        return usage, cost


@dataclass(slots=True)
class Totals:
    """What the run used so far. `calls` counts replies; `cost` is the known part in USD, whole if `cost_known`."""

    calls: int = 0
    cached: int = 0
    """Of `calls`, those whose reply was on record."""
    failed: int = 0
    cut: int = 0
    """Replies that their output limit cut off."""
    usage: Usage = NOTHING
    cost: float = 0.0
    cost_known: bool = True
    estimated: float = 0.0
    """The part of `cost` that is a ceiling and no bill."""
    by_model: dict[str, ModelUsage] = field(default_factory=dict)


@dataclass(slots=True)
class RunState:
    """A run as it stands after the events applied so far. `calls` holds every call by its address."""

    run: str = ""
    t: float = 0.0
    started: RunStarted | None = None
    reading: Reading | None = None
    reading_since: float = 0.0
    """When what is being read was begun."""
    reading_moved: float = 0.0
    """When something last came of it."""
    corpus: CorpusLoaded | None = None
    coverage: CoverageGrew | None = None
    calls: dict[str, CallState] = field(default_factory=dict)
    at_work: int = 0
    """Calls that have not finished."""
    totals: Totals = field(default_factory=Totals)
    notices: list[NoticeGiven] = field(default_factory=list)
    limits: list[LimitHit] = field(default_factory=list)
    samples: SamplesCompared | None = None
    citations: list[CitationChecked] = field(default_factory=list)
    finished: RunFinished | None = None

    @property
    def root(self) -> CallState | None:
        return self.calls.get("0")

    def apply(self, stamped: Stamped) -> None:
        """Take in one event. Events of calls that never started are counted in the totals and otherwise ignored."""
        self.run, self.t = stamped.run, max(self.t, stamped.t)
        call = self.calls.get(stamped.call) if stamped.call is not None else None
        match stamped.event:
            case RunStarted() as event:
                self.started = event
            case Reading() as event:
                if self.reading is None or event.path != self.reading.path:
                    self.reading_since = stamped.t
                if event != self.reading:
                    self.reading_moved = stamped.t
                self.reading = event
            case CorpusLoaded() as event:
                self.corpus, self.reading = event, None
            case CoverageGrew() as event:
                self.coverage = event
            case NoticeGiven() as event:
                self._notice(event, call, stamped.t)
            case LimitHit() as event:
                self.limits.append(event)
            case CitationChecked() as event:
                self.citations.append(event)
            case SamplesCompared() as event:
                self.samples = event
            case RunFinished() as event:
                self.finished = event
            case CallStarted() as event if stamped.call is not None:
                self._start(stamped.call, event, stamped.t)
            case CompletionFinished() as event:
                self._count(event, call)
            case CallFinished() as event if call is not None:
                self._finish(call, event, stamped.t)
            case IterationStarted(n) if call is not None:
                call.iteration = n
            case CompletionStarted() if call is not None:
                call.standing = Standing.ASKING
            case CodeStarted() | CodeFinished() if call is not None:
                call.standing = Standing.CODING
            case ToolStarted() as event if stamped.call is not None:
                chars = len(event.arguments) + event.omitted_chars
                started = CallStarted(event.parent, event.depth, "tool", event.name, as_written(event), chars)
                self._start(stamped.call, started, stamped.t)
                self.calls[stamped.call].standing = Standing.CODING
            case ToolFinished() as event if call is not None:
                call.detail = event.error or ""
                told = CallFinished("failed" if event.error else "complete", event.error or event.result, NOTHING)
                self._finish(call, told, stamped.t)

    def _start(self, address: str, event: CallStarted, t: float) -> None:
        call = CallState(
            address, event.parent, event.depth, event.kind, event.model, event.question, event.context_chars, t
        )
        self.calls[address] = call
        self.at_work += 1
        parent = self.calls.get(event.parent) if event.parent is not None else None
        if parent is not None:
            parent.active[address] = call

    def _finish(self, call: CallState, event: CallFinished, t: float) -> None:
        self.at_work -= call.ended is None
        call.ended, call.answer, call.detail = t, event.answer, call.detail if event.status == "failed" else ""
        call.standing = ENDS.get(event.status, Standing.COMPLETE)
        parent = self.calls.get(call.parent) if call.parent is not None else None
        if parent is not None and parent.active.pop(call.address, None) is not None:
            finished = parent.tools if call.kind == "tool" else parent.folded
            finished.setdefault(call.standing, Folded()).add(call)

    def _notice(self, event: NoticeGiven, call: CallState | None, t: float) -> None:
        self.notices.append(event)
        if event.code == "retrying" and call is not None:
            call.standing, call.detail = Standing.RETRYING, event.message
            call.waits_until = t + event.wait_s if event.wait_s else 0.0

    def _count(self, event: CompletionFinished, call: CallState | None) -> None:
        """A cost of None is unknown and makes the total unknown, even of a failed request: 0.0 says it was free."""
        totals = self.totals
        totals.calls += event.error is None
        totals.cached += event.cached
        totals.failed += event.error is not None
        totals.cut += event.finish_reason == "length"
        totals.usage += event.usage
        totals.cost += event.cost_usd or 0.0
        totals.cost_known = totals.cost_known and event.cost_usd is not None
        totals.estimated += event.estimated_usd
        model = event.model or (call.model if call is not None else "")
        used = totals.by_model.setdefault(model, ModelUsage())
        used.calls += event.error is None
        used.calls_from_cache += event.cached
        used.input_tokens += event.usage.input_tokens
        used.cached_input_tokens += event.usage.cached_input_tokens
        used.output_tokens += event.usage.output_tokens
        used.reasoning_tokens += event.usage.reasoning_tokens
        used.cost_usd = add_cost(used.cost_usd, event.cost_usd)
        if call is not None:
            call.completions += 1
            call.cached += event.cached
            call.retries += event.retries
            call.usage += event.usage
            call.cost = add_cost(call.cost, event.cost_usd)
            call.standing, call.detail = Standing.CODING, event.error or ""


def fold(events: Iterable[Stamped]) -> RunState:
    """The state after all of `events`, as a trace read back gives them."""
    state = RunState()
    for stamped in events:
        state.apply(stamped)
    return state
