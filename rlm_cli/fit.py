"""Checks a value against a JSON Schema, and bends what can be bent without losing anything.

Models hand over `"30"` where 30 is wanted, a JSON text where an object is, Python's own spelling of a time. None of
that is worth a request, so what can be changed without losing anything is changed, and only the rest goes back to the
model. What is wanted is found out from the validator's own complaints: at the place of one, the value is turned into
the type it asks for, and everything is checked again. `$ref`, `allOf` and `anyOf` work without a second reading of the
schema, which would have to agree with the first in every corner.

| given                        | wanted          | becomes                                                         |
|------------------------------|-----------------|-----------------------------------------------------------------|
| "30", 3.0                    | integer         | 30, 3; not "007", "1,200", 3.5                                  |
| "3.50"                       | number          | 3.5; not what a float cannot hold exactly as it is written      |
| 30, 3.5                      | string          | "30", "3.5"                                                     |
| "true", "False"              | boolean         | true, false; "yes" and "no" only for a yes/no question          |
| '{"a": 1}', in a fence too   | object, array   | what it says                                                    |
| "2026-11-25 00:00:00"        | date            | "2026-11-25"; not with another time of day                      |
| "2026-11-25 10:30:00"        | date-time       | with a T in the middle; the offset from UTC may be missing      |

The validator is jsonschema (MIT), which litellm brings; it takes 0.2 s to import, so only who has a schema pays for it.
Rejected: a validator of our own (a subset that looks like the whole), pydantic models made of schemas (its coercion
loses: 1 becomes True).
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from typing import Any

TOLD = 5
"""Problems of a value that are told at once, each in `TOLD_CHARS` characters."""
TOLD_CHARS = 300
MOST_VALUES = 300_000
"""In a value that is checked: of every one that will not do the validator makes an object of 3 KB."""
AT_ONCE, PASSES = 20_000, 20
"""Complaints that are looked at in one pass, and how often a value is bent and checked again."""
LONGEST_NUMBER = 400
"""Characters of a text that is taken for a number."""
BROKEN = "the schema cannot be followed: "
"""How the problem begins that is the schema's own."""

