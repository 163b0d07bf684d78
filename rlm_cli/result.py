"""What a run hands back: the answer, its citations, what was seen, what it cost. `rlm.result/1`.

`Result.to_json` is the object of `--json`, of `result.json` and of the last trace event: every key always present.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, TypedDict

from .errors import RlmError
from .ledger import StopReason

SCHEMA = "rlm.result/1"


class Status(StrEnum):
    COMPLETE = "complete"
    PARTIAL = "partial"
    NOT_FOUND = "not_found"
    INVALID = "invalid"
    FAILED = "failed"
    STOPPED = "stopped"


class Located(StrEnum):
    """What the host found of a quote. `APPROXIMATE` comes with a `difference`; `AMBIGUOUS` means several documents."""

    EXACT = "exact"
    APPROXIMATE = "approximate"
    AMBIGUOUS = "ambiguous"
    NO = "no"


@dataclass(frozen=True, slots=True)
class Quote:
    """Words the model says stand in the corpus; `path` is its hint at the document, else None."""

    text: str
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call hands over. `value` None: the documents do not answer. `partial`: a limit cut the work short, `why`
    says which in words."""

    value: Any
    quotes: tuple[Quote, ...] = ()
    stop_reason: StopReason = StopReason.FINAL
    problem: str = ""
    """Why it does not satisfy what was asked of it (`--schema`, `--strict`); empty = it does."""
    why: str = field(default="", compare=False)

    @property
    def status(self) -> Status:
        """Of the call that hands it over."""
        if self.problem:
            return Status.INVALID
        return Status.PARTIAL if self.partial else Status.COMPLETE if self.found else Status.NOT_FOUND

    @property
    def partial(self) -> bool:
        return self.stop_reason is not StopReason.FINAL

    @property
    def found(self) -> bool:
        return self.value is not None


@dataclass(frozen=True, slots=True)
class Citation:
    """A quote, located by the host. `n` is its place in the model's quotes, from 1. `lines`: first and last, from 1."""

    n: int
    quote: str
    located: Located
    path: str | None = None
    page: int | None = None
    lines: tuple[int, int] | None = None
    difference: str | None = None
    matches: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "path": self.path,
            "page": self.page,
            "lines": list(self.lines) if self.lines else None,
            "quote": self.quote,
            "located": str(self.located),
            "difference": self.difference,
            "matches": self.matches,
        }


@dataclass(frozen=True, slots=True)
class Notice:
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ErrorReport:
    code: str
    message: str
    hint: str


@dataclass(slots=True)
class ModelUsage:
    """What one model was asked and what that cost. `cost_usd` None = unknown, which is never zero. `calls_from_cache`:
    those of `calls` whose reply was on record; they used no tokens and cost nothing."""

    calls: int = 0
    calls_from_cache: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float | None = 0.0


class Skip(TypedDict):
    """A file that was meant to be read and could not be."""

    path: str
    reason: str


class Files(TypedDict):
    """Counts of documents. `excluded`: by rule; `total`: read and skipped."""

    total: int
    read: int
    seen_by_model: int
    excluded: dict[str, int]
    skipped: list[Skip]


class Lines(TypedDict):
    total: int
    seen_by_model: int


class Coverage(TypedDict):
    """How much of the documents models were shown."""

    files: Files
    lines: Lines
    truncated_calls: int


class Subcalls(TypedDict):
    ok: int
    failed: int
    retried: int


class Compared(TypedDict):
    """How independent trajectories compare, as in `events.SamplesCompared`."""

    asked: int
    answered: int
    agreeing: int
    groups: list[list[str]]
    chosen: str


class RunLimits(TypedDict, total=False):
    """None = no such limit; money in USD, time in seconds. Empty after an error that came before they were known."""

    max_budget: float | None
    max_tokens: int | None
    max_depth: int
    max_iterations: int
    max_subcalls: int
    timeout_s: float | None


class RunModels(TypedDict):
    """Names, None where none was chosen yet."""

    root: str | None
    sub: str | None


