"""Values of the REPL as others see them: as JSON for the host, in a few words for the model.

Models hand over whatever they have: tuples, sets, dates, NaN, a generator. JSON has none of those, and an answer must
not be lost for it. So: tuple, set and iterator → list; mapping and dataclass → object; NaN → null, infinity → text;
everything else → `str`. Standard library only: this file is loaded in the child.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import islice
from typing import Any

from . import weight, wire

MAX_QUOTES, MAX_QUOTED = 1_000, 500_000
"""Quotes of an answer, and characters of them together: they travel in a frame's header."""
MAX_ITEMS = 1_000_000
"""Taken from an iterator: it may have no end."""
MAX_LEVEL = 60


def as_json(value: Any) -> str:
    """`value` as JSON text. Raises ValueError when it is too large to hand over."""
    text = json.dumps(_plain(value, 0, set()), ensure_ascii=False, allow_nan=False)
    size = len(text.encode("utf-8", "replace"))
    if size > wire.MAX_BLOB or weight.answer(text) > weight.ROOM:
        raise ValueError(
            f"the answer is too large to hand over, at {size / 1e6:.0f} MB as JSON; at most {wire.MAX_BLOB // 10**6} MB"
            " of text, or a few hundred thousand items"
        )
    return text


def _plain(value: Any, level: int, above: set[int]) -> Any:
    match value:
        case None | bool():
            return value
        case str():
            return str.__str__(value)
        case int():
            return int(value) if abs(value) < 10**300 else str(value)
        case float():
            return float(value) if math.isfinite(value) else None if math.isnan(value) else str(value)
        case bytes() | bytearray():
            return bytes(value).decode("utf-8", "replace")
    if level > MAX_LEVEL or id(value) in above:
        return f"<{type(value).__name__}>"  # too deep, or a value that contains itself
    above = above | {id(value)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_key(key): _plain(item, level + 1, above) for key, item in value.items()}
    if isinstance(value, Set) and not isinstance(value, (list, tuple)):
        return [_plain(item, level + 1, above) for item in _ordered(value)]
    if isinstance(value, (list, tuple, deque, type({}.values()))):
        return [_plain(item, level + 1, above) for item in value]
    if isinstance(value, Sequence):  # the lines of a lazy text, for one
        if len(value) > MAX_ITEMS:
            raise ValueError(f"the answer has {len(value):,} items; hand over less")
        return [_plain(item, level + 1, above) for item in value]
    if isinstance(value, Iterator):
        return [_plain(item, level + 1, above) for item in islice(value, MAX_ITEMS)]
    return str(value)


def _key(key: Any) -> str:
    return key if isinstance(key, str) else " | ".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _ordered(values: Set[Any]) -> list[Any]:
    """A set in an order that is the same in every run, where its items have one."""
    try:
        return sorted(values)
    except TypeError:
        return list(values)


def read_quotes(quotes: Any) -> list[list[str | None]]:
    """`quotes=` of FINAL as [path or None, text] pairs. Takes one quote or many, `"text"`, `("path", "text")` or a
    mapping with `path` and `quote` or `text`. Raises TypeError for anything else, ValueError for too many."""
    if quotes is None:
        return []
    if isinstance(quotes, (str, Mapping)):
        quotes = [quotes]
    elif isinstance(quotes, tuple) and len(quotes) == 2 and all(isinstance(part, str) for part in quotes):
        # ("path", "words") alone; two quotes without paths look the same, but a path is short and of one word.
        quotes = [quotes] if len(quotes[0]) < 200 and "\n" not in quotes[0] and " " not in quotes[0] else quotes
    pairs: list[list[str | None]] = []
    for quote in quotes:
        match quote:
            case str():
                pairs.append([None, str(quote)])
            case [path, text] if isinstance(text, str):
                pairs.append([None if path is None else str(getattr(path, "path", path)), text])
            case {"quote": text} | {"text": text}:
                pairs.append([None if quote.get("path") is None else str(quote["path"]), str(text)])
            case _:
                raise TypeError(f'a quote is "words" or ("path", "words"), not {type(quote).__name__}')
    if len(pairs) > MAX_QUOTES or sum(len(text or "") for _, text in pairs) > MAX_QUOTED:
        raise ValueError(f"{len(pairs):,} quotes; at most {MAX_QUOTES:,} of {MAX_QUOTED:,} characters together")
    return pairs


_SIZED = (str, bytes, bytearray, list, tuple, dict, set, frozenset, deque)


def described(value: Any) -> str:
    """`list, 12 items`: type and length, without running code of the model's own classes."""
    kind = type(value)
    name = kind.__name__
    if kind in (bool, int, float):
        return f"{name} {value!r}" if kind is not int or abs(value) < 10**20 else name
    for known in _SIZED:
        if isinstance(value, known):
            count = int(known.__len__(value))  # type: ignore[arg-type]
            unit = "character" if known is str else "byte" if known in (bytes, bytearray) else "item"
            return f"{name}, {count:,} {unit}{'' if count == 1 else 's'}"
    if isinstance(value, type):
        return "class"
    return name.partition(";")[0]  # a lazy text's goes on with what to do with it
