"""The man page: made of the tables, checked in, without a complaint of the formatters."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from rlm_cli.cli.generate import generated
from rlm_cli.settings import Settings, spelling_of

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("path", sorted(generated()))
def test_checked_in_files_are_current(path: str) -> None:
    """No drift: `python -m rlm_cli.cli.generate` would change nothing."""
    assert (ROOT / path).read_text(encoding="utf-8") == generated()[path]


def test_every_setting_is_in_it() -> None:
    """Flags in the options, the rest in the configuration."""
    page = generated()["man/rlm.1"].replace("\\-", "-")
    for field in fields(Settings):
        flags = spelling_of(field.name).flags
        assert (flags[-1] if flags else f".B {field.name}") in page


@pytest.mark.skipif(not shutil.which("mandoc"), reason="mandoc is not installed")
def test_mandoc_has_no_warning() -> None:
    """It renders on BSD and macOS."""
    done = subprocess.run(
        ["mandoc", "-Tlint", "-W", "warning", ROOT / "man/rlm.1"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed")
def test_groff_has_no_warning() -> None:
    """It renders on Linux; groff's exit code says nothing, its stderr does."""
    done = subprocess.run(
        ["groff", "-man", "-ww", "-z", ROOT / "man/rlm.1"], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
