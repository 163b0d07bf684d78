"""Models against a real server on loopback: replies, failures, keys, names. What is marked `both_ways` runs by plain
HTTP and through the real litellm, and both keep the same promises."""

from __future__ import annotations

import ast
import asyncio
import email.utils
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from scripted import SENTINEL_KEY, Reply, Script, ScriptedServer

from rlm_cli.call import Completion, Message, ToolCall
from rlm_cli.errors import ConfigError, ModelError, RlmError
from rlm_cli.ledger import Price, Usage
from rlm_cli.models import OFFLINE, Model, catalog, choose, connect, secrets
from rlm_cli.models.keys import scrub
from rlm_cli.reply import REPL

ROOT = Path(__file__).parent.parent
KEYED = {"OPENAI_API_KEY": SENTINEL_KEY}
GEMINI = {"GEMINI_API_KEY": SENTINEL_KEY}


WAY = ContextVar("way", default="auto")
both_ways = pytest.mark.usefixtures("way")


@pytest.fixture(params=["auto", "litellm"], ids=["lean", "litellm"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    token = WAY.set(request.param)
    yield request.param
    WAY.reset(token)


def linked(name: str, environ: Mapping[str, str] = KEYED, **settings: Any) -> Model:
    return connect(name, **({"models": {}, "keys": {}, "environ": environ, "transport": WAY.get()} | settings))


def served(server: ScriptedServer, name: str = "openai/gpt-5.4-mini", **settings: Any) -> Model:
    return linked(name, KEYED | {"OPENAI_API_BASE": server.base_url}, **settings)


def once(model: Model, *, sub: bool = False) -> Completion:
    """One request, and the connections closed."""

    async def main() -> Completion:
        try:
            return await model.complete([Message("user", "hi")], max_output_tokens=77, sub=sub)
        finally:
            await model.close()

    return asyncio.run(main())


def ask(script: Script, *, sub: bool = False, **settings: Any) -> tuple[Completion, dict[str, Any]]:
    """One request to a scripted server: the completion and the JSON that was sent."""
    with ScriptedServer(script) as server:
        completion = once(served(server, **settings), sub=sub)
        assert len(server.requests) == 1
        return completion, server.requests[0].body


def failure_at(base_url: str) -> RlmError:
    with pytest.raises(RlmError) as caught:
        once(linked("openai/gpt-5.4-mini", KEYED | {"OPENAI_API_BASE": base_url}))
    return caught.value


def failure(reply: Reply, **settings: Any) -> RlmError:
    with pytest.raises(RlmError) as caught:
        ask([reply], **settings)
    error = caught.value
    seen = f"{error!r} {error} {error.why} {error.hint} {error.__cause__!r} {error.__context__!r}"
    assert SENTINEL_KEY not in seen
    assert SENTINEL_KEY[:12] not in seen
    return error


@both_ways
def test_reply_and_usage() -> None:
    """A reply arrives with its usage, cached and reasoning tokens; the request carries an explicit output limit."""
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 9,
        "total_tokens": 109,
        "cost": 0.5,
        "prompt_tokens_details": {"cached_tokens": 40},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    completion, sent = ask([Reply("yes", usage=usage, message={"reasoning_content": "hm"}, finish_reason="length")])
    assert completion == Completion("yes", "length", Usage(100, 9, 40, 0, 5), None, "hm")
    assert sent["messages"] == [{"role": "user", "content": "hi"}]
    assert sent.get("max_tokens", sent.get("max_completion_tokens")) == 77
    assert "stream" not in sent


@both_ways
def test_no_content_and_no_usage() -> None:
    """A reply without text is an ordinary reply; usage that was not given is zero, not a guess."""
    completion, _ = ask([Reply(None, usage=None)])
    assert (completion.text, completion.usage) == ("", Usage())


@both_ways
def test_options() -> None:
    """KEY=VALUE goes with every request and sub.KEY=VALUE with sub-calls; values are JSON where they can be."""
    given = ("temperature=0.5", "seed=7", "sub.seed=8", "user=me")
    _, sent = ask(["ok"], options=given, name="openai/gpt-4o-mini")
    assert (sent["temperature"], sent["seed"], sent["user"]) == (0.5, 7, "me")
    _, sent = ask(["ok"], options=given, name="openai/gpt-4o-mini", sub=True)
    assert sent["seed"] == 8


def test_tools_are_possible() -> None:
    """`tools=` works with the installed litellm: some releases need a package for it that they do not bring."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}

    async def once(base: str) -> None:
        from rlm_cli.models.litellm import start_import

        litellm = await asyncio.wrap_future(start_import())
        await litellm.acompletion(
            model="openai/x", messages=[{"role": "user", "content": "hi"}], tools=[tool], api_base=base, api_key="none"
        )
        await litellm.close_litellm_async_clients()
        litellm.in_memory_llm_clients_cache.flush_cache()

    with ScriptedServer(["ok"]) as server:
        asyncio.run(once(server.base_url))
        assert server.requests[0].body["tools"] == [tool]


@both_ways
@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (Reply(f"Incorrect API key provided: {SENTINEL_KEY}", 401), ConfigError, "API key"),
        (Reply(f"Incorrect API key provided: {SENTINEL_KEY[:7]}*****seen", 401), ConfigError, "API key"),
        (Reply("no", 403), ConfigError, "API key"),
        (Reply("The model `x` does not exist", 404), ConfigError, "no such model"),
        (Reply("You exceeded your current quota", 429), ModelError, "no credit"),
        (Reply("Stop", 429, message={"code": "insufficient_quota"}), ModelError, "no credit"),
        (Reply("pay", 402), ModelError, "no credit"),
        (Reply("Your credit balance is too low", 400), ModelError, "no credit"),
    ],
)
def test_terminal_failures(reply: Reply, kind: type[RlmError], words: str) -> None:
    """A wrong key, an unknown model and an empty account end the run at once; the key is in no message."""
    error = failure(reply)
    assert isinstance(error, kind)
    assert words in error.message
    assert error.why
    assert not isinstance(error, ModelError) or (error.terminal and not error.retriable)


@both_ways
@pytest.mark.parametrize(
    "reply",
    [
        *(Reply("later", status) for status in (408, 429, 500, 502, 503, 504, 529)),
        *(Reply("cut", cut=how) for how in ("closed", "reset", "body")),
        Reply(body=b"{not json"),
        Reply(body=b"[]"),
        Reply(top={"choices": []}),
    ],
    ids=lambda reply: str(reply.cut or reply.body or reply.top or reply.status),
)
def test_passing_failures(reply: Reply) -> None:
    """Overload, cut connections and garbled replies are worth another attempt, and exactly one was made."""
    error = failure(reply)
    assert isinstance(error, ModelError)
    assert error.retriable
    assert not error.terminal


@both_ways
@pytest.mark.parametrize(
    "name", ["openai/x", "hosted_vllm/x", "lm_studio/x", "llamafile/x", "ollama_chat/x", "deepseek/x"]
)
def test_a_redirect_is_not_followed(name: str) -> None:
    """No prompt goes to an address that was not named, whichever of litellm's clients sends it."""
    with ScriptedServer(lambda request: "here") as elsewhere:
        place = {"Location": f"http://localhost:{elsewhere.port}/v1/chat/completions"}
        with ScriptedServer(lambda request: Reply(status=307, headers=place, body=b"")) as server:
            base = f"http://127.0.0.1:{server.port}" + ("" if name.startswith("ollama") else "/v1")
            stem = name.partition("/")[0].upper().replace("OLLAMA_CHAT", "OLLAMA")
            with pytest.raises(ConfigError, match="redirects elsewhere"):
                once(linked(name, {f"{stem}_API_BASE": base, f"{stem}_API_KEY": SENTINEL_KEY}))
        assert len(server.requests) == 1
        assert elsewhere.requests == []


@both_ways
def test_a_failure_says_how_far_it_came() -> None:
    """A server that answered an error, one that hung up, a reply that broke off: three different things to look at."""
    for reply, words in (
        (Reply("out of order", 500), "the server answered 500"),
        (Reply("no", 503), "the server answered 503"),
        (Reply(cut="closed"), "the connection was closed before a reply came"),
        (Reply(cut="reset"), "the connection was closed before a reply came"),
        (Reply("x" * 1_000, cut="body"), "its reply broke off, or is no JSON"),
        (Reply(body=b"<html>"), "its reply broke off, or is no JSON"),
    ):
        error = failure(reply)
        assert isinstance(error, ModelError)
        assert error.retriable
        assert error.message.endswith(words)
        assert error.hint


CALLED = {"id": "c1", "type": "function", "function": {"name": "repl", "arguments": '{"code": "print(1)"}'}}


def exchange(model: Model, *messages: Message) -> Completion:
    async def main() -> Completion:
        try:
            return await model.complete(messages, max_output_tokens=9, sub=False)
        finally:
            await model.close()

    return asyncio.run(main())


@both_ways
def test_functions_that_were_called() -> None:
    """Calls arrive as they were made, offered or not, in the old spelling too."""
    completion, sent = ask([Reply(None, message={"tool_calls": [CALLED]}, finish_reason="tool_calls")])
    assert completion.calls == (ToolCall("c1", "repl", '{"code": "print(1)"}'),)
    assert (completion.text, completion.finish_reason, "tools" in sent) == ("", "tool_calls", False)
    old = {"function_call": {"name": "repl", "arguments": "print(1)"}}
    completion, _ = ask([Reply("Look.", message=old, finish_reason="function_call")])
    assert completion.calls == (ToolCall("", "repl", "print(1)"),)


@both_ways
def test_functions_that_are_offered() -> None:
    """The system message's tools, a call and its result go out as OpenAI spells them."""
    call = ToolCall("c1", "repl", '{"code": "1"}')
    messages = (
        Message("system", "s", tools=(REPL,)),
        Message("user", "u"),
        Message("assistant", "", calls=(call,)),
        Message("tool", "one", result_of="c1"),
    )
    with ScriptedServer(["ok"]) as server:
        assert exchange(served(server), *messages).text == "ok"
        sent = server.requests[0].body
    function = {"name": "repl", "description": REPL.description, "parameters": REPL.parameters}
    assert sent["tools"] == [{"type": "function", "function": function}]
    called, result = sent["messages"][2:]
    assert called["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "repl", "arguments": '{"code": "1"}'}}
    ]
    assert (result["role"], result["tool_call_id"], result["content"]) == ("tool", "c1", "one")


def test_thoughts_go_back_with_the_call_they_led_to() -> None:
    """Anthropic refuses a call without its signed thoughts; they are kept unread and sent again."""
    thinking = {"type": "thinking", "thinking": "hm", "signature": "sealed"}
    content = [thinking, {"type": "tool_use", "id": "c1", "name": "repl", "input": {"code": "1"}}]
    whole = {"id": "m", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "content": content}
    whole |= {"stop_reason": "tool_use", "usage": {"input_tokens": 5, "output_tokens": 5}}
    with ScriptedServer([Reply(body=json.dumps(whole).encode())] * 2) as server:
        base = {"ANTHROPIC_API_KEY": SENTINEL_KEY, "ANTHROPIC_API_BASE": server.base_url.removesuffix("/v1")}
        model = linked("anthropic/claude-sonnet-4-5", base, effort="low")
        first = (Message("system", "s", tools=(REPL,)), Message("user", "u"))
        completion = exchange(model, *first)
        assert (completion.reasoning, completion.text) == ("hm", "")
        (call,) = completion.calls
        again = exchange(
            model, *first, Message("assistant", "", calls=(call,)), Message("tool", "one", result_of=call.id)
        )
        assert again.calls
        asked, back = (request.body for request in server.requests)
    assert asked["thinking"]["type"] in ("enabled", "adaptive")
    assert back["thinking"] == asked["thinking"]
    assert back["messages"][1]["content"][0] == thinking


@both_ways
@pytest.mark.parametrize(
    ("text", "said", "thought"),
    [
        ("<think>hm</think>Yes", "Yes", "hm"),
        ("hm\n</think>\n\nYes", "\nYes", "hm"),
        ("<think>a</think><think>b</think>Yes", "Yes", "a\nb"),
        ("<think>never ends", "", "never ends"),
        ("print('</think>')", "print('</think>')", ""),
    ],
)
def test_thinking_in_the_text_is_reasoning(text: str, said: str, thought: str) -> None:
    """Whatever the tag: it is kept beside the text and never part of it."""
    completion, _ = ask([Reply(text)])
    assert (completion.text.lstrip("\n"), completion.reasoning) == (said.lstrip("\n"), thought)


@both_ways
@pytest.mark.parametrize(
    ("name", "settings", "sent"),
    [
        ("openai/gpt-5.4-mini", {"effort": "high"}, "high"),
        ("openai/gpt-5.4-mini", {}, None),
        ("openai/gpt-4o-mini", {"effort": "high"}, None),
        ("openai/nobody-knows", {"effort": "high"}, None),
        ("openai/gpt-5.4-mini", {"effort": "high", "options": ("reasoning_effort=low",)}, "low"),
        ("mine", {"effort": "low", "models": {"mine": {"model": "openai/gpt-5.4-mini", "effort": "high"}}}, "high"),
    ],
)
def test_effort_goes_to_models_that_reason(name: str, settings: dict[str, Any], sent: str | None) -> None:
    """Left out for those that do not, or that nobody knows; a model's own table and an option win."""
    _, request = ask(["ok"], name=name, **settings)
    assert request.get("reasoning_effort") == sent


def test_effort_and_protocol_are_known_before_the_run() -> None:
    """Who reasons by the price map or by its table, and how each is offered the REPL."""
    reasons = {name: linked(name).reasons for name in ("openai/gpt-5.4-mini", "openai/gpt-4o-mini", "openai/x")}
    assert list(reasons.values()) == [True, False, False]
    own = {"mine": {"model": "openai/x", "effort": "low", "protocol": "text"}}
    mine = linked("mine", models=own, protocol="tools")
    assert (mine.reasons, mine.protocol, linked("openai/x", protocol="tools").protocol) == (True, "text", "tools")
    groq = {"GROQ_API_KEY": SENTINEL_KEY}
    assert linked("groq/openai/gpt-oss-20b", groq).protocol == "tools"
    assert linked("groq/openai/gpt-oss-20b", groq, protocol="text").protocol == "text"


@both_ways
def test_a_call_that_its_provider_refused_is_read_all_the_same() -> None:
    """Groq answers 400 to a call nobody offered, or with broken arguments, and gives what the model wrote."""
    error = {"message": "Tool choice is none, but model called a tool", "type": "invalid_request_error"}
    written = '{"name": "repl", "arguments": {"code": "print(1)"}}'
    body = {"error": error | {"code": "tool_use_failed", "failed_generation": written}}
    for name in ("openai/gpt-5.4-mini", "groq/openai/gpt-oss-20b"):
        with ScriptedServer([Reply(status=400, body=json.dumps(body).encode())]) as server:
            base = KEYED | {
                "OPENAI_API_BASE": server.base_url,
                "GROQ_API_BASE": server.base_url,
                "GROQ_API_KEY": "k" * 9,
            }
            completion = once(linked(name, base))
        assert completion == Completion("", "tool_calls", calls=(ToolCall("", "repl", '{"code": "print(1)"}'),))


@both_ways
def test_a_useless_reply_is_paid_for() -> None:
    """A content filter or no choices at all, with usage: what was billed is on the failure; a cut body may be billed."""
    usage = {"prompt_tokens": 100, "completion_tokens": 9, "total_tokens": 109}
    for reply in (Reply("", finish_reason="content_filter", usage=usage), Reply(top={"choices": []}, usage=usage)):
        error = failure(reply)
        assert isinstance(error, ModelError)
        assert error.usage == Usage(100, 9)
    for reply, cut_short in (
        (Reply("x" * 1_000, cut="body"), True),
        (Reply("no", 500), False),
        (Reply(cut="reset"), False),
    ):
        error = failure(reply)
        assert isinstance(error, ModelError)
        assert error.cut_short == cut_short


@both_ways
def test_lone_surrogates_do_no_harm() -> None:
    """In a prompt or a reply they become question marks."""

    async def main(model: Model) -> Completion:
        try:
            return await model.complete([Message("user", "a\ud800b")], max_output_tokens=9, sub=False)
        finally:
            await model.close()

    body = b'{"id":"1","object":"chat.completion","created":1,"model":"x","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"c\\ud800d"}}]}'
    with ScriptedServer([Reply(body=body)]) as server:
        assert asyncio.run(main(served(server))).text == "c?d"
        assert server.requests[0].messages == [{"role": "user", "content": "a?b"}]


@both_ways
def test_no_connection_says_where_and_why() -> None:
    """A server that is not there, a name nobody knows, TLS where there is none: which address, the system's words."""
    with ScriptedServer([]) as server:
        port = server.port
        tls = failure_at(f"https://127.0.0.1:{port}/v1")
    assert tls.message.endswith(f"no connection to 127.0.0.1:{port}")
    assert tls.why.startswith("TLS: ")
    refused = failure_at(f"http://127.0.0.1:{port}/v1")
    assert (refused.why, refused.hint) == ("Connection refused", "is the server running there?")
    assert isinstance(refused, ModelError)
    assert refused.retriable


@both_ways
@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply("maximum context length is 8192 tokens", 400, message={"code": "context_length_exceeded"}), "272,000"),
        (Reply("too big", 413), "too long"),
        (Reply("violates our policy", 400, message={"code": "content_filter"}), "refused to answer"),
        (Reply("", finish_reason="content_filter"), "refused to answer"),
        (Reply("bad parameter", 400), "refused (400)"),
        (Reply("bad parameter", 422), "refused"),
    ],
)
def test_failures_of_one_request(reply: Reply, words: str) -> None:
    """What another attempt cannot cure is not tried again, and does not end the run; too long names the window."""
    error = failure(reply)
    assert isinstance(error, ModelError)
    assert not error.retriable
    assert not error.terminal
    assert words in error.message


