"""The command line by itself: help, guards, errors, streams. Answers are in `test_ask.py`."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import BIN, Rlm
from scripted import ScriptedServer

HEAVY = ("litellm", "pypdf", "pypdfium2", "rich", "pydantic", "asyncio")


@pytest.mark.parametrize(
    "words",
    [
        ["--version"],
        ["-h"],
        ["--help"],
        ["ask", "-h"],
        ["ask", "--help"],
        ["ask", "--bogus"],
        ["ask", "-b", "x", "q"],
        ["completion", "bash"],
    ],
)
def test_nothing_heavy_is_imported_for_help_and_errors(words: list[str], tmp_path: Path) -> None:
    """What costs time to import is not imported where nothing is asked."""
    code = f"""
import sys, atexit, os
atexit.register(lambda: os.write(2, b"LOADED " + " ".join(m for m in {HEAVY!r} if m in sys.modules).encode()))
sys.argv[1:] = {words!r}
from rlm_cli.__main__ import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"HOME": str(tmp_path)}, check=False
    )
    assert done.stderr.endswith("LOADED ")


UNUSED = (
    *(name for name in HEAVY if name != "asyncio"),
    "httpx",
    "statistics",
    "rlm_cli.sandbox",
    "rlm_cli.contexts",
    "rlm_cli.queries",
    "rlm_cli.earlier",
    "rlm_cli.forecast",
    "rlm_cli.samples",
    "rlm_cli.structured",
    "rlm_cli.tools",
    "rlm_cli.models.litellm",
    "rlm_cli.models.failures",
)
"""What a short question to a server by the lean way has no use for: no REPL, no sub-calls, text only, no failure."""


def test_a_short_question_imports_what_it_uses(tmp_path: Path) -> None:
    """One request over a small folder costs little more than its imports, so they are held to what it needs."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "d.txt").write_text("The term is thirty days.", encoding="utf-8")
    code = f"""
