"""`llm_query` and its three siblings as model code sees them.

A failed sub-call raises; it never becomes answer text. A batch finishes first: what was answered is on the exception
and in `_results`, and is remembered, so that asking the same again pays for the failed ones only. Models call these
with whatever they remember of the signature, so the clear cases are accepted and the rest named in one line.

Standard library only: this file is loaded in the child.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from . import wire
from .link import Link

FOUND_FROM = 65_536
"""Characters from which a plain `str` context is looked up in the corpus, to be sent as offsets."""
LISTED = 10_000
"""Texts of a context that is a list: each is a document of its own to the child."""
REMEMBERED = 20_000
"""Results of failed batches that are kept for another try."""

Locate = Callable[[str], "tuple[int, int] | None"]


class SubcallError(Exception):
    """A sub-call failed. From a batch, `results` holds every answer, and an exception at each failed place."""

    results: list[Any]
    __module__ = "builtins"  # tracebacks then show the bare name

    def __init__(self, message: str, results: list[Any] | None = None) -> None:
        super().__init__(message)
        self.results = results or []


class _Ahead:
    """The long contexts of one query, which go in pieces ahead of it; each text once, however often it is given."""

    def __init__(self, link: Link, cell: int) -> None:
        self.numbers: list[int] = []
        self._link = link
        self._cell = cell
        self._sent: dict[int, tuple[int, str]] = {}
        """By identity: the text is kept, or another could have it."""
        self._size = 0

    def __enter__(self) -> _Ahead:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number in self.numbers if kind is not None else ():
            self._link.send("drop", {"cell": self._cell, "text": number})
        self._link.room(-len(self.numbers), -self._size)

    def send(self, text: str) -> int:
        """Its number. Raises ValueError when that is too much at once."""
        if id(text) in self._sent:
            return self._sent[id(text)][0]
        self._take(1, 0)
        number = self._link.number()
        self.numbers.append(number)
        for low in range(0, len(text), wire.PIECE):
            data = text[low : low + wire.PIECE].encode("utf-8", "replace")
            self._take(0, len(data))
            self._size += len(data)
            self._link.send("piece", {"cell": self._cell, "text": number}, (data,))
        self._sent[id(text)] = number, text
        return number

    def _take(self, texts: int, size: int) -> None:
        if not self._link.room(texts, size):
            raise ValueError(
                f"more than {wire.MOST_LONG} long contexts, or {wire.MAX_LONG >> 20} MB of them, at once: ask in"
                " smaller batches; a slice of `context` costs nothing"
            )


class Subcalls:
    """The four functions, and the memory of batches that failed in part."""

    def __init__(self, link: Link, lazy: type, locate: Locate, publish: Callable[[list[Any]], None]) -> None:
        """`lazy` is the class of lazy texts (`.spans`: offsets in the corpus); `locate` finds a plain text in the
        corpus; `publish` sets `_results`."""
        self.cell = 0
        self._link = link
        self._lazy = lazy
        self._locate = locate
        self._publish = publish
        self._remembered: dict[bytes, str] = {}

    def names(self) -> dict[str, Any]:
        """What these are called in the REPL."""

        def llm_query(prompt: Any, context: Any = None, model: str | None = None) -> str:
            return self._one("llm", prompt, context, model)

        def rlm_query(prompt: Any, context: Any = None, model: str | None = None) -> str:
            return self._one("rlm", prompt, context, model)

        def llm_query_batched(
            prompts: Any, contexts: Any = None, model: str | None = None, *, return_exceptions: bool = False
        ) -> list[Any]:
            return self._batch("llm", prompts, contexts, model, return_exceptions)

        def rlm_query_batched(
            prompts: Any, contexts: Any = None, model: str | None = None, *, return_exceptions: bool = False
        ) -> list[Any]:
            return self._batch("rlm", prompts, contexts, model, return_exceptions)

        functions = (llm_query, rlm_query, llm_query_batched, rlm_query_batched)
        for function in functions:
            function.__qualname__ = function.__name__  # errors then show the bare name
        return {**{function.__name__: function for function in functions}, "SubcallError": SubcallError}

    def _one(self, kind: str, prompt: Any, context: Any, model: str | None) -> str:
        if isinstance(prompt, (list, tuple)):
            raise TypeError(f"{kind}_query takes one prompt; for a list of prompts use {kind}_query_batched")
        result = self._ask(kind, [self._text(prompt, "the prompt")], [context], model)[0]
        if isinstance(result, SubcallError):
            raise result
        return str(result)

    def _batch(self, kind: str, prompts: Any, contexts: Any, model: str | None, return_exceptions: bool) -> list[Any]:
        if isinstance(prompts, (str, self._lazy)):
            raise TypeError(f"{kind}_query_batched takes a list of prompts; for one prompt use {kind}_query")
        texts = [self._text(prompt, f"prompt {n}") for n, prompt in enumerate(prompts)]
        if isinstance(contexts, str) and model is None and len(contexts) < 100 and " " not in contexts.strip():
            contexts, model = None, contexts  # upstream's second place is the model; a context is hardly one short word
        if contexts is None or isinstance(contexts, (str, self._lazy)):
            contexts = [contexts] * len(texts)
        contexts = list(contexts)
        if len(contexts) != len(texts):
            raise ValueError(
                f"{len(texts)} prompts and {len(contexts)} contexts: one context for each prompt is wanted"
            )
        results = self._ask_missing(kind, texts, contexts, model)
        failures = [result for result in results if isinstance(result, SubcallError)]
        if failures and not return_exceptions:
            self._publish(results)
            raise SubcallError(
                f"{len(failures)} of {len(results)} sub-calls failed ({failures[0]}). The others are in `_results`"
                " (an exception at each failed place); calling again with the same prompts asks only the failed ones.",
                results,
            )
        return results

    def _ask_missing(self, kind: str, texts: list[str], contexts: list[Any], model: str | None) -> list[Any]:
        """Ask what is not remembered of a batch that failed in part; remember if this one does."""
        keys = [self._key(kind, *item, model) for item in zip(texts, contexts, strict=True)] if self._remembered else []
        results: list[Any] = [self._remembered.get(key) for key in keys] or [None] * len(texts)
        missing = [n for n, result in enumerate(results) if result is None]
        if missing:
            asked = self._ask(kind, [texts[n] for n in missing], [contexts[n] for n in missing], model)
            for n, result in zip(missing, asked, strict=True):
                results[n] = result
        keys = keys or [self._key(kind, *item, model) for item in zip(texts, contexts, strict=True)]
        failed = any(isinstance(result, SubcallError) for result in results)
        for key, result in zip(keys, results, strict=True):
            if not failed:
                self._remembered.pop(key, None)
            elif isinstance(result, str) and len(self._remembered) < REMEMBERED:
                self._remembered[key] = result
        return results

    def _key(self, kind: str, prompt: str, context: Any, model: str | None) -> bytes:
        blobs: list[str] = [prompt]
        place = self._place(context, blobs)
        shape = json.dumps([kind, model, place, [len(blob) for blob in blobs]])
        digest = hashlib.blake2b(shape.encode(), digest_size=16)
        for blob in blobs:
            for low in range(0, len(blob), wire.PIECE):
                digest.update(blob[low : low + wire.PIECE].encode("utf-8", "replace"))
        return digest.digest()

    def _ask(self, kind: str, prompts: list[str], contexts: Sequence[Any], model: str | None) -> list[Any]:
        """Strings, with a `SubcallError` at each failed place."""
        if model is not None and not isinstance(model, str):
            raise TypeError(f"model is a name, not {type(model).__name__}")
        if not prompts:
            return []
        if len(prompts) > wire.MAX_PROMPTS:
            raise ValueError(f"{len(prompts):,} prompts at once; at most {wire.MAX_PROMPTS:,}: ask in smaller batches")
        blobs = list(prompts)
        with _Ahead(self._link, self.cell) as ahead:
            send = ahead.send if kind == "rlm" else None  # no completion takes so much
            places = [self._place(context, blobs, send) for context in contexts]
            fields = {"cell": self.cell, "query": kind, "model": model, "prompts": len(prompts), "contexts": places}
            try:
                reply = self._link.request("query", {**fields, "long": ahead.numbers}, blobs)
            except wire.Violation as problem:
                raise ValueError(f"{problem}; a slice of `context` costs nothing: pass it as context=") from None
        failed = set(reply.fields["failed"])
        texts = [reply.text(n) for n in range(len(reply.blobs))]
        return [SubcallError(text) if n in failed else text for n, text in enumerate(texts)]

    def _place(self, context: Any, blobs: list[str], send: Callable[[str], int] | None = None) -> Any:
        """How a context travels: null, ["blob", n], ["span", start, stop], ["text", n] or ["list", [...]]. `send` sends
        a long text ahead and gives its number; without it that is a blob like others."""
        context = getattr(context, "text", context) if not isinstance(context, (str, list, tuple)) else context
        match context:
            case None:
                return None
            case str():
                found = self._locate(context) if len(context) >= FOUND_FROM else None
                if found is not None:
                    return ["span", *found]
                if send is not None and len(context) >= wire.LONG_FROM:
                    return ["text", send(context)]
                blobs.append(str(context))
                return ["blob", len(blobs) - 1]
            case list() | tuple() if len(context) > LISTED:
                raise ValueError(
                    f'a context of {len(context):,} texts; at most {LISTED:,}: join them, as in "\\n".join(lines)'
                )
            case list() | tuple():
                return [
                    "list",
                    [place for item in context if item is not None for place in self._parts(item, blobs, send)],
                ]
        if isinstance(context, self._lazy):
            spans = [["span", start, stop] for start, stop in context.spans]  # type: ignore[attr-defined]
            return spans[0] if len(spans) == 1 else ["list", spans]
        raise TypeError(f"a context is text or a list of texts, not {type(context).__name__}")

    def _parts(self, item: Any, blobs: list[str], send: Callable[[str], int] | None) -> list[Any]:
        """An item of a context that is a list: one text, or a text of several slices."""
        if isinstance(item, (list, tuple)):
            raise TypeError('a context is text or a list of texts, not a list of lists: "\\n".join the inner ones')
        place = self._place(item, blobs, send)
        return place[1] if place[0] == "list" else [place]

    def _text(self, prompt: Any, what: str) -> str:
        if isinstance(prompt, str):
            return str(prompt)
        if isinstance(prompt, self._lazy):
            return str(prompt)
        raise TypeError(f"{what} is text, not {type(prompt).__name__}; build it with an f-string or str(…)")
