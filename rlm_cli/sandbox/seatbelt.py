"""How a process locks itself down on macOS: a sandbox profile in the language of sandbox-exec, applied from within.

**Never run on a Mac.** What is here is written from documentation; its text is tested, its effect is not. Nothing rests
on that: the same self-test as on Linux decides, and where an attempt goes through, or the profile is not taken, the
REPL is refused with the line to copy (`--sandbox container`).

The profile denies by default and allows what a Python process needs that has everything loaded and mapped already:
signals to itself, looking at itself, the number of processors. No file, no network, no process, no service. So it is
applied after the start, by sandbox_init(3), which is what sandbox-exec calls before it starts a program; sandbox-exec
itself would have to leave the interpreter's files open for good, and with them whatever else lies beside them.

What macOS does not have: a bound on memory that holds (RLIMIT_AS is not enforced), and a signal when the host ends (a
loop in C runs on until its processor time is used up).

Standard library only: this file is loaded in the child.
"""

from __future__ import annotations

import ctypes
from typing import Any

READABLE = ("hw.activecpu", "hw.logicalcpu", "hw.ncpu", "hw.pagesize")
"""What sysctl answers: `os.cpu_count` and the size of a page."""


def profile() -> str:
    """The text of the profile."""
    names = " ".join(f'(sysctl-name "{name}")' for name in READABLE)
    rules = (
        "(version 1)",
        "(deny default)",
        "(allow signal (target self))",
        "(allow process-info* (target self))",
        f"(allow sysctl-read {names})",
    )
    return "\n".join(rules) + "\n"


def lock_down() -> tuple[str, ...]:
    """Apply the profile, for good. Returns what could not be done, as `wall: why`; never raises."""
    try:
        library: Any = ctypes.CDLL("/usr/lib/libSystem.B.dylib", use_errno=True)
        apply = library.sandbox_init
    except (OSError, AttributeError) as problem:
        return (f"seatbelt: {problem}",)
    apply.argtypes = (ctypes.c_char_p, ctypes.c_uint64, ctypes.POINTER(ctypes.c_char_p))
    apply.restype = ctypes.c_int
    message = ctypes.c_char_p()
    if apply(profile().encode(), 0, ctypes.byref(message)):
        return (f"seatbelt: {(message.value or b'refused').decode('utf-8', 'replace')}",)
    return ()
