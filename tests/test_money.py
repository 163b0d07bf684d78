"""Random runs through the real ledger and the real dispatcher, on a clock of their own: the cap, no deadlock, no waste.

A run is a root that asks, fans out sub-calls, some of which are children with a landing of their own, and lands. What
the provider does is drawn: prices, latencies, true lengths of replies, failures of every class, bursts of 429, replies
without a count, cancellations from outside. Nothing comes from a network, so ten thousand runs take a minute.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
import virtual

from rlm_cli.call import Completion, Message
from rlm_cli.deadline import Deadline
from rlm_cli.dispatch import Dispatch
from rlm_cli.errors import ModelError, RlmError
from rlm_cli.events import CompletionFinished, CompletionStarted, Event, LimitHit
from rlm_cli.ledger import Ledger, Limits, Price, Refusal, Usage
from rlm_cli.models import Model

RUNS = 150
"""In the suite; ten thousand under the marker `slow`."""


class Provider:
    """A model whose every trait is drawn. It never counts more than it was asked for: the ceiling is one."""

    endpoint: str | None = None
    window = 200_000
    rpm: int | None = None
    tpm: int | None = None
    protocol = "text"
    reasons = structured = False

    def __init__(self, rng: random.Random, name: str, calm: bool) -> None:
        self.rng, self.name = rng, name
        self.max_output = rng.choice([500, 2_000, 8_000])
        output = rng.uniform(0.1, 100.0)
        self.price: Price | None = Price(
            output / rng.uniform(1, 20),
            output,
            cached=rng.choice([None, output / 100]),
            cache_write=rng.choice([None, output / 4]),
            reasoning=rng.choice([None, output * 2]),
        )
        self.fails = 0.0 if calm else rng.choice([0.0, 0.1, 0.4])
        self.longest_s = rng.choice([0.1, 5.0, 200.0])
        if not calm and rng.random() < 0.2:
            self.rpm = rng.randrange(5, 60)
        if not calm and rng.random() < 0.2:
            self.tpm = rng.randrange(10_000, 1_000_000)

    async def ready(self) -> None: ...

    async def close(self) -> None: ...

    async def complete(
        self, messages: Sequence[Message], *, max_output_tokens: int, sub: bool, schema: object = None
    ) -> Completion:
        rng = self.rng
        await asyncio.sleep(rng.uniform(0, self.longest_s))
        size = len(messages[0].content)
        usage = Usage(
            rng.randint(size // 6, size),
            rng.randint(0, max_output_tokens),
            cached_input_tokens=rng.randint(0, size // 12),
            cache_write_tokens=rng.randint(0, size // 12),
        )
        usage += Usage(reasoning_tokens=rng.randint(0, usage.output_tokens))
        if rng.random() < self.fails:
            raise self._failure(usage)
        return Completion("" if rng.random() < 0.05 else "yes", usage=Usage() if rng.random() < 0.05 else usage)

    def _failure(self, usage: Usage) -> RlmError:
        rng = self.rng
        return rng.choice(
            [
                ModelError("rate limit", retriable=True, retry_after=rng.choice([None, 0.0, 3.0, 30.0]), rate=True),
                ModelError("busy", retriable=True, overload=True),
                ModelError("500", retriable=True),
                ModelError("cut", retriable=True, cut_short=True),
                ModelError("no choices", retriable=True, usage=usage),
                ModelError("filtered"),
            ]
        )


class Simulated:
    """One run: what it spent, and what it had spent when it was first refused."""

    def __init__(self, seed: int, calm: bool = False) -> None:
        self.rng = rng = random.Random(seed)
        self.root = Provider(rng, "root", calm)
        self.sub = rng.choice([self.root, Provider(rng, "sub", calm)])
        self.cap = rng.uniform(0.05, 5.0)
        self.timeout_s = None if calm else rng.choice([None, 60.0, 900.0])
        self.jobs = rng.choice([1, 2, 8, 16])
        self.calm = calm
        self.events: list[Event] = []
        self.used_at_refusal: float | None = None

    def _emit(self, event: Event, call: str | None) -> None:
        self.events.append(event)
        if isinstance(event, LimitHit) and self.used_at_refusal is None:
            self.used_at_refusal = self.ledger.spent.usd

    async def main(self) -> None:
        self.ledger = Ledger(Limits(max_budget=self.cap, timeout_s=self.timeout_s, jobs=self.jobs))
        self.dispatch = Dispatch(
            self.ledger, Deadline.after(self.timeout_s), self._emit, retries=2, request_timeout_s=150.0
        )
        running = asyncio.ensure_future(self._call("0", self.root, self.rng.randrange(1, 4)))
        if not self.calm and self.rng.random() < 0.2:
            await asyncio.sleep(self.rng.uniform(0, 30))
            running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def _ask(self, call: str, model: Model, purpose: str, chars: int) -> Completion | Refusal | None:
        try:
            return await self.dispatch.complete(call, model, [Message("user", "x" * chars)], purpose)  # type: ignore[arg-type]
        except ModelError:
            return None

    async def _call(self, address: str, model: Model, width: int) -> None:
        """Turns with sub-calls between them, then a landing where a limit refused something."""
        refused, history = False, 2_000
        for _ in range(self.rng.randrange(1, 5)):
            said = await self._ask(address, model, "iteration", history)
            refused = refused or isinstance(said, Refusal)
            if refused or said is None:
                break
            history += 2_000
            below = [self._below(f"{address}.{n}", address.count(".")) for n in range(self.rng.randrange(width * 8))]
            refused = any(await asyncio.gather(*below))
            if refused:
                break
        if refused:
            await self._ask(address, model, "landing", history)
            await self._ask(address, model, "landing", history)
        self.ledger.close_call(address)

    async def _below(self, address: str, depth: int) -> bool:
        if depth == 0 and not self.calm and self.rng.random() < 0.1:
            await self._call(address, self.sub, 1)
            return False
        said = await self._ask(address, self.sub, "sub", self.rng.choice([100, 5_000, 20_000]))
        self.ledger.close_call(address)
        return isinstance(said, Refusal)

    def check(self) -> None:
        told = sum(event.cost_usd or 0.0 for event in self.events if isinstance(event, CompletionFinished))
        assert self.ledger.spent.usd <= self.cap + 1e-6
        assert told <= self.ledger.spent.usd + 1e-6  # what was not counted is in the ledger at its ceiling
        starts = sum(isinstance(event, CompletionStarted) for event in self.events)
        assert starts == sum(isinstance(event, CompletionFinished) for event in self.events)


def simulate(seeds: range) -> None:
    for seed in seeds:
        run = Simulated(seed)
        virtual.run(run.main())  # raises where everybody waits for somebody
        run.check()


def test_the_cap_holds_and_nobody_waits_for_ever() -> None:
    """Over random runs nothing is spent beyond the cap, everything that started has finished, and all of them end."""
    simulate(range(RUNS))


@pytest.mark.slow
def test_the_cap_holds_over_ten_thousand_runs() -> None:
    """The same, longer."""
    simulate(range(1_000_000, 1_010_000))


def use_of_the_cap(seed: int) -> float | None:
    """What a run had used of its cap at the first refusal; None where a landing, or a request, is not small against it,
    or nothing was refused."""
    run = Simulated(seed, calm=True)
    price = run.root.price
    assert price is not None
    run.cap = 10 * max(
        2 * price.ceiling(2_000 + 8_000 + 20_000, 3_000),
        *(model.price.ceiling(20_100, model.max_output) for model in (run.root, run.sub) if model.price),
    )
    virtual.run(run.main())
    run.check()
    return None if run.used_at_refusal is None else run.used_at_refusal / run.cap


def test_the_cap_is_used_before_anything_is_refused() -> None:
    """Where a landing and a request's ceiling are at most a tenth of the cap, four fifths of it are spent first."""
    used = [share for seed in range(RUNS) if (share := use_of_the_cap(seed)) is not None]
    assert len(used) >= 5
    assert min(used) >= 0.8
