"""The REPL in its process: everyday Python works, hostile code gets nowhere, nothing is left behind.

Real child processes throughout. The tables share one REPL each, so that a case costs milliseconds.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest

from rlm_cli.builder import CorpusBuilder
from rlm_cli.call import Handover, Output
from rlm_cli.corpus import Corpus
from rlm_cli.errors import ConfigError
from rlm_cli.result import Quote
from rlm_cli.sandbox import Failed, Query, Repl, Sandbox, Span, open_sandbox

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the process sandbox is Linux only")

LONG = "a line of the second document\n" * 5_000


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    builder = CorpusBuilder(tmp_path_factory.mktemp("corpus"))
    for path, text in (("a.txt", "alpha\nnotice of thirty days\n"), ("b.txt", LONG)):
        with builder.document(path, "text") as document:
            document.write(text)
    made = builder.finish()
    yield made
    made.close()


class Model:
    """Answers queries: `fail` in a prompt fails, `slow` takes a while, else the prompt comes back with its context."""

    def __init__(self) -> None:
        self.queries: list[Query] = []

    async def __call__(self, query: Query) -> Sequence[str | Failed]:
        self.queries.append(query)
        if any("slow" in prompt for prompt in query.prompts):
            await asyncio.sleep(0.6)
        return [
            Failed("refused")
            if "fail" in prompt
            else f"{query.kind}:{prompt}" + ("" if context is None else f"|{context!r}")
            for prompt, context in zip(query.prompts, query.contexts, strict=True)
        ]


def sandbox(name: str = "process", cell_timeout_s: float = 20.0, **sizes: int) -> Sandbox:
    return open_sandbox(
        name, cell_timeout_s=cell_timeout_s, **{"repl_memory": 512 << 20, "context_memory": 64 << 20, **sizes}
    )


def with_repl(corpus: Corpus, body: Callable[[Repl, Model], Awaitable[Any]], place: Sandbox | None = None) -> Any:
    """Run `body` with a fresh REPL, close it, and give back what it returned."""

    async def main() -> Any:
        model, where = Model(), place or sandbox()
        try:
            return await body(await where.open(corpus, None, model), model)
        finally:
            await where.close()

    return asyncio.run(main())


def run(corpus: Corpus, *cells: str, place: Sandbox | None = None) -> list[Output]:
    async def body(repl: Repl, model: Model) -> list[Output]:
        return [await repl.execute(cell) for cell in cells]

    outputs: list[Output] = with_repl(corpus, body, place)
    return outputs


EVERYDAY = [
    ("1 + 1", "2\n"),
    ("print(len(docs), docs[0].path, docs['b.txt'].chars)", f"2 a.txt {len(LONG)}\n"),
    ("re.findall(r'notice \\w+', context)", "['notice of']\n"),
    ("import re\nprint(re.search('alpha', context).group())", "alpha\n"),
    ("kept = [1, 2]\ndef double(x): return [2 * y for y in x]", ""),
    ("double(kept)", "[2, 4]\n"),
    ("class C:\n    n = 3\nfrom dataclasses import dataclass\n@dataclass\nclass D:\n    a: int\nprint(C().n, D(4))", "3 D(a=4)\n"),
    ("del kept\n'kept' in globals()", "False\n"),
    ("import json, csv, io\nprint(json.loads('{\"a\": 1}'), list(csv.reader(io.StringIO('x,y'))))", "{'a': 1} [['x', 'y']]\n"),
    ("from datetime import datetime\nfrom zoneinfo import ZoneInfo\ndatetime(2024, 7, 1, tzinfo=ZoneInfo('Europe/Berlin')).utcoffset().seconds", "7200\n"),
    ("import argparse, email.message, statistics\nstatistics.mean([1, 3])", "2\n"),
    ("import decimal, difflib, heapq, textwrap, unicodedata\nunicodedata.name('ß')[:5]", "'LATIN'\n"),
    ("import sqlite3\nsqlite3.connect(':memory:').execute('select 41 + 1').fetchone()", "(42,)\n"),
    ("sum(x for x in (y * y for y in range(4)))", "14\n"),
    ("llm_query('hi')", "'llm:hi'\n"),
    ("rlm_query('hi', context='text')", "\"rlm:hi|'text'\"\n"),
    ("llm_query_batched(['a', 'b', 'c'])", "['llm:a', 'llm:b', 'llm:c']\n"),
    ("llm_query_batched(iter('ab'), ['x', None])", "[\"llm:a|'x'\", 'llm:b']\n"),
    ("llm_query_batched(['fail', 'b'], return_exceptions=True)", "[SubcallError('refused'), 'llm:b']\n"),
    ("llm_query_batched([])", "[]\n"),
    ("llm_query('hi', docs[1].text[:5])", "\"llm:hi|'a lin'\"\n"),
    ("from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(4) as p: print(list(p.map(llm_query, 'abcd')))", "['llm:a', 'llm:b', 'llm:c', 'llm:d']\n"),
    ("from concurrent.futures import ProcessPoolExecutor\nwith ProcessPoolExecutor() as p: print(list(p.map(llm_query, 'ab')))", "['llm:a', 'llm:b']\n"),
    ("from multiprocessing import Pool\nwith Pool(2) as p: print(p.map(llm_query, 'ab'))", "['llm:a', 'llm:b']\n"),
    ("import asyncio\nawait asyncio.gather(*[asyncio.to_thread(llm_query, x) for x in 'ab'])", "['llm:a', 'llm:b']\n"),
    ("async def f(): return 5\nasyncio.run(f())", "5\n"),
    ("import sys\nprint('to stderr', file=sys.stderr)", "to stderr\n"),
    ("try:\n    llm_query('fail')\nexcept Exception as e:\n    print(type(e).__name__, e)", "SubcallError refused\n"),
    ("import os\nprint(os.environ.get('HOME'), os.getenv('KEY'))", "None None\n"),
    ("exit()\nprint('not reached')", ""),
    ("import random\nrandom.Random(1).randint(1, 6) in range(1, 7)", "True\n"),
]  # fmt: skip


def test_everyday_python_works(corpus: Corpus) -> None:
    """What models write for text work runs as it would anywhere, and state lives from cell to cell."""
    for (code, expected), output in zip(EVERYDAY, run(corpus, *(code for code, _ in EVERYDAY)), strict=True):
        assert output.error is None, (code, output.error)
        assert output.stdout == expected, code


EXPLAINED = [
    ("open('context.txt')", "`docs`"),
    ("input('?')", "llm_query"),
    ("import numpy", "only the standard library"),
    ("from pandas import DataFrame", "only the standard library"),
    ("import os\nos.environ['OPENAI_API_KEY']", "no environment"),
    ("from pathlib import Path\nPath('x').read_text()", "`docs`"),
    ("llm_query(['a', 'b'])", "llm_query_batched"),
    ("llm_query_batched('a')", "llm_query"),
    ("llm_query(None)", "the prompt is text"),
    ("llm_query_batched(['a', 3])", "prompt 1 is text"),
    ("llm_query_batched(['a'], ['x', 'y'])", "one context for each"),
    ("llm_query('a', context={'k': 1})", "a context is text"),
    ("llm_query('fail')", "SubcallError: refused"),
    ("FINAL_VAR('nothing_here')", "SHOW_VARS"),
    ("FINAL('x', quotes=[3])", "a quote is"),
    ("x = (1,\nprint(", "SyntaxError"),
    ("def f(n):\n    return 1 / n\nf(0)", "return 1 / n\nZeroDivisionError: division by zero"),
    ("def g(): g()\ng()", "RecursionError"),
    ("raise ValueError('x' * 100000)", "…"),
]  # fmt: skip


def test_an_error_says_what_to_do(corpus: Corpus) -> None:
    """What cannot work fails in one line that names what does; tracebacks show the model's own lines, and are short."""
    for (code, expected), output in zip(EXPLAINED, run(corpus, *(code for code, _ in EXPLAINED)), strict=True):
        assert expected in (output.error or ""), (code, output)
        assert len(output.error or "") < 4_000


