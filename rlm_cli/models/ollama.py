"""How much context an Ollama model is loaded with: `num_ctx`, from need and window.

Ollama loads a model with room for `num_ctx` tokens, prompt and reply together, and cuts longer prompts in silence. All
of a large window would take gigabytes for a question about three pages, and every change of `num_ctx` loads the model
anew (seconds). So: steps, each twice the one before, and never back: a run of a model has a handful of loads at most,
none once its largest prompt was seen, and requests in flight beside each other want the same.

The need is an estimate on the high side. Where it was too low after all, the server counts as many tokens as there is
room: then the reply is thrown away, and the next attempt has the next step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..call import Message
from ..ledger import Size
from .catalog import OLLAMA_WINDOW

_PLAIN, _WIDE = 0.45, 0.6
"""Tokens a byte: prose has 0.25 to 0.35, other scripts 0.3 to 0.5. Digits, capitals and punctuation count whole."""
_ENVELOPE = 32
"""Tokens that a chat template puts around a message."""


class Room:
    """`num_ctx` of one model in one process. Grows from `first` to `window`, both in tokens."""

    def __init__(self, window: int, first: int = OLLAMA_WINDOW) -> None:
        self._window = window
        self._now = min(first, window)

    def for_request(self, messages: Iterable[Message], max_output_tokens: int) -> int:
        """The room to ask for: as much as this request needs, or any before it."""
        need = max_output_tokens + sum(_tokens(message) for message in messages)
        while self._now < min(need, self._window):
            self.grow(self._now)
        return self._now

    def grow(self, used: int) -> bool:
        """`used` was not enough. False when there is no larger step."""
        if used >= self._window:
            return False
        self._now = max(self._now, min(2 * used, self._window))
        return True


def _tokens(message: Message) -> int:
    size = Size.of(message.written)
    return _ENVELOPE + size.dense + math.ceil(size.plain * _PLAIN + size.wide * _WIDE)
