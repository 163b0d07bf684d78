"""Time, and what is left after it: cells end at their limits, and a REPL that had to be killed comes back with its state.

Real child processes. Limits are fractions of a second; what is asserted is order and content, not speed.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from test_sandbox import Model, run, sandbox, with_repl

from rlm_cli.corpus import Corpus
from rlm_cli.sandbox import Failed, Query, Repl

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the process sandbox is Linux only")

CRASH = "import ctypes\nctypes.string_at(0)"
STUCK = "sum(range(10**12))"


KEPT = [
    ("while True: pass", "loop"),
    ("import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()", "deadlock"),
    ("import threading\nt = threading.Thread(target=threading.Event().wait, daemon=True)\nt.start()\nt.join()", "join"),
    ("import time\ntime.sleep(1000)", "sleep"),
    ("import re\nre.match('(a+)+b', 'a' * 40)", "regex"),
    ("import asyncio\nawait asyncio.sleep(1000)", "await"),
    ("import queue\nqueue.Queue().get()", "queue"),
    ("10 ** 10 ** 8", "power"),
]


@pytest.mark.parametrize("code", [code for code, _ in KEPT], ids=[name for _, name in KEPT])
def test_an_interrupt_keeps_the_state(corpus: Corpus, code: str) -> None:
    """Loops, deadlocks and waits in Python end at the limit of computing; the process and its variables stay."""
    _, stopped, after = run(corpus, "kept = [1]", code, "kept", place=sandbox(cell_timeout_s=0.3))
    assert "limit of a cell" in (stopped.error or "")
    assert "what was bound before is kept" in (stopped.error or "")
    assert (stopped.lost, after.stdout, after.lost) == (None, "[1]\n", None)


REPLACED = [
    (STUCK, "did not stop when interrupted", "loop in C"),
    (
        "import collections, itertools\ncollections.deque(itertools.repeat(0), 0)",
        "did not stop when interrupted",
        "iterator",
    ),
    (
        "import time\nwhile True:\n    try:\n        time.sleep(0.05)\n    except BaseException: pass",
        "did not stop when interrupted",
        "swallowed",
    ),
    (
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
        "did not stop when interrupted",
        "ignored",
    ),
    (CRASH, "segmentation fault", "crash"),
    ("import os\nos._exit(3)", "memory was full", "memory"),
    (
        "import gc\nfrom rlm_cli.sandbox.link import Link\nl = [o for o in gc.get_objects() if isinstance(o, Link)][0]\nl.send('nonsense')\nwhile True: pass",
        "protocol",
        "forged",
    ),
]


@pytest.mark.parametrize(("code", "why"), [row[:2] for row in REPLACED], ids=[name for *_, name in REPLACED])
def test_a_killed_repl_comes_back_with_its_state(corpus: Corpus, code: str, why: str) -> None:
    """What ignores its interrupt, crashes or breaks the protocol costs what its own cell bound; the model is told in
    a line, and no model is asked again."""

    async def body(repl: Repl, model: Model) -> None:
        await repl.execute("kept = [llm_query('a'), llm_query('a')]\ndef f(): return len(kept)")
        assert (await repl.execute("kept.append(3)\n1 / 0")).error is not None
        asked = list(model.queries)
        died = await repl.execute(f"mine = 1\n{code}")
        assert why in (died.lost or "")
        assert "cells 1-2 ran again" in (died.lost or "")
        assert "Gone is what cell 3 bound" in (died.lost or "")
        assert "\n" not in (died.lost or "")
        after = await repl.execute("f(), kept, 'mine' in globals()")
        assert (after.stdout, after.lost) == ("(3, ['llm:a', 'llm:a', 3], False)\n", None)
        assert model.queries == asked

    with_repl(corpus, body, sandbox(cell_timeout_s=0.5))


@pytest.mark.parametrize("name", ["soft", "none"])
def test_weaker_places_come_back_too(corpus: Corpus, name: str) -> None:
    """The same without the kernel's walls."""
    _, died, after = run(corpus, "kept = 1", STUCK, "kept", place=sandbox(name, cell_timeout_s=0.3))
    assert "cell 1 ran again" in (died.lost or "")
    assert after.stdout == "1\n"