@both_ways
def test_retry_after() -> None:
    """Retry-After is understood as seconds and as a date."""
    error = failure(Reply("slow", 429, {"Retry-After": "7"}))
    assert isinstance(error, ModelError)
    assert error.retry_after == 7
    date = email.utils.formatdate(time.time() + 60, usegmt=True)
    error = failure(Reply("slow", 503, {"Retry-After": date}))
    assert isinstance(error, ModelError)
    assert error.retry_after is not None
    assert 30 < error.retry_after <= 60


@both_ways
def test_many_in_flight_and_two_loops() -> None:
    """64 requests at once are answered each with its own reply, and a second event loop in the process works too."""
    for _ in range(2):
        with ScriptedServer(lambda request: Reply(request["messages"][0]["content"], delay_s=0.05)) as server:
            model = served(server)

            async def all_at_once(model: Model = model) -> list[Completion]:
                ask_one = [model.complete([Message("user", str(n))], max_output_tokens=9, sub=True) for n in range(64)]
                replies = await asyncio.gather(*ask_one)
                await model.close()
                return replies

            assert [reply.text for reply in asyncio.run(all_at_once())] == [str(n) for n in range(64)]


@both_ways
def test_cancelled_requests_are_hung_up() -> None:
    """64 that are cancelled in flight leave no connection behind, before the model is closed, and no warning."""

    async def main() -> None:
        arrived, left, all_here, all_gone = 0, 0, asyncio.Event(), asyncio.Event()

        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal arrived, left
            await reader.readuntil(b"\r\n\r\n")
            arrived += 1
            if arrived == 64:
                all_here.set()
            try:
                await reader.read()  # until the other side hangs up
            except ConnectionError:
                pass
            left += 1
            if left == 64:
                all_gone.set()
            writer.close()

        async with await asyncio.start_server(hold, "127.0.0.1", 0, backlog=64) as server:
            port = server.sockets[0].getsockname()[1]
            model = linked("openai/x", KEYED | {"OPENAI_API_BASE": f"http://127.0.0.1:{port}/v1"})
            asked = [
                asyncio.ensure_future(model.complete([Message("user", "hi")], max_output_tokens=9, sub=True))
                for _ in range(64)
            ]
            await all_here.wait()
            for one in asked:
                one.cancel()
            assert all(
                isinstance(e, asyncio.CancelledError) for e in await asyncio.gather(*asked, return_exceptions=True)
            )
            await all_gone.wait()
            await model.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gpt-5", "openai/gpt-5"),
        ("claude-sonnet-4-6", "anthropic/claude-sonnet-4-6"),
        ("fats", "fast"),
        ("antropic/claude-sonnet-4-6", "anthropic/claude-sonnet-4-6"),
        ("anthropic/claude-sonnet-4-6", "ANTHROPIC_API_KEY"),
        ("openai/", "openai/MODEL"),
        ("offline/abstractive", OFFLINE),
        ("lm_studio/qwen", "api_base"),
        ("hosted_vllm/qwen", "api_base"),
    ],
)
def test_named_models_that_cannot_be_used(name: str, hint: str) -> None:
    """A model that was named and cannot be used is a configuration error with the way out, never a fallback."""
    with pytest.raises(ConfigError) as caught:
        linked(name, models={"fast": {"model": "openai/gpt-5.4-mini"}})
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "name", ["oobabooga/http://evil.example:80", "huggingface/https:/evil.example", "openai/x://y"]
)
def test_an_address_is_no_name(name: str) -> None:
    """litellm takes a URL for a model's name and sends the texts there; a project's file could say so."""
    with pytest.raises(ConfigError, match="an address is no model's name"):
        linked(name)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"model": "openai/x", "windw": 5}, "window"),
        ({"model": "openai/x", "api_key": "sk-secret-in-a-file"}, "key = { env"),
        ({"model": "openai/x", "key": "sk-secret-in-a-file"}, "neither { env"),
        ({"model": "openai/x", "window": "big"}, "whole number"),
        ({"model": "openai/x", "price": {"input": 1.0}}, "output"),
        ({"model": "openai/x", "price": {"input": 1.0, "output": -2}}, "USD"),
        ({"model": "openai/x", "options": {"api_key": "sk-secret-in-a-file"}}, "no option"),
        ({"model": "openai/x", "api_base": "localhost:80"}, "address"),
        ({"window": 5}, "provider/model"),
    ],
)
def test_model_tables_are_checked(table: dict[str, Any], words: str) -> None:
    """A wrong `[models.NAME]` is an error that says what is wrong, without what may be a key."""
    with pytest.raises(ConfigError) as caught:
        linked("mine", models={"mine": table})
    said = f"{caught.value} {caught.value.hint}"
    assert words in said
    assert "secret" not in said


