"""Bytes on the wire against the real gunicorn, as the manifest starts it."""

from __future__ import annotations

import select
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from functions.server import BODY_SECONDS_MAX, HEAD_BYTES_MAX, HEAD_SECONDS_MAX
from tests.attacks.server import answered, rest, statuses

if TYPE_CHECKING:
    from tests.attacks.server import Server

SMUGGLED = b"GET /openapi.json HTTP/1.1\r\nHost: door\r\n\r\n"
THREADS = 48
"""Of the door, as its manifest says."""

REFUSED = {
    "content-length-and-chunked": ("Content-Length: 5", "Transfer-Encoding: chunked"),
    "chunked-and-content-length": ("Transfer-Encoding: chunked", "Content-Length: 5"),
    "chunked-behind-a-tab": ("Transfer-Encoding:\tchunked", "Content-Length: 5"),
    "chunked-behind-a-vertical-tab": (
        "Transfer-Encoding: \x0bchunked",
        "Content-Length: 5",
    ),
    "chunked-twice": ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    "chunked-then-identity": ("Transfer-Encoding: chunked, identity",),
    "chunked-misspelt": ("Transfer-Encoding: xchunked",),
    "chunked-before-a-colon-with-a-blank": ("Transfer-Encoding : chunked",),
    "content-length-twice": ("Content-Length: 0", "Content-Length: 38"),
    "content-length-twice-the-same": ("Content-Length: 38", "Content-Length: 38"),
    "content-length-a-list": ("Content-Length: 38, 38",),
    "content-length-signed": ("Content-Length: +38",),
    "content-length-negative": ("Content-Length: -1",),
    "content-length-hexadecimal": ("Content-Length: 0x26",),
    "content-length-with-a-blank": ("Content-Length: 3 8",),
    "content-length-of-no-ascii": ("Content-Length: \xb2",),
    "obs-fold": ("X-A: b\r\n folded",),
    "obs-fold-of-the-length": ("Content-Length:\r\n 38",),
    "blank-before-the-colon": ("X-A : b",),
    "nul-in-a-value": ("X-A: a\0b",),
    "nul-in-a-name": ("X\0A: b",),
    "bare-carriage-return": ("X-A: a\rContent-Length: 38",),
    "line-without-a-colon": ("GET /openapi.json HTTP/1.1",),
    "name-left-out": (": x",),
    "name-with-a-parenthesis": ("X(A): b",),
    "header-of-sixteen-kilobytes": ("X-A: " + "a" * 16_384,),
    "two-hundred-headers": tuple(f"X-{n}: a" for n in range(200)),
}


@pytest.mark.parametrize("attack", REFUSED)
def test_attack_header_smuggling(server: Server, attack: str) -> None:
    """One refusal, the connection's end, and no answer to what was smuggled."""
    answer = server.ask(*REFUSED[attack], body=SMUGGLED)
    assert len(statuses(answer)) == 1
    assert statuses(answer)[0] in {400, 431, 501}
    assert b"http_requests" not in answer


CHUNKS = {
    "negative-size": b"-5\r\n12345\r\n0\r\n\r\n",
    "underscore-in-a-size": b"0_0\r\n\r\n",
    "signed-size": b"+0\r\n\r\n",
    "size-with-0x": b"0x0\r\n\r\n",
    "size-without-end": b"f" * 9000 + b"\r\n",
    "size-beyond-64-bits": b"f" * 17 + b"\r\n",
    "line-feed-in-an-extension": b"0;a=\n\r\n\r\n",
    "bare-line-feeds": b"0\n\n",
    "data-longer-than-its-size": b"1\r\n12345\r\n0\r\n\r\n",
    "trailer-that-names-a-length": b"0\r\nContent-Length: 5\r\n\r\n",
}


