"""How fast a model is asked: by what its server bears and by what the user allows, on a clock of our own."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import pytest
import virtual
from scripted import SENTINEL_KEY, Reply, ScriptedServer

from rlm_cli.call import Completion, Message
from rlm_cli.deadline import Deadline, now
from rlm_cli.dispatch import Dispatch
from rlm_cli.errors import ConfigError, ModelError, RlmError, UnknownModel
from rlm_cli.events import CompletionFinished, CompletionStarted, Event, NoticeGiven
from rlm_cli.ledger import Ledger, Limits, Price, Refusal, StopReason, Usage
from rlm_cli.models import Model, connect
from rlm_cli.pace import Lane

ASKED = (Message("user", "x" * 1_000),)


class Server:
    """A model that takes `takes_s` for a reply and does what `refuse` says first; remembers when it was asked."""

    endpoint: str | None = None
    window, max_output = 100_000, 1_000
    price: Price | None = None
    rpm: int | None = None
    tpm: int | None = None
    protocol = "text"
    reasons = structured = False

    def __init__(self, name: str = "m", takes_s: float = 1.0) -> None:
        self.name, self.takes_s = name, takes_s
        self.asked: list[float] = []
        self.refused = self.in_flight = self.most_in_flight = 0

    async def ready(self) -> None: ...

    async def close(self) -> None: ...

    def refuse(self) -> RlmError | None:
        return None

    async def complete(
        self, messages: Sequence[Message], *, max_output_tokens: int, sub: bool, schema: object = None
    ) -> Completion:
        self.asked.append(now())
        if (error := self.refuse()) is not None:
            self.refused += 1
            raise error
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(self.takes_s)
        self.in_flight -= 1
        return Completion("yes", usage=Usage(300, 100))


class PerMinute(Server):
    """Serves `allowed` in any minute and answers 429 to the rest, with or without saying for how long."""

    def __init__(self, allowed: int, tells: bool, takes_s: float = 1.0) -> None:
        super().__init__("limited", takes_s)
        self.allowed, self.tells = allowed, tells
        self._served: deque[float] = deque()

    def refuse(self) -> RlmError | None:
        while self._served and self._served[0] <= now() - 60:
            self._served.popleft()
        if len(self._served) < self.allowed:
            self._served.append(now())
            return None
        after = self._served[0] + 60 - now() if self.tells else None
        return ModelError("limited: rate limit", retriable=True, retry_after=after, rate=True)


class Overloaded(Server):
    """Bears `most` at a time, and answers 503 to the rest."""

    most = 3

    def refuse(self) -> RlmError | None:
        return ModelError("busy", retriable=True, overload=True) if self.in_flight >= self.most else None


class Asking:
    """A dispatcher without a budget, and what it said."""

    def __init__(self, timeout_s: float | None = None, jobs: int = 8, retries: int = 4, **more: Any) -> None:
        self.notices: list[NoticeGiven] = []
        self.finished: list[CompletionFinished] = []
        self.started = 0
        limits = Limits(max_budget=None, timeout_s=timeout_s, jobs=jobs)
        deadline = Deadline.after(timeout_s)
        self.dispatch = Dispatch(Ledger(limits), deadline, self._emit, retries=retries, request_timeout_s=300.0, **more)

    def _emit(self, event: Event, call: str | None) -> None:
        if isinstance(event, NoticeGiven):
            self.notices.append(event)
        if isinstance(event, CompletionFinished):
            self.finished.append(event)
        self.started += isinstance(event, CompletionStarted)

    async def one(self, model: Model, n: int = 0) -> Completion | Refusal:
        return await self.dispatch.complete(f"0.{n}", model, ASKED, "sub")

    async def many(self, model: Model, number: int) -> list[Completion | Refusal | BaseException]:
        return list(await asyncio.gather(*(self.one(model, n) for n in range(number)), return_exceptions=True))


def answered(outcomes: Sequence[object]) -> int:
    return sum(isinstance(outcome, Completion) for outcome in outcomes)


@pytest.mark.parametrize("tells", [True, False])
def test_a_rate_limit_is_worked_through(tells: bool) -> None:
    """30 a minute and 429 to the rest: 120 requests are answered without a failure, soon after they can be, and few
    are sent in vain."""

    async def main() -> None:
        server, asking = PerMinute(30, tells), Asking(timeout_s=900)
        assert answered(await asking.many(server, 120)) == 120
        assert now() < (200 if tells else 420)
        assert server.refused <= 40
        assert all(notice.message.endswith("s: rate limit") for notice in asking.notices)
        assert any(notice.wait_s > 10 for notice in asking.notices)

    virtual.run(main())


def test_what_the_server_asks_to_wait_holds_back_all() -> None:
    """One refusal with Retry-After: nobody asks until it is over, and another model is asked meanwhile."""

    async def main() -> None:
        server, other, asking = PerMinute(1, True, 0.1), Server("other", 1.0), Asking(jobs=2)
        both = await asyncio.gather(asking.many(server, 6), asking.many(other, 20))
        assert [answered(outcomes) for outcomes in both] == [6, 20]
        assert max(other.asked) < 20
        for early, late in zip(server.asked, server.asked[1:], strict=False):
            assert late - early < 1 or late - early > 59

    virtual.run(main())


def test_a_server_that_is_overloaded_is_asked_less() -> None:
    """Concurrency halves once a burst, comes near what it bears, and grows again where it bears more."""

    async def main() -> None:
        server, asking = Overloaded(takes_s=1.0), Asking(jobs=16, retries=100)
        assert answered(await asking.many(server, 100)) == 100
        assert server.refused < 100
        server.most = 16
        server.most_in_flight = 0
        assert answered(await asking.many(server, 200)) == 200
        assert server.most_in_flight == 16

    virtual.run(main())


def test_a_burst_of_refusals_halves_once() -> None:
    """What was on its way when the lane was halved says nothing new."""

    async def main() -> None:
        lane = Lane(16)
        places = [await lane.enter(1, None, lambda wait, why: None) for _ in range(16)]
        for place in places:
            lane.refuses(place, "busy", None)
            lane.leave(place)
        assert lane.width == 8
        assert 0.5 <= lane.held <= 1.0
        await asyncio.sleep(2)
        again = await lane.enter(1, None, lambda wait, why: None)
        lane.refuses(again, "busy", 7.0)
        assert lane.width == 4
        assert 7.0 <= lane.held <= 7.25

    virtual.run(main())


@pytest.mark.parametrize(("rpm", "tpm", "minutes"), [(10, None, 2), (None, 4_000, 5), (10, 3_000, 8)])
def test_no_more_a_minute_than_the_user_allows(rpm: int | None, tpm: int | None, minutes: int) -> None:
    """`rpm` and `tpm` are sliding windows; tokens count as reserved, then as used (400 of some 2,000 here)."""

    async def main() -> None:
        server, asking = Server(takes_s=0.5), Asking()
        server.rpm, server.tpm = rpm, tpm
        assert answered(await asking.many(server, 25)) == 25
        assert (minutes - 1) * 60 < now() < (minutes + 1) * 60
        for at in server.asked:
            within = sum(at <= other < at + 59.9 for other in server.asked)
            assert within <= (rpm or 25)
            assert not tpm or (within - 1) * 400 <= tpm
        assert any("rpm" in notice.message or "tpm" in notice.message for notice in asking.notices)

    virtual.run(main())


def test_a_request_larger_than_a_minute_goes_alone() -> None:
    """`tpm` below one request's tokens slows down and stops nobody."""

    async def main() -> None:
        server, asking = Server(), Asking()
        server.tpm = 100
        assert answered(await asking.many(server, 3)) == 3
        assert [later - early > 59 for early, later in zip(server.asked, server.asked[1:], strict=False)] == [True] * 2

    virtual.run(main())


