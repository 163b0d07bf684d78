"""XML as a stream of events, and the zip files that office documents are.

Names come without their namespaces: `w:p` and `a:p` are both a paragraph, strict and transitional files differ in
nothing else, and one reader serves them all. Of attributes only those of relationships keep a mark (`r:id`).

Expat directly: ElementTree would build trees of parts that may be gigabytes, and does not let a document that
declares entities be refused. External entities are never fetched: nobody handles them.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import BinaryIO
from xml.parsers import expat

from .formats import OLE
from .pieces import ENCRYPTED, Unreadable

Event = tuple[str, str, Mapping[str, str]]
"""`("<", name, attributes)`, `(">", name, {})` or `("", text, {})`."""

DAMAGE = (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError)
"""What comes of reading a member that is damaged."""
_NONE: dict[str, str] = {}


def events(file: BinaryIO, only: frozenset[str] | None = None) -> Iterator[Event]:
    """What stands in an XML file, while it is read; of elements `only` these. Raises `Unreadable` for what is no XML or
    declares entities."""
    found: list[Event] = []
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.buffer_size = 1 << 16

    def start(name: str, attributes: dict[str, str]) -> None:
        name = name[name.rfind(" ") + 1 :]
        if only is None or name in only:
            found.append(("<", name, _local(attributes) if attributes else _NONE))

    def end(name: str) -> None:
        name = name[name.rfind(" ") + 1 :]
        if only is None or name in only:
            found.append((">", name, _NONE))

    def refuse(*_: object) -> None:
        raise Unreadable("XML that declares entities")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = lambda text: found.append(("", text, _NONE))
    parser.EntityDeclHandler = refuse
    while True:
        try:
            chunk = file.read(1 << 16)
        except DAMAGE as error:
            raise Unreadable("damaged zip") from error
        try:
            parser.Parse(chunk, not chunk)
        except expat.ExpatError as error:
            yield from found
            raise Unreadable(f"damaged XML: {expat.errors.messages.get(error.code, 'not well formed')}") from error
        yield from found
        found.clear()
        if not chunk:
            return


def opened(file: BinaryIO) -> zipfile.ZipFile:
    """The zip file a document is. Raises `Unreadable`."""
    try:
        return zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        if locked(file):
            raise Unreadable(ENCRYPTED) from error
        file.seek(0)
        raise Unreadable("unsupported type (old office file)" if file.read(8) in OLE else "damaged zip") from error


def locked(file: BinaryIO) -> bool:
    """Whether it is an encrypted office document: an old office file, with the zip inside."""
    file.seek(0)
    if file.read(8) not in OLE:
        return False
    return any("EncryptedPackage".encode("utf-16-le") in chunk for chunk in iter(lambda: file.read(1 << 20), b""))


def part(archive: zipfile.ZipFile, name: str) -> BinaryIO:
    """A member. Raises `Unreadable` where it is missing or locked."""
    try:
        return archive.open(name)  # type: ignore[return-value]
    except KeyError as error:
        raise Unreadable(f"damaged: {name[:80]} is missing") from error
    except RuntimeError as error:
        raise Unreadable(ENCRYPTED) from error
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise Unreadable("damaged zip") from error


def _local(attributes: dict[str, str]) -> dict[str, str]:
    return {
        ("r:" if "/relationships " in name else "") + name[name.rfind(" ") + 1 :]: value
        for name, value in attributes.items()
    }
