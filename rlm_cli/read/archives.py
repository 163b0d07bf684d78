"""Archives and packed files as readers: each yields what is inside, one after the other, and nothing goes to disk.

A member's name is a label and never a path on this machine, so `../../etc/passwd` is harmless. What is unpacked is
counted while it comes out (`Meter`): a file that grows beyond `MOST_TIMES` what was read of it is a bomb, whatever its
headers say; a log packed by gzip grows 10 to 30 times, one of repeated lines a hundred times, zeros a thousand times
and more. A file that is cut off gives what could be read of it.

Rejected: `gzip`, `bz2` and `lzma`'s own file objects (no memory limit for xz, and they raise what a stray byte after
the end leads them to); `tarfile` in its streaming mode (`r|`), which copies in pieces of 10 KB.
"""

from __future__ import annotations

import io
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from .pieces import ENCRYPTED, LINK, Inside, Options, Piece, Unreadable

if TYPE_CHECKING:
    import zipfile

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
"""Of the file this process reads, one at a time; readers have no parameter for it."""


def measure() -> Meter:
    """A new meter, for a new file."""
    global _meter
    _meter = Meter()
    return _meter


# ── packed files ────────────────────────────────────────────────────────────────────────────────────────────────────


def gunzip(file: BinaryIO, options: Options) -> Iterator[Piece]:
    yield _unwrapped(file, _Zlib, GZ)


def bunzip2(file: BinaryIO, options: Options) -> Iterator[Piece]:
    import bz2

    yield _unwrapped(file, bz2.BZ2Decompressor, BZ2)


def unxz(file: BinaryIO, options: Options) -> Iterator[Piece]:
    import lzma

    yield _unwrapped(file, lambda: lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=XZ_MEMORY), XZ)


def unzstd(file: BinaryIO, options: Options) -> Iterator[Piece]:
    yield _unwrapped(file, _zstd, ZST)


def _unwrapped(file: BinaryIO, make: Callable[[], Any], magic: bytes | tuple[bytes, ...]) -> Inside:
    return Inside("", file=cast(BinaryIO, Unpacked(file, make, magic)))


def _zstd() -> Any:
    try:
        from compression import zstd  # since Python 3.14
    except ImportError:
        try:
            from backports import zstd
        except ImportError:
            raise Unreadable("unsupported type (zst: pip install backports.zstd)") from None
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: ZST_WINDOW})


class _Zlib:
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

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Forwards: what lies between is read. Raises `OSError` for anything else."""
        target = offset + (self._at if whence == 1 else 0)
        if whence == 2 or target < self._at:
            raise io.UnsupportedOperation("a packed stream is read forwards")
        while self._at < target and self.read(min(CHUNK, target - self._at)):
            pass
        return self._at

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
                _meter.add(len(data))
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


# ── tar ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def tar_members(file: BinaryIO, options: Options) -> Iterator[Piece]:
    """Read from beginning to end. A header that is none ends it: what follows is named as missing."""
    import tarfile

    watched = _Watched(file)
    try:
        archive = tarfile.open(fileobj=cast(BinaryIO, watched), mode="r:", errorlevel=1)  # noqa: SIM115
    except tarfile.TarError as error:
        raise Unreadable("damaged tar") from error
    while True:
        try:
            member = archive.next()
        except tarfile.TarError as error:
            raise Unreadable("damaged: the rest of the tar cannot be read") from error
        if member is None:
            break
        archive.members.clear()  # type: ignore[attr-defined]  # it keeps every one of them
        _meter.add(MEMBER_COSTS)
        if member.issym() or member.islnk():
            yield Inside(label(member.name), kind=LINK)
        elif member.isreg():
            data = archive.extractfile(member)
            assert data is not None
            yield Inside(label(member.name), file=cast(BinaryIO, _TarMember(data)))
        elif not member.isdir():
            yield Inside(label(member.name), pieces=_refused("not a regular file"))
    if watched.last.strip(b"\0") or _problem_of(file):
        raise Unreadable("damaged: the rest of the tar cannot be read")


class _Watched:
    """A file as `tarfile` wants it, that remembers its last block: only that tells an end from a broken header."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.tell, self.seek = file.tell, file.seek
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.last = data if size == 512 else b""
        return data


class _TarMember(io.RawIOBase):
    """A member's data, forwards; one that the file ends in has a `problem`."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self._began = False
        self.problem = ""

    def read(self, size: int | None = -1) -> bytes:
        import tarfile

        try:
            data: bytes = self._data.read(-1 if size is None else size)
        except (tarfile.TarError, OSError):
            if not self._began:
                raise Unreadable("cut off") from None
            self.problem = "cut off"
            return b""
        self._began = True
        return data


# ── zip ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

_LOCAL = struct.Struct("<4s5H3I2H")
_MAKERS: dict[int, Callable[[], Any] | None] = {0: None, 8: lambda: _Zlib(-15), 93: _zstd}
"""Compression method → what undoes it; None: it is stored as it is. The others are `zipfile`'s to undo."""


def zip_members(file: BinaryIO, options: Options) -> Iterator[Piece]:
    """By its directory; where that is missing (an interrupted download) by what stands before each member."""
    import zipfile

    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        file.seek(0)
        yield from _without_directory(file, error)
        return
    for member in archive.infolist():
        _meter.add(MEMBER_COSTS)
        name = label(_zip_name(member.filename, member.flag_bits))
        if member.is_dir():
            continue
        if stat.S_ISLNK(member.external_attr >> 16):
            yield Inside(name, kind=LINK)
        elif member.flag_bits & 1:
            yield _locked(archive, member, name, options)
        else:
            yield _member(file, archive, member, name)


