"""All documents of a run as one text on disk, with the places in it.

`builder.py` writes it; a `Corpus` reads it: one unlinked file that is mapped read-only and reaches another process as
a single descriptor. Its layout:

    text     UTF-8, "\\n" only; each document preceded by a header line that ends in the nonce, and ended by "\\n"
    blocks   for every 8 KiB of text: characters before, newlines before (u64)
    columns  one u64 array for each field of the document table, then the page starts (in characters), then the names
    footer   counts and the corpus hash, at the very end

Everything counts in characters of that text, headers included, so an offset means the same to host, REPL and trace. A
character offset becomes a byte offset by bisecting the blocks and decoding one of them: exact slices in microseconds,
while nothing but the pages that are touched takes memory (1 GB as `str` takes 1-4 GB, as a list of `str` 1.3 GB).

The nonce is derived from the hashes of the documents and filled in after reading: a document can write a line that
looks like a header, but not one with the nonce, which depends on that very document.

Standard library only, and no import from this package: host and REPL load the same file. A dict of `str`, SQLite and
a pickle of offsets were measured and rejected: the first for memory, the others for the time to open.
"""

from __future__ import annotations

import mmap
import os
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import overload

BLOCK = 1 << 13
"""Bytes of text between two entries of the sparse index: an offset costs decoding one of them. With 64 KiB it costs six
times as much; 8 KiB makes the index 2 MB for 1 GB."""
WINDOW = 1 << 20
"""Bytes copied from the map at a time: stays in the processor's cache, and `bytes.find` is never quadratic."""
RESIDENT = 4 << 20
"""Bytes of the map that are touched until its pages are handed back: they count as memory of who maps them."""
AROUND = 1 << 19
"""Bytes that a read may bring in beside its own: 64 KiB as a rule, 2 MB where the page cache holds huge pages."""
NONCE_CHARS = 16
CONTINUATION = bytes(range(0x80, 0xC0))
MAGIC = b"rlmcorp1"
FOOTER = struct.Struct("<8s6Q32s")
COLUMNS = ("start_byte", "stop_byte", "start", "stop", "first_line", "lines", "page", "replaced", "bytes", "name")
"""The document table. `first_line`: newlines before its text; `page`: where its pages begin in the page table;
`name`: where its path, kind, encoding and hash begin among the names. All have one entry more than documents."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a corpus. `start` and `stop` are characters of the corpus, `start_byte` and `stop_byte` bytes.

    `path` is printable: control characters and bytes that are not UTF-8 stand as backslash escapes. `bytes` and
    `sha256` are those of the source; `pages` is 0 where there are none; `replaced` counts U+FFFD put in by decoding.
    """

    index: int
    path: str
    kind: str
    encoding: str
    sha256: str
    bytes: int
    lines: int
    pages: int
    replaced: int
    start: int
    stop: int
    start_byte: int
    stop_byte: int
    first_line: int

    @property
    def chars(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Place:
    """Where a character stands: lines and pages count from 1; `page` is None where there are none."""

    path: str
    line: int
    page: int | None
    document: int


class Corpus:
    """The documents of a run, mapped read-only. Owns `fd`; safe to use from several threads.

    `chars`, `bytes`: of the whole text, headers included; `lines`: of the documents, without headers; `char_width`:
    bytes a character of the widest kind in it takes as `str` (1, 2 or 4).
    Opening one reads nothing but the footer. Raises `ValueError` when the descriptor holds no corpus.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        size = os.fstat(fd).st_size
        if size < FOOTER.size:
            raise ValueError("the descriptor holds no corpus")
        self._map = mmap.mmap(fd, size, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED)
        magic, *counts, digest = FOOTER.unpack_from(self._map, size - FOOTER.size)
        if magic != MAGIC:
            raise ValueError("the descriptor holds no corpus")
        counted: list[int] = counts
        self.bytes, self.chars, self._newlines, self.char_width, documents, pages = counted
        self.lines = self._newlines - documents
        self.sha256: str = digest.hex()
        self.nonce = self.sha256[:NONCE_CHARS]
        self._view = memoryview(self._map)
        self._sections: list[memoryview[int]] = []
        self._touched = 0
        self._at = self.bytes + -self.bytes % 8
        blocks = -(-self.bytes // BLOCK) + 1
        self._block_chars, self._block_lines = self._section(blocks), self._section(blocks)
        self._columns = {name: self._section(documents + 1) for name in COLUMNS}
        self._pages = self._section(pages)
        self._names = self._at
        self.documents = Documents(self, documents)

    def close(self) -> None:
        """Unmap and close. Slices that were taken stay good."""
        if self.fd < 0:
            return
        os.close(self.fd)
        self.fd = -1
        for section in (*self._sections, self._view):
            section.release()
        self._map.close()

    @property
    def whole(self) -> tuple[int, int]:
        """The span `context` holds when nothing was sliced: everything, or the text of the one document there is."""
        if len(self.documents) == 1:
            return self.documents[0].start, self.documents[0].stop
        return 0, self.chars

    def text(self, start: int = 0, stop: int | None = None) -> str:
        """The characters [start, stop) of the corpus; out of range is cut off, negative is not special."""
        stop = self.chars if stop is None else min(stop, self.chars)
        start = max(start, 0)
        if start >= stop:
            return ""
        return self.read(self.byte_of(start), self.byte_of(stop)).decode()

    def find(self, needle: str, start: int = 0, stop: int | None = None) -> int:
        """Where `needle` first stands within [start, stop), in characters; -1 when it does not."""
        stop = self.chars if stop is None else min(stop, self.chars)
        if start > stop:
            return -1
        found = self.find_bytes(needle.encode("utf-8", "surrogatepass"), self.byte_of(start), self.byte_of(stop))
        return -1 if found < 0 else self.char_of(found)

    def place(self, char: int) -> Place:
        """The document, line and page of a character; one in a header counts for the first line below it.

        Raises `IndexError` when there is no document.
        """
        columns = self._columns
        count = len(self.documents)
        index = min(bisect_right(columns["stop"], char, 0, count), count - 1)
        document = self.documents[index]
        char = max(document.start, min(char, max(document.stop - 1, document.start)))
        line = self.newlines(self.byte_of(char)) - document.first_line + 1
        return Place(document.path, line, self._page(document, char), index)

    def page_spans(self, document: Document) -> list[tuple[int, int]]:
        """Start and stop of each page of a document, in characters of the corpus; empty where it has none."""
        first = self._columns["page"][document.index]
        if not document.pages:
            return []
        return list(pairwise([document.start, *self._pages[first + 1 : first + document.pages], document.stop]))

    def header(self, document: Document) -> str:
        """The line that stands before a document, its newline included."""
        before = self._columns["stop"][document.index - 1] if document.index else 0
        return self.text(before, document.start)

    def read(self, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of the text."""
        data = self._map[start : min(stop, self.bytes)]
        self._touched += len(data) + AROUND
        if self._touched > RESIDENT and _HAND_BACK is not None:
            self._touched = 0
            self._map.madvise(_HAND_BACK)  # they stay in the page cache
        return data

    def find_bytes(self, needle: bytes, start: int, stop: int) -> int:
        """`bytes.find` over the mapped text, a window at a time."""
        if not needle:
            return start if start <= min(stop, self.bytes) else -1
        return next(self.occurrences(needle, start, stop), -1)

    def occurrences(self, needle: bytes, start: int, stop: int) -> Iterator[int]:
        """Every byte within [start, stop) at which `needle`, which is not empty, begins, overlapping ones too."""
        stop = min(stop, self.bytes)
        step = max(WINDOW, 4 * len(needle))
        for low in range(start, stop - len(needle) + 1, step):
            window = self.read(low, min(low + step + len(needle) - 1, stop))
            found = window.find(needle)
            while found >= 0:
                yield low + found
                found = window.find(needle, found + 1)

    @property
    def buffer(self) -> mmap.mmap:
        """The mapped text, for patterns: nothing of it is copied. What follows it in the file is not text."""
        self._touched = RESIDENT
        return self._map

    def byte_of(self, char: int) -> int:
        """The byte at which a character begins; `chars` gives the end of the text."""
        if char >= self.chars:
            return self.bytes
        block = bisect_right(self._block_chars, char) - 1
        low, before = block * BLOCK, self._block_chars[block]
        high = min(low + BLOCK, self.bytes)
        if self._block_chars[block + 1] - before == high - low:
            return low + char - before
        data = self.read(low, high)
        lead = _lead(data)
        return low + lead + len(data[lead:].decode("utf-8", "ignore")[: char - before].encode())

    def char_of(self, byte: int) -> int:
        """The character that begins at a byte."""
        if byte >= self.bytes:
            return self.chars
        block = byte // BLOCK
        low, before = block * BLOCK, self._block_chars[block]
        data = self.read(low, byte)
        return before + (len(data) if data.isascii() else len(data.translate(None, CONTINUATION)))

    def newlines(self, byte: int) -> int:
        """How many newlines stand before a byte: the line it is on, from 0, headers counted."""
        block = min(byte, self.bytes) // BLOCK
        return self._block_lines[block] + self.read(block * BLOCK, byte).count(b"\n")

    def line_start(self, number: int) -> int:
        """The byte behind a newline, by its number from 1: where the line begins that has as many before it."""
        block = bisect_left(self._block_lines, number) - 1
        low = block * BLOCK
        data = self.read(low, low + BLOCK)
        return low + len(data) - len(data.split(b"\n", number - self._block_lines[block])[-1])

    def document_at(self, byte: int) -> int | None:
        """Index of the document whose text holds a byte; None in a header."""
        columns, count = self._columns, len(self.documents)
        index = bisect_right(columns["stop_byte"], byte, 0, count)
        return index if index < count and columns["start_byte"][index] <= byte else None

    def touched(self, spans: Iterable[tuple[int, int]]) -> list[int]:
        """Indexes of the documents that these slices [start, stop) touch, in order."""
        starts, stops, count = self._columns["start"], self._columns["stop"], len(self.documents)
        found: set[int] = set()
        for start, stop in spans:
            found.update(range(bisect_right(stops, start, 0, count), bisect_right(starts, stop - 1, 0, count)))
        return sorted(found)

    def column(self, name: str) -> memoryview[int]:
        """One field of all documents (start, stop, start_byte, stop_byte, first_line, lines), for bisecting.

        One meaningless entry more than there are documents.
        """
        return self._columns[name]

    def _page(self, document: Document, char: int) -> int | None:
        if not document.pages:
            return None
        first = self._columns["page"][document.index]
        return bisect_right(self._pages, char, first + 1, first + document.pages) - first

    def _section(self, count: int) -> memoryview[int]:
        section = self._view[self._at : self._at + 8 * count].cast("Q")
        self._sections.append(section)
        self._at += 8 * count
        return section

    def _name(self, index: int) -> list[str]:
        low, high = self._columns["name"][index], self._columns["name"][index + 1]
        return self._map[self._names + low : self._names + high].decode().split("\0")


class Documents(Sequence[Document]):
    """The documents of a corpus in order; each is made when it is asked for."""

    def __init__(self, corpus: Corpus, count: int) -> None:
        self._corpus = corpus
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> list[Document]: ...
    def __getitem__(self, index: int | slice) -> Document | list[Document]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(self._count))]
        position = index + self._count if index < 0 else index
        if not 0 <= position < self._count:
            raise IndexError(f"there are {self._count} documents")
        columns = self._corpus._columns
        path, kind, encoding, sha256 = self._corpus._name(position)
        return Document(
            index=position,
            path=path,
            kind=kind,
            encoding=encoding,
            sha256=sha256,
            bytes=columns["bytes"][position],
            lines=columns["lines"][position],
            pages=columns["page"][position + 1] - columns["page"][position],
            replaced=columns["replaced"][position],
            start=columns["start"][position],
            stop=columns["stop"][position],
            start_byte=columns["start_byte"][position],
            stop_byte=columns["stop_byte"][position],
            first_line=columns["first_line"][position],
        )

    def __repr__(self) -> str:
        return f"<{self._count} documents>"


_HAND_BACK: int | None = getattr(mmap, "MADV_DONTNEED", None)


def _lead(data: bytes) -> int:
    """Where the first character of a block begins: a block may start inside one."""
    return next((at for at in range(min(4, len(data))) if data[at] & 0xC0 != 0x80), 0)