def test_model_table() -> None:
    """`[models.NAME]` gives address, window, output limit and price; its `base_model` those of another model."""
    table = {"model": "openai/mine", "api_base": "http://127.0.0.1:9/v1", "window": 1000, "max_output": 100}
    model = linked("mine", models={"mine": table | {"price": {"input": 1, "cached": 0.1, "output": 2}, "rpm": 5}})
    assert (model.name, model.endpoint, model.window, model.max_output) == ("mine", "127.0.0.1:9", 1000, 100)
    assert model.price == Price(1, 2, 0.1)
    based = linked("mine", models={"mine": {"model": "openai/mine", "base_model": "gpt-5.4-mini"}})
    assert (based.window, based.price) == (272_000, Price(0.75, 4.5, 0.075))


def test_prices_of_long_requests_are_in_the_map() -> None:
    """The window ends where a request becomes dearer; one that a table makes longer is priced as it is charged."""
    known = catalog.known("gemini", "gemini-2.5-pro")
    assert known is not None
    assert known.price is not None
    ((step, dearer),) = known.price.above
    assert known.window == step == 200_000
    assert (dearer.input, dearer.output, dearer.cached) == (2.5, 15.0, 0.25)
    longer = linked("long", models={"long": {"model": "gemini/gemini-2.5-pro", "window": 1_000_000}}, environ=GEMINI)
    assert longer.price is not None
    assert longer.price.ceiling(300_000, 1_000) == pytest.approx(0.765)
    faster = linked("gemini/gemini-2.5-pro", GEMINI, options=("service_tier=priority",)).price
    assert faster is not None
    assert (faster.input, faster.above[0][1].output) == (2.25, 27.0)
    thinking = catalog.known("dashscope", "qwen-turbo")
    assert thinking is not None
    assert thinking.price is not None
    assert thinking.price.reasoning == 0.5