@pytest.mark.parametrize("attack", CHUNKS)
def test_attack_chunk_smuggling(server: Server, attack: str) -> None:
    """Whatever a chunk says of itself, nothing behind it is a request of its own."""
    raw = (
        f"POST /v1/swaps HTTP/1.1\r\nHost: door\r\nAuthorization: Bearer {server.token}"
        "\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    answer = server.send(raw.encode() + CHUNKS[attack] + SMUGGLED)
    assert all(400 <= each < 500 for each in statuses(answer)[:1]), answer
    assert len(statuses(answer)) == 1
    assert b"http_requests" not in answer


@pytest.mark.parametrize("second", ["Bearer {}", "Bearer x", "", "Basic YTpi"])
@pytest.mark.parametrize("turned", [False, True], ids=["good-first", "good-last"])
def test_attack_duplicate_authorization(
    server: Server, second: str, *, turned: bool
) -> None:
    """Two are none: who stands before us may have looked at the other one."""
    lines = [
        f"Authorization: Bearer {server.token}",
        f"authorization: {second.format(server.token)}",
    ]
    assert statuses(server.ask(*(reversed(lines) if turned else lines))) == [401]


@pytest.mark.parametrize(
    "name",
    ["HTTP_AUTHORIZATION", "Authorization_", "_Authorization", "X-Authorization"],
)
def test_attack_authorization_by_another_name(server: Server, name: str) -> None:
    """A name that the environment might take for the real one is dropped."""
    answer = server.ask("Authorization: ", f"{name}: Bearer {server.token}")
    assert statuses(answer) == [401]


@pytest.mark.parametrize("name", ["SCRIPT_NAME", "PATH_INFO", "SCRIPT-NAME"])
def test_attack_path_by_a_header(server: Server, name: str) -> None:
    """A path that was checked before us is the path: no header exchanges it."""
    answer = server.ask(f"{name}: /v1", target="/v1/health/live")
    assert statuses(answer) == [404]
    answer = server.ask(f"{name}: /openapi.json", target="/health/live")
    assert statuses(answer) == [204]


TARGETS = {
    "parent": "/v1/../openapi.json",
    "percent-parent": "/v1/%2e%2e/openapi.json",
    "percent-slash": "/v1%2f..%2fopenapi.json",
    "backslash": "/v1/..\\openapi.json",
    "semicolon": "/v1/;/openapi.json",
    "nul": "/openapi.json%00",
    "upper-case": "/OPENAPI.JSON",
    "of-nine-thousand": "/" + "a" * 9000,
    "asterisk": "*",
}


@pytest.mark.parametrize("attack", TARGETS)
def test_attack_path_to_a_page(server: Server, attack: str) -> None:
    """A page has one path; what only resolves to it elsewhere is not found."""
    answer = server.ask(target=TARGETS[attack])
    assert statuses(answer)[0] in {400, 404, 414}
    assert b"http_requests" not in answer


REQUESTS = {
    "http-0.9": b"GET /openapi.json\r\n",
    "http-2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "proxy-protocol": b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + SMUGGLED,
    "tls-hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "bare-line-feeds": SMUGGLED.replace(b"\r\n", b"\n"),
    "method-with-a-blank": b" GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n",
    "method-of-a-thousand": b"G" * 1000 + b" /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n",
    "version-with-a-tail": b"GET /openapi.json HTTP/1.1x\r\nHost: a\r\n\r\n",
    "http-1.0-chunked": b"GET /v1/swaps HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "endless-line": b"GET /" + b"a" * (2 * HEAD_BYTES_MAX),
    "endless-head": b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * HEAD_BYTES_MAX,
    "nothing": b"",
    "half-a-request": b"GET /openapi.json HTTP/1.1\r\nHost:",
}


@pytest.mark.parametrize("attack", REQUESTS)
def test_attack_malformed_request(server: Server, attack: str) -> None:
    """It is refused, or the connection ends; nobody else notices."""
    answer = server.send(REQUESTS[attack])
    assert all(400 <= each < 500 for each in statuses(answer)), answer
    assert statuses(server.ask()) == [200]


def test_attack_upgrade_to_http2(server: Server) -> None:
    """There is no other protocol to talk the door into."""
    answer = server.ask("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c")
    assert statuses(answer) == [200]
    assert b"101" not in answer.split(b"\r\n")[0]


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "PUT", "PATCH"])
def test_attack_method_that_nobody_serves(server: Server, method: str) -> None:
    """And nothing that was sent comes back."""
    raw = f"{method} /v1/swaps HTTP/1.1\r\nHost: a\r\nX-Secret: s3\r\nConnection: close"
    answer = server.send(raw.encode() + b"\r\n\r\n")
    assert statuses(answer) == [405]
    assert b"s3" not in answer


def served_within(server: Server, seconds: float) -> bool:
    """Return whether an honest caller is answered in time."""
    began = time.monotonic()
    return statuses(server.ask()) == [200] and time.monotonic() - began < seconds


HALF = b"GET /v1/swaps HTTP/1.1\r\nHost: door\r\nX-A: "


@pytest.mark.parametrize("sent", [b"", b"G", HALF], ids=["silent", "byte", "half"])
def test_attack_slowloris(server: Server, sent: bytes) -> None:
    """Eight times as many slow heads as there are threads hold nobody up."""
    with ExitStack() as opened:
        slow = [opened.enter_context(server.connect()) for _ in range(8 * THREADS)]
        for each in slow:
            each.sendall(sent)
        time.sleep(0.3)
        for _ in range(5):
            assert served_within(server, 3)
            for each in slow:
                each.sendall(b"a" if sent else b"")


