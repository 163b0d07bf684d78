"""Starting a child process and proving how it is confined; what comes after is for `host.py`.

The child gets a session of its own, a fixed environment, /dev/null, one end of a socketpair, the corpus by descriptor,
and nothing else. What it writes to its descriptors 1 and 2 is never protocol; the last 64 KB are kept for the message
about a crash.

It gets SIGKILL when the thread that started it ends (PDEATHSIG), so it is started from the event loop's thread, by an
ordinary `Popen`: `preexec_fn` is not safe with threads. Rejected: a pool of warm children (they start in 0.1 s).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SandboxError
from . import Proof, Span, wire
from .messages import read_ready

START_S = 30.0
"""Wall time for a child to get ready; it takes 0.1 s, and a loaded CI machine may take its time."""
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
_SIGNALS: dict[int, str] = {
    signal.SIGSEGV: "it crashed (segmentation fault)",
    signal.SIGABRT: "it crashed (abort)",
    signal.SIGBUS: "it crashed (bus error)",
    signal.SIGSYS: "it made a forbidden system call",
    signal.SIGXCPU: "it used up its processor time",
    signal.SIGKILL: "it was killed, most likely for want of memory",
}


@dataclass(frozen=True, slots=True)
class Confinement:
    """How a session is confined and what it may use. Sizes in bytes, times in seconds.

    `lockdown`: `kernel` (rlimits, Landlock, seccomp), `audit` (a hook, no boundary) or `none`.
    """

    lockdown: str = "kernel"
    cell_timeout: float = 60.0
    repl_memory: int = 1 << 30
    context_memory: int = 256 << 20
    image: str = ""
    """Of the container the child is started in; empty = an ordinary process."""

    @property
    def cpu_s(self) -> int:
        """RLIMIT_CPU of a child's whole life: a backstop for when nobody is there to interrupt."""
        return max(60, int(self.cell_timeout * 60))


