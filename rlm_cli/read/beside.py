"""What a PDF says beside the text on its pages: form fields, comments, links, outline, title, attached files.

By PDFium's own functions, which cost a page without any of it a microsecond; pypdf would parse the whole file again.
"""

from __future__ import annotations

import ctypes
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from .pieces import Inside

MOST = 10_000
"""Of annotations on a page and of entries in an outline; hostile files have more."""
_DEPTH = 32
_MOST_TEXT = 1 << 24
_CHECKED = {2: "checkbox", 3: "radio button"}
_PUSHED = 1
_ABOUT = ("Title", "Author", "Subject", "Keywords")


@dataclass(frozen=True, slots=True)
class Asides:
    """Lines for the end of a page. `written`: what somebody wrote; `links`: targets that the text does not tell."""

    written: str = ""
    links: str = ""


def page(document: Any, page: Any, text: str, files: list[tuple[str, bytes]]) -> Asides:
    """What stands on a page and not in its `text`. Files pinned to it are added to `files`."""
    import pypdfium2.raw as raw

    count = min(raw.FPDFPage_GetAnnotCount(page.raw), MOST)
    if count <= 0:
        return Asides()
    written: dict[str, None] = {}
    links: dict[str, None] = {}
    together = "".join(text.split())
    for number in range(count):
        annotation = raw.FPDFPage_GetAnnot(page.raw, number)
        if not annotation:
            continue
        try:
            kind = raw.FPDFAnnot_GetSubtype(annotation)
            if kind == raw.FPDF_ANNOT_LINK:
                link = _target(raw, document, annotation)
                if link and "".join(link.split()) not in together:
                    links[f"[link] {link}\n"] = None
            elif kind == raw.FPDF_ANNOT_WIDGET:
                if line := _field(raw, document, annotation, text):
                    written[line] = None
            elif kind != raw.FPDF_ANNOT_POPUP:
                if line := _comment(raw, annotation, text):
                    written[line] = None
                if kind == raw.FPDF_ANNOT_FILEATTACHMENT and (file := _pinned(raw, annotation)):
                    files.append(file)
        finally:
            raw.FPDFPage_CloseAnnot(annotation)
    return Asides("".join(written), "".join(links))


def document(document: Any) -> Iterator[str]:
    """What is said about the whole: its title and the like, its outline."""
    for key in _ABOUT:
        if value := _line(document.get_metadata_value(key)):
            yield f"[{key.lower()}] {value}\n"
    entries = list(_outline(document))
    if entries:
        yield "[outline]\n"
        yield from entries


def attached(document: Any, pinned: list[tuple[str, bytes]]) -> Iterator[Inside]:
    """The files in it, those that are pinned to pages after the others."""
    from pypdfium2 import PdfiumError

    for number in range(min(document.count_attachments(), MOST)):
        attachment = document.get_attachment(number)
        name = _file_name(attachment.get_name(), number)
        try:
            data = bytes(attachment.get_data())
        except PdfiumError:
            data = b""
        yield Inside(name, io.BytesIO(data))
    for number, (name, data) in enumerate(pinned):
        yield Inside(_file_name(name, number), io.BytesIO(data))


def _outline(document: Any) -> Iterator[str]:
    """Entries as they are indented, with their pages. PDFium's own walk, as pypdfium2 does it, recurs and warns."""
    import pypdfium2.raw as raw

    seen: set[int] = set()
    waiting = [(raw.FPDFBookmark_GetFirstChild(document.raw, None), 0)]
    while waiting and len(seen) < MOST:
        entry, depth = waiting.pop()
        if not entry or (address := ctypes.addressof(entry.contents)) in seen:
            continue
        seen.add(address)
        title = _line(_string(partial(raw.FPDFBookmark_GetTitle, entry)))
        place = raw.FPDFBookmark_GetDest(document.raw, entry)
        number = raw.FPDFDest_GetDestPageIndex(document.raw, place) if place else -1
        if title:
            yield f"{'  ' * depth}- {title}" + (f", page {number + 1}\n" if number >= 0 else "\n")
        waiting.append((raw.FPDFBookmark_GetNextSibling(document.raw, entry), depth))
        if depth < _DEPTH:
            waiting.append((raw.FPDFBookmark_GetFirstChild(document.raw, entry), depth + 1))


