"""HTML as somebody sees it: the visible text in reading order, a block a line, a table's row a line.

Links keep their targets, pictures their alternative texts, lists their numbers. Nothing is taken for decoration and
left out: extractors of the main content lose 16 to 23 % of the words.

selectolax (MIT, 8 MB) parses as browsers do; the standard library's parser guesses otherwise where tags are wrong. Its
time grows with the square of the nesting (100,000 open elements: 40 s), so a page with more than `_MOST_OPEN` elements
that are never closed is told without its layout: its words, where the tags were a space.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from .charsets import decoded
from .lines import Lines
from .pieces import Options, Piece, Unreadable
from .text import HEAD_BYTES, refused

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

_UNSEEN = frozenset("-comment !doctype script style template iframe object audio video canvas head datalist".split())
_INLINE = frozenset(
    "a abbr acronym b bdi bdo big br button cite code data del dfn em font i img input ins kbd label map mark meter"
    " nobr noscript output picture progress q rb rp rt ruby s samp slot small source span strike strong sub sup time tt"
    " u var wbr math mi mn mo mrow msup msub mfrac svg".split()
)
_DECLARED = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?([\w:.-]{2,40})|<\?xml[^>]{0,80}encoding=["']([\w.-]{2,40})""", re.I
)
_DECLARED_WITHIN = 4096
_BATCH_LINES = 50
_MOST_OPEN = 10_000
_TAG = re.compile(r"<(/?)(?!(?:p|li|td|th|tr|dt|dd|option|br|hr|img|input|meta|link|col|wbr|area|a)[\s/>])[a-z]", re.I)
"""The beginning of a tag that nests: not of an element that ends by itself."""
_ANY_TAG = re.compile(r"<[a-zA-Z/!?][^<>]*>")
_SPACE = re.compile(r"[ \t\n\f\r]+")
_NO_SIGHT = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.I)


def html(file: BinaryIO, options: Options) -> Iterator[Piece]:
    """The visible text of a page, after its title."""
    data = file.read()
    if reason := refused(data[:HEAD_BYTES]):
        raise Unreadable(reason)
    yield from text_of(data, options.encoding)


def text_of(data: bytes, override: str | None = None, declared: str | None = None) -> Iterator[str]:
    """The visible text of a page. `declared`: the encoding a mail says it has."""
    from selectolax.lexbor import LexborHTMLParser

    meta = _DECLARED.search(data[:_DECLARED_WITHIN])
    named = (meta[1] or meta[2]).decode("ascii", "replace") if meta else declared
    text = decoded(data, declared or named, override)
    if _deep(text):
        yield _ANY_TAG.sub(" ", text)
        return
    root = LexborHTMLParser(text).root
    if root is not None:
        yield from _Walk().told(root)


def _deep(text: str) -> bool:
    closes = _TAG.findall(text)
    return len(closes) - 2 * closes.count("/") > _MOST_OPEN


class _Walk:
    """Over the tree from start to end without recursion: pages nest as deep as they like."""

    def __init__(self) -> None:
        self._lines = Lines()
        self._spaced = True
        """What was said last ends with white space, so more of it is not seen."""
        self._verbatim = 0
        self._lists: list[int | None] = []
        self._links: list[str] = []

    def told(self, root: LexborNode) -> Iterator[str]:
        title = root.css_first("head > title")
        if title is not None and (words := " ".join(title.text().split())):
            yield f"{words}\n"
        node: LexborNode | None = root
        while node is not None:
            tag = node.tag or ""
            if tag == "-text":
                self._say(node.text_content or "")
            else:
                child = node.first_child if self._begin(node, tag) else None
                if child is not None:
                    node = child
                    continue
                self._end(node, tag)
            while (following := node.next) is None:
                parent = node.parent
                if parent is None or parent.mem_id == root.mem_id:
                    break
                node = parent
                self._end(node, node.tag or "")
            node = following
            if self._lines.finished > _BATCH_LINES:
                yield self._lines.take()
        self._break()
        yield self._lines.take()

    def _say(self, text: str) -> None:
        if not self._verbatim:
            text = _SPACE.sub(" ", text)
            if self._spaced:
                text = text[1:] if text.startswith(" ") else text
        if text:
            if not self._lines.in_paragraph:
                self._lines.begin_paragraph()
            self._lines.say(text)
            self._spaced = text[-1].isspace()

    def _lead(self, link: str) -> None:
        if self._lines.in_paragraph:
            self._lines.link(link)
            self._spaced = False
        else:  # it held blocks, which are finished
            self._say(f"({link})")

    def _break(self) -> None:
        self._lines.end_paragraph()
        self._spaced = True

    def _begin(self, node: LexborNode, tag: str) -> bool:
        """Whether what is inside is to be seen."""
        if tag in _UNSEEN:
            return False
        attributes = node.attributes
        if attributes and ("hidden" in attributes or _NO_SIGHT.search(attributes.get("style") or "")):
            return False
        if tag not in _INLINE:
            self._break()
        match tag:
            case "br":
                self._lines.begin_paragraph() if not self._lines.in_paragraph else None
                self._break()
            case "pre" | "textarea" | "listing":
                self._verbatim += 1
            case "tr":
                self._lines.begin_row()
            case "td" | "th":
                self._lines.begin_cell()
            case "ol":
                self._lists.append(_number(attributes.get("start"), 1))
            case "ul" | "menu":
                self._lists.append(None)
            case "li":
                self._item(attributes.get("value"))
            case "a":
                self._links.append(attributes.get("href") or "")
            case "img" | "area":
                if words := " ".join((attributes.get("alt") or "").split()):
                    self._say(f" [image: {words}] ")
            case "input" if attributes.get("type") not in ("hidden", "password", "checkbox", "radio"):
                self._say(f" {attributes.get('value') or attributes.get('placeholder') or ''} ")
        return True

    def _item(self, value: str | None) -> None:
        if not self._lists or self._lists[-1] is None:
            self._lines.prefix = "- "
            return
        number = _number(value, self._lists[-1])
        self._lists[-1] = number + 1
        self._lines.prefix = f"{number}. "

    def _end(self, node: LexborNode, tag: str) -> None:
        match tag:
            case "pre" | "textarea" | "listing":
                self._verbatim = max(0, self._verbatim - 1)
            case "a" if self._links:
                link = self._links.pop().strip()
                if link and not link.startswith(("#", "javascript:", "data:")):
                    self._lead(link)
            case "ol" | "ul" | "menu" if self._lists:
                self._lists.pop()
        if tag not in _INLINE and tag != "-comment":
            self._break()
        if tag == "li":
            self._lines.prefix = ""
        elif tag == "tr":
            self._lines.end_row()
        elif tag in ("td", "th"):
            self._lines.end_cell(_number(node.attributes.get("colspan"), 1))


def _number(text: str | None, default: int) -> int:
    return int(text) if text and re.fullmatch(r"\d{1,6}", text) else default
