"""A POST to an address that a tenant wishes for: https, public, and nowhere else.

A URL of a tenant's own may name what only we can reach: our own services, a cloud's
metadata, a printer.  So its host is looked up once, every address found must be a
public one, and it is those that are connected to, with the host's name in the TLS
handshake: a second look-up, which might answer otherwise, never comes.  No redirect
is followed, nothing goes by a proxy, and time and answer are bounded.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from functions.problems import InvalidRequest, Unavailable
from functions.sink import post

if TYPE_CHECKING:
    from collections.abc import Mapping

    from functions.sink import Answer

URL_CHARACTERS_MAX: Final = 2048
_HTTPS: Final = 443
_PRIVILEGED: Final = range(1024)
_ADDRESSES_MAX: Final = 4
# What Python's `is_global` lets pass, here or in another version, and is none of the
# Internet's: IPv4 in another guise, which may lead to a private one, IPv4-compatible
# (RFC 4291), NAT64 (RFC 6052 and 8215) and 6to4 (RFC 3056); site-local (RFC 3879); and
# all of IETF's protocol assignments (RFC 6890), where a cloud has put its metadata.
_NOT_PLAIN: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            "192.0.0.0/24",
            "::/96",
            "64:ff9b::/96",
            "64:ff9b:1::/48",
            "2002::/16",
            "fec0::/10",
        ),
    )
)


def check_url(url: str, *, loopback: bool = False) -> None:
    """Return if `url` is one that may be called, or raise `InvalidRequest`.

    `loopback` lets http and https to this machine pass, by its numbers or its name.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InvalidRequest("the URL is none") from error
    plain = url.isascii() and url.isprintable() and " " not in url
    if not (plain and host) or len(url) > URL_CHARACTERS_MAX:
        raise InvalidRequest(f"a URL has at most {URL_CHARACTERS_MAX} characters")
    if "@" in parts.netloc or parts.fragment:
        raise InvalidRequest("a URL has no user, no password and no fragment")
    if loopback and _is_loopback(host) and parts.scheme in {"http", "https"}:
        return
    if parts.scheme != "https":
        raise InvalidRequest("the URL is not https")
    if (port or _HTTPS) != _HTTPS and port in _PRIVILEGED:
        raise InvalidRequest("a port is 443, or 1024 and more")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the Internet's, and plainly so."""
    ip = ipaddress.ip_address(address)
    if ip.is_multicast or not ip.is_global:
        return False
    return not any(ip in each for each in _NOT_PLAIN)


def addresses(host: str, port: int, *, loopback: bool = False) -> list[str]:
    """Return the addresses of `host`, all of them fit to be called.

    Raises `InvalidRequest` where one is not, `Unavailable` where there is none.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"{host} is not found", internal=repr(error)) from error
    known = list(dict.fromkeys(str(each[4][0]) for each in found))
    here = loopback and _is_loopback(host)
    fits = _is_loopback if here else is_public
    if not all(fits(each.partition("%")[0]) for each in known):
        raise InvalidRequest(f"{host} is not an address of the Internet")
    return known[:_ADDRESSES_MAX]


class _Plain(http.client.HTTPConnection):
    """A connection to one of the addresses that were looked at."""

    def __init__(self, found: list[str], host: str, port: int, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout)
        self._found = found

    def connect(self) -> None:
        """Connect to the first that answers, each with its share of the time."""
        share = (self.timeout or 0) / len(self._found)
        for number, address in enumerate(self._found, 1):
            try:
                self.sock = socket.create_connection((address, self.port), share)
            except OSError:
                if number == len(self._found):
                    raise
            else:
                return


class _Secure(_Plain):
    """The same, by TLS and in the name of the host."""

    def __init__(self, context: ssl.SSLContext, *place: Any) -> None:  # noqa: ANN401  # as its base
        super().__init__(*place)
        self._context = context

    def connect(self) -> None:
        """Connect, and have the server show that it is the host."""
        super().connect()
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host)


def call(
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    timeout: float,
    loopback: bool = False,
    context: ssl.SSLContext | None = None,
) -> Answer:
    """POST `body` to a URL of a tenant's own, within `timeout` seconds.

    The look-up of the name comes on top.  Raises `InvalidRequest` where it may not
    be called, `Unavailable` where there is no answer.
    """
    check_url(url, loopback=loopback)
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (_HTTPS if secure else http.client.HTTP_PORT)
    found = addresses(host, port, loopback=loopback)
    connection: _Plain
    if secure:
        trusted = context or ssl.create_default_context()
        connection = _Secure(trusted, found, host, port, timeout)
    else:
        connection = _Plain(found, host, port, timeout)
    return post(url, headers, body, timeout=timeout, way=connection)
