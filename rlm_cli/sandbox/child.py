"""Starting a guest and proving how it is confined; what comes after is for `session.py` and `host.py`.

A guest gets a session of its own, a fixed environment, /dev/null, one end of a socketpair, the corpus by descriptor,
and nothing else. What it writes to its descriptors 1 and 2 is never protocol; the last 64 KB are kept for the message
about a crash.

All guests of a run are forks of one process (`Zygote` here, `zygote.py` there): the first costs 0.1 s, each other one
milliseconds. It is started when it is first needed, by whatever thread that is, by an ordinary `Popen`: `preexec_fn` is
not safe with threads. Rejected: a fresh process for each (0.1 s apiece).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..call import Tool
from ..errors import SandboxError
from . import Proof, Span, wire
from .messages import read_ready
from .zygote import BARE, INTERRUPT, KILL, STATUS, UNFORKED, WITH_CORPUS

START_S = 30.0
"""Wall time for a child to get ready; it takes 0.1 s, and a loaded CI machine may take its time."""
END_S = 10.0
"""For a child that was killed to be gone: freeing a gigabyte takes 0.1 s."""
RING = 64 << 10
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "PYTHONUTF8": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "MALLOC_ARENA_MAX": "2",
    "TZ": "UTC",
}
"""All the child's environment: no key, no home, no name of the user."""
_SIGNALS = {
    -signal.SIGSEGV: "it crashed (segmentation fault)",
    -signal.SIGABRT: "it crashed (abort)",
    -signal.SIGBUS: "it crashed (bus error)",
    -signal.SIGSYS: "it made a forbidden system call",
    -signal.SIGXCPU: "it used up its processor time",
    -signal.SIGKILL: "it was killed, most likely for want of memory",
}

ORPHANED = "the process it was forked from has ended"
"""The one end that is not its own doing."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """How a session is confined and what it may use. Sizes in bytes, times in seconds.

    `lockdown`: `kernel` (rlimits, Landlock, seccomp), `audit` (a hook, no boundary) or `none`.
    """

    lockdown: str = "kernel"
    cell_timeout: float = 60.0
    repl_memory: int = 1 << 30
    context_memory: int = 256 << 20
    tools: tuple[Tool, ...] = ()
    """The user's functions, which a session may ask the host to call."""
    image: str = ""
    """Of the container each guest is started in; empty = an ordinary process."""

    @property
    def cpu_s(self) -> int:
        """RLIMIT_CPU of a child's whole life: a backstop for when nobody is there to interrupt."""
        return max(60, int(self.cell_timeout * 60))


class Guest(Protocol):
    """A guest that was started, as a session needs it, before any protocol."""

    socket: socket.socket
    """The host's end of the wire."""
    pipe: int
    """What the guest writes to its descriptors 1 and 2, to be read when there is something; -1 after the end."""

    def drain(self) -> bool:
        """Take what is in the pipe. False at its end."""
        ...

    def ready(self) -> None:
        """It has said that it is: what was only needed for its start can go."""
        ...

    def interrupt(self, write: Callable[[bytes], None]) -> None:
        """As Ctrl-C would; nothing if it has ended. `write` puts bytes on the wire between frames, if need be."""
        ...

    def over(self) -> bool:
        """It has ended, by itself or not."""
        ...

    def end(self) -> str:
        """Kill it and everything it started, reap it, close everything. Blocks, for milliseconds as a rule; what takes
        longer is done when the starter is closed. Returns how it had ended, in a few words; the same again."""
        ...

    def said(self) -> str:
        """The last line it wrote to its descriptor 2, for a message; empty if none."""
        ...


class Starter(Protocol):
    """Starts guests: one each kind of place."""

    def start(self, corpus_fd: int | None) -> Guest:
        """A guest over the corpus in a descriptor, which stays the caller's. May block. Raises `SandboxError`."""
        ...

    async def begin(self, corpus_fd: int | None) -> Guest:
        """`start` without blocking the event loop; if it is cancelled there is no guest, when all is closed."""
        ...

    async def close(self) -> None:
        """End what is left, and wait until it is gone; nothing happens the second time."""
        ...


