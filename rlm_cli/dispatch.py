"""One request to a model, done properly: a slot, a reservation, attempts, a settlement, two events.

Every completion of a run passes here: iterations, sub-calls, landings, the one call of direct mode. A slot is held only
while a request is in flight, never while waiting for a child, or nested fan-out deadlocks. Room in the ledger is
reserved after the slot was taken, so at most `jobs` requests wait for a settlement, and each attempt of a retry
reserves anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

from .call import Completion, Message, Purpose
from .errors import ModelError, RlmError
from .events import CompletionFinished, CompletionStarted, Event, LimitHit, NoticeGiven
from .fold import add_cost
from .ledger import Amount, InputEstimate, Ledger, Need, Refusal, Reservation, Size, StopReason, Usage
from .models import Model
from .models.recorded import Recorded
from .schema import Schema

Emit = Callable[[Event, str | None], None]
"""Puts an event on the run's stream, under the address of the call it belongs to."""

OUTPUT_LIMIT: dict[Purpose, int] = {
    "iteration": 16_000,
    "direct": 16_000,
    "sub": 8_000,
    "summary": 2_000,
    "landing": 3_000,
}
"""Tokens a reply may have, by purpose, or the model's own maximum. Reservations are computed from it."""
FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0
LONGEST_WAIT_S = 900.0
"""A server that asks for more has no use for us today, whatever `--timeout` says."""
EARLY_S = 0.01
"""A timer may fire this much before its time."""
OUT_OF_TIME = Refusal(StopReason.TIMEOUT, "the time limit is reached")
LANDING_SHARE = 0.10
LANDING_SECONDS = 60.0
"""Of the run's time a tenth, at most a minute, is kept for landing."""

LONGEST_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class Deadline:
    """When ordinary requests end (`soft`), when everything ends (`hard`). Seconds of `time.monotonic`, None = never."""

    soft: float | None
    hard: float | None

    @classmethod
    def after(cls, timeout_s: float | None) -> Deadline:
        """The deadline of a run that begins now and may take `timeout_s` seconds; None = it has none."""
        if timeout_s is None:
            return cls(None, None)
        now = time.monotonic()
        return cls(now + timeout_s - min(timeout_s * LANDING_SHARE, LANDING_SECONDS), now + timeout_s)

    @property
    def grace(self) -> float:
        """Seconds that a cell gets beyond an end: sub-calls are refused first, so that it can still react."""
        return 0.0 if self.soft is None or self.hard is None else min(LONGEST_GRACE_S, (self.hard - self.soft) / 4)

    @property
    def is_over(self) -> bool:
        """Whether ordinary requests have no time left."""
        return self.soft is not None and time.monotonic() >= self.soft

    def left(self, landing: bool) -> float | None:
        """Seconds that remain, None without a limit."""
        end = self.hard if landing else self.soft
        return None if end is None else end - time.monotonic()


