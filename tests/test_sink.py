"""Events leave, and receipts come: over real sockets, to servers of every mood."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import pytest

from functions import events, sink, traces
from functions.events import Event, decode, sign, verify
from functions.keys import MemoryKeys
from functions.problems import NoReceipt, Unavailable
from functions.settings import Settings
from functions.sink import (
    Answer,
    HttpAuditor,
    HttpSink,
    Receipt,
    Undeliverable,
    Unrecordable,
    full_jitter,
    post,
    problem_of,
)
from tests.certificates import self_signed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEYS = MemoryKeys()
EVENT = sign(
    Event(
        id="1",
        source="/tenants/acme/swap",
        type=events.SWAP_STARTED,
        subject="ü\u2028 100%",
        time="2026-11-21T01:18:03.860Z",
        tenant="acme",
        data={"job": "j-1"},
    ),
    KEYS.signer("events/acme"),
)
GOOD = {"index": 3, "leaf_hash": "ab" * 32, "checkpoint": "guise/acme\n4\nroot\n"}
OK = b"HTTP/1.1 204 No Content\r\n\r\n"
HANG = b""


def answer(status: int, body: object = None) -> bytes:
    """Return a whole answer on the wire."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} Whatever\r\nContent-Length: {len(data)}\r\n"
    return head.encode() + b"X-Mood: Fine\r\n\r\n" + data


class Server(ThreadingHTTPServer):
    """Answers with what is in `script`, the last one over and over."""

    daemon_threads = True

    def __init__(self, chain: Path | None = None) -> None:
        self.script: list[bytes] = [OK]
        self.drip_seconds = 0.0
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.released = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)
        if chain is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(chain)
            self.socket = context.wrap_socket(self.socket, server_side=True)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that hung up."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        seen = self.server.seen
        seen.append((self.path, dict(self.headers), body))
        script = self.server.script
        said = script[min(len(seen), len(script)) - 1]
        if said == HANG:
            self.server.released.wait(20)
        elif self.server.drip_seconds:
            for byte in said:
                self.wfile.write(bytes([byte]))
                time.sleep(self.server.drip_seconds)
        else:
            self.wfile.write(said)
        self.close_connection = True

    do_GET = do_POST  # noqa: N815  # as the server looks it up

    def log_message(self, *_: Any) -> None:
        """Stay silent."""


def at_once(_tries: int) -> float:
    """Leave no pause between two tries."""
    return 0


def bound(url: str, **values: Any) -> Settings:
    """Return settings as a SinkBinding makes them."""
    return Settings(sink_url=url, **values)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@contextmanager