_WHOLE = re.compile(r"\s*-?(0|[1-9]\d*)\s*", re.ASCII)
_NUMBER = re.compile(r"\s*-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d{1,3})?\s*", re.ASCII)
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?)(Z|[+-]\d\d:\d\d)?", re.ASCII)
_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[^\n`]*\n", re.MULTILINE)
_WORD = re.compile(r"[\s*_\"'`(]*(?P<word>yes|no|true|false)[\s*_\"'`.!)]*", re.IGNORECASE)
_MARK = re.compile(r"\[\d{1,4}\]")
_CANNOT: Any = object()


@lru_cache(maxsize=32)
def validator(text: str) -> Any:
    """The validator of a schema. An integer is written as one: what reads the answer may not take 3.0 for 3."""
    from jsonschema import Draft202012Validator, validators
    from referencing import Registry

    tree = json.loads(text)
    kind = validators.validator_for(tree, default=Draft202012Validator)
    whole = kind.TYPE_CHECKER.redefine("integer", lambda _, v: isinstance(v, int) and not isinstance(v, bool))
    return validators.extend(kind, type_checker=whole)(tree, registry=Registry(), format_checker=_formats())


def _formats() -> Any:
    """The formats that are checked, whatever else is installed here; others are remarks, as JSON Schema has it."""
    from jsonschema import FormatChecker

    checker = FormatChecker(formats=("email", "ipv4", "ipv6", "uuid"))
    checker.checks("date", raises=ValueError)(lambda v: not isinstance(v, str) or _is_date(v))
    checker.checks("date-time", raises=ValueError)(lambda v: not isinstance(v, str) or _is_time(v))
    return checker


def _is_date(text: str) -> bool:
    return len(text) == 10 and text[4] == "-" and bool(date.fromisoformat(text))


def _is_time(text: str) -> bool:
    return "T" in text and bool(_TIME.fullmatch(text)) and bool(datetime.fromisoformat(text))


def fitted(text: str, value: Any) -> tuple[Any, str]:
    """`value` as the schema (JSON text) wants it and "", or as it was and what is wrong with it, for a model to read.

    Raises nothing; may take seconds for a value of many megabytes.
    """
    from referencing.exceptions import Unresolvable

    if not _is_countable(value):
        return value, f"it holds more than {MOST_VALUES:,} values, too many to be checked"
    try:
        checker = validator(text)
        errors = list(islice(checker.iter_errors(value), AT_ONCE))
        root = [copy.deepcopy(value) if errors else value]
        found = errors
        for _ in range(PASSES):
            bent = [_put(root, error.absolute_path, _bent(error)) for error in found]
            if not any(bent):
                break
            found = list(islice(checker.iter_errors(root[0]), AT_ONCE))
        return (value, _told(found)) if found else (root[0], "")
    except (RecursionError, ArithmeticError, re.error, Unresolvable) as problem:
        why = "it refers to itself without end" if isinstance(problem, RecursionError) else str(problem)[:TOLD_CHARS]
        return value, f"{BROKEN}{why}"


def _is_countable(value: Any) -> bool:
    """Whether a value holds no more values than can be checked in memory that a host has."""
    waiting, count = [value], 0
    while waiting and count <= MOST_VALUES:
        holder = waiting.pop()
        inner = holder.values() if isinstance(holder, dict) else holder if isinstance(holder, list) else ()
        count += len(inner)
        waiting += [item for item in inner if isinstance(item, (dict, list))]
    return count <= MOST_VALUES


def _told(errors: Sequence[Any]) -> str:
    """What is wrong, a line a place: of a choice the likeliest branch."""
    from jsonschema.exceptions import best_match

    nearest = [best_match([error]) for error in errors[:TOLD]]
    lines = list(dict.fromkeys(f"{error.json_path}: {middle_out(error.message)}" for error in nearest))
    more = [f"and {len(errors) - TOLD:,} more"] if len(errors) > TOLD else []
    return "\n".join([*lines, *more])


def _put(root: list[Any], path: Sequence[Any], value: Any) -> bool:
    """Set the value at a place below `root[0]`, if there is one to set."""
    if value is _CANNOT:
        return False
    holder: Any = root
    place = [0, *path]
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    return True


def _bent(error: Any) -> Any:
    """What the value at the place of a complaint can become without loss, or `_CANNOT`."""
    match error.validator:
        case "type":
            wanted = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
            bent = (_as(kind, error.instance) for kind in wanted)
            return next((value for value in bent if value is not _CANNOT), _CANNOT)
        case "format":
            return _as_format(error.validator_value, error.instance)
        case "anyOf" | "oneOf":
            branches: dict[Any, list[Any]] = {}
            for inner in error.context:
                branches.setdefault(inner.relative_schema_path[0], []).append(inner)
            for inners in branches.values():
                trial = [copy.deepcopy(error.instance)]
                if all(_put(trial, inner.relative_path, _bent(inner)) for inner in inners):
                    return trial[0]
    return _CANNOT


def _as(kind: str, value: Any) -> Any:
    """`value` as a type of JSON Schema, where nothing is lost by it; else `_CANNOT`."""
    match kind, value:
        case "integer", float() if value.is_integer() and abs(value) < 2**53:
            return int(value)
        case "integer" | "number", str() if len(value) < LONGEST_NUMBER and _WHOLE.fullmatch(value):
            return int(value)
        case "number", str() if len(value) < LONGEST_NUMBER and _NUMBER.fullmatch(value):
            number = float(value)
            exact = Decimal(value.strip()) == Decimal(repr(number)) if abs(number) < float("inf") else False
            return number if exact else _CANNOT
        case "boolean", str() if value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
        case "string", int() | float() if not isinstance(value, bool):
            return json.dumps(value)
        case "object" | "array", str():
            wanted = dict if kind == "object" else list
            return next((found for found in json_in(value) if isinstance(found, wanted)), _CANNOT)
    return _CANNOT


def _as_format(kind: str, value: Any) -> Any:
    """Python's own spelling of a time as JSON's; a date with the time of midnight is a date."""
    match = _TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return _CANNOT
    day, time, offset = match[1], match[2], match[3] or ""
    if kind == "date-time" and value != f"{day}T{time}{offset}":
        return f"{day}T{time}{offset}"
    return day if kind == "date" and not offset and not time.strip("0:.") else _CANNOT


def json_in(text: str) -> Iterator[Any]:
    """JSON values in a text, the surest first: all of it, a fenced block, the first object or list in a sentence.

    A heuristic: a list that begins with a number is not taken from a sentence, `[1]` is the mark of a quote.
    """
    text = text.strip()
    for candidate in (text, _fenced(text)):
        try:
            if candidate:
                yield json.loads(candidate)
                return
        except (ValueError, RecursionError):
            pass
    for start in [match.start() for match in islice(re.finditer(r"[{\[]", text), 20)]:
        try:
            found, _ = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) or (found and not isinstance(found[0], (int, float))):
            yield found
            return


def _fenced(text: str) -> str:
    """What stands in the first fence. In two searches: one pattern for both ends tries every beginning."""
    opening = _FENCE.search(text)
    if opening is None:
        return ""
    closing = re.compile(rf"^[ \t]*{opening[1]}", re.MULTILINE).search(text, opening.end())
    return text[opening.end() : closing.start() if closing else None]


def said(text: str) -> bool | str:
    """Yes or no, said in one word; anything longer stays what it is: `Yes, but …` is neither."""
    match = _WORD.fullmatch(_MARK.sub("", text))
    return match["word"].lower() in ("yes", "true") if match else text


def shortened(value: Any) -> str:
    return middle_out(repr(value), 80)


def middle_out(text: str, most: int = TOLD_CHARS) -> str:
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 2 :]}"