class Counting:
    """Every answer is another one, so that who gets which shows; `fail` fails."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, query: Query) -> Sequence[str | Failed]:
        results: list[str | Failed] = []
        for prompt in query.prompts:
            self.asked += 1
            results.append(Failed(f"refused {self.asked}") if "fail" in prompt else f"{prompt}{self.asked}")
        return results


def counted(corpus: Corpus, *cells: str) -> tuple[list[str], int, str]:
    """Run cells, then crash, then the last of them once more: what both printed, how often a model was asked, and
    what was said of the crash."""

    async def main() -> tuple[list[str], int, str]:
        place, model = sandbox(), Counting()
        try:
            repl = await place.open(corpus, None, model)
            outputs = [await repl.execute(cell) for cell in cells]
            died = await repl.execute(CRASH)
            again = await repl.execute(cells[-1])
            return [outputs[-1].stdout, again.stdout], model.asked, died.lost or ""
        finally:
            await place.close()

    return asyncio.run(main())


def test_answers_are_remembered_by_what_was_asked(corpus: Corpus) -> None:
    """Threads, batches, failures, contexts and repeated prompts get the answers they had."""
    printed, asked, lost = counted(
        corpus,
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(8) as pool: answers = dict(zip('abcdefgh', pool.map(llm_query, 'abcdefgh')))",
        "batch = llm_query_batched(['x', 'fail', 'y'], return_exceptions=True)",
        "try:\n    llm_query_batched(['p', 'fail'])\nexcept SubcallError: pass\n"
        "retried = llm_query_batched(['p', 'fail'], return_exceptions=True)",
        "same = [llm_query('s') for _ in range(3)]\nwhere = llm_query('c', context[:5]), rlm_query('c', [context, 'z'])",
        "print(answers, batch, retried, same, where)",
    )
    assert printed[0] == printed[1]
    assert asked == 8 + 3 + 2 + 1 + 3 + 2
    assert "cells 1-5 ran again" in lost
    assert "Look before" not in lost


def test_chance_is_the_same_again(corpus: Corpus) -> None:
    """`random` and the order of sets are those of the first time, so the same prompts are sent."""
    printed, asked, lost = counted(
        corpus,
        "import random\nnames = {f'name{n}' for n in range(50)}\nrandom.shuffle(order := list(range(20)))",
        "said = llm_query(f'{random.random()} {names}')",
        "print(order, said, list(names)[:5])",
    )
    assert printed[0] == printed[1]
    assert asked == 1
    assert "Look before" not in lost


def test_what_differs_is_said(corpus: Corpus) -> None:
    """A cell that prints something else the second time is named; those after it are still run."""
    printed, _, lost = counted(corpus, "a = 1", "import time\nprint(time.monotonic_ns())", "b = 2", "a, b")
    assert printed == ["(1, 2)\n"] * 2
    assert "cells 1-4 ran again" in lost
    assert "Look before you rely on cell 2" in lost


def test_rebuilding_ends_where_it_goes_wrong(corpus: Corpus) -> None:
    """A cell that needs what a stopped cell bound, or that asks what it had not asked, ends it: what is gone is named,
    what was before is there, and no model is asked."""

    async def body(repl: Repl, model: Model) -> None:
        await repl.execute("first = 1")
        await repl.execute("second = 2\nwhile True: pass")
        await repl.execute("third = second + 1")
        await repl.execute("fourth = 4")
        died = await repl.execute(CRASH)
        assert "and cell 1 ran again" in (died.lost or "")
        assert "Gone is what cells 2-5 bound" in (died.lost or "")
        assert "cell 2 was stopped at a limit" in (died.lost or "")
        assert "cell 3 fails now (NameError: name 'second' is not defined" in (died.lost or "")
        there = "[name for name in ('first', 'second', 'third', 'fourth') if name in globals()]"
        assert (await repl.execute(there)).stdout == "['first']\n"
        again = await repl.execute(CRASH)  # what is gone is told once
        assert "cells 1, 6 ran again" in (again.lost or "")
        assert "Gone is what cell 7 bound" in (again.lost or "")

    with_repl(corpus, body, sandbox(cell_timeout_s=0.5))

    async def strays(repl: Repl, model: Model) -> None:
        await repl.execute("import time\nsaid = llm_query(str(time.monotonic_ns()))")
        await repl.execute("later = 1")
        died = await repl.execute(CRASH)
        assert "all variables are gone" in (died.lost or "")
        assert len(model.queries) == 1
        assert (await repl.execute("'later' in globals()")).stdout == "False\n"

    with_repl(corpus, strays)


def test_a_cell_that_is_far_slower_now_ends_it(corpus: Corpus) -> None:
    """Rebuilding a REPL never hangs on a cell that did not: the ones before are there."""

    async def body(repl: Repl, model: Model) -> None:
        await repl.execute("a = 1")
        slow_after = time.monotonic() + 1
        await repl.execute(f"import time\nif time.monotonic() > {slow_after}: {STUCK}\nb = 1")
        await asyncio.sleep(1.2)
        died = await repl.execute(CRASH)
        assert "cell 1 ran again" in (died.lost or "")
        assert "cell 2 takes far longer now" in (died.lost or "")
        assert (await repl.execute("a, 'b' in globals()")).stdout == "(1, False)\n"

    with_repl(corpus, body)


def test_what_kills_between_cells_is_not_run_again(corpus: Corpus) -> None:
    """A thread that crashes after its cell: the REPL is rebuilt without that cell, at the next."""

    async def body(repl: Repl, model: Model) -> None:
        await repl.execute("a = 1")
        await repl.execute("import ctypes, threading\nthreading.Timer(0.2, ctypes.string_at, [0]).start()")
        await asyncio.sleep(0.6)
        output = await repl.execute("a")
        assert output.stdout == "1\n"
        assert "segmentation fault" in (output.lost or "")
        assert "cell 2 left behind what ended the REPL" in (output.lost or "")
        await asyncio.sleep(0.4)
        assert (await repl.execute("a")).lost is None

    with_repl(corpus, body)


def test_the_wall_limit_holds_for_rebuilding_too(corpus: Corpus) -> None:
    """When the time is up nothing is rebuilt for it, and nothing is lost: the next cell that has time finds it all."""

    async def body(repl: Repl, model: Model) -> None:
        await repl.execute("import time\ntime.sleep(0.7)\nkept = llm_query('a')")
        began = time.monotonic()
        late = await repl.execute(STUCK, timeout_s=0.2)
        assert "no time to rebuild" in (late.lost or "")
        still = await repl.execute("kept", timeout_s=0.2)
        assert "it did not run" in (still.error or "")
        assert time.monotonic() - began < 0.2 + 1.5 + 0.2 + 1.5 + 2
        after = await repl.execute("kept", timeout_s=30)
        assert after.stdout == "'llm:a'\n"
        assert "cell 1 ran again" in (after.lost or "")
        assert len(model.queries) == 1

    with_repl(corpus, body)


def test_a_cancelled_cell_costs_itself_only(corpus: Corpus) -> None:
    """Ctrl-C ends the process at once; what the other cells bound is there for whoever goes on."""

    async def body(repl: Repl, model: Model) -> None:
        await repl.execute("kept = 1")
        cell = asyncio.create_task(repl.execute(STUCK))
        await asyncio.sleep(0.2)
        cell.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cell
        after = await repl.execute("kept")
        assert after.stdout == "1\n"
        assert "Gone is what cell 2 bound (cell 2 was cancelled)" in (after.lost or "")

    with_repl(corpus, body)


def test_the_closing_turn_is_run_again_as_it_was(corpus: Corpus) -> None:
    """Sub-calls that were refused are refused again, and an answer that was sent back is known to have been."""

    async def body(repl: Repl, model: Model) -> None:
        await repl.execute("try:\n    llm_query('x')\nexcept SubcallError as e: said = str(e)", subcalls=False)
        await repl.execute("FINAL('a', quotes=['not there at all'])")
        await repl.execute(CRASH)
        assert "closing turn" in (await repl.execute("said")).stdout
        assert (await repl.execute("FINAL('a', quotes=['not there at all'])")).answer is not None

    with_repl(corpus, body)


def test_late_imports_and_definitions_come_back(corpus: Corpus, tmp_path: Path) -> None:
    """Modules that the host sent, classes, closures and generators are there after a rebuilding."""
    printed, _, lost = counted(
        corpus,
        "import argparse\nfrom dataclasses import dataclass\n@dataclass\nclass D:\n    a: int\nd = D(1)",
        "def numbers():\n    yield from range(9)\ngen = numbers(); next(gen)",
        "d.a += 1",
        "print(argparse.__name__, d, gen.gi_frame is not None)",
    )
    assert printed[0] == printed[1] == "argparse D(a=2) True\n"
    assert "cells 1-4 ran again" in lost
