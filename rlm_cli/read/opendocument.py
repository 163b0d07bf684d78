"""Texts and presentations of OpenOffice and LibreOffice: one XML part with everything in it, and the page headers in
another.

Notes and comments stand inside the sentence they belong to; a mark is left there and they come at the end, as in Word
files. Deleted text is kept apart at the beginning and told where it stood.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from .lines import Lines
from .markup import events, opened, part
from .pieces import ENCRYPTED, Options, Page, Piece, Unreadable

_PARAGRAPHS = frozenset(("p", "h", "math"))
_LABELLED = {"header": "[header] ", "footer": "[footer] ", "header-left": "[header] ", "footer-left": "[footer] "}
_MANY_SPACES = 200


def odt(file: BinaryIO, options: Options) -> Iterator[Piece]:
    """The text of an OpenDocument text."""
    with opened(file) as archive:
        _refuse_locked(archive)
        told = _Telling()
        yield from _tell(told, part(archive, "content.xml"))
        yield from told.notes
        for name in dict.fromkeys(told.objects):
            yield from _aside(told, archive, f"{name}/content.xml")
        yield from _aside(told, archive, "styles.xml", only="master-styles")


def odp(file: BinaryIO, options: Options) -> Iterator[Piece]:
    """The text of an OpenDocument presentation: a slide a page."""
    with opened(file) as archive:
        _refuse_locked(archive)
        told = _Telling(pages=True)
        yield from _tell(told, part(archive, "content.xml"))
        yield from told.notes
        for name in dict.fromkeys(told.objects):
            yield from _aside(told, archive, f"{name}/content.xml")


def _refuse_locked(archive: zipfile.ZipFile) -> None:
    if "META-INF/manifest.xml" in archive.namelist():
        for kind, name, _ in events(part(archive, "META-INF/manifest.xml")):
            if kind == "<" and name == "encryption-data":
                raise Unreadable(ENCRYPTED)


@dataclass(slots=True)
class _Telling:
    """Where in a part we are, and what is told at its end."""

    pages: bool = False
    only: str = ""
    """Nothing is told outside of this element."""
    lines: Lines = field(default_factory=Lines)
    notes: list[str] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)
    deleted: dict[str, str] = field(default_factory=dict)
    regions: list[str] = field(default_factory=list)
    captures: list[str] = field(default_factory=list)
    """The marks of the notes that are open."""
    links: list[str] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)
    noted: int = 0
    silent: int = 0
    aside: list[str] | None = None
    """Words of an element that stands outside of paragraphs: a picture's title, a comment's author."""
    author: str = ""


def _aside(now: _Telling, archive: zipfile.ZipFile, name: str, only: str = "") -> Iterator[Piece]:
    if name not in archive.namelist():
        return
    now.only = only
    try:
        yield from _tell(now, part(archive, name))
    except Unreadable:
        yield f"[could not be read: {name}]\n"


def _tell(now: _Telling, file: BinaryIO) -> Iterator[Piece]:
    inside = 0 if now.only else 1
    for kind, name, said in events(file):
        if name == now.only and kind:
            inside += 1 if kind == "<" else -1
        if not inside:
            continue
        if now.silent:
            now.silent += (kind == "<") - (kind == ">")
        elif kind == "<":
            if name == "page" and now.pages:
                yield now.lines.take()
                yield from now.notes
                now.notes.clear()
                yield Page()
            _begin(now, name, said)
        elif kind == ">":
            _end(now, name)
            if name in _PARAGRAPHS and not now.captures and (text := now.lines.take()):
                yield text
        elif now.aside is not None:
            now.aside.append(name)
        else:
            now.lines.say(name.replace("\n", " ").replace("\t", " "))  # what is meant to be seen has elements
    yield now.lines.take()


def _begin(now: _Telling, name: str, said: Mapping[str, str]) -> None:
    lines = now.lines
    match name:
        case "p" | "h" | "math":
            lines.begin_paragraph()
        case "s":
            lines.say(" " * min(_number(said.get("c")), _MANY_SPACES))
        case "tab":
            lines.say("\t")
        case "line-break":
            lines.say("\n")
        case "a":
            now.links.append(said.get("href", ""))
        case "table-row":
            lines.begin_row()
        case "table-cell" | "covered-table-cell":
            now.columns.append(_number(said.get("number-columns-repeated")))
            lines.begin_cell()
        case "note" | "annotation":
            _begin_note(now, name, said)
        case "note-citation" | "creator-initials" | "sender-initials" | "binary-data":
            now.silent = 1
        case "date" if not lines.in_paragraph or now.captures:  # of a change or a comment; elsewhere a field
            now.silent = 1
        case "creator" | "title" | "desc":
            now.aside = []
        case "changed-region":
            now.regions.append(said.get("id", ""))
            lines.capture()
        case "change":
            if text := now.deleted.get(said.get("change-id", "")):
                lines.say(f"[deleted: {text}]")
        case "object":
            now.objects.append(said.get("href", "").removeprefix("./").strip("/"))
        case "notes":
            lines.prefix = "[notes] "
        case _ if name in _LABELLED:
            lines.prefix = _LABELLED[name]


def _end(now: _Telling, name: str) -> None:
    lines = now.lines
    match name:
        case "p" | "h" | "math":
            lines.end_paragraph()
        case "a" if now.links:
            link = now.links.pop()
            if link and not link.startswith("#"):
                lines.link(link)
        case "table-row":
            lines.end_row()
        case "table-cell" | "covered-table-cell" if now.columns:
            lines.end_cell(now.columns.pop())
        case "note" | "annotation" if now.captures:
            mark = now.captures.pop()
            if name == "annotation" and now.author:
                mark = f"{mark[:-1]}, {now.author}]"
                now.author = ""
            text = " ".join(" ".join(lines.captured()).split())
            now.notes.append(f"{mark} {text}\n")
        case "creator" if now.aside is not None:
            now.author, now.aside = "".join(now.aside).strip(), None
        case "title" | "desc" if now.aside is not None:
            _picture(lines, " ".join("".join(now.aside).split()))
            now.aside = None
        case "notes":
            lines.prefix = ""
        case _ if name in _LABELLED:
            lines.prefix = ""
        case "changed-region" if now.regions:
            text = " ".join(" ".join(lines.captured()).split())
            now.author = ""
            if text:
                now.deleted[now.regions.pop()] = text


def _begin_note(now: _Telling, name: str, said: Mapping[str, str]) -> None:
    now.noted += 1
    if name == "annotation":
        mark = f"[comment {now.noted}]"
    else:
        mark = f"[^{'e' if said.get('note-class') == 'endnote' else ''}{now.noted}]"
    now.lines.say(mark)
    now.captures.append(mark)
    now.author = ""
    now.lines.capture()


def _picture(lines: Lines, words: str) -> None:
    if words and lines.in_paragraph:
        lines.say(f" [image: {words}] ")
    elif words:
        lines.begin_paragraph()
        lines.say(f"[image: {words}]")
        lines.end_paragraph()


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 7 else 1
