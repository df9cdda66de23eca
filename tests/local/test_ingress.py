"""The broker's door, over HTTP."""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from functions import events
from functions.local import manifests
from functions.local.ingress import Ingress
from functions.local.ports import LOOPBACK, listen
from functions.sink import HttpSink, post, post_event
from tests.local.rig import until
from tests.local.subscriber import (
    HOME,
    Subscriber,
    broker,
    drained,
    event,
    subscriber,
    trigger,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from functions.local.broker import Broker


class Door:
    """An ingress, its broker, and a subscriber behind."""

    def __init__(self, port: int, made: Broker, taker: Subscriber) -> None:
        self.port, self.broker, self.taker = port, made, taker
        self.url = f"http://{LOOPBACK}:{port}"

    def get(self, path: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, json.loads(body)


@contextmanager
def door(
    folder: Path,
    status: Callable[[], object] = dict,
    refresh: Callable[[Broker], object] = lambda _: None,
) -> Iterator[Door]:
    listener = listen(LOOPBACK, 0, "broker")
    port = listener.getsockname()[1]
    with subscriber() as taker, broker(folder, taker.url) as made:
        ingress = Ingress(
            made, listener=listener, status=status, refresh=lambda: refresh(made)
        )
        ingress.start()
        try:
            yield Door(port, made, taker)
        finally:
            ingress.close()


@pytest.mark.parametrize("path", ["/", f"/{HOME}/default"])
def test_an_event_is_taken(tmp_path: Path, path: str) -> None:
    """202 with an empty body, and it is delivered."""
    with door(tmp_path) as made:
        answer = post_event(made.url + path, event(), timeout=10)
        drained(made.broker)
        assert (answer.status, answer.body) == (202, b"")
        assert made.taker.seen == [event()]


def test_structured_mode_is_taken(tmp_path: Path) -> None:
    """As well as binary mode."""
    with door(tmp_path) as made:
        body = msgspec.json.encode(events.as_dict(event()))
        headers = {"Content-Type": "application/cloudevents+json"}
        assert post(made.url + "/", headers, body, timeout=10).status == 202
        drained(made.broker)
        assert made.taker.seen == [event()]


def test_our_own_sink_delivers_here(tmp_path: Path) -> None:
    """The functions' side of the wire and this one agree."""
    with door(tmp_path) as made:
        HttpSink(made.url).deliver(event(), timeout=10)
        drained(made.broker)
        assert made.taker.seen == [event()]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/guise-other/default", 404),
        (f"/{HOME}/other", 404),
        ("/a/b/c", 404),
        ("/dead-letters/1/replay", 404),
        ("/dead-letters/x/replay", 404),
        (f"/dead-letters/{'9' * 18}/replay", 404),
        (f"/dead-letters/{'9' * 30}/replay", 404),
        (f"/dead-letters/{'9' * 5000}/replay", 404),
    ],
)
def test_no_such_place(tmp_path: Path, path: str, status: int) -> None:
    """A problem document, and nothing is taken."""
    with door(tmp_path) as made:
        answer = post_event(made.url + path, event(), timeout=10)
        assert answer.status == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert not any(made.broker.depth().values())


def test_attack_malformed_events(tmp_path: Path) -> None:
    """Each is a 400 and leaves no row."""
    bodies = [b"", b"{", b"[]", b"{}", b'{"id": 1}', b"\xff"]
    with door(tmp_path) as made:
        for body in bodies:
            headers = {"Content-Type": "application/cloudevents+json"}
            assert post(made.url + "/", headers, body, timeout=10).status == 400
        assert post(made.url + "/", {}, b"{}", timeout=10).status == 400
        assert post_event(made.url, event(tenant="x"), timeout=10).status == 400
        assert not any(made.broker.depth().values())


def test_attack_a_body_over_the_limit(tmp_path: Path) -> None:
    """It is refused by its length, unread."""
    with door(tmp_path) as made:
        data = {"text": "x" * events.EVENT_BYTES_MAX}
        answer = post_event(made.url, event(data=data), timeout=10)
        assert answer.status == 413


