"""One account for the whole tree of calls: reserve before a request is sent, settle after.

Pure arithmetic, no clock and no waiting in it: `reserve` answers with a `Reservation`, with `WAIT` (something is
in flight whose settlement may make room) or with a `Refusal`. Who asks does the waiting (`dispatch.py`), so a
property test can drive ten thousand runs through this file in seconds.

Why waiting: a request is reserved at its ceiling (input estimate + output limit), and a true price is far below
that as a rule. Simulated: 50 calls with a ceiling of $0.30 and a true price of $0.01 under a cap of $1; refusing
at once answered 3, waiting answered 50.

What a call needs for its landing (two requests, see `loop.land`) is kept aside as a hold. Holds live as long as
their call and never count as in flight, so nothing waits for them and nothing deadlocks. The cap is never
exceeded, the landing included, as far as the input estimate is a ceiling.

Rejected: a budget handed down to each child as a snapshot. Siblings then spend the same dollar twice.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum, StrEnum

LANDING_REQUESTS = 2
"""A code turn without sub-calls, then words."""
LANDING_OVERHEAD_TOKENS = 4_000
"""What one more turn may add to the history before the landing: 10,000 characters of output and the request."""
MIN_OUTPUT_TOKENS = 1_000
"""An output limit is lowered to fit the budget, but not below this: a cut-off reply is paid for and useless."""
WARM_REPLIES = 5
"""Replies seen for a model before its measured tokens-per-byte ratio replaces one token a byte."""


class StopReason(StrEnum):
    """Why a call or a run ended."""

    FINAL = "final"
    MAX_BUDGET = "max_budget"
    MAX_TOKENS = "max_tokens"
    MAX_ITERATIONS = "max_iterations"
    MAX_SUBCALLS = "max_subcalls"
    TIMEOUT = "timeout"
    NO_PROGRESS = "no_progress"
    INTERRUPT = "interrupt"
    ERROR = "error"


RUN_WIDE = frozenset({StopReason.MAX_BUDGET, StopReason.MAX_TOKENS, StopReason.MAX_SUBCALLS, StopReason.TIMEOUT})
"""Limits that a child shares with its parent: where it met one, the parent will too."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the whole tree of calls may use. None means no limit.

    `max_budget` is in USD, `max_tokens` counts input and output, `timeout_s` is wall time of the whole run,
    `max_iterations` is per call, `max_subcalls` per run (each prompt of a batch counts), `jobs` is the number of
    requests in flight.
    """

    max_budget: float | None = 1.0
    max_tokens: int | None = None
    max_depth: int = 1
    max_iterations: int = 20
    max_subcalls: int = 200
    timeout_s: float | None = 900.0
    jobs: int = 8
    on_limit: str = "answer"


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens. `cached` and `cache_write` default to the input price, `reasoning` to the output's.

    `above`: (tokens, price) from the least to the most; a request with more input than that is charged by it whole.
    """

    input: float
    output: float
    cached: float | None = None
    cache_write: float | None = None
    reasoning: float | None = None
    above: tuple[tuple[int, Price], ...] = ()

    def cost(self, usage: Usage) -> float:
        """What the usage costs in USD. Cached and cache-written tokens are part of `input_tokens`."""
        price = self.at(usage.input_tokens)
        cached = price.input if price.cached is None else price.cached
        written = price.input if price.cache_write is None else price.cache_write
        thought = price.output if price.reasoning is None else price.reasoning
        plain = usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens
        micro = max(plain, 0) * price.input + usage.cached_input_tokens * cached + usage.cache_write_tokens * written
        said = max(usage.output_tokens - usage.reasoning_tokens, 0)
        return (micro + said * price.output + usage.reasoning_tokens * thought) / 1e6

    def ceiling(self, input_tokens: int, output_tokens: int) -> float:
        """The most that so many tokens can cost in USD, whichever of them are cached, written or thought."""
        price = self.at(input_tokens)
        dearest = max(price.input, price.cached or 0.0, price.cache_write or 0.0)
        return (input_tokens * dearest + output_tokens * max(price.output, price.reasoning or 0.0)) / 1e6

    def at(self, input_tokens: int) -> Price:
        """What holds for a request with so much input."""
        return next((price for tokens, price in reversed(self.above) if input_tokens > tokens), self)

    @property
    def is_free(self) -> bool:
        return not (self.input or self.output)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them. `reasoning_tokens` are part of `output_tokens`."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_input_tokens + other.cached_input_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(frozen=True, slots=True)
class Refusal:
    """The ledger, or the clock, said no. A value, not an exception: the call lands."""

    reason: StopReason
    message: str


class Wait(Enum):
    """No room now, but something in flight may settle below its ceiling."""

    WAIT = "wait"


