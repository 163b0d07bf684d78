"""How few tokens a text can take: `fewest_tokens` against real tokenizers, so that no honest server is called a liar.

    python tests/benchmarks/bench_cut.py [FOLDER]...

Tokenizers are the five that the installed litellm carries. Texts are those of the machine (packages, documentation,
translated manual pages, FOLDERs) and made ones: tables, logs, base64, runs of blanks, one word repeated. What counts is
the smallest ratio of tokens to `fewest_tokens`: below 0.9 there would be a false alarm.
"""

from __future__ import annotations

import base64
import gzip
import os
import random
import site
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from rlm_cli.models.cut import SLACK, fewest_tokens

PACKAGES = Path(site.getsitepackages()[0])
CARRIED = PACKAGES / "litellm/litellm_core_utils/tokenizers"
CHARS = 200_000
Count = Callable[[str], int]


def tokenizers() -> dict[str, Count]:
    os.environ["TIKTOKEN_CACHE_DIR"] = str(CARRIED)
    import tiktoken
    from tokenizers import Tokenizer

    found: dict[str, Count] = {}
    for name in ("cl100k_base", "o200k_base", "p50k_base"):
        encoding = tiktoken.get_encoding(name)
        found[name] = lambda text, encoding=encoding: len(encoding.encode_ordinary(text))
    for name in ("anthropic", "deepseek"):
        made = Tokenizer.from_file(str(CARRIED / f"{name}_tokenizer.json"))
        found[name] = lambda text, made=made: len(made.encode(text).ids)
    return found


def files(folder: Path, pattern: str, most: int = 40) -> str:
    paths = sorted(folder.rglob(pattern)) if folder.is_dir() else []
    parts = []
    for path in paths[:: max(len(paths) // most, 1)]:
        try:
            data = path.read_bytes()
            parts.append((gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8", "replace"))
        except (OSError, EOFError):
            continue
    return "".join(parts)


def texts() -> Iterator[tuple[str, str]]:
    pick = random.Random(1)
    yield "copyrights", files(Path("/usr/share/doc"), "copyright")
    yield "code", files(PACKAGES / "litellm", "*.py")
    yield "json", files(PACKAGES / "litellm", "*.json", 3)
    yield "html", files(Path("/usr/share/doc"), "*.html")
    for man in sorted(Path("/usr/share/man").iterdir()) if Path("/usr/share/man").is_dir() else ():
        if not man.name.startswith("man"):
            yield f"manual {man.name}", files(man, "*.[1-9]*")
    for folder in sys.argv[1:]:
        yield folder, files(Path(folder), "*")
    yield "base64", base64.b64encode(pick.randbytes(150_000)).decode()
    yield "hex", pick.randbytes(60_000).hex()
    yield "csv", "\n".join(f"{pick.randint(1, 10**6)},{pick.random():.3f},open,2024-01-01" for _ in range(4_000))
    stamp = "2026-01-01T10:11:12.345Z INFO [worker-7] handled GET /api/v1/items/"
    yield "log", "\n".join(f"{stamp}{pick.randint(1, 9999)} in {pick.randint(1, 300)} ms" for _ in range(2_000))
    yield "padded", "\n".join(" | ".join(f"{pick.choice(['ab', 'cd']):<40}" for _ in range(5)) for _ in range(700))
    yield "blanks", (" " * 200 + "x\n") * 1_000
    yield "dashes", ("-" * 80 + "\n") * 2_000
    yield "one letter", "a" * 150_000
    yield "one word", "the " * 50_000
    yield "one line", "All work and no play makes Jack a dull boy.\n" * 3_000
    yield "letters", "a b c d e f g " * 5_000
    yield "emoji", "".join(pick.choice("😀🎉👍🏽 ❤️") for _ in range(20_000))


def main() -> None:
    counts = tokenizers()
    worst = float("inf")
    print(f"{'text':<14}{'chars':>9}{'fewest':>9}  tokens by {', '.join(counts)}")
    for name, text in texts():
        text = text[:CHARS]
        if len(text) < 5_000:
            continue
        tokens = [count(text) for count in counts.values()]
        ratio = min(tokens) / max(fewest_tokens(text), 1)
        worst = min(worst, ratio)
        print(f"{name[-14:]:<14}{len(text):>9,}{fewest_tokens(text):>9,}  {tokens}  {ratio:.2f}")
    print(f"smallest ratio {worst:.2f}, alarm below {SLACK}")


if __name__ == "__main__":
    main()
