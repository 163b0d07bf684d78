"""Runs `rlm` in forks of a process that has imported litellm and aiohttp already: a run costs 0.3 s and not 4.

    with Zygote() as zygote:
        code = zygote.run(["ask", …], env, cwd, stdin, stdout, stderr)      # descriptors

The fork runs what the installed command runs, `rlm_cli.__main__.main`, with the arguments, the environment, the folder
and the descriptors it is given. What it does not show is the start: tests of that run the command itself.

As a program, `python zygote.py SOCKET`, it is the process that forks: single-threaded, one connection a run. A watcher
forks the run, waits for it and answers with its exit code (negative: a signal).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType


class Zygote:
    """Starts the process when it is first needed. Use with `with`."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._socket = f"{self._folder.name}/zygote"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Zygote:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._folder.cleanup()

    def run(
        self, words: Sequence[str], env: Mapping[str, str], cwd: Path, descriptors: Sequence[int], timeout: float
    ) -> int:
        """Run `rlm` with these words; stdin, stdout and stderr are `descriptors`. The exit code; `TimeoutError`."""
        if self._process is None:
            self._process = subprocess.Popen([sys.executable, __file__, self._socket], stdout=subprocess.PIPE)
            assert self._process.stdout is not None
            assert self._process.stdout.readline() == b"ready\n"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            connection.connect(self._socket)
            request = json.dumps({"words": list(words), "env": dict(env), "cwd": str(cwd)}).encode()
            socket.send_fds(connection, [len(request).to_bytes(4, "big") + request], list(descriptors))
            return int.from_bytes(connection.recv(4), "big", signed=True)


def main(path: str) -> None:
    from rlm_cli.models.background import AIOHTTP
    from rlm_cli.models.litellm import start_import

    start_import().result()
    AIOHTTP.start().result()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # watchers are nobody's business
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        while True:
            connection, _ = listener.accept()
            data, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, 3)
            while len(data) < 4 + int.from_bytes(data[:4], "big"):
                data += connection.recv(1 << 20)
            if os.fork() == 0:
                listener.close()
                watch(json.loads(data[4:]), descriptors, connection)
            for descriptor in descriptors:
                os.close(descriptor)
            connection.close()


def watch(request: dict[str, object], descriptors: Sequence[int], connection: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child == 0:
        connection.close()
        try:
            become(request, descriptors)
        finally:
            os._exit(70)
    _, status = os.waitpid(child, 0)
    connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
    os._exit(0)


def become(request: dict[str, object], descriptors: Sequence[int]) -> None:
    """The command, from here on."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["env"])  # type: ignore[call-overload]
    os.chdir(str(request["cwd"]))
    sys.argv = ["rlm", *request["words"]]  # type: ignore[misc]
    from rlm_cli.__main__ import main as rlm

    try:
        rlm()
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(int(end.code or 0))


if __name__ == "__main__":
    main(sys.argv[1])
