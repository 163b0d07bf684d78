"""URLs are fetched within bounds, lead nowhere they must not, and show no secret."""

from __future__ import annotations

import gzip
import shutil
import socket
import ssl
import subprocess
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import wait
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from served import Page, Raw, Served

from rlm_cli.errors import UsageError
from rlm_cli.read import addresses, connect
from rlm_cli.read.addresses import Allowance
from rlm_cli.read.connect import Cut
from rlm_cli.read.fetch import fetch
from rlm_cli.read.incoming import STOPPED, Fetched, Incoming
from rlm_cli.read.pieces import Unreadable

TEXT = "Grüße\n".encode() * 100


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands in the environment of who runs the tests."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


def got(url: str, limit: int = 1 << 20) -> Fetched:
    return fetch(url, Allowance(limit), Cut())


def body(url: str, limit: int = 1 << 20) -> bytes:
    with got(url, limit).file as file:
        return file.read()


def refused(url: str, limit: int = 1 << 20) -> str:
    with pytest.raises(Unreadable) as caught:
        got(url, limit)
    return str(caught.value)


def raw(data: bytes) -> Raw:
    def answer(handler: BaseHTTPRequestHandler, _: threading.Event) -> None:
        handler.wfile.write(data)

    return answer


def drip(head: bytes, drop: bytes) -> Raw:
    """A server that says the head and then a drop at a time, for ever."""

    def answer(handler: BaseHTTPRequestHandler, stopped: threading.Event) -> None:
        handler.wfile.write(head)
        while not stopped.wait(0.02):
            handler.wfile.write(drop)

    return answer


PACKED = zlib.compressobj(wbits=-15)
BARE = PACKED.compress(TEXT) + PACKED.flush()
TO = "Location"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    chain = {f"/hop{n}": Page(status=302, headers={TO: f"/hop{n + 1}"}) for n in range(11)}
    pages: dict[str, bytes | Page | Raw] = {
        "/a.txt": TEXT,
        "/gzip": Page(gzip.compress(TEXT), {"Content-Encoding": "gzip"}),
        "/twice": Page(gzip.compress(TEXT) + gzip.compress(TEXT), {"Content-Encoding": "gzip"}),
        "/deflate": Page(zlib.compress(TEXT), {"Content-Encoding": "deflate"}),
        "/bare": Page(BARE, {"Content-Encoding": "deflate"}),
        "/no-length": Page(TEXT, length=False),
        "/chunked": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
        "/b.tar.gz": Page(gzip.compress(TEXT), {"Content-Encoding": "gzip", "Content-Type": "application/x-gzip"}),
        "/brotli": Page(b"\x0b\x02\x80", {"Content-Encoding": "br"}),
        "/bomb": Page(gzip.compress(bytes(50 << 20)), {"Content-Encoding": "gzip"}),
        "/huge": Page(b"x", {"Content-Length": str(1 << 40)}),
        "/cut-gzip": Page(gzip.compress(TEXT)[:-10], {"Content-Encoding": "gzip"}),
        "/cut": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
        "/cut-chunk": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n30\r\nhalf"),
        "/noise": raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
        "/silent": raw(b""),
        "/many-headers": raw(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 5_000 + b"\r\n"),
        "/500": Page(status=500),
        "/599": Page(status=599),
        "/gone": Page(status=410),
        "/pdf": Page(b"%PDF-1.4", {"Content-Type": "application/pdf"}),
        "/soft.pdf": Page(b"<!doctype html><p>log in", {"Content-Type": "text/html"}),
        "/download?id=7": Page(b"%PDF-1.4", {"Content-Disposition": 'attachment; filename="report.PDF"'}),
        "/moved": Page(status=301, headers={TO: "/files/there.docx"}),
        "/files/there.docx": b"PK",
        "/latin": Page("Grüße".encode("latin-1"), {"Content-Type": "text/plain; charset=iso-8859-1"}),
        "/lying": Page(TEXT, {"Content-Type": "text/plain; charset=iso-8859-1"}),
        "/unknown-charset": Page(TEXT, {"Content-Type": "text/plain; charset=klingon"}),
        "/Gr%C3%BC%C3%9Fe%20hier": b"found",
        "/loop": Page(status=302, headers={TO: "/loop"}),
        "/to-file": Page(status=302, headers={TO: "file:///etc/passwd"}),
        "/to-nowhere": Page(status=302, headers={TO: "http://[::1"}),
        "/drip": drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
        "/drip-head": drip(b"HTTP/1.1 200 OK\r\n", b"A"),
    }
    with Served({**pages, **chain, "/hop11": b"too far"}) as found:
        yield found


