"""From a model's name to everything a request needs: address, key, window, price, options. Decided before the run.

A model that was named and cannot be used is an error here (exit 3), never a fallback and never a failure after ten
minutes of reading. `[models.NAME]` tables are checked key by key: a misspelled one, silently ignored, costs money.

A provider's key goes to the provider's own address, or to the one the environment names, not to the `api_base` of a
`[models.NAME]`: that is some other server, and gets the `key` of its table or none.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..call import Dialect
from ..errors import ConfigError
from ..ledger import Price
from . import OFFLINE, caching, catalog
from . import keys as credentials
from .addresses import address_in, held_here, host_of, is_loopback, refuse_user
from .transport import Transport, chat_address, what_needs_litellm
from .transport import choose as choose_transport

NO_KEY = "none"
"""Sent where a server wants no key: litellm would pick one up from the environment otherwise."""

_TABLE: dict[str, type | tuple[type, ...]] = {
    "model": str,
    "api_base": str,
    "base_model": str,
    "window": int,
    "max_output": int,
    "price": dict,
    "rpm": int,
    "tpm": int,
    "fallback": list,
    "protocol": str,
    "effort": str,
    "transport": str,
    "options": dict,
    "key": dict,
}
_CHOICES = {
    "protocol": ("auto", "text", "tools"),
    "effort": ("low", "medium", "high"),
    "transport": ("auto", "lean", "litellm"),
}
_PRICE = ("input", "cached", "cache_write", "output", "reasoning")
_OUR_ARGUMENTS = (
    "model messages stream n tools functions timeout num_retries max_retries fallbacks caching client api_key api_base"
    " base_url max_tokens max_completion_tokens mock_response custom_llm_provider use_litellm_proxy model_list"
    " context_window_fallback_dict shared_session"
)
_OURS = frozenset(_OUR_ARGUMENTS.split())
"""Arguments of a request that are decided elsewhere; as options they would undo limits or leak keys."""


@dataclass(frozen=True, slots=True)
class Connection:
    """All that a request to one model needs. `options` go with every request, `sub_options` on top with sub-calls.

    `model` is in litellm's spelling. `api_base` None: the provider's own. `endpoint` is the host shown in the plan.
    `protocol`: how it is offered the REPL. `reasons`: it thinks before it writes, as far as is known; `effort`: for how
    long, None = as it likes. `transport`: which way it is asked; `chat`: the address for the lean one; `output_limit`:
    the name that its output limit has there. `local`: only this machine may be asked. `tools`: it calls
    functions, None = nobody has described it.
    """

    name: str
    model: str
    provider: str
    endpoint: str
    api_base: str | None
    window: int
    max_output: int
    price: Price | None
    rpm: int | None = None
    tpm: int | None = None
    loopback: bool = False
    protocol: Dialect = "auto"
    tools: bool | None = None
    reasons: bool = False
    effort: str | None = None
    structured: bool = False
    transport: Transport = "litellm"
    chat: str = ""
    output_limit: str = "max_tokens"
    local: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    sub_options: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = field(default=None, repr=False)

    @property
    def least_cached(self) -> int:
        """Tokens from which on its provider caches what it is told to; 0: it is not to be told."""
        return caching.least_tokens(self.provider, self.model)

    @property
    def deployment(self) -> tuple[str | None, ...]:
        """Whose requests are counted together: one model, at one address, on one account."""
        return (self.provider, self.endpoint, self.api_base, self.model, self.key)

    @property
    def identity(self) -> str:
        """All that a sub-call's reply depends on beside the request: two connections with the same one are one model.
        Who asks is no part of it, so neither is the key."""
        there = [self.provider, self.endpoint, self.api_base, self.model, self.protocol, self.effort]
        return json.dumps([there, dict(self.options), dict(self.sub_options)], sort_keys=True, default=str)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What names are looked up in: the `[models]` and `[keys]` tables, `--option`s, `--local`, the environment; and
    what holds for models whose table says nothing else."""

    models: Mapping[str, Any]
    keys: Mapping[str, Any]
    options: Sequence[str]
    local: bool
    environ: Mapping[str, str]
    protocol: Dialect = "auto"
    effort: str | None = None
    transport: str = "auto"


