"""What a frame costs the host in memory, known before it is paid: the host stays within 100 MB of its own size.

Bytes on the wire are no measure. One emoji makes a text of 30 MB take 120, an escaped one in JSON does the same unseen,
and `[{"":0},{"":0}…` takes thirty times its length as a value. So texts are weighed by their widest character, JSON
by its pieces, at what the most expensive piece takes. Both sides weigh alike: the child refuses in words what the host
would end it for.

Rejected: a parser that counts as it goes (the one in C does not, one in Python takes a minute for 30 MB).
Standard library only: this file is loaded in the child.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache

ROOM = 90_000_000
"""Bytes for the text and the value of an answer together."""
LONGEST_NUMBER = 5_000
"""Characters of a number, or of white space: Python reads numbers of 4,300 digits, and copies a longer one first."""
MAX_LEVEL = 100
"""Levels of lists and objects in an answer: what reads it later calls itself for each."""
PIECE = 96
"""Bytes that a list, an object, a key or an item takes at most; an object of one key counts as two and takes 190."""
HEADER = 16
"""Bytes that a byte of a header takes as values: a list of slices of the corpus takes 12."""
OBJECT = 80
QUERY = 5_000
"""Bytes of what keeps a query that is not answered."""

_RETURNED = 4 << 20
"""Bytes from which on a block of memory goes back to the system as soon as it is free."""

_CONTINUATION = bytes(range(0x80, 0xC0))
_WIDE, _WIDEST = re.compile(rb"[\xc4-\xef]"), re.compile(rb"[\xf0-\xff]")
_CHUNK = 1 << 20
_STEP = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{},:]', re.DOTALL)  # unclosed too: else each quote is tried to the end
_ESCAPE = re.compile(r"\\u(?!00)")


@cache
def return_what_is_freed() -> None:
    """For a process that is about to hold large texts. glibc keeps up to 64 MB of freed memory once a large block was
    freed, since it raises its thresholds then; fixed ones hold the peak at what is held (measured: 62 MB, else 80 and
    more). Elsewhere, nothing."""
    import ctypes

    with suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        for threshold in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            libc.mallopt(threshold, _RETURNED)


def text(blob: bytes | bytearray) -> int:
    """Bytes that UTF-8 takes as a `str`, its own part included."""
    if blob.isascii():
        return OBJECT + len(blob)
    width = 4 if _WIDEST.search(blob) else 2 if _WIDE.search(blob) else 1
    starts = range(0, len(blob), _CHUNK)
    return OBJECT + width * sum(len(blob[start : start + _CHUNK].translate(None, _CONTINUATION)) for start in starts)


def query(header: int, texts: Iterable[int]) -> int:
    """Bytes that a query takes until it is answered, from those of its header and of each text."""
    return QUERY + HEADER * header + sum(texts)


def answer(json: str) -> int:
    """Bytes that a JSON text and its value take together, as an upper bound; above `ROOM` it may be any number.

    Raises ValueError when it is nested too deeply, or holds a number that is too long.
    """
    size = sys.getsizeof(json)
    # Escapes of more than a byte are never written here; they may hide characters of any width.
    total = size + (4 * len(json) if _ESCAPE.search(json) else size)
    level = end = 0
    for step in _STEP.finditer(json):
        if step.start() - end > LONGEST_NUMBER:
            raise ValueError("a number that is too long")
        end = step.end()
        match json[step.start()]:
            case "[" | "{":
                level += 1
                total += PIECE
            case "," | ":":
                total += PIECE
            case "]" | "}":
                level -= 1
        if level > MAX_LEVEL:
            raise ValueError(f"lists in lists, {MAX_LEVEL} deep")
        if total > ROOM:
            return total
    if len(json) - end > LONGEST_NUMBER:
        raise ValueError("a number that is too long")
    return total
