"""Any provider through litellm: the only file that imports it.

litellm speaks to a hundred providers, and takes 3 s and 170 MB to import, prints advice to stdout, downloads a price
map, and reports most failures as a 500. So: it is imported in a daemon thread, with an environment that keeps it from
the network; its loggers are silenced; its retries are off (ours know about money and time); and every failure is read
here once and becomes a `ModelError` or a `ConfigError` in the user's words, without the key in it. Its own guess at
costs is not used: it is 0.0 for models it does not know.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

from ..call import Completion, Message
from ..errors import ConfigError, RlmError
from ..schema import Schema
from ..trust import certificate_file
from . import caching, chat_format
from .background import Background
from .connection import NO_KEY, Connection
from .cut import cut_error
from .failures import failed_generation, of_request
from .ollama import Room

CLIENT_TIMEOUT_S = 86_400.0
"""Seconds; the caller's own deadline comes first. Always the same: litellm keeps one HTTP client, with its
connections, for each value it is told."""

_ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else three tries to download it
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOG": "ERROR",  # read at import
    "HF_HUB_OFFLINE": "1",  # token counting asked a hub for tokenizers
}
_asked: set[LitellmModel] = set()
"""Models that hold connections."""


def start_import() -> Future[Any]:
    """Begin the import unless it has begun; the future holds the module."""
    return _imported.start()


def _import() -> Any:
    import logging
    import warnings

    os.environ.update({name: value for name, value in _ENVIRONMENT.items() if name not in os.environ})
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    if "SSL_CERT_FILE" not in os.environ and (certificates := certificate_file()) is not None:
        os.environ["SSL_CERT_FILE"] = certificates  # else it trusts a list that came with a package
    # A request that is cancelled between two of its steps leaves a coroutine behind.
    warnings.filterwarnings("ignore", message=r"coroutine '.*' was never awaited", category=RuntimeWarning)
    warnings.filterwarnings("ignore", module=r"(litellm|pydantic|openai|httpx|aiohttp)(\.|$)")
    try:
        import litellm
    except Exception as error:  # a broken installation fails in many ways; the one who asks is told
        raise ConfigError("litellm could not be imported", why=str(error), hint="install rlm-cli anew") from None
    _follow_nobody()
    litellm.suppress_debug_info = True  # else advice on stdout
    litellm.telemetry = False
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [logging.NullHandler()]
        logger.propagate = False
    return litellm


_imported = Background(_import, "litellm-import")
_asking: ContextVar[bool] = ContextVar("asking", default=False)
"""A request of ours is being sent from here."""


def _follow_nobody() -> None:
    """A redirect would send the prompt to an address nobody named. Others who use httpx here go on as ever."""
    import httpx

    send = httpx.AsyncClient.send

    @wraps(send)
    async def guarded(self: Any, request: Any, **how: Any) -> Any:
        return await send(self, request, **(how | {"follow_redirects": False} if _asking.get() else how))

    httpx.AsyncClient.send = guarded  # type: ignore[method-assign]


def _describe(litellm: Any, connection: Connection) -> None:
    """Ollama's models are not on litellm's map, so it would ask a server about each, five times a request, at the
    address that it believes in and partly while the event loop waits. What it would learn is not used here."""
    free = {"mode": "chat", "input_cost_per_token": 0.0, "output_cost_per_token": 0.0}
    litellm.model_cost.setdefault(connection.model, {"litellm_provider": connection.provider} | free)


class LitellmModel:
    """A model behind litellm. See `Model` for the attributes."""

    transport: str | None = "litellm"

    def __init__(self, connection: Connection) -> None:
        self.name = connection.name
        self.endpoint: str | None = connection.endpoint
        self.window = connection.window
        self.max_output = connection.max_output
        self.price = connection.price
        self.protocol = connection.protocol
        self.reasons = connection.reasons
        self.rpm, self.tpm = connection.rpm, connection.tpm
        self.structured = connection.structured
        self._connection = connection
        self._room = Room(connection.window) if connection.provider in ("ollama", "ollama_chat") else None
        os.environ["USE_LITELLM_PROXY"] = "False"  # it sends every text to an address that no plan shows
        if connection.loopback:
            _no_proxy_for(connection.endpoint)

    def __repr__(self) -> str:
        return f"LitellmModel({self.name!r})"

    @property
    def secret(self) -> str | None:
        """The key, so that others can keep it out of what they write."""
        return None if self._connection.key == NO_KEY else self._connection.key

    async def ready(self) -> None:
        """Wait for litellm. Raises `ConfigError` when it cannot be imported."""
        if _imported.loaded is None:  # else no turn of the event loop, which requests would take all at once
            await asyncio.wrap_future(start_import())

    async def complete(
        self, messages: Sequence[Message], *, max_output_tokens: int, sub: bool, schema: Schema | None = None
    ) -> Completion:
        """One request through litellm. Raises as the protocol says; no failure keeps a reference to the request."""
        await self.ready()
        litellm = _imported.loaded
        if self._room is not None:
            _describe(litellm, self._connection)
        _asked.add(self)
        _asking.set(True)
        failure: RlmError
        written: str | None = None
        try:
            request = self._request(messages, max_output_tokens, sub, schema)
            response = await litellm.acompletion(**request)
        except Exception as error:  # litellm lets through whatever its clients raise
            failure, written = of_request(error, self._connection, schema), failed_generation(error)
        else:
            completion = chat_format.completion(response, self._connection)
            self._refuse_full(request, completion)
            return completion
        if written is not None:
            return chat_format.refused_call(written, self._connection.key)
        raise failure  # outside the handlers: what litellm raised holds the request, and with it the key

    async def close(self) -> None:
        """Close the connections litellm keeps: they belong to an event loop that ends with the run.

        They are shared by all models of the process, so the last one that was asked closes them.
        """
        _asked.discard(self)
        litellm = _imported.loaded
        if _asked or litellm is None:
            return
        await litellm.close_litellm_async_clients()
        litellm.in_memory_llm_clients_cache.flush_cache()

    def _request(self, messages: Sequence[Message], limit: int, sub: bool, schema: Schema | None) -> dict[str, Any]:
        here = self._connection
        request: dict[str, Any] = {
            "model": here.model,
            "messages": [caching.marked(chat_format.wire(message), message, here.least_cached) for message in messages],
            "timeout": CLIENT_TIMEOUT_S,
            "num_retries": 0,
            "max_retries": 0,
            here.output_limit: limit,
        }
        if tools := chat_format.offers(messages):
            request["tools"] = tools
        if here.effort is not None and self._takes_effort():
            request["reasoning_effort"] = here.effort
        if here.key is not None:
            request["api_key"] = here.key
        if here.api_base is not None:
            request["api_base"] = here.api_base
        if schema is not None:
            request["response_format"] = chat_format.form_of(schema)
        if self._room is not None:
            request["num_ctx"] = self._room.for_request(messages, limit)
        return request | dict(here.options) | (dict(here.sub_options) if sub else {})

    def _refuse_full(self, request: dict[str, Any], completion: Completion) -> None:
        """A prompt that filled all of Ollama's room was longer: no reply fits behind it. Raises `ModelError`."""
        room, counted = request.get("num_ctx"), completion.usage.input_tokens
        if self._room is None or not isinstance(room, int) or counted < room - 1:
            return
        larger = "num_ctx" not in {**self._connection.options, **self._connection.sub_options}
        more = larger and self._room.grow(room)
        raise cut_error(self.name, completion.usage, f"more than the {room:,} it has room for", retriable=more)

    def _takes_effort(self) -> bool:
        """Whether litellm can pass it on; of the models that reason some take no such parameter."""
        here = self._connection
        litellm = start_import().result()
        bare = here.model.partition("/")[2]
        return "reasoning_effort" in (litellm.get_supported_openai_params(bare, here.provider) or ())


def _no_proxy_for(endpoint: str) -> None:
    """A proxy cannot reach this machine's loopback, and one that is set must not see what is sent there."""
    host = urlsplit(f"//{endpoint}").hostname or endpoint
    for name in ("NO_PROXY", "no_proxy"):
        hosts = [part for part in os.environ.get(name, "").split(",") if part]
        if host not in hosts:
            os.environ[name] = ",".join([*hosts, host])
