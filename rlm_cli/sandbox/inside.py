"""Process 1 of a container: proves the container's walls, starts the guest within, carries its frames, ends with them.

The guest is started as the host starts it (`child.py`): the process that is forked from (`zygote.py`), and one fork of
it with the wire, the reins and the corpus by descriptor, a fixed environment, descriptors 1 and 2 that are never
protocol. So it is the same guest, with the same lockdown as its second wall.

What a container adds is tried here before the guest is started, since an engine's configuration can take any of it
away: not being root, no capability, no network, no file that could be written. What fails ends the container with one
line.

The wire is stdin and stdout, the one thing both engines carry alike, without a daemon that must see our files. When
stdin hangs up the host is gone: process 1 ends, and with it the kernel ends every process of the container, also one
that sits in a loop in C. An interrupt is a prefix without a header. How the guest ended comes by its reins, and is
how the container ends. Imports after the lockdown are answered here: the
image's Python may be another version than the host's.

Rejected: a Unix socket mounted into the container (not on a Mac, not with a remote daemon); `docker kill --signal INT`
(0.2 s, and another program that can fail).

Standard library only, and no syntax newer than Python 3.8: an older image has to get as far as the message.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import types

WALLS = ("be root", "hold a capability", "gain privileges", "reach a network", "write a file")
"""What is tried before the guest is started. All of it is refused, or there is no guest."""
FOLDER = "/rlm"
"""Where the host's folder is mounted: `rlm_cli/`, and the file `corpus` where there is one."""
PREFIX = struct.Struct("!II")
"""As in wire.py, which is loaded later."""
_CHUNK = 1 << 20
_SMALL = 1024
"""Bytes of a header that may be a request for a module."""
_PLACES = ("/", "/tmp", "/var/tmp", "/run", "/dev", "/dev/shm", "/home", "/root", FOLDER)


def main(corpus: bool, environment: dict[str, str]) -> None:
    """The whole life of the container."""
    if sys.version_info < (3, 11):  # noqa: UP036 (the image's Python, not ours)
        sys.exit("the image's Python is {}.{}; 3.11 or newer is needed".format(*sys.version_info[:2]))
    faults = open_doors()
    if faults:
        sys.exit("the container is not closed: code could " + ", ".join(faults))
    package()
    import rlm_cli.sandbox.library
    import rlm_cli.sandbox.wire  # noqa: F401 (wanted when the folder is empty already)

    guest = Guest(corpus, environment)
    threading.excepthook = _broken
    threading.Thread(target=_inward, args=(guest,), daemon=True).start()
    threading.Thread(target=_outward, args=(guest,), daemon=True).start()
    watch = select.poll()
    watch.register(0, 0)  # a hang-up only, whatever is still to be read
    while not any(event & (select.POLLHUP | select.POLLERR) for _, event in watch.poll()):
        pass
    os._exit(0)


