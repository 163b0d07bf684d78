"""A guest in a container: Docker or Podman, whichever is there, and nothing of either that we do not ask for.

The same guest with the same lockdown, so the kernel's two walls stand inside a third one: no network, a read-only root
without tmpfs, no capability, no new privileges, nobody's user, bounded processes and memory. `inside.py` is process 1:
it tries those walls before it starts the guest, since an engine's own configuration can take them away, and it ends
with its stdin. So a container never outlives the run, and needs no killing as a rule.

Docker comes first where its daemon answers, then Podman. Nothing is pulled: an image that is not there is an error
with the line to copy. What an engine needs to work on a machine (runtime, storage, cgroups) is written in that
engine's configuration and not in ours, so that no setting here can open a door.

The guest's files and the corpus are copied into a private folder, which is mounted: the corpus has no name that could
be mounted, and files of ours may be unreadable for nobody's user, or labelled against it by SELinux (`Z`). The folder
goes as soon as the guest is ready: what it needs is mapped by then. (SIGKILL of the host in that second leaves it.)

Rootless engines on cgroups of version 1 ignore the limits on memory and processes, with a warning. The guest's own
(rlimits, no fork) are then the only ones; they hold everywhere.

Rejected: one container for all guests of a run (they could reach each other); the engine's API by socket (two APIs
and a root-equivalent socket); `--memory` alone, since the page cache of a large corpus counts for it as well.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..errors import SandboxError
from .child import ENVIRONMENT, RING, how_ended, last_line, take
from .inside import FOLDER, PREFIX

ANSWER_S = 20.0
"""Wall time for an engine to answer a question about itself."""
END_S = 10.0
"""Wall time for a container to end by itself; it takes 0.3 s. After that it is removed by force."""
PIDS = 256
OVERHEAD = 256 << 20
"""Bytes beside a REPL's memory: process 1, what the guest is forked from, and what the page cache needs."""
STARTS = 8
"""So many are made at once: each copies the corpus first."""
USER = "65534:65534"
_COPIED = ("", "sandbox", "lazy")


@dataclass(frozen=True, slots=True)
class Engine:
    """A container engine that answers. `podman`: it takes Podman's options, whatever its name is."""

    program: str
    podman: bool
    version: str

    @property
    def name(self) -> str:
        return Path(self.program).name

    def says(self, *words: str) -> str | None:
        """What it answers to a question, one line; None when it refuses."""
        code, out, _ = _asked(self.program, *words)
        return out if code == 0 else None

    def has(self, image: str) -> bool:
        return self.says("image", "inspect", "--format", "{{.Id}}", image) is not None

    @property
    def rootless(self) -> bool:
        if self.podman:
            return self.says("info", "--format", "{{.Host.Security.Rootless}}") == "true"
        return "rootless" in (self.says("info", "--format", "{{.SecurityOptions}}") or "")


def find_engine() -> Engine:
    """Docker where its daemon answers, else Podman. Raises `SandboxError` that says what each of them said."""
    said = []
    for name in ("docker", "podman"):
        program = shutil.which(name)
        if program is None:
            said.append(f"{name} is not installed")
            continue
        version = _asked(program, "--version")[1]
        podman = name == "podman" or "podman" in version.lower()
        asked = "{{.Client.Version}}" if podman else "{{.Server.Version}}"
        code, out, problem = _asked(program, "version", "--format", asked)
        if code == 0 and out:
            return Engine(program, podman, out)
        said.append(f"{name}: {problem or 'no answer'}")
    raise SandboxError(
        "no container engine answers",
        why="; ".join(said),
        hint="start Docker, or install Podman; or --sandbox process",
    )


@cache
def ready_engine(image: str) -> Engine:
    """An engine that has the image. Asked once; raises `SandboxError`, with the line that pulls it."""
    engine = find_engine()
    if not engine.has(image):
        raise SandboxError(
            f"the container image {image} is not there",
            why=f"{engine.name} does not have it, and nothing is pulled unasked",
            hint=f"{engine.name} pull {image}",
        )
    return engine


