"""What most tests stand on: a home folder of their own, and the installed command run in it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from zygote import Zygote

from rlm_cli.builder import CorpusBuilder
from rlm_cli.corpus import Corpus

BIN = Path(sys.executable).with_name("rlm")
KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR")


@dataclass(frozen=True, slots=True)
class Ran:
    """What a finished command left."""

    code: int
    out: str
    err: str


@dataclass
class Rlm:
    """Runs the installed `rlm` in a home of its own: no key, no configuration, state below `home`.

    Where a model is asked over HTTP it is a fork that has litellm already, unless `cold`.
    """

    home: Path
    zygote: Zygote
    env: dict[str, str] = field(default_factory=dict)

    def __call__(
        self,
        *words: str,
        stdin: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 60,
        cold: bool = False,
    ) -> Ran:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        environ, folder = self.environ(env), cwd or self.home
        if cold or "OPENAI_API_BASE" not in environ:
            done = subprocess.run(
                [str(BIN), *words],
                input=data,
                stdin=subprocess.DEVNULL if data is None else None,
                capture_output=True,
                env=environ,
                cwd=folder,
                timeout=timeout,
                check=False,
            )
            return Ran(done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace"))
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            source.write(data or b"")
            source.seek(0)
            with open(os.devnull, "rb") as nothing:  # noqa: PTH123
                given = nothing if data is None else source
                code = self.zygote.run(words, environ, folder, [given.fileno(), out.fileno(), err.fileno()], timeout)
            out.seek(0)
            err.seek(0)
            return Ran(code, out.read().decode(), err.read().decode(errors="replace"))

    def environ(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        return kept | {"HOME": str(self.home)} | self.env | dict(env or {})

    @property
    def state(self) -> Path:
        return self.home / ".local" / "state" / "rlm"

    def everything(self) -> str:
        """Every file the command left below its home, as one text: to look for what must not be there."""
        files = [path for path in self.home.rglob("*") if path.is_file()]
        return "\n".join(path.read_bytes().decode("utf-8", "replace") for path in files)


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    with Zygote() as started:
        yield started


@pytest.fixture
def rlm(tmp_path: Path, zygote: Zygote) -> Rlm:
    home = tmp_path / "home"
    home.mkdir()
    return Rlm(home, zygote)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a file below the test's folder `docs`: `write("a/b.txt", "text")`."""

    def put(name: str, text: str) -> Path:
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return put


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    """One short document; files that want others have a fixture of their own."""
    builder = CorpusBuilder(tmp_path_factory.mktemp("corpus"))
    with builder.document("a.txt", "text") as document:
        document.write("alpha\nnotice of thirty days\n")
    made = builder.finish()
    yield made
    made.close()
