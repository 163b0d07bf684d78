"""Write what is made of the tables and checked in: `python -m rlm_cli.cli.generate [FOLDER]`.

A test compares the files with what this would write, so a setting cannot change without its man page and completions.
"""

from __future__ import annotations

import sys
from pathlib import Path

from .completions import script
from .manual import page


def generated() -> dict[str, str]:
    """Path below the project's root → content."""
    return {
        "man/rlm.1": page(),
        "completions/rlm.bash": script("bash"),
        "completions/_rlm": script("zsh"),
        "completions/rlm.fish": script("fish"),
    }


def main(root: Path) -> None:
    for path, content in generated().items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parents[2])