import sys
from rlm_cli.cli.failure import run_guarded
run_guarded(["ask", "-q", "-m", "openai/gpt-5.4-mini", "How long is the term?", {str(tmp_path / "docs")!r}])
print("LOADED", *(m for m in {UNUSED!r} if m in sys.modules))
"""
    with ScriptedServer(lambda request: "Thirty days.") as server:
        env = {"HOME": str(tmp_path), "OPENAI_API_KEY": "sk-none-of-anybody", "OPENAI_API_BASE": server.base_url}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert (done.stdout, done.stderr) == ("Thirty days.\nLOADED\n", "")


def test_version_does_not_need_typer(tmp_path: Path) -> None:
    """`--version` costs what Python costs."""
    code = "import sys, rlm_cli.__main__ as m; sys.argv[1:] = ['--version']\ntry: m.main()\n"
    code += "except SystemExit: print('typer' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"HOME": str(tmp_path)}
    )
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["Which contracts?", "d.txt"], "rlm ask 'Which contracts?' d.txt"),
        (["shwo", "k7q2fd"], "rlm show k7q2fd"),
        (["ask", "d.txt", "who signed?"], "rlm ask 'who signed?' d.txt"),
        (["ask", "-b", "2", "d.txt", "who signed?", "--json"], "rlm ask -b 2 --json 'who signed?' d.txt"),
        (["-b", "2", "ask", "q"], "rlm ask -h"),
        (["ask", "-q", "-v", "q", "d.txt"], "leave one"),
        (["ask", "--json", "--jsonl", "q", "d.txt"], "leave one"),
        (["ask"], "rlm ask"),
        (["ask", "--bogus", "q"], "rlm ask -h"),
        (["runs", "x"], "rlm runs -h"),
        (["completion", "tcsh"], "rlm completion bash"),
        (["help", "exit-code"], "rlm help exit-codes"),
        (["help", "ask"], "rlm ask -h"),
        (["ask", "-n", "--json", "q", "d.txt"], "leave one"),
        (["ask", "-f", "-"], "rlm ask"),
        (["ask", "--trace", "-", "q", "d.txt"], "--jsonl"),
        ([], "rlm ask"),
    ],
)
def test_a_wrong_line_is_refused_with_the_one_to_copy(rlm: Rlm, words: list[str], line: str) -> None:
    """Exit 2, a message in parts with what to try; a slip never becomes a question."""
    (rlm.home / "d.txt").write_text("text", encoding="utf-8")
    ran = rlm(*words)
    assert ran.code == 2
    assert line in ran.err.split("  try", 1)[1]
    assert "Traceback" not in ran.err
    if "--json" not in words and "--jsonl" not in words:
        assert ran.out == ""


def test_the_short_help_is_part_of_the_long_one(rlm: Rlm) -> None:
    """`-h` shows the common options, `--help` all of them in groups."""
    short, long = rlm("ask", "-h"), rlm("ask", "--help")
    assert (short.code, long.code, short.err, long.err) == (0, 0, "", "")
    assert "--max-budget" in short.out
    assert "--max-iterations" not in short.out
    assert "--max-iterations" in long.out
    assert "Limits:" in long.out


def test_an_early_error_is_an_object_with_json(rlm: Rlm) -> None:
    """With `--json` stdout is the result object, whatever went wrong."""
    ran = rlm("ask", "--json", "--timeout", "soon", "q", "d.txt")
    found = json.loads(ran.out)
    assert (ran.code, found["exit_code"], found["error"]["code"]) == (2, 2, "usage")
    assert "--timeout" in found["error"]["message"]
    last = json.loads(rlm("ask", "--jsonl", "--timeout", "soon", "q").out)
    assert last["result"]["error"]["code"] == "usage"


def test_configuration_errors_exit_3(rlm: Rlm) -> None:
    """A wrong variable or file is configuration, not usage."""
    assert rlm("ask", "q", "d.txt", env={"RLM_JOBS": "many"}).code == 3
    assert rlm("ask", "--sandbox", "jail", "q", "d.txt").code == 3
    (rlm.home / "rlm.toml").write_text("sandbox = 'none'\n", encoding="utf-8")
    ran = rlm("ask", "q", "d.txt")
    assert ran.code == 3
    assert "rlm.toml may not set sandbox" in ran.err


def test_broken_utf8_and_escapes_in_arguments(rlm: Rlm) -> None:
    """Bytes that are no text, and control sequences, end in a message that is safe to show."""
    done = subprocess.run([os.fsencode(BIN), b"sh\xffow\x1b[31m"], capture_output=True, env=rlm.environ(), check=False)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert b"\x1b" not in done.stderr


@pytest.mark.parametrize("words", [["--version"], ["ask", "--help"], ["completion", "zsh"]])
def test_a_broken_pipe_is_silent(rlm: Rlm, words: list[str]) -> None:
    """The reader had enough: exit 0, nothing on stderr."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([BIN, *words], stdout=write, stderr=subprocess.PIPE, env=rlm.environ(), check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("words", [["--version"], ["ask", "--help"]])
