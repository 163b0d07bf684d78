"""`--sandbox container`: the same REPL in Docker or Podman, behind walls that are tried and not believed.

Real containers: they need an engine that answers and an image with Python, both as `make_container_image.sh` says, and
are skipped with the reason where there is none. Nothing is ever pulled. What needs no engine runs everywhere.
"""

from __future__ import annotations

import ast
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import test_sandbox as contract
from conftest import Rlm

from rlm_cli.builder import CorpusBuilder
from rlm_cli.corpus import Corpus
from rlm_cli.errors import ConfigError, SandboxError
from rlm_cli.sandbox import Sandbox, container, inside, open_sandbox

IMAGE = os.environ.get("TEST_CONTAINER_IMAGE", "localhost/rlm-test-python:3.11")
CONFIGURED = {
    n: os.environ[n] for n in ("CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "DOCKER_HOST") if n in os.environ
}
"""What the engine of this machine needs to be told, for commands that run in an environment of their own."""


def lacking() -> str:
    """Why no container can be started here; empty when one can."""
    try:
        engine = container.ready_engine(IMAGE)
    except SandboxError as error:
        return f"{error.message}: {error.why}"
    if engine.says("run", "--rm", "--pull", "never", "--network", "none", IMAGE, "true") is None:
        return f"{engine.name} cannot start a container as it is configured here"
    return ""


@pytest.fixture(scope="module")
def engine() -> container.Engine:
    if why := lacking():
        pytest.skip(f"{why}; see make_container_image.sh")
    return container.ready_engine(IMAGE)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    builder = CorpusBuilder(tmp_path_factory.mktemp("corpus"))
    for path, text in (("a.txt", "alpha\nnotice of thirty days\n"), ("b.txt", contract.LONG)):
        with builder.document(path, "text") as document:
            document.write(text)
    made = builder.finish()
    yield made
    made.close()


def boxed(name: str = "container", cell_timeout_s: float = 20.0, **sizes: int) -> Sandbox:
    sizes = {"repl_memory": 512 << 20, "context_memory": 64 << 20, **sizes}
    return open_sandbox("container", cell_timeout_s=cell_timeout_s, image=IMAGE, **sizes)


def left(engine: container.Engine, host: int) -> str:
    """The containers that a process of ours started and that are still there."""
    listed = engine.says("ps", "--all", "--quiet", "--filter", f"label=rlm-cli={host}")
    assert listed is not None
    return listed


PROMISES = [
    contract.test_everyday_python_works,
    contract.test_an_error_says_what_to_do,
    contract.test_answers_are_handed_over_by_value,
    contract.test_what_is_too_large_to_hand_over_is_said,
    contract.test_output_keeps_head_and_tail,
    contract.test_a_batch_that_failed_in_part_is_paid_for_once,
    contract.test_a_slice_of_the_corpus_travels_as_offsets,
    contract.test_subcalls_are_refused_in_the_closing_turn,
    contract.test_the_kernel_refuses_what_hostile_code_tries,
    contract.test_a_dead_child_is_replaced_and_the_model_is_told,
    contract.test_a_quote_that_is_not_there_comes_back_once,
    contract.test_real_names_come_back,
    contract.test_a_memory_bomb_costs_its_cell,
    contract.test_floods_of_descriptors_and_threads_are_bounded,
    contract.test_computing_is_limited_and_the_state_kept,
    contract.test_the_wall_limit_ends_a_wait,
    contract.test_cancelling_a_cell_kills_the_child_and_the_next_cell_works,
    contract.test_nothing_of_the_host_is_in_the_child,
]


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__.removeprefix("test_"))
def test_a_container_keeps_what_a_process_promises(
    engine: container.Engine, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, promise: Callable[..., None]
) -> None:
    """The contract of the process, in a container: `test_sandbox.py` with another place to run."""
    monkeypatch.setattr(contract, "sandbox", boxed)
    more = {"monkeypatch": monkeypatch} if "monkeypatch" in promise.__annotations__ else {}
    promise(corpus, **more)


@pytest.mark.parametrize(("code", "replaced"), [("sum(range(10**12))", True), ("while True: pass", False)])
def test_what_ignores_the_interrupt_is_replaced(
    engine: container.Engine, corpus: Corpus, code: str, replaced: bool
) -> None:
    """An interrupt reaches the guest and keeps its state; a loop in C costs the container, and what other cells bound
    is back in the next."""
    place = boxed(cell_timeout_s=0.3)
    _, stuck, after = contract.run(corpus, "kept = 1", code, "'kept' in globals()", place=place)
    assert "limit of a cell" in ((stuck.lost if replaced else stuck.error) or "")
    assert (stuck.lost is not None, after.stdout) == (replaced, "True\n")


def test_the_walls_are_proved(engine: container.Engine) -> None:
    """The lockdown holds inside the container too, and process 1 has tried what the container adds."""
    proof = boxed().proof
    assert proof.level == "linux-strict"
    assert {"open a file", "start a process", "signal the parent", *inside.WALLS} <= set(proof.refused)


