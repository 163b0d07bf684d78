"""One URL to one file that is read like any other: fetched within bounds, or named with the reason why not.

At most ten redirects, each checked (`connect.py`); a limit of bytes that holds for what comes out of the decoder, so a
bomb of a megabyte is stopped where its gigabyte begins; a deadline for the whole that a server which drips a byte a
second does not outlast (`incoming.py` shuts its socket down). The body goes to an unnamed file: memory stays what one
chunk takes, and what breaks off half-way never reaches the corpus as a shorter document.

gzip and deflate are asked for and decoded here; what a server packs otherwise, unasked, is not read. Nothing is kept
of cookies, nothing is cached, nothing is asked twice.
"""

from __future__ import annotations

import codecs
import http.client
import re
import socket
import ssl
import zlib
from collections.abc import Iterator
from contextlib import closing
from http import HTTPStatus
from typing import IO

from .. import __version__
from ..trust import proxy_for
from .addresses import Address, Allowance, parse
from .connect import Cut, Line, basic, connect, proxy_headers
from .incoming import CHUNK, Fetched, new_file
from .pieces import Unreadable

MOST_REDIRECTS = 10
KINDS = {
    "application/epub+zip": ".epub",
    "application/gzip": ".gz",
    "application/json": ".json",
    "application/mbox": ".mbox",
    "application/msword": ".doc",
    "application/pdf": ".pdf",
    "application/rtf": ".rtf",
    "application/vnd.ms-excel": ".xls",
    "application/vnd.ms-excel.sheet.binary.macroenabled.12": ".xlsb",
    "application/vnd.ms-powerpoint": ".ppt",
    "application/vnd.oasis.opendocument.presentation": ".odp",
    "application/vnd.oasis.opendocument.spreadsheet": ".ods",
    "application/vnd.oasis.opendocument.text": ".odt",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/x-bzip2": ".bz2",
    "application/x-gzip": ".gz",
    "application/x-ipynb+json": ".ipynb",
    "application/x-tar": ".tar",
    "application/x-xz": ".xz",
    "application/xhtml+xml": ".html",
    "application/zip": ".zip",
    "application/zstd": ".zst",
    "message/rfc822": ".eml",
    "text/html": ".html",
    "text/rtf": ".rtf",
}
"""Content type → suffix. Whatever else a server says is found out by the bytes."""
_PACKED = re.compile(r"\.t?gz$", re.IGNORECASE)
_MARKUP = re.compile(rb"\s*(\xef\xbb\xbf)?\s*<")


def fetch(url: str, allowance: Allowance, cut: Cut) -> Fetched:
    """The file at a URL. `cut` ends it at once, from another thread. Raises `Unreadable`."""
    try:
        return _fetch(parse(url), allowance, cut)
    except Unreadable:
        cut.check()
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        cut.check()  # a socket that was shut down fails in many ways
        raise Unreadable(_words(error)) from error


def _fetch(address: Address, allowance: Allowance, cut: Cut) -> Fetched:
    named, from_public = address, False
    for _ in range(MOST_REDIRECTS + 1):
        line = connect(address, cut, from_public=from_public)
        from_public = from_public or line.public
        with closing(line.http), closing(_ask(line, address)) as response:
            location = response.headers.get("Location", "")
            if response.status in (301, 302, 303, 307, 308) and location:
                try:
                    address = address.follow(location.encode("latin-1", "replace").decode("utf-8", "replace"))
                except ValueError as error:
                    raise Unreadable(f"it redirects to where nothing is read ({error})") from error
                continue
            if response.status != 200:
                raise Unreadable(_status(response.status))
            return _received(response, (named, address), allowance, cut)
    raise Unreadable(f"more than {MOST_REDIRECTS} redirects")


def _ask(line: Line, address: Address) -> http.client.HTTPResponse:
    headers = {
        "Host": address.place,
        "User-Agent": f"rlm/{__version__}",
        "Accept": "*/*",
        "Accept-Encoding": "gzip, deflate",
        "Connection": "close",
    }
    if address.user is not None:
        headers["Authorization"] = basic(*address.user)
    target = address.target
    if line.proxied:
        target = address.url
        headers |= proxy_headers(proxy_for(address.url) or "")
    line.http.putrequest("GET", target, skip_host=True, skip_accept_encoding=True)
    for name, value in headers.items():
        line.http.putheader(name, value)
    line.http.endheaders()
    return line.http.getresponse()


def _received(
    response: http.client.HTTPResponse, addresses: tuple[Address, Address], allowance: Allowance, cut: Cut
) -> Fetched:
    """The body in a file. `addresses`: the one that was named and the one it came from."""
    says = response.headers.get_content_type()
    kind = KINDS.get(says, "") or _suffix(response, addresses)
    charset = _charset(response)
    if (response.length or 0) > allowance.bytes:
        raise allowance.too_large
    file = new_file()
    try:
        size, head, is_utf8 = _save(_decoded(response, addresses[0], allowance, cut), file, charset is not None)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    encoding = None if is_utf8 or head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else charset
    return Fetched(file, size, kind, kind == ".html" and _MARKUP.match(head) is not None, encoding)


