"""What is not paid twice: replies on record across runs, and beginnings that a provider is told to cache."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import stat
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import Rlm
from scripted import SENTINEL_KEY, Reply, ScriptedServer

from rlm_cli import prepare, trace
from rlm_cli.call import Completion, Message, ToolCall
from rlm_cli.cli import app
from rlm_cli.errors import UsageError
from rlm_cli.heads import Head, common, heads
from rlm_cli.ledger import Usage
from rlm_cli.models import OFFLINE, Model, connect, least_cached, on_record
from rlm_cli.models.caching import least_tokens, marked
from rlm_cli.models.recorded import Recorded
from rlm_cli.models.replies import FILE, Replies, Request, standing
from rlm_cli.prepare import Job
from rlm_cli.schema import parse
from rlm_cli.settings import Settings

ASKED = Request("here", (Message("user", "How many?"),), 100)
GOOD = Completion("thirty", usage=Usage(10, 2))
AGAIN = Completion("thirty", cost_usd=0.0, recorded=True)


def block(code: str) -> str:
    return f"I look.\n```repl\n{code}\n```"


def on(path: Path, body: Callable[[Replies], Any], **settings: Any) -> tuple[Any, list[str]]:
    """What `body` returns for the replies in that file, and what was told of it."""
    told: list[str] = []

    async def main() -> Any:
        replies = Replies(path, **({"most_bytes": 1 << 20, "oldest_s": 60.0, "tell": told.append} | settings))
        result = await body(replies)
        await replies.close()
        await asyncio.sleep(0)
        return result

    return asyncio.run(main()), told


def kept(path: Path, completion: Completion = GOOD, asked: Request = ASKED, **settings: Any) -> list[str]:
    async def body(replies: Replies) -> None:
        replies.keep(asked, "openai/x", completion)

    return on(path, body, **settings)[1]


def known(path: Path, asked: Request = ASKED, **settings: Any) -> Completion | None:
    found: Completion | None = on(path, lambda replies: replies.recall(asked), **settings)[0]
    return found


def test_a_reply_is_there_for_the_next_run(tmp_path: Path) -> None:
    """As it was, but it used nothing now; in a file for its owner only; how often it was of use is counted."""
    path = tmp_path / "cache" / FILE
    assert known(path) is None
    kept(path, Completion("thirty", usage=Usage(10, 2), reasoning="hm"))
    assert known(path) == replace(AGAIN, reasoning="hm")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (standing(path).entries, standing(path).hits) == (1, 1)
    assert b"How many" not in path.read_bytes()


def test_once_a_run(tmp_path: Path) -> None:
    """Who asks the same again in one run was not content with the reply: it is asked anew, and the new one kept."""

    async def body(replies: Replies) -> list[Completion | None]:
        first = [await replies.recall(ASKED), await replies.recall(ASKED)]
        replies.keep(ASKED, "openai/x", Completion("forty"))
        return first

    path = tmp_path / FILE
    kept(path)
    assert on(path, body)[0] == [AGAIN, None]
    assert known(path) == replace(AGAIN, text="forty")


def test_another_request_gets_another_reply(tmp_path: Path) -> None:
    """Endpoint and options, words, roles, length, form and sample tell requests apart; marks do not."""
    kept(tmp_path / FILE)
    others = [
        Request("there", ASKED.messages, 100),
        Request("here", (Message("user", "How much?"),), 100),
        Request("here", (Message("system", "How many?"),), 100),
        Request("here", ASKED.messages, 101),
        Request("here", ASKED.messages, 100, parse("n int", "")),
        Request("here", ASKED.messages, 100, sample="0.1"),
    ]

    async def body(replies: Replies) -> list[Completion | None]:
        return [await replies.recall(other) for other in others]

    assert on(tmp_path / FILE, body)[0] == [None] * 6
    assert known(tmp_path / FILE, Request("here", (ASKED.messages[0].kept(),), 100)) is not None


def test_a_model_is_told_by_where_it_is_and_how_it_is_asked() -> None:
    """The same model by another name is the same; another address, model or option is another; a key is none."""

    def identity(secret: str = "k", *options: str, **table: Any) -> str:
        model = connect(
            "fast",
            models={"fast": {"model": "openai/x", "api_base": "http://127.0.0.1:1/v1"} | table},
            keys={},
            environ={"K": secret},
            options=options,
        )
        return str(model._connection.identity)  # type: ignore[attr-defined]

    assert identity() == identity("other", key={"env": "K"}) == identity(window=5_000)
    others = {
        identity(),
        identity("k", "temperature=0.1"),
        identity("k", "sub.seed=1"),
        identity(api_base="http://127.0.0.1:2/v1"),
        identity(api_base="http://127.0.0.1:1/v2"),
        identity(model="openai/y"),
    }
    assert len(others) == 6


def test_what_is_not_kept(tmp_path: Path) -> None:
    """A reply that was cut off or filtered, is empty, calls a function, or holds a key; one to a prompt with a key."""
    path, asking = tmp_path / FILE, Request("here", (Message("user", f"Is {SENTINEL_KEY} safe?"),), 100)
    useless = [
        Completion("thir", "length"),
        Completion("no", "content_filter"),
        Completion(" "),
        Completion("x", calls=(ToolCall("1", "repl", "{}"),)),
        Completion(f"your key is {SENTINEL_KEY}"),
        Completion("x", reasoning=f"the key, {SENTINEL_KEY}"),
    ]

    async def body(replies: Replies) -> None:
        for n, completion in enumerate(useless):
            replies.keep(Request("here", (Message("user", str(n)),), 100), "openai/x", completion)
        replies.keep(asking, "openai/x", GOOD)

    on(path, body, secrets=[SENTINEL_KEY])
    assert not path.exists()


def test_old_replies_are_not_used(tmp_path: Path) -> None:
    """Beyond `cache_age` a reply is asked for anew, and its row goes."""
    kept(tmp_path / FILE)
    assert known(tmp_path / FILE, oldest_s=-1.0) is None
    assert standing(tmp_path / FILE).entries == 0


def test_the_longest_unused_go_first(tmp_path: Path) -> None:
    """The file stays within its size; what was used last is still there."""
    path, many = tmp_path / FILE, [Request("here", (Message("user", str(n)),), 100) for n in range(300)]

    async def fill(replies: Replies) -> None:
        for asked in many:
            replies.keep(asked, "openai/x", Completion("x" * 1_000))

    on(path, fill, most_bytes=1 << 20)
    assert known(path, many[0]) is not None
    on(path, fill_one, most_bytes=200_000)
    there = standing(path)
    assert 50 < there.entries < 200
    assert there.bytes <= 200_000
    assert known(path, many[0]) is not None
    assert known(path, many[1]) is None


async def fill_one(replies: Replies) -> None:
    replies.keep(ASKED, "openai/x", GOOD)


def test_a_damaged_file_is_begun_anew(tmp_path: Path) -> None:
    """It is told, and the run goes on; so does the next one, with a file that works."""
    path = tmp_path / FILE
    path.write_bytes(b"SQLite format 3\0" + b"rubbish" * 1_000)
    [told] = kept(path)
    assert "damaged" in told
    kept(path)
    assert known(path) is not None


def test_a_damaged_page_is_begun_anew(tmp_path: Path) -> None:
    """Damage that shows only when a row is looked for."""
    path = tmp_path / FILE

    async def fill(replies: Replies) -> None:
        for n in range(50):
            asked = Request("here", (Message("user", str(n)),), 100)
            replies.keep(asked, "openai/x", Completion("x" * 2_000))

    on(path, fill)
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    found, told = on(path, lambda replies: replies.recall(ASKED))
    assert found is None
    assert "damaged" in told[0]
    kept(path)
    assert known(path) is not None


def test_no_place_for_a_file(tmp_path: Path) -> None:
    """A folder that cannot be made costs one notice and nothing else."""
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / FILE

    async def body(replies: Replies) -> Completion | None:
        replies.keep(ASKED, "openai/x", GOOD)
        return await replies.recall(ASKED)

    found, told = on(path, body)
    assert found is None
    assert len(told) == 1
    assert "cannot be used" in told[0]


def test_a_full_disk_keeps_nothing_and_reads_on(tmp_path: Path) -> None:
    """What was there is used; what is new is not kept; one notice."""
    path = tmp_path / FILE
    kept(path)

    async def body(replies: Replies) -> list[Completion | None]:
        first = await replies.recall(Request("here", (Message("user", "?"),), 1))
        database = replies._database
        assert database is not None
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        database.execute(f"PRAGMA max_page_count = {pages}")
        replies.keep(Request("here", (Message("user", "big"),), 1), "openai/x", Completion("x" * 100_000))
        return [first, await replies.recall(ASKED)]

    found, told = on(path, body)
    assert found == [None, AGAIN]
    assert ["full" in one for one in told] == [True]


def test_another_process_that_writes_holds_nobody_up(tmp_path: Path) -> None:
    """Readers read while it writes; what cannot be written meanwhile is not kept, without a word."""
    path = tmp_path / FILE
    kept(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:

        async def body(replies: Replies) -> Completion | None:
            replies.keep(Request("there", ASKED.messages, 1), "openai/x", GOOD)
            return await replies.recall(ASKED)

        assert on(path, body) == (AGAIN, [])
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert standing(path).entries == 1


# In a run


def script(*root: str | Reply, sub: Callable[[str], str | Reply] = str.upper) -> Callable[[dict[str, Any]], Any]:
    left = list(root)

    def answer(request: dict[str, Any]) -> str | Reply:
        if request["messages"][0]["role"] == "system":
            return left.pop(0)
        return sub(str(request["messages"][-1]["content"]))

    return answer


BATCH = 'said = llm_query_batched(["a", "b", "a"])\nsaid.append(llm_query("c"))\nprint(said)'
SCRIPT = (block(BATCH), block("print(1)"), block("FINAL(str(said))"))


def asked(rlm: Rlm, server: ScriptedServer, *words: str) -> tuple[dict[str, Any], str]:
    models = f'[models.fast]\nmodel = "openai/scripted"\napi_base = "{server.base_url}"\nprice = {{ input = 1.0, output = 2.0 }}\n'
    (rlm.home / "config.toml").write_text(models)
    (rlm.home / "a.txt").write_text("Acme gives thirty days.\n" * 40)
    env = {"HOME": str(rlm.home), "OPENAI_API_BASE": server.base_url}
    ran = rlm("ask", "--config", "config.toml", "-m", "fast", "--mode", "rlm", "--json", *words, env=env, cwd=rlm.home)
    assert ran.code == 0, ran.err
    result: dict[str, Any] = json.loads(ran.out)
    return result, ran.err


def subs(server: ScriptedServer) -> list[str]:
    return [one.prompt for one in server.requests if one.messages[0]["role"] != "system"]


def test_the_next_run_pays_for_no_sub_call_again(rlm: Rlm) -> None:
    """The same prompts in another run: answered from the record, free, marked in trace, summary and `rlm show`; a
    follow-up uses it too; `--no-cache` asks anew. The root is asked anew in any case, and each of its requests begins with
    the one before."""
    with ScriptedServer(script(*SCRIPT, *SCRIPT, *SCRIPT, block('FINAL(llm_query("d") + llm_query("e"))'))) as server:
        first, _ = asked(rlm, server, "Q?", "a.txt")
        assert sorted(subs(server)) == ["a", "b", "c"]
        assert (first["usage"]["calls"], first["usage"]["calls_from_cache"]) == (6, 0)
        second, err = asked(rlm, server, "Q?", "a.txt")
        assert sorted(subs(server)) == ["a", "b", "c"]
        assert second["answer"] == first["answer"] == "['A', 'B', 'A', 'C']"
        usage = second["usage"]
        assert (usage["calls"], usage["calls_from_cache"]) == (6, 3)
        assert usage["by_model"]["fast"]["calls_from_cache"] == 3
        assert 0 < usage["cost_usd"] < first["usage"]["cost_usd"]
        assert "6 calls · 3 from cache" in err
        third, _ = asked(rlm, server, "--no-cache", "Q?", "a.txt")
        assert sorted(subs(server)) == ["a", "a", "b", "b", "c", "c"]
        assert third["usage"]["calls_from_cache"] == 0
        asked(rlm, server, "-c", "And?")
        assert sorted(subs(server))[-2:] == ["d", "e"]
        roots = [one.messages for one in server.requests if one.messages[0]["role"] == "system"]
    for before, after in pairwise(roots[:3]):
        assert after[: len(before)] == before
    finished = [
        one.event
        for one in trace.read(rlm.state / "runs" / second["run"] / trace.TRACE)
        if one.event.type == "completion.finished"
    ]
    cached = [event for event in finished if event.cached]
    assert [(event.cost_usd, event.usage, event.purpose) for event in cached] == [(0.0, Usage(), "sub")] * 3
    shown = rlm("show", second["run"]).out
    assert shown.count("⟲ cached") == 3
    assert "6 calls · 3 from cache" in shown
    [corpora, replies, _] = json.loads(rlm("cache", "stats", "--json").out)
    assert (corpora["entries"], replies["entries"], replies["hits"]) == (1, 5, 3)
    assert SENTINEL_KEY not in rlm.everything()


def test_caches_are_shown_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`rlm cache`: a line each; `clear` says what went, of one or of all; what is not there is no error."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.stdin", None)
    folder = tmp_path / "rlm"

    def cache(*words: str) -> str:
        assert app.run(["cache", *words]) == 0
        return capsys.readouterr().out

    assert cache("stats").count("empty") == 3
    assert cache("clear") == "nothing is kept\n"
    kept(folder / FILE)
    (folder / "corpora").mkdir()
    (folder / "corpora" / "0f").write_bytes(b"x" * 3_000)
    corpora, replies, texts = json.loads(cache("stats", "--json"))
    assert (corpora["name"], corpora["entries"], corpora["bytes"], corpora["hits"]) == ("corpora", 1, 3_000, None)
    assert (replies["name"], replies["entries"], replies["path"]) == ("replies", 1, str(folder / FILE))
    assert replies["oldest"].endswith("Z")
    assert (texts["name"], texts["entries"], texts["oldest"]) == ("texts", 0, None)
    assert "1 entry · 3 KB" in cache()
    assert cache("clear", "replies").startswith("removed replies (1 entry")
    assert not list(folder.glob("replies*"))
    assert cache("clear", "-y").startswith("removed corpora (1 entry · 3 KB")
    assert json.loads(cache("stats", "--json"))[0]["entries"] == 0
    (folder / FILE).write_bytes(b"rubbish" * 100)
    assert "replies   cannot be read" in cache()
    assert "removed replies" in cache("clear", "replies")
    for words in (["clear", "reply"], ["show"], ["stats", "replies"]):
        with pytest.raises(UsageError):
            app.run(["cache", *words])


def test_where_no_reply_is_kept(tmp_path: Path) -> None:
    """With --no-cache, --no-save, no room; and of a model that sends nothing."""

    def replies(**settings: Any) -> Replies | None:
        job = Job("Q?", (), Settings(model=OFFLINE, **settings), cache=tmp_path)
        return prepare.replies(job, prepare.connect_models(job), print)

    assert replies(no_cache=True) is replies(no_save=True) is replies(cache_size=0) is None
    there, offline = replies(), connect(OFFLINE, models={}, keys={}, environ={})
    assert there is not None
    assert on_record(offline, there) is offline


def test_samples_share_no_reply(rlm: Rlm) -> None:
    """Independent trajectories ask each for itself, and find their own replies again."""
    hand = block('FINAL(llm_query("n"))')
    with ScriptedServer(script(*[hand] * 4)) as server:
        asked(rlm, server, "--samples", "2", "Q?", "a.txt")
        assert len(subs(server)) == 2
        again, _ = asked(rlm, server, "--samples", "2", "Q?", "a.txt")
        assert len(subs(server)) == 2
        assert again["usage"]["calls_from_cache"] == 2


# At a provider that caches what it is told to


def anthropic(text: str, **usage: int) -> Reply:
    """A reply as Anthropic writes it."""
    whole = {"id": "m", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "end_turn"}
    used = {"input_tokens": 10, "output_tokens": 5} | usage
    body = whole | {"content": [{"type": "text", "text": text}], "usage": used}
    return Reply(body=json.dumps(body).encode())


def marks(body: dict[str, Any]) -> list[tuple[str, str]]:
    """Role and text of each block that is marked, in the order in which they are read."""
    blocks = [("system", one) for one in body.get("system") or () if isinstance(one, dict)]
    for message in body["messages"]:
        if isinstance(message["content"], list):
            blocks += [(message["role"], one) for one in message["content"]]
    return [(role, str(one["text"])) for role, one in blocks if "cache_control" in one]


def test_what_is_sent_again_is_marked(rlm: Rlm) -> None:
    """On Anthropic's wire: the root's system prompt and its last message; what the prompts of a batch begin with in
    common, whose first is answered before the others are sent. What was read from and written to the cache is counted
    and priced as such, and shown."""
    head = "Acme gives thirty days. " * 400
    code = 'head = "Acme gives thirty days. " * 400\nsaid = llm_query_batched([head + q for q in ("one?", "two?", "three?")])\nprint(said)'
    root = [block(code), block("FINAL(str(said))")]
    answered: list[str] = []

    def answer(request: dict[str, Any]) -> Reply:
        if request.get("system"):
            return anthropic(root.pop(0), cache_creation_input_tokens=1_000)
        question = str(request["messages"][0]["content"][-1]["text"])
        if question != "one?":
            assert answered == ["one?"]
            return anthropic(question, cache_read_input_tokens=2_000)
        answered.append(question)
        return Reply(body=anthropic(question, cache_creation_input_tokens=2_000).body, delay_s=0.1)

    models = '[models.c]\nmodel = "anthropic/claude-sonnet-4-5"\nprice = { input = 3.0, cached = 0.3, cache_write = 3.75, output = 15.0 }\n'
    (rlm.home / "config.toml").write_text(models)
    (rlm.home / "a.txt").write_text(head)
    with ScriptedServer(answer) as server:
        base = server.base_url.removesuffix("/v1")
        env = {"ANTHROPIC_API_KEY": SENTINEL_KEY, "ANTHROPIC_API_BASE": base, "OPENAI_API_BASE": base}
        words = ("ask", "--config", "config.toml", "-m", "c", "--mode", "rlm", "--json", "Q?", "a.txt")
        ran = rlm(*words, env=env | {"HOME": str(rlm.home)}, cwd=rlm.home)
    assert ran.code == 0, ran.err
    result = json.loads(ran.out)
    assert {one.path for one in server.requests} == {"/v1/messages"}
    first, second = [one.body for one in server.requests if one.body.get("system")]
    assert [role for role, _ in marks(first)] == [role for role, _ in marks(second)] == ["system", "user"]
    assert marks(second)[0] == marks(first)[0]
    assert marks(second)[1][1] == second["messages"][-1]["content"][-1]["text"] != marks(first)[1][1]
    batch = [one.body for one in server.requests if not one.body.get("system")]
    assert [marks(body) for body in batch] == [[("user", head)]] * 3
    assert all("shared" not in json.dumps(one.body) for one in server.requests)
    usage = result["usage"]
    assert (usage["input_tokens"], usage["cached_input_tokens"]) == (50 + 8_000, 4_000)
    assert usage["cost_usd"] == pytest.approx((50 * 3.0 + 4_000 * 3.75 + 4_000 * 0.3 + 25 * 15.0) / 1e6)
    assert "4k of 8k tokens cached" in ran.err or "4k of 8.1k tokens cached" in ran.err, ran.err


def test_marks_are_sent_where_they_are_understood() -> None:
    """Anthropic's models, wherever they run; and from that length on from which they are cached."""
    assert least_tokens("anthropic", "anthropic/claude-sonnet-4-5") == 1_024
    assert least_tokens("anthropic", "anthropic/claude-haiku-4-5") == 4_096
    assert least_tokens("bedrock", "bedrock/anthropic.claude-sonnet-4-5-v1:0") == 1_024
    assert least_tokens("vertex_ai", "vertex_ai/claude-opus-4-6") == 4_096
    assert least_tokens("openrouter", "openrouter/anthropic/claude-sonnet-4.5") == 1_024
    for provider, model in (
        ("openai", "openai/claude"),
        ("openrouter", "openrouter/openai/gpt-6"),
        ("bedrock", "arn:x"),
    ):
        assert least_tokens(provider, f"{provider}/{model}") == 0
    plain = connect("openai/gpt-5.4-mini", models={}, keys={}, environ={"OPENAI_API_KEY": SENTINEL_KEY})
    assert least_cached(plain) == 0