def test_who_cannot_be_served_in_time_is_told_at_once() -> None:
    """A hold beyond the deadline is not sat out: the time limit refuses."""

    async def main() -> None:
        server, asking = Server(), Asking(timeout_s=30)
        server.rpm = 2
        outcomes = await asking.many(server, 5)
        assert answered(outcomes) == 2
        assert {o.reason for o in outcomes if isinstance(o, Refusal)} == {StopReason.TIMEOUT}
        assert now() < 2

    virtual.run(main())


class Broken(Server):
    """Fails in one way."""

    def __init__(self, error: RlmError, name: str = "m") -> None:
        super().__init__(name)
        self.error = error

    def refuse(self) -> RlmError | None:
        return self.error


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("m: the provider did not accept the API key"),
        ModelError("m: the account has no credit left", terminal=True),
        ModelError("m: rate limit", retriable=True, retry_after=86_400, rate=True),
    ],
    ids=["key", "quota", "tomorrow"],
)
def test_what_cannot_succeed_is_asked_a_few_times_only(error: RlmError) -> None:
    """Two hundred requests with a wrong key are as many as were in flight when the first was refused."""

    async def main() -> None:
        server, asking = Broken(error), Asking(jobs=4)
        outcomes = await asking.many(server, 200)
        assert all(isinstance(outcome, type(error)) for outcome in outcomes)
        assert len(server.asked) <= 4
        with pytest.raises(type(error)):
            await asking.one(server)
        assert len(server.asked) <= 4

    virtual.run(main())