def test_attack_slowloris_on_a_kept_connection(server: Server) -> None:
    """Nor after a good first request, whose connection is kept for a second one."""
    whole = (
        f"GET /v1/swaps HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {server.token}\r\n"
    )
    with ExitStack() as opened:
        slow = [opened.enter_context(server.connect()) for _ in range(2 * THREADS)]
        for each in slow:
            each.sendall(whole.encode() + b"\r\n")
        for each in slow:
            assert answered(each) == 200
            each.sendall(HALF)
        time.sleep(0.3)
        assert served_within(server, 3)


def test_attack_head_that_never_ends_in_time(server: Server) -> None:
    """A head has ten seconds, however steadily it comes; then the connection ends."""
    with server.connect() as made:
        began = time.monotonic()
        made.sendall(HALF)
        made.settimeout(1)
        ended = False
        while not ended and time.monotonic() - began < HEAD_SECONDS_MAX + 10:
            try:
                made.sendall(b"a")
                ended = made.recv(1) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                ended = True
        assert ended
        assert time.monotonic() - began > HEAD_SECONDS_MAX - 1


@pytest.mark.parametrize("token", ["", "Bearer x.y.z"])
def test_attack_slow_body_without_a_token(server: Server, token: str) -> None:
    """The token is looked at first: no thread waits for a stranger's body."""
    with ExitStack() as opened:
        slow = [opened.enter_context(server.connect()) for _ in range(2 * THREADS)]
        for each in slow:
            each.sendall(
                b"POST /v1/swaps HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n"
                + f"Authorization: {token}\r\n\r\n".encode()
                + b"a"
            )
        assert served_within(server, 3)
        for each in slow:
            assert answered(each) == 401


def test_attack_slow_body_with_a_good_token(server: Server) -> None:
    """A tenant holds half of the threads, at most: the other half serves the others."""
    with ExitStack() as opened:
        slow = [opened.enter_context(server.connect()) for _ in range(2 * THREADS)]
        for each in slow:
            each.sendall(
                b"POST /v1/swaps HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n"
                b"Content-Type: application/json\r\n"
                + f"Authorization: Bearer {server.token}\r\n\r\n".encode()
                + b"a"
            )
        other = f"Authorization: Bearer {server.other}"
        began = time.monotonic()
        assert statuses(server.ask(other)) == [200]
        assert time.monotonic() - began < 3
        refused = [each for each in slow if has_answer(each)]
        assert [answered(each) for each in refused] == [429] * len(refused)
        assert len(slow) - len(refused) <= THREADS // 2
    until_served(server)


def test_attack_body_byte_by_byte(server: Server) -> None:
    """A steady byte now and then holds its thread for the time that bodies have."""
    with server.connect() as made:
        made.sendall(
            b"POST /v1/swaps HTTP/1.1\r\nHost: a\r\nContent-Length: 90\r\n"
            b"Content-Type: application/json\r\n"
            + f"Authorization: Bearer {server.token}\r\n\r\n".encode()
        )
        began = time.monotonic()
        while not has_answer(made) and time.monotonic() - began < 2 * BODY_SECONDS_MAX:
            made.sendall(b"a")
            time.sleep(1)
        assert time.monotonic() - began > BODY_SECONDS_MAX - 1
        assert statuses(rest(made)) == [400]
    until_served(server)


def has_answer(made: socket.socket) -> bool:
    """Return whether something has come."""
    return bool(select.select([made], [], [], 0.2)[0])


def until_served(server: Server) -> None:
    """Wait until acme is served again: its slow connections are gone."""
    deadline = time.monotonic() + 30
    while statuses(server.ask()) != [200]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_attack_oversized_body(server: Server) -> None:
    """A length over the limit is refused unread, chunks when they pass it."""
    head = (
        "POST /v1/swaps HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {server.token}\r\n"
    )
    told = server.send(head.encode() + b"Content-Length: 99999999999\r\n\r\nx")
    assert statuses(told) == [413]
    chunk = b"%x\r\n" % 2**20 + b" " * 2**20 + b"\r\n"
    with server.connect() as made:
        try:
            made.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
            for _ in range(300):
                made.sendall(chunk)
        except ConnectionError:
            pass  # it has had enough
        else:
            made.shutdown(socket.SHUT_WR)
        assert statuses(rest(made)) in ([413], [])
    assert served_within(server, 5)


def test_a_head_in_many_pieces_is_a_request(server: Server) -> None:
    """Patience refuses nobody who is merely slow, on a kept connection either."""
    whole = (
        f"GET /v1/swaps HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {server.token}\r\n"
        "\r\n"
    ).encode()
    with server.connect() as made:
        for _ in range(2):
            for start in range(0, len(whole), 97):
                made.sendall(whole[start : start + 97])
                time.sleep(0.001)
            assert answered(made) == 200


def test_requests_sent_ahead_are_answered_in_order(server: Server) -> None:
    """What came behind a request is the beginning of the next one."""
    one = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
    with server.connect() as made:
        made.sendall(one + one[:20])
        assert answered(made) == 204
        made.sendall(one[20:])
        assert answered(made) == 204
