"""The recursive loop (arXiv 2512.24601, Algorithm 1) as a pure generator.

`converse` yields effects, `Complete` (ask a model) and `Execute` (run code), and is sent what came of them. There is
no network, process, clock or terminal in it: a test is a list of replies, a resumed run a longer list of replies.
Failures that the loop can act on arrive as values (`Refusal`, `Output.error`), or are raised at the request that
failed: with an answer in hand that does no harm, and one that was too long is sent again shorter. Anything else passes
through.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from typing import Any

from . import prompts, reply
from .call import Call, Complete, Completion, Execute, Handover, Message, Output, Purpose, Trajectory, Turn
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
REPEATS = 2
"""Times that the same code gives the same result once more before the call lands."""
NO_CODE = Refusal(StopReason.NO_PROGRESS, f"{NUDGES + 1} replies in a row held no code and no answer")
SAME_AGAIN = Refusal(StopReason.NO_PROGRESS, f"the same code gave the same result {REPEATS + 1} times")


def converse(call: Call) -> Conversation:
    """Drive one call to its answer. With `call.landing` off, a limit ends it without one: its value is None."""
    trajectory = Trajectory(call.earlier)
    held: Answer | None = None
    idle = 0
    plural = "" if call.max_iterations == 1 else "s"
    stop = Refusal(StopReason.MAX_ITERATIONS, f"the limit of {call.max_iterations} iteration{plural} is reached")
    for iteration in range(1, call.max_iterations + 1):
        try:
            trajectory = yield from _compacted(call, trajectory)
            asked = yield from _ask(call, "iteration", partial(prompts.turn, trajectory=trajectory), iteration)
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
        again = trajectory.repeats(Turn(parsed, output))
        if output is not None and again:
            output = replace(output, remarks=(*output.remarks, prompts.REPEATED))
        trajectory = trajectory.add(Turn(parsed, output))
        if output is not None:
            idle = 0
            if output.answer is not None:
                return _handed_over(output.answer, output.refused, StopReason.FINAL)
            if output.held is not None:
                held = _handed_over(output.held, output.refused, StopReason.FINAL)
            if output.refused is not None:
                stop = output.refused
                break
            if again >= REPEATS:
                stop = SAME_AGAIN
                break
        elif (idle := idle + 1) > NUDGES:
            stop = NO_CODE
            break
    if held is not None:
        return held
    if not call.landing:
        return Answer(None, (), stop.reason, stop.message)
    answer = yield from land(call, trajectory, stop)
    return replace(answer, why=stop.message)


def land(call: Call, trajectory: Trajectory, stop: Refusal) -> Conversation:
    """End a call that met a limit: one code turn without sub-calls, then words, then whatever the REPL holds.

    Code first, because variables hold more than a model can retype (typing an answer from memory is the failure of
    the paper's E.2).
    """
    completion = yield from _ask_or_none(
        call, "landing", partial(prompts.landing_code, trajectory=trajectory, stop=stop)
    )
    if completion is not None:
        parsed = reply.read(completion)
        if parsed.answer is not None:
            return Answer(parsed.answer.value, parsed.answer.quotes, stop.reason)
        if parsed.code is not None:
            output = yield from _execute(Execute(parsed.code, subcalls=False))
            trajectory = trajectory.add(Turn(parsed, output))
            handed = output.answer or output.held
            if handed is not None:
                return _handed_over(handed, output.refused, stop.reason)
        completion = yield from _ask_or_none(
            call, "landing", partial(prompts.landing_words, trajectory=trajectory, stop=stop)
        )
        if completion is not None and reply.spoken(completion):
            said = reply.closing(completion, [entry.path for entry in call.preview.entries])
            if said is not None:
                return Answer(said.value, said.quotes, stop.reason)
    return _left_over(trajectory.turns, stop.reason)


def _compacted(call: Call, trajectory: Trajectory) -> Generator[Complete, Any, Trajectory]:
    """The trajectory as it fits the window. Turns that are to be left out are summed up first; where that is refused or
    fails, they go without."""
    fitted = prompts.fitted(call, trajectory)
    if fitted.left_out == trajectory.left_out:
        return fitted
    before = replace(trajectory, turns=trajectory.turns[:-1])  # the newest is not what makes room
    completion = yield from _ask_or_none(call, "summary", partial(prompts.summary, trajectory=before))
    said = reply.spoken(completion) if completion is not None else ""
    return replace(fitted, summary=said or trajectory.summary)


def _ask_or_none(
    call: Call, purpose: Purpose, write: Callable[[Call], tuple[Message, ...]]
) -> Generator[Complete, Any, Completion | None]:
    """A request that one can do without: one that fails, or comes too late, is as good as one that was refused."""
    try:
        _, completion = yield from _ask(call, purpose, write)
    except ModelError:
        return None
    return completion if isinstance(completion, Completion) else None


def _ask(
    call: Call, purpose: Purpose, write: Callable[[Call], tuple[Message, ...]], iteration: int = 0
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
            sent = yield Complete(messages, purpose, iteration)
        except ModelError as error:
            if not error.too_long:
                raise
            outcome = error
            continue
        assert isinstance(sent, (Completion, Refusal))
        if isinstance(sent, Completion) or purpose != "landing" or sent.reason not in MONEY:
            return here, sent
        outcome = sent
    if isinstance(outcome, ModelError):
        raise outcome
    assert outcome is not None
    return call, outcome


def _handed_over(handed: Handover, refused: Refusal | None, otherwise: StopReason) -> Answer:
    """The answer of a cell; one in which a sub-call was refused is partial, whatever else happened."""
    return Answer(handed.value, handed.quotes, refused.reason if refused is not None else otherwise)


def _left_over(turns: tuple[Turn, ...], reason: StopReason) -> Answer:
    """Nothing could be asked any more: the draft in `answer`, else the last thing that was printed."""
    outputs = [turn.output for turn in reversed(turns) if turn.output is not None]
    draft = next((output.draft for output in outputs if output.draft is not None), None)
    if draft is not None:
        return Answer(draft, (), reason)
    printed = next((output.stdout for output in outputs if output.stdout.strip()), None)
    return Answer(f"No answer was handed over. The last output was:\n{printed}" if printed else None, (), reason)


def _execute(effect: Execute) -> Generator[Execute, Any, Output]:
    output = yield effect
    assert isinstance(output, Output)
    return output
