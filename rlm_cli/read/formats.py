"""Which reader stands for a file: the one table, and how a name and first bytes choose a row of it.

Bytes decide where they disagree with the name: a `.txt` that is a PDF is read as one, a `.docx` that is no zip is
skipped with that reason. Within a family that begins alike (zip, OLE) the name decides, and what is inside where there
is no name (`cat report.docx | rlm …`). Of text only a page and a mail are told by how they begin, and only where the
name says nothing (`curl … | rlm …`, a maildir): a `.txt` that looks like one is what its name says.

A reader is "module:function" in this folder (`pieces.Reader`), imported in a worker when it is needed. Others come by
the entry point group `rlm_cli.readers`: the name is the suffix without its dot, the object a reader. They stand for
suffixes that this table does not know, never for others: installing a package does not change how a PDF is read. The
entry points of all installed packages are looked through (5 to 30 ms) only when such a suffix is met.

Standard library only; host and worker load the same file.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from functools import cache
from typing import BinaryIO

from . import text

GROUP = "rlm_cli.readers"


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file that a worker reads. `kind`: as the manifest calls it.

    `magic`: one of them is what such a file begins with; empty = any text. `streams`: read from beginning to end, never
    sought in. `holds`: documents inside, no text of its own. `wraps`: it is the same document, packed. `foreign`: of an
    installed package.
    """

    kind: str
    reader: str
    suffixes: tuple[str, ...]
    magic: tuple[bytes, ...] = ()
    streams: bool = False
    holds: bool = False
    wraps: bool = False
    foreign: bool = False


