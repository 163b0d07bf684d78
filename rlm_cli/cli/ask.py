"""`rlm ask`: the command line's words into a `Job`, a view beside the run, the answer on stdout at its end.

stdout is the answer and nothing else: the view is off the screen before the first byte of it is written. Signals are
taken by the event loop: the first one cancels the run, which then closes its journal and says how far it came; the
second ends the process at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .. import prepare, question, read
from ..errors import UsageError
from ..prepare import Job
from ..result import Result, Status
from ..settings import Settings
from ..trace import Written
from ..views import View, Wishes, choose_view, use_color
from ..views.answer import answer_text, summary_line
from ..views.error import error_text
from .configuration import state_folder
from .plan import plan_text

TICKS_PER_SECOND = 8
NOT_FOUND = "The documents do not answer this question."
"""What stdout says for an answer of None; `status` and `found` say it to programs."""


def run(asked: str | None, sources: list[str], settings: Settings, origins: Mapping[str, str]) -> int:
    """Answer, or show the plan with `--dry-run`; returns the exit code.

    `asked` is None with `--question-file`. Raises `RlmError` for what is wrong before a run begins, `OSError` when
    stdout cannot be written.
    """
    job = job_of(asked, sources, settings, origins)
    wishes = Wishes(settings.progress, settings.quiet, settings.verbose, settings.color)
    view = choose_view(wishes, sys.stderr)
    with _closing(view):
        if settings.dry_run:
            return _plan(job, view)
        result = _ask(job, view)
    return _show(job, result)


def job_of(asked: str | None, sources: list[str], settings: Settings, origins: Mapping[str, str]) -> Job:
    """The job, with every `-` and every default source decided. Raises `UsageError`."""
    readers = [settings.question_file, settings.files_from, *dict.fromkeys(sources)].count("-")
    if readers > 1:
        raise UsageError("stdin can be read once only", hint="use - for the question, the list or the documents")
    if settings.question_file is not None:
        asked = _question(settings.question_file)
    if asked is None or not asked.strip():
        raise UsageError("the question is empty", hint='rlm ask "Which …?" FILE')
    if settings.files_from is not None:
        sources = [*sources, *read.read_list(settings.files_from, sys.stdin.buffer)]
    if not sources and settings.files_from is None and readers == 0:
        if not _has_input(sys.stdin):
            raise UsageError("no documents", why="no source was named and nothing is piped in", hint='rlm ask "…" FILE')
        sources = ["-"]
    careful = bool(os.environ.get("CI")) or settings.json or settings.jsonl
    stdin: BinaryIO | None = sys.stdin.buffer if sys.stdin is not None else None
    return Job(asked.strip(), tuple(sources), settings, origins, dict(os.environ), stdin, careful)


def _question(path: str) -> str:
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"the question file {path} cannot be read", why=error.strerror or "") from error
    return data.decode("utf-8-sig", "replace")


def _has_input(stream: object) -> bool:
    """A pipe, a socket or a regular file. Not a terminal and not /dev/null."""
    try:
        mode = os.fstat(stream.fileno()).st_mode  # type: ignore[attr-defined]
    except (OSError, ValueError, AttributeError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISREG(mode)


@contextmanager
def _closing(view: View) -> Iterator[None]:
    try:
        yield
    finally:
        view.close()


def _ask(job: Job, view: View) -> Result:
    """Run the question with a view beside it."""
    stopped = signal.SIGINT

    def reader(written: Written) -> None:
        view.on(written.stamped)
        if job.settings.jsonl and job.settings.output is None:
            for line in written.lines:
                sys.stdout.write(line + "\n")
            sys.stdout.flush()

    async def main() -> Result:
        asking = asyncio.ensure_future(
            question.ask(job, state=state_folder(), readers=[reader], stopped_by=lambda: stopped)
        )
        with _signals(asking, view, set_stopped):
            ticking = asyncio.ensure_future(_tick(view))
            try:
                return await asking
            finally:
                ticking.cancel()

    def set_stopped(number: signal.Signals) -> None:
        nonlocal stopped
        stopped = number

    return asyncio.run(main())


@contextmanager
def _signals(asking: asyncio.Future[Result], view: View, stopped: object) -> Iterator[None]:
    """The first signal cancels the run, the second ends the process at once."""
    loop = asyncio.get_running_loop()
    seen: list[signal.Signals] = []

    def take(number: signal.Signals) -> None:
        if seen:
            view.close()
            os._exit(128 + number)
        seen.append(number)
        stopped(number)  # type: ignore[operator]
        asking.cancel()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
            loop.add_signal_handler(number, take, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _tick(view: View) -> None:
    while True:
        view.tick()
        await asyncio.sleep(1 / TICKS_PER_SECOND)


def _plan(job: Job, view: View) -> int:
    """`--dry-run`: read, plan, send nothing."""

    async def main() -> str:
        models = prepare.connect_models(job)
        documents = await prepare.read_documents(job, lambda event, call: None)
        mode = prepare.choose_mode(job, documents, models.root)
        sandbox = prepare.open_sandbox(job)
        return plan_text(job, models, documents, mode, f"{sandbox.name} ({sandbox.level})")

    text = asyncio.run(main())
    view.close()
    sys.stdout.write(text)
    return 0


def _show(job: Job, result: Result) -> int:
    """The answer on stdout (or in `--output`), what else there is to say on stderr; returns the exit code."""
    s = job.settings
    if s.json or (s.jsonl and s.output):
        _put(json.dumps(result.to_json(), ensure_ascii=False) + "\n", s.output)
    elif not s.jsonl and result.error is None and result.status is not Status.STOPPED:
        color = s.output is None and use_color(s.color, sys.stdout, os.environ)
        text = answer_text(result, s.cite, color)
        _put(text or (NOT_FOUND + "\n" if result.found is False else ""), s.output)
    color = use_color(s.color, sys.stderr, os.environ)
    if result.failure is not None:
        sys.stderr.write(error_text(result.failure, color))
    if not s.quiet and (result.usage.calls or result.error is None):
        sys.stderr.write(summary_line(result) + "\n")
    return result.exit_code


def _put(text: str, output: str | None) -> None:
    """Write to stdout, or to a file: whole or not at all."""
    if output is None:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    target = Path(output)
    try:
        if target.exists() and not target.is_file():  # /dev/stderr, a FIFO: nothing to replace
            target.write_text(text, encoding="utf-8")
            return
        descriptor, draft = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            Path(draft).chmod(0o666 & ~_umask())
            Path(draft).replace(target)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UsageError(
            f"{output} cannot be written", why=error.strerror or "", hint="the run is kept: rlm show"
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