def test_a_price_of_ones_own_wins_over_the_map() -> None:
    """What the user wrote is newer than the installed map, thoughts included."""
    table = {"model": "openai/gpt-5.4-mini", "price": {"input": 1, "output": 2, "reasoning": 3}}
    assert linked("mine", models={"mine": table}).price == Price(1, 2, reasoning=3)


@both_ways
def test_parts_of_a_usage_are_no_more_than_the_whole() -> None:
    """What a server miscounts costs no more than all of it at that price; what it does not count is free where all is."""
    usage = {"prompt_tokens": 2_000, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 10**9}}
    usage |= {"completion_tokens_details": {"reasoning_tokens": 10**9}}
    assert ask([Reply("yes", usage=usage)])[0].usage == Usage(2_000, 3, 2_000, 0, 3)
    uncounted = ask([Reply("yes", usage=None)])[0]
    assert uncounted.usd(Price(1.0, 2.0)) is None
    assert uncounted.usd(Price(0.0, 0.0)) == 0.0


def test_thoughts_that_are_counted_beside_the_output_are_paid_for() -> None:
    """xAI's `completion_tokens` leave out the thoughts, its total does not; OpenAI's hold them."""
    thoughts = {"completion_tokens_details": {"reasoning_tokens": 500}, "prompt_tokens": 2_000}
    beside = thoughts | {"completion_tokens": 100, "total_tokens": 2_600}
    within = thoughts | {"completion_tokens": 600, "total_tokens": 2_600}
    for usage in (beside, within):
        assert ask([Reply("yes", usage=usage)])[0].usage == Usage(2_000, 600, reasoning_tokens=500)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"model": "x"}, r"^\[models.x\] model: unknown model 'x'"),
        ({"model": ""}, "unknown model ''"),
        ({"model": "openai/"}, "'openai/' names a provider and no model"),
        ({"model": OFFLINE}, "needs no table"),
        ({"model": "nobody/y"}, "unknown provider 'nobody' in 'nobody/y'"),
        ({"model": "openai/y", "options": {"temperature": float("nan")}}, "option 'temperature' has a value"),
        ({"model": "openai/y", "api_base": "http://me:hunter2@127.0.0.1:1/v1"}, "127.0.0.1 holds a user's name"),
    ],
)
def test_a_table_that_cannot_work_is_named(table: dict[str, Any], message: str) -> None:
    """It is the table that is wrong, not the name somebody typed, and it is said before anything is sent."""
    with pytest.raises(ConfigError, match=message) as caught:
        linked("x", models={"x": table})
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"
    assert caught.value.hint not in ("x", "openai/")


