"""The process every REPL is forked from: it has done all imports, so a REPL costs a fork and not a start.

It has one thread, so that a fork copies nothing half done. It never sees a corpus or a model's code: what a child needs
comes with the request as descriptors (SCM_RIGHTS), goes into the fork and is closed here.

Only this process signals its children, because only it knows which of them it has reaped: no process id is ever used
that may be somebody else's by now. The host holds the reins of each child, a socketpair that carries `I` (interrupt it)
and `K` (kill its group), says by its end that nobody wants the child any more, and brings back how it ended.

Nothing outlives the host. Its end closes the control socket; PDEATHSIG tells too, should a copy of that be open in
some other process. It comes whenever the *thread* that started this process ends, hence the look at who the parent is:
a healthy run may have been started by a thread that is gone. When this process ends the kernel kills its children,
whatever they compute: their PDEATHSIG is SIGKILL, and this only thread lives as long as its process.

Rejected: a pool of warm children (30 MB each); signals by the host through pidfds, which not every kernel has.

Standard library only: what is forked from here is the child.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import select
import signal
import socket
import struct
from contextlib import suppress

ENDED, UNFORKED = b"e", b"f"
STATUS = struct.Struct("!ci")
"""What came of a child: `ENDED` with its exit code (a signal is negative), or `UNFORKED` with an errno."""
INTERRUPT, KILL = b"I", b"K"
BARE, WITH_CORPUS = b"-", b"c"
"""A request for a child. Descriptors come with it: the wire, the pipe for what it writes to 1 and 2, the reins, and
the corpus."""
WIRE_FD, CORPUS_FD, FIRST_FREE = 3, 4, 5
"""Where a child has its descriptors."""


def serve(control: socket.socket, host: int) -> int | None:
    """Fork children until the host (its process id) is gone, then leave the process. Returns in every child: the
    descriptor of its corpus, None if it has none. The wire is at `WIRE_FD`."""
    from . import harden  # ctypes, which the host reads this file without

    signal.signal(signal.SIGTERM, lambda *_: os._exit(0) if os.getppid() != host else None)
    harden.die_with(host, signal.SIGTERM)
    gc.collect()
    gc.freeze()  # a child's collector leaves these pages shared
    return _Nursery(control).run()


class _Nursery:
    """The children that are alive, by their reins."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._reins: dict[int, tuple[socket.socket, int]] = {}
        """Descriptor of the reins → reins, process id."""
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._woken, self._waker = os.pipe()
        for end in (self._woken, self._waker):
            os.set_blocking(end, False)
        self._poll.register(self._woken, select.POLLIN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)

    def run(self) -> int | None:
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._control.fileno():
                    fds = self._request()
                    if fds is not None and self._fork(fds):
                        return self._become(fds)
                elif fd == self._woken:
                    with suppress(BlockingIOError):
                        os.read(self._woken, 4096)
                    self._reap()
                elif fd in self._reins:
                    self._pull(fd)

    def _request(self) -> list[int] | None:
        """The descriptors of a child. Leaves the process when the host is gone."""
        kind, fds, _, _ = socket.recv_fds(self._control, 1, 4)
        if not kind:
            for _, pid in self._reins.values():
                _kill(pid)
            os._exit(0)
        if len(fds) == 3 + (kind == WITH_CORPUS):
            return fds
        for fd in fds:  # some did not fit into this process's table: who asked sees the reins end
            os.close(fd)
        return None

    def _fork(self, fds: list[int]) -> bool:
        """True in the child."""
        try:
            pid = os.fork()
        except OSError as problem:
            pid, why = -1, problem.errno or errno.EAGAIN
        if pid == 0:
            return True
        reins = socket.socket(fileno=fds.pop(2))
        for fd in fds:
            os.close(fd)
        if pid > 0:
            reins.setblocking(False)
            self._reins[reins.fileno()] = reins, pid
            self._poll.register(reins, select.POLLIN)
        else:
            _say(reins, UNFORKED, why)
            reins.close()
        return False

    def _become(self, fds: list[int]) -> int | None:
        """What is to be different in the child: no handler, no descriptor and no object of this process."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        highest = max(*self._reins, *fds, self._control.detach(), self._woken, self._waker)
        for reins, _ in self._reins.values():
            reins.detach()
        self._reins.clear()
        wire, output, _, *corpus = (fcntl.fcntl(fd, fcntl.F_DUPFD, highest + 1) for fd in fds)
        for fd, place in ((output, 1), (output, 2), (wire, WIRE_FD), *((fd, CORPUS_FD) for fd in corpus)):
            os.dup2(fd, place, inheritable=place < WIRE_FD)
        os.closerange(FIRST_FREE if corpus else CORPUS_FD, highest + 1 + len(fds))
        return CORPUS_FD if corpus else None

    def _pull(self, fd: int) -> None:
        """What the host says of a child. Whoever is killed is reaped when it has ended."""
        reins, pid = self._reins[fd]
        try:
            said = reins.recv(1)
        except BlockingIOError:
            return  # what was announced was said of another, whose number this one has now
        except OSError:
            said = b""
        if said == INTERRUPT:
            os.kill(pid, signal.SIGINT)
            return
        if not said:
            self._poll.unregister(fd)
        _kill(pid)

    def _reap(self) -> None:
        """Those that have ended. Their groups with them: without a lockdown they may have left others in it."""
        for fd, (reins, pid) in list(self._reins.items()):
            if hasattr(os, "waitid"):  # looks without reaping (macOS has it since Python 3.13)
                if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                    continue
                _kill(pid)
            reaped, status = os.waitpid(pid, os.WNOHANG)
            if reaped:
                with suppress(KeyError):
                    self._poll.unregister(fd)
                del self._reins[fd]
                _say(reins, ENDED, os.waitstatus_to_exitcode(status))
                reins.close()


def _kill(pid: int) -> None:
    """A child that was not reaped yet, and its group."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
        os.killpg(pid, signal.SIGKILL)


def _say(reins: socket.socket, what: bytes, number: int) -> None:
    with suppress(OSError):  # the host may not want to know any more
        reins.send(STATUS.pack(what, number))
