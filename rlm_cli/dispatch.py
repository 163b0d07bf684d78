"""One request to a model, done properly: a slot, a reservation, attempts, a settlement, two events.

Every completion of a run passes here: iterations, sub-calls, landings, the one call of direct mode. A request goes
through the door of its model (`pace.py`), takes one of the run's slots, then room in the ledger, and gives all of it
back when it was answered: nothing is held while it waits for another try, or for a child, or nested fan-out deadlocks.
At most `jobs` requests wait for a settlement, and each attempt of a retry reserves anew.

What cannot succeed is asked once: the door of a model whose key or account is refused stays closed. Who is asked
instead of a model that fails for good: `stand_ins.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Hashable, Mapping, Sequence

from .call import Completion, Message, Purpose
from .deadline import EARLY_S, OUT_OF_TIME, Deadline, now
from .errors import ModelError, RlmError
from .events import LimitHit, NoticeGiven
from .fold import add_cost
from .ledger import Amount, InputEstimate, Ledger, Need, Refusal, Reservation, StopReason
from .models import Model, deployment
from .models.cut import refuse_cut
from .models.recorded import Recorded
from .pace import Lane, Place, TooLate, backoff
from .request import Emit, Request
from .schema import Schema
from .stand_ins import StandIns, fitted

OUTPUT_LIMIT: dict[Purpose, int] = {
    "iteration": 16_000,
    "direct": 16_000,
    "sub": 8_000,
    "summary": 2_000,
    "landing": 3_000,
}
"""Tokens a reply may have, by purpose, or the model's own maximum. Reservations are computed from it."""
LONGEST_WAIT_S = 900.0
"""A server that asks for more, or answers nobody for so long, has no use for us today, whatever `--timeout` says."""


