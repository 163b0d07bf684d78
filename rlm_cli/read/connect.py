"""Connections to where a URL leads: resolved once, checked, and made to just that address.

Who sends a redirect chooses where this machine connects next, and from here it can reach what the sender cannot: the
router, a cloud's metadata service, a database on loopback. So a redirect from a public address leads to a public one
or nowhere, and what is checked is the address that is connected to, not the name: a resolver may answer differently
the second time. Where the user named a private address, redirects among private ones are fine.

A proxy (`HTTPS_PROXY` and its like) resolves and connects itself: there the target is checked as far as it can be
resolved here.

Rejected: httpx, aiohttp, urllib3. Each resolves and connects out of sight, needs a transport of our own to be stopped
from doing so, and costs 60 to 160 ms of import; http.client costs 26 and takes a socket that is already connected.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import socket
import ssl
import threading
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ..errors import ConfigError
from ..trust import proxy_for, trusted
from .addresses import Address
from .pieces import Unreadable

CONNECT_S = 15.0
IDLE_S = 60.0
"""How long a server may say nothing; the whole of a fetch has its own deadline."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.IPv6Network("64:ff9b:1::/48")
_COMPATIBLE = ipaddress.IPv6Network("::/96")

_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


class Cut:
    """Ends what a thread waits for, from another thread: its socket is shut down, and it is told why."""

    def __init__(self) -> None:
        self.reason = ""
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def hold(self, one: socket.socket) -> None:
        """The socket that is waited for from now on. Raises `Unreadable` when all is over already."""
        with self._lock:
            self._socket = one
        self.check()

    def check(self) -> None:
        if self.reason:
            raise Unreadable(self.reason)

    def end(self, reason: str) -> None:
        with self._lock:
            self.reason = self.reason or reason
            if self._socket is not None:
                try:
                    socket.socket.shutdown(
                        self._socket, socket.SHUT_RDWR
                    )  # not TLS's, which its reader would trip over
                except OSError:
                    pass  # it is closed, or not connected yet


@dataclass(frozen=True, slots=True)
class Line:
    """A connection to the server of an address. `proxied`: to a proxy that wants the whole URL. `public`: the server
    is in the open internet."""

    http: http.client.HTTPConnection
    public: bool
    proxied: bool


def connect(address: Address, cut: Cut, *, from_public: bool) -> Line:
    """Raises `OSError`, and `Unreadable` for an address that nobody may redirect us to (`from_public`)."""
    proxy, context = _surroundings(address)
    if proxy is None:
        one, public = _dial(address.host, address.port, cut, only_public=from_public)
    else:
        public = _checked_for_proxy(address, from_public)
        one = _through(proxy, address, cut)
    try:
        if context is not None:
            one = context.wrap_socket(one, server_hostname=address.host, do_handshake_on_connect=False)
            cut.hold(one)
            one.do_handshake()
        one.settimeout(IDLE_S)
    except BaseException:
        one.close()
        raise
    connection = http.client.HTTPConnection(address.host, address.port)
    connection.sock = one
    return Line(connection, public, proxied=proxy is not None and address.scheme == "http")


def _surroundings(address: Address) -> tuple[str | None, ssl.SSLContext | None]:
    """The proxy on the way, and for https whom to trust. Raises `Unreadable`."""
    try:
        return proxy_for(address.url), trusted() if address.scheme == "https" else None
    except ConfigError as error:
        raise Unreadable(error.message) from None


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the open internet, also when an IPv6 address stands for an IPv4 one."""
    try:
        ip: _Ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64_LOCAL or ip.is_site_local:
            return False
        inner = _inner(ip)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


def _inner(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one leads to."""
    if ip in _NAT64 or ip in _COMPATIBLE:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)


def _resolve(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # an empty label, one of over 63 letters
        raise Unreadable("no such host") from error
    return [(family, place) for family, _, _, _, place in found]  # type: ignore[misc]  # stubs: not without IPv6


def _dial(host: str, port: int, cut: Cut, *, only_public: bool) -> tuple[socket.socket, bool]:
    """A socket to the first of the host's addresses that answers, and whether that one is public."""
    failed: OSError | None = None
    places = _resolve(host, port)
    allowed = [place for place in places if not only_public or is_public(place[1][0])]
    if not allowed:
        raise Unreadable("it redirects to a private address, which is refused")
    for family, place in allowed:
        one = socket.socket(family, socket.SOCK_STREAM)
        try:
            one.settimeout(CONNECT_S)
            cut.hold(one)
            one.connect(place)
            cut.hold(one)  # what was cut before it was connected
            return one, is_public(place[0])
        except OSError as error:
            one.close()
            failed = error
        except BaseException:
            one.close()
            raise
    assert failed is not None
    raise failed


def _checked_for_proxy(address: Address, from_public: bool) -> bool:
    if not from_public:
        return is_public(address.host) or not _is_ip(address.host)
    try:
        places = _resolve(address.host, address.port)
    except OSError:
        return True  # a name only the proxy knows
    if not all(is_public(place[0]) for _, place in places):
        raise Unreadable("it redirects to a private address, which is refused")
    return True


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _through(proxy: str, address: Address, cut: Cut) -> socket.socket:
    """A socket to the proxy; for https one on which the server itself is at the other end."""
    try:
        parts = urlsplit(proxy)
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        host, port, parts = None, 0, urlsplit("")
    if parts.scheme != "http" or not host:
        raise Unreadable("the proxy that is set is no http://HOST:PORT")
    one, _ = _dial(host, port, cut, only_public=False)
    if address.scheme != "https":
        return one
    try:
        host_port = f"{f'[{address.host}]' if ':' in address.host else address.host}:{address.port}"
        head = f"CONNECT {host_port} HTTP/1.1\r\nHost: {host_port}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in proxy_headers(proxy).items())
        one.sendall(head.encode("latin-1") + b"\r\n")
        with closing(http.client.HTTPResponse(one, method="CONNECT")) as response:
            response.begin()
            if response.status != 200:
                raise Unreadable(f"the proxy refuses it ({response.status})")
    except BaseException:
        one.close()
        raise
    return one


def proxy_headers(proxy: str) -> dict[str, str]:
    """What the proxy wants to see of us: the user and password in its URL."""
    parts = urlsplit(proxy)
    if parts.username is None:
        return {}
    return {"Proxy-Authorization": basic(unquote(parts.username), unquote(parts.password or ""))}


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
