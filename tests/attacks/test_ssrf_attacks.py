"""Addresses that a tenant names and that we, not the tenant, would reach."""

from __future__ import annotations

import json
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from functions.problems import Unavailable
from functions.swap import webhooks
from functions.swap.calling import call
from functions.swap.sweeper import call_back
from functions.tenant import WEBHOOKS, Key
from tests.swap.house import ACME, SWAP, House, picture
from tests.swap.receiver import receiving

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "whsec_" + "A" * 32

# `{port}` is that of a server of ours on loopback, which is never to be reached.
INSIDE = {
    "loopback": "https://127.0.0.1:{port}/",
    "loopback-another": "https://127.8.7.6:{port}/",
    "loopback-short": "https://127.1:{port}/",
    "loopback-decimal": "https://2130706433:{port}/",
    "loopback-hexadecimal": "https://0x7f000001:{port}/",
    "loopback-octal": "https://0177.0.0.01:{port}/",
    "loopback-by-name": "https://localhost:{port}/",
    "loopback-by-name-with-a-dot": "https://localhost.:{port}/",
    "loopback-in-upper-case": "https://LOCALHOST:{port}/",
    "loopback-of-six": "https://[::1]:{port}/",
    "loopback-mapped": "https://[::ffff:127.0.0.1]:{port}/",
    "loopback-compatible": "https://[::127.0.0.1]:{port}/",
    "loopback-by-nat64": "https://[64:ff9b::7f00:1]:{port}/",
    "loopback-by-6to4": "https://[2002:7f00:1::]:{port}/",
    "nobody": "https://0.0.0.0:{port}/",
    "nobody-short": "https://0:{port}/",
    "nobody-of-six": "https://[::]:{port}/",
    "private-ten": "https://10.0.0.1/",
    "private-172": "https://172.16.0.1/",
    "private-192": "https://192.168.0.1/",
    "private-of-six": "https://[fd00::1]/",
    "link-local": "https://[fe80::1%25eth0]/",
    "shared": "https://100.64.0.1/",
    "metadata": "https://169.254.169.254/latest/meta-data",
    "metadata-of-six": "https://[fd00:ec2::254]/",
    "metadata-of-oracle": "https://192.0.0.192/",
    "multicast": "https://224.0.0.1/",
    "broadcast": "https://255.255.255.255/",
    "test-net": "https://192.0.2.1/",
    "plain-http": "http://127.0.0.1:{port}/",
    "credentials": "https://example.com@127.0.0.1:{port}/",
    "credentials-hidden": "https://127.0.0.1:{port}#@example.com/",
    "backslash": "https://127.0.0.1:{port}\\@example.com/",
    "port-of-ssh": "https://127.0.0.1:22/",
    "port-of-smtp": "https://127.0.0.1:25/",
    "file": "file:///etc/passwd",
    "gopher": "gopher://127.0.0.1:{port}/_x",
    "ftp": "ftp://127.0.0.1:{port}/",
    "unix": "http+unix://%2Fvar%2Frun%2Fdocker.sock/",
    "line-break": "https://example.com/\r\nHost: 127.0.0.1:{port}",
    "no-scheme": "//127.0.0.1:{port}/",
    "full-width-digits": "https://\uff11\uff12\uff17.0.0.1:{port}/",
    "circled-digits": "https://\u2460\u2461\u2466.0.0.1:{port}/",
}


@contextmanager
def wishing(url: str) -> Iterator[House]:
    """Yield a house whose tenant wants webhooks there, and of which a job has ended."""
    house = House()
    endpoint = {"name": "mine", "url": url, "secrets": [SECRET]}
    house.store.put(WEBHOOKS, json.dumps({"endpoints": [endpoint]}).encode())
    for name in "ab":
        house.put(f"{name}.png", picture())
    assert house.post(SWAP).status_code == 201
    yield house


def calls_of(house: House) -> list[dict[str, Any]]:
    [info] = house.store.list(Key("webhooks/jobs/")).objects
    job = info.key.rsplit("/", 1)[1].removesuffix(".json")
    return webhooks.shown(ACME, job, house.store)