class Containers:
    """Containers of one image, one a guest; satisfies `Starter`."""

    def __init__(self, image: str, memory: int) -> None:
        """`memory`: bytes of a REPL. Starts nothing yet."""
        self._image = image
        self._memory = memory
        self._making = ThreadPoolExecutor(STARTS)
        self._left: set[ContainerChild] = set()

    def start(self, corpus_fd: int | None) -> ContainerChild:
        """A container over a copy of the corpus. Blocks while that is made. Raises `SandboxError`."""
        return ContainerChild(self._image, self._memory, corpus_fd, self._left)

    async def begin(self, corpus_fd: int | None) -> ContainerChild:
        """`start` in a thread: copying 1 GB takes a second or more, and other calls go on meanwhile.

        One that is not wanted any more when it is made is ended.
        """
        try:  # a descriptor of our own: who cancels closes the other
            own = None if corpus_fd is None else os.dup(corpus_fd)
        except OSError as problem:
            raise _unstarted(problem) from None
        making = self._making.submit(self.start, own)
        if own is not None:
            making.add_done_callback(lambda _: os.close(own))
        try:
            return await asyncio.wrap_future(making)
        except asyncio.CancelledError:
            making.add_done_callback(_end_unwanted)
            raise

    async def close(self) -> None:
        """Wait for what is being made, hang up on what nobody has ended, and wait until every container is gone; for
        as long as it takes to remove one by force."""
        making, self._making = self._making, ThreadPoolExecutor(STARTS)
        await asyncio.to_thread(self._wait, making)

    def _wait(self, making: ThreadPoolExecutor) -> None:
        making.shutdown()
        for child in list(self._left):
            child.hang_up()
        until = time.monotonic() + END_S + ANSWER_S
        while self._left and time.monotonic() < until:
            time.sleep(0.005)


def _end_unwanted(made: Future[ContainerChild]) -> None:
    if not made.cancelled() and made.exception() is None:
        made.result().end()


