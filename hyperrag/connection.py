"""How a service is reached: directly, or through the proxy that the environment names for it.

httpx reads all proxy and certificate variables for every client, so that a wrong one breaks calls
that need none of them, with a traceback that does not name it. Here only those are read that the
service's address asks for: none for this machine, certificates for TLS alone.
"""

import os
import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.request import getproxies, proxy_bypass

import httpx

from hyperrag.errors import SettingError, UnreachableError

_CERTIFICATES = (("SSL_CERT_FILE", "cafile"), ("SSL_CERT_DIR", "capath"))


@dataclass(frozen=True, slots=True)
class Proxy:
    url: str
    setting: str
    """The variable that names it."""

    def __str__(self) -> str:
        """Without the user and password that it may have."""
        try:
            shown = str(httpx.URL(self.url).copy_with(userinfo=b""))
        except httpx.InvalidURL:
            shown = "(not shown)" if "@" in self.url else self.url
        return f"{shown} of {self.setting}"


def proxy_for(url: httpx.URL) -> Proxy | None:
    """What the environment says; None for this machine, whatever it says."""
    if _is_here(url.host):
        return None
    settings = getproxies()
    for kind in (url.scheme, "all"):
        if address := settings.get(kind):
            if proxy_bypass(url.host):
                return None
            full = address if "://" in address else f"http://{address}"
            return Proxy(full, _variable(f"{kind}_proxy") or "the system's settings")
    return None


def connect(
    base_url: str, headers: dict[str, str], timeout: httpx.Timeout
) -> tuple[httpx.Client, Proxy | None]:
    """Opens no connection yet. Raises SettingError that names the variable, and UnreachableError
    for what is no URL."""
    try:
        url = httpx.URL(base_url)
        proxy = proxy_for(url)
    except httpx.InvalidURL as error:
        raise UnreachableError(f"{base_url} is not a URL: {error}") from error
    is_secure = url.scheme == "https" or (proxy is not None and proxy.url.startswith("https:"))
    # Without TLS there is nothing to verify, and redirects are not followed.
    verify = _certificates() if is_secure else False
    transport = _transport(proxy, verify)
    http = httpx.Client(
        base_url=url, headers=headers, timeout=timeout, transport=transport, trust_env=False
    )
    return http, proxy


def _transport(proxy: Proxy | None, verify: ssl.SSLContext | bool) -> httpx.HTTPTransport:
    if proxy is None:
        return httpx.HTTPTransport(verify=verify)
    try:
        return httpx.HTTPTransport(verify=verify, proxy=httpx.Proxy(proxy.url))
    except (ValueError, httpx.InvalidURL, ImportError) as error:
        message = f"the proxy {proxy} cannot be used: {error}; mend it, or unset it"
        raise SettingError(message) from error


def _certificates() -> ssl.SSLContext:
    for name, argument in _CERTIFICATES:
        if path := os.environ.get(name):
            try:
                os.stat(path)  # a folder that is not there is no error to OpenSSL
                return ssl.create_default_context(**{argument: path})  # type: ignore[arg-type]
            except OSError as error:
                raise SettingError(_wrong(name, path, error)) from error
    try:
        return httpx.create_ssl_context(trust_env=False)
    except OSError as error:  # Python itself opens the file that this variable names
        name = "SSLKEYLOGFILE"
        raise SettingError(_wrong(name, os.environ.get(name, ""), error)) from error


def _wrong(name: str, path: str, error: OSError) -> str:
    return f"{name} is {path!r}: {error.strerror or error}; mend it, or unset it"


def _variable(name: str) -> str:
    """As it is written in the environment, where lower case wins; empty where it is not there."""
    found = [given for given in os.environ if given.lower() == name and os.environ[given]]
    return name if name in found else next(iter(found), "")


def _is_here(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)
