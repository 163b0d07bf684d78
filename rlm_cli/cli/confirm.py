"""Asks before much is spent: on a terminal, when the plan's expected cost is above `confirm_above`.

The run waits for the answer on its event loop, so signals still stop it, and the view is off the screen. Rejected: a
thread that reads (it cannot be ended, and the process would wait for it).
"""

from __future__ import annotations

import asyncio
import os
import termios
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from ..settings import Settings
from ..views import View
from ..views.safe import clean

if TYPE_CHECKING:
    from ..forecast import Forecast


class Confirmation:
    """One question before a run, if it is needed at all."""

    def __init__(self, settings: Settings, view: View, source: TextIO | None, stream: TextIO) -> None:
        self.is_open = False
        """The screen is the question's: nothing else may be drawn."""
        self._above = None if settings.yes else settings.confirm_above
        self._view, self._source, self._stream = view, source, stream

    def may_ask(self, environ: Mapping[str, str]) -> bool:
        """Whether somebody is there to answer."""
        there = self._source is not None and self._source.isatty() and self._stream.isatty()
        return self._above is not None and there and not environ.get("CI")

    async def __call__(self, cost: Forecast) -> bool:
        """Whether to go on."""
        likely = min(cost.expected.usd or 0.0, float("inf") if cost.high is None else cost.high)
        if self._above is None or likely <= self._above or self._source is None:
            return True
        from .plan import cost_lines

        self.is_open, typed = True, b""
        self._view.pause()
        try:
            self._stream.write(clean("\n".join(cost_lines(cost))) + "\ngo on? [Y/n] ")
            self._stream.flush()
            typed = await self._line(self._source.fileno())
            return typed.strip().lower() in (b"", b"y", b"yes")
        finally:
            if not typed.endswith(b"\n"):  # Ctrl-C, Ctrl-D: what comes next begins a line
                with suppress(OSError):
                    self._stream.write("\n")
            self.is_open = False

    async def _line(self, descriptor: int) -> bytes:
        """What is typed from now on, up to the end of the line; `no` where the terminal is gone."""
        loop = asyncio.get_running_loop()
        typed: asyncio.Future[bytes] = loop.create_future()

        def read() -> None:
            loop.remove_reader(descriptor)
            try:
                typed.set_result(os.read(descriptor, 1_000) or b"no")
            except OSError:
                typed.set_result(b"no")

        with suppress(termios.error):
            termios.tcflush(descriptor, termios.TCIFLUSH)  # what was typed before was no answer
        loop.add_reader(descriptor, read)
        try:
            return await typed
        finally:
            loop.remove_reader(descriptor)
