"""What comes of each file: its documents into the corpus, the rest into the account of every path, and how far it is.

Who decides which files there are and in which order is `gather`; what a worker says of a file arrives here as frames.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

from .. import builder
from ..builder import CorpusBuilder
from ..errors import SourceError
from ..events import Reading
from . import frames, text, walk
from .excludes import Inside
from .frames import Frame
from .pieces import NO_TEXT, Options
from .pipes import Stopped
from .walk import Found
from .workers import Extracting

PROGRESS_S = 0.1


@dataclass(frozen=True, slots=True)
class Skipped:
    """A path that was wanted and could not be read."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What did not become a document. `excluded`: rule → how many entries it kept out (a folder counts once)."""

    skipped: tuple[Skipped, ...] = ()
    excluded: dict[str, int] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()
    """Pipes that were read in part, because they had no end within bounds."""


class _Abandoned(Exception):
    """A document that was begun and cannot be read to its end."""

    def __init__(self, skip: frames.Skip) -> None:
        super().__init__(skip.reason)
        self.skip = skip


@dataclass(frozen=True, slots=True)
class _Came:
    """What came of a file: its documents by their indexes, and what was skipped."""

    path: str
    documents: range
    skipped: tuple[Skipped, ...]


class _Ignored:
    """What ignore files keep out of a file: members are judged here, where the ignore files are known."""

    def __init__(self, found: Found) -> None:
        name = os.path.basename(found.path)  # noqa: PTH119
        self._inside = Inside(found.excludes, name) if found.excludes is not None else None

    def rule(self, frame: frames.Begin | frames.Skip, inside: str) -> str:
        """Empty when none does. A sheet is no file, but part of one."""
        if isinstance(frame, frames.Begin) and frame.kind == "sheet":
            inside = inside.rpartition("!/")[0]
        return self._inside.decide(inside) if self._inside is not None and inside else ""


class Taken:
    """The corpus as it grows, and the account. Raises `Stopped` from whatever takes long, when `stop` is set."""

    def __init__(self, builder: CorpusBuilder, progress: Callable[[Reading], None], stop: threading.Event) -> None:
        self.builder = builder
        self.account = walk.Account()
        self.skipped: list[Skipped] = []
        self.cut: list[str] = []
        self.notices: list[str] = []
        self._progress = progress
        self._stop = stop
        self._last = 0.0
        self._files = self._bytes = self._pages = 0
        self._came: dict[str | None, _Came] = {}

    def manifest(self, options: Options) -> Manifest:
        """When all is read."""
        self.show("", at_once=True)
        excluded = dict(sorted(self.account.excluded.items()))
        unasked = sum(number for rule, number in excluded.items() if rule not in walk.ASKED)
        if unasked > 10 * max(self._files, 1):
            left = f"{self._files:,} file{'s' * (self._files != 1)}"
            self.notices.append(f"rules kept out {unasked:,} entries and left {left}; -u reads ignored ones")
        if not options.ocr and any(each.reason == NO_TEXT for each in self.skipped) and shutil.which("tesseract"):
            self.notices.append("pages without a text layer: `ocr = true` in the configuration has tesseract read them")
        return Manifest(tuple(self.skipped), excluded, tuple(self.notices), tuple(map(printable, self.cut)))

    def text(self, path: str, head: bytes, read: Callable[[int], bytes], encoding: str | None = None) -> None:
        """A document that is text. `encoding`: what it is in, where that is known."""
        with self.builder.document(printable(path), "text") as document:
            for size in text.decode(head, read, document, encoding):
                self._bytes += size
                self.show(path)
                self.check()
        self._files += 1
        self.show(path)

    def again(self, found: Found, first: str) -> None:
        """What came of the first file of the same bytes, under this one's path."""
        came = self._came[first]
        for index in came.documents:
            self.check()
            self.builder.repeat(index, printable(found.path) + self.builder.path(index)[len(came.path) :])
            self._files += 1
        for skipped in came.skipped:
            self.skip(found.path + skipped.path[len(came.path) :], skipped.reason)
        self.show(found.path)

    def waiting(self, path: str) -> None:
        self.check()
        self.show(path)

    def file(self, found: Found, extracting: Extracting) -> None:
        """Everything a worker says of a file, into the corpus and the account."""
        outer = found.path.removesuffix("!/" + found.only) if found.only else found.path
        before = (self.builder.documents, len(self.skipped))
        ignored = _Ignored(found)
        with closing(extracting.frames(lambda: self.waiting(outer))) as told:
            for frame in told:
                self.check()
                match frame:
                    case frames.Begin(inside) | frames.Skip(inside) if rule := ignored.rule(frame, inside):
                        self.account.excluded[rule] += 1
                        if isinstance(frame, frames.Begin):
                            for frame in told:
                                if isinstance(frame, (frames.End, frames.Skip)):
                                    break
                    case frames.Begin(inside, kind):
                        try:
                            self._document(outer + inside, kind, told)
                        except _Abandoned as abandoned:
                            self.skip(outer + abandoned.skip.path, abandoned.skip.reason)
                    case frames.Skip(inside, reason):
                        self.skip(outer + inside, reason)
                    case frames.Kept(rule):
                        self.account.excluded[rule] += 1
                    case frames.Note(inside, words):
                        self.notices.append(f"{printable(outer + inside)}: {words}")
                    case frames.Done(met) if not met:
                        raise SourceError(
                            f"no file or folder at {printable(found.path)}",
                            why=f"{printable(outer)} holds no such member",
                            hint=f"rlm read --list {printable(outer)}",
                        )
        documents = range(before[0], self.builder.documents)
        self._came[found.file] = _Came(printable(outer), documents, tuple(self.skipped[before[1] :]))

    def _document(self, path: str, kind: str, told: Iterator[Frame]) -> None:
        """One document, up to its end. Raises `_Abandoned` when it has none: nothing of it is left then."""
        page, damaged = 0, []
        before = self._bytes, self._pages
        with self.builder.document(printable(path), kind) as document:
            for frame in told:
                match frame:
                    case frames.Text(said, data):
                        self._bytes += len(data or said)  # until it ends, when its own size is known
                        self.waiting(path)
                        document.write(said, data)
                    case frames.Page(bad):
                        document.page()
                        page += 1
                        self._pages += 1
                        damaged += [page] * bad
                    case frames.End(encoding, size, digest, replaced):
                        document.encoding, document.replaced = encoding, replaced
                        document.source_bytes, document.sha256 = size, digest
                        self._files += 1
                        self._bytes = before[0] + size
                        break
                    case frames.Note(_, words):
                        self.notices.append(f"{printable(path)}: {words}")
                    case frames.Skip():
                        self._bytes, self._pages = before
                        raise _Abandoned(frame)
        if damaged:
            numbers = ", ".join(map(str, damaged[:10])) + (", …" if len(damaged) > 10 else "")
            self.notices.append(f"{printable(path)}: damaged and left out, page {numbers}")

    def skip(self, path: str, reason: str) -> None:
        self.skipped.append(Skipped(printable(path), reason))

    def check(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def show(self, path: str, at_once: bool = False) -> None:
        now = time.monotonic()
        if at_once or now - self._last >= PROGRESS_S:
            self._last = now
            self._progress(Reading(self._files, self._bytes, self._pages, printable(path)))


def printable(path: str) -> str:
    """A path as it can be shown and written: bytes that are not UTF-8, and control characters, as backslash escapes."""
    try:
        data = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a name from an archive
        data = path.encode("utf-8", "backslashreplace")
    return builder.printable(data.decode("utf-8", "backslashreplace"))