ANSWERS = [
    ("FINAL('done')", "done", ()),
    ("FINAL(None)", None, ()),
    ("x = {'a': (1, 2)}\nFINAL(x, quotes=['thirty  days', ('a.txt', 'notice')])", {"a": [1, 2]}, (Quote("thirty  days"), Quote("notice", "a.txt"))),
    ("try:\n    FINAL(1)\nexcept Exception:\n    pass\nFINAL(2)", 1, ()),
    ("try:\n    FINAL('first')\nexcept:\n    pass\nFINAL('second')", "first", ()),
    ("def f():\n    print(FINAL('inside'))\nf()", "inside", ()),
    ("import threading\nt = threading.Thread(target=FINAL, args=('thread',))\nt.start(); t.join()", "thread", ()),
    ("import asyncio\nasync def g():\n    FINAL('async')\nawait asyncio.gather(g(), g())", "async", ()),
    ("result = [1]\nFINAL_VAR('result')", [1], ()),
    ("city = 'Paris'\nFINAL_VAR(city)", "Paris", ()),
    ("FINAL(float('nan'))", None, ()),
    ("FINAL({1, 3, 2})", [1, 2, 3], ()),
    ("import datetime\nFINAL(datetime.date(2024, 1, 2))", "2024-01-02", ()),
    ("loop = []\nloop.append(loop)\nFINAL(loop)", ["<list>"], ()),
    ("FINAL('a\\ud800b')", "a?b", ()),
    ("answer = {'content': 'mapped', 'ready': True}", "mapped", ()),
    ("del answer\nFINAL('x' * 30_000_000)", "x" * 30_000_000, ()),
]  # fmt: skip


