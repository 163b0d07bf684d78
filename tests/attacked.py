"""Runs the table of attacks: a host of its own, at one level, as one user; a JSON line for each row.

    python attacked.py                      every level as every user, and the totals
    python attacked.py process 65534        one of them, as JSON lines
    python attacked.py process 65534 quick  the same without the slow rows

The host is a process like `rlm`: a secret in its environment and in a file, sockets that listen, a folder that may be
written. Each row is a cell and a cell after it; what is written down is what was said, whether the REPL lived on, and
how far the host's memory went above what it had after its first REPL (the kernel's high-water mark, reset for each row).

As another user it takes the first Python that user may run: a Python below somebody's home may be out of reach.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from attacks import AFTER, EITHER, EXPECTED, KEPT, LIMIT, PREPARED, Attack, attacks

if TYPE_CHECKING:
    from rlm_cli.sandbox import Repl, Sandbox

ROOT = Path(__file__).parents[1]
WITHOUT = str(Path(__file__).with_name("without.py"))
CANARY = "canary-5d1f0c"
LEVELS = ("process", "process, no Landlock", "soft", "none")
ORDINARY = 65_534
USERS = (0, ORDINARY)
SHORT_S, LONG_S = 0.6, 20.0
"""Computing limits of a cell: short where a row may use it up, else long enough for a busy machine."""
GROWTH = 100_000_000
"""Bytes that the host may grow by in a row."""


@dataclass(frozen=True, slots=True)
class Row:
    """What came of an attack. `grown` is in bytes; `wrong` says what should not have been, empty if nothing."""

    name: str
    fate: str
    grown: int
    seconds: float
    said: str
    wrong: str


def command(level: str, user: int, quick: bool) -> list[str]:
    """The program for one level as one user. Raises `LookupError` where that user has no Python to run."""
    python = sys.executable if user == os.getuid() else readable_python(user)
    name, _, lacking = level.partition(", no ")
    before = [python, WITHOUT, lacking.lower()] if lacking else []
    return [*before, python, str(Path(__file__).resolve()), name, str(user), *["quick"] * quick]


def readable_python(user: int) -> str:
    for python in dict.fromkeys((sys.executable, *filter(None, map(shutil.which, ("python3", "/usr/bin/python3"))))):
        check = (
            f"import sys; sys.path.insert(0, {str(ROOT)!r}); import rlm_cli.sandbox; assert sys.version_info >= (3, 11)"
        )
        try:
            if (
                subprocess.run(
                    [python, "-c", check], user=user, group=user, extra_groups=[], stderr=subprocess.DEVNULL
                ).returncode
                == 0
            ):
                return python
        except OSError:
            pass
    raise LookupError(f"no Python that user {user} may run")


@dataclass(frozen=True, slots=True)
class Running:
    """A host that has been started. Its output goes to files: it must not wait for a reader."""

    process: subprocess.Popen[bytes]
    out: IO[bytes]
    err: IO[bytes]

    def rows(self) -> list[Row]:
        """Waits for its end. Raises `RuntimeError` where that was not well."""
        self.process.wait()
        self.out.seek(0)
        self.err.seek(0)
        if self.process.returncode:
            raise RuntimeError(f"the host ended with {self.process.returncode}: {self.err.read()[-2000:].decode()}")
        return [Row(**json.loads(line)) for line in self.out]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.out.close()
        self.err.close()


def start(level: str, user: int, quick: bool = False) -> Running:
    """A host at that level, as that user. Raises `LookupError`."""
    rights: dict[str, Any] = {} if user == os.getuid() else {"user": user, "group": user, "extra_groups": []}
    environ = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "RLM_CANARY": CANARY, "PYTHONDONTWRITEBYTECODE": "1"}
    out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
    process = subprocess.Popen(command(level, user, quick), stdout=out, stderr=err, env=environ, cwd="/", **rights)
    return Running(process, out, err)


class Model:
    """Answers at once what the prompt says, but `slow` ones after a second; `fail` ones not at all."""

    def __init__(self) -> None:
        self.leaked = False

    async def __call__(self, query: object) -> Sequence[object]:
        from rlm_cli.sandbox import Failed

        prompts: tuple[str, ...] = query.prompts  # type: ignore[attr-defined]
        self.leaked |= any(CANARY in prompt for prompt in prompts)
        if prompts[0].startswith("slow"):
            await asyncio.sleep(1)
        return [Failed("refused") if prompt == "fail" else f"llm:{prompt[:100]}" for prompt in prompts]


class Host:
    """Runs rows in one REPL after the other, with what is on the host to be stolen or broken."""

    def __init__(self, level: str, folder: Path) -> None:
        from rlm_cli.builder import CorpusBuilder
        from rlm_cli.sandbox import open_sandbox

        self.model = Model()
        builder = CorpusBuilder(folder)
        for path, text in (("a.txt", "alpha\n"), ("b.txt", "beta\n" * 1000)):
            with builder.document(path, "text") as document:
                document.write(text)
        self.corpus = builder.finish()
        self.places = {
            limit: open_sandbox(level, cell_timeout_s=limit, repl_memory=192 << 20, context_memory=64 << 20)
            for limit in (SHORT_S, LONG_S)
        }
        self.strict = level == "process"
        self.folder = folder / "written"
        self.folder.mkdir()
        self.secret = self.folder / "secret"
        self.secret.write_text(CANARY)

    async def rows(self, table: Sequence[Attack]) -> None:
        """A line for each."""
        with listeners(self.folder.parent) as (values, heard):
            self.prepared = PREPARED.format(values=repr((str(self.secret), str(self.folder), *values, os.getpid())))
            for place in self.places.values():
                await (await self.prepared_at(place)).close()
            self.size = memory("VmRSS")
            for attack in table:
                row = await self.row(attack)
                if self.strict and heard():
                    row = Row(row.name, row.fate, row.grown, row.seconds, row.said, "a socket of the host heard it")
                print(json.dumps(asdict(row)), flush=True)
            for place in self.places.values():
                await place.close()

    async def prepared_at(self, place: Sandbox) -> Repl:
        """A REPL with the names that attacks use. One for each: a REPL that is rebuilt runs what ran before again."""
        repl = await place.open(self.corpus, None, self.model)  # type: ignore[arg-type]
        first = await repl.execute(self.prepared)
        assert first.error is None, first.error
        return repl

    async def row(self, attack: Attack) -> Row:
        repl = await self.prepared_at(self.places[SHORT_S if LIMIT.search(attack.says) else LONG_S])
        try:
            return await self.attacked(attack, repl)
        finally:
            await repl.close()

    async def attacked(self, attack: Attack, repl: Repl) -> Row:
        gc.collect()  # what the row before has left is not this one's
        forget_peak()
        began = time.monotonic()
        output = await repl.execute(attack.code, timeout_s=30)
        after = await repl.execute(AFTER, timeout_s=30)
        if after.error and not output.lost:  # the REPL was beyond saving, which it may be; the next one is not
            after = await repl.execute(AFTER, timeout_s=30)
            lost = after.lost or "by the next cell"
        else:
            lost = output.lost or after.lost or ""
        grown = memory("VmHWM") - self.size
        fate = "replaced" if lost else "kept"
        said = "\n".join(filter(None, (output.stdout.strip(), output.error, output.lost)))
        everything = repr((output, after))
        wrong = [
            text
            for text, is_wrong in (
                (f"was to say {attack.says!r}", not re.search(attack.says, said)),
                (f"was to be {attack.fate}", attack.fate not in (EITHER, fate)),
                # Threads that the attack left behind may say something there too.
                (f"the next cell: {(after.stdout, after.error)}", EXPECTED not in after.stdout or bool(after.error)),
                (f"the host grew by {grown:,} bytes", grown > GROWTH),
                ("several lines", "\n" in (output.lost or "")),
                ("the secret came out", CANARY in everything or self.model.leaked),
                ("something was written", self.strict and self.found() != {"secret": CANARY}),
            )
            if is_wrong
        ]
        if lost or attack.fate != KEPT:
            prepared = await repl.execute(self.prepared)
            if prepared.error:
                wrong.append(f"the cell after next: {prepared.error}")
        seconds = round(time.monotonic() - began, 2)
        return Row(attack.name, fate, grown, seconds, said[-300:], "; ".join(wrong))

    def found(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.folder.iterdir()}


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def memory(which: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{which}:\s+(\d+)", status)[1]) << 10  # type: ignore[index]


@contextmanager
def listeners(folder: Path) -> Iterator[tuple[tuple[str, str, int], Callable[[], bool]]]:
    """Sockets that accept whoever comes: a path, an abstract name, a port; and whether somebody came."""
    path, abstract = str(folder / "listening"), f"\0rlm-attacked-{os.getpid()}"
    with (
        closing(socket.socket(socket.AF_UNIX)) as a,
        closing(socket.socket(socket.AF_UNIX)) as b,
        closing(socket.socket()) as c,
    ):
        a.bind(path)
        b.bind(abstract)
        c.bind(("127.0.0.1", 0))
        for listener in (a, b, c):
            listener.listen()
            listener.setblocking(False)

        def heard() -> bool:
            for listener in (a, b, c):
                try:
                    listener.accept()[0].close()
                except BlockingIOError:
                    continue
                return True
            return False

        yield (path, abstract, c.getsockname()[1]), heard


def run(level: str, quick: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        host = Host(level, Path(folder))
        asyncio.run(host.rows(list(attacks(level, os.uname().machine, quick))))
    left = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert not left, f"left behind: {left}"


def totals() -> None:
    """Every level as every user this one may become, one after the other."""
    users = USERS if os.getuid() == 0 else (os.getuid(),)
    print(
        f"{'level':24}{'uid':>8}{'attacks':>9}{'held':>6}{'kept':>6}{'replaced':>10}{'host grew, MB':>15}{'seconds':>9}"
    )
    wrong = 0
    for level in LEVELS:
        for user in users:
            began = time.monotonic()
            host = start(level, user)
            rows = host.rows()
            host.close()
            fates, held = Counter(row.fate for row in rows), sum(not row.wrong for row in rows)
            most = max(row.grown for row in rows) / 1e6
            print(
                f"{level:24}{user:>8}{len(rows):>9}{held:>6}{fates[KEPT]:>6}{fates['replaced']:>10}{most:>15.0f}"
                f"{time.monotonic() - began:>9.0f}",
                flush=True,
            )
            for row in rows:
                if row.wrong:
                    wrong += 1
                    print(f"  {row.name}: {row.wrong}\n    {row.said}", flush=True)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    run(sys.argv[1], "quick" in sys.argv) if len(sys.argv) > 1 else totals()
