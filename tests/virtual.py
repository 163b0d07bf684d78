"""An event loop whose clock jumps to the next timer: hours of a run in milliseconds, and a deadlock is an error.

    run(main())  # asyncio.sleep(3600) in it takes no time; asyncio.get_running_loop().time() is an hour later

Nothing may come from outside (sockets, threads): where nothing is ready and no timer is set, nothing ever will be.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class Deadlock(Exception):
    """Everybody waits for somebody."""


class _Selector(selectors.SelectSelector):
    """Waits by moving the clock."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock
        self.now += timeout
        return []


class Loop(asyncio.SelectorEventLoop):
    """Starts at second 0."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """What `main` returns. Raises `Deadlock` where it waits for nothing."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(main)
