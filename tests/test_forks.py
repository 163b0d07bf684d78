"""Recursion is cheap and leaves nothing behind: children are forks of one process, apart from each other, and all of them
end with who started them.

Real processes throughout, looked at from outside by way of /proc.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from test_sandbox import Model, run, sandbox, with_repl

from rlm_cli import contexts
from rlm_cli.builder import CorpusBuilder
from rlm_cli.corpus import Corpus
from rlm_cli.errors import SandboxError
from rlm_cli.sandbox import Failed, Query, Repl, Span

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the process sandbox is Linux only")

SPIN = "import threading\ndef spin():\n    while True: pass\nthreading.Thread(target=spin).start()"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    builder = CorpusBuilder(tmp_path_factory.mktemp("corpus"))
    for number in range(100):
        with builder.document(f"{number}.txt", "text") as document:
            document.write(f"this is document {number}\n" * 1_000)
    made = builder.finish()
    yield made
    made.close()


def below(parent: int) -> list[int]:
    """Process ids of all descendants that are alive: zombies do not count."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, ppid = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:2]
            except OSError:
                continue
            if state not in "ZX":
                parents[int(entry.name)] = int(ppid)
    found, new = list[int](), [parent]
    while new:
        new = [pid for pid, ppid in parents.items() if ppid in new]
        found += new
    return found


def guests() -> list[int]:
    """Descendants of this process that are guests, or what they are forked from."""
    return [pid for pid in below(os.getpid()) if b"guest.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def zygotes() -> list[int]:
    """Those that have forked."""
    return [pid for pid in guests() if Path(f"/proc/{pid}/task/{pid}/children").read_text()]


def opened(pid: int) -> list[str]:
    """What its descriptors and its maps are of."""
    links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]  # noqa: PTH115
    return [*links, *Path(f"/proc/{pid}/maps").read_text().splitlines()]


def descriptors() -> int:
    """How many this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def gone(pids: list[int], within: float = 15.0) -> bool:
    """No process of these is alive, after a while at most."""
    for _ in range(int(within / 0.02)):
        alive = []
        for pid in pids:
            try:
                state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            except OSError:
                continue
            alive += [pid] if state not in "ZX" else []
        if not alive:
            return True
        time.sleep(0.02)
    return False


def test_two_hundred_children_in_a_run(corpus: Corpus) -> None:
    """Each sees its own slice, nobody sees another's variables, nothing is left open, and each costs milliseconds."""

    async def main() -> list[float]:
        place, took = sandbox(), []
        try:
            await (await place.open(corpus, None, Model())).close()
            opened_before = descriptors()
            for number in range(200):
                document = corpus.documents[number % 100]
                began = time.perf_counter()
                repl = await place.open(corpus, [Span(document.start, document.stop)], Model())
                took.append(time.perf_counter() - began)
                output = await repl.execute(f"mine = {number}\nprint(len(docs), docs[0].path, context[:20])")
                assert output.stdout == f"1 {document.path} {corpus.text(document.start, document.start + 20)}\n"
                await repl.close()
            assert descriptors() <= opened_before  # other tests may leave some, which are closed meanwhile
            assert len(guests()) == 1
        finally:
            await place.close()
        return took

    took = asyncio.run(main())
    bare = []
    for _ in range(10):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        bare.append(time.perf_counter() - began)
    assert min(took) < min(bare)  # 5 and 10 ms where this was written
    assert guests() == []


def test_many_children_at_once(corpus: Corpus) -> None:
    """Children that live at the same time are apart; closing the sandbox ends them all, whatever they do."""

    async def main() -> None:
        place = sandbox()
        try:
            repls = await asyncio.gather(*(place.open(corpus, None, Model()) for _ in range(50)))
            await asyncio.gather(*(repl.execute(f"mine_{n} = {n}\nmine = {n}") for n, repl in enumerate(repls)))
            names = "mine, [name for name in globals() if name.startswith('mine_')]"
            for number, repl in enumerate(repls):
                assert (await repl.execute(names)).stdout == f"({number}, ['mine_{number}'])\n"
            await asyncio.gather(*(repl.execute(SPIN) for repl in repls[:5]))
            assert len(guests()) == 51
        finally:
            await place.close()
        assert guests() == []

    asyncio.run(main())