def resolve(name: str, around: Surroundings) -> Connection:
    """Raises `ConfigError` whenever a request could not succeed."""
    table = checked_table(name, around.models[name]) if name in around.models else {}
    model = str(table.get("model", name))
    prefix, slash, bare = model.partition("/")
    provider = catalog.provider(prefix) if slash and bare else None
    if provider is None:
        raise _unknown(name, model, around.models, bool(table))
    if "://" in bare or "http:" in bare or "https:" in bare:  # litellm would send texts there
        hint = f'[models.NAME] with model = "{prefix}/…" and api_base = "http://…"'
        raise ConfigError(f"{name}: an address is no model's name", hint=hint)
    api_base = table.get("api_base") or address_in(around.environ, provider)
    endpoint = host_of(api_base, name) if api_base else provider.host
    if endpoint is None and provider.own_address:
        raise ConfigError(
            f"{name}: no address for {prefix}/",
            why="the server is yours, so only you know where it is",
            hint=f'[models.NAME] with model = "{model}" and api_base = "http://…", or {prefix.upper()}_API_BASE=…',
        )
    loopback = is_loopback(endpoint, resolving=around.local)
    if around.local and not loopback:
        raise ConfigError(
            f"--local: {name} is not on this machine",
            why=f"its texts would go to {endpoint or f'an address that only {prefix} knows'}",
            hint="name a model of a server on this machine, or leave out --local",
        )
    if api_base:
        refuse_user(api_base, name)
        api_base = held_here(api_base, name) if around.local else api_base
    options, sub_options = _options(around.options, table.get("options", {}), name)
    tier = {**options, **sub_options}.get("service_tier")
    known = _known(provider, bare, table, tier if tier in ("priority", "flex") else "")
    reasons = known is not None and known.reasons
    window, max_output, price = _measures(provider, known, table, loopback)
    protocol = table.get("protocol", around.protocol)
    if protocol == "auto" and catalog.CALLS_ANYWAY.match(f"{provider.name}/{bare}"):
        protocol = "tools"
    if prefix in ("ollama", "ollama_chat") and isinstance(options.get("num_ctx"), int):
        window = options["num_ctx"]
    own_server = bool(table.get("api_base")) and not provider.own_address
    key = credentials.look_up(
        _key_entry(name, prefix, table, {} if own_server else around.keys),
        () if own_server else provider.variables,
        around.environ,
    )
    if key is None and provider.needs_key and not own_server:
        raise ConfigError(
            f"no API key for {name}",
            why=f"{provider.variables[0]} is not set",
            hint=f'export {provider.variables[0]}=…, or [keys] {prefix} = {{ command = "…" }} in the configuration',
        )
    if key is None and own_server:
        key = NO_KEY
    effort = table.get("effort", around.effort if reasons else None)
    needs_litellm = what_needs_litellm(
        provider,
        known,
        api_base=api_base,
        options=(*options, *sub_options),
        effort=effort is not None and "effort" not in table,
        tools=protocol != "text",
    )
    transport = choose_transport(table.get("transport", around.transport), name, needs_litellm)
    # OpenAI's newer models want the new name of the limit, servers that imitate it often know the old one only.
    new_name = prefix == "openai" and (api_base is None or (known is not None and known.reasons))
    return Connection(
        name=name,
        model=model,
        provider=prefix,
        endpoint=endpoint or prefix,
        api_base=api_base,
        window=window,
        max_output=min(max_output, window),
        price=price,
        rpm=table.get("rpm"),
        tpm=table.get("tpm"),
        loopback=loopback,
        protocol=protocol,
        tools=None if known is None else known.tools,
        reasons=reasons or "effort" in table,
        effort=effort,
        structured=known is not None and known.structured,
        transport=transport,
        chat=chat_address(api_base or catalog.CHAT.get(prefix) or ""),
        output_limit="max_completion_tokens" if new_name else "max_tokens",
        local=around.local,
        options=options,
        sub_options=sub_options,
        key=key,
    )


def _key_entry(name: str, prefix: str, table: Mapping[str, Any], keys: Mapping[str, Any]) -> tuple[str, object] | None:
    """Where the configuration says the key is: the model's own `key`, else `[keys]` of its provider."""
    if "key" in table:
        return f"[models.{name}] key", table["key"]
    return (f"[keys] {prefix}", keys[prefix]) if prefix in keys else None


def _known(provider: catalog.Provider, bare: str, table: Mapping[str, Any], tier: str) -> catalog.Known | None:
    """What the map says of the model, or of the `base_model` that it is, at the tier that is asked for."""
    base = str(table.get("base_model") or f"{provider.name}/{bare}")
    prefix, slash, rest = base.partition("/")
    return catalog.known(prefix, rest, tier) if slash else catalog.known("openai", base, tier)


def _measures(
    provider: catalog.Provider, known: catalog.Known | None, table: Mapping[str, Any], loopback: bool
) -> tuple[int, int, Price | None]:
    """Window, output limit, price: the table's own, else what is known, else cautious ones.

    A price that the user wrote wins over the map, which is as old as the installed litellm; a provider's own figure,
    which comes with its reply, wins over both.
    """
    default = catalog.OLLAMA_WINDOW if provider.name.startswith("ollama") else catalog.DEFAULT_WINDOW
    window = known.window if known else default
    price = known.price if known else None
    if loopback and provider.name in catalog.LOCAL_SERVERS:
        price = Price(0.0, 0.0)
        window = min(window, default)
    if "price" in table:
        given = table["price"]
        price = Price(*(given.get(name) for name in ("input", "output", "cached", "cache_write", "reasoning")))
    max_output = known.max_output if known else catalog.DEFAULT_MAX_OUTPUT
    return table.get("window", window), table.get("max_output", max_output), price


