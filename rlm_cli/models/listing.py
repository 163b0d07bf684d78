"""What can be used here, as values: `rlm models` prints them, `--json` is them.

Everything is looked up the way `rlm ask` would (`choose`, `resolve`), so a model listed as usable is one that a
question could be sent to. One thing differs: no command that prints a key is run just to list, so a key that comes from
one counts as there. `usable` False says why in the words of the error that `rlm ask -m` would end with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import ConfigError, RlmError
from ..ledger import Price
from . import OFFLINE, Choice, catalog, choose
from . import keys as credentials
from .connection import Connection, Surroundings, checked_table, resolve
from .servers import Server

SCHEMA = "rlm.models/1"
_STANDS_IN = "RLM_KEY_THAT_IS_NOT_LOOKED_UP"


@dataclass(frozen=True, slots=True)
class Key:
    """Whether there is one. `origin`: a variable's name or the place in the configuration, never the key."""

    present: bool
    origin: str | None
    needed: bool


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a model cannot be used, as `rlm ask` would say it."""

    message: str
    why: str
    hint: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One model. `origin`: where it stands (`default`, `configuration`, `offline`, `named`). Window and output are in
    tokens, price in USD per million; `tools`, `schema`, `reasoning` None = nobody has described it."""

    name: str
    origin: str
    provider: str
    endpoint: str | None
    key: Key
    window: int | None = None
    max_output: int | None = None
    price: Price | None = None
    tools: bool | None = None
    schema: bool | None = None
    reasoning: bool | None = None
    loopback: bool = False
    transport: str | None = None
    """Which way it is asked: `lean` or `litellm`; None where nothing is sent."""
    problem: Problem | None = None

    @property
    def usable(self) -> bool:
        return self.problem is None

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"usable": self.usable}


@dataclass(frozen=True, slots=True)
class Listing:
    """What there is. `choice`: what a question would use when it names nothing."""

    choice: Choice
    entries: tuple[Entry, ...]
    without_key: tuple[catalog.Provider, ...]
    """Providers with a default model that wait for a key only."""
    servers: tuple[Server, ...]
    checked: dict[str, Any] | None = field(default=None)

    def to_json(self) -> dict[str, Any]:
        """`rlm.models/1`: every key is always there."""
        return {
            "schema": SCHEMA,
            "default": {
                "name": self.choice.name,
                "sub": self.choice.sub,
                "origin": self.choice.origin,
                "fallback": self.choice.fallback,
            },
            "models": [entry.to_json() for entry in self.entries],
            "without_key": [
                {"provider": p.name, "variables": list(p.variables), "root": p.root, "sub": p.sub}
                for p in self.without_key
            ],
            "servers": [_server(server) for server in self.servers],
            "check": self.checked,
        }


def _server(server: Server) -> dict[str, Any]:
    models = server.models or ()
    return {
        "kind": server.kind.name,
        "address": server.address,
        "wants_key": server.models is None,
        "models": [
            {"name": server.full_name(m), "window": m.window, "line": f'{server.words(m)} "QUESTION" FILE'}
            for m in models
        ],
    }


@dataclass(frozen=True, slots=True)
class Here:
    """Where names are looked up: the tables of the configuration and the environment."""

    models: Mapping[str, Any]
    keys: Mapping[str, Any]
    environ: Mapping[str, str]
    options: tuple[str, ...] = ()
    local: bool = False
    transport: str = "auto"

    @property
    def surroundings(self) -> Surroundings:
        """Those of a run, with every command that prints a key replaced by a variable that is set."""
        models = {
            name: table | {"key": _unlooked(table["key"])} if isinstance(table, dict) and "key" in table else table
            for name, table in self.models.items()
        }
        keys = {name: _unlooked(entry) for name, entry in self.keys.items()}
        environ = {**self.environ, _STANDS_IN: "listed"}
        return Surroundings(models, keys, self.options, self.local, environ, transport=self.transport)


def _unlooked(entry: object) -> object:
    return {"env": _STANDS_IN} if isinstance(entry, dict) and "command" in entry else entry


