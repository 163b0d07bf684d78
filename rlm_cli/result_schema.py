"""The JSON Schema of `rlm.result/1`, read from the types of the result: what `rlm help output` prints.

The keys and their order are those of `Result.to_json`, the types those of the dataclasses and typed dictionaries it is
made of, so that neither can drift from what is printed. Standard library only; draft 2020-12.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from .result import SCHEMA, Citation, Located, ModelUsage, Result

_PLAIN: dict[type, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}
_RENAMED = {"rlm_version": "version"}
"""Key of the object → field of `Result`."""


def result_schema() -> dict[str, Any]:
    """The schema, JSON-ready."""
    hints = get_type_hints(Result)
    shown = Result("").to_json()
    properties = {key: _of(hints[name]) for key in shown if (name := _RENAMED.get(key, key)) in hints}
    properties["schema"] = {"const": SCHEMA}
    properties["answer"] = {"type": ["string", "null"], "description": "A list, dict or number stands as JSON text."}
    properties["usage"] = _usage()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": SCHEMA,
        "description": "Every key is always there. Within /1 keys are only added.",
        **_object({key: properties[key] for key in shown}),
        "$defs": {"usage": _of(ModelUsage)},
    }


def _usage() -> dict[str, Any]:
    """That of all models together, and of each."""
    total = _of(ModelUsage)
    more = {
        "cost_known": {"type": "boolean"},
        "cost_estimated_usd": {"type": "number"},
        "by_model": {"type": "object", "additionalProperties": {"$ref": "#/$defs/usage"}},
    }
    return _object({**total["properties"], **more})


def _of(hint: Any) -> dict[str, Any]:
    """The schema of a type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _either([_of(argument) for argument in arguments])
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is list:
        return {"type": "array", "items": _of(arguments[0])}
    if origin is tuple:
        return {"type": "array", "items": _of(arguments[0]), "minItems": len(arguments), "maxItems": len(arguments)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(arguments[1])}
    if hint is types.NoneType:
        return {"type": "null"}
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return {"enum": [str(member) for member in hint]}
    if is_typeddict(hint):
        return _object({name: _of(inner) for name, inner in get_type_hints(hint).items()}, hint.__required_keys__)
    if hint is Citation:
        hints = get_type_hints(Citation)
        return _object({name: _of(hints[name]) for name in Citation(1, "", Located.NO).to_json()})
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        return _object({field.name: _of(hints[field.name]) for field in fields(hint)})
    return {}


def _object(properties: Mapping[str, Any], required: frozenset[str] | None = None) -> dict[str, Any]:
    names = [name for name in properties if required is None or name in required]
    return {"type": "object", "properties": dict(properties), "required": names}


def _either(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    """`["string", "null"]` where that says it all, else `anyOf`."""
    if all(list(schema) == ["type"] for schema in schemas):
        return {"type": [schema["type"] for schema in schemas]}
    return {"anyOf": schemas}
