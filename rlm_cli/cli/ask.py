"""`rlm ask`: the command line's words into a `Job`, a view beside the run, the answer on stdout at its end.

stdout is the answer and nothing else: the view is off the screen before the first byte of it is written. Signals are
taken by the event loop: the first one cancels the run, which then closes its journal and says how far it came; the
second ends the process at once.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .. import prepare, question
from ..errors import RlmError, UsageError
from ..prepare import Job
from ..result import Result, Status
from ..settings import Settings
from ..trace import Written, write_whole
from ..views import View, Wishes, choose_view, use_color
from ..views.answer import answer_text, citation_lines, summary_line
from .configuration import cache_folder, state_folder
from .confirm import Confirmation
from .failure import say_error, tell, warn
from .sources import or_stdin, readers_of_stdin, with_list
from .watched import closing, tick, watched


def run(asked: str | None, sources: list[str], settings: Settings, origins: Mapping[str, str], for_real: str) -> int:
    """Answer, or show the plan with `--dry-run`; returns the exit code.

    `asked` is None with `--question-file`; `for_real` is the line to copy from a plan. Raises `RlmError` for what is
    wrong before a run begins, `OSError` when stdout cannot be written.
    """
    job = job_of(asked, sources, settings, origins)
    wishes = Wishes(settings.progress, settings.quiet, settings.verbose, settings.color)
    view = choose_view(wishes, sys.stderr)
    with closing(view):
        if settings.dry_run:
            return _plan(job, view, for_real)
        for flag, place in (("-o", settings.output), ("--trace", settings.trace)):
            _check_place(flag, place)
        stream = _Lines(to_stdout=settings.output is None) if settings.jsonl else None
        result = _ask(job, view, stream)
    return _show(job, result, stream)


def job_of(asked: str | None, sources: list[str], settings: Settings, origins: Mapping[str, str]) -> Job:
    """The job, with every `-` and every default source decided. Raises `UsageError`."""
    readers = readers_of_stdin(sources, settings)
    if settings.question_file is not None:
        asked = _question(settings.question_file)
    if asked is None or not asked.strip():
        raise UsageError("the question is empty", hint='rlm ask "Which …?" FILE')
    sources = with_list(sources, settings)
    earlier = None
    if settings.follow_up:
        if sources or settings.files_from is not None:
            why = "-c goes on with the documents of an earlier run"
            raise UsageError("-c takes no sources", why=why, hint="leave them out, or leave out -c")
        from ..earlier import load

        earlier = load(state_folder(), settings.run)
    elif settings.run is not None:
        raise UsageError("--run says which run -c goes on from", hint='rlm ask -c --run RUN "…"')
    else:
        sources = or_stdin(sources, settings, readers, 'rlm ask "…" FILE')
    careful = bool(os.environ.get("CI")) or settings.json or settings.jsonl
    stdin: BinaryIO | None = sys.stdin.buffer if sys.stdin is not None else None
    asked = asked.strip().encode("utf-8", "replace").decode()  # broken UTF-8 of an argument is not for a model
    return Job(
        asked, tuple(sources), settings, origins, dict(os.environ), stdin, earlier, cache_folder(), careful=careful
    )


def _question(path: str) -> str:
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"the question file {path} cannot be read", why=error.strerror or "") from error
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if wide else "utf-8-sig", "replace")


class _Lines:
    """The event stream of `--jsonl`: printed as it comes, or kept for `--output`."""

    def __init__(self, to_stdout: bool) -> None:
        self.kept: list[str] = []
        self.lost: OSError | None = None
        """Why stdout takes no more; the run is stopped then."""
        self._to_stdout = to_stdout

    def take(self, written: Written) -> bool:
        """False when it could not be written."""
        if not self._to_stdout:
            self.kept += written.lines
        elif self.lost is None:
            try:
                sys.stdout.write("".join(line + "\n" for line in written.lines))
                sys.stdout.flush()
            except OSError as error:
                self.lost = error
        return self.lost is None


def _ask(job: Job, view: View, stream: _Lines | None) -> Result:
    """Run the question with a view beside it. Raises the `OSError` of a `stream` that broke."""
    stopped = signal.SIGINT

    async def main() -> Result:
        def reader(written: Written) -> None:
            view.on(written.stamped)
            if stream is not None and not stream.take(written):
                asyncio.get_running_loop().call_soon(asking.cancel)  # not from within the run itself

        state = None if job.settings.no_save else state_folder()
        confirm = Confirmation(job.settings, view, sys.stdin, sys.stderr)
        asking = asyncio.ensure_future(
            question.ask(
                job,
                state=state,
                readers=[reader],
                stopped_by=lambda: stopped,
                confirm=confirm if confirm.may_ask(os.environ) else None,
            )
        )
        with _signals(asking, view, set_stopped):
            ticking = asyncio.ensure_future(tick(view, lambda: confirm.is_open))
            try:
                return await asking
            finally:
                ticking.cancel()

    def set_stopped(number: signal.Signals) -> None:
        nonlocal stopped
        stopped = number

    result = asyncio.run(main())
    if stream is not None and stream.lost is not None:
        raise stream.lost
    return result


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


def _plan(job: Job, view: View, for_real: str) -> int:
    """`--dry-run`: read, plan, send nothing."""
    from .. import contexts
    from ..forecast import forecast
    from .plan import plan_text

    async def main() -> str:
        models = prepare.connect_models(job)
        tools = await prepare.open_tools(job, models)
        try:
            documents = await watched(view, lambda emit: prepare.read_documents(job, emit))
        finally:
            if tools is not None:
                tools.close()
        mode = prepare.choose_mode(job, documents, models.root)
        if mode != "rlm":
            cost = forecast(job, models, documents, None)
            return plan_text(job, models, documents, mode, None, for_real, cost)
        call = contexts.root_call(job, models, documents, tools=tools.tools if tools is not None else ())
        cost = forecast(job, models, documents, call)
        sandbox = prepare.open_sandbox(job, tools)
        try:
            await sandbox.prove()
            return plan_text(job, models, documents, mode, sandbox, for_real, cost, tools)
        finally:
            await sandbox.close()

    text = asyncio.run(main())
    view.close()
    sys.stdout.write(text)
    return 0


def _show(job: Job, result: Result, stream: _Lines | None) -> int:
    """The answer on stdout (or in `--output`), what else there is to say on stderr; returns the exit code."""
    s = job.settings
    kept = f"rlm show {result.run} has the answer" if result.trace else ""
    if stream is not None:
        if s.output is not None:
            _put("".join(line + "\n" for line in stream.kept), s.output, kept)
    elif s.json:
        _put(json.dumps(result.to_json(), ensure_ascii=False) + "\n", s.output, kept)
    elif result.error is None and result.status is not Status.STOPPED:
        color = s.output is None and use_color(s.color, sys.stdout, os.environ)
        if text := answer_text(result, s.cite, color):
            _put(text, s.output, kept)
        if result.structured and s.cite and result.citations and not s.quiet:
            tell("\n".join(citation_lines(result.citations, use_color(s.color, sys.stderr, os.environ))) + "\n")
    if result.failure is not None:
        say_error(result.failure, s.color)
    if not s.quiet and (result.usage.calls or result.error is None):
        tell(summary_line(result) + "\n")
    if s.quiet:
        for notice in result.notices:
            if notice.code == "sandbox_weak" or (notice.code == "no_language_model" and s.model is None):
                warn(notice.message)  # what nobody asked for is said, however quiet
    return result.exit_code


def _check_place(flag: str, place: str | None) -> None:
    """Before anything is spent: a place that cannot take what is to be written. Raises `UsageError`."""
    if place is None:
        return
    target = Path(os.path.realpath(place))
    why = ""
    if target.is_dir():
        why = "it is a folder"
    elif not target.parent.is_dir():
        why = f"there is no folder {target.parent}"
    elif target.exists() and not target.is_file():
        pass  # a device or a pipe: nothing to put in its place
    elif not os.access(target.parent, os.W_OK) or (target.exists() and not os.access(target, os.W_OK)):
        why = "permission denied, there or in its folder"
    if why:
        raise UsageError(f"{flag}: {place} cannot be written", why=why, hint="name a file you may write")


def _put(text: str, output: str | None, kept: str) -> None:
    """Write to stdout, or to a file: whole or not at all. `kept`: where the answer is besides."""
    try:
        if output is None:
            sys.stdout.write(text)
            sys.stdout.flush()
        elif Path(output).exists() and not Path(output).is_file():  # /dev/stderr, a FIFO: nothing to replace
            Path(output).write_text(text, encoding="utf-8")
        else:
            write_whole(Path(output), text)
    except OSError as error:
        if output is not None:
            raise RlmError(f"{output} could not be written", why=error.strerror or "", hint=kept) from None
        if kept:
            error.add_note(kept)
        raise