def test_without_the_second_wall_the_level_is_the_container_s(
    engine: container.Engine, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel takes no filter inside, what is claimed is the container; its walls hold."""
    if not engine.podman:
        pytest.skip("Docker takes no default profile from a file of ours")
    profile = tmp_path / "seccomp.json"
    deny = {"names": ["seccomp", "landlock_create_ruleset"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [deny]}))
    given = Path(os.environ.get("CONTAINERS_CONF") or Path("~/.config/containers/containers.conf").expanduser())
    text = given.read_text() if given.is_file() else ""
    section = "" if "[containers]" in text else "[containers]"
    line = f'[containers]\nseccomp_profile = "{profile}"'
    text = text.replace("[containers]", line) if not section else f"{text}\n{line}\n"
    (tmp_path / "containers.conf").write_text(text)
    monkeypatch.setenv("CONTAINERS_CONF", str(tmp_path / "containers.conf"))
    place = boxed()
    assert place.proof.level == "container"
    assert set(inside.WALLS) <= set(place.proof.refused)
    assert "open a file" not in place.proof.refused
    cells = (
        "import os\nos.open('/tmp/x', os.O_CREAT | os.O_WRONLY)",
        "import socket\ns = socket.socket()\ns.settimeout(2)\ns.connect(('1.1.1.1', 53))",
        "import os\nos.setuid(0)",
        "os.listdir('/rlm')",
    )
    written, connected, root, files = contract.run(corpus, *cells, place=place)
    assert "Read-only file system" in (written.error or "")
    assert "unreachable" in (connected.error or "")
    assert "not permitted" in (root.error or "")
    assert files.stdout == "[]\n"  # what was mounted is gone once the child is ready


def test_nothing_is_left_behind(
    engine: container.Engine, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy of the corpus is gone as soon as the REPL is there, the container when it is closed."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    async def main() -> None:
        place = boxed()
        repl = await place.open(corpus, None, contract.Model())
        assert os.listdir(tmp_path) == []  # noqa: PTH208
        await repl.execute("import threading\ndef spin():\n    while True: pass\nthreading.Thread(target=spin).start()")
        assert left(engine, os.getpid())
        await place.close()
        assert not left(engine, os.getpid())

    asyncio.run(main())


def test_a_start_that_is_cancelled_leaves_nothing(
    engine: container.Engine, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the corpus is copied, or the container starts, ends it and takes the copy away."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    async def main(wait_s: float) -> None:
        place = boxed()
        opening = asyncio.create_task(place.open(corpus, None, contract.Model()))
        await asyncio.sleep(wait_s)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await place.close()
        assert (os.listdir(tmp_path), left(engine, os.getpid())) == ([], "")  # noqa: PTH208

    for wait_s in (0.0, 0.002, 0.2):
        asyncio.run(main(wait_s))


def test_closing_ends_what_is_being_proved(
    engine: container.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the walls are tried: a thread waits for the container, and closing ends that too."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    async def main() -> None:
        place = boxed()
        proving = asyncio.create_task(place.prove())
        while not os.listdir(tmp_path):  # noqa: ASYNC110, PTH208
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        proving.cancel()
        await place.close()
        assert (os.listdir(tmp_path), left(engine, os.getpid())) == ([], "")  # noqa: PTH208
        with pytest.raises(asyncio.CancelledError):
            await proving

    asyncio.run(main())


_HOST = """
import asyncio, sys
from rlm_cli.builder import CorpusBuilder
from rlm_cli.sandbox import open_sandbox
async def main():
    builder = CorpusBuilder()
    with builder.document("a", "text") as document:
        document.write("a")
    place = open_sandbox("container", cell_timeout_s=60, repl_memory=1 << 28, context_memory=1 << 20, image=sys.argv[1])
    repl = await place.open(builder.finish(), None, None)
    print(repl._session.guest.process.pid, flush=True)
    await repl.execute("sum(range(10**12))")
asyncio.run(main())
"""


@pytest.mark.parametrize("client_too", [False, True])
def test_no_container_outlives_a_killed_host(engine: container.Engine, client_too: bool) -> None:
    """SIGKILL of the host, and of the engine's client with it, ends a container that sits in a loop in C."""
    with subprocess.Popen([sys.executable, "-c", _HOST, IMAGE], stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        client = int(host.stdout.readline())
        host.send_signal(signal.SIGKILL)
        if client_too:
            os.kill(client, signal.SIGKILL)
        host.wait()
    until = time.monotonic() + 20
    while left(engine, host.pid):
        assert time.monotonic() < until, "the container is still there"
        time.sleep(0.1)


def test_a_question_is_answered_in_a_container(engine: container.Engine, rlm: Rlm) -> None:
    """`rlm ask --sandbox container`, the image from the configuration; the plan, the result and doctor say the same."""
    configure(rlm, IMAGE)
    (rlm.home / "d.txt").write_text("The notice period is thirty days.\n")
    words = ("-m", "offline/extractive", "--mode", "rlm", "--sandbox", "container")
    ran = rlm("ask", *words, "--json", "What is the notice period?", "d.txt", env=CONFIGURED)
    found = json.loads(ran.out)
    assert (ran.code, "thirty days" in found["answer"]) == (0, True)
    assert (found["sandbox"]["name"], found["sandbox"]["level"]) == ("container", "linux-strict")
    assert "reach a network" in found["sandbox"]["proved"]
    plan = rlm("ask", *words, "-n", "What is the notice period?", "d.txt", env=CONFIGURED)
    assert "sandbox container (linux-strict)" in plan.out
    assert "reach a network" in plan.out
    doctor = rlm("doctor", env={**CONFIGURED, "RLM_SANDBOX": "container"})
    assert f"ok    container      {engine.name} {engine.version}" in doctor.out
    assert "reach a network" in doctor.out


def test_an_image_that_is_not_there_is_not_pulled(engine: container.Engine, rlm: Rlm) -> None:
    """Exit 7 with the line to copy; doctor says it too."""
    configure(rlm, "localhost/no-such-image:1")
    (rlm.home / "d.txt").write_text("Text.\n")
    words = ("-m", "offline/extractive", "--mode", "rlm", "--sandbox", "container")
    ran = rlm("ask", *words, "Q?", "d.txt", env=CONFIGURED)
    assert (ran.code, ran.out) == (7, "")
    assert f"{engine.name} pull localhost/no-such-image:1" in ran.err
    doctor = rlm("doctor", env={**CONFIGURED, "RLM_SANDBOX": "container"})
    assert doctor.code == 1
    assert f"try: {engine.name} pull localhost/no-such-image:1" in doctor.out


def configure(rlm: Rlm, image: str) -> None:
    file = rlm.home / ".config" / "rlm" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(f"container_image = '{image}'\n")


# ── without an engine ───────────────────────────────────────────────────────────────────────────────────────────────


def test_without_an_engine_it_says_what_to_do(rlm: Rlm, tmp_path: Path) -> None:
    """Exit 7, what each engine said, what to try."""
    (rlm.home / "d.txt").write_text("Text.\n")
    words = ("-m", "offline/extractive", "--mode", "rlm", "--sandbox", "container")
    ran = rlm("ask", *words, "Q?", "d.txt", env={"PATH": str(tmp_path)})
    assert (ran.code, ran.out) == (7, "")
    assert "docker is not installed; podman is not installed" in ran.err
    assert "install Podman" in ran.err
    assert "note  container" in rlm("doctor", env={"PATH": str(tmp_path)}).out


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("docker", "expected"),
    [
        ("echo 28.2", "docker"),
        ("echo Cannot connect to the Docker daemon >&2; exit 1", "podman"),
        ('test "$1" = --version && echo podman version 4.3 || echo 4.3', "docker"),
    ],
    ids=["daemon answers", "no daemon", "podman under another name"],
)
def test_docker_is_taken_where_its_daemon_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, docker: str, expected: str
) -> None:
    """Else Podman; and Podman is known under Docker's name, as it takes other options."""
    program(tmp_path, "docker", docker)
    program(tmp_path, "podman", "echo 4.3")
    monkeypatch.setenv("PATH", str(tmp_path))
    engine = container.find_engine()
    assert engine.name == expected
    assert engine.podman == ("28.2" not in docker)


