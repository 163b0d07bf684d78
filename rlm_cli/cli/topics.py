"""`rlm help TOPIC`: what does not fit into the help of an option. A topic is a page of plain text.

Where there is a table the page is made of it: exit codes, variables, settings, the schema of the result. What is prose
here is what no table says: what the sandbox promises and what it does not, what a model finds in the REPL.
"""

from __future__ import annotations

import difflib
import json
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

from ..errors import UsageError
from ..settings import Settings, helps, spelling_of, variable
from .commands import TOPICS, exit_codes, shown, variables
from .configuration import say

WIDTH = 96
Page = Iterator[str]
"""Lines."""
Rows = tuple[tuple[str, str], ...]
"""Names and what they mean."""


def help_(arguments: list[str], options: dict[str, Any]) -> int:
    """Print a topic, or what topics there are. Raises `UsageError` for a word that is none."""
    if not arguments:
        for line in _rows(TOPICS):
            say(line)
        say()
        say("rlm help TOPIC shows one; rlm -h the commands; rlm COMMAND -h the options of one.")
        return 0
    topic = arguments[0]
    pages: dict[str, Callable[[], Page]] = {
        "environment": _environment,
        "exit-codes": _exit_codes,
        "output": _output,
        "sandbox": _sandbox,
        "config": _config,
        "repl": _repl,
        "models": _models,
    }
    if topic not in pages:
        near = difflib.get_close_matches(topic, pages, n=1)
        hint = f"did you mean: rlm help {near[0]}" if near else f"rlm {topic} -h, if it is a command"
        raise UsageError(f"there is no topic {topic!r}", why=f"there are {', '.join(pages)}", hint=hint)
    say("\n".join(pages[topic]()).rstrip("\n"))
    return 0


def _text(*paragraphs: str) -> Page:
    """Paragraphs, wrapped; after each a blank line."""
    for paragraph in paragraphs:
        yield from _wrapped(paragraph, WIDTH)
        yield ""


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False) or [""]


def _rows(pairs: Rows) -> Page:
    """A name and its help in two columns; the name on its own line where it is long."""
    width = min(max(len(name) for name, _ in pairs), 24)
    for name, help_text in pairs:
        indent = " " * (width + 4)
        lines = _wrapped(help_text, WIDTH - len(indent))
        if len(name) > width:
            yield f"  {name}"
            yield indent + lines[0]
        else:
            yield f"  {name:<{width}}  {lines[0]}"
        yield from (indent + line for line in lines[1:])


def _setting(name: str) -> tuple[str, str]:
    """A setting and its help, with the built-in value."""
    spelling = spelling_of(name)
    value = "" if spelling.kind == "table" else f" [{shown(getattr(Settings(), name), spelling)}]"
    return name, helps()[name] + value


# ── made of tables ──────────────────────────────────────────────────────────────────────────────────────────────────


def _environment() -> Page:
    yield from _text(
        "Every setting that can be configured is a variable too: RLM_ and its name in capitals. A flag wins over the "
        "variable, the variable over the files. In a list, values are separated by newlines. Keys of model providers "
        "are read from their usual variables, like ANTHROPIC_API_KEY.",
    )
    names = [field.name for field in fields(Settings)]
    ours = [n for n in names if spelling_of(n).configurable and spelling_of(n).kind != "table"]
    yield from _rows(
        tuple((variable(n), spelling_of(n).flags[-1] if spelling_of(n).flags else helps()[n]) for n in ours)
    )
    yield ""
    yield from _rows(variables())


def _exit_codes() -> Page:
    yield from _rows(exit_codes())
    yield ""
    yield from _text("Where several apply: 130 and 143 before 70, before 3, 5 and 7, before 6, before 1, before 0.")


def _output() -> Page:
    from ..result_schema import result_schema

    yield json.dumps(result_schema(), indent=2)


def _models() -> Page:
    from ..models.listing import default_models
    from ..models.servers import KINDS

    yield from _text(*WHICH_MODEL)
    yield "Default models, by the key that is there; the first line that has one decides:"
    for name, places, root, sub in default_models():
        yield f"  {name:<11} {places}"
        yield f"  {'':<11} {root}, sub-calls by {sub}" if sub != root else f"  {'':<11} {root}"
    yield ""
    yield "Servers of your own that rlm models and rlm doctor look for:"
    yield from _rows(tuple((kind.name, f"{kind.address}, -m {kind.provider}/NAME") for kind in KINDS))
    yield ""
    yield from _text(*OWN_SERVERS)
    yield "rlm models --json, rlm.models/1: every key is always there, null where nothing is known."
    yield from _rows(LISTED)


