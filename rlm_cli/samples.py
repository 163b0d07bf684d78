"""Self-consistency: N independent trajectories over one corpus and one ledger, and the answer most of them agree on.

They run at once and share no reply. As soon as the missing ones cannot change the outcome they are cancelled. Answers
of one value are counted without asking anybody; texts that differ are grouped by one judging call to the sub-LM.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from . import evidence, prompts, reply, vote
from .call import Completion
from .corpus import Corpus
from .errors import ConfigError, RlmError
from .events import SamplesCompared
from .result import Answer, Located

NOT_NEEDED = "not needed: the others agree"
Judge = Callable[[str], Awaitable[Completion | None]]
"""Asks the sub-LM one prompt; None where that was refused or failed."""


@dataclass
class Samples:
    """`begin` starts the trajectory with that number, from 1, and returns its answer."""

    asked: int
    question: str
    corpus: Corpus
    begin: Callable[[int], Awaitable[Answer]]
    judge: Judge
    answers: dict[int, Answer] = field(default_factory=dict)

    async def answer(self) -> tuple[Answer, SamplesCompared]:
        """The answer to hand over, and how the vote went. Raises `RlmError` when no trajectory came to an end."""
        failures = await self._gather()
        if not self.answers:
            raise failures[0]
        numbers = sorted(self.answers)
        values = [self.answers[n].value for n in numbers]
        groups = await self._grouped(values)
        most = [n for members in groups if len(members) == len(groups[0]) for n in members]
        located = {n: await asyncio.to_thread(self._located, self.answers[numbers[n]]) for n in most}
        chosen = vote.choose(groups, located)
        agreeing = next(members for members in groups if chosen in members)
        named = tuple(tuple(f"0.{numbers[n]}" for n in members) for members in groups)
        outcome = SamplesCompared(self.asked, len(numbers), len(agreeing), named, f"0.{numbers[chosen]}")
        return self.answers[numbers[chosen]], outcome

    async def _gather(self) -> list[RlmError]:
        """Run them all, until the vote is decided. Returns the failures."""
        running = {asyncio.ensure_future(self.begin(n)): n for n in range(1, self.asked + 1)}
        failures: list[RlmError] = []
        try:
            while running:
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in sorted(done, key=running.__getitem__):
                    number = running.pop(task)
                    try:
                        self.answers[number] = task.result()
                    except ConfigError:
                        raise  # it will not work for any of them
                    except RlmError as error:
                        failures.append(error)
                if vote.decided([answer.value for answer in self.answers.values()], self.asked - len(failures)):
                    break
        finally:
            for task in running:
                task.cancel(NOT_NEEDED)
            if running:
                await asyncio.wait(running)
        return failures

    async def _grouped(self, values: list[object]) -> vote.Groups:
        groups = vote.group(values)
        if not vote.differ_in_words(values, groups):
            return groups
        different = [vote.shown(values[members[0]]) for members in groups]
        said = await self.judge(prompts.judge(self.question, different))
        same = vote.read_judgement(reply.spoken(said), len(groups)) if said is not None else None
        return groups if same is None else vote.merged(groups, same)

    def _located(self, answer: Answer) -> int:
        found = (evidence.locate(self.corpus, quote, n).located for n, quote in enumerate(answer.quotes[:100], 1))
        return sum(located in (Located.EXACT, Located.APPROXIMATE) for located in found)
