"""Lines that stay on the screen whichever view is shown: notices, and with `-v` the code and what it printed."""

from __future__ import annotations

from ..events import CodeFinished, CodeStarted, NoticeGiven, Stamped
from .figures import count, seconds
from .safe import clean, one_line

DIM, YELLOW, RED, RESET = "\x1b[2m", "\x1b[33m", "\x1b[31m", "\x1b[0m"
PASSING = frozenset({"retrying"})
"""Notices about the moment: the tree shows them on the call's own line instead."""


def notice_line(notice: NoticeGiven, color: bool) -> str:
    text = f"rlm: {one_line(notice.message, 2_000)}"
    return f"{YELLOW}{text}{RESET}" if color else text


def verbose_lines(stamped: Stamped, color: bool) -> list[str]:
    """What `-v` adds for this event: the code as it starts, the output as it ends, each under the call's address."""
    address = stamped.call or ""
    match stamped.event:
        case CodeStarted(code):
            return _block(f"{address} code", code, DIM if color else "")
        case CodeFinished() as done:
            lines = _block(f"{address} output  {seconds(done.duration_s)}", done.stdout, "")
            if done.omitted_chars:
                lines.append(f"  … {count(done.omitted_chars)} characters left out")
            if done.error:
                lines += _block(f"{address} error", done.error, RED if color else "")
            return lines
        case _:
            return []


def _block(head: str, text: str, style: str) -> list[str]:
    body = [f"  {line}".rstrip() for line in clean(text).rstrip("\n").split("\n")] if text.strip() else []
    if style:
        body = [f"{style}{line}{RESET}" for line in body]
    return [head, *body]