def test_what_is_not_known() -> None:
    """An unknown model has no price (which is not zero) and a cautious window."""
    model = linked("openai/never-heard-of")
    assert (model.price, model.window) == (None, catalog.DEFAULT_WINDOW)


@both_ways
def test_keys_stay_with_their_provider() -> None:
    """The environment's key is not sent to another server that the configuration names; that one gets its own."""
    with ScriptedServer(["a", "b"]) as server:
        table = {"model": "openai/local", "api_base": server.base_url}
        own = table | {"key": {"command": f"{sys.executable} -c 'print(\"its-own-key-123\")'"}}
        for name in ("free", "keyed"):
            model = linked(name, models={"free": table, "keyed": own})
            asyncio.run(_once(model))
        assert [request.headers["authorization"] for request in server.requests] == [
            "Bearer none",
            "Bearer its-own-key-123",
        ]


async def _once(model: Model) -> None:
    await model.complete([Message("user", "hi")], max_output_tokens=9, sub=False)
    await model.close()


@pytest.mark.parametrize(
    "entry",
    [
        {"env": "NOT_SET"},
        {"command": f"{sys.executable} -c 'import sys; print(\"sk-secret\"); sys.exit(3)'"},
        {"command": "/no/such/program"},
        {"command": ""},
        {"command": "a 'b"},
        {"command": f"{sys.executable} -c 'print(\"sk secret\")'"},
        {"env": "A", "command": "b"},
        "sk-secret",
    ],
)
def test_key_entries_that_give_no_key(entry: object) -> None:
    """`[keys]` that does not work is an error that never shows what was printed or written."""
    with pytest.raises(ConfigError) as caught:
        linked("openai/gpt-5", keys={"openai": entry})
    assert "secret" not in f"{caught.value!r} {caught.value} {caught.value.hint} {caught.value.__context__!r}"