WAIT = Wait.WAIT


@dataclass(frozen=True, slots=True)
class Amount:
    """Money and tokens together: every limit of the ledger is one of the two."""

    usd: float = 0.0
    tokens: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.usd + other.usd, self.tokens + other.tokens)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.usd - other.usd, self.tokens - other.tokens)

    def floor(self) -> Amount:
        """Nothing below zero."""
        return Amount(max(self.usd, 0.0), max(self.tokens, 0))

    def least(self, other: Amount) -> Amount:
        """The smaller of each."""
        return Amount(min(self.usd, other.usd), min(self.tokens, other.tokens))


@dataclass(frozen=True, slots=True)
class Need:
    """What a request asks of the ledger. `price` None = unknown: tokens are counted, money cannot be.

    `landing_output` > 0 asks for a hold that keeps this call's landing affordable after the request; a request that
    *is* part of a landing sets `landing` and may use the hold.
    """

    call: str
    input_tokens: int
    max_output_tokens: int
    price: Price | None
    landing_output: int = 0
    landing: bool = False

    def ceiling(self, output: int) -> Amount:
        """What the request costs at most with `output` tokens of reply, at the dearest price of its input."""
        usd = 0.0 if self.price is None else self.price.ceiling(self.input_tokens, output)
        return Amount(usd, self.input_tokens + output)

    def hold(self, output: int) -> Amount:
        """What the landing of this call may cost once this request was answered with `output` tokens."""
        if not self.landing_output:
            return Amount()
        tokens = self.input_tokens + output + LANDING_OVERHEAD_TOKENS
        usd = 0.0 if self.price is None else self.price.ceiling(tokens, self.landing_output)
        return Amount(usd * LANDING_REQUESTS, (tokens + self.landing_output) * LANDING_REQUESTS)


@dataclass(eq=False, slots=True)
class Reservation:
    """Room that is taken until `Ledger.settle`. `max_output_tokens` may be lower than what was asked for."""

    call: str
    ceiling: Amount
    max_output_tokens: int
    from_hold: Amount = field(default_factory=Amount)


