"""Work with a view beside it: events reach the view as they come, and it draws eight times a second."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from ..events import Event
from ..stream import Stream
from ..views import View

TICKS_PER_SECOND = 8
T = TypeVar("T")


async def tick(view: View, hidden: Callable[[], bool] = lambda: False) -> None:
    """Let the view draw until this is cancelled, but while it is `hidden`."""
    while True:
        if not hidden():
            view.tick()
        await asyncio.sleep(1 / TICKS_PER_SECOND)


@contextmanager
def closing(view: View) -> Iterator[None]:
    """The view is off the screen afterwards, whatever happens."""
    try:
        yield
    finally:
        view.close()


async def watched(view: View, work: Callable[[Callable[[Event, str | None], None]], Awaitable[T]]) -> T:
    """Do the work, which is given where its events go. For what is no run and keeps no trace."""
    stream = Stream([lambda written: view.on(written.stamped)])
    ticking = asyncio.ensure_future(tick(view))
    try:
        return await work(stream.emit)
    finally:
        ticking.cancel()
