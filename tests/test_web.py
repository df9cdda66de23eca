"""How every door behaves: one shape of no, and an event door brokers understand."""

from __future__ import annotations

import io
import json
import logging
import re
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask, abort
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.exceptions import HTTPException

from functions import events, problems
from functions.logs import LineFormatter
from functions.metrics import Metrics
from functions.problems import (
    Failed,
    Forbidden,
    InvalidRequest,
    NoFace,
    NotFound,
    Problem,
    Refused,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    UnknownTenant,
)
from functions.storage.base import StoreDamaged
from functions.web import (
    PROBLEM_JSON,
    answer_broker,
    json_response,
    new_app,
)

if TYPE_CHECKING:
    from flask import Response
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

    from functions.events import Event

SECRET = "password=hunter2"  # noqa: S105  # what no answer may show
EVENT = {
    "ce-id": "1",
    "ce-source": "/s",
    "ce-type": "t",
    "ce-specversion": "1.0",
    "content-type": "application/json",
}
INSTANCE = re.compile(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

EVERY = [
    kind
    for kind in vars(problems).values()
    if isinstance(kind, type) and issubclass(kind, Problem)
]


class House:
    """An app whose one page, and whose event door, do what they are told."""

    def __init__(self, **options: Any) -> None:
        self.metrics = Metrics()
        self.error: Exception | None = None
        self.reply: Response | None = None
        self.received: list[Event] = []
        options = {"bytes_max": 100_000, **options}
        self.app = new_app("house", metrics=self.metrics, **options)
        self.app.add_url_rule("/things/<thing>", view_func=self.thing, methods=["GET"])
        self.app.add_url_rule("/things/", view_func=self.thing, methods=["PUT"])
        self.app.add_url_rule("/events", view_func=self.event, methods=["POST"])
        self.client: FlaskClient = self.app.test_client()

    def thing(self, thing: str = "") -> Response:
        if self.error:
            raise self.error
        return json_response({"thing": thing})

    def event(self) -> Response:
        return answer_broker(self.handle)

    def handle(self, event: Event) -> Response | None:
        self.received.append(event)
        if self.error:
            raise self.error
        return self.reply

    def get(self, error: Exception) -> TestResponse:
        self.error = error
        return self.client.get("/things/1")

    def post(self, error: Exception | None = None, **changes: Any) -> TestResponse:
        self.error = error
        return self.client.post(
            "/events", **{"headers": EVENT, "data": b"{}", **changes}
        )


@pytest.fixture
def house() -> House:
    return House()


class TestHealth:
    """What a cluster asks."""

    def test_live_means_the_server_is_up(self, house: House) -> None:
        """Ready or not."""
        assert house.client.get("/health/live").status_code == 204
        unready = House(ready=lambda: False)
        assert unready.client.get("/health/live").status_code == 204

    def test_ready_is_what_the_app_says(self, house: House) -> None:
        """204, or 503 until it is."""
        assert house.client.get("/health/ready").status_code == 204
        unready = House(ready=lambda: False)
        assert unready.client.get("/health/ready").status_code == 503

    def test_metrics_are_prometheus_text(self, house: House) -> None:
        """In the content type that scrapers ask for."""
        house.client.get("/health/live")
        answer = house.client.get("/metrics")
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        names = {each.name for each in text_string_to_metric_families(answer.text)}
        assert names == {
            "guise_cold_start_seconds",
            "guise_http_requests",
            "guise_http_request_seconds",
        }

    def test_a_public_app_shows_its_metrics_to_nobody(self) -> None:
        """What it counts of one tenant is no business of whoever reaches the door."""
        public = new_app("x", bytes_max=1, public=True).test_client()
        assert public.get("/metrics").status_code == 404
        assert public.get("/health/ready").status_code == 204

    def test_an_app_has_metrics_of_its_own_if_it_is_given_none(self) -> None:
        """Two apps in one process do not mix."""
        one, other = (new_app("x", bytes_max=1).test_client() for _ in range(2))
        one.get("/health/live")
        assert "guise_http_requests" not in other.get("/metrics").text
        assert "guise_http_requests" in one.get("/metrics").text


class TestProblems:
    """Every no is `application/problem+json`, and tells nothing it should not."""

    @pytest.mark.parametrize("kind", EVERY)
    def test_every_problem_is_answered_as_its_document(
        self, house: House, kind: type[Problem]
    ) -> None:
        """With its own status, and without what is internal."""
        answer = house.get(kind(internal=SECRET))
        assert answer.status_code == kind.status
        assert answer.mimetype == PROBLEM_JSON
        assert answer.json
        assert answer.json["type"] == f"urn:guise:problem:{kind().slug}"
        assert answer.json["status"] == kind.status
        assert SECRET not in answer.text

    def test_a_refusal_says_why(self, house: House) -> None:
        """The caller can mend it."""
        answer = house.get(NoFace("no face in uploads/a.jpg"))
        assert answer.json == {
            "type": "urn:guise:problem:no-face",
            "title": "No face found",
            "status": 422,
            "detail": "no face in uploads/a.jpg",
        }

    @pytest.mark.parametrize(
        "error",
        [
            Failed(internal=SECRET),
            Unavailable(internal=SECRET),
            ValueError(SECRET),
            KeyError(SECRET),
            OSError(5, SECRET, SECRET),
            RecursionError(SECRET),
            MemoryError(SECRET),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_a_failure_shows_an_instance_and_logs_the_cause(
        self, house: House, error: Exception, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Whoever reads the log finds it by the id that the caller was given."""
        answer = house.get(error)
        assert answer.status_code >= 500
        assert SECRET not in answer.text
        assert answer.json
        assert set(answer.json) == {"type", "title", "status", "instance"}
        assert INSTANCE.fullmatch(answer.json["instance"])
        assert answer.json["instance"] in caplog.text
        assert SECRET in caplog.text

    def test_a_chain_of_causes_stays_inside(self, house: House) -> None:
        """Also those of a problem that is raised from another error."""
        error = Unavailable()
        error.__cause__ = ValueError(SECRET)
        assert SECRET not in house.get(error).text

    def test_every_failure_has_an_instance_of_its_own(self, house: House) -> None:
        """Two are never taken for one."""
        first, second = (house.get(ValueError()).json for _ in range(2))
        assert first
        assert second
        assert first["instance"] != second["instance"]

    def test_a_refusal_is_no_error_in_the_log(
        self, house: House, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Nobody is woken for what a caller did."""
        caplog.set_level(logging.INFO)
        house.get(NotFound("no such thing", internal=SECRET))
        assert {record.levelno for record in caplog.records} == {logging.INFO}
        assert SECRET in caplog.text

    def test_not_now_is_one_line_where_nothing_broke(
        self, house: House, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A tenant with all its places taken fills no log with tracebacks."""
        house.get(Unavailable(internal=SECRET))
        (record,) = caplog.records
        assert (record.levelno, record.exc_info) == (logging.WARNING, None)
        assert SECRET in caplog.text

    @pytest.mark.parametrize("kind", [Unavailable, StoreDamaged])
    def test_not_now_has_its_cause_where_something_broke(
        self,
        house: House,
        caplog: pytest.LogCaptureFixture,
        kind: type[Unavailable],
    ) -> None:
        """A database that is away, or damage, is an error with all that is known."""
        error = kind(internal=SECRET)
        if kind is Unavailable:
            error.__cause__ = ValueError(SECRET)
        house.get(error)
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert record.exc_info
        assert SECRET in caplog.text

    def test_an_unknown_page_is_404(self, house: House) -> None:
        """As a problem, of the same type as ours."""
        answer = house.client.get("/nothing/here")
        assert (answer.status_code, answer.mimetype) == (404, PROBLEM_JSON)
        assert answer.json
        assert answer.json["type"] == "urn:guise:problem:not-found"

    def test_another_method_is_405_and_says_which_there_are(self, house: House) -> None:
        """RFC 9110 asks for `Allow`."""
        answer = house.client.delete("/things/1")
        assert (answer.status_code, answer.mimetype) == (405, PROBLEM_JSON)
        assert "GET" in answer.headers["Allow"]

    @pytest.mark.parametrize("length", [True, False], ids=["told", "in chunks"])
    def test_a_body_over_the_limit_is_413(self, length: bool) -> None:  # noqa: FBT001  # a parameter
        """Whether or not its length is told, of the same type as ours."""
        app = new_app("x", bytes_max=10)
        app.add_url_rule("/x", view_func=_read_all, methods=["POST"])
        answer = _send(app, "/x", b"x" * 11, length=length)
        assert (answer.status_code, answer.mimetype) == (413, PROBLEM_JSON)
        assert answer.json == TooLarge().document()
        assert _send(app, "/x", b"x" * 10, length=length).json == 10

    def test_a_form_over_the_limit_in_chunks_is_413(self) -> None:
        """It is not read as if it ended at the limit."""
        app = new_app("x", bytes_max=200)
        app.add_url_rule("/x", view_func=_read_form, methods=["POST"])
        kind = "multipart/form-data; boundary=b"
        for size, status in ((10, 200), (1000, 413)):
            body = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n'
            body += b"x" * size + b"\r\n--b--\r\n"
            headers = {"Content-Type": kind}
            assert _send(app, "/x", body, length=False, **headers).status_code == status

    @pytest.mark.parametrize("status", [500, 502, 503])
    def test_an_http_error_of_ours_is_a_failure(
        self, house: House, status: int
    ) -> None:
        """With an instance, whoever raised it."""
        with pytest.raises(HTTPException) as caught:
            abort(status, SECRET)
        answer = house.get(caught.value)
        assert answer.status_code == 500
        assert answer.json
        assert INSTANCE.fullmatch(answer.json["instance"])
        assert SECRET not in answer.text

    def test_a_redirect_of_the_router_stays_one(self, house: House) -> None:
        """It is no error."""
        answer = house.client.put("/things")
        assert answer.status_code == 308
        assert answer.headers["Location"].endswith("/things/")

    def test_try_again_says_when(self, house: House) -> None:
        """503 carries `Retry-After`, and nothing else does."""
        assert int(house.get(Unavailable()).headers["Retry-After"]) > 0
        assert "Retry-After" not in house.get(Failed()).headers

    def test_who_are_you_says_how_to_tell(self, house: House) -> None:
        """RFC 9110 asks for `WWW-Authenticate` with a 401."""
        answer = house.get(Unauthenticated("no token"))
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert "WWW-Authenticate" not in house.get(Forbidden()).headers

    def test_no_browser_guesses_what_an_answer_is(self, house: House) -> None:
        """An image is an image, a problem a problem."""
        for answer in (house.get(Refused()), house.client.get("/health/live")):
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


def _read_all() -> Response:
    from flask import request

    return json_response(len(request.get_data()))


def _read_form() -> Response:
    from flask import request

    return json_response(len(request.form["a"]))


def _send(
    app: Flask, path: str, body: bytes, *, length: bool, **headers: str
) -> TestResponse:
    """POST with a told length, or in chunks, as gunicorn hands them over."""
    if length:
        return app.test_client().post(path, data=body, headers=headers)
    return app.test_client().post(
        path,
        input_stream=io.BytesIO(body),
        headers=headers,
        environ_overrides={
            "wsgi.input_terminated": True,
            "HTTP_TRANSFER_ENCODING": "chunked",
        },
    )


class TestJson:
    """What an app answers with."""

    def test_a_value_with_status_and_headers(self, house: House) -> None:
        """Headers are written with `_` for `-`."""
        with house.app.app_context():
            answer = json_response({"a": 1}, 202, Location="/x", X_Other_Thing="y")
        assert (answer.status_code, answer.json) == (202, {"a": 1})
        assert answer.headers["Location"] == "/x"
        assert answer.headers["X-Other-Thing"] == "y"

    def test_header_injection_is_refused(self, house: House) -> None:
        """No text that a caller chose ends a header."""
        with house.app.app_context(), pytest.raises(ValueError, match="newline"):
            json_response({}, Location="/x\r\nSet-Cookie: a=b")


class TestLog:
    """What is written to standard error."""

    def written(self, text: str, error: Exception | None = None) -> str:
        info = (type(error), error, None) if error else None
        record = logging.LogRecord("n", logging.INFO, "", 0, "%s", (text,), info)
        return LineFormatter("%(levelname)s %(message)s").format(record)

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("plain", "plain"),
            ("é 顔", "é 顔"),
            ("a\r\nERROR b", r"a\r\nERROR b"),
            ("\x1b[2J", r"\x1b[2J"),
            ("a\u2028b\u202e\x85\ud800", r"a\u2028b\u202e\x85\ud800"),
        ],
    )
    def test_a_record_is_one_line(self, text: str, line: str) -> None:
        """What would begin another, or move a cursor, is written as an escape."""
        assert self.written(text) == f"INFO {line}"

    def test_a_traceback_begins_no_line(self) -> None:
        """An error's own text may be a caller's: it is indented, and escaped."""
        shown = self.written("failed", ValueError("x\nERROR forged\x1b[1m"))
        first, *below = shown.split("\n")
        assert first == "INFO failed"
        assert all(line.startswith("  ") for line in below)
        assert "\x1b" not in shown


class TestTiming:
    """Requests are counted by rule: a path holds ids, and each would be a series."""

    def test_ids_make_no_series(self, house: House) -> None:
        """A thousand things are one route, and unknown pages one more."""
        for number in range(20):
            house.client.get(f"/things/{number}")
            house.client.get(f"/unknown/{number}")
        text = house.metrics.text()
        routes = set(re.findall(r'route="([^"]*)"', text))
        assert routes == {"/things/<thing>", "none"}
        assert 'guise_http_requests_total{route="none",status="404"} 20.0' in text

    def test_failures_are_counted_too(self, house: House) -> None:
        """By their status."""
        house.get(ValueError())
        assert 'status="500"' in house.metrics.text()

    def test_an_unheard_of_method_makes_no_series(self, house: House) -> None:
        """A caller cannot fill the page."""
        for number in range(20):
            house.client.open("/things/1", method=f"M{number}")
        assert house.metrics.text().count("guise_http_requests_total{") == 1


class TestEventDoor:
    """What a broker is told: done, never again, or try again."""

    def test_done_is_an_empty_204(self, house: House) -> None:
        """The broker sends nothing on."""
        answer = house.post(data=b'{"a": 1}')
        assert (answer.status_code, answer.data) == (204, b"")
        assert house.received[0].data == {"a": 1}

    def test_a_handler_may_answer_itself(self, house: House) -> None:
        """With a receipt, say."""
        house.reply = json_response({"index": 1})
        answer = house.post()
        assert (answer.status_code, answer.json) == (200, {"index": 1})

    def test_structured_mode_is_heard_too(self, house: House) -> None:
        """The same event in the other form."""
        document = {"id": "1", "source": "/s", "type": "t", "specversion": "1.0"}
        headers = {"content-type": "application/cloudevents+json"}
        answer = house.post(data=json.dumps(document), headers=headers)
        assert answer.status_code == 204
        house.post(data=b"{}")
        assert house.received[0] == house.received[1]

    @pytest.mark.parametrize(
        "changes",
        [
            {"headers": {}},
            {"headers": EVENT | {"ce-id": ""}},
            {"headers": EVENT | {"ce-specversion": "2"}},
            {"headers": EVENT | {"ce-time": "now"}},
            {"headers": EVENT | {"ce-id": "%ff"}},
            {"headers": EVENT | {"content-type": "text/plain"}},
            {"data": b"{"},
            {"data": b"[" * 10_000},
            {"data": b"\xff"},
            {"data": b'{"a":"' + b"x" * 65_600 + b'"}'},
            {"data": b"x" * 200_000},
        ],
    )
    def test_a_malformed_event_is_400_and_reaches_nobody(
        self, house: House, changes: dict[str, Any]
    ) -> None:
        """The broker puts it with the dead letters."""
        answer = house.post(**changes)
        assert (answer.status_code, answer.mimetype) == (400, PROBLEM_JSON)
        assert answer.json
        assert answer.json["status"] == 400
        assert house.received == []

    @pytest.mark.parametrize("size", [70_000, 200_000])
    def test_an_event_too_large_in_chunks_is_400(self, house: House, size: int) -> None:
        """Its length was not told; it is refused all the same."""
        answer = _send(house.app, "/events", b"x" * size, length=False, **EVENT)
        assert answer.status_code == 400
        assert house.received == []

    def test_an_event_that_is_whole_at_the_limit_but_goes_on_is_400(self) -> None:
        """What comes after is not cut off and forgotten."""
        house = House(bytes_max=events.EVENT_BYTES_MAX)
        whole = b"{}".ljust(events.EVENT_BYTES_MAX)
        accepted = _send(house.app, "/events", whole, length=False, **EVENT)
        assert accepted.status_code == 204
        refused = _send(house.app, "/events", whole + b" ", length=False, **EVENT)
        assert refused.status_code == 400
        assert len(house.received) == 1

    @pytest.mark.parametrize("kind", EVERY)
    def test_no_problem_makes_a_broker_try_again_in_vain(
        self, house: House, kind: type[Problem]
    ) -> None:
        """Never 404, 408, 409 or 429: nothing would change."""
        answer = house.post(kind("detail", internal=SECRET))
        assert answer.mimetype == PROBLEM_JSON
        assert SECRET not in answer.text
        if issubclass(kind, Forbidden):
            assert answer.status_code == 403
        elif issubclass(kind, Refused):
            assert answer.status_code == 400
        elif issubclass(kind, Unavailable):
            assert answer.status_code == 503
        else:
            assert answer.status_code == 500

    @pytest.mark.parametrize(
        ("error", "status"),
        [
            (InvalidRequest(), 400),
            (NotFound(), 400),
            (TooManyRequests(), 400),
            (UnknownTenant(), 403),
            (Unavailable(), 503),
            (ValueError(SECRET), 500),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_the_document_says_the_status_that_is_sent(
        self, house: House, error: Exception, status: int
    ) -> None:
        """Dead letters hold it, and no word of a cause."""
        answer = house.post(error)
        assert answer.status_code == status
        assert answer.json
        assert answer.json["status"] == status
        assert SECRET not in answer.text

    def test_a_smaller_limit_holds(self) -> None:
        """An app's own, below that of events."""
        app = new_app("x", bytes_max=events.EVENT_BYTES_MAX)
        app.add_url_rule("/x", view_func=_receive_small, methods=["POST"])
        for length in (True, False):
            fitting = _send(app, "/x", b"{}", length=length, **EVENT)
            assert (fitting.status_code, fitting.json) == (200, "1")
            answer = _send(app, "/x", b'{"a":1}', length=length, **EVENT)
            assert answer.status_code == 413


def _receive_small() -> Response:
    from functions.web import received_event

    return json_response(received_event(5).id)
