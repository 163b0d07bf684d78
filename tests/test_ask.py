"""`rlm ask` end to end: the installed command, real documents, the real sandbox, litellm, HTTP to a scripted server."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import BIN, Rlm
from scripted import SENTINEL_KEY, Reply, ScriptedServer

from rlm_cli import question
from rlm_cli.events import CallStarted
from rlm_cli.prepare import Job
from rlm_cli.settings import Settings
from rlm_cli.trace import Written

Write = Callable[[str, str], Path]
ROOT = Path(__file__).resolve().parent.parent
ACME = "\n".join(
    [f"Clause {n}. Nothing of note." for n in range(1, 40)] + ["Either party may terminate on thirty days' notice."]
)

RESULT_KEYS = set(
    """schema status stop_reason exit_code question answer found citations coverage mode samples usage subcalls limits
    models sandbox run trace started duration_s notices error rlm_version""".split()
)


KEYS = {
    "coverage": {"files", "lines", "truncated_calls"},
    "usage": {
        "calls", "calls_from_cache", "input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens",
        "cost_usd", "cost_known", "cost_estimated_usd", "by_model",
    },
    "subcalls": {"ok", "failed", "retried"},
    "limits": {"max_budget", "max_tokens", "max_depth", "max_iterations", "max_subcalls", "timeout_s"},
    "models": {"root", "sub"},
    "sandbox": {"name", "level", "proved"},
}  # fmt: skip
"""Keys of the objects in the result."""
ENVELOPE = {"v", "run", "seq", "t", "type", "call"}
CARRIED = {
    "run.started": {"question", "sources", "models", "limits", "sandbox", "version", "settings"},
    "corpus.loaded": {"sha256", "files", "chars", "tokens", "excluded", "skipped"},
    "blob": {"sha256", "text"},
    "call.started": {"parent", "depth", "kind", "model", "question", "context_chars"},
    "iteration.started": {"n"},
    "completion.started": {"messages", "purpose", "estimated_input_tokens", "max_output_tokens", "reserved_usd"},
    "completion.finished": {
        "request", "text", "finish_reason", "usage", "cost_usd", "cached", "retries", "duration_s",
    },
    "code.started": {"code"},
    "code.finished": {"stdout", "omitted_chars", "error", "final", "duration_s"},
    "tool.started": {"parent", "depth", "name", "arguments", "omitted_chars"},
    "tool.finished": {"name", "result", "omitted_chars", "error", "printed", "duration_s"},
    "notice": {"code", "message"},
    "limit.reached": {"limit", "value", "max"},
    "call.finished": {"status", "answer", "usage"},
    "citation.checked": {"n", "quote", "located", "matches", "path", "page", "lines"},
    "run.finished": {"result"},
}  # fmt: skip
"""What each event of `rlm.trace/1` carries beside its envelope, at least."""


def block(code: str) -> str:
    return f"I look.\n```repl\n{code}\n```"


def is_root(request: dict[str, Any]) -> bool:
    return str(request["messages"][0]["role"]) == "system"


def script(
    *root: str | Reply, sub: Callable[[str], str | Reply] = lambda prompt: "ok"
) -> Callable[[dict[str, Any]], str | Reply]:
    """Root replies in order, sub-calls by a function of their prompt."""
    replies = list(root)

    def answer(request: dict[str, Any]) -> str | Reply:
        if is_root(request):
            return replies.pop(0)
        return sub(str(request["messages"][-1]["content"]))

    return answer


def ask(rlm: Rlm, server: ScriptedServer, *words: str, **more: Any) -> tuple[int, str, str]:
    ran = rlm(
        "ask", "-m", "openai/scripted", "--max-budget", "none", *words, env=server.env | {"HOME": str(rlm.home)}, **more
    )
    return ran.code, ran.out, ran.err


def result_of(out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out)
    return found


def test_a_question_is_answered_with_a_located_quote(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """The whole way: manifest to the model, code in the REPL, a sub-call, FINAL, a quote with its line on stdout."""
    write("acme.txt", ACME)
    write("birch.txt", "Birch has no such clause.\n")
    replies = script(
        block("hits = [l for l in docs['docs/acme.txt'].lines if 'notice' in l]\nprint(hits)"),
        block(
            "said = llm_query(hits[0] + '\\n\\nHow many days?')\n"
            "FINAL('Thirty days: ' + said + ' [1]', quotes=[('docs/acme.txt', \"on  thirty days' notice\")])"
        ),
        sub=lambda prompt: "30",
    )
    with ScriptedServer(replies) as server:
        code, out, err = ask(rlm, server, "--mode", "rlm", "How long is the notice?", "docs", cwd=tmp_path)
    assert (code, err.count("complete")) == (0, 1), err
    assert out == "Thirty days: 30 [1]\n\n[1] docs/acme.txt:40  “on thirty days' notice”\n"
    manifest = server.requests[0].prompt
    assert "docs/acme.txt" in manifest
    assert 'original query: "How long is the notice?"' in manifest


def test_json_has_every_key(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """`--json` is one object with the keys of rlm.result/1, and the trace ends with the same object."""
    write("a.txt", ACME)
    final = block('FINAL("x [1]", quotes=["thirty days", "nowhere at all"])')
    with ScriptedServer(script(final, final)) as server:
        code, out, _ = ask(rlm, server, "--mode", "rlm", "--json", "Q?", "docs/a.txt", cwd=tmp_path)
    result = result_of(out)
    assert set(result) == RESULT_KEYS
    assert (code, result["exit_code"], result["status"], result["answer"]) == (0, 0, "complete", "x [1]")
    assert [c["located"] for c in result["citations"]] == ["exact", "no"]
    assert result["citations"][0]["lines"] == [40, 40]
    assert set(result["citations"][1]) == {"n", "path", "page", "lines", "quote", "located", "difference", "matches"}
    assert {name: set(result[name]) for name in KEYS} == KEYS
    assert set(result["coverage"]["files"]) == {"total", "read", "seen_by_model", "excluded", "skipped"}
    assert set(result["coverage"]["lines"]) == {"total", "seen_by_model"}
    assert set(result["usage"]["by_model"]["openai/scripted"]) >= {"calls", "input_tokens", "output_tokens", "cost_usd"}
    assert result["usage"]["cost_usd"] is None
    assert result["usage"]["cost_known"] is False
    assert (result["sandbox"]["name"], result["sandbox"]["level"]) == ("process", "linux-strict")
    trace = [json.loads(line) for line in Path(result["trace"]).read_text().splitlines()]
    assert trace[-1]["type"] == "run.finished"
    assert trace[-1]["result"] == result
    assert [event["seq"] for event in trace] == list(range(len(trace)))
    assert json.loads((Path(result["trace"]).parent / "result.json").read_text()) == result


def test_an_answer_that_was_reached_is_kept(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """A quote that is not there comes back to the model; when it cannot be asked any more, its answer stands."""
    write("a.txt", ACME)
    final = block('FINAL("x [1]", quotes=["thirty weeks of notice"])')
    with ScriptedServer(script(final, Reply("no", status=400))) as server:
        code, out, err = ask(rlm, server, "--mode", "rlm", "Q?", "docs/a.txt", cwd=tmp_path)
    assert (code, out) == (0, "x [1]\n\n[1] not found in the documents  “thirty weeks of notice”\n")
    assert "quote 1: “thirty weeks of notice”" in server.requests[1].prompt
    assert "before the model failed" in err


def test_jsonl_streams_the_trace(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """`--jsonl` prints every event of the trace; the last line holds the result."""
    write("a.txt", ACME)
    with ScriptedServer(script(block("print(1)"), block("FINAL(7)"))) as server:
        code, out, _ = ask(rlm, server, "--mode", "rlm", "--jsonl", "--trace", "copy.jsonl", "Q?", "docs", cwd=tmp_path)
    lines = out.splitlines()
    events = [json.loads(line) for line in lines]
    assert code == 0
    assert events[-1]["result"]["answer"] == "7"
    kinds = [event["type"] for event in events if event["type"] != "blob"]
    assert kinds[:4] == ["run.started", "corpus.loaded", "call.started", "iteration.started"]
    assert kinds[-2:] == ["call.finished", "run.finished"]
    assert (tmp_path / "copy.jsonl").read_text().splitlines() == lines


def test_every_event_and_every_notice(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """One eventful run: each type of event carries what the contract says, and what a user should know is noticed."""
    write("a.txt", ACME)
    replies = script(
        block("import os\nos._exit(1)"),
        block("print(twice('a tool'), llm_query('cut me', context[:300]))\nllm_query('one too many')"),
        block("FINAL('Part [1] [9]', quotes=[\"thirty days' notice\"])"),
        sub=lambda prompt: Reply("some words", finish_reason="length"),
    )
    config = tmp_path / "config.toml"
    config.write_text('subcall_models = ["openai/third"]\ntool = ["tools.py"]\n')
    (tmp_path / "tools.py").write_text("def twice(x): return x + x\n")
    with ScriptedServer(replies) as server:
        ran = rlm(
            "ask", "--config", str(config), "-m", "openai/scripted", "-M", "openai/other", "--option", "temperature=0.5",
            "--option", "sub.seed=7", "--sandbox", "none", "--max-subcalls", "1", "--mode", "rlm", "--jsonl", "Q?", "docs",
            env=server.env | {"HOME": str(rlm.home)}, cwd=tmp_path,
        )  # fmt: skip
    events = [json.loads(line) for line in ran.out.splitlines()]
    assert {event["type"] for event in events} == set(CARRIED)
    for event in events:
        assert set(event) >= ENVELOPE | CARRIED[event["type"]], event["type"]
    result = events[-1]["result"]
    assert (ran.code, result["status"], result["stop_reason"]) == (6, "partial", "max_subcalls")
    assert {notice["code"] for notice in result["notices"]} == {
        "price_unknown", "sandbox_weak", "repl_replaced", "reply_cut", "citation_missing", "tools_outside",
    }  # fmt: skip
    assert result["coverage"]["truncated_calls"] == 1
    sent = [
        (request.body["model"], request.body.get("temperature"), request.body.get("seed"))
        for request in server.requests
    ]
    assert sent[0] == ("scripted", 0.5, None)
    assert sent[2] == ("other", 0.5, 7)
    assert "[9], for which no quote was given" in ran.err


def test_a_text_too_long_for_direct_mode(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """Said with both sizes before any call: exit 2."""
    write("a.txt", "A line of some forty characters, as lines are.\n" * 5_000)
    with ScriptedServer([]) as server:
        code, out, err = ask(rlm, server, "--mode", "direct", "Q?", "docs", cwd=tmp_path)
    assert (code, out, server.requests) == (2, "", [])
    assert "about 67," in err
    assert "28,672" in err


def test_an_empty_reply_is_no_answer(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """In direct mode too: it is asked for again, and three in a row are the provider's failure, not "not found"."""
    write("a.txt", "short")
    empty: list[Reply | str] = ["", Reply(None), "<think>hm</think>"]
    with ScriptedServer([*empty[:2], "Fine."]) as server:
        assert ask(rlm, server, "Q?", "docs", cwd=tmp_path)[:2] == (0, "Fine.\n")
    with ScriptedServer(empty) as server:
        code, out, err = ask(rlm, server, "Q?", "docs", cwd=tmp_path)
    assert (code, out) == (5, "")
    assert "empty reply" in err