def test_a_child_has_nothing_of_another(corpus: Corpus) -> None:
    """Not its descriptors, not what its namespace held, not the objects of the process both were forked from."""

    async def main() -> None:
        place = sandbox()
        try:
            first = await place.open(corpus, None, Model())
            await first.execute("secret = 'sentinel' + '-of-the-first'")
            second = await place.open(corpus, None, Model())
            seen = await second.execute(
                "import gc\n"
                "fds = []\nfor fd in range(128):\n    try: os.lseek(fd, 0, 1); fds.append(fd)\n"
                "    except OSError as e:\n        if e.errno != 9: fds.append(fd)\n"
                "held = [type(o).__name__ for o in gc.get_objects() if type(o).__name__ in ('_Nursery', 'socket')]\n"
                "print(len(fds), held, any('-of-' + 'the-first' in str(o) for o in gc.get_objects() if type(o) is dict and o is not globals()))".replace(
                    "fds = []", "import os\nfds = []", 1
                )
            )
            assert seen.stdout == "6 ['socket'] False\n", seen
        finally:
            await place.close()

    asyncio.run(main())


def test_the_zygote_holds_no_corpus(corpus: Corpus) -> None:
    """What the children are forked from has neither the corpus nor their wires open."""

    async def body(repl: Repl, model: Model) -> None:
        (zygote,) = zygotes()
        seen = opened(zygote)
        assert not [name for name in seen if "rlm-" in name]
        assert sum(name.startswith("socket:") for name in seen) == 2  # control, and the reins of one child
        assert threads(zygote) == 1

    with_repl(corpus, body)


def test_a_killed_zygote_is_replaced(corpus: Corpus) -> None:
    """Its children end with it; the next cell gets its state back, in a fork of a new one."""

    async def body(repl: Repl, model: Model) -> None:
        await repl.execute("kept = 1")
        everyone = guests()
        for pid in zygotes():
            os.kill(pid, signal.SIGKILL)
        assert gone(everyone)
        await asyncio.sleep(0.1)
        output = await repl.execute("kept")
        assert output.stdout == "1\n", output
        assert output.lost is not None

    with_repl(corpus, body)


@pytest.mark.parametrize("name", ["process", "soft", "none"])
def test_closing_ends_every_process(corpus: Corpus, name: str) -> None:
    """Also one that computes in a thread; without walls also what a cell started."""
    before = below(os.getpid())
    started = "" if name != "none" else "\nimport subprocess\nsubprocess.Popen(['sleep', '1000'])"
    (output,) = run(corpus, SPIN + started, place=sandbox(name))
    assert output.error is None
    assert gone([pid for pid in below(os.getpid()) if pid not in before])


