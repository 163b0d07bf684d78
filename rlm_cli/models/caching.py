"""Where a provider caches only what it is told to: Anthropic's models, at Anthropic and wherever else they run.

Others cache by themselves (OpenAI, DeepSeek, Gemini, most servers of one's own), and some of them refuse a mark they do
not know, so it is sent only where it is understood. What is marked costs a quarter more when it is written and a tenth
when it is read, so `Message.shared` says what will be asked again; what is too short to be cached is not charged for.
"""

from __future__ import annotations

import re
from typing import Any

from ..call import Message

_ELSEWHERE = frozenset({"azure_ai", "bedrock", "bedrock_converse", "openrouter", "vertex_ai", "vertex_ai_beta"})
"""Providers of models of many makers, Anthropic's among them, that pass a mark on."""
_LONG = re.compile(r"haiku-4|opus-4[-.][567]")
"""Models that cache from 4,096 tokens on."""
_MARK = {"type": "ephemeral"}


def least_tokens(provider: str, model: str) -> int:
    """Tokens from which on a marked beginning of a prompt is cached; 0 where no marks are wanted.

    `model` in litellm's spelling. A name that does not say whose model it is gets none.
    """
    name = model.lower()
    if provider != "anthropic" and not (provider in _ELSEWHERE and "claude" in name):
        return 0
    return 4_096 if _LONG.search(name) else 1_024


def marked(wire: dict[str, Any], message: Message, least: int) -> dict[str, Any]:
    """A message as OpenAI spells it, with the mark after what is shared of it: as two blocks, or as one. As it is where
    `least` is 0."""
    text, shared = wire["content"], message.shared
    if not least or not isinstance(text, str) or not text[:shared].strip():
        return wire
    blocks: list[dict[str, Any]] = [{"type": "text", "text": text[:shared], "cache_control": _MARK}]
    if text[shared:].strip():
        blocks.append({"type": "text", "text": text[shared:]})
    else:
        blocks[0]["text"] = text
    return wire | {"content": blocks}
