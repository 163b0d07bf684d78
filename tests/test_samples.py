"""Self-consistency: comparing answers by value, the judge's reply, the choice, and N trajectories end to end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Rlm
from hypothesis import given
from hypothesis import strategies as st
from scripted import Reply, ScriptedServer

from rlm_cli import vote

Write = Callable[[str, str], Path]
SAME: list[list[Any]] = [
    [30, 30.0, "30", "30.", "**30**", "30 [1]", "30.0"],
    ["1,234.50", 1234.5, "1 234.5", "1_234.5"],
    ["$5", "5 $", "$5.00"],
    ["12%", "12 %", "12.0%"],
    ["-3", "\u22123", -3],
    ["2024-05-01", "1 May 2024", "May 1, 2024", "1st May 2024", "01.05.2024", "May 1st, 2024."],
    ["yes", "Yes.", "YES!", True, "ja"],
    ["No", False, "no [2]", "nein"],
    [None],
    [["a", "B"], ["b", "A."], '["a","b"]'],
    [{"n": 1, "who": "Ann"}, {"who": "ann", "n": "1"}, '{"n": 1.0, "who": "Ann"}'],
    ["Thirty days.", "thirty days", "  Thirty   days [1]."],
]
WRITTEN = [(n, value) for n, values in enumerate(SAME) for value in values]


def test_values_are_compared_however_they_are_written() -> None:
    """Numbers, dates, yes and no, lists, objects, short texts: one group each, none mixed."""
    groups = vote.group([value for _, value in WRITTEN])
    assert sorted(sorted({WRITTEN[index][0] for index in group}) for group in groups) == [[n] for n in range(len(SAME))]


def test_what_is_not_the_same_is_apart() -> None:
    """A unit, a sign, a currency, an order of day and month that nobody can know."""
    apart = ["5", "$5", "5%", "-5", "05/01/2024", "01/05/2024", "five", ["5"], {"n": 5}, None, True]
    assert len(vote.group(apart)) == len(apart)


@given(st.lists(st.sampled_from([1, 2, "yes", None]), max_size=9), st.integers(1, 9), st.data())
def test_a_decided_vote_cannot_change(values: list[Any], asked: int, data: st.DataObject) -> None:
    """Whatever the missing answers are, the largest group stays the largest."""
    values = values[:asked]
    if not vote.decided(values, asked):
        return
    rest = data.draw(st.lists(st.sampled_from([1, 2, "yes", None, 3]), min_size=0, max_size=asked - len(values)))
    before, after = vote.group(values), vote.group([*values, *rest])
    assert values[before[0][0]] == [*values, *rest][after[0][0]]


def test_texts_are_decided_by_more_than_half_only() -> None:
    """All other texts may turn out to say the same in other words."""
    assert not vote.decided(["a b", "a b", "c d"], 5)
    assert vote.decided(["a b", "a b", "a b"], 5)
    assert vote.decided([3, 3, 3, 4], 5)
    assert not vote.decided([3, 3, 4], 5)
    assert not vote.decided([], 3)


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("[[1, 3], [2]]", [[0, 2], [1]]),
        ("They differ:\n```json\n[[1],[2],[3]]\n```", [[0], [1], [2]]),
        ("[[1, 2]]", [[0, 1], [2]]),
        ('[[1, 1, 2], [2, 3], [9, "x"]]', [[0, 1], [2]]),
        ("[] and [[3,1]] it is", [[2, 0], [1]]),
        ("no idea", None),
        ("[1, 2]", None),
        ("[[" * 5_000, None),
    ],
)
def test_the_judge_is_read_with_care(text: str, groups: list[list[int]] | None) -> None:
    """A partition of the answers, whatever the judge wrote; None where it wrote none."""
    assert vote.read_judgement(text, 3) == groups


def test_the_choice() -> None:
    """The largest group; in it the answer with the most located quotes; else the earliest."""
    assert vote.choose([[0, 2], [1]], {}) == 0
    assert vote.choose([[0, 2], [1]], {2: 1, 1: 9}) == 2
    assert vote.choose([[0], [1]], {1: 1}) == 1
    assert vote.merged([[0, 3], [1], [2]], [[1, 2], [0]]) == [[0, 3], [1, 2]]


def sample(*answers: str | Reply, judge: str = "") -> Callable[[dict[str, Any]], str | Reply]:
    """Root replies in the order of the requests; the judging call."""
    left = list(answers)

    def answer(request: dict[str, Any]) -> str | Reply:
        return left.pop(0) if request["messages"][0]["role"] == "system" else judge

    return answer


def final(value: str, quote: str = "") -> str:
    quotes = f", quotes=[{quote!r}]" if quote else ""
    return f"I know.\n```repl\nFINAL({value}{quotes})\n```"


def ask(rlm: Rlm, server: ScriptedServer, *words: str) -> tuple[int, dict[str, Any], str]:
    command = ("ask", "-m", "openai/scripted", "-b", "none", "--mode", "rlm", "--json", *words)
    ran = rlm(*command, "How many?", "docs", env=server.env | {"HOME": str(rlm.home)}, cwd=rlm.home)
    return ran.code, json.loads(ran.out), ran.err


@pytest.fixture
def documents(rlm: Rlm) -> Rlm:
    (rlm.home / "docs").mkdir()
    (rlm.home / "docs" / "a.txt").write_text("There are thirty of them.\n" * 50, encoding="utf-8")
    return rlm


def test_most_of_the_samples_win(documents: Rlm) -> None:
    """Three trajectories, two values: the majority's answer with the quote that is there, and how they compare."""
    last = Reply(final("'30'", "There are thirty"), delay_s=1.5)  # a vote that is decided would end the others
    replies = sample(final("31", "thirty of them"), final("30"), last)
    with ScriptedServer(replies) as server:
        code, result, err = ask(documents, server, "--samples", "3", "-j", "1")
    assert (code, result["answer"], result["status"]) == (0, "30", "complete"), err
    samples = result["samples"]
    assert (samples["asked"], samples["answered"], samples["agreeing"]) == (3, 3, 2)
    assert sorted(map(len, samples["groups"])) == [1, 2]
    assert [c["located"] for c in result["citations"]] == ["exact"]
    assert "2 of 3 answers agree" in err
    assert "2 of 3 agree" in err
    assert result["subcalls"] == {"ok": 0, "failed": 0, "retried": 0}


