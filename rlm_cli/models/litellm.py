"""Any provider through litellm: the only file that imports it.

litellm speaks to a hundred providers, and takes 3 s and 170 MB to import, prints advice to stdout, downloads a price
map, and reports most failures as a 500. So: it is imported in a daemon thread, with an environment that keeps it from
the network; its loggers are silenced; its retries are off (ours know about money and time); and every failure is read
here once and becomes a `ModelError` or a `ConfigError` in the user's words, without the key in it. Its own guess at
costs is not used: it is 0.0 for models it does not know.

An exit in mid-import from a non-daemon thread prints `can't register atexit after shutdown`, hence no executor.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import asdict
from functools import wraps
from typing import Any

from .. import reply
from ..call import Completion, Function, Message, ToolCall
from ..errors import ConfigError, ModelError, RlmError
from ..ledger import Usage
from ..schema import Schema
from . import caching
from .connection import NO_KEY, Connection
from .failures import failed_generation, scrub, takes_no_schema, translate

CLIENT_TIMEOUT_S = 86_400.0
"""Seconds; the caller's own deadline comes first. Always the same: litellm keeps one HTTP client, with its
connections, for each value it is told."""

_ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else three tries to download it
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOG": "ERROR",  # read at import
    "HF_HUB_OFFLINE": "1",  # token counting asked a hub for tokenizers
}
_lock = threading.Lock()
_imported: Future[Any] | None = None
_asked: set[LitellmModel] = set()
"""Models that hold connections."""


def start_import() -> Future[Any]:
    """Begin the import unless it has begun; the future holds the module."""
    global _imported
    with _lock:
        if _imported is None:
            _imported = Future()
            # Running futures cannot be cancelled: a request that is cancelled while it waits does not end the import.
            _imported.set_running_or_notify_cancel()
            threading.Thread(target=_import, args=(_imported,), name="litellm-import", daemon=True).start()
    return _imported


def _import(future: Future[Any]) -> None:
    import logging
    import warnings

    os.environ.update({name: value for name, value in _ENVIRONMENT.items() if name not in os.environ})
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    # A request that is cancelled between two of its steps leaves a coroutine behind.
    warnings.filterwarnings("ignore", message=r"coroutine '.*' was never awaited", category=RuntimeWarning)
    warnings.filterwarnings("ignore", module=r"(litellm|pydantic|openai|httpx|aiohttp)(\.|$)")
    try:
        import litellm
    except Exception as error:  # a broken installation fails in many ways; the one who asks is told
        future.set_exception(ConfigError("litellm could not be imported", why=str(error), hint="install rlm-cli anew"))
        return
    _follow_nobody()
    litellm.suppress_debug_info = True  # else advice on stdout
    litellm.telemetry = False
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [logging.NullHandler()]
        logger.propagate = False
    future.set_result(litellm)


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


class LitellmModel:
    """A model behind litellm. See `Model` for the attributes."""

    def __init__(self, connection: Connection) -> None:
        self.name = connection.name
        self.endpoint: str | None = connection.endpoint
        self.window = connection.window
        self.max_output = connection.max_output
        self.price = connection.price
        self.protocol = connection.protocol
        self.reasons = connection.reasons
        self.rpm = connection.rpm
        self.structured = connection.structured
        self._connection = connection
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
        await asyncio.wrap_future(start_import())

    async def complete(
        self, messages: Sequence[Message], *, max_output_tokens: int, sub: bool, schema: Schema | None = None
    ) -> Completion:
        """One request through litellm. Raises as the protocol says; no failure keeps a reference to the request."""
        litellm = await asyncio.wrap_future(start_import())
        _asked.add(self)
        _asking.set(True)
        failure: RlmError
        written: str | None = None
        try:
            response = await litellm.acompletion(**self._request(messages, max_output_tokens, sub, schema))
        except Exception as error:  # litellm lets through whatever its clients raise
            failure, written = translate(error, self._connection), failed_generation(error)
            if schema is not None and takes_no_schema(error):
                failure = ModelError(failure.message, why=failure.why, hint=failure.hint, schema_refused=True)
        else:
            return self._completion(response)
        if written is not None:
            return Completion(
                "", "tool_calls", calls=(_refused_call(scrub(_encodable(written), self._connection.key)),)
            )
        raise failure  # outside the handlers: what litellm raised holds the request, and with it the key

    async def close(self) -> None:
        """Close the connections litellm keeps: they belong to an event loop that ends with the run.

        They are shared by all models of the process, so the last one that was asked closes them.
        """
        _asked.discard(self)
        if _asked or _imported is None or not _imported.done() or _imported.exception() is not None:
            return
        litellm = _imported.result()
        await litellm.close_litellm_async_clients()
        litellm.in_memory_llm_clients_cache.flush_cache()

    def _request(self, messages: Sequence[Message], limit: int, sub: bool, schema: Schema | None) -> dict[str, Any]:
        here = self._connection
        # OpenAI itself wants the new name for all models, servers that imitate it often know the old one only.
        limit_name = "max_completion_tokens" if here.provider == "openai" and here.api_base is None else "max_tokens"
        request: dict[str, Any] = {
            "model": here.model,
            "messages": [caching.marked(_wire(message), message, here.least_cached) for message in messages],
            "timeout": CLIENT_TIMEOUT_S,
            "num_retries": 0,
            "max_retries": 0,
            limit_name: limit,
        }
        if tools := [_offer(tool) for message in messages for tool in message.tools]:
            request["tools"] = tools
        if here.effort is not None and self._takes_effort():
            request["reasoning_effort"] = here.effort
        if here.key is not None:
            request["api_key"] = here.key
        if here.api_base is not None:
            request["api_base"] = here.api_base
        if schema is not None:
            form = {"name": "reply", "schema": schema.tree, "strict": schema.is_closed}
            request["response_format"] = {"type": "json_schema", "json_schema": form}
        return request | dict(here.options) | (dict(here.sub_options) if sub else {})

    def _takes_effort(self) -> bool:
        """Whether litellm can pass it on; of the models that reason some take no such parameter."""
        here = self._connection
        litellm = start_import().result()
        bare = here.model.partition("/")[2]
        return "reasoning_effort" in (litellm.get_supported_openai_params(bare, here.provider) or ())

    def _completion(self, response: Any) -> Completion:
        usage = getattr(response, "usage", None)
        if not response.choices:
            raise ModelError(f"{self.name} sent a reply without choices", retriable=True, usage=_usage(usage))
        choice = response.choices[0]
        text, thought = reply.split(
            _encodable(choice.message.content or getattr(choice.message, "refusal", None) or "")
        )
        finish, calls = choice.finish_reason or "stop", _calls(choice.message)
        if finish == "content_filter" and not (text or calls):
            why = "its provider's content filter"
            raise ModelError(f"{self.name} refused to answer", why=why, usage=_usage(usage))
        reasoning = _encodable(getattr(choice.message, "reasoning_content", None) or "")
        return Completion(
            text=text,
            finish_reason=finish,
            usage=_usage(usage),
            cost_usd=_cost(usage) if self._connection.provider == "openrouter" else None,
            reasoning=scrub("\n".join(filter(None, (reasoning, thought))), self._connection.key),
            calls=calls,
        )


def _wire(message: Message) -> dict[str, Any]:
    """A message as OpenAI spells it."""
    wire: dict[str, Any] = {"role": message.role, "content": _encodable(message.content)}
    if message.result_of:
        wire["tool_call_id"] = message.result_of
    if message.calls:
        wire["content"] = wire["content"] or None  # some refuse an empty text
        wire["tool_calls"] = [
            {
                "id": called.id,
                "type": "function",
                "function": {"name": called.name, "arguments": _encodable(called.arguments)},
            }
            for called in message.calls
        ]
        for sealed in (called.sealed for called in message.calls if called.sealed):
            wire["thinking_blocks"] = json.loads(sealed)
    return wire


def _offer(function: Function) -> dict[str, Any]:
    return {"type": "function", "function": asdict(function)}


def _calls(message: Any) -> tuple[ToolCall, ...]:
    """The functions that were called, offered or not, in the order in which they came."""
    given = [(call.id, call.function) for call in getattr(message, "tool_calls", None) or () if call.function]
    if not given and getattr(message, "function_call", None) is not None:  # its old spelling
        given = [("", message.function_call)]
    thinking = getattr(message, "thinking_blocks", None)  # Anthropic takes no call back without its thoughts
    return tuple(
        ToolCall(
            id or "",
            _encodable(function.name or ""),
            _encodable(function.arguments or ""),
            json.dumps(thinking) if thinking and number == 0 else "",
        )
        for number, (id, function) in enumerate(given)
    )


def _refused_call(written: str) -> ToolCall:
    """The call that a provider would not pass on, from the model's own words."""
    try:
        call = json.loads(written)
        return ToolCall("", str(call["name"]), json.dumps(call["arguments"]))
    except (ValueError, KeyError, TypeError):
        return ToolCall("", "", written)


