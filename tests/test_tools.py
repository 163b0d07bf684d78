"""Functions of the user's own: loaded, called, timed, kept to JSON; nothing of them is left behind.

Real processes throughout. The second half is the installed command, with the real sandbox and a scripted model.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import BIN, Rlm
from scripted import SENTINEL_KEY, Reply, ScriptedServer

from rlm_cli.builder import CorpusBuilder
from rlm_cli.call import Output, Tool
from rlm_cli.corpus import Corpus
from rlm_cli.errors import ConfigError
from rlm_cli.sandbox import OWN_NAMES, Failed, Query, open_sandbox, wire
from rlm_cli.sandbox.messages import MAX_ARGUMENTS, read_query
from rlm_cli.tools import MOST_CALLS, Returned, Tools, open_tools
from rlm_cli.tools.serve import MOST_BYTES

Write = Callable[[str, str], Path]

SHOP = '''
import asyncio, functools, os, subprocess, sys, threading, time
from datetime import date
from json import dumps

LIMIT = 3
calls = []

def lookup(customer: str, limit: int = LIMIT, *, open_only: bool = False) -> "list[dict]":
    """The orders of a customer.

    Newest first.
    """
    calls.append(customer)
    return [{"customer": customer, "limit": limit, "open": open_only}]

async def later(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds

@functools.lru_cache
def cached(n):
    return n + 1

def so_far():
    return calls

def fails(how):
    calls.append("failing")
    raise KeyError(how)

def leaves(): sys.exit("no")
def dies(): os._exit(4)
def today(): return date(2026, 11, 25)
def many(n): return "x" * n
def nan(): return float("nan")
def variable(name): return os.environ.get(name)
def say(text):
    print(text)
    print("to stderr", file=sys.stderr)
    os.write(1, b"raw\\n")
def flood(megabytes): print("x" * (megabytes << 20))
def spin(): sum(range(10**11))
def start():
    return subprocess.Popen(["sleep", "300"]).pid
def cut_off():
    threading.Thread(target=time.sleep, args=(100,)).start()
    os.closerange(3, 200)
def umlaut(): return "Ä\\ud800"
def _hidden(): pass
class Kept: pass
'''


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.py"
    path.write_text(SHOP, encoding="utf-8")
    return path


def with_tools(body: Callable[[Tools], Awaitable[Any]], *files: Path, timeout_s: float = 20.0, **environ: str) -> Any:
    """Run `body` with these tools and close them."""

    async def main() -> Any:
        tools = await open_tools(
            [str(file) for file in files], environ=os.environ | environ, timeout_s=timeout_s, reserved=OWN_NAMES
        )
        try:
            return await body(tools)
        finally:
            tools.close()

    return asyncio.run(main())


def call(tools: Tools, name: str, *places: Any, **names: Any) -> Awaitable[Returned]:
    return tools.call(name, json.dumps([places, names]))


def processes(file: Path) -> list[int]:
    """Those that were started for a file of tools."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if b"serve.py" in words and str(file).encode() in words:
            found.append(int(folder.name))
    return found


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def soon(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def test_public_functions_are_offered_in_their_order(shop: Path) -> None:
    """Defined in the file, without a leading underscore; decorated and `async` ones too, classes and imports not."""

    async def body(tools: Tools) -> dict[str, Tool]:
        return tools.functions

    found: dict[str, Tool] = with_tools(body, shop)
    assert list(found)[:5] == ["lookup", "later", "cached", "so_far", "fails"]
    assert not {"dumps", "date", "_hidden", "Kept"} & set(found)
    assert found["lookup"].signature == "(customer: str, limit: int = 3, *, open_only: bool = False) -> list[dict]"
    assert found["lookup"].doc == "The orders of a customer.\n\nNewest first."


CALLS: list[tuple[str, list[Any], dict[str, Any], Any]] = [
    ("lookup", ["acme"], {}, [{"customer": "acme", "limit": 3, "open": False}]),
    ("lookup", ["acme", 5], {"open_only": True}, [{"customer": "acme", "limit": 5, "open": True}]),
    ("later", [0.01], {}, 0.01),
    ("later", [0], {}, 0),
    ("cached", [1], {}, 2),
    ("many", [5], {}, "xxxxx"),
    ("umlaut", [], {}, "Ä?"),
    ("lookup", [], {}, "TypeError: missing a required argument: 'customer'; it is lookup(customer: str, limit"),
    ("lookup", ["a", 1, True], {}, "TypeError: too many positional arguments"),
    ("lookup", ["a"], {"colour": 1}, "TypeError: got an unexpected keyword argument 'colour'"),
    ("fails", ["it"], {}, "KeyError: 'it'"),
    ("leaves", [], {}, "SystemExit: no"),
    ("today", [], {}, "TypeError: today returned what JSON cannot hold (Object of type date is not JSON serializable)"),
    ("nan", [], {}, "TypeError: nan returned what JSON cannot hold"),
    ("many", [MOST_BYTES], {}, "ValueError: many returned 16,777,218 bytes of JSON; at most 16,777,216"),
    ("dies", [], {}, "RuntimeError: the tools' process died during the call: it ended itself (exit code 4)"),
    ("so_far", [], {}, []),
    ("cut_off", [], {}, "RuntimeError: the tools' process died during the call: it was ended by signal 9"),
]
"""Name, arguments, the result or how the error begins. What comes after `dies` meets a fresh process."""


def test_calls_and_their_errors(shop: Path) -> None:
    """Results are JSON; what fails is a typed error in one line, and the next call works, after a crash too."""

    async def body(tools: Tools) -> list[Returned]:
        return [await call(tools, name, *places, **names) for name, places, names, _ in CALLS]

    for (name, _, _, wanted), returned in zip(CALLS, with_tools(body, shop), strict=True):
        if returned.error:
            assert returned.error.startswith(str(wanted)), name
        else:
            assert json.loads(returned.result) == wanted, name


@pytest.mark.parametrize(("name", "arguments"), [("later", [60]), ("spin", [])])
def test_a_call_that_takes_too_long_is_ended(shop: Path, name: str, arguments: list[Any]) -> None:
    """At its deadline, whatever it does; the process is replaced, and its memory's loss is said."""

    async def body(tools: Tools) -> tuple[Returned, Returned]:
        await call(tools, "lookup", "acme")
        return await call(tools, name, *arguments), await call(tools, "so_far")

    late, after = with_tools(body, shop, timeout_s=0.5)
    assert late.error.startswith(f"TimeoutError: {name} took longer than 0.5 s and was ended")
    assert 0.5 <= late.duration_s < 2
    assert (after.result, after.error) == ("[]", "")
    assert processes(shop) == []


def test_what_is_printed_stays_with_its_call(shop: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing of it reaches our stdout or stderr; the end of it is kept, of a flood too."""

    async def body(tools: Tools) -> list[Returned]:
        return [await call(tools, "say", "hello"), await call(tools, "flood", 20), await call(tools, "so_far")]

    said, flood, silent = with_tools(body, shop)
    assert sorted(said.printed.splitlines()) == ["hello", "raw", "to stderr"]
    assert set(flood.printed.strip()) == {"x"}
    assert len(flood.printed) <= 64 << 10
    assert silent.printed == ""
    assert capfd.readouterr() == ("", "")


def test_calls_come_one_after_the_other(shop: Path) -> None:
    """In the order in which they were made, whatever each takes; the deadline of one counts from its own turn."""

    async def body(tools: Tools) -> tuple[list[Returned], list[str]]:
        waits = [call(tools, "later", 0.3) for _ in range(3)]
        looks = [call(tools, "lookup", name) for name in "abc"]
        returned = await asyncio.gather(*waits, *looks)
        return returned, json.loads((await call(tools, "so_far")).result)

    returned, order = with_tools(body, shop, timeout_s=0.6)
    assert [one.error for one in returned] == [""] * 6
    assert order == ["a", "b", "c"]


def test_a_cancelled_call_ends_the_process(shop: Path) -> None:
    """The run is being stopped, or its cell has ended: nobody waits for the function."""

    async def body(tools: Tools) -> tuple[float, Returned]:
        began = time.monotonic()
        running, waiting = (asyncio.ensure_future(call(tools, "spin")) for _ in range(2))
        await asyncio.sleep(0.2)
        waiting.cancel()
        running.cancel()
        await asyncio.wait([running, waiting])
        assert processes(shop) == []
        return time.monotonic() - began, await call(tools, "cached", 1)

    took, after = with_tools(body, shop)
    assert took < 1
    assert after.result == "2"


def test_nothing_is_left_behind(shop: Path) -> None:
    """The process goes at the end, and what its functions have started."""

    async def body(tools: Tools) -> int:
        assert len(processes(shop)) == 1
        return int((await call(tools, "start")).result)

    started = with_tools(body, shop)
    assert processes(shop) == []
    assert soon(lambda: is_gone(started))


def test_a_run_makes_so_many_calls(shop: Path) -> None:
    """Waiting for a function is no computing, so a loop around one is ended by their number."""

    async def body(tools: Tools) -> list[str]:
        return [tools.objection(name) for name in ["nothing", *["lookup"] * (MOST_CALLS + 1)]]

    unknown, *known = with_tools(body, shop)
    assert unknown == "NameError: there is no tool 'nothing'"
    assert known[0] == known[-2] == ""
    assert known[-1].startswith("RuntimeError: 10,000 calls")


BROKEN = [
    ("import nowhere_to_be_found\n", ":1 cannot be loaded", "ModuleNotFoundError", "pip install"),
    ("x = 1\ndef f(:\n", ":2 cannot be loaded", "SyntaxError: invalid syntax", "python"),
    ("def g():\n    return h()\ng()\n", ":2 cannot be loaded", "NameError: name 'h' is not defined, at `return h()`", "python"),
    ("import os\nKEY = os.environ['OPENAI_API_KEY']\n", ":2 cannot", "KeyError: 'OPENAI_API_KEY'", "keys of model providers"),
    ("raise SystemExit(3)\n", ":1 cannot be loaded", "SystemExit: 3", "python"),
    ("import os, sys\nprint('last words', flush=True)\nos._exit(3)\n", "cannot be loaded", "exit code 3) (last words)", "python"),
    ("_x = 1\nfrom json import dumps\n", "defines no public function", "_", "def"),
    ("def llm_query(x): pass\n", "defines llm_query, a name that the REPL has itself", "", "rename"),
    ("def print(x): pass\n", "defines print, a name that the REPL has itself", "", "rename"),
    ("def f(): pass\ndef lookup(): pass\n", "both define lookup", "by its name alone", "rename"),
    ("\xff\x00", "cannot be loaded", "", "python"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "what", "why", "hint"), BROKEN)
def test_a_file_that_cannot_be_used(shop: Path, text: str, what: str, why: str, hint: str) -> None:
    """Said before anything is sent, with the line at fault; nothing is left running."""
    broken = shop.with_name("broken.py")
    broken.write_bytes(text.encode("latin-1"))

    async def body(tools: Tools) -> None:
        raise AssertionError("it was loaded")

    with pytest.raises(ConfigError) as caught:
        with_tools(body, shop, broken)
    assert "broken.py" in caught.value.message
    assert what in caught.value.message
    assert why in caught.value.why
    assert hint in caught.value.hint
    assert processes(shop) == []


@pytest.mark.parametrize("name", ["nowhere.py", ".", "a\0b.py"])
def test_a_file_that_is_none(tmp_path: Path, name: str) -> None:
    """Nothing there, a folder, a name that cannot be one."""
    with pytest.raises(ConfigError, match="cannot be read"):
        asyncio.run(open_tools([f"{tmp_path}/{name}"], environ={}, timeout_s=1, reserved=()))


def test_a_file_named_twice_is_one(shop: Path) -> None:
    """By another path too."""

    async def body(tools: Tools) -> int:
        return len(tools.files)

    assert with_tools(body, shop, shop.parent / "." / ".." / shop.parent.name / "shop.py") == 1


def test_neighbours_can_be_imported_and_replace_nothing(tmp_path: Path) -> None:
    """A module beside the file is found; one with the name of a standard module is not taken for it."""
    (tmp_path / "prices.py").write_text("price = 3\n")
    (tmp_path / "csv.py").write_text("raise RuntimeError('not this one')\n")
    (tmp_path / "t.py").write_text("import csv, prices\ndef price(): return prices.price + csv.QUOTE_ALL\n")

    async def body(tools: Tools) -> Returned:
        return await call(tools, "price")

    assert with_tools(body, tmp_path / "t.py").result == "4"


# ── in the REPL ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    builder = CorpusBuilder(tmp_path_factory.mktemp("corpus"))
    with builder.document("a.txt", "text") as document:
        document.write("alpha\n" * 100)
    made = builder.finish()
    yield made
    made.close()


def in_repl(corpus: Corpus, *cells: str, subcalls: bool = True) -> list[Output]:
    """Cells in a sandbox whose tools are `echo`, which returns its arguments, and `broken`, which fails."""

    async def ask(query: Query) -> list[str | Failed]:
        if query.kind != "tool":
            return ["a model's words"] * len(query.prompts)
        return [Failed("ValueError: no: such") if query.model == "broken" else query.prompts[0]]

    async def main() -> list[Output]:
        tools = (Tool("echo", "(*places, **names)", "Returns both."), Tool("broken", "()", ""))
        place = open_sandbox("process", cell_timeout_s=20, repl_memory=512 << 20, context_memory=0, tools=tools)
        repl = await place.open(corpus, None, ask)
        try:
            return [await repl.execute(cell, subcalls=subcalls) for cell in cells]
        finally:
            await place.close()

    return asyncio.run(main())


IN_REPL = [
    ("echo('acme', 3, limit=None)", "[['acme', 3], {'limit': None}]\n"),
    ("echo({'a': [1, 2.5, True]}, ('x',))", "[[{'a': [1, 2.5, True]}, ['x']], {}]\n"),
    ("echo(context[:11])", "[['alpha\\nalpha'], {}]\n"),
    ("echo('\\ud800Ä')", "[['?Ä'], {}]\n"),
    ("print(echo.__doc__)", "echo(*places, **names)\n\nReturns both.\n"),
    ("try:\n    broken()\nexcept ToolError as e:\n    print(e.type, '|', e.message, '|', e)", "ValueError | no: such | ValueError: no: such\n"),
    ("try:\n    echo({1, 2})\nexcept TypeError as e:\n    print(e)", "echo runs in another process and takes what JSON can hold: text, numbers, lists, dicts, None (set is none of those)\n"),
    ("try:\n    echo(float('nan'))\nexcept TypeError as e:\n    print('refused')", "refused\n"),
    ("try:\n    echo('x' * (17 << 20))\nexcept ValueError as e:\n    print(e)", "the arguments of echo are more than 16 MB: pass less at once\n"),
    ("echo = None", ""),
    ("echo()", "[[], {}]\n"),
    ("from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(8) as p: print([r[0][0] for r in p.map(echo, range(50))] == list(range(50)))", "True\n"),
    ("import asyncio\nawait asyncio.gather(*[asyncio.to_thread(echo, n) for n in range(2)])", "[[[0], {}], [[1], {}]]\n"),
    ("SHOW_VARS()", "no variables yet\n"),
]  # fmt: skip


def test_a_tool_in_the_repl(corpus: Corpus) -> None:
    """Called by name, put back before every cell, JSON both ways; its failures are raised with type and message."""
    outputs = in_repl(corpus, *(code for code, _ in IN_REPL))
    for (code, wanted), output in zip(IN_REPL[:-1], outputs[:-1], strict=True):
        assert (output.stdout, output.error) == (wanted, None), code
    assert "echo" not in outputs[-1].stdout


def test_the_closing_turn_may_call_tools(corpus: Corpus) -> None:
    """They spend nothing of the run's; models are not asked any more."""
    tool, model = in_repl(corpus, "echo(1)", "llm_query('x')", subcalls=False)
    assert tool.stdout == "[[1], {}]\n"
    assert "no sub-calls" in (model.error or "")


def test_the_names_of_the_repl_are_known(corpus: Corpus) -> None:
    """A tool may not be called like something that is there already: the table and the REPL agree."""
    output = in_repl(corpus, "print(*[name for name in globals() if not name.startswith('_')])")[0]
    assert set(output.stdout.split()) - {"echo", "broken"} == OWN_NAMES - {"answer"}


@pytest.mark.parametrize(
    ("fields", "blobs"),
    [
        ({"model": None}, [b"[[], {}]"]),
        ({"model": 3}, [b"[[], {}]"]),
        ({"model": "x" * 300}, [b"[[], {}]"]),
        ({"prompts": 2, "contexts": [None, None]}, [b"[[], {}]"] * 2),
        ({"contexts": [["span", 0, 1]]}, [b"[[], {}]"]),
        ({}, [b"[[], {}]", b"more"]),
        ({}, [b"[[]]"]),
        ({}, [b"{}"]),
        ({}, [b"no json"]),
        ({}, [b"[" * 100_000]),
        ({}, [b"\xff"]),
        ({}, [b'[["' + b"x" * MAX_ARGUMENTS + b'"], {}]']),
        ({"query": "tools"}, [b"[[], {}]"]),
    ],
)
def test_a_frame_that_may_not_be(fields: dict[str, Any], blobs: list[bytes]) -> None:
    """Hostile code can send anything: what is no call with JSON arguments ends the child."""
    usual = {"query": "tool", "model": "echo", "prompts": 1, "contexts": [None]}
    frame = wire.Frame("query", usual | fields, tuple(blobs))
    assert read_query(wire.Frame("query", usual, (b'[["a"], {}]',)), 10).prompts == ('[["a"], {}]',)
    with pytest.raises(wire.Violation):
        read_query(frame, 10)


# ── the whole way ───────────────────────────────────────────────────────────────────────────────────────────────────


def block(code: str) -> str:
    return f"I look.\n```repl\n{code}\n```"


def ask(rlm: Rlm, server: ScriptedServer, *words: str, **more: Any) -> tuple[int, str, str]:
    environ = server.env | {"HOME": str(rlm.home)} | more.pop("env", {})
    ran = rlm("ask", "-m", "openai/scripted", "--max-budget", "none", *words, env=environ, **more)
    return ran.code, ran.out, ran.err


def test_the_whole_way(rlm: Rlm, write: Write, shop: Path, tmp_path: Path) -> None:
    """Signature and docstring to the model, the call, its rights said, its place in the tree and in the trace."""
    write("a.txt", "Acme is angry.\n")
    replies: list[Reply | str] = [
        block("found = lookup('acme', limit=2)\nsay('hello')\nprint(found)"),
        block("fails('it')"),
        block("FINAL(found[0]['customer'])"),
    ]
    with ScriptedServer(replies) as server:
        code, out, err = ask(rlm, server, "--tool", "shop.py", "--jsonl", "Who?", "docs", cwd=tmp_path)
    assert code == 0
    events = [json.loads(line) for line in out.splitlines()]
    result = events[-1]["result"]
    assert (result["answer"], result["mode"]) == ("acme", "rlm")
    assert result["subcalls"] == {"ok": 0, "failed": 0, "retried": 0}
    system = server.requests[0].messages[0]["content"]
    assert "`lookup(customer: str, limit: int = 3, *, open_only: bool = False) -> list[dict]`:" in system
    assert "    The orders of a customer.\n\n    Newest first.\n" in system
    assert "ToolError: KeyError: 'it'" in server.requests[2].prompt
    told = [notice["message"] for notice in result["notices"] if notice["code"] == "tools_outside"]
    assert told[0].startswith("tools run outside the sandbox, with your rights: lookup, ")
    assert told[0].endswith("(shop.py)")
    assert f"rlm: {told[0]}" in err
    started = [event for event in events if event["type"] == "tool.started"]
    ended = [event for event in events if event["type"] == "tool.finished"]
    assert [(e["call"], e["parent"], e["name"]) for e in started] == [
        ("0.1", "0", "lookup"), ("0.2", "0", "say"), ("0.3", "0", "fails"),
    ]  # fmt: skip
    assert json.loads(started[0]["arguments"]) == [["acme"], {"limit": 2}]
    assert json.loads(ended[0]["result"]) == [{"customer": "acme", "limit": 2, "open": False}]
    assert [e["error"] for e in ended] == [None, None, "KeyError: 'it'"]
    assert "hello" in ended[1]["printed"]
    assert "raise KeyError(how)\nKeyError: 'it'" in ended[2]["printed"].replace("    ", "")
    shown = rlm("show").out
    assert '\n  0.1  tool · complete · 0s  lookup("acme", limit=2)\n' in shown
    assert "\n  0.3  tool · failed · 0s  fails(\"it\")  KeyError: 'it'\n" in shown
    assert processes(shop) == []


def test_many_calls_are_counted_in_show(rlm: Rlm, write: Write, shop: Path, tmp_path: Path) -> None:
    """The first of them are listed; the trace has all."""
    write("a.txt", "Acme is angry.\n")
    with ScriptedServer([block("FINAL(sum(cached(n) for n in range(25)))")]) as server:
        assert ask(rlm, server, "--tool", "shop.py", "Who?", "docs", cwd=tmp_path)[:2] == (0, "325\n")
    shown = rlm("show").out
    assert shown.count("  tool · complete · ") == 20
    assert "\nand 5 more calls of tools, which the trace has\n" in shown


def test_verbose_shows_calls(rlm: Rlm, write: Write, shop: Path, tmp_path: Path) -> None:
    """`-v`: the call, what it returned, what its code printed, on stderr; stdout is the answer alone."""
    write("a.txt", "Acme is angry.\n")
    with ScriptedServer([block("say('hello')\nFINAL(lookup('acme')[0]['limit'])")]) as server:
        code, out, err = ask(rlm, server, "-v", "--tool", "shop.py", "Who?", "docs", cwd=tmp_path)
    assert (code, out) == (0, "3\n")
    assert '0.1 say("hello")\n0.1 say result  0s\n  null\n0.1 say printed\n' in err
    assert "\n  hello\n" in err
    assert '0.2 lookup("acme")\n' in err


def test_nothing_is_called_twice_for_a_state_that_is_rebuilt(
    rlm: Rlm, write: Write, shop: Path, tmp_path: Path
) -> None:
    """A REPL that died, and a follow-up question, get what the tools said then; each call was made once."""
    write("a.txt", "Acme is angry.\n")
    (tmp_path / "t.py").write_text(
        "def note(what):\n    with open('notes', 'a') as notes: notes.write(what)\n    return what * 2\n"
        "def big(): return 'x' * 200_000\n"
    )
    replies: list[Reply | str] = [
        block("kept = [note('a'), note('b'), note('a')]\nlong = len(big())"),
        block("import os\nos._exit(1)"),
        block("FINAL(','.join(kept))"),
        block("FINAL(','.join(kept) + note('c'))"),
    ]
    with ScriptedServer(replies) as server:
        words = ("--sandbox", "none", "--tool", "t.py")
        assert ask(rlm, server, *words, "Who?", "docs", cwd=tmp_path)[:2] == (0, "aa,bb,aa\n")
        code, out, err = ask(rlm, server, *words, "-c", "And who?", cwd=tmp_path)
    assert (code, out) == (0, "aa,bb,aacc\n"), err
    assert (tmp_path / "notes").read_text() == "abac"


def test_children_have_the_tools(rlm: Rlm, write: Write, shop: Path, tmp_path: Path) -> None:
    """A call with a REPL of its own is told of them and can call them."""
    write("a.txt", "Acme is angry.\n")

    def reply(request: dict[str, Any]) -> str:
        first = request["messages"][1]["content"]
        return block(
            "FINAL(lookup('child')[0]['customer'])" if '"deep' in first else "FINAL(rlm_query('deep', context))"
        )

    with ScriptedServer(reply) as server:
        code, out, _ = ask(
            rlm, server, "--max-depth", "2", "--tool", "shop.py", "--jsonl", "Who?", "docs", cwd=tmp_path
        )
    events = [json.loads(line) for line in out.splitlines()]
    assert (code, events[-1]["result"]["answer"]) == (0, "child")
    assert [e["call"] for e in events if e["type"] == "tool.started"] == ["0.1.1"]
    assert events[-1]["result"]["subcalls"]["ok"] == 1


def test_keys_do_not_come_back(rlm: Rlm, write: Write, shop: Path, tmp_path: Path) -> None:
    """The tools' process has the environment without providers' keys, and what it says of one is struck out."""
    write("a.txt", "Acme is angry.\n")
    code_ = (
        "print(variable('OPENAI_API_KEY'), variable('COPY'), variable('GROQ_API_KEY'), variable('MINE'))\n"
        f"print(lookup('{SENTINEL_KEY[:20]}' + '{SENTINEL_KEY[20:]}'))\nfails('{SENTINEL_KEY[:20]}' + '{SENTINEL_KEY[20:]}')"
    )
    env = {"COPY": f"Bearer {SENTINEL_KEY}", "GROQ_API_KEY": "gsk_another", "MINE": "kept"}
    with ScriptedServer([block(code_), block("FINAL('done')")]) as server:
        ran, out, err = ask(rlm, server, "-v", "--tool", "shop.py", "Who?", "docs", cwd=tmp_path, env=env)
    assert (ran, out) == (0, "done\n")
    prompt = server.requests[1].prompt
    assert "None None None kept" in prompt
    assert "[{'customer': '[secret]'" in prompt
    assert "KeyError: '[secret]'" in prompt
    assert SENTINEL_KEY not in prompt + out + err + rlm.everything()


def test_the_plan_names_them(rlm: Rlm, write: Write, shop: Path, tmp_path: Path) -> None:
    """`-n` loads the files, so a broken one is found there, and says whose rights they have."""
    write("a.txt", "short")
    ran = rlm("ask", "-n", "-m", "offline/extractive", "--tool", "shop.py", "Who?", "docs", cwd=tmp_path)
    assert ran.code == 0
    assert "(shop.py): outside the sandbox, with your rights\n" in ran.out
    assert "sandbox process" in ran.out
    assert "--tool shop.py" in ran.out.splitlines()[-1]
    assert processes(shop) == []


def test_help_says_whose_rights_they_have(rlm: Rlm) -> None:
    """Somebody who looks the option up reads it there."""
    told = " ".join(rlm("ask", "--help").out.split())
    assert "--tool FILE.py" in told
    assert "They run outside the sandbox, with your rights." in told


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--tool", "shop.py", "--mode", "direct"], 2, "--tool is of no use in --mode direct"),
        (["--tool", "nowhere.py"], 3, "--tool: nowhere.py cannot be read"),
        (["--tool", "broken.py"], 3, "--tool: broken.py:2 cannot be loaded"),
        (["--tool", "shop.py", "--tool", "copy.py"], 3, "--tool: shop.py and copy.py both define lookup"),
    ],
)
def test_what_cannot_work_is_said_before_any_call(
    rlm: Rlm, write: Write, shop: Path, tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    """In three parts, without a traceback; nothing is sent and nothing kept."""
    write("a.txt", "short")
    (tmp_path / "broken.py").write_text("x = 1\nimport nowhere_to_be_found\n")
    (tmp_path / "copy.py").write_text("def lookup(): pass\n")
    with ScriptedServer([]) as server:
        ran = ask(rlm, server, *words, "Who?", "docs", cwd=tmp_path)
    assert (ran[0], ran[1], server.requests) == (code, "", [])
    assert said in ran[2]
    assert "Traceback" not in ran[2]
    assert not (rlm.state / "runs").exists()


def test_configured_tools_do_not_forbid_direct_mode(rlm: Rlm, write: Write, shop: Path, tmp_path: Path) -> None:
    """Who has tools in the configuration can still ask a question that does without."""
    write("a.txt", "short")
    config = tmp_path / "config.toml"
    config.write_text('tool = ["shop.py"]\ntool_timeout = "5s"\n')
    with ScriptedServer(["An answer."]) as server:
        ran = ask(rlm, server, "--config", str(config), "--mode", "direct", "Who?", "docs", cwd=tmp_path)
    assert ran[:2] == (0, "An answer.\n")
    assert "outside the sandbox" not in ran[2]


def waits_in_a_tool(rlm: Rlm, server: ScriptedServer, shop: Path) -> subprocess.Popen[str]:
    """The installed command while a function of it runs."""
    started = subprocess.Popen(
        [str(BIN), "ask", "-m", "openai/scripted", "--max-budget", "none", "--tool", str(shop), "Who?", "docs"],
        cwd=shop.parent, env=rlm.environ(server.env | {"HOME": str(rlm.home)}), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert soon(lambda: any("tool.started" in path.read_text() for path in rlm.state.rglob("trace.jsonl")), 60)
    assert len(processes(shop)) == 1
    return started


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_ctrl_c_ends_a_call(rlm: Rlm, write: Write, shop: Path) -> None:
    """At once, in order: exit 130, the call finished in the trace, no process left."""
    write("a.txt", "Acme is angry.\n")
    with ScriptedServer([block("spin()")]) as server:
        started = waits_in_a_tool(rlm, server, shop)
        began = time.monotonic()
        started.send_signal(signal.SIGINT)
        out, err = started.communicate(timeout=30)
    assert (started.returncode, out) == (130, "")
    assert time.monotonic() - began < 5
    assert "stopped" in err
    assert processes(shop) == []
    [trace] = rlm.state.rglob("trace.jsonl")
    ended = [event for event in map(json.loads, trace.read_text().splitlines()) if event["type"] == "tool.finished"]
    assert [event["error"] for event in ended] == ["CancelledError: the call was cancelled"]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_it_dies_with_us(rlm: Rlm, write: Write, shop: Path) -> None:
    """Where rlm itself is killed, a function that computes without a break does not go on for ever."""
    write("a.txt", "Acme is angry.\n")
    with ScriptedServer([block("spin()")]) as server:
        started = waits_in_a_tool(rlm, server, shop)
        started.kill()
        started.communicate(timeout=30)
    assert soon(lambda: processes(shop) == [])


def test_a_late_call_is_an_error_for_the_model(rlm: Rlm, write: Write, shop: Path, tmp_path: Path) -> None:
    """`tool_timeout` of the configuration; the run goes on, and the next call works."""
    write("a.txt", "Acme is angry.\n")
    config = tmp_path / "config.toml"
    config.write_text('tool = ["shop.py"]\ntool_timeout = "0.5s"\n')
    replies: list[Reply | str] = [block("later(60)"), block("FINAL(lookup('acme')[0]['customer'])")]
    with ScriptedServer(replies) as server:
        ran = ask(rlm, server, "--config", str(config), "Who?", "docs", cwd=tmp_path)
    assert ran[:2] == (0, "acme\n")
    assert "ToolError: TimeoutError: later took longer than 0.5 s" in server.requests[1].prompt
