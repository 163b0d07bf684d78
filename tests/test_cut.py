"""Prompts that a server cut in silence: prevented for Ollama, found out everywhere, never answered from."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest
from scripted import Reply, ScriptedServer

from rlm_cli.call import Completion, Message
from rlm_cli.dispatch import Deadline, Dispatch
from rlm_cli.errors import ModelError
from rlm_cli.events import CompletionFinished, Event, NoticeGiven
from rlm_cli.ledger import Ledger, Limits
from rlm_cli.models import Model, connect
from rlm_cli.models.cut import at_most, fewest_tokens, is_cut
from rlm_cli.models.ollama import Room

PROSE = "The tenant shall give notice of thirty days before the end of the lease, in writing, to the landlord. "


def asked(text: str) -> list[Message]:
    return [Message("user", text)]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        (PROSE * 100, 2_200),
        ("the " * 3_000, 3_000),  # one word repeated: a token each, by every tokenizer
        (" " * 60_000 + "x", 800),
        ("-" * 60_000, 750),
        ("a" * 60_000, 3_750),
        ("通知は書面で三十日前までに行うものとする。" * 300, 3_400),
        ("don't stop, it's 5 o'clock; " * 500, 4_400),
        ("", 3),
    ],
)
def test_no_false_alarm(text: str, tokens: int) -> None:
    """`tokens` are what the thriftiest of five tokenizers makes of it, rounded down; a server that counts that has read it."""
    assert fewest_tokens(text) <= tokens
    assert not is_cut(asked(text), tokens)
    assert not is_cut(asked(text), 0)


def test_half_a_prompt_is_found_out() -> None:
    """A server that read half of some prose, a tenth of some Japanese, or the last message only."""
    assert is_cut(asked(PROSE * 200), 1_800)
    assert is_cut(asked("通知は書面で三十日前までに行うものとする。" * 3_000), 3_400)
    assert is_cut([Message("user", PROSE * 100), Message("user", "go on")], 20)
    assert not is_cut(asked(PROSE * 20), 1)  # too little to tell a cut from a strange way of counting


def test_the_quick_look_overlooks_nothing() -> None:
    """What is not looked at closely could not have been a cut."""
    rng = random.Random(5)
    pieces = [
        "word",
        "it's",
        " ",
        ", ",
        "\n",
        "9",
        "…",
        "Ärger",
        "лист",
        "通知書",
        "\u0301",
        "—",
        "_",
        "\ud800",
        "x" * 30,
    ]
    for _ in range(300):
        text = "".join(rng.choices(pieces, k=rng.randrange(400)))
        assert fewest_tokens(text) <= at_most(text)


def test_room_grows_in_steps_and_never_back() -> None:
    """Every change loads the model anew: few of them, never above the window."""
    for window, steps in (
        (4_096, {4_096}),
        (131_072, {8_192, 16_384, 32_768, 65_536, 131_072}),
        (100_000, {8_192, 16_384, 32_768, 65_536, 100_000}),
    ):
        room, seen = Room(window), []
        for _ in range(300):
            text = PROSE * random.Random(len(seen)).randrange(1, 4_000)
            seen.append(room.for_request(asked(text), 1_000))
        assert seen == sorted(seen)
        assert set(seen) <= steps
        assert seen[-1] == window
    assert Room(131_072).for_request(asked(PROSE), 1_000) == 8_192
    assert not Room(8_192).grow(8_192)


def ollama_says(text: str, counted: int) -> Reply:
    whole: dict[str, Any] = {"model": "x", "message": {"role": "assistant", "content": text}, "done": True}
    whole |= {"done_reason": "stop", "prompt_eval_count": counted, "eval_count": 3}
    return Reply(body=json.dumps(whole).encode())


def ollama(*replies: Reply) -> ScriptedServer:
    """It answers questions in turn, and is asked nothing else: more requests than replies are a failure."""
    return ScriptedServer(replies)


def rooms(server: ScriptedServer) -> list[int]:
    return [request.body["options"]["num_ctx"] for request in server.requests]


def asked_of(server: ScriptedServer, name: str, text: str, **table: Any) -> tuple[Completion | ModelError, list[Event]]:
    """What came of one request through the dispatch, as in a run, and the events."""
    happened: list[Event] = []

    async def main(model: Model) -> Completion | ModelError:
        emit = lambda event, call: happened.append(event)  # noqa: E731
        dispatch = Dispatch(Ledger(Limits()), Deadline.after(None), emit, retries=1, request_timeout_s=30)
        try:
            reply = await dispatch.complete("0", model, asked(text), "sub")
            assert isinstance(reply, Completion)
            return reply
        except ModelError as error:
            return error
        finally:
            await model.close()

    base = f"http://127.0.0.1:{server.port}" + ("" if name.startswith("ollama") else "/v1")
    models = {"mine": {"model": name, "api_base": base} | table}
    return asyncio.run(main(connect("mine", models=models, keys={}, environ={}))), happened


def test_ollama_gets_room_for_the_prompt() -> None:
    """`num_ctx` by need, within the window; an option of the user's is left alone."""
    with ollama(ollama_says("ok", 100), ollama_says("ok", 100)) as server:
        for text, table in ((PROSE, {"window": 65_536}), (PROSE * 10, {"options": {"num_ctx": 5_000}})):
            assert isinstance(asked_of(server, "ollama_chat/x", text, **table)[0], Completion)
        assert rooms(server) == [8_192, 5_000]


