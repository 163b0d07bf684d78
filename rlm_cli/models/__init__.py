"""Models: one protocol, which model a run uses, and the table that says which class stands for a name.

`choose` decides a name and says where it comes from; `connect` makes a model of a name or explains why it cannot. Only
`choose` may fall back, only when nothing was named, and only to `offline/extractive`, which is no language model and
says so. Where nobody would see that notice (`careful`), it is refused instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from ..call import Completion, Dialect, Message
from ..errors import ConfigError
from ..ledger import Price
from ..schema import Schema

if TYPE_CHECKING:
    from .connection import Connection
    from .replies import Replies

OFFLINE = "offline/extractive"
HOW_TO_CHOOSE = "Choose one with --model provider/model, or set a key, for example ANTHROPIC_API_KEY or OPENAI_API_KEY."
"""What to say to somebody who has chosen no model."""


class Model(Protocol):
    """One model at one endpoint. `complete` makes exactly one attempt; retries, slots and money are the caller's."""

    name: str
    """As the user spelled it."""
    endpoint: str | None
    """Host the text is sent to, for the plan; None when nothing leaves the machine's own process."""
    window: int
    """Tokens of input and output together; a cautious default where it is not known."""
    max_output: int
    """Tokens the model can write at most."""
    price: Price | None
    """None = unknown."""
    protocol: Dialect
    """How it is offered the REPL."""
    reasons: bool
    """It thinks before it writes, as far as is known."""
    structured: bool
    """Its provider holds a reply to a JSON Schema, as far as is known."""
    rpm: int | None
    """Requests a minute the user allows; None = as many as there are."""
    transport: str | None
    """How its requests go out, `lean` or `litellm`; None when nothing is sent."""
    tpm: int | None
    """The same of tokens, in and out."""

    async def ready(self) -> None:
        """Returns once a request could be sent: what has to be loaded for it counts as no request's time.

        Raises `ConfigError`.
        """
        ...

    async def complete(
        self, messages: Sequence[Message], *, max_output_tokens: int, sub: bool, schema: Schema | None = None
    ) -> Completion:
        """One request, one reply, thinking apart from text. The functions that are offered are on the system message.
        `sub` chooses the options meant for the sub-LM. `schema`, of an object, is for a provider to hold the reply to;
        only for a model that is `structured`. It may take for ever: who calls has a deadline, and cancels.

        Raises `ModelError` (with `retriable`, `retry_after`, `terminal`, `schema_refused`) or `ConfigError` (key,
        unknown model).
        """
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Choice:
    """A model's name and where it comes from (`--model`, `RLM_MODEL`, `ANTHROPIC_API_KEY in the environment`, …).

    `fallback`: nothing was named and no key is there, so no language model is used. `sub`: the model for sub-calls
    that goes with it when none is named.
    """

    name: str
    origin: str
    fallback: bool
    sub: str


def choose(
    named: str | None,
    origin: str,
    environ: Mapping[str, str],
    *,
    keys: Mapping[str, Any],
    careful: bool = False,
) -> Choice:
    """The root model: what was named (`origin` says where), else the first provider with a key, else offline.

    `keys` is the table of the configuration: a provider with an entry there counts like one with a key in the
    environment. `careful`: somebody relies on the answer unseen, so the last resort is refused with `ConfigError`.
    Whether the model can be used is for `connect` to say.
    """
    from . import catalog
    from . import keys as credentials

    if named is not None:
        return Choice(named, origin, False, named)
    for provider in catalog.PROVIDERS:
        if provider.root is None or provider.sub is None:
            continue
        variable = credentials.in_environment(provider, environ)
        if variable is None and provider.name not in keys:
            continue
        why = f"[keys] {provider.name} in the configuration" if variable is None else f"{variable} in the environment"
        return Choice(f"{provider.name}/{provider.root}", why, False, f"{provider.name}/{provider.sub}")
    if careful:
        raise ConfigError(
            "no model is configured",
            why=f"an answer that is relied on unseen must not come of {OFFLINE}, which is no language model",
            hint=f"{HOW_TO_CHOOSE} Or name it: --model {OFFLINE}",
        )
    return Choice(OFFLINE, "no model being configured", True, OFFLINE)


