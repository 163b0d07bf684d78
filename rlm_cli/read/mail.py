"""Mail: the headers people read, the text, and attachments as documents inside.

Of alternatives the plain one is told, the HTML where there is no other. The standard library parses, in its old manner
(`compat32`): the newer one raises on what mail programs really write, and takes long over hostile headers.

A mailbox is read message by message; none is held longer than it is told.
"""

from __future__ import annotations

import io
import mimetypes
import re
from collections.abc import Iterator
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import Header, decode_header
from email.message import Message
from email.parser import BytesParser
from typing import BinaryIO

from .charsets import decoded, known
from .pieces import Inside, Options, Piece, Unreadable
from .web import text_of

_HEADERS = ("From", "To", "Cc", "Bcc", "Reply-To", "Date", "Subject")
_FROM = re.compile(rb"From .*\d:\d\d.*\d{4}")
_QUOTED = re.compile(rb">+From ")
_BETWEEN = re.compile(r"(\?=)\s+(=\?)")
MOST_BYTES = 256 << 20
"""Of one message in a mailbox; what is longer is cut, and says so."""
_DEPTH = 50


def eml(file: BinaryIO, options: Options) -> Iterator[Piece]:
    """One message."""
    yield from _message(BytesParser().parse(file), options)


def mbox(file: BinaryIO, options: Options) -> Iterator[Piece]:
    """A mailbox: each message a document called by its number, from 1. Raises `Unreadable` where it holds none."""
    number = 0
    for number, raw in enumerate(_split(file), 1):
        yield Inside(str(number), pieces=_message(message_from_bytes(raw), options))
    if not number:
        raise Unreadable("no message in it")


def _split(file: BinaryIO) -> Iterator[bytes]:
    """The messages. Some writers quote `From ` in the text, some quote what is quoted too: one `>` goes."""
    held: list[bytes] | None = None
    size = 0
    blank = True
    while line := file.readline(1 << 20):
        if blank and line.startswith(b"From ") and _FROM.match(line):
            if held is not None:
                yield b"".join(held)
            held, size = [], 0
        elif held is not None:
            size += len(line)
            if size <= MOST_BYTES:
                held.append(line[1:] if _QUOTED.match(line) else line)
            elif size - len(line) <= MOST_BYTES:
                held.append(b"\n[cut: longer than a message may be]\n")
        blank = line in (b"\n", b"\r\n")
    if held is not None:
        yield b"".join(held)


def _message(message: Message, options: Options) -> Iterator[Piece]:
    for name in _HEADERS:
        for value in message.get_all(name, [])[:50]:
            yield f"{name}: {_header(value)}\n"
    yield "\n"
    attached: list[Message] = []
    yield from _body(message, options, attached)
    inside = list(_named(attached))
    for name, _, _ in inside:
        yield f"[attachment: {name}]\n"
    for name, kind, part in inside:
        yield Inside(name, _content(part), kind=kind)


def _named(attached: list[Message]) -> Iterator[tuple[str, str, Message]]:
    """Each attachment with a name of its own, and its kind."""
    names: dict[str, int] = {}
    for number, part in enumerate(attached, 1):
        name, kind = _name(part, number)
        names[name] = names.get(name, 0) + 1
        if names[name] > 1:
            stem, dot, suffix = name.rpartition(".")
            name = f"{stem} ({names[name]}).{suffix}" if dot else f"{name} ({names[name]})"
        yield name, kind, part


def _body(message: Message, options: Options, attached: list[Message], depth: int = 0) -> Iterator[str]:
    """The text that is seen on opening the message; the rest goes to `attached`."""
    kind = message.get_content_type()
    parts = _parts(message)
    if kind == "message/rfc822" or not parts:
        if (kind in ("text/plain", "text/html") and message.get_content_disposition() != "attachment") or (
            kind == "text/plain" and depth == 0
        ):
            yield from _text(message, kind, options)
        else:
            attached.append(message)
        return
    if depth > _DEPTH:
        yield "[parts nested deeper than this are left out]\n"
        return
    if kind == "message/delivery-status":
        for part in parts:
            yield "".join(f"{name}: {_header(value)}\n" for name, value in part.items()) + "\n"
        return
    if kind == "multipart/alternative":
        parts = _chosen(parts)
    for part in parts:
        yield from _body(part, options, attached, depth + 1)


