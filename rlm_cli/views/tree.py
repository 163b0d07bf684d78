"""The live tree on stderr: the calls at work, finished siblings folded to one line, money and time below.

    0             ✓✓◐   anthropic/…   iteration 3                                2.1k→480  $0.19  38s
    ├ 0.1 … 0.18  ✓ 18  openai/…mini                                             1.7M→9k   $0.11
    ├ 0.19        ◐     openai/…mini  98k chars · Which clauses end it at once?                   3s
    └ 0.20        ◐     openai/…mini  41k chars · Which clauses end it at once?                   1s
    $0.31 / $1.00 ▓▓▓░░░░░░░   21 calls   seen 76% of lines   0:38   Ctrl-C stops, nothing lost

`frame` is a function of the state, the time and the size; Rich lays its rows out in columns and measures them, the
`Region` writes them. A frame is made eight times a second at most, on the event loop, in about a millisecond.
"""

from __future__ import annotations

import atexit
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from io import StringIO
from itertools import islice
from typing import TextIO

from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ..events import CorpusLoaded, LimitHit, NoticeGiven, SamplesCompared, Stamped
from ..fold import CallState, Folded, RunState, Standing
from .figures import clock as clock_of
from .figures import count, plural, seconds, spent, tokens, usd
from .lines import (
    PASSING,
    limit_line,
    manifest_line,
    manifest_lines,
    notice_line,
    reading_text,
    samples_line,
    verbose_lines,
)
from .region import Region, Row, size
from .safe import gist, one_line, shortened

