"""What a reader says of a file: text, page by page, and the documents inside it, in the order they stand.

A reader is a generator function of a file and `Options`. It yields `str` (text, in pieces of any size), `Page` (a page
begins; text before the first belongs to page 1) and `Inside` (a document inside: a sheet, an attachment, a member of an
archive). Archives are readers like any other, so containers nest as deep as the dispatcher allows. A reader raises
`Unreadable` with words for the manifest; whatever else it raises costs this file only.

Readers run in a worker process with limits of time and memory (`workers.py`), and import what they need inside the
function: a corpus of text pays for none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

ENCRYPTED = "encrypted"
NO_TEXT = "no text layer"
LINK = "link"
"""`kind` of a member that is a link: counted, not followed."""


class Unreadable(Exception):
    """Why a file gives no text, in words for the manifest: short, lower case, no path."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user set for readers. `passwords` are tried in order after the empty one; `encoding` overrides what is
    found out about text (None = find out); `ocr`: pages without a text layer are read by tesseract."""

    passwords: tuple[str, ...] = ()
    encoding: str | None = None
    ocr: bool = False

    def __repr__(self) -> str:
        return f"Options({len(self.passwords)} passwords, encoding={self.encoding!r}, ocr={self.ocr})"


@dataclass(frozen=True, slots=True)
class Page:
    """A page begins (of a PDF, a slide). `damaged`: it could not be read and stays empty."""

    damaged: bool = False


@dataclass(frozen=True, slots=True)
class Inside:
    """A document inside a file, called `name` there (`/` between folders, as it stands; never a path on this machine).

    Either `file`, whose format is found out anew (by `kind`, a suffix such as `.pdf`, where the name does not tell), or
    `pieces`, which are text already (a sheet). What is asked for next ends it: both must be used before that. `file`
    need only be readable forwards; one with a `problem` after its end was cut off. An empty `name` is the same document
    unwrapped (`a.log.gz`). Text of the file itself stands before the first of them.
    """

    name: str
    file: BinaryIO | None = None
    pieces: Iterator[Piece] | None = None
    kind: str = ""


Piece = str | Page | Inside

Reader = Callable[[BinaryIO, Options], Iterator[Piece]]
"""The file stands at its beginning, can be sought in, and is not closed by the reader."""


def refused(reason: str) -> Iterator[Piece]:
    """The `pieces` of a document inside that cannot be read."""
    raise Unreadable(reason)
    yield
