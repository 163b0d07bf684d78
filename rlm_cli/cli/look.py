"""`rlm show` and `rlm runs`: what was kept of runs, as plain lines. Read from the trace, the one record of a run.

`show` prints the tree of calls with what each cost, then the answer and its quotes as `ask` printed them. It reads a
trace of any age and any end: a run that was killed has a tree and no answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from .. import trace
from ..errors import UsageError
from ..fold import CallState, RunState, fold
from ..result import Citation, Located, Status, answer_text
from ..views.answer import NOT_FOUND, citation_lines
from ..views.figures import plural, seconds, tokens, usd
from ..views.safe import clean, gist, one_line, shortened
from .configuration import say, state_folder

QUESTION_CHARS = 60
TOOL_ROWS = 20
"""Of each call."""


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
    """The tree, the answer, the quotes of one run. Raises `UsageError` when there is no such run, or no trace of it."""
    folder = trace.find(state_folder(), arguments[0] if arguments else None)
    path = folder / trace.TRACE
    try:
        state = fold(trace.read(path))
    except OSError as error:
        raise UsageError(f"run {folder.name} has no trace that can be read", why=error.strerror or "") from None
    say(f"run {folder.name} · {trace.started_at(folder.name).astimezone():%Y-%m-%d %H:%M:%S}")
    say(f"question  {one_line(state.started.question if state.started else '', 2_000)}")
    say()
    for row in _rows(state):
        say(row)
    for line in _ending(state.finished.result if state.finished else None):
        say(line)
    say(f"\ntrace  {clean(str(path))}")
    return 0


def _rows(state: RunState) -> Iterator[str]:
    """The tree. Of a call's tools, which may be thousands, the first."""
    tools: Counter[str | None] = Counter()
    for address in sorted(state.calls, key=lambda a: [int(part) for part in a.split(".")]):
        call = state.calls[address]
        tools[call.parent] += call.kind == "tool"
        if call.kind != "tool" or tools[call.parent] <= TOOL_ROWS:
            yield _row(call)
    if more := sum(max(count - TOOL_ROWS, 0) for count in tools.values()):
        yield f"and {more:,} more calls of tools, which the trace has"


def _row(call: CallState) -> str:
    """One call of the tree, with what its own requests used."""
    status = str(call.standing).replace("_", " ") if call.ended is not None else "unfinished"
    if call.kind == "tool":
        took = [seconds(call.ended - call.started)] if call.ended is not None else []
        told = shortened(one_line(call.question), QUESTION_CHARS)
        why = f"  {one_line(call.detail, 200)}" if call.detail else ""
        return f"{'  ' * call.depth}{call.address}  {' · '.join(['tool', status, *took])}  {told}{why}"
    cached = "⟲ cached" if call.cached and call.cached == call.completions else ""
    parts = [one_line(call.model), status, cached, tokens(call.usage), usd(call.cost)]
    told = f"  “{gist(call.question, QUESTION_CHARS)}”" if call.depth else ""
    return f"{'  ' * call.depth}{call.address}  {' · '.join(p for p in parts if p)}{told}"


def _ending(result: dict[str, Any] | None) -> Iterator[str]:
    if result is None:
        yield "\nthe run has no end: it was killed, or goes on"
        return
    citations = [_citation(kept) for kept in result.get("citations") or ()]
    text = NOT_FOUND if result.get("status") == Status.NOT_FOUND else clean(answer_text(result.get("answer")))
    if text:
        yield "\n" + text.strip("\n")
    if citations:
        yield ""
        yield from citation_lines(citations)
    if result.get("error"):
        yield f"\nerror  {one_line(result['error']['message'])}"
    usage = result["usage"]
    cost = usd(usage["cost_usd"] if usage["cost_known"] else None)
    cached = f" · {usage['calls_from_cache']:,} from cache" if usage.get("calls_from_cache") else ""
    yield f"\n{result['status']} · {plural(usage['calls'], 'call')}{cached} · {cost} · {seconds(result['duration_s'])}"


def _citation(kept: dict[str, Any]) -> Citation:
    """What this version knows of a citation; a later one may have written more."""
    known = {field.name: kept[field.name] for field in fields(Citation) if field.name in kept}
    lines = tuple(kept["lines"]) if kept.get("lines") else None
    return Citation(**{**known, "lines": lines, "located": Located(kept["located"])})
