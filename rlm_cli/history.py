"""The turns of a call as messages, in the room that the window of its model leaves for them.

A turn is two messages: what the model wrote, and what it is told of it; where it called the REPL as a function, the
call and its result. A history that gets too long has old outputs shortened, then old turns left out, with a summary in
their place, and far more of both than it must: between two such cuts it only grows, so that providers can cache it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .call import Call, Message, Output, Problem, Trajectory, Turn

SUMMARY_SHARE = 4
"""Of the history's room one part in so many is for the summary of turns that are left out."""
COMPACT_TO = 2
"""A history that must be made shorter is cut to one part in so many of its room, so that its prefix then holds for a
while: providers cache it."""
OLD_OUTPUT = 300
"""Characters that remain of an old output once the history nears the window."""

_NUDGES: dict[Problem, str] = {
    "empty": "Your reply was empty.",
    "thoughts": "Your reply held only reasoning, so nothing ran.",
    "unfinished": "Your reply was cut off inside its code, so nothing ran. Write less code at a time.",
    "arguments": 'That call held no code, so nothing ran. There is one function: `repl`, with {"code": "Python"}.',
    "language": "Only Python runs here, and your block is in another language, so nothing ran.",
    "several answers": "Your reply handed over answers that differ, so none was taken.",
    "refusal": (
        "Your reply declined, so nothing ran. All that is asked is to read the user's own documents and to say what"
        " they say; if they do not answer, hand over FINAL(None)."
    ),
    "plan": "Your reply said what you are going to do, but nothing ran: do it now.",
    "no code": "Your reply held no code, so nothing ran, and words alone are not taken as the answer.",
}
_CUT = "\n[... cut to fit the window: print less ...]\n"
_NEXT = '{write}. If the answer is known, hand it over there: FINAL("…", quotes=[("path", words copied from it)]).'
_WRITE = {False: "Reply with one ```repl block", True: "Call `repl` once"}
_GUESSED = (
    "That block handed over an answer before you had seen its output, so it is not taken yet. Hold it against the"
    " output above: if it is right, hand it over again, with the words that prove it."
)

Exchange = tuple[Message, Message]
"""A turn: what the model wrote, and what it is told of it."""


def is_offered(call: Call, turns: Sequence[Turn]) -> bool:
    """Whether the REPL is offered as a function: where that was said, or the model has called one."""
    called = any(turn.reply.called is not None for turn in turns)
    return call.protocol == "tools" or (call.protocol == "auto" and called)