@pytest.mark.parametrize(
    "length",
    [b"", b"Content-Length: -1\r\n", b"Content-Length: " + b"9" * 5000 + b"\r\n"],
)
def test_attack_a_body_without_a_length(tmp_path: Path, length: bytes) -> None:
    """Nobody reads what has no end."""
    with (
        door(tmp_path) as made,
        socket.create_connection((LOOPBACK, made.port), timeout=10) as client,
    ):
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\n" + length + b"\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 400 ")


def test_attack_half_an_event(tmp_path: Path) -> None:
    """A sender that goes away in the middle leaves nothing behind."""
    with door(tmp_path) as made:
        with socket.create_connection((LOOPBACK, made.port), timeout=10) as client:
            client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
        with socket.create_connection((LOOPBACK, made.port), timeout=10) as client:
            client.sendall(b"\x00\x01\r\n\r\n")
            client.recv(100)
        assert made.get("/dead-letters") == (200, [])
        assert not any(made.broker.depth().values())


def test_status_is_shown(tmp_path: Path) -> None:
    """Whatever the stack says of itself, as JSON."""
    with door(tmp_path, lambda: {"pid": 1}) as made:
        assert made.get("/status") == (200, {"pid": 1})
        assert made.get("/other")[0] == 404


def test_a_fault_shows_no_cause(tmp_path: Path) -> None:
    """500, and not a word of what went wrong."""

    def fault() -> object:
        raise RuntimeError("secret")

    with door(tmp_path, fault) as made:
        status, document = made.get("/status")
        assert status == 500
        assert "secret" not in str(document)


def test_dead_letters_are_listed_and_replayed(tmp_path: Path) -> None:
    """An operator sees what failed and sends it again."""
    with door(tmp_path) as made:
        made.taker.answer = lambda _: (400, {}, b"")
        post_event(made.url, event(), timeout=10)
        until(lambda: made.get("/dead-letters")[1])
        [letter] = made.get("/dead-letters")[1]
        made.taker.answer = lambda _: (204, {}, b"")
        path = f"/dead-letters/{letter['number']}/replay"
        assert post(made.url + path, {}, b"", timeout=10).status == 202
        until(lambda: len(made.taker.seen) == 2)
        assert made.get("/dead-letters") == (200, [])
    assert letter["event"]["id"] == "id-1"
    assert letter["reason"] == "status 400"


def test_a_door_that_never_opened_can_be_closed(tmp_path: Path) -> None:
    """A stack that fails while it starts closes what it has."""
    listener = listen(LOOPBACK, 0, "broker")
    with broker(tmp_path, "http://127.0.0.1:9") as made:
        Ingress(made, listener=listener, status=dict).close()
    assert listener.fileno() == -1


@pytest.mark.parametrize("path", ["/", "/guise-late/default"])
def test_an_event_for_a_tenant_who_has_just_come(tmp_path: Path, path: str) -> None:
    """The specs are looked at before it is refused."""

    def refresh(made: Broker) -> None:
        late = replace(trigger(), namespace="guise-late")
        made.serve([manifests.Broker("guise-late", "default")], [late])

    with door(tmp_path, refresh=refresh) as made:
        sent = event(tenant="late")
        assert post_event(made.url + path, sent, timeout=10).status == 202
        drained(made.broker)
        assert made.taker.seen == [sent]


def test_an_event_for_nobody(tmp_path: Path) -> None:
    """Looked for once, and refused."""
    looks: list[Broker] = []
    with door(tmp_path, refresh=looks.append) as made:
        stranger = event(tenant="stranger")
        assert post_event(made.url, stranger, timeout=10).status == 400
        there = f"{made.url}/guise-stranger/default"
        assert post_event(there, stranger, timeout=10).status == 404
    assert len(looks) == 2