ZIP = (b"PK\x03\x04", b"PK\x05\x06")
OLE = (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",)
PDF = (b"%PDF-",)
BZIP2 = tuple(b"BZh%d" % level + start for level in range(1, 10) for start in (b"1AY&SY", b"\x17rE8P\x90"))

FORMATS = (
    Format("pdf", "pdf:pdf", (".pdf",), PDF),
    Format("docx", "office:docx", (".docx", ".docm", ".dotx", ".dotm"), ZIP),
    Format("pptx", "office:pptx", (".pptx", ".pptm", ".ppsx", ".potx"), ZIP),
    Format("sheets", "sheets:sheets", (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"), ZIP + OLE, holds=True),
    Format("odt", "opendocument:odt", (".odt", ".ott"), ZIP),
    Format("odp", "opendocument:odp", (".odp", ".otp"), ZIP),
    Format("epub", "epub:epub", (".epub",), ZIP),
    Format("rtf", "rtf:rtf", (".rtf",), (b"{\\rtf",)),
    Format("html", "web:html", (".html", ".htm", ".xhtml")),
    Format("eml", "mail:eml", (".eml",)),
    Format("mbox", "mail:mbox", (".mbox",), holds=True),
    Format("ipynb", "notebook:ipynb", (".ipynb",)),
    Format("zip", "archives:zip_members", (".zip", ".jar", ".whl"), ZIP, holds=True),
    Format("tar", "archives:tar_members", (".tar",), streams=True, holds=True),
    Format("gz", "packed:gunzip", (".gz", ".tgz"), (b"\x1f\x8b\x08",), streams=True, wraps=True),
    Format("bz2", "packed:bunzip2", (".bz2", ".tbz", ".tbz2"), BZIP2, streams=True, wraps=True),
    Format("xz", "packed:unxz", (".xz", ".txz"), (b"\xfd7zXZ\x00",), streams=True, wraps=True),
    Format("zst", "packed:unzstd", (".zst", ".tzst"), (b"\x28\xb5\x2f\xfd",), streams=True, wraps=True),
)
"""The table. A reader is added by its row."""

UNSUPPORTED = frozenset(".doc .ppt .msg .7z .rar .parquet .sqlite .db".split())
"""Known by name and skipped with their type, unless the table or an installed package has a reader for them."""

TARS = (".tgz", ".tbz", ".tbz2", ".txz", ".tzst")
"""One suffix for two: what is inside them is a tar."""

_BY_SUFFIX = {suffix: row for row in FORMATS for suffix in row.suffixes}
_BY_MAGIC = [(magic, row) for row in FORMATS for magic in row.magic if magic not in ZIP + OLE]
_ALL_MAGIC = tuple(magic for magic, _ in _BY_MAGIC)
_BY_KIND = {row.kind: row for row in FORMATS}
CONTAINERS = frozenset(
    suffix for row in FORMATS if (row.holds or row.wraps) and row.kind != "sheets" for suffix in row.suffixes
)
"""Suffixes of what is looked into: `-g` and `-t` are asked of their members. A sheet is no file: its workbook is."""
HOLDERS = frozenset(row.kind for row in FORMATS if row.holds)
ARCHIVES = HOLDERS - {"sheets"}
"""What may not be nested endlessly. A workbook is a document."""

TEXT_SUFFIXES = frozenset(
    (
        ".txt .text .md .markdown .rst .tex .log .csv .tsv .json .jsonl .ndjson .xml .yaml .yml .toml .ini .cfg .conf"
        " .srt .vtt .sql .sh .py .pyi .js .ts .jsx .tsx .c .h .cc .cpp .hpp .cs .go .rs .rb .java .php .css .html .htm"
        " .svg .diff .patch .lock .in .out .env .properties"
    ).split()
)
"""Text for certain: for these no entry points are looked through."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What reads a file: a format, or text where it is None; `reason`: why nothing does."""

    format: Format | None = None
    reason: str = ""


def suffix_of(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122


def by_name(name: str) -> Format | None:
    """The format whose suffix a name has; None for text, and for what is not known."""
    suffix = suffix_of(name)
    return _BY_SUFFIX.get(suffix) or (_foreign(suffix) if suffix and suffix not in TEXT_SUFFIXES else None)


def choose(name: str, head: bytes, file: BinaryIO | None = None, encoding: str | None = None) -> Choice:
    """The format of a file with this name and these first bytes (`text.HEAD_BYTES` of them, fewer in a short file).

    `file`: looked into where name and first bytes leave it open; None: it cannot be sought in. `encoding`: what the
    user says text is in.
    """
    suffix = suffix_of(name)
    named, found = by_name(name), _by_bytes(head)
    if named is not None and (named.foreign or head.startswith(named.magic) or (not named.magic and found is None)):
        return Choice(named)
    if suffix in UNSUPPORTED and named is None and (found is None or found.kind == "zip"):
        return Choice(reason=f"unsupported type ({suffix[1:]})")
    if found is not None:
        return Choice((_inside_of_zip(file) if found.kind == "zip" else None) or found)
    if head.startswith(OLE):
        return _inside_of_ole(file)
    if named is not None and named.kind == "pdf" and head:  # its mark may stand further on; its reader knows
        return Choice(named)
    if named is not None and named.magic:
        return Choice(reason=f"damaged: no {named.kind} file, whatever its name says" if head else "empty")
    if named is None and suffix not in TEXT_SUFFIXES and (begun := _by_beginning(suffix, head)):
        return Choice(_BY_KIND[begun])
    return Choice(reason=text.refused(head, encoding))


def _by_bytes(head: bytes) -> Format | None:
    if head.startswith(ZIP):
        return _BY_KIND["zip"]
    if head[257:262] == b"ustar":
        return _BY_KIND["tar"]
    if not head.startswith(_ALL_MAGIC):
        return None
    return next(row for magic, row in _BY_MAGIC if head.startswith(magic))


def _inside_of_zip(file: BinaryIO | None) -> Format | None:
    """The format of a zip whose name does not tell, by the entries that only such a file has."""
    import zipfile

    if file is None or not file.seekable():
        return None
    try:
        with zipfile.ZipFile(file) as archive:
            names = set(archive.namelist())
            said = ""
            if "mimetype" in names:
                with archive.open("mimetype") as member:
                    said = member.read(100).decode("ascii", "replace").strip()
    except Exception:  # the reader says what is wrong with it
        return None
    finally:
        file.seek(0)
    for kind, mark in _MARKS:
        if mark in names or mark == said:
            return _BY_KIND.get(kind)
    return None


_MARKS = (
    ("docx", "word/document.xml"),
    ("pptx", "ppt/presentation.xml"),
    ("sheets", "xl/workbook.xml"),
    ("sheets", "xl/workbook.bin"),
    ("sheets", "application/vnd.oasis.opendocument.spreadsheet"),
    ("odt", "application/vnd.oasis.opendocument.text"),
    ("odp", "application/vnd.oasis.opendocument.presentation"),
    ("epub", "application/epub+zip"),
)


def _inside_of_ole(file: BinaryIO | None) -> Choice:
    """An old workbook by what its directory names; a docx, xlsx or pptx with a password is an OLE file that holds the
    encrypted zip. Where it cannot be looked into yet, a workbook: that has to be."""
    if file is None or not file.seekable():
        return Choice(_BY_KIND["sheets"])
    start = file.read(1 << 20)
    (shift,), (sector,) = struct.unpack_from("<H", start.ljust(52), 30), struct.unpack_from("<I", start.ljust(52), 48)
    file.seek((sector + 1) << min(shift, 16))
    names = file.read(1 << 16)
    file.seek(0)
    if "EncryptedPackage".encode("utf-16-le") in start + names:
        return Choice(reason="encrypted")
    held = [name for name in ("WordDocument", "PowerPoint Document", "Workbook") if name.encode("utf-16-le") in names]
    return Choice(_BY_KIND["sheets"]) if held == ["Workbook"] else Choice(reason="unsupported type (old office file)")


_A_PAGE = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)[\s>]", re.I | re.S
)
_A_MAILBOX = re.compile(rb"From \S+ .*\d:\d\d.*\d{4}\r?\n[!-9;-~]+: ")
_A_HEADER = re.compile(rb"(?:([!-9;-~]+):[ \t].*|[ \t].*)\r?\n")
_OF_PATCHES = b"Mon Sep 17 00:00:00 2001"
"""The date in what `git format-patch` writes, which is a mailbox by name only."""
_OF_MAIL = frozenset((b"received", b"message-id", b"mime-version", b"return-path"))


def _by_beginning(suffix: str, head: bytes) -> str:
    """The kind of a text whose name tells nothing, empty where it is any text. Mail that is kept message by message is
    called by numbers and hosts; what else has a suffix is no page."""
    if not suffix and _A_PAGE.match(head):
        return "html"
    if head.startswith(b"From "):
        return "mbox" if _A_MAILBOX.match(head) and _OF_PATCHES not in head[:200] else ""
    at = 0
    names: set[bytes] = set()
    while (line := _A_HEADER.match(head, at)) and (line[1] or names):
        names.add((line[1] or b"").lower())
        at = line.end()
    return "eml" if b"from" in names and names & _OF_MAIL else ""


def _foreign(suffix: str) -> Format | None:
    return None if suffix in _BY_SUFFIX else third_party().get(suffix)


@cache
def third_party() -> dict[str, Format]:
    """Suffix → reader of an installed package. One for a suffix of the table is left out; two for the same: the first
    by name of the package's entry."""
    found: dict[str, Format] = {}
    for suffix, reader, _ in offered():
        if suffix not in _BY_SUFFIX and suffix not in TEXT_SUFFIXES:
            found.setdefault(suffix, Format(suffix[1:], reader, (suffix,), foreign=True))
    return found


def offered() -> list[tuple[str, str, str]]:
    """Suffix, reader and package of each entry point, in the order that decides."""
    from importlib.metadata import entry_points

    points = sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value))
    return [("." + p.name.lower().lstrip("."), p.value, p.dist.name if p.dist else "") for p in points]
