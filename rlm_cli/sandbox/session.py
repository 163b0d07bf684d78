"""One guest from its start to its end: the frames it sends, the queries it asks, the clocks of its cells.

Nothing that comes from the guest is trusted. Frames are read by a strict state machine: a fixed table of kinds, sizes
capped before they are read, every field checked (`messages.py`); anything else ends the guest, in one line.

Two clocks. Computing time of a cell runs while no query is open (a thread that computes while others wait for a model
is not counted; the wall limit and RLIMIT_CPU bound that). When either is used up: SIGINT, and `GRACE_S` to end.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ..builder import Unwritable
from ..corpus import Corpus
from ..errors import SandboxError
from . import Ask, Failed, Proof, Query, Span, weight, wire
from .child import START_S, Confinement, Guest, Starter, opening, proved
from .longtexts import LongTexts
from .messages import Done, count_prompts, long_texts, read_done, read_query, served_module, served_zone

SETTLE_S = 2.0
"""For queries whose cell has ended: connections close in milliseconds."""
GRACE_S = 1.5
"""From the interrupt to the kill."""
MAX_QUERIES = 2_000
"""Frames of queries a child may have open at once: one for each of its threads, of which it can have a thousand."""
CHUNK = 1 << 18
"""Bytes of a large text that are taken from the stream at a time."""
_NO_SUBCALLS = "no sub-calls in the closing turn: hand over what the variables hold"
_CELL_ENDED = "its cell has ended"

Stopped = Literal["computing", "time"]
"""Which clock of a cell ran out."""


@dataclass(eq=False, slots=True)
class Cell:
    """One cell in progress. `number` is what tracebacks call it. `lost`: how its session ended, when it did."""

    number: int
    subcalls: bool
    ask: Ask
    computed: float = 0.0
    """Seconds in which no query was open."""
    done: Done | None = None
    lost: str = ""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    queries: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    bytes: int = 0
    """Of the queries that are open."""
    texts: LongTexts = field(default_factory=LongTexts)

    @property
    def over(self) -> bool:
        return self.done is not None or bool(self.lost)


class Session:
    """One child from its start to its end, with the task that reads its frames."""

    def __init__(self, guest: Guest, chars: int) -> None:
        self.guest = guest
        self.proof = Proof("none", ())
        self.ended = ""
        """How it ended; empty while it lives."""
        self.died_idle = False
        """It ended by itself while no cell ran."""
        self._chars = chars
        self._cell: Cell | None = None
        self._queries: set[asyncio.Task[None]] = set()
        """Until they have ended: a query that was cancelled still settles what it had asked."""

    @classmethod
    async def start(
        cls, starter: Starter, how: Confinement, corpus: Corpus, spans: Sequence[Span] | None, within: float = START_S
    ) -> Session:
        """A guest that is ready for its first cell, in so many seconds. Raises `SandboxError`."""
        session = cls(await starter.begin(corpus.fd), corpus.chars)
        try:
            await session._connect()
            session._writer.write(opening(how, spans))
            async with asyncio.timeout(within):
                session.proof = proved(how, await session._receive())
            session.guest.ready()
        except (OSError, EOFError, TimeoutError, wire.Violation) as problem:
            session.end()
            why = session.guest.said() or session.ended or str(problem)
            raise SandboxError("the REPL's process did not get ready", why=why) from None
        except BaseException:
            session.end()
            raise
        session._reading = asyncio.create_task(session._read())
        return session

    async def _connect(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader, self._writer = await asyncio.open_connection(sock=self.guest.socket)
        self._loop.add_reader(self.guest.pipe, self._drain)
        self._reading: asyncio.Task[None] | None = None

    def _drain(self) -> None:
        if not self.guest.drain():
            self._loop.remove_reader(self.guest.pipe)

    async def run(self, cell: Cell, code: str, computing: float, deadline: float) -> Stopped | None:
        """Run a cell to its end, the session's included; it may compute so many seconds, and go on to `deadline` of the
        monotonic clock. Returns which of the two ran out and had it interrupted. If it is not `cell.over` then, it does
        not take interrupts."""
        self._cell = cell
        try:
            self._writer.write(wire.encode("cell", {"cell": cell.number}, (code,)))
            await self._writer.drain()
        except OSError:
            pass  # the reading task sees the end of the stream and says how it came
        stopped = await self._clocks(cell, computing, deadline)
        if stopped is not None:
            self.guest.interrupt(self._writer.write)
            with suppress(TimeoutError):
                async with asyncio.timeout(GRACE_S):
                    while not cell.over:
                        cell.changed.clear()
                        await cell.changed.wait()
        return stopped

    async def _clocks(self, cell: Cell, computing: float, deadline: float) -> Stopped | None:
        while not cell.over:
            now, waiting = time.monotonic(), bool(cell.queries)
            if now >= deadline:
                return "time"
            if cell.computed >= computing:
                return "computing"
            limit = min(deadline - now, float("inf") if waiting else computing - cell.computed)
            cell.changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if limit == float("inf") else limit):
                    await cell.changed.wait()
            if not waiting:
                cell.computed += time.monotonic() - now
        return None

    def close_cell(self) -> None:
        """No query outlives its cell: what is still asked is cancelled, and the thread that waits is told."""
        cell, self._cell = self._cell, None
        if cell is not None:
            cell.texts.close()
            for query in list(cell.queries.values()):
                query.cancel()

    async def settle(self) -> None:
        """Wait until queries that were cancelled have ended."""
        if self._queries:
            await asyncio.wait(self._queries, timeout=SETTLE_S)

    def end(self, why: str = "") -> None:
        """Kill, reap and close; says why in `ended`. Nothing happens the second time."""
        if self.ended:
            return
        self._loop.remove_reader(self.guest.pipe)
        self._writer.transport.abort()  # before its socket is closed: it may still wait to write to who did not read
        how = self.guest.end()
        self.ended = why or how
        if self._reading is not None:
            self._reading.cancel()
        if self._cell is not None:
            self._cell.lost = self.ended
            self._cell.changed.set()
        self.close_cell()

    async def _receive(self) -> wire.Frame:
        """The next frame. Raises `wire.Violation`, `asyncio.IncompleteReadError`.

        Its texts are weighed and decoded one by one, beside those of queries that are open; before the end of a
        cell that has much to say those are cancelled, so that the host never holds both.
        """
        header, body = wire.lengths(await self._reader.readexactly(wire.PREFIX.size))
        frame, sizes = wire.opened(await self._reader.readexactly(header), body)
        if frame.kind == "done" and body > CHUNK and self._cell is not None:
            for query in self._cell.queries.values():
                query.cancel()
            await self.settle()
        held = self._cell.bytes if self._cell is not None else 0
        texts: list[str] = []
        for size in sizes:
            blob = await self._exactly(size)
            held += weight.text(blob)
            if held > wire.MAX_BODY:
                raise wire.Violation("more text at once than may be")
            texts.append(wire.decoded(blob))
            if size > CHUNK:
                await asyncio.sleep(0)  # what is there already is read without a pause for anybody
        return replace(frame, blobs=tuple(texts))

    async def _exactly(self, size: int) -> bytes | bytearray:
        """As `readexactly`, which would hold a large text twice."""
        if size <= CHUNK:
            return await self._reader.readexactly(size)
        weight.return_what_is_freed()
        blob = bytearray(size)
        for start in range(0, size, CHUNK):
            blob[start : start + CHUNK] = await self._reader.readexactly(min(CHUNK, size - start))
        return blob

    async def _read(self) -> None:
        """Frames until the child is at its end, by its own doing or by a frame that may not be."""
        try:
            while True:
                await self._writer.drain()  # a child that does not read its replies is not read either
                await self._handle(await self._receive())
        except wire.Violation as problem:
            self.died_idle = self._cell is None
            self.end(f"it broke the protocol ({problem})")
        except (EOFError, OSError):
            # The stream ends a moment before the process does: wait for that, or a crash would look like our kill.
            for _ in range(200):
                if self.guest.over():
                    break
                await asyncio.sleep(0.005)
            self.died_idle = self._cell is None
            self.end()

    async def _handle(self, frame: wire.Frame) -> None:
        number = frame.fields.get("id")
        match frame.kind:
            case "done":
                self._finish(frame)
            case "query" if type(number) is int:
                await self._query(frame, number)
            case "piece" | "drop":
                if (cell := self._cell) is not None and frame.fields.get("cell") == cell.number:
                    cell.texts.add(frame) if frame.kind == "piece" else cell.texts.drop(frame)
            case "module" if type(number) is int:
                module = served_module(frame)
                fields = {"id": number, "package": bool(module and module[1])}
                await self._send("module", fields, (module[0],) if module else ())
            case "zone" if type(number) is int:
                zone = served_zone(frame)
                await self._send("zone", {"id": number}, () if zone is None else (zone,))
            case _:
                raise wire.Violation(f"a frame of kind {frame.kind[:20]!r}")

    def _finish(self, frame: wire.Frame) -> None:
        cell = self._cell
        if cell is None or frame.fields.get("cell") != cell.number:
            raise wire.Violation("the end of a cell that does not run")
        cell.done = read_done(frame)
        self.close_cell()
        cell.changed.set()

    async def _query(self, frame: wire.Frame, number: int) -> None:
        cell, count = self._cell, count_prompts(frame)
        if cell is None or frame.fields.get("cell") != cell.number:
            await self._reply(number, [Failed(_CELL_ENDED)] * count)  # a thread that outlived its cell
            return
        size = weight.query(frame.header, map(sys.getsizeof, frame.blobs))
        if number in cell.queries or len(cell.queries) >= MAX_QUERIES or cell.bytes + size > wire.MAX_BODY:
            raise wire.Violation("more queries at once than may be")
        tool = frame.fields.get("query") == "tool"  # a function of the user's spends nothing of the run's
        if not cell.subcalls and not tool:
            await self._reply(number, [Failed(_NO_SUBCALLS)] * count)
            return
        try:
            long, room = cell.texts.take(long_texts(frame))
        except Unwritable as problem:
            await self._reply(number, [Failed(f"the context cannot be written to disk: {problem}")] * count)
            return
        try:
            query = read_query(frame, self._chars, long)
        except wire.Violation:
            cell.texts.release(long, room)
            raise
        cell.bytes += size
        task = asyncio.create_task(self._answer(cell, number, query, size))
        cell.queries[number] = task
        self._queries.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._queries.discard(task)
            cell.texts.release(long, room)
            if task.cancelled() and not self.ended:  # before it began: nobody else tells the thread that waits
                late = asyncio.ensure_future(self._reply(number, [Failed(_CELL_ENDED)] * len(query.prompts)))
                self._queries.add(late)
                late.add_done_callback(self._queries.discard)

        task.add_done_callback(ended)
        cell.changed.set()

    async def _answer(self, cell: Cell, number: int, query: Query, size: int) -> None:
        results: Sequence[str | Failed]
        try:
            results = await cell.ask(query)
        except asyncio.CancelledError:
            results = [Failed(_CELL_ENDED)] * len(query.prompts)
        cell.queries.pop(number, None)
        cell.changed.set()
        if not self.ended:
            await self._reply(number, results)
        cell.bytes -= size

    async def _reply(self, number: int, results: Sequence[str | Failed]) -> None:
        failed = [n for n, result in enumerate(results) if isinstance(result, Failed)]
        texts = [result.message if isinstance(result, Failed) else result for result in results]
        try:
            await self._send("reply", {"id": number, "failed": failed}, texts)
        except wire.Violation as problem:
            texts = [f"the replies are too large together: {problem}"[:200]] * len(results)
            await self._send("reply", {"id": number, "failed": list(range(len(results)))}, texts)

    async def _send(self, kind: str, fields: Mapping[str, Any], texts: Sequence[str | bytes]) -> None:
        try:
            self._writer.write(wire.encode(kind, dict(fields), texts))
            await self._writer.drain()
        except OSError:
            pass  # the reading task sees the end of the stream
