"""One question, end to end: drives the loop and answers its sub-calls by calling itself.

Root call and sub-call are the same value (`Call`) and the same function (`Run.call`): recursion is recursion. Sub-call
failures are values here (`Failed`, raised inside the REPL); what no further request can mend (a wrong key, no quota)
ends the run at once.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any

from . import loop, prompts, reply
from .builder import CorpusBuilder
from .call import Call, Complete, Completion, Entry, Execute, Handover, Message, Output, Preview, Purpose
from .corpus import Corpus
from .dispatch import OUT_OF_TIME, OUTPUT_LIMIT, Deadline, Dispatch
from .errors import ConfigError, LimitReached, ModelError, RlmError
from .events import (
    CallFinished,
    CallStarted,
    CodeFinished,
    CodeStarted,
    CoverageGrew,
    IterationStarted,
    NoticeGiven,
)
from .evidence import Coverage
from .ledger import Ledger, Refusal, StopReason
from .models import Model
from .prepare import CHARS_PER_TOKEN, Documents, Job, Models
from .result import Answer, Status, answer_text
from .sandbox import Context, Failed, Query, Repl, Sandbox, Span
from .stream import Stream

SUB_CHARS = 100_000
"""Characters advised for a sub-prompt, less where the sub-LM's window is smaller."""
USED_STEPS = (0.9, 0.75, 0.5)
"""Shares of the budget at which the root is told how much is used."""
GRACE_S = 1.0
"""At the time limit sub-calls are refused first, so that the cell can still react; then it is interrupted."""


