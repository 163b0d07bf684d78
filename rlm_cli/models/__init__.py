"""Models: one protocol, and the table that says which class stands for a name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..ledger import Price
from ..call import Completion, Message


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

    async def complete(
        self, messages: Sequence[Message], *, max_output_tokens: int, timeout_s: float, sub: bool
    ) -> Completion:
        """One request, one reply. `sub` chooses the options meant for the sub-LM.

        Raises `ModelError` (with `retriable`, `retry_after`, `terminal`) or `ConfigError` (key, unknown model).
        """
        ...

    async def close(self) -> None: ...
