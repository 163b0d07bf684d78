"""What an answer must look like: reads a schema as people write it, and judges answers by it.

A SPEC is a JSON Schema, in a file or inline, or the short form `'party, amount float, signed date'`, which is close to
the one of Simon Willison's `llm`: what many know already. Whether a value satisfies it, or can be made to without loss,
is `fit.py`'s subject.

A schema that code in the REPL passes is hostile until it was read: it may use keywords only whose checking takes a time
that its size bounds, so no `pattern` and no `$ref`. Nothing is ever fetched, whoever wrote the schema. What is no
schema is told with its place, before anything is read or spent.

Rejected: taking whatever exists as a file for one (what `party` means would depend on the folder), YAML.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .errors import UsageError
from .evidence import NO_QUOTE
from .fit import BROKEN, fitted, json_in, middle_out, said, shortened, validator
from .result import Quote

LONGEST_SCHEMA = 50_000
"""Characters; it stands in every request to the root."""
LONGEST_REPL_SCHEMA, MOST_REPL_NODES = 10_000, 200
"""Characters, and schemas within the schema and values to choose from, that code in the REPL may pass."""

SHORT_TYPES = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string", "format": "date-time"},
}
_ALSO = {"string": "str", "text": "str", "integer": "int", "number": "float", "boolean": "bool"}
_KINDS = "array, boolean, integer, null, number, object, string"
_SAYS_SOMETHING = frozenset(
    "type properties required items prefixItems enum const anyOf oneOf allOf not if $ref $dynamicRef"
    " additionalProperties patternProperties minimum maximum minItems maxItems minLength maxLength pattern"
    " format contains".split()
)
_REPL_KEYWORDS = frozenset(
    "type properties required items additionalProperties enum const anyOf minimum maximum exclusiveMinimum"
    " exclusiveMaximum minItems maxItems minLength maxLength format title description default examples".split()
)
_FIELD = re.compile(
    r"(?P<name>[^\W\d][\w-]*)(?P<many>\[\])?(?P<maybe>\?)?"
    r"(?:\s+(?P<type>\w+)?(?P<type_many>\[\])?(?P<type_maybe>\?)?)?"
)


@dataclass(frozen=True, slots=True)
class Checked:
    """A value as it stands after its check. `problem`: why it will not do, for the model to read; empty = it does."""

    value: Any
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Schema:
    """A JSON Schema as compact JSON text. `yes_no`: the question is a yes/no question, and words for that count."""

    text: str
    yes_no: bool = False

    @property
    def tree(self) -> dict[str, Any]:
        """The schema as a value of one's own."""
        tree: dict[str, Any] = json.loads(self.text)
        return tree

    @property
    def has_patterns(self) -> bool:
        """Whether regular expressions are part of it, which may take for ever on the wrong value."""
        return any(key in ("pattern", "patternProperties") for _, key, _ in _entries(self.tree))

    @property
    def is_closed(self) -> bool:
        """Whether every object in it names all its fields and requires them: what OpenAI calls strict."""
        nodes = list(_nodes(self.tree))
        return all(
            node.get("additionalProperties") is False and set(node.get("required", ())) == set(node["properties"])
            if "properties" in node
            else node.get("type") != "object"
            for node in nodes
        )

    @property
    def as_object(self) -> Schema:
        """Itself where it asks for an object, else one that asks for `{"value": …}`: providers take objects only."""
        tree = self.tree
        if tree.get("type") == "object":
            return self
        wrapped = {"type": "object", "properties": {"value": tree}, "required": ["value"]}
        return Schema(_compact(wrapped | {"additionalProperties": False}))

    def check(self, value: Any) -> Checked:
        """A JSON-able value that was handed over. Raises nothing; may take seconds for one of many megabytes."""
        if self.yes_no:
            meant = said(value) if isinstance(value, str) else value
            if isinstance(meant, bool):
                return Checked(meant)
            return Checked(value, f"True or False is wanted, not {shortened(value)}")
        return Checked(*fitted(self.text, value))

    def read(self, text: str) -> Checked:
        """A value that came in words: JSON, alone, in a fence or within a sentence, or the text itself."""
        candidates = [text] if self.yes_no else [*json_in(text), text]
        found = [self.check(candidates[0])]
        while found[-1].problem and len(found) < len(candidates):
            found.append(self.check(candidates[len(found)]))
        return found[0] if found[-1].problem else found[-1]


