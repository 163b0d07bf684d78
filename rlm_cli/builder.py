"""Writing a corpus: text in pieces, document by document, in bounded memory. What comes of it is `corpus.py`'s.

A document that fails while it is read is taken out again, even when much of it is on disk already. The file loses its
name at once: nobody can open it anew, and nothing is left behind whatever happens to the process. That is also what
keeps those who map it alive: a map whose file is cut short ends its process with SIGBUS, so the file is our own copy of
the documents, which others may truncate as they like, and once it is finished only descriptors that read are left.

Standard library only.
"""

from __future__ import annotations

import codecs
import fcntl
import hashlib
import mmap
import os
import re
import tempfile
from array import array
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from .corpus import BLOCK, COLUMNS, CONTINUATION, FOOTER, MAGIC, NONCE_CHARS, WINDOW, Corpus

FLUSH = 128 * BLOCK
SIGNED = 16 << 20
"""Bytes of text that are mapped at a time to fill in the nonce; each begins a page."""
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SURROGATES = re.compile("[\ud800-\udfff]")


class DocumentWriter:
    """Takes the text of one document in pieces of any size.

    A reader may set `replaced`, `source_bytes`, `sha256` (of the source, hex) and `encoding` before it ends;
    where it sets none, size and hash are those of the text.
    """

    def __init__(self, builder: CorpusBuilder, encoding: str) -> None:
        self.encoding = encoding
        self.replaced = 0
        self.source_bytes = 0
        self.sha256 = ""
        self._builder = builder
        self._held = False
        self._ended = True

    def write(self, text: str, data: bytes | None = None) -> None:
        """Append text. `\\r\\n` and lone `\\r` become `\\n`, also across pieces; lone surrogates U+FFFD.

        `data`: the same in UTF-8, where the caller has it.
        """
        if data is not None and not self._held and "\r" not in text:
            if text:
                self._ended = text.endswith("\n")
                self._builder._append(text, data)
            return
        if self._held:
            text = "\r" + text
            self._held = False
        if "\r" in text:
            if text.endswith("\r"):
                self._held, text = True, text[:-1]
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        if not text:
            return
        self._ended = text.endswith("\n")
        try:
            self._builder._append(text)
        except UnicodeEncodeError:
            text, replaced = _SURROGATES.subn("\ufffd", text)
            self.replaced += replaced
            self._builder._append(text)

    def page(self) -> None:
        """Begin a page. Pages start on a line of their own; text before the first call belongs to page 1."""
        self._end_line()
        self._builder._begin_page()

    def _end_line(self) -> None:
        if self._held:
            self._held, self._ended = False, True
            self._builder._append("\n")
        if not self._ended:
            self._ended = True
            self._builder._append_line_end()


@dataclass(frozen=True, slots=True)
class _Mark:
    """How far the builder is: what a document that fails is rolled back to."""

    size: int
    chars: int
    lines: int
    width: int
    pages: int


class Unwritable(Exception):
    """The corpus cannot be written: no room, as a rule. No `OSError`: those are the documents' own."""