def test_what_does_not_start_is_said(corpus: Corpus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A program that is not there, or that ends at once: its own last words in a line, no hang."""
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho something else >&2\necho ModuleNotFoundError: no _ctypes >&2\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(SandboxError, match="did not get ready") as caught:
        run(corpus, "1")
    assert "no _ctypes" in str(caught.value.why)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    with pytest.raises(SandboxError, match="cannot be started"):
        run(corpus, "1")


_HOST = """
import asyncio, os, sys, threading, time
from rlm_cli import contexts
from rlm_cli.builder import CorpusBuilder
from rlm_cli.sandbox import open_sandbox
async def main():
    builder = CorpusBuilder()
    with builder.document("a", "text") as document:
        document.write("a")
    corpus = builder.finish()
    place = open_sandbox("process", cell_timeout_s=60, repl_memory=1 << 28, context_memory=1 << 20)
    repls = [await place.open(corpus, None, None) for _ in range(3)]
    cells = [asyncio.create_task(repl.execute("sum(range(10**12))")) for repl in repls[1:]]
    await asyncio.sleep(0.2)
    print("ready", flush=True)
    await asyncio.gather(*cells)
"""
HOSTS = {
    "main thread": "asyncio.run(main())",
    "other thread": "thread = threading.Thread(target=asyncio.run, args=[main()])\nthread.start()\nthread.join()",
    "with a copy": "if os.fork() == 0: time.sleep(8); os._exit(0)\nasyncio.run(main())",
}
"""`with a copy`: another process holds the same descriptors; it is forked before and after the sandbox opens."""


@pytest.mark.parametrize("how", HOSTS)
def test_no_process_outlives_a_killed_host(how: str) -> None:
    """SIGKILL of the host ends children that wait and children that sit in a loop in C, and what they came from."""
    code = _HOST
    if how == "with a copy":
        code = code.replace('    print("ready"', '    if os.fork() == 0: time.sleep(8); os._exit(0)\n    print("ready"')
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", code + HOSTS[how]], stdout=subprocess.PIPE) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == b"ready\n"
        pids = [pid for pid in below(host.pid) if b"guest.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(pids) == 4
        host.send_signal(signal.SIGKILL)
        host.wait()
        assert gone(pids)
        host.stdout.close()


def test_the_thread_that_started_it_may_end(corpus: Corpus) -> None:
    """A sandbox whose first use was in a thread that is gone works on; a run in a thread leaves nothing when it ends."""
    place = sandbox()
    thread = threading.Thread(target=lambda: place.level)
    thread.start()
    thread.join()
    time.sleep(0.1)
    with_repl(corpus, _says_one, place)
    thread = threading.Thread(target=lambda: with_repl(corpus, _says_one))
    thread.start()
    thread.join()
    assert guests() == []


async def _says_one(repl: Repl, model: Model) -> None:
    assert (await repl.execute("1")).stdout == "1\n"


def test_an_interrupted_run_in_a_thread_leaves_nothing(corpus: Corpus) -> None:
    """Its loop is stopped in the middle of a cell that computes in C: cancelled, closed, gone."""

    async def main(stop: asyncio.Event, begun: Callable[[], object]) -> None:
        place = sandbox()
        try:
            repl = await place.open(corpus, None, Model())
            cell = asyncio.create_task(repl.execute("sum(range(10**12))"))
            await asyncio.sleep(0.2)
            begun()
            await stop.wait()
            cell.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cell
        finally:
            await place.close()

    begun, loop, stop = threading.Event(), asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(main(stop, begun.set)))
    thread.start()
    assert begun.wait(20)
    assert len(guests()) == 2
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()
    assert guests() == []


class Given:
    """Keeps what children would be given: for each prompt the text of its context, and of what kind the context was."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.texts: list[str] = []
        self.kinds: list[str] = []

    async def __call__(self, query: Query) -> Sequence[str | Failed]:
        for context in query.contexts:
            assert context is not None
            spans = contexts.spans_of(context)
            async with contexts.own_corpus(self.corpus, spans, context) as own:
                ranges = [(span.start, span.stop) for span in spans or ()] or [own.whole]
                self.texts.append("".join(own.text(*place) for place in ranges))
                self.kinds.append(type(context).__name__)
                assert contexts.length(context) <= len(self.texts[-1])
        return ["ok"] * len(query.prompts)


def test_contexts_of_any_size_reach_a_child(corpus: Corpus) -> None:
    """Slices of the corpus as offsets; other text in the frame, or ahead of it in pieces when it is long, once for
    all prompts of a batch. Nothing of it is left open."""

    async def main() -> None:
        place, given = sandbox(repl_memory=1 << 30), Given(corpus)
        try:
            repl = await place.open(corpus, None, given)
            opened_before = descriptors()
            output = await repl.execute(
                "big = 'ä long text, not of the corpus\\n' * 400_000\n"
                "print(len(big), rlm_query('q', context[:200_000]), rlm_query('q', 'short'), rlm_query('q', big))\n"
                "print(rlm_query_batched(['p', 'q'], [big, big]), rlm_query('q', ['first', big[:9_000_000], context[:100]]))"
            )
            assert output.stdout == "12400000 ok ok ok\n['ok', 'ok'] ok\n", output
            assert given.kinds == ["Span", "str", "Corpus", "Corpus", "Corpus", "tuple"]
            big = "ä long text, not of the corpus\n" * 400_000
            assert given.texts[0] == corpus.text(0, 200_000)
            assert given.texts[1] == "short\n"
            assert given.texts[2] == given.texts[3] == given.texts[4] == big
            assert given.texts[5].count("ä long") == big[:9_000_000].count("ä long")
            assert descriptors() <= opened_before  # other tests may leave some, which are closed meanwhile
        finally:
            await place.close()

    asyncio.run(main())


@pytest.mark.slow
def test_contexts_are_bounded_together(corpus: Corpus) -> None:
    """Beyond half a gigabyte at once the model is told to ask in smaller batches, and can."""

    async def main() -> None:
        place, given = sandbox(repl_memory=2 << 30, cell_timeout_s=60), Given(corpus)
        try:
            repl = await place.open(corpus, None, given)
            output = await repl.execute(
                "big = 'a long text, not of the corpus\\n' * 4_000_000\n"
                "try:\n    rlm_query_batched(['p'] * 6, [big[n:] for n in range(6)])\n"
                "except ValueError as e:\n    print(e, rlm_query('q', big))"
            )
            assert "or 512 MB of them, at once: ask in smaller batches" in output.stdout
            assert output.stdout.endswith(" ok\n"), output
            assert output.lost is None
        finally:
            await place.close()

    asyncio.run(main())


def test_long_contexts_are_remembered(corpus: Corpus) -> None:
    """A query with one is answered from memory when the REPL is rebuilt."""

    async def main() -> None:
        place, given = sandbox(repl_memory=1 << 30), Given(corpus)
        try:
            repl = await place.open(corpus, None, given)
            await repl.execute("said = rlm_query('q', 'x' * 20_000_000)")
            died = await repl.execute("import os\nos.abort()")
            assert "cell 1 ran again" in (died.lost or "")
            assert (await repl.execute("said")).stdout == "'ok'\n"
            assert len(given.texts) == 1
        finally:
            await place.close()

    asyncio.run(main())


ILL_PIECES = [
    "for n in range(600): l.send('piece', {'cell': c, 'text': 1}, ('x' * (1 << 20),))",
    "for n in range(500): l.send('piece', {'cell': c, 'text': n}, ('x',))",
    "l.send('piece', {'cell': c, 'text': '1'}, ('x',))",
    "l.send('piece', {'cell': c, 'text': [1]}, ('x',))",
    "l.send('piece', {'cell': c, 'text': 1}, ('x', 'y'))",
    "l.send('drop', {'cell': c})",
    "l.request('query', {'cell': c, 'query': 'rlm', 'model': None, 'prompts': 1, 'contexts': [['text', 9]], 'long': [9]}, ('x',))",
    "l.request('query', {'cell': c, 'query': 'rlm', 'model': None, 'prompts': 1, 'contexts': [None], 'long': [[]]}, ('x',))",
    "l.send('piece', {'cell': c, 'text': 1}, (b'\\xff',))",
]


@pytest.mark.parametrize("code", ILL_PIECES, ids=range(len(ILL_PIECES)))
def test_forged_pieces_end_the_child(corpus: Corpus, code: str) -> None:
    """What a hostile guest can make the host hold is bounded, and freed with it."""
    before = descriptors()
    find = "import gc\nfrom rlm_cli.sandbox.link import Link\nl = [o for o in gc.get_objects() if isinstance(o, Link)][0]\nc = 1\n"
    (output,) = run(corpus, f"{find}{code}\nwhile True: pass")
    assert "broke the protocol" in (output.lost or ""), output
    assert descriptors() <= before


def test_a_context_in_memory_is_sealed(corpus: Corpus) -> None:
    """Nobody can change or cut short the text that a child has mapped."""

    async def main() -> None:
        async with contexts.own_corpus(corpus, None, "a text") as own:
            assert "memfd" in os.readlink(f"/proc/self/fd/{own.fd}")  # noqa: PTH115
            for attempt in (lambda: os.pwrite(own.fd, b"x", 0), lambda: os.ftruncate(own.fd, 0)):
                with pytest.raises(PermissionError):
                    attempt()

    asyncio.run(main())
