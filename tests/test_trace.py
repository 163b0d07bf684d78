"""The journal: what is written can be read back, whatever happens to the disk, and secrets never enter."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from happenings import a_run

from rlm_cli import trace
from rlm_cli.errors import UsageError
from rlm_cli.events import (
    UNKEPT,
    CodeFinished,
    CodeStarted,
    CompletionStarted,
    Event,
    NoticeGiven,
    Reading,
    RunFinished,
)

LONG = "All work and no play. " * 100


def journal(folder: Path, *events: Event) -> Path:
    writer = trace.open_run(folder, "k7q2fd")
    for event in events:
        assert not writer.write(event, "0", 1.5).lost
    writer.close()
    return folder / trace.TRACE


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def test_round_trip(tmp_path: Path) -> None:
    """Every kept event comes back equal, `seq` without gaps, unkept ones are not in the file."""
    writer = trace.open_run(tmp_path, "k7q2fd")
    written = [writer.write(s.event, s.call, s.t).stamped for s in a_run()]
    writer.close()
    assert list(trace.read(tmp_path / trace.TRACE)) == [s for s in written if not isinstance(s.event, UNKEPT)]
    assert [line["seq"] for line in lines_of(tmp_path / trace.TRACE)] == list(range(len(written) - 1))


def test_long_texts_are_stored_once(tmp_path: Path) -> None:
    """Messages that every iteration repeats are one `blob`, which takes a `seq` of its own and comes first."""
    asked = CompletionStarted(({"role": "user", "content": LONG},), "iteration", 1, 1, 0.1)
    path = journal(tmp_path, asked, asked, CodeFinished(LONG, 0, None, False, 0.1))
    lines = lines_of(path)
    assert [line["type"] for line in lines] == ["blob", "completion.started", "completion.started", "code.finished"]
    assert [line["seq"] for line in lines] == [0, 1, 2, 3]
    assert lines[1]["messages"] == [{"role": "user", "content": {"blob": lines[0]["sha256"]}}]
    assert [s.event for s in trace.read(path)] == [asked, asked, CodeFinished(LONG, 0, None, False, 0.1)]


def test_the_result_stays_whole(tmp_path: Path) -> None:
    """The last line's `.result` is the object of `--json`, without references to resolve."""
    [line] = lines_of(journal(tmp_path, RunFinished({"answer": LONG})))
    assert line["result"] == {"answer": LONG}


@pytest.mark.parametrize("text", ["a\u2028b\x85c\x1bd\x00e", "lone \ud800 surrogate", "naïve 日本語", '"\\\n'])
def test_any_text_survives(tmp_path: Path, text: str) -> None:
    """Line separators of Unicode, controls and what UTF-8 cannot encode do not break the line format."""
    path = journal(tmp_path, CodeStarted(text))
    assert len(lines_of(path)) == 1
    assert [s.event for s in trace.read(path)] == [CodeStarted(text)]


def test_infinite_numbers_are_null(tmp_path: Path) -> None:
    """A line is JSON, not Python: no `Infinity`."""
    assert "Infinity" not in journal(tmp_path, RunFinished({"x": float("inf")})).read_text()


def test_a_torn_last_line_is_ignored(tmp_path: Path) -> None:
    """A process killed in the middle of a write leaves a journal that can be read, cut anywhere."""
    path = journal(tmp_path, CodeStarted("a"), CodeStarted("é"))
    whole = path.read_bytes()
    for cut in range(len(whole) - 1, len(whole) // 2 + 1, -1):
        path.write_bytes(whole[:cut])
        assert [s.event for s in trace.read(path)][:1] == [CodeStarted("a")]


def test_newer_traces_can_be_read(tmp_path: Path) -> None:
    """Unknown types and keys are passed over; slices of the corpus and missing blobs become placeholders."""
    head = {"v": 1, "run": "k7q2fd", "t": 0, "call": "0"}
    written = [
        head | {"seq": 0, "type": "tea.served", "cups": 2},
        head | {"seq": 1, "type": "code.started", "code": {"corpus": [120, 98]}, "mood": "good"},
        head | {"seq": 2, "type": "code.started", "code": {"blob": "ab" * 32}},
        head | {"seq": 3, "type": "code.started"},
    ]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in written) + "[]\n7\n")
    assert [s.event for s in trace.read(path)] == [
        CodeStarted("[corpus: 98 characters from 120]"),
        CodeStarted("[blob abababababab is missing]"),
    ]


