"""Levels of the sandbox are proved, not claimed; weak ones are asked for by name, by the user, and announced."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from conftest import BIN, Rlm

from rlm_cli.errors import SandboxError
from rlm_cli.sandbox import Proof, seatbelt
from rlm_cli.sandbox.child import Confinement, proved
from rlm_cli.sandbox.wire import Frame

ASK = ("ask", "-m", "offline/extractive", "--mode", "rlm", "What is the notice period?", "d.txt")
TRIED = (
    "open a file",
    "look at a file",
    "make a socket",
    "start a process",
    "run a program",
    "signal the parent",
    "signal the host",
)
linux = pytest.mark.skipif(sys.platform != "linux", reason="the walls of Linux")


@pytest.fixture
def asked(rlm: Rlm) -> Rlm:
    (rlm.home / "d.txt").write_text("The notice period is thirty days.\n", encoding="utf-8")
    return rlm


@linux
def test_what_was_proved_is_said_everywhere(asked: Rlm) -> None:
    """Result, trace, plan and doctor name the level and every attempt that was refused."""
    result = json.loads(asked(*ASK, "--json").out)
    assert result["sandbox"] == {"name": "process", "level": "linux-strict", "proved": list(TRIED)}
    events = [json.loads(line) for line in Path(result["trace"]).read_text(encoding="utf-8").splitlines()]
    assert next(e["sandbox"] for e in events if e["type"] == "run.started") == result["sandbox"]
    plan = asked(*ASK, "-n").out
    assert "sandbox process (linux-strict)\ncode cannot  " + " · ".join(TRIED) in plan
    assert f"auto: linux-strict; code cannot {', '.join(TRIED)}" in asked("doctor").out


WEAK: list[tuple[list[str], dict[str, str], str]] = [
    (["--sandbox", "soft"], {}, ""),
    (["--sandbox", "none"], {}, ""),
    ([], {"RLM_SANDBOX": "soft"}, ""),
    ([], {}, "sandbox = 'none'\n"),
]


@linux
@pytest.mark.parametrize(("flags", "env", "own"), WEAK, ids=["flag", "flag none", "variable", "own file"])
def test_a_weak_sandbox_is_asked_for_by_name_and_announced(
    asked: Rlm, flags: list[str], env: dict[str, str], own: str
) -> None:
    """On the command line, in the environment or in the user's own file; said on stderr, in the result, in the plan."""
    if own:
        file = asked.home / ".config" / "rlm" / "config.toml"
        file.parent.mkdir(parents=True)
        file.write_text(own, encoding="utf-8")
    ran = asked(*ASK, *flags, "--json", env=env)
    result = json.loads(ran.out)
    level = result["sandbox"]["level"]
    assert (ran.code, level in ("soft", "none"), result["sandbox"]["proved"]) == (0, True, [])
    assert f"sandbox {level}: code of the model runs without the kernel's walls" in ran.err
    assert "sandbox_weak" in [notice["code"] for notice in result["notices"]]
    plan = asked(*ASK, *flags, "-n", env=env).out
    assert f"({level})" in plan
    assert "the kernel does not enforce this sandbox" in plan


@pytest.mark.parametrize(
    "line", [*(f"sandbox = '{n}'" for n in ("process", "container", "soft", "none")), "container_image = 'evil/image'"]
)
def test_a_project_s_file_opens_no_sandbox(asked: Rlm, line: str) -> None:
    """Somebody else's file says neither where code runs nor in which image."""
    (asked.home / "rlm.toml").write_text(line + "\n", encoding="utf-8")
    ran = asked(*ASK)
    assert (ran.code, ran.out) == (3, "")
    assert f"rlm.toml may not set {line.partition(' ')[0]}" in ran.err


def without_seccomp(rlm: Rlm, *words: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The command where the kernel takes no filter."""
    program = str(Path(__file__).with_name("without.py"))
    return subprocess.run(
        [sys.executable, program, "seccomp", str(BIN), *words],
        cwd=rlm.home, env=rlm.environ(env), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip


@linux
def test_below_what_the_kernel_enforces_nothing_runs(asked: Rlm) -> None:
    """`auto` and `process`, asked, planned and looked at: refused, with what is missing and the lines to copy."""
    for flags in ([], ["--sandbox", "process"], ["--sandbox", "auto"], ["-n"]):
        done = without_seccomp(asked, *ASK, *flags)
        assert (done.returncode, done.stdout) == (7, ""), flags
        assert "code could " in done.stderr
        assert "start a process" in done.stderr
        assert "seccomp" in done.stderr
        assert "--sandbox container, or --sandbox soft if you accept" in done.stderr
    doctor = without_seccomp(asked, "doctor")
    assert doctor.returncode == 1
    assert "fix   sandbox        this system cannot confine the REPL" in doctor.stdout


@linux
def test_soft_runs_where_the_kernel_has_no_walls(asked: Rlm) -> None:
    """The line that was to be copied works, and is announced."""
    done = without_seccomp(asked, *ASK, "--sandbox", "soft")
    assert done.returncode == 0
    assert "sandbox soft" in done.stderr


REFUSED = dict.fromkeys(TRIED, True)


@pytest.mark.parametrize(
    ("refused", "missing", "why"),
    [
        (REFUSED | {"open a file": False}, [], "code could open a file"),
        (REFUSED | {"signal the parent": None}, [], "code could signal the parent"),
        ({}, [], "nothing was proved"),
        (REFUSED, ["rlimits: not permitted"], "rlimits: not permitted"),
    ],
)
@pytest.mark.parametrize("system", ["linux", "darwin"])
def test_the_self_test_decides(
    system: str, refused: dict[str, bool], missing: list[str], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One attempt that went through, or none made, and there is no level, whatever the system is."""
    monkeypatch.setattr(sys, "platform", system)
    with pytest.raises(SandboxError) as raised:
        proved(Confinement(), Frame("ready", {"refused": refused, "missing": missing}))
    assert why in raised.value.why
    assert "--sandbox container" in raised.value.hint


@pytest.mark.parametrize(("system", "level"), [("linux", "linux-strict"), ("darwin", "macos-seatbelt")])
def test_a_wall_that_is_missing_does_not_matter_where_everything_was_refused(
    system: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels without Landlock are strict by seccomp alone; the name of the level is the system's."""
    monkeypatch.setattr(sys, "platform", system)
    frame = Frame("ready", {"refused": REFUSED, "missing": ["landlock: this kernel does not have it"]})
    assert proved(Confinement(), frame) == Proof(level, TRIED)


def test_the_profile_of_macos_denies_by_default() -> None:
    """Its rules open no file, network, process or service, and its parentheses close. It was never run on a Mac."""
    text = seatbelt.profile()
    rules = text.splitlines()
    assert rules[:2] == ["(version 1)", "(deny default)"]
    assert text.count("(") == text.count(")")
    allowed = {rule.split()[1] for rule in rules[2:]}
    assert allowed == {"signal", "process-info*", "sysctl-read"}
    assert all("(target self)" in rule or "(sysctl-name" in rule for rule in rules[2:])


@linux
def test_a_system_without_the_call_says_so() -> None:
    """Where sandbox_init is not, nothing is claimed."""
    (lack,) = seatbelt.lock_down()
    assert lack.startswith("seatbelt: ")


@linux
def test_the_limits_of_macos_are_set() -> None:
    """Processor time, files, core and descriptors, in a process of its own."""
    code = (
        "import resource; from rlm_cli.sandbox import harden; harden.limit_use(77);"
        "print([resource.getrlimit(w)[0] for w in (resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE,"
        " resource.RLIMIT_NOFILE)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout == "[77, 0, 0, 128]\n"