class CorpusBuilder:
    """Streams documents into a private file under `directory` (default: the system's temporary folder).

    Memory is bounded by one piece of text, the index (16 bytes for 8 KiB) and the document table. One document at a
    time. Whatever writes may raise `Unwritable`; after it the builder can only be closed.

    `in_memory`: for a text that is small and short-lived, in memory where the system has such files (memfd), sealed
    when it is finished.
    """

    def __init__(self, directory: Path | None = None, in_memory: bool = False) -> None:
        try:
            memory = _memory_file() if in_memory else None
            self._fd, self._reading = memory or _unnamed_file(directory)
        except OSError as error:
            raise Unwritable(error.strerror) from error
        self._sealable = memory is not None
        self._buffer = bytearray()
        self._flushed = self._chars = self._lines = 0
        self._width = 1
        self._block_chars, self._block_lines = array("Q", [0]), array("Q", [0])
        self._columns = {name: array("Q") for name in COLUMNS}
        self._pages = array("Q")
        self._first_page = 0
        self._names = bytearray()

    @contextmanager
    def document(self, path: str, kind: str, encoding: str = "utf-8") -> Iterator[DocumentWriter]:
        """Open a document for writing. An exception inside takes the document out again and propagates."""
        mark = _Mark(self._size, self._chars, self._lines, self._width, len(self._pages))
        label = printable(path)
        try:
            self._append(header_line(label, "0" * NONCE_CHARS))
            start, start_byte, first_line = self._chars, self._size, self._lines
            self._first_page = len(self._pages)
            writer = DocumentWriter(self, encoding)
            yield writer
            writer._end_line()
            digest = writer.sha256 or self._hash(start_byte)
        except BaseException:
            self._roll_back(mark)
            raise
        fields = {
            "start_byte": start_byte,
            "stop_byte": self._size,
            "start": start,
            "stop": self._chars,
            "first_line": first_line,
            "lines": self._lines - first_line,
            "page": mark.pages,
            "replaced": writer.replaced,
            "bytes": writer.source_bytes or self._size - start_byte,
            "name": len(self._names),
        }
        for name, value in fields.items():
            self._columns[name].append(value)
        self._names += "\0".join((label, kind, writer.encoding, digest)).encode()

    @property
    def documents(self) -> int:
        """How many there are."""
        return len(self._columns["start"])

    def path(self, index: int) -> str:
        """What a document is called."""
        return self._name(index)[0]

    def repeat(self, index: int, path: str) -> None:
        """Write a document once more under another path: a file of the same bytes."""
        columns = self._columns
        _, kind, encoding, digest = self._name(index)
        low, high = columns["page"][index], len(self._pages)
        if index + 1 < self.documents:
            high = columns["page"][index + 1]
        cuts = deque(page - columns["start"][index] for page in self._pages[low + 1 : high])
        start, stop = columns["start_byte"][index], columns["stop_byte"][index]
        with self.document(path, kind, encoding) as document:
            document.sha256, document.source_bytes = digest, columns["bytes"][index]
            if high > low:
                document.page()
            at = 0
            for text in self._texts(start, stop):
                written = 0
                while cuts and cuts[0] <= at + len(text):
                    cut = cuts.popleft() - at
                    document.write(text[written:cut])
                    document.page()
                    written = cut
                document.write(text[written:])
                at += len(text)
            document.replaced = columns["replaced"][index]

    def _name(self, index: int) -> list[str]:
        names = self._columns["name"]
        stop = names[index + 1] if index + 1 < self.documents else len(self._names)
        return self._names[names[index] : stop].decode().split("\0")

    def _texts(self, start: int, stop: int) -> Iterator[str]:
        """The text between two bytes, in pieces; more may be written meanwhile."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        while start < stop:
            size = min(WINDOW, stop - start)
            if start < self._flushed:
                data = os.pread(self._fd, min(size, self._flushed - start), start)
            else:
                data = bytes(self._buffer[start - self._flushed : start - self._flushed + size])
            start += len(data)
            yield decoder.decode(data)

    def finish(self) -> Corpus:
        """Write the index, fill in the nonce, and open the result. The builder is spent."""
        size = self._size
        self._flush(size - self._flushed)
        for name in COLUMNS:
            end = {"page": len(self._pages), "name": len(self._names)}.get(name, 0)
            self._columns[name].append(end)
        digest = hashlib.sha256(self._names)
        for column in self._columns.values():
            digest.update(column.tobytes())
        nonce = digest.hexdigest()[:NONCE_CHARS].encode()
        self._sign(nonce)
        counts = (size, self._chars, self._lines, self._width, len(self._columns["start"]) - 1, len(self._pages))
        _write(self._fd, b"\0" * (-size % 8))
        for section in (self._block_chars, self._block_lines, *self._columns.values(), self._pages):
            _write(self._fd, section)
        _write(self._fd, self._names + FOOTER.pack(MAGIC, *counts, digest.digest()))
        if self._sealable:
            seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
            fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, seals)
        os.close(self._fd)
        self._fd = -1
        reading, self._reading = self._reading, -1
        return Corpus(reading)

    def _sign(self, nonce: bytes) -> None:
        """Fill the nonce in: in memory, where 50,000 documents would be as many system calls; a part at a time."""
        places = (start - 1 - NONCE_CHARS for start in self._columns["start_byte"][:-1])
        for part, group in groupby(places, lambda place: place // SIGNED):
            begins = part * SIGNED
            with mmap.mmap(self._fd, min(SIGNED + BLOCK, self._size - begins), offset=begins) as text:
                for place in group:
                    text[place - begins : place - begins + NONCE_CHARS] = nonce

    def close(self) -> None:
        """Give up: the file is gone. Nothing happens after `finish`."""
        for fd in (self._fd, self._reading):
            if fd >= 0:
                os.close(fd)
        self._fd = self._reading = -1

    @property
    def chars(self) -> int:
        """Characters written so far, headers included."""
        return self._chars

    @property
    def _size(self) -> int:
        return self._flushed + len(self._buffer)

    def _append(self, text: str, data: bytes | None = None) -> None:
        if data is None:
            data = text.encode()
        self._buffer += data
        self._chars += len(text)
        self._lines += data.count(b"\n")
        if self._width < 4 and len(data) > len(text):
            self._width = max(self._width, char_width(text, self._width))
        if len(self._buffer) >= FLUSH:
            self._flush(len(self._buffer) // BLOCK * BLOCK)

    def _append_line_end(self) -> None:
        self._buffer += b"\n"
        self._chars += 1
        self._lines += 1

    def _begin_page(self) -> None:
        # Page 1 begins where the document does, whatever was written before it was announced.
        first = len(self._pages) == self._first_page
        self._pages.append(0 if first else self._chars)

    def _flush(self, size: int) -> None:
        chars, lines = self._block_chars[-1], self._block_lines[-1]
        for low in range(0, size, BLOCK):
            block = self._buffer[low : min(low + BLOCK, size)]
            chars += len(block) if block.isascii() else len(block.translate(None, CONTINUATION))
            lines += block.count(b"\n")
            self._block_chars.append(chars)
            self._block_lines.append(lines)
        _write(self._fd, self._buffer[:size])
        del self._buffer[:size]
        self._flushed += size

    def _roll_back(self, mark: _Mark) -> None:
        if mark.size < self._flushed:
            kept = mark.size // BLOCK
            self._buffer = bytearray(os.pread(self._fd, mark.size - kept * BLOCK, kept * BLOCK))
            self._flushed = kept * BLOCK
            os.ftruncate(self._fd, self._flushed)
            os.lseek(self._fd, self._flushed, os.SEEK_SET)
            del self._block_chars[kept + 1 :], self._block_lines[kept + 1 :]
        else:
            del self._buffer[mark.size - self._flushed :]
        del self._pages[mark.pages :]
        self._chars, self._lines, self._width = mark.chars, mark.lines, mark.width

    def _hash(self, start: int) -> str:
        """The sha256 of the text from byte `start` on, partly on disk and partly still in the buffer."""
        digest = hashlib.sha256()
        while start < self._flushed:
            data = os.pread(self._fd, min(WINDOW, self._flushed - start), start)
            digest.update(data)
            start += len(data)
        digest.update(memoryview(self._buffer)[start - self._flushed :])
        return digest.hexdigest()


def printable(path: str) -> str:
    """A path as it can be shown: control characters, and what is no character, as backslash escapes."""
    return path if path.isprintable() else _UNPRINTABLE.sub(_escaped, path)


def header_line(path: str, nonce: str) -> str:
    """The line before a document. The nonce comes last, so that it can be filled in at a known place."""
    return f"===== {path} ===== {nonce}\n"


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def char_width(text: str, least: int = 1) -> int:
    """Bytes CPython takes for each character of `text`: 1 up to U+00FF, 2 up to U+FFFF, else 4; or `least`."""
    if text.isascii():
        return least
    # Encoding is many times faster than max(text), which makes an object of every character.
    try:
        if least < 2:
            text.encode("latin-1")
            return 1
    except UnicodeEncodeError:
        pass
    return 2 if len(text.encode("utf-16-le", "surrogatepass")) == 2 * len(text) else 4


def _unnamed_file(directory: Path | None) -> tuple[int, int]:
    """Descriptors to write with and to read with: the latter cannot write, and nobody can open the file anew."""
    writing, name = tempfile.mkstemp(prefix="rlm-", dir=directory)
    try:
        return writing, os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        os.close(writing)
        raise
    finally:
        Path(name).unlink()


def _memory_file() -> tuple[int, int] | None:
    """The same in memory; once it is sealed neither can write. None where there is no such thing."""
    try:
        writing = os.memfd_create("rlm", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (AttributeError, OSError):
        return None
    try:
        return writing, os.dup(writing)
    except OSError:
        os.close(writing)
        raise


def _write(fd: int, data: bytes | bytearray | array[int]) -> None:
    """Write all of it; a single `write` may take less. Raises `Unwritable`."""
    with memoryview(data).cast("B") as view:
        at = 0
        while at < len(view):
            try:
                at += os.write(fd, view[at : at + (1 << 30)])
            except OSError as error:
                raise Unwritable(error.strerror) from error