def exchanges(call: Call, turns: Sequence[Turn], room: int) -> list[Exchange]:
    """What was said and what came of it, turn by turn: a quarter and a half of the room (bytes) at most."""
    offered = is_offered(call, turns)
    own = 1 - len(call.earlier)
    return [
        _exchange(turn, cut(turn.told or _feedback(turn, n, call), room // 2), room // 4, offered)
        for n, turn in enumerate(turns, own)
    ]


def fitted(trajectory: Trajectory, exchanges: Sequence[Exchange], room: int) -> Trajectory:
    """The trajectory as it is to be shown in `room` bytes: as it was if that fits, else with less."""
    last = len(exchanges) - 1
    sizes = [size(said.written) + size(told.content) for said, told in exchanges]
    short = [size(said.written) + size(_shortened(told.content)) for said, told in exchanges]
    left_out, shortened = trajectory.left_out, max(trajectory.shortened, trajectory.left_out)
    summary = room // SUMMARY_SHARE

    def total() -> int:
        return sum(short[left_out:shortened]) + sum(sizes[shortened:]) + (summary if left_out else 0)

    if total() > room:
        while shortened < last and total() > room // COMPACT_TO:
            shortened += 1
    if total() > room:
        left_out = max(left_out, 1)
        while left_out < last and total() > room // COMPACT_TO:
            left_out += 1
            shortened = max(shortened, left_out)
    if last <= 0 or (left_out, shortened) == (trajectory.left_out, trajectory.shortened):
        return trajectory
    return replace(trajectory, left_out=left_out, shortened=shortened)


def shown(trajectory: Trajectory, exchanges: Sequence[Exchange], room: int) -> list[Message]:
    """The messages of a trajectory that fits."""
    messages = []
    if trajectory.left_out:
        told = f"({count(trajectory.left_out, 'earlier turn')} left out here; your variables hold their values)"
        said = cut(trajectory.summary or "(what I did before)", room // SUMMARY_SHARE - size(told))
        messages += [Message("assistant", said), Message("user", told)]
    for n in range(trajectory.left_out, len(exchanges)):
        wrote, result = exchanges[n]
        if n < trajectory.shortened:
            result = replace(result, content=_shortened(result.content))
        messages += [wrote, result]
    return messages


def _exchange(turn: Turn, told: str, room: int, offered: bool) -> Exchange:
    """A turn as two messages; a call stays one, unless it had to be cut or the REPL is not offered as a function."""
    called = turn.reply.called
    if called is None or not offered or size(called.written) > room:
        return Message("assistant", cut(turn.reply.kept or "(empty reply)", room)), Message("user", told)
    return called, Message("tool", told, result_of=called.calls[0].id)


def _shortened(text: str) -> str:
    if len(text) <= 2 * OLD_OUTPUT:
        return text
    return f"{text[:OLD_OUTPUT]}\n… (old output, {len(text):,} characters; your variables still hold their values)"


def cut(text: str, room: int, mark: str = _CUT) -> str:
    """Head and tail of `text` in `room` bytes, with a mark between them."""
    data = text.encode("utf-8", "replace")
    if len(data) <= room:
        return text
    half = max(room - len(mark), 0) // 2
    head, tail = data[:half].decode("utf-8", "ignore"), data[len(data) - half :].decode("utf-8", "ignore")
    return head + mark + tail


def size(text: str) -> int:
    """Bytes: a token takes three or more of them in most languages, while it may be one character in some."""
    return len(text.encode("utf-8", "replace"))


def _feedback(turn: Turn, iteration: int, call: Call) -> str:
    if turn.output is None:
        return f"{_NUDGES[turn.reply.problem or 'no code']} {_NEXT.format(write=_WRITE[call.protocol == 'tools'])}"
    parts = [_printed(turn.output)]
    if turn.output.answer is not None:
        parts.append(_GUESSED)
    if turn.output.error:
        parts.append(turn.output.error.rstrip())
    if turn.output.lost:
        parts.append(f"The REPL was replaced: {turn.output.lost}")
    if turn.output.variables:
        parts.append("New or changed: " + "; ".join(f"{name}: {what}" for name, what in turn.output.variables))
    if turn.reply.cut:
        what = "call" if turn.reply.called else "block"
        parts.append(f"Only your first {what} ran; what followed it was dropped. Write one {what} a reply.")
    parts += turn.output.remarks
    what = "call" if call.protocol == "tools" else "block"
    parts.append(_turn_line(turn.output.used, iteration, call.max_iterations, what))
    return "\n".join(parts)


def _printed(output: Output) -> str:
    if output.stdout.strip():
        return f"Output:\n{output.stdout.rstrip()}"
    if output.error or output.lost:
        return "Output: nothing was printed before it failed."
    return "Output: nothing was printed. Use print(...) to see a value."


def _turn_line(used: float, iteration: int, of: int, what: str) -> str:
    """What is left is said only when it runs short, and only at fixed steps, so that requests stay the same."""
    remarks = []
    if 0 < of - iteration <= 3:
        remarks.append(f"{count(of - iteration, 'iteration')} left")
    if used:
        remarks.append(f"more than {used:.0%} of the budget is used")
    tail = f" ({', '.join(remarks)}: come to an answer)" if remarks else ""
    return f"Write the next {what}, or one with FINAL(...) once you know the answer.{tail}"


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
