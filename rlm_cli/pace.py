"""How fast one model at one endpoint may be asked: what the server bears, found out, and what the user allows.

A `Lane` is the door of one model; every request of the run to that model passes through it, in the order in which they
came. It lets in as many at a time as the server has borne so far: all of `jobs` at first, half as many after it said
that it has too much to do (429, 503, 529), a little more with every reply after that (additive increase, multiplicative
decrease, as TCP does it). Requests that were on their way when it was halved say nothing new, so a burst of refusals
counts once. What the server asks to wait holds back the whole lane: whoever comes meanwhile would be refused too, and
some servers count that. `rpm` and `tpm` are sliding windows of a minute; tokens count as reserved until they are known.

Nobody holds anything while waiting at the door: the slot and the room in the ledger are taken behind it. So a lane
that is held for a minute keeps no other model waiting.

Rejected: each request waiting for itself (two hundred waits for one limit, and a herd at the end of them); a token
bucket for `rpm` (servers that count a minute refuse what it lets through after a pause).
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from .deadline import now
from .errors import RlmError

WINDOW_S = 60.0
"""Of `rpm` and `tpm`."""
FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0
LEAST_TOLD_S = 0.5
"""A shorter wait is no news."""
TICK_S = 1e-6
"""Less than this is no wait: sums of floats do not meet."""

Tell = Callable[[float, str], None]
"""Hears how many seconds there are to wait, and why."""


class TooLate(Exception):
    """The time of a request is over before its turn comes."""


def backoff(attempt: int) -> float:
    """Seconds before another try, where the server said nothing: exponential, with full jitter in its upper half."""
    ceiling: float = min(FIRST_BACKOFF_S * 2 ** min(attempt, 10), LONGEST_BACKOFF_S)
    return random.uniform(ceiling / 2, ceiling)


@dataclass(eq=False, slots=True)
class Place:
    """One request behind the door. `tokens`: reserved, then used; `sent_at`: below 0 until it is on its way."""

    tokens: int
    generation: int
    sent_at: float = -1.0

    @property
    def is_sent(self) -> bool:
        return self.sent_at >= 0


@dataclass(eq=False, slots=True)
class _Waiter:
    tokens: int
    until: float | None
    tell: Tell
    entered: asyncio.Future[Place]
    told: float = 0.0
    """Until when it was told to wait."""


class Lane:
    """The door of one model. Lives on the event loop of its run."""

    def __init__(self, jobs: int, rpm: int | None = None, tpm: int | None = None) -> None:
        self.width = float(jobs)
        """Requests at a time that the server bears."""
        self.closed: RlmError | None = None
        """Why no request to this model can succeed any more."""
        self.served_at = now()
        """When it last answered, or began to be asked."""
        self._jobs, self._rpm, self._tpm = jobs, rpm, tpm
        self._inside: set[Place] = set()
        self._sent: deque[Place] = deque()
        """Of the last minute, in the order in which they were sent. Empty without `rpm` and `tpm`."""
        self._waiting: deque[_Waiter] = deque()
        self._generation = 0
        self._refusals = 0
        """In a row, bursts counting once."""
        self._held_until = 0.0
        self._held_for = ""
        self._timer: asyncio.TimerHandle | None = None

    def keep_to(self, rpm: int | None, tpm: int | None) -> None:
        """Requests and tokens a minute that the user allows, None = as many as there are. The least of all that was
        said holds: several names may stand for one model."""
        self._rpm = min(filter(None, (self._rpm, rpm)), default=None)
        self._tpm = min(filter(None, (self._tpm, tpm)), default=None)

    async def enter(self, tokens: int, left: float | None, tell: Tell) -> Place:
        """Wait for a place, at most `left` seconds, None = as long as it takes. The first in the row is told when it
        has to wait for a clock.

        To be left by `leave`, whatever happens. Raises `closed` once no request can succeed, `TooLate`.
        """
        if self._is_free(tokens):
            return self._place(tokens)
        entered: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(tokens, None if left is None else now() + left, tell, entered)
        self._waiting.append(waiter)
        self._let_in()
        try:
            async with asyncio.timeout(left):
                return await entered
        except BaseException as error:
            if entered.done() and not entered.cancelled() and entered.exception() is None:
                self.leave(entered.result())
            else:
                entered.cancel()
                self._let_in()
            if isinstance(error, TimeoutError):
                raise TooLate from None
            raise

    def sent(self, place: Place) -> None:
        """The request goes out now."""
        place.sent_at = now()
        if self._rpm or self._tpm:
            self._sent.append(place)

    def leave(self, place: Place, used: int | None = None) -> None:
        """The request is over; `used`: tokens, None where they are not known."""
        self._inside.discard(place)
        if used is not None:
            place.tokens = used
        self._let_in()

    def serves(self) -> None:
        """A reply came: the server may bear a little more."""
        self.width = min(self.width + 1 / self.width, float(self._jobs))
        self.served_at, self._refusals = now(), 0

    def refuses(self, place: Place, why: str, wait: float | None) -> float:
        """The server has too much to do, and asks to `wait` so many seconds, None = it does not say how long.

        Returns the seconds until the door opens again.
        """
        if place.generation == self._generation:
            self._generation += 1
            self.width = max(self.width / 2, 1.0)
            self._hold(backoff(self._refusals) if wait is None else wait + random.uniform(0, 0.25), why)
            self._refusals += 1
        elif wait is not None:
            self._hold(wait, why)
        return self.held

    def close(self, error: RlmError) -> None:
        """No request can succeed any more: those at the door hear it too."""
        self.closed = self.closed or error
        self._let_in()

    @property
    def held(self) -> float:
        """Seconds for which the server asked to be left alone."""
        return max(self._held_until - now(), 0.0)

    def _hold(self, seconds: float, why: str) -> None:
        if (until := now() + seconds) > self._held_until:
            self._held_until, self._held_for = until, why

    def _let_in(self) -> None:
        """Everybody who may, in order."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            first = self._waiting[0]
            if first.entered.done():  # it gave up
                self._waiting.popleft()
            elif self.closed is not None:
                self._waiting.popleft().entered.set_exception(self.closed)
            elif len(self._inside) >= int(self.width):
                return
            else:
                wait, why = self._wait(first.tokens)
                if wait > TICK_S:
                    if first.until is not None and now() + wait >= first.until:
                        self._waiting.popleft().entered.set_exception(TooLate())
                        continue
                    self._later(first, wait, why)
                    return
                if not self._has_room(first.tokens):
                    return
                self._waiting.popleft()
                first.entered.set_result(self._place(first.tokens))

    def _is_free(self, tokens: int) -> bool:
        """Whether nobody and nothing has to be waited for."""
        full = self._waiting or self.closed is not None or len(self._inside) >= int(self.width)
        return not full and self._wait(tokens)[0] <= TICK_S and self._has_room(tokens)

    def _place(self, tokens: int) -> Place:
        place = Place(tokens, self._generation)
        self._inside.add(place)
        return place

    def _later(self, first: _Waiter, wait: float, why: str) -> None:
        until = now() + wait
        if wait >= LEAST_TOLD_S and until > first.told + LEAST_TOLD_S:
            first.told = until
            first.tell(wait, why)
        self._timer = asyncio.get_running_loop().call_later(wait, self._let_in)

    def _wait(self, tokens: int) -> tuple[float, str]:
        """Seconds until another request with so many tokens may go out, as far as a clock decides it, and why."""
        held = (self.held, self._held_for)
        if not (self._rpm or self._tpm):
            return held
        self._forget()
        return max(held, (self._until_rpm(), f"rpm = {self._rpm}"), (self._until_tpm(tokens), f"tpm = {self._tpm}"))

    def _has_room(self, tokens: int) -> bool:
        """Whether those behind the door that are not sent yet leave room in their minute."""
        if not (self._rpm or self._tpm):
            return True
        unsent = self._unsent()
        if not unsent:
            return True
        if self._rpm and len(unsent) + len(self._sent) >= self._rpm:
            return False
        return not self._tpm or self._taken(unsent) + self._taken(self._sent) + tokens <= self._tpm

    def _unsent(self) -> list[Place]:
        return [place for place in self._inside if not place.is_sent]

    @staticmethod
    def _taken(places: list[Place] | deque[Place]) -> int:
        return sum(place.tokens for place in places)

    def _forget(self) -> None:
        """What was sent more than a minute ago."""
        while self._sent and self._sent[0].sent_at + WINDOW_S <= now() + TICK_S:
            self._sent.popleft()

    def _until_rpm(self) -> float:
        if not self._rpm or len(self._sent) < self._rpm:
            return 0.0
        return self._sent[len(self._sent) - self._rpm].sent_at + WINDOW_S - now()

    def _until_tpm(self, tokens: int) -> float:
        """A request that alone takes more than a minute may have goes out once the minute is empty."""
        if not self._tpm:
            return 0.0
        taken, wait = self._taken(self._sent), 0.0
        for place in self._sent:
            if taken + tokens <= self._tpm:
                break
            taken, wait = taken - place.tokens, place.sent_at + WINDOW_S - now()
        return wait