def connect(
    name: str,
    *,
    models: Mapping[str, Any],
    keys: Mapping[str, Any],
    environ: Mapping[str, str],
    options: Sequence[str] = (),
    local: bool = False,
    protocol: Dialect = "auto",
    effort: str | None = None,
    transport: str = "auto",
) -> Model:
    """The model of a name: `provider/model`, a `[models.NAME]`, or `offline/extractive`.

    `options` are `KEY=VALUE` and `sub.KEY=VALUE`; values are JSON where they can be. `local` refuses whatever is not
    loopback. `protocol`, `effort` and `transport` as in the table of settings. Nothing is sent. Raises
    `ConfigError` when a request could not succeed.
    """
    if name == OFFLINE and name not in models:
        from .offline import ExtractiveModel

        return ExtractiveModel()
    from .connection import Surroundings, resolve

    found = resolve(name, Surroundings(models, keys, options, local, environ, protocol, effort, transport))
    if found.transport == "lean":
        from .chat import ChatModel

        return ChatModel(found)
    from .litellm import LitellmModel

    return LitellmModel(found)


def on_record(model: Model, replies: Replies | None, sample: str = "") -> Model:
    """The model, with what is on record of it in front; as it is where nothing is kept, or nothing is sent.

    `sample`: which independent trajectory asks.
    """
    connection = _connection_of(model)
    if replies is None or connection is None:
        return model
    from .recorded import Recorded

    return cast(Model, Recorded(model, connection.identity, replies, sample))


def least_cached(model: Model) -> int:
    """Tokens from which on the model's provider caches a beginning that is marked as shared; 0: it wants no marks."""
    connection = _connection_of(model)
    return connection.least_cached if connection is not None else 0


def deployment(model: Model) -> Hashable:
    """The same for models that are one to whoever counts requests: whatever their names and options here."""
    connection = _connection_of(model)
    return connection.deployment if connection is not None else (model.endpoint, model.name)


def _connection_of(model: Model) -> Connection | None:
    """How it is reached; None of a model that nothing is sent to."""
    return getattr(model, "_connection", None)


def warm_up() -> None:
    """Start importing litellm in the background: 3 s of computing that overlap with waiting for files and people.

    Worth calling once there is something to ask and a real model to ask. Idempotent, prints nothing, and never delays
    an early exit (a daemon thread).
    """
    from .litellm import start_import

    start_import()


def warm_up_for(models: Iterable[Model]) -> Callable[[], None]:
    """Starts to load, in the background, what requests to these models need."""
    ways = {model.transport for model in models}

    def start() -> None:
        if "litellm" in ways:
            warm_up()
        if "lean" in ways:
            from .background import AIOHTTP

            AIOHTTP.start()

    return start


def warm_up_early(named: str | None, *, models: Mapping[str, Any], keys: Mapping[str, Any], transport: str) -> None:
    """Start to load what the lean way needs, if it looks as if the root model went it: before the rest of a run is
    imported, because a part of that does not compute. Decides nothing and raises nothing."""
    from . import catalog

    table = models.get(named or "")
    name = table.get("model") if isinstance(table, dict) else named
    if name is None:
        name = choose(None, "", os.environ, keys=keys).name
    if transport != "litellm" and str(name).partition("/")[0] in catalog.CHAT:
        from .background import AIOHTTP

        AIOHTTP.start()


def without_keys(environ: Mapping[str, str], models: Iterable[Model]) -> dict[str, str]:
    """`environ` without the variables that providers' keys are read from, and without any that holds a key of these
    models: for a process whose calls a model decides."""
    from . import catalog

    known = {variable for provider in catalog.PROVIDERS for variable in provider.variables}
    held = secrets(models)
    return {
        name: value for name, value in environ.items() if name not in known and not any(key in value for key in held)
    }


def secrets(models: Iterable[Model]) -> tuple[str, ...]:
    """The keys these models hold, for whoever writes to disk and must not write them."""
    held = (getattr(model, "secret", None) for model in models)
    return tuple(key for key in held if isinstance(key, str) and key)
