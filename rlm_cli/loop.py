"""The recursive loop (arXiv 2512.24601, Algorithm 1) as a pure generator.

`converse` yields effects, `Complete` (ask a model) and `Execute` (run code), and is sent what came of them. There is
no network, process, clock or terminal in it: a test is a list of replies, a resumed run a longer list of replies.
Failures that the loop can act on arrive as values (`Refusal`, `Output.error`); anything else is raised by whoever
drives it and passes through.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Literal

from .ledger import Refusal, StopReason, Usage
from .result import Answer, Quote

Kind = Literal["root", "rlm", "llm"]
Purpose = Literal["iteration", "sub", "direct", "landing"]


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Completion:
    """One reply of a model. `cost_usd` is the provider's own figure where it gives one, else None."""

    text: str
    finish_reason: str = "stop"
    usage: Usage = Usage()
    cost_usd: float | None = None
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Handover:
    """What code handed over with FINAL: a JSON-able value and the quotes given with it."""

    value: Any
    quotes: tuple[Quote, ...] = ()


@dataclass(frozen=True, slots=True)
class Output:
    """What came of one cell.

    `stdout` is head + tail of what was printed, `omitted_chars` what was left out between them. `error`: the
    traceback's last lines, None when the cell ended well. `variables`: names the cell bound newly or rebound to another type or length, each with
    "type and length" (`"list, 12 items"`). `draft`: the content of a mapping named `answer` that is not ready yet.
    `refused`: a limit refused a sub-call (or the cell itself) while it ran. `lost`: the REPL had to be replaced; one
    line that says what happened and what is gone. `used`: share of the tightest limit that is spent, in fixed steps.
    """

    stdout: str = ""
    omitted_chars: int = 0
    error: str | None = None
    answer: Handover | None = None
    variables: tuple[tuple[str, str], ...] = ()
    draft: Any = None
    refused: Refusal | None = None
    lost: str | None = None
    duration_s: float = 0.0
    used: float = 0.0
