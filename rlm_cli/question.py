"""One question from the command line's words to a `Result`: prepare, run, check the quotes, report.

The only place where an exception becomes a status. Whatever happens, readers get a `run.finished` event whose result
is the object of `--json`; a run that got as far as its first request has a folder with the journal and `result.json`.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__, evidence, kept, models, prepare, prompts, read, trace
from .deadline import Deadline, now
from .documents import Documents
from .errors import InvalidAnswer, LimitReached, RlmError, internal
from .events import CitationChecked, NoticeGiven, RunFinished, RunStarted
from .ledger import StopReason
from .prepare import Job, Models
from .report import Ending, confined, limits_of, result_of
from .result import (
    Answer,
    Citation,
    Located,
    Result,
    answer_text,
)
from .run import Run
from .settings import shown_options, spelling_of, working_folder
from .stream import Reader, Stream

if TYPE_CHECKING:
    from .forecast import Forecast
    from .models.replies import Replies
    from .sandbox import Proof, Sandbox
    from .tools import Tools

Confirm = Callable[["Forecast"], Awaitable[bool]]
"""Whether to go on with a run that may cost so much."""
LOCATING_S = 30.0
"""For looking up all quotes of an answer; one takes milliseconds as a rule."""
CLOSING_S = 2.0
"""Seconds that connections get to close after an interrupt."""


async def ask(
    job: Job,
    *,
    state: Path | None = None,
    readers: Sequence[Reader] = (),
    stopped_by: Callable[[], int] | None = None,
    confirm: Confirm | None = None,
) -> Result:
    """Answer one question. Never raises for what can go wrong in a run: that is in the result.

    `state`: folder for the journal, None keeps nothing. `stopped_by`: the number of the signal that cancelled the
    surrounding `asyncio.Task`; where there is none, being cancelled is its caller's affair: the run is closed in order
    and `asyncio.CancelledError` goes on. `confirm` is asked before anything is sent; a run that it declines is stopped.
    """
    return await Question(job, state, Stream(readers), stopped_by, confirm).result()


class Question:
    """One question as far as it has come: what is not there yet, or never will be, is None."""

    def __init__(
        self,
        job: Job,
        state: Path | None,
        stream: Stream,
        stopped_by: Callable[[], int] | None,
        confirm: Confirm | None = None,
    ) -> None:
        self.job = job
        self.state = state
        self.stream = stream
        self.stopped_by = stopped_by
        self.confirm = confirm
        self.started = datetime.now(UTC)
        self.folder: Path | None = None
        self.mode = job.settings.mode
        self.models: Models | None = None
        self.documents: Documents | None = None
        self.sandbox: Sandbox | None = None
        self.tools: Tools | None = None
        self.proof: Proof | None = None
        self.replies: Replies | None = None
        self.run: Run | None = None

    async def result(self) -> Result:
        ending = Ending()
        try:
            await self._answer(ending)
        except asyncio.CancelledError:
            ending.signal = self.stopped_by() if self.stopped_by is not None else signal.SIGINT
        except RlmError as error:
            ending.error = error
        except Exception as error:  # a bug: the journal is closed all the same, and its place told
            ending.error = internal(error, self.trace_file)
        closed = False
        try:
            await asyncio.wait_for(self._close(), CLOSING_S)
            closed = True
        except (TimeoutError, asyncio.CancelledError):
            pass  # connections that do not close in time end with the process
        result = result_of(self, ending)
        if closed and self.documents is not None:
            self.documents.corpus.close()
        self.stream.emit(RunFinished(result.to_json()))
        self.stream.trace.close()
        if self.folder is not None:
            try:
                trace.write_result(self.folder, result.to_json())
            except OSError:
                pass  # the trace holds the same object, or its loss was already said
        if ending.signal is not None and self.stopped_by is None:
            raise asyncio.CancelledError
        return result

    async def _answer(self, ending: Ending) -> None:
        deadline = Deadline.after(self.job.settings.timeout)
        try:
            async with asyncio.timeout(deadline.left(landing=False)) as reading:
                # The command of a key may take a while.
                self.models = await asyncio.to_thread(prepare.connect_models, self.job)
                self.tools = await prepare.open_tools(self.job, self.models)
                warm_up = models.warm_up_for(self.models.all)
                secrets = models.secrets(self.models.all)
                self.documents = await prepare.read_documents(self.job, self.stream.emit, warm_up, secrets)
        except TimeoutError:
            if not reading.expired():
                raise
            raise LimitReached(
                StopReason.TIMEOUT,
                "the time limit was reached while the documents were read",
                hint="raise --timeout, or name fewer documents",
            ) from None
        self.mode = prepare.choose_mode(self.job, self.documents, self.models.root)
        call = None
        if self.mode == "rlm":
            from . import contexts

            earlier = self.job.earlier
            first, turns = (earlier.first_question, earlier.turns(self.job.question)) if earlier else ("", ())
            functions = self.tools.tools if self.tools is not None else ()
            call = contexts.root_call(self.job, self.models, self.documents, first, turns, functions)
            self.sandbox = prepare.open_sandbox(self.job, self.tools)
            self.proof = await self.sandbox.prove()
        if self.confirm is not None:
            from .forecast import forecast

            waited = now()
            if not await self.confirm(forecast(self.job, self.models, self.documents, call)):
                raise asyncio.CancelledError
            deadline = deadline.later(now() - waited)
        self._begin()
        self._keep()
        self.replies = prepare.replies(
            self.job, self.models, lambda told: self.stream.emit(NoticeGiven("cache_lost", told))
        )
        self.run = Run(
            self.job,
            self.models,
            self.documents,
            self.sandbox,
            self.stream,
            deadline,
            self.job.earlier,
            self.tools,
            self.replies,
        )
        answer = await self.run.answer(call)
        if answer.partial and not answer.problem and (self.job.settings.on_limit == "fail" or not answer.found):
            raise self._stopped(answer.stop_reason)
        ending.answer = answer
        ending.citations = await self._located(answer)
        await self.run.seen.settle()
        strict = self.job.settings.strict
        if problem := answer.problem or (evidence.unproved(ending.citations) if strict else ""):
            raise self._invalid(answer, problem)

    def _invalid(self, answer: Answer, problem: str) -> InvalidAnswer:
        """Why there is nothing on stdout; the value is in the JSON object."""
        assert self.models is not None
        value, why = answer.value, "; ".join(problem.splitlines())
        if not answer.problem or problem == evidence.NO_QUOTE:
            return InvalidAnswer("the answer is not proved as --strict wants it", value=value, why=why)
        wanted = "is neither yes nor no" if self.job.settings.exit_status else "does not satisfy the schema"
        hint = f"rlm show {self.folder.name} has the last answer" if self.folder else "--json shows the last answer"
        if self.models.root.name == models.OFFLINE:
            hint = f"{models.OFFLINE} copies sentences and makes no values: name a language model"
        return InvalidAnswer(f"the answer {wanted}", value=value, why=why, hint=hint)

    def _stopped(self, reason: StopReason) -> LimitReached:
        """Why there is nothing to hand over."""
        assert self.run is not None
        refusal = self.run.dispatch.refusals.get(reason)
        said = refusal.message if refusal is not None else f"{reason} was reached"
        if self.job.settings.on_limit != "fail":
            return LimitReached(reason, "no answer was found within the limits", why=said)
        raising = f"raise --{reason.replace('_', '-')}, or " if reason is not StopReason.NO_PROGRESS else ""
        return LimitReached(
            reason, said, why="--on-limit fail keeps what there is back", hint=f"{raising}leave out --on-limit fail"
        )

    def _begin(self) -> None:
        """The run is going to spend: from here on it has an id, a folder and a journal."""
        assert self.models is not None
        assert self.documents is not None
        s = self.job.settings
        lost = ""
        if self.state is not None:
            try:
                self.folder = self.state / "runs" / trace.new_run_id(self.state)
            except OSError as error:
                lost = f"no trace is kept: {self.state} cannot be written ({error.strerror})"
        name = self.folder.name if self.folder is not None else trace.run_id(time.time())
        extra = Path(s.trace) if s.trace else None
        secrets = frozenset(models.secrets(self.models.all))
        try:
            self.stream.trace = trace.open_run(self.folder, name, extra, secrets)
        except OSError as error:
            lost = f"no trace is kept: {self.folder} cannot be written ({error.strerror})"
            self.folder = None
            self.stream.trace = trace.open_run(None, name, extra, secrets)
        self.stream.emit(
            RunStarted(
                question=self.job.question,
                sources=tuple(map(read.shown, self.job.sources)),
                models={"root": self.models.root.name, "sub": self.models.sub.name},
                limits=limits_of(self),
                sandbox=confined(self),
                version=__version__,
                settings=self._settings(),
                folder=str(working_folder()),
                continues=self.job.earlier.run if self.job.earlier is not None else "",
                transports={model.name: model.transport for model in self.models.all if model.transport},
            )
        )
        self.stream.emit(self.documents.loaded())
        for notice in self._notices(lost):
            self.stream.emit(notice)

    def _keep(self) -> None:
        """Keep the documents for a follow-up question, beside the run."""
        assert self.documents is not None
        if self.folder is not None and self.job.cache is not None and self.job.earlier is None:
            assert self.models is not None
            copy, secrets = os.dup(self.documents.corpus.fd), models.secrets(self.models.all)
            folder, limit = prepare.corpora(self.job), self.job.settings.corpora_size
            asyncio.get_running_loop().run_in_executor(None, kept.keep, copy, folder, limit, secrets)

    def _notices(self, lost: str) -> list[NoticeGiven]:
        """What the user should know before anything is sent."""
        assert self.models is not None
        assert self.documents is not None
        found = [NoticeGiven("sink_lost", lost)] if lost else []
        found += [NoticeGiven("input", message) for message in self.documents.manifest.notices]
        if (earlier := self.job.earlier) is not None:
            found.append(NoticeGiven("continued", prompts.goes_on(earlier.run, len(earlier.cells))))
        if self.models.root.name == models.OFFLINE:
            how = models.HOW_TO_CHOOSE if self.models.fallback else ""
            found.append(
                NoticeGiven(
                    "no_language_model", f"no language model was used: sentences are ranked by words. {how}".strip()
                )
            )
        if self.job.settings.max_budget is not None:
            for model in self.models.all:
                if model.price is None:
                    found.append(
                        NoticeGiven(
                            "price_unknown",
                            f"the price of {model.name} is not known: --max-budget cannot hold it; --max-tokens can",
                        )
                    )
        if self.job.settings.mode == "auto" and self.mode == "direct":
            size = f"about {self.documents.tokens:,} tokens"
            found.append(NoticeGiven("direct_mode", f"the text is short ({size}): one call with all of it"))
        if self.proof is not None:
            from .sandbox import KERNEL_ENFORCED

            if self.proof.level not in KERNEL_ENFORCED:
                told = f"sandbox {self.proof.level}: code of the model runs without the kernel's walls"
                found.append(NoticeGiven("sandbox_weak", told))
        if self.tools is not None:
            told = f"tools run outside the sandbox, with your rights: {self.tools.listed()}"
            found.append(NoticeGiven("tools_outside", told))
        return found

    async def _located(self, answer: Answer) -> tuple[Citation, ...]:
        """The quotes, looked up by the host."""
        assert self.documents is not None
        if not (self.job.settings.cite or self.job.settings.strict):
            return ()
        corpus = self.documents.corpus
        citations = []
        until = time.monotonic() + LOCATING_S
        for n, quote in enumerate(answer.quotes, 1):
            if time.monotonic() > until:
                told = f"quotes from [{n}] on were not looked up: it took more than {LOCATING_S:.0f} s"
                self.stream.emit(NoticeGiven("quotes_unchecked", told))
                citations += [Citation(m, q.text, Located.NO) for m, q in enumerate(answer.quotes[n - 1 :], n)]
                break
            citations.append(await asyncio.to_thread(evidence.locate, corpus, quote, n))
        for c in citations:
            event = CitationChecked(c.n, c.quote, str(c.located), c.matches, c.path, c.page, c.lines)
            self.stream.emit(event)
        text = "" if self.structured else answer_text(answer.value)  # in a value, [1] is a list
        used = {int(n) for n in re.findall(r"\[(\d{1,4})\]", text)}
        missing = sorted(n for n in used if not 1 <= n <= len(citations))
        if citations and missing:
            marks = ", ".join(f"[{n}]" for n in missing)
            self.stream.emit(
                NoticeGiven("citation_missing", f"the answer refers to {marks}, for which no quote was given")
            )
        return tuple(citations)

    async def _close(self) -> None:
        if self.tools is not None:
            self.tools.close()
        if self.run is not None:
            await self.run.seen.close()
        if self.replies is not None:
            await self.replies.close()
        if self.sandbox is not None:
            await self.sandbox.close()
        if self.models is not None:
            for model in self.models.all:
                await model.close()

    @property
    def structured(self) -> bool:
        """The answer is a value, not text."""
        return self.job.settings.schema is not None or self.job.settings.exit_status

    @property
    def trace_file(self) -> str | None:
        return str(self.folder / trace.TRACE) if self.folder else None

    def _settings(self) -> dict[str, dict[str, Any]]:
        """Every setting with its origin. `keys` and `models` say where keys are and stay out, as do secrets and options
        that may hold one."""
        settings = [f.name for f in fields(self.job.settings) if not spelling_of(f.name).secret]
        values = {name: getattr(self.job.settings, name) for name in settings}
        del values["keys"], values["models"]
        values["option"] = shown_options(values["option"], trace.HIDDEN)
        return {n: {"value": v, "origin": self.job.origins.get(n, "built-in")} for n, v in values.items()}