class Confined(TypedDict):
    """The sandbox. `proved`: what was tried in it before any code of a model ran, and was refused."""

    name: str | None
    level: str | None
    proved: list[str]


@dataclass(slots=True)
class Result:
    """One run, whole. Field by field the JSON object of `surface.md`."""

    question: str
    status: Status = Status.FAILED
    stop_reason: StopReason = StopReason.ERROR
    exit_code: int = 70
    answer: Any = None
    found: bool | None = None
    citations: list[Citation] = field(default_factory=list)
    coverage: Coverage | None = None
    mode: str = "auto"
    samples: Compared | None = None
    """None where there was one trajectory."""
    usage: ModelUsage = field(default_factory=ModelUsage)
    cost_known: bool = True
    cost_estimated_usd: float = 0.0
    """The part of `usage.cost_usd` that is a ceiling and no bill: of requests that were cut short."""
    by_model: dict[str, ModelUsage] = field(default_factory=dict)
    subcalls: Subcalls = field(default_factory=lambda: Subcalls(ok=0, failed=0, retried=0))
    limits: RunLimits = field(default_factory=lambda: RunLimits())
    models: RunModels = field(default_factory=lambda: RunModels(root=None, sub=None))
    sandbox: Confined = field(default_factory=lambda: Confined(name=None, level=None, proved=[]))
    run: str | None = None
    trace: str | None = None
    started: str = ""
    duration_s: float = 0.0
    notices: list[Notice] = field(default_factory=list)
    error: ErrorReport | None = None
    version: str = ""
    structured: bool = False
    """The answer was asked for as a value: it stays one in the JSON object, and stdout shows it as JSON."""
    failure: RlmError | None = None
    """The error itself, for who shows it in three parts; not part of the JSON object."""

    @property
    def text(self) -> str:
        """The answer as stdout shows it: text as it is, anything else, and whatever is `structured`, as JSON."""
        return json_text(self.answer) if self.structured else answer_text(self.answer)

    def to_json(self) -> dict[str, Any]:
        """The `rlm.result/1` object; JSON-ready."""
        usage = asdict(self.usage) | {
            "cost_known": self.cost_known,
            "cost_estimated_usd": self.cost_estimated_usd,
            "by_model": {name: asdict(used) for name, used in self.by_model.items()},
        }
        return {
            "schema": SCHEMA,
            "status": str(self.status),
            "stop_reason": str(self.stop_reason),
            "exit_code": self.exit_code,
            "question": self.question,
            "answer": self.answer if self.structured or self.answer is None else self.text,
            "found": self.found,
            "citations": [citation.to_json() for citation in self.citations],
            "coverage": self.coverage,
            "mode": self.mode,
            "samples": self.samples,
            "usage": usage,
            "subcalls": self.subcalls,
            "limits": self.limits,
            "models": self.models,
            "sandbox": self.sandbox,
            "run": self.run,
            "trace": self.trace,
            "started": self.started,
            "duration_s": round(self.duration_s, 3),
            "notices": [asdict(notice) for notice in self.notices],
            "error": asdict(self.error) if self.error else None,
            "rlm_version": self.version,
        }


def answer_text(value: Any) -> str:
    """A handed-over value as text: strings as they are, everything else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json_text(value)


def json_text(value: Any) -> str:
    """A value as JSON on one line, as people read it."""
    import json

    return json.dumps(value, ensure_ascii=False, default=str)


def exit_code(status: Status, error_code: int | None = None, signal: int | None = None, *, is_no: bool = False) -> int:
    """The one place where a status becomes the shell's code and JSON's `exit_code`.

    Where several apply: 130/143 > 70 > 3/5/7 > 8 > 6 > 1 > 0. `signal` is a signal number. `is_no`: a yes/no question
    was answered by no, or by not found.
    """
    if signal is not None:
        return 128 + signal
    if error_code is not None:
        return error_code
    match status:
        case Status.COMPLETE | Status.NOT_FOUND:
            return int(is_no)
        case Status.PARTIAL:
            return 6
        case Status.INVALID:
            return 8
        case Status.STOPPED:
            return 130
        case Status.FAILED:
            return 70
