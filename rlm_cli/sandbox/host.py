"""The host's side of a REPL: answers the child's queries, measures its time, replaces it when it is dead or stuck.

Nothing that comes from the child is trusted. Frames are read by a strict state machine: a fixed table of kinds, sizes
capped before they are read, every field checked (`messages.py`); anything else ends the child, in one line.

Two clocks. Computing time of a cell runs while no query is open (a thread that computes while others wait for a model
is not counted; the wall limit and RLIMIT_CPU bound that). When either is used up: SIGINT, state kept; 1.5 s later
SIGKILL to the whole process group and a fresh session, and `Output.lost` says what is gone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..call import Output
from ..corpus import Corpus
from ..errors import SandboxError
from . import Ask, Failed, Proof, Query, Span, wire
from .child import START_S, Child, Confinement, begin, opening, probe, proved
from .messages import Done, read_done, read_query, served_module, served_zone

SETTLE_S = 2.0
"""For queries whose cell has ended: connections close in milliseconds."""
GRACE_S = 1.5
"""From the interrupt to the kill."""
MAX_QUERIES = 10_000
"""Frames of queries a child may have open at once."""
_NO_SUBCALLS = "no sub-calls in the closing turn: hand over what the variables hold"
_CELL_ENDED = "its cell has ended"


@dataclass(eq=False, slots=True)
class _Cell:
    """One cell in progress. `lost`: how its session ended, when it did."""

    number: int
    subcalls: bool
    done: Done | None = None
    lost: str = ""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    queries: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    bytes: int = 0
    """Of the queries that are open."""

    @property
    def over(self) -> bool:
        return self.done is not None or bool(self.lost)


class _Session:
    """One child from its start to its end, with the task that reads its frames."""

    def __init__(self, child: Child, chars: int, ask: Ask) -> None:
        self.child = child
        self.proof = Proof("none", ())
        self.ended = ""
        """How it ended; empty while it lives."""
        self._chars = chars
        self._ask = ask
        self._cell: _Cell | None = None
        self._number = 0
        self._queries: set[asyncio.Task[None]] = set()
        """Until they have ended: a query that was cancelled still settles what it had asked."""

    @classmethod
    async def start(cls, corpus: Corpus, spans: Sequence[Span] | None, ask: Ask, how: Confinement) -> _Session:
        """A child that is ready for its first cell. Raises `SandboxError`."""
        session = cls(await begin(how, corpus.fd), corpus.chars, ask)
        try:
            await session._connect()
            session._writer.write(opening(how, session.child.corpus_fd, spans))
            async with asyncio.timeout(START_S):
                session.proof = proved(how, await session._receive())
            session.child.ready()
        except (OSError, EOFError, TimeoutError, wire.Violation) as problem:
            session.end()
            why = session.child.said() or session.ended or str(problem)
            raise SandboxError("the REPL's process did not get ready", why=why) from None
        except BaseException:
            session.end()
            raise
        session._reading = asyncio.create_task(session._read())
        return session

    async def _connect(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader, self._writer = await asyncio.open_connection(sock=self.child.socket)
        self._loop.add_reader(self.child.pipe, self._drain)
        self._reading: asyncio.Task[None] | None = None

    def _drain(self) -> None:
        if not self.child.drain():
            self._loop.remove_reader(self.child.pipe)

    async def run(self, cell: _Cell, code: str) -> None:
        """Begin a cell; it is over when `cell.over`, and `cell.changed` is set at every turn."""
        self._number += 1
        cell.number = self._number
        self._cell = cell
        try:
            self._writer.write(wire.encode("cell", {"cell": cell.number}, (code,)))
            await self._writer.drain()
        except OSError:
            pass  # the reading task sees the end of the stream and says how it came

    def interrupt(self) -> None:
        self.child.interrupt(self._writer.write)

    def close_cell(self) -> None:
        """No query outlives its cell: what is still asked is cancelled, and the thread that waits is told."""
        cell, self._cell = self._cell, None
        for query in list(cell.queries.values()) if cell else ():
            query.cancel()

    async def settle(self) -> None:
        """Wait until queries that were cancelled have ended."""
        if self._queries:
            await asyncio.wait(self._queries, timeout=SETTLE_S)

    def end(self, why: str = "") -> None:
        """Kill, reap and close; says why in `ended`. Nothing happens the second time."""
        if self.ended:
            return
        self._loop.remove_reader(self.child.pipe)
        how = self.child.end()
        self.ended = why or how
        self._writer.transport.abort()
        if self._reading is not None:
            self._reading.cancel()
        if self._cell is not None:
            self._cell.lost = self.ended
            self._cell.changed.set()
        self.close_cell()

    async def _receive(self) -> wire.Frame:
        """The next frame. Raises `wire.Violation`, `asyncio.IncompleteReadError`."""
        header, body = wire.lengths(await self._reader.readexactly(wire.PREFIX.size))
        return wire.decode(await self._reader.readexactly(header), await self._reader.readexactly(body))

    async def _read(self) -> None:
        """Frames until the child is at its end, by its own doing or by a frame that may not be."""
        try:
            while True:
                await self._handle(await self._receive())
        except wire.Violation as problem:
            self.end(f"it broke the protocol ({problem})")
        except (EOFError, OSError):
            # The stream ends a moment before the process does: wait for that, or a crash would look like our kill.
            for _ in range(200):
                if self.child.process.poll() is not None:
                    break
                await asyncio.sleep(0.005)
            self.end()

    async def _handle(self, frame: wire.Frame) -> None:
        number = frame.fields.get("id")
        match frame.kind:
            case "done":
                self._finish(frame)
            case "query" if type(number) is int:
                await self._query(frame, number)
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
        query = read_query(frame, self._chars)
        cell = self._cell
        if cell is None or frame.fields.get("cell") != cell.number:
            await self._reply(number, [Failed(_CELL_ENDED)] * len(query.prompts))  # a thread that outlived its cell
            return
        size = sum(map(len, frame.blobs))
        if number in cell.queries or len(cell.queries) >= MAX_QUERIES or cell.bytes + size > wire.MAX_BODY:
            raise wire.Violation("more queries at once than may be")
        if not cell.subcalls:
            await self._reply(number, [Failed(_NO_SUBCALLS)] * len(query.prompts))
            return
        cell.bytes += size
        task = asyncio.create_task(self._answer(cell, number, query, size))
        cell.queries[number] = task
        self._queries.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._queries.discard(task)
            if task.cancelled() and not self.ended:  # before it began: nobody else tells the thread that waits
                late = asyncio.ensure_future(self._reply(number, [Failed(_CELL_ENDED)] * len(query.prompts)))
                self._queries.add(late)
                late.add_done_callback(self._queries.discard)

        task.add_done_callback(ended)
        cell.changed.set()

    async def _answer(self, cell: _Cell, number: int, query: Query, size: int) -> None:
        results: Sequence[str | Failed]
        try:
            results = await self._ask(query)
        except asyncio.CancelledError:
            results = [Failed(_CELL_ENDED)] * len(query.prompts)
        except (
            Exception
        ) as problem:  # who answers turns failures into values; what slips through must not hang the cell
            results = [Failed(f"{type(problem).__name__}: {problem}")] * len(query.prompts)
        cell.queries.pop(number, None)
        cell.bytes -= size
        cell.changed.set()
        if not self.ended:
            await self._reply(number, results)

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


class ProcessRepl:
    """A REPL in a child process; satisfies `Repl`. One cell at a time."""

    def __init__(
        self, session: _Session, corpus: Corpus, spans: Sequence[Span] | None, ask: Ask, how: Confinement
    ) -> None:
        self.level = session.proof.level
        self._session = session
        self._open = (corpus, spans, ask, how)
        self._timeout = how.cell_timeout
        self._closed = False

    async def execute(self, code: str, *, subcalls: bool = True, timeout_s: float | None = None) -> Output:
        """See `Repl.execute`. Cancelling it ends the session at once; the next cell gets a fresh one."""
        began = time.monotonic()
        lost = await self._revive()
        cell = _Cell(0, subcalls)
        session = self._session
        try:
            await session.run(cell, code)
            stopped = await self._watch(cell, timeout_s)
        except BaseException:
            session.end("its cell was cancelled")
            raise
        finally:
            await session.settle()
        duration = time.monotonic() - began
        if cell.done is None:
            why = f"{stopped}, and it did not stop when interrupted" if stopped else cell.lost
            await self._replace()
            lost = f"{why}. A fresh one is here: all variables are gone; `context` and `docs` are there."
            return Output(error=f"The REPL ended: {why}.", lost=lost, duration_s=duration)
        done = cell.done
        error = done.error
        if stopped:
            error = f"{error or 'KeyboardInterrupt'}\n{stopped}; what was bound before is kept."
        return Output(
            stdout=done.stdout,
            omitted_chars=done.omitted,
            error=error,
            answer=None if done.held else done.answer,
            held=done.answer if done.held else None,
            variables=done.variables,
            draft=done.draft,
            lost=lost,
            duration_s=duration,
        )

    async def close(self) -> None:
        self.end()

    def end(self) -> None:
        """Kill and reap, now."""
        self._closed = True
        self._session.end("closed")

    async def _revive(self) -> str | None:
        """A session that died between two cells is replaced before the next; what to tell the model."""
        if self._closed:
            raise SandboxError("the REPL is closed")
        if not self._session.ended:
            return None
        why = self._session.ended
        await self._replace()
        return f"{why}. A fresh one is here: all variables are gone."

    async def _replace(self) -> None:
        self._session.end()
        self._session = await _Session.start(*self._open)
        if self._closed:
            self._session.end("closed")

    async def _watch(self, cell: _Cell, timeout_s: float | None) -> str:
        """Wait for the end of a cell under its two clocks. Returns which one ran out, else an empty text."""
        stopped = await self._clocks(cell, timeout_s)
        if not stopped:
            return ""
        self._session.interrupt()
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                while not cell.over:
                    cell.changed.clear()
                    await cell.changed.wait()
        return stopped

    async def _clocks(self, cell: _Cell, timeout_s: float | None) -> str:
        left = self._timeout
        deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        while not cell.over:
            now, waiting = time.monotonic(), bool(cell.queries)
            if now >= deadline:
                return f"stopped after {timeout_s:.3g} s, the time that was left"
            if left <= 0:
                return f"stopped after {self._timeout:.3g} s of computing, the limit of a cell"
            limit = min(deadline - now, float("inf") if waiting else left)
            cell.changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if limit == float("inf") else limit):
                    await cell.changed.wait()
            if not waiting:
                left -= time.monotonic() - now
        return ""


class ProcessSandbox:
    """Sessions in child processes that are confined as `Confinement` says; satisfies `Sandbox`."""

    def __init__(self, name: str, confinement: Confinement) -> None:
        self.name = name
        self._confinement = confinement
        self._repls: list[ProcessRepl] = []

    @cached_property
    def proof(self) -> Proof:
        """What the self-test proved. Before the first session it is found out by starting and ending a child (0.1 s,
        a container 1 s).

        Raises `SandboxError` below what was asked for.
        """
        return probe(self._confinement)

    @property
    def level(self) -> str:
        """Of the proof. Raises `SandboxError` below what was asked for."""
        return self.proof.level

    async def open(self, corpus: Corpus, spans: Sequence[Span] | None, ask: Ask) -> ProcessRepl:
        """See `Sandbox.open`. Raises `SandboxError` when no child starts, or none as confined as was asked for."""
        session = await _Session.start(corpus, spans, ask, self._confinement)
        self.__dict__.setdefault("proof", session.proof)
        repl = ProcessRepl(session, corpus, spans, ask, self._confinement)
        self._repls = [*(other for other in self._repls if not other._closed), repl]
        return repl

    async def close(self) -> None:
        for repl in self._repls:
            repl.end()
        self._repls.clear()
        if self._confinement.image:
            from .container import all_gone

            await asyncio.to_thread(all_gone)
