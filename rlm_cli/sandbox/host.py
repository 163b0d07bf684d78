"""A REPL as the rest of the program has it: runs cells in a session, and rebuilds the session when it is dead or stuck.

A cell that does not stop 1.5 s after its interrupt costs its process, as does a crash, full memory or a forged frame.
The next process is a fork (`child.py`), in which the cells that ended by themselves run again with their sub-calls
answered from memory (`replay.py`); `Output.lost` says what is back and what is gone. Rebuilding has limits of its own,
and never goes beyond the wall limit of the cell it is done for: what there is no time for now is tried before the next.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import cached_property

from ..call import Output
from ..corpus import Corpus
from ..errors import SandboxError
from . import Ask, Proof, Span
from .child import ORPHANED, START_S, Confinement, Starter, Zygote, probe
from .replay import Again, Rebuilt, Record, Recording
from .session import Cell, Session, Stopped

LEFT_BEHIND = ("the end of a cell that does not run", "a cell had left it unable")
"""Ends of a process that may be the doing of the cell before: a frame too many, a hook that lets nothing run."""
REBUILD_S = 10.0
"""For running all cells again, at least; else as long as one cell may compute."""


class ProcessRepl:
    """A REPL in a child process; satisfies `Repl`. One cell at a time."""

    def __init__(
        self,
        session: Session,
        starter: Starter,
        how: Confinement,
        corpus: Corpus,
        spans: Sequence[Span] | None,
        ask: Ask,
    ) -> None:
        self.level = session.proof.level
        self._session = session
        self._place = (starter, how, corpus, spans)
        self._ask = ask
        self._computing = how.cell_timeout
        self._recording = Recording()
        self._number = 0
        self._rebuilt = False
        """No cell has ended by itself since the last rebuilding."""
        self._closed = False

    async def execute(self, code: str, *, subcalls: bool = True, timeout_s: float | None = None) -> Output:
        """See `Repl.execute`. Cancelling it ends the session at once; the next cell gets a fresh one."""
        began = time.monotonic()
        deadline = float("inf") if timeout_s is None else began + timeout_s
        limits = {
            "time": f"stopped after {timeout_s or 0:.3g} s, the time that was left",
            "computing": f"stopped after {self._computing:.3g} s of computing, the limit of a cell",
        }
        if self._closed:
            raise SandboxError("the REPL is closed")
        self._number += 1
        record = Record(self._number, code, subcalls)
        cell = Cell(record.number, subcalls, record.remembering(self._ask))
        try:
            lost = await self._revive(deadline)
            if self._session.ended:
                return Output(error=f"{limits['time']}; it did not run.", lost=lost)
            stopped = await self._session.run(cell, code, self._computing, deadline)
            await self._session.settle()
            if cell.done is None:
                why = f"{limits[stopped]}, and it did not stop when interrupted" if stopped else cell.lost
                self._session.end(why)
                self._recording.skip(record.number, "ended the REPL")
                if stopped is None and (self._rebuilt or any(sign in cell.lost for sign in LEFT_BEHIND)):
                    self._recording.drop_last("may be what ended the REPL")
                lost = await self._rebuild(why, deadline)
                return Output(error=f"The REPL ended: {why}.", lost=lost, duration_s=time.monotonic() - began)
        except BaseException:
            self._recording.skip(record.number, "was cancelled")
            self._session.end("its cell was cancelled")
            await self._session.settle()
            raise
        return self._output(record, cell, limits[stopped] if stopped else "", lost, time.monotonic() - began)

    def _output(self, record: Record, cell: Cell, stopped: str, lost: str | None, duration: float) -> Output:
        done = cell.done
        assert done is not None
        self._rebuilt = False
        error = done.error
        if stopped:
            error = f"{error or 'KeyboardInterrupt'}\n{stopped}; what was bound before is kept."
            self._recording.skip(record.number, "was stopped at a limit")
        else:
            self._recording.keep(record, done, cell.computed)
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

    async def _revive(self, deadline: float) -> str | None:
        """A session that died between two cells is replaced before the next; what to tell the model."""
        if not self._session.ended:
            return None
        if (
            self._session.died_idle and self._session.ended != ORPHANED
        ):  # a thread that its last cell left behind, as a rule
            self._recording.drop_last("left behind what ended the REPL")
        return await self._rebuild(self._session.ended, deadline)

    async def _rebuild(self, why: str, deadline: float) -> str:
        """A fresh session with all that can be had again; what to tell the model. The session stays ended where
        `deadline` comes first. Raises `SandboxError` when none starts."""
        until = min(deadline, time.monotonic() + max(REBUILD_S, self._computing))
        while True:
            if self._closed:
                raise SandboxError("the REPL is closed")
            left = deadline - time.monotonic()
            if left <= 0:
                return self._recording.told(why, Rebuilt(time_up=True))
            try:
                self._session = await Session.start(*self._place, within=min(START_S, left))
            except SandboxError:
                if time.monotonic() < deadline:
                    raise
                continue
            rebuilt = await self._run_again(until)
            if time.monotonic() >= deadline:
                self._session.end(why)
                continue
            if rebuilt.wrong is not None:
                self._recording.cut(*rebuilt.wrong)
            if self._closed or self._session.ended:
                continue  # if it was the cell, once more without it
            self._rebuilt = True
            return self._recording.told(why, rebuilt)

    async def _run_again(self, until: float) -> Rebuilt:
        """All cells there are a record of, one after the other. Where one ends the session, it is the `wrong` one."""
        rebuilt = Rebuilt()
        for record in self._recording.records:
            again = record.again()
            cell = Cell(record.number, record.subcalls, again.ask)
            stopped = await self._session.run(cell, record.code, record.patience, until)
            await self._session.settle()
            if cell.done is None and not cell.lost:
                self._session.end("it did not stop when interrupted")
            wrong = _wrong(again, cell, stopped)
            if wrong or cell.done is None:
                rebuilt.wrong = record.number, wrong
                return rebuilt
            rebuilt.cells.append(record.number)
            if again.differs(cell.done):
                rebuilt.differing.append(record.number)
        return rebuilt


def _wrong(again: Again, cell: Cell, stopped: Stopped | None) -> str:
    """Why no further cell can be run again; empty if they can."""
    match stopped:
        case "computing":
            return "takes far longer now"
        case "time":
            return "came too late: rebuilding took too long"
    return f"ends the REPL now: {cell.lost}" if cell.done is None else again.wrong(cell.done)


class ProcessSandbox:
    """Sessions in child processes that are confined as `Confinement` says; satisfies `Sandbox`."""

    def __init__(self, name: str, confinement: Confinement) -> None:
        self.name = name
        self._confinement = confinement
        self._starter = _starter(confinement)
        self._repls: list[ProcessRepl] = []

    @cached_property
    def proof(self) -> Proof:
        """See `Sandbox.proof`. Blocks while a guest that was started for it proves it: 0.1 s, which the first session
        is spared then, or about 1 s for a container."""
        return probe(self._starter.start(None), self._confinement)

    async def prove(self) -> Proof:
        """See `Sandbox.prove`."""
        if "proof" not in self.__dict__:
            guest = await self._starter.begin(None)
            self.__dict__["proof"] = await asyncio.to_thread(probe, guest, self._confinement)
        return self.proof

    @property
    def level(self) -> str:
        """See `Sandbox.level`."""
        return self.proof.level

    async def open(self, corpus: Corpus, spans: Sequence[Span] | None, ask: Ask) -> ProcessRepl:
        """See `Sandbox.open`. Raises `SandboxError` when no child starts, or none as confined as was asked for."""
        session = await Session.start(self._starter, self._confinement, corpus, spans)
        self.__dict__.setdefault("proof", session.proof)
        repl = ProcessRepl(session, self._starter, self._confinement, corpus, spans, ask)
        self._repls = [*(other for other in self._repls if not other._closed), repl]
        return repl

    async def close(self) -> None:
        for repl in self._repls:
            repl.end()
        self._repls.clear()
        await self._starter.close()


def _starter(confinement: Confinement) -> Starter:
    if not confinement.image:
        return Zygote()
    from .container import Containers

    return Containers(confinement.image, confinement.repl_memory)
