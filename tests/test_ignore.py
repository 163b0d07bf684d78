"""Ignore files mean what git says they mean: over random trees, and in the corners it has."""

# ruff: noqa: PTH102, PTH118, PTH119, PTH120, PTH123  # names here are bytes

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rlm_cli.errors import UsageError
from rlm_cli.read.excludes import global_file
from rlm_cli.read.patterns import Patterns, lines_of
from rlm_cli.read.walk import Account, Rules, check, folder

TREES = 600
NAMES = [
    b"a", b"b", b"ab", b"foo", b"foobar", b"a.txt", b"b.log", b"c.txt", b"A.TXT", b"a b", b"a ", b"#a", b"!a", b"x*y", b"[a]",
    b"a]", b"a-b", b"a\\b", b"\xc3\xbc.txt", b"\xff", b"{a,b}", b"a^", b"d1", b"d22", b"z.",
]  # fmt: skip
FOLDERS = [b"a", b"b", b"foo", b"dir", b"sub", b"x y", b"d1", b"build", b"\xc3\xbc"]
PIECES = [
    b"a", b"b", b"ab", b"foo", b"bar", b"dir", b"sub", b"build", b"*", b"*", b"**", b"**", b"***", b"?", b"??", b"[ab]", b"[!a]", b"[^a]",
    b"[a-c]", b"[]a]", b"[!]a]", b"[a-]", b"[[:alpha:]]", b"[[:digit:]]", b"[^[:alnum:]]", b"[[:nope:]]", b"[z-a]", b"[a", b"\\a", b"\\*",
    b"\\[", b"\\ ", b"\\!", b"\\#", b"\\\\", b".txt", b".log", b".", b" ", b"#", b"!", b"{a,b}", b"\xc3\xbc", b"\xff", b"-", b"]", b"[\\]]",
    b"d1", b"[0-9]", b"[[:space:]]", b"[a-c-e]", b"[\\a-c]", b"^", b"[[a]", b"[:alpha:]",
]  # fmt: skip


def _pattern(chance: random.Random) -> bytes:
    """One line of an ignore file, with more corners than people give them."""
    if chance.random() < 0.5:  # as people write them
        return chance.choice([
            b"a", b"/a", b"*.log", b"!*.log", b"dir/", b"/dir/", b"a/*", b"**/foo", b"foo/**", b"a/**/b", b"!a", b"!/a", b"sub/a.txt",
            b"*", b"!*/", b"!*.txt", b"/*", b"!/sub", b"b/", b"!b/", b"build", b"# a", b"", b"**", b"**/", b"*/a", b"/**/a", b"?", b"d*/",
            b"a  ", b"a\\ ", b"\\!a", b"\\#a", b"!foo/", b"/foo/*", b"!/foo/a", b"a*b*", b"*a*", b"/sub/**/a*", b"x y/", b"[ab].*", b"a\r",
        ])  # fmt: skip
    parts = [
        b"".join(chance.choices(PIECES, k=chance.choice([1, 1, 1, 2, 2, 3])))
        for _ in range(chance.choice([1, 1, 2, 2, 3]))
    ]
    line = b"/".join(parts)
    return b"!" * (chance.random() < 0.25) + b"/" * (chance.random() < 0.2) + line + b"/" * (chance.random() < 0.25)


def _ignore_file(chance: random.Random) -> bytes:
    lines = [_pattern(chance) for _ in range(chance.randint(1, 5))]
    ends = chance.choice([b"\n", b"\n", b"\r\n"])
    return b"\xef\xbb\xbf" * (chance.random() < 0.05) + ends.join(lines) + ends * (chance.random() < 0.8)


def plant(root: bytes, chance: random.Random) -> None:
    """A small tree of folders, files and ignore files."""
    folders = [root]
    for _ in range(chance.randint(1, 5)):
        new = os.path.join(chance.choice(folders), chance.choice(FOLDERS))
        if new not in folders:
            folders.append(new)
    for number, place in enumerate(folders):
        os.mkdir(place)
        taken = {os.path.basename(other) for other in folders if os.path.dirname(other) == place}
        for name in chance.sample(NAMES, 6):
            if name not in taken:
                os.close(os.open(os.path.join(place, name), os.O_CREAT | os.O_WRONLY))
        if chance.random() < (0.9 if number == 0 else 0.4):
            with open(os.path.join(place, b".gitignore"), "wb") as file:
                file.write(_ignore_file(chance))


@pytest.fixture
def forest() -> Iterator[Path]:
    """All trees in one repository, so that git is asked once; in memory where the system has such a folder."""
    memory = Path("/dev/shm")
    place = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
    yield place
    shutil.rmtree(place)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 42))])
