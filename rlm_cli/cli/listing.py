"""`rlm models`: what can be used here, with the line that uses it.

Without a name: what a question would be answered by, every model that a key, the configuration or a server on this
machine offers. With a name: that one in full, and why it cannot be used where it cannot (exit 3). `--check` makes one
tiny call to it (exit 5 when the provider fails). `--json` prints `rlm.models/1`, described by `rlm help models`.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from ..errors import ConfigError
from ..models.listing import Entry, Here, Listing
from ..settings import Settings
from ..views.figures import count, usd
from ..views.safe import cells, one_line, padded, safe_json
from .configuration import Resolved, resolve, say
from .failure import say_error, tell

UNKNOWN = "?"
COLUMNS = ("model", "window", "output", "$/M in", "$/M out", "tools", "schema", "reasons", "")
NAME_WIDTH = 60


def models(arguments: list[str], options: dict[str, Any]) -> int:
    """Print the listing, or one model. Raises `ConfigError` for a name that cannot be used, after having printed it."""
    from ..models import listing as listed
    from ..models.servers import running

    resolved = resolve({}, config_file=options.get("config_file"))
    s = resolved.settings
    here = Here(s.models, s.keys, os.environ, s.option, s.local, s.transport)
    named = arguments[0] if arguments else s.model
    origin = "the command line" if arguments else resolved.origins["model"]
    whole = listed.listing(named, origin, None if arguments else s.sub_model, here, running(os.environ))
    if arguments:
        whole = replace(whole, entries=whole.entries[:1], without_key=())
    checked, code = _checked(whole, s, options) if options.get("check") else (None, 0)
    if checked is not None:
        whole = replace(whole, checked=checked)
    if options.get("json"):
        say(safe_json(json.dumps(whole.to_json(), ensure_ascii=False)))
    else:
        for line in _one(whole, s) if arguments else _all(whole, resolved):
            say(line)
        if checked is not None and checked["ok"]:
            say(_answered(checked))
    problem = whole.entries[0].problem if arguments else None
    if problem is not None and not code:
        say_error(ConfigError(problem.message, why=problem.why, hint=problem.hint), s.color)
        return ConfigError.exit_code
    return code


def _checked(whole: Listing, s: Settings, options: dict[str, Any]) -> tuple[dict[str, Any] | None, int]:
    """One call to the model of the listing: what came of it, and the exit code."""
    from .. import models as kinds
    from ..models.check import ceiling_usd, check

    if whole.entries[0].problem is not None:
        return None, 0
    model = kinds.connect(
        whole.choice.name,
        models=s.models,
        keys=s.keys,
        environ=os.environ,
        options=s.option,
        local=s.local,
        effort=s.effort,
        transport=s.transport,
    )
    where = model.endpoint or "this process"
    ceiling = ceiling_usd(model)
    most = "its cost is not known" if ceiling is None else f"for {usd(ceiling)} at most"
    tell(f"rlm: one call to {one_line(model.name)} at {one_line(where)}, {most}\n")
    done = asyncio.run(check(model))
    if done.error is not None:
        say_error(done.error, s.color)
        return done.to_json(), done.error.exit_code
    return done.to_json(), 0


def _answered(checked: dict[str, Any]) -> str:
    usage = checked["usage"]
    tokens = f"{usage['input_tokens']}→{usage['output_tokens']} tokens"
    return f"answered in {checked['seconds']:.2f} s · {tokens} · {usd(checked['cost_usd'])}"


def _all(whole: Listing, resolved: Resolved) -> Iterator[str]:
    choice, root = whole.choice, whole.entries[0]
    sub = resolved.settings.sub_model or choice.sub
    more = f", sub-calls by {one_line(sub)}" if sub != choice.name else ""
    yield f"rlm ask uses {one_line(choice.name)}, because of {one_line(choice.origin)}{more}"
    if root.problem is not None:
        yield f"which cannot be used: {one_line(root.problem.message)}"
    elif choice.fallback:
        yield "which is no language model: it quotes the sentences that match best. Set a key, or use a server below"
    yield ""
    yield from _table(whole.entries)
    yield ""
    yield from _servers(whole)
    if whole.without_key:
        waiting = ", ".join(f"{p.name} ({p.variables[0]})" for p in whole.without_key)
        yield ""
        yield f"no key for {waiting}"
    yield ""
    yield "rlm models NAME shows one; --check makes one tiny call; any provider/model that litellm knows can be named"


def _table(entries: Iterable[Entry]) -> Iterator[str]:
    rows = [list(COLUMNS), *(_row(entry) for entry in entries)]
    widths = [max(cells(row[n]) for row in rows) for n in range(len(COLUMNS))]
    for row in rows:
        columns = enumerate(zip(row, widths, strict=True))
        yield "  ".join(padded(text, width, right=1 <= n <= 4) for n, (text, width) in columns).rstrip()


def _row(entry: Entry) -> list[str]:
    price = entry.price
    return [
        one_line(entry.name, NAME_WIDTH),
        UNKNOWN if entry.window is None else count(entry.window),
        UNKNOWN if entry.max_output is None else count(entry.max_output),
        UNKNOWN if price is None else f"{price.input:.2f}",
        UNKNOWN if price is None else f"{price.output:.2f}",
        *(_said(value) for value in (entry.tools, entry.schema, entry.reasoning)),
        _standing(entry),
    ]


def _said(value: bool | None) -> str:
    return UNKNOWN if value is None else "yes" if value else "no"


def _standing(entry: Entry) -> str:
    """Its key, or why it cannot be used."""
    if entry.problem is not None:
        return one_line(f"cannot be used: {entry.problem.message}", 100)
    if entry.key.origin is not None:
        return one_line(entry.key.origin, 60)
    return "no key needed" if entry.endpoint is None or entry.loopback else "no key"


def _servers(whole: Listing) -> Iterator[str]:
    if not whole.servers:
        yield "no server for models answers on this machine (asked: Ollama, LM Studio, llama.cpp, vLLM)"
    for server in whole.servers:
        yield f"{server.kind.name} answers at {one_line(server.address)}"
        if server.models is None:
            yield "  but tells its models only to who has its key"
        elif not server.models:
            yield "  and has no model yet"
        for served in server.models or ():
            yield f'  {server.words(served)} "QUESTION" FILE'


def _one(whole: Listing, s: Settings) -> Iterator[str]:
    entry = whole.entries[0]
    price = entry.price
    yield one_line(entry.name, 200)
    facts = [("usable", "yes" if entry.usable else "no")]
    if entry.provider != "offline":
        origin = one_line(entry.key.origin or "none")
        told = origin if entry.key.present else f"{origin}, which holds none" if entry.key.origin else "none"
        facts.append(("key", told if entry.key.present or entry.key.needed else f"{told}, and it may need none"))
        facts.append(("sends to", one_line(entry.endpoint or "an address that is not known")))
    else:
        facts.append(("sends to", "nobody: no language model, it quotes the sentences that match best"))
    if entry.transport is not None:
        facts.append(("asked by", "plain HTTP (lean)" if entry.transport == "lean" else entry.transport))
    if entry.window is not None and entry.max_output is not None:
        facts.append(("window", f"{entry.window:,} tokens, a reply {entry.max_output:,} at most"))
        facts.append(("price", "unknown" if price is None else _price(entry)))
        features = (("tools", entry.tools), ("schema", entry.schema), ("reasoning", entry.reasoning))
        facts += [(name, "unknown" if value is None else _said(value)) for name, value in features]
    facts += _on_server(entry, whole)
    if entry.usable:
        facts.append(("use", f'rlm ask -m {shlex.quote(entry.name)} "QUESTION" FILE'))
    for name, text in facts:
        yield f"  {name:<10}{text}"


def _price(entry: Entry) -> str:
    price = entry.price
    assert price is not None
    named = (("in", price.input), ("cached", price.cached), ("cache write", price.cache_write), ("out", price.output))
    return " · ".join(f"${value:,.2f} {name}" for name, value in named if value is not None) + ", a million tokens"


def _on_server(entry: Entry, whole: Listing) -> Iterator[tuple[str, str]]:
    """What a server on this machine adds: that it has the model, with which window, and how to name it."""
    from ..models.servers import ollama_window

    for server in whole.servers:
        for served in server.models or ():
            if server.full_name(served) != entry.name and served.name != entry.name:
                continue
            yield "server", f"{server.kind.name} at {server.address} has it"
            if not entry.usable:
                yield "use", f'{server.words(served)} "QUESTION" FILE'
            window = served.window or (
                ollama_window(server.address, served.name) if server.kind.name == "Ollama" else None
            )
            if window and entry.window != window:
                yield "window", f"{window:,} tokens are possible, at the price of memory. In the configuration:"
                for line in ("[models.mine]", f"model = {json.dumps(server.full_name(served), ensure_ascii=False)}"):
                    yield "", f"  {line}"
                yield "", f'  api_base = "{server.address}"'
                yield "", f"  window = {window}"
                yield "", "and then -m mine"
