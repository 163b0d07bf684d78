"""`rlm read`: the text a model would see, and the account of every path."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import BIN, Rlm
from documents import pdf

from rlm_cli.cli import reading
from rlm_cli.cli.configuration import resolve
from rlm_cli.cli.failure import run_guarded
from rlm_cli.errors import ConfigError, RlmError, SourceError, UsageError

Read = Callable[..., tuple[int, bytes, str]]


class Out(io.TextIOWrapper):
    """A stdout in memory that may say it is a terminal."""

    terminal = False

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """`read("--list", "docs")` in this process, in a folder and home of its own: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("RLM_", "XDG_", "GIT_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def call(
        *words: str, stdin: bytes | None = None, env: dict[str, str] | None = None, terminal: bool = False
    ) -> tuple[int, bytes, str]:
        ours = os.open(os.devnull, os.O_RDONLY)
        if stdin is not None:
            os.close(ours)
            ours, theirs = os.pipe()
            os.write(theirs, stdin)
            os.close(theirs)
        with monkeypatch.context() as given, os.fdopen(ours) as source:
            for name, value in (env or {}).items():
                given.setenv(name, value)
            out, err = Out(io.BytesIO()), io.StringIO()
            out.terminal = terminal
            given.setattr(sys, "stdin", source)
            given.setattr(sys, "stdout", out)
            given.setattr(sys, "stderr", err)
            code = run_guarded(["read", *words])
            out.flush()
            printed = out.buffer.getvalue()  # type: ignore[attr-defined]
        return code, printed, err.getvalue()

    return call