def checked_table(name: str, table: object) -> dict[str, Any]:
    """A `[models.NAME]` table whose keys and values are what they should be. Raises `ConfigError`."""
    where = f"[models.{name}]"
    if not isinstance(table, dict):
        raise ConfigError(f"{where} is not a table", hint=f'[models.{name}] and below it model = "provider/model"')
    for key, value in table.items():
        if key not in _TABLE:
            hint = 'key = { env = "MY_KEY" }' if key == "api_key" else _did_you_mean(key, _TABLE)
            raise ConfigError(f"{where} has no setting {key!r}", hint=hint)
        if key == "key":
            credentials.check_place(f"{where} key", value)
        if not isinstance(value, _TABLE[key]) or isinstance(value, bool):
            raise ConfigError(f"{where} {key}: {_wanted(_TABLE[key])} is wanted")
        if isinstance(value, int) and value <= 0:
            raise ConfigError(f"{where} {key}: a number above 0 is wanted")
        if isinstance(value, list) and not all(isinstance(name, str) for name in value):
            raise ConfigError(f"{where} {key}: {_wanted(list)} is wanted")
        if key in _CHOICES and value not in _CHOICES[key]:
            raise ConfigError(f"{where} {key}: {value!r} is not one of {', '.join(_CHOICES[key])}")
    if "model" not in table:
        raise ConfigError(f"{where} has no model", hint='model = "provider/model"')
    if "price" in table:
        _check_price(where, table["price"])
    return table


def _check_price(where: str, price: dict[str, Any]) -> None:
    for key, value in price.items():
        if key not in _PRICE:
            raise ConfigError(f"{where} price has no {key!r}", hint=_did_you_mean(key, _PRICE))
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e6:
            raise ConfigError(f"{where} price.{key}: USD per million tokens is wanted, like 0.25")
    if not {"input", "output"} <= set(price):
        raise ConfigError(f"{where} price needs both input and output", hint="price = { input = 0.25, output = 2.0 }")


def _options(given: Sequence[str], configured: Mapping[str, Any], name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options for every request and those for sub-calls only. `--option` wins over the configuration."""
    both: dict[str, Any] = dict(configured)
    sub: dict[str, Any] = {}
    for option in given:
        key, equals, raw = option.partition("=")
        if not equals or not key:
            raise ConfigError(f"--option {key or option!r}: KEY=VALUE is wanted", hint="--option temperature=0.2")
        try:
            value = json.loads(raw)
        except ValueError:
            value = raw
        if key.startswith("sub."):
            sub[key.removeprefix("sub.")] = value
        else:
            both[key] = value
    for key in (*both, *sub):
        if key in _OURS:
            raise ConfigError(f"{name}: {key!r} is no option of a model", why="rlm decides it", hint="rlm ask --help")
        try:
            json.dumps((both | sub)[key], allow_nan=False)
        except (TypeError, ValueError):  # a date, nan
            raise ConfigError(f"{name}: option {key!r} has a value that no request can carry") from None
    return both, sub


def _unknown(name: str, model: str, models: Mapping[str, Any], is_table: bool) -> ConfigError:
    """`is_table`: the model stands in `[models.NAME]`, which cannot name another one, or itself."""
    prefix, slash, bare = model.partition("/")
    where = f"[models.{name}] model: " if is_table else ""
    if prefix == "offline":
        if is_table and model == OFFLINE:
            why = "it is asked without an address, a key or options"
            return ConfigError(f"{where}{model} needs no table", why=why, hint=f"--model {model}")
        return ConfigError(f"{where}there is no model {model!r}", hint=OFFLINE)
    if slash and not bare:
        return ConfigError(f"{where}{model!r} names a provider and no model", hint=f"{prefix}/MODEL")
    if slash:
        near = [f"{provider}/{bare}" for provider in catalog.near_providers(prefix)]
        return ConfigError(f"{where}unknown provider {prefix!r} in {model!r}", hint=_or(near) or "provider/model")
    near = catalog.near_models(model)
    if is_table:
        why = "a model is provider/model there"
        return ConfigError(f"{where}unknown model {model!r}", why=why, hint=_or(near) or f"openai/{model or 'MODEL'}")
    near = difflib.get_close_matches(name, list(models), n=2) + near
    return ConfigError(
        f"unknown model {name!r}",
        why="a model is provider/model, or the NAME of a [models.NAME] in the configuration",
        hint=_or(near) or f"openai/{model}",
    )


def _wanted(kind: type | tuple[type, ...]) -> str:
    names = {str: "a text", int: "a whole number", dict: "a table", list: "a list of models"}
    return names[kind if isinstance(kind, type) else kind[0]]


def _did_you_mean(word: str, words: Sequence[str] | Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(word, list(words), n=2, cutoff=0.5)
    return f"did you mean {_or(near)}?" if near else f"it may have {', '.join(words)}"


def _or(words: Sequence[str]) -> str:
    return " or ".join(words)
