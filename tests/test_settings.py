"""The table of settings and where values come from."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from rlm_cli.cli.commands import shown
from rlm_cli.cli.configuration import BUILT_IN, Resolved, resolve
from rlm_cli.errors import ConfigError, RlmError, UsageError
from rlm_cli.settings import Settings, helps, parse, spelling_of


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration folder of the test's own; a user's file in it is `config/rlm/config.toml`."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "rlm").mkdir(parents=True)
    (tmp_path / "work" / "deep").mkdir(parents=True)
    return tmp_path


def resolved(
    home: Path, flags: dict[str, Any] | None = None, environ: dict[str, str] | None = None, **more: Any
) -> Resolved:
    return resolve(flags or {}, environ=environ or {}, folder=home / "work" / "deep", **more)


def user(home: Path, text: str) -> Path:
    path = home / "config" / "rlm" / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def project(home: Path, text: str, name: str = "rlm.toml") -> Path:
    path = home / "work" / name
    path.write_text(text, encoding="utf-8")
    return path


def test_every_setting_has_help_and_flags_are_unique() -> None:
    """Help, man page and completions have something to say of each setting, and no flag means two things."""
    assert set(helps()) == {field.name for field in fields(Settings)}
    flags = [flag for field in fields(Settings) for flag in spelling_of(field.name).flags]
    assert len(flags) == len(set(flags))


@pytest.mark.parametrize(
    ("name", "raw", "value"),
    [
        ("timeout", "90s", 90.0),
        ("timeout", "1h30m", 5400.0),
        ("timeout", "none", None),
        ("max_budget", "$0.50", 0.5),
        ("max_budget", "none", None),
        ("repl_memory", "512M", 512 << 20),
        ("cite", "off", False),
        ("globs", "a\nb", ("a", "b")),
        ("jobs", "16", 16),
    ],
)
def test_values_are_read_as_people_write_them(name: str, raw: str, value: object) -> None:
    """Durations, money, sizes and lists have their usual spellings."""
    assert parse(name, raw, "there") == value


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("timeout", ""),
        ("timeout", "soon"),
        ("max_budget", "-1"),
        ("max_budget", "nan"),
        ("jobs", "0"),
        ("jobs", "1.5"),
        ("mode", "fast"),
        ("cite", "maybe"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(name: str, raw: str) -> None:
    """The message begins with the flag, variable or key at fault."""
    with pytest.raises(UsageError, match=r"^there"):
        parse(name, raw, "there")


def test_precedence(home: Path) -> None:
    """flag > variable > project > user > built-in, and each origin is told."""
    user(home, "max_budget = 0.8\ntimeout = '5m'\nmax_subcalls = 100\njobs = 4\n")
    project(home, "max_budget = 0.6\ntimeout = '4m'\nmax_subcalls = 50\n")
    found = resolved(home, {"max_budget": "0.2"}, {"RLM_TIMEOUT": "2m"})
    s, o = found.settings, found.origins
    assert (s.max_budget, s.timeout, s.max_subcalls, s.jobs, s.max_depth) == (0.2, 120.0, 50, 4, 1)
    assert (o["max_budget"], o["timeout"], o["max_subcalls"]) == ("--max-budget", "RLM_TIMEOUT", "../rlm.toml")
    assert o["jobs"].endswith("config.toml")
    assert o["max_depth"] == BUILT_IN


def test_config_replaces_the_files_and_no_config_ignores_them(home: Path) -> None:
    """`--config FILE` is the only file then; `RLM_NO_CONFIG` reads none."""
    user(home, "jobs = 3\n")
    other = home / "other.toml"
    other.write_text("max_depth = 2\n", encoding="utf-8")
    found = resolved(home, config_file=str(other)).settings
    assert (found.jobs, found.max_depth) == (8, 2)
    assert resolved(home, environ={"RLM_NO_CONFIG": "1"}).settings.jobs == 8


@pytest.mark.parametrize(
    "text",
    [
        "sandbox = 'none'",
        "option = ['a=b']",
        "tool = ['t.py']",
        "local = false",
        "max_budget = 5.0",
        "max_budget = 'none'",
        "jobs = 99",
        "[keys]\na = {command = 'x'}",
        "[models.a]\nmodel = 'b/c'",
        "retries = 9",
        "passwords = ['SENTINEL']",
        "ocr = true",
    ],
)
@pytest.mark.parametrize("name", ["rlm.toml", "pyproject.toml"])
def test_a_project_file_only_lowers(home: Path, text: str, name: str) -> None:
    """Somebody else's file opens nothing and raises nothing; the error names the file."""
    if name == "pyproject.toml":
        text = text.replace("[keys]", "[tool.rlm.keys]").replace("[models.a]", "[tool.rlm.models.a]")
        text = text if text.startswith("[") else f"[tool.rlm]\n{text}"
    project(home, text, name)
    with pytest.raises(ConfigError, match=name):
        resolved(home)


