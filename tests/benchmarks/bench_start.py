"""How long the command line takes to do nothing, in multiples of bare Python: `python tests/benchmarks/bench_start.py`.

Minima of several processes, because machines are noisy; ratios, because machines differ.
"""

from __future__ import annotations

import subprocess
import sys
import time

CASES = (
    ("--version", 2, ["--version"]),
    ("usage error", 8, ["ask", "--bogus"]),
    ("--help", 10, ["--help"]),
    ("ask --help", 10, ["ask", "--help"]),
    ("completion bash", 10, ["completion", "bash"]),
)


def seconds(command: list[str], times: int = 12) -> float:
    """The least wall time of `times` runs."""
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        spent.append(time.perf_counter() - start)
    return min(spent)


def main() -> None:
    bare = seconds([sys.executable, "-c", "pass"])
    print(f"{'python -c pass':<16} {bare * 1e3:6.1f} ms")
    for name, at_most, words in CASES:
        took = seconds([sys.executable, "-c", "from rlm_cli.__main__ import main; main()", *words])
        print(f"{name:<16} {took * 1e3:6.1f} ms   {took / bare:4.1f} x   (at most {at_most} x)")


if __name__ == "__main__":
    main()
