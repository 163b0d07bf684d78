"""Frames: what goes in comes out, and what is wrong with one is a single error."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlm_cli.builder import CorpusBuilder
from rlm_cli.sandbox import Query, open_sandbox, weight, wire
from rlm_cli.sandbox.longtexts import LongTexts
from rlm_cli.sandbox.messages import long_texts, read_done, read_query, read_ready, served_module, served_zone
from rlm_cli.sandbox.wire import PREFIX, Frame, Violation


def parse(data: bytes) -> Frame:
    header, _ = wire.lengths(data[: PREFIX.size])
    return wire.decode(data[PREFIX.size : PREFIX.size + header], data[PREFIX.size + header :])


@pytest.mark.parametrize("texts", [(), ("",), ("a", "ü\n", "🙂" * 1000), ("x" * 100_000,)])
def test_a_frame_survives_the_wire(texts: tuple[str, ...]) -> None:
    """Texts of any alphabet arrive as they were sent."""
    frame = parse(wire.encode("query", {"id": 3}, texts))
    assert (frame.kind, frame.fields) == ("query", {"id": 3})
    assert tuple(frame.text(n) for n in range(len(frame.blobs))) == texts


def test_a_lone_surrogate_does_not_break_a_frame() -> None:
    """What cannot be encoded is replaced, not raised."""
    assert parse(wire.encode("x", {}, ["a\ud800b"])).text(0) == "a?b"


HEADERS = [
    b"{", b"[]", b"1", b'{"kind": 3, "sizes": []}', b'{"kind": "x"}', b'{"kind": "x", "sizes": [1]}',
    b'{"kind": "x", "sizes": [-1, 1]}', b'{"kind": "x", "sizes": [true]}', b'{"kind": "x", "sizes": ["1"]}',
    b'{"kind": "xxxxxxxxxxxxxxxxxxxxxxxxx", "sizes": []}', b"\xff\xfe", b"[" * 100_000, b'{"kind": "x", "sizes": 0}',
    b'{"kind": "x", "sizes": [], "n": ' + b"9" * 10_000 + b"}",
]  # fmt: skip


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
def test_a_bad_header_is_a_violation(header: bytes) -> None:
    """No exception but the one that ends the child."""
    with pytest.raises(Violation):
        wire.decode(header, b"")


@pytest.mark.parametrize(
    "prefix", [(0, 0), (1, 0), (wire.MAX_HEADER + 1, 0), (10, wire.MAX_BODY + 1), (2**32 - 1, 2**32 - 1)]
)
def test_sizes_are_capped_before_anything_is_read(prefix: tuple[int, int]) -> None:
    """A child cannot make the host reserve gigabytes."""
    with pytest.raises(Violation):
        wire.lengths(PREFIX.pack(*prefix))


def test_a_frame_that_is_too_large_is_refused_before_it_is_sent() -> None:
    """The cap holds on both sides."""
    with pytest.raises(Violation, match="at most"):
        wire.encode("x", {}, [b"x" * (wire.MAX_BODY + 1)])


def query(**changed: object) -> Frame:
    fields = {"query": "llm", "model": None, "prompts": 1, "contexts": [None], **changed}
    return Frame("query", fields, (b"hello", b"\xff"))


@pytest.mark.parametrize(
    "frame",
    [
        query(query="exec"), query(model=3), query(model="m" * 1000), query(prompts=0), query(prompts=5), query(prompts=True),
        query(prompts=2, contexts=[None, None]), query(contexts=[]), query(contexts=[["blob", 9]]), query(contexts=[["blob", -1]]),
        query(contexts=[["span", 5, 2]]), query(contexts=[["span", 0, 101]]), query(contexts=[["span", -1, 1]]),
        query(contexts=[["text", 1]]), query(contexts=[["list", [["text", 1]]]]), query(contexts=[["list", [["list", []]]]]), query(contexts=[{"open": "/etc/passwd"}]), query(contexts=[["blob", "0"]]),
    ],
)  # fmt: skip
def test_a_forged_query_is_a_violation(frame: Frame) -> None:
    """Every field of a query is checked; offsets outside the corpus too."""
    with pytest.raises(Violation):
        read_query(frame, chars=100)


DONE = {"omitted": 0, "variables": [], "quotes": []}


@pytest.mark.parametrize(
    ("fields", "blobs"),
    [
        (DONE, (b"", b"", b"")),
        (DONE, (b"", b"", b"{", b"")),
        (DONE, (b"", b"", b"[" * 100_000, b"")),
        ({**DONE, "omitted": -1}, (b"",) * 4),
        ({**DONE, "quotes": [["a"]]}, (b"", b"", b"1", b"")),
        ({**DONE, "variables": [3]}, (b"",) * 4),
        ({}, (b"",) * 4),
    ],
)
def test_a_forged_end_of_a_cell_is_a_violation(fields: dict[str, object], blobs: tuple[bytes, ...]) -> None:
    """Answers, quotes and variables are checked before they are believed."""
    with pytest.raises(Violation):
        read_done(Frame("done", fields, blobs))


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "json/../../x", "rlm_cli", "numpy", "os.", "", 3, None, "json\x00", "_typeshed", "a" * 500],
)
def test_the_host_serves_nothing_but_the_standard_library(name: object) -> None:
    """A module's name never becomes a path to anything else."""
    assert served_module(Frame("module", {"name": name})) is None


def test_the_host_serves_modules_and_packages() -> None:
    """A late import gets its source and is told a package from a module."""
    module, package = (served_module(Frame("module", {"name": name})) for name in ("argparse", "email"))
    assert module is not None
    assert package is not None
    assert (module[1], package[1]) == (False, True)


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "Europe/../../x", "", 3, "Europe\x00"])
def test_the_host_serves_nothing_but_time_zones(name: object) -> None:
    """A time zone's name never becomes a path to anything else."""
    assert served_zone(Frame("zone", {"name": name})) is None


def test_what_a_frame_costs_is_known_before_it_is_paid() -> None:
    """Texts are weighed by their widest character, JSON by its pieces: never less than they take."""
    for text in ("", "x" * 1000, "ü" * 1000, "x" * 1000 + "日", "日本" * 500, "x" * 1000 + "🙂", "🙂" * 300):
        assert sys.getsizeof(text) <= weight.text(text.encode()) <= sys.getsizeof(text) + 100
    for value in ([{"": 0}] * 1000, [[]] * 1000, [1.5] * 1000, {str(n): [n] for n in range(1000)}, [["ab"]] * 1000):
        text = json.dumps(value)
        assert weight.answer(text) >= sys.getsizeof(text) + deep_size(json.loads(text))
    assert weight.answer('"' + "x" * 50_000_000 + '"') > weight.ROOM
    assert weight.answer('"' + "x" * 25_000_000 + '\\ud83d\\ude00"') > weight.ROOM
    assert weight.answer("[" + "[]," * 1_000_000 + "0]") > weight.ROOM
    assert weight.answer('"' + "[{,:" * 1_000_000 + '"') < 10_000_000  # marks within a text are no items
    weight.answer('"' + '\\"' * 2_000_000)  # unclosed: in one pass
    with pytest.raises(ValueError, match="deep"):
        weight.answer("[" * 200 + "]" * 200)


def deep_size(value: object) -> int:
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sys.getsizeof(value) + sum(map(deep_size, inner))


EXAMPLES = [
    pytest.param(150, id="smoke"),
    pytest.param(20_000, id="long", marks=[pytest.mark.slow, pytest.mark.timeout(1200)]),
]
NAMES = (
    "kind sizes query prompts contexts omitted variables quotes model held cell id name refused missing failed package"
    " long text"
).split()


def read(frame: Frame) -> None:
    """As whoever on the host reads a frame of its kind, and as all others."""
    texts = LongTexts()
    for reader in (
        lambda f: read_query(f, 100),
        read_done,
        read_ready,
        served_module,
        served_zone,
        texts.add,
        texts.drop,
        lambda f: texts.take(long_texts(f)),
    ):
        with suppress(Violation):
            reader(frame)
    texts.close()


