"""The user's own functions as model code sees them: called by name here, run by the host in a process of theirs.

Arguments and results are JSON, so that nothing but values crosses. What fails there is raised here as one exception
that carries the other's type and message: its class may exist in that process alone.

Standard library only: this file is loaded in the child.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from . import wire
from .link import Link

MOST_BYTES = 16 << 20
"""Of the arguments of one call, as JSON; the host takes no more."""


class ToolError(Exception):
    """A function of the user's failed. `type`: the name of the exception's type there; `message`: what it said."""

    __module__ = "builtins"  # tracebacks then show the bare name

    def __init__(self, told: str) -> None:
        super().__init__(told)
        kind, _, message = told.partition(": ")
        self.type, self.message = (kind, message) if kind.isidentifier() else ("", told)


class Outside:
    """Makes the functions. `cell`: the number of the cell that runs; `lazy`: the class of lazy texts."""

    def __init__(self, link: Link, cell: Callable[[], int], lazy: type) -> None:
        self._link = link
        self._cell = cell
        self._lazy = lazy

    def names(self, tools: Iterable[Iterable[str]]) -> dict[str, Any]:
        """What these are called in the REPL. `tools`: name, signature and docstring of each."""
        functions = {name: self._function(name, signature, doc) for name, signature, doc in tools}
        return {**functions, "ToolError": ToolError}

    def _function(self, name: str, signature: str, doc: str) -> Callable[..., Any]:
        def function(*places: Any, **names: Any) -> Any:
            return self._call(name, places, names)

        function.__name__ = function.__qualname__ = name
        function.__doc__ = f"{name}{signature}\n\n{doc}".rstrip()
        return function

    def _call(self, name: str, places: tuple[Any, ...], names: dict[str, Any]) -> Any:
        try:
            arguments = json.dumps([places, names], allow_nan=False, ensure_ascii=False, default=self._plain)
        except (TypeError, ValueError, RecursionError) as problem:
            raise TypeError(
                f"{name} runs in another process and takes what JSON can hold: text, numbers, lists, dicts, None"
                f" ({problem})"
            ) from None
        if len(arguments.encode("utf-8", "replace")) > MOST_BYTES:
            raise ValueError(f"the arguments of {name} are more than {MOST_BYTES >> 20} MB: pass less at once")
        fields = {"cell": self._cell(), "query": "tool", "model": name, "prompts": 1, "contexts": [None]}
        try:
            reply = self._link.request("query", fields, [arguments])
        except wire.Violation as problem:
            raise ValueError(str(problem)) from None
        if reply.fields["failed"]:
            raise ToolError(reply.text(0))
        return wire.loads(reply.text(0))

    def _plain(self, value: Any) -> Any:
        if isinstance(value, self._lazy):
            return str(value)
        raise TypeError(f"{type(value).__name__} is none of those")