class Guest:
    """The fork that the REPL is: its wire and its reins."""

    def __init__(self, corpus: bool, environment: dict[str, str]) -> None:
        from rlm_cli.sandbox import zygote

        self.lock = threading.Lock()
        """Of who writes to the wire."""
        self.wire, wire = socket.socketpair()
        self._reins, reins = socket.socketpair()
        self._control, control = socket.socketpair()  # its end is the end of all that is forked
        program = FOLDER + "/rlm_cli/sandbox/guest.py"
        self._forked_from = subprocess.Popen(
            [sys.executable, "-s", "-P", "-S", program, str(control.fileno()), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=2,
            stderr=2,
            pass_fds=[control.fileno()],
            env=environment,
        )
        passed = [wire.fileno(), 2, reins.fileno()]
        if corpus:
            passed.append(os.open(FOLDER + "/corpus", os.O_RDONLY))
        socket.send_fds(self._control, [zygote.WITH_CORPUS if corpus else zygote.BARE], passed)
        for end in (wire, reins, control):
            end.close()
        for fd in passed[3:]:
            os.close(fd)

    def take(self, data: bytes) -> None:
        """Of the host's frames. If it has ended, who reads from it says how."""
        with contextlib.suppress(OSError):
            self.wire.sendall(data)

    def interrupt(self) -> None:
        from rlm_cli.sandbox import zygote

        with contextlib.suppress(OSError):
            self._reins.send(zygote.INTERRUPT)

    def end(self) -> int:
        """See to it that it has ended. Returns its exit code, a signal negative."""
        from rlm_cli.sandbox import zygote

        said = b""
        with contextlib.suppress(ConnectionError):
            if not select.select([self._reins], [], [], 1)[0]:
                self._reins.send(zygote.KILL)
            said = self._reins.recv(zygote.STATUS.size)
        if len(said) != zygote.STATUS.size:  # what it was forked from has ended first, and said why
            self._control.close()
            return self._forked_from.wait() or 1
        what, code = zygote.STATUS.unpack(said)
        if what == zygote.UNFORKED:
            raise RuntimeError("the REPL could not be forked: " + os.strerror(code))
        return int(code)


def package() -> None:
    """`rlm_cli` and `rlm_cli.sandbox` as bare packages, as in the guest."""
    for name, path in (("rlm_cli", "/rlm_cli"), ("rlm_cli.sandbox", "/rlm_cli/sandbox")):
        made = types.ModuleType(name)
        made.__path__ = [FOLDER + path]
        sys.modules[name] = made


def open_doors() -> list[str]:
    """Which of `WALLS` are not there."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123
        status = {name: value.strip() for name, _, value in (line.partition(":") for line in file)}
    with open("/proc/net/dev", encoding="ascii", errors="replace") as file:  # noqa: PTH123
        devices = {line.split(":")[0].strip() for line in file if ":" in line}
    capabilities = [status.get(kind, "1") for kind in ("CapPrm", "CapEff", "CapInh", "CapBnd", "CapAmb")]
    found = (
        "0" in " ".join((status["Uid"], status["Gid"], status["Groups"])).split(),
        any(int(value, 16) for value in capabilities),
        status.get("NoNewPrivs") != "1",
        bool(devices - {"lo"}),
        any(_writable(place) for place in _PLACES),
    )
    return [name for name, is_open in zip(WALLS, found) if is_open]  # noqa: B905 (not in Python 3.8)


def _writable(folder: str) -> bool:
    path = "{}/{}.tried".format(folder, os.getpid())  # noqa: UP032
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    except OSError:
        return False
    os.unlink(path)  # noqa: PTH108
    return True


def _inward(guest: Guest) -> None:
    """Frames of the host."""
    while True:
        prefix = _exactly(0, PREFIX.size)
        header, body = PREFIX.unpack(prefix)
        if not header:
            guest.interrupt()
            continue
        with guest.lock:
            guest.take(prefix)
            left = header + body
            while left:
                data = os.read(0, min(left, _CHUNK))
                if not data:
                    os._exit(0)
                guest.take(data)
                left -= len(data)


def _outward(guest: Guest) -> None:
    """Frames of the guest, unread but for small ones: whether they are right is for the host to say."""
    source = guest.wire.fileno()
    try:
        while True:
            prefix = _exactly(source, PREFIX.size)
            header, body = PREFIX.unpack(prefix)
            if header <= _SMALL and not body:
                data = _exactly(source, header)
                reply = _module(data)
                if reply:
                    with guest.lock:
                        guest.take(reply)
                else:
                    _write(prefix + data)
                continue
            _write(prefix)
            left = header + body
            while left:
                data = os.read(source, min(left, _CHUNK))
                if not data:
                    raise EOFError
                _write(data)
                left -= len(data)
    except (EOFError, OSError):
        _leave(guest)


def _module(header: bytes) -> bytes:
    """The reply to a request for a module; empty for any other frame."""
    if b"module" not in header:
        return b""
    from rlm_cli.sandbox import library, wire

    try:
        frame = wire.decode(header, b"")
    except wire.Violation:
        return b""
    number = frame.fields.get("id")
    if frame.kind != "module" or type(number) is not int:
        return b""
    found = library.source(frame.fields.get("name"))
    return wire.encode("module", {"id": number, "package": bool(found and found[1])}, (found[0],) if found else ())


def _leave(guest: Guest) -> None:
    """Leave as the guest left; 128 + the signal, as shells do."""
    code = guest.end()
    os._exit(code if code >= 0 else 128 - code)


def _broken(failure: threading.ExceptHookArgs) -> None:
    """Without a thread that carries frames there is no REPL."""
    sys.stderr.write("{}: {}\n".format(failure.exc_type.__name__, failure.exc_value))  # noqa: UP032
    sys.stderr.flush()
    os._exit(1)


def _exactly(source: int, size: int) -> bytes:
    """Raises `EOFError` at the end of the guest's stream; the end of the host's is the end."""
    data = b""
    while len(data) < size:
        more = os.read(source, size - len(data))
        if not more:
            if source == 0:
                os._exit(0)
            raise EOFError
        data += more
    return data


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    if sys.argv[2:] != ["clean"]:  # without what image and engine put into the environment: proxies with passwords
        command = [sys.executable, "-I", "-S", "-B", __file__, sys.argv[1], "clean"]
        os.execve(sys.executable, command, given["environment"])
    main(given["corpus"], given["environment"])
