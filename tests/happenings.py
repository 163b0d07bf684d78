"""A made-up run as events, and a program that shows it in the live tree until a file appears.

`python tests/happenings.py STOP_FILE [-v]` is what the terminal tests start in a pseudo-terminal and in tmux.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from rlm_cli.events import (
    CallFinished,
    CallStarted,
    CodeFinished,
    CodeStarted,
    CompletionFinished,
    CompletionStarted,
    CorpusLoaded,
    CoverageGrew,
    Event,
    IterationStarted,
    NoticeGiven,
    RunStarted,
    Stamped,
)
from rlm_cli.ledger import Usage

ROOT, SUB = "anthropic/big", "openai/mini"


def stamped(events: list[tuple[float, str | None, Event]]) -> list[Stamped]:
    return [Stamped("k7q2fd", seq, t, call, event) for seq, (t, call, event) in enumerate(events)]


def reply(used: Usage, cost: float | None, error: str | None = None, model: str = SUB) -> CompletionFinished:
    return CompletionFinished("hash", "text", "stop", used, cost, False, 0, 1.0, model=model, error=error)


def began() -> list[tuple[float, str | None, Event]]:
    """A run whose root call is in its third iteration, $0.18 so far."""
    settings: dict[str, dict[str, object]] = {}
    limits = {"max_budget": 1.0}
    happened: list[tuple[float, str | None, Event]] = [
        (0.0, None, RunStarted("Which?", ("a",), {"root": ROOT, "sub": SUB}, limits, {}, "0", settings)),
        (0.2, None, CorpusLoaded("00", 42, 2_500_000, 640_000, {}, ({"path": "scan.pdf", "reason": "no text"},), 900)),
        (0.3, "0", CallStarted(None, 0, "root", ROOT, "Which?", 2_500_000)),
    ]
    for n in (1, 2, 3):
        happened += [
            (n, "0", IterationStarted(n)),
            (n, "0", CompletionStarted((), "iteration", 700, 160, 0.1)),
            (n, "0", reply(Usage(700, 160), 0.06, model=ROOT)),
        ]
    return happened


def sub_call(
    address: str, t: float, cost: float | None = 0.006, status: str = "complete"
) -> list[tuple[float, str | None, Event]]:
    """One sub-call from start to end."""
    return [*asking(address, t), (t + 1, address, reply(Usage(94_000, 500), cost)),
            (t + 1, address, CallFinished(status, "yes", Usage()))]  # fmt: skip


def asking(address: str, t: float, question: str = "Which parts?") -> list[tuple[float, str | None, Event]]:
    """One sub-call whose request is in flight."""
    parent = address.rpartition(".")[0]
    return [
        (t, address, CallStarted(parent, address.count("."), "llm", SUB, question, 98_000)),
        (t, address, CompletionStarted((), "sub", 94_000, 500, 0.01)),
    ]


def a_run() -> list[Stamped]:
    """Eighteen sub-calls done, two in flight, one waiting to be sent again."""
    happened = began()
    for n in range(1, 19):
        happened += sub_call(f"0.{n}", 5)
    for n in (19, 20, 21):
        happened += asking(f"0.{n}", 35)
    happened += [
        (36, "0.21", NoticeGiven("retrying", "waiting 12 s: rate limit", 12.0)),
        (37, None, CoverageGrew(76, 100)),
    ]
    return stamped(happened)


async def show(stop: Path, verbose: bool) -> None:
    from rlm_cli.views import Wishes, choose_view

    view = choose_view(Wishes(progress="tree", verbose=verbose, color="never"), sys.stderr, {"TERM": "xterm"})
    try:
        for happened in a_run():
            view.on(happened)
        view.on(Stamped("k7q2fd", 900, 37, None, NoticeGiven("careful", "this notice stays")))
        if verbose:
            view.on(Stamped("k7q2fd", 901, 37, "0", CodeStarted("print(len(context))")))
            view.on(Stamped("k7q2fd", 902, 37, "0", CodeFinished("2500000\n", 0, None, False, 0.1)))
        while not stop.exists():  # noqa: ASYNC240 (a stat)
            view.tick()
            await asyncio.sleep(0.02)
    finally:
        view.close()
    print("THE ANSWER", flush=True)


if __name__ == "__main__":
    asyncio.run(show(Path(sys.argv[1]), "-v" in sys.argv))
