"""What a child may say, read with suspicion: every frame becomes a checked value, or is a `Violation`.

The child runs hostile code, which can reach the wire by way of `gc` and send anything. So this side believes nothing
but the types it checks here, looks up nothing by a name it did not check, and never evaluates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..call import Handover
from ..corpus import Corpus
from ..result import Quote
from . import Context, Query, Span, weight, wire
from .library import source
from .wire import MAX_PROMPTS, Frame, Violation

MAX_PRINTED = 100_000
"""Characters of output, or of an error, that are taken from a cell."""
MAX_ARGUMENTS = 16 << 20
"""Bytes of the arguments of one call of a tool."""
MAX_QUOTES = 10_000
MAX_VARIABLES = 200
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+\-]{0,30}(/[A-Za-z0-9_+\-]{1,30}){0,2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Ready:
    """What the self-test saw: attempts that were refused, attempts that went through, and walls that could not be
    raised (`wall: why`)."""

    refused: tuple[str, ...]
    went_through: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a cell."""

    stdout: str
    omitted: int
    error: str | None
    answer: Handover | None
    held: bool
    variables: tuple[tuple[str, str], ...]
    draft: Any


def read_ready(frame: Frame) -> Ready:
    """Sent before any model code ran."""
    refused, missing = frame.fields.get("refused"), frame.fields.get("missing")
    if not isinstance(refused, dict) or not isinstance(missing, list):
        raise Violation("a ready frame without its tests")
    held = tuple(str(name) for name, ok in refused.items() if ok is True)
    through = tuple(str(name) for name, ok in refused.items() if ok is not True)
    return Ready(held, through, tuple(str(item)[:200] for item in missing))


def count_prompts(frame: Frame) -> int:
    """How many prompts a query has."""
    count = frame.fields.get("prompts")
    if type(count) is not int or not 0 < count <= min(len(frame.blobs), MAX_PROMPTS):
        raise Violation("a query without its prompts")
    return count


def long_texts(frame: Frame) -> list[int]:
    """The numbers of the texts that came ahead of a query."""
    numbers = frame.fields.get("long", [])
    if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
        raise Violation("a query with texts of no number")
    return numbers


def read_query(frame: Frame, chars: int, long: Mapping[int, Corpus] | None = None) -> Query:
    """A query over a corpus of `chars` characters. `long`: the texts that came ahead of it."""
    kind, model, count = frame.fields.get("query"), frame.fields.get("model"), count_prompts(frame)
    places, schema = frame.fields.get("contexts"), frame.fields.get("schema")
    if kind not in ("llm", "rlm", "tool") or not (model is None or (isinstance(model, str) and len(model) <= 200)):
        raise Violation("a query of no known kind or model")
    if not (schema is None or (kind == "llm" and isinstance(schema, str) and len(schema) <= wire.MAX_SCHEMA)):
        raise Violation("a query whose schema is no text, or too long")
    if not isinstance(places, list) or len(places) != count:
        raise Violation("a query without its contexts")
    texts = [frame.text(n) for n in range(len(frame.blobs))]  # once: a place may be named any number of times
    contexts = tuple(None if place is None else _context(texts, place, chars, long or {}) for place in places)
    if kind == "tool":
        _check_arguments(frame, texts, contexts)
    return Query(kind, tuple(texts[:count]), contexts, model, schema)


def _check_arguments(frame: Frame, texts: list[str], contexts: tuple[Context | None, ...]) -> None:
    """One JSON text, of positions and of names. Whether there is such a function, who answers knows."""
    if len(texts) != 1 or contexts != (None,) or len(frame.blobs[0]) > MAX_ARGUMENTS:
        raise Violation("a call of a tool without its arguments")
    if not isinstance(frame.fields.get("model"), str):
        raise Violation("a call of a tool without its name")
    try:
        arguments = wire.loads(texts[0])
    except (ValueError, RecursionError):
        arguments = None
    match arguments:
        case [list(), dict()]:
            return
    raise Violation("a call of a tool whose arguments are not JSON")


def _context(texts: list[str], place: Any, chars: int, long: Mapping[int, Corpus], listed: bool = False) -> Context:
    match place:
        case ["blob", int(index)] if 0 <= index < len(texts):
            return texts[index]
        case ["span", int(start), int(stop)] if 0 <= start <= stop <= chars:
            return Span(start, stop)
        case ["text", int(number)] if number in long:
            return long[number]
        case ["list", list(items)] if not listed:
            parts = [_context(texts, item, chars, long, listed=True) for item in items]
            return tuple(part for part in parts if not isinstance(part, tuple))
    raise Violation("a context that is neither text nor a slice of the corpus")


def read_done(frame: Frame) -> Done:
    """The end of a cell; JSON in it is what the child's `values.py` writes, and is checked all the same."""
    omitted, variables, quotes = (frame.fields.get(name) for name in ("omitted", "variables", "quotes"))
    if len(frame.blobs) != 4 or type(omitted) is not int or omitted < 0:
        raise Violation("a cell's end without its output")
    if not isinstance(variables, list) or not isinstance(quotes, list) or len(quotes) > MAX_QUOTES:
        raise Violation("a cell's end without its variables and quotes")
    stdout, error = frame.text(0)[:MAX_PRINTED], frame.text(1)[:MAX_PRINTED]
    answer = _json(frame, 2)
    handover = Handover(answer[0], tuple(_quote(quote) for quote in quotes)) if answer else None
    draft = _json(frame, 3)
    shown = tuple(_pair(variable) for variable in variables[:MAX_VARIABLES])
    held = frame.fields.get("held") is True
    return Done(stdout, omitted, error or None, handover, held, shown, draft[0] if draft else None)


def _json(frame: Frame, index: int) -> tuple[Any] | None:
    """The value in a blob, in a tuple of one; None when the blob is empty."""
    text = frame.text(index)
    if not text:
        return None
    try:
        if weight.answer(text) > weight.ROOM:
            raise Violation("an answer that takes too much memory")
        return (wire.loads(text),)
    except (ValueError, RecursionError):
        raise Violation("an answer that is not JSON") from None


def _quote(quote: Any) -> Quote:
    match quote:
        case [None | str() as path, str(text)]:
            return Quote(text, path)
    raise Violation("a quote that is not text")


def _pair(variable: Any) -> tuple[str, str]:
    match variable:
        case [str(name), str(what)]:
            return name[:100], what[:200]
    raise Violation("a variable without its type")


def served_module(frame: Frame) -> tuple[bytes, bool] | None:
    """The source of a pure-Python module of the standard library and whether it is a package; None = there is none."""
    return source(frame.fields.get("name"))


def served_zone(frame: Frame) -> bytes | None:
    """The data of a time zone; None = there is none. The names of all for `*`."""
    import zoneinfo

    name = frame.fields.get("name")
    if name == "*":
        return "\n".join(sorted(zoneinfo.available_timezones())).encode()
    if not isinstance(name, str) or not _ZONE.fullmatch(name):
        return None
    for folder in zoneinfo.TZPATH:
        file = Path(folder, name)
        if file.is_file():
            return file.read_bytes()
    return None
