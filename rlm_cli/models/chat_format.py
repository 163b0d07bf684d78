"""OpenAI's chat completions, as both ways to a model speak them: messages into JSON, a reply into a `Completion`.

litellm gives objects where plain HTTP gives parsed JSON, so replies are read through `_get`, which knows both. Servers
that imitate OpenAI leave out, rename and retype what they like: whatever is not as it should be counts as not there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .. import reply
from ..call import Completion, Function, Message, ToolCall
from ..errors import ModelError
from ..ledger import Usage
from ..schema import Schema
from .connection import Connection
from .keys import scrub

_FINISHED = {"eos": "stop", "eos_token": "stop", "stop_sequence": "stop", "end_turn": "stop", "max_tokens": "length"}
"""Reasons in other servers' words."""
_KEPT = {"openrouter": "reasoning_details", "deepseek": "reasoning_content"}
"""Provider → the key of a message with a call that it wants to have back with it."""


def wire(message: Message) -> dict[str, Any]:
    """A message as OpenAI spells it."""
    spelled: dict[str, Any] = {"role": message.role, "content": encodable(message.content)}
    if message.result_of:
        spelled["tool_call_id"] = message.result_of
    if message.calls:
        spelled["content"] = spelled["content"] or None  # some refuse an empty text
        spelled["tool_calls"] = [
            {
                "id": called.id,
                "type": "function",
                "function": {"name": called.name, "arguments": encodable(called.arguments)},
            }
            for called in message.calls
        ]
        for sealed in (called.sealed for called in message.calls if called.sealed):
            kept = json.loads(sealed)
            spelled |= kept if isinstance(kept, dict) else {"thinking_blocks": kept}
    return spelled


def offers(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The functions that go with these messages."""
    return [_offer(tool) for message in messages for tool in message.tools]


def _offer(function: Function) -> dict[str, Any]:
    return {"type": "function", "function": asdict(function)}


def form_of(schema: Schema) -> dict[str, Any]:
    """The `response_format` that holds a reply to a schema."""
    form = {"name": "reply", "schema": schema.tree, "strict": schema.is_closed}
    return {"type": "json_schema", "json_schema": form}


def completion(response: Any, connection: Connection) -> Completion:
    """What a model replied. Raises `ModelError`, with the usage, for a reply that is none."""
    usage = _get(response, "usage")
    choices = _get(response, "choices")
    if not isinstance(choices, list) or not choices:
        sent, hint = f"{connection.name} sent a reply without choices", "try again later, or another model"
        raise ModelError(sent, why="it holds no text", hint=hint, retriable=True, usage=_usage(usage))
    message = _get(choices[0], "message")
    written = _text(_get(message, "content")) or _text(_get(message, "refusal"))
    text, thought = reply.split(encodable(written))
    raw_finish = _get(choices[0], "finish_reason")
    finish = _FINISHED.get(raw_finish, raw_finish) if isinstance(raw_finish, str) and raw_finish else "stop"
    calls = _calls(message, connection.provider)
    if finish == "content_filter" and not (text or calls):
        why, hint = "its provider's content filter", "ask in other words, or another model"
        raise ModelError(f"{connection.name} refused to answer", why=why, hint=hint, usage=_usage(usage))
    reasoning = encodable(_text(_get(message, "reasoning_content")) or _text(_get(message, "reasoning")))
    return Completion(
        text=text,
        finish_reason=finish,
        usage=_usage(usage),
        cost_usd=_cost(usage) if connection.provider == "openrouter" else None,
        reasoning=scrub("\n".join(filter(None, (reasoning, thought))), connection.key),
        calls=calls,
    )


def refused_call(written: str, key: str | None) -> Completion:
    """A call that a provider would not pass on, from the model's own words."""
    written = scrub(encodable(written), key)
    try:
        call = json.loads(written)
        called = ToolCall("", str(call["name"]), json.dumps(call["arguments"]))
    except (ValueError, KeyError, TypeError):
        called = ToolCall("", "", written)
    return Completion("", "tool_calls", calls=(called,))


def encodable(text: str) -> str:
    """`text` without lone surrogates, which no request can carry and no stream can show."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _get(holder: Any, name: str) -> Any:
    return holder.get(name) if isinstance(holder, dict) else getattr(holder, name, None)


def _text(content: Any) -> str:
    """The text of a content, whole or in parts; thoughts among the parts are no text."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part if isinstance(part, str) else _get(part, "text") for part in parts)
    return "".join(text for text in texts if isinstance(text, str))


def _calls(message: Any, provider: str) -> tuple[ToolCall, ...]:
    """The functions that were called, offered or not, in the order in which they came."""
    listed = _get(message, "tool_calls")
    found = [(_get(call, "id"), _get(call, "function")) for call in listed] if isinstance(listed, list) else []
    given = [(id, function) for id, function in found if function]
    if not given and _get(message, "function_call"):  # its old spelling
        given = [("", _get(message, "function_call"))]
    sealed = _sealed(message, provider) if given else ""
    return tuple(
        ToolCall(
            id if isinstance(id, str) else "",
            encodable(_text(_get(function, "name"))),
            encodable(_arguments(_get(function, "arguments"))),
            sealed if number == 0 else "",
        )
        for number, (id, function) in enumerate(given)
    )


def _arguments(arguments: Any) -> str:
    """As the model wrote them; some servers parse them first."""
    return json.dumps(arguments) if isinstance(arguments, dict) else _text(arguments)


def _sealed(message: Any, provider: str) -> str:
    """What a call goes back with: Anthropic and others refuse one without the thoughts that led to it."""
    if thinking := _get(message, "thinking_blocks"):
        return json.dumps(thinking)
    name = _KEPT.get(provider, "")
    kept = _get(message, name) if name else None
    return json.dumps({name: kept}) if isinstance(kept, (str, list)) and kept else ""


def _usage(usage: Any) -> Usage:
    """Tokens as the provider counted them, zeros where it did not.

    Parts are never more than the whole they are parts of. xAI counts thoughts beside the output, which its total tells.
    """
    given = _get(usage, "prompt_tokens_details")
    written = _get(usage, "completion_tokens_details")
    sent, said = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    thought = _count(written, "reasoning_tokens")
    if thought and _count(usage, "total_tokens") == sent + said + thought:
        said += thought
    cached = min(_count(given, "cached_tokens") or _count(usage, "prompt_cache_hit_tokens"), sent)
    kept = _count(given, "cache_creation_tokens") or _count(usage, "cache_creation_input_tokens")
    return Usage(
        input_tokens=sent,
        output_tokens=said,
        cached_input_tokens=cached,
        cache_write_tokens=min(kept, sent - cached),
        reasoning_tokens=min(thought, said),
    )


def _count(holder: Any, name: str) -> int:
    value = _get(holder, name)
    return max(int(value), 0) if isinstance(value, (int, float)) and abs(value) < 1e15 else 0


def _cost(usage: Any) -> float | None:
    """OpenRouter's own figure in USD."""
    cost = _get(usage, "cost")
    return float(cost) if isinstance(cost, (int, float)) and 0 <= cost < 1e9 else None
