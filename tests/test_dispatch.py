"""One request done properly: slots, reservations, retries, deadlines, and a pair of events whatever happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from scripted import SENTINEL_KEY, Reply, ScriptedServer

from rlm_cli.call import Completion, Message, Purpose
from rlm_cli.deadline import Deadline
from rlm_cli.dispatch import Dispatch
from rlm_cli.errors import ConfigError, ModelError, RlmError
from rlm_cli.events import CompletionFinished, CompletionStarted, Event, LimitHit, NoticeGiven
from rlm_cli.ledger import Amount, Ledger, Limits, Price, Refusal, StopReason, Usage
from rlm_cli.models import Model, connect
from rlm_cli.models.recorded import Recorded
from rlm_cli.models.replies import Replies, Request, standing

USED = Usage(1_000, 100)
ASKED = (Message("user", "x" * 1_000),)


class Scripted:
    """A model whose replies are values, errors or seconds to take; satisfies `Model`."""

    name = "scripted"
    endpoint: str | None = None
    window, max_output = 100_000, 2_000
    price: Price | None = Price(1.0, 10.0)
    rpm: int | None = None
    tpm: int | None = None
    structured = False

    def __init__(self, *replies: Completion | Exception | float) -> None:
        self.replies = list(replies)
        self.asked: list[float] = []
        self.in_flight = self.most_in_flight = 0

    async def ready(self) -> None: ...

    async def close(self) -> None: ...

    async def complete(
        self, messages: Sequence[Message], *, max_output_tokens: int, sub: bool, schema: object = None
    ) -> Completion:
        self.asked.append(time.monotonic())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
            if isinstance(reply, Exception):
                raise reply
            if isinstance(reply, float):
                await asyncio.sleep(reply)
                reply = Completion("late", usage=USED)
            return reply
        finally:
            self.in_flight -= 1


class Run:
    """A dispatcher, what it put on the stream, and its ledger."""

    def __init__(self, timeout_s: float | None = None, request_timeout_s: float = 5, **limits: Any) -> None:
        self.events: list[Event] = []
        self.ledger = Ledger(Limits(timeout_s=timeout_s, **limits))
        deadline = Deadline.after(timeout_s)
        self.dispatch = Dispatch(
            self.ledger, deadline, lambda event, call: self.events.append(event), retries=2,
            request_timeout_s=request_timeout_s,
        )  # fmt: skip

    async def ask(self, model: Model, purpose: Purpose = "sub", call: str = "0.1", **more: Any) -> Completion | Refusal:
        return await self.dispatch.complete(call, model, ASKED, purpose, **more)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def paired(self) -> bool:
        """Every request that started has finished, once."""
        return len(self.of(CompletionStarted)) == len(self.of(CompletionFinished))

    @property
    def cost(self) -> float:
        return sum(event.cost_usd or 0.0 for event in self.of(CompletionFinished))


def with_run(body: Callable[[Run], Awaitable[None]], **settings: Any) -> Run:
    async def main() -> Run:
        run = Run(**settings)
        await body(run)
        return run

    return asyncio.run(main())


GOOD = Completion("yes", usage=USED)
AGAIN = ModelError("busy", retriable=True, retry_after=0.0)


def test_a_reply_is_on_the_stream_before_it_is_used() -> None:
    """`completion.finished` with usage, cost and the request's hash; the ledger has the same money."""

    async def body(run: Run) -> None:
        assert await run.ask(Scripted(GOOD)) == GOOD
        [finished] = run.of(CompletionFinished)
        assert (finished.text, finished.usage, finished.error, finished.retries) == ("yes", USED, None, 0)
        assert finished.cost_usd == pytest.approx(0.002)
        assert len(finished.request) == 64

    run = with_run(body)
    assert run.ledger.spent.usd == pytest.approx(run.cost)


def test_a_reply_to_a_part_of_the_prompt_is_not_kept(tmp_path: Path) -> None:
    """The run is told that the server cut the prompt, and no later run gets that reply as if it were one."""

    async def body(run: Run) -> None:
        replies = Replies(tmp_path / "replies.sqlite", most_bytes=1 << 20, oldest_s=60.0)
        model = cast(Model, Recorded(Scripted(Completion("yes", usage=Usage(500, 10))), "here", replies))
        with pytest.raises(ModelError):
            await run.dispatch.complete("0.1", model, (Message("user", "thirty days " * 5_000),), "sub")
        assert await replies.recall(Request("here", (Message("user", "other"),), 100)) is None
        await replies.close()
        assert standing(tmp_path / "replies.sqlite").entries == 0

    with_run(body)


