"""Frames: what goes in comes out, and what is wrong with one is a single error."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest

from rlm_cli.sandbox import wire
from rlm_cli.sandbox.longtexts import LongTexts
from rlm_cli.sandbox.messages import long_texts, read_done, read_query, served_module, served_zone
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


@pytest.mark.slow
def test_fuzzed_frames_raise_nothing_else() -> None:
    """Whatever the bytes: a frame or a `Violation`."""
    from hypothesis import given, settings
    from hypothesis import strategies as st

    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda v: st.lists(v, max_size=4)
    )
    names = st.sampled_from(
        ["kind", "sizes", "query", "prompts", "contexts", "omitted", "variables", "quotes", "model", "long", "text"]
    )

    @settings(max_examples=2000, deadline=None)
    @given(st.dictionaries(names, values, max_size=9), st.binary(max_size=40))
    def check(fields: dict[str, object], body: bytes) -> None:
        try:
            frame = wire.decode(json.dumps(fields).encode(), body)
        except Violation:
            return
        texts = LongTexts()
        for read in (
            lambda: read_query(frame, 100),
            lambda: read_done(frame),
            lambda: texts.add(frame),
            lambda: texts.drop(frame),
            lambda: texts.take(long_texts(frame)),
        ):
            with suppress(Violation):
                read()
        texts.close()

    check()