def _parts(message: Message) -> list[Message]:
    payload = message.get_payload()
    return [part for part in payload if isinstance(part, Message)] if isinstance(payload, list) else []


def _chosen(parts: list[Message]) -> list[Message]:
    """Of alternatives the plain text that says something, else the HTML; what is neither stays an attachment."""
    others = [part for part in parts if part.get_content_maintype() not in ("text", "multipart")]
    others += [part for part in parts if part.get_content_type() == "text/calendar"]
    for wanted in ("text/plain", "text/html", ""):
        for part in parts:
            if any(each.get_content_type() == wanted and _data(each).strip() for each in part.walk()) or not wanted:
                return [part, *(other for other in others if other is not part)]
    return others


def _text(part: Message, kind: str, options: Options) -> Iterator[str]:
    data, charset = _data(part), part.get_content_charset()
    if kind == "text/html":
        yield from text_of(data, options.encoding, charset)
    else:
        text = decoded(data, charset, options.encoding).replace("\r\n", "\n")
        yield text if text.endswith("\n") else f"{text}\n"


def _data(part: Message) -> bytes:
    """What a part holds, its transfer encoding undone."""
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _content(part: Message) -> BinaryIO:
    if part.get_content_maintype() in ("multipart", "message"):
        inner = _parts(part)
        return io.BytesIO(b"".join(map(_whole, inner)) if inner else _data(part))
    data = _data(part)
    plain = part.get_content_maintype() == "text" and part.get_content_subtype() not in ("html", "xml", "rtf")
    if plain and known(part.get_content_charset()):
        data = decoded(data, part.get_content_charset()).encode("utf-8", "replace")
    return io.BytesIO(data)


def _whole(message: Message) -> bytes:
    try:
        return message.as_bytes()
    except (ValueError, LookupError, KeyError, TypeError, AttributeError):
        # The library cannot write again some of the malformed mail it could read.
        head = "".join(f"{name}: {_header(value)}\n" for name, value in message.items())
        return head.encode("utf-8", "replace") + b"\n" + _data(message)


def _name(part: Message, number: int) -> tuple[str, str]:
    """What an attachment is called, and a suffix that tells its format where the name does not."""
    try:
        name = part.get_filename() or ""
    except (ValueError, LookupError, TypeError):
        name = ""
    said = part.get_content_type()
    kind = ".eml" if said == "message/rfc822" else mimetypes.guess_extension(said) or ""
    name = re.sub(r"[\x00-\x1f\x7f]+|^\.+$", "", _header(name)).replace("/", "_").replace("\\", "_").strip()
    if not name and kind == ".eml" and (inner := _parts(part)):
        name = re.sub(r"[/\\]", "_", _header(inner[0].get("Subject", "")))[:80].strip()
    name = name.lstrip(".") or f"part-{number}{kind}"  # a dot hides files; what somebody sent is not hidden
    return name, ("" if re.search(r"\.\w{1,5}$", name) else kind)


def _header(value: object) -> str:
    """A header's text: encoded words decoded, on one line."""
    text = _BETWEEN.sub(r"\1\2", str(value).replace("\r", "").replace("\n", " "))
    try:
        words = [
            said if isinstance(said, str) else decoded(said, charset if charset != "unknown-8bit" else None)
            for said, charset in decode_header(value if isinstance(value, Header) else text)
        ]
    except (HeaderParseError, ValueError, LookupError, TypeError):
        words = [text]
    return re.sub(r"\s+", " ", "".join(words)).encode("utf-8", "replace").decode().strip()