class Child:
    """One child process and its pipes, before any protocol. Used by sessions and by the blocking probe."""

    def __init__(self, corpus_fd: int | None) -> None:
        """Start it. Raises `SandboxError`."""
        self.corpus_fd = corpus_fd
        try:
            host, guest = socket.socketpair()
        except OSError as problem:
            raise _unstarted(problem) from None
        try:
            pipe_out, pipe_in = os.pipe()
        except OSError as problem:
            host.close()
            guest.close()
            raise _unstarted(problem) from None
        program = str(Path(__file__).with_name("guest.py"))
        command = [sys.executable, "-s", "-P", "-S", program, str(guest.fileno()), str(os.getpid())]
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=pipe_in,
                stderr=pipe_in,
                pass_fds=[guest.fileno(), *([] if corpus_fd is None else [corpus_fd])],
                env=ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
        except OSError as problem:
            host.close()
            os.close(pipe_out)
            raise _unstarted(problem) from None
        finally:
            guest.close()
            os.close(pipe_in)
        self.socket = host
        self.pipe = pipe_out
        self._ring = bytearray()
        os.set_blocking(pipe_out, False)

    def drain(self) -> bool:
        """Take what it wrote to descriptors 1 and 2. False at the end of the pipe."""
        try:
            data = os.read(self.pipe, RING)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._keep(data)
        return bool(data)

    def _keep(self, data: bytes) -> None:
        self._ring += data
        del self._ring[:-RING]

    def ready(self) -> None:
        """It has said that it is: what was only needed for its start can go."""

    def interrupt(self, write: Callable[[bytes], None]) -> None:
        """SIGINT. `write` puts bytes on the wire, between frames; a process does not need it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def end(self) -> str:
        """Kill its group, reap it, close everything. Returns how it had ended, in a few words; the same again."""
        if self.pipe >= 0:
            # Also when it has ended itself: without a lockdown it may have left others in its group.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.drain()
            os.close(self.pipe)
            self.pipe = -1
            self.socket.close()
        return how_ended(self.process.wait())

    def said(self) -> str:
        """The last line it wrote to descriptor 2, for a message."""
        return last_line(self._ring)


def how_ended(code: int) -> str:
    """The end of a child in a few words, of its exit code (negative: the number of a signal)."""
    if code < 0:
        return _SIGNALS.get(-code, f"it was ended by signal {-code}")
    return "its memory was full" if code == 3 else f"it ended itself (exit code {code})"


def last_line(printed: bytearray) -> str:
    lines = printed.decode("utf-8", "replace").strip().splitlines()
    printable = "".join(char for char in lines[-1] if char.isprintable()) if lines else ""
    return printable[:200]


def _unstarted(problem: OSError) -> SandboxError:
    return SandboxError("the REPL's process cannot be started", why=problem.strerror or str(problem))


def opening(confinement: Confinement, corpus_fd: int | None, spans: Sequence[Span] | None) -> bytes:
    """The first frame to a child: what it is to map, and how it is to confine itself."""
    fields: dict[str, Any] = {
        "corpus": corpus_fd,
        "spans": None if spans is None else [[span.start, span.stop] for span in spans],
        "lockdown": confinement.lockdown,
        "repl_memory": confinement.repl_memory,
        "context_memory": confinement.context_memory,
        "cpu_s": confinement.cpu_s,
    }
    return wire.encode("open", fields)


def proved(confinement: Confinement, frame: wire.Frame) -> Proof:
    """What a child has proved by its first frame. Raises `SandboxError` below what was asked for."""
    if frame.kind != "ready":
        raise SandboxError("the REPL's process did not get ready", why=f"it sent a {frame.kind} frame")
    ready = read_ready(frame)
    if confinement.lockdown != "kernel":
        return Proof("soft" if confinement.lockdown == "audit" else "none", ready.refused)
    unlimited = any(wall.startswith("rlimits") for wall in ready.missing)
    strict = bool(ready.refused) and not ready.went_through and not unlimited
    if confinement.image:
        from .inside import WALLS  # its process 1 has tried these, or there would be no child

        return Proof("linux-strict" if strict else "container", (*ready.refused, *WALLS))
    if strict:
        return Proof("macos-seatbelt" if sys.platform == "darwin" else "linux-strict", ready.refused)
    lacks = [*(f"code could {name}" for name in ready.went_through), *ready.missing]
    raise SandboxError(
        "this system cannot confine the REPL",
        why="; ".join(lacks) or "nothing was proved",
        hint="--sandbox container, or --sandbox soft if you accept code of a model running with your rights",
    )


def start(confinement: Confinement, corpus_fd: int | None) -> Child:
    """A child, as a process or in a container. Raises `SandboxError`."""
    if confinement.image:
        from .container import ContainerChild

        return ContainerChild(confinement.image, confinement.repl_memory, corpus_fd)
    return Child(corpus_fd)


async def begin(confinement: Confinement, corpus_fd: int | None) -> Child:
    """`start`, from the event loop: a process in its thread, which PDEATHSIG is about, a container in another."""
    if not confinement.image:
        return start(confinement, corpus_fd)
    from .container import ContainerChild, aside

    return await aside(lambda: ContainerChild(confinement.image, confinement.repl_memory, corpus_fd))


def probe(confinement: Confinement) -> Proof:
    """Start a child, let it lock itself down and prove it, end it. Raises `SandboxError`.

    Blocks: 0.1 s for a process, about 1 s for a container.
    """
    child = start(confinement, None)
    try:
        child.socket.settimeout(START_S)
        child.socket.sendall(opening(confinement, None, None))
        header, body = wire.lengths(_exactly(child.socket, wire.PREFIX.size))
        return proved(confinement, wire.decode(_exactly(child.socket, header), _exactly(child.socket, body)))
    except (OSError, EOFError, wire.Violation) as problem:
        how = child.end()
        raise SandboxError("the REPL's process did not get ready", why=child.said() or how or str(problem)) from None
    finally:
        child.end()


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        received = connection.recv(size - len(data))
        if not received:
            raise EOFError
        data += received
    return data
