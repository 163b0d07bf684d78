"""What a run costs: said before it begins, asked about on a terminal, refused where it cannot be known; and who is
asked instead of a model that fails."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scripted import SENTINEL_KEY, Reply, ScriptedServer

from rlm_cli import contexts, prepare, question
from rlm_cli.cli.confirm import Confirmation
from rlm_cli.cli.plan import cost_lines
from rlm_cli.errors import ConfigError
from rlm_cli.forecast import Forecast, forecast
from rlm_cli.prepare import Documents, Job, Models
from rlm_cli.result import Result
from rlm_cli.settings import Settings
from rlm_cli.stream import Reader
from rlm_cli.views import Silent

PRICE = {"input": 1.0, "output": 10.0}
OWN = {"own": {"model": "openai/own", "price": PRICE, "window": 100_000, "max_output": 8_000}}
KEYED = {"OPENAI_API_KEY": SENTINEL_KEY}
TEXT = "The notice period is ninety days.\n"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "a.txt"
    path.write_text(TEXT)
    return path


def job(source: Path, environ: Mapping[str, str] = KEYED, **settings: Any) -> Job:
    return Job("How long?", (str(source),), Settings(**({"model": "own", "models": OWN} | settings)), environ=environ)


def prepared(asked: Job) -> tuple[Models, Documents]:
    found = prepare.connect_models(asked)
    return found, asyncio.run(prepare.read_documents(asked, lambda event, call: None))


def expected(asked: Job) -> Forecast:
    found, documents = prepared(asked)
    mode = prepare.choose_mode(asked, documents, found.root)
    return forecast(asked, found, documents, contexts.root_call(asked, found, documents) if mode == "rlm" else None)


class TestForecast:
    """The three figures of the plan, and how they come about."""

    def test_one_call(self, text: Path) -> None:
        """Direct: the text once; high is each request of that mode at its longest."""
        cost = expected(job(text))
        assert cost.low.usd is not None
        assert cost.expected.usd is not None
        assert cost.high is not None
        assert 0 < cost.low.usd < cost.expected.usd < cost.high < 1
        assert (cost.turns, cost.subcalls, cost.high_is) == (1, 0, "every request at its longest")

    def test_all_of_it_once(self, tmp_path: Path) -> None:
        """Expected: the sub-LM reads everything once, whatever the root is; the budget bounds high."""
        long = tmp_path / "long.txt"
        long.write_text(TEXT * 30_000)
        cost = expected(job(long))
        assert cost.subcalls == 11
        tokens = len(TEXT) * 30_000 / 3.5
        assert cost.expected.tokens == pytest.approx(tokens, rel=0.15)
        assert cost.expected.usd == pytest.approx(tokens / 1e6 + 0.08, rel=0.2)
        assert (cost.high, cost.high_is) == (1.0, "your --max-budget")
        head, how = cost_lines(cost)
        assert head.startswith("cost   low $0.0")
        assert head.endswith("high $1.00 (your --max-budget)")
        assert how == "       expected: 11 sub-calls read all of it once, 5 turns of own; low: it is found by searching"
        few = cost_lines(expected(job(long, max_subcalls=2, max_budget=0.01)))
        assert "2 sub-calls read 18% of it" in few[1]
        assert few[2].endswith("expected is more than --max-budget: the answer may be partial (exit 6)")
        none = expected(job(long, max_budget=None))
        assert none.high is not None
        assert none.high > 10
        assert expected(job(long, samples=3)).expected.usd == pytest.approx(3 * (cost.expected.usd or 0))

    def test_unknown_is_no_figure(self, text: Path) -> None:
        """No price: tokens, and the word."""
        lines = cost_lines(expected(job(text, model="openai/nobody")))
        assert lines[0].startswith("cost   unknown: the price of openai/nobody is not known")
        assert lines[0].endswith("high $1.00 (your --max-budget), which does not hold it")
        assert "tokens" in lines[1]
        assert "$" not in lines[1]

    def test_nothing(self, text: Path) -> None:
        """A model of one's own that costs nothing."""
        free = {"own": OWN["own"] | {"price": {"input": 0, "output": 0}}}
        assert cost_lines(expected(job(text, models=free))) == ["cost   nothing"]


def test_an_unknown_price_is_refused_where_the_configuration_says_so(text: Path) -> None:
    """`unknown_price = "error"`: with a budget exit 3 before anything is read or sent; without one there is nothing to
    hold."""
    asked = job(text, model="openai/nobody", unknown_price="error")
    with pytest.raises(ConfigError, match="the price of openai/nobody is not known"):
        prepare.connect_models(asked)
    assert prepare.connect_models(job(text, unknown_price="error")).root.price
    assert prepare.connect_models(replace(asked, settings=replace(asked.settings, max_budget=None)))
    with pytest.raises(ConfigError, match="openai/nobody"):
        prepare.connect_models(job(text, unknown_price="error", fallback=("openai/nobody",)))