@pytest.mark.parametrize("name", ["ollama_chat/nobody-knows", "ollama/nobody-knows"])
def test_no_server_is_asked_what_an_ollama_model_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """litellm would, five times a request, at the address of the environment whatever the configuration says."""
    whole = {"model": "x", "response": "ok", "message": {"role": "assistant", "content": "ok"}, "done": True}
    reply = Reply(body=json.dumps(whole | {"prompt_eval_count": 100, "eval_count": 3}).encode())
    with ScriptedServer([]) as elsewhere, ollama(reply, reply) as server:
        monkeypatch.setenv("OLLAMA_API_BASE", f"http://127.0.0.1:{elsewhere.port}")
        for _ in range(2):
            assert isinstance(asked_of(server, name, PROSE)[0], Completion)
        assert (len(server.requests), len(elsewhere.requests)) == (2, 0)


def test_a_full_room_is_a_cut_prompt() -> None:
    """Ollama counts what it kept: as many tokens as there is room mean that more was sent. Then the next step is tried,
    and without one the call fails and says so."""
    with ollama(ollama_says("a lie", 8_192), ollama_says("true", 9_000)) as server:
        reply, _ = asked_of(server, "ollama_chat/x", PROSE, window=65_536)
        assert isinstance(reply, Completion)
        assert reply.text == "true"
        assert rooms(server) == [8_192, 16_384]
    with ollama(ollama_says("a lie", 8_191)) as server:
        failed, happened = asked_of(server, "ollama_chat/x", PROSE)
        assert isinstance(failed, ModelError)
        assert (failed.too_long, failed.retriable) == (True, False)
    assert any(isinstance(event, NoticeGiven) and event.code == "prompt_truncated" for event in happened)


def test_a_cut_prompt_fails_the_call() -> None:
    """Whatever the server: the reply is not used, what it cost is counted, the notice says what was read of what."""
    usage = {"prompt_tokens": 4_096, "completion_tokens": 7, "total_tokens": 4_103}
    with ScriptedServer([Reply("a lie", usage=usage)]) as server:
        failed, happened = asked_of(server, "openai/x", PROSE * 500, price={"input": 1, "output": 1})
    assert isinstance(failed, ModelError)
    assert failed.why.startswith("it read 4,096 tokens of 9,500 tokens or more")
    notice, finished = (next(e for e in happened if isinstance(e, kind)) for kind in (NoticeGiven, CompletionFinished))
    assert isinstance(notice, NoticeGiven)
    assert isinstance(finished, CompletionFinished)
    assert (notice.code, finished.text, finished.usage.input_tokens) == ("prompt_truncated", "", 4_096)
    assert finished.cost_usd == pytest.approx(4_103e-6)