YES_NO = Schema('{"type":"boolean"}', yes_no=True)
"""What `--exit-status` asks for."""


def judged(schema: Schema | None, strict: bool, value: Any, quotes: Sequence[Quote], spoken: bool = False) -> Checked:
    """An answer before it counts. `spoken`: it came in words, not from code. None (not found) is always an answer."""
    if value is None:
        return Checked(None)
    checked = Checked(value)
    if schema is not None:
        checked = schema.read(value) if spoken and isinstance(value, str) else schema.check(value)
    if strict and not quotes and not checked.problem:
        return replace(checked, problem=NO_QUOTE)
    return checked


# ── reading a schema ────────────────────────────────────────────────────────────────────────────────────────────────


def is_file(spec: str) -> bool:
    """Whether a SPEC names a file: one word with a dot or a slash in it, or whatever ends in `.json`. Not whether the
    file exists: what a SPEC means must not depend on the folder it is typed in."""
    spec = spec.strip()
    if spec.startswith(("{", "[")) or "\n" in spec:
        return False
    return spec.endswith(".json") or bool(re.fullmatch(r"[^\s,:]*[./\\][^\s,:]*", spec))


def parse(text: str, source: str) -> Schema:
    """A schema as JSON (`{…}`) or in the short form. `source` begins the message. Raises `UsageError` with the place.

    The short form: fields, separated by commas, or by line ends where there are any. A field is
    `name [type][[]][?][: description]`; types are str (when none is given), int, float, bool, date, datetime; `[]`
    makes a list of it, `?` allows null. In square brackets, it is a list of such objects. A description ends at the
    next comma, unless fields are separated by line ends.
    """
    text = text.strip()
    if not text:
        raise UsageError(f"{source}: the schema is empty", hint="'party, amount float, signed date'")
    if len(text) > LONGEST_SCHEMA:
        raise UsageError(f"{source}: the schema has {len(text):,} characters; at most {LONGEST_SCHEMA:,} are taken")
    if not text.startswith("{"):
        return Schema(_compact(_short_form(text, source)))
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise UsageError(f"{source}: the schema is not JSON", why=f"{error.msg} at {place}") from None
    except (ValueError, RecursionError):
        raise UsageError(
            f"{source}: the schema is not JSON", why="it is nested too deeply, or a number too long"
        ) from None
    schema = Schema(_compact(tree))
    _require_sound(schema, source)
    return schema


def parse_repl(text: str) -> Schema:
    """What code in the REPL passes: as `parse`, but only what is checked in bounded time. Raises `UsageError`.

    No `$schema` either: in older drafts other keywords hold schemas too.
    """
    if len(text) > LONGEST_REPL_SCHEMA:
        raise UsageError(f"schema: {len(text):,} characters; at most {LONGEST_REPL_SCHEMA:,} are taken")
    schema = parse(text, "schema")
    nodes = list(_nodes(schema.tree))
    size = len(nodes) + sum(len(node.get("enum", ())) for node in nodes)
    if size > MOST_REPL_NODES:
        raise UsageError(f"schema: {size} fields, choices and values in one; at most {MOST_REPL_NODES} are taken")
    if odd := sorted({key for node in nodes for key in node} - _REPL_KEYWORDS):
        raise UsageError(
            f"schema: {odd[0]!r} cannot be used here", why=f"these can: {', '.join(sorted(_REPL_KEYWORDS))}"
        )
    return schema


def _short_form(text: str, source: str) -> dict[str, Any]:
    many = text.startswith("[")
    if many and not text.endswith("]"):
        raise UsageError(f"{source}: the [ at the beginning is not closed", hint="'[party, amount float]'")
    if many:
        text = text[1:-1]
    parts = text.splitlines() if "\n" in text.strip() else text.split(",")
    fields: dict[str, Any] = {}
    for number, part in enumerate((part for part in parts if "\n" not in text or part.strip(" \t,")), 1):
        name, field = _field(part.strip().strip(","), f"{source}: field {number}")
        if name in fields:
            raise UsageError(f"{source}: field {number}: {name!r} is there twice")
        fields[name] = field
    shape = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
    return {"type": "array", "items": shape} if many else shape