def test_answers_are_handed_over_by_value(corpus: Corpus) -> None:
    """Every spelling that is clear ends the cell with its value; the first one wins; answers may be big."""
    for (code, value, quotes), output in zip(ANSWERS, run(corpus, *(code for code, *_ in ANSWERS)), strict=True):
        assert output.answer is not None, (code, output)
        assert output.answer.value == value, code
        assert output.answer.quotes == quotes, code


def test_what_is_too_large_to_hand_over_is_said(corpus: Corpus) -> None:
    """It costs the cell and not the REPL."""
    first, refused, last = run(corpus, "kept = 1", "FINAL(1, quotes=[('p' * 5_000_000, 'x')])", "kept")
    assert first.error is None
    assert "too large" in (refused.error or "")
    assert refused.lost is None
    assert last.stdout == "1\n"


def test_an_empty_answer_is_none(corpus: Corpus) -> None:
    """FINAL('') says how to say that there is none."""
    refused, _ = run(corpus, "FINAL('  ')", "1")
    assert refused.answer is None
    assert "FINAL(None) means" in (refused.error or "")


def test_a_draft_and_new_variables_are_reported(corpus: Corpus) -> None:
    """A mapping `answer` that is not ready is a draft; a name shows when it is new or changes type or length."""
    draft, same, grown = run(
        corpus,
        "answer = {'content': 'so far', 'ready': False}\nitems = [1, 2]\nimport json",
        "items = [3, 4]",
        "items.append(5)\nboom",
    )
    assert draft.answer is None
    assert draft.draft == "so far"
    assert draft.variables == (("answer", "dict, 2 items"), ("items", "list, 2 items"))
    assert same.variables == ()
    assert grown.variables == (("items", "list, 3 items"),)
    assert grown.error is not None


def test_output_keeps_head_and_tail(corpus: Corpus) -> None:
    """Of a flood, the first and last 5,000 characters are shown and the true number of the others is said."""
    (output,) = run(corpus, "print('head'); print('x' * 10**8); print('tail')")
    assert output.stdout.startswith("head\nxxx")
    assert output.stdout.endswith("xxx\ntail\n")
    assert output.omitted_chars == 10**8 + 11 - 10_000


def test_a_batch_that_failed_in_part_is_paid_for_once(corpus: Corpus) -> None:
    """Finished results are on the exception and in `_results`; asked again, only the failed ones are asked."""

    async def body(repl: Repl, model: Model) -> None:
        batch = "ps = ['a', 'fail', 'c']\ntry:\n    llm_query_batched(ps)\nexcept SubcallError as e:\n    print(e.results[0], e.results is _results)"
        assert (await repl.execute(batch)).stdout == "llm:a True\n"
        await repl.execute("llm_query_batched(ps, return_exceptions=True)")
        assert [query.prompts for query in model.queries] == [("a", "fail", "c"), ("fail",)]

    with_repl(corpus, body)