class Ledger:
    """Spending, reservations and holds of one run. Not thread-safe: lives on the event loop."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.spent = Amount()
        self.subcalls = 0
        self._in_flight: set[Reservation] = set()
        self._holds: dict[str, Amount] = {}

    @property
    def used(self) -> float:
        """The share of the tightest limit that is spent, 0.0 to 1.0."""
        shares = [0.0]
        if self.limits.max_budget:
            shares.append(self.spent.usd / self.limits.max_budget)
        if self.limits.max_tokens:
            shares.append(self.spent.tokens / self.limits.max_tokens)
        if self.limits.max_subcalls:
            shares.append(self.subcalls / self.limits.max_subcalls)
        return max(shares)

    def admit_subcall(self) -> Refusal | None:
        """Count one prompt of a sub-call, or say why it may not be asked."""
        if self.subcalls >= self.limits.max_subcalls:
            return Refusal(StopReason.MAX_SUBCALLS, f"the limit of {self.limits.max_subcalls} sub-calls is reached")
        self.subcalls += 1
        return None

    def reserve(self, need: Need) -> Reservation | Wait | Refusal:
        """Take room for one request, at its ceiling; lowers its output limit before it refuses."""
        own_hold = self._holds.get(need.call, Amount())
        room = self._room() + own_hold
        output = need.max_output_tokens
        if not self._fits(need, output, own_hold, room):
            if self._in_flight:
                return WAIT
            output = self._largest_output(need, own_hold, room)
            if output < min(MIN_OUTPUT_TOKENS, need.max_output_tokens):
                return self._refusal(need, own_hold, room)
        reservation = Reservation(need.call, need.ceiling(output), output)
        if need.landing:
            reservation.from_hold = reservation.ceiling.least(own_hold)
            self._holds[need.call] = own_hold - reservation.from_hold
        elif need.landing_output:
            self._holds[need.call] = need.hold(output)
        self._in_flight.add(reservation)
        return reservation

    def settle(self, reservation: Reservation, usage: Usage, cost_usd: float | None) -> None:
        """Replace a reservation by what was really used. `cost_usd` None = unknown."""
        self._in_flight.remove(reservation)
        self.spent += Amount(cost_usd or 0.0, usage.input_tokens + usage.output_tokens)

    def settle_at_ceiling(self, reservation: Reservation) -> None:
        """A request that was cut short, or was not counted: what it cost is not known, so it counts whole."""
        self._in_flight.remove(reservation)
        self.spent += reservation.ceiling

    def cancel(self, reservation: Reservation) -> None:
        """The request failed without being served: it costs nothing."""
        self._in_flight.remove(reservation)
        if reservation.call in self._holds:
            self._holds[reservation.call] += reservation.from_hold

    def close_call(self, call: str) -> None:
        """The call ended: what was kept for its landing is free for others."""
        self._holds.pop(call, None)

    def _room(self) -> Amount:
        taken = [*(reservation.ceiling for reservation in self._in_flight), *self._holds.values()]
        usd = float("inf") if self.limits.max_budget is None else self.limits.max_budget
        tokens = 2**62 if self.limits.max_tokens is None else self.limits.max_tokens
        return Amount(
            usd - sum([amount.usd for amount in taken], self.spent.usd),
            tokens - sum([amount.tokens for amount in taken], self.spent.tokens),
        )

    def _fits(self, need: Need, output: int, own_hold: Amount, room: Amount) -> bool:
        left = room - need.ceiling(output)
        if not need.landing:
            kept = need.hold(output) if need.landing_output else own_hold
            left = left - kept
        # A tenth of a micro-dollar: sums of floats are not associative, and a cap that is met is not exceeded.
        return left.usd >= -1e-7 and left.tokens >= 0

    def _largest_output(self, need: Need, own_hold: Amount, room: Amount) -> int:
        low, high = 0, need.max_output_tokens
        while low < high:
            middle = (low + high + 1) // 2
            if self._fits(need, middle, own_hold, room):
                low = middle
            else:
                high = middle - 1
        return low

    def _refusal(self, need: Need, own_hold: Amount, room: Amount) -> Refusal:
        smallest = need.ceiling(min(MIN_OUTPUT_TOKENS, need.max_output_tokens))
        left = room if need.landing else room - (need.hold(MIN_OUTPUT_TOKENS) if need.landing_output else own_hold)
        if smallest.tokens > left.tokens:
            return Refusal(
                StopReason.MAX_TOKENS,
                f"the next request may take {smallest.tokens:,} tokens and {left.floor().tokens:,} are left"
                f" of {self.limits.max_tokens:,}",
            )
        return Refusal(
            StopReason.MAX_BUDGET,
            f"the next request may cost ${smallest.usd:.4f} and ${left.floor().usd:.4f} is left"
            f" of ${self.limits.max_budget or 0:.2f}",
        )


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of a prompt by how many tokens they may take.

    `plain`: small ASCII letters and white space, several to a token; `wide`: what is beyond ASCII; `dense`: the rest
    (digits, signs, capitals), of which each may be a token.
    """

    plain: int = 0
    dense: int = 0
    wide: int = 0

    @classmethod
    def of(cls, text: str) -> Size:
        data = text.encode("utf-8", "replace")
        ascii_ = data.translate(None, _WIDE)
        dense = len(ascii_.translate(None, _PLAIN))
        return cls(len(ascii_) - dense, dense, len(data) - len(ascii_))

    @property
    def bytes(self) -> int:
        return self.plain + self.dense + self.wide

    def __add__(self, other: Size) -> Size:
        return Size(self.plain + other.plain, self.dense + other.dense, self.wide + other.wide)


_PLAIN = b"abcdefghijklmnopqrstuvwxyz \n\t"
_WIDE = bytes(range(0x80, 0x100))


class InputEstimate:
    """A ceiling for input tokens without a tokenizer.

    At first every byte counts as a token: no tokenizer in use makes more of one. Once `WARM_REPLIES` prompts that were
    mostly plain were counted by the provider, plain bytes count at the highest ratio seen plus 10 %; wide ones
    likewise, on their own. Dense bytes always count whole: a ratio that prose has taught is none for digits (a prompt
    of digits after eight of prose cost three times what was reserved), and characters / 3.5 is none for Chinese.
    """

    def __init__(self) -> None:
        self._replies: Counter[tuple[str, str]] = Counter()
        self._most: dict[tuple[str, str], float] = {}

    def tokens(self, model: str, size: Size) -> int:
        """The most tokens that a prompt of that size may take for `model`."""
        plain, wide = (self._ratio(model, kind) for kind in ("plain", "wide"))
        return size.dense + math.ceil(size.plain * plain + size.wide * wide)

    def observe(self, model: str, size: Size, input_tokens: int) -> None:
        """A prompt of that size was counted as `input_tokens` by the provider."""
        for kind, bytes_ in (("plain", size.plain), ("wide", size.wide)):
            if input_tokens and 2 * bytes_ >= size.bytes > 0:
                self._replies[model, kind] += 1
                self._most[model, kind] = max(self._most.get((model, kind), 0.0), input_tokens / bytes_)

    def _ratio(self, model: str, kind: str) -> float:
        if self._replies[model, kind] < WARM_REPLIES:
            return 1.0
        return min(self._most[model, kind] * 1.1, 1.0)
