"""What most tests stand on: a home folder of their own, and the installed command run in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

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
    """Runs the installed `rlm` in a home of its own: no key, no configuration, state below `home`."""

    home: Path
    env: dict[str, str] = field(default_factory=dict)

    def __call__(
        self,
        *words: str,
        stdin: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 60,
    ) -> Ran:
        done = subprocess.run(
            [str(BIN), *words],
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            env=self.environ(env),
            cwd=cwd or self.home,
            timeout=timeout,
            check=False,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace"))

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


@pytest.fixture
def rlm(tmp_path: Path) -> Rlm:
    home = tmp_path / "home"
    home.mkdir()
    return Rlm(home)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a file below the test's folder `docs`: `write("a/b.txt", "text")`."""

    def put(name: str, text: str) -> Path:
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return put
