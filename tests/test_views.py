"""What a terminal, a log and stdout show: frames, lines, answers, and that foreign text obeys nobody."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pexpect
import pyte
import pytest
from happenings import ROOT, a_run, asking, began, reply, stamped, sub_call

from rlm_cli.errors import ConfigError
from rlm_cli.events import (
    CallFinished,
    CallStarted,
    CodeFinished,
    CodeStarted,
    CorpusLoaded,
    Event,
    IterationStarted,
    NoticeGiven,
    Reading,
    RunFinished,
    RunStarted,
    Stamped,
    ToolFinished,
    ToolStarted,
)
from rlm_cli.fold import fold
from rlm_cli.ledger import Usage
from rlm_cli.result import Citation, Located, ModelUsage, Notice, Result, Status, StopReason
from rlm_cli.views import Silent, Wishes, choose_view, is_live, use_color
from rlm_cli.views.answer import answer_text, citation_lines, summary_line
from rlm_cli.views.error import error_text
from rlm_cli.views.figures import clock, count, seconds, spent, usd
from rlm_cli.views.plain import EVERY_S, Plain
from rlm_cli.views.safe import cells, clean, one_line, shortened
from rlm_cli.views.tree import Canvas, frame

PROGRAM = Path(__file__).with_name("happenings.py")
EVIL = {
    "link": "\x1b]8;;http://evil\x1b\\text\x1b]8;;\x1b\\",
    "clipboard": "\x1b]52;c;ZXZpbA==\x07text",
    "title": "\x1b]0;evil\x07text",
    "unfinished title": "\x1b]0;evil",
    "alternate screen": "\x1b[?1049htext",
    "device": "\x1bPevil\x1b\\text",
    "C1": "\x9b31mtext\x9d0;evil\x9ctext",
    "NUL and BEL": "te\x00xt\x07",
    "backspace and CR": "text\x08\x08\rtext",
    "bidi": "text\u202etxet\u2066\u200f",
    "separators": "text\u2028text\u2029",
    "surrogate": "text\ud800",
    "tags": "text\U000e0041",
    "reset": "\x1bctext",
    "split": "\x1b\x1b[2J[2Jtext",
}

READ = "rlm: read 42 files · 2.5 M chars · ~640 k tokens · skipped 1: 1 no text"


def rows(happened: list[Stamped], now: float, canvas: Canvas) -> list[str]:
    return [line for line, _ in frame(fold(happened), now, canvas)]


class TestFrames:
    def test_the_screen(self) -> None:
        """The tree is what the documentation shows: folded siblings, what each call reads, money and time below."""
        assert rows(a_run(), 38, Canvas(100, 30)) == [
            "0             ✓✓◐   anthropic/big  iteration 3               2.1k→480  $0.18  37s",
            "├ 0.1 … 0.18  ✓ 18  openai/mini                              1.7M→9k   $0.11",
            "├ 0.19        ◐     openai/mini    98k chars · Which parts?                    3s",
            "├ 0.20        ◐     openai/mini    98k chars · Which parts?                    3s",
            "└ 0.21        ↻     openai/mini    waiting 10 s: rate limit                    3s",
            "$0.29 / $1.00 ▓▓▓░░░░░░░   21 calls   seen 76% of lines   0:38   Ctrl-C stops, nothing lost",
        ]

    def test_a_wait_counts_down_and_is_over(self) -> None:
        """What is left of it, then the request in flight again."""
        state = a_run()
        assert "waiting 1 s: rate limit" in rows(state, 47.5, Canvas(100, 30))[4]
        assert "◐     openai/mini    98k chars" in rows(state, 48, Canvas(100, 30))[4]

    def test_reading(self) -> None:
        """While documents are read the line says how far and where."""
        happened = stamped([(0, None, Reading(12, 3_400_000, 88, "contracts/acme.pdf"))])
        assert rows(happened, 2, Canvas(100, 30)) == [
            "reading 12 files · 3.4 MB · 88 pages · contracts/acme.pdf (2s)   0:02   Ctrl-C stops"
        ]

    def test_reading_that_is_slow(self) -> None:
        """The file that takes long is named with its time; a pipe from which nothing comes is waited for."""
        happened = stamped([(0, None, Reading(1, 10, 0, "a.txt")), (3, None, Reading(1, 10, 0, "slow.pdf"))])
        assert rows(happened, 4, Canvas(100, 30))[0].startswith("reading 1 file · 10 B · slow.pdf   0:04")
        assert rows(happened, 12, Canvas(100, 30))[0].startswith("reading 1 file · 10 B · slow.pdf (9s)   0:12")
        happened = stamped([(0, None, Reading(0, 7, 0, "-")), (1, None, Reading(0, 9, 0, "-"))])
        happened += stamped([(5, None, Reading(0, 9, 0, "-"))])
        assert rows(happened, 2, Canvas(100, 30))[0].startswith("reading 0 files · 9 B · stdin ")
        assert rows(happened, 6, Canvas(100, 30))[0].startswith(
            "reading 0 files · 9 B · waiting for more of stdin (5s)"
        )
        out, now = io.StringIO(), 0.0
        view = Plain(out, clock=lambda: now)
        view.on(happened[0])
        now = EVERY_S + 1
        view.tick()
        view.close()
        assert out.getvalue() == "rlm: reading · 0 files · 7 B · waiting for more of stdin (11s)\n"

    def test_tools(self) -> None:
        """A call of a function of the user's is a row while it runs, and counted apart from models afterwards."""
        happened = [*began(), *sub_call("0.1", 5)]
        for n, error in ((2, None), (3, None), (4, "ValueError: no")):
            happened += [
                (6, f"0.{n}", ToolStarted("0", 1, "lookup", '[["acme"], {}]')),
                (7, f"0.{n}", ToolFinished("lookup", "[]", 0, error, "", 1.0)),
            ]
        happened += [(9, "0.5", ToolStarted("0", 1, "lookup", '[["acme"], {"limit": 3}]'))]
        happened += [(9, "0.6", ToolStarted("0", 1, "lookup", '[["its beginning onl'))]
        shown = rows(stamped(happened), 11, Canvas(100, 30))[1:-1]
        assert [" ".join(row.split()) for row in shown] == [
            "├ 0.1 ✓ 1 openai/mini 94k→500 $0.0060",
            "├ 0.2 … 0.3 ✓ 2 tool lookup",
            "├ 0.4 ✗ 1 tool lookup",
            '├ 0.5 ◐ tool lookup("acme", limit=3) 2s',
            '└ 0.6 ◐ tool lookup([["its beginning onl…) 2s',
        ]

    def test_what_was_not_paid_for(self) -> None:
        """Replies on record are counted where they were folded and below; tokens the provider had cached beside the
        others; both also where only ASCII can be drawn."""
        recorded = replace(reply(Usage(), 0.0), cached=True)
        happened = began()
        for n in (1, 2):
            ended = CallFinished("complete", "yes", Usage())
            happened += [*asking(f"0.{n}", 5), (5, f"0.{n}", recorded), (5, f"0.{n}", ended)]
        happened += [(6, "0", reply(Usage(1_000, 40, 900), 0.06, model=ROOT))]
        shown = rows(stamped(happened), 9, Canvas(110, 30))
        assert "3.1k→520 (900 cached)" in shown[0]
        assert " ".join(shown[1].split()) == "└ 0.1 … 0.2 ✓ 2 openai/mini ⟲ 2 from cache $0.00"
        assert "6 calls, 2 from cache" in shown[-1]
        assert all(row.isascii() for row in rows(stamped(happened), 9, Canvas(110, 30, ascii=True)))

    def test_an_unknown_cost_is_said(self) -> None:
        """Never $0.00 for a model without a price."""
        shown = rows(stamped([*began(), *sub_call("0.1", 5, cost=None)]), 9, Canvas(100, 30))
        assert "cost unknown" in shown[1]
        assert shown[-1].startswith("≥ $0.18 / $1.00")

    @pytest.mark.parametrize("size", [(200, 50), (80, 24), (60, 10), (41, 8), (20, 5), (8, 3), (1, 1)])
    def test_it_fits(self, size: tuple[int, int]) -> None:
        """At most 60 % of the height and never the last column, on any terminal, with wide characters too."""
        happened = began()
        for n in range(1, 80):
            happened += asking(f"0.{n}", 5, question="日本語の契約書" * 20)
        drawn = frame(fold(stamped(happened)), 38, Canvas(*size))
        assert len(drawn) <= max(int(size[1] * 0.6), 2)
        assert all(width < max(size[0], 2) for _, width in drawn)
        assert all(cells(line) == width for line, width in drawn)

    def test_more_than_fits_is_counted(self) -> None:
        """A fan-out larger than the screen ends in the number that is not shown."""
        happened = began()
        for n in range(1, 81):
            happened += asking(f"0.{n}", 5)
        shown = rows(stamped(happened), 38, Canvas(100, 20))
        assert len(shown) == 12
        assert "└ …" in shown[-2]
        assert "71 more at work" in shown[-2]

    def test_nested_calls(self) -> None:
        """A recursive call shows its own children below it."""
        happened = [*began(), (4, "0.1", CallStarted("0", 1, "rlm", "m", "deep?", 10)), *sub_call("0.1.1", 5),
                    *asking("0.1.2", 6), *asking("0.2", 6)]  # fmt: skip
        assert [row.split("  ")[0] for row in rows(stamped(happened), 9, Canvas(100, 30))[1:-1]] == [
            "├ 0.1",
            "│ ├ 0.1.1",
            "│ └ 0.1.2",
            "└ 0.2",
        ]

    def test_ascii(self) -> None:
        """A stream that cannot encode the tree gets one of plain ASCII."""
        assert all(row.isascii() for row in rows(a_run(), 38, Canvas(60, 30, ascii=True)))

    def test_color_changes_no_text(self) -> None:
        """Colour adds styles only, and none beyond the sixteen colours."""
        drawn = frame(fold(a_run()), 38, Canvas(100, 30, color=True))
        assert any("\x1b[" in line for line, _ in drawn)
        assert [clean(line).rstrip() for line, _ in drawn] == [r.rstrip() for r in rows(a_run(), 38, Canvas(100, 30))]