def test_a_server_that_only_ever_says_later_is_given_up() -> None:
    """Without a time limit too: after a quarter of an hour in which it answered nobody."""

    async def main() -> None:
        server, asking = Broken(ModelError("m: rate limit", retriable=True, rate=True)), Asking()
        with pytest.raises(ModelError, match="it has answered nobody for"):
            await asking.one(server)
        assert 900 < now() < 1_000

    virtual.run(main())


def test_cancelled_waiters_leave_the_row() -> None:
    """Whoever gives up at the door lets the next one pass."""

    async def main() -> None:
        server, asking = Server(takes_s=1.0), Asking(jobs=1)
        asked = [asyncio.ensure_future(asking.one(server, n)) for n in range(4)]
        await asyncio.sleep(0.5)
        asked[1].cancel()
        asked[0].cancel()
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert answered(outcomes) == 2
        assert now() == pytest.approx(2.5)

    virtual.run(main())


GONE = UnknownModel("a: there is no such model")
NO_QUOTA = ModelError("a: the account has no credit left", terminal=True)
DOWN = ModelError("a: the server answered 500", retriable=True)


@pytest.mark.parametrize(("error", "asked"), [(GONE, 2), (NO_QUOTA, 2), (DOWN, 46)], ids=["unknown", "quota", "500"])
def test_another_model_answers_for_one_that_fails_for_good(error: RlmError, asked: int) -> None:
    """The next one of the list, from then on for the whole run; said once, and the events say who answered."""

    async def main() -> None:
        a, b, c = Broken(error, "a"), Broken(NO_QUOTA, "b"), Server("c")
        asking = Asking(jobs=2, retries=2, stand_ins={"a": (b, c)})
        assert answered(await asking.many(a, 20)) == 20
        assert len(a.asked) <= asked
        assert len(b.asked) <= 2
        told = [notice.message for notice in asking.notices if notice.code == "fallback"]
        assert told == [f"{error.message}; b is asked instead", f"{NO_QUOTA.message}; c is asked instead"]
        assert {event.model for event in asking.finished if event.error is None} == {"c"}
        assert len(asking.finished) == asking.started
        asked_before = len(a.asked)
        assert answered([await asking.one(a)]) == 1
        assert len(a.asked) == asked_before

    virtual.run(main())


