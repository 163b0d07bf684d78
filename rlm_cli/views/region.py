"""The last few rows of a terminal, redrawn in place: erase, draw, leave the cursor on the empty row below.

    Region.show(rows)      the newest frame wins; older ones that were not yet written are forgotten
    Region.above(text)     text that stays, printed over the region
    Region.hide()          the region is gone and everything written, or the terminal does not read

A thread writes, so a terminal that stops reading (Ctrl-S, a slow line) holds up nothing but its own picture. The
cursor is hidden and wrapping off only within one write: whenever the process dies, even by SIGKILL, the terminal is
left as it was, with the last frame above the prompt.

Erasing goes row by row upwards and counts the rows an old line takes up at the *present* width, because a terminal
that became narrower has wrapped it. Terminals that cut instead of wrapping (xterm) may lose as many rows above; so may
those that tell the new size late (tmux, while a border is dragged), if a frame falls into that quarter of a second.
tmux moves the rows that a narrowing adds at the top of its window into the scrollback, out of anybody's reach.
Rejected: rich.Live (its refresh waits on a lock of up to a second on the event loop, it leaves ghosts after a
resize), erasing with `ESC [ J` (at the top of a window tmux pushes every frame into the scrollback), the alternate
screen (what `-v` prints would be gone), asking the terminal for the cursor (its reply comes in on stdin, which may be
a document).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import TextIO

from .safe import cells

PATIENCE_S = 1.0
"""How long `hide` waits for a terminal that does not read."""
MOST_ABOVE = 1 << 20
"""Characters that may wait to be printed above, while the terminal does not read."""

Row = tuple[str, int]
"""One row, styled, and how many columns it takes up."""


def size(descriptor: int) -> tuple[int, int]:
    """Columns and rows of the terminal; 80 × 24 when it does not say."""
    try:
        columns, rows = os.get_terminal_size(descriptor)
    except OSError:
        return 80, 24
    return columns or 80, rows or 24


class Region:
    """Rows at the bottom of the terminal on `stream`. Methods are for one thread; none raise."""

    def __init__(self, stream: TextIO) -> None:
        self._descriptor = stream.fileno()
        self._encoding = stream.encoding or "utf-8"
        stream.flush()
        self._wake = threading.Condition()
        self._frame: Sequence[Row] | None = None
        self._above: list[str] = []
        self._waiting = 0
        self._busy = False
        self._broken = False
        self._drawn: Sequence[Row] = ()
        self._thread: threading.Thread | None = None

    def show(self, rows: Sequence[Row]) -> None:
        """Draw these rows in place of the ones before. Skipped while the process is in the background."""
        if self._in_foreground():
            self._post(rows, "")

    def above(self, text: str) -> None:
        """Print lines that stay. `text` is clean and ends in a newline."""
        self._post(None, text)

    def hide(self, patience_s: float = PATIENCE_S) -> bool:
        """Erase the region; False if the terminal did not take it in time. `show` brings a region back."""
        if self._thread is None:
            return True
        self._post((), "")
        with self._wake:
            return self._wake.wait_for(lambda: self._frame is None and not self._above and not self._busy, patience_s)

    def _post(self, rows: Sequence[Row] | None, text: str) -> None:
        with self._wake:
            if self._broken:
                return
            if rows is not None:
                self._frame = rows
            if text and self._waiting < MOST_ABOVE:
                self._above.append(text)
                self._waiting += len(text)
            if self._thread is None:
                # A daemon: a terminal that never reads again must not keep the process from ending.
                self._thread = threading.Thread(target=self._work, name="rlm-region", daemon=True)
                self._thread.start()
            self._wake.notify_all()

    def _work(self) -> None:
        while True:
            with self._wake:
                self._busy = False
                self._wake.notify_all()
                self._wake.wait_for(lambda: self._frame is not None or self._above)
                rows, text = self._frame, "".join(self._above)
                self._frame, self._above, self._waiting, self._busy = None, [], 0, True
            try:
                self._draw(self._drawn if rows is None else rows, text)
            except OSError:
                with self._wake:
                    self._broken, self._busy, self._frame, self._above = True, False, None, []
                    self._wake.notify_all()
                return

    def _draw(self, rows: Sequence[Row], text: str) -> None:
        columns, height = size(self._descriptor)
        if text == "" and rows == self._drawn and all(width < columns for _, width in rows):
            return
        old = min(sum(max(1, -(-width // columns)) for _, width in self._drawn), height - 1)
        # Rows made for a wider terminal would wrap: the next frame is made for this one.
        fitting = [row for row in rows if row[1] < columns]
        parts = ["\x1b[?25l", "\r\x1b[2K", "\x1b[1A\x1b[2K" * old, text.replace("\n", "\r\n"), "\x1b[?7l"]
        parts += [f"{line}\r\n" for line, _ in fitting]
        parts += ["\x1b[?7h", "\x1b[?25h"]
        rest = memoryview("".join(parts).encode(self._encoding, "replace"))
        self._drawn = tuple(fitting)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def _in_foreground(self) -> bool:
        """After `bg` the terminal is the shell's to draw on."""
        try:
            return os.tcgetpgrp(self._descriptor) == os.getpgrp()
        except OSError:
            return True  # not our controlling terminal: nobody to disturb


def row(line: str) -> Row:
    """A row of unstyled text."""
    return line, cells(line)