def test_git_agrees(forest: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What git would track of 600 random trees, with nested files, `info/exclude` and global excludes, is what is read."""
    chance = random.Random(seed)
    monkeypatch.setenv("HOME", str(forest))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    work = forest / "work"
    subprocess.run(["git", "init", "-q", work], check=True, capture_output=True)
    for number in range(TREES):
        plant(os.fsencode(work) + b"/%03d" % number, chance)
    own = b"".join(b"/%03d/%s\n" % (n, _pattern(chance).lstrip(b"!/# \r")) for n in range(0, TREES, 5))
    (work / ".git" / "info" / "exclude").write_bytes(own)
    shared = b"".join(
        b"%s/%03d/%s\n" % (b"!" * (n % 7 == 0), n, _pattern(chance).lstrip(b"!/# \r")) for n in range(0, TREES, 4)
    )
    (forest / "mine").write_bytes(shared)
    (forest / ".gitconfig").write_text('[core]\n\texcludesFile = "~/mine" # mine\n')
    listed = subprocess.run(
        ["git", "-C", work, "ls-files", "-z", "--others", "--exclude-standard"], check=True, capture_output=True
    )
    wanted = {n for n in listed.stdout.split(b"\0") if n and not any(part[:1] == b"." for part in n.split(b"/"))}
    prefix = len(os.fsencode(work)) + 1
    found = {os.fsencode(one.path)[prefix:] for one in folder(str(work), Rules(), Account())}
    wrong = sorted({name.split(b"/")[0] for name in wanted ^ found})
    shown = "\n".join(_difference(os.fsencode(work), tree, wanted, found) for tree in wrong[:5])
    assert not wrong, f"{len(wrong)} trees differ\n{shown}"
    assert len(wanted) > TREES


def _difference(work: bytes, tree: bytes, wanted: set[bytes], found: set[bytes]) -> str:
    lines = [repr(tree)]
    for name in sorted(wanted ^ found):
        if name.split(b"/")[0] == tree:
            lines.append(f"{'git reads' if name in wanted else 'we read'} {name!r}")
    for place, _, names in os.walk(os.path.join(work, tree)):
        if b".gitignore" in names:
            with open(os.path.join(place, b".gitignore"), "rb") as file:
                lines.append(f"{place[len(work) + 1 :]!r}: {file.read()!r}")
    return "\n".join(lines)


@pytest.fixture
def plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`plot(**{"a.txt": "", "sub/.gitignore": "*.log"})`: files in a folder that nobody's own excludes reach."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.delenv(name, raising=False)
    place = tmp_path / "docs"
    place.mkdir()
    monkeypatch.chdir(tmp_path)

    def make(**files: str) -> Path:
        for name, text in files.items():
            path = place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return place

    return make


def walked(root: str = "docs", **rules: object) -> tuple[list[str], dict[str, int]]:
    """The files below `root`, and what kept the others out."""
    account = Account()
    found = [one.path.removeprefix(f"{root}/") for one in folder(root, Rules(**rules), account)]  # type: ignore[arg-type]
    return found, dict(account.excluded)


def test_which_file_decides(plot: Callable[..., Path]) -> None:
    """`.rlmignore` before `.ignore` before `.gitignore`, however near the others are; each is named by its path."""
    plot(**{
        "a.txt": "", "a.log": "", "sub/a.log": "", "sub/b.log": "", "sub/c.md": "", "sub/d.tmp": "",
        ".gitignore": "*.log\n", ".ignore": "!b.log\n*.tmp\n", "sub/.gitignore": "!*.tmp\n", ".rlmignore": "c.*\n",
    })  # fmt: skip
    assert walked() == (
        ["a.txt", "sub/b.log"],
        {"docs/.gitignore": 2, "docs/.ignore": 1, "docs/.rlmignore": 1, "hidden": 4},
    )


def test_files_above_count_up_to_the_repository(plot: Callable[..., Path], tmp_path: Path) -> None:
    """Those of folders above hold; a `.gitignore` does not reach into a repository, another kind does."""
    place = plot(**{"a.log": "", "b.tmp": "", "c.txt": "", "d.bak": "", "in/a.log": "", "in/c.txt": ""})
    (tmp_path / ".gitignore").write_text("*.log\n/docs/c.txt\n")
    (tmp_path / ".ignore").write_text("*.tmp\n")
    assert walked() == (["d.bak", "in/c.txt"], {".gitignore": 3, ".ignore": 1})
    (place / "in" / ".git" / "info").mkdir(parents=True)
    (place / "in" / ".git" / "info" / "exclude").write_text("/c.*\n")
    assert walked() == (
        ["d.bak", "in/a.log"],
        {".gitignore": 2, ".ignore": 1, "hidden": 1, "docs/in/.git/info/exclude": 1},
    )
    (place / ".git").mkdir()
    assert walked()[0] == ["a.log", "c.txt", "d.bak", "in/a.log"]
    assert walked(unrestricted=1)[0] == ["a.log", "b.tmp", "c.txt", "d.bak", "in/a.log", "in/c.txt"]


def test_a_work_tree_of_another_repository(plot: Callable[..., Path], tmp_path: Path) -> None:
    """Where `.git` is a file, `info/exclude` is that of the repository it points to."""
    plot(**{"a.log": "", "b.txt": "", ".git": f"gitdir: {tmp_path}/main/.git/worktrees/docs\n"})
    for name, text in (("worktrees/docs/commondir", "../..\n"), ("info/exclude", "*.log\n")):
        path = tmp_path / "main" / ".git" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert walked() == (["b.txt"], {"docs/.git/info/exclude": 1, "hidden": 1})


def test_global_excludes(plot: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`core.excludesFile` of git's configuration, with `~`, quotes, comments and includes; else its place in XDG's."""
    plot(**{"a.log": "", "b.tmp": ""})
    home = tmp_path / "home"
    (home / ".config" / "git").mkdir(parents=True)
    (home / ".config" / "git" / "ignore").write_text("*.log\n")
    assert walked() == (["b.tmp"], {"~/.config/git/ignore": 1})
    (home / "mine").write_text("*.tmp\n")
    for config in (
        "[core]\n\texcludesfile = ~/mine\n",
        '[CORE] excludesFile = "~/mine" ; mine\n[user]\nname = x\n',
        "[core]\nexcludesfile = /nowhere\n[include]\n\tpath = more\n",
    ):
        (home / ".gitconfig").write_text(config)
        (home / "more").write_text('[core "x"]\nexcludesfile = no\n[core]\n# excludesfile = no\nexcludesfile=~/mine\n')
        assert global_file() == str(home / "mine"), config
    assert walked() == (["a.log"], {"~/mine": 1})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "ignore").write_text("")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "none"))
    assert walked()[0] == ["b.tmp"]


