"""The one stream of a run's events: journaled by the trace, folded into the state, handed to the readers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from . import trace
from .events import Event, NoticeGiven
from .fold import RunState

Reader = Callable[[trace.Written], None]
"""Takes every event as it happens: a view, or the printer of `--jsonl`."""


class Stream:
    """Where events go. Lives on the event loop of its run.

    `trace` keeps nothing until a run begins and is replaced then; `state` is the run as it stands.
    """

    def __init__(self, readers: Sequence[Reader]) -> None:
        self.trace = trace.Trace("", {})
        self.state = RunState()
        self._readers = readers
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    def emit(self, event: Event, call: str | None = None) -> None:
        """Put an event on the stream under the address of its call. A sink that breaks is told of; never raises."""
        written = self.trace.write(event, call, self.seconds)
        self.state.apply(written.stamped)
        for reader in self._readers:
            reader(written)
        for lost in written.lost:
            self.emit(NoticeGiven("sink_lost", lost))