class TestUntrusted:
    @pytest.mark.parametrize("name", EVIL)
    def test_clean(self, name: str) -> None:
        """Nothing a terminal obeys is left, the text around it is, and it can be encoded."""
        for text in (clean(f"before {EVIL[name]} after"), one_line(f"before {EVIL[name]} after")):
            assert text.isprintable()
            assert text.startswith("before ")
            text.encode()
        assert clean(f"{EVIL[name]}\n\tkept").endswith("\n\tkept") or name == "unfinished title"

    @pytest.mark.parametrize("name", EVIL)
    def test_every_view(self, name: str) -> None:
        """No view lets a control sequence of a model or a document through, wherever in an event it hides."""
        evil = EVIL[name]
        happened: list[tuple[float, str | None, Event]] = [
            (0, None, RunStarted(evil, (evil,), {"root": evil, "sub": evil + "x"}, {}, {}, "0", {})),
            (0, None, CorpusLoaded("", 1, 1, 1, {evil: 1}, ({"path": evil, "reason": evil},))),
            (0, "0", CallStarted(None, 0, "root", evil, evil, 5)),
            (0, "0.1", CallStarted("0", 1, "llm", evil, evil, 5)),
            (0, "0", IterationStarted(1)),
            (0, "0", CodeStarted(evil)),
            (0, "0", CodeFinished(evil, 5, evil, False, 0.1)),
            (0, "0.1", NoticeGiven("retrying", evil)),
            (0, None, NoticeGiven("x", evil)),
            (0, None, RunFinished({"status": evil})),
        ]
        out = io.StringIO()
        plain = Plain(out, verbose=True)
        for event in stamped(happened):
            plain.on(event)
        reading = stamped([(0, None, Reading(1, 1, 1, evil))])
        citations = [Citation(1, evil, Located.APPROXIMATE, evil, None, (1, 1), evil, 1), Citation(2, evil, Located.NO)]
        result = Result(evil, Status.COMPLETE, StopReason.FINAL, 0, evil, True, citations, notices=[Notice(evil, evil)])
        shown = [
            out.getvalue(),
            *rows(stamped(happened), 1, Canvas(100, 30)),
            *rows(reading, 1, Canvas(100, 30)),
            answer_text(result),
            summary_line(result),
            error_text(ConfigError(evil, why=evil, hint=evil)),
        ]
        for text in shown:
            assert text.replace("\n", "").isprintable(), text
            text.encode()

    def test_ordinary_text_is_untouched(self) -> None:
        """Scripts, emoji with joiners, tabs and newlines are not damaged."""
        text = "naïve 日本語 👩‍👩‍👧 שלום عربي\t[note] <b> :smile:\n"
        assert clean(text) == text