@pytest.mark.parametrize("examples", EXAMPLES)
def test_random_headers_raise_nothing_else(examples: int) -> None:
    """Whatever the fields, a frame is read or is a `Violation`."""
    values = st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=8)
        | st.sampled_from(["llm", "done", "blob", "span", "list", "text", "Europe/Paris", "json", "*"]),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    )
    fields = st.dictionaries(st.sampled_from(NAMES), values, max_size=len(NAMES))
    sized = st.tuples(fields, st.lists(st.binary(max_size=12), max_size=5), st.text(max_size=22))

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(sized, st.booleans())
    def check(parts: tuple[dict[str, object], list[bytes], str], honest: bool) -> None:
        fields, blobs, kind = parts
        if honest:  # most others end at the sizes
            fields = {**fields, "kind": kind, "sizes": [len(blob) for blob in blobs]}
        try:
            frame = wire.decode(json.dumps(fields).encode("utf-8", "replace"), b"".join(blobs))
        except Violation:
            return
        read(frame)

    check()


VALID = [
    wire.encode("query", {"id": 1, "cell": 1, "query": "llm", "model": None, "prompts": 1, "contexts": [["list", [["span", 0, 9], ["blob", 1]]]]}, ["hi", "there"]),
    wire.encode("done", {"cell": 1, "omitted": 0, "variables": [["a", "int"]], "quotes": [["a.txt", "x"], [None, "y"]], "held": True}, ["out", "error", '{"a": [1, 2]}', '"draft"']),
    wire.encode("ready", {"refused": {"open a file": True}, "missing": ["landlock: no"]}),
    wire.encode("module", {"id": 2, "name": "json.decoder"}),
    wire.encode("zone", {"id": 3, "name": "Europe/Paris"}),
]  # fmt: skip


@pytest.mark.parametrize("examples", EXAMPLES)
def test_mutated_frames_raise_nothing_else(examples: int) -> None:
    """Bytes of true frames changed, cut out, put in and moved: read or a `Violation`."""
    change = st.tuples(st.sampled_from(["set", "cut", "put", "move"]), st.integers(0, 400), st.binary(max_size=6))

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(VALID), st.lists(change, min_size=1, max_size=6))
    def check(data: bytes, changes: list[tuple[str, int, bytes]]) -> None:
        for how, where, what in changes:
            at = where % (len(data) + 1)
            match how:
                case "set":
                    data = data[:at] + what + data[at + len(what) :]
                case "cut":
                    data = data[:at] + data[at + len(what) :]
                case "put":
                    data = data[:at] + what + data[at:]
                case _:
                    data = data[at:] + data[:at]
        try:
            header, body = wire.lengths(data[: PREFIX.size].ljust(PREFIX.size, b"\0"))
            rest = data[PREFIX.size :]
            frame = wire.decode(rest[:header], rest[header : header + body])
        except Violation:
            return
        read(frame)

    check()


@pytest.mark.parametrize(
    "examples",
    [pytest.param(3, id="smoke"), pytest.param(300, id="long", marks=[pytest.mark.slow, pytest.mark.timeout(1200)])],
)
def test_a_child_that_sends_anything_is_replaced_or_goes_on(examples: int, tmp_path: Path) -> None:
    """The same against the host as it runs: torn, mutated and random bytes from a real child, and then a cell."""
    builder = CorpusBuilder(tmp_path)
    with builder.document("a.txt", "text") as document:
        document.write("alpha\n")
    corpus = builder.finish()
    pieces = st.lists(
        st.sampled_from(VALID).flatmap(lambda data: st.integers(0, len(data)).map(lambda at: data[:at]))
        | st.binary(max_size=40),
        min_size=1,
        max_size=4,
    )

    async def answer(query: Query) -> list[str]:
        return ["answered"] * len(query.prompts)

    async def attack(data: bytes) -> None:
        place = open_sandbox("process", cell_timeout_s=0.2, repl_memory=256 << 20, context_memory=1 << 20)
        try:
            repl = await place.open(corpus, None, answer)
            await repl.execute(
                "import gc, time\nlink = [o for o in gc.get_objects() if type(o).__name__ == 'Link'][0]\n"
                f"link._socket.sendall({data!r})\ntime.sleep(0.05)"
            )
            outputs = [await repl.execute("print(6 * 7)") for _ in range(2)]
            assert outputs[-1].stdout == "42\n"
        finally:
            await place.close()

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(pieces)
    def check(sent: list[bytes]) -> None:
        asyncio.run(attack(b"".join(sent)))

    check()
    corpus.close()
