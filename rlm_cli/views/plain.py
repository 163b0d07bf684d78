"""Plain lines for CI logs, pipes and dumb terminals: calm, complete sentences of progress, nothing that moves.

A line when the run starts, when the documents are read, for every iteration of the root call, for every notice, at
the end; and while sub-calls run at most one every `EVERY_S` seconds. A log of a run of 200 sub-calls is some thirty
lines. A stream that breaks (the reader of the pipe has gone) ends the view, never the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from ..events import CorpusLoaded, IterationStarted, LimitHit, NoticeGiven, RunStarted, SamplesCompared, Stamped
from ..fold import RunState
from .figures import plural, seconds, spent
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
from .safe import one_line

EVERY_S = 10.0


class Plain:
    """One line an occasion on a stream that only grows. `progress` off: notices and what `verbose` adds."""

    def __init__(
        self,
        stream: TextIO,
        *,
        color: bool = False,
        verbose: bool = False,
        progress: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream: TextIO | None = stream
        self._color, self._verbose, self._progress, self._clock = color, verbose, progress, clock
        self._state = RunState()
        self._said_at = clock()
        self._offset = 0.0
        self._notices: set[tuple[str, str]] = set()
        self._quiet_until = 0.0

    def on(self, stamped: Stamped) -> None:
        self._offset = self._clock() - stamped.t
        self._state.apply(stamped)
        if isinstance(stamped.event, NoticeGiven):
            if self._is_news(stamped.event):
                self._say(notice_line(stamped.event, self._color))
        elif self._progress and (line := self._line(stamped)):
            self._say(line)
        if isinstance(stamped.event, CorpusLoaded):
            for line in manifest_lines(stamped.event, self._verbose):
                self._say(line)
        if self._verbose:
            for line in verbose_lines(stamped, self._color):
                self._say(line)

    def tick(self) -> None:
        if self._progress and self._clock() - self._said_at >= EVERY_S and not self._state.finished:
            if line := self._progress_line():
                self._say(line)
            self._said_at = self._clock()

    def pause(self) -> None:
        """Lines stay where they are."""

    def close(self) -> None:
        self._stream = None

    def _is_news(self, notice: NoticeGiven) -> bool:
        """Each once; what is about the moment at most once in a while: a rate limit may say it a hundred times."""
        key = (notice.code, notice.message)
        if key in self._notices or (notice.code in PASSING and self._clock() < self._quiet_until):
            return False
        self._notices.add(key)
        if notice.code in PASSING:
            self._quiet_until = self._clock() + EVERY_S
        return True

    def _line(self, stamped: Stamped) -> str:
        match stamped.event:
            case RunStarted() as started:
                models = f"root {started.models.get('root')}"
                if started.models.get("sub") not in (None, started.models.get("root")):
                    models += f" · sub {started.models.get('sub')}"
                return f"rlm: run {stamped.run} · {one_line(models)}" if stamped.run else f"rlm: {one_line(models)}"
            case CorpusLoaded() as corpus:
                return f"rlm: read {manifest_line(corpus)}"
            case IterationStarted(n) if stamped.call == "0":
                return f"rlm: iteration {n} · {self._so_far()}"
            case LimitHit() as hit:
                return limit_line(hit)
            case SamplesCompared() as compared:
                return samples_line(compared)
            case _:
                return ""

    def _progress_line(self) -> str:
        if self._state.reading is not None:
            return f"rlm: reading · {reading_text(self._state, self._clock() - self._offset)}"
        root = self._state.root
        if root is None:
            return ""
        tools = sum(call.kind == "tool" for call in root.active.values())
        numbers = ((len(root.active) - tools, "sub-call"), (tools, "tool call"))
        running = "".join(f"{plural(number, noun)} running · " for number, noun in numbers if number)
        return f"rlm: {running}{self._so_far()}"

    def _so_far(self) -> str:
        totals = self._state.totals
        cached = f" ({totals.cached:,} from cache)" if totals.cached else ""
        parts = [plural(totals.calls, "call") + cached, spent(totals.cost, totals.cost_known)]
        coverage = self._state.coverage
        if coverage is not None and coverage.total:
            parts.append(f"seen {100 * coverage.lines // coverage.total}% of lines")
        return " · ".join([*parts, seconds(self._clock() - self._offset)])

    def _say(self, line: str) -> None:
        self._said_at = self._clock()
        if self._stream is None:
            return
        try:
            encoding = self._stream.encoding or "utf-8"
            self._stream.write(line.encode(encoding, "replace").decode(encoding) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self._stream = None
