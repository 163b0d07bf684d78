"""A model in front of a model, which gives the reply that is on record where there is one.

It asks as the model behind it does. Who sends requests calls `recall` first, before a slot is taken and money
reserved: a reply on record needs none of that. And `keep` afterwards, once the reply is known to be good: one to a
prompt that the server did not read whole is not. Sub-calls only: a root's reply decides what code runs, and a run asked
for anew should think anew; a sub-call is a question about a text, and its answer does not age.

A reply on record is one draw, whatever the temperature: the same request gets it again until it is too old, and
`--no-cache` draws anew. The samples of `--samples` have records of their own each, so that none is another one's echo.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..call import Completion, Message
from ..schema import Schema
from . import Model, on_record
from .replies import Replies, Request


class Recorded:
    """A `Model` that is in all else the one behind it, also in what is found out about that one later."""

    def __init__(self, model: Model, identity: str, replies: Replies, sample: str = "") -> None:
        """`identity`: all that its replies depend on beside the request. `sample`: whose record it is."""
        self._model = model
        self._identity = identity
        self._replies = replies
        self._sample = sample

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    @property
    def structured(self) -> bool:
        """As the model behind it; `False` is remembered there."""
        return self._model.structured

    @structured.setter
    def structured(self, value: bool) -> None:
        self._model.structured = value

    def beside(self, other: Model) -> Model:
        """What is on record of another model, in front of that one, for the same asker."""
        return on_record(other, self._replies, self._sample)

    async def recall(
        self, messages: Sequence[Message], max_output_tokens: int, schema: Schema | None = None
    ) -> Completion | None:
        """The reply on record to such a sub-call, None where there is none. Sends nothing, fails never."""
        return await self._replies.recall(self._request(messages, max_output_tokens, schema))

    def keep(
        self, messages: Sequence[Message], max_output_tokens: int, schema: Schema | None, completion: Completion
    ) -> None:
        """Put the reply to such a sub-call on record, unless it is none to be relied on. Returns at once."""
        self._replies.keep(self._request(messages, max_output_tokens, schema), self._model.name, completion)

    def _request(self, messages: Sequence[Message], max_output_tokens: int, schema: Schema | None) -> Request:
        return Request(self._identity, tuple(messages), max_output_tokens, schema, self._sample)
