"""Word and PowerPoint files: a zip of XML parts that name one another by relationships.

Everything somebody wrote is text: the body in its order, tables a row a line, then footnotes, endnotes, comments,
headers and footers; deleted text stays, marked. A slide is a page, with its notes and comments. Documents embedded in
them are documents inside.

Rejected: python-docx and python-pptx, which build a tree of the whole file and know nothing of text boxes, comments or
tracked changes; markitdown, which brings hundreds of megabytes.

Confessed: numbers that Word counts itself (`4.2 (a)` before a heading or a list item) are not in the file and not in
the text; formulas lose their layout but for `/`, `^` and `_`; prompts of a slide's layout are left out.
"""

from __future__ import annotations

import posixpath
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from .lines import Lines
from .markup import events, opened, part
from .pieces import Inside, Options, Page, Piece, Unreadable

_SPOKEN = frozenset(("t", "delText", "text"))
_MATHS = {"den": "/", "sup": "^", "sub": "_"}
_BREAKS = {"br": "\n", "cr": "\n", "tab": "\t", "ptab": "\t", "noBreakHyphen": "-"}
_NOTES = frozenset(("footnote", "endnote", "comment", "cm"))
_DELETED = frozenset(("del", "moveFrom"))
_HYPERLINK = re.compile(r'\s*HYPERLINK\s+"([^"]+)"')


@dataclass(frozen=True, slots=True)
class _Relation:
    """`kind`: the last word of its type, such as `footnotes`; `target`: a part's name, or a link where `external`."""

    kind: str
    target: str
    external: bool


def docx(file: BinaryIO, options: Options) -> Iterator[Piece]:
    """The text of a Word document (also with macros, also a template)."""
    with opened(file) as archive:
        main = _main(archive, "word/document.xml")
        related = _relations(archive, main)
        yield from _told(part(archive, main), related)
        for kind in ("footnotes", "endnotes", "comments", "header", "footer", "diagramData", "chart"):
            for relation in _of(related, kind):
                label = f"[{kind}] " if kind in ("header", "footer") else ""
                yield from _aside(archive, relation.target, label)
        yield from _embedded(archive, related)


def pptx(file: BinaryIO, options: Options) -> Iterator[Piece]:
    """The text of a presentation: a slide a page."""
    with opened(file) as archive:
        main = _main(archive, "ppt/presentation.xml")
        related = _relations(archive, main)
        authors = _authors(archive, related)
        embedded: dict[str, _Relation] = {}
        for kind, name, attributes in events(part(archive, main)):
            if kind == "<" and name == "sldId" and (slide := related.get(attributes.get("r:id", ""))):
                yield Page()
                its = _relations(archive, slide.target)
                yield from _slide(archive, slide.target, its, authors)
                embedded |= {relation.target: relation for relation in its.values()}
        yield from _embedded(archive, embedded)


def _slide(
    archive: zipfile.ZipFile, name: str, related: Mapping[str, _Relation], authors: Mapping[str, str]
) -> Iterator[Piece]:
    yield from _told(part(archive, name), related)
    for kind in ("diagramData", "chart"):
        for relation in _of(related, kind):
            yield from _aside(archive, relation.target)
    for relation in _of(related, "notesSlide"):
        yield from _aside(archive, relation.target, "[notes] ")
    for relation in _of(related, "comments"):
        yield from _aside(archive, relation.target, authors=authors)


def _main(archive: zipfile.ZipFile, usual: str) -> str:
    if usual in archive.namelist():
        return usual
    return next((relation.target for relation in _of(_relations(archive, ""), "officeDocument")), usual)


def _relations(archive: zipfile.ZipFile, name: str) -> dict[str, _Relation]:
    """What a part refers to, by id; of the whole file for an empty name."""
    folder, base = posixpath.split(name)
    found: dict[str, _Relation] = {}
    rels = posixpath.join(folder, "_rels", f"{base}.rels")
    if rels not in archive.namelist():
        return found
    for kind, tag, said in events(part(archive, rels)):
        if kind == "<" and tag == "Relationship":
            target, external = said.get("Target", ""), said.get("TargetMode") == "External"
            if not external:
                target = posixpath.normpath(posixpath.join(folder, target)).lstrip("/")
            found[said.get("Id", "")] = _Relation(posixpath.basename(said.get("Type", "")), target, external)
    return found