class TestPlain:
    def said(self, happened: list[Stamped], **how: bool) -> list[str]:
        out = io.StringIO()
        view = Plain(out, clock=lambda: 0.0, **how)
        for event in happened:
            view.on(event)
        view.close()
        return out.getvalue().splitlines()

    def test_calm(self) -> None:
        """A log has a line for the start, the documents, each iteration and each notice, none for each sub-call."""
        assert [line.split(" · ")[0] for line in self.said(a_run())] == [
            "rlm: run k7q2fd",
            "rlm: read 42 files",
            "rlm: skipped scan.pdf: no text",
            "rlm: iteration 1",
            "rlm: iteration 2",
            "rlm: iteration 3",
            "rlm: waiting 12 s: rate limit",
        ]

    def test_progress_at_most_every_ten_seconds(self) -> None:
        """While sub-calls run one line says so now and then."""
        now = 0.0
        out = io.StringIO()
        view = Plain(out, clock=lambda: now)
        for event in a_run():
            view.on(event)
        before = len(out.getvalue().splitlines())
        for _ in range(300):
            now += 0.125
            view.tick()
        extra = out.getvalue().splitlines()[before:]
        assert len(extra) == int(300 * 0.125 / EVERY_S)
        assert extra[0].startswith("rlm: 3 sub-calls running · 21 calls · $0.29 · seen 76% of lines")

    def test_verbose(self) -> None:
        """-v adds the code and what it printed, under the address of the call."""
        events: list[tuple[float, str | None, Event]] = [
            (0, "0", CodeStarted("x = 1\nprint(x)")),
            (0, "0", CodeFinished("1\n", 2_500, "ValueError: no", False, 0.2)),
        ]
        assert self.said(stamped(events), verbose=True) == [
            "0 code", "  x = 1", "  print(x)", "0 output  0s", "  1", "  … 2.5k characters left out", "0 error",
            "  ValueError: no",
        ]  # fmt: skip
        assert self.said(stamped(events)) == []

    def test_a_reader_that_left(self) -> None:
        """A closed pipe on stderr ends the view and not the run."""
        read, write = os.pipe()
        os.close(read)
        with os.fdopen(write, "w") as stream:
            view = Plain(stream)
            for event in a_run():
                view.on(event)
            view.close()
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)