def nobody_there() -> Iterator[str]:
    """Give a URL where no one listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{reserved.getsockname()[1]}"


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds, for 5 s at most."""
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestDeliver:
    """A sink takes an event, or says that it could not."""

    def test_the_event_arrives_as_it_was_signed(self, server: Server) -> None:
        """Whatever its attributes hold."""
        HttpSink(f"{server.url}/default?x=1").deliver(EVENT, timeout=5)
        ((path, headers, body),) = server.seen
        arrived = decode(headers, body)
        assert path == "/default?x=1"
        assert arrived == EVENT
        verify(arrived, KEYS.verifiers("events/acme"))

    def test_it_is_sent_again_until_it_is_taken(self, server: Server) -> None:
        """Within the time there is."""
        again = [answer(status) for status in (404, 408, 409, 425, 429, 500, 503)]
        server.script = [*again, b"garbage", OK]
        HttpSink(server.url, pauses=at_once).deliver(EVENT, timeout=10)
        assert len(server.seen) == 9
        assert len({body for _, _, body in server.seen}) == 1

    @pytest.mark.parametrize("status", [301, 302, 401, 403, 407, 999])
    def test_what_an_operator_mends_is_unavailable_at_once(
        self, server: Server, status: int
    ) -> None:
        """Asking again now helps nobody; the answer's text stays inside."""
        server.script = [answer(status, b"secret")]
        with pytest.raises(Unavailable) as caught:
            HttpSink(server.url, pauses=at_once).deliver(EVENT, timeout=5)
        assert len(server.seen) == 1
        assert caught.value.detail == ""

    @pytest.mark.parametrize("status", [100, 404, 429, 500, 503])
    def test_what_does_not_pass_in_time_is_unavailable(
        self, server: Server, status: int
    ) -> None:
        """In the end, and the answer's text stays inside."""
        server.script = [answer(status, b"secret")]
        with pytest.raises(Unavailable) as caught:
            HttpSink(server.url, pauses=lambda _: 1).deliver(EVENT, timeout=0.5)
        assert len(server.seen) == 1
        assert caught.value.detail == ""

    def test_the_tries_are_counted_too(self, server: Server) -> None:
        """A sink that says no at once is not hammered for as long as there is time."""
        server.script = [answer(503)]
        with pytest.raises(Unavailable):
            HttpSink(server.url, pauses=at_once).deliver(EVENT, timeout=60)
        assert len(server.seen) == sink.TRIES_MAX

    @pytest.mark.parametrize("status", [400, 402, 405, 410, 411, 413, 415, 422, 431])
    def test_a_refusal_of_the_event_itself_is_told_apart(
        self, server: Server, status: int
    ) -> None:
        """It would be refused for ever: it is not sent again, now or later."""
        server.script = [answer(status, b"secret")]
        with pytest.raises(Undeliverable) as caught:
            HttpSink(server.url, pauses=at_once).deliver(EVENT, timeout=5)
        assert not isinstance(caught.value, Unavailable)
        assert len(server.seen) == 1
        assert caught.value.detail == f"refused with status {status}"

    def test_a_redirect_is_not_followed(self, server: Server) -> None:
        """An event goes where the settings say, and nowhere else."""
        with Server() as other:
            moved = f"HTTP/1.1 307 X\r\nLocation: {other.url}\r\n\r\n"
            server.script = [moved.encode()]
            with pytest.raises(Unavailable):
                HttpSink(server.url).deliver(EVENT, timeout=5)
            assert len(server.seen) == 1
            assert other.seen == []

    def test_a_server_that_hangs_costs_the_timeout(self, server: Server) -> None:
        """Not twice that, with a second try."""
        server.script = [HANG]
        began = time.monotonic()
        with pytest.raises(Unavailable):
            HttpSink(server.url).deliver(EVENT, timeout=0.5)
        assert 0.4 < time.monotonic() - began < 5

    def test_a_slow_first_try_leaves_a_shorter_second(self, server: Server) -> None:
        """Each try has what is left of the time, not all of it again."""
        server.script = [*[answer(503)] * 11, HANG]
        began = time.monotonic()
        with pytest.raises(Unavailable):
            HttpSink(server.url, pauses=lambda _: 0.3).deliver(EVENT, timeout=4.5)
        assert time.monotonic() - began < 7.5  # not 3.3 + 4.5

    def test_nobody_there_is_unavailable(self) -> None:
        """After some tries: the broker may be starting."""
        with nobody_there() as url, pytest.raises(Unavailable):
            HttpSink(url).deliver(EVENT, timeout=0.3)

    def test_a_broker_that_starts_late_gets_the_event(self, server: Server) -> None:
        """Refused connections are tried again."""
        with nobody_there() as url:
            port = int(url.rpartition(":")[2])
        sink = HttpSink(url, pauses=lambda _: 0.05)
        delivering = threading.Thread(
            target=sink.deliver, args=[EVENT], kwargs={"timeout": 10}
        )
        delivering.start()
        time.sleep(0.2)
        with socket.create_server(("127.0.0.1", port)) as late:
            connection, _ = late.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(OK)
        delivering.join(5)
        assert not delivering.is_alive()

    @pytest.mark.parametrize(
        "garbage",
        [
            b"\0\xff\xfe",
            b"\r\n\r\n",
            b"HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 abc X\r\n\r\n",
            b"HTTP/9.9 204 X\r\n\r\n",
            b"SSH-2.0-OpenSSH\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
            b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000 + b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nx\r\n",
        ],
        ids=lambda garbage: repr(garbage[:24]),
    )
    def test_a_garbage_answer_is_unavailable(
        self, server: Server, garbage: bytes
    ) -> None:
        """Nobody knows whether the event was taken, so it is not."""
        server.script = [garbage]
        with pytest.raises(Unavailable):
            post(server.url, {}, b"", timeout=1)

    @pytest.mark.parametrize(
        "url",
        [
            "http://no-such-host.invalid/",
            "http://" + "a" * 70 + ".example/",
            "http://127.0.0.1:99999/",
            "http://127.0.0.1:port/",
            "http://[::1/",
            "http://",
            "https://127.0.0.1:1/",
            "http://127.0.0.1:1/é",
            "http://127.0.0.1:1/a b",
        ],
    )
    def test_a_url_that_cannot_be_called_is_unavailable(self, url: str) -> None:
        """Settings refuse most of them; the rest is no crash."""
        with pytest.raises(Unavailable) as caught:
            post(url, {}, b"", timeout=1)
        assert caught.value.detail == ""

    def test_an_answer_is_read_no_further_than_its_limit(self, server: Server) -> None:
        """Whoever answers cannot fill our memory."""
        server.script = [answer(200, b"x" * (sink.ANSWER_BYTES_MAX + 10))]
        assert len(post(server.url, {}, b"", timeout=5).body) == sink.ANSWER_BYTES_MAX

    def test_an_answer_tells_status_headers_and_body(self, server: Server) -> None:
        """Header names in lower case."""
        server.script = [answer(418, b"tea")]
        found = post(server.url, {"X-A": "b"}, b"data", timeout=5)
        assert (found.status, found.headers["x-mood"], found.body) == (
            418,
            "Fine",
            b"tea",
        )
        ((_, headers, body),) = server.seen
        assert (headers["X-A"], body) == ("b", b"data")

    def test_https_is_spoken_where_the_url_says_so(self, server: Server) -> None:
        """A plain server behind an https URL is not believed."""
        with pytest.raises(Unavailable, match="SSL"):
            post(server.url.replace("http:", "https:"), {}, b"", timeout=5)

    def test_a_server_that_drips_its_answer_gains_no_time(self, server: Server) -> None:
        """The deadline is the whole answer's, not each byte's."""
        server.drip_seconds = 0.1
        server.script = [answer(200, b"x" * 100)]
        began = time.monotonic()
        with pytest.raises(Unavailable, match=r"too long|timed out"):
            post(server.url, {}, b"", timeout=0.5)
        assert time.monotonic() - began < 8  # not the ten and more of its bytes

    def test_an_answer_in_chunks_is_read_whole(self, server: Server) -> None:
        """And one that ends with the connection, too."""
        head = b"HTTP/1.1 200 OK\r\n"
        chunks = b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
        server.script = [head + chunks, head + b"\r\nabc"]
        for _ in range(2):
            assert post(server.url, {}, b"", timeout=5).body == b"abc"