@pytest.mark.parametrize("path", ["/a.txt", "/gzip", "/deflate", "/bare", "/no-length"])
def test_bodies_arrive_as_they_were(served: Served, path: str) -> None:
    """Packed or not, with a length or without: the file is what the server has."""
    assert body(served.url(path)) == TEXT


def test_odd_but_right_bodies_arrive(served: Served) -> None:
    """Chunks, several gzip streams in a row, and an archive whose server says it were packed for the way only."""
    assert body(served.url("/chunked")) == b"abcde"
    assert body(served.url("/twice")) == 2 * TEXT
    assert gzip.decompress(body(served.url("/b.tar.gz"))) == TEXT
    assert body(served.url("/Grüße hier#there")) == b"found"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/nothing", "not found (404)"),
        ("/gone", "gone (410)"),
        ("/500", "internal server error (500)"),
        ("/599", "the server answers 599"),
        ("/brotli", "packed as 'br', which nobody asked for"),
        ("/bomb", "more than 1 MB (fetch_limit)"),
        ("/huge", "more than 1 MB (fetch_limit)"),
        ("/cut", "it broke off half-way"),
        ("/cut-gzip", "it broke off half-way"),
        ("/cut-chunk", "it broke off half-way"),
        ("/silent", "it broke off half-way"),
        ("/noise", "the server does not speak HTTP (BadStatusLine)"),
        ("/many-headers", "the server does not speak HTTP (HTTPException)"),
        ("/loop", "more than 10 redirects"),
        ("/hop0", "more than 10 redirects"),
        ("/to-file", "it redirects to where nothing is read (file:// is not read)"),
        ("/to-nowhere", "it redirects to where nothing is read (its host is not well formed)"),
    ],
)
def test_what_cannot_be_fetched_is_said(served: Served, path: str, words: str) -> None:
    """Each failure in words for the manifest."""
    assert refused(served.url(path)) == words


def test_ten_redirects_are_followed(served: Served) -> None:
    """And not one more."""
    assert body(served.url("/hop1")) == b"too far"


def test_nobody_there_is_said() -> None:
    """A closed port, a host that no resolver can know."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        assert refused(f"http://127.0.0.1:{port}/") == "unreachable (Connection refused)"
    assert refused(f"http://{'a' * 64}.invalid/") == "no such host"


def test_the_limit_holds_without_a_length(served: Served) -> None:
    """What counts is what arrives."""
    assert refused(served.url("/no-length"), limit=100) == "more than 100 bytes (fetch_limit)"
    assert refused(served.url("/gzip"), limit=100) == "more than 100 bytes (fetch_limit)"


@pytest.mark.parametrize(
    ("path", "kind", "sure", "encoding"),
    [
        ("/pdf", ".pdf", False, None),
        ("/soft.pdf", ".html", True, None),
        ("/download?id=7", ".pdf", False, None),
        ("/moved", ".docx", False, None),
        ("/latin", "", False, "cp1252"),
        ("/lying", "", False, None),
        ("/unknown-charset", "", False, None),
    ],
)
def test_the_server_says_what_it_is(served: Served, path: str, kind: str, sure: bool, encoding: str | None) -> None:
    """Content type, name and charset count where the URL does not tell, and where the bytes agree."""
    found = got(served.url(path))
    found.file.close()
    assert (found.kind, found.sure, found.encoding) == (kind, sure, encoding)


@pytest.mark.parametrize("path", ["/drip", "/drip-head"])
def test_a_dripping_server_does_not_outlast_the_deadline(served: Served, path: str) -> None:
    """A byte now and then is no progress."""
    with closing(Incoming(Allowance(seconds=0.2))) as incoming:
        future = incoming.submit(lambda cut: fetch(served.url(path), incoming.allowance, cut))
        with pytest.raises(Unreadable, match=r"took longer than 0\.2 s"):
            future.result()


def test_what_is_under_way_ends_at_once(served: Served) -> None:
    """Leaving the block cuts off every fetch."""
    with closing(Incoming(Allowance())) as incoming:
        futures = [incoming.submit(lambda cut: fetch(served.url("/drip"), incoming.allowance, cut)) for _ in range(3)]
        assert not wait(futures, timeout=0.1).done
    assert {str(future.exception()) for future in futures} == {STOPPED}


def test_a_password_goes_to_its_server_only(served: Served) -> None:
    """It is sent where it was named for, also after a redirect there, and not to another server."""
    with Served(
        {
            "/away": Page(status=302, headers={TO: served.url("/a.txt")}),
            "/on": Page(status=302, headers={TO: "/b"}),
            "/b": b"b",
        }
    ) as other:
        served.requests.clear()
        body(other.url("/away", "me:s%40cret"))
        body(other.url("/on", "me:s%40cret"))
    assert all(headers["authorization"] == "Basic bWU6c0BjcmV0" for _, headers in other.requests)
    assert len(other.requests) == 3
    assert "authorization" not in served.requests[0][1]


@pytest.mark.parametrize(
    "address",
    (
        "127.0.0.1 10.0.0.1 172.16.5.4 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 224.0.0.1 255.255.255.255 ::1 :: fe80::1%eth0"
        " fc00::1 fec0::1 ff02::1 ::ffff:127.0.0.1 ::ffff:10.1.2.3 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b::a00:1 64:ff9b:1::1"
        " 2002:7f00:1:: 2002:a00:1:: 2001:0:4136:e378:8000:63bf:f5ff:fffe nonsense"
    ).split(),
)
def test_addresses_that_are_not_public(address: str) -> None:
    """Private, loopback, link-local, shared, multicast; also where an IPv6 address stands for an IPv4 one."""
    assert not connect.is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_that_are_public(address: str) -> None:
    """The rest of the internet."""
    assert connect.is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"])
def test_a_public_server_cannot_send_us_to_a_private_one(
    served: Served, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However its address is spelled: what is resolved and connected to is what counts."""
    monkeypatch.setenv("NO_PROXY", host.strip("[]"))
    to = served.url("/a.txt").replace("127.0.0.1", host)
    with Served({"http://public.example/": Page(status=302, headers={TO: to})}) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.place}")
        served.requests.clear()
        assert refused("http://public.example/") == "it redirects to a private address, which is refused"
    assert not served.requests