def test_a_vote_that_is_decided_ends_early(documents: Rlm) -> None:
    """Two of three say the same: the third, which is slow, is cancelled."""
    replies = sample(final("7"), final("7.0"), Reply(final("8"), delay_s=30))
    with ScriptedServer(replies) as server:
        code, result, err = ask(documents, server, "--samples", "3")
    assert (code, float(result["answer"])) == (0, 7), err
    assert (result["samples"]["answered"], result["samples"]["agreeing"]) == (2, 2)
    assert result["duration_s"] < 20


def test_texts_are_grouped_by_one_judging_call(documents: Rlm) -> None:
    """Words differ: the sub-LM says which mean the same; unreadable, each stands alone."""
    answers = [final(repr(text)) for text in ("Thirty of them.", "There are 30", "Nobody knows")]
    for judge, agreeing in (("[[1, 2], [3]]", 2), ("hm", 1)):
        with ScriptedServer(sample(*answers, judge=judge)) as server:
            code, result, err = ask(documents, server, "--samples", "3", "-j", "1")
        assert (code, result["samples"]["agreeing"]) == (0, agreeing), err
        assert len(server.requests) == 4
        judged = [request.prompt for request in server.requests if request.messages[0]["role"] == "user"]
        assert len(judged) == 1
        assert "How many?" in judged[0]


def test_a_sample_that_fails_does_not_vote(documents: Rlm) -> None:
    """The others decide; only when all fail the run does."""
    broken = Reply("no", status=400)
    with ScriptedServer(sample(final("5"), broken, final("5"))) as server:
        code, result, err = ask(documents, server, "--samples", "3", "-j", "1")
    assert (code, result["answer"], result["samples"]["agreeing"]) == (0, "5", 2), err
    with ScriptedServer(sample(broken, broken)) as server:
        code, result, _ = ask(documents, server, "--samples", "2")
    assert (code, result["answer"], result["samples"]) == (5, None, None)


def test_samples_share_no_reply(documents: Rlm) -> None:
    """Each asks its own sub-calls, although they are identical; one ledger counts them all."""
    look = "I ask.\n```repl\nFINAL(llm_query('how many?'))\n```"
    replies = iter(["3", "3", "4"])

    def answer(request: dict[str, Any]) -> str:
        return look if request["messages"][0]["role"] == "system" else next(replies)

    with ScriptedServer(answer) as server:
        code, result, err = ask(documents, server, "--samples", "3", "-j", "1")
    assert (code, result["answer"]) == (0, "3"), err
    assert result["subcalls"]["ok"] >= 2


def test_samples_of_a_short_text(documents: Rlm) -> None:
    """Direct mode too: N requests with the whole text."""
    with ScriptedServer(lambda request: "30\n> There are thirty") as server:
        ran = documents(
            "ask", "-m", "openai/scripted", "-b", "none", "--samples", "3", "-j", "1", "How many?", "docs",
            env=server.env | {"HOME": str(documents.home)}, cwd=documents.home,
        )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.out.startswith("30\n")
    assert "2 of 3 answers agree" in ran.err