def test_a_reply_on_record_takes_nothing(tmp_path: Path) -> None:
    """No slot, no room in the ledger, no time: it is there also when all of them are used up."""
    model = Scripted(GOOD)

    async def asked(run: Run) -> None:
        replies = Replies(tmp_path / "replies.sqlite", most_bytes=1 << 20, oldest_s=60.0)
        said = await run.ask(cast(Model, Recorded(model, "here", replies)))
        await replies.close()
        assert isinstance(said, Completion)
        assert (said.text, len(model.asked)) == ("yes", 1)

    async def asked_again(run: Run) -> None:
        await run.dispatch._slots.acquire()
        await asked(run)

    with_run(asked)
    run = with_run(asked_again, jobs=1, max_budget=1e-9, max_tokens=1, timeout_s=0.0)
    [finished] = run.of(CompletionFinished)
    assert (finished.cached, finished.cost_usd, finished.usage, finished.text) == (True, 0.0, Usage(), "yes")
    assert run.paired
    assert run.ledger.spent == Amount()


def test_passing_failures_are_tried_again() -> None:
    """Each attempt is said; the pair of events is one; a refused attempt costs nothing."""

    async def body(run: Run) -> None:
        assert await run.ask(Scripted(AGAIN, AGAIN, GOOD)) == GOOD

    run = with_run(body)
    assert run.paired
    assert [event.retries for event in run.of(CompletionFinished)] == [2]
    assert len([event for event in run.of(NoticeGiven) if event.code == "retrying"]) == 2
    assert run.ledger.spent.usd == pytest.approx(run.cost) == pytest.approx(0.002)


@pytest.mark.parametrize(
    "error",
    [ModelError("no"), ModelError("gone", terminal=True), ConfigError("bad key"),
     ModelError("come back tomorrow", retriable=True, retry_after=86_400)],
)  # fmt: skip
def test_hopeless_failures_are_raised_at_once(error: RlmError) -> None:
    """What another attempt cannot mend, or only tomorrow."""

    async def body(run: Run) -> None:
        with pytest.raises(type(error)):
            await run.ask(Scripted(error))

    run = with_run(body)
    assert run.paired
    assert [event.error for event in run.of(CompletionFinished)] == [str(error)]
    assert run.cost == run.ledger.spent.usd == 0


def test_a_late_reply_counts_whole_and_is_tried_again() -> None:
    """A request cut short at its time limit may be billed: its ceiling is in the ledger and in the event, marked."""

    async def body(run: Run) -> None:
        assert await run.ask(Scripted(30.0, GOOD)) == GOOD

    run = with_run(body, request_timeout_s=0.05)
    [finished] = run.of(CompletionFinished)
    ceiling = run.of(CompletionStarted)[0].reserved_usd
    assert finished.estimated_usd == pytest.approx(ceiling)
    assert finished.cost_usd == pytest.approx(ceiling + 0.002)
    assert run.ledger.spent.usd == pytest.approx(run.cost)


def test_a_useless_reply_is_paid_for() -> None:
    """What the provider counted for it is in the ledger, in the event's cost and in its usage; it is no estimate."""

    async def body(run: Run) -> None:
        assert await run.ask(Scripted(ModelError("no choices", retriable=True, usage=USED), GOOD)) == GOOD

    run = with_run(body)
    [finished] = run.of(CompletionFinished)
    assert (finished.usage, finished.estimated_usd) == (USED + USED, 0.0)
    assert finished.cost_usd == pytest.approx(0.004)
    assert run.ledger.spent.usd == pytest.approx(run.cost)


def test_a_refusal_on_a_retry_leaves_nothing_open() -> None:
    """The ledger says no to the second attempt: the first one's money is on the stream all the same."""

    async def body(run: Run) -> None:
        refused = await run.ask(Scripted(30.0, GOOD))
        assert isinstance(refused, Refusal)
        assert refused.reason is StopReason.MAX_BUDGET

    run = with_run(body, request_timeout_s=0.05, max_budget=0.022)
    assert run.paired
    assert run.cost == pytest.approx(run.ledger.spent.usd)
    assert run.cost > 0.02
    assert [event.limit for event in run.of(LimitHit)] == ["max_budget"]


