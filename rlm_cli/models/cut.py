"""Did the server read the whole prompt? What it counted against what was sent.

A server with a small window may cut a longer prompt in silence (Ollama at its `num_ctx`, LM Studio by its overflow
policy, some routers by their "transforms") and answer from the rest: a fluent reply about a text that was not read.
Providers count the tokens they read, so a count far below what the text must take gives it away.

What a text must take, without a tokenizer: no tokenizer in use joins two words into one token (they split at white
space and between letters and punctuation before they merge), nor more than about four characters of Chinese or
Japanese, and the longest tokens have some sixteen characters. Measured by five tokenizers over 38 texts
(`tests/benchmarks/bench_cut.py`: prose in 13 languages, code, tables, logs, base64, runs of blanks, one word repeated):
tokens per word are 1.0 at the least, for one word repeated, and 1.8 to 3.0 for what people have. So there is no false
alarm down to 0.9, and a prompt of prose that lost half of itself is told; one that lost a tenth is not. That is why
`num_ctx` is sent to Ollama (`ollama.py`): this here is the second line.

Rejected: tokens per byte (runs of blanks take one token for 60 bytes), comparing with earlier replies (the first one is
cut like the others), a tokenizer (every model has its own; downloads).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..call import Message
from ..errors import ModelError
from ..ledger import Usage

SLACK = 0.9
LEAST_LOST = 500
"""Tokens that are missing at least: a prompt of a few lines is never cut, and no server's way of counting matters."""
LONGEST_TOKEN = 20
"""Characters. Longer ones are runs of one character, which is no word."""
_WORD = re.compile(r"[\w'’]+")
_WORDS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_'"
_UNSPACED = r"[぀-ヿ㐀-鿿豈-﫿]"
"""Compiled when it is needed: that takes 2 ms, and most texts have none of these."""
_CHARS_PER_UNSPACED_TOKEN = 4


def fewest_tokens(text: str) -> int:
    """What any tokenizer makes of `text` at the least."""
    words = _WORD.findall(text)
    long = sum(map(len, words)) // LONGEST_TOKEN if words else 0
    unspaced = 0 if text.isascii() else len(re.findall(_UNSPACED, text)) // _CHARS_PER_UNSPACED_TOKEN
    return max(len(words) + unspaced, long)


def at_most(text: str) -> int:
    """What `fewest_tokens` does not exceed, in a fiftieth of its time: between two words there is a byte of no word."""
    data = text.encode("utf-8", "replace")
    return max(len(data.translate(None, _WORDS)) + 1, len(data) // LONGEST_TOKEN)


def is_cut(messages: Sequence[Message], counted: int) -> bool:
    """Whether a server that counted `counted` input tokens cannot have read these messages. 0 = it did not count."""
    if counted <= 0 or not _is_short(counted, sum(at_most(message.content) for message in messages)):
        return False  # as good as always: 400 KB would hold up the event loop for 15 ms
    return _is_short(counted, sum(fewest_tokens(message.content) for message in messages))


def _is_short(counted: int, fewest: int) -> bool:
    return counted < fewest * SLACK and fewest - counted > LEAST_LOST


def refuse_cut(name: str, messages: Sequence[Message], usage: Usage) -> None:
    """Raises `ModelError` (`prompt_cut`, `too_long`) for a reply to a prompt that was not read whole."""
    if is_cut(messages, usage.input_tokens):
        fewest = sum(fewest_tokens(message.content) for message in messages)
        raise cut_error(name, usage, f"{fewest:,} tokens or more")


def cut_error(name: str, usage: Usage, sent: str, *, retriable: bool = False) -> ModelError:
    """The failure of a reply to a prompt of which a part was read. `sent`: how much went out, in words."""
    return ModelError(
        f"{name}: its server cut the prompt",
        why=f"it read {usage.input_tokens:,} tokens of {sent}, so the reply is about a part of the text",
        hint="a larger context window at the server; or window = … in [models.NAME], so that less is sent",
        retriable=retriable,
        usage=usage,
        too_long=True,
        prompt_cut=True,
    )
