"""Page text of a PDF, in a worker process of its own: PDFium is C++ reading hostile files, and not thread-safe.

PDFium keeps a table's row label and its numbers on one line (92 % against pypdf's 53 %) and reads 370 pages a
CPU-second against 24. pypdf takes over where no PDFium wheel exists.

Run as a program this file is the worker: it reads paths from stdin, one JSON string a line, and answers each with
frames of 4 bytes length and UTF-8 text, one a page, then a frame of length 0xFFFFFFFF, then one line of JSON. It
imports nothing of this package.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

END = 0xFFFFFFFF
FRAME = struct.Struct("<I")
MEMORY_BYTES = 2 << 30
ENCRYPTED, NO_TEXT, DAMAGED = "encrypted", "no text layer", "damaged PDF: no page can be read"
_PR_SET_PDEATHSIG = 1


class Problem(Exception):
    """Why a PDF gives no text, in words for the manifest."""


def pages(path: str) -> Iterator[str | None]:
    """The text of each page, in order; None for a page that is damaged. Raises `Problem`."""
    try:
        import pypdfium2
    except ImportError:
        yield from _pages_by_pypdf(path)
        return
    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        raise Problem(ENCRYPTED if "password" in str(error).lower() else f"damaged PDF: {error}") from error
    try:
        for number in range(len(document)):
            try:
                page = document[number]
                text = page.get_textpage()
                said = text.get_text_bounded()
                text.close()
                page.close()
            except pypdfium2.PdfiumError:
                said = None
            yield said
    finally:
        document.close()


def _pages_by_pypdf(path: str) -> Iterator[str | None]:
    import pypdf
    from pypdf.errors import PyPdfError

    try:
        reader = pypdf.PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise Problem(ENCRYPTED)
        for page in reader.pages:
            try:
                said = page.extract_text()
            except Exception:  # pypdf raises whatever a damaged page leads it to
                said = None
            yield said
    except PyPdfError as error:
        raise Problem(f"damaged PDF: {error}") from error


def main() -> None:
    """Answer paths until stdin ends. A page that brings the process down costs its file; the supervisor says so."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the host's to handle
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What a library prints must not end up between the frames.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        _answer(json.loads(line), out)
        out.flush()


def _answer(path: str, out: BinaryIO) -> None:
    problem = ""
    said = False
    damaged = []
    try:
        for number, page in enumerate(pages(path), 1):
            if page is None:
                damaged.append(number)
            data = (page or "").replace("\x00", "").encode("utf-8", "replace")
            said = said or bool(data.strip())
            out.write(FRAME.pack(len(data)) + data)
    except Problem as error:
        problem = str(error)
    except MemoryError:
        problem = "needs too much memory"
    except Exception as error:  # whatever a parser makes of a hostile file
        problem = f"damaged PDF: {type(error).__name__}"
    if not problem and not said:
        problem = DAMAGED if damaged else NO_TEXT
    report = {"problem": problem, "damaged": damaged} | ({} if problem else _identity(path))
    out.write(FRAME.pack(END) + json.dumps(report).encode() + b"\n")


def _identity(path: str) -> dict[str, object]:
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"sha256": digest, "bytes": file.tell()}


if __name__ == "__main__":
    main()
