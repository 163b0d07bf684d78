"""What models were shown, looked up beside the run: searching a gigabyte must not hold up the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from .events import CoverageGrew
from .evidence import Coverage
from .request import Emit


class Seen:
    """Feeds `Coverage` in a thread of its own. Lives on the event loop of its run."""

    def __init__(self, coverage: Coverage, lines: int, emit: Emit) -> None:
        """`lines`: how many the documents have."""
        self.coverage = coverage
        self._lines = lines
        self._emit = emit
        self._thread = ThreadPoolExecutor(1, "coverage")

    def saw(self, text: str) -> None:
        """Models were shown `text`: look up in the background which lines of the corpus stand in it."""
        if text:
            self._look(lambda: self.coverage.saw(text))

    def saw_all(self) -> None:
        """A model was shown the whole text."""
        self._look(self.coverage.saw_all)

    def _look(self, up: Callable[[], None]) -> None:
        event_loop = asyncio.get_running_loop()

        def look() -> None:
            up()
            grew = CoverageGrew(self.coverage.lines_seen, self._lines)
            with suppress(RuntimeError):  # the run ended meanwhile
                event_loop.call_soon_threadsafe(self._emit, grew, None)

        with suppress(RuntimeError):
            self._thread.submit(look)

    async def settle(self) -> None:
        """Wait until everything shown so far was looked up."""
        await asyncio.get_running_loop().run_in_executor(self._thread, lambda: None)

    async def close(self) -> None:
        """Forget what is waiting, and wait for what is being looked up."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