def test_a_full_disk_is_an_error(rlm: Rlm, words: list[str]) -> None:
    """Output that did not arrive must not look like success."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([BIN, *words], stdout=full, stderr=subprocess.PIPE, env=rlm.environ(), check=False)
    assert done.returncode == 70
    assert b"could not be written" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("{rlm} --version >&-", 70),
        ("{rlm} ask --help >&-", 70),
        ("{rlm} ask -m offline/extractive 'What says it?' d.txt >&-", 70),
        ("{rlm} ask -m offline/extractive 'What says it?' d.txt 2>&-", 0),
        ("{rlm} ask -m offline/extractive 'What says it?' d.txt 2>/dev/full", 0),
        ("{rlm} ask -m offline/extractive 'What says it?' <&-", 2),
        ("{rlm} ask -m offline/extractive -f - d.txt <&-", 2),
        ("{rlm} ask --jsonl -m offline/extractive 'What says it?' d.txt >/dev/full", 70),
        ("{rlm} shwo 0<&- 1>&- 2>&-", 2),
    ],
)
def test_streams_that_are_closed_or_full(rlm: Rlm, line: str, code: int) -> None:
    """An answer that cannot be written is an error; what stderr cannot show is none; never a traceback."""
    (rlm.home / "d.txt").write_text("It says: text.", encoding="utf-8")
    done = subprocess.run(
        ["bash", "-c", line.format(rlm=BIN)], capture_output=True, env=rlm.environ(), cwd=rlm.home, check=False
    )
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr + done.stdout


def test_origins_and_paths(rlm: Rlm) -> None:
    """Every configurable setting is listed with its origin; the user's file is named even before it is there."""
    found = rlm("config", "origins", env={"RLM_JOBS": "3"})
    assert any(line.split() == ["jobs", "3", "RLM_JOBS"] for line in found.out.splitlines())
    assert "retries" in found.out
    assert "not there yet" in rlm("config", "path").out


def test_no_runs_yet(rlm: Rlm) -> None:
    """An empty list is no error; showing what is not there is."""
    assert (rlm("runs").code, rlm("runs").out) == (0, "")
    assert rlm("show").code == 2


def test_doctor_names_keys_by_variable_only(rlm: Rlm) -> None:
    """The variable is told, the key never."""
    ran = rlm("doctor", env={"ANTHROPIC_API_KEY": "sk-SENTINEL"})
    assert "ANTHROPIC_API_KEY" in ran.out
    assert "SENTINEL" not in ran.out + ran.err


OFFLINE = ("ask", "-m", "offline/extractive", "--json")


def files(rlm: Rlm, *words: str, stdin: str | bytes | None = None) -> dict[str, Any]:
    """`coverage.files` of an answer to a question about every file, with the exit code."""
    ran = rlm(*OFFLINE, *words, stdin=stdin)
    found: dict[str, Any] = (json.loads(ran.out)["coverage"] or {"files": {}})["files"]
    return found | {"code": ran.code, "out": ran.out}


def test_the_flags_of_input(rlm: Rlm) -> None:
    """-g, -t, -u, -uu, --files-from, -f and `-` reach the readers; what they leave is told in `coverage`."""
    for name in ("a.txt", "b.md", "c.log", ".d.txt"):
        (rlm.home / "docs").mkdir(exist_ok=True)
        (rlm.home / "docs" / name).write_text("The answer is here.\n", encoding="utf-8")
    (rlm.home / "docs" / ".gitignore").write_text("*.log\n", encoding="utf-8")
    (rlm.home / "list").write_text("docs/a.txt\ndocs/b.md\n", encoding="utf-8")
    (rlm.home / "question").write_text("What is the answer?\n", encoding="utf-8")
    asked = "What is the answer?"
    plain = files(rlm, asked, "docs")
    assert (plain["read"], plain["excluded"]) == (2, {"docs/.gitignore": 1, "hidden": 2})
    assert files(rlm, "-g", "*.md", asked, "docs")["read"] == 1
    assert files(rlm, "-t", "md", "-t", "txt", asked, "docs")["read"] == 2
    assert files(rlm, "-u", asked, "docs")["read"] == 3
    assert files(rlm, "-uu", asked, "docs")["read"] == 5
    assert files(rlm, "--files-from", "list", asked)["read"] == 2
    assert files(rlm, "--files-from", "-", asked, stdin="docs/a.txt\0docs/b.md\0")["read"] == 2
    assert files(rlm, "-f", "question", "docs")["read"] == 2
    assert files(rlm, "-f", "-", "docs", stdin=asked)["read"] == 2
    assert files(rlm, asked, stdin="The answer is piped.\n")["read"] == 1
    assert files(rlm, asked, "-", "docs", stdin="The answer is piped.\n")["read"] == 3
    assert files(rlm, "-f", "-", "-", stdin=asked)["code"] == 2