@pytest.mark.parametrize("model", [Scripted(30.0), Scripted(ModelError("busy", retriable=True, retry_after=30.0))])
def test_cancelling_leaves_nothing_open(model: Scripted) -> None:
    """In flight or waiting to be sent again: the pair of events is whole, and what was sent counts at its ceiling."""

    async def body(run: Run) -> None:
        asking = asyncio.ensure_future(run.ask(model))
        await asyncio.sleep(0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    run = with_run(body)
    assert run.paired
    assert [event.error for event in run.of(CompletionFinished)] == ["cancelled"]
    assert run.cost == pytest.approx(run.ledger.spent.usd)
    assert (run.cost > 0) == isinstance(model.replies[0], float)


def test_a_reply_without_usage_counts_at_its_ceiling_and_is_unknown() -> None:
    """Unknown is never zero."""

    async def body(run: Run) -> None:
        await run.ask(Scripted(Completion("yes")))

    run = with_run(body)
    assert run.of(CompletionFinished)[0].cost_usd is None
    assert run.ledger.spent.usd == pytest.approx(run.of(CompletionStarted)[0].reserved_usd)


def test_time_runs_out_for_requests_first_and_for_the_landing_last() -> None:
    """Ordinary requests end at nine tenths of the run's time, the landing has the rest."""

    async def body(run: Run) -> None:
        late = await run.ask(Scripted(30.0))
        assert isinstance(late, Refusal)
        assert late.reason is StopReason.TIMEOUT
        assert isinstance(await run.ask(Scripted(GOOD)), Refusal)
        assert await run.ask(Scripted(GOOD), "landing", "0") == GOOD

    run = with_run(body, timeout_s=1.0)
    assert run.paired


def test_a_retry_that_would_come_too_late_is_not_waited_for() -> None:
    """Retry-After beyond the deadline: the provider's failure, at once, with what the server said."""

    async def body(run: Run) -> None:
        began = time.monotonic()
        with pytest.raises(ModelError, match="rate limit: another try in 60 s would come after the time limit"):
            await run.ask(Scripted(ModelError("rate limit", retriable=True, retry_after=60)))
        assert time.monotonic() - began < 1

    assert with_run(body, timeout_s=10).paired


def test_slots_bound_what_is_in_flight() -> None:
    """-j: at most that many at once, and all get their turn."""
    model = Scripted(0.02)

    async def body(run: Run) -> None:
        await asyncio.gather(*(run.ask(model, call=f"0.{n}") for n in range(20)))

    with_run(body, jobs=3, max_budget=None)
    assert (len(model.asked), model.most_in_flight) == (20, 3)


def test_rpm_spreads_requests() -> None:
    """`rpm` in [models.NAME]: one more a minute than that waits, or is refused where there is no time for it."""
    model = Scripted(GOOD)
    model.rpm = 2

    async def body(run: Run) -> None:
        assert [await run.ask(model), await run.ask(model)] == [GOOD, GOOD]
        refused = await run.ask(model)
        assert isinstance(refused, Refusal)
        assert refused.reason is StopReason.TIMEOUT

    with_run(body, timeout_s=10)


def test_the_landing_is_kept_aside_only_where_one_comes() -> None:
    """`lands=False` (--on-limit fail): the whole budget is there for requests."""

    async def body(run: Run) -> None:
        assert isinstance(await run.ask(Scripted(GOOD), "iteration", "0"), Refusal)
        assert await run.ask(Scripted(GOOD), "iteration", "0", lands=False) == GOOD

    with_run(body, max_budget=0.03)


def test_a_slow_body_is_no_reply() -> None:
    """litellm's own timeout is no deadline: a body that drips outlives it, and ours holds."""

    async def main() -> None:
        with ScriptedServer(lambda request: Reply("x" * 400, drip_s=30)) as server:
            environ = {"OPENAI_API_KEY": SENTINEL_KEY, "OPENAI_API_BASE": server.base_url}
            model = connect("openai/gpt-5.4-mini", models={}, keys={}, environ=environ)
            await model.ready()
            assert isinstance(await Run(timeout_s=1.0).ask(model), Refusal)
            await model.close()

    asyncio.run(main())
