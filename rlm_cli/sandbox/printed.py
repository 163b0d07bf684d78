"""What a cell prints: head and tail are kept, the middle is only counted.

A flood of 2 GB costs the memory of 20,000 characters. Head *and* tail, because totals are printed last.
Standard library only: this file is loaded in the child.
"""

from __future__ import annotations

import io
import threading

HEAD = TAIL = 5_000
"""Characters kept at each end."""


class Printed(io.TextIOBase):
    """Stands in for stdout and stderr, for all threads."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()
        self._head = ""
        self._tail = ""
        self._count = 0

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() takes text, not {type(text).__name__}")
        with self._lock:
            room = HEAD - len(self._head)
            if room > 0:
                self._head += text[:room]
            if len(text) > room:
                self._tail = (self._tail + text[max(room, len(text) - TAIL) :])[-TAIL:]
            self._count += len(text)
        return len(text)

    def shown(self) -> tuple[str, int]:
        """What is shown, with a mark where something is missing, and how many characters are."""
        omitted = self._count - len(self._head) - len(self._tail)
        if not omitted:
            return self._head + self._tail, 0
        mark = f"\n… {omitted:,} of {self._count:,} characters not shown …\n"
        return self._head + mark + self._tail, omitted

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"