class Run:
    """The calls of one run, over documents that were read, in a sandbox that was opened."""

    def __init__(
        self,
        job: Job,
        models: Models,
        documents: Documents,
        sandbox: Sandbox | None,
        stream: Stream,
    ) -> None:
        self.job = job
        self.models = models
        self.documents = documents
        self.sandbox = sandbox
        self.emit = stream.emit
        self.state = stream.state
        self.ledger = Ledger(job.limits)
        self.dispatch = Dispatch(
            self.ledger,
            Deadline.after(job.settings.timeout),
            stream.emit,
            retries=job.settings.retries,
            request_timeout_s=job.settings.request_timeout,
        )
        self.coverage = Coverage(documents.corpus)
        self._looking = ThreadPoolExecutor(1, "coverage")
        # By depth: who waits for a place waits for calls of its own depth only, which wait for deeper ones at most.
        self._repls = defaultdict[int, asyncio.Semaphore](lambda: asyncio.Semaphore(job.settings.jobs))
        self._children: dict[str, int] = {}
        self._refused: dict[str, Refusal] = {}
        self._fatal: asyncio.Future[RlmError] | None = None

    async def answer(self, mode: str) -> Answer:
        """The root's answer. Raises `RlmError` where the run cannot go on."""
        self._fatal = asyncio.get_running_loop().create_future()
        if mode == "direct":
            return await self._direct()
        call = self._root_call()
        return await self.call(call, self.documents.corpus, None)

    async def close(self) -> None:
        """Wait for what is still being looked up; the models and the sandbox are closed by who opened them."""
        await asyncio.to_thread(self._looking.shutdown, cancel_futures=True)

    async def call(self, call: Call, corpus: Corpus, spans: Sequence[Span] | None) -> Answer:
        """One call with a REPL, root or child, from its first iteration to its answer."""
        assert self.sandbox is not None
        model = self.models.root if call.kind == "root" else self._model(call.model)
        self._started(call, call.preview.chars)
        try:
            async with self._repls[call.depth]:
                repl = await self.sandbox.open(corpus, spans, lambda query: self._ask(call, corpus, query))
                try:
                    self.saw(call.preview.head)
                    self.saw(call.preview.tail)
                    answer = await self._drive(call, model, repl)
                finally:
                    await repl.close()
        except BaseException:
            self._close_call(call.address, Status.FAILED, "")
            raise
        finally:
            self.ledger.close_call(call.address)
        self._finished(call.address, answer)
        return answer

    def saw(self, text: str) -> None:
        """Models were shown `text`: look up in the background which lines of the corpus stand in it."""
        if not text:
            return
        event_loop = asyncio.get_running_loop()

        def look() -> None:
            self.coverage.saw(text)
            grew = CoverageGrew(self.coverage.lines_seen, self.documents.corpus.lines)
            with suppress(RuntimeError):  # the run ended meanwhile
                event_loop.call_soon_threadsafe(self.emit, grew, None)

        with suppress(RuntimeError):
            self._looking.submit(look)

    async def settle_coverage(self) -> None:
        """Wait until everything shown so far was looked up."""
        await asyncio.get_running_loop().run_in_executor(self._looking, lambda: None)

    async def _drive(self, call: Call, model: Model, repl: Repl) -> Answer:
        conversation = loop.converse(call)
        effect = next(conversation)
        iteration = 0
        held: Handover | None = None
        try:
            while True:
                match effect:
                    case Complete(messages, purpose):
                        if purpose == "iteration":
                            iteration += 1
                            self.emit(IterationStarted(iteration), call.address)
                        sent: Completion | Refusal | Output = await self.dispatch.complete(
                            call.address, model, messages, purpose
                        )
                    case Execute(code, subcalls):
                        sent = await self._execute(call, repl, code, subcalls)
                        held = sent.held or held
                effect = conversation.send(sent)
        except ModelError as error:
            if held is None:
                raise
            # An answer that was reached is never thrown away.
            self.emit(NoticeGiven("answer_kept", f"the answer is the one with an unfound quote: {error}"), call.address)
            return Answer(held.value, held.quotes)
        except StopIteration as stop:
            answer: Answer = stop.value
            if answer.partial:
                self.dispatch.hit(Refusal(answer.stop_reason, ""), call.address)
            return answer

    async def _execute(self, call: Call, repl: Repl, code: str, subcalls: bool) -> Output:
        self.emit(CodeStarted(code), call.address)
        self._refused.pop(call.address, None)
        left = self.dispatch.deadline.left(landing=not subcalls)
        timeout = None if left is None else max(left, 0.0) + GRACE_S
        assert self._fatal is not None
        running = asyncio.ensure_future(repl.execute(code, subcalls=subcalls, timeout_s=timeout))
        ends: list[asyncio.Future[Any]] = [running, self._fatal]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._fatal.done():
                raise self._fatal.result()
            output = running.result()
        finally:
            if not running.done():
                running.cancel()
                await asyncio.wait([running])
        refused = self._refused.pop(call.address, None)
        if refused is None and subcalls and left is not None and self.dispatch.deadline.left(False) <= 0:  # type: ignore[operator]
            refused = self.dispatch.hit(OUT_OF_TIME, call.address)
        output = replace(output, refused=refused, used=next((s for s in USED_STEPS if self.ledger.used >= s), 0.0))
        self.saw(output.stdout)
        self.emit(
            CodeFinished(
                output.stdout, output.omitted_chars, output.error, output.answer is not None, output.duration_s
            ),
            call.address,
        )
        if output.lost:
            self.emit(NoticeGiven("repl_replaced", output.lost), call.address)
        return output

    async def _ask(self, parent: Call, corpus: Corpus, query: Query) -> list[str | Failed]:
        """Answer the prompts of one query, concurrently; a failure takes its place in the results."""
        async with asyncio.TaskGroup() as group:
            asked = [
                group.create_task(self._answer(parent, corpus, query, prompt, context))
                for prompt, context in zip(query.prompts, query.contexts, strict=True)
            ]
        return [one.result() for one in asked]

    async def _answer(
        self, parent: Call, corpus: Corpus, query: Query, prompt: str, context: Context | None
    ) -> str | Failed:
        assert self._fatal is not None
        if self._fatal.done():
            return Failed("the run is ending")
        model = self.models.named(query.model)
        if model is None:
            known = ", ".join(sorted({m.name for m in self.models.all}))
            return Failed(f"model {query.model!r} may not be used here; these may: {known}")
        refusal = self.ledger.admit_subcall()
        if refusal is not None:
            return self._refuse(parent, refusal)
        try:
            if query.kind == "rlm" and parent.recursive:
                return await self._child(parent, corpus, model, prompt, context)
            return await self._sub(parent, model, prompt, _text(corpus, context))
        except ConfigError as error:
            return self._end(error)
        except ModelError as error:
            return self._end(error) if error.terminal else Failed(str(error))
        except RlmError as error:  # a child's sandbox that does not start: its parent can go on
            return Failed(str(error))

    async def _sub(self, parent: Call, model: Model, prompt: str, context: str | None) -> str | Failed:
        """A sub-call without a REPL: one completion."""
        messages = prompts.sub(prompt, context)
        text = messages[-1].content
        if len(text) / 5 > model.window:  # five characters a token: surely too long, not worth a request
            return Failed(
                f"the prompt has {len(text):,} characters; {model.name} takes about {_sub_chars(model):,}:"
                " cut the text into parts"
            )
        address = self._address(parent)
        call = CallStarted(parent.address, parent.depth + 1, "llm", model.name, prompt, len(text))
        self.emit(call, address)
        try:
            completion = await self._complete(address, model, messages, "sub")
        except RlmError as error:
            self._close_call(address, Status.FAILED, str(error))
            raise
        if isinstance(completion, Refusal):
            self._close_call(address, Status.FAILED, completion.message)
            return self._refuse(parent, completion)
        said = completion.text.strip()
        self._close_call(address, Status.COMPLETE if said else Status.FAILED, completion.text)
        if completion.finish_reason == "length":
            self.emit(NoticeGiven("reply_cut", "a sub-call's reply was cut off by its output limit"), address)
        return completion.text if said else Failed(f"{model.name} sent an empty reply")

    async def _child(
        self, parent: Call, corpus: Corpus, model: Model, prompt: str, context: Context | None
    ) -> str | Failed:
        """A sub-call with a REPL of its own over just the slice it was given (offsets of its parent's corpus)."""
        spans = _spans(context)
        made: Corpus | None = None
        if spans is None:
            made = corpus = _corpus_of(corpus, prompt if context is None else context)
        try:
            call = replace(
                parent,
                address=self._address(parent),
                kind="rlm",
                depth=parent.depth + 1,
                question=prompt,
                model=model.name,
                preview=self._preview(corpus, spans),
                recursive=parent.depth + 2 < self.job.settings.max_depth,
                window_chars=_window_chars(model),
                landing=True,
            )
            answer = await self.call(call, corpus, spans)
        finally:
            if made is not None:
                made.close()
        if answer.partial and not answer.found:
            return self._refuse(parent, Refusal(answer.stop_reason, f"the child was stopped by {answer.stop_reason}"))
        text = answer_text(answer.value) if answer.found else prompts.NOTHING_FOUND
        return f"{prompts.partial_child(answer.stop_reason)}\n{text}" if answer.partial else text

    async def _direct(self) -> Answer:
        """One call with the whole text."""
        corpus = self.documents.corpus
        paths = [document.path for document in corpus.documents]
        text = corpus.text(*corpus.whole)
        self.emit(CallStarted(None, 0, "root", self.models.root.name, self.job.question, len(text)), "0")
        try:
            completion = await self._complete("0", self.models.root, prompts.direct(self.job.question, text), "direct")
        except RlmError:
            self._close_call("0", Status.FAILED, "")
            raise
        if isinstance(completion, Refusal):
            answer = Answer(None, (), completion.reason)
            if self.job.settings.on_limit == "fail":
                raise LimitReached(completion.reason, completion.message)
        else:
            said = reply.words(completion.text, paths)
            reason = StopReason.MAX_TOKENS if completion.finish_reason == "length" else StopReason.FINAL
            answer = Answer(said.value, said.quotes, reason)
        self._finished("0", answer)
        return answer

    async def _complete(
        self, address: str, model: Model, messages: tuple[Message, ...], purpose: Purpose
    ) -> Completion | Refusal:
        """A completion whose whole prompt counts as seen once it was answered."""
        completion = await self.dispatch.complete(address, model, messages, purpose)
        if isinstance(completion, Completion):
            self.saw(messages[-1].content)
        return completion

    def _refuse(self, parent: Call, refusal: Refusal) -> Failed:
        """A limit refused a sub-call: the parent's cell goes on, and lands after it."""
        self._refused.setdefault(parent.address, self.dispatch.hit(refusal, parent.address))
        return Failed(f"refused: {refusal.message}")

    def _end(self, error: RlmError) -> Failed:
        """No further request can succeed: the run ends at the next look."""
        assert self._fatal is not None
        if not self._fatal.done():
            self._fatal.set_result(error)
        return Failed(str(error))

    def _started(self, call: Call, chars: int) -> None:
        parent = call.address.rpartition(".")[0] or None
        self.emit(CallStarted(parent, call.depth, call.kind, call.model, call.question, chars), call.address)

    def _finished(self, address: str, answer: Answer) -> None:
        status = Status.PARTIAL if answer.partial else Status.COMPLETE if answer.found else Status.NOT_FOUND
        self._close_call(address, status, answer_text(answer.value))

    def _close_call(self, address: str, status: Status, text: str) -> None:
        usage, cost = self.state.calls[address].subtree()
        self.emit(CallFinished(str(status), text, usage, cost), address)

    def _address(self, parent: Call) -> str:
        self._children[parent.address] = self._children.get(parent.address, 0) + 1
        return f"{parent.address}.{self._children[parent.address]}"

    def _model(self, name: str) -> Model:
        model = self.models.named(name)
        assert model is not None
        return model

    def _root_call(self) -> Call:
        s, root = self.job.settings, self.models.root
        return Call(
            address="0",
            kind="root",
            depth=0,
            question=self.job.question,
            model=root.name,
            preview=self._preview(self.documents.corpus, None),
            sub_chars=_sub_chars(self.models.sub),
            recursive=s.max_depth > 1,
            max_iterations=s.max_iterations,
            window_chars=_window_chars(root),
            max_subcalls=s.max_subcalls,
            landing=s.on_limit == "answer",
        )

    def _preview(self, corpus: Corpus, spans: Sequence[Span] | None) -> Preview:
        ranges = [(span.start, span.stop) for span in spans] if spans else [corpus.whole]
        chars = sum(stop - start for start, stop in ranges)
        documents = [d for d in corpus.documents if any(d.start < stop and start < d.stop for start, stop in ranges)]
        entries = [Entry(d.path, d.chars, d.lines, d.pages) for d in documents]
        edge = prompts.SHOWN_EDGE
        first, last = ranges[0], ranges[-1]
        head = corpus.text(first[0], min(first[1], first[0] + edge))
        tail = corpus.text(max(last[0], last[1] - edge), last[1]) if chars > 2 * edge else ""
        if not tail and chars > edge:
            head = "".join(corpus.text(*piece) for piece in ranges)
        return Preview(
            documents=len(documents),
            distinct=len({d.sha256 for d in documents}),
            entries=prompts.chosen(entries),
            chars=chars,
            lines=sum(d.lines for d in documents),
            head=head,
            tail=tail,
            lazy=chars * corpus.char_width > self.job.settings.context_memory,
            header=corpus.header(documents[0]).rstrip("\n") if len(documents) > 1 else "",
        )


