"""`rlm ask -c`: the documents, the variables and the history of an earlier run, and nothing paid twice."""

from __future__ import annotations

import gzip
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Rlm
from scripted import Reply, ScriptedServer

from rlm_cli import kept
from rlm_cli.builder import CorpusBuilder
from rlm_cli.corpus import Corpus

Script = Callable[[dict[str, Any]], str | Reply]


def block(code: str) -> str:
    return f"I look.\n```repl\n{code}\n```"


def called(code: str, id: str) -> Reply:
    call = {"id": id, "type": "function", "function": {"name": "repl", "arguments": json.dumps({"code": code})}}
    return Reply("I look.", message={"tool_calls": [call]}, finish_reason="tool_calls")


def script(*root: str | Reply, sub: Callable[[str], str | Reply] = lambda prompt: "ok") -> Script:
    left = list(root)

    def answer(request: dict[str, Any]) -> str | Reply:
        if request["messages"][0]["role"] == "system":
            return left.pop(0)
        return sub(str(request["messages"][-1]["content"]))

    return answer


@pytest.fixture
def asked(rlm: Rlm) -> Callable[..., tuple[int, str, str]]:
    """Runs `rlm ask` against a scripted server over documents that are there."""
    (rlm.home / "docs").mkdir()
    (rlm.home / "docs" / "a.txt").write_text("Acme gives thirty days.\n" * 40, encoding="utf-8")
    (rlm.home / "docs" / "b.txt").write_text("Birch gives ten days.\n" * 40, encoding="utf-8")

    def ask(server: ScriptedServer, *words: str, **environ: str) -> tuple[int, str, str]:
        env = server.env | {"HOME": str(rlm.home)} | environ
        ran = rlm("ask", "-m", "openai/scripted", "-b", "none", *words, env=env, cwd=rlm.home)
        return ran.code, ran.out, ran.err

    ask.home = rlm.home  # type: ignore[attr-defined]
    return ask


FIRST = (
    "days = {d.path: llm_query('How many?', d.text) for d in docs}\ntry:\n    llm_query('bad')\nexcept SubcallError:\n"
    "    failed = True\nprint(days)"
)


def first(prompt: str) -> str | Reply:
    if prompt == "bad":
        return Reply("no", status=400)
    return "30" if "Acme" in prompt else "10"


def test_a_follow_up_goes_on_where_the_run_ended(asked: Callable[..., tuple[int, str, str]]) -> None:
    """Variables made with paid sub-calls are there again, and not one of them is asked again; the history is the old
    one word for word; a follow-up of a follow-up works the same."""
    with ScriptedServer(script(block(FIRST), block("FINAL(days['docs/a.txt'])"), sub=first)) as server:
        code, out, err = asked(server, "--mode", "rlm", "How long at Acme?", "docs")
        assert (code, out) == (0, "30\n"), err
        before = server.requests
    again = block("FINAL([days['docs/b.txt'], failed])")
    with ScriptedServer(script(again)) as server:
        code, out, err = asked(server, "-c", "And at Birch?")
        assert (code, json.loads(out)) == (0, ["10", True]), err
        assert len(server.requests) == 1
        messages = server.requests[0].messages
    assert messages[: len(before[-1].messages)] == before[-1].messages
    assert messages[-2]["content"] == block("FINAL(days['docs/a.txt'])")
    assert 'original query: "And at Birch?"' in messages[-1]["content"]
    assert "<<<\n30\n>>>" in messages[-1]["content"]
    assert "2 cells run again" in err
    with ScriptedServer(script(block("FINAL(sum(map(int, days.values())))"))) as server:
        code, out, err = asked(server, "-c", "--json", "Together?")
        assert len(server.requests) == 1
        assert 'original query: "And at Birch?"' in server.requests[0].messages[-3]["content"]
    result = json.loads(out)
    assert (code, result["answer"], result["question"]) == (0, "40", "Together?"), err
    assert {"code": "continued"}.items() <= result["notices"][0].items()


