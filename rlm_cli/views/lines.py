"""Lines that any view shows: how far reading is, the manifest, what was skipped, notices, limits; with `-v` the
documents, what the model thought, the code and what it printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from ..events import (
    CodeFinished,
    CodeStarted,
    CompletionFinished,
    CorpusLoaded,
    LimitHit,
    NoticeGiven,
    RunStarted,
    SamplesCompared,
    Stamped,
    ToolFinished,
    ToolStarted,
)
from ..fold import RunState, as_written
from .figures import count, plural, seconds, spaced, tally, usd
from .safe import clean, one_line, shortened

DIM, YELLOW, RED, RESET = "\x1b[2m", "\x1b[33m", "\x1b[31m", "\x1b[0m"
SKIPPED = 5
"""Files that were skipped are named up to here; the rest is counted."""
REASONS = 4
"""Why files were skipped: so many reasons are told apart."""
SLOW_S = 2.0
"""Seconds at one file from which on they are told."""
TOOL_CHARS = 400
"""Of a call of a function of the user's, and of what it returned."""
PASSING = frozenset({"retrying"})
"""Notices about the moment: the tree shows them on the call's own line instead."""


def notice_line(notice: NoticeGiven, color: bool) -> str:
    text = f"rlm: {one_line(notice.message, 2_000)}"
    return f"{YELLOW}{text}{RESET}" if color else text


def reading_text(state: RunState, now: float) -> str:
    """`12 files · 3.4 MB · 88 pages · contracts/acme.pdf (34s)`: how far reading is, how long it has been at that file,
    or how long it has waited for more of stdin. `now`: seconds of the run."""
    reading = state.reading
    assert reading is not None
    at = "stdin" if reading.path == "-" else reading.path
    quiet = now - state.reading_moved
    if reading.path == "-" and quiet >= SLOW_S:
        at = f"waiting for more of stdin ({seconds(quiet)})"
    elif at and now - state.reading_since >= SLOW_S:
        at = f"{one_line(at)} ({seconds(now - state.reading_since)})"
    return tally(reading.files, reading.bytes, reading.pages, at)


def manifest_line(corpus: CorpusLoaded) -> str:
    """`42 files · 2.5 M chars · ~640 k tokens · skipped 3: 2 no text layer, 1 encrypted`"""
    parts = [
        plural(corpus.files, "file"), f"{spaced(corpus.chars)} chars", f"~{spaced(corpus.tokens)} tokens",
    ]  # fmt: skip
    if corpus.skipped:
        reasons = Counter(one_line(skipped["reason"]) for skipped in corpus.skipped).most_common()
        told = [f"{number:,} {reason}" for reason, number in reasons[:REASONS]]
        if len(reasons) > REASONS:
            told.append(f"{sum(number for _, number in reasons[REASONS:]):,} for other reasons")
        parts.append(f"skipped {len(corpus.skipped):,}: {', '.join(told)}")
    return " · ".join(parts)


def manifest_lines(corpus: CorpusLoaded, verbose: bool) -> Iterator[str]:
    """What was wanted and not read, by name; with `verbose` all of it, and what rules excluded."""
    shown = corpus.skipped if verbose else corpus.skipped[:SKIPPED]
    for skipped in shown:
        yield f"rlm: skipped {one_line(skipped['path'])}: {one_line(skipped['reason'])}"
    if len(corpus.skipped) > len(shown):
        yield f"rlm: and {len(corpus.skipped) - len(shown):,} more skipped; -v shows all"
    if verbose:
        for rule, number in corpus.excluded.items():
            yield f"rlm: excluded {number:,} by {one_line(rule)}"


def limit_line(hit: LimitHit) -> str:
    """`rlm: limit reached: max_subcalls (200)`"""
    most = {"max_budget": usd(hit.max), "timeout": seconds(hit.max)}.get(hit.limit, f"{hit.max:,.0f}")
    return f"rlm: limit reached: {one_line(hit.limit)}" + (f" ({most})" if hit.max else "")


WAYS = {"lean": "plain HTTP"}


def samples_line(compared: SamplesCompared) -> str:
    """`rlm: 3 of 5 answers agree (0.1, 0.3, 0.4); 0.3 is handed over`"""
    agreeing = next((group for group in compared.groups if compared.chosen in group), ())
    if compared.agreeing == 1 < compared.answered:
        return f"rlm: the {compared.answered} answers differ; {compared.chosen} is handed over, rlm show has all"
    few = "; the others were not needed" if compared.answered < compared.asked else ""
    return (
        f"rlm: {compared.agreeing} of {plural(compared.asked, 'answer')} agree ({', '.join(agreeing)});"
        f" {compared.chosen} is handed over{few}"
    )


def listed(document: Mapping[str, Any]) -> str:
    """One document of the manifest on one line."""
    facts = [document["kind"], document["encoding"], f"{document['chars']:,} chars", plural(document["lines"], "line")]
    if document["pages"]:
        facts.append(plural(document["pages"], "page"))
    if document["replaced"]:
        facts.append(f"{document['replaced']:,} characters replaced")
    return f"{one_line(document['path'])}  {' · '.join(fact for fact in facts if fact)}"


def verbose_lines(stamped: Stamped, color: bool) -> list[str]:
    """What `-v` adds for this event, under the call's address: reasoning (not of sub-calls, which may be hundreds), the
    code as it starts, the output as it ends."""
    address = stamped.call or ""
    match stamped.event:
        case RunStarted(transports=transports) if transports:
            return [f"rlm: {one_line(name)} is asked by {WAYS.get(way, way)}" for name, way in transports.items()]
        case CorpusLoaded(read=documents):
            return [listed(document) for document in documents]
        case CompletionFinished(reasoning=thoughts, purpose=purpose) if thoughts.strip() and purpose != "sub":
            return _block(f"{address} reasoning", thoughts, DIM if color else "")
        case CodeStarted(code):
            return _block(f"{address} code", code, DIM if color else "")
        case CodeFinished() as done:
            lines = _block(f"{address} output  {seconds(done.duration_s)}", done.stdout, "")
            if done.omitted_chars:
                lines.append(f"  … {count(done.omitted_chars)} characters left out")
            if done.error:
                lines += _block(f"{address} error", done.error, RED if color else "")
            return lines
        case ToolStarted() as started:
            return [f"{address} {one_line(as_written(started), TOOL_CHARS)}"]
        case ToolFinished() as ended:
            told = ended.error or ended.result
            took = f"{address} {ended.name} {'error' if ended.error else 'result'}  {seconds(ended.duration_s)}"
            lines = _block(took, shortened(one_line(told, 10_000), TOOL_CHARS), RED if color and ended.error else "")
            return lines + (_block(f"{address} {ended.name} printed", ended.printed, "") if ended.printed else [])
        case _:
            return []


def _block(head: str, text: str, style: str) -> list[str]:
    body = [f"  {line}".rstrip() for line in clean(text).rstrip("\n").split("\n")] if text.strip() else []
    if style:
        body = [f"{style}{line}{RESET}" for line in body]
    return [head, *body]
