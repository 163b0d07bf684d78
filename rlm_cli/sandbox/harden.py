"""How a process locks itself down on Linux, in pure ctypes: rlimits, no_new_privs, Landlock, seccomp.

On macOS `seatbelt.py` raises the walls; the self-test is the same.

Runs inside the child, in its only thread, before it sees model code. No dependency, no helper binary, no root and no
user namespace: those are refused in default Docker and on stock Ubuntu 24.04, while a seccomp filter under
`no_new_privs` may be installed by anybody.

Two walls. seccomp is an allow-list: what is neither in `PLAIN` nor in `checked` fails with EPERM, so there is no
`open`, `stat`, `socket`, `connect`, `execve`, `kill` at all, whatever the kernel adds later. Landlock, where the kernel
has it, denies files, TCP, abstract sockets and signals a second time. `lock_down` says what it could not do;
`self_test` then tries, with bare C calls, and what it saw refused is the only thing the host believes.

Rejected: a deny-list (one forgotten call is a hole); bubblewrap (user namespaces); libseccomp (a dependency);
RLIMIT_DATA (shared anonymous maps escape it).

Sources: seccomp(2), landlock(7), linux/seccomp.h, linux/filter.h, asm/unistd_64.h, asm-generic/unistd.h.
Standard library only: this file is loaded in the child, which has no other packages.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import seatbelt

MACOS = sys.platform == "darwin"

PLAIN = {
    # name: (x86-64, aarch64); None where the architecture does not have the call
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "fstat": (5, 80), "poll": (7, None), "lseek": (8, 62),
    "munmap": (11, 215), "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139), "pread64": (17, 67), "readv": (19, 65), "writev": (20, 66), "select": (23, None),
    "sched_yield": (24, 124), "mremap": (25, 216), "madvise": (28, 233), "dup": (32, 23), "pause": (34, None),
    "nanosleep": (35, 101), "getpid": (39, 172), "recvfrom": (45, 207), "shutdown": (48, 210),
    "getsockname": (51, 204), "getpeername": (52, 205), "getsockopt": (55, 209), "exit": (60, 93), "uname": (63, 160),
    "gettimeofday": (96, 169), "getrusage": (98, 165), "sysinfo": (99, 179), "times": (100, 153),
    "getuid": (102, 174), "getgid": (104, 176), "geteuid": (107, 175), "getegid": (108, 177), "getppid": (110, 173),
    "sigaltstack": (131, 132), "gettid": (186, 178), "time": (201, None), "futex": (202, 98),
    "sched_getaffinity": (204, 123), "restart_syscall": (219, 128), "clock_gettime": (228, 113),
    "clock_getres": (229, 114), "clock_nanosleep": (230, 115), "exit_group": (231, 94), "epoll_wait": (232, None),
    "epoll_ctl": (233, 21), "pselect6": (270, 72), "ppoll": (271, 73), "set_robust_list": (273, 99),
    "epoll_pwait": (281, 22), "eventfd2": (290, 19), "epoll_create1": (291, 20), "pipe2": (293, 59),
    "getrandom": (318, 278), "membarrier": (324, 283), "rseq": (334, 293),
}  # fmt: skip
"""Calls that are allowed whatever their arguments: memory, time, waiting, own descriptors, who am I."""

TCGETS, FIONREAD, FIONBIO, FIOCLEX = 0x5401, 0x541B, 0x5421, 0x5451
THREAD_FLAGS = 0x3D0F00
"""What glibc passes to clone(2) for a thread: memory, files, signals shared. musl adds CLONE_DETACHED (0x400000)."""


@dataclass(frozen=True, slots=True)
class Check:
    """Allowed only if (argument & mask) is one of `values`. `wide`: all 64 bits count, else the kernel reads 32."""

    arg: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF
    wide: bool = False


def checked(own_pid: int) -> dict[str, tuple[tuple[int, int], tuple[Check, ...]]]:
    """Calls that are allowed for some arguments only: name → ((x86-64, aarch64), checks that must all hold)."""
    not_executable = (Check(2, (0,), mask=4),)
    return {
        "mmap": ((9, 222), not_executable),
        "mprotect": ((10, 226), not_executable),
        "ioctl": ((16, 29), (Check(1, (TCGETS, FIONREAD, FIONBIO, FIOCLEX)),)),
        "fcntl": ((72, 25), (Check(1, (1, 2, 3, 4, 1030)),)),  # F_GETFD F_SETFD F_GETFL F_SETFL F_DUPFD_CLOEXEC
        "sendto": ((44, 206), (Check(4, (0,), wide=True),)),  # no address: asyncio's self-pipe needs this much
        "socketpair": ((53, 199), (Check(0, (1,)), Check(1, (1,), mask=0xF))),  # AF_UNIX, SOCK_STREAM
        "clone": ((56, 220), (Check(0, (THREAD_FLAGS,), mask=0xFFFFFFFF ^ 0x400000),)),
        "prctl": ((157, 167), (Check(0, (15,)),)),  # PR_SET_NAME of a thread
        "tgkill": ((234, 131), (Check(0, (own_pid,)),)),  # abort() and pthread_kill within the process
        "prlimit64": ((302, 261), (Check(0, (0, own_pid)), Check(2, (0,), wide=True))),  # read limits, never set them
    }


CLONE3 = 435  # ENOSYS, so that the C library falls back to clone, whose flags a filter can see

_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _JEQ, _JGE, _AND, _RET = 0x20, 0x15, 0x35, 0x54, 0x06
_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}  # AUDIT_ARCH_*, column of the tables
_SECCOMP = {"x86_64": 317, "aarch64": 277}


class Missing(Exception):
    """A wall that this kernel or machine does not have."""

    def __init__(self, wall: str, why: str) -> None:
        super().__init__(wall, why)
        self.wall = wall
        self.why = why


def filter_program(machine: str, own_pid: int) -> bytes:
    """The seccomp filter as BPF instructions (struct sock_filter, 8 bytes each). Raises `Missing`."""
    if machine not in _ARCHITECTURES:
        raise Missing("seccomp", f"no table of system calls for {machine}")
    arch, column = _ARCHITECTURES[machine]
    program: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, 4),  # seccomp_data.arch
        (_JEQ, 1, 0, arch),
        (_RET, 0, 0, _KILL),  # int 0x80 and other foreign tables: the numbers mean something else there
        (_LOAD, 0, 0, 0),  # seccomp_data.nr
    ]
    if machine == "x86_64":
        program += [(_JGE, 0, 1, 0x40000000), (_RET, 0, 0, _KILL)]  # x32
    for numbers in PLAIN.values():
        if (number := numbers[column]) is not None:
            program += [(_JEQ, 0, 1, number), (_RET, 0, 0, _ALLOW)]
    for numbers, checks in checked(own_pid).values():
        body = _check_body(checks)
        program += [(_JEQ, 0, len(body), numbers[column]), *body]
    program += [(_JEQ, 0, 1, CLONE3), (_RET, 0, 0, _ERRNO | errno.ENOSYS), (_RET, 0, 0, _ERRNO | errno.EPERM)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _check_body(checks: tuple[Check, ...]) -> list[tuple[int, int, int, int]]:
    """Instructions that end the filter: allow if all checks hold, else EPERM. Little-endian words."""
    body: list[tuple[int, int, int, int]] = []
    deny = (_RET, 0, 0, _ERRNO | errno.EPERM)
    for check in checks:
        offset = 16 + 8 * check.arg
        body += [(_LOAD, 0, 0, offset), (_AND, 0, 0, check.mask)]
        left = len(check.values)
        for value in check.values:
            body.append((_JEQ, left, 0, value))  # past the remaining values and the refusal
            left -= 1
        body.append(deny)
        if check.wide:
            body += [(_LOAD, 0, 0, offset + 4), (_JEQ, 1, 0, 0), deny]
    return [*body, (_RET, 0, 0, _ALLOW)]


def die_with(parent: int, number: int = signal.SIGKILL) -> None:
    """A signal for this process when the thread that started it ends; leaves at once if the parent is gone already."""
    if not MACOS:
        _libc().prctl(1, number, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


def limit_resources(memory: int, cpu_s: int) -> None:
    """Address space = what is mapped now (corpus, interpreter) + `memory` bytes; no files, no core, few descriptors.

    RLIMIT_AS counts maps, so a limit of 1 GB under a map of 1 GB would refuse the next 8 MB.
    """
    if MACOS:
        limit_use(cpu_s)
        return
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 (pathlib costs the child 3 ms)
        mapped = int(statm.read().split()[0]) * resource.getpagesize()
    limit_use(cpu_s, mapped + memory)


def limit_use(cpu_s: int, address_space: int | None = None) -> None:
    """Processor time, address space in bytes, no files, no core, few descriptors. Raises `OSError`, `ValueError`."""
    limits = {} if address_space is None else {resource.RLIMIT_AS: address_space}
    limits |= {
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 128,
    }
    for which, value in limits.items():
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))


def lock_down() -> tuple[str, ...]:
    """Close every door, for good. Returns the walls that could not be raised, as `wall: why`; never raises."""
    if MACOS:
        return seatbelt.lock_down()
    libc = _libc()
    missing = []
    libc.prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: nobody of the same user may look into the memory
    if libc.prctl(38, 1, 0, 0, 0):  # PR_SET_NO_NEW_PRIVS
        missing.append(f"no_new_privs: {os.strerror(ctypes.get_errno())}")
    for wall in (_landlock, _seccomp):
        try:
            wall(libc)
        except Missing as lack:
            missing.append(f"{lack.wall}: {lack.why}")
    return tuple(missing)


def landlock_abi() -> int:
    """The version of Landlock this kernel has; 0 = none."""
    return max(0, int(_libc().syscall(444, None, ctypes.c_size_t(0), 1)))  # LANDLOCK_CREATE_RULESET_VERSION


def _landlock(libc: Any) -> None:
    """Handle every right this kernel knows and grant none."""
    abi = landlock_abi()
    if not abi:
        raise Missing("landlock", "this kernel does not have it")
    files = (1 << 13) - 1
    for since, right in ((2, 13), (3, 14), (5, 15)):  # REFER, TRUNCATE, IOCTL_DEV
        if abi >= since:
            files |= 1 << right
    network = 3 if abi >= 4 else 0  # bind and connect of TCP
    scoped = 3 if abi >= 6 else 0  # abstract sockets, signals
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    attributes = struct.pack("=QQQ", files, network, scoped)[:size]
    ruleset = libc.syscall(444, attributes, ctypes.c_size_t(size), 0)
    if ruleset < 0:
        raise Missing("landlock", os.strerror(ctypes.get_errno()))
    try:
        if libc.syscall(446, ruleset, 0):
            raise Missing("landlock", os.strerror(ctypes.get_errno()))
    finally:
        os.close(ruleset)


class _Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _seccomp(libc: Any) -> None:
    machine = platform.machine() if os.uname().sysname == "Linux" and struct.calcsize("P") == 8 else "32-bit"
    code = filter_program(machine, os.getpid())
    program = _Program(len(code) // 8, code)
    # SECCOMP_SET_MODE_FILTER with TSYNC: should there be a second thread, it is locked in as well or nothing is
    result = libc.syscall(_SECCOMP[machine], 1, 1, ctypes.byref(program))
    if result:
        why = f"thread {result} could not follow" if result > 0 else os.strerror(ctypes.get_errno())
        raise Missing("seccomp", why)


def self_test(host: int) -> dict[str, bool]:
    """Try what must not work, with bare C calls (an audit hook would not see them). Name → was it refused?

    `host`: a process id that is a relative too, though the parent is another.
    """
    libc = _libc()
    tests: dict[str, Callable[[], int]] = {
        "open a file": lambda: libc.open(os.fsencode(sys.executable), os.O_RDONLY),
        "look at a file": lambda: libc.access(b"/", 0),
        "make a socket": lambda: libc.socket(2, 1, 0),
        "start a process": lambda: _fork(libc),
        "run a program": lambda: libc.execve(b"/nonexistent", None, None),
        "signal the parent": lambda: libc.kill(os.getppid(), 0),
        "signal the host": lambda: libc.kill(host, 0),
    }
    refused = {}
    for name, attempt in tests.items():
        ctypes.set_errno(0)
        result = attempt()
        refused[name] = result < 0 and ctypes.get_errno() in (errno.EPERM, errno.EACCES, errno.ENOSYS)
        if result > 0 and name in ("open a file", "make a socket"):
            os.close(result)
    return refused


def _fork(libc: Any) -> int:
    child: int = libc.fork()
    if child == 0:
        os._exit(0)
    if child > 0:
        os.waitpid(child, 0)
    return child


def _libc() -> Any:
    libc: Any = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc
