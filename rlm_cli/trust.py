"""Whom to trust and what to pass through: certificates of the system, proxies of the environment. For requests to
models and for documents alike.

The system's own store, since a company's authority is there and not in a list that came with a package.
`SSL_CERT_FILE` and `SSL_CERT_DIR` name another one, as OpenSSL has it, and so does `REQUESTS_CA_BUNDLE`, which many
have set. A place that is named and not there is an error: silently trusting others is not what was asked for.

truststore (MIT) asks macOS and Windows, whose stores are no files. On Linux they are, and there it reads them again
for every connection, 20 ms each, on the event loop; so here they are read once, from the places that it looks in.
"""

from __future__ import annotations

import os
import ssl
import sys
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from .errors import ConfigError

_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/cert.pem",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
)
"""Where Debian, Fedora and RHEL, Alpine and macOS, and SUSE keep theirs."""
_PLACES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")


def trusted() -> ssl.SSLContext:
    """Checks certificates and names against what is trusted. Takes 20 ms or more: not for the event loop.

    Raises `ConfigError` when a variable names certificates that cannot be read.
    """
    places = {variable: os.environ.get(variable, "") for variable in _PLACES}
    for variable, place in places.items():
        if place and not Path(place).exists():
            raise ConfigError(f"{variable}: {place} is not there", hint="correct it, or unset it")
    try:
        return _store(*places.values())
    except (OSError, ssl.SSLError) as error:
        why = str(error)[:200]
        raise ConfigError("no certificates could be read", why=why, hint=f"look at {', '.join(_PLACES)}") from None


@cache
def _store(file: str, folder: str, bundle: str) -> ssl.SSLContext:
    if bundle and not (file or folder):
        is_folder = Path(bundle).is_dir()
        return ssl.create_default_context(capath=bundle) if is_folder else ssl.create_default_context(cafile=bundle)
    if sys.platform != "linux" and not (file or folder):
        import truststore

        return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context = ssl.create_default_context()
    if not (file or folder or context.cert_store_stats()["x509_ca"]):
        import certifi  # OpenSSL does not know where this system has them, if it has any

        context.load_verify_locations(cafile=certificate_file() or certifi.where())
    return context


def certificate_file() -> str | None:
    """One file with the authorities to trust, for who takes nothing else: `REQUESTS_CA_BUNDLE`, else the system's."""
    candidates = (os.environ.get("REQUESTS_CA_BUNDLE", ""), ssl.get_default_verify_paths().cafile or "", *_BUNDLES)
    return next((place for place in candidates if place and Path(place).is_file()), None)


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for an address: `HTTPS_PROXY` or `HTTP_PROXY`, else `ALL_PROXY`, unless
    `NO_PROXY` says otherwise. Raises `ConfigError` for one that speaks something else than HTTP."""
    from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

    proxies = getproxies_environment()
    parts = urlsplit(url)
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass_environment(parts.netloc.rpartition("@")[2], proxies):
        return None
    scheme, slashes, _ = proxy.partition("://")
    if slashes and scheme.lower() not in ("http", "https"):
        raise ConfigError(f"a proxy of the kind {scheme}:// is set", hint="HTTPS_PROXY=http://…, or NO_PROXY=HOST")
    return proxy if slashes else f"http://{proxy}"