def output_limit(model: Model, purpose: Purpose) -> int:
    """Tokens a reply of `model` may have: a quarter of a small window at most, or nothing is left to ask with."""
    return max(min(OUTPUT_LIMIT[purpose], model.max_output, model.window // 4), 1)


class Dispatch:
    """Sends the requests of one run. Lives on the event loop of that run."""

    def __init__(
        self,
        ledger: Ledger,
        deadline: Deadline,
        emit: Emit,
        *,
        retries: int,
        request_timeout_s: float,
        stand_ins: Mapping[str, Sequence[Model]] | None = None,
    ) -> None:
        """`stand_ins`: by a model's name those to ask instead once it fails for good, in order."""
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
        self._lanes: dict[Hashable, Lane] = {}
        self._stand_ins = StandIns(stand_ins or {}, emit)

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
        while True:
            number, asked = self._stand_ins.of(model)
            request = Request(call, asked, tuple(messages), purpose, lands, schema, self._emit)
            try:
                if number:
                    request = fitted(request, output_limit(asked, purpose))
                if (known := await self._recalled(request)) is not None:
                    return known
                return await self._complete(request)
            except RlmError as error:
                if (stand_in := self._stand_ins.after(model, number, error)) is None:
                    raise
                lane = self._lane(asked)
                if lane is not self._lane(stand_in):
                    lane.close(error)  # those who wait to try it again need not

    async def _complete(self, request: Request) -> Completion | Refusal:
        """One model asked until it answers, or never will; what was put on the stream as started is finished there."""
        try:
            outcome = await self._tries(request)
        except RlmError as error:
            request.unanswered(str(error))
            if isinstance(error, ModelError) and error.prompt_cut:
                self._emit(NoticeGiven("prompt_truncated", str(error)), request.call)
            raise
        except BaseException:
            request.unanswered("cancelled")
            raise
        if isinstance(outcome, Refusal):
            request.unanswered(outcome.message)
            return self.hit(outcome, request.call)
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

    async def _recalled(self, request: Request) -> Completion | None:
        """A reply that is on record: it takes no slot, no room in the ledger, and no time."""
        model = request.model
        if request.purpose != "sub" or not isinstance(model, Recorded):
            return None
        limit = output_limit(model, "sub")
        completion = await model.recall(request.messages, limit, request.schema)
        if completion is not None:
            request.starts(Reservation(request.call, Amount(0.0, limit), limit))
            request.finishes(completion, 0.0)
        return completion

    async def _tries(self, request: Request) -> Completion | Refusal:
        """Attempts until one is answered, refused or hopeless."""
        try:
            async with asyncio.timeout(self._left(request)):
                await request.model.ready()
        except TimeoutError:
            return OUT_OF_TIME
        lane = self._lane(request.model)
        while True:
            try:
                if (outcome := await self._attempt(request, lane)) is not None:
                    return outcome
            except ModelError as error:
                wait = self._wait_after(error, request, lane)
                request.retries += 1
                if not error.overload:  # else the door is closed so long
                    await asyncio.sleep(wait)

    def _wait_after(self, error: ModelError, request: Request, lane: Lane) -> float:
        """Seconds until another try; raises the error where none makes sense. A server that says we ask too often will
        answer in time, so that counts as no failure."""
        request.failures += not error.rate
        if not error.retriable or lane.closed is not None or request.failures > self._retries:
            raise error
        wait = lane.held if error.overload else error.retry_after
        wait = backoff(request.failures - 1) if wait is None else wait
        left = self._left(request)
        silent = now() - max(lane.served_at, request.began)
        late = ""
        if wait > LONGEST_WAIT_S:
            late = f"another try in {wait:.0f} s is too late"
        elif left is not None and wait >= left:
            late = f"another try in {wait:.0f} s would come after the time limit"
        elif error.rate and silent > LONGEST_WAIT_S:
            late = f"it has answered nobody for {silent:.0f} s"
        if late:
            error.why = f"{error.why}; " * bool(error.why) + late
            raise error
        self._tell(request, wait, error.message.removeprefix(f"{request.model.name}: "))
        return wait

    def _tell(self, request: Request, wait: float, why: str) -> None:
        self._emit(NoticeGiven("retrying", f"waiting {max(wait, 1):.0f} s: {why}", round(wait, 1)), request.call)

    def _lane(self, model: Model) -> Lane:
        """The door of a model, which it shares with others that whoever counts requests takes for the same one."""
        key = deployment(model)
        if key not in self._lanes:
            self._lanes[key] = Lane(self.ledger.limits.jobs)
        self._lanes[key].keep_to(model.rpm, model.tpm)
        return self._lanes[key]

    async def _attempt(self, request: Request, lane: Lane) -> Completion | Refusal | None:
        """One try; None: its turn was over before it was sent, and it has to come again."""
        need = self._need(request)
        try:
            place = await lane.enter(
                need.input_tokens + need.max_output_tokens,
                self._left(request),
                lambda wait, why: self._tell(request, wait, why),
            )
        except TooLate:
            return OUT_OF_TIME
        used: int | None = 0
        try:
            async with self._slots:
                reservation = await self._reserve(self._need(request))
                if isinstance(reservation, Refusal):
                    return reservation
                if lane.closed is not None or lane.held > EARLY_S:
                    self._free(reservation)
                    return None
                used = None
                outcome = await self._sent(request, reservation, lane, place)
            if isinstance(outcome, Completion):
                used = outcome.usage.input_tokens + outcome.usage.output_tokens or None
            return outcome
        except ModelError as error:
            used = None if error.cut_short or error.usage is not None else 0
            raise
        finally:
            lane.leave(place, used)

    async def _sent(self, request: Request, reservation: Reservation, lane: Lane, place: Place) -> Completion | Refusal:
        """The request on its way, and its settlement."""
        try:
            if self._is_late(request):
                self._free(reservation)
                return OUT_OF_TIME
            lane.sent(place)
            completion = await self._send(request, reservation)
        except ModelError as error:
            self._settle_failed(request, reservation, error)
            if error.cut_short and self._is_late(request):
                return OUT_OF_TIME
            self._told(error, request, lane, place)
            raise
        except RlmError as error:
            self._free(reservation)
            lane.close(error)
            raise
        except BaseException:
            self._waste(request, reservation)
            raise
        lane.serves()
        self._settle(request, reservation, completion)
        return completion

    def _told(self, error: ModelError, request: Request, lane: Lane, place: Place) -> None:
        """What a failure says of those that come after it."""
        if error.too_long and not error.prompt_cut:
            size = f"the prompt has {request.chars:,} characters"
            error.why = f"{size}; {error.why}" if error.why else size
        if error.overload and (error.retry_after or 0.0) > LONGEST_WAIT_S:
            error.terminal = True
            error.retriable = False
            error.why = f"{error.why}; " * bool(error.why) + f"another try in {error.retry_after:.0f} s is too late"
        elif error.overload:
            lane.refuses(place, error.message.removeprefix(f"{request.model.name}: "), error.retry_after)
        if error.terminal:
            lane.close(error)

    async def _send(self, request: Request, reservation: Reservation) -> Completion:
        """One attempt. Raises a `ModelError` that is `cut_short` when its time is over."""
        left = self._left(request)
        seconds = self._request_timeout_s if left is None else min(max(left, 0.0), self._request_timeout_s)
        request.starts(reservation)
        began = now()
        try:
            async with asyncio.timeout(seconds):
                completion = await request.model.complete(
                    request.messages,
                    max_output_tokens=reservation.max_output_tokens,
                    sub=request.purpose == "sub",
                    schema=request.schema,
                )
        except TimeoutError:
            late = f"no reply within {seconds:.0f} s"
            why, hint = f"{request.model.name} did not finish", "raise request_timeout, or pass less text at a time"
            raise ModelError(late, why=why, hint=hint, retriable=True, cut_short=True) from None
        refuse_cut(request.model.name, request.messages, completion.usage)
        # On the stream, and so on disk, before anybody uses the reply: it is paid for.
        request.finishes(completion, now() - began)
        if request.purpose == "sub" and isinstance(request.model, Recorded):
            request.model.keep(request.messages, reservation.max_output_tokens, request.schema, completion)
        return completion

    def _need(self, request: Request) -> Need:
        keeps = request.purpose == "iteration" and request.lands
        return Need(
            call=request.call,
            input_tokens=self._estimate.tokens(request.model.name, request.size),
            max_output_tokens=output_limit(request.model, request.purpose),
            price=request.model.price,
            landing_output=output_limit(request.model, "landing") if keeps else 0,
            landing=request.purpose == "landing",
        )

    async def _reserve(self, need: Need) -> Reservation | Refusal:
        """Room in the ledger; waits while something in flight may settle below its ceiling."""
        while True:
            answer = self.ledger.reserve(need)
            if isinstance(answer, (Reservation, Refusal)):
                return answer
            settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(settled)
            await settled

    def _left(self, request: Request) -> float | None:
        """Seconds for this request; after it a landing comes, unless it is one, or the only request there is."""
        return self.deadline.left(request.purpose in ("landing", "direct"))

    def _is_late(self, request: Request) -> bool:
        left = self._left(request)
        return left is not None and left <= EARLY_S

    def _settle(self, request: Request, reservation: Reservation, completion: Completion) -> None:
        """Served and counted by the provider; where it did not count, at the ceiling."""
        usage = completion.usage
        if usage.input_tokens or usage.output_tokens:
            self.ledger.settle(reservation, usage, completion.usd(request.model.price))
        else:
            self.ledger.settle_at_ceiling(reservation)
        if usage.input_tokens:
            self._estimate.observe(request.model.name, request.size, usage.input_tokens)
        self._wake()

    def _settle_failed(self, request: Request, reservation: Reservation, error: ModelError) -> None:
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

    def _waste(self, request: Request, reservation: Reservation) -> None:
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
