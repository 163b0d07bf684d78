"""Archives (zip, tar) as readers: each yields its members one after the other, and nothing goes to disk.

A member's name is a label and never a path on this machine, so `../../etc/passwd` is harmless. What comes out of it is
counted by `packed.py`, and a damaged archive gives what could be read of it.

Rejected: `tarfile` in its streaming mode (`r|`), which copies in pieces of 10 KB; `zipfile` for what a member holds: it
unpacks bzip2 without bounds, knows no zstd, and nothing of a zip whose end is missing.
"""

from __future__ import annotations

import io
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from .packed import CHUNK, MEMBER_COSTS, Unpacked, Zlib, meter, zstandard
from .pieces import ENCRYPTED, LINK, Inside, Options, Piece, Unreadable, refused

if TYPE_CHECKING:
    import zipfile

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
        meter().add(MEMBER_COSTS)
        if member.issym() or member.islnk():
            yield Inside(label(member.name), kind=LINK)
        elif member.isreg():
            data = archive.extractfile(member)
            assert data is not None
            yield Inside(label(member.name), file=cast(BinaryIO, _TarMember(data)))
        elif not member.isdir():
            yield Inside(label(member.name), pieces=refused("not a regular file"))
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
_MAKERS: dict[int, Callable[[], Any] | None] = {0: None, 8: lambda: Zlib(-15), 93: zstandard}
"""Compression method → what undoes it; None: it is stored as it is. The others are `zipfile`'s to undo."""
_AES = 99
"""The method of what is encrypted so."""


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
        meter().add(MEMBER_COSTS)
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
            return Inside(name, pieces=refused("damaged"))
        start = member.header_offset + _LOCAL.size + header[9] + header[10]
        part = _Part(file, start, member.compress_size)
        return Inside(name, file=cast(BinaryIO, _checked(part, member.compress_type, member.CRC)))
    except (struct.error, OSError, zipfile.BadZipFile, ValueError):
        return Inside(name, pieces=refused("damaged"))
    except (NotImplementedError, RuntimeError):
        return Inside(name, pieces=refused(f"unsupported compression (method {member.compress_type})"))
    except Unreadable as error:
        return Inside(name, pieces=refused(str(error)))


def _locked(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, options: Options) -> Inside:
    """The first password that gives something; `zipfile` itself compares one byte of it only."""
    if member.compress_type == _AES:
        return Inside(name, pieces=refused(f"{ENCRYPTED} (by AES, which is not supported)"))
    for password in options.passwords:
        try:
            with archive.open(member, pwd=password.encode()) as tried:
                tried.read(1 << 16)
            return Inside(name, file=cast(BinaryIO, _Opened(archive.open(member, pwd=password.encode()))))
        except Exception:  # a wrong one gives bad data, which fails in as many ways as there are compressions
            continue
    return Inside(name, pieces=refused(ENCRYPTED))


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
        meter().add(MEMBER_COSTS)
        open_end = bool(flags & 8)
        if flags & 1 or method not in _MAKERS or (open_end and method == 0) or size == 0xFFFFFFFF:
            yield Inside(name, pieces=refused(ENCRYPTED if flags & 1 else "damaged"))
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
            meter().add(len(data))
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
        meter().add(len(data))
        return data


def label(name: str) -> str:
    """A member's name as part of a path: below its archive, wherever it says it wants to be."""
    while name.startswith(("./", "/")):
        name = name[1:] if name[0] == "/" else name[2:]
    return name or "unnamed"


def _problem_of(file: object) -> str:
    return str(getattr(file, "problem", ""))