def _save(chunks: Iterator[bytes], file: IO[bytes], watch: bool) -> tuple[int, bytes, bool]:
    """Bytes, the first of them, and with `watch` whether all of them are UTF-8: servers name an encoding by default
    that many of their files are not in, and nothing else is UTF-8 by chance."""
    decoder = codecs.getincrementaldecoder("utf-8")() if watch else None
    size, head, is_utf8 = 0, b"", True
    for chunk in chunks:
        head = head if len(head) >= 256 else head + chunk[:256]
        size += len(chunk)
        try:
            if decoder is not None and is_utf8:
                decoder.decode(chunk)
        except UnicodeDecodeError:
            is_utf8 = False
        try:
            file.write(chunk)
        except OSError as error:
            raise Unreadable(f"there is no room for it on disk ({error.strerror})") from error
    file.flush()
    return size, head, is_utf8


def _decoded(response: http.client.HTTPResponse, named: Address, allowance: Allowance, cut: Cut) -> Iterator[bytes]:
    coding = response.headers.get("Content-Encoding", "identity").strip().lower()
    raw = _raw(response, cut)
    if coding in ("gzip", "x-gzip") and _PACKED.search(named.path):
        coding = "identity"  # servers say so of files that are packed as they are
    if coding in ("gzip", "x-gzip", "deflate"):
        chunks = _inflated(raw, coding, cut)
    elif coding in ("identity", ""):
        chunks = raw
    else:
        raise Unreadable(f"packed as {coding[:20]!r}, which nobody asked for")
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > allowance.bytes:
            raise allowance.too_large
        yield chunk


def _raw(response: http.client.HTTPResponse, cut: Cut) -> Iterator[bytes]:
    while chunk := response.read1(CHUNK):
        cut.check()
        yield chunk
    cut.check()  # a socket that was shut down ends like any other
    if response.length:
        raise Unreadable("it broke off half-way")


def _inflated(raw: Iterator[bytes], coding: str, cut: Cut) -> Iterator[bytes]:
    """What is packed, piece by piece: never more than a chunk comes out at once."""
    inner = None
    for data in raw:
        while data:
            if inner is None:
                inner = _inflater(coding, data)
            yield inner.decompress(data, CHUNK)
            cut.check()
            data = inner.unconsumed_tail
            if inner.eof:  # several gzip streams in a row are one
                data, inner = inner.unused_data, None
                if data and (coding == "deflate" or not data.startswith(b"\x1f\x8b")):
                    return
    if inner is not None:
        yield inner.flush()
        if not inner.eof:
            raise Unreadable("it broke off half-way")


def _inflater(coding: str, data: bytes) -> zlib._Decompress:
    if coding != "deflate":
        return zlib.decompressobj(31)
    # Some servers leave out the header that the standard wants.
    return zlib.decompressobj(15 if data[0] & 0x0F == 8 and data[0] >> 4 <= 7 else -15)


def _suffix(response: http.client.HTTPResponse, addresses: tuple[Address, Address]) -> str:
    """By the name a server would have it saved under, else by the last redirect's path."""
    name = response.headers.get_filename() or addresses[1].path
    found = re.search(r"(\.tar)?\.[A-Za-z0-9]{1,8}$", name)
    return found[0].lower() if found else ""


def _charset(response: http.client.HTTPResponse) -> str | None:
    """The encoding a server names, where Python knows it and it says more than could be found out."""
    charset = response.headers.get_content_charset() or ""
    try:
        found = codecs.lookup(charset)
    except (LookupError, ValueError):
        return None
    name = "cp1252" if found.name == "iso8859-1" else found.name  # as browsers have it
    return name if found._is_text_encoding and name not in ("utf-8", "ascii") else None


def _status(code: int) -> str:
    try:
        return f"{HTTPStatus(code).phrase.lower()} ({code})"
    except ValueError:
        return f"the server answers {code}"


def _words(error: Exception) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"the server's certificate is not trusted ({error.verify_message})"
        case ssl.SSLError():
            return f"no secure connection ({(error.reason or 'TLS failed').replace('_', ' ').lower()})"
        case socket.gaierror():
            return "no such host" if error.errno != socket.EAI_AGAIN else "its host's name could not be looked up"
        case TimeoutError():
            return "the server does not answer"
        case http.client.IncompleteRead() | ConnectionResetError() | http.client.RemoteDisconnected():
            return "it broke off half-way"
        case OSError():
            return f"unreachable ({error.strerror or type(error).__name__})"
        case http.client.HTTPException():
            return f"the server does not speak HTTP ({type(error).__name__})"
    return "the server sends what cannot be read"