WHICH_MODEL = (
    "A model is provider/model in litellm's spelling, the NAME of a [models.NAME] in the configuration, or "
    "offline/extractive. The first that says one decides: --model, RLM_MODEL, the configuration, the first provider "
    "below whose key is there. Without any of them offline/extractive stands in, which is no language model: it quotes "
    "the sentences that match best, and says so. With CI set, -e, --strict, --schema or --json it must be named, or "
    "the exit code is 3. A model that was named and cannot be used is an error, never replaced by another one.",
    "rlm models shows what can be used, rlm models NAME one model and why it cannot be used, --check makes one call of "
    "a few tokens.",
)
OWN_SERVERS = (
    "An address that the environment names is asked instead: OLLAMA_HOST, OLLAMA_API_BASE, LM_STUDIO_API_BASE, "
    "LLAMAFILE_API_BASE, HOSTED_VLLM_API_BASE. rlm ask looks for no server: it would hand documents to whatever "
    "listens there. --local refuses every model whose address is not this machine's own.",
    "Ollama cuts a longer prompt than its num_ctx in silence. rlm sends num_ctx with every request, in steps from need "
    "up to the model's window, which is 8,192 tokens unless [models.NAME] says another. Whatever server: one that "
    "counts far fewer tokens than it was sent has cut the prompt; the call fails with the notice prompt_truncated.",
)
LISTED: Rows = (
    ("schema", "rlm.models/1"),
    ("default", "What answers a question that names no model: name, sub, origin, fallback (no language model)."),
    ("models[]", "name, origin (default, configuration, named, offline), provider, endpoint, key {present, origin, "
                 "needed}, window, max_output, price {input, cached, cache_write, output} in USD per million tokens, "
                 "tools, schema, reasoning, loopback, transport, usable, problem {message, why, hint}."),
    ("without_key[]", "Providers that lack a key only: provider, variables, root, sub."),
    ("servers[]", "Those that answer: kind, address, wants_key, models[] {name, window, line to copy}."),
    ("check", "With --check: name, endpoint, ok, seconds, usage, cost_usd, error {code, message, hint}."),
)  # fmt: skip


def _config() -> Page:
    yield from _text(
        "Where a setting gets its value, the first that has one: the command line; RLM_ variables; the project's file, "
        "which is rlm.toml or [tool.rlm] in pyproject.toml, the nearest from the working directory upward; your own "
        "file, whose place rlm config path prints; the built-in value. rlm config origins prints every setting with "
        "its value and where it came from. --config FILE replaces the files, RLM_NO_CONFIG=1 ignores them. A "
        "configuration inside a source folder is never read.",
    )
    allowed = {
        how: [f.name for f in fields(Settings) if spelling_of(f.name).project == how] for how in ("yes", "lower")
    }
    yield from _text(
        f"A project's file is somebody else's. It may set {', '.join(allowed['yes'])}, and lower "
        f"{', '.join(allowed['lower'])}. Anything else in it is an error.",
        "A key is the long name of an option with underscores; --glob and --type are lists and called globs and types.",
    )
    yield EXAMPLE
    yield "Settings without an option:"
    yield ""
    yield from _rows(tuple(_setting(field.name) for field in fields(Settings) if not spelling_of(field.name).flags))


EXAMPLE = """\
    model = "anthropic/..."
    max_budget = 2.00
    fallback = ["openai/..."]                         # asked instead, once the model fails for good

    [keys]
    anthropic = { command = "pass show anthropic" }   # or { env = "MY_KEY" }; never the key itself

    [models.fast]                                     # then: -m fast
    model = "azure/my-deployment"
    api_base = "https://..."
    window = 128000
    price = { input = 0.25, cached = 0.03, output = 2.0 }   # USD per million tokens
    rpm = 500                                         # requests a minute; tpm: tokens a minute
"""


# ── prose ───────────────────────────────────────────────────────────────────────────────────────────────────────────


