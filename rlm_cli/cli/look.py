"""`rlm show` and `rlm runs`: what was kept of runs, as plain lines. Read from the trace, the one record of a run.

`show` prints the tree of calls with what each cost, then the answer and its quotes as `ask` printed them. It reads a
trace of any age and any end: a run that was killed has a tree and no answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .. import trace
from ..events import CallFinished, CallStarted, CompletionFinished, Stamped
from ..ledger import Usage
from ..result import Citation, Located, answer_text
from ..views.answer import citation_lines
from ..views.figures import plural, seconds, tokens, usd
from ..views.safe import clean, gist, one_line, shortened
from .configuration import say, state_folder

QUESTION_CHARS = 60


def runs(arguments: list[str], options: dict[str, Any]) -> int:
    """One line a run: id, when, how it ended, calls, cost, question."""
    for run in trace.runs(state_folder()):
        calls = "" if run.calls is None else plural(run.calls, "call")
        cost = "" if run.calls is None else usd(run.cost_usd)
        question = shortened(one_line(run.question), QUESTION_CHARS)
        facts = f"{run.started.astimezone():%Y-%m-%d %H:%M}  {run.status:<10}  {calls:>9}  {cost:>12}"
        say(f"{run.id}  {facts}  {question}".rstrip())
    return 0


def show(arguments: list[str], options: dict[str, Any]) -> int:
    """The tree, the answer, the quotes of one run. Raises `UsageError` when there is no such run."""
    folder = trace.find(state_folder(), arguments[0] if arguments else None)
    rows: dict[str, _Row] = {}
    result: dict[str, Any] | None = None
    question = ""
    for stamped in trace.read(folder / trace.TRACE):
        question = question or getattr(stamped.event, "question", "")
        result = getattr(stamped.event, "result", result)
        _note(stamped, rows)
    say(f"run {folder.name} · {trace.started_at(folder.name).astimezone():%Y-%m-%d %H:%M:%S}")
    say(f"question  {one_line(question, 2_000)}")
    say()
    for line in _tree(rows):
        say(line)
    for line in _ending(result):
        say(line)
    say(f"\ntrace  {clean(str(folder / trace.TRACE))}")
    return 0


class _Row:
    """One call of the tree as it is printed."""

    def __init__(self, started: CallStarted) -> None:
        self.kind, self.model, self.question = started.kind, started.model, started.question
        self.status = "unfinished"
        self.usage: Usage = Usage()
        self.cost: float | None = 0.0

    def line(self, address: str) -> str:
        depth = address.count(".")
        parts = [one_line(self.model), self.status, tokens(self.usage), usd(self.cost)]
        told = f"  “{gist(self.question, QUESTION_CHARS)}”" if depth else ""
        return f"{'  ' * depth}{address}  {' · '.join(p for p in parts if p)}{told}"


def _note(stamped: Stamped, rows: dict[str, _Row]) -> None:
    address = stamped.call
    match stamped.event:
        case CallStarted() as started if address is not None:
            rows[address] = _Row(started)
        case CompletionFinished() as finished if address in rows:
            row = rows[address]
            row.usage += finished.usage
            # Unknown is never zero: one unknown cost makes the sum unknown.
            row.cost = None if row.cost is None or finished.cost_usd is None else row.cost + finished.cost_usd
        case CallFinished() as ended if address in rows:
            rows[address].status = one_line(ended.status)


def _tree(rows: dict[str, _Row]) -> Iterator[str]:
    """Every call under its parent, with what its own requests used."""
    for address in sorted(rows, key=lambda a: [int(part) for part in a.split(".")]):
        yield rows[address].line(address)


def _ending(result: dict[str, Any] | None) -> Iterator[str]:
    if result is None:
        yield "\nthe run has no end: it was killed, or goes on"
        return
    if result["answer"] is not None:
        yield "\n" + clean(answer_text(result["answer"])).strip("\n")
    if result["citations"]:
        yield ""
        yield from citation_lines([_citation(citation) for citation in result["citations"]])
    if result["error"] is not None:
        yield f"\nerror  {one_line(result['error']['message'])}"
    usage = result["usage"]
    cost = usd(usage["cost_usd"] if usage["cost_known"] else None)
    yield f"\n{result['status']} · {plural(usage['calls'], 'call')} · {cost} · {seconds(result['duration_s'])}"


def _citation(kept: dict[str, Any]) -> Citation:
    lines = tuple(kept["lines"]) if kept["lines"] else None
    return Citation(**{**kept, "lines": lines, "located": Located(kept["located"])})