def _field(part: str, source: str) -> tuple[str, dict[str, Any]]:
    said, _, description = part.partition(":")
    match = _FIELD.fullmatch(said.strip())
    if match is None:
        hint = "name [type], like 'party, amount float, signed date?, tags[]'; a file's name needs a dot or a slash"
        raise UsageError(f"{source}: {shortened(part)} is no field" if part else f"{source} is empty", hint=hint)
    kind = match["type"] or "str"
    kind = _ALSO.get(kind.lower(), kind.lower())
    if kind not in SHORT_TYPES:
        raise UsageError(
            f"{source}, {match['name']!r}: there is no type {kind!r}", why=f"there are {', '.join(SHORT_TYPES)}"
        )
    field: dict[str, Any] = dict(SHORT_TYPES[kind])
    if match["many"] or match["type_many"]:
        field = {"type": "array", "items": field}
    if match["maybe"] or match["type_maybe"]:
        field["type"] = [field["type"], "null"]
    if description.strip():
        field["description"] = description.strip()
    return match["name"], field


def _require_sound(schema: Schema, source: str) -> None:
    """Raises `UsageError` for what is no JSON Schema, says nothing, or refers to what is not in it."""
    from jsonschema import FormatChecker, SchemaError

    tree = schema.tree
    if not _SAYS_SOMETHING & set(tree):
        raise UsageError(
            f"{source}: the schema says nothing of the value",
            why="it has no type, properties, items or the like",
            hint="""'{"type": "object", "properties": {…}}', or short: 'party, amount float'""",
        )
    references = [(place, ref) for place, key, ref in _entries(tree) if key in ("$ref", "$dynamicRef")]
    for place, reference in references:
        if not isinstance(reference, str):
            continue  # a property of that name
        if not reference.startswith("#"):
            why = f"{place} refers to {shortened(reference)}, and nothing is fetched"
            raise UsageError(f"{source}: only references within the schema are followed", why=why, hint="#/$defs/NAME")
        if not _is_there(tree, reference):
            raise UsageError(f"{source}: {place} refers to {shortened(reference)}, which is not there")
    try:
        type(validator(schema.text)).check_schema(tree, format_checker=FormatChecker(formats=("regex",)))
    except SchemaError as error:
        bad_type = error.path and error.path[-1] == "type"
        what = f"{shortened(error.instance)} is no type; there are {_KINDS}" if bad_type else middle_out(error.message)
        raise UsageError(f"{source}: {error.json_path}: {what}") from None
    except RecursionError:
        raise UsageError(f"{source}: the schema is nested too deeply") from None
    if (problem := fitted(schema.text, None)[1]).startswith(BROKEN):
        raise UsageError(f"{source}: {problem}")


def _entries(tree: Any) -> Iterator[tuple[str, str, Any]]:
    """Every key of every object below, with the place it stands at and its value."""
    waiting: list[tuple[str, Any]] = [("$", tree)]
    while waiting:
        place, node = waiting.pop()
        if isinstance(node, dict):
            for key, value in node.items():
                yield f"{place}.{key}", key, value
                waiting.append((f"{place}.{key}", value))
        elif isinstance(node, list):
            waiting += [(f"{place}[{n}]", item) for n, item in enumerate(node)]


def _is_there(tree: Any, reference: str) -> bool:
    """Whether a JSON pointer leads somewhere; of an anchor the validator finds out."""
    if not reference.startswith("#/"):
        return True
    from urllib.parse import unquote

    node = tree
    for step in unquote(reference[2:]).split("/"):
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict) and step in node:
            node = node[step]
        elif isinstance(node, list) and step.isdigit() and int(step) < len(node):
            node = node[int(step)]
        else:
            return False
    return True


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """The schema and those within it, by the keywords that `_REPL_KEYWORDS` allows."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, dict):
            continue
        yield node
        properties, branches = node.get("properties"), node.get("anyOf")
        waiting += list(properties.values()) if isinstance(properties, dict) else []
        waiting += branches if isinstance(branches, list) else []
        waiting += [node.get("items"), node.get("additionalProperties")]


def _compact(tree: Mapping[str, Any]) -> str:
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace").decode()
