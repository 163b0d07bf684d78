"""The table of attacks, at the levels and as the users that this machine has; and what the filter lets through.

The two hosts of the default suite run side by side, without the slow rows. The other levels are run on request
(`-m slow`); `python tests/attacked.py` runs every row and prints the totals.
"""

from __future__ import annotations

import errno
import os
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from attacked import LEVELS, ORDINARY, USERS, Row, Running, start
from attacks import attacks

from rlm_cli.sandbox.harden import CLONE3, PLAIN, checked, filter_program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the process sandbox is Linux only")
FIRST = LEVELS[0]


class Hosts:
    """Those of one level as every user, started together by the first test that asks."""

    def __init__(self) -> None:
        self._started: dict[tuple[str, int], Running] = {}

    def rows(self, level: str, user: int) -> list[Row]:
        if user != os.getuid() and os.getuid() != 0:
            if user == 0:
                pytest.skip("run as root to attack as root")
            user = os.getuid()  # an ordinary one as well
        alone = os.getuid() != 0 or "PYTEST_XDIST_WORKER" in os.environ  # another worker has the other users
        try:
            for each in (user,) if alone else USERS:
                if (level, each) not in self._started:
                    self._started[level, each] = start(level, each, quick=level == FIRST)
        except LookupError as problem:
            if (level, user) not in self._started:
                pytest.skip(str(problem))
        return self._started[level, user].rows()

    def close(self) -> None:
        for host in self._started.values():
            host.close()


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    started = Hosts()
    yield started
    started.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize(
    "level", [pytest.param(level, marks=() if level == FIRST else pytest.mark.slow) for level in LEVELS]
)
def test_attacks_get_nowhere(hosts: Hosts, level: str, user: int) -> None:
    """No file, key, socket, process or signal; the host keeps its size, says in one line what happened, and goes on
    with the REPL or another, in which all names are the real ones."""
    rows = hosts.rows(level, user)
    assert len(rows) == len(list(attacks(level.partition(",")[0], os.uname().machine, quick=level == FIRST)))
    wrong = [f"{row.name} ({row.fate}): {row.wrong}\n    {row.said}" for row in rows if row.wrong]
    assert not wrong, "\n".join(wrong)


def test_there_is_an_ordinary_user() -> None:
    """The table is run as somebody who is not root."""
    assert ORDINARY in USERS


def decide(program: bytes, number: int, arch: int, *arguments: int) -> int:
    """What a seccomp filter says of a call: the kernel's machine, as far as the filter uses it."""
    data = struct.pack("=IIQ6Q", number, arch, 0, *(arguments + (0,) * 6)[:6])
    code = list(struct.iter_unpack("=HBBI", program))
    at, value = 0, 0
    while True:
        what, when, otherwise, operand = code[at]
        at += 1
        match what:
            case 0x20:
                (value,) = struct.unpack_from("=I", data, operand)
            case 0x54:
                value &= operand
            case 0x15:
                at += when if value == operand else otherwise
            case 0x35:
                at += when if value >= operand else otherwise
            case 0x06:
                return int(operand)


ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_allows_its_table_and_nothing_else(machine: str) -> None:
    """Of all numbers: those of the table whatever the arguments, the checked ones for some, no other; foreign tables
    of calls are the end. The same on both architectures."""
    own, column = 4242, list(MACHINES).index(machine)
    program = filter_program(machine, own)
    plain = {numbers[column] for numbers in PLAIN.values()} - {None}
    some = {numbers[column]: checks for numbers, checks in checked(own).values()}
    assert not plain & some.keys()
    assert len(program) // 8 < 4096
    for number in range(1024):
        said = decide(program, number, MACHINES[machine])
        if number in plain:
            assert said == ALLOW, number
        elif number == CLONE3:
            assert said == REFUSE | errno.ENOSYS
        elif number not in some:
            assert said == REFUSE | errno.EPERM, number
    for number, checks in some.items():
        right, wrong = [0] * 6, [0] * 6
        for check in checks:
            right[check.arg] = check.values[0]
            wrong[check.arg] = check.values[0] ^ (check.mask & -check.mask)
        assert decide(program, number, MACHINES[machine], *right) == ALLOW
        assert decide(program, number, MACHINES[machine], *wrong) == REFUSE | errno.EPERM
        for check in checks:
            if check.wide:
                right[check.arg] |= 1 << 40
                assert decide(program, number, MACHINES[machine], *right) == REFUSE | errno.EPERM
    for arch in (0x40000003, 0x40000028, *(set(MACHINES.values()) - {MACHINES[machine]})):
        assert decide(program, 0, arch) == KILL
    if machine == "x86_64":
        assert decide(program, 0x40000000, MACHINES[machine]) == KILL


HEADERS = {
    "x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
    "aarch64": "/usr/include/asm-generic/unistd.h",
}


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_are_the_kernels(machine: str) -> None:
    """Both tables against the kernel's own headers, where they are installed."""
    header = Path(HEADERS[machine])
    if not header.exists():
        pytest.skip(f"no {header}: install linux-libc-dev")
    named = re.findall(r"^#define\s+__NR(?:3264)?_(\w+)\s+(\d+)\s*$", header.read_text(), re.MULTILINE)
    numbers = {name: int(number) for name, number in named}
    column = list(MACHINES).index(machine)
    tables = {**PLAIN, **{name: pair for name, (pair, _) in checked(1).items()}, "clone3": (CLONE3, CLONE3)}
    for name, pair in tables.items():
        if pair[column] is not None:
            assert numbers[name] == pair[column], name
