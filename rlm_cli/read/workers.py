"""Long-lived extractor processes under supervision: one that dies or hangs costs one file, and is replaced.

A thread a worker: it writes a path, reads pages until the end mark, and kills the process at the deadline. Results are
kept until their turn, on disk where they are large, and `ahead` bounds how many files may be extracted before that.

The process starts in `/` and without the working directory on its path: a `struct.py` that lies beside the documents
must not run.

Rejected: `concurrent.futures.ProcessPoolExecutor`, which loses all that is pending when one process dies.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from .pdf import END, FRAME

DEADLINE_S = 300.0
"""For one file; 50,000 pages take two minutes."""
MOST_BYTES = 256 << 20
"""Of text out of one file."""


IN_MEMORY = 4 << 20
"""Bytes of a file's text that wait in memory; more of it waits on disk."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """What came of one file: its text, or the `problem` that kept it from us. `bytes` and `sha256` are the source's.

    `damaged`: numbers of pages that could not be read, from 1; they are empty.
    """

    spool: IO[bytes] | None = None
    bytes: int = 0
    sha256: str = ""
    damaged: tuple[int, ...] = ()
    problem: str = ""

    def pages(self) -> Iterator[str]:
        """The text of each page, in order, once."""
        if self.spool is not None:
            with self.spool as spool:
                spool.seek(0)
                while head := spool.read(FRAME.size):
                    yield spool.read(FRAME.unpack(head)[0]).decode("utf-8", "replace")


class Extractors:
    """As many workers as cores, started when there is something to extract. Use with `with`."""

    def __init__(self, most: int | None = None, deadline_s: float = DEADLINE_S) -> None:
        self.most = most or os.cpu_count() or 1
        self.ahead = 2 * self.most
        self._deadline_s = deadline_s
        self._wanted: queue.SimpleQueue[tuple[str, Future[Extracted]] | None] = queue.SimpleQueue()
        self._workers: list[_Worker] = []
        self._given: list[Future[Extracted]] = []

    def __enter__(self) -> Extractors:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End every worker at once, whatever it is doing."""
        for worker in self._workers:
            worker.end()
            self._wanted.put(None)
        for worker in self._workers:
            worker.thread.join()
        for future in self._given:
            if future.done() and (spool := future.result().spool) is not None:
                spool.close()  # again, where it was read

    def submit(self, path: str) -> Future[Extracted]:
        """Extract a file's pages; the future never fails: what went wrong is in `problem`."""
        future: Future[Extracted] = Future()
        if len(self._workers) < self.most:
            self._workers.append(_Worker(self._wanted, self._deadline_s))
        self._given.append(future)
        self._wanted.put((path, future))
        return future


class _Worker:
    """A thread and the process it speaks to."""

    def __init__(self, wanted: queue.SimpleQueue[tuple[str, Future[Extracted]] | None], deadline_s: float) -> None:
        self._wanted = wanted
        self._deadline_s = deadline_s
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False
        self._late = False
        self._lock = threading.Lock()
        self.thread = threading.Thread(target=self._serve, name="extractor", daemon=True)
        self.thread.start()

    def end(self) -> None:
        with self._lock:
            self._ended = True
            self._kill()

    def _serve(self) -> None:
        while (job := self._wanted.get()) is not None and not self._ended:
            path, future = job
            future.set_result(self._extract(os.path.abspath(path)))  # noqa: PTH100  # as it is, links and all
        if self._process is not None:
            self._process.wait()
            self._close_pipes()

    def _extract(self, path: str) -> Extracted:
        try:
            process = self._running()
        except OSError as error:
            return Extracted(problem=f"the reader cannot be started ({error.strerror})")
        if process is None:
            return Extracted(problem="reading was stopped")
        self._late = False
        timer = threading.Timer(self._deadline_s, self._too_late)
        timer.daemon = True
        timer.start()
        try:
            return self._ask(process, path)
        except (OSError, ValueError, EOFError):
            self._kill()
            process.wait()
            if self._late:
                return Extracted(problem=f"took longer than {self._deadline_s:.0f} s")
            return Extracted(problem="reading was stopped" if self._ended else _how(process.returncode))
        finally:
            timer.cancel()

    def _ask(self, process: subprocess.Popen[bytes], path: str) -> Extracted:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(path).encode() + b"\n")
        process.stdin.flush()
        size = 0
        with ExitStack() as unread:
            spool: IO[bytes] = unread.enter_context(tempfile.SpooledTemporaryFile(IN_MEMORY))
            while (length := FRAME.unpack(head := _exactly(process, FRAME.size))[0]) != END:
                size += length
                if size > MOST_BYTES:
                    self._kill()
                    return Extracted(problem=f"more than {MOST_BYTES >> 20} MB of text")
                spool.write(head + _exactly(process, length))
            report = json.loads(process.stdout.readline())
            if report["problem"]:
                return Extracted(problem=str(report["problem"]))
            unread.pop_all()  # who reads the pages closes it
        damaged = tuple(int(number) for number in report["damaged"])
        return Extracted(spool, int(report["bytes"]), str(report["sha256"]), damaged)

    def _running(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self._ended:
                return None
            if self._process is None or self._process.poll() is not None:
                self._close_pipes()
                here = str(Path.cwd())
                found = os.pathsep.join(place for place in sys.path if place.startswith("/") and place != here)
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-s", str(Path(__file__).with_name("pdf.py"))],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "PYTHONPATH": found},
                    cwd="/",
                )
            return self._process

    def _too_late(self) -> None:
        self._late = True
        self._kill()

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def _close_pipes(self) -> None:
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    try:
                        pipe.close()
                    except OSError:
                        pass  # it broke while something was still to be written


def _exactly(process: subprocess.Popen[bytes], size: int) -> bytes:
    assert process.stdout is not None
    data = process.stdout.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _how(code: int) -> str:
    return f"the reader died (signal {-code})" if code < 0 else f"the reader died (exit {code})"