def _target(raw: Any, document: Any, annotation: Any) -> str:
    link = raw.FPDFAnnot_GetLink(annotation)
    action = raw.FPDFLink_GetAction(link) if link else None
    if not action or raw.FPDFAction_GetType(action) != raw.PDFACTION_URI:
        return ""
    size = raw.FPDFAction_GetURIPath(document.raw, action, None, 0)
    if not 0 < size <= _MOST_TEXT:
        return ""
    buffer = ctypes.create_string_buffer(size)
    raw.FPDFAction_GetURIPath(document.raw, action, buffer, size)
    return _line(buffer.raw[: size - 1].decode("utf-8", "replace"))


def _field(raw: Any, document: Any, annotation: Any, text: str) -> str:
    """`[field] its name: its value`; empty for one that holds nothing or whose value the page's text tells."""
    form = document.formenv
    if form is None:
        return ""
    kind = raw.FPDFAnnot_GetFormFieldType(form, annotation)
    if kind == _PUSHED:
        return ""
    if kind in _CHECKED and not raw.FPDFAnnot_IsChecked(form, annotation):
        return ""
    asked = raw.FPDFAnnot_GetFormFieldExportValue if kind in _CHECKED else raw.FPDFAnnot_GetFormFieldValue
    value = _string(lambda buffer, size: asked(form, annotation, buffer, size))
    name = _string(lambda buffer, size: raw.FPDFAnnot_GetFormFieldAlternateName(form, annotation, buffer, size))
    name = name or _string(lambda buffer, size: raw.FPDFAnnot_GetFormFieldName(form, annotation, buffer, size))
    value = " ⏎ ".join(filter(None, map(_line, value.splitlines())))
    return f"[field] {_line(name)}: {value}\n" if value else ""


def _comment(raw: Any, annotation: Any, text: str) -> str:
    said = _string(lambda buffer, size: raw.FPDFAnnot_GetStringValue(annotation, b"Contents", buffer, size))
    said = " ⏎ ".join(filter(None, map(_line, said.splitlines())))
    if not said:
        return ""
    author = _line(_string(lambda buffer, size: raw.FPDFAnnot_GetStringValue(annotation, b"T", buffer, size)))
    return f"[comment{', ' if author else ''}{author}] {said}\n"


def _pinned(raw: Any, annotation: Any) -> tuple[str, bytes] | None:
    if not hasattr(raw, "FPDFAnnot_GetFileAttachment"):  # PDFium of before 2024
        return None
    attachment = raw.FPDFAnnot_GetFileAttachment(annotation)
    size = ctypes.c_ulong()
    if not attachment or not raw.FPDFAttachment_GetFile(attachment, None, 0, size) or not size.value:
        return None
    buffer = ctypes.create_string_buffer(size.value)
    raw.FPDFAttachment_GetFile(attachment, buffer, size.value, size)
    return _string(lambda words, most: raw.FPDFAttachment_GetName(attachment, words, most)), buffer.raw


def _string(ask: Callable[[Any, int], int]) -> str:
    """A string as PDFium hands it over: its size in bytes first, then UTF-16 with a NUL at the end."""
    size = ask(None, 0)
    if not 2 < size <= _MOST_TEXT:
        return ""
    buffer = ctypes.create_string_buffer(size)
    ask(ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ushort)), size)
    return buffer.raw[: size - 2].decode("utf-16-le", "replace")


def _line(text: str) -> str:
    return " ".join(text.split())


def _file_name(name: str, number: int) -> str:
    return _line(name).replace("/", "_").replace("\\", "_").strip(". ") or f"attachment-{number + 1}"
