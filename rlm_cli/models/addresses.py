"""Where a model is asked: the address that the environment names, the host to show, whether it is this machine.

Whether an address is loopback decides what `--local` lets through, whether a proxy is passed by and whether tokens are
free, so it is looked at here only, and once more at the moment of connecting (`chat.py`). A name is resolved for
`--local` alone: without it nothing but the model's server is asked anything, not even a resolver.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

from ..errors import ConfigError
from . import catalog


def address_in(environ: Mapping[str, str], provider: catalog.Provider) -> str | None:
    """The address the environment gives a provider, by the names litellm and the SDKs use, and Ollama itself."""
    stem = provider.name.upper().replace("-", "_")
    stems = (stem, "OLLAMA") if stem == "OLLAMA_CHAT" else (stem,)
    names = [f"{stem}{ending}" for stem in stems for ending in ("_API_BASE", "_BASE_URL")]
    given = next((environ[name].strip() for name in names if environ.get(name, "").strip()), None)
    if given is None and provider.name.startswith("ollama") and environ.get("OLLAMA_HOST", "").strip():
        return _ollama_host(environ["OLLAMA_HOST"].strip())
    return given


def _ollama_host(said: str) -> str:
    """`OLLAMA_HOST` as Ollama's own client reads it: what a server listens on may stand there too, and no port."""
    scheme, there, rest = said.rpartition("://")
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname or "127.0.0.1", parts.port
    except ValueError:
        raise ConfigError("OLLAMA_HOST is no address", hint="OLLAMA_HOST=127.0.0.1:11434") from None
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    host = f"[{host}]" if ":" in host else host
    usual = {"http": 80, "https": 443}.get(scheme, 11434) if there else 11434
    return f"{scheme or 'http'}://{host}:{port or usual}{parts.path.rstrip('/')}"


def host_of(api_base: str, name: str) -> str:
    """`host:port` of an address. Raises `ConfigError` for what is none."""
    try:
        parts = urlsplit(api_base)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"{name}: api_base is no address", hint='api_base = "http://127.0.0.1:8000/v1"')
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{port}" if port else shown


def refuse_user(api_base: str, name: str) -> None:
    """Raises `ConfigError` for an address with a user's name in it: no client sends that beside a key."""
    parts = urlsplit(api_base)
    if parts.username is not None:
        raise ConfigError(
            f"{name}: the address of {parts.hostname} holds a user's name",
            why="a key goes with every request, and both would stand in one header",
            hint='key = { env = "…" }, or options = { extra_headers = { Authorization = "Basic …" } }',
        )


def is_loopback(endpoint: str | None, *, resolving: bool) -> bool:
    """Whether every address of the host is loopback. Without `resolving` only what shows without asking a resolver."""
    if endpoint is None:
        return False
    host = urlsplit(f"//{endpoint}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    if not resolving:
        return host == "localhost"
    try:
        addresses = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return bool(addresses) and all(map(leads_here, addresses))


def leads_here(address: str) -> bool:
    """Whether an IP address, as a resolver gives it, is loopback."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def held_here(api_base: str, name: str) -> str:
    """An address that was found to be loopback, with the number in place of its name: the next look-up may say another.

    `localhost` stays: it may be both `127.0.0.1` and `::1`, of which a server may know one.
    """
    parts = urlsplit(api_base)
    host = parts.hostname or ""
    try:
        ipaddress.ip_address(host)
        return api_base
    except ValueError:
        if host == "localhost":
            return api_base
    if parts.scheme == "https":
        raise ConfigError(
            f"--local: {name} has an https address with a name",
            why="where a name leads may change, and TLS wants the name",
            hint="an address like http://127.0.0.1:8000/v1 or https://localhost:8000/v1",
        )
    found = sorted({str(info[4][0]) for info in socket.getaddrinfo(host, None)}, key=lambda one: ":" in one)
    if not all(map(leads_here, found)):
        raise ConfigError(f"--local: {name} is not on this machine", why=f"{host} leads elsewhere by now")
    here = f"[{found[0]}]" if ":" in found[0] else found[0]
    return parts._replace(netloc=f"{here}:{parts.port}" if parts.port else here).geturl()
