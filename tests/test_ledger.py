"""The ledger: the cap holds, nobody waits for nothing, a landing stays affordable."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_cli.ledger import (
    MIN_OUTPUT_TOKENS,
    WAIT,
    InputEstimate,
    Ledger,
    Limits,
    Need,
    Price,
    Refusal,
    Reservation,
    Size,
    StopReason,
    Usage,
)

DOLLAR = Price(input=10.0, output=100.0)
"""USD 10 and 100 per million tokens: 1,000 tokens of output cost ten cents."""


def need(call: str = "0.1", tokens: int = 1_000, output: int = 1_000, **more: object) -> Need:
    return replace(Need(call, tokens, output, DOLLAR), **more)  # type: ignore[arg-type]


def reserve(ledger: Ledger, asked: Need) -> Reservation:
    answer = ledger.reserve(asked)
    assert isinstance(answer, Reservation), answer
    return answer


def test_price_counts_cached_and_written_tokens_at_their_own_price() -> None:
    """Cached and cache-written tokens are part of the input and priced by themselves."""
    price = Price(input=3.0, output=15.0, cached=0.3, cache_write=3.75)
    usage = Usage(
        input_tokens=1_000_000, output_tokens=100_000, cached_input_tokens=500_000, cache_write_tokens=100_000
    )
    assert price.cost(usage) == pytest.approx(0.4 * 3.0 + 0.5 * 0.3 + 0.1 * 3.75 + 0.1 * 15.0)
    assert price.ceiling(1_000_000, 100_000) == pytest.approx(3.75 + 1.5)


def test_price_of_thoughts_and_of_long_requests() -> None:
    """Reasoning has a price of its own at some providers, and above a length everything of a request costs more."""
    long = Price(input=2.0, output=20.0, cached=0.2)
    price = Price(input=1.0, output=10.0, reasoning=30.0, above=((200_000, long),))
    assert price.cost(Usage(1_000, 1_000, reasoning_tokens=400)) == pytest.approx((1_000 + 6_000 + 12_000) / 1e6)
    assert price.cost(Usage(1_000, 100, reasoning_tokens=400)) == pytest.approx((1_000 + 12_000) / 1e6)
    assert price.ceiling(1_000, 1_000) == pytest.approx((1_000 + 30_000) / 1e6)
    assert price.at(200_000) is price
    used = Usage(200_001, 1_000, cached_input_tokens=200_000)
    assert price.cost(used) == pytest.approx((2.0 + 200_000 * 0.2 + 20_000) / 1e6)
    assert price.cost(used) <= price.ceiling(200_001, 1_000)


def test_waits_while_something_is_in_flight_and_refuses_only_when_nothing_is() -> None:
    """Settlement is far below the ceiling as a rule, so refusing at once would waste the budget."""
    ledger = Ledger(Limits(max_budget=0.30))
    first, second = reserve(ledger, need()), reserve(ledger, need())
    assert ledger.reserve(need()) is WAIT
    ledger.settle(first, Usage(100, 10), 0.002)
    third = reserve(ledger, need())
    for reservation in (second, third):
        ledger.settle_at_ceiling(reservation)
    answer = ledger.reserve(need())
    assert isinstance(answer, Refusal)
    assert answer.reason is StopReason.MAX_BUDGET
    assert "$" in answer.message


def test_lowers_the_output_limit_before_it_refuses() -> None:
    """A request that fits with a shorter reply is sent with a shorter reply, down to a useful length."""
    ledger = Ledger(Limits(max_budget=0.25))
    lowered = reserve(ledger, need(output=16_000))
    assert MIN_OUTPUT_TOKENS <= lowered.max_output_tokens < 16_000
    assert lowered.ceiling.usd == pytest.approx(0.25, abs=1e-3)
    ledger.settle(lowered, Usage(1_000, 2_000), 0.21)
    assert isinstance(ledger.reserve(need(output=16_000)), Refusal)


def test_a_hold_keeps_the_landing_affordable() -> None:
    """After any number of sub-calls the two landing requests of a call still fit under the cap."""
    ledger = Ledger(Limits(max_budget=1.0))
    turn = reserve(ledger, need("0", landing_output=500))
    ledger.settle(turn, Usage(1_000, 1_000), DOLLAR.cost(Usage(1_000, 1_000)))
    while isinstance(answer := ledger.reserve(need("0.1")), Reservation):
        ledger.settle_at_ceiling(answer)
    for _ in range(2):
        landing = reserve(ledger, need("0", tokens=3_000, output=500, landing=True))
        assert landing.max_output_tokens == 500
        ledger.settle_at_ceiling(landing)
    assert ledger.spent.usd <= 1.0 + 1e-9


def test_holds_never_count_as_in_flight() -> None:
    """A child whose landing does not fit is refused, not left waiting for its parent."""
    ledger = Ledger(Limits(max_budget=0.6))
    ledger.settle(reserve(ledger, need("0", landing_output=500)), Usage(), 0.0)
    ledger.settle(reserve(ledger, need("0.1", landing_output=500, tokens=100)), Usage(), 0.0)
    assert isinstance(ledger.reserve(need("0.2", landing_output=500, tokens=20_000)), Refusal)


def test_tokens_have_a_limit_of_their_own() -> None:
    """--max-tokens holds where no price is known, and the cost is then unknown, not zero."""
    ledger = Ledger(Limits(max_budget=1.0, max_tokens=5_000))
    ledger.settle(reserve(ledger, need(price=None)), Usage(3_000, 900), None)
    answer = ledger.reserve(need(price=None))
    assert isinstance(answer, Refusal)
    assert answer.reason is StopReason.MAX_TOKENS


def test_each_prompt_counts_as_a_subcall() -> None:
    """--max-subcalls counts prompts over the whole tree."""
    ledger = Ledger(Limits(max_subcalls=2))
    assert ledger.admit_subcall() is None
    assert ledger.admit_subcall() is None
    refused = ledger.admit_subcall()
    assert refused is not None
    assert refused.reason is StopReason.MAX_SUBCALLS


def test_the_estimate_is_bytes_until_enough_replies_were_seen() -> None:
    """Characters / 3.5 is no ceiling for digits or Chinese; bytes are."""
    estimate, prose = InputEstimate(), Size.of("some words in a row " * 50)
    for _ in range(4):
        estimate.observe("m", prose, 250)
    assert estimate.tokens("m", prose + prose) == 2_000
    estimate.observe("m", prose, 300)
    assert estimate.tokens("m", prose + prose) == pytest.approx(2_000 * 0.3 * 1.1, abs=2)
    assert estimate.tokens("other", prose) == 1_000


def test_what_prose_has_taught_is_not_believed_of_digits() -> None:
    """Each digit may be a token, and each byte beyond ASCII, whatever letters took; Chinese teaches for Chinese."""
    estimate, prose, digits, chinese = (
        InputEstimate(),
        *map(Size.of, ("some words " * 100, "0123456789" * 100, "合同" * 100)),
    )
    for _ in range(8):
        estimate.observe("m", prose, 200)
    assert estimate.tokens("m", digits) == 1_000
    assert estimate.tokens("m", chinese) == 600
    for _ in range(8):
        estimate.observe("m", chinese, 150)
    assert estimate.tokens("m", chinese) == pytest.approx(165, abs=1)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), cap=st.floats(0.01, 5.0), price=st.floats(0.1, 200.0))
def test_the_cap_is_never_exceeded_and_nobody_waits_for_nothing(seed: int, cap: float, price: float) -> None:
    """Random needs, settlements, failures, landings: spent plus reserved stays under the cap; WAIT means in flight."""
    rng = random.Random(seed)
    ledger = Ledger(Limits(max_budget=cap))
    rate = Price(price / 10, price)
    flying: list[tuple[Reservation, Need]] = []
    for _ in range(80):
        call = f"0.{rng.randrange(4)}"
        asked = Need(
            call, rng.randrange(1, 20_000), rng.randrange(200, 8_000), rate, rng.choice([0, 1_000]), rng.random() < 0.2
        )
        answer = ledger.reserve(asked)
        if isinstance(answer, Reservation):
            flying.append((answer, asked))
        elif answer is WAIT:
            assert flying
        if flying and rng.random() < 0.7:
            reservation, used = flying.pop(rng.randrange(len(flying)))
            match rng.randrange(3):
                case 0:
                    ledger.cancel(reservation)
                case 1:
                    ledger.settle_at_ceiling(reservation)
                case _:
                    usage = Usage(rng.randint(0, used.input_tokens), rng.randint(0, reservation.max_output_tokens))
                    ledger.settle(reservation, usage, rate.cost(usage))
        reserved = sum(reservation.ceiling.usd for reservation, _ in flying)
        assert ledger.spent.usd + reserved <= cap + 1e-5