def test_a_private_server_may(served: Served) -> None:
    """Who names an address of the own network wants what it says."""
    with Served({"/": Page(status=302, headers={TO: served.url("/a.txt")})}) as other:
        assert body(other.url("/")) == TEXT


def test_a_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """For http the whole URL, for https a connection; with its own password, which the server does not see."""
    refuses = Page(status=403)
    with Served({"http://public.example/x?y=1": TEXT, "public.example:443": refuses}) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://who:p%40ss@{proxy.place}")
        assert body("http://public.example/x?y=1") == TEXT
        assert refused("https://public.example/x") == "the proxy refuses it (403)"
        assert all(headers["proxy-authorization"] == "Basic d2hvOnBAc3M=" for _, headers in proxy.requests)
    monkeypatch.setenv("HTTP_PROXY", "socks5://127.0.0.1:1")
    assert refused("http://public.example/") == "a proxy of the kind socks5:// is set"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes the certificate")
def test_certificates_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown one is refused, one that the environment trusts is not, and a name must be its own."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout {key} -out {certificate}"
    subprocess.run(command.split(), check=True, capture_output=True)
    with Served({"/": TEXT}) as served:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        served.wrap(context)
        here = f"https://localhost:{served.place.partition(':')[2]}/"
        assert refused(here).startswith("the server's certificate is not trusted (self-signed certificate")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert body(here) == TEXT
        assert "certificate is not trusted" in refused(here.replace("localhost", "127.0.0.1"))


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("https://me:pw@host/a.pdf?page=2#top", "https://host/a.pdf?page=2"),
        ("https://me:p@w@host/", "https://host/"),
        ("https://host/a@b", "https://host/a@b"),
        ("https://host?x=a@b", "https://host?x=a@b"),
        (
            "https://h/a?X-Amz-Signature=12ab&v=1&access_token=x&sig=%2B",
            "https://h/a?X-Amz-Signature=…&v=1&access_token=…&sig=…",
        ),
        (
            "https://h/?keyword=a&api_key=b&accessToken=c&design=d&passport=e",
            "https://h/?keyword=a&api_key=…&accessToken=…&design=d&passport=e",
        ),
        ("sftp://me:pw@host/a#1.txt", "sftp://host/a#1.txt"),
        ("s3://KEY:SECRET@bucket/a", "s3://bucket/a"),
        ("a/b@c?token=1", "a/b@c?token=1"),
    ],
)
def test_secrets_of_a_url_are_not_shown(url: str, seen: str) -> None:
    """What it needs to be fetched is nobody else's business; what is no URL stays as it is."""
    assert addresses.shown(url) == seen


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file:///etc/passwd", "file:// is not read"),
        ("ftp://host/a", "ftp:// is not read"),
        ("simplecache::s3://bucket/a", "simplecache::s3:// is not read"),
        ("https://", "https:// is no address: it names no host"),
        ("http://host:port/", "its host or port is not well formed"),
        ("http://me:pw@ho st/", "its host is not well formed"),
    ],
)
def test_urls_that_are_none(url: str, words: str) -> None:
    """Refused before anything is read, without the password that may stand in them."""
    with pytest.raises(UsageError) as caught:
        addresses.check(url)
    assert words in str(caught.value)
    assert "pw" not in f"{caught.value}{caught.value.hint}"
