"""Contexts that are too long for a frame: they come in pieces, and each becomes a corpus of its own on this side.

A guest cannot hand over a descriptor: after its lockdown it can neither make a memfd (`memfd_create`) nor pass one on
(`sendmsg`), and must not be able to. A descriptor that it had from the start would have to stay writable to it while
this side reads. So it sends pieces before its query, which names the text by number; they go to a private file as
they come, and a child gets that file. What a guest can make this side write is bounded (`wire.MAX_LONG`), and is gone
with the query or the cell.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import ExitStack, suppress

from ..builder import CorpusBuilder, Unwritable
from ..corpus import Corpus
from . import wire


class _Text:
    """One text that comes in pieces, until it is a corpus."""

    def __init__(self) -> None:
        """Raises `Unwritable`."""
        self.size = 0
        """Bytes that came."""
        self._digest = hashlib.sha256()
        self._builder = CorpusBuilder()
        self._document = ExitStack()
        try:
            self._writer = self._document.enter_context(self._builder.document("context", "text"))
        except Unwritable:
            self._builder.close()
            raise

    def add(self, piece: str, data: bytes) -> None:
        """Raises `Unwritable`."""
        self.size += len(data)
        self._digest.update(data)
        self._writer.write(piece)

    def whole(self) -> Corpus:
        """The corpus is the caller's. Raises `Unwritable`."""
        try:
            self._writer.sha256 = self._digest.hexdigest()  # else the builder reads it all once more
            self._document.close()
            return self._builder.finish()
        finally:
            self._builder.close()

    def close(self) -> None:
        with suppress(Unwritable):
            self._document.close()
        self._builder.close()


class LongTexts:
    """The texts of one cell, by number. Where one cannot be written, which is no fault of the guest's, that is said to
    who wants it."""

    def __init__(self) -> None:
        self._texts: dict[int, _Text | Unwritable] = {}
        self._count = self._size = 0
        """Texts and bytes, with those that were taken."""

    def add(self, frame: wire.Frame) -> None:
        """One more piece. Raises `wire.Violation`."""
        number = _number(frame)
        if len(frame.blobs) != 1:
            raise wire.Violation("a piece of no text")
        piece = frame.text(0)
        data = piece.encode()
        new = number not in self._texts
        if self._count + new > wire.MOST_LONG or self._size + len(data) > wire.MAX_LONG:
            raise wire.Violation("more long contexts at once than may be")
        try:
            text = self._texts[number] = _Text() if new else self._texts[number]
            self._count += new
            if isinstance(text, _Text):
                self._size += len(data)
                text.add(piece, data)
        except Unwritable as problem:
            self._drop(number)
            self._texts[number] = problem
            self._count += 1

    def drop(self, frame: wire.Frame) -> None:
        """A text that will not be asked about. Raises `wire.Violation`."""
        self._drop(_number(frame))

    def take(self, numbers: Iterable[int]) -> tuple[dict[int, Corpus], int]:
        """These texts, whole now and the caller's to close, and how much room they take until then, in bytes. Raises
        `Unwritable`."""
        taken: dict[int, Corpus] = {}
        room = 0
        try:
            for number in numbers:
                text = self._texts.pop(number, None)
                if isinstance(text, Unwritable):
                    raise text
                if text is not None:
                    room += text.size
                    taken[number] = text.whole()
        except Unwritable:
            self.release(taken, room)
            self._count -= 1
            raise
        return taken, room

    def release(self, taken: dict[int, Corpus], room: int) -> None:
        """Close texts that were taken; others may come in their room."""
        self._size -= room
        self._count -= len(taken)
        for corpus in taken.values():
            corpus.close()

    def close(self) -> None:
        """What nobody took."""
        for number in list(self._texts):
            self._drop(number)

    def _drop(self, number: int) -> None:
        text = self._texts.pop(number, None)
        self._count -= text is not None
        if isinstance(text, _Text):
            text.close()
            self._size -= text.size


def _number(frame: wire.Frame) -> int:
    number = frame.fields.get("text")
    if type(number) is not int:
        raise wire.Violation("a piece of no text")
    return number