def test_keys_of_the_configuration() -> None:
    """`[keys]` gives the key by variable or by command, before the provider's own variable; no repr shows it."""
    model = linked("openai/gpt-5", {"MINE": " abc-123-def "}, keys={"openai": {"env": "MINE"}})
    assert secrets([model]) == ("abc-123-def",)
    assert "abc-123" not in repr(model)


def test_choice() -> None:
    """Named, else the first provider with a key, else offline, which is refused where nobody would see the notice."""
    assert choose("x/y", "--model", KEYED, keys={}).name == "x/y"
    found = choose(None, "", KEYED | {"GROQ_API_KEY": "x"}, keys={})
    assert (found.name.partition("/")[0], found.origin) == ("openai", "OPENAI_API_KEY in the environment")
    assert choose(None, "", {}, keys={"groq": {"env": "X"}}).name.startswith("groq/")
    nothing = choose(None, "", {"OPENAI_API_KEY": " "}, keys={})
    assert (nothing.name, nothing.fallback) == (OFFLINE, True)
    with pytest.raises(ConfigError, match="no model"):
        choose(None, "", {}, keys={}, careful=True)
    assert not choose(OFFLINE, "--model", {}, keys={}, careful=True).fallback


def test_default_models_are_priced() -> None:
    """Every default model (but OpenRouter's, whose prices come with its replies) is in the price map."""
    for provider in catalog.PROVIDERS:
        for model in (provider.root, provider.sub):
            if model is not None:
                known = catalog.known(provider.name, model)
                assert known is not None, model
                assert known.price is not None, model