def test_strict_input(rlm: Rlm) -> None:
    """Exit 4 for what was wanted and could not be read whole; what a rule excludes is not meant."""
    docs = rlm.home / "docs"
    docs.mkdir()
    (docs / "a.txt").write_text("The answer is here.\n", encoding="utf-8")
    (docs / "b.log").write_text("ignored\n", encoding="utf-8")
    (docs / ".gitignore").write_text("*.log\n", encoding="utf-8")
    assert files(rlm, "--strict-input", "What is the answer?", "docs")["code"] == 0
    (docs / "c.bin").write_bytes(b"\0\1\2\3" * 100)
    binary = files(rlm, "--strict-input", "What is the answer?", "docs")
    assert (binary["code"], "c.bin: binary" in binary["out"]) == (4, True)
    (docs / "c.bin").write_bytes("Grüße, Grüße\n".encode() + b"\xff\n")
    replaced = files(rlm, "--strict-input", "What is the answer?", "docs")
    assert (replaced["code"], "1 character could not be decoded" in replaced["out"]) == (4, True)


def test_local_refuses_what_is_elsewhere(rlm: Rlm) -> None:
    """--local: a provider's endpoint is refused before anything is read or sent; what sends nothing is fine."""
    (rlm.home / "d.txt").write_text("The answer is here.\n", encoding="utf-8")
    ran = rlm("ask", "--local", "-m", "openai/gpt-5", "q", "d.txt", env={"OPENAI_API_KEY": "sk-12345678"})
    assert (ran.code, "not on this machine" in ran.err) == (3, True)
    assert rlm(*OFFLINE, "--local", "What is the answer?", "d.txt").code == 0


def waiting_in(pipe: int) -> int:
    """Bytes that nobody has read yet."""
    return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_documents_are_read(rlm: Rlm, number: signal.Signals) -> None:
    """A pipe that never ends, then Ctrl-C: the code of the signal, one line, no traceback."""
    source, sink = os.pipe()
    try:
        with subprocess.Popen(
            [BIN, "ask", "-m", "offline/extractive", "Q?"], stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=rlm.environ(), cwd=rlm.home,
        ) as running:  # fmt: skip
            os.write(sink, b"a line\n")
            until = time.monotonic() + 60
            while waiting_in(source) and time.monotonic() < until:
                time.sleep(0.02)
            running.send_signal(number)
            out, err = running.communicate(timeout=20)
    finally:
        os.close(source)
        os.close(sink)
    assert (running.returncode, out) == (128 + number, b"")
    assert err.startswith(b"rlm: stopped")
    assert len(err.splitlines()) == 1


def test_what_nobody_asked_for_is_said_however_quiet(rlm: Rlm) -> None:
    """-q and --progress none: an answer without a language model, and a sandbox without walls, are never silent."""
    (rlm.home / "d.txt").write_text("The answer is here.\n", encoding="utf-8")
    for flags in (["-q"], ["--progress", "none"]):
        assert "no language model was used" in rlm("ask", *flags, "What is the answer?", "d.txt").err
        weak = rlm("ask", *flags, "-m", "offline/extractive", "--mode", "rlm", "--sandbox", "soft", "answer?", "d.txt")
        assert (weak.code, "sandbox soft" in weak.err) == (0, True)
    assert rlm("ask", "-q", "-m", "offline/extractive", "What is the answer?", "d.txt").err == ""