def listing(model: str | None, origin: str, sub_model: str | None, here: Here, servers: list[Server]) -> Listing:
    """Everything. `model`, `sub_model`: as configured. Raises nothing but for a bug: problems are part of it."""
    choice = choose(model, origin, here.environ, keys=here.keys)
    names: dict[str, str] = {choice.name: "named" if model is not None else "default"}
    names.setdefault(sub_model or choice.sub, "named" if sub_model is not None else names[choice.name])
    names |= dict.fromkeys(here.models, "configuration")
    without_key = []
    for provider in catalog.PROVIDERS:
        if provider.root is None or provider.sub is None:
            continue
        if credentials.in_environment(provider, here.environ) is None and provider.name not in here.keys:
            without_key.append(provider)
            continue
        for bare in (provider.root, provider.sub):
            names.setdefault(f"{provider.name}/{bare}", "default")
    names.setdefault(OFFLINE, "offline")
    if choice.fallback:
        names[OFFLINE] = "offline"
    entries = tuple(entry(name, where, here) for name, where in names.items())
    return Listing(choice, entries, tuple(without_key), tuple(servers))


def entry(name: str, origin: str, here: Here) -> Entry:
    """One name in full. What is known of a model is told of one that cannot be used too."""
    if name == OFFLINE and name not in here.models:
        from .offline import ExtractiveModel

        own = ExtractiveModel
        key = Key(False, None, False)
        return Entry(name, "offline", "offline", None, key, own.window, own.max_output, own.price, False, False, False)
    around = here.surroundings
    problem: RlmError | None = None
    try:
        connection: Connection | None = resolve(name, around)
    except ConfigError as error:
        problem = error
        connection = _were_there_a_key(name, around)
    prefix, key = _key(name, here)
    told = Problem(problem.message, problem.why, problem.hint) if problem is not None else None
    if connection is None:
        return Entry(name, origin, prefix, None, key, problem=told)
    described = connection.tools is not None
    return Entry(
        name=name,
        origin=origin,
        provider=connection.provider,
        endpoint=connection.endpoint,
        key=key,
        window=connection.window,
        max_output=connection.max_output,
        price=connection.price,
        tools=connection.tools,
        schema=connection.structured if described else None,
        reasoning=connection.reasons if described else None,
        loopback=connection.loopback,
        transport=connection.transport,
        problem=told,
    )


def _were_there_a_key(name: str, around: Surroundings) -> Connection | None:
    """What is known of a model that lacks only its key; None when something else is wrong with it."""
    keys = {provider.name: {"env": _STANDS_IN} for provider in catalog.PROVIDERS}
    table = around.models.get(name)
    models = {name: {**table, "key": {"env": _STANDS_IN}}} if isinstance(table, dict) else {}
    keyed = Surroundings(models, keys, around.options, False, around.environ, transport=around.transport)
    try:
        return resolve(name, keyed)
    except ConfigError:
        return None


def _key(name: str, here: Here) -> tuple[str, Key]:
    """The provider's prefix, and where its key is, in the order in which one is looked for."""
    table: Mapping[str, Any] = {}
    if name in here.models:
        try:
            table = checked_table(name, here.models[name])
        except ConfigError:
            pass  # the entry's problem says so
    prefix = str(table.get("model", name)).partition("/")[0]
    provider = catalog.provider(prefix)
    own_server = bool(table.get("api_base")) and provider is not None and not provider.own_address
    needed = provider is not None and provider.needs_key and not own_server
    if "key" in table:
        return prefix, Key(_is_there(table["key"], here.environ), f"[models.{name}] key", needed)
    if own_server or provider is None:
        return prefix, Key(False, None, needed)
    if prefix in here.keys:
        return prefix, Key(_is_there(here.keys[prefix], here.environ), f"[keys] {prefix}", needed)
    variable = credentials.in_environment(provider, here.environ)
    return prefix, Key(variable is not None, variable, needed)


def _is_there(entry: object, environ: Mapping[str, str]) -> bool:
    """A command's key counts as there: it is not run for this."""
    match entry:
        case {"command": str()}:
            return True
        case {"env": str(variable)}:
            return bool(environ.get(variable, "").strip())
    return False


def default_models() -> Iterator[tuple[str, str, str, str]]:
    """The documented table: provider, variables, root model, sub-model; in the order in which a key decides."""
    for provider in catalog.PROVIDERS:
        if provider.root is not None and provider.sub is not None:
            yield provider.name, " or ".join(provider.variables), provider.root, provider.sub
