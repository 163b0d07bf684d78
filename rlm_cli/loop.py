"""The recursive loop (arXiv 2512.24601, Algorithm 1) as a pure generator.

`converse` yields effects, `Complete` (ask a model) and `Execute` (run code), and is sent what came of them. There is
no network, process, clock or terminal in it: a test is a list of replies, a resumed run a longer list of replies.
Failures that the loop can act on arrive as values (`Refusal`, `Output.error`), or are raised at the request that
failed: with an answer in hand that does no harm, and one that was too long is sent again shorter. Anything else passes
through.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import partial
from itertools import takewhile
from typing import Any

from . import prompts, reply
from .call import Call, Complete, Completion, Execute, Handover, Message, Output, Turn
from .errors import ModelError, RlmError
from .ledger import Refusal, StopReason
from .result import Answer

Conversation = Generator[Complete | Execute, Completion | Refusal | Output, Answer]

SHRINKS = tuple(2**n for n in range(9))
"""By how much the window is taken to be smaller, one after the other, when a request is refused for its length."""
MONEY = (StopReason.MAX_BUDGET, StopReason.MAX_TOKENS)
"""Limits that a shorter request may keep."""
NUDGES = 3
"""Replies in a row that hold nothing to run before the call lands."""
SURE_NUDGES = 1
"""To who declines, or has seen an output and answers in prose: asking again does not change it."""
NO_PROGRESS = Refusal(StopReason.NO_PROGRESS, "one reply after the other held no code and no answer")


def out_of_iterations(call: Call) -> Refusal:
    """Why a call lands that has used up its iterations."""
    plural = "" if call.max_iterations == 1 else "s"
    return Refusal(StopReason.MAX_ITERATIONS, f"the limit of {call.max_iterations} iteration{plural} is reached")


def converse(call: Call) -> Conversation:
    """Drive one call to its answer. With `call.landing` off, a limit ends it without one: its value is None."""
    trajectory: tuple[Turn, ...] = ()
    held: Answer | None = None
    stop = out_of_iterations(call)
    for iteration in range(1, call.max_iterations + 1):
        try:
            asked = yield from _ask(call, iteration, partial(prompts.turn, trajectory=trajectory))
        except RlmError:
            if held is not None:
                return held  # an answer that was reached is never thrown away
            raise
        call, completion = asked
        if isinstance(completion, Refusal):
            stop = completion
            break
        parsed = reply.read(completion)
        if parsed.answer is not None:
            return Answer(parsed.answer.value, parsed.answer.quotes)
        output = (yield from _execute(Execute(parsed.code))) if parsed.code is not None else None
        trajectory = (*_without_draft(trajectory, output), Turn(parsed, output))
        if output is not None:
            handed = output.answer or output.held
            if handed is not None:
                held = _handed_over(handed, output.refused, StopReason.FINAL)
                if output.answer is not None and not _is_guess(trajectory):
                    return _unless_refused(call, held)
            if output.refused is not None:
                stop = output.refused
                break
        elif _leads_nowhere(trajectory):
            stop = NO_PROGRESS
            break
    if held is not None:
        return held
    if stop is NO_PROGRESS and trajectory[-1].reply.problem == "refusal":
        raise refused(call.model, trajectory[-1].reply.kept)
    if not call.landing:
        return Answer(None, (), stop.reason)
    return (yield from land(call, trajectory, stop))


def _is_guess(trajectory: tuple[Turn, ...]) -> bool:
    """Whether the last answer stood fixed before the first look at the documents, and nothing proves it."""
    *before, last = trajectory
    if last.output is None or last.output.answer is None or last.output.answer.quotes:
        return False
    return last.reply.unseen and bool(last.output.stdout.strip()) and not _has_looked(before)


def _has_looked(trajectory: Sequence[Turn]) -> bool:
    return any(turn.output is not None for turn in trajectory)


def _leads_nowhere(trajectory: tuple[Turn, ...]) -> bool:
    """Whether the last replies, of which none held anything to run, were nudged often enough."""
    idle = list(takewhile(lambda turn: turn.output is None, reversed(trajectory)))
    last = idle[0].reply.problem
    alike = list(takewhile(lambda turn: turn.reply.problem == last, idle))
    sure = last == "refusal" or (last == "no code" and _has_looked(trajectory))
    return len(idle) > NUDGES or (sure and len(alike) > SURE_NUDGES)


def refused(model: str, said: str) -> ModelError:
    """A model declined: its words are not an answer."""
    said = f"it said: {' '.join(said.split())[:300]}"
    return ModelError(f"{model} refused to answer", why=said, hint="ask in other words, or another model")


def _unless_refused(call: Call, answer: Answer) -> Answer:
    """Raises `ModelError` where a refusal was handed over as the answer."""
    if reply.is_refusal(answer.value):
        raise refused(call.model, str(answer.value))
    return answer


def land(call: Call, trajectory: tuple[Turn, ...], stop: Refusal) -> Conversation:
    """End a call that met a limit: one code turn without sub-calls, then words, then whatever the REPL holds.

    Code first, because variables hold more than a model can retype (typing an answer from memory is the failure of
    the paper's E.2). Who has only been talking writes no code now either: what it calls its answer is taken, or words
    are asked for at once.
    """
    paths = [entry.path for entry in call.preview.entries]
    last = trajectory[-1].reply if stop is NO_PROGRESS else None
    if last is not None and last.claim is not None and _has_looked(trajectory):
        said = reply.words(last.claim, paths)
        return Answer(said.value, said.quotes, stop.reason)
    completion: Completion | None = Completion("")
    if last is None or last.problem != "no code":
        completion = yield from _ask_to_land(call, partial(prompts.landing_code, trajectory=trajectory, stop=stop))
    if completion is not None:
        parsed = reply.read(completion)
        if parsed.answer is not None:
            return Answer(parsed.answer.value, parsed.answer.quotes, stop.reason)
        if parsed.code is not None:
            output = yield from _execute(Execute(parsed.code, subcalls=False))
            trajectory = (*trajectory, Turn(parsed, output))
            handed = output.answer or output.held
            if handed is not None:
                return _unless_refused(call, _handed_over(handed, output.refused, stop.reason))
        completion = yield from _ask_to_land(call, partial(prompts.landing_words, trajectory=trajectory, stop=stop))
        if completion is not None and reply.spoken(completion):
            closed = reply.closing(completion, paths)
            if closed is not None:
                return Answer(closed.value, closed.quotes, stop.reason)
    return _left_over(trajectory, stop.reason)


def _ask_to_land(
    call: Call, write: Callable[[Call], tuple[Message, ...]]
) -> Generator[Complete, Any, Completion | None]:
    """A request of the landing. One that fails, or comes too late, is as good as one that was refused."""
    try:
        _, completion = yield from _ask(call, 0, write)
    except ModelError:
        return None
    return completion if isinstance(completion, Completion) else None


def _ask(
    call: Call, iteration: int, write: Callable[[Call], tuple[Message, ...]]
) -> Generator[Complete, Any, tuple[Call, Completion | Refusal]]:
    """Send what `write` makes of the call, with less and less history while it is too long for the model, or, in a
    landing, for the money that is left. Returns the call with the window that was found, and what came."""
    asked: tuple[Message, ...] = ()
    outcome: Refusal | ModelError | None = None
    for shrink in SHRINKS:
        here = replace(call, window_bytes=call.window_bytes // shrink)
        messages = write(here)
        if messages == asked:
            continue
        asked = messages
        try:
            sent = yield Complete(messages, "iteration" if iteration else "landing", iteration)
        except ModelError as error:
            if not error.too_long:
                raise
            outcome = error
            continue
        assert isinstance(sent, (Completion, Refusal))
        if isinstance(sent, Completion) or iteration or sent.reason not in MONEY:
            return here, sent
        outcome = sent
    if isinstance(outcome, ModelError):
        raise outcome
    assert outcome is not None
    return call, outcome


def _without_draft(trajectory: tuple[Turn, ...], output: Output | None) -> tuple[Turn, ...]:
    """A draft takes the place of the one before: each may be as large as an answer."""
    if output is None or output.draft is None:
        return trajectory
    return tuple(
        turn
        if turn.output is None or turn.output.draft is None
        else replace(turn, output=replace(turn.output, draft=None))
        for turn in trajectory
    )


def _handed_over(handed: Handover, refused: Refusal | None, otherwise: StopReason) -> Answer:
    """The answer of a cell; one in which a sub-call was refused is partial, whatever else happened."""
    return Answer(handed.value, handed.quotes, refused.reason if refused is not None else otherwise)


def _left_over(trajectory: tuple[Turn, ...], reason: StopReason) -> Answer:
    """Nothing could be asked any more: the draft in `answer`, else the last thing that was printed."""
    outputs = [turn.output for turn in reversed(trajectory) if turn.output is not None]
    draft = next((output.draft for output in outputs if output.draft is not None), None)
    if draft is not None:
        return Answer(draft, (), reason)
    printed = next((output.stdout for output in outputs if output.stdout.strip()), None)
    return Answer(f"No answer was handed over. The last output was:\n{printed}" if printed else None, (), reason)


def _execute(effect: Execute) -> Generator[Execute, Any, Output]:
    output = yield effect
    assert isinstance(output, Output)
    return output