def _member(file: BinaryIO, archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> Inside:
    import zipfile

    try:
        if member.compress_type not in _MAKERS:
            return Inside(name, file=cast(BinaryIO, _Opened(archive.open(member))))
        file.seek(member.header_offset)
        header = _LOCAL.unpack(file.read(_LOCAL.size))
        if header[0] != b"PK\x03\x04":
            return Inside(name, pieces=_refused("damaged"))
        start = member.header_offset + _LOCAL.size + header[9] + header[10]
        part = _Part(file, start, member.compress_size)
        return Inside(name, file=cast(BinaryIO, _checked(part, member.compress_type, member.CRC)))
    except (struct.error, OSError, zipfile.BadZipFile, ValueError):
        return Inside(name, pieces=_refused("damaged"))
    except (NotImplementedError, RuntimeError):
        return Inside(name, pieces=_refused(f"unsupported compression (method {member.compress_type})"))
    except Unreadable as error:
        return Inside(name, pieces=_refused(str(error)))


def _locked(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, options: Options) -> Inside:
    """The first password that gives something; `zipfile` itself compares one byte of it only."""
    for password in options.passwords:
        try:
            with archive.open(member, pwd=password.encode()) as tried:
                tried.read(1 << 16)
            return Inside(name, file=cast(BinaryIO, _Opened(archive.open(member, pwd=password.encode()))))
        except Exception:  # a wrong one gives bad data, which fails in as many ways as there are compressions
            continue
    return Inside(name, pieces=_refused(ENCRYPTED))


def _without_directory(file: BinaryIO, error: Exception) -> Iterator[Piece]:
    at = 0
    while True:
        file.seek(at)
        raw = file.read(_LOCAL.size)
        if len(raw) < _LOCAL.size or not raw.startswith(b"PK\x03\x04"):
            break
        _, version, flags, method, _, _, crc, size, _, name_size, extra = _LOCAL.unpack(raw)
        if version & 0xFF > 63:  # of the format's own specification
            break
        name = label(_zip_name(file.read(name_size).decode("cp437"), flags))
        start = at + _LOCAL.size + name_size + extra
        _meter.add(MEMBER_COSTS)
        open_end = bool(flags & 8)
        if flags & 1 or method not in _MAKERS or (open_end and method == 0) or size == 0xFFFFFFFF:
            yield Inside(name, pieces=_refused(ENCRYPTED if flags & 1 else "damaged"))
            if open_end or size == 0xFFFFFFFF:
                break
        else:
            part = _Part(file, start, None if open_end else size)
            member = _checked(part, method, None if open_end else crc)
            if not name.endswith("/"):
                yield Inside(name, file=cast(BinaryIO, member))
            if open_end:
                while member.read(CHUNK):
                    pass
                size = part.at - cast(Unpacked, member.file).left
                file.seek(start + size)
                size += 16 if file.read(4) == b"PK\x07\x08" else 12
        at = start + size
    if not at:
        raise Unreadable("damaged zip") from error
    raise Unreadable("damaged: the directory of the zip is missing, and what it may have named beyond this")


def _zip_name(name: str, flags: int) -> str:
    """Names that are not marked as UTF-8 often are."""
    if not flags & 0x800:
        try:
            name = name.encode("cp437").decode()
        except UnicodeError:
            pass
    return name if "/" in name else name.replace("\\", "/")


@dataclass(slots=True)
class _Part:
    """A stretch of a file, read forwards; others may move the file between two reads. `size` None: to its end."""

    file: BinaryIO
    start: int
    size: int | None
    at: int = 0

    def read(self, size: int) -> bytes:
        self.file.seek(self.start + self.at)
        data = self.file.read(size if self.size is None else min(size, self.size - self.at))
        self.at += len(data)
        return data


def _checked(part: _Part, method: int, crc: int | None) -> _Checked:
    make = _MAKERS[method]
    return _Checked(part if make is None else Unpacked(cast(BinaryIO, part), make), part, crc)


class _Checked(io.RawIOBase):
    """A member's data, forwards. One that is cut off, or whose sum is wrong, has a `problem` at its end."""

    def __init__(self, file: Any, part: _Part, crc: int | None) -> None:
        self.file = file
        self._part = part
        self._crc = crc
        self._sum = 0
        self._stored = file is part
        self.problem = ""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        data: bytes = self.file.read(size)
        self._sum = zlib.crc32(data, self._sum)
        if self._stored:
            _meter.add(len(data))
        if size and not data:
            self.problem = "" if self._stored else self.file.problem
            if not self.problem and self._part.size is not None and self._part.at < self._part.size and self._stored:
                self.problem = "cut off"
            if not self.problem and self._crc is not None and self._sum != self._crc:
                self.problem = "damaged (wrong checksum)"
        return data


class _Opened(io.RawIOBase):
    """What `zipfile` unpacks, counted."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.problem = ""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        try:
            data: bytes = self._file.read(size)
        except Exception as error:  # zipfile's own, lzma's, zlib's, …
            raise Unreadable("damaged") from error
        _meter.add(len(data))
        return data


def _refused(reason: str) -> Iterator[Piece]:
    raise Unreadable(reason)
    yield


def label(name: str) -> str:
    """A member's name as part of a path: below its archive, wherever it says it wants to be."""
    while name.startswith(("./", "/")):
        name = name[1:] if name[0] == "/" else name[2:]
    return name or "unnamed"


def _problem_of(file: object) -> str:
    return str(getattr(file, "problem", ""))