SHARE = 0.6
"""Of the terminal's height: the rest stays the user's."""
BAR = 10
MARKS = {
    Standing.WAITING: ("·", "dim"),
    Standing.ASKING: ("◐", "cyan"),
    Standing.RETRYING: ("↻", "yellow"),
    Standing.CODING: ("◐", "cyan"),
    Standing.COMPLETE: ("✓", "green"),
    Standing.PARTIAL: ("◑", "yellow"),
    Standing.NOT_FOUND: ("○", "green"),
    Standing.FAILED: ("✗", "red"),
}
ASCII = str.maketrans(
    {
        "✓": "+", "◐": "*", "◑": "~", "○": "o", "✗": "x", "↻": "!", "·": "-", "├": "|", "└": "`", "│": "|",
        "▓": "#", "░": ".", "→": ">", "⟲": "@", "…": ".", "≥": ">", "–": "-",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Canvas:
    """What a frame is drawn on: columns, rows of the whole terminal, and what it can show."""

    columns: int
    height: int
    color: bool = False
    ascii: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the tree before it is laid out in columns."""

    branch: str
    mark: str
    style: str
    model: str
    what: str
    used: str = ""
    cost: str = ""
    took: str = ""
    at_work: bool = False


def frame(state: RunState, now: float, canvas: Canvas) -> list[Row]:
    """The rows of one picture: at most `SHARE` of the height, each narrower than the terminal.

    `now`: seconds since the run started.
    """
    room = max(int(canvas.height * SHARE), 2)
    rows: list[Row] = []
    if state.root is not None:
        rows = _laid_out(_walk(state, state.root, now, room - 1), canvas)
    return [*rows, *_rendered([_foot(state, now, canvas)], canvas)]


def _walk(state: RunState, root: CallState, now: float, room: int) -> list[Line]:
    """The root, then depth first what is below it, until the room is used up; the last line counts the rest."""
    below = _children(root, "", now)
    lines = [_root_line(root, now), *islice(below, room - 1)]
    if next(below, None) is not None and len(lines) > 1:
        lines.pop()
        rest = state.at_work - sum(line.at_work for line in lines)
        lines.append(Line("└ …", "", "", "", f"{rest:,} more at work"))
    return lines


def _children(call: CallState, indent: str, now: float) -> Iterator[Line]:
    """Lazily, for a fan-out of thousands: finished children by how they ended, then those at work with theirs."""
    left = len(call.folded) + len(call.tools) + len(call.active)
    for standing in MARKS:
        if standing in call.folded:
            left -= 1
            yield _folded_line(standing, call.folded[standing], indent + ("├ " if left else "└ "))
    for standing in MARKS:
        if standing in call.tools:
            left -= 1
            yield _folded_line(standing, call.tools[standing], indent + ("├ " if left else "└ "), "tool")
    for child in call.active.values():
        left -= 1
        yield _call_line(child, indent + ("├ " if left else "└ "), now)
        yield from _children(child, indent + ("│ " if left else "  "), now)


def _root_line(call: CallState, now: float) -> Line:
    done = "✓" * min(max(call.iteration - 1, 0), 5)
    what = f"iteration {call.iteration}" if call.iteration else "reads the whole text"
    if not call.iteration and (call.active or call.folded):
        what = "compares independent answers"
    line = _call_line(call, "", now)
    return replace(line, mark=done + line.mark, what=_activity(call, now) or what)


def _call_line(call: CallState, branch: str, now: float) -> Line:
    waited = call.standing is Standing.RETRYING and 0 < call.waits_until <= now
    glyph, style = MARKS[Standing.ASKING if waited else call.standing]
    tool = call.kind == "tool"
    extent = "" if tool else f"iteration {call.iteration}" if call.iteration else f"{count(call.context_chars)} chars"
    asked = shortened(one_line(call.question), 60) if tool else gist(call.question, 60)
    return Line(
        branch=branch + call.address,
        mark=glyph,
        style=style,
        model="tool" if tool else call.model,
        what=_activity(call, now) or " · ".join(part for part in (extent, asked) if part),
        used=tokens(call.usage),
        cost=usd(call.cost) if call.completions else "",
        took=seconds((now if call.ended is None else call.ended) - call.started),
        at_work=call.ended is None,
    )


def _activity(call: CallState, now: float) -> str:
    """What is worth more than the question: why it waits, and how long still."""
    if call.standing is not Standing.RETRYING:
        return ""
    if not call.waits_until:
        return one_line(call.detail, 80)
    why, left = call.detail.partition(": ")[2], math.ceil(call.waits_until - now)
    return one_line(f"waiting {left} s: {why}", 80) if left > 0 else ""


def _folded_line(standing: Standing, folded: Folded, branch: str, kind: str = "") -> Line:
    glyph, style = MARKS[standing]
    many = f"{folded.first} … {folded.last}" if folded.count > 1 else folded.first
    if kind:
        return Line(f"{branch}{many}", f"{glyph} {folded.count}", style, kind, ", ".join(sorted(folded.models)))
    model = next(iter(folded.models)) if len(folded.models) == 1 else plural(len(folded.models), "model")
    used, cost = tokens(folded.usage), usd(folded.cost)
    cached = f"⟲ {folded.cached:,} from cache" if folded.cached else ""
    return Line(f"{branch}{many}", f"{glyph} {folded.count}", style, model, cached, used, cost)


COLUMNS = {"branch": 0, "mark": 0, "model": 64, "what": 0, "used": 80, "cost": 48, "took": 40}
"""Column → how wide the terminal must be to show it."""
MOST = {"branch": 24, "model": 28}
GAP = 2
LEAST_WHAT = 6


def _laid_out(lines: list[Line], canvas: Canvas) -> list[Row]:
    """Columns by Rich. A narrow terminal loses tokens first, then the model, then figures; `what` takes the slack."""
    room = canvas.columns - 1
    cells = {name: [_cell(line, name, canvas) for line in lines] for name, least in COLUMNS.items() if room >= least}
    widths = {name: min(max(c.cell_len for c in column), MOST.get(name, room)) for name, column in cells.items()}
    others = sum(width + GAP for name, width in widths.items() if name != "what")
    widths["what"] = min(widths["what"], max(room - others, LEAST_WHAT))
    table = Table.grid(padding=(0, GAP, 0, 0))
    for name, width in widths.items():
        right = name in ("cost", "took")
        table.add_column(no_wrap=True, overflow="ellipsis", justify="right" if right else "left", width=width)
    for row in zip(*cells.values(), strict=True):
        table.add_row(*row)
    return _rendered([table], canvas)


def _cell(line: Line, name: str, canvas: Canvas) -> Text:
    text = str(getattr(line, name))
    style = line.style if name == "mark" else "dim" if name in ("used", "took") else ""
    return Text(_drawable(one_line(text, 200) if name in ("model", "what") else text, canvas), style=style)


def _drawable(text: str, canvas: Canvas) -> str:
    """Before anything is measured: what the stream cannot encode becomes its ASCII likeness, or a question mark."""
    return text.translate(ASCII).encode("ascii", "replace").decode() if canvas.ascii else text


def _foot(state: RunState, now: float, canvas: Canvas) -> Text:
    """The line of money and time; what does not fit is left out from the right."""
    if state.reading is not None or state.root is None:
        parts = [_reading(state, now), clock_of(now), "Ctrl-C stops"]
    else:
        totals, coverage = state.totals, state.coverage
        parts = [_money(state), plural(totals.calls, "call")]
        if totals.cached:
            parts[-1] += f", {totals.cached:,} from cache"
        if coverage is not None and coverage.total:
            parts.append(f"seen {100 * coverage.lines // coverage.total}% of lines")
        parts += [clock_of(now), "Ctrl-C stops, nothing lost"]
    while len(parts) > 1 and len("   ".join(parts)) >= canvas.columns:
        parts.pop()
    return Text(_drawable("   ".join(parts), canvas), no_wrap=True, overflow="ellipsis", style="bold")


def _reading(state: RunState, now: float) -> str:
    return "preparing" if state.reading is None else f"reading {reading_text(state, now)}"


def _money(state: RunState) -> str:
    text = spent(state.totals.cost, state.totals.cost_known)
    budget = state.started.limits.get("max_budget") if state.started is not None else None
    if not budget:
        return text
    filled = min(max(round(BAR * state.totals.cost / budget), 0), BAR)
    return f"{text} / {usd(budget)} {'▓' * filled}{'░' * (BAR - filled)}"


def _rendered(things: list[Table] | list[Text], canvas: Canvas) -> list[Row]:
    """Rich's lines as rows: styled text and its width. A console a frame costs nothing and keeps no state."""
    console = Console(
        file=StringIO(),
        force_terminal=canvas.color,
        color_system="standard" if canvas.color else None,
        width=max(canvas.columns - 1, 1),
        height=canvas.height,
        markup=False,
        highlight=False,
        emoji=False,
        legacy_windows=False,
        _environ={},
    )
    rows: list[Row] = []
    for thing in things:
        for segments in console.render_lines(thing, pad=False):
            while segments and not segments[-1].text.strip():
                segments.pop()
            line = "".join(_styled(segment, canvas) for segment in segments)
            rows.append((line, sum(segment.cell_length for segment in segments)))
    return rows


def _styled(segment: Segment, canvas: Canvas) -> str:
    text = segment.text.replace("…", ".") if canvas.ascii else segment.text  # Rich's own ellipsis
    if not canvas.color or segment.style is None:
        return text
    return segment.style.render(text, color_system=ColorSystem.STANDARD)


class Tree:
    """The live view. Give it events and ticks on the event loop's thread, the main one; `close` takes it away."""

    def __init__(
        self,
        stream: TextIO,
        *,
        color: bool = False,
        verbose: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._region = Region(stream)
        self._descriptor = stream.fileno()
        self._color, self._verbose, self._clock = color, verbose, clock
        self._ascii = not _can_draw(stream.encoding or "utf-8")
        self._state = RunState()
        self._offset = clock()
        self._notices: set[tuple[str, str]] = set()
        self._open = True
        self._previous = self._catch_stop()
        atexit.register(self.close)

    def on(self, stamped: Stamped) -> None:
        self._offset = self._clock() - stamped.t
        self._state.apply(stamped)
        lines = verbose_lines(stamped, self._color) if self._verbose else []
        if isinstance(stamped.event, NoticeGiven) and stamped.event.code not in PASSING:
            key = (stamped.event.code, stamped.event.message)
            if key not in self._notices:
                self._notices.add(key)
                lines.append(notice_line(stamped.event, self._color))
        match stamped.event:
            case CorpusLoaded() as corpus:
                lines += [f"rlm: read {manifest_line(corpus)}", *manifest_lines(corpus, self._verbose)]
            case LimitHit() as hit:
                lines.append(limit_line(hit))
            case SamplesCompared() as compared:
                lines.append(samples_line(compared))
        if lines and self._open:
            self._region.above("\n".join(lines) + "\n")

    def tick(self) -> None:
        if self._open:
            columns, height = size(self._descriptor)
            canvas = Canvas(columns, height, self._color, self._ascii)
            self._region.show(frame(self._state, self._clock() - self._offset, canvas))

    def pause(self) -> None:
        if self._open:
            self._region.hide()

    def close(self) -> None:
        if self._open:
            self._open = False
            self._region.hide()
            atexit.unregister(self.close)
            if self._previous is not None:
                signal.signal(signal.SIGTSTP, self._previous)

    def _catch_stop(self) -> Callable[..., object] | int | None:
        """Ctrl-Z gives the shell a clean terminal. None: not ours to handle (another thread, a shell without jobs)."""
        if threading.current_thread() is not threading.main_thread():
            return None
        if signal.getsignal(signal.SIGTSTP) is not signal.SIG_DFL:
            return None
        return signal.signal(signal.SIGTSTP, self._stopped)

    def _stopped(self, *_: object) -> None:
        self._region.hide()
        os.kill(os.getpid(), signal.SIGSTOP)  # goes on here after `fg`; the next tick draws below what came between


def _can_draw(encoding: str) -> bool:
    try:
        "✓◐├└▓░→⟲…".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
