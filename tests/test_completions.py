"""Completions in the shells themselves: what a TAB shows."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pexpect
import pytest

FOLDER = Path(__file__).parents[1] / "completions"
FILES = {"bash": FOLDER / "rlm.bash", "zsh": FOLDER / "_rlm", "fish": FOLDER / "rlm.fish"}


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not shutil.which(shell), reason=f"{shell} is not installed")


@pytest.mark.parametrize("shell", [pytest.param(shell, marks=needs(shell)) for shell in FILES])
def test_syntax(shell: str) -> None:
    """The shell can read its file."""
    subprocess.run([shell, "-n", FILES[shell]], check=True)


@needs("bash")
@pytest.mark.parametrize(
    ("typed", "echoed"),
    [
        ("rlm comp", "rlm completion "),
        ("rlm ask --max-b", "rlm ask --max-budget "),
        ("rlm ask --mode=di", "rlm ask --mode=direct "),
        ("rlm ask --mode di", "rlm ask --mode direct "),
        ("rlm config or", "rlm config origins "),
        ("rlm ask q some", "rlm ask q some\\ file.txt "),
        ("rlm ask --trace=some", "rlm ask --trace=some\\ file.txt "),
    ],
)
def test_bash(tmp_path: Path, typed: str, echoed: str) -> None:
    """A TAB in an interactive bash completes the line."""
    (tmp_path / "some file.txt").touch()
    shell = pexpect.spawn(
        "bash", ["--norc", "--noprofile", "-i"], cwd=str(tmp_path), encoding="utf-8", timeout=20, dimensions=(24, 200)
    )
    try:
        shell.sendline(
            f"PS1='ready> '; bind 'set bell-style none'; bind 'set enable-bracketed-paste off'; "
            f"source '{FILES['bash']}'; echo loa''ded"
        )
        shell.expect("loaded\r\n")
        shell.send(f"{typed}\t")
        shell.expect_exact(echoed)
    finally:
        shell.close(force=True)


@needs("fish")
@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("rlm ", {"ask", "doctor"}),
        ("rlm ask --max-", {"--max-budget", "--max-depth"}),
        ("rlm ask --mode ", {"auto", "direct"}),
        ("rlm completion ", {"bash", "zsh"}),
    ],
)
def test_fish(tmp_path: Path, typed: str, words: set[str]) -> None:
    """`complete -C` lists what a TAB would."""
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source '{FILES['fish']}'; complete -C '{typed}'"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert words <= {line.split("\t")[0] for line in done.stdout.splitlines()}


ZSH = """
zmodload zsh/zpty
zpty shell 'zsh -f -i'
zpty -w shell 'PROMPT=; unsetopt zle_bracketed_paste; autoload -Uz compinit; compinit -u -D; source "$FILE"'
zpty -w shell 'bindkey "^I" complete-word; zstyle ":completion:*" list-prompt ""; echo loa""ded'
zpty -r -m shell out '*loaded*'
zpty -n -w shell "$TYPED"$'\\t'
sleep 0.5
zpty -n -w shell $'\\C-a\\C-kecho do""ne\\n'
zpty -r -m shell out '*done*'
print -r -- "$out"
"""


@needs("zsh")
@pytest.mark.parametrize(
    ("typed", "word"),
    [
        ("rlm comp", "completion"),
        ("rlm ask --max-b", "--max-budget"),
        ("rlm ask --mode=di", "--mode=direct"),
        ("rlm config or", "origins"),
    ],
)
def test_zsh(tmp_path: Path, typed: str, word: str) -> None:
    """A TAB in an interactive zsh completes the line."""
    done = subprocess.run(
        ["zsh", "-f", "-c", ZSH],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "TERM": "dumb", "FILE": str(FILES["zsh"]), "TYPED": typed},
    )
    shown = re.sub(r".\x08|\x1b\[[0-9;?]*[a-zA-Z]|\r", "", done.stdout)
    tail = word.removeprefix(typed.split()[-1])
    assert word in shown or tail in shown
