"""The text of bytes whose encoding somebody declared: a page's `<meta>`, a mail's `charset=`. Declarations lie.

A BOM says more than a declaration, and so does UTF-8 that is valid beyond ASCII: nothing else looks like it by chance.
"""

from __future__ import annotations

import codecs

from .text import bom, detect

_MEANT = {"iso8859-1": "cp1252", "ascii": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "iso8859-9": "cp1254"}
"""What those who declare it mean, as browsers know: the wider encoding of the same family."""

_NOT_MEANT = frozenset(
    ("idna", "punycode", "raw_unicode_escape", "raw-unicode-escape", "unicode_escape", "unicode-escape")
)
"""Codecs of Python that no file is in."""


def decoded(data: bytes, declared: str | None = None, override: str | None = None) -> str:
    """`data` as text, in `override` where the user set one. Bytes that cannot be decoded become U+FFFD."""
    if override:
        return data.decode(override, "replace")
    if marked := bom(data):
        return data.decode(marked, "replace")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    encoding = known(declared)
    if text and (not data.isascii() or encoding in ("utf-8", "cp1252", "")):
        return text
    if encoding in ("", "utf-8"):
        encoding = "utf-8" if encoding and _mostly_utf8(data) else detect(data)
    return data.decode(encoding, "replace")


def known(name: str | None) -> str:
    """The codec of a declared encoding as it is meant; empty for none that decodes bytes to text."""
    name = (name or "").strip().strip("'\"")
    try:
        b"ab".decode(name)
        codec = codecs.lookup(name)
    except (LookupError, ValueError):
        return ""
    if codec.name in _NOT_MEANT:
        return ""
    return _MEANT.get(codec.name, codec.name)


def _mostly_utf8(data: bytes) -> bool:
    text = data.decode("utf-8", "replace")
    beyond = sum(not character.isascii() for character in text)
    return 2 * text.count("\ufffd") <= beyond
