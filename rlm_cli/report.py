"""How a question ended, written up: the object of `--json`, from what the run left behind.

One function of what there is then; an early error leaves most of it empty, and every key is there all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from . import __version__
from .errors import InvalidAnswer, LimitReached, RlmError
from .fold import Standing
from .ledger import StopReason
from .result import (
    Answer,
    Citation,
    Compared,
    Confined,
    Coverage,
    ErrorReport,
    ModelUsage,
    Notice,
    Result,
    RunLimits,
    Status,
    Subcalls,
    exit_code,
)

if TYPE_CHECKING:
    from .question import Question


@dataclass
class Ending:
    """How a run ended, before it is written up."""

    answer: Answer | None = None
    error: RlmError | None = None
    signal: int | None = None
    citations: tuple[Citation, ...] = ()


def result_of(asked: Question, ending: Ending) -> Result:
    """The object of `--json`, of a question that has ended. Texts that hold a key are without it."""
    status, reason = _status(ending)
    error = ending.error
    answer = ending.answer if status is not Status.STOPPED else None
    totals = asked.stream.state.totals
    hidden = asked.stream.trace.scrubbed  # a document, or a model, may hold the key
    return Result(
        question=hidden(asked.job.question),
        status=status,
        stop_reason=reason,
        exit_code=exit_code(
            status, error.exit_code if error else None, ending.signal, is_no=_is_no(asked, ending.answer)
        ),
        answer=_in_texts(hidden, answer.value) if answer else None,
        found=answer.found if answer else None,
        citations=[replace(c, quote=hidden(c.quote)) for c in ending.citations] if answer else [],
        coverage=_coverage(asked),
        mode=asked.mode,
        samples=_samples(asked),
        usage=ModelUsage(
            calls=totals.calls,
            calls_from_cache=totals.cached,
            input_tokens=totals.usage.input_tokens,
            cached_input_tokens=totals.usage.cached_input_tokens,
            output_tokens=totals.usage.output_tokens,
            reasoning_tokens=totals.usage.reasoning_tokens,
            cost_usd=totals.cost if totals.cost_known else None,
        ),
        cost_known=totals.cost_known,
        cost_estimated_usd=totals.estimated,
        by_model=totals.by_model,
        subcalls=_subcalls(asked),
        limits=limits_of(asked),
        models={
            "root": asked.models.root.name if asked.models else asked.job.settings.model,
            "sub": asked.models.sub.name if asked.models else asked.job.settings.sub_model,
        },
        sandbox=confined(asked),
        run=asked.stream.trace.run or None,
        trace=asked.trace_file,
        started=asked.started.strftime("%Y-%m-%dT%H:%M:%SZ"),
        duration_s=asked.stream.seconds,
        notices=[Notice(n.code, hidden(n.message)) for n in asked.stream.state.notices if n.code != "retrying"],
        error=ErrorReport(error.code, hidden(str(error)), hidden(error.hint)) if error else None,
        version=__version__,
        structured=asked.structured,
        failure=error,
    )


def _is_no(asked: Question, answer: Answer | None) -> bool:
    """Whether a yes/no question was answered by no, or not found."""
    return asked.job.settings.exit_status and answer is not None and not answer.value


def _coverage(asked: Question) -> Coverage | None:
    if asked.documents is None:
        return None
    corpus, manifest = asked.documents.corpus, asked.documents.manifest
    seen = asked.run.seen.coverage if asked.run is not None else None
    return {
        "files": {
            "total": len(corpus.documents) + len(manifest.skipped),
            "read": len(corpus.documents),
            "seen_by_model": seen.documents_seen if seen else 0,
            "excluded": dict(manifest.excluded),
            "skipped": [{"path": s.path, "reason": s.reason} for s in manifest.skipped],
        },
        "lines": {"total": corpus.lines, "seen_by_model": seen.lines_seen if seen else 0},
        "truncated_calls": asked.stream.state.totals.cut,
    }


def _samples(asked: Question) -> Compared | None:
    compared = asked.stream.state.samples
    if compared is None:
        return None
    return {
        "asked": compared.asked,
        "answered": compared.answered,
        "agreeing": compared.agreeing,
        "groups": [list(group) for group in compared.groups],
        "chosen": compared.chosen,
    }


def _subcalls(asked: Question) -> Subcalls:
    below = [
        call for call in asked.stream.state.calls.values() if call.kind in ("llm", "rlm") and call.ended is not None
    ]
    failed = sum(call.standing is Standing.FAILED for call in below)
    return {"ok": len(below) - failed, "failed": failed, "retried": sum(call.retries for call in below)}


def limits_of(asked: Question) -> RunLimits:
    """As the result and the trace have them."""
    limits = asked.job.limits
    return {
        "max_budget": limits.max_budget,
        "max_tokens": limits.max_tokens,
        "max_depth": limits.max_depth,
        "max_iterations": limits.max_iterations,
        "max_subcalls": limits.max_subcalls,
        "timeout_s": limits.timeout_s,
    }


def confined(asked: Question) -> Confined:
    """The sandbox, and what it proved."""
    name = asked.job.settings.sandbox if asked.sandbox is None else asked.sandbox.name
    proof = asked.proof
    return Confined(name=name, level=proof.level if proof else None, proved=list(proof.refused) if proof else [])


def _in_texts(change: Callable[[str], str], value: Any) -> Any:
    """A JSON-able value with all its texts changed."""
    match value:
        case str():
            return change(value)
        case list():
            return [_in_texts(change, item) for item in value]
        case dict():
            return {change(key): _in_texts(change, item) for key, item in value.items()}
        case _:
            return value


def _status(ending: Ending) -> tuple[Status, StopReason]:
    if ending.signal is not None:
        return Status.STOPPED, StopReason.INTERRUPT
    match ending.error:
        case LimitReached() as limit:
            return Status.PARTIAL, StopReason(limit.reason)
        case InvalidAnswer() if ending.answer is not None:
            return Status.INVALID, ending.answer.stop_reason
        case RlmError():
            return Status.FAILED, StopReason.ERROR
    answer = ending.answer
    assert answer is not None
    if answer.partial:
        return Status.PARTIAL, answer.stop_reason
    return (Status.COMPLETE if answer.found else Status.NOT_FOUND), StopReason.FINAL