@pytest.mark.parametrize("attack", INSIDE)
def test_attack_webhook_to_the_inside(attack: str) -> None:
    """Nobody connects there, and the tenant reads no more than that nobody did."""
    with (
        listening() as victim,
        wishing(INSIDE[attack].format(port=port_of(victim))) as it,
    ):
        began = time.monotonic()
        call_back(it.books)
        assert time.monotonic() - began < 20
        told = calls_of(it)
        with pytest.raises(BlockingIOError):
            victim.accept()
    for each in told:
        assert each["state"] == "due"
        assert all("status" not in tried for tried in each.get("tries", []))
        assert "refused" not in json.dumps(each).lower()  # nor whether a port is open


@contextmanager
def listening() -> Iterator[socket.socket]:
    """Yield a socket to which whoever connects, by any address of ours, is noted."""
    six = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if six else socket.AF_INET
    with socket.create_server(("", 0), family=family, dualstack_ipv6=six) as made:
        made.settimeout(0)
        yield made


def port_of(victim: socket.socket) -> int:
    port: int = victim.getsockname()[1]
    return port


def test_the_victim_of_these_attacks_notices() -> None:
    """A connection by any address of this machine is seen."""
    with listening() as victim:
        for host in ("127.0.0.1", "127.8.7.6", "localhost"):
            with socket.create_connection((host, port_of(victim))):
                victim.accept()[0].close()


def test_attack_webhook_tells_open_ports() -> None:
    """An open port and a shut one inside are answered alike, and as soon."""
    told = []
    with receiving() as victim:
        port = int(victim.url.split(":")[2].split("/")[0])
        for each in (port, 1024):
            with wishing(f"https://127.0.0.1:{each}/") as house:
                call_back(house.books)
                [said] = calls_of(house)
            told.append([tried["reason"] for tried in said["tries"]])
    assert told[0] == told[1]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_attack_webhook_that_redirects(status: int) -> None:
    """A redirect is an answer like any other: nobody goes where it leads."""
    with receiving() as victim, receiving() as lure:
        lure.statuses = [status]
        reached, lure.url = lure.url, victim.url  # the Location that it answers
        answer = call(reached, {}, b"{}", timeout=5, loopback=True)
    assert answer.status == status
    assert len(lure.seen) == 1
    assert victim.seen == []


def test_attack_webhook_that_answers_for_ever() -> None:
    """Who reads slowly, or says nothing, has its seconds and no more."""
    with receiving(silent=True) as lure:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            call(lure.url, {}, b"{}", timeout=1, loopback=True)
        assert time.monotonic() - began < 5
        lure.ended.set()


NAMED = (
    "url",
    "webhook",
    "callback",
    "notify",
    "store",
    "timestamp_url",
    "worker_url",
    "audit_url",
    "sink",
    "jwks",
    "issuer",
)
ELSEWHERE = (
    "http://169.254.169.254/latest/meta-data",
    "file:///etc/passwd",
    "gs://another-bucket/a.png",
    "s3://another-bucket/a.png?endpoint=http://127.0.0.1",
    "data:image/png;base64,AAAA",
    "//127.0.0.1/a.png",
    "\\\\127.0.0.1\\share\\a.png",
)


@pytest.mark.parametrize("name", NAMED)
def test_attack_address_in_a_request(name: str) -> None:
    """No field of a request is an address: time stamps and sinks are the operator's."""
    house = House()
    for part in (SWAP, {**SWAP, "options": {name: ELSEWHERE[0]}}):
        ask = {**part, name: ELSEWHERE[0]} if part is SWAP else part
        answer = house.post(ask)
        assert answer.status_code == 400
        assert name in answer.get_json()["detail"]
    assert house.sink.types() == ["dev.guise.swap.refused.v1"] * 2


@pytest.mark.parametrize("url", ELSEWHERE)
@pytest.mark.parametrize("field", ["source", "target", "reference", "record"])
def test_attack_address_for_a_picture(field: str, url: str) -> None:
    """A picture is a key of the tenant's own store, and comes from nowhere else."""
    asks: dict[str, Any] = {
        "source": {**SWAP, "source": url},
        "target": {**SWAP, "target": url},
        "reference": {**SWAP, "faces": {"reference": url}},
        "record": {**SWAP, "consent": {"basis": "consent", "record": url}},
    }
    house = House()
    assert house.post(asks[field]).status_code == 400
    assert house.auditor.seen == []