def test_globs_as_ripgrep_has_them(plot: Callable[..., Path]) -> None:
    """-g: the last match wins, braces, a slash anchors at the working directory; stronger than ignore files; what is
    hidden is for who names it."""
    plot(**{
        "a.txt": "", "b.md": "", "c.log": "", "sub/a.txt": "", "sub/ü.txt": "", ".env": "", ".git/config": "",
        ".gitignore": "*.log\nsub/\n",
    })  # fmt: skip
    for globs, wanted in (
        (("*.{txt,md}",), ["a.txt", "b.md"]),
        (("*.{t{xt,oml},md}", "!b*"), ["a.txt"]),
        (("*.log",), ["c.log"]),
        (("sub/", "?.txt"), ["a.txt", "sub/a.txt", "sub/ü.txt"]),
        (("/docs/a*",), ["a.txt"]),
        (("docs/*.md",), ["b.md"]),
        (("/a*",), []),
        (("!*.md",), ["a.txt"]),
        ((".env",), [".env"]),
        (("*", "!*/"), ["a.txt", "b.md", "c.log"]),
    ):
        assert walked(globs=globs)[0] == wanted, globs
    assert walked(globs=("*.md",))[1] == {"--glob": 2, "docs/.gitignore": 1, "hidden": 3}
    for bad in ("[", "{a,b", "a[[:nope:]]", "{a,b}" * 12):
        with pytest.raises(UsageError, match="--glob"):
            check(Rules(globs=(bad,)))


def test_ignore_files_that_are_none(plot: Callable[..., Path], tmp_path: Path) -> None:
    """A FIFO, a folder, a link (git follows none) and one that may not be read say nothing and are not waited for."""
    for number, name in enumerate((".gitignore", ".ignore", ".rlmignore")):
        place = plot(**{f"{number}/a.txt": ""}) / str(number) / name
        if number == 0:
            (tmp_path / "rules").write_text("*\n")
            place.symlink_to(tmp_path / "rules")
        elif number == 1:
            os.mkfifo(place)
        else:
            place.mkdir()
    assert walked()[0] == ["0/a.txt", "1/a.txt", "2/a.txt"]


def test_hostile_patterns_cost_little() -> None:
    """Stars without end, and a hundred thousand patterns, are decided before the timeout of a test: nothing is tried twice."""
    stars = Patterns(lines_of(b"*a" * 40 + b"*b\n" + b"**/a*/" * 12 + b"**/b\n"), "x")
    many = Patterns(lines_of(b"".join(b"/name/%d\n*.%d\nx%d\n" % (n, n, n) for n in range(30_000))), "x")
    name = "a" * 250
    assert stars.decide(name, "aaa/" * 60 + name, False) is None
    assert many.decide("x29999", "y/x29999", False) is True
    assert many.decide("7", "name/7", False) is True
