"""Everything that can happen in a run, as frozen values: `rlm.trace/1`.

One stream, several readers: the trace on disk, the live tree, the plain lines, `--jsonl`, `rlm show`. An event says
what happened, never how it looks. `Stamped` is the envelope; `seq` has no gaps, `t` is seconds since the start.
`UNKEPT` events are shown and not kept: progress, many a second.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from .ledger import Usage
from .result import Confined, RunLimits


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The run is going to spend. `models`: root, sub; `sandbox`: name, level, proved; `limits` as in the result."""

    type: ClassVar[str] = "run.started"
    question: str
    sources: tuple[str, ...]
    models: dict[str, str | None]
    limits: RunLimits
    sandbox: Confined
    version: str
    settings: dict[str, dict[str, Any]]
    """Name → {"value", "origin"}."""
    folder: str = ""
    """The working directory."""
    continues: str = ""
    """The run that a follow-up question goes on from."""
    transports: dict[str, str] = field(default_factory=dict)
    """Model → how its requests go out: `lean` or `litellm`."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Progress of reading the sources: totals so far, and what is being read now. Never written to a trace.

    `bytes` of the sources, not of their text.
    """

    type: ClassVar[str] = "reading"
    files: int
    bytes: int
    pages: int
    path: str


@dataclass(frozen=True, slots=True)
class CorpusLoaded:
    """What was read. `sha256` of the whole text, hex; `tokens` an estimate; `excluded` rule → number of files;
    `skipped` [{"path", "reason"}]; `read`: every document as in `rlm.manifest/1`.
    """

    type: ClassVar[str] = "corpus.loaded"
    sha256: str
    files: int
    chars: int
    tokens: int
    excluded: dict[str, int]
    skipped: tuple[dict[str, str], ...]
    lines: int = 0
    pages: int = 0
    read: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class CallStarted:
    """A call, at the address of its envelope (`0`, `0.2`). Depth 0 is the root. `context_chars`: what it was given."""

    type: ClassVar[str] = "call.started"
    parent: str | None
    depth: int
    kind: str
    """root, sample, rlm or llm"""
    model: str
    question: str
    context_chars: int
    key: str = ""
    """The same for the same prompt over the same text; empty for what no code asked."""


@dataclass(frozen=True, slots=True)
class IterationStarted:
    """The root, or a child with a REPL, is asked for its `n`-th reply, from 1."""

    type: ClassVar[str] = "iteration.started"
    n: int


@dataclass(frozen=True, slots=True)
class CompletionStarted:
    """A request goes out, or waits to. `reserved_usd`: its ceiling in the ledger, None where no price is known."""

    type: ClassVar[str] = "completion.started"
    messages: tuple[dict[str, Any], ...]
    """{"role", "content"}, and where there are some: `tools` (offered), `calls` (made), `result_of` (the id of the call
    that it answers). The trace stores long contents once, as blobs."""
    purpose: str
    """iteration, summary, sub, direct or landing"""
    estimated_input_tokens: int
    max_output_tokens: int
    reserved_usd: float | None


@dataclass(frozen=True, slots=True)
class CompletionFinished:
    """A reply, or the failure of a request after its retries (`error` set, `text` empty).

    `cost_usd` None = no price is known; `cached`: the reply came from our own cache; `duration_s` with all retries.
    """

    type: ClassVar[str] = "completion.finished"
    request: str
    """sha256 of model, messages and options"""
    text: str
    finish_reason: str
    usage: Usage
    cost_usd: float | None
    cached: bool
    retries: int
    duration_s: float
    model: str = ""
    purpose: str = ""
    reasoning: str = ""
    calls: tuple[dict[str, str], ...] = ()
    """Of functions: {"id", "name", "arguments", "sealed"}."""
    error: str | None = None
    estimated_usd: float = 0.0
    """The part of `cost_usd` that is a ceiling and no bill: of requests cut short, cancelled or timed out."""


@dataclass(frozen=True, slots=True)
class CodeStarted:
    """A cell begins to run."""

    type: ClassVar[str] = "code.started"
    code: str


@dataclass(frozen=True, slots=True)
class CodeFinished:
    """A cell has ended. `stdout` head and tail, `omitted_chars` between them; `final`: it handed over the answer."""

    type: ClassVar[str] = "code.finished"
    stdout: str
    omitted_chars: int
    error: str | None
    final: bool
    duration_s: float


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """Code calls a function of the user's; it may wait for those before it. Its envelope has an address of its own."""

    type: ClassVar[str] = "tool.started"
    parent: str
    depth: int
    name: str
    arguments: str
    """JSON, [[…], {…}]: by position, by name. Its beginning, where it is very long."""
    omitted_chars: int = 0
    """Of the arguments."""


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """That call has ended: with a result, or with `error` (`TypeName: message`).

    `printed`: the end of what the function's code printed; `duration_s` without the wait for other calls.
    """

    type: ClassVar[str] = "tool.finished"
    name: str
    result: str
    """JSON, or empty. Its beginning, where it is very long."""
    omitted_chars: int
    error: str | None
    printed: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class NoticeGiven:
    """Something the user should know. `code`: a stable word for programs; `message`: one line. `wait_s`: seconds that
    the call waits from now on, where that is the news."""

    type: ClassVar[str] = "notice"
    code: str
    message: str
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LimitHit:
    """A limit refused something, told once. `limit` is a `StopReason`; `value` and `max` in its unit (USD, tokens,
    calls, iterations, seconds)."""

    type: ClassVar[str] = "limit.reached"
    limit: str
    value: float
    max: float


@dataclass(frozen=True, slots=True)
class CallFinished:
    """A call has ended; `answer` as text, of a failed one why."""

    type: ClassVar[str] = "call.finished"
    status: str
    """complete, partial, not_found, invalid or failed"""
    answer: str
    usage: Usage
    """of the whole subtree"""
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class CitationChecked:
    """A quote was looked up: `located` as `result.Located`; `lines` first and last, from 1; None where unknown."""

    type: ClassVar[str] = "citation.checked"
    n: int
    quote: str
    located: str
    matches: int
    path: str | None
    page: int | None
    lines: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class SamplesCompared:
    """Independent trajectories were compared: `groups` are the addresses of those that say the same, the largest group
    first; `agreeing` of the `answered` say what `chosen` says. `asked` were begun."""

    type: ClassVar[str] = "samples.compared"
    asked: int
    answered: int
    agreeing: int
    groups: tuple[tuple[str, ...], ...]
    chosen: str


@dataclass(frozen=True, slots=True)
class CoverageGrew:
    """How many lines of the corpus models have been shown so far. Shown live, never written to a trace."""

    type: ClassVar[str] = "coverage"
    lines: int
    total: int


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The end; `result` is the object of `--json` (`rlm.result/1`)."""

    type: ClassVar[str] = "run.finished"
    result: dict[str, Any]


Event = (
    RunStarted
    | Reading
    | CorpusLoaded
    | CallStarted
    | IterationStarted
    | CompletionStarted
    | CompletionFinished
    | CodeStarted
    | CodeFinished
    | ToolStarted
    | ToolFinished
    | NoticeGiven
    | LimitHit
    | CallFinished
    | CitationChecked
    | SamplesCompared
    | CoverageGrew
    | RunFinished
)

UNKEPT: tuple[type, ...] = (Reading, CoverageGrew)
"""Events that are shown and not kept: they carry no `seq`."""


@dataclass(frozen=True, slots=True)
class Stamped:
    """An event in its envelope. `call` is the address it belongs to, None for the run as a whole."""

    run: str
    seq: int
    t: float
    call: str | None
    event: Event
