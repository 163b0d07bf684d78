"""Packed files (gz, bz2, xz, zst) as readers: each is the same document, unwrapped while it is read, never on disk.

What is unpacked is counted while it comes out (`Meter`): a file that grows beyond `MOST_TIMES` what was read of it is a
bomb, whatever its headers say. A log packed by gzip grows 10 to 30 times, one of repeated lines a hundred times, zeros
a thousand times and more. A file that is cut off gives what could be read of it.

Rejected: `gzip`, `bz2` and `lzma`'s own file objects (no memory limit for xz, and they raise what a stray byte after
the end leads them to).
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

from .pieces import Inside, Options, Piece, Unreadable

MOST_TIMES = 250
FREE = 64 << 20
"""Bytes that may come out of any file before it is suspected."""
MOST_BYTES = 16 << 30
MEMBER_COSTS = 1 << 10
"""What one member counts for, however small: a million empty ones are a bomb too."""
XZ_MEMORY = 256 << 20
ZST_WINDOW = 27
"""Log2 of the largest window: 128 MB, as `zstd -d` itself allows."""
CHUNK = 1 << 18
GZ = b"\x1f\x8b\x08"
BZ2 = b"BZh"
XZ = b"\xfd7zXZ\x00"
ZST = (b"\x28\xb5\x2f\xfd", *(bytes([0x50 + n]) + b"\x2a\x4d\x18" for n in range(16)))
"""Also of frames that are skipped, with which files of several frames may begin."""


class Bomb(Unreadable):
    """What is unpacked has no measure. Ends the whole file, not only the member."""


class Meter:
    """Bytes read of the outermost file, and bytes that were made of them on all levels."""

    def __init__(self) -> None:
        self.read = 0
        self.made = 0

    def add(self, size: int) -> None:
        """Count what came out. Raises `Bomb`."""
        self.made += size
        if self.made > FREE and self.made > MOST_TIMES * self.read:
            raise Bomb(f"a decompression bomb: more than {MOST_TIMES} times its size, stopped at {self.made >> 20} MB")
        if self.made > MOST_BYTES:
            raise Bomb(f"more than {MOST_BYTES >> 30} GB when it is unpacked")


_meter = Meter()


def measure() -> Meter:
    """A new meter, for a new file."""
    global _meter
    _meter = Meter()
    return _meter


def meter() -> Meter:
    """That of the file this process reads, one at a time: readers have no parameter for it."""
    return _meter


# ── packed files ────────────────────────────────────────────────────────────────────────────────────────────────────


def gunzip(file: BinaryIO, options: Options) -> Iterator[Piece]:
    yield _unwrapped(file, Zlib, GZ)


def bunzip2(file: BinaryIO, options: Options) -> Iterator[Piece]:
    import bz2

    yield _unwrapped(file, bz2.BZ2Decompressor, BZ2)


def unxz(file: BinaryIO, options: Options) -> Iterator[Piece]:
    import lzma

    yield _unwrapped(file, lambda: lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=XZ_MEMORY), XZ)


def unzstd(file: BinaryIO, options: Options) -> Iterator[Piece]:
    yield _unwrapped(file, zstandard, ZST)


def _unwrapped(file: BinaryIO, make: Callable[[], Any], magic: bytes | tuple[bytes, ...]) -> Inside:
    return Inside("", file=cast(BinaryIO, Unpacked(file, make, magic)))


def zstandard() -> Any:
    """A decompressor. Raises `Unreadable` where there is none."""
    try:
        from compression import zstd  # since Python 3.14
    except ImportError:
        try:
            from backports import zstd
        except ImportError:
            raise Unreadable("unsupported type (zst: pip install backports.zstd)") from None
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: ZST_WINDOW})


class Zlib:
    """zlib in the shape that bz2, lzma and zstd share. `bits`: 31 for gzip, -15 for deflate without a header."""

    def __init__(self, bits: int = 31) -> None:
        self._inner = zlib.decompressobj(bits)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, most: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, most)


class Unpacked(io.RawIOBase):
    """A packed stream as it is read: forwards only. Several streams in a row are one, stray bytes after them nobody's.

    `problem`: why it ended early. Raises `Bomb`; `Unreadable` where not even the beginning can be read.
    """

    def __init__(self, packed: BinaryIO, make: Callable[[], Any], magic: bytes | tuple[bytes, ...] = ()) -> None:
        self._packed = packed
        self._make = make
        self._magic = magic
        self._decompressor: Any = make()
        self._rest = b""
        self._at = 0
        self._ended = False
        self.problem = ""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._some(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int | None = -1) -> bytes:
        """As many bytes as are wanted, fewer at the end only."""
        if size is None or size < 0:
            return self.readall()
        parts = []
        while size > 0 and (data := self._some(size)):
            parts.append(data)
            size -= len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _some(self, most: int) -> bytes:
        while not self._ended and most:
            try:
                data = self._step(most)
            except (Unreadable, MemoryError):
                raise
            except Exception as error:  # each library has its own, and not all are there to be named
                data = self._end("needs too much memory" if "memory" in str(error).lower() else "damaged")
            if data:
                self._at += len(data)
                meter().add(len(data))
                return data
        return b""

    def _step(self, most: int) -> bytes:
        """Some data, or none and then again."""
        if self._decompressor.eof and not self._another():
            return b""
        fed = b""
        if self._decompressor.needs_input:
            fed = self._rest or self._packed.read(CHUNK)
            self._rest = b""
        data: bytes = self._decompressor.decompress(fed, most)
        if not data and not fed and not self._decompressor.eof and self._decompressor.needs_input:
            self._end("cut off")
        return data

    def _another(self) -> bool:
        """Whether a further stream follows, past padding; then it is at its beginning."""
        rest = self._decompressor.unused_data.lstrip(b"\0") if self._magic else b""
        while self._magic and len(rest) < 6 and (more := self._packed.read(CHUNK)):
            rest = (rest + more).lstrip(b"\0")
        if not self._magic or not rest.startswith(self._magic):
            self._ended = True
            return False
        self._decompressor, self._rest = self._make(), rest
        return True

    def _end(self, problem: str) -> bytes:
        self._ended = True
        if not self._at:
            raise Unreadable(problem)
        self.problem = problem
        return b""

    @property
    def left(self) -> int:
        """Bytes that were read of the packed file and belong to what follows; for a stream that was read to its end."""
        return len(self._decompressor.unused_data)
