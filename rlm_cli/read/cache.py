"""Extracted texts, kept for the next run: what a worker says of a file (`frames.py`), under the hash of its content.

    texts/<key>           the frames of one file behind a header with their length and checksum, mode 0600
    texts/files.sqlite    path, size, times, inode, device → sha256: saves hashing what has not been touched
    texts/salt            what passwords are hashed with

The key is of the content, not of the place: a copy, a checkout, a download hits as well. It holds all else that the
text depends on: the readers' own code and their libraries' versions (nobody has to remember to raise a number), the
options, of a password only a hash, and where rules choose among members the rules. A file that failed is remembered for
ten minutes: long enough for one question after the other, short enough for a machine that was only out of memory.

Only what is costly is kept: plain text never comes here, and what was read faster than `FAST` (a packed log) is not
worth its disk space. Whatever goes wrong here (a full disk, a folder nobody may write to, a damaged entry) costs time
and never a run. Safe among processes: entries are written whole and renamed, and never changed afterwards.

Racy: a file that was changed within `RACY_S` before it was hashed may be changed again without its times telling, so
its hash is not noted, as git does. Confessed: who sets a file's ctime back sees its old text.

Rejected: one SQLite file for all (texts of 100 MB in it are slow to evict, and a lock would be held while they are
written); compression (four times smaller, ten times slower than the disk).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import struct
import tempfile
import threading
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from ..kept import Standing, standing_of
from . import formats

if TYPE_CHECKING:
    import sqlite3

    from .extract import Request

FAILED_S = 600.0
RACY_S = 2.0
FAST = 32 << 20
"""Bytes of text a second."""
LARGEST_SHARE = 4
"""One text may take one part in so many of the limit."""
ROUND = 16 << 20
"""Eviction looks at the folder once after so many bytes were written, and at the end."""
DAY_S = 86_400.0
FORGOTTEN_S = 90 * DAY_S
"""A path that was not met for so long is not remembered."""
_HEAD = struct.Struct("<8s?dQI")
_MAGIC = b"rlmtext1"
_CHUNK = 1 << 20
_SALT = 32
_STAMP = struct.Struct("<QQQqq")
_LIBRARIES = ("pypdf", "pypdfium2", "selectolax", "python-calamine", "chardet")
_TABLE = "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, stamp BLOB, sha256 BLOB, used REAL) WITHOUT ROWID"

Stamp = tuple[int, int, int, int, int]
"""Device, inode, size, mtime and ctime in nanoseconds."""


@dataclass(frozen=True, slots=True)
class About:
    """What the text of a file depends on besides its content and the readers: `suffix` tells its format, `rules` choose
    among its members, `options` are those of readers, `passwords` are secrets."""

    suffix: str
    rules: Any = None
    options: Any = None
    passwords: tuple[str, ...] = ()


class Texts:
    """Use with `with`; calls may come from any thread. `limit`: bytes for all texts together. `secrets`: what holds one
    of them is not kept."""

    def __init__(self, folder: Path, limit: int, secrets: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.limit = limit
        self.secrets = tuple(secret.encode() for secret in secrets if secret)
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._noted: list[tuple[bytes, bytes, bytes, float]] = []
        self._met: list[tuple[float, bytes]] = []
        self._written = 0
        self._stopped = False

    def stop(self) -> None:
        """Begin nothing that takes long any more."""
        self._stopped = True

    def __enter__(self) -> Texts:
        import sqlite3

        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            place = self.folder / "files.sqlite"
            os.close(os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._database = _opened(place)
        except (OSError, sqlite3.Error):
            pass  # everything is hashed then, and perhaps nothing kept
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        import sqlite3

        database, self._database = self._database, None
        if database is not None:
            with suppress(sqlite3.Error):
                _note(database, self._noted, self._met)
            database.close()
        if self._written:
            self._evict()

    def entry(self, file: str, about: About, *, at_once: bool = False) -> Entry:
        """The text of a file, or the place for it. Hashes the file unless it is known; `at_once`: does not."""
        try:
            stamp, digest = self._known(file)
            if not digest and not at_once:
                digest = self._digest(file, stamp)
        except OSError:
            return Entry()  # the reader says what is wrong with it
        if not digest:
            return Entry()
        key = self._key(digest, about)
        return Entry(self, file, stamp, key, self._open(key))

    def _known(self, file: str) -> tuple[Stamp, bytes]:
        """The file as it is now, and its hash where that was noted. Raises `OSError`."""
        import sqlite3

        stamp, place, now = _stamp(file), _place(file), time.time()
        with self._lock, suppress(sqlite3.Error):
            if self._database is not None and place:
                row = self._database.execute("SELECT * FROM files WHERE path = ?", (place,)).fetchone()
                if row is not None and row[1] == _STAMP.pack(*stamp):
                    if now - row[3] > DAY_S:
                        self._met.append((now, place))
                    return stamp, bytes(row[2])
        return stamp, b""

    def _digest(self, file: str, stamp: Stamp) -> bytes:
        """Its hash; noted where its stamp would tell a change from now on. Raises `OSError`."""
        if stamp[2] > self.limit:
            raise OSError  # hashing it would take longer than many a reader does
        now, place, hashing = time.time(), _place(file), hashlib.sha256()
        with open(file, "rb", buffering=0) as opened:  # noqa: PTH123
            while chunk := opened.read(_CHUNK):
                hashing.update(chunk)
                if self._stopped:
                    raise OSError
        if place and _stamp(file) == stamp and now - max(stamp[3:]) / 1e9 > RACY_S:
            with self._lock:
                self._noted.append((place, _STAMP.pack(*stamp), hashing.digest(), now))
        return hashing.digest()

    def _key(self, digest: bytes, about: About) -> str:
        passwords = ""
        if about.passwords:
            said = json.dumps(about.passwords).encode()
            passwords = hmac.new(self._salt(), said, "sha256").hexdigest()
        parts = [digest.hex(), fingerprint(), about.suffix, about.rules, about.options, passwords]
        return hashlib.sha256(json.dumps(parts, default=sorted).encode()).hexdigest()

    def _salt(self) -> bytes:
        """Made once; where it cannot be kept, nothing with a password is found again."""
        place = self.folder / "salt"
        with suppress(OSError):
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(os.urandom(_SALT))
        with suppress(OSError):
            salt = place.read_bytes()
            if len(salt) == _SALT:
                return salt
        return os.urandom(_SALT)

    def _open(self, key: str) -> IO[bytes] | None:
        """The frames under a key, whole and not too old; None where they are not there."""
        place = self.folder / key
        try:
            file = place.open("rb")
        except OSError:
            return None
        with suppress(OSError, struct.error):
            magic, failed, made, length, checksum = _HEAD.unpack(file.read(_HEAD.size))
            stale = failed and not 0 <= time.time() - made < FAILED_S
            if magic == _MAGIC and not stale and _checksum(file) == (length, checksum):
                file.seek(_HEAD.size)
                if not failed:
                    with suppress(OSError):
                        os.utime(place)
                return file
        file.close()
        with suppress(OSError):
            place.unlink()
        return None

    def _kept(self, size: int) -> None:
        with self._lock:
            self._written += size
            due = self._written >= ROUND
            if due:
                self._written = 0
        if due:
            self._evict()

    def _evict(self) -> None:
        """Remove the longest unused until the rest is within the limit."""
        with suppress(OSError):
            found = sorted((stat.st_mtime, stat.st_size, path) for path, stat in _entries(self.folder))
            total = sum(size for _, size, _ in found)
            for _, size, path in found:
                if total <= self.limit:
                    return
                with suppress(OSError):
                    os.unlink(path)  # noqa: PTH108
                total -= size


class Entry:
    """The text of one file. `frames`: what is kept of it, at its beginning; None: it is to be read, and what comes of
    it goes to `write` and is kept by `keep`. `failed`: the file could not be read. Who takes an entry closes it; one of
    no `texts` keeps nothing."""

    def __init__(
        self,
        texts: Texts | None = None,
        file: str = "",
        stamp: Stamp | None = None,
        key: str = "",
        frames: IO[bytes] | None = None,
    ) -> None:
        self.frames = frames
        self.failed = False
        self._texts = texts
        self._file = file
        self._stamp = stamp
        self._key = key
        self._draft: IO[bytes] | None = None
        self._size = self._checksum = 0
        self._tail = b""
        self._wanted = texts is not None and frames is None

    def take(self) -> IO[bytes]:
        """The frames that are kept, for who closes them."""
        frames, self.frames = self.frames, None
        assert frames is not None
        return frames

    def write(self, data: bytes | bytearray, seconds: float) -> None:
        """A piece of it, which came after so many seconds of reading in all."""
        if not self._wanted or self._texts is None:
            return
        largest = self._texts.limit // LARGEST_SHARE
        self._size += len(data)
        quick = self._size > _CHUNK and self._size > seconds * FAST
        if self._size > largest or quick or self._holds_secret(data):
            return self.close()
        try:
            if self._draft is None:
                self._texts.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._draft = tempfile.NamedTemporaryFile(  # noqa: SIM115  # `close` is ours
                    prefix=".", dir=self._texts.folder, delete=False
                )
                self._draft.write(bytes(_HEAD.size))
            self._checksum = zlib.crc32(data, self._checksum)
            self._draft.write(data)
        except OSError:
            self.close()

    def keep(self) -> None:
        """It is whole. With `failed` it is remembered for a while only."""
        draft = self._draft
        if draft is None or not self._wanted or self._texts is None:
            return
        try:
            if _stamp(self._file) != self._stamp:
                return  # not what was hashed
            draft.seek(0)
            draft.write(_HEAD.pack(_MAGIC, self.failed, time.time(), self._size, self._checksum))
            draft.close()
            os.replace(draft.name, self._texts.folder / self._key)  # noqa: PTH105
            self._draft = None
            self._texts._kept(self._size + _HEAD.size)
        except OSError:
            pass
        finally:
            self.close()

    def close(self) -> None:
        self._wanted = False
        if self.frames is not None:
            self.frames.close()
        if self._draft is not None:
            with suppress(OSError):
                self._draft.close()
            with suppress(OSError):
                os.unlink(self._draft.name)  # noqa: PTH108
            self._draft = None

    def _holds_secret(self, data: bytes | bytearray) -> bool:
        if self._texts is None or not self._texts.secrets:
            return False
        both = self._tail + data
        self._tail = both[-max(map(len, self._texts.secrets)) :]
        return any(secret in both for secret in self._texts.secrets)


def entry_of(texts: Texts | None, request: Request, *, at_once: bool = False) -> Entry:
    """Of a file that a worker is asked to read. `at_once`: only if its hash is known."""
    if texts is None or not isinstance(request.file, str):
        return Entry()
    wanted, options = request.wanted, request.options
    chooses = bool(wanted.globs or wanted.suffixes or wanted.only)
    about = About(
        suffix=_suffixes(request.name),
        rules=[getattr(wanted, name) for name in wanted.__slots__] if chooses else wanted.hidden,
        options=[getattr(options, name) for name in options.__slots__ if name != "passwords"],
        passwords=options.passwords,
    )
    return texts.entry(request.file, about, at_once=at_once)


def _suffixes(name: str) -> str:
    """The suffix, and of a packed file those of what is in it too."""
    row = formats.by_name(name)
    if row is None or not row.wraps:
        return formats.suffix_of(name)
    return "".join(PurePath(name).suffixes).lower()


@cache
def fingerprint() -> str:
    """Of the readers, the libraries they use, and the readers of other packages."""
    from importlib.metadata import PackageNotFoundError, entry_points, version

    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    for library in _LIBRARIES:
        with suppress(PackageNotFoundError):
            digest.update(f"{library} {version(library)}\n".encode())
    for point in sorted(entry_points(group=formats.GROUP), key=lambda point: (point.name, point.value)):
        package = f"{point.dist.name} {point.dist.version}" if point.dist is not None else ""
        digest.update(f"{point.name} {point.value} {package}\n".encode())
    return digest.hexdigest()


def standing(folder: Path) -> Standing:
    """What is kept there. Raises `OSError`."""
    return standing_of([stat for _, stat in _entries(folder)] if folder.is_dir() else [])


def _opened(place: Path) -> sqlite3.Connection:
    import sqlite3

    for attempt in (1, 2):
        database = sqlite3.connect(place, timeout=2.0, check_same_thread=False)
        try:
            database.execute("PRAGMA synchronous = OFF")  # what a power cut damages is thrown away
            database.execute(_TABLE)
            return database
        except sqlite3.DatabaseError as error:
            database.close()
            if attempt == 2 or isinstance(error, sqlite3.OperationalError):
                raise
            place.unlink(missing_ok=True)
    raise AssertionError


def _note(database: sqlite3.Connection, noted: list[Any], met: list[Any]) -> None:
    if noted or met:
        with database:
            database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", noted)
            database.executemany("UPDATE files SET used = ? WHERE path = ?", met)
            database.execute("DELETE FROM files WHERE used < ?", (time.time() - FORGOTTEN_S,))


def _place(file: str) -> bytes:
    """Under what a file is noted; empty for one that has no name."""
    if file.startswith("/proc/"):
        return b""
    return os.fsencode(os.path.abspath(file))  # noqa: PTH100  # links and names that are not UTF-8 stay as they are


def _stamp(file: str) -> Stamp:
    found = os.stat(file)  # noqa: PTH116
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _checksum(file: IO[bytes]) -> tuple[int, int]:
    """Length and checksum of the rest of a file."""
    length = checksum = 0
    while chunk := file.read(_CHUNK):
        length += len(chunk)
        checksum = zlib.crc32(chunk, checksum)
    return length, checksum


def _entries(folder: Path) -> list[tuple[str, os.stat_result]]:
    """Texts, and drafts that somebody left or is writing."""
    found = []
    for entry in os.scandir(folder):
        if len(entry.name) == 64 or entry.name.startswith("."):
            with suppress(OSError):
                found.append((entry.path, entry.stat()))
    return found