# ── asking ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def terminal() -> Iterator[tuple[int, io.TextIOWrapper]]:
    """What is typed goes into the first; the second is the process's side."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "r+b", buffering=0) as raw:
        yield ours, io.TextIOWrapper(raw, write_through=True)
    os.close(ours)


@pytest.mark.parametrize(
    ("typed", "more", "goes_on", "asks"),
    [
        (b"\n", {}, True, True),
        (b"yes\n", {}, True, True),
        (b"n\n", {}, False, True),
        (b"\x04", {}, False, True),
        (b"n\n", {"yes": True}, True, False),
        (b"n\n", {"confirm_above": None}, True, False),
        (b"n\n", {"confirm_above": 100.0}, True, False),
        (b"n\n", {"max_budget": 0.001, "confirm_above": 0.002}, True, False),
    ],
)
def test_much_is_asked_about(
    tmp_path: Path,
    terminal: tuple[int, io.TextIOWrapper],
    typed: bytes,
    more: dict[str, Any],
    goes_on: bool,
    asks: bool,
) -> None:
    """On a terminal, above `confirm_above`; Enter goes on, `-y` asks nothing, and what the budget stops is not feared."""
    long = tmp_path / "long.txt"
    long.write_text(TEXT * 20_000)
    asked = job(long, **({"confirm_above": 0.1} | more))
    cost, (ours, stream) = expected(asked), terminal
    confirm = Confirmation(asked.settings, Silent(), stream, stream)

    async def main() -> bool:
        answer = asyncio.ensure_future(confirm(cost))
        for _ in range(3):
            await asyncio.sleep(0)
        assert confirm.is_open == asks
        os.write(ours, typed)
        return await answer

    assert confirm.may_ask({}) == ("yes" not in more and more.get("confirm_above", 0) is not None)
    assert not confirm.may_ask({"CI": "1"})
    assert asyncio.run(main()) == goes_on
    if asks:
        assert b"go on? [Y/n]" in os.read(ours, 10_000)


def answer(asked: Job, readers: tuple[Reader, ...] = (), **more: Any) -> Result:
    return asyncio.run(question.ask(asked, readers=readers, **more))


def test_a_run_that_is_declined_sends_nothing(text: Path) -> None:
    """It ends as one that was interrupted, before its first request."""

    async def no(cost: Forecast) -> bool:
        return False

    with ScriptedServer([]) as server:
        asked = job(text, KEYED | {"OPENAI_API_BASE": server.base_url})
        result = answer(asked, stopped_by=lambda: 2, confirm=no)
    assert (result.status, result.exit_code, result.usage.calls, server.requests) == ("stopped", 130, 0, [])


# ── who answers instead ─────────────────────────────────────────────────────────────────────────────────────────────


def test_who_answered_is_in_the_result(text: Path) -> None:
    """The notice, `by_model` and the trace name the model that stood in; the plan names it before."""

    def reply(request: dict[str, Any]) -> Reply | str:
        return Reply("no such model", 404) if request["model"] == "gone" else "Ninety days."

    events: list[Any] = []
    with ScriptedServer(reply) as server:
        environ = KEYED | {"OPENAI_API_BASE": server.base_url}
        models = {"first": {"model": "openai/gone", "price": PRICE, "fallback": ["own"]}} | OWN
        asked = job(text, environ, model="first", models=models)
        result = answer(asked, (lambda written: events.append(written.stamped.event),))
    assert (result.exit_code, result.answer) == (0, "Ninety days.")
    assert {name: used.calls for name, used in result.by_model.items()} == {"first": 0, "own": 1}
    assert result.usage.calls == 1
    assert result.usage.cost_usd
    (told,) = [notice.message for notice in result.notices if notice.code == "fallback"]
    assert told.endswith("; own is asked instead")
    assert [event.model for event in events if event.type == "completion.finished"] == ["first", "own"]
    assert SENTINEL_KEY not in json.dumps(result.to_json())


def test_what_a_stand_in_said_is_on_record(text: Path, tmp_path: Path) -> None:
    """The next run asks the model that fails once more, and has the reply of the one that stands in for nothing."""

    def reply(request: dict[str, Any]) -> Reply | str:
        if request["messages"][0]["role"] == "system":
            return "```repl\nFINAL(llm_query('How long?'))\n```"
        return Reply("no such model", 404) if request["model"] == "gone" else "Ninety days."

    models = {"first": {"model": "openai/gone", "price": PRICE, "fallback": ["own"]}} | OWN
    with ScriptedServer(reply) as server:
        environ = KEYED | {"OPENAI_API_BASE": server.base_url}
        asked = job(text, environ, models=models, sub_model="first", mode="rlm")
        first, second = (answer(replace(asked, cache=tmp_path / "cache")) for _ in range(2))
        assert [request.body["model"] for request in server.requests] == ["own", "gone", "own", "own", "gone"]
    assert (first.answer, second.answer) == ("Ninety days.", "Ninety days.")
    assert (first.usage.calls_from_cache, second.usage.calls_from_cache) == (0, 1)


def test_a_stand_in_must_be_usable(text: Path) -> None:
    """Its key is looked for before the run, and its address is held to --local as any other; offline is none."""
    with pytest.raises(ConfigError, match="fallback: no API key for anthropic/claude-sonnet-4-5"):
        prepare.connect_models(job(text, fallback=("anthropic/claude-sonnet-4-5",)))
    with pytest.raises(ConfigError, match="offline/extractive cannot stand in"):
        prepare.connect_models(job(text, fallback=("offline/extractive",)))
    assert prepare.connect_models(job(text, fallback=("own",))).stand_ins == {"own": ()}


def test_a_batch_with_a_wrong_key_ends_the_run_at_once(text: Path) -> None:
    """Two hundred prompts, and a provider that takes no key: exit 3 after as many requests as were in flight."""
    code = "```repl\nllm_query_batched([f'{n}?' for n in range(200)])\n```"

    def reply(request: dict[str, Any]) -> Reply | str:
        return code if request["model"] == "own" else Reply(f"Incorrect API key: {SENTINEL_KEY}", 401)

    with ScriptedServer(reply) as server:
        environ = KEYED | {"OPENAI_API_BASE": server.base_url}
        result = answer(job(text, environ, sub_model="openai/gpt-5.4-mini", mode="rlm", jobs=4))
    assert result.exit_code == 3
    assert result.error is not None
    assert "did not accept the API key" in result.error.message
    assert result.error.hint
    assert len(server.requests) <= 1 + 4
    assert SENTINEL_KEY not in json.dumps(result.to_json())