@pytest.mark.parametrize(
    ("base", "allowed"),
    [
        ("http://127.0.0.1:1/v1", True),
        ("http://localhost:1/v1", True),
        ("http://[::1]:1/v1", True),
        ("http://10.0.0.1/v1", False),
        ("http://127.0.0.1.invalid/v1", False),
        ("http://127.0.0.1@10.0.0.1/v1", False),
        (None, False),
    ],
)
def test_local(base: str | None, allowed: bool) -> None:
    """--local refuses every address that is not loopback, and what it cannot resolve."""
    environ = KEYED | ({"OPENAI_API_BASE": base} if base else {})
    if allowed:
        linked("openai/gpt-5", environ, local=True)
    else:
        with pytest.raises(ConfigError, match="--local"):
            linked("openai/gpt-5", environ, local=True)
    assert linked(OFFLINE, {}, local=True).endpoint is None


def test_masked_keys() -> None:
    """No part of a key survives in what a provider said."""
    for text in (f"key {SENTINEL_KEY}!", f"key {SENTINEL_KEY[3:14]} bad", f"sk-s****{SENTINEL_KEY[-4:]}", "sk-…seen"):
        cleaned = scrub(text, SENTINEL_KEY)
        assert "[key]" in cleaned
        assert SENTINEL_KEY[-4:] not in cleaned
    assert scrub("an ordinary sentence... really", SENTINEL_KEY) == "an ordinary sentence... really"


