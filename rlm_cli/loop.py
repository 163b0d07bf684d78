"""The recursive loop (arXiv 2512.24601, Algorithm 1) as a pure generator.

`converse` yields effects, `Complete` (ask a model), `Execute` (run code) and, where an answer must be of a form,
`Check` (is it?), and is sent what came of them. There is no network, process, clock or terminal in it: a test is a list
of replies, a resumed run a longer list of replies. Failures that the loop can act on arrive as values (`Refusal`,
`Output.error`), or are raised at the request that failed: with an answer in hand that does no harm, and one that was
too long is sent again shorter. Anything else passes through.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import partial
from itertools import takewhile
from typing import Any

from . import prompts, reply
from .call import (
    Call,
    Check,
    Complete,
    Completion,
    Execute,
    Handover,
    Message,
    Output,
    Purpose,
    Reply,
    Trajectory,
    Turn,
)
from .errors import ModelError, RlmError
from .ledger import Refusal, StopReason
from .result import Answer
from .schema import Checked

Conversation = Generator[Complete | Execute | Check, Completion | Refusal | Output | Checked, Answer]

SHRINKS = tuple(2**n for n in range(9))
"""By how much the window is taken to be smaller, one after the other, when a request is refused for its length."""
MONEY = (StopReason.MAX_BUDGET, StopReason.MAX_TOKENS)
"""Limits that a shorter request may keep."""
NUDGES = 3
"""Replies in a row that hold nothing to run before the call lands."""
SURE_NUDGES = 1
"""To who declines, or has seen an output and answers in prose: asking again does not change it."""
REPEATS = 2
"""Times that the same code gives the same result once more before the call lands."""
SENT_BACK = 2
"""How often an answer that does not satisfy its schema goes back to the model, with the error."""
NO_PROGRESS = Refusal(StopReason.NO_PROGRESS, "one reply after the other held no code and no answer")
SAME_AGAIN = Refusal(StopReason.NO_PROGRESS, f"the same code gave the same result {REPEATS + 1} times")


def converse(call: Call) -> Conversation:
    """Drive one call to its answer. With `call.landing` off, a limit ends it without one: its value is None.

    One that never satisfied what was asked of it has a `problem`, and is the last that was handed over. Raises
    `ModelError` where the model declined.
    """
    trajectory = Trajectory(call.earlier)
    own = len(call.earlier)
    held: Answer | None = None
    rejected: Answer | None = None
    sent_back = 0
    plural = "" if call.max_iterations == 1 else "s"
    stop = Refusal(StopReason.MAX_ITERATIONS, f"the limit of {call.max_iterations} iteration{plural} is reached")
    for iteration in range(1, call.max_iterations + 1):
        try:
            trajectory = yield from _compacted(call, trajectory)
            asked = yield from _ask(call, "iteration", partial(prompts.turn, trajectory=trajectory), iteration)
        except RlmError:
            if held is not None:
                return _unless_refused(call, held)  # an answer that was reached is never thrown away
            raise
        call, completion = asked
        if isinstance(completion, Refusal):
            stop = completion
            break
        parsed = reply.read(completion, [tool.name for tool in call.tools])
        output = (yield from _execute(Execute(parsed.code))) if parsed.code is not None else None
        again = trajectory.repeats(Turn(parsed, output))
        if output is not None and again:
            output = replace(output, remarks=(*output.remarks, prompts.REPEATED))
        handed = _handed(parsed, output)
        if handed is not None:
            output = output or Output(answer=handed)
            answer = yield from _checked(call, _handed_over(handed, output.refused, StopReason.FINAL))
            guessed = _is_guess(parsed, output, trajectory.turns[own:])
            if not answer.problem and output.held is None and not guessed:
                return _unless_refused(call, answer)
            if answer.problem and sent_back == SENT_BACK:
                return _unless_refused(call, held or answer)
            if answer.problem:
                sent_back, rejected = sent_back + 1, answer
                output = _sent_back(output, answer.problem, by_code=parsed.code is not None)
            else:
                held = answer
        trajectory = trajectory.add(Turn(parsed, output))
        if output is not None:
            if output.refused is not None:
                stop = output.refused
                break
            if again >= REPEATS:
                stop = SAME_AGAIN
                break
        elif _leads_nowhere(trajectory.turns[own:]):
            stop = NO_PROGRESS
            break
    if held is not None:
        return _unless_refused(call, held)
    last = trajectory.turns[-1].reply if stop is NO_PROGRESS else Reply("")
    if last.problem == "refusal" and rejected is None:
        raise refused(call.model, last.kept)
    answer = Answer(None, (), stop.reason)
    if call.landing:
        answer = yield from land(call, trajectory, stop)
    if not answer.found and rejected is not None:
        answer = replace(rejected, stop_reason=stop.reason)
    return _unless_refused(call, replace(answer, why=stop.message))


def _is_guess(parsed: Reply, output: Output, before: Sequence[Turn]) -> bool:
    """Whether an answer stood fixed before the first look at the documents, and nothing proves it."""
    if output.answer is None or output.answer.quotes:
        return False
    return parsed.unseen and bool(output.stdout.strip()) and not _has_looked(before)


def _has_looked(turns: Sequence[Turn]) -> bool:
    return any(turn.reply.code is not None and turn.output is not None for turn in turns)


def _leads_nowhere(turns: Sequence[Turn]) -> bool:
    """Whether the last replies, of which none held anything to run, were nudged often enough."""
    idle = list(takewhile(lambda turn: turn.output is None, reversed(turns)))
    last = idle[0].reply.problem
    alike = list(takewhile(lambda turn: turn.reply.problem == last, idle))
    sure = last == "refusal" or (last == "no code" and _has_looked(turns))
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


def land(call: Call, trajectory: Trajectory, stop: Refusal) -> Conversation:
    """End a call that met a limit: one code turn without sub-calls, then words, then whatever the REPL holds.

    Code first, because variables hold more than a model can retype (typing an answer from memory is the failure of
    the paper's E.2). Who has only been talking writes no code now either: what it calls its answer is taken, or words
    are asked for at once.
    """
    rejected: Answer | None = None
    paths = [entry.path for entry in call.preview.entries]
    last = trajectory.turns[-1].reply if stop is NO_PROGRESS else Reply("")
    if last.claim is not None and _has_looked(trajectory.turns[len(call.earlier) :]):
        said = reply.words(last.claim, paths)
        answer = yield from _checked(call, Answer(said.value, said.quotes, stop.reason), spoken=True)
        if not answer.problem:
            return answer
        rejected = answer
    completion: Completion | None = Completion("")
    if last.problem != "no code":
        in_code = partial(prompts.landing_code, trajectory=trajectory, stop=stop)
        completion = yield from _ask_or_none(call, "landing", in_code)
    if completion is not None:
        parsed = reply.read(completion, [tool.name for tool in call.tools])
        output = (yield from _execute(Execute(parsed.code, subcalls=False))) if parsed.code is not None else None
        handed = _handed(parsed, output)
        if handed is not None:
            output = output or Output(answer=handed)
            answer = yield from _checked(call, _handed_over(handed, output.refused, stop.reason))
            if not answer.problem:
                return answer
            rejected = answer
            output = _sent_back(output, answer.problem, by_code=False)
        if output is not None:
            trajectory = trajectory.add(Turn(parsed, output))
        in_words = partial(prompts.landing_words, trajectory=trajectory, stop=stop)
        completion = yield from _ask_or_none(call, "landing", in_words)
        if completion is not None and reply.spoken(completion):
            closed = reply.closing(completion, paths)
            if closed is not None and (closed.value is not None or rejected is None):
                return (yield from _checked(call, Answer(closed.value, closed.quotes, stop.reason), spoken=True))
    return rejected or (yield from _checked(call, _left_over(call, trajectory.turns, stop.reason)))


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


def _handed(parsed: Reply, output: Output | None) -> Handover | None:
    """What a turn handed over, in prose or by code; one that was sent back for its quotes too."""
    if parsed.answer is not None or output is None:
        return parsed.answer
    return output.answer or output.held


def _handed_over(handed: Handover, refused: Refusal | None, otherwise: StopReason) -> Answer:
    """The answer of a cell; one in which a sub-call was refused is partial, whatever else happened."""
    return Answer(handed.value, handed.quotes, refused.reason if refused is not None else otherwise)


def _checked(call: Call, answer: Answer, spoken: bool = False) -> Generator[Check, Any, Answer]:
    """The answer as the call's schema wants it, or with its problem. None is an answer to any question."""
    if not answer.found or (call.schema is None and not call.strict):
        return answer
    checked = yield Check(answer.value, answer.quotes, spoken)
    assert isinstance(checked, Checked)
    return replace(answer, value=checked.value, problem=checked.problem)


def _sent_back(output: Output, problem: str, by_code: bool) -> Output:
    """A cell whose answer will not do, as the model is shown it: with an error like any other."""
    told = prompts.rejected(problem, by_code)
    error = f"{output.error}\n{told}" if output.error else told
    return replace(output, answer=None, held=None, error=error)


def _left_over(call: Call, turns: tuple[Turn, ...], reason: StopReason) -> Answer:
    """Nothing could be asked any more: the draft in `answer`, else the last thing that was printed, which is no value
    that a schema could want."""
    outputs = [turn.output for turn in reversed(turns) if turn.output is not None]
    draft = next((output.draft for output in outputs if output.draft is not None), None)
    if draft is not None:
        return Answer(draft, (), reason)
    if call.schema is not None:
        return Answer(None, (), reason)
    printed = next((output.stdout for output in outputs if output.stdout.strip()), None)
    return Answer(f"No answer was handed over. The last output was:\n{printed}" if printed else None, (), reason)


def _execute(effect: Execute) -> Generator[Execute, Any, Output]:
    output = yield effect
    assert isinstance(output, Output)
    return output