class TestFromSettings:
    """What a SinkBinding puts into the environment is honoured."""

    def test_overrides_go_along_and_break_no_signature(self, server: Server) -> None:
        """They are the operator's; what is signed is the tenant's."""
        settings = bound(server.url, ce_overrides=(("region", "eu"), ("zone", "b")))
        HttpSink.from_settings(settings).deliver(EVENT, timeout=5)
        ((_, headers, body),) = server.seen
        arrived = decode(headers, body)
        assert arrived.extensions == {"region": "eu", "zone": "b"}
        verify(arrived, KEYS.verifiers("events/acme"))

    def test_the_token_is_read_for_each_request(
        self, server: Server, tmp_path: Path
    ) -> None:
        """A token is renewed in place, long before the process ends."""
        token = tmp_path / "token"
        made = HttpSink.from_settings(bound(server.url, token_file=token))
        for text in ("first\n", "second"):
            token.write_text(text)
            made.deliver(EVENT, timeout=5)
        sent = [headers["Authorization"] for _, headers, _ in server.seen]
        assert sent == ["Bearer first", "Bearer second"]

    @pytest.mark.parametrize("content", [None, b"\xff", b"a\r\nX-Evil: 1"])
    def test_without_a_token_that_can_be_read_nothing_is_sent(
        self, server: Server, tmp_path: Path, content: bytes | None
    ) -> None:
        """An event that should be vouched for does not go out without."""
        token = tmp_path / "token"
        if content is not None:
            token.write_bytes(content)
        made = HttpSink.from_settings(bound(server.url, token_file=token))
        with pytest.raises(Unavailable):
            made.deliver(EVENT, timeout=0.3)
        assert server.seen == []

    def test_a_projected_token_is_used_where_there_is_one(
        self, server: Server, tmp_path: Path
    ) -> None:
        """As soon as OIDC is on, and without a setting."""
        token = tmp_path / "token"
        without = HttpSink.from_settings(bound(server.url), projected=token)
        without.deliver(EVENT, timeout=5)
        token.write_text("t")
        HttpSink.from_settings(bound(server.url), projected=token).deliver(
            EVENT, timeout=5
        )
        assert [headers.get("Authorization") for _, headers, _ in server.seen] == [
            None,
            "Bearer t",
        ]

    def test_a_redirect_gets_no_token(self, server: Server, tmp_path: Path) -> None:
        """It would be the way to collect them."""
        token = tmp_path / "token"
        token.write_text("t")
        with Server() as other:
            moved = f"HTTP/1.1 307 X\r\nLocation: {other.url}\r\n\r\n"
            server.script = [moved.encode()]
            with pytest.raises(Unavailable):
                HttpSink.from_settings(bound(server.url, token_file=token)).deliver(
                    EVENT, timeout=5
                )
            assert other.seen == []

    def test_the_sinks_own_authority_is_believed(self, tmp_path: Path) -> None:
        """With it the event arrives, and without it nothing is said to the server."""
        pem, key = self_signed("127.0.0.1")
        (tmp_path / "both.pem").write_text(pem + key)
        with Server(tmp_path / "both.pem") as server:
            url = server.url.replace("http:", "https:")
            with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
                HttpSink.from_settings(bound(url)).deliver(EVENT, timeout=0.5)
            assert server.seen == []
            HttpSink.from_settings(bound(url, ca_certs=pem)).deliver(EVENT, timeout=5)
            assert len(server.seen) == 1