def test_one_file_imports_litellm() -> None:
    """litellm is imported in one place, inside a function."""
    importing = []
    for path in (ROOT / "rlm_cli").rglob("*.py"):
        for found in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in found.names] if isinstance(found, ast.Import) else []
            if isinstance(found, ast.ImportFrom) and not found.level:
                names.append(found.module or "")
            if any(name.partition(".")[0] == "litellm" for name in names):
                importing.append((path.name, found.col_offset > 0))
    assert importing == [("litellm.py", True)]


QUIET = """
    import asyncio, os, sys
    seen = []
    def hook(event, arguments):
        if event in ("socket.connect", "socket.getaddrinfo"):
            seen.append(arguments[1] if event == "socket.connect" else arguments[0])
    sys.addaudithook(hook)
    from rlm_cli.call import Message
    from rlm_cli.errors import RlmError
    from rlm_cli.models import connect, warm_up_for
    assert "litellm" not in sys.modules
    async def main():
        way = sys.argv[1]
        model = connect("openai/gpt-4o-mini", models={}, keys={}, environ=os.environ, transport=way)
        warm_up_for([model])(); warm_up_for([model])()
        for _ in range(2):
            try:
                await model.complete([Message("user", "hi")], max_output_tokens=9, sub=False)
            except RlmError as error:
                assert "SENTINEL" not in repr(error)
        await model.close()
        assert ("litellm" in sys.modules) == ("httpx" in sys.modules) == (way == "litellm")
    asyncio.run(main())
    for place in seen:
        host = place[0] if isinstance(place, tuple) else place
        assert host in ("127.0.0.1", "localhost", None), place
    assert seen
"""


def run(code: str, environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    source = textwrap.dedent(code)
    environ = environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", source, *words], capture_output=True, text=True, env=environ, timeout=100
    )


def test_silent_and_alone(way: str) -> None:
    """A process that asks twice, once in vain, prints nothing and connects to nobody but the server."""
    with ScriptedServer(["ok", Reply(f"bad {SENTINEL_KEY}", 500)]) as server:
        done = run(QUIET, server.env, way)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_early_exit_is_silent() -> None:
    """Leaving in the middle of the import prints nothing."""
    done = run("import time\nfrom rlm_cli.models import warm_up\nwarm_up()\ntime.sleep(0.3)", dict(os.environ))
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_offline_needs_no_litellm() -> None:
    """Connecting and warming up for offline/extractive imports nothing heavy."""
    code = """
        import sys
        from rlm_cli.models import connect, warm_up_for
        warm_up_for([connect("offline/extractive", models={}, keys={}, environ={})])()
        assert not {"litellm", "httpx", "aiohttp", "pydantic"} & set(sys.modules)
    """
    done = run(code, dict(os.environ))
    assert (done.stderr, done.returncode) == ("", 0)