class Zygote:
    """The process that guests are forked from; satisfies `Starter`."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._last_words = ""

    def start(self, corpus_fd: int | None) -> Child:
        """Ask for a fork. It is running when its first frame comes. Raises `SandboxError`."""
        with ExitStack() as ours, ExitStack() as theirs:
            try:
                wire_end, wire_fd = _pair(ours, theirs)
                reins, reins_fd = _pair(ours, theirs)
                pipe, output_fd = os.pipe()
                ours.callback(os.close, pipe)
                theirs.callback(os.close, output_fd)
                fds = [wire_fd, output_fd, reins_fd]
                self._request(BARE, fds) if corpus_fd is None else self._request(WITH_CORPUS, [*fds, corpus_fd])
            except OSError as problem:
                raise _unstarted(problem) from None
            ours.pop_all()
        return Child(self, wire_end, reins, pipe)

    async def begin(self, corpus_fd: int | None) -> Child:
        """`start`, which takes milliseconds, in this very thread: requests come one after the other."""
        return self.start(corpus_fd)

    async def close(self) -> None:
        """End the process, and with it whatever was forked from it and lives."""
        self._end()

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            assert self._process.stderr is not None
            with self._process.stderr as stderr:
                self._last_words = last_line(stderr.read())
            self._process = None

    def said(self) -> str:
        """The last line it wrote, if it has ended or is about to."""
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.2)
                self._end()
        return self._last_words

    def _request(self, kind: bytes, fds: list[int]) -> None:
        for attempt in (1, 2):
            control = self._running()
            try:
                socket.send_fds(control, [kind], fds)
                return
            except ConnectionError as problem:  # somebody killed it: a new one
                self._end()
                if attempt == 2:
                    why = self._last_words or str(problem)
                    raise SandboxError("the REPL's process did not get ready", why=why) from None

    def _running(self) -> socket.socket:
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._control is None:
            host, guest = socket.socketpair()
            program = str(Path(__file__).with_name("guest.py"))
            command = [sys.executable, "-s", "-P", "-S", program, str(guest.fileno()), str(os.getpid())]
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    pass_fds=[guest.fileno()],
                    env=ENVIRONMENT,
                    cwd="/",
                    start_new_session=True,
                )
            except OSError:
                host.close()
                raise
            finally:
                guest.close()
            self._control = host
        return self._control


class Child:
    """A fork of the zygote, its pipe and its reins; satisfies `Guest`."""

    def __init__(self, zygote: Zygote, wire_end: socket.socket, reins: socket.socket, pipe: int) -> None:
        self._zygote = zygote
        self.socket = wire_end
        self.pipe = pipe
        self._reins = reins
        self._ring = bytearray()
        self._ended: bytes | None = None
        """What the zygote said of its end; empty: the zygote has ended itself."""
        os.set_blocking(pipe, False)
        reins.settimeout(0)

    def drain(self) -> bool:
        return take(self.pipe, self._ring)

    def ready(self) -> None:
        pass

    def interrupt(self, write: Callable[[bytes], None]) -> None:
        with suppress(OSError):
            self._reins.send(INTERRUPT)

    def over(self) -> bool:
        if self._ended is None:
            with suppress(BlockingIOError, TimeoutError):
                self._ended = self._listen()
        return self._ended is not None

    def end(self) -> str:
        if self.pipe >= 0:
            with suppress(OSError):
                self._reins.settimeout(END_S)
                self._reins.send(KILL)
            with suppress(TimeoutError):
                self._ended = self._listen() if self._ended is None else self._ended
            self.drain()
            os.close(self.pipe)
            self.pipe = -1
            self._reins.close()
            self.socket.close()
        return self._how()

    def said(self) -> str:
        return last_line(bytes(self._ring)) or (self._zygote.said() if self._ended == b"" else "")

    def _listen(self) -> bytes:
        try:
            return self._reins.recv(STATUS.size)
        except ConnectionError:
            return b""

    def _how(self) -> str:
        if self._ended is None or len(self._ended) != STATUS.size:
            return ORPHANED
        what, code = STATUS.unpack(self._ended)
        if what == UNFORKED:
            return f"it could not be forked ({os.strerror(code)})"
        return how_ended(code)


def how_ended(code: int) -> str:
    """The end of a guest in a few words, of its exit code (negative: the number of a signal)."""
    if code < 0:
        return _SIGNALS.get(code, f"it was ended by signal {-code}")
    ends = {3: "its memory was full", 4: "a cell had left it unable to run another"}
    return ends.get(code, f"it ended itself (exit code {code})")


def take(pipe: int, ring: bytearray) -> bool:
    """Add what is in a pipe to the last `RING` bytes of what came before. False at its end."""
    try:
        data = os.read(pipe, RING)
    except BlockingIOError:
        return True
    except OSError:
        return False
    ring += data
    del ring[:-RING]
    return bool(data)


def last_line(data: bytes) -> str:
    lines = data.decode("utf-8", "replace").strip().splitlines()
    return "".join(char for char in lines[-1] if char.isprintable())[:200] if lines else ""


def _pair(ours: ExitStack, theirs: ExitStack) -> tuple[socket.socket, int]:
    """A socketpair: our end and the number of the other. Both are closed with their stacks."""
    here, there = socket.socketpair()
    ours.callback(here.close)
    theirs.callback(there.close)
    return here, there.fileno()


def _unstarted(problem: OSError) -> SandboxError:
    return SandboxError("the REPL's process cannot be started", why=problem.strerror or str(problem))


def opening(confinement: Confinement, spans: Sequence[Span] | None) -> bytes:
    """The first frame to a guest: what it is to show of its corpus, and how it is to confine itself."""
    fields: dict[str, Any] = {
        "spans": None if spans is None else [[span.start, span.stop] for span in spans],
        "lockdown": confinement.lockdown,
        "repl_memory": confinement.repl_memory,
        "context_memory": confinement.context_memory,
        "cpu_s": confinement.cpu_s,
        "tools": [[tool.name, tool.signature, tool.doc] for tool in confinement.tools],
    }
    return wire.encode("open", fields)


def proved(confinement: Confinement, frame: wire.Frame) -> Proof:
    """What a guest has proved by its first frame. Raises `SandboxError` below what was asked for."""
    if frame.kind != "ready":
        raise SandboxError("the REPL's process did not get ready", why=f"it sent a {frame.kind} frame")
    ready = read_ready(frame)
    if confinement.lockdown != "kernel":
        return Proof("soft" if confinement.lockdown == "audit" else "none", ready.refused)
    unlimited = any(wall.startswith("rlimits") for wall in ready.missing)
    strict = bool(ready.refused) and not ready.went_through and not unlimited
    if confinement.image:
        from .inside import WALLS  # its process 1 has tried these, or there would be no guest

        return Proof("linux-strict" if strict else "container", (*ready.refused, *WALLS))
    if strict:
        return Proof("macos-seatbelt" if sys.platform == "darwin" else "linux-strict", ready.refused)
    lacks = [*(f"code could {name}" for name in ready.went_through), *ready.missing]
    raise SandboxError(
        "this system cannot confine the REPL",
        why="; ".join(lacks) or "nothing was proved",
        hint="--sandbox container, or --sandbox soft if you accept code of a model running with your rights",
    )


def probe(guest: Guest, confinement: Confinement) -> Proof:
    """Let a guest lock itself down and prove it, and end it. Blocks for as long as that takes: 0.1 s for the first
    process, about 1 s for a container. Raises `SandboxError`."""
    try:
        guest.socket.settimeout(START_S)
        guest.socket.sendall(opening(confinement, None))
        header, body = wire.lengths(_exactly(guest.socket, wire.PREFIX.size))
        return proved(confinement, wire.decode(_exactly(guest.socket, header), _exactly(guest.socket, body)))
    except (OSError, EOFError, wire.Violation) as problem:
        how = guest.end()
        raise SandboxError("the REPL's process did not get ready", why=guest.said() or how or str(problem)) from None
    finally:
        guest.end()


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        received = connection.recv(size - len(data))
        if not received:
            raise EOFError
        data += received
    return data
