"""The worker: finds out what a file is, runs its reader, goes into what is inside, and writes frames to its supervisor.

A process of its own, because readers are C++ and Rust and XML reading hostile files: it has limits of memory, dies with
its parent, and one that dies costs one member (`workers.py`). It reads requests from stdin, a line of JSON each;
passwords come that way too, so they are in no argument and no variable.

Text inside archives is decoded by the same code as text in folders. Members are read as they come out of their archive,
and held whole where a reader must seek in them (`streams.py`).

Nesting ends at `DEEPEST` archives within one another, however deep a zip holds itself.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import Any, BinaryIO, cast

from . import formats, frames, text
from .members import Wanted
from .packed import Bomb, measure
from .pieces import LINK, NO_TEXT, Inside, Options, Page, Piece, Reader, Unreadable
from .streams import Ahead, Counted, identity, seekable

MEMORY_BYTES = 2 << 30
MOST_TEXT = 256 << 20
"""Bytes of text out of one document that is not text itself."""
DEEPEST = 4
LINKS = "links in archives"
TOO_MUCH = "needs too much memory"
TOO_DEEP = f"nested deeper than {DEEPEST} archives"
BOMBS = 3
"""So many bombs cost themselves only; the next one ends their archive."""
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Request:
    """One file to read. `file`: its path on this system, or the number of an open descriptor; `name`: what its format
    is told by. `after`: where to go on (a member, which is not read, and all before it, which were)."""

    file: str | int
    name: str
    wanted: Wanted = field(default_factory=Wanted)
    options: Options = field(default_factory=Options)
    after: frames.Place = ()

    def line(self) -> bytes:
        """As it goes to a worker."""
        values = asdict(self)
        values["wanted"]["suffixes"] = sorted(self.wanted.suffixes)
        return json.dumps(values).encode() + b"\n"

    @staticmethod
    def of(line: bytes) -> Request:
        values = json.loads(line)
        wanted, options = values.pop("wanted"), values.pop("options")
        wanted |= {"globs": tuple(wanted["globs"]), "suffixes": frozenset(wanted["suffixes"])}
        options["passwords"] = tuple(options["passwords"])
        values["after"] = tuple(values["after"])
        return Request(**values, wanted=Wanted(**wanted), options=Options(**options))


def main() -> None:
    """Answer requests until stdin ends."""
    _limit()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not end up between the frames
    for line in sys.stdin.buffer:
        request = Request.of(line)
        out.write(frames.pack(_answer(request, out)))
        out.flush()


def _limit() -> None:
    import ctypes
    import resource

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the host's to handle
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _forget_peak() -> None:
    """The most memory that was held counts from here: the supervisor asks for it when this process dies."""
    try:
        with open("/proc/self/clear_refs", "w") as control:  # noqa: PTH123
            control.write("5")
    except OSError:
        pass


def _answer(request: Request, out: BinaryIO) -> frames.Done:
    _forget_peak()
    try:
        with open(request.file, "rb", buffering=0) as raw:  # noqa: PTH123
            extraction = Extraction(request, lambda frame: out.write(frames.pack(frame)), out.flush)
            extraction.read(raw)
            return frames.Done(extraction.met)
    except OSError as error:
        out.write(frames.pack(frames.Skip("", f"unreadable ({error.strerror or error})")))
    return frames.Done()


class Extraction:
    """One file and all that is in it. `met`: there was something of what was named."""

    def __init__(self, request: Request, tell: Callable[[frames.Frame], object], flush: Callable[[], object]) -> None:
        self._wanted = request.wanted
        self._options = request.options
        self._after = request.after
        self._name = request.name
        self._tell = tell
        self._flush = flush
        self._meter = measure()
        self._bombs = 0
        self.met = not self._wanted.only

    def read(self, raw: io.FileIO) -> None:
        file = Counted(raw, self._meter)
        self._guarded("", 0, lambda: self._file(self._name, file, "", (), 0))

    def _guarded(self, path: str, before: int, read: Callable[[], None]) -> None:
        """Run a reader; whatever it raises costs what it read. `before`: what had been unpacked by then."""
        try:
            return read()
        except Bomb as error:
            self._bombs += 1
            if path and self._bombs > BOMBS:
                self._tell(frames.Skip(path, str(error)))
                raise
            self._meter.made = before
            reason = str(error)
        except Unreadable as error:
            reason = str(error) or "damaged"
        except OSError as error:
            reason = f"unreadable ({error.strerror})" if error.strerror else "damaged"
        except (MemoryError, RecursionError):
            reason = TOO_MUCH
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # whatever a parser makes of a hostile file, and panics of Rust
            reason = f"damaged: {type(error).__name__}"
        self._tell(frames.Skip(path, reason))

    # ── what a file is ──

    def _file(self, name: str, file: Any, path: str, place: frames.Place, depth: int, wrapped: int = 0) -> None:
        head = text.read_head(file.read)
        stream = Ahead(head, file)
        choice = formats.choose(name, head, encoding=self._options.encoding)
        found = choice.format
        whole: BinaryIO | None = None
        if (found is not None and not found.streams) or head.startswith(formats.OLE):
            whole = seekable(stream)
            choice = formats.choose(name, head, whole)
            found = choice.format
        if choice.reason:
            raise Unreadable(choice.reason)
        if found is None:
            return self._text(name, head, stream, path)
        if (found.holds and depth >= DEEPEST) or wrapped >= DEEPEST:
            raise Unreadable(TOO_DEEP)
        source = whole if whole is not None else cast(BinaryIO, stream)
        try:
            pieces = _load(found)(source, self._options)
            self._pieces(pieces, place, _What(name, path, found.kind, depth, wrapped, source))
        finally:
            if whole is not None and whole is not file:
                whole.close()

    def _text(self, name: str, head: bytes, stream: Ahead, path: str) -> None:
        if self._kept_out(path, name):
            return
        self._tell(frames.Begin(path, "text"))
        writer = Writer(self._tell)
        for _ in text.decode(head, stream.file.read, writer, self._options.encoding):
            pass
        writer.cut(stream.problem, path)
        self._tell(frames.End(writer.encoding, writer.source_bytes, writer.sha256, writer.replaced))

    # ── what a reader says of it ──

    def _pieces(self, pieces: Iterator[Piece], place: frames.Place, what: _What) -> None:
        sent = len(place) < len(self._after) and place == self._after[: len(place)]  # before a worker died inside it
        writer = Writer((lambda frame: None) if sent else self._tell, MOST_TEXT)
        began = ended = False
        inside = 0
        for piece in pieces:
            if isinstance(piece, Inside):
                if began and not ended:
                    self._end(writer, what)
                ended = True
                if not piece.name and piece.file is not None:
                    name = _unwrapped_name(what.name)
                    self._file(name, piece.file, what.path, place, what.depth, what.wrapped + 1)
                else:
                    self._member(piece, (*place, inside), what)
                inside += 1
                continue
            if ended:
                raise Unreadable("the reader gives text after documents inside")
            if not began:
                if self._kept_out(what.path, what.name):
                    return
                writer.tell(frames.Begin(what.path, what.kind))
                began = True
            writer.piece(piece)
        if began and not ended:
            self._end(writer, what)
        elif not inside and what.kind not in formats.HOLDERS:
            raise Unreadable(NO_TEXT if what.kind == "pdf" else "no text in it")

    def _end(self, writer: Writer, what: _What) -> None:
        """The document's own text is complete."""
        if writer.pages and not writer.said:
            raise Unreadable(NO_TEXT if writer.damaged < writer.pages else "damaged: no page can be read")
        digest, size = identity(what.source)
        writer.flush()
        writer.tell(frames.End("utf-8", size, digest, writer.replaced))

    def _member(self, piece: Inside, place: frames.Place, outer: _What) -> None:
        path = f"{outer.path}!/{piece.name}"
        inside = path.removeprefix("!/")
        if not self._due(place) or not self._wanted.passes(inside):
            return
        self.met = self.met or self._wanted.named(inside)
        if piece.kind == LINK:
            self._tell(frames.Kept(LINKS))
            return
        name = piece.name + piece.kind
        container = formats.suffix_of(name) in formats.CONTAINERS
        if self._kept_out(path, None if container else name):
            return
        self._tell(frames.Enter(place, path))
        self._flush()
        before = self._meter.made
        if outer.depth > DEEPEST:
            self._tell(frames.Skip(path, TOO_DEEP))
        elif piece.pieces is not None:
            what = _What(name, path, "text", outer.depth + 1)
            pieces = piece.pieces
            self._guarded(path, before, lambda: self._pieces(pieces, place, what))
        else:
            self._guarded(path, before, lambda: self._file(name, piece.file, path, place, outer.depth + 1))
        self._tell(frames.Leave())

    def _due(self, place: frames.Place) -> bool:
        """Whether this member is still to be read: it stands after where we go on, or holds that."""
        after = self._after
        return place > after or (place == after[: len(place)] and len(place) < len(after))

    def _kept_out(self, path: str, name: str | None) -> bool:
        """Whether a rule keeps a document out, which is told. `name`: what tells its type; None: it is a container."""
        if not (rule := self._wanted.rule(path, name)):
            return False
        self._tell(frames.Kept(rule))
        return True


