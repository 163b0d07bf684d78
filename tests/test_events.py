"""The fold: what the events of a run add up to, and that it stays cheap."""

from __future__ import annotations

import pytest
from happenings import SUB, a_run, asking, began, reply, stamped, sub_call

from rlm_cli.events import CallFinished, CallStarted, CompletionStarted, NoticeGiven, Reading
from rlm_cli.fold import Standing, fold
from rlm_cli.ledger import Usage


def test_a_run_in_the_middle() -> None:
    """Calls stand where their last event left them; finished siblings are counted, not listed."""
    state = fold(a_run())
    root = state.root
    assert root is not None
    assert (root.iteration, root.usage, root.cost) == (3, Usage(2100, 480), pytest.approx(0.18))
    assert list(root.active) == ["0.19", "0.20", "0.21"]
    assert [call.standing for call in root.active.values()] == [Standing.ASKING, Standing.ASKING, Standing.RETRYING]
    done = root.folded[Standing.COMPLETE]
    assert (done.count, done.first, done.last, done.models) == (18, "0.1", "0.18", {SUB})
    assert done.usage == Usage(18 * 94_000, 9_000)
    assert state.at_work == 4


def test_totals() -> None:
    """Replies are calls; money and tokens add up by model and as a whole."""
    totals = fold(a_run()).totals
    assert (totals.calls, totals.cost, totals.cost_known) == (21, pytest.approx(0.288), True)
    assert totals.by_model[SUB].calls == 18
    assert totals.usage.input_tokens == 2_100 + 18 * 94_000


def test_an_unknown_cost_is_never_zero() -> None:
    """One reply without a price makes every sum above it unknown; the known part is still told."""
    state = fold(stamped([*began(), *sub_call("0.1", 5, cost=None), *sub_call("0.2", 6)]))
    assert state.root is not None
    assert state.root.cost == pytest.approx(0.18)
    assert state.root.folded[Standing.COMPLETE].cost is None
    assert state.totals.by_model[SUB].cost_usd is None
    assert (state.totals.cost_known, state.totals.cost) == (False, pytest.approx(0.186))


def test_a_failed_request_is_no_call() -> None:
    """A request that got no reply is counted apart, and a free one leaves the cost known."""
    state = fold(stamped([*began(), *asking("0.1", 5), (6, "0.1", reply(Usage(), 0.0, error="refused")),
                          (6, "0.1", CallFinished("failed", "", Usage()))]))  # fmt: skip
    assert (state.totals.calls, state.totals.failed, state.totals.cost_known) == (3, 1, True)
    assert state.calls["0.1"].detail == "refused"
    assert state.root is not None
    assert state.root.folded[Standing.FAILED].count == 1


def test_subtrees_pour_into_their_parent() -> None:
    """What a recursive call and its children used is in its parent's count once it has finished."""
    happened = [*began(), (4, "0.1", CallStarted("0", 1, "rlm", SUB, "?", 10)), *sub_call("0.1.1", 5),
                *sub_call("0.1.2", 5), (7, "0.1", reply(Usage(10, 1), 0.5))]  # fmt: skip
    state = fold(stamped([*happened, (8, "0.1", CallFinished("complete", "", Usage()))]))
    assert state.root is not None
    done = state.root.folded[Standing.COMPLETE]
    assert (done.usage, done.cost) == (Usage(188_010, 1_001), pytest.approx(0.512))


def test_a_retry_ends_when_the_request_is_sent_again() -> None:
    """`waiting 12 s` does not stay on the screen while the second attempt is in flight."""
    happened = [*began(), *asking("0.1", 5), (6, "0.1", NoticeGiven("retrying", "waiting 12 s")),
                (18, "0.1", CompletionStarted((), "sub", 1, 1, None))]  # fmt: skip
    assert fold(stamped(happened)).calls["0.1"].standing is Standing.ASKING


def test_siblings_are_ordered_as_numbers() -> None:
    """The fold of 0.9 and 0.10 reads `0.9 … 0.10`, whichever ended first."""
    state = fold(stamped([*began(), *sub_call("0.10", 5), *sub_call("0.9", 6)]))
    assert state.root is not None
    done = state.root.folded[Standing.COMPLETE]
    assert (done.first, done.last) == ("0.9", "0.10")


def test_reading_is_over_when_the_corpus_is_there() -> None:
    """Progress of reading is shown while it lasts and gone afterwards."""
    assert fold(stamped([(0, None, Reading(3, 10, 0, "a.txt"))])).reading is not None
    assert fold(stamped([(0, None, Reading(3, 10, 0, "a.txt")), *began()])).reading is None


def test_events_of_calls_nobody_started_are_survived() -> None:
    """A trace cut at its head can still be folded."""
    state = fold(stamped([(1, "0.7", reply(Usage(1, 1), 0.1)), (1, "0.7", CallFinished("complete", "", Usage()))]))
    assert (state.totals.calls, state.at_work) == (1, 0)