SANDBOXES: Rows = (
    ("process", "A process of its own that locks itself down; auto is this one. Refused below a level the kernel "
                "enforces."),
    ("container", "The same, in Docker where its daemon answers, else in Podman: no network, a read-only root without "
                  "tmpfs, no capability, nobody's user, bounded memory and processes. The image is container_image; it "
                  "is never pulled unasked. What your engine needs on your machine, its own configuration says."),
    ("soft", "No boundary: a hook that stops accidents. Code that means to gets around it and has your rights."),
    ("none", "Nothing. Code of the model has your rights."),
)  # fmt: skip
LEVELS: Rows = (
    ("linux-strict", "seccomp with a list of what is allowed (and Landlock, where the kernel has it): no files, no "
                     "network, no processes, no signals to others."),
    ("macos-seatbelt", "A profile as sandbox-exec takes it: denied is what is not allowed, with the same attempts as "
                       "proof. Memory is not bounded there."),
    ("container", "The container's walls hold, those within it do not: code can read the image's files and start "
                  "processes in it, and reaches nothing else."),
    ("soft", "As above: not enforced."),
    ("none", "As above: not enforced."),
)  # fmt: skip
PROMISED = (
    "The code reads no file of yours, no key and no variable of your environment; it reaches no network; it starts no "
    "program and signals none; it cannot use more memory or time than the settings say; it does not outlive the run; "
    "and what it says to rlm is checked, never run. Every level says what was tried and refused: in the plan (-n), in "
    "the trace, in --json (sandbox.proved) and in rlm doctor."
)
NOT_PROMISED: Rows = (
    ("bugs of the kernel", "What breaks the kernel, or the engine of a container, breaks the sandbox."),
    ("what is visible", "The name and version of the system (uname), the number of processors, the parent's process "
                        "id, the time."),
    ("processor time", "There is no quota: one REPL may keep one processor busy until its limit."),
    ("side channels", "Timing and caches are shared with everything else on the machine."),
    ("the answer", "A document can steer what the model answers. Quotes are checked, conclusions are not."),
    ("what you let in", "Models you name see the text that code sends them: that is what sub-calls are for."),
)  # fmt: skip
RUN_WHERE: Rows = (
    ("Linux, x86-64", "Every test is run there, also where the kernel takes no filter."),
    ("Linux, aarch64", "The table of system calls is written from the kernel's headers and was not run."),
    ("macOS", "Never run on a Mac. The profile is written from documentation; the self-test decides on yours."),
    ("Docker, Podman", "Run with Docker 20.10 and Podman 4.3 on runc as root, and with Podman as an "
                       "ordinary user; desktop versions not."),
    ("Windows", "Not here: use WSL, or a container."),
)  # fmt: skip


def _sandbox() -> Page:
    yield from _text(
        "Documents are not trusted, they steer the model, and the model writes Python. That code runs in a sandbox, "
        "which is chosen with --sandbox. A child locks itself down, tries what must not work, and only what it saw "
        "refused is claimed.",
        "soft and none have to be asked for by name: on the command line, in RLM_SANDBOX or in your own file, never a "
        "project's. Every run that uses them says so.",
    )
    for title, rows in (("Sandboxes", SANDBOXES), ("Levels, as proved", LEVELS)):
        yield f"{title}:"
        yield from _rows(rows)
        yield ""
    yield "Promised at a level the kernel enforces (the first three):"
    yield from (f"  {line}" for line in _wrapped(PROMISED, WIDTH - 2))
    yield ""
    for title, rows in (("Not promised", NOT_PROMISED), ("What was run where", RUN_WHERE)):
        yield f"{title}:"
        yield from _rows(rows)
        yield ""
    yield "Settings:"
    names = ("sandbox", "container_image", "cell_timeout", "repl_memory", "context_memory")
    yield from _rows(tuple(_setting(name) for name in names))


NAMES: Rows = (
    ("context", "The whole text. A plain str as long as that fits context_memory, above it a lazy text with the same "
                "slicing, len, in, find, count, splitlines; each of several documents begins with a header line."),
    ("docs", "A list, one item a document, read when it is used: .path, .text, .pages, .lines, .chars; "
             "docs[\"path\"] works."),
    ("re", "The module; its functions take the lazy text too."),
    ("llm_query(prompt, context=None, model=None)", "One sub-call; returns text."),
    ("llm_query_batched(prompts, contexts=None, model=None)", "Many at once, results in order. When some fail it "
     "raises after all have ended; what is finished is in _results and is not paid for again."),
    ("rlm_query, rlm_query_batched", "The same, by a child with a REPL of its own where --max-depth allows."),
    ("FINAL(value, quotes=[...])", "Ends the call: text, number, list, dict, or None for: not in the documents. A "
                                   "quote is a string or (\"path\", \"quote\"); rlm looks each of them up."),
    ("FINAL_VAR(\"name\")", "Ends the call with a variable."),
    ("SHOW_VARS()", "What there is, with types."),
)  # fmt: skip


def _repl() -> Page:
    yield from _text(
        "What a model finds in the Python session that its code runs in. Variables live from cell to cell; a name of "
        "these that a cell overwrites is there again in the next.",
    )
    yield from _rows(NAMES)
    yield ""
    s = Settings()
    yield from _text(
        "The standard library can be imported, nothing else. open, input, os.environ and the network do not work, and "
        "say what does. Top-level await and threads work; processes are threads. Of what a cell prints, the first and "
        "the last 5,000 characters are shown to the model.",
        f"A cell may compute for {s.cell_timeout:g} s (cell_timeout); waiting for sub-calls does not count. Then it is "
        "interrupted and keeps its variables. What does not stop, or crashes, costs its session: in a fresh one the "
        "cells that had ended by themselves run again, their sub-calls answered from memory, and the model is told "
        "what is back and what is gone.",
    )