def test_a_system_without_walls_is_refused(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """Where the kernel will not install a filter the REPL is not started: exit 7, what is missing, the line to copy."""
    write("a.txt", ACME)
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("without.py")), "seccomp", str(BIN), "ask", "-m", "offline/extractive",
         "--mode", "rlm", "--json", "Q?", "docs"],
        cwd=tmp_path, env=rlm.environ(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    result = result_of(done.stdout)
    assert (done.returncode, result["exit_code"], result["error"]["code"]) == (7, 7, "sandbox")
    assert result["question"] == "Q?"
    assert result["sandbox"] == {"name": "process", "level": None, "proved": []}
    assert "seccomp" in done.stderr
    assert "--sandbox container, or --sandbox soft" in done.stderr


def test_a_short_text_is_answered_in_one_call(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """Mode auto asks once with the whole text, question after it, and says so."""
    write("a.txt", "The notice period is thirty days.\n")
    with ScriptedServer(["Thirty days [1].\n> The notice period is thirty days."]) as server:
        code, out, err = ask(rlm, server, "How long?", "docs/a.txt", cwd=tmp_path)
    assert (code, out) == (0, "Thirty days [1].\n\n[1] docs/a.txt:1  “The notice period is thirty days.”\n")
    assert "one call" in err
    assert server.requests[0].prompt.rstrip().endswith("Question: How long?")


def test_not_found_is_no_error(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """FINAL(None): exit 0, status not_found."""
    write("a.txt", "Nothing here.\n")
    with ScriptedServer(["NOT FOUND"]) as server:
        code, out, _ = ask(rlm, server, "--json", "How long?", "docs/a.txt", cwd=tmp_path)
    result = result_of(out)
    assert (code, result["status"], result["answer"], result["found"]) == (0, "not_found", None, False)


def call_of(code: str, id: str, **message: Any) -> Reply:
    called = {"id": id, "type": "function", "function": {"name": "repl", "arguments": json.dumps({"code": code})}}
    return Reply("I look.", message={"tool_calls": [called]} | message, finish_reason="tool_calls")


@pytest.mark.parametrize("protocol", ["tools", "auto", "text"])
def test_the_repl_as_a_function(rlm: Rlm, write: Write, tmp_path: Path, protocol: str) -> None:
    """Offered or called unasked: the same answer, the same events, and all of it in the trace; sub-calls get none."""
    write("acme.txt", ACME)
    replies = script(
        call_of("n = llm_query('how many?')\nprint(n)", "c1"),
        call_of("FINAL(n + ' days [1]', quotes=[\"on thirty days' notice\"])", "c2"),
        sub=lambda prompt: "<think>hm</think>30",
    )
    trace = tmp_path / "trace.jsonl"
    with ScriptedServer(replies) as server:
        server_env = server.env | {"HOME": str(rlm.home), "RLM_PROTOCOL": protocol}
        ran = rlm(
            "ask", "-m", "openai/scripted", "-b", "none", "--mode", "rlm", "--trace", str(trace), "How long?", "docs",
            env=server_env, cwd=tmp_path,
        )  # fmt: skip
        offered = [bool(request.body.get("tools")) for request in server.requests]
        history = server.requests[2].messages
    assert (ran.code, ran.out.splitlines()[0]) == (0, "30 days [1]"), ran.err
    assert offered == {"tools": [True, False, True], "auto": [False, False, True], "text": [False] * 3}[protocol]
    assert history[-1]["role"] == ("user" if protocol == "text" else "tool")
    events = [json.loads(line) for line in trace.read_text().splitlines()]
    finished = [event for event in events if event["type"] == "completion.finished"]
    assert [call["id"] for event in finished for call in event["calls"]] == ["c1", "c2"]
    assert [event["reasoning"] for event in finished] == ["", "hm", ""]
    asked = [event for event in events if event["type"] == "completion.started"][-1]["messages"]
    assert [message["role"] for message in asked] == [message["role"] for message in history]
    assert ("tools" in asked[0], "calls" in asked[-2]) == (protocol != "text",) * 2
    kinds = [event["type"] for event in events if event["type"] != "blob"]
    assert kinds.count("code.started") == kinds.count("iteration.started") == 2


def test_reasoning_is_shown_and_never_the_answer(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """With -v it is on stderr, of the root and not of sub-calls; the answer is what is said after it."""
    write("acme.txt", ACME)
    usage = {"prompt_tokens": 9, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 7}}
    reply = Reply("<think>The clause says so.</think>Thirty days.", usage=usage, message={"reasoning_content": "Hm."})
    with ScriptedServer([reply]) as server:
        code, out, err = ask(rlm, server, "-v", "--json", "How long?", "docs", cwd=tmp_path)
    result = result_of(out)
    assert (code, result["answer"], result["usage"]["reasoning_tokens"]) == (0, "Thirty days.", 7)
    assert "0 reasoning\n  Hm.\n  The clause says so.\n" in err


def test_a_refusal_is_said_and_is_no_answer(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """In one call or in the REPL: exit 5, nothing on stdout, the model's own words on stderr."""
    write("acme.txt", ACME)
    no = "I'm sorry, but I can't help with that."
    for mode, replies in (("direct", [no]), ("rlm", [no, no])):
        with ScriptedServer(replies) as server:
            code, out, err = ask(rlm, server, "--mode", mode, "How long?", "docs", cwd=tmp_path)
        assert (code, out) == (5, ""), err
        assert "refused to answer" in err
        assert "can't help with that" in err


def test_stdin_is_read_when_piped(rlm: Rlm) -> None:
    """`journalctl | rlm ask …`: no source, lines are cited as -:N."""
    with ScriptedServer(["At noon [1].\n> error at noon"]) as server:
        code, out, _ = ask(rlm, server, "When?", stdin="fine\nerror at noon\nfine\n")
    assert (code, out) == (0, "At noon [1].\n\n[1] -:2  “error at noon”\n")


def test_batches_run_concurrently_and_in_order(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """llm_query_batched: results in order, -j requests in flight."""
    write("a.txt", ACME)
    code_ = "FINAL(' '.join(llm_query_batched([f'n{i}' for i in range(12)])))"

    def sub(prompt: str) -> Reply:
        return Reply(prompt.upper(), delay_s=0.5)

    with ScriptedServer(script(block(code_), sub=sub)) as server:
        code, out, _ = ask(rlm, server, "--mode", "rlm", "-j", "6", "Q?", "docs", cwd=tmp_path)
    assert (code, out.split()) == (0, [f"N{i}" for i in range(12)])
    assert server.most_in_flight == 6


def test_a_failed_subcall_raises_in_the_repl(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """A failure never becomes answer text: it is an exception with the results that came."""
    write("a.txt", ACME)
    code_ = (
        "try:\n    llm_query_batched(['good', 'bad'])\nexcept Exception as e:\n"
        "    FINAL([type(e).__name__, e.results[0]])"
    )

    def sub(prompt: str) -> str | Reply:
        return Reply("context too odd", status=400) if prompt == "bad" else prompt

    with ScriptedServer(script(block(code_), sub=sub)) as server:
        _, out, _ = ask(rlm, server, "--mode", "rlm", "--json", "Q?", "docs", cwd=tmp_path)
    result = result_of(out)
    assert json.loads(result["answer"]) == ["SubcallError", "good"]
    assert result["subcalls"] == {"ok": 1, "failed": 1, "retried": 0}


def test_an_identical_prompt_is_asked_once(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """In one batch, in a later one, with a slice as context: one request, counted once; a failed one is asked again."""
    write("a.txt", ACME)
    code_ = (
        "first = llm_query_batched(['a', 'b', 'a', 'a'])\nagain = [llm_query('b'), llm_query('who?', context[:40])]\n"
        "again.append(llm_query('who?', context[0:40]))\n"
        "for n in range(2):\n    try:\n        llm_query('bad')\n    except SubcallError:\n        pass\n"
        "FINAL(first + again)"
    )
    asked: list[str] = []

    def sub(prompt: str) -> str | Reply:
        asked.append(prompt)
        return Reply("no", status=400) if prompt == "bad" else f"{prompt[-4:]} {len(asked)}"

    with ScriptedServer(script(block(code_), sub=sub)) as server:
        _, out, err = ask(rlm, server, "--mode", "rlm", "-j", "1", "--json", "Q?", "docs", cwd=tmp_path)
    result = result_of(out)
    assert json.loads(result["answer"]) == ["a 1", "b 2", "a 1", "a 1", "b 2", "who? 3", "who? 3"], err
    assert (len(asked), result["subcalls"]) == (5, {"ok": 3, "failed": 2, "retried": 0})


def test_asking_again_pays_for_what_failed(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """Three of two hundred fail: 197 results are on the exception, and the same batch again costs three requests."""
    write("a.txt", ACME)
    code_ = (
        "prompts = [f'part {n}' for n in range(200)]\n"
        "try:\n    llm_query_batched(prompts)\nexcept SubcallError as error:\n"
        "    came = [r for r in error.results if isinstance(r, str)]\n    print(str(error)[:60])\n"
        "FINAL([len(came), len(_results), len(llm_query_batched(prompts))])"
    )
    failed: set[str] = set()

    def sub(prompt: str) -> str | Reply:
        if prompt in ("part 7", "part 77", "part 177") and prompt not in failed:
            failed.add(prompt)
            return Reply("no", status=400)
        return "fine"

    with ScriptedServer(script(block(code_), sub=sub)) as server:
        _, out, err = ask(rlm, server, "--mode", "rlm", "--max-subcalls", "203", "--json", "Q?", "docs", cwd=tmp_path)
    result = result_of(out)
    assert json.loads(result["answer"]) == [197, 200, 200], err
    assert (len(server.requests), result["status"]) == (1 + 200 + 3, "complete")


def test_many_thin_prompts_draw_one_advice(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """More than fifty small prompts: the model hears once, in numbers, what one prompt may have."""
    write("a.txt", ACME)
    batch = "x = llm_query_batched([f'{n} of {size}' for n in range(60)])\nprint(len(x))"
    replies = script(block("size = 1\n" + batch), block("size = 2\n" + batch), block("FINAL('done')"))
    with ScriptedServer(replies) as server:
        code, _, err = ask(rlm, server, "--mode", "rlm", "Q?", "docs", cwd=tmp_path)
    assert code == 0, err
    heard = [request.prompt for request in server.requests if is_root(request.body)]
    assert re.search(r"That batch had 60 prompts of 7 characters \(median\). One prompt may have \d+,000:", heard[1])
    assert "That batch had" not in heard[2]


def test_recursion_gives_children_a_repl_of_their_own(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """rlm_query at --max-depth 2: the child sees its slice only, and fan-out with one slot does not deadlock."""
    write("a.txt", ACME)

    def answer(request: dict[str, Any]) -> str:
        text = str(request["messages"][1]["content"]) if is_root(request) else ""
        if 'original query: "Q?"' in text:
            return block("FINAL(rlm_query_batched(['count', 'count'], [context[:100], context[:50]]))")
        if 'original query: "count"' in text:
            return block("FINAL(llm_query(str(len(context.rstrip()))))")
        return str(request["messages"][-1]["content"]) + "!"

    with ScriptedServer(answer) as server:
        code, out, err = ask(
            rlm, server, "--mode", "rlm", "--max-depth", "2", "-j", "1", "--json", "Q?", "docs/a.txt", cwd=tmp_path
        )
    assert code == 0, err
    result = result_of(out)
    assert json.loads(result["answer"]) == ["100!", "50!"]
    starts = [json.loads(line) for line in Path(result["trace"]).read_text().splitlines()]
    calls = {(e["call"], e["kind"]) for e in starts if e["type"] == "call.started"}
    assert calls == {("0", "root"), ("0.1", "rlm"), ("0.2", "rlm"), ("0.1.1", "llm"), ("0.2.1", "llm")}


def test_three_levels_of_five_end_in_order(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """--max-depth 3: a root, five children, twenty-five grandchildren with a REPL each, their sub-calls, one budget; the
    tree is whole and every call is closed before its parent."""
    write("a.txt", ACME)

    def answer(request: dict[str, Any]) -> str:
        if not is_root(request):
            return "1"
        asked = re.findall(r'original query: "(.*?)"', str(request["messages"][1]["content"]))[-1]
        below = {"Q?": "rlm", "level 1": "rlm", "level 2": "llm"}[asked.partition(":")[0]]
        level = 1 if asked == "Q?" else 2
        return block(
            f"said = {below}_query_batched([f'level {level}: {{n}} of {asked.replace(':', '')}' for n in range(5)])\n"
            "FINAL(sum(int(n) for n in said))"
        )

    with ScriptedServer(answer) as server:
        code, out, err = ask(rlm, server, "--mode", "rlm", "--max-depth", "3", "--json", "Q?", "docs", cwd=tmp_path)
    result = result_of(out)
    assert (code, result["answer"], result["status"]) == (0, "125", "complete"), err
    assert result["subcalls"] == {"ok": 5 + 25 + 125, "failed": 0, "retried": 0}
    events = [json.loads(line) for line in Path(result["trace"]).read_text(encoding="utf-8").splitlines()]
    started = {e["call"]: e for e in events if e["type"] == "call.started"}
    ended = {e["call"]: e["seq"] for e in events if e["type"] == "call.finished"}
    assert started.keys() == ended.keys()
    assert sorted(c.count(".") for c in started) == [0] + [1] * 5 + [2] * 25 + [3] * 125
    for address, event in started.items():
        assert event["depth"] == address.count(".")
        assert event["parent"] is None or (
            ended[address] < ended[event["parent"]] and address.startswith(event["parent"])
        )


def test_many_children_share_what_there_is_to_open(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """Contexts that are no slices become files; they are made one after the other, as children get their turn."""
    write("a.txt", ACME)

    def answer(request: dict[str, Any]) -> str:
        if 'original query: "Q?"' in str(request["messages"][1]["content"]):
            return block(
                "import json\ntexts = ['', 'ab', ['a', 'bc'], None] + ['x' * n for n in range(60)]\n"
                "FINAL([int(n) for n in rlm_query_batched(['count'] * len(texts), texts)])"
            )
        return block("FINAL(sum(d.chars for d in docs))")

    with ScriptedServer(answer) as server:
        command = [
            "sh", "-c", 'ulimit -n 64; exec "$0" "$@"', str(BIN), "ask", "-m", "openai/scripted", "--max-budget", "none",
            "--mode", "rlm", "--max-depth", "2", "-j", "4", "--json", "Q?", "docs",
        ]  # fmt: skip
        env = rlm.environ(server.env | {"HOME": str(rlm.home)})
        ran = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, timeout=60, check=False, text=True)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(result_of(ran.stdout)["answer"]) == [0, 3, 5, 6, 0, *(n + 1 for n in range(1, 60))]


def test_a_limit_that_a_child_met_is_told(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """Where a grandchild was refused, the answer is partial, however its parents made do."""
    write("a.txt", ACME)

    def answer(request: dict[str, Any]) -> str:
        if 'original query: "Q?"' in str(request["messages"][1]["content"]):
            return block("FINAL(rlm_query('count', context[:50]))")
        if "The work ends here" in str(request["messages"][-1]["content"]):
            return block("FINAL('some')")
        return block("llm_query('a')")

    with ScriptedServer(answer) as server:
        code, out, err = ask(
            rlm,
            server,
            "--mode",
            "rlm",
            "--max-depth",
            "2",
            "--max-subcalls",
            "1",
            "--json",
            "Q?",
            "docs",
            cwd=tmp_path,
        )
    result = result_of(out)
    assert (code, result["status"], result["stop_reason"]) == (6, "partial", "max_subcalls"), err
    assert result["answer"].endswith("some")


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--max-subcalls", "1"], "max_subcalls"),
        (["--max-iterations", "1"], "max_iterations"),
        (["--max-tokens", "30000"], "max_tokens"),
    ],
)
def test_limits_land_with_a_partial_answer(
    rlm: Rlm, write: Write, tmp_path: Path, flags: list[str], reason: str
) -> None:
    """A limit ends in a partial answer on stdout, exit 6, its quotes kept; --on-limit fail leaves stdout empty."""
    write("a.txt", ACME)

    def answer(request: dict[str, Any]) -> str:
        if not is_root(request):
            return "seen " * 200
        if "The work ends here" in str(request["messages"][-1]["content"]):
            return block('FINAL("Part [1]", quotes=["thirty days"])')
        n = len(request["messages"])
        return block(f"x = llm_query('a{n}')\ny = llm_query('b{n}')\nprint(x, y)")

    for on_limit in ("answer", "fail"):
        with ScriptedServer(answer) as server:
            code, out, err = ask(
                rlm, server, "--mode", "rlm", *flags, "--on-limit", on_limit, "--json", "Q?", "docs", cwd=tmp_path
            )
        result = result_of(out)
        assert (code, result["exit_code"], result["status"]) == (6, 6, "partial"), err
        assert result["stop_reason"] == reason
        assert result["answer"] == ("Part [1]" if on_limit == "answer" else None)
        assert (result["error"] is None) == (on_limit == "answer")


@pytest.mark.parametrize(
    ("flags", "reason", "why"),
    [
        (["--max-tokens", "4000"], "max_tokens", "of 4,000"),
        (["--max-iterations", "1"], "max_iterations", "the limit of 1 iteration is reached"),
    ],
)
def test_no_answer_within_the_limits_is_explained(
    rlm: Rlm, write: Write, tmp_path: Path, flags: list[str], reason: str, why: str
) -> None:
    """Nothing to print: exit 6, and stderr says which limit, however quiet; so does --json."""
    write("a.txt", ACME)

    def answer(request: dict[str, Any]) -> str:
        return "NOT FOUND" if "No more code runs" in str(request["messages"][-1]["content"]) else block("x = 1")

    for form in ("-q", "--json"):
        with ScriptedServer(answer) as server:
            code, out, err = ask(rlm, server, "--mode", "rlm", *flags, form, "Q?", "docs", cwd=tmp_path)
        assert code == 6, err
        assert "no answer was found within the limits" in err
        assert why in err
        if form == "--json":
            result = result_of(out)
            assert (result["status"], result["stop_reason"], result["error"]["code"]) == ("partial", reason, "limit")
        else:
            assert out == ""


def test_what_cannot_be_asked_costs_nothing(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """An empty prompt, a prompt too long for a child: an error in the REPL, no request."""
    write("a.txt", ACME)
    tried = (
        "said = []\nfor ask in (lambda: llm_query('  '), lambda: rlm_query('x' * 2_000_000, context[:50])):\n"
        "    try:\n        ask()\n    except SubcallError as error:\n        said.append(str(error))\nFINAL(said)"
    )
    with ScriptedServer([block(tried)]) as server:
        code, out, err = ask(rlm, server, "--mode", "rlm", "--max-depth", "2", "--json", "Q?", "docs", cwd=tmp_path)
    result = result_of(out)
    said = json.loads(result["answer"])
    assert code == 0, err
    assert "the prompt is empty" in said[0]
    assert "pass text as context=" in said[1]
    assert (result["usage"]["calls"], result["subcalls"]["failed"]) == (1, 1)


def test_a_question_must_fit_the_window(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """A question that fills the window, a window too small for a REPL: usage errors, before any request, in the plan too."""
    write("a.txt", ACME)
    (tmp_path / "q.txt").write_text("Which of these? " * 200_000, encoding="utf-8")
    small = tmp_path / "small.toml"
    small.write_text('[models.small]\nmodel = "openai/scripted"\nwindow = 4096\n', encoding="utf-8")
    for words, told in (
        (("-m", "openai/scripted", "-f", "q.txt", "docs"), "the question is too long for openai/scripted"),
        (("--config", str(small), "-m", "small", "Q?", "docs"), "the window of small is too small"),
    ):
        for more in ((), ("-n",)):
            with ScriptedServer([]) as server:
                environ = server.env | {"HOME": str(rlm.home)}
                del environ["RLM_NO_CONFIG"]
                ran = rlm("ask", "--mode", "rlm", *more, *words, env=environ, cwd=tmp_path)
            assert (ran.code, ran.out) == (2, "")
            assert told in ran.err


def test_connections_are_reused_near_the_time_limit(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """The time that is left differs with every request; the connections stay the same few."""
    write("a.txt", ACME)
    code_ = "for n in range(12):\n    llm_query_batched([f'{n} {k}' for k in range(4)])\nFINAL('done')"
    with ScriptedServer(script(block(code_))) as server:
        code, out, err = ask(rlm, server, "--mode", "rlm", "--timeout", "60s", "-j", "4", "Q?", "docs", cwd=tmp_path)
        assert (code, out) == (0, "done\n"), err
        assert len(server.requests) == 49
        assert server.connections <= 8


def test_the_time_limit_lands_too(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """--timeout: a slow sub-call is cut, the landing has its own time, exit 6."""
    write("a.txt", ACME)

    def answer(request: dict[str, Any]) -> str | Reply:
        if not is_root(request):
            return Reply("late", delay_s=30)
        if "The work ends here" in str(request["messages"][-1]["content"]):
            return block('FINAL("In time")')
        return block("print(llm_query('a'))")

    with ScriptedServer(answer) as server:
        code, out, err = ask(rlm, server, "--mode", "rlm", "--timeout", "12s", "Q?", "docs", cwd=tmp_path)
    assert (code, out) == (6, "In time\n"), err
    assert "timeout" in err


def test_a_pipe_that_never_ends_is_asked_about(rlm: Rlm) -> None:
    """As of `journalctl -f`: it is cut, which is said, and the question is answered from what came until then."""
    command = [str(BIN), "ask", "-m", "openai/scripted", "-b", "none", "--json", "Q?"]
    with ScriptedServer(["It is one line [1].\n> one line"]) as server:
        env = rlm.environ(server.env | {"HOME": str(rlm.home), "RLM_STDIN_LIMIT": "9"})
        with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
            assert running.stdin is not None
            assert running.stdout is not None
            running.stdin.write("one line\nand another\n")
            running.stdin.flush()  # and it is not closed
            result = result_of(running.stdout.read())
            assert running.wait(timeout=20) == 0
    assert (result["status"], result["answer"]) == ("complete", "It is one line [1].")
    assert "stdin was cut after 9 bytes" in str(result["notices"])
    assert len(server.requests) == 1


def test_the_budget_holds_over_the_whole_tree(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """With a price from the configuration the cap is never exceeded, and the landing fits under it."""
    write("a.txt", ACME)

    def answer(request: dict[str, Any]) -> str | Reply:
        usage = {"prompt_tokens": 2_000, "completion_tokens": 500, "total_tokens": 2_500}
        if not is_root(request):
            return Reply("seen", usage=usage)
        if "The work ends here" in str(request["messages"][-1]["content"]):
            return Reply(block('FINAL("Part")'), usage=usage)
        return Reply(block("for i in range(50):\n    llm_query(str(i))"), usage=usage)

    with ScriptedServer(answer) as server:
        config = tmp_path / "config.toml"
        config.write_text(
            f'[models.mine]\nmodel = "openai/scripted"\napi_base = "{server.base_url}"\n'
            "window = 64000\nmax_output = 2000\nprice = { input = 1.0, output = 10.0 }\n[keys]\nmine = { env = 'MY_KEY' }\n"
        )
        ran = rlm(
            "ask", "--config", str(config), "-m", "mine", "-b", "0.20", "--mode", "rlm", "--json", "Q?", "docs",
            env={"MY_KEY": SENTINEL_KEY}, cwd=tmp_path,
        )  # fmt: skip
    result = result_of(ran.out)
    assert (ran.code, result["stop_reason"], result["answer"]) == (6, "max_budget", "Part"), ran.err
    assert 0.1 < result["usage"]["cost_usd"] <= 0.20
    assert result["usage"]["cost_known"] is True


def test_what_was_cut_short_counts_at_its_ceiling(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """A request without a reply in time may be billed: it counts whole, is marked as an estimate, and is tried again."""
    write("a.txt", "short")
    replies = [Reply("late", delay_s=5), Reply("Fine.", usage={"prompt_tokens": 100, "completion_tokens": 10})]
    with ScriptedServer(replies) as server:
        config = tmp_path / "config.toml"
        config.write_text(
            f'request_timeout = "2s"\n[models.mine]\nmodel = "openai/scripted"\napi_base = "{server.base_url}"\n'
            "window = 64000\nmax_output = 2000\nprice = { input = 1.0, output = 10.0 }\n"
        )
        ran = rlm("ask", "--config", str(config), "-m", "mine", "--json", "Q?", "docs", cwd=tmp_path)
    usage = result_of(ran.out)["usage"]
    assert (ran.code, usage["calls"]) == (0, 1), ran.err
    assert 0.02 < usage["cost_estimated_usd"] < 0.03  # 2,000 tokens of output and the prompt
    assert usage["cost_usd"] == pytest.approx(usage["cost_estimated_usd"] + 0.0002)
    assert "≤ $0.0" in ran.err


def test_what_cannot_work_fails_before_any_call(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """Nothing readable is 4, a missing key 3, no source 2; stdout stays empty and no request is made."""
    write("empty.txt", "")
    with ScriptedServer([]) as server:
        code, out, err = ask(rlm, server, "Q?", "docs", cwd=tmp_path)
        assert (code, out) == (4, "")
        assert "nothing to read" in err
        code, out, err = ask(rlm, server, "Q?")
        assert (code, out) == (2, "")
        ran = rlm("ask", "-m", "anthropic/claude-opus-4-5", "Q?", "docs", cwd=tmp_path)
        assert (ran.code, ran.out) == (3, "")
        assert "ANTHROPIC_API_KEY" in ran.err
        assert server.requests == []


@pytest.mark.parametrize(("status", "exit_code"), [(401, 3), (404, 3), (400, 5)])
def test_provider_errors_have_their_exit_codes(
    rlm: Rlm, write: Write, tmp_path: Path, status: int, exit_code: int
) -> None:
    """A wrong key ends the run at once with 3, another refusal with 5; the key shows up nowhere."""
    write("a.txt", ACME)
    with ScriptedServer(lambda request: Reply(f"bad key {SENTINEL_KEY}", status=status)) as server:
        code, out, err = ask(rlm, server, "--mode", "rlm", "Q?", "docs", cwd=tmp_path)
    assert (code, out) == (exit_code, ""), err
    assert len(server.requests) == 1
    assert "Traceback" not in err
    assert SENTINEL_KEY not in err + rlm.everything()


def test_rate_limits_are_waited_out(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """429 with Retry-After is retried after that time, of root and sub-call alike; the sub-call's is counted."""
    write("a.txt", ACME)
    busy = Reply("slow down", status=429, headers={"Retry-After": "1"})
    replies: list[Reply | str] = [busy, block("FINAL(llm_query('a'))"), busy, "Fine."]
    with ScriptedServer(replies) as server:
        code, out, err = ask(rlm, server, "--mode", "rlm", "--json", "Q?", "docs", cwd=tmp_path)
    result = result_of(out)
    assert (code, result["answer"], result["subcalls"]) == (0, "Fine.", {"ok": 1, "failed": 0, "retried": 1})
    for first in (0, 2):
        assert server.requests[first + 1].at - server.requests[first].at >= 1
    assert "waiting 1 s" in err


def test_the_key_is_nowhere(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """Not in outputs, not in the trace, not in the REPL."""
    write("a.txt", ACME)
    look = block("import os\nprint(dict(os.environ))\nprint([k for k in globals()])\nFINAL('seen ' + docs[0].path)")
    with ScriptedServer(script(look)) as server:
        code, out, err = ask(rlm, server, "--mode", "rlm", "-v", "Q?", "docs", cwd=tmp_path)
    assert code == 0, err
    assert SENTINEL_KEY not in out + err + rlm.everything()
    assert server.requests[0].headers["authorization"].endswith(SENTINEL_KEY)


def test_control_characters_never_reach_the_terminal(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """Escape sequences of documents and models are removed from both streams."""
    write("a.txt", "evil \x1b]52;c;aGk=\x07 title \x1b]0;owned\x07 text\n")
    with ScriptedServer(["\x1b[2Jred \x1b[31malert\x9b31m [1]\n> evil \x1b]52;c;aGk=\x07 title"]) as server:
        code, out, err = ask(rlm, server, "-v", "Q?", "docs", cwd=tmp_path)
    assert code == 0
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", out + err)
    assert "red alert" in out


def test_output_file_is_whole_or_not_there(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """-o writes the answer to the file and nothing to stdout; a place that cannot take it is refused before any call."""
    write("a.txt", "short")
    with ScriptedServer(["Fine.", "Fine."]) as server:
        code, out, _ = ask(rlm, server, "-o", "answer.txt", "Q?", "docs", cwd=tmp_path)
        assert (code, out, (tmp_path / "answer.txt").read_text()) == (0, "", "Fine.\n")
        code, out, _ = ask(rlm, server, "--jsonl", "-o", "events.jsonl", "Q?", "docs", cwd=tmp_path)
        assert (code, out) == (0, "")
        assert len(server.requests) == 2
        for place in ("no/such/answer.txt", "docs"):
            code, out, err = ask(rlm, server, "-o", place, "Q?", "docs", cwd=tmp_path)
            assert (code, out) == (2, "")
            assert "cannot be written" in err
        assert len(server.requests) == 2
    types = [json.loads(line)["type"] for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert (types[0], types[-1]) == ("run.started", "run.finished")


def test_no_save_leaves_nothing_on_disk(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """--no-save: an answer, and no trace of it below the home."""
    write("a.txt", "short")
    with ScriptedServer(["Fine."]) as server:
        code, out, err = ask(rlm, server, "--no-save", "--json", "Q?", "docs", cwd=tmp_path)
    assert (code, result_of(out)["trace"]) == (0, None)
    assert "rlm show" not in err
    assert not [path for path in rlm.home.rglob("*") if path.is_file()]


def test_the_plan_sends_nothing(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """-n shows files, models, endpoint and what it may cost."""
    write("a.txt", ACME)
    write("b.bin", "\0\1\2\3" * 100)
    with ScriptedServer([]) as server:
        ran = rlm(
            "ask", "-n", "-m", "openai/gpt-5", "Which?", "docs", env=server.env | {"HOME": str(rlm.home)}, cwd=tmp_path
        )
    assert ran.code == 0, ran.err
    assert "1 file" in ran.out
    assert "skipped  docs/b.bin: binary" in ran.out
    assert re.search(r"^cost   low \$[\d.]+   expected \$[\d.]+   high \$0", ran.out, re.MULTILINE)
    assert f"127.0.0.1:{server.port}" in ran.out
    assert "run it:  rlm ask -m openai/gpt-5 'Which?' docs\n" in ran.out
    assert server.requests == []


def start(rlm: Rlm, server: ScriptedServer, *words: str, cwd: Path) -> subprocess.Popen[bytes]:
    command = [str(BIN), "ask", "-m", "openai/scripted", "--max-budget", "none", "--mode", "rlm", *words]
    env = rlm.environ(server.env | {"HOME": str(rlm.home)})
    return subprocess.Popen(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_stop_a_run_in_order(rlm: Rlm, write: Write, tmp_path: Path, number: int, code: int) -> None:
    """A signal in the middle: stdout empty, what was spent on stderr, the journal closed, no child left."""
    write("a.txt", ACME)
    slow = script(block("llm_query('a')"), sub=lambda prompt: Reply("late", delay_s=60))
    with ScriptedServer(slow) as server:
        running = start(rlm, server, "Q?", "docs", cwd=tmp_path)
        wait_for(lambda: len(server.requests) == 2)
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        running.send_signal(number)
        out, err = running.communicate(timeout=10)
    assert (running.returncode, out) == (code, b""), err
    assert b"rlm: stopped \xc2\xb7 1 call \xc2\xb7 cost unknown" in err
    assert children
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    assert b"Traceback" not in err
    [trace] = rlm.state.glob("runs/*/trace.jsonl")
    last = json.loads(trace.read_text().splitlines()[-1])
    assert (last["type"], last["result"]["status"]) == ("run.finished", "stopped")


def test_a_broken_pipe_is_silent(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """`rlm ask … | true`: exit 0 and nothing on stderr but the summary."""
    write("a.txt", "short")
    with ScriptedServer(["Fine. " * 50_000]) as server:
        running = start(rlm, server, "--mode", "direct", "-q", "Q?", "docs", cwd=tmp_path)
        assert running.stdout is not None
        running.stdout.close()
        assert running.stderr is not None
        with running.stderr as stream:
            err = stream.read()
        assert (running.wait(timeout=30), err) == (0, b"")


def test_a_full_disk_is_said_and_is_no_success(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """An answer that is not all there must not look like one."""
    write("a.txt", "short")
    with ScriptedServer(["Fine."]) as server, Path("/dev/full").open("wb") as full:
        command = [str(BIN), "ask", "-m", "openai/scripted", "-b", "none", "Q?", "docs"]
        env = rlm.environ(server.env | {"HOME": str(rlm.home)})
        ran = subprocess.run(
            command, cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert ran.returncode == 70
    assert b"No space left" in ran.stderr
    assert b"Traceback" not in ran.stderr


def test_without_a_model_sentences_are_ranked_and_that_is_said(rlm: Rlm) -> None:
    """No key: offline/extractive answers from the README, and says that no language model was used."""
    ran = rlm("ask", "Which exit code says that a limit ended the run?", str(ROOT / "README.md"))
    assert ran.code == 0, ran.err
    assert "no language model" in ran.err
    assert re.search(r"README\.md:\d+", ran.out)
    assert "limit" in ran.out


def test_nobody_relies_on_it_unseen(rlm: Rlm) -> None:
    """The silent fallback is refused with CI set and with --json; naming it is fine."""
    readme = str(ROOT / "README.md")
    assert rlm("ask", "Q?", readme, env={"CI": "1"}).code == 3
    assert rlm("ask", "--json", "Q?", readme).code == 3
    assert rlm("ask", "--json", "-m", "offline/extractive", "What is it?", readme, env={"CI": "1"}).code == 0


def test_the_library_gives_the_same_result(write: Write) -> None:
    """`rlm_cli.ask` is the command without the command line; errors are raised."""
    import rlm_cli

    path = write("a.txt", "The notice period is thirty days. The rest is silence.\n")
    result = rlm_cli.ask("How long is the notice period?", [str(path)], model="offline/extractive")
    assert result.status is rlm_cli.Status.COMPLETE
    assert "thirty days" in result.text
    assert result.citations[0].lines == (1, 1)
    assert rlm_cli.ask("How long is the notice period?", path, model="offline/extractive").text == result.text
    with pytest.raises(rlm_cli.SourceError):
        rlm_cli.ask("Q?", "/no/such/file", model="offline/extractive")
    with pytest.raises(rlm_cli.UsageError, match="mode"):
        rlm_cli.ask("Q?", path, mode="bogus")
    with pytest.raises(TypeError, match="modle"):
        rlm_cli.ask("Q?", path, modle="offline/extractive")


def test_the_library_can_be_cancelled(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A timeout round `aask` is the caller's: it is raised there, the run is closed, and another one works."""
    import rlm_cli

    path = write("a.txt", "short")
    monkeypatch.setenv("OPENAI_API_KEY", SENTINEL_KEY)
    late: list[Reply | str] = [Reply("late", delay_s=30), "Fine."]

    async def expire(limit: asyncio.Timeout, server: ScriptedServer) -> None:
        while not server.requests:  # noqa: ASYNC110 (the server is in another thread)
            await asyncio.sleep(0.02)
        limit.reschedule(asyncio.get_running_loop().time())

    async def main(server: ScriptedServer) -> str:
        with pytest.raises(TimeoutError):  # noqa: PT012
            async with asyncio.timeout(60) as limit:
                expiring = asyncio.ensure_future(expire(limit, server))
                await rlm_cli.aask("Q?", path, model="openai/x", max_budget=None)
        await expiring
        return (await rlm_cli.aask("Q?", path, model="openai/x", max_budget="none", timeout="1m")).text

    with ScriptedServer(late) as server:
        monkeypatch.setenv("OPENAI_API_BASE", server.base_url)
        assert asyncio.run(main(server)) == "Fine."


def test_a_bug_is_reported_and_journaled(write: Write, tmp_path: Path) -> None:
    """What nobody foresaw: exit code 70, the place of the trace, and a trace that has an end."""
    path = write("a.txt", "short")

    def reader(written: Written) -> None:
        if isinstance(written.stamped.event, CallStarted):
            raise ZeroDivisionError("a bug")

    job = Job("Q?", (str(path),), Settings(model="offline/extractive"))
    result = asyncio.run(question.ask(job, state=tmp_path / "state", readers=[reader]))
    assert (result.exit_code, result.status) == (70, "failed")
    assert result.failure is not None
    assert isinstance(result.failure.__cause__, ZeroDivisionError)
    assert str(result.trace) in result.failure.hint
    last = json.loads(Path(str(result.trace)).read_text().splitlines()[-1])
    assert last["result"]["error"]["code"] == "internal"