def output_limit(model: Model, purpose: Purpose) -> int:
    """Tokens a reply of `model` may have: a quarter of a small window at most, or nothing is left to ask with."""
    return max(min(OUTPUT_LIMIT[purpose], model.max_output, model.window // 4), 1)


class Dispatch:
    """Sends the requests of one run. Lives on the event loop of that run."""

    def __init__(
        self, ledger: Ledger, deadline: Deadline, emit: Emit, *, retries: int, request_timeout_s: float
    ) -> None:
        self.ledger = ledger
        self.deadline = deadline
        self._emit = emit
        self._retries = retries
        self._request_timeout_s = request_timeout_s
        self._slots = asyncio.Semaphore(ledger.limits.jobs)
        self._waiting: list[asyncio.Future[None]] = []
        self._estimate = InputEstimate()
        self.refusals: dict[StopReason, Refusal] = {}
        """The first refusal of each limit that was reached, in order."""
        self._sent: dict[str, deque[float]] = {}

    async def complete(
        self,
        call: str,
        model: Model,
        messages: Sequence[Message],
        purpose: Purpose,
        *,
        lands: bool = True,
        schema: Schema | None = None,
    ) -> Completion | Refusal:
        """Ask `model` and return its reply, or why the ledger or the clock refused.

        `lands`: the price of the call's landing is kept aside. `schema`: the provider is asked to hold the reply to it,
        which only a model that is `structured` understands. Whatever happens, a request that was put on the stream
        as started is finished there. Raises `ModelError` after the last retry, `ConfigError` for a key or a model that
        cannot work.
        """
        request = _Request(call, model, tuple(messages), purpose, lands, schema)
        if (known := await self._recalled(request)) is not None:
            return known
        try:
            outcome = await self._tries(request)
        except RlmError as error:
            self._unanswered(request, str(error))
            raise
        except BaseException:
            self._unanswered(request, "cancelled")
            raise
        if isinstance(outcome, Refusal):
            self._unanswered(request, outcome.message)
            return self.hit(outcome, call)
        return outcome

    def hit(self, refusal: Refusal, call: str | None) -> Refusal:
        """Put a limit that was reached on the stream, once a run, and hand the refusal on."""
        if refusal.reason not in self.refusals:
            self.refusals[refusal.reason] = refusal
            limits, spent = self.ledger.limits, self.ledger.spent
            value, most = {
                StopReason.MAX_BUDGET: (spent.usd, limits.max_budget),
                StopReason.MAX_TOKENS: (spent.tokens, limits.max_tokens),
                StopReason.MAX_SUBCALLS: (self.ledger.subcalls, limits.max_subcalls),
                StopReason.MAX_ITERATIONS: (limits.max_iterations, limits.max_iterations),
                StopReason.TIMEOUT: (limits.timeout_s, limits.timeout_s),
            }.get(refusal.reason, (0, 0))
            self._emit(LimitHit(str(refusal.reason), value or 0, most or 0), call)
        return refusal

    def first_hit(self, reasons: Collection[StopReason]) -> StopReason | None:
        """The first limit among `reasons` that refused something."""
        return next((reason for reason in self.refusals if reason in reasons), None)

    async def _recalled(self, request: _Request) -> Completion | None:
        """A reply that is on record: it takes no slot, no room in the ledger, and no time."""
        model = request.model
        if request.purpose != "sub" or not isinstance(model, Recorded):
            return None
        limit = output_limit(model, "sub")
        completion = await model.recall(request.messages, limit, request.schema)
        if completion is not None:
            self._started(request, Reservation(request.call, Amount(0.0, limit), limit))
            self._finished(request, completion, 0.0)
        return completion

    async def _tries(self, request: _Request) -> Completion | Refusal:
        """Attempts until one is answered, refused or hopeless."""
        try:
            async with asyncio.timeout(self._left(request)):
                await request.model.ready()
        except TimeoutError:
            return OUT_OF_TIME
        while True:
            try:
                return await self._attempt(request)
            except ModelError as error:
                wait = self._backoff(error, request.retries)
                if not error.retriable or request.retries >= self._retries:
                    raise
                left = self._left(request)
                if wait > LONGEST_WAIT_S or (left is not None and wait >= left):
                    late = "is too late" if wait > LONGEST_WAIT_S else "would come after the time limit"
                    error.why = f"{error.why}; " * bool(error.why) + f"another try in {wait:.0f} s {late}"
                    raise
                self._emit(NoticeGiven("retrying", f"waiting {wait:.0f} s: {error.message}"), request.call)
            request.retries += 1
            await asyncio.sleep(wait)

    async def _attempt(self, request: _Request) -> Completion | Refusal:
        async with self._slots:
            if not await self._pace(request):
                return OUT_OF_TIME
            reservation = await self._reserve(request)
            if isinstance(reservation, Refusal):
                return reservation
            try:
                if self._is_late(request):
                    self._free(reservation)
                    return OUT_OF_TIME
                completion = await self._send(request, reservation)
            except ModelError as error:
                self._settle_failed(request, reservation, error)
                if error.cut_short and self._is_late(request):
                    return OUT_OF_TIME
                raise
            except RlmError:
                self._free(reservation)
                raise
            except BaseException:
                self._waste(request, reservation)
                raise
            self._settle(request, reservation, completion)
            return completion

    async def _send(self, request: _Request, reservation: Reservation) -> Completion:
        """One attempt. Raises a `ModelError` that is `cut_short` when its time is over."""
        left = self._left(request)
        seconds = self._request_timeout_s if left is None else min(max(left, 0.0), self._request_timeout_s)
        self._started(request, reservation)
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                completion = await request.model.complete(
                    request.messages,
                    max_output_tokens=reservation.max_output_tokens,
                    sub=request.purpose == "sub",
                    schema=request.schema,
                )
        except TimeoutError:
            why = f"{request.model.name} did not finish"
            raise ModelError(f"no reply within {seconds:.0f} s", why=why, retriable=True, cut_short=True) from None
        # On the stream, and so on disk, before anybody uses the reply: it is paid for.
        self._finished(request, completion, time.monotonic() - began)
        return completion

    async def _reserve(self, request: _Request) -> Reservation | Refusal:
        """Room in the ledger; waits while something in flight may settle below its ceiling."""
        keeps = request.purpose == "iteration" and request.lands
        need = Need(
            call=request.call,
            input_tokens=self._estimate.tokens(request.model.name, request.size),
            max_output_tokens=output_limit(request.model, request.purpose),
            price=request.model.price,
            landing_output=output_limit(request.model, "landing") if keeps else 0,
            landing=request.purpose == "landing",
        )
        while True:
            answer = self.ledger.reserve(need)
            if isinstance(answer, (Reservation, Refusal)):
                return answer
            settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(settled)
            await settled

    async def _pace(self, request: _Request) -> bool:
        """Wait until the model's `rpm` allows one more request; False when the time is over before."""
        rpm = request.model.rpm
        sent = self._sent.setdefault(request.model.name, deque(maxlen=rpm or 1))
        while rpm and len(sent) == rpm and (wait := sent[0] + 60 - time.monotonic()) > 0:
            left = self._left(request)
            if left is not None and wait >= left:
                return False
            await asyncio.sleep(wait)
        sent.append(time.monotonic())
        return True

    def _left(self, request: _Request) -> float | None:
        """Seconds for this request; after it a landing comes, unless it is one, or the only request there is."""
        return self.deadline.left(request.purpose in ("landing", "direct"))

    def _is_late(self, request: _Request) -> bool:
        left = self._left(request)
        return left is not None and left <= EARLY_S

    def _settle(self, request: _Request, reservation: Reservation, completion: Completion) -> None:
        """Served and counted by the provider; where it did not count, at the ceiling."""
        usage = completion.usage
        if usage.input_tokens or usage.output_tokens:
            self.ledger.settle(reservation, usage, price_of(request.model, completion))
        else:
            self.ledger.settle_at_ceiling(reservation)
        if usage.input_tokens:
            self._estimate.observe(request.model.name, request.size, usage.input_tokens)
        self._wake()

    def _settle_failed(self, request: _Request, reservation: Reservation, error: ModelError) -> None:
        """What we gave up on may be billed, and a useless reply is; what was refused is not, as far as we know."""
        if error.usage is not None and (error.usage.input_tokens or error.usage.output_tokens):
            price = request.model.price
            cost = None if price is None else price.cost(error.usage)
            self.ledger.settle(reservation, error.usage, cost)
            request.wasted_usd = add_cost(request.wasted_usd, cost)
            request.usage += error.usage
            self._wake()
        elif error.cut_short or error.usage is not None:
            self._waste(request, reservation)
        else:
            self._free(reservation)

    def _waste(self, request: _Request, reservation: Reservation) -> None:
        """Cut short on our side: what the provider bills is not known, so it counts whole."""
        self.ledger.settle_at_ceiling(reservation)
        ceiling = reservation.ceiling.usd if request.model.price is not None else None
        request.wasted_usd = add_cost(request.wasted_usd, ceiling)
        request.estimated_usd += ceiling or 0.0
        self._wake()

    def _free(self, reservation: Reservation) -> None:
        """Not served: it costs nothing."""
        self.ledger.cancel(reservation)
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for settled in waiting:
            if not settled.done():
                settled.set_result(None)

    def _backoff(self, error: ModelError, attempt: int) -> float:
        """Seconds to wait: what the server asked for, else exponential with full jitter in its upper half."""
        if error.retry_after is not None:
            return max(error.retry_after, 0.0) + random.uniform(0, 0.25)
        ceiling: float = min(FIRST_BACKOFF_S * 2**attempt, LONGEST_BACKOFF_S)
        return random.uniform(ceiling / 2, ceiling)

    def _started(self, request: _Request, reservation: Reservation) -> None:
        if request.started:
            return
        request.started = True
        self._emit(
            CompletionStarted(
                messages=tuple(message.plain() for message in request.messages),
                purpose=request.purpose,
                estimated_input_tokens=reservation.ceiling.tokens - reservation.max_output_tokens,
                max_output_tokens=reservation.max_output_tokens,
                reserved_usd=None if request.model.price is None else reservation.ceiling.usd,
            ),
            request.call,
        )

    def _finished(self, request: _Request, completion: Completion, seconds: float) -> None:
        cost = add_cost(price_of(request.model, completion), request.wasted_usd)
        self._record(request, completion, cost, seconds, None)

    def _unanswered(self, request: _Request, error: str) -> None:
        """A request the provider refused costs nothing; one that was cut short, its ceiling."""
        if request.started and not request.finished:
            self._record(request, Completion("", finish_reason="error"), request.wasted_usd, 0.0, error)

    def _record(
        self, request: _Request, completion: Completion, cost_usd: float | None, seconds: float, error: str | None
    ) -> None:
        request.finished = True
        self._emit(
            CompletionFinished(
                request=request.hash,
                text=completion.text,
                finish_reason=completion.finish_reason,
                usage=completion.usage + request.usage,
                cost_usd=cost_usd,
                cached=completion.recorded,
                retries=request.retries,
                duration_s=round(seconds, 4),
                model=request.model.name,
                purpose=request.purpose,
                reasoning=completion.reasoning,
                calls=tuple(asdict(called) for called in completion.calls),
                error=error,
                estimated_usd=request.estimated_usd,
            ),
            request.call,
        )


@dataclass
class _Request:
    call: str
    model: Model
    messages: tuple[Message, ...]
    purpose: Purpose
    lands: bool
    schema: Schema | None
    retries: int = 0
    started: bool = False
    finished: bool = False
    usage: Usage = Usage()
    """Of replies that were of no use."""
    wasted_usd: float | None = 0.0
    """What attempts cost that brought nothing; None = unknown."""
    estimated_usd: float = 0.0
    """The part of it that is a ceiling and no bill."""

    @cached_property
    def size(self) -> Size:
        """Of the messages, with some room for their envelope."""
        form = Size(dense=16 * len(self.messages)) + Size.of(self.schema.text if self.schema else "")
        return sum((Size.of(message.written) for message in self.messages), form)

    @cached_property
    def hash(self) -> str:
        """What tells two requests apart when a recorded reply is looked for."""
        asked = [self.model.name, [message.plain() for message in self.messages]]
        text = json.dumps(asked + ([self.schema.text] if self.schema else []), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


def price_of(model: Model, completion: Completion) -> float | None:
    """USD of one reply: the provider's own figure, else usage times price, else None, which is never zero."""
    if completion.cost_usd is not None:
        return completion.cost_usd
    usage = completion.usage
    if model.price is None or not (usage.input_tokens or usage.output_tokens):
        return None
    return model.price.cost(usage)