def test_a_slice_of_the_corpus_travels_as_offsets(corpus: Corpus) -> None:
    """A context of any size that stands in the corpus costs nothing on the wire, lazy or not."""
    for context_memory in (64 << 20, 0):

        async def body(repl: Repl, model: Model, plain: bool = context_memory > 0) -> None:
            output = await repl.execute(
                "start = context.find('a line')\nllm_query('q', context[start : start + 90_000])"
            )
            assert output.error is None
            start = corpus.find("a line")
            context = model.queries[0].contexts[0]
            if plain:
                assert context == Span(start, start + 90_000)
            whole = await repl.execute("rlm_query('q', context)\nrlm_query('q', [context, 'more'])")
            assert whole.error is None
            assert model.queries[1].contexts[0] == Span(0, corpus.chars)
            assert model.queries[2].contexts[0] == (Span(0, corpus.chars), "more")

        with_repl(corpus, body, sandbox(context_memory=context_memory))


def test_subcalls_are_refused_in_the_closing_turn(corpus: Corpus) -> None:
    """`subcalls=False` refuses every query without asking anybody."""

    async def body(repl: Repl, model: Model) -> None:
        output = await repl.execute("llm_query('hi')", subcalls=False)
        assert "closing turn" in (output.error or "")
        assert model.queries == []

    with_repl(corpus, body)


DENIED = [
    "import os\nos.open('/etc/passwd', 0)",
    "import os\nos.listdir('/')",
    "import os\nos.stat('/root')",
    "import io\nio.open('/proc/self/environ')",
    "import os\nos.open(f'/proc/{os.getppid()}/environ', 0)",
    "import os\nos.open(f'/proc/{os.getppid()}/mem', 2)",
    "import os\nos.mkdir('/tmp/x')",
    "import os\nos.unlink('/tmp/x')",
    "import os\nos.chdir('/')",
    "import os\nos.chmod('/tmp', 0o777)",
    "import socket\nsocket.socket()",
    "import socket\nsocket.socket(socket.AF_INET6, socket.SOCK_DGRAM)",
    "import socket\nsocket.socket(socket.AF_UNIX)",
    "import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "import socket\nsocket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)",
    "import socket\na, b = socket.socketpair()\na.sendto(b'x', '\\0abstract')",
    "import socket\nsocket.create_connection(('127.0.0.1', 80), 1)",
    "import os\nos.fork()",
    "import os\nos.execv('/bin/sh', ['sh'])",
    "import subprocess\nsubprocess.run(['true'])",
    "import os\nos.posix_spawn('/bin/true', ['true'], {})",
    "import os\nif os.system('true'): raise PermissionError(1, 'system')",
    "import os\nos.kill(os.getppid(), 9)",
    "import os\nos.kill(-1, 9)",
    "import os\nos.killpg(0, 9)",
    "import os\nos.setuid(0) or os.setsid()",
    "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (-1, -1))",
    "import os\nos.memfd_create('x')",
    "import os\nos.sched_setaffinity(0, {0})",
    "import mmap\nmmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)",
]
RAW = {"ptrace": 101, "bpf": 321, "keyctl": 250, "io_uring_setup": 425, "userfaultfd": 323, "process_vm_readv": 310,
       "perf_event_open": 298, "openat2": 437, "pidfd_open": 434, "mount": 165, "unshare": 272, "setns": 308, "open": 2}  # fmt: skip


def test_the_kernel_refuses_what_hostile_code_tries(corpus: Corpus) -> None:
    """Files, network of every family, processes, signals, limits: refused, and the REPL goes on."""
    for code, output in zip(DENIED, run(corpus, *DENIED), strict=True):
        assert output.lost is None, code
        assert "PermissionError" in (output.error or "") or bool(
            re.search("not permitted|not allowed to raise", output.error or "")
        ), (code, output)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
def test_raw_system_calls_are_refused(corpus: Corpus) -> None:
    """Going around Python changes nothing; a foreign table of calls ends the child."""
    numbers = ", ".join(map(str, RAW.values()))
    code = f"import ctypes\nc = ctypes.CDLL(None, use_errno=True)\n[(c.syscall(n, 0, 0, 0, 0, 0), ctypes.get_errno()) for n in ({numbers})]"
    raw, x32 = run(corpus, code, "c.syscall(0x40000000 + 39)")
    assert raw.stdout == f"{[(-1, 1)] * len(RAW)}\n"
    assert "forbidden system call" in (x32.lost or "")


