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
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

from .call import Completion, Message, Purpose
from .errors import ModelError, RlmError
from .events import CompletionFinished, CompletionStarted, Event, LimitHit, NoticeGiven
from .fold import add_cost
from .ledger import InputEstimate, Ledger, Need, Refusal, Reservation, StopReason, Usage
from .models import Model

Emit = Callable[[Event, str | None], None]
"""Puts an event on the run's stream, under the address of the call it belongs to."""

OUTPUT_LIMIT: dict[Purpose, int] = {"iteration": 16_000, "direct": 16_000, "sub": 8_000, "landing": 3_000}
"""Tokens a reply may have, by purpose, or the model's own maximum. Reservations are computed from it."""
FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0
OUT_OF_TIME = Refusal(StopReason.TIMEOUT, "the time limit is reached")
LANDING_SHARE = 0.10
LANDING_SECONDS = 60.0
"""Of the run's time a tenth, at most a minute, is kept for landing."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """When ordinary requests end (`soft`), when everything ends (`hard`). Seconds of `time.monotonic`, None = never."""

    soft: float | None
    hard: float | None

    @classmethod
    def after(cls, timeout_s: float | None) -> Deadline:
        if timeout_s is None:
            return cls(None, None)
        now = time.monotonic()
        return cls(now + timeout_s - min(timeout_s * LANDING_SHARE, LANDING_SECONDS), now + timeout_s)

    def left(self, landing: bool) -> float | None:
        """Seconds that remain, None without a limit."""
        end = self.hard if landing else self.soft
        return None if end is None else end - time.monotonic()


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
        self._limits_hit: set[StopReason] = set()

    async def complete(
        self, call: str, model: Model, messages: Sequence[Message], purpose: Purpose
    ) -> Completion | Refusal:
        """Ask `model` and return its reply, or why the ledger or the clock refused.

        Raises `ModelError` after the last retry, `ConfigError` for a key or a model that cannot work.
        """
        request = _Request(call, model, tuple(messages), purpose)
        attempt = 0
        while True:
            try:
                await model.ready()
                return await self._attempt(request, attempt)
            except ModelError as error:
                wait = self._backoff(error, attempt)
                if not error.retriable or attempt >= self._retries:
                    self._failed(request, error, attempt)
                    raise
                left = self.deadline.left(purpose == "landing")
                if left is not None and wait >= left:
                    self._failed(request, error, attempt)
                    late = f"{error}; a retry in {wait:.0f} s would come after the time limit"
                    return self.hit(Refusal(StopReason.TIMEOUT, late), call)
                self._emit(NoticeGiven("retrying", f"waiting {wait:.0f} s: {error.message}"), call)
                attempt += 1
                await asyncio.sleep(wait)
            except RlmError as error:
                self._failed(request, error, attempt)
                raise

    def hit(self, refusal: Refusal, call: str | None) -> Refusal:
        """Put a limit that was reached on the stream, once a run, and hand the refusal on."""
        if refusal.reason not in self._limits_hit:
            self._limits_hit.add(refusal.reason)
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

    async def _attempt(self, request: _Request, attempt: int) -> Completion | Refusal:
        async with self._slots:
            reservation = await self._reserve(request)
            if isinstance(reservation, Refusal):
                return self.hit(reservation, request.call)
            left = self.deadline.left(request.purpose == "landing")
            if left is not None and left <= 0:
                self._settle(reservation, None)
                return self.hit(OUT_OF_TIME, request.call)
            seconds = self._request_timeout_s if left is None else min(left, self._request_timeout_s)
            if attempt == 0:
                self._started(request, reservation)
            started = time.monotonic()
            try:
                async with asyncio.timeout(seconds):
                    completion = await request.model.complete(
                        request.messages,
                        max_output_tokens=reservation.max_output_tokens,
                        timeout_s=seconds,
                        sub=request.purpose == "sub",
                    )
            except RlmError:
                self._settle(reservation, None)
                raise
            except TimeoutError:
                self._waste(request, reservation)
                error = ModelError(
                    f"no reply within {seconds:.0f} s", why=f"{request.model.name} did not finish", retriable=True
                )
                if seconds == self._request_timeout_s:
                    raise error from None
                self._failed(request, error, attempt)
                return self.hit(OUT_OF_TIME, request.call)
            except BaseException:
                self._waste(request, reservation)
                self._failed(request, ModelError("cancelled"), attempt)
                raise
            self._finished(request, completion, attempt, time.monotonic() - started)
            self._settle(reservation, completion.usage, cost_usd=price_of(request.model, completion))
            if completion.usage.input_tokens:
                self._estimate.observe(request.model.name, request.size, completion.usage.input_tokens)
            return completion

    async def _reserve(self, request: _Request) -> Reservation | Refusal:
        """Room in the ledger; waits while something in flight may settle below its ceiling."""
        need = Need(
            call=request.call,
            input_tokens=self._estimate.tokens(request.model.name, request.size),
            max_output_tokens=min(OUTPUT_LIMIT[request.purpose], request.model.max_output),
            price=request.model.price,
            landing_output=OUTPUT_LIMIT["landing"] if request.purpose == "iteration" else 0,
            landing=request.purpose == "landing",
        )
        while True:
            answer = self.ledger.reserve(need)
            if isinstance(answer, (Reservation, Refusal)):
                return answer
            settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(settled)
            await settled

    def _settle(
        self,
        reservation: Reservation,
        usage: Usage | None,
        *,
        cost_usd: float | None = None,
        at_ceiling: bool | None = None,
    ) -> None:
        """`usage` None: it was not served. `at_ceiling`: what it cost is not known; True when its price is."""
        if usage is None:
            self.ledger.cancel(reservation)
        elif at_ceiling is not None or not (usage.input_tokens or usage.output_tokens):
            self.ledger.settle_at_ceiling(reservation, cost_known=bool(at_ceiling))
        else:
            self.ledger.settle(reservation, usage, cost_usd)
        waiting, self._waiting = self._waiting, []
        for settled in waiting:
            if not settled.done():
                settled.set_result(None)

    def _waste(self, request: _Request, reservation: Reservation) -> None:
        """Cut short on our side: what the provider bills is not known, so it counts whole."""
        known = request.model.price is not None
        self._settle(reservation, Usage(), at_ceiling=known)
        request.wasted_usd = add_cost(request.wasted_usd, reservation.ceiling.usd if known else None)

    def _backoff(self, error: ModelError, attempt: int) -> float:
        """Seconds to wait: what the server asked for, else exponential with full jitter in its upper half."""
        if error.retry_after is not None:
            return max(error.retry_after, 0.0) + random.uniform(0, 0.25)
        ceiling: float = min(FIRST_BACKOFF_S * 2**attempt, LONGEST_BACKOFF_S)
        return random.uniform(ceiling / 2, ceiling)

    def _started(self, request: _Request, reservation: Reservation) -> None:
        self._emit(
            CompletionStarted(
                messages=tuple(asdict(message) for message in request.messages),
                purpose=request.purpose,
                estimated_input_tokens=reservation.ceiling.tokens - reservation.max_output_tokens,
                max_output_tokens=reservation.max_output_tokens,
                reserved_usd=None if request.model.price is None else reservation.ceiling.usd,
            ),
            request.call,
        )

    def _finished(self, request: _Request, completion: Completion, attempt: int, seconds: float) -> None:
        cost = add_cost(price_of(request.model, completion), request.wasted_usd)
        self._record(request, completion, cost, attempt, seconds)

    def _failed(self, request: _Request, error: RlmError, attempt: int) -> None:
        """A request the provider refused costs nothing; one that was cut short, its ceiling."""
        self._record(request, Completion("", finish_reason="error"), request.wasted_usd, attempt, 0.0, str(error))

    def _record(
        self,
        request: _Request,
        completion: Completion,
        cost_usd: float | None,
        attempt: int,
        seconds: float,
        error: str | None = None,
    ) -> None:
        """On the stream, and so on disk, before anybody uses the reply: it is paid for."""
        self._emit(
            CompletionFinished(
                request=request.hash,
                text=completion.text,
                finish_reason=completion.finish_reason,
                usage=completion.usage,
                cost_usd=cost_usd,
                cached=False,
                retries=attempt,
                duration_s=round(seconds, 4),
                model=request.model.name,
                purpose=request.purpose,
                reasoning=completion.reasoning,
                error=error,
                estimated_usd=request.wasted_usd or 0.0,
            ),
            request.call,
        )


@dataclass
class _Request:
    call: str
    model: Model
    messages: tuple[Message, ...]
    purpose: Purpose
    wasted_usd: float | None = 0.0
    """What earlier attempts cost that were cut short; None = unknown."""

    @cached_property
    def size(self) -> int:
        """Bytes of the messages, with some room for their envelope."""
        return sum(len(message.content.encode("utf-8", "replace")) + 16 for message in self.messages)

    @cached_property
    def hash(self) -> str:
        """What tells two requests apart when a recorded reply is looked for."""
        text = json.dumps([self.model.name, [asdict(message) for message in self.messages]], ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


def price_of(model: Model, completion: Completion) -> float | None:
    """USD of one reply: the provider's own figure, else usage times price, else None, which is never zero."""
    if completion.cost_usd is not None:
        return completion.cost_usd
    usage = completion.usage
    if model.price is None or not (usage.input_tokens or usage.output_tokens):
        return None
    return model.price.cost(usage)
