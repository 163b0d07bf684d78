"""Frames between the host and the child: lengths, a small JSON header, raw UTF-8 blobs. The one format of both sides.

    !II  header bytes, body bytes | header: {"kind": …, "sizes": [bytes of each blob], …} | blobs, end to end

Texts travel as blobs and not inside JSON, because escaping 10,000 prompts costs ten times what sending them does.
Never pickle: the child is hostile and unpickling runs code. Everything that can be wrong with a frame is one error,
`Violation`, in one line; the host ends the child on it.

Standard library only: this file is loaded in the child as well.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

PREFIX = struct.Struct("!II")
MAX_PROMPTS = 20_000
"""Of one query: a reply for each must fit a frame."""
MAX_HEADER = 2 << 20
MAX_PIECES = 400_000
"""Items in a header and lists of them; each takes up to a hundred bytes."""
MAX_BODY = 50_000_000
"""Of one frame, and of all queries of a child that are not answered yet, in bytes as `weight.py` counts them."""
MAX_BLOB = 31_000_000
"""Of one text, in bytes: it is decoded beside all that are not answered."""

PIECE = 1 << 20
"""Characters of a piece of a context that is sent ahead of its query …"""
LONG_FROM = 8 << 20
"""… as those of this many characters or more are."""
MOST_LONG, MAX_LONG = 32, 512 << 20
"""Such contexts at once, and bytes of them: the host has a file open for each."""


class Violation(Exception):
    """What came over the wire is not what the other side may send."""


@dataclass(frozen=True, slots=True)
class Frame:
    kind: str
    fields: dict[str, Any]
    """The header without `kind` and `sizes`."""
    blobs: tuple[bytes | str, ...] = ()
    """Texts already where whoever read them decoded them one by one."""
    header: int = 0
    """Bytes of the header."""

    def text(self, index: int) -> str:
        """A blob as text. Raises `Violation`."""
        if not 0 <= index < len(self.blobs):
            raise Violation(f"a {self.kind} frame without blob {index}")
        blob = self.blobs[index]
        return blob if isinstance(blob, str) else decoded(blob)


def decoded(blob: bytes | bytearray) -> str:
    """A blob as text. Raises `Violation`."""
    try:
        return blob.decode()
    except UnicodeDecodeError:
        raise Violation("a blob that is not UTF-8") from None


def encode(kind: str, fields: dict[str, Any] | None = None, texts: Sequence[str | bytes] = ()) -> bytes:
    """A frame, ready to send. A lone surrogate becomes `?`. Raises `Violation` when it is too large."""
    blobs = [text if isinstance(text, bytes) else text.encode("utf-8", "replace") for text in texts]
    sizes = [len(blob) for blob in blobs]
    header = json.dumps({**(fields or {}), "kind": kind, "sizes": sizes}, ensure_ascii=False).encode("utf-8", "replace")
    size = sum(sizes)
    if len(header) > MAX_HEADER or _pieces(header) > MAX_PIECES:
        raise Violation(f"{len(blobs):,} texts at once, or names that are too long; ask in smaller batches")
    if size > MAX_BODY:
        raise Violation(f"{size:,} bytes at once; at most {MAX_BODY:,} can be sent")
    if max(sizes, default=0) > MAX_BLOB:
        raise Violation(f"a text of {max(sizes):,} bytes; at most {MAX_BLOB:,} can be sent")
    return b"".join((PREFIX.pack(len(header), size), header, *blobs))


def lengths(prefix: bytes) -> tuple[int, int]:
    """Bytes of header and body that follow this prefix. Raises `Violation` when they are beyond the caps."""
    header, body = PREFIX.unpack(prefix)
    if not 2 <= header <= MAX_HEADER or body > MAX_BODY:
        raise Violation(f"a frame of {header:,} + {body:,} bytes")
    return header, body


def loads(text: str) -> Any:
    """JSON as a value whose texts can all be encoded: a lone surrogate, by way of an escape, becomes `?`.

    Raises `ValueError`, `RecursionError`.
    """
    value = json.loads(text)
    if "\\ud" in text or "\\uD" in text:
        value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    return value


def opened(header: bytes, body: int) -> tuple[Frame, list[int]]:
    """A frame before its blobs, and their sizes, for a body of so many bytes. Raises `Violation`."""
    if _pieces(header) > MAX_PIECES:
        raise Violation("a header of too many items")
    try:
        fields = loads(header.decode())
    except (ValueError, RecursionError):
        raise Violation("a header that is not JSON") from None
    if not isinstance(fields, dict):
        raise Violation("a header that is not an object")
    kind, sizes = fields.pop("kind", None), fields.pop("sizes", None)
    if not isinstance(kind, str) or len(kind) > 20:
        raise Violation("a frame without a kind")
    if not isinstance(sizes, list) or not all(type(size) is int and 0 <= size <= MAX_BLOB for size in sizes):
        raise Violation("a frame without sizes")
    if sum(sizes) != body:
        raise Violation("sizes that do not add up")
    return Frame(kind, fields, header=len(header)), sizes


def _pieces(header: bytes) -> int:
    """As an upper bound: marks within its texts count too."""
    return sum(map(header.count, (b",", b":", b"[", b"{")))


def decode(header: bytes, body: bytes) -> Frame:
    """One frame. Raises `Violation`."""
    frame, sizes = opened(header, len(body))
    blobs, start = [], 0
    for size in sizes:
        blobs.append(body[start : start + size])
        start += size
    return replace(frame, blobs=tuple(blobs))
