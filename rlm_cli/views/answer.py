"""What a run ends with: the answer and its quotes for stdout, one summary line for stderr.

Plain text, written as it is: Rich's `print` wraps hard (bad to copy) and Markdown damages facts (`__init__.py` loses
its underscores, `[1]` its brackets, lists are renumbered).
"""

from __future__ import annotations

from ..result import Citation, Located, Result, Status
from .figures import count, plural, seconds, usd
from .safe import cells, clean, one_line, safe_json, shortened

NOT_FOUND = "The documents do not answer this question."
"""What stdout says for an answer of None; `status` and `found` say it to programs."""
QUOTE_CHARS = 160
PLACE_CELLS = 60
"""Longer places do not push the quotes of the others to the right."""
DIM, RED, RESET = "\x1b[2m", "\x1b[31m", "\x1b[0m"


def answer_text(result: Result, cite: bool = True, color: bool = False) -> str:
    """The answer, a blank line and a line for each quote; ends in a newline; empty when there is no answer to print.

    An answer that was asked for as a value is JSON and nothing else, null where the documents do not answer.
    """
    if result.structured:
        return f"{safe_json(result.text)}\n"
    text = NOT_FOUND if result.status is Status.NOT_FOUND else clean(result.text).strip("\n")
    lines = [text] if text.strip() else []
    if cite and lines and result.citations:
        lines += ["", *citation_lines(result.citations, color)]
    return "\n".join(lines) + "\n" if lines else ""


def citation_lines(citations: list[Citation], color: bool = False) -> list[str]:
    """`[1] contracts/acme.pdf:p12   “quote”`, the quotes in one column."""
    heads = [f"[{citation.n}] {place(citation)}" for citation in citations]
    widths = [cells(head) for head in heads]
    column = max((width for width in widths if width <= PLACE_CELLS), default=0)
    lines = []
    for citation, head, width in zip(citations, heads, widths, strict=True):
        quote = f"“{shortened(one_line(citation.quote, 10_000), QUOTE_CHARS)}”"
        difference = f"  ({one_line(citation.difference)})" if citation.difference else ""
        gap = " " * (max(column - width, 0) + 2)
        missing = citation.located is Located.NO
        shown = f"{RED}{head}{RESET}" if color and missing else head
        lines.append(f"{shown}{gap}{DIM}{quote}{RESET}{difference}" if color else f"{head}{gap}{quote}{difference}")
    return lines


def place(citation: Citation) -> str:
    """Where the host found a quote: `path:line`, `path:p12`, or that it did not, in words."""
    if citation.located is Located.NO:
        return "not found in the documents"
    where = one_line(citation.path or "")
    if citation.page is not None:
        where += f":p{citation.page}"
    elif citation.lines is not None:
        where += f":{citation.lines[0]}"
    match citation.located:
        case Located.AMBIGUOUS:
            return f"{where} (in several documents)" if where else "in several documents"
        case Located.APPROXIMATE:
            return f"{where} (approximate)"
        case _:
            return where


def summary_line(result: Result) -> str:
    """`complete · 31 calls · $0.41 · 41s · 40/42 files seen · 2/2 quotes located · rlm show k7q2fd`, no newline."""
    head = str(result.status).replace("_", " ")
    if result.status is Status.PARTIAL:
        head += f" ({str(result.stop_reason).replace('_', ' ')})"
    if result.status is Status.STOPPED:
        head = f"rlm: {head}"
    return " · ".join([head, *_figures(result), *([f"rlm show {result.run}"] if result.trace else [])])


def _figures(result: Result) -> list[str]:
    cost = usd(result.usage.cost_usd if result.cost_known else None)
    if result.cost_known and result.cost_estimated_usd:
        cost = f"≤ {cost}"  # what was cut short counts at its ceiling
    figures = [plural(result.usage.calls, "call"), cost, seconds(result.duration_s)]
    if result.usage.calls_from_cache:
        figures.insert(1, f"{result.usage.calls_from_cache:,} from cache")
    if cached := result.usage.cached_input_tokens:
        figures.append(f"{count(cached)} of {count(result.usage.input_tokens)} tokens cached")
    if result.samples is not None:
        figures.insert(0, f"{result.samples['agreeing']} of {result.samples['asked']} agree")
    files = result.coverage["files"] if result.coverage else None
    if files and files["total"] and result.status is not Status.STOPPED:
        figures.append(f"{files['seen_by_model']:,}/{files['total']:,} files seen")
    if result.citations:
        located = sum(c.located in (Located.EXACT, Located.APPROXIMATE) for c in result.citations)
        figures.append(f"{located}/{len(result.citations)} quotes located")
    if result.subcalls.get("failed"):
        figures.append(f"{plural(result.subcalls['failed'], 'sub-call')} failed")
    return figures