def _window_chars(model: Model) -> int:
    """Characters of history beyond which old outputs are shortened: three quarters of the window beside a reply."""
    room = model.window - min(OUTPUT_LIMIT["iteration"], model.max_output)
    return max(int(room * CHARS_PER_TOKEN * 0.75), 10_000)


def _sub_chars(model: Model) -> int:
    """Characters a sub-prompt should have at most."""
    room = (model.window - min(OUTPUT_LIMIT["sub"], model.max_output)) * CHARS_PER_TOKEN
    return max(min(SUB_CHARS, int(room * 0.9) // 1000 * 1000), 1000)


def _text(corpus: Corpus, context: Context | None) -> str | None:
    match context:
        case None | str():
            return context
        case Span(start, stop):
            return corpus.text(start, stop)
        case _:
            return "\n\n".join(_text(corpus, part) or "" for part in context)


def _corpus_of(corpus: Corpus, context: Context) -> Corpus:
    """A corpus for a child from text that is no slice of its parent's: one document, or one a list item."""
    parts = context if isinstance(context, tuple) else (context,)
    with closing(CorpusBuilder()) as builder:
        for number, part in enumerate(parts):
            with builder.document(f"context[{number}]" if len(parts) > 1 else "context", "text") as document:
                document.write(_text(corpus, part) or "")
        return builder.finish()


def _spans(context: Context | None) -> tuple[Span, ...] | None:
    """The slices of a context that is made of nothing else, else None."""
    parts = context if isinstance(context, tuple) else (context,)
    spans = tuple(part for part in parts if isinstance(part, Span))
    return spans if spans and len(spans) == len(parts) else None