def test_a_mark_splits_a_text_in_two() -> None:
    """After what is shared; nothing empty is sent; what is no text stays as it is."""

    def content(text: str | None, shared: int, least: int = 1_024) -> Any:
        message = Message("user", text or "", shared=shared)
        return marked({"role": "user", "content": text}, message, least)["content"]

    both = content("head tail", 5)
    assert [block["text"] for block in both] == ["head ", "tail"]
    assert ["cache_control" in block for block in both] == [True, False]
    assert [block["text"] for block in content("head tail", 9)] == ["head tail"]
    assert [block["text"] for block in content("head \n", 4)] == ["head \n"]
    for text, shared in (("head", 0), ("  x", 2), (None, 3), ("", 1)):
        assert content(text, shared) == text
    assert content("head tail", 5, 0) == "head tail"


def test_what_prompts_begin_with_in_common() -> None:
    """Groups of a batch, each with its own beginning; the same context; not the same prompt twice."""

    def found(prompts: list[str], contexts: list[str | None] | None = None, least: int = 4) -> list[Head]:
        return heads(prompts, contexts or [None] * len(prompts), len, between=2, least=least)

    none = Head()
    assert found(["aaaa 1", "bbbb 1", "aaaa 2", "c", "bbbb 2"]) == [
        Head(5, 0),
        Head(5, 1),
        Head(5, 0),
        none,
        Head(5, 1),
    ]
    assert found(["aaaa", "aaaa", "bbbb"]) == [none] * 3
    assert found(["one", "two", "one"], ["text", "text", "other"]) == [Head(6, 0), Head(6, 0), none]
    assert found(["one", "two"], ["text", "text"], least=7) == [none] * 2
    assert (common("abc", "abd"), common("", "x"), common("ab", "abc"), common("x", "y")) == (2, 0, 2, 0)


def test_a_recorded_model_is_the_model_behind_it() -> None:
    """What it is said to be, and that it takes no schema after all, is said of the model itself."""
    model = connect("openai/gpt-5.4-mini", models={}, keys={}, environ={"OPENAI_API_KEY": SENTINEL_KEY})
    recorded = on_record(model, Replies(Path("/nonexistent"), most_bytes=1, oldest_s=1.0))
    assert isinstance(recorded, Recorded)
    for name in [name for name in Model.__annotations__ if name != "structured"]:
        assert getattr(recorded, name) == getattr(model, name)
    recorded.structured = False
    assert not model.structured