def test_a_project_may_go_up_to_what_the_user_allows(home: Path) -> None:
    """A limit is compared with what would hold without the project's file."""
    user(home, "max_budget = 10.0\n")
    project(home, "max_budget = 5.0\nmodel = 'a/b'\ncite = false\n")
    assert resolved(home).settings.max_budget == 5.0


def test_tools_are_found_from_where_they_are_named(home: Path) -> None:
    """A file in your configuration is looked for beside that, never in a working directory that may be anybody's."""
    user(home, "tool = ['mine.py', '~/other.py', '/abs.py']\n")
    beside = home / "config" / "rlm" / "mine.py"
    assert resolved(home).settings.tool == (str(beside), str(Path("~/other.py").expanduser()), "/abs.py")
    assert resolved(home, {"tool": ["a.py", "b.py"]}).settings.tool == ("a.py", "b.py")
    assert resolved(home, environ={"RLM_TOOL": "a.py\nb.py"}).settings.tool == ("a.py", "b.py")


def test_the_lower_of_two_limits_holds(home: Path) -> None:
    """A project that lowers the built-in limit does not lock out a user whose own is lower still."""
    user(home, "max_budget = 0.1\n")
    project(home, "max_budget = 0.5\n")
    assert resolved(home).settings.max_budget == 0.1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_buget = 1", "did you mean max_budget"),
        ("json = true", "use --json"),
        ("jobs = 'many'", "jobs in"),
        ("a = 1\nb = = 2\n", "config.toml:2: "),
        ("[models.a]\nmodle = 'x'", "did you mean model"),
    ],
)
def test_a_broken_file_says_where(home: Path, text: str, words: str) -> None:
    """Unknown keys come with near names, bad TOML with its line."""
    user(home, text)
    with pytest.raises(ConfigError) as caught:
        resolved(home)
    assert words in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    "text",
    [
        "[keys]\nopenai = 'sk-SENTINEL'",
        "keys = 'sk-SENTINEL'",
        "[keys]\nopenai = { env = 3, key = 'sk-SENTINEL' }",
        "[models.a]\nmodel='b/c'\napi_key = 'sk-SENTINEL'",
    ],
)
def test_a_key_in_a_file_is_refused_and_never_repeated(home: Path, text: str) -> None:
    """The sentinel is in the file, and in no message."""
    user(home, text)
    with pytest.raises(RlmError) as caught:
        resolved(home)
    assert (
        "SENTINEL"
        not in f"{caught.value!r} {caught.value} {caught.value.why} {caught.value.hint} {caught.value.__cause__}"
    )


def test_passwords_are_for_your_own_file_and_are_not_shown(home: Path) -> None:
    """No variable, no project's file; `rlm config origins` and a settings' text do not tell them."""
    user(home, "passwords = ['SENTINEL']")
    found = resolved(home, environ={"RLM_PASSWORDS": "other"})
    assert found.settings.passwords == ("SENTINEL",)
    assert "configuration file" in found.warnings[0]
    assert "SENTINEL" not in repr(found.settings) + shown(found.settings.passwords, spelling_of("passwords"))
    for text in ("passwords = 'SENTINEL\n", "passwords = ['SENTINEL', 3]", "passwords = {SENTINEL = 1}"):
        user(home, text)
        with pytest.raises(RlmError) as caught:
            resolved(home)
        assert "SENTINEL" not in f"{caught.value!r} {caught.value} {caught.value.why} {caught.value.hint}"


def test_an_unknown_variable_is_a_warning(home: Path) -> None:
    """A misspelled variable is told with the near name, and stops nothing."""
    found = resolved(home, environ={"RLM_MAXBUDGET": "3", "RLM_OUTPUT": "x", "RLM_MODEL": ""})
    assert found.settings == Settings()
    assert [("RLM_MAX_BUDGET" in w, "--output" in w) for w in found.warnings] == [(True, False), (False, True)]


def test_a_flag_beats_its_configured_rival(home: Path) -> None:
    """`-v` with RLM_QUIET=1 is verbose."""
    found = resolved(home, {"verbose": True}, {"RLM_QUIET": "1"}).settings
    assert (found.verbose, found.quiet) == (True, False)
