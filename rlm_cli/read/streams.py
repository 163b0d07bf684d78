"""Files as readers want them: counted, forwards only, or to be sought in.

A reader that must seek (PDF, zip) gets a member whole: in memory up to `IN_MEMORY`, above that in a file in memory
(memfd), which no folder ever shows; where the system has none (macOS) in a temporary file that has lost its name.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from typing import Any, BinaryIO, cast

from .packed import CHUNK, Meter
from .pieces import Unreadable

MOST_MEMBER = 1 << 30
"""Bytes of a member that must be held whole."""
IN_MEMORY = 8 << 20


class Counted(io.RawIOBase):
    """The outermost file: what is read of it is what a bomb is measured by."""

    def __init__(self, file: io.FileIO, meter: Meter) -> None:
        self.inner = file
        self._meter = meter
        self._seekable = file.seekable()

    @property
    def name(self) -> str | int:
        """Its path, for libraries that open files themselves."""
        return cast("str | int", self.inner.name)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._seekable

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.inner.seek(offset, whence)

    def tell(self) -> int:
        return self.inner.tell()

    def read(self, size: int | None = -1) -> bytes:
        """As many bytes as are wanted, fewer at the end only, of a pipe too."""
        size = -1 if size is None else size
        data = self.inner.read(size) or b""
        if not self._seekable:
            while data and 0 < len(data) < size and (more := self.inner.read(size - len(data))):
                data += more
        self._meter.read += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        size = self.inner.readinto(buffer) or 0
        self._meter.read += size
        return size


class Ahead(io.RawIOBase):
    """A stream whose first bytes were read already; forwards only."""

    def __init__(self, head: bytes, file: Any) -> None:
        self.head = head
        self.file = file
        self._at = 0

    @property
    def problem(self) -> str:
        return str(getattr(self.file, "problem", ""))

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        target = offset + (self._at if whence == 1 else 0)
        if whence == 2 or target < self._at:
            raise io.UnsupportedOperation("a stream is read forwards")
        if self._at < target and self._at >= len(self.head) and _can_seek(self.file):
            self._at = self.file.seek(target)
        while self._at < target and self.read(min(CHUNK, target - self._at)):
            pass
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            data = self.head[self._at :] + b"".join(iter(lambda: self.file.read(CHUNK), b""))
        elif self._at < len(self.head):
            data = self.head[self._at : self._at + size]
            if len(data) < size:
                data += self.file.read(size - len(data))
        else:
            data = self.file.read(size)
        self._at += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def seekable(stream: Ahead) -> BinaryIO:
    """The same file, from its beginning, to be sought in. Raises `Unreadable` where it is too large to hold."""
    if _can_seek(stream.file):
        stream.file.seek(0)
        return cast(BinaryIO, stream.file)
    held = stream.read(IN_MEMORY)
    more = stream.read(IN_MEMORY)
    if not more:
        _must_be_whole(stream)
        return io.BytesIO(held)
    file = _memory_file()
    file.write(held)
    while more:
        file.write(more)
        if file.tell() > MOST_MEMBER:
            file.close()
            raise Unreadable(f"larger than {MOST_MEMBER >> 30} GB inside an archive or a pipe")
        more = stream.read(IN_MEMORY)
    _must_be_whole(stream)
    file.seek(0)
    return file


def _can_seek(file: Any) -> bool:
    """The outermost file, unless it is a pipe: members are never sought in, they would be unpacked again each time."""
    return isinstance(file, Counted) and file.seekable()


def _must_be_whole(stream: Ahead) -> None:
    if stream.problem:
        raise Unreadable(stream.problem)


def _memory_file() -> BinaryIO:
    try:
        return os.fdopen(os.memfd_create("rlm", os.MFD_CLOEXEC), "w+b")
    except (AttributeError, OSError):
        return cast(BinaryIO, tempfile.TemporaryFile())


def identity(source: Any) -> tuple[str, int]:
    """Hash and size of what a document was read from; nothing for pieces of a file (a sheet)."""
    if source is None or not source.seekable():
        return "", 0
    source.seek(0)
    digest = hashlib.sha256()
    size = 0
    while data := source.read(1 << 20):
        digest.update(data)
        size += len(data)
    return digest.hexdigest(), size
