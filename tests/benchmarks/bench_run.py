"""A whole run, measured: host overhead an iteration, throughput of sub-calls, memory and time to the first request.

    python tests/benchmarks/bench_run.py overhead
    python tests/benchmarks/bench_run.py subcalls [--count 200 --delay 0.2 --jobs 16]
    python tests/benchmarks/bench_run.py memory [--sizes 1 100 1000]      MB of text; then 200 MB by a pipe, 10,000 files

Runs the installed `rlm` against the scripted server on loopback. References, in the same run: for the overhead none
(milliseconds from a reply to the next request, the cell included), for sub-calls the floor of waves x delay, for
times to the first request a bare `python -c pass`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripted import Reply, ScriptedServer

RLM = Path(sys.executable).with_name("rlm")


def block(code: str) -> str:
    return f"```repl\n{code}\n```"


def is_root(request: dict[str, Any]) -> bool:
    return bool(request["messages"][0]["role"] == "system")


def ask(
    server: ScriptedServer, home: Path, *words: str, stdin: Any = subprocess.DEVNULL
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Run one question; its trace, and the peak memory (kB) of the host and of its largest child."""
    env = server.env | {"HOME": str(home)}
    command = [
        str(RLM),
        "ask",
        "-m",
        "openai/scripted",
        "-b",
        "none",
        "--mode",
        "rlm",
        "-q",
        "--trace",
        str(home / "t"),
        *words,
    ]
    running = subprocess.Popen(command, env=env, stdin=stdin, stdout=subprocess.DEVNULL)
    peaks = {"host": 0, "repl": 0}
    while running.poll() is None:
        watch(running.pid, peaks)
        time.sleep(0.005)
    assert running.returncode == 0, running.returncode
    return [json.loads(line) for line in (home / "t").read_text().splitlines()], peaks


def watch(pid: int, peaks: dict[str, int]) -> None:
    """Keep the highest resident (host) and anonymous (REPL) memory seen, in kB."""
    peaks["host"] = max(peaks["host"], status(pid).get("RssAnon", 0))
    for child in children(pid):
        for repl in children(child):  # a fork of it
            peaks["repl"] = max(peaks["repl"], status(repl).get("RssAnon", 0))


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def status(pid: int) -> dict[str, int]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith("kB")}


def overhead(home: Path) -> None:
    (home / "a.txt").write_text("some text\n" * 5_000)
    replies = [block(f"print({n})") for n in range(100)] + [block("FINAL(1)")]
    with ScriptedServer(replies) as server:
        trace, _ = ask(server, home, "--max-iterations", "200", "Q?", str(home / "a.txt"))
        arrived = [request.at for request in server.requests]
    model = {event["seq"]: event["duration_s"] for event in trace if event["type"] == "completion.finished"}
    rounds = [b - a for a, b in pairwise(arrived[10:])]
    inside = statistics.median(list(model.values())[10:])
    print(f"a round (request to request): median {statistics.median(rounds) * 1e3:.1f} ms")
    print(f"of it in litellm and HTTP:    median {inside * 1e3:.1f} ms")
    print(f"host overhead an iteration:   {(statistics.median(rounds) - inside) * 1e3:.1f} ms")


def subcalls(home: Path, count: int, delay: float, jobs: int) -> None:
    (home / "a.txt").write_text("some text\n" * 5_000)
    code = block(f"FINAL(len(llm_query_batched([f'{{i}} ' + context[:2000] for i in range({count})])))")
    settled: list[float] = []
    lock = threading.Lock()

    def answer(request: dict[str, Any]) -> Reply:
        if is_root(request):
            return Reply(code)
        with lock:
            settled.append(time.monotonic() + delay)
        return Reply("ok", delay_s=delay)

    with ScriptedServer(answer) as server:
        trace, _ = ask(server, home, "-j", str(jobs), "--max-subcalls", str(count), "Q?", str(home / "a.txt"))
        sent = [request.at for request in server.requests if not is_root(request.body)]
    done = [e["t"] for e in trace if e["type"] == "completion.finished" and e["purpose"] == "sub"]
    begun = [e["t"] for e in trace if e["type"] == "completion.started" and e["purpose"] == "sub"]
    floor = -(-count // jobs) * delay
    took = max(done) - min(begun)
    print(f"{count} sub-calls of {delay * 1e3:.0f} ms at -j {jobs}: {took:.2f} s")
    print(f"that is {took / floor:.3f} x the floor of {floor:.2f} s")
    print(f"as the server saw it: {max(settled) - min(sent):.2f} s")


def memory(home: Path, sizes: list[int]) -> None:
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    bare = time.monotonic() - started

    def measure(name: str, *words: str, stdin: Any = subprocess.DEVNULL) -> None:
        replies = [block("print(len(context), context.count('4711'))"), block("FINAL(docs[0].lines[-1])")]
        with ScriptedServer(replies) as server:
            begun = time.monotonic()
            _, peaks = ask(server, home, "Q?", *words, stdin=stdin)
            first = server.requests[0].at - begun
        print(
            f"{name:>14}: first request after {first:.2f} s ({first / bare:.0f} x python -c pass),"
            f" host {peaks['host'] / 1024:.0f} MB, REPL {peaks['repl'] / 1024:.0f} MB private"
        )

    for size in sizes:
        path = home / f"{size}.log"
        write_log(path, size)
        measure(f"{size} MB", str(path))
        path.unlink()
    path = home / "200.log"
    write_log(path, 200)
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as cat:
        measure("200 MB, a pipe", stdin=cat.stdout)
    for number in range(10_000):
        file = home / "files" / str(number % 100) / f"{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(LINE * 20)
    measure("10,000 files", str(home / "files"))


LINE = "2026-11-23T08:40:12Z host service[123]: a line of a log, as logs are, with some words — and a number 4711\n"


def write_log(path: Path, megabytes: int) -> None:
    with path.open("w") as file:
        for _ in range(megabytes):
            file.write(LINE * (1_000_000 // len(LINE.encode())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["overhead", "subcalls", "memory"])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--delay", type=float, default=0.2)
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 100, 1000])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        match given.what:
            case "overhead":
                overhead(home)
            case "subcalls":
                subcalls(home, given.count, given.delay, given.jobs)
            case "memory":
                memory(home, given.sizes)


if __name__ == "__main__":
    main()