FATAL = [
    ("import ctypes\nctypes.string_at(0)", "segmentation fault"),
    ("import os\nos.abort()", "abort"),
    ("import os\nos._exit(0)", "ended itself"),
    ("import gc\nfrom rlm_cli.sandbox.link import Link\nl = [o for o in gc.get_objects() if isinstance(o, Link)][0]\nl.send('nonsense')\nwhile True: pass", "protocol"),
    ("import gc\nfrom rlm_cli.sandbox.link import Link\nl = [o for o in gc.get_objects() if isinstance(o, Link)][0]\nl._socket.sendall(b'\\xff' * 100)\nwhile True: pass", "protocol"),
    ("import gc\nfrom rlm_cli.sandbox.link import Link\nl = [o for o in gc.get_objects() if isinstance(o, Link)][0]\nl.send('done', {'cell': 999, 'omitted': 0, 'variables': [], 'quotes': []}, ['', '', '', ''])\nwhile True: pass", "protocol"),
    ("import gc\nfrom rlm_cli.sandbox.link import Link\nl = [o for o in gc.get_objects() if isinstance(o, Link)][0]\nl._socket.close()\nimport os\nos._exit(1)", "ended itself"),
]  # fmt: skip


def test_a_dead_child_is_replaced_and_the_model_is_told(corpus: Corpus) -> None:
    """Crashes and forged frames cost the variables and nothing else."""
    for code, why in FATAL:
        died, after = run(corpus, f"x = 1\n{code}", "len(docs), 'x' in globals()")
        assert why in (died.lost or ""), (code, died)
        assert "variables are gone" in (died.lost or "")
        assert (after.stdout, after.lost) == ("(2, False)\n", None)


def test_a_quote_that_is_not_there_comes_back_once(corpus: Corpus) -> None:
    """The model learns which one and how much of it is there; the answer is kept meanwhile; then it is taken as it is."""
    final = "FINAL('Thirty', quotes=['notice', ('a.txt', 'notice of thirty WEEKS or so')])"
    refused, between, taken = run(corpus, final, "1", "FINAL(_answer, quotes=_quotes)")
    assert refused.answer is None
    assert refused.held == Handover("Thirty", (Quote("notice"), Quote("notice of thirty WEEKS or so", "a.txt")))
    assert "quote 2: “notice of thirty WEEKS or so” (there as far as “notice of thirty”)" in (refused.error or "")
    assert "quote 1" not in (refused.error or "")
    assert between.held is None
    assert taken.held is None
    assert taken.answer is not None
    assert taken.answer.quotes[1] == Quote("notice of thirty WEEKS or so", "a.txt")

    async def child() -> Output:
        place = sandbox()
        try:
            repl = await place.open(corpus, [Span(0, 100)], Model())
            return await repl.execute(final)
        finally:
            await place.close()

    assert asyncio.run(child()).answer is not None  # its parent quotes for itself


def test_real_names_come_back(corpus: Corpus) -> None:
    """What a cell overwrites or deletes is there again in the next."""
    spoil = (
        "import builtins, sys\nllm_query = FINAL = context = docs = re = SHOW_VARS = None\n"
        "sys.stdout = None\ndel builtins.print, builtins.len, builtins.Exception\nkeep = 1"
    )
    _, output = run(corpus, spoil, "print(len(context) > 0, llm_query('x'), keep, Exception.__name__)")
    assert output.stdout == "True llm:x 1 Exception\n"


BOMBS = [
    "x = b'x' * (5 << 30)",
    "x = []\nwhile True: x.append(bytearray(1 << 20))",
    "x = []\nwhile True: x.append('abc' * 50)",
]


def test_a_memory_bomb_costs_its_cell(corpus: Corpus) -> None:
    """After it the next cell works, and variables from before are there."""
    for bomb in BOMBS:
        _, bombed, after = run(
            corpus, "before = 7", bomb, "y = [0] * 100_000\nbefore", place=sandbox(repl_memory=128 << 20)
        )
        assert "MemoryError" in (bombed.error or ""), bombed
        assert (bombed.lost, after.stdout) == (None, "7\n"), (bomb, after)


