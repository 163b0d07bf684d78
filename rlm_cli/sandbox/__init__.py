"""The place where a model's code runs: one protocol, and the table of levels."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from ..corpus import Corpus
from ..call import Output


@dataclass(frozen=True, slots=True)
class Span:
    """A slice of the corpus the REPL was opened with, in characters of its blob: [start, stop)."""

    start: int
    stop: int


Context = str | Span | tuple["str | Span", ...]
"""What code passed as `context=`: text, a slice of the corpus by its offsets, or a list of either."""


@dataclass(frozen=True, slots=True)
class Query:
    """Code in the REPL asks models: one item for `llm_query`, several for the batched form."""

    kind: Literal["llm", "rlm"]
    prompts: tuple[str, ...]
    contexts: tuple[Context | None, ...]
    """As many as prompts; None where no context was given."""
    model: str | None


@dataclass(frozen=True, slots=True)
class Failed:
    """One query failed: raised as `SubcallError` in the REPL."""

    message: str


Ask = Callable[[Query], Awaitable[Sequence[str | Failed]]]
"""Answers a query, results in order. Runs on the host's event loop; several may be in progress at once."""


class Repl(Protocol):
    """A Python session whose variables live from cell to cell."""

    level: str
    """What the self-test proved: linux-strict, macos-seatbelt, soft or none."""

    async def execute(self, code: str, *, subcalls: bool = True, timeout_s: float | None = None) -> Output:
        """Run one cell. Errors of the code come back in the output; a dead or stuck session is replaced and
        `Output.lost` says so. `subcalls=False`: every query is refused. `timeout_s`: hard wall limit (the computing
        limit of a cell is the REPL's own). Raises `SandboxError` when no session can be had."""
        ...

    async def close(self) -> None: ...


class Sandbox(Protocol):
    name: str
    level: str

    async def open(self, corpus: Corpus, spans: Sequence[Span] | None, ask: Ask) -> Repl:
        """Start a session over the whole corpus (`spans` None) or over slices of it."""
        ...

    async def close(self) -> None:
        """End every session that was opened. Synchronous in effect: no process is left."""
        ...
