"""Books: chapters of HTML in the order of the spine, as one document."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from typing import BinaryIO
from urllib.parse import unquote

from .markup import DAMAGE, events, opened, part
from .pieces import ENCRYPTED, Options, Piece, Unreadable
from .web import text_of


def epub(file: BinaryIO, options: Options) -> Iterator[Piece]:
    """The text of a book. One whose chapters are locked by its seller is encrypted; obfuscated fonts do no harm."""
    with opened(file) as archive:
        package = _package(archive)
        chapters = _spine(archive, package)
        locked = _locked(archive)
        for name in chapters:
            if name in locked:
                raise Unreadable(ENCRYPTED)
            try:
                with part(archive, name) as chapter:
                    yield from text_of(chapter.read(), options.encoding)
            except (Unreadable, *DAMAGE):
                yield f"[could not be read: {name}]\n"


def _package(archive: zipfile.ZipFile) -> str:
    if "META-INF/container.xml" in archive.namelist():
        for kind, name, said in events(part(archive, "META-INF/container.xml")):
            if kind == "<" and name == "rootfile" and said.get("full-path"):
                return said["full-path"]
    for name in archive.namelist():
        if name.endswith(".opf"):
            return name
    raise Unreadable("damaged: no book in it")


def _spine(archive: zipfile.ZipFile, package: str) -> list[str]:
    """The chapters' names in the archive."""
    folder = posixpath.dirname(package)
    items: dict[str, str] = {}
    order: list[str] = []
    for kind, name, said in events(part(archive, package)):
        if kind == "<" and name == "item":
            items[said.get("id", "")] = posixpath.normpath(posixpath.join(folder, unquote(said.get("href", ""))))
        elif kind == "<" and name == "itemref":
            order.append(said.get("idref", ""))
    return [items[each] for each in dict.fromkeys(order) if each in items]


def _locked(archive: zipfile.ZipFile) -> set[str]:
    if "META-INF/encryption.xml" not in archive.namelist():
        return set()
    parsed = events(part(archive, "META-INF/encryption.xml"))
    return {unquote(said.get("URI", "")) for kind, name, said in parsed if kind == "<" and name == "CipherReference"}
