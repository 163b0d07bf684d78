"""Long-lived extractor processes under supervision: one that dies or hangs costs one member of one file.

A thread a worker: it writes a request, takes frames until the file is done, and kills the process at the deadline,
which every member has of its own. What was open then is skipped with its reason, and a fresh process goes on after it;
what is finished is not sent again. What waits for its turn is bounded by `HELD`: a worker that is further ahead waits
in its pipe, and its deadline with it. That needs no disk, and no thread that is out of turn can hold up the one whose
turn it is: a file that turns up late (a PDF without its suffix) gets a worker beside the others.

`Extracting.frames` is the one stream that everything read in a worker comes by, or was read in one by an earlier run
and kept (`cache.py`): that is asked first, and a process needed only for what is new.

The process starts in `/`, and its own library stands first on its path: a `struct.py` that lies beside the documents
must not run. The packages beside `rlm_cli.__init__` and `rlm_cli.read.__init__` are loaded without these two, which a
worker does not need: half of its time to start.

Confessed: that a reader died of its memory limit is told by the most memory it held (PDFium aborts, says nothing).

Rejected: `concurrent.futures.ProcessPoolExecutor`, which loses all that is pending when one process dies.
"""

from __future__ import annotations

import fcntl
import json
import os
import queue
import resource
import select
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING

from . import frames
from .cache import Entry, Texts, entry_of
from .extract import MEMORY_BYTES, TOO_MUCH, Request
from .frames import Frame

if TYPE_CHECKING:
    from .incoming import Fetched
    from .walk import Found

DEADLINE_S = 300.0
"""For one file, or one member of an archive; 50,000 pages take two minutes."""
HELD = 16 << 20
"""Bytes of frames of one file that wait until they are taken."""
MOST_DEATHS = 20
"""So many members of one file may bring the process down; the rest of it is not read then."""
WAIT_S = 0.1
ENDS_S = 5.0
"""Until a process that has closed its pipe is gone."""
_PIPE_BYTES = 1 << 18
_F_SETPIPE_SZ = 1031

_START = """
import json, sys, types
package, found = sys.argv[1], json.loads(sys.argv[2])
sys.path += [place for place in found if place not in sys.path]
for name, place in (("rlm_cli", package), ("rlm_cli.read", package + "/read")):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [place]
from rlm_cli.read.extract import main
main()
"""