def _of(related: Mapping[str, _Relation], kind: str) -> list[_Relation]:
    """The parts of one kind, each once, as they are numbered."""
    ours = {relation.target: relation for relation in related.values() if relation.kind == kind}
    return [ours[target] for target in sorted(ours, key=lambda target: (len(target), target))]


def _aside(
    archive: zipfile.ZipFile, name: str, label: str = "", authors: Mapping[str, str] | None = None
) -> Iterator[str]:
    """A part beside the main one. A damaged one costs itself only, and says so."""
    try:
        yield from _told(part(archive, name), _relations(archive, name), label, authors)
    except Unreadable:
        yield f"[could not be read: {name}]\n"


def _authors(archive: zipfile.ZipFile, related: Mapping[str, _Relation]) -> dict[str, str]:
    """Who commented on slides, by number or id."""
    found: dict[str, str] = {}
    for relation in (*_of(related, "commentAuthors"), *_of(related, "authors")):
        for kind, _, said in events(part(archive, relation.target)):
            if kind == "<" and "name" in said:
                found[said.get("id", "")] = said["name"]
    return found


def _embedded(archive: zipfile.ZipFile, related: Mapping[str, _Relation]) -> Iterator[Piece]:
    for relation in _of(related, "package"):
        if relation.target in archive.namelist():
            with part(archive, relation.target) as file:
                yield Inside(posixpath.basename(relation.target), file)


@dataclass(slots=True)
class _Telling:
    """Where in a part we are."""

    related: Mapping[str, _Relation]
    label: str
    authors: Mapping[str, str]
    lines: Lines = field(default_factory=Lines)
    speaking: bool = False
    skipping: int = 0
    choices: list[bool] = field(default_factory=list)
    """Of each alternative content that is open: whether the first choice was there."""
    deleted: list[bool] = field(default_factory=list)
    """Of each deletion that is open: whether anything of it was said."""
    links: list[str] = field(default_factory=list)
    fields: list[list[str]] = field(default_factory=list)
    instruction: bool = False
    run_link: str = ""
    last_link: str = ""