def test_an_empty_image_is_an_error_of_the_configuration() -> None:
    """Never a process instead."""
    with pytest.raises(ConfigError):
        open_sandbox("container", cell_timeout_s=1, repl_memory=1 << 28, context_memory=1 << 20, image="")


def test_an_open_container_is_refused() -> None:
    """Process 1 tries the walls: here, outside of any container, it starts nothing and names what is open."""
    told = json.dumps({"corpus": False, "environment": {"PATH": "/usr/bin"}})
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", inside.__file__, told],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("the container is not closed: code could ")
    assert "gain privileges" in done.stderr
    if os.getuid() == 0:
        assert "be root, hold a capability" in done.stderr
        assert "write a file" in done.stderr


def test_an_older_python_gets_as_far_as_the_message() -> None:
    """Process 1 and all it loads before it says which Python is wanted are written in the Python of 2019."""
    ast.parse(Path(inside.__file__).read_text(encoding="utf-8"), feature_version=(3, 8))


def test_what_is_mounted_can_be_read_by_nobody(corpus: Corpus, tmp_path: Path) -> None:
    """Whatever the umask is: the guest's files and the corpus whole, behind a private folder; nothing of ours else."""
    before = os.umask(0o077)
    try:
        mounted = container.fill(tmp_path, corpus.fd)
    finally:
        os.umask(before)
    files = {path.relative_to(mounted).as_posix(): path for path in mounted.rglob("*") if path.is_file()}
    assert {"corpus", "rlm_cli/corpus.py", "rlm_cli/sandbox/inside.py", "rlm_cli/lazy/text.py"} <= set(files)
    assert not any("cli/app.py" in name or "models/" in name for name in files)
    assert all(path.stat().st_mode & 0o777 == 0o444 for path in files.values())
    assert files["corpus"].stat().st_size == os.fstat(corpus.fd).st_size