class Extracting:
    """A file that is being read in a worker, or will be."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._changed = threading.Condition()
        self._ready: deque[Frame] = deque()
        self._held = 0
        self._ended = False
        self._kept: IO[bytes] | None = None

    def frames(self, waiting: Callable[[], None]) -> Generator[Frame, None, None]:
        """What comes of the file, `Done` at last; once. `waiting` is called ten times a second while nothing comes."""
        while True:
            with self._changed:
                if not self._ready and not self._ended and self._kept is None:
                    self._changed.wait(WAIT_S)
                batch, ended = list(self._ready), self._ended
                kept, self._kept = self._kept, None
                self._ready.clear()
                self._held = 0
                self._changed.notify_all()
            if kept is not None:
                with kept:
                    yield from _played(kept)
                return
            yield from batch
            if not batch:
                if ended:
                    return
                waiting()

    def put(self, batch: list[Frame], size: int) -> None:
        """Hand over frames; waits while too much of them is there already."""
        with self._changed:
            while self._held > HELD and not self._ended:
                self._changed.wait(1.0)
            self._ready += batch
            self._held += size
            self._ended = self._ended or any(isinstance(frame, frames.Done) for frame in batch)
            self._changed.notify_all()

    def play(self, kept: IO[bytes]) -> None:
        """All of it is there already: frames in a file, which is closed when they were taken."""
        with self._changed:
            self._kept = kept
            self._changed.notify_all()

    def give_up(self) -> None:
        with self._changed:
            self._ended = True
            if self._kept is not None:
                self._kept.close()
            self._changed.notify_all()


def _played(kept: IO[bytes]) -> Iterator[Frame]:
    data = bytearray()
    while chunk := kept.read(_PIPE_BYTES):
        data += chunk
        yield from list(frames.unpack(data))


@dataclass(slots=True)
class Coming:
    """A file that waits for its turn, and what is already done for it: it is being fetched, or read in a worker."""

    found: Found
    extracting: Extracting | None = None
    fetching: Future[Fetched] | None = None


Jobs = queue.SimpleQueue[Extracting | None]


class Extractors:
    """As many workers as cores, started when there is something to extract. Use with `with`.

    `texts`: what was extracted before, and where it is kept.
    """

    def __init__(self, most: int | None = None, deadline_s: float = DEADLINE_S, texts: Texts | None = None) -> None:
        self._texts = texts
        self.most = most or os.cpu_count() or 1
        self.ahead = 2 * self.most
        self._deadline_s = deadline_s
        self._wanted: Jobs = queue.SimpleQueue()
        self._late: Jobs = queue.SimpleQueue()
        self._workers: list[_Worker] = []
        self._late_worker = False
        self._given: list[Extracting] = []

    def __enter__(self) -> Extractors:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End every worker at once, whatever it is doing."""
        if self._texts is not None:
            self._texts.stop()
        for worker in self._workers:
            worker.end()
        for job in self._given:
            job.give_up()
        for worker in self._workers:
            worker.wanted.put(None)
        for worker in self._workers:
            worker.thread.join()

    def submit(self, request: Request) -> Extracting:
        """Read a file when its time comes. What is known of it is there at once, without a thread or a process."""
        with closing(entry_of(self._texts, request, at_once=True)) as entry:
            if entry.frames is not None:
                job = Extracting(request)
                job.play(entry.take())
                self._given.append(job)
                return job
        if sum(worker.wanted is self._wanted for worker in self._workers) < self.most:
            self._workers.append(_Worker(self._wanted, self._deadline_s, self._texts))
        return self._put(self._wanted, request)

    def at_once(self, request: Request) -> Extracting:
        """Read a file whose turn it is already: it need not wait for what is read ahead."""
        if not self._late_worker:
            self._late_worker = True
            self._workers.append(_Worker(self._late, self._deadline_s, self._texts))
        return self._put(self._late, request)

    def stream(self, request: Request, head: bytes, read: Callable[[int], bytes]) -> Extracting:
        """Read what comes by `read`, after `head`; it is called in a thread of its own."""
        source, sink = os.pipe()
        wanted: Jobs = queue.SimpleQueue()
        self._workers.append(_Worker(wanted, self._deadline_s, None, source))
        threading.Thread(target=_feed, args=(sink, head, read), name="feeding", daemon=True).start()
        return self._put(wanted, replace(request, file=source))

    def _put(self, wanted: Jobs, request: Request) -> Extracting:
        job = Extracting(request)
        self._given.append(job)
        wanted.put(job)
        return job


def _feed(sink: int, head: bytes, read: Callable[[int], bytes]) -> None:
    with os.fdopen(sink, "wb", buffering=0) as pipe:
        try:
            while head:
                pipe.write(head)
                head = read(_PIPE_BYTES)
        except Exception:  # the worker has enough, or the run was stopped: whoever waits for frames sees which
            pass


