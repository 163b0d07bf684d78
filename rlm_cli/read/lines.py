"""Paragraphs and tables as a markup tells them, and the lines they make: what docx, odt, slides and HTML share.

A paragraph is a line; a table's row is a line, its cells apart by a tab. A paragraph within a paragraph (a text box
anchored there) comes before it. A row that holds much more than a table would, such as the columns of a page laid out
with a table, is told paragraph by paragraph.

Confessed: tables more than `DEPTH` inside one another lose their inner rows, so hostile nesting costs no more than its
length.
"""

from __future__ import annotations

DEPTH = 8
LONG_ROW = 2_000
"""Characters above which a row whose cells hold several paragraphs is page layout rather than a table's row."""

_LAST = 8
"""Pieces of text a link's words may be in."""


class Lines:
    """Told of beginnings and ends in any order, however wrong; `take` gives the lines that are finished."""

    def __init__(self) -> None:
        self.prefix = ""
        """Said at the beginning of the next paragraph."""
        self._done: list[str] = []
        self._open: list[list[str]] = []
        self._sinks: list[list[str]] = [self._done]
        self._rows: list[list[list[str]] | None] = []

    def say(self, text: str) -> None:
        """Text of the open paragraph. Outside of one it is nothing that is seen."""
        if self._open:
            self._open[-1].append(text)

    @property
    def in_paragraph(self) -> bool:
        return bool(self._open)

    def link(self, target: str) -> None:
        """Where the words just said lead, unless they say so themselves."""
        said = "".join(self._open[-1][-_LAST:]) if self._open else ""
        if not said.rstrip("/").endswith(target.removeprefix("mailto:").rstrip("/")):
            self.say(f" ({target})")

    def begin_paragraph(self) -> None:
        self._open.append([self.prefix])
        self.prefix = ""

    def end_paragraph(self) -> None:
        if not self._open:
            return
        prefix, *words = self._open.pop()
        said = "".join(words)
        if prefix and not said.strip():
            self.prefix, prefix = prefix, ""  # for the next one, which says something
        self._sinks[-1].append(prefix + said)

    def begin_row(self) -> None:
        self._rows.append([] if len(self._rows) < DEPTH else None)

    def begin_cell(self) -> None:
        if self._rows and self._rows[-1] is not None:
            self._sinks.append([])

    def end_cell(self, again: int = 1) -> None:
        """`again`: columns it stands for."""
        if self._rows and (row := self._rows[-1]) is not None and len(self._sinks) > 1:
            row.append(self._sinks.pop())
            row.extend([] for _ in range(min(again, 100) - 1))

    def end_row(self) -> None:
        row = self._rows.pop() if self._rows else None
        if not row:
            return
        while row and not any(map(str.strip, row[-1])):
            row.pop()
        if sum(len(text) for cell in row for text in cell) > LONG_ROW and any(len(cell) > 1 for cell in row):
            self._sinks[-1].extend(text for cell in row for text in cell)
        else:
            self._sinks[-1].append("\t".join(" ".join(" ".join(cell).split()) for cell in row))

    def capture(self) -> None:
        """What is finished from here on is for `captured`: a note's body, a deletion told elsewhere."""
        self._sinks.append([])

    def captured(self) -> list[str]:
        return self._sinks.pop() if len(self._sinks) > 1 else []

    @property
    def finished(self) -> int:
        """How many lines `take` would give."""
        return len(self._done)

    def take(self) -> str:
        """The finished lines, each with its end; of several empty ones in a row, one."""
        if not self._done:
            return ""
        lines = [line.rstrip() for line in self._done]
        self._done.clear()
        kept = [line for k, line in enumerate(lines) if line or (k and lines[k - 1])]
        return "".join(f"{line}\n" for line in kept)
