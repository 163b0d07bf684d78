"""Reading from what may never end: stdin, a FIFO, `<(command)`.

A pipe is waited for in short turns, so that Ctrl-C ends the run while nothing comes, and it is cut where its bounds
say: at a size, or at a time. What came until then is the document; who reads it says that it was cut, and why. A
line that was cut off in the middle stays as it is: what is whole cannot be known.
"""

from __future__ import annotations

import fcntl
import io
import os
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

TURN_S = 0.1
PIPE_BYTES = 1 << 20


class Stopped(Exception):
    """The run was interrupted while documents were read."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of all pipes together is read: `bytes`, and `until`, on the clock of `time.monotonic`. None: no end."""

    bytes: int | None = None
    until: float | None = None


class Pipe:
    """`read(size)` as a raw file has it, with an end: `cut` says why it ended before its writer did, else it is empty.

    `waiting` is called in every turn in which nothing came. Raises `Stopped` when `stop` is set, `OSError`.
    """

    def __init__(
        self, stream: BinaryIO | io.FileIO, bounds: Bounds, stop: threading.Event, waiting: Callable[[], None]
    ) -> None:
        self.cut = ""
        self._stream = stream
        self._bounds = bounds
        self._left = bounds.bytes
        self._stop = stop
        self._waiting = waiting
        try:
            self._descriptor = stream.fileno()
            _widened(self._descriptor)
        except (OSError, io.UnsupportedOperation, AttributeError):
            self._descriptor = -1  # a file object in memory never waits

    def read(self, size: int) -> bytes:
        if self.cut:
            return b""
        if self._left is not None and self._left < size:
            size = self._left + 1  # whether there is more is seen by asking for it
        data = self._next(size)
        if self._left is not None:
            if len(data) > self._left:
                self.cut = f"after {_size(self._bounds.bytes)} (stdin_limit)"
                data = data[: self._left]
            self._left -= len(data)
        return data

    def _next(self, size: int) -> bytes:
        if self._descriptor < 0:
            return self._stream.read(size) or b""
        while not select.select([self._descriptor], [], [], TURN_S)[0]:
            if self._stop.is_set():
                raise Stopped
            if self._late():
                return b""
            self._waiting()
        return b"" if self._late() else os.read(self._descriptor, size)

    def _late(self) -> bool:
        if self._bounds.until is not None and time.monotonic() >= self._bounds.until:
            self.cut = "when half of --timeout was used"
        return bool(self.cut)


def _widened(descriptor: int) -> None:
    """Let more wait in a pipe at a time: with 64 KB its two ends mostly wait for each other."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except (OSError, AttributeError):
        pass  # no pipe, not this system, or the user has no more of it


def _size(size: int | None) -> str:
    for unit, factor in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if size and size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"