@dataclass(frozen=True, slots=True)
class _What:
    """What is being read. `wrapped`: how many packed files it came out of; `source`: its bytes, None for a part."""

    name: str
    path: str
    kind: str
    depth: int
    wrapped: int = 0
    source: Any = None


class Writer:
    """What a document's text is written with: gathered into frames. Also what `text.decode` writes to."""

    def __init__(self, tell: Callable[[frames.Frame], object], most: int | None = None) -> None:
        self.encoding = "utf-8"
        self.replaced = 0
        self.source_bytes = 0
        self.sha256 = ""
        self.pages = self.damaged = 0
        self.said = False
        self.tell = tell
        self._most = most
        self._parts: list[str] = []
        self._held = self._size = 0

    def write(self, said: str) -> None:
        if not said:
            return
        self._parts.append(said)
        self._held += len(said)
        self._size += len(said)
        if self._held >= frames.MOST_TEXT // 2:
            self.flush()
            if self._most is not None and self._size > self._most:
                raise Unreadable(f"more than {self._most >> 20} MB of text")

    def piece(self, piece: Piece) -> None:
        if isinstance(piece, str):
            self.said = self.said or bool(piece.strip())
            # Line ends as PDFium has them are changed here, beside others at work, and once for a text that is kept.
            return self.write(piece.replace("\0", "").replace("\r\n", "\n"))
        self.flush()
        self.pages += 1
        damaged = isinstance(piece, Page) and piece.damaged
        self.tell(frames.Page(damaged))
        if damaged:
            self.damaged += 1
            self.replaced += 1
            self.write("\ufffd")

    def flush(self) -> None:
        if self._parts:
            self.tell(frames.Text("".join(self._parts)))
            self._parts.clear()
            self._held = 0

    def cut(self, problem: str, path: str) -> None:
        """The source ended before its time: that is said, and counted as a character that could not be read."""
        if problem:
            self.write("\ufffd")
            self.replaced += 1
            self.tell(frames.Note(path, f"{problem}: the end is missing"))
        self.flush()


def _unwrapped_name(name: str) -> str:
    """`a.log.gz` → `a.log`, `a.tgz` → `a.tar`"""
    suffix = formats.suffix_of(name)
    return name[: len(name) - len(suffix)] + (".tar" if suffix in formats.TARS else "")


def _load(found: formats.Format) -> Reader:
    module, _, function = found.reader.partition(":")
    place = import_module(module) if found.foreign else import_module(f".{module}", __package__)
    reader: Any = place
    for part in function.split("."):
        reader = getattr(reader, part)
    return cast(Reader, reader)