def test_a_pause_is_drawn_from_nothing_to_a_bound_that_doubles() -> None:
    """So that those who were sent away together do not come back together."""
    drawn = {tries: [full_jitter(tries) for _ in range(300)] for tries in (1, 3, 20)}
    for tries, bound_seconds in ((1, 0.1), (3, 0.4), (20, 2.0)):
        assert max(drawn[tries]) <= bound_seconds
        assert max(drawn[tries]) > 0.8 * bound_seconds
        assert min(drawn[tries]) < 0.2 * bound_seconds


class TestReceipt:
    """Audit's answer to `started`: nothing is done without it."""

    def test_a_receipt_is_read(self, server: Server) -> None:
        """The event went to the tenant's own log."""
        server.script = [answer(200, GOOD)]
        receipt = HttpAuditor(server.url).receipt(EVENT, timeout=5)
        assert receipt == Receipt(3, "ab" * 32, "guise/acme\n4\nroot\n")
        ((path, headers, body),) = server.seen
        assert path == "/v1/tenants/acme/events"
        assert decode(headers, body) == EVENT

    @pytest.mark.parametrize(
        "change",
        [
            {"index": -1},
            {"index": "3"},
            {"index": 1.5},
            {"index": None},
            {"leaf_hash": ""},
            {"leaf_hash": "ab"},
            {"leaf_hash": "AB" * 32},
            {"leaf_hash": "ab" * 32 + "\n"},
            {"leaf_hash": 5},
            {"checkpoint": ""},
            {"checkpoint": None},
            {"extra": 1},
        ],
        ids=str,
    )
    def test_a_malformed_receipt_is_none(
        self, server: Server, change: dict[str, object]
    ) -> None:
        """It would prove nothing later."""
        server.script = [answer(200, {**GOOD, **change})]
        with pytest.raises(NoReceipt):
            HttpAuditor(server.url).receipt(EVENT, timeout=5)

    @pytest.mark.parametrize(
        "said",
        [
            OK,
            answer(200, b""),
            answer(200, b"{}"),
            answer(200, b"[]"),
            answer(200, b"null"),
            answer(200, b"\xff"),
            answer(200, b"[" * 100_000),
            answer(200, b'{"index":' * 10_000),
            answer(200, b"<html>"),
            answer(200, json.dumps(GOOD).encode()[:-1]),
            answer(302, GOOD),
            answer(403, GOOD),
            answer(503, b"down"),
            b"garbage",
        ],
        ids=lambda said: repr(said[9:60]),
    )
    def test_any_other_answer_is_no_receipt(self, server: Server, said: bytes) -> None:
        """A 204 to `started` is none either."""
        server.script = [said]
        with pytest.raises(NoReceipt) as caught:
            HttpAuditor(server.url).receipt(EVENT, timeout=5)
        assert caught.value.detail == ""

    @pytest.mark.parametrize("status", [400, 413, 422])
    def test_an_event_audit_never_takes_is_told_apart(
        self, server: Server, status: int
    ) -> None:
        """No other time will do either: the job is not tried for ever."""
        server.script = [answer(status, GOOD)]
        with pytest.raises(Unrecordable) as caught:
            HttpAuditor(server.url).receipt(EVENT, timeout=5)
        assert not isinstance(caught.value, Unavailable)

    def test_a_dripped_receipt_is_none(self, server: Server) -> None:
        """The caller waits as long as it said, and no longer."""
        server.drip_seconds = 0.1
        server.script = [answer(200, GOOD)]
        began = time.monotonic()
        with pytest.raises(NoReceipt):
            HttpAuditor(server.url).receipt(EVENT, timeout=0.5)
        assert time.monotonic() - began < 8  # as above

    def test_an_audit_that_hangs_or_is_down_gives_no_receipt(
        self, server: Server
    ) -> None:
        """The caller is told 503, within the time it had."""
        server.script = [HANG]
        with pytest.raises(NoReceipt):
            HttpAuditor(server.url).receipt(EVENT, timeout=0.2)
        with nobody_there() as url, pytest.raises(NoReceipt):
            HttpAuditor(url).receipt(EVENT, timeout=1)


