"""Run a program where the kernel lacks a wall: `python without.py seccomp|landlock PROGRAM [ARGUMENT]...`.

A filter says that the call is not implemented; it is inherited by everything the program starts. Without seccomp it
is the last filter that is ever installed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

NUMBERS = {"seccomp": {"x86_64": 317, "aarch64": 277}, "landlock": {"x86_64": 444, "aarch64": 444}}
"""seccomp(2) and landlock_create_ruleset(2)"""


class Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def main() -> None:
    code = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (0x20, 0, 0, 0),  # the number of the call
            (0x15, 0, 1, NUMBERS[sys.argv[1]][os.uname().machine]),
            (0x06, 0, 0, 0x00050000 | errno.ENOSYS),
            (0x06, 0, 0, 0x7FFF0000),
        )
    )
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, ctypes.byref(Program(len(code) // 8, code)), 0, 0) == 0  # PR_SET_SECCOMP
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