def _told(
    file: BinaryIO,
    related: Mapping[str, _Relation],
    label: str = "",
    authors: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """The text of one part, paragraph by paragraph. `label` stands before each paragraph."""
    now = _Telling(related, label, authors or {})
    for kind, name, said in events(file, _TOLD):
        if now.skipping:
            now.skipping += (kind == "<") - (kind == ">")
        elif kind == "<":
            _begin(now, name, said)
        elif kind == ">":
            _end(now, name)
            if name in ("p", "tr", "ser", "cm") and (text := now.lines.take()):
                yield text
        elif now.speaking:
            _say(now, name)
        elif now.instruction and now.fields:
            now.fields[-1].append(name)
    yield now.lines.take()


def _say(now: _Telling, text: str) -> None:
    if now.deleted and not now.deleted[-1]:
        now.deleted[-1] = True
        now.lines.say("[deleted: ")
    now.lines.say(text)


def _begin(now: _Telling, name: str, said: Mapping[str, str]) -> None:
    lines = now.lines
    if name in _SPOKEN:
        now.speaking = True
        if name == "text":  # of an old comment on a slide, which has no paragraphs
            lines.begin_paragraph()
    elif name == "p" or name == "ser":
        lines.prefix = lines.prefix or now.label
        lines.begin_paragraph()
    elif name == "v" and lines.in_paragraph:  # a value of a chart
        lines.say("\t")
        now.speaking = True
    elif name in _BREAKS:
        lines.say(_BREAKS[name])
    elif name in _MATHS:
        lines.say(_MATHS[name])
    elif name == "r":
        now.run_link = ""
    elif begin := _BEGIN.get(name):
        begin(now, said)
    elif name in _NOTES:
        _begin_note(now, name, said)
    elif name in _DELETED:
        now.deleted.append(False)
    elif name in _SKIPPED or (name == "Fallback" and now.choices and now.choices[-1]):
        now.skipping = 1


def _end(now: _Telling, name: str) -> None:
    lines = now.lines
    if name in _SPOKEN or name == "v":
        now.speaking = False
        if name == "text":
            lines.end_paragraph()
    elif name == "p" or name == "ser":
        now.last_link = ""
        lines.end_paragraph()
    elif name == "r":
        if now.run_link and now.run_link != now.last_link:
            lines.link(now.run_link)
            now.last_link = now.run_link
        now.run_link = ""
    elif name == "tr":
        lines.end_row()
    elif name == "tc":
        lines.end_cell()
    elif name == "instrText":
        now.instruction = False
    elif name == "hyperlink" and now.links:
        if link := now.links.pop():
            lines.link(link)
    elif name in _DELETED and now.deleted:
        if now.deleted.pop():
            lines.say("]")
    elif name == "AlternateContent" and now.choices:
        now.choices.pop()


def _begin_note(now: _Telling, name: str, said: Mapping[str, str]) -> None:
    if said.get("type", "normal") != "normal":  # the lines between text and notes
        now.skipping = 1
    elif name in ("footnote", "endnote"):
        now.lines.prefix = f"{_mark(name, said)} "
    else:
        author = said.get("author") or now.authors.get(said.get("authorId", ""), "")
        by = ", ".join(word for word in (f"comment {said.get('id', '')}".strip(), author) if word)
        now.lines.prefix = f"[{by}] "


def _mark(name: str, said: Mapping[str, str]) -> str:
    return f"[^{'e' if name.startswith('endnote') else ''}{said.get('id', '')}]"


def _field(now: _Telling, said: Mapping[str, str]) -> None:
    """A field's instruction comes first, its result, which is text, after; a link's target is in the instruction."""
    if said.get("fldCharType") == "begin":
        now.fields.append([])
    elif said.get("fldCharType") == "end" and now.fields:
        link = _HYPERLINK.match("".join(now.fields.pop()))
        if link:
            now.lines.link(link[1])


def _instruct(now: _Telling, said: Mapping[str, str]) -> None:
    now.instruction = True


def _picture(now: _Telling, said: Mapping[str, str]) -> None:
    if words := " ".join(said.get("descr", "").split()):
        if now.lines.in_paragraph:
            now.lines.say(f" [image: {words}] ")
        else:
            now.lines.begin_paragraph()
            now.lines.say(f"[image: {words}]")
            now.lines.end_paragraph()


def _target(now: _Telling, said: Mapping[str, str]) -> str:
    relation = now.related.get(said.get("r:id", ""))
    return relation.target if relation and relation.external else ""


def _click(now: _Telling, said: Mapping[str, str]) -> None:
    now.run_link = _target(now, said)


def _choice(now: _Telling, said: Mapping[str, str]) -> None:
    if now.choices:
        now.choices[-1] = True


def _symbol(now: _Telling, said: Mapping[str, str]) -> None:
    try:
        now.lines.say(chr(int(said.get("char", ""), 16)))
    except (ValueError, OverflowError):
        return


def _hidden_slide(now: _Telling, said: Mapping[str, str]) -> None:
    if said.get("show") in ("0", "false"):
        now.lines.prefix = "[hidden slide] "


def _counted(now: _Telling, said: Mapping[str, str]) -> None:
    if said.get("type") == "slidenum" and now.label:  # of the notes' own page
        now.skipping = 1


_SKIPPED = frozenset(("tabs", "glossaryDocument"))
_BEGIN: dict[str, Callable[[_Telling, Mapping[str, str]], None]] = {
    "tr": lambda now, said: now.lines.begin_row(),
    "tc": lambda now, said: now.lines.begin_cell(),
    "footnoteReference": lambda now, said: now.lines.say(_mark("footnote", said)),
    "endnoteReference": lambda now, said: now.lines.say(_mark("endnote", said)),
    "commentReference": lambda now, said: now.lines.say(f"[comment {said.get('id', '')}]"),
    "hyperlink": lambda now, said: now.links.append(_target(now, said)),
    "AlternateContent": lambda now, said: now.choices.append(False),
    "Choice": _choice,
    "fldChar": _field,
    "instrText": _instruct,
    "docPr": _picture,
    "cNvPr": _picture,
    "hlinkClick": _click,
    "sym": _symbol,
    "sld": _hidden_slide,
    "fld": _counted,
}
_TOLD = frozenset(
    (*_SPOKEN, *_MATHS, *_BREAKS, *_NOTES, *_DELETED, *_SKIPPED, *_BEGIN, "p", "ser", "v", "r", "Fallback")
)
"""The elements that matter; the others, most of what Office writes, are not even told."""