class ContainerChild:
    """A container with one guest; satisfies `Guest`."""

    def __init__(self, image: str, memory: int, corpus_fd: int | None, left: set[ContainerChild]) -> None:
        """Start it, over a copy of the corpus. `memory`: bytes of the REPL; `left`: it is in there until it is gone.
        Raises `SandboxError`."""
        self._engine = ready_engine(image)
        self._name = f"rlm-{secrets.token_hex(8)}"
        self._ring = bytearray()
        self._left = left
        try:
            self._folder = tempfile.mkdtemp(prefix="rlm-")
            with ExitStack() as undo:
                undo.callback(self.ready)
                self.socket, inner = socket.socketpair()
                undo.callback(self.socket.close)
                undo.callback(inner.close)
                self._wire = self.socket.dup()  # to hang up by: who reads `socket` may have closed it
                undo.callback(self._wire.close)
                self.pipe, said = os.pipe()
                undo.callback(os.close, self.pipe)
                with open(said, "wb") as messages:  # noqa: PTH123 (a descriptor)
                    mounted = fill(Path(self._folder), corpus_fd)
                    self.process = subprocess.Popen(
                        self._command(image, memory, mounted, corpus_fd is not None),
                        stdin=inner.fileno(),
                        stdout=inner.fileno(),
                        stderr=messages,
                        cwd="/",
                        start_new_session=True,
                    )
                undo.pop_all()
        except OSError as problem:
            raise _unstarted(problem) from None
        inner.close()
        os.set_blocking(self.pipe, False)
        left.add(self)

    def _command(self, image: str, memory: int, mounted: Path, corpus: bool) -> list[str]:
        limit = str(memory + OVERHEAD)
        options = {
            "--name": self._name,
            "--label": f"rlm-cli={os.getpid()}",
            "--pull": "never",
            "--network": "none",
            "--ipc": "none",  # without it there is a writable /dev/shm
            "--cap-drop": "ALL",
            "--security-opt": "no-new-privileges",
            "--user": USER,
            "--pids-limit": str(PIDS),
            "--memory": limit,
            "--memory-swap": limit,
            "--log-driver": "none",
            "--workdir": "/",
            "--volume": f"{mounted}:{FOLDER}:ro,Z",
            "--entrypoint": "python3",
        }
        flags = ["--rm", "--interactive", "--read-only", "--no-healthcheck"]
        if self._engine.podman:
            flags += ["--read-only-tmpfs=false", "--http-proxy=false"]
        words = [word for pair in options.items() for word in pair]
        told = json.dumps({"corpus": corpus, "environment": ENVIRONMENT})
        inside = ["-I", "-S", "-B", f"{FOLDER}/rlm_cli/sandbox/inside.py", told]
        return [self._engine.program, "run", *flags, *words, image, *inside]

    def drain(self) -> bool:
        return take(self.pipe, self._ring)

    def ready(self) -> None:
        """It has mapped the corpus and loaded its files: the copies go, whatever becomes of this process."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def interrupt(self, write: Callable[[bytes], None]) -> None:
        """A prefix without a header, between frames: process 1 of the container sends the signal."""
        write(PREFIX.pack(0, 0))

    def over(self) -> bool:
        return self.process.poll() is not None

    def hang_up(self) -> None:
        """End the container, from whatever thread; who waits for its frames sees their end."""
        with suppress(OSError):
            self._wire.shutdown(socket.SHUT_RDWR)

    def end(self) -> str:
        """Hang up, which ends the container; see to it in a thread, as an engine takes its time to clean up.

        Returns how it had ended, where it had.
        """
        if self.pipe < 0:
            return self._how()
        self.ready()
        hung_up = self._hung_up()
        with suppress(OSError):
            self._wire.shutdown(socket.SHUT_WR)
        self.socket.close()
        pipe, self.pipe = self.pipe, -1
        if hung_up and self._gone(pipe, 1.0):
            self._close(pipe)
        else:
            threading.Thread(target=self._see_to_it, args=(pipe,)).start()
        return self._how()

    def said(self) -> str:
        return last_line(bytes(self._ring))

    def _how(self) -> str:
        code = self.process.poll()
        if code is None:
            return "it was ended"
        return how_ended(128 - code if code > 128 else code)

    def _hung_up(self) -> bool:
        """The engine's client has closed its end: the container ended first."""
        try:
            return not self._wire.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _see_to_it(self, pipe: int) -> None:
        if not self._gone(pipe, END_S):
            self.process.kill()
            _asked(self._engine.program, "rm", "--force", self._name)
            self.process.wait()
        self.ready()  # again: without a free descriptor it could not
        self._close(pipe)

    def _gone(self, pipe: int, seconds: float) -> bool:
        """Wait for the engine's client, taking what it still writes."""
        until = time.monotonic() + seconds
        while self.process.poll() is None:
            if time.monotonic() > until:
                return False
            with suppress(OSError):
                self._wire.recv(RING, socket.MSG_DONTWAIT)
            take(pipe, self._ring)
            time.sleep(0.005)
        take(pipe, self._ring)
        return True

    def _close(self, pipe: int) -> None:
        self._wire.close()
        os.close(pipe)
        self._left.discard(self)


def fill(folder: Path, corpus_fd: int | None) -> Path:
    """Put the guest's files and the corpus into `folder`, readable for anybody who gets past it. Returns what to mount.

    Raises `OSError`.
    """
    mounted, package = folder / "rlm", Path(__file__).parents[1]
    for part in _COPIED:
        target = mounted / "rlm_cli" / part
        target.mkdir(parents=True)
        for file in (package / part).glob("*.py"):
            shutil.copyfile(file, target / file.name)
    if corpus_fd is not None:
        at, size = 0, os.fstat(corpus_fd).st_size
        with (mounted / "corpus").open("wb") as copy:
            while at < size and (data := os.pread(corpus_fd, 8 << 20, at)):
                at += copy.write(data)
    for path in (mounted, *mounted.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o444)
    return mounted


def _asked(program: str, *words: str) -> tuple[int, str, str]:
    """Exit code, output, last line of the messages; 124 when it does not answer in time."""
    try:
        done = subprocess.run(
            [program, *words], stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWER_S, cwd="/", check=False
        )
    except subprocess.TimeoutExpired:
        return 124, "", f"no answer in {ANSWER_S:.0f} s"
    except OSError as problem:
        return 126, "", problem.strerror or str(problem)
    return done.returncode, done.stdout.decode("utf-8", "replace").strip(), last_line(done.stderr)


def _unstarted(problem: OSError) -> SandboxError:
    return SandboxError("the REPL's container cannot be started", why=problem.strerror or str(problem))
