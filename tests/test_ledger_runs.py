"""Random runs through the real ledger, ten thousand of them in seconds: the cap, no deadlock, no waste.

`test_money.py` drives the whole dispatcher on an event loop, at 7 ms a run. Here the ledger alone is real; around it is
a scheduler of generators, which holds slots, waits for settlements, tries again and cancels as the dispatcher does, at
a fraction of the price. A run is a root that asks, fans out sub-calls and children with a landing of their own, and
lands. Prices, latencies, lengths, failures and cancellations are drawn.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Generator
from typing import Any

import pytest

from rlm_cli.ledger import WAIT, Ledger, Limits, Need, Price, Refusal, Reservation, Usage

RUNS = 1_000
"""In the suite; ten thousand under the marker `slow`."""
LANDING = 3_000
"""Tokens of a landing's reply."""
SLOT, SETTLED = "slot", "settled"

Steps = Generator[Any, Any, Any]


class Doing:
    """Something that goes on, and who waits for it."""

    __slots__ = ("above", "below", "is_over", "left", "said", "steps")

    def __init__(self, steps: Steps, above: Doing | None) -> None:
        self.steps, self.above, self.is_over = steps, above, False
        self.below: list[Doing] = []
        self.left = 0
        self.said: list[Any] = []


class Scheduler:
    """Runs generators that yield seconds to sleep, `SLOT` or `SETTLED` to be woken by one, or generators to wait for."""

    def __init__(self) -> None:
        self.slots = 0
        self.alive = 0
        self.now = 0.0
        self._ready: deque[tuple[Doing, Any]] = deque()
        self._sleeping: list[tuple[float, int, Doing]] = []
        self._for_slot: deque[Doing] = deque()
        self._for_settlement: list[Doing] = []

    def start(self, steps: Steps, above: Doing | None = None) -> Doing:
        doing = Doing(steps, above)
        self.alive += 1
        self._ready.append((doing, None))
        return doing

    def run(self) -> None:
        """Until nobody can go on: all is over, or somebody waits for ever (`alive`)."""
        while True:
            while self._ready:
                self._step(*self._ready.popleft())
            for _ in range(min(self.slots, len(self._for_slot))):
                self._ready.append((self._for_slot.popleft(), None))
            if not self._ready:
                if not self._sleeping:
                    return
                self.now, _, doing = heapq.heappop(self._sleeping)
                self._ready.append((doing, None))

    def settled(self) -> None:
        self._ready.extend((doing, None) for doing in self._for_settlement)
        self._for_settlement.clear()

    def cancel(self, doing: Doing) -> None:
        """It, and all that goes on for it."""
        for one in doing.below:
            self.cancel(one)
        if not doing.is_over:
            self._over(doing, None)
            doing.steps.close()

    def _step(self, doing: Doing, value: Any) -> None:
        if doing.is_over:
            return
        try:
            wanted = doing.steps.send(value)
        except StopIteration as done:
            self._over(doing, done.value)
            return
        if wanted is SLOT:
            self._for_slot.append(doing)
        elif wanted is SETTLED:
            self._for_settlement.append(doing)
        elif isinstance(wanted, list):
            doing.left, doing.said = len(wanted), []
            doing.below = [self.start(steps, doing) for steps in wanted]
            if not wanted:
                self._ready.append((doing, []))
        else:
            heapq.heappush(self._sleeping, (self.now + wanted, id(doing), doing))

    def _over(self, doing: Doing, value: Any) -> None:
        doing.is_over = True
        self.alive -= 1
        if (above := doing.above) is not None and not above.is_over:
            above.said.append(value)
            above.left -= 1
            if above.left == 0:
                self._ready.append((above, above.said))