def put(name: str, data: bytes | str) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def listed(read: Read, *words: str, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(read("--list", "--json", *words, **more)[1])
    return found


def test_the_text(read: Read) -> None:
    """One document is its text alone; of several each has its heading, as `context` has; -o writes the same."""
    put("docs/a.txt", "Grüße\r\nzwei")
    put("docs/b.txt", "three\n")
    assert read("docs/a.txt") == (0, "Grüße\nzwei\n".encode(), "rlm: read 1 file · 11 chars · ~14 tokens\n")
    code, out, _ = read("-q", "docs")
    lines = out.decode().splitlines()
    nonce = lines[0].split()[-1]
    assert (code, len(nonce)) == (0, 16)
    assert lines == [f"===== docs/a.txt ===== {nonce}", "Grüße", "zwei", f"===== docs/b.txt ===== {nonce}", "three"]
    assert read("-q", "docs", "-o", "all.txt")[:2] == (0, b"")
    assert Path("all.txt").read_bytes() == out
    assert read("-q", stdin=b"piped")[1] == b"piped\n"
    assert read("-q", "--files-from", "-", stdin=b"docs/b.txt\n")[1] == b"three\n"
    assert read("-q", "-g", "a*", "-t", "txt", "docs")[1] == "Grüße\nzwei\n".encode()


def test_a_long_text(read: Read) -> None:
    """More than a window, with characters of two bytes on every edge, arrives whole."""
    text = "ü" * (1 << 20) + "\n" + "ö" * 100_001 + "\n"
    put("a.txt", text)
    assert read("-q", "a.txt")[1].decode() == text


def test_pages(read: Read) -> None:
    """A page begins with a form feed, the first one where the document does."""
    put("a.pdf", pdf(["one", "two"]))
    assert read("-q", "a.pdf")[1] == b"one\n\ftwo\n"
    assert listed(read, "a.pdf")["read"][0]["pages"] == 2


def test_a_terminal_is_not_obeyed(read: Read) -> None:
    """What would move the cursor is left out for a terminal, and kept for a pipe."""
    put("a.txt", "red \x1b[31mtext\n")
    assert read("-q", "a.txt")[1] == b"red \x1b[31mtext\n"
    assert read("-q", "a.txt", terminal=True)[1] == b"red text\n"


def test_the_list(read: Read) -> None:
    """A row a path: read, skipped with the reason, excluded by the very file."""
    put("docs/a.txt", "ASCII\n")
    put("docs/sub/longer name.txt", "Grüße aus Köln, geprüft und für gut befunden\n".encode("cp1252") * 3)
    put("docs/sub/b.log", "Grüße, Grüße\n".encode() + b"\xff\n")
    put("docs/sub/.gitignore", "*.tmp\n")
    put("docs/sub/c.tmp", "x")
    put("docs/x.bin", b"\x7fELF" + b"\0" * 60)
    code, out, err = read("--list", "docs")
    assert (code, out.decode().splitlines()) == (
        0,
        [
            "docs/a.txt                text  utf-8     6 chars   1 line",
            "docs/sub/b.log            text  utf-8    15 chars  2 lines  1 replaced",
            "docs/sub/longer name.txt  text  cp1252  135 chars  3 lines",
            "docs/x.bin                skipped: binary",
            "excluded 1 by docs/sub/.gitignore",
            "excluded 1 by hidden",
        ],
    )
    assert err.startswith("rlm: read 3 files · ")
    assert err.endswith(" tokens · skipped 1: 1 binary\n")
    found = listed(read, "docs")
    assert list(found) == ["schema", "read", "skipped", "excluded"]
    assert found["schema"] == "rlm.manifest/1"
    assert found["skipped"] == [{"path": "docs/x.bin", "reason": "binary"}]
    assert found["excluded"] == {"docs/sub/.gitignore": 1, "hidden": 1}
    first = found["read"][0]
    assert first == {
        "path": "docs/a.txt", "kind": "text", "encoding": "utf-8", "bytes": 6, "chars": 6, "lines": 1, "pages": None,
        "replaced": 0, "sha256": hashlib.sha256(b"ASCII\n").hexdigest(),
    }  # fmt: skip
    verbose = read("-v", "docs")[2]
    assert "rlm: skipped docs/x.bin: binary\n" in verbose
    assert "rlm: excluded 1 by docs/sub/.gitignore\n" in verbose


def test_exit_codes(read: Read) -> None:
    """4 where nothing is readable, with the list all the same; 4 with --strict-input; 2 for a wrong line."""
    put("docs/x.bin", b"\0\1\2\3" * 100)
    code, out, err = read("--list", "docs")
    assert (code, out) == (4, b"docs/x.bin  skipped: binary\n")
    assert "nothing to read" in err
    assert read("docs")[:2] == (4, b"")
    put("docs/a.txt", "text\n")
    assert read("-q", "docs")[0] == 0
    assert read("-q", "--strict-input", "docs")[:2] == (4, b"")
    assert read("--strict-input", "--list", "docs")[1].startswith(b"docs/a.txt")
    for words in (("nowhere",), ("docs", "-t", "nope"), ("docs", "--json"), ("docs", "-q", "-v"), ()):
        code, out, err = read(*words)
        assert (code, out, "  try  " in err) == (4 if words == ("nowhere",) else 2, b"", True), words
    assert read("docs", "-o", "no/such/folder.txt")[0] == 70
    assert list(Path().glob("**/.folder*")) == []


def test_what_is_configured(read: Read) -> None:
    """`encoding` decides for every text without a byte order mark; a codec that is none gets the nearest name."""
    data = "Zażółć gęślą jaźń, ăâîșț".encode()
    put("a.txt", data)
    put("b.txt", b"\xff\xfe" + "Grüße".encode("utf-16-le"))
    put("c.bin", bytes(range(256)) * 40)
    found = listed(read, "a.txt", "b.txt", "c.bin", env={"RLM_ENCODING": "latin1"})
    assert [(d["encoding"], d["chars"]) for d in found["read"]] == [("iso8859-1", len(data) + 1), ("utf-16", 6)]
    assert [s["reason"] for s in found["skipped"]] == ["binary"]
    code, _, err = read("a.txt", env={"RLM_ENCODING": "cp1253x"})
    assert (code, "did you mean cp1253" in err) == (3, True)
    for name in ("base64", "rot13", "nope", "undefined"):
        assert read("a.txt", env={"RLM_ENCODING": name})[0] == 3
    with pytest.raises(ConfigError):
        resolve({}, environ={"RLM_ENCODING": "x", "RLM_NO_CONFIG": "1"})
    assert resolve({}, environ={"RLM_STDIN_LIMIT": "none", "RLM_NO_CONFIG": "1"}).settings.stdin_limit is None


def test_a_pipe_without_end(read: Read) -> None:
    """Cut at `stdin_limit`, or when half of --timeout is used: with a notice, what came is the document; --strict-input
    does not take it for whole."""
    code, out, err = read("-", stdin=b"0123456789" * 10, env={"RLM_STDIN_LIMIT": "64"})
    assert (code, out) == (0, (b"0123456789" * 10)[:64] + b"\n")
    assert "rlm: stdin was cut after 64 bytes (stdin_limit): what came until then is read\n" in err
    assert read("-q", "--strict-input", stdin=b"0123456789" * 10, env={"RLM_STDIN_LIMIT": "64"})[0] == 4
    assert read("-", stdin=b"x" * 64, env={"RLM_STDIN_LIMIT": "64"})[2].count("\n") == 1
    os.mkfifo("endless")
    held = os.open("endless", os.O_RDWR)
    try:
        os.write(held, b"so far\n")
        code, out, err = read("--timeout", "0.4", "endless")
    finally:
        os.close(held)
    assert (code, out) == (0, b"so far\n")
    assert "endless was cut when half of --timeout was used" in err


def test_the_command(rlm: Rlm) -> None:
    """The real one: a reader of the pipe that leaves is no error; a full disk is; no model library is loaded."""
    (rlm.home / "a.txt").write_text("a line\n" * 200_000, encoding="utf-8")
    line = f"{BIN} read -q a.txt | head -1; echo ${{PIPESTATUS[0]}}; {BIN} read -q a.txt >/dev/full; echo $?"
    done = subprocess.run(["bash", "-c", line], capture_output=True, env=rlm.environ(), cwd=rlm.home, check=False)
    assert done.stdout == b"a line\n0\n70\n"
    assert b"Traceback" not in done.stderr
    code = "import sys, atexit\natexit.register(lambda: print([m for m in ('litellm', 'rich', 'pydantic', 'rlm_cli.models',"
    code += " 'rlm_cli.sandbox') if m in sys.modules]))\nfrom rlm_cli.__main__ import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", code, "read", "-q", "a.txt", "-o", "b.txt"], capture_output=True, env=rlm.environ(),
        cwd=rlm.home, check=True,
    )  # fmt: skip
    assert done.stdout == b"[]\n"


def test_nothing_of_an_error_is_lost(read: Read) -> None:
    """Errors of reading are those of `ask`."""
    put("a.txt", "x")
    for words, kind in ((["none.txt"], SourceError), (["a.txt", "-", "-", "--files-from", "-"], UsageError)):
        assert issubclass(kind, RlmError)
        assert read(*words)[0] == kind("").exit_code
    assert reading.SCHEMA == "rlm.manifest/1"
