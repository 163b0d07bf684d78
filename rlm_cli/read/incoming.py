"""What comes from elsewhere, a few at a time and ahead of its turn: each in a thread of its own with one deadline.

A thread because what it waits in cannot all be interrupted (a resolver, a driver of fsspec). So nobody waits for the
thread: its future has a result at the deadline and when the run is stopped, whatever the thread is still doing; its
socket is shut down, and it ends as soon as it notices. The threads are daemons: an exit does not wait for them either.

Rejected: an event loop. Its resolver is a pool of threads too, and one that the interpreter waits for at its exit.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, Generic, TypeVar

from .addresses import Allowance
from .connect import Cut
from .pieces import Unreadable

AHEAD = 4
"""At once; more of them would be unkind to a server, and bounded memory wants a bound."""
_LINUX = sys.platform == "linux"
STOPPED = "reading was stopped"
CHUNK = 1 << 18
WAIT_S = 0.1

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that is here now, unnamed, at its beginning; who reads it closes it.

    `kind`: a suffix such as `.pdf` by what the server says, where its name does not tell; `sure`: whatever its name
    tells. `encoding`: what the server says, where that holds; None: find out.
    """

    file: IO[bytes]
    bytes: int
    kind: str = ""
    sure: bool = False
    encoding: str | None = None

    @property
    def place(self) -> str:
        """Where another process of this user opens it, while it is open here."""
        return f"/proc/{os.getpid()}/fd/{self.file.fileno()}" if _LINUX else str(self.file.name)


def new_file() -> IO[bytes]:
    """For what is fetched: without a name where the system allows others to open such a file all the same."""
    make: Callable[..., IO[bytes]] = tempfile.TemporaryFile if _LINUX else tempfile.NamedTemporaryFile
    return make(prefix="rlm-")


class Incoming:
    """What is under way. To be closed."""

    def __init__(self, allowance: Allowance) -> None:
        self.allowance = allowance
        self.ahead = AHEAD
        self._jobs: set[_Job[Any]] = set()
        self._given: set[Future[Any]] = set()

    def close(self) -> None:
        """Cut off whatever is under way."""
        for job in list(self._jobs):
            job.end(STOPPED)
        for future in self._given:
            if future.exception() is None and isinstance(fetched := future.result(), Fetched):
                fetched.file.close()

    def submit(self, work: Callable[[Cut], T]) -> Future[T]:
        """Do it in a thread. The future fails with what `work` raises, and `Unreadable` at the deadline."""
        future: Future[T] = Future()
        job = _Job(future, self.allowance.left)
        self._jobs.add(job)
        self._given.add(future)
        future.add_done_callback(lambda _: self._jobs.discard(job))
        job.start(work)
        return future

    def take(self, future: Future[T], waiting: Callable[[], None]) -> T:
        """Its result; `waiting` is called ten times a second until it is there. A file is closed by who takes it."""
        while not future.done():
            waiting()
            wait([future], timeout=WAIT_S)
        self._given.discard(future)
        return future.result()


class _Job(Generic[T]):
    def __init__(self, future: Future[T], deadline_s: float) -> None:
        self._future = future
        self._cut = Cut()
        self._timer = threading.Timer(deadline_s, self.end, [f"took longer than {round(deadline_s, 1):g} s"])
        self._timer.daemon = True

    def start(self, work: Callable[[Cut], T]) -> None:
        self._timer.start()
        threading.Thread(target=self._run, args=[work], name="incoming", daemon=True).start()

    def end(self, reason: str) -> None:
        self._cut.end(reason)
        with suppress(InvalidStateError):
            self._future.set_exception(Unreadable(reason))

    def _run(self, work: Callable[[Cut], T]) -> None:
        try:
            result = work(self._cut)
        except BaseException as error:
            with suppress(InvalidStateError):
                self._future.set_exception(error)
        else:
            try:
                self._future.set_result(result)
            except InvalidStateError:  # nobody wants it any more
                if isinstance(result, Fetched):
                    result.file.close()
        finally:
            self._timer.cancel()
