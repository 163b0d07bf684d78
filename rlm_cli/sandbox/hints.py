"""What to add to an error of a cell, in one line: what the model needs to mend it and cannot see from where it is.

The keys there are, the names that are close, the signature, how the thing is spelled here. A model pays for every turn
it spends on finding that out. The value that an error is about is looked up where the failing expression is a plain
name; anything more would have to be evaluated, and that is the model's to do. Heuristics throughout, so nothing here
may fail: no hint is a fine hint.

Standard library only: this file is loaded in the child.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import json
import linecache
import re
import sys
import types
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import islice
from typing import Any

from ..lazy.docs import Doc, Docs

SHOWN = 8
"""Keys and names that are listed."""
NOTHING_HERE = "no files, network, programs or signals here: the documents are in `docs` and `context`"
_DOCUMENT = "a document has .path .text .lines .pages .chars"
_DOCUMENTS = '`docs` is a list of documents, docs[0] or docs["path"]: for doc in docs: doc.path, doc.text'
_AWAIT = (
    "llm_query and the others are plain functions: call them without await; many at once: llm_query_batched(prompts),"
    " or await asyncio.gather(*[asyncio.to_thread(llm_query, p) for p in prompts])"
)
_IMPORTABLE = (
    "collections itertools functools math statistics datetime re json string decimal fractions dataclasses pathlib"
    " concurrent.futures typing difflib textwrap"
).split()


def hint(problem: BaseException, names: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """One line, or an empty text. `names` is what a cell can see, `own` the names of the REPL among them."""
    try:
        return _hint(problem, names, own)
    except Exception:  # methods of the model's own classes, sources that are not there
        return ""


def _hint(problem: BaseException, names: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    match problem:
        case UnboundLocalError():
            return _local(str(problem))
        case NameError():
            return _name(problem.name or "", names)
        case AttributeError():
            return _attribute(problem)
        case json.JSONDecodeError():
            return _json(problem)
        case KeyError() | IndexError():
            return _item(problem)
        case ImportError():
            return _import(str(problem), problem.name or "")
        case TypeError():
            return _type(problem, own)
        case RuntimeError() if re.search("running event loop|no current event loop", str(problem)):
            return "`await` works at the top of a cell: use it in place of asyncio.run and loops"
        case RuntimeError() if "different event loop" in str(problem):
            return "each cell has an event loop of its own: make locks and queues in the cell that uses them"
        case OSError() if problem.errno is not None or "name resolution" in str(problem):
            return NOTHING_HERE
        case SyntaxError() if (problem.text or "").lstrip()[:1] in ("%", "!"):
            return "no notebook or shell commands here: plain Python"
    return ""


def _name(name: str, names: Mapping[str, Any]) -> str:
    if name in sys.stdlib_module_names:
        return f"`import {name}` first"
    for module in _IMPORTABLE:
        if hasattr(importlib.import_module(module), name):
            return f"`from {module} import {name}` first"
    close = _close(name, [*names, *dir(builtins)])
    return f"close: {close}" if close else "no cell has bound it; SHOW_VARS() lists what there is"


def _local(message: str) -> str:
    found = re.search(r"'(\w+)'", message)
    name = found[1] if found else "it"
    return f"a function that assigns `{name}` has its own: `global {name}` in it means the cell's"


def _attribute(problem: AttributeError) -> str:
    value, name = problem.obj, problem.name or ""
    if isinstance(value, Doc):
        return _DOCUMENT
    if isinstance(value, Docs):
        return _DOCUMENTS
    if value is None:
        subject = _subject(problem, ast.Attribute)
        return f"`{subject[0]}` is None" if subject else ""
    if isinstance(value, types.ModuleType):
        inner = getattr(value, value.__name__, None)
        if inner is not None and hasattr(inner, name):
            return f"{value.__name__}.{value.__name__}.{name}"
    if isinstance(value, str) and name in ("text", "content", "pages", "path"):
        return "it is plain text already; of a document: docs[0].text, docs[0].pages"
    close = _close(name, dir(value))
    return f"close: {close}" if close else ""


def _item(problem: LookupError) -> str:
    subject = _subject(problem, ast.Subscript)
    if subject is None:
        return ""
    name, value = subject
    if isinstance(problem, IndexError) and isinstance(value, (list, tuple, str, Docs)):
        return f"`{name}` has {len(value):,} {'characters' if isinstance(value, str) else 'items'}, from 0"
    if isinstance(value, dict) and problem.__traceback__ is not None:
        key = problem.args[0] if problem.args else None
        texts = [other for other in value if isinstance(other, str)]
        close = _close(key, texts) if isinstance(key, str) else ""
        return f"close: {close}" if close else f"`{name}` has {len(value):,} keys: {_listed(value)}"
    return ""


def _json(problem: json.JSONDecodeError) -> str:
    if problem.doc.lstrip().startswith("```"):
        return "the text begins with a code fence: take what is between the fences"
    around = problem.doc[max(problem.pos - 40, 0) : problem.pos + 40]
    return f"the text there: {around!r}" if around.strip() else "there is no text there"


def _import(message: str, module: str) -> str:
    found = re.match(r"cannot import name '(\w+)'", message)
    close = _close(found[1], dir(sys.modules[module])) if found and module in sys.modules else ""
    return f"close: {close}" if close else ""


def _type(problem: TypeError, own: Mapping[str, Any]) -> str:
    message = str(problem)
    if "'await' expression" in message or "awaitable is required" in message:
        return _AWAIT
    if re.search(r"\bDoc\b", message):
        return f"{_DOCUMENT}; the path of each: [doc.path for doc in docs]"
    called = re.match(r"(?:Repl\.)?(\w+)\(\) (?:got|takes|missing)", message)
    if called:
        name = called[1] if called[1] in own else called[1].upper()
        return _signature(name, own[name]) if callable(own.get(name)) else ""
    subject = _subject(problem, ast.Call) if "not callable" in message else _subject(problem, ast.Subscript)
    if subject is not None and "not callable" in message and hasattr(builtins, subject[0]):
        name, kind = subject[0], type(subject[1]).__name__
        return f"a cell has bound `{name}`, to {kind}: `del {name}` brings the builtin back"
    if subject is not None and subject[1] is None:
        return f"`{subject[0]}` is None"
    return ""


def _signature(name: str, function: Any) -> str:
    parameters = inspect.signature(function).parameters.values()
    bare = (str(parameter.replace(annotation=inspect.Parameter.empty)) for parameter in parameters)
    return f"{name}({', '.join(bare)})"


def _subject(problem: BaseException, kind: type[ast.expr]) -> tuple[str, Any] | None:
    """The name at the heart of the failing expression (`x` of `x[3]`, `x.y`, `x()`), and its value."""
    own = None
    step = problem.__traceback__
    while step is not None:
        own = step if step.tb_frame.f_code.co_filename.startswith("<cell ") else own
        step = step.tb_next
    if own is None:
        return None
    frame = own.tb_frame
    line, last, start, stop = next(islice(frame.f_code.co_positions(), own.tb_lasti // 2, None))
    if line is None or line != last or start is None:
        return None
    text = linecache.getline(frame.f_code.co_filename, line).encode()[start:stop].decode()
    expression = ast.parse(text.strip(), mode="eval").body
    if not isinstance(expression, kind):
        return None
    inner = expression.func if isinstance(expression, ast.Call) else getattr(expression, "value", None)
    if not isinstance(inner, ast.Name):
        return None
    for scope in (frame.f_locals, frame.f_globals):
        if inner.id in scope:
            return inner.id, scope[inner.id]
    return None


def _close(name: str, names: Iterable[Any]) -> str:
    public = {other for other in names if isinstance(other, str) and not other.startswith("_")}
    return ", ".join(get_close_matches(name, sorted(public - {name}), 3, 0.7))


def _listed(keys: Mapping[Any, Any]) -> str:
    shown = ", ".join(repr(key)[:60] for key in islice(keys, SHOWN))
    return f"{shown}, …" if len(keys) > SHOWN else shown