def test_floods_of_descriptors_and_threads_are_bounded(corpus: Corpus) -> None:
    """Descriptors and threads run out for the child only; what it writes to descriptor 1 is dropped."""
    flood = "import os\nfor _ in range(2000): os.write(1, b'x' * 10_000)"
    pipes = "import os\nfds = []\nwhile True: fds.extend(os.pipe())"
    threads = "import threading, time\nfor _ in range(5000): threading.Thread(target=time.sleep, args=(0.5,), daemon=True).start()"
    disk, full, crowd, after = run(corpus, flood, pipes, threads, "time.sleep(0.6)\n'still here'")
    assert (disk.error, disk.stdout) == (None, "")
    assert "Too many open files" in (full.error or "")
    assert crowd.error is not None
    assert "still here" in after.stdout or after.lost


def test_computing_is_limited_and_the_state_kept(corpus: Corpus) -> None:
    """An interrupt ends an endless loop; what was bound before it is there; waiting for a sub-call does not count."""
    place = sandbox(cell_timeout_s=0.4)
    waited, looped, after = run(corpus, "llm_query('slow')", "y = 5\nwhile True: pass", "y", place=place)
    assert waited.stdout == "'llm:slow'\n"
    assert "limit of a cell" in (looped.error or "")
    assert looped.lost is None
    assert after.stdout == "5\n"


def test_the_wall_limit_ends_a_wait(corpus: Corpus) -> None:
    """`timeout_s` counts waiting for sub-calls too; the state is kept."""

    async def body(repl: Repl, model: Model) -> None:
        output = await repl.execute("z = 3\nllm_query('slow')", timeout_s=0.2)
        assert "the time that was left" in (output.error or "")
        assert (await repl.execute("z")).stdout == "3\n"

    with_repl(corpus, body)


def test_cancelling_a_cell_kills_the_child_and_the_next_cell_works(corpus: Corpus) -> None:
    """Ctrl-C does not wait for model code."""

    async def body(repl: Repl, model: Model) -> None:
        cell = asyncio.create_task(repl.execute("while True: pass"))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        cell.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cell
        assert time.monotonic() - began < 5
        after = await repl.execute("1")
        assert after.stdout == "1\n"
        assert after.lost is not None

    with_repl(corpus, body)


def test_levels_are_proved(corpus: Corpus) -> None:
    """The level is what the child's own attempts showed, before and after a session; weaker ones have their names."""
    for name, level in (("auto", "linux-strict"), ("process", "linux-strict"), ("soft", "soft"), ("none", "none")):
        place = sandbox(name)
        assert place.level == level
        asyncio.run(place.close())
    with pytest.raises(ConfigError):
        sandbox("nothing")


def test_soft_stops_accidents(corpus: Corpus) -> None:
    """The audit hook refuses the ordinary ways; it claims no more."""
    outputs = run(corpus, "import os\nos.listdir('/')", "1 + 1", "import argparse", place=sandbox("soft"))
    assert "PermissionError" in (outputs[0].error or "")
    assert [output.error for output in outputs[1:]] == [None, None]


def test_nothing_of_the_host_is_in_the_child(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the environment, and six descriptors: null, the pipe twice, the wire, the corpus and its map's."""
    monkeypatch.setenv("SENTINEL_API_KEY", "sentinel-value")
    code = (
        "import os, ctypes\nenv = ctypes.c_void_p.in_dll(ctypes.CDLL(None), 'environ')\n"
        "names, n = [], 0\np = ctypes.cast(env, ctypes.POINTER(ctypes.c_char_p))\n"
        "while p[n]: names.append(p[n].decode().partition('=')[0]); n += 1\n"
        "fds = []\nfor fd in range(128):\n    try: os.lseek(fd, 0, 1); fds.append(fd)\n"
        "    except OSError as e:\n        if e.errno != 9: fds.append(fd)\n"
        "print(sorted(names), len(fds))"
    )
    (output,) = run(corpus, code)
    assert "SENTINEL" not in output.stdout
    assert output.stdout.endswith("] 6\n"), output