def test_a_full_disk_does_not_end_the_run(tmp_path: Path) -> None:
    """A sink that fails is reported once; the others are written on."""
    writer = trace.open_run(tmp_path, "k7q2fd", extra=Path("/dev/full"))
    first = writer.write(CodeStarted("a"), "0", 1)
    second = writer.write(CodeStarted("b"), "0", 2)
    writer.close()
    assert len(first.lost) == 1
    assert "/dev/full" in first.lost[0]
    assert second.lost == ()
    assert [s.event for s in trace.read(tmp_path / trace.TRACE)] == [CodeStarted("a"), CodeStarted("b")]


def test_lines_for_jsonl_without_any_file() -> None:
    """`--jsonl` prints the same lines a trace holds, even when nothing is kept."""
    writer = trace.open_run(None, "k7q2fd")
    assert [json.loads(line)["type"] for line in writer.write(CodeStarted(LONG), "0", 1).lines] == [
        "blob",
        "code.started",
    ]
    assert writer.write(Reading(1, 2, 3, "x"), None, 1).lines == ()


def test_secrets_never_enter(tmp_path: Path) -> None:
    """A key in a text, a long text, a key of a mapping or the result is blotted out in file and lines."""
    secret = 'sk-sentinel-"42"'
    writer = trace.open_run(tmp_path, "k7q2fd", secrets=frozenset({secret, "ab"}))
    coded: list[Event] = [CodeStarted(secret), CodeStarted(LONG + secret)]
    events = [*coded, NoticeGiven(secret, "abc"), RunFinished({secret: [secret]})]
    lines = [line for event in events for line in writer.write(event, "0", 1).lines]
    writer.close()
    assert "sentinel" not in (tmp_path / trace.TRACE).read_text() + "".join(lines)
    assert "abc" in lines[-2]


def test_private_modes(tmp_path: Path) -> None:
    """Documents and questions are nobody else's: folder 0700, files 0600."""
    run = trace.new_run_id(tmp_path / "state")
    folder = tmp_path / "state" / "runs" / run
    path = journal(folder, CodeStarted("a"))
    trace.write_result(folder, {"a": 1})
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in (path, folder / trace.RESULT)} == {0o600}
    assert sorted(p.name for p in folder.iterdir()) == [trace.RESULT, trace.TRACE]


def test_a_trace_that_cannot_be_opened_is_said_at_once(tmp_path: Path) -> None:
    """`--trace` into a folder that is not there is a usage error, before anything is spent."""
    with pytest.raises(UsageError, match="--trace"):
        trace.open_run(None, "k7q2fd", extra=tmp_path / "none" / "t.jsonl")


def test_run_ids() -> None:
    """Six letters that sort by time and tell it."""
    seconds = [trace.EPOCH + n for n in (0, 1, 31, 32, 1 << 20, (1 << 30) - 1)]
    ids = [trace.run_id(s) for s in seconds]
    assert ids == sorted(ids)
    assert all(len(run) == 6 for run in ids)
    assert [trace.started_at(run).timestamp() for run in ids] == seconds


def test_two_runs_never_share_an_id(tmp_path: Path) -> None:
    """Runs started in the same second get different folders, in order."""
    now = trace.EPOCH + 1000
    taken = [trace.new_run_id(tmp_path, now) for _ in range(5)]
    assert taken == sorted(set(taken))


def test_the_index(tmp_path: Path) -> None:
    """Newest first; a run without a result shows its question from the trace; strangers in the folder are ignored."""
    old, new = (trace.new_run_id(tmp_path, trace.EPOCH + n) for n in (5, 9))
    (tmp_path / "runs" / "notes").mkdir()
    result = {"question": "Old?", "status": "complete", "usage": {"cost_usd": None, "calls": 3}}
    trace.write_result(tmp_path / "runs" / old, result)
    journal(tmp_path / "runs" / new, replace(a_run()[0].event, question="New?"))  # type: ignore[type-var]
    listed = list(trace.runs(tmp_path))
    assert [(run.id, run.question, run.status, run.calls) for run in listed] == [
        (new, "New?", "unfinished", None),
        (old, "Old?", "complete", 3),
    ]
    assert list(trace.runs(tmp_path / "nowhere")) == []


def test_finding_a_run(tmp_path: Path) -> None:
    """Any unique prefix works, without one it is the last run; else an error that says what there is."""
    with pytest.raises(UsageError, match="no run yet"):
        trace.find(tmp_path)
    old, new = (trace.new_run_id(tmp_path, trace.EPOCH + n) for n in (5, 5 + 32))
    assert trace.find(tmp_path).name == new
    assert trace.find(tmp_path, old[:5]).name == old
    assert trace.find(tmp_path, old).name == old
    with pytest.raises(UsageError, match="2 runs begin"):
        trace.find(tmp_path, "2")
    with pytest.raises(UsageError, match="no run begins"):
        trace.find(tmp_path, "zzz")
