"""Every command, configuration and program of the README does what the README says.

`install-and-ask` and `test` are what `.ci/run` runs, word for word; here the first is run without its installation.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import BIN, Rlm
from documents import pdf
from scripted import SENTINEL_KEY, ScriptedServer
from served import Page, Served

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
ROOT = Path(__file__).parents[1]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def block(mark: str) -> str:
    found = re.search(rf"<!-- {mark} -->\n```sh\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert found is not None, mark
    return found[1]


def lines(text: str) -> list[str]:
    """The commands of a block; exports of keys are the user's own."""
    return [line for line in text.splitlines() if line.strip() and not line.startswith(("#", "export "))]


SHELL = [line for text in blocks("sh") if text not in (block("install-and-ask"), block("test")) for line in lines(text)]
COMMANDS = [line for line in SHELL if "--tool" not in line]


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """What the README's commands are about: a folder of contracts, one of mails, a journal."""
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts" / "acme.pdf").write_bytes(
        pdf(["Either party may terminate this Agreement without notice."])
    )
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("2026/acme.txt", "Signed by A. Birch.\n")
    (tmp_path / "mails").mkdir()
    (tmp_path / "mails" / "1.txt").write_text("The parcel came a week late.\n")
    (tmp_path / "bin").mkdir()
    journalctl = tmp_path / "bin" / "journalctl"
    journalctl.write_text("#!/bin/sh\necho 'Nov 24 03:12:01 host kernel: out of memory'\n")
    journalctl.chmod(0o755)
    return tmp_path


def run(rlm: Rlm, line: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    path = f"{folder / 'bin'}:{BIN.parent}:/usr/local/bin:/usr/bin:/bin"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line], cwd=folder, env=rlm.environ({"PATH": path, **env}),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_works(line: str, rlm: Rlm, desk: Path) -> None:
    """Exit 0 and something on stdout, with a model that is asked over HTTP."""
    if line.startswith("man ") and shutil.which("man") is None:
        pytest.skip("man is not installed")
    reply = (
        "true" if " -e " in line else '[{"party": "Acme", "notice_days": 0}]' if "--schema" in line else "An answer."
    )
    report = Page((desk / "contracts" / "acme.pdf").read_bytes(), {"Content-Type": "application/pdf"})
    with ScriptedServer(lambda request: reply) as server, Served({"/report.pdf": report}) as elsewhere:
        line = line.replace("https://example.org/", elsewhere.url("/"))
        env = {name: value for name, value in server.env.items() if name.startswith(("OPENAI", "NO_PROXY"))}
        if "show" in line or " -c " in line:
            assert run(rlm, 'rlm ask -m openai/x "What?" mails', desk, **env).returncode == 0
        ran = run(rlm, line, desk, RLM_MODEL="openai/scripted" if " -m " not in line else "", **env)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() or line.startswith("rlm runs")
    assert "Traceback" not in ran.stderr


def test_the_readme_has_commands() -> None:
    """The blocks are found: a README in another shape must not pass for a tested one."""
    assert len(COMMANDS) > 8
    assert any("journalctl" in line for line in COMMANDS)
    assert "pytest" in block("test")


def test_the_first_answer(rlm: Rlm) -> None:
    """The first command's question is answered, the place is right, and what answered is said."""
    [command] = [line for line in lines(block("install-and-ask")) if line.startswith("rlm ")]
    ran = run(rlm, command, ROOT)
    assert ran.returncode == 0, ran.stderr
    assert "a limit ended the run" in ran.stdout
    assert re.search(r"^\[1\] README\.md:\d+ ", ran.stdout, re.MULTILINE)
    assert "no language model was used" in ran.stderr


def test_the_configuration(rlm: Rlm, desk: Path) -> None:
    """The table of a server of one's own, and `rlm ask -m fast`."""
    [text] = blocks("toml")
    with ScriptedServer(lambda request: "Fast.") as server:
        text = text.replace("http://127.0.0.1:8000/v1", server.base_url)
        config = rlm.home / ".config" / "rlm" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(text)
        ran = run(rlm, "rlm ask --local -m fast 'What?' mails", desk, OPENAI_API_KEY=SENTINEL_KEY)
    assert (ran.returncode, ran.stdout) == (0, "Fast.\n"), ran.stderr
    assert server.requests[0].body["model"] == "qwen3-32b"
    assert SENTINEL_KEY not in str(server.requests[0].headers)  # another server's key


def test_the_program(rlm: Rlm) -> None:
    """The library's example prints an answer and where it stands."""
    [program] = [text for text in blocks("python") if "rlm_cli" in text]
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=rlm.environ(), capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "a limit ended the run" in ran.stdout


def test_the_tool(rlm: Rlm, desk: Path) -> None:
    """The file of tools and the command beside it: its function is offered, called from the REPL, and answers."""
    [program] = [text for text in blocks("python") if text.startswith("# orders.py\n")]
    [command] = [line for line in SHELL if "--tool" in line]
    (desk / "orders.py").write_text(program)
    with sqlite3.connect(desk / "shop.db") as shop:
        shop.execute("CREATE TABLE orders (number, date, status, customer)")
        rows = [(1, "2026-10-01", "sent", "Acme"), (2, "2026-11-01", "new", "Acme"), (3, "2026-11-02", "sent", "Birch")]
        shop.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", rows)
    shop.close()
    replies = [
        "I look.\n```repl\nfound = orders('Acme')\nprint(found)\n```",
        "```repl\nFINAL(f'Number {found[0][\"number\"]}.')\n```",
    ]
    with ScriptedServer(replies) as server:
        env = {name: value for name, value in server.env.items() if name.startswith(("OPENAI", "NO_PROXY"))}
        ran = run(rlm, command, desk, RLM_MODEL="openai/scripted", **env)
    assert (ran.returncode, ran.stdout) == (0, "Number 2.\n"), ran.stderr
    assert "`orders(customer: str) -> list[dict]`:" in str(server.requests[0].messages[0]["content"])
    assert "{'number': 2, 'date': '2026-11-01', 'status': 'new'}, {'number': 1," in server.requests[1].prompt
    assert "outside the sandbox, with your rights: orders (orders.py)" in ran.stderr