def test_skipped_files_are_named(rlm: Rlm) -> None:
    """On stderr in every run, whole with -v, and excluded ones counted by rule."""
    docs = rlm.home / "docs"
    docs.mkdir()
    (docs / "a.txt").write_text("The answer is here.\n", encoding="utf-8")
    (docs / ".gitignore").write_text("*.log\n", encoding="utf-8")
    (docs / "x.log").write_text("x\n", encoding="utf-8")
    for n in range(7):
        (docs / f"{n}.doc").write_bytes(b"PK\3\4")
    plain = rlm("ask", "-m", "offline/extractive", "What is the answer?", "docs").err
    assert "rlm: skipped docs/0.doc: unsupported type (doc)" in plain
    assert "rlm: and 2 more skipped" in plain
    whole = rlm("ask", "-v", "-m", "offline/extractive", "What is the answer?", "docs").err
    assert "docs/6.doc" in whole
    assert "docs/a.txt  text · utf-8" in whole
    assert "rlm: excluded 1 by docs/.gitignore" in whole


def test_a_key_in_a_document_is_not_kept(rlm: Rlm) -> None:
    """Quoted, it is hidden in every file and on stdout; the run is the same in all of them."""
    secret = "sk-SENTINEL-in-a-document-42"
    (rlm.home / "d.txt").write_text(f"The answer is {secret} here.\n", encoding="utf-8")
    (rlm.home / "c.toml").write_text('[keys]\nopenai = { command = "cat k" }\n', encoding="utf-8")
    (rlm.home / "k").write_text(secret + "\n", encoding="utf-8")
    with ScriptedServer([f"It is {secret} [1].\n> The answer is {secret} here."]) as server:
        env = {name: value for name, value in server.env.items() if name in ("OPENAI_API_BASE", "NO_PROXY")}
        ran = rlm("ask", "--config", "c.toml", "-m", "openai/x", "-b", "none", "--json", "What?", "d.txt", env=env)
    assert ran.code == 0, ran.err
    assert secret not in ran.out + ran.err
    holding = [path for path in rlm.home.rglob("*") if path.is_file() and secret in path.read_text(errors="replace")]
    assert sorted(path.name for path in holding) == ["d.txt", "k"]
    assert json.loads(ran.out)["citations"][0]["located"] == "exact"
    (rlm.home / "s.toml").write_text(f'[keys]\nopenai = {{ env = "{secret}" }}\n', encoding="utf-8")
    slip = rlm("ask", "--config", "s.toml", "-m", "openai/x", "q", "d.txt")
    assert (slip.code, "SENTINEL" in slip.err) == (3, False)


def test_doctor_tries_the_model_that_is_configured(rlm: Rlm) -> None:
    """Where `ask` would exit 3, doctor says what to fix and exits 1."""
    assert rlm("doctor").code == 0
    for env in ({"RLM_MODEL": "nope/x"}, {"RLM_MODEL": "openai/gpt-5"}):
        ran = rlm("doctor", env=env)
        assert (ran.code, "fix   model" in ran.out) == (1, True)


def test_odd_places(rlm: Rlm) -> None:
    """A working directory that is gone; a locale that is not UTF-8; an answer file that must not be emptied."""
    (rlm.home / "d.txt").write_text("The answer is “here”.\n", encoding="utf-8")
    gone = rlm.home / "gone"
    gone.mkdir()
    line = f"cd {gone}; rmdir {gone}; {BIN} ask -q -m offline/extractive 'What is the answer?' {rlm.home}/d.txt"
    done = subprocess.run(["bash", "-c", line], capture_output=True, env=rlm.environ(), check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    narrow = rlm(*OFFLINE, "What is the answer?", "d.txt", env={"PYTHONIOENCODING": "latin-1"})
    assert (narrow.code, "“here”" in json.loads(narrow.out)["answer"]) == (0, True)
    (rlm.home / "o.md").write_text("kept", encoding="utf-8")
    late = rlm("ask", "-m", "offline/extractive", "--timeout", "0.001", "-o", "o.md", "What is the answer?", "d.txt")
    assert (late.code, (rlm.home / "o.md").read_text()) == (6, "kept")