class Drawn:
    """One run. `calm`: nothing fails, and what may be asked is small against the cap."""

    def __init__(self, seed: int, calm: bool = False) -> None:
        self.rng = rng = random.Random(seed)
        self.calm = calm
        self.prices = [self._price(), self._price()]
        self.longest = [rng.choice([500, 2_000, 8_000]) for _ in self.prices]
        self.cap = rng.uniform(0.05, 5.0)
        if calm:
            landing = 2 * self.prices[0].ceiling(2_000 + 8_000 + 20_000, LANDING)
            asked = (price.ceiling(20_000, most) for price, most in zip(self.prices, self.longest, strict=True))
            self.cap = 10 * max(landing, *asked)
        self.fails = 0.0 if calm else rng.choice([0.0, 0.1, 0.4])
        self.longest_s = rng.choice([0.1, 5.0, 200.0])
        self.tokens = None if calm or rng.random() < 0.8 else rng.randrange(10_000, 1_000_000)
        self.ledger = Ledger(Limits(max_budget=self.cap, max_tokens=self.tokens))
        self.around = Scheduler()
        self.around.slots = self.jobs = rng.choice([1, 2, 8, 16])
        self.told = 0.0
        self.requests = 0
        self.used_at_refusal: float | None = None

    def _price(self) -> Price:
        rng = self.rng
        output = rng.uniform(0.1, 100.0)
        return Price(
            output / rng.uniform(1, 20),
            output,
            cached=rng.choice([None, output / 100]),
            cache_write=rng.choice([None, output / 4]),
            reasoning=rng.choice([None, output * 2]),
        )

    def run(self) -> Drawn:
        """To its end. What must hold of every run is asserted."""
        root = self.around.start(self._call("0", 0, self.rng.randrange(1, 4)))
        if not self.calm and self.rng.random() < 0.2:
            self.around.start(self._stop(root))
        self.around.run()
        assert self.around.alive == 0, "somebody waits for ever"
        assert self.around.slots == self.jobs
        assert not self.ledger._in_flight
        assert not self.ledger._holds
        assert self.ledger.spent.usd <= self.cap + 1e-6
        assert self.tokens is None or self.ledger.spent.tokens <= self.tokens
        assert abs(self.ledger.spent.usd - self.told) < 1e-6
        return self

    def _stop(self, root: Doing) -> Steps:
        """Ctrl-C, or a batch that is given up."""
        yield self.rng.uniform(0, 3 * self.longest_s)
        below = [one for one in root.below if not one.is_over]
        self.around.cancel(self.rng.choice([root, *below]))

    def _call(self, address: str, which: int, width: int) -> Steps:
        """Turns with sub-calls between them, then a landing where a limit refused something."""
        rng, history, refused, held = self.rng, 2_000, False, False
        try:
            for _ in range(rng.randrange(1, 5)):
                said = yield from self._ask(address, which, history, "iteration")
                refused = isinstance(said, Refusal)
                if refused or said is None:
                    break
                history, held = history + 2_000, True
                said = yield [
                    self._below(f"{address}.{n}", address.count(".")) for n in range(rng.randrange(width * 8))
                ]
                if any(isinstance(one, Refusal) for one in said):
                    refused = True
                    break
            for _ in range(2 if refused else 0):
                said = yield from self._ask(address, which, history, "landing")
                refused_all_the_same = held and not self.fails and isinstance(said, Refusal)
                assert not refused_all_the_same, "what a landing needs was kept aside"
        finally:
            self.ledger.close_call(address)

    def _below(self, address: str, depth: int) -> Steps:
        if depth == 0 and not self.calm and self.rng.random() < 0.1:
            yield from self._call(address, 1, 1)
            return None
        return (yield from self._ask(address, 1, self.rng.choice([100, 5_000, 20_000]), "sub"))

    def _ask(self, address: str, which: int, size: int, purpose: str) -> Steps:
        """One request as the dispatcher sends it: a slot, room, attempts, a settlement."""
        need = Need(
            address, size, LANDING if purpose == "landing" else self.longest[which], self.prices[which],
            landing_output=LANDING if purpose == "iteration" else 0, landing=purpose == "landing",
        )  # fmt: skip
        for attempt in range(3):
            while not self.around.slots:
                yield SLOT
            self.around.slots -= 1
            try:
                while (room := self.ledger.reserve(need)) is WAIT:
                    yield SETTLED
                if isinstance(room, Refusal):
                    if self.used_at_refusal is None:
                        self.used_at_refusal = self.ledger.spent.usd
                    return room
                assert isinstance(room, Reservation)
                if (answered := (yield from self._sent(room, need))) is not None:
                    return answered
            finally:
                self.around.slots += 1
            yield 2.0**attempt
        return None

    def _sent(self, room: Reservation, need: Need) -> Steps:
        """True: a reply; None: worth another try."""
        self.requests += 1
        rng, fate = self.rng, "cut"
        try:
            yield rng.random() * self.longest_s
            fate = rng.choice(["refused", "cut", "useless"]) if rng.random() < self.fails else "good"
            return True if fate == "good" else None
        finally:  # a cancellation ends here too
            if fate == "refused":
                self.ledger.cancel(room)
            elif fate == "cut":
                self.ledger.settle_at_ceiling(room)
                self.told += room.ceiling.usd
            else:
                assert need.price is not None
                usage = self._usage(need.input_tokens, room.max_output_tokens)
                self.ledger.settle(room, usage, need.price.cost(usage))
                self.told += need.price.cost(usage)
            self.around.settled()

    def _usage(self, most_in: int, most_out: int) -> Usage:
        """Never more than it was asked for: the ceiling is one."""
        draw = self.rng.random
        sent, said = int(most_in * (1 + 5 * draw()) / 6), int(most_out * draw())
        return Usage(sent, said, int(sent * draw() / 2), int(sent * draw() / 2), int(said * draw()))


def test_the_cap_holds_over_many_runs() -> None:
    """Nothing is spent beyond a cap, all that is spent is told of, nobody waits for ever, all room is given back."""
    for seed in range(RUNS):
        Drawn(seed).run()


def shares(seeds: range) -> list[float]:
    """Of the cap, what was used at the first refusal, in the runs that had one."""
    runs = (Drawn(seed, calm=True).run() for seed in seeds)
    return [run.used_at_refusal / run.cap for run in runs if run.used_at_refusal is not None]


def test_the_cap_is_used_before_anything_is_refused() -> None:
    """Where a landing and a request's ceiling are at most a tenth of the cap, four fifths of it are spent first."""
    used = shares(range(RUNS // 4))
    assert len(used) >= 5
    assert min(used) >= 0.8


@pytest.mark.slow
def test_ten_thousand_runs() -> None:
    """The same, longer."""
    for seed in range(1_000_000, 1_010_000):
        Drawn(seed).run()
    assert min(shares(range(1_000_000, 1_003_000))) >= 0.8
