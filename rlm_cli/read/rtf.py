"""Rich Text: control words between the words, and a group in braces for all that is not the page.

A reader of our own: striprtf, the library there is, leaves out footnotes, headers, comments and text boxes, and needs
the whole file as text twice over. Here what is not text by its control word is skipped (`_SKIPPED`), and so is every
group marked `\\*` that is not known.

Text is in the code page of its font, else of the file; `\\u` stands before a replacement for old readers.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from .pieces import Options, Piece, Unreadable

_TOKEN = re.compile(
    rb"\\([a-zA-Z]{1,32})(-?\d{1,9})? ?|\\'([0-9a-fA-F]{2})|\\(.)|([{}])|[\r\n]+|([^\\{}\r\n]+)|\\", re.S
)
_SKIPPED = frozenset(
    "colortbl stylesheet listtable listoverridetable info pict objdata objclass objname objalias sp xe tc txe rxe"
    " shprslt nonesttables upr fontemb filetbl generator operator bkmkstart bkmkend nonshppict ftnsep ftnsepc aftnsep"
    " aftnsepc ftncn aftncn revtbl rsidtbl themedata colorschememapping datastore latentstyles pn template".split()
)
_KNOWN = frozenset(
    "fldinst annotation atnauthor shpinst do shppict ud nesttableprops shptxt footnote listtext pntext".split()
)
"""Groups marked `\\*` that are not skipped."""
_ASIDES = {"footnote", "annotation"} | {
    f"{side}{page}" for side in ("header", "footer") for page in ("", "l", "r", "f")
}
_SAID = {
    **{"tab": "\t", "line": "\n", "emdash": "—", "endash": "–", "emspace": " ", "enspace": " ", "qmspace": " "},
    **{
        "bullet": "•",
        "lquote": "‘",
        "rquote": "’",
        "ldblquote": "“",
        "rdblquote": "”",
        "nestcell": " ",
        "nestrow": " ",
    },
}
_SYMBOLS = {"~": "\xa0", "_": "‑", "{": "{", "}": "}", "\\": "\\", "\n": "\n", "\r": "\n"}
_CHARSETS = {
    **{0: "cp1252", 77: "mac_roman", 128: "cp932", 129: "cp949", 130: "johab", 134: "gbk", 136: "cp950", 161: "cp1253"},
    **{162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874"},
    **{238: "cp1250", 254: "cp437", 255: "cp850"},
}
_FAMILIES = {"mac": "mac_roman", "pc": "cp437", "pca": "cp850"}
_HYPERLINK = re.compile(r'HYPERLINK\s+"([^"]+)"')
_DEPTH = 10_000


@dataclass(slots=True)
class _Sink:
    """Where words go: the page, a note, a header."""

    kind: str = ""
    words: list[str] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    in_table: bool = False

    def paragraph(self) -> None:
        if self.in_table:
            self.words.append(" ")
        else:
            self.lines.append("".join(self.words).rstrip())
            self.words.clear()

    def cell(self) -> None:
        self.cells.append(" ".join("".join(self.words).split()))
        self.words.clear()

    def row(self) -> None:
        self.lines.append("\t".join(self.cells).rstrip())
        self.cells.clear()

    def rest(self) -> None:
        if self.cells:
            self.cell()
            self.row()
        elif self.words:
            self.in_table = False
            self.paragraph()


@dataclass(slots=True)
class _Group:
    """What holds inside a pair of braces."""

    sink: _Sink
    skipped: bool = False
    fonts: bool = False
    instruction: bool = False
    author: bool = False
    encoding: str = ""
    replacements: int = 1
    deleted: bool = False
    link: str = ""


def rtf(file: BinaryIO, options: Options) -> Iterator[Piece]:
    """The text of a Rich Text file: the page, then its notes, comments, headers and footers."""
    data = file.read()
    if not data.lstrip().startswith(b"{\\rtf"):
        raise Unreadable("damaged: no rich text")
    reading = _Reading(options.encoding or "cp1252", bool(options.encoding))
    yield from reading.told(data)


class _Reading:
    def __init__(self, encoding: str, fixed: bool) -> None:
        self._encoding = encoding
        self._fixed = fixed
        """The user knows the encoding better than the file."""
        self._fonts: dict[int, str] = {}
        self._font = 0
        """The font that is being defined."""
        self._page = _Sink()
        self._now = _Group(self._page)
        self._outer: list[_Group] = []
        self._raw = bytearray()
        """Bytes of the text that are not decoded yet: a character may be spread over several words."""
        self._dropping = 0
        self._starred = False
        self._instructions: list[str] = []
        self._notes = 0
        self._asides: list[str] = []
        self._author: list[str] = []

    def told(self, data: bytes) -> Iterator[str]:
        place = 0
        match = _TOKEN.match
        while place < len(data) and (token := match(data, place)):
            place = token.end()
            word, number, byte, symbol, brace, text = token.groups()
            if text is not None:
                self._text(text)
            elif word is not None:
                if word == b"bin":
                    place += max(0, int(number or 0))
                elif not self._now.skipped or word in (b"f", b"fcharset"):
                    self._word(word.decode(), int(number) if number is not None else None)
            elif byte is not None:
                self._text(bytes((int(byte, 16),)))
            elif brace == b"{":
                self._open()
            elif brace == b"}":
                self._close()
                if not self._outer:
                    break
            elif symbol is not None:
                self._symbol(symbol.decode("latin-1"))
            if len(self._page.lines) > 200:
                yield self._finished(self._page)
        while self._outer:
            self._close()
        self._flush()
        self._page.rest()
        yield self._finished(self._page)
        yield from dict.fromkeys(self._asides)

    @staticmethod
    def _finished(sink: _Sink) -> str:
        text = "".join(f"{line}\n" for line in sink.lines)
        sink.lines.clear()
        return text

    def _say(self, text: str) -> None:
        now = self._now
        if now.skipped or now.fonts:
            return
        if now.instruction:
            self._instructions[-1:] = [(self._instructions[-1] if self._instructions else "") + text]
        elif now.author:
            self._author.append(text)
        else:
            now.sink.words.append(text)

    def _text(self, text: bytes) -> None:
        dropped = min(self._dropping, len(text))
        self._dropping -= dropped
        if not (self._now.skipped or self._now.fonts):
            self._raw += text[dropped:]

    def _flush(self) -> None:
        if self._raw:
            self._say(self._raw.decode(self._now.encoding or self._encoding, "replace"))
            self._raw.clear()

    def _open(self) -> None:
        self._flush()
        self._dropping = 0
        if len(self._outer) >= _DEPTH:
            raise Unreadable("damaged: nested too deep")
        self._outer.append(self._now)
        self._now = replace(self._now)

    def _close(self) -> None:
        self._flush()
        self._dropping = 0
        if not self._outer:
            return
        inner, self._now = self._now, self._outer.pop()
        if inner.instruction and not self._now.instruction and self._instructions:
            link = _HYPERLINK.search(self._instructions.pop())
            self._now.link = link[1] if link else ""  # told when the field ends: its result comes first
        if inner.link and inner.link != self._now.link:
            self._say(f" ({inner.link})")
        if inner.deleted and not self._now.deleted:
            self._say("]")
        if inner.sink is not self._now.sink:
            self._finish_aside(inner.sink)

    def _finish_aside(self, sink: _Sink) -> None:
        sink.rest()
        text = " ".join(" ".join(sink.lines).split())
        if not text:
            return
        if sink.kind == "footnote":
            label = f"[^{self._notes}]"
        elif sink.kind == "annotation":
            by = ", ".join(word for word in (f"comment {self._notes}", "".join(self._author).strip()) if word)
            self._author.clear()
            label = f"[{by}]"
        else:
            label = f"[{sink.kind[:6]}]"
        self._asides.append(f"{label} {text}\n")

    def _symbol(self, symbol: str) -> None:
        self._flush()
        self._dropping = 0
        if symbol == "*":
            self._starred = True
        elif symbol in "\r\n":
            self._now.sink.paragraph() if not self._now.skipped else None
        elif symbol in _SYMBOLS:
            self._say(_SYMBOLS[symbol])

    def _word(self, word: str, number: int | None) -> None:
        now = self._now
        if word == "u":
            self._character(number or 0)
            return
        self._flush()
        self._dropping = 0
        starred, self._starred = self._starred, False
        if word in _SKIPPED or (starred and word not in _KNOWN):
            now.skipped = True
        elif word in _SAID:
            self._say(_SAID[word])
        elif word in ("par", "sect", "page"):
            now.sink.paragraph()
        elif word == "cell":
            now.sink.cell()
        elif word == "row":
            now.sink.row()
        elif word == "pard":
            now.sink.in_table = False
        elif word == "intbl":
            now.sink.in_table = number != 0
        elif word in _ASIDES:
            self._begin_aside(word)
        elif word == "deleted":
            self._delete(number != 0)
        elif word == "plain":
            self._delete(False)
        elif word == "fldinst":
            now.instruction = True
            self._instructions.append("")
        elif word == "atnauthor":
            now.author = True
        elif word == "ud":
            now.skipped = False
        elif word == "uc":
            now.replacements = max(0, min(number or 0, 16))
        else:
            self._encode(word, number)

    def _delete(self, on: bool) -> None:
        if on != self._now.deleted:
            self._say("[deleted: " if on else "]")
            self._now.deleted = on

    def _begin_aside(self, word: str) -> None:
        if word in ("footnote", "annotation"):
            self._notes += 1
            self._say(f"[^{self._notes}]" if word == "footnote" else f"[comment {self._notes}]")
        self._now.sink = _Sink(word)

    def _character(self, number: int) -> None:
        if self._raw:
            self._flush()
        code = number % 0x10000
        if 0xDC00 <= code < 0xE000 and (words := self._now.sink.words) and len(words[-1]) == 1:
            high = ord(words[-1])
            if 0xD800 <= high < 0xDC00:
                words[-1] = chr(0x10000 + ((high - 0xD800) << 10) + code - 0xDC00)
                self._dropping = self._now.replacements
                return
        self._say(chr(code))
        self._dropping = self._now.replacements

    def _encode(self, word: str, number: int | None) -> None:
        """Words that say in which code page the bytes are."""
        if self._fixed:
            return
        if word == "ansicpg" and number:
            self._encoding = _code_page(number) or self._encoding
        elif word in _FAMILIES:
            self._encoding = _FAMILIES[word]
        elif word == "fonttbl":
            self._now.fonts = True
        elif word == "f" and number is not None:
            self._font = number
            if not self._now.fonts:
                self._now.encoding = self._fonts.get(number, "")
        elif word == "fcharset" and self._now.fonts and number in _CHARSETS:
            # Fonts of the first charset are in the code page of the file, whatever it is.
            self._fonts[self._font] = _CHARSETS[number] if number else ""
        elif word == "cpg" and self._now.fonts and number:
            self._fonts[self._font] = _code_page(number)


def _code_page(number: int) -> str:
    name = {10000: "mac_roman", 65001: "utf-8", 936: "gbk", 1361: "johab"}.get(number, f"cp{number}")
    try:
        return codecs.lookup(name).name
    except LookupError:
        return ""