def _encodable(text: str) -> str:
    """`text` without lone surrogates, which no request can carry and no stream can show."""
    return text.encode("utf-8", "replace").decode()


def _usage(usage: Any) -> Usage:
    """Tokens as the provider counted them, zeros where it did not."""
    if usage is None:
        return Usage()
    given = getattr(usage, "prompt_tokens_details", None)
    written = getattr(usage, "completion_tokens_details", None)
    return Usage(
        input_tokens=_count(usage, "prompt_tokens"),
        output_tokens=_count(usage, "completion_tokens"),
        cached_input_tokens=_count(given, "cached_tokens"),
        cache_write_tokens=_count(given, "cache_creation_tokens") or _count(usage, "cache_creation_input_tokens"),
        reasoning_tokens=_count(written, "reasoning_tokens"),
    )


def _count(holder: Any, name: str) -> int:
    value = getattr(holder, name, None)
    return max(int(value), 0) if isinstance(value, (int, float)) else 0


def _cost(usage: Any) -> float | None:
    """OpenRouter's own figure in USD."""
    cost = getattr(usage, "cost", None)
    return float(cost) if isinstance(cost, (int, float)) and cost >= 0 else None


def _no_proxy_for(endpoint: str) -> None:
    """A proxy cannot reach this machine's loopback, and one that is set must not see what is sent there."""
    host = endpoint.rpartition(":")[0] or endpoint
    for name in ("NO_PROXY", "no_proxy"):
        hosts = [part for part in os.environ.get(name, "").split(",") if part]
        if host not in hosts:
            os.environ[name] = ",".join([*hosts, host])
