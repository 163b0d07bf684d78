"""What a worker says of a file, as it crosses the pipe: a stream of frames that can be kept in a file and played back.

    Enter          a member of an archive, a sheet, an attachment begins; `place` says which one at each level
      Begin        a document: its text follows, as Text and Page, and End or Skip
    Leave          it ends
    Skip           a document, or a member that is none: why it was not read
    Kept           a member that a rule kept out
    Note           something to be told of a document that was read
    Done           the file ends

`Enter` and `Leave` are there for the supervisor: what is open when a worker dies is what it died of, and the file is
gone on with after it. A frame is a letter, a length and that many bytes: text as it is, the rest as JSON.

Standard library only; worker and supervisor load the same file.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

HEAD = struct.Struct("<cI")
MOST_TEXT = 1 << 20
"""Bytes of text in a frame, about."""

Place = tuple[int, ...]
"""Where a member stands: its number in the file, then in the member that holds it, and so on."""


@dataclass(frozen=True, slots=True)
class Enter:
    place: Place
    path: str


@dataclass(frozen=True, slots=True)
class Leave:
    pass


@dataclass(frozen=True, slots=True)
class Begin:
    """`path`: what is appended to the file's own, as `!/dir/b.pdf`; empty for the file itself."""

    path: str
    kind: str


@dataclass(frozen=True, slots=True)
class Text:
    """`data`: the same in UTF-8, where that is at hand."""

    text: str
    data: bytes | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Page:
    """A page begins. `damaged`: it could not be read."""

    damaged: bool = False


@dataclass(frozen=True, slots=True)
class End:
    """The document is whole. `bytes` and `sha256` are those of what it was read from, empty where that is not known."""

    encoding: str = "utf-8"
    bytes: int = 0
    sha256: str = ""
    replaced: int = 0


@dataclass(frozen=True, slots=True)
class Skip:
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Kept:
    rule: str


@dataclass(frozen=True, slots=True)
class Note:
    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """The file ends. `met`: something of it was wanted (False: it holds no such member)."""

    met: bool = True


Frame = Enter | Leave | Begin | Text | Page | End | Skip | Kept | Note | Done

_LETTERS: dict[bytes, type[Frame]] = {
    b"M": Enter,
    b"m": Leave,
    b"D": Begin,
    b"T": Text,
    b"P": Page,
    b"E": End,
    b"S": Skip,
    b"K": Kept,
    b"N": Note,
    b"F": Done,
}
_OF = {kind: letter for letter, kind in _LETTERS.items()}


_PAGE = Page()
_GOOD_PAGE = b"[false]"
"""By far the most of all frames that are no text."""


def pack(frame: Frame) -> bytes:
    """A frame as it crosses the pipe. Characters that are none become U+FFFD."""
    if isinstance(frame, Text):
        data = frame.text.encode("utf-8", "replace")
    else:
        values = [getattr(frame, name) for name in frame.__slots__]
        data = json.dumps(values).encode() if values else b""
    return HEAD.pack(_OF[type(frame)], len(data)) + data


def unpack(data: bytearray) -> Iterator[Frame]:
    """The whole frames at the beginning of `data`, which are taken off it. Raises `ValueError` for what is none."""
    at = 0
    try:
        while at + HEAD.size <= len(data):
            letter, size = HEAD.unpack_from(data, at)
            kind = _LETTERS.get(letter)
            if kind is None or size > 64 * MOST_TEXT:
                raise ValueError("no frame")
            if at + HEAD.size + size > len(data):
                break
            body = data[at + HEAD.size : at + HEAD.size + size]
            at += HEAD.size + size
            yield _frame(kind, body)
    finally:
        del data[:at]


def _frame(kind: type[Frame], body: bytearray) -> Frame:
    if kind is Text:
        try:
            return Text(body.decode(), bytes(body))
        except UnicodeDecodeError:
            return Text(body.decode("utf-8", "replace"))
    if kind is Page and body == _GOOD_PAGE:
        return _PAGE
    values = json.loads(body) if body else []
    if kind is Enter:
        return Enter(tuple(values[0]), values[1])
    return kind(*values)