def test_calls_of_the_repl_are_part_of_the_history(asked: Callable[..., tuple[int, str, str]]) -> None:
    """A run whose model called the REPL as a function: the calls and their results are there again, word for word, and
    the REPL is offered again."""
    look, hand = called("print(days := 30)", "c1"), called("FINAL(days)", "c2")
    with ScriptedServer(script(look, hand)) as server:
        code, out, err = asked(server, "--mode", "rlm", "How long at Acme?", "docs")
        assert (code, out) == (0, "30\n"), err
        before = server.requests[-1].messages
    assert [message["role"] for message in before[2:]] == ["assistant", "tool"]
    for question in ("And at Birch?", "And then?"):
        with ScriptedServer(script(called("FINAL(days + 1)", "c3"))) as server:
            code, out, err = asked(server, "-c", question)
            assert (code, out) == (0, "31\n"), err
            messages, offered = server.requests[0].messages, server.requests[0].body["tools"]
        assert messages[: len(before)] == before
        assert offered[0]["function"]["name"] == "repl"
        assert messages[-2]["content"].startswith("I look.\n```repl\nFINAL(days")
        assert f'original query: "{question}"' in messages[-1]["content"]


def test_what_was_asked_after_a_call_is_in_the_history(asked: Callable[..., tuple[int, str, str]]) -> None:
    """A landing asks after the result of a call: result and request are there, in words."""
    with ScriptedServer(script(called("print(days := 30)", "c1"), called("FINAL(days)", "c2"))) as server:
        code, out, err = asked(server, "--mode", "rlm", "--max-iterations", "1", "How long at Acme?", "docs")
        assert (code, out) == (6, "30\n"), err
        before = server.requests[-1].messages
    assert [message["role"] for message in before[2:]] == ["assistant", "tool", "user"]
    with ScriptedServer(script(block("FINAL(days + 1)"))) as server:
        code, out, err = asked(server, "-c", "And at Birch?")
        assert (code, out) == (0, "31\n"), err
        messages = server.requests[0].messages
    assert [message["role"] for message in messages[2:]] == ["assistant", "user"] * 2
    assert messages[3]["content"] == f"{before[-2]['content']}\n\n{before[-1]['content']}"


def test_changes_since_are_said(asked: Callable[..., tuple[int, str, str]]) -> None:
    """The old text is used; a file that is another one now, or gone, is named, as is code that prints something else."""
    home: Path = asked.home  # type: ignore[attr-defined]
    with zipfile.ZipFile(home / "docs" / "c.zip", "w") as archive:
        archive.writestr("d.txt", "Cedar gives a week.\n")
    (home / "docs" / "e.txt.gz").write_bytes(gzip.compress(b"Elm gives a day.\n"))
    look = block("import time\nprint(time.time_ns())")
    with ScriptedServer(script(look, block("FINAL('x')"))) as server:
        assert asked(server, "--mode", "rlm", "Q?", "docs")[0] == 0
    with ScriptedServer(script(block("FINAL('y')"))) as server:
        assert "changed" not in asked(server, "-c", "And?")[2]
    (home / "docs" / "a.txt").write_text("Nothing of it.\n", encoding="utf-8")
    (home / "docs" / "b.txt").unlink()
    with ScriptedServer(script(block("FINAL(docs['docs/a.txt'].text[:4])"))) as server:
        code, out, err = asked(server, "-c", "What is it?")
    assert (code, out) == (0, "Acme\n"), err
    assert "changed since they were read: docs/a.txt, docs/b.txt" in err
    assert "printed something else (cell 1)" in err


