"""Sources of the standard library, for imports after the lockdown.

By the host for a process, which runs the same Python; in a container by its process 1 (`inside.py`), because the
image's Python may be another version than the host's. Standard library only: this file is loaded there as well.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

_NAME = re.compile(r"[A-Za-z_]\w{0,60}(\.\w{1,60}){0,6}", re.ASCII)


def source(name: object) -> tuple[bytes, bool] | None:
    """The source of a pure-Python module of the standard library and whether it is a package; None = there is none.

    `name` comes from hostile code.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return None
    if name.partition(".")[0] not in sys.stdlib_module_names:
        return None
    path = Path(sysconfig.get_path("stdlib"), *name.split("."))
    for file, package in ((path / "__init__.py", True), (path.with_suffix(".py"), False)):
        if file.is_file():
            return file.read_bytes(), package
    return None