def cited(*citations: Citation) -> Result:
    return Result(
        "q", Status.COMPLETE, StopReason.FINAL, 0, "Two contracts [1] and [2].", True, list(citations),
        coverage={"files": {"total": 42, "read": 41, "seen_by_model": 40}}, usage=ModelUsage(31, cost_usd=0.413),
        run="k7q2fd", trace="t", duration_s=41.2,
    )  # fmt: skip


ACME = Citation(1, "either party may\n  terminate", Located.EXACT, "contracts/acme.pdf", 12, (408, 411), None, 1)
BIRCH = Citation(2, "may be ended at once", Located.EXACT, "contracts/birch.docx", None, (88, 88), None, 1)


class TestAnswer:
    def test_the_screen(self) -> None:
        """stdout: the answer, then each quote with its place, a page for a PDF and a line elsewhere, in columns."""
        assert answer_text(cited(ACME, BIRCH)) == (
            "Two contracts [1] and [2].\n"
            "\n"
            "[1] contracts/acme.pdf:p12   “either party may terminate”\n"
            "[2] contracts/birch.docx:88  “may be ended at once”\n"
        )

    def test_no_cite(self) -> None:
        """--no-cite prints the answer alone; no answer prints nothing."""
        assert answer_text(cited(ACME), cite=False) == "Two contracts [1] and [2].\n"
        assert answer_text(Result("q")) == ""

    def test_what_the_host_could_not_prove_is_said(self) -> None:
        """A quote that is not there, in several documents or only roughly there is marked so."""
        no = Citation(1, "made up", Located.NO)
        many = Citation(2, "hereby", Located.AMBIGUOUS, matches=7)
        near = Citation(3, "the cat", Located.APPROXIMATE, "a.txt", None, (3, 3), "cat → cot", 1)
        assert citation_lines([no, many, near]) == [
            "[1] not found in the documents  “made up”",
            "[2] in several documents        “hereby”",
            "[3] a.txt:3 (approximate)       “the cat”  (cat → cot)",
        ]

    def test_long_quotes_are_shortened_in_the_middle(self) -> None:
        """Beginning and end stay, so that the place can be found with a search."""
        assert shortened("a" * 100 + "b" * 100, 20) == "aaaaaaaaaaaaaa…bbbbb"

    def test_text_is_not_reformatted(self) -> None:
        """Nothing is wrapped, renumbered or taken for markup."""
        text = "3. src/__init__.py\n4. <model> [/x] " + "word " * 60
        assert answer_text(Result("q", answer=text.rstrip())) == text.rstrip() + "\n"
        assert answer_text(Result("q", answer={"a": [1]})) == '{"a": [1]}\n'

    def test_summary(self) -> None:
        """One line: how it ended, what it cost, how much was seen, what was proved, where to look."""
        assert summary_line(cited(ACME, BIRCH)) == (
            "complete · 31 calls · $0.41 · 41s · 40/42 files seen · 2/2 quotes located · rlm show k7q2fd"
        )

    def test_not_found_is_said_with_what_is_near(self) -> None:
        """An answer of None is a sentence, its quotes below; a limit without an answer leaves stdout empty."""
        near = [Citation(1, "one person may maintain several", Located.EXACT, "policy.txt", None, (7, 7), None, 1)]
        found = Result("q", Status.NOT_FOUND, StopReason.FINAL, 0, None, False, near)
        assert answer_text(found) == (
            "The documents do not answer this question.\n\n[1] policy.txt:7  “one person may maintain several”\n"
        )
        assert answer_text(Result("q", Status.PARTIAL, StopReason.TIMEOUT, 6, None, False)) == ""

    def test_summary_of_less_happy_ends(self) -> None:
        """Unknown cost is said, a limit is named, a stop looks like a message."""
        unknown = Result("q", Status.PARTIAL, StopReason.MAX_BUDGET, usage=ModelUsage(1), cost_known=False)
        assert summary_line(unknown) == "partial (max budget) · 1 call · cost unknown · 0s"
        stopped = Result("q", Status.STOPPED, usage=ModelUsage(41, cost_usd=0.42), run="k7q2fd", trace="t")
        assert summary_line(stopped) == "rlm: stopped · 41 calls · $0.42 · 0s · rlm show k7q2fd"

    def test_errors_have_three_parts(self) -> None:
        """What, why, what to try; a part that is empty is left out."""
        assert error_text(ConfigError("no key", why="OPENAI_API_KEY\nis not set", hint="export it")) == (
            "rlm: no key\n  why  OPENAI_API_KEY\n       is not set\n  try  export it\n"
        )
        assert error_text(ConfigError("no key")) == "rlm: no key\n"

    def test_figures(self) -> None:
        """Numbers are short, and small money is not rounded to nothing."""
        assert [usd(x) for x in (None, 0.0, 0.00001, 0.0042, 0.413, 1234.5)] == [
            "cost unknown", "$0.00", "<$0.0001", "$0.0042", "$0.41", "$1,234.50",
        ]  # fmt: skip
        assert [count(n) for n in (0, 999, 1000, 2_100, 9_999, 98_000, 999_900, 1_700_000)] == [
            "0", "999", "1k", "2.1k", "10k", "98k", "1M", "1.7M",
        ]  # fmt: skip
        assert [seconds(x) for x in (0.9, 41, 125, 3720)] == ["0s", "41s", "2m05s", "1h02m"]
        assert [clock(x) for x in (38, 125, 3725)] == ["0:38", "2:05", "1:02:05"]
        assert [spent(0.0, False), spent(0.3, False), spent(0.3, True)] == ["cost unknown", "≥ $0.30", "$0.30"]


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class TestChoice:
    @pytest.mark.parametrize(
        ("environ", "live"),
        [
            ({"TERM": "xterm"}, True),
            ({"TERM": "dumb"}, False),
            ({}, False),
            ({"TERM": "xterm", "CI": "true"}, False),
            ({"TERM": "xterm", "CI": ""}, True),
            ({"TERM": "xterm", "NO_COLOR": "1"}, True),
        ],
    )
    def test_live(self, environ: dict[str, str], live: bool) -> None:
        """A real terminal that is not dumb and not in CI, whatever the colour variables say."""
        assert is_live(FakeTerminal(), environ) is live
        assert is_live(io.StringIO(), environ | {"FORCE_COLOR": "1"}) is False

    @pytest.mark.parametrize(
        ("flag", "environ", "terminal", "color"),
        [
            ("auto", {"TERM": "xterm"}, True, True),
            ("auto", {"TERM": "xterm"}, False, False),
            ("auto", {"TERM": "xterm", "NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
            ("auto", {"NO_COLOR": "", "FORCE_COLOR": "1"}, False, True),
            ("auto", {"CLICOLOR_FORCE": "1"}, False, True),
            ("auto", {"FORCE_COLOR": "0"}, False, False),
            ("always", {"NO_COLOR": "1"}, False, True),
            ("never", {"FORCE_COLOR": "1", "TERM": "xterm"}, True, False),
        ],
    )
    def test_color(self, flag: str, environ: dict[str, str], terminal: bool, color: bool) -> None:
        """--color > NO_COLOR (non-empty) > FORCE_COLOR, CLICOLOR_FORCE > a terminal."""
        stream = FakeTerminal() if terminal else io.StringIO()
        assert use_color(flag, stream, environ) is color

    def test_views(self) -> None:
        """-q shows nothing, --progress none notices only; without a terminal it is plain lines, whatever was asked."""
        pipe = io.StringIO()
        assert isinstance(choose_view(Wishes(quiet=True), pipe, {}), Silent)
        assert isinstance(choose_view(Wishes(progress="none"), pipe, {}), Plain)
        assert isinstance(choose_view(Wishes(progress="tree"), pipe, {"FORCE_COLOR": "1"}), Plain)
        assert isinstance(choose_view(Wishes(), FakeTerminal(), {"TERM": "xterm", "CI": "1"}), Plain)

    def test_rich_is_imported_for_a_live_tree_only(self) -> None:
        """Plain lines, answers and errors do without it."""
        code = (
            "import sys, io, rlm_cli.views.answer, rlm_cli.trace\n"
            "from rlm_cli.views import *\n"
            "choose_view(Wishes(), io.StringIO(), {})\n"
            "sys.exit('rich' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Terminal:
    """A program in a pseudo-terminal, and what a screen of it shows."""

    def __init__(self, *arguments: str, columns: int = 110, lines: int = 20) -> None:
        self.screen = pyte.HistoryScreen(columns, lines, history=500)
        self.feed = pyte.Stream(self.screen)
        self.raw = ""
        self.child = pexpect.spawn(
            sys.executable,
            [str(PROGRAM), *arguments],
            dimensions=(lines, columns),
            encoding="utf-8",
            timeout=30,
            env=os.environ | {"PYTHONPATH": str(PROGRAM.parents[1])},
        )

    def until(self, seen: Callable[[str], bool]) -> str:
        for _ in range(300):
            if seen(self.text):
                return self.text
            try:
                part = self.child.read_nonblocking(4096, timeout=0.05)
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                break
            self.raw += part
            self.feed.feed(part)
        assert seen(self.text), self.text
        return self.text

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()


class TestTerminal:
    def test_gone_before_the_answer(self, tmp_path: Path) -> None:
        """The tree is drawn, then erased without a trace; notices stay; the cursor is visible; nothing scrolled."""
        stop = tmp_path / "stop"
        terminal = Terminal(str(stop))
        shown = terminal.until(lambda text: "Ctrl-C stops" in text)
        assert "├ 0.1 … 0.18" in shown
        stop.touch()
        terminal.until(lambda text: "THE ANSWER" in text)
        assert terminal.text == f"{READ}\nrlm: skipped scan.pdf: no text\nrlm: this notice stays\nTHE ANSWER"
        assert not terminal.screen.cursor.hidden
        assert not terminal.screen.history.top

    def test_verbose_above_the_tree(self, tmp_path: Path) -> None:
        """-v prints code and output above the region, and they stay."""
        stop = tmp_path / "stop"
        terminal = Terminal(str(stop), "-v")
        shown = terminal.until(lambda text: "Ctrl-C stops" in text and "2500000" in text)
        assert shown.index("2500000") < shown.index("├ 0.1 … 0.18")
        stop.touch()
        terminal.until(lambda text: "THE ANSWER" in text)
        assert terminal.text.splitlines()[-4:] == ["  print(len(context))", "0 output  0s", "  2500000", "THE ANSWER"]

    def test_killed(self, tmp_path: Path) -> None:
        """Even SIGKILL leaves the cursor visible and on a line of its own."""
        terminal = Terminal(str(tmp_path / "stop"))
        terminal.until(lambda text: "Ctrl-C stops" in text)
        terminal.child.kill(signal.SIGKILL)
        terminal.child.wait()
        assert not terminal.screen.cursor.hidden
        assert terminal.screen.cursor.x == 0

    def test_suspended(self, tmp_path: Path) -> None:
        """Ctrl-Z erases the tree before the shell is back; going on draws it again."""
        stop = tmp_path / "stop"
        terminal = Terminal(str(stop))
        terminal.until(lambda text: "Ctrl-C stops" in text)
        terminal.child.kill(signal.SIGTSTP)
        terminal.until(lambda text: "Ctrl-C stops" not in text)
        state = Path(f"/proc/{terminal.child.pid}/stat")
        terminal.until(lambda text: state.read_text().rpartition(")")[2].split()[0] == "T")
        terminal.child.kill(signal.SIGCONT)
        terminal.until(lambda text: "Ctrl-C stops" in text)
        stop.touch()
        terminal.until(lambda text: "THE ANSWER" in text)
        assert terminal.text == f"{READ}\nrlm: skipped scan.pdf: no text\nrlm: this notice stays\nTHE ANSWER"

    def test_a_terminal_that_does_not_read(self, tmp_path: Path) -> None:
        """With output stopped (Ctrl-S) the loop goes on: it notices the end and only then waits, not for long."""
        stop = tmp_path / "stop"
        terminal = Terminal(str(stop))
        terminal.until(lambda text: "Ctrl-C stops" in text)
        terminal.child.send("\x13")
        terminal.child.kill(signal.SIGINT)  # cancels the loop, which is alive although the terminal is not
        terminal.child.send("\x11")
        terminal.until(lambda text: "KeyboardInterrupt" in text)
        assert "Ctrl-C stops" not in terminal.text


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_resizing_leaves_no_ghosts(tmp_path: Path) -> None:
    """Whatever widths a window goes through, there is one tree on it, and afterwards none, the scrollback included."""
    stop, done = tmp_path / "stop", tmp_path / "done"
    tmux = ["tmux", "-S", str(tmp_path / "tmux"), "-f", "/dev/null"]

    def run(*arguments: str) -> str:
        return subprocess.run([*tmux, *arguments], check=True, capture_output=True, text=True).stdout

    def screen() -> str:
        return run("capture-pane", "-p", "-S", "-300", "-t", "0")

    def until(seen: Callable[[str], bool]) -> str:
        for _ in range(300):
            if seen(screen()):
                return screen()
            time.sleep(0.05)
        raise AssertionError(screen())

    # Scrolled down first, as a terminal in use is.
    program = f"seq 40; PYTHONPATH={PROGRAM.parents[1]} {sys.executable} {PROGRAM} {stop}; touch {done}; cat"
    run("new-session", "-d", "-x", "100", "-y", "24", f"sh -c '{program}'")
    try:
        run("set-option", "-g", "window-size", "manual")
        until(lambda text: "├ 0.1 … 0.18" in text)
        for columns, lines in ((60, 24), (110, 24), (45, 20), (100, 30), (50, 18), (90, 24)):
            run("resize-window", "-t", "0", "-x", str(columns), "-y", str(lines))
            time.sleep(0.4)  # tmux tells a program of a second resize within 250 ms only later
            shown = until(lambda text: text.count("├ 0.1 … 0.18") == 1 and text.count("0.20") == 1)
            assert shown.count("├ 0.1 … 0.18") == 1
        stop.touch()
        until(lambda text: "THE ANSWER" in text)
        lines_left = [line for line in screen().splitlines() if line.strip()]
        assert lines_left == [
            *map(str, range(1, 41)),
            READ,
            "rlm: skipped scan.pdf: no text",
            "rlm: this notice stays",
            "THE ANSWER",
        ]
    finally:
        stop.touch()
        run("kill-server")