class TestWake:
    """A knock on the door, for which nobody waits."""

    def test_the_knock_is_heard(self, server: Server) -> None:
        """At the health page, below the URL's own path."""
        HttpAuditor(f"{server.url}/base").wake()
        eventually(lambda: bool(server.seen))
        assert server.seen[0][0] == "/base/health/live"

    def test_nobody_waits_for_the_answer(self, server: Server) -> None:
        """Even where none comes; and one knock is on its way at a time."""
        server.script = [HANG]
        auditor = HttpAuditor(server.url)
        before = threading.active_count()
        began = time.monotonic()
        for _ in range(50):
            auditor.wake()
        assert time.monotonic() - began < 1
        eventually(lambda: bool(server.seen))
        assert threading.active_count() - before <= 2  # the knock, and its handler
        assert len(server.seen) == 1

    def test_one_may_knock_again(self, server: Server) -> None:
        """When the first has been answered."""
        auditor = HttpAuditor(server.url)
        for number in (1, 2, 3):
            auditor.wake()
            eventually(lambda number=number: len(server.seen) == number)  # type: ignore[misc]  # of a default
            eventually(lambda: not auditor._waking.locked())

    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1:1",
            "http://no-such-host.invalid",
            "http://127.0.0.1:port",
            "http://[::1",
            "https://127.0.0.1:1",
            "http://" + "a" * 70 + ".example",
            "nonsense",
            "",
        ],
    )
    def test_waking_never_raises(self, url: str) -> None:
        """Neither here nor on its thread: an uncaught error there fails the test."""
        auditor = HttpAuditor(url)
        auditor.wake()
        eventually(lambda: not auditor._waking.locked())

    def test_without_a_thread_nobody_is_woken(self, server: Server) -> None:
        """The request that needs the answer will wake it; and the next may try."""
        auditor = HttpAuditor(server.url)
        before = threading.stack_size(2**46)  # more than there is
        try:
            auditor.wake()
        finally:
            threading.stack_size(before)
        assert server.seen == []
        auditor.wake()
        eventually(lambda: bool(server.seen))

    @pytest.mark.parametrize("said", [b"garbage", b"\0" * 100, answer(500)])
    def test_a_garbage_answer_wakes_as_well(self, server: Server, said: bytes) -> None:
        """Whoever answers is awake."""
        server.script = [said]
        auditor = HttpAuditor(server.url)
        auditor.wake()
        eventually(lambda: not auditor._waking.locked())
        assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("body", "document"),
    [
        (
            b'{"type":"urn:guise:problem:no-face"}',
            {"type": "urn:guise:problem:no-face"},
        ),
        (b"[]", {}),
        (b"", {}),
        (b"<html>", {}),
        (b"\xff", {}),
        (b'{"a":"\xff"}', {}),
        (b"[" * 100_000, {}),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_problem_is_read_out_of_an_answer(
    body: bytes, document: dict[str, object]
) -> None:
    """Or nothing is, where there is none."""
    assert problem_of(Answer(422, {}, body)) == document


def test_every_call_says_of_which_trace_it_is(server: Server) -> None:
    """To a sink, to audit and to a worker; outside a request it says nothing."""
    auditor, there = HttpAuditor(server.url), HttpSink(server.url)
    there.deliver(EVENT, timeout=5)
    span = traces.enter("POST /", spans=traces.Spans())
    there.deliver(EVENT, timeout=5)
    sink.post_event(server.url, EVENT, timeout=5)
    server.script = [answer(200, GOOD)]
    auditor.receipt(EVENT, timeout=5)
    traces.leave(span)
    assert span.spans is not None
    calls = [each for each in span.spans.take() if each.kind == "client"]
    told = [headers.get("traceparent") for _, headers, _ in server.seen]
    assert told == [None, *(each.traceparent for each in calls)]
    assert [each.name for each in calls] == [
        *("deliver an event", "post an event", "ask for a receipt")
    ]


def test_a_try_in_vain_is_a_span_that_failed(server: Server) -> None:
    """And the next one is a span of its own."""
    span = traces.enter("POST /", spans=traces.Spans())
    server.script = [answer(503), OK]
    HttpSink(server.url, pauses=lambda _: 0).deliver(EVENT, timeout=5)
    traces.leave(span)
    assert span.spans is not None
    assert [each.failed for each in span.spans.take()] == [True, False, False]