class _Worker:
    """A thread and the process it speaks to. `source`: a descriptor it reads, and is there for that one file."""

    def __init__(self, wanted: Jobs, deadline_s: float, texts: Texts | None, source: int | None = None) -> None:
        self.wanted = wanted
        self._texts = texts
        self._deadline_s = deadline_s
        self._source = source
        self._streams = source is not None
        self._process: subprocess.Popen[bytes] | None = None
        self._peak_before = 0
        self._ended = False
        self._lock = threading.Lock()
        self.thread = threading.Thread(target=self._serve, name="extractor", daemon=True)
        self.thread.start()

    def end(self) -> None:
        with self._lock:
            self._ended = True
            self._kill()

    def _serve(self) -> None:
        while (job := self.wanted.get()) is not None and not self._ended:
            self._extract(job)
        self._reap(at_once=True)
        if self._source is not None:
            os.close(self._source)

    def _extract(self, job: Extracting) -> None:
        request = job.request
        if isinstance(request.file, str):
            request = replace(request, file=os.path.abspath(request.file))  # noqa: PTH100  # as it is, links and all
        with closing(entry_of(self._texts, request)) as entry:
            if entry.frames is not None:
                job.play(entry.take())
            else:
                self._read(request, job, entry)

    def _read(self, request: Request, job: Extracting, entry: Entry) -> None:
        for deaths in range(MOST_DEATHS + 1):
            inside: list[frames.Enter] = []
            problem = self._attempt(request, job, inside, entry)
            if not problem:
                return entry.keep()
            last = not inside or self._ended or self._streams or deaths == MOST_DEATHS
            if last:
                what = f"{problem}; so did {deaths} of its members: the rest is not read" if deaths else problem
                told: list[Frame] = [frames.Skip("", what), frames.Done()]
            else:
                told = [frames.Skip(inside[-1].path, problem)]
                request = replace(request, after=inside[-1].place)
            job.put(told, 0)
            entry.failed = True
            entry.write(b"".join(map(frames.pack, told)), time.monotonic())
            if last:
                return None if self._ended else entry.keep()

    def _attempt(self, request: Request, job: Extracting, inside: list[frames.Enter], entry: Entry) -> str:
        """Why the file could not be read to its end. `inside`: the members that were open then."""
        try:
            process = self._running()
        except OSError as error:
            return f"the reader cannot be started ({error.strerror})"
        if process is None:
            return "reading was stopped"
        try:
            late = self._take(process, request, job, inside, entry)
        except (OSError, ValueError, TypeError):
            late = False
        if late is None:
            return ""
        died = self._reap(bool(late) or self._ended)
        if late:
            return f"took longer than {self._deadline_s:.0f} s"
        return "reading was stopped" if self._ended else died

    def _take(
        self,
        process: subprocess.Popen[bytes],
        request: Request,
        job: Extracting,
        inside: list[frames.Enter],
        entry: Entry,
    ) -> bool | None:
        """Hand over frames until `Done` (None), the deadline (True) or the end of the process (False)."""
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(request.line())
        process.stdin.flush()
        out = process.stdout.fileno()
        poll = select.poll()
        poll.register(out, select.POLLIN)
        data = bytearray()
        began = time.monotonic()
        until = began + self._deadline_s
        while True:
            left = until - time.monotonic()
            if left <= 0:
                return True
            if not poll.poll(left * 1000):
                continue
            chunk = os.read(out, _PIPE_BYTES)
            if not chunk:
                return False
            data += chunk
            whole = bytes(data)
            batch = list(frames.unpack(data))
            entry.write(whole[: len(whole) - len(data)], time.monotonic() - began)
            for frame in batch:
                if isinstance(frame, frames.Enter):
                    inside.append(frame)
                    until = time.monotonic() + self._deadline_s
                elif isinstance(frame, frames.Leave):
                    inside.pop()
                    until = time.monotonic() + self._deadline_s
                elif isinstance(frame, frames.Skip) and not frame.path:
                    entry.failed = True
            if batch:
                before = time.monotonic()
                job.put(batch, len(chunk))
                waited = time.monotonic() - before
                until += waited
                began += waited
                if isinstance(batch[-1], frames.Done):
                    return None

    def _running(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self._ended:
                return None
            if self._process is None:
                package = str(Path(__file__).absolute().parents[1])
                here = str(Path.cwd())
                self._peak_before = _peak(resource.getrusage(resource.RUSAGE_SELF))
                found = [package.rpartition("/")[0], *(p for p in sys.path if p.startswith("/") and p != here)]
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-s", "-c", _START, package, json.dumps(found)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
                    cwd="/",
                    pass_fds=() if self._source is None else (self._source,),
                )
                assert self._process.stdout is not None
                try:
                    fcntl.fcntl(self._process.stdout, _F_SETPIPE_SZ, _PIPE_BYTES)
                except OSError:
                    pass  # it is a matter of speed
                if self._source is not None:
                    os.close(self._source)  # so that whoever feeds it notices its end
                    self._source = None
            return self._process

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def _reap(self, at_once: bool) -> str:
        """Wait for the end of the process, which is near unless it is made to be; how it came about."""
        if at_once:
            self._kill()
        process = self._process
        if process is None:
            return ""
        peak = 0
        try:
            ended, status, usage = _wait(process.pid, ENDS_S)
            if not ended:
                self._kill()
                _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            peak = _peak(usage)
        except ChildProcessError:
            process.wait()
        self._process = None
        for pipe in (process.stdin, process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:
                pass  # it broke while something was still to be written
        code = process.returncode
        # Linux hands the peak of who starts a program on to it: below our own nothing is known of it.
        if code < 0 and peak > max(MEMORY_BYTES // 2, self._peak_before):
            return TOO_MUCH
        return f"the reader died (signal {-code})" if code < 0 else f"the reader died (exit {code})"


def _peak(usage: resource.struct_rusage) -> int:
    """The most bytes of memory that were held at once."""
    return usage.ru_maxrss * (1024 if sys.platform == "linux" else 1)


def _wait(pid: int, most_s: float) -> tuple[int, int, resource.struct_rusage]:
    """`os.wait4` for so long; the first number is 0 when the process is still there."""
    until = time.monotonic() + most_s
    while not (found := os.wait4(pid, os.WNOHANG))[0] and time.monotonic() < until:
        time.sleep(0.005)
    return found
