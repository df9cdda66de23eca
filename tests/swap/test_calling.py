"""Attacks by a URL that a tenant wishes for, and what is called all the same."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from functions.problems import InvalidRequest, Unavailable
from functions.swap.calling import addresses, call, check_url, is_public
from tests.certificates import self_signed
from tests.swap.receiver import Receiver, receiving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Return a server on this machine, by plain HTTP."""
    with receiving() as found:
        yield found


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "https:///hooks",
        "https://user@example.com/",
        "https://user:word@example.com/",
        "https://example.com/#part",
        "https://example.com:22/",
        "https://example.com:25/",
        "https://example.com:99999/",
        "https://[::1/",
        "https://exa mple.com/",
        "https://example.com/\r\nHost: other",
        "https://exämple.com/",
        f"https://example.com/{'a' * 2048}",
    ],
)
def test_a_url_that_is_none_of_ours_to_call(url: str) -> None:
    """Refused for how it is written, and no name is looked up."""
    with pytest.raises(InvalidRequest):
        check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com/hooks?a=b",
        "https://example.com:443/",
        "https://example.com:8443/",
        "https://203.0.113.7/",
    ],
)
def test_a_url_that_may_be_tried(url: str) -> None:
    """Where it leads is looked at next."""
    check_url(url)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "0.0.0.0",  # noqa: S104  # an attack
        "localhost",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.0.192",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::a00:1",
        "2002:7f00:1::1",
        "fe80::1",
        "fc00::1",
        "fd00:ec2::254",
        "fec0::1",
        "ff02::1",
    ],
)
def test_ssrf_to_what_only_we_can_reach(host: str) -> None:
    """In every guise: refused once it is looked up, and not connected to."""
    with pytest.raises(InvalidRequest):
        addresses(host, 443)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "1.1.1.1"])
def test_what_is_the_internets_is_public(address: str) -> None:
    """Version 4 and 6."""
    assert is_public(address)
    assert addresses(address, 443) == [address]


def test_a_host_that_is_no_name_is_not_found() -> None:
    """Not a fault of ours: another time it may be one."""
    with pytest.raises(Unavailable):
        addresses("a..b", 443)


def test_this_machine_is_for_development(receiver: Receiver) -> None:
    """Nowhere else: neither by its numbers nor by its name."""
    with pytest.raises(InvalidRequest):
        call(receiver.url, {}, b"{}", timeout=2)
    secure = receiver.url.replace("http:", "https:")
    with pytest.raises(InvalidRequest):
        call(secure, {}, b"{}", timeout=2)
    assert receiver.seen == []
    answer = call(receiver.url, {"X-A": "b"}, b"{}", timeout=2, loopback=True)
    assert answer.status == 204
    [(headers, body)] = receiver.seen
    assert (headers["x-a"], body) == ("b", b"{}")
    with pytest.raises(InvalidRequest):
        call("http://example.com/", {}, b"{}", timeout=2, loopback=True)


def test_a_redirect_leads_nowhere(receiver: Receiver) -> None:
    """It is an answer like any other that is not 2xx."""
    receiver.statuses = [302]
    assert call(receiver.url, {}, b"", timeout=2, loopback=True).status == 302
    assert len(receiver.seen) == 1


def test_who_does_not_answer_is_given_its_time_and_no_more() -> None:
    """A closed port, and one that takes and says nothing."""
    with pytest.raises(Unavailable):
        call("http://127.0.0.1:9/", {}, b"", timeout=0.5, loopback=True)
    with receiving(silent=True) as quiet, pytest.raises(Unavailable):
        call(quiet.url, {}, b"", timeout=0.3, loopback=True)


def test_a_server_must_show_that_it_is_the_host(tmp_path: Path) -> None:
    """By a certificate for what stands in the URL; the same address is not enough."""
    certificate, key = self_signed("127.0.0.1")
    chain = tmp_path / "chain.pem"
    chain.write_text(certificate + key)
    context = ssl.create_default_context(cadata=certificate)
    with receiving(chain=chain) as server:
        answer = call(server.url, {}, b"{}", timeout=2, loopback=True, context=context)
        assert answer.status == 204
        other = server.url.replace("127.0.0.1", "localhost")
        with pytest.raises(Unavailable):
            call(other, {}, b"{}", timeout=2, loopback=True, context=context)
        with pytest.raises(Unavailable):  # whom nobody vouches for
            call(server.url, {}, b"{}", timeout=2, loopback=True)
    assert len(server.seen) == 1