def test_a_call_with_the_whole_text_goes_on_too(asked: Callable[..., tuple[int, str, str]]) -> None:
    """Direct mode: the same messages, the reply, the new question."""
    with ScriptedServer(["Thirty days.\n> Acme gives thirty days."]) as server:
        assert asked(server, "How long?", "docs")[0] == 0
        before = server.requests[0].messages
    with ScriptedServer(["Ten days.\n> docs/b.txt: Birch gives ten days."]) as server:
        code, out, err = asked(server, "-c", "And at Birch?")
        messages = server.requests[0].messages
    assert code == 0, err
    assert out.startswith("Ten days.\n\n[1] docs/b.txt:1")
    assert messages[:1] == before
    assert messages[1]["content"].startswith("Thirty days.")
    assert messages[2]["content"].endswith("Question: And at Birch?")


def test_what_cannot_be_gone_on_from(rlm: Rlm, asked: Callable[..., tuple[int, str, str]]) -> None:
    """No run yet, documents that are not kept, sources besides, another mode: usage errors before any request."""
    with ScriptedServer([]) as server:
        assert asked(server, "-c", "Q?")[0] == 2
    with ScriptedServer(["Thirty."]) as server:
        assert asked(server, "How long?", "docs", RLM_CORPORA_SIZE="0")[0] == 0
    for words, told in (
        (["-c", "And?"], "are not kept"),
        (["-c", "And?", "docs"], "-c takes no sources"),
        (["--run", "2", "And?", "docs"], "--run says which run"),
        (["-c", "--run", "zzz", "And?"], "no run begins with"),
    ):
        with ScriptedServer([]) as server:
            code, out, err = asked(server, *words)
        assert (code, out) == (2, ""), err
        assert told in err


def test_a_named_run(asked: Callable[..., tuple[int, str, str]]) -> None:
    """--run takes another one than the last; the plan says what it goes on from."""
    with ScriptedServer(["Thirty.", "Ten."]) as server:
        _, out, _ = asked(server, "--json", "At Acme?", "docs")
        run = json.loads(out)["run"]
        asked(server, "At Birch?", "docs/b.txt")
    with ScriptedServer(["Yes."]) as server:
        code, _, err = asked(server, "-c", "--run", run, "Sure?")
        assert code == 0, err
        assert "Thirty." in server.requests[0].messages[1]["content"]
        code, out, _ = asked(server, "-n", "-c", "--run", run, "Sure?")
    assert (code, f"goes on from run {run}" in out) == (0, True)


def made(text: str) -> Corpus:
    builder = CorpusBuilder()
    with builder.document("a", "text") as document:
        document.write(text)
    return builder.finish()


def keep(corpus: Corpus, folder: Path, limit: int) -> bool:
    return kept.keep(os.dup(corpus.fd), folder, limit)


def test_the_store_is_bounded_and_the_oldest_goes(tmp_path: Path) -> None:
    """By size, least recently used first; one too large for half of it is not kept; a broken file is none."""
    texts = [made(f"{n}" * 10_000) for n in range(4)]
    size = os.fstat(texts[0].fd).st_size
    for n, corpus in enumerate(texts[:3]):
        assert keep(corpus, tmp_path / "c", 3 * size + 10)
        os.utime(tmp_path / "c" / corpus.sha256, (n, n))
    again = kept.load(tmp_path / "c", texts[0].sha256)  # used just now
    assert again is not None
    assert again.text(*again.whole) == texts[0].text(*texts[0].whole)
    assert keep(texts[3], tmp_path / "c", 3 * size + 10)
    assert kept.load(tmp_path / "c", texts[1].sha256) is None
    assert again.text(*again.whole).startswith("000")
    assert not keep(made("x" * 100_000), tmp_path / "c", 3 * size)
    assert not kept.keep(os.dup(texts[1].fd), tmp_path / "c", 9 * size, ["nothing", "1" * 20])
    (tmp_path / "c" / texts[3].sha256).unlink()
    (tmp_path / "c" / texts[3].sha256).write_text("no corpus", encoding="utf-8")
    assert kept.load(tmp_path / "c", texts[3].sha256) is None
    assert not keep(texts[2], Path("/proc/nowhere"), 3 * size)
