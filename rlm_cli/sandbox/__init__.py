"""The place where a model's code runs: one protocol, and the table of names.

On this side host.py (a REPL) → session.py (one guest and its frames), replay.py (what it is rebuilt from) → child.py
(a process) or container.py (in Docker or Podman), messages.py (what it may say), longtexts.py, wire.py. On the other
guest.py → zygote.py (forks), harden.py (Linux) or seatbelt.py (macOS), link.py, late.py, repl.py, printed.py,
values.py, hints.py, subcalls.py, outside.py, which run there and are standard-library-only; so is inside.py, process 1
of a container. Both sides share `wire.py`, `weight.py` and `library.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from ..call import Output, Tool
from ..corpus import Corpus
from ..errors import ConfigError


@dataclass(frozen=True, slots=True)
class Span:
    """A slice of the corpus the REPL was opened with, in characters of its blob: [start, stop)."""

    start: int
    stop: int


Context = str | Span | Corpus | tuple["str | Span | Corpus", ...]
"""What code passed as `context=`: text, a slice of the corpus by its offsets, or a list of those. A text too long to
be held in memory is a corpus of one document; it is closed when the query is answered."""


@dataclass(frozen=True, slots=True)
class Query:
    """Code in the REPL asks models: one item for `llm_query`, several for the batched form. Or it calls a function of
    the user's: one item, the arguments `[[…], {…}]` as JSON, and its answer is JSON too.
    """

    kind: Literal["llm", "rlm", "tool"]
    prompts: tuple[str, ...]
    contexts: tuple[Context | None, ...]
    """As many as prompts; None where no context was given."""
    model: str | None
    """Who is to answer: a model by its name, None = the run's own; or the function."""
    schema: str | None = None
    """The replies are to be values that satisfy it, and come as JSON; nothing about it was checked but its size."""


@dataclass(frozen=True, slots=True)
class Failed:
    """One query failed: raised as `SubcallError` in the REPL, or as `ToolError` where a function of the user's failed
    (`TypeName: message`)."""

    message: str


Ask = Callable[[Query], Awaitable[Sequence[str | Failed]]]
"""Answers a query, results in order. Runs on the host's event loop; several may be in progress at once."""


KERNEL_ENFORCED = ("linux-strict", "macos-seatbelt", "container")
"""Levels that do not rest on the code's good will. `container`: its own walls hold, those within it do not."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What a child showed after its lockdown and before any model code.

    `level`: linux-strict, macos-seatbelt, container, soft or none. `refused`: what it tried and could not do.
    """

    level: str
    refused: tuple[str, ...]


class Repl(Protocol):
    """A Python session whose variables live from cell to cell."""

    level: str
    """What the self-test proved, see `Proof`."""

    async def execute(self, code: str, *, subcalls: bool = True, timeout_s: float | None = None) -> Output:
        """Run one cell. Errors of the code come back in the output; a dead or stuck session is replaced and
        `Output.lost` says so. `subcalls=False`: models are not asked any more. `timeout_s`: hard wall limit (the
        computing limit of a cell is the REPL's own). Raises `SandboxError` when no session can be had."""
        ...

    async def close(self) -> None: ...


class Sandbox(Protocol):
    name: str

    @property
    def proof(self) -> Proof:
        """What is proved of it; raises `SandboxError` below what its name promises. May block while it is found out."""
        ...

    async def prove(self) -> Proof:
        """`proof`, found out without blocking the event loop."""
        ...

    @property
    def level(self) -> str:
        """The proof's level; raises as `proof` does."""
        ...

    async def open(self, corpus: Corpus, spans: Sequence[Span] | None, ask: Ask) -> Repl:
        """Start a session over the whole corpus (`spans` None) or over slices of it. Raises `SandboxError`."""
        ...

    async def close(self) -> None:
        """End every session that was opened. Synchronous in effect: no process is left."""
        ...


LOCKDOWNS = {"auto": "kernel", "process": "kernel", "container": "kernel", "soft": "audit", "none": "none"}
"""Name of a sandbox → how its child process is confined. All are `ProcessSandbox`; `auto` is `process`."""


OWN_NAMES = frozenset(
    """FINAL FINAL_VAR SHOW_VARS answer context docs llm_query llm_query_batched rlm_query rlm_query_batched
    QuoteNotFound SubcallError ToolError re json math csv io collections itertools functools statistics datetime difflib
    hashlib textwrap string""".split()
)
"""What the REPL calls its own, beside Python's builtins; `answer` is read after every cell."""


def open_sandbox(
    name: str,
    *,
    cell_timeout_s: float,
    repl_memory: int,
    context_memory: int,
    tools: Sequence[Tool] = (),
    image: str = "",
) -> Sandbox:
    """The sandbox of that name; starts nothing yet. Time in seconds, sizes in bytes. `tools`: the user's functions, to
    be called from the REPL by name; `image`: of a container.

    Raises `ConfigError` for a name that is not in the table.
    """
    from .child import Confinement
    from .host import ProcessSandbox

    if name not in LOCKDOWNS:
        raise ConfigError(f"no sandbox is called {name!r}", hint=f"one of {', '.join(LOCKDOWNS)}")
    if name == "container" and not image:
        raise ConfigError("no image for the container", hint='container_image = "docker.io/library/python:3.11-slim"')
    inside = image if name == "container" else ""
    confinement = Confinement(LOCKDOWNS[name], cell_timeout_s, repl_memory, context_memory, tuple(tools), inside)
    return ProcessSandbox("process" if name == "auto" else name, confinement)
