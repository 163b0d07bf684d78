"""The text of a PDF, page by page. PDFium is C++ reading hostile files, and not thread-safe: this runs in a worker.

PDFium keeps a table's row label and its numbers on one line (92 % against pypdf's 53 %) and reads 370 pages a
CPU-second against 24. pypdf takes over where no PDFium wheel exists, for the pages' text alone.

What PDFium's page text lacks (`beside.py`) stands at the end of its page: form fields, comments, links. The outline and
the title stand at the end of the last page, since they mostly repeat what a page says, and a quote should be found
there first.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from .pieces import ENCRYPTED, NO_TEXT, Options, Page, Piece, Unreadable

if TYPE_CHECKING:
    from .ocr import Tesseract

_HYPHENS = str.maketrans({"\x02": "-", "￾": "-"})
"""What PDFium writes for a hyphen at the end of a line."""


def pdf(file: BinaryIO, options: Options) -> Iterator[Piece]:
    """The text of each page, then the files attached. Raises `Unreadable`."""
    try:
        import pypdfium2
    except ImportError:
        yield from _by_pypdf(file, options)
        return
    from . import beside

    logging.getLogger("pypdfium2").setLevel(logging.ERROR)  # that a form is of a kind it does not fill in
    document = _opened(pypdfium2, file, options)
    try:
        if document.get_formtype():
            document.init_forms()
        seeing = _tesseract(options)
        seen: list[tuple[str, bytes]] = []
        said = False
        text = ""
        for number in range(len(document)):
            try:
                page = document[number]
            except pypdfium2.PdfiumError:
                yield Page(damaged=True)
                continue
            try:
                text = _text(page, seeing)
                asides = beside.page(document, page, text, seen)
            except pypdfium2.PdfiumError:
                yield Page(damaged=True)
                continue
            finally:
                page.close()
            yield Page()
            said = said or bool(text.strip() or asides.written)
            yield text
            if asides.written or asides.links:
                yield _after(text) + asides.written + asides.links
                text = ""
        if not said:
            if options.ocr and seeing is None:
                raise Unreadable(f"{NO_TEXT}, and no tesseract to read it")
            return
        for line in beside.document(document):
            yield _after(text) + line
            text = ""
        yield from beside.attached(document, seen)
    finally:
        document.close()


def _opened(pypdfium2: Any, file: BinaryIO, options: Options) -> Any:
    # By its path where it has one: PDFium then reads it itself, without a call back for every piece.
    named = getattr(file, "name", None)
    by_path = isinstance(named, str) and not named.startswith("/proc/")  # which leads to a file without a name
    for password in (None, *options.passwords):
        file.seek(0)
        try:
            return pypdfium2.PdfDocument(named if by_path else file, password=password)
        except pypdfium2.PdfiumError as error:
            if "password" not in str(error).lower():
                raise Unreadable(f"damaged PDF: {error}") from error
    raise Unreadable(ENCRYPTED)


def _text(page: Any, seeing: Tesseract | None) -> str:
    words = page.get_textpage()
    try:
        text = str(words.get_text_bounded()).translate(_HYPHENS)
    finally:
        words.close()
    if seeing is not None and not text.strip():
        text = seeing.page(page)
    return text


def _after(text: str) -> str:
    """What keeps the next line apart from what the page said."""
    return "\n" if text and not text.endswith("\n") else ""


def _tesseract(options: Options) -> Tesseract | None:
    if not options.ocr:
        return None
    from .ocr import tesseract

    return tesseract()


def _by_pypdf(file: BinaryIO, options: Options) -> Iterator[Piece]:
    import pypdf
    from pypdf.errors import PyPdfError

    try:
        reader = pypdf.PdfReader(file)
        if reader.is_encrypted and not any(reader.decrypt(password) for password in ("", *options.passwords)):
            raise Unreadable(ENCRYPTED)
        for page in reader.pages:
            try:
                said = page.extract_text()
            except Exception:  # pypdf raises whatever a damaged page leads it to
                yield Page(damaged=True)
                continue
            yield Page()
            yield said
    except PyPdfError as error:
        raise Unreadable(f"damaged PDF: {error}") from error
