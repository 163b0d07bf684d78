"""Text that others wrote, made fit for a terminal. The only place: every view and `cli` show foreign text through it.

What a model or a document says may hold control sequences: titles, links (OSC 8), the clipboard (OSC 52), the
alternate screen, bidirectional overrides that turn a line around. Rich lets most of them pass. `clean` removes escape
sequences whole, then single control characters, and spells out the invisible ones that change what is read
(`\\u202e`), lone surrogates too, which no stream can encode. U+200D stays: it joins emoji.

Rejected: an allow-list of printable characters (it would eat scripts newer than this Python), and `repr`.
"""

from __future__ import annotations

import json
import re
import unicodedata

ESCAPES = re.compile(
    "(?:\x1b[P^_X\\]]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c]{0,65536}(?:\x07|\x1b\\\\|\x9c|(?=\x1b))"  # OSC, DCS …
    "|(?:\x1b\\[|\x9b)[\x30-\x3f]*[\x20-\x2f]*[\x40-\x7e]"  # CSI
    "|\x1b[\x20-\x2f]*[\x30-\x7e]"  # the short ones
)
UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f]"
)


def clean(text: str) -> str:
    """`text` without anything a terminal would obey; newlines and tabs stay. Encodable as UTF-8."""
    if "\x1b" in text or UNSAFE.search(text):
        text = ESCAPES.sub("", text)
        text = UNSAFE.sub(lambda m: f"\\u{ord(m[0]):04x}" if ord(m[0]) > 0x9F else "", text)
    return text


def safe_json(text: str) -> str:
    """JSON on one line, its texts unchanged for who reads it as JSON: what a terminal would obey is escaped there."""
    return UNSAFE.sub(lambda m: json.dumps(m[0])[1:-1], text)


def one_line(text: str, most: int = 400) -> str:
    """`clean`, on one line, white space collapsed, for labels: at most `most` characters of a text of any length."""
    return " ".join(clean(text[: 4 * most]).split())[:most]


GIST_CHARS = 4_000
"""The end of a prompt in which its last line is looked for."""


def gist(prompt: str, most: int) -> str:
    """What a prompt asks, on one line: its last line, since the question stands after the text."""
    lines = clean(prompt[-GIST_CHARS:]).split("\n")
    return shortened(one_line(next((line for line in reversed(lines) if line.strip()), "")), most)


def cells(text: str) -> int:
    """Columns that clean one-line text takes up, near enough to align by: wide characters are two, marks none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) or unicodedata.category(c) in ("Mn", "Me", "Cf")
        else 2 if unicodedata.east_asian_width(c) in "WF"
        else 1
        for c in text
    )  # fmt: skip


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Clean one-line text with spaces up to `width` columns; `right`: before it."""
    space = " " * (width - cells(text))
    return space + text if right else text + space


def shortened(text: str, most: int) -> str:
    """The beginning and the end of one-line text longer than `most` characters, with an ellipsis between."""
    if len(text) <= most:
        return text
    tail = most // 4
    return f"{text[: most - tail - 1].rstrip()}…{text[-tail:].lstrip()}"