def test_two_names_of_one_model_share_its_minute() -> None:
    """Their requests are counted together where they go, so also here; another account, or another model, is another."""

    async def main() -> None:
        here = {"model": "openai/m", "api_base": "http://127.0.0.1:1/v1"}
        tables = {
            "slow": here | {"effort": "high", "rpm": 5},
            "fast": here | {"rpm": 9},
            "else": here | {"model": "openai/n"},
            "other": here | {"key": {"env": "OTHER"}},
        }
        environ = {"OTHER": SENTINEL_KEY}
        lanes = Asking().dispatch._lane
        slow, fast, *apart = (
            lanes(connect(name, models=tables, keys={}, environ=environ)) for name in ("slow", "fast", "else", "other")
        )
        assert slow is fast
        assert (slow._rpm, slow._tpm) == (5, None)
        assert len({id(lane) for lane in (slow, *apart)}) == 3

    virtual.run(main())


@pytest.mark.parametrize(
    "error", [ConfigError("wrong key"), ModelError("too long", too_long=True), ModelError("filtered")],
    ids=["key", "too long", "filter"],
)  # fmt: skip
def test_no_other_model_is_asked_for_what_is_not_the_models_fault(error: RlmError) -> None:
    """A wrong key is for the user to know; a text that is too long, or not to be answered, stays so."""

    async def main() -> None:
        other = Server("b")
        with pytest.raises(type(error)):
            await Asking(stand_ins={"a": (other,)}).one(Broken(error, "a"))
        assert other.asked == []

    virtual.run(main())


def test_the_last_of_the_list_fails_as_it_would_alone() -> None:
    """No loop: each is asked in its turn, then the failure of the last one is the run's."""

    async def main() -> None:
        a, b = Broken(GONE, "a"), Broken(NO_QUOTA, "b")
        asking = Asking(stand_ins={"a": (b,), "b": (a,)})
        with pytest.raises(ModelError, match="no credit"):
            await asking.one(a)
        assert (len(a.asked), len(b.asked)) == (1, 1)

    virtual.run(main())


def test_a_stand_in_is_asked_what_it_can_take() -> None:
    """Its window, its output limit; a text that does not fit is too long, as it would be for the first."""

    async def main() -> None:
        small = Server("b")
        small.window = 200
        asking = Asking(stand_ins={"a": (small,)})
        with pytest.raises(ModelError, match="window is 200 tokens") as caught:
            await asking.one(Broken(GONE, "a"))
        assert caught.value.too_long
        assert small.asked == []

    virtual.run(main())


def test_a_real_server_with_a_rate_limit_is_worked_through() -> None:
    """On a socket, with its own clock: 10 in any 0.3 s, 429 with Retry-After to the rest; all are answered."""
    served: deque[float] = deque()

    def script(request: dict[str, Any]) -> Reply | str:
        while served and served[0] < time.monotonic() - 0.3:
            served.popleft()
        if len(served) >= 10:
            return Reply("slow down", 429, {"Retry-After": "0.3"})
        served.append(time.monotonic())
        return "yes"

    async def main(base_url: str) -> Asking:
        environ = {"OPENAI_API_KEY": SENTINEL_KEY, "OPENAI_API_BASE": base_url}
        model = connect("openai/gpt-5.4-mini", models={}, keys={}, environ=environ)
        await model.ready()
        asking = Asking()
        assert answered(await asking.many(model, 30)) == 30
        await model.close()
        return asking

    with ScriptedServer(script) as server:
        asking = asyncio.run(main(server.base_url))
    assert sum(event.retries for event in asking.finished) == len(server.requests) - 30


def test_a_text_too_long_is_told_with_its_size() -> None:
    """The code that asked can cut it accordingly: the window is in the message, the size beside it."""

    async def main() -> None:
        with pytest.raises(ModelError) as caught:
            await Asking().one(Broken(ModelError("the window is 500 tokens", why="too many tokens", too_long=True)))
        assert str(caught.value) == "the window is 500 tokens: the prompt has 1,000 characters; too many tokens"

    virtual.run(main())
