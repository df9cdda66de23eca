"""How every door behaves: health, metrics, one shape of no, one event door.

Flask is known to this module, to `swap/door.py`, `swap/worker.py` and the two
`app.py`, and to nobody else.
"""

from __future__ import annotations

import io
import logging
import time
import uuid
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar, cast

import msgspec
from flask import Flask, Request, Response, g, has_request_context, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.utils import cached_property
from werkzeug.wsgi import LimitedStream

from functions import events, traces
from functions.logs import configure_logging
from functions.metrics import TENANT, Metrics, process_began
from functions.problems import (
    TYPE_PREFIX,
    Failed,
    Forbidden,
    NotServedHere,
    Problem,
    Refused,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)
from functions.structs import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from functions.auth import Cluster, Speaker
    from functions.events import Event
    from functions.otlp import Exporter
    from functions.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

PROBLEM_JSON: Final = "application/problem+json"
_RETRY_SECONDS: Final = 2
_BAD: Final = 400
_UNTOLD: Final = ("/health/", "/metrics")
"""What probes and scrapers ask for: no trace of it, and nothing pushed for it."""


class _Whole(LimitedStream):
    """A body sent in chunks: all of it, or too large.

    Werkzeug would cut it at the limit and not say so.
    """

    def readall(self) -> bytes:
        data = super().readall()
        if self.is_exhausted and self._stream.read(1):
            self.on_exhausted()
        return data


class _Request(Request):
    @cached_property
    def stream(self) -> IO[bytes]:
        limit = self.max_content_length
        in_chunks = "wsgi.input_terminated" in self.environ
        if self.content_length is None and in_chunks and limit is not None:
            body = _Whole(self.environ["wsgi.input"], limit, is_max=True)
            return cast("IO[bytes]", body)
        return super().stream

    def _get_file_stream(self, *_: object, **__: object) -> IO[bytes]:
        """Keep a form's file in memory; werkzeug puts those of 500 KB into /tmp.

        A picture goes to no disk but the tenant's store's.
        """
        return io.BytesIO()


def new_app(
    name: str,
    *,
    bytes_max: int,
    ready: Callable[[], bool] = lambda: True,
    metrics: Metrics | None = None,
    described: str = "",
    settings: Settings | None = None,
    public: bool = False,
    before_push: Callable[[], None] = lambda: None,
) -> Flask:
    """Return an app that answers health and turns every failure into a problem.

    `bytes_max` bounds a request's body: a longer one is refused unread.
    `described` is the package whose `openapi.json` says what is served.  `settings`
    say how the log is written, and where metrics and traces are pushed, if anywhere;
    `before_push` brings gauges up to date.  A `public` app begins each trace itself and
    has no `/metrics`: what one tenant does is no business of another's.
    """
    configure_logging(form=settings.log_format if settings else "text")
    prepare()  # before there are threads
    app = Flask(name, static_folder=None)
    app.request_class = _Request
    app.config["MAX_CONTENT_LENGTH"] = bytes_max
    metrics = metrics or Metrics()
    _add_health(app, ready)
    if not public:
        _add_metrics(app, metrics)
    _add_problems(app)
    _add_telemetry(app, metrics, settings, public=public, before=before_push)
    if described:
        _add_description(app, described)
    return app


def _add_health(app: Flask, ready: Callable[[], bool]) -> None:
    @app.get("/health/live")
    def live() -> tuple[str, int]:
        return "", 204

    @app.get("/health/ready")
    def readiness() -> tuple[str, int]:
        return "", 204 if ready() else 503


def _add_metrics(app: Flask, metrics: Metrics) -> None:
    @app.get("/metrics")
    def show_metrics() -> Response:
        return Response(metrics.text(), mimetype="text/plain; version=0.0.4")


def _add_description(app: Flask, package: str) -> None:
    @app.get("/openapi.json")
    def describe() -> Response:
        from importlib import resources

        text = resources.files(package).joinpath("openapi.json").read_bytes()
        return Response(text, mimetype="application/json")


def _add_telemetry(
    app: Flask,
    metrics: Metrics,
    settings: Settings | None,
    *,
    public: bool,
    before: Callable[[], None],
) -> None:
    exporter = _exporter(app, metrics, settings, before)
    spans = exporter.spans if exporter else None
    cold = [process_began()]

    @app.before_request
    def begin() -> None:
        g.began = time.monotonic()
        with suppress(IndexError):  # but for the first, whichever that is
            took = g.began - cold.pop()
            metrics.observe("cold_start_seconds", took, stage="process")
        if request.path.startswith(_UNTOLD):
            return
        # Whoever comes from outside says nothing of our traces.
        above = "" if public else request.headers.get("traceparent", "")
        name = f"{request.method} {_rule()}" if request.url_rule else "none"
        g.span = traces.enter(name, traceparent=above, spans=spans)

    @app.after_request
    def end(response: Response) -> Response:
        response.headers["X-Content-Type-Options"] = "nosniff"
        took = time.monotonic() - g.get("began", time.monotonic())
        who = {TENANT: g.tenant} if "tenant" in g else {}
        status = str(response.status_code)
        metrics.observe("http_request_seconds", took, route=_rule(), **who)
        metrics.count("http_requests", route=_rule(), status=status, **who)
        if "problem" in g and response.status_code >= _BAD:
            metrics.count("problems", route=_rule(), type=g.problem, **who)
        if "span" in g:
            g.span.attributes["http.response.status_code"] = response.status_code
            g.span.failed = response.status_code >= Failed.status
        return response

    @app.teardown_request
    def over(_error: BaseException | None) -> None:
        if "span" in g:
            traces.leave(g.span)
            if exporter is not None:
                exporter.wake()


def _rule() -> str:
    """Return the rule, never the path: a path holds ids, and each would be a series."""
    return request.url_rule.rule if request.url_rule else "none"


def _exporter(
    app: Flask,
    metrics: Metrics,
    settings: Settings | None,
    before: Callable[[], None],
) -> Exporter | None:
    """Return what pushes metrics and spans; nothing does without a collector."""
    if settings is None or not settings.otlp_url:
        return None
    from functions.otlp import Exporter

    service = f"guise-{app.name.rpartition('.')[2]}"
    return Exporter.from_settings(settings, service, metrics, before)


def speaks_for(tenant: str) -> None:
    """Count the current request under a tenant, now that the token has named it."""
    g.tenant = tenant


def _add_problems(app: Flask) -> None:
    @app.errorhandler(TooManyRequests)
    def on_too_many(problem: TooManyRequests) -> Response:
        response = problem_response(problem.document())
        response.headers["Retry-After"] = str(problem.retry_seconds)
        return response

    @app.errorhandler(Problem)
    def on_problem(problem: Problem) -> Response:
        if isinstance(problem, Refused):
            log.info("refused: %s", _said(problem))
            return problem_response(problem.document())
        return _failed(problem, problem)

    @app.errorhandler(HTTPException)
    def on_http(error: HTTPException) -> Response:
        status = error.code or Failed.status
        if status >= Failed.status:
            return _failed(Failed(), error)
        slug = error.name.lower().replace(" ", "-")
        document = {"type": TYPE_PREFIX + slug, "title": error.name, "status": status}
        response = problem_response(document)
        allowed = [text for name, text in error.get_headers() if name == "Allow"]
        if allowed:
            response.headers["Allow"] = allowed[0]
        return response

    @app.errorhandler(RequestEntityTooLarge)
    def on_too_large(_error: RequestEntityTooLarge) -> Response:
        return problem_response(TooLarge().document())

    @app.errorhandler(Exception)
    def on_anything(error: Exception) -> Response:
        return _failed(Failed(), error)


def _said(problem: Problem) -> str:
    """Return what the log has of a refusal: not its detail, which is the caller's.

    A detail may hold what a tenant calls its files, or fields of its own invention.
    """
    text = str(problem)
    ours = text not in (problem.detail, problem.title)
    return f"{problem.slug}: {text}" if ours else problem.slug


def _failed(problem: Problem, cause: Exception) -> Response:
    """Return a document with an instance id; the cause goes to the log alone."""
    instance = f"urn:uuid:{uuid.uuid4()}"
    if type(cause) in {Unavailable, NotServedHere} and cause.__cause__ is None:
        # Our own word, such as a quota that is used up: a crowd is told so all day.
        log.warning("not now: %s: %s", instance, cause)
    else:
        log.error("failed: %s", instance, exc_info=cause)
    return problem_response(problem.document(instance=instance))


def problem_response(document: Mapping[str, Any]) -> Response:
    """Return a problem document as an answer."""
    if has_request_context():
        g.problem = document["type"].removeprefix(TYPE_PREFIX)
    response = Response(
        msgspec.json.encode(document),
        status=document["status"],
        mimetype=PROBLEM_JSON,
    )
    if response.status_code == Unavailable.status:
        response.headers["Retry-After"] = str(_RETRY_SECONDS)
    if response.status_code == Unauthenticated.status:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def json_response(value: object, status: int = 200, **headers: str) -> Response:
    """Return `value` as JSON; `headers` are written with `_` for `-`."""
    response = Response(
        msgspec.json.encode(value),
        status=status,
        mimetype="application/json",
    )
    for name, text in headers.items():
        response.headers[name.replace("_", "-")] = text
    return response


def html_response(page: str, **headers: str) -> Response:
    """Return a page of `functions.pages`; `headers` are as for `json_response`."""
    response = Response(page, mimetype="text/html")
    # What the page itself cannot ask for: that nobody shows it in a frame.
    response.headers["Content-Security-Policy"] = "frame-ancestors 'none'"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "private, no-store"
    for name, text in headers.items():
        response.headers[name.replace("_", "-")] = text
    return response


def guard(app: Flask, cluster: Cluster, *rules: str) -> None:
    """Take what is sent to `rules` from who may speak for the tenant in the path.

    It is asked before the body is read.
    """

    @app.before_request
    def require_speaker() -> None:
        if request.url_rule and request.url_rule.rule in rules:
            tenant = (request.view_args or {})["tenant"]
            speaker_of(cluster).require(tenant)


def speaker_of(cluster: Cluster) -> Speaker:
    """Return who in the cluster sent the current request, or raise."""
    return cluster.speaker(request.headers.get("Authorization", ""))


def received_event(bytes_max: int = events.EVENT_BYTES_MAX) -> Event:
    """Return the event in the current request, or raise `Refused`."""
    body = _received(bytes_max)
    return events.decode(_headers(), body, bytes_max=bytes_max)


def _headers() -> dict[str, str]:
    """Return the current request's headers, their names in small letters.

    As the server has them: werkzeug would write each name anew, twice over.
    """
    found = {
        name[5:].replace("_", "-").lower(): value
        for name, value in request.environ.items()
        if name.startswith("HTTP_")
    }
    found["content-type"] = request.environ.get("CONTENT_TYPE", "")
    return found


def _received(bytes_max: int) -> bytes:
    """Return the body of the current request, or raise `TooLarge`."""
    if (request.content_length or 0) > bytes_max:
        raise TooLarge(f"an event has at most {bytes_max} bytes")
    try:
        return request.get_data()
    except RequestEntityTooLarge as error:  # sent in chunks, no length told
        raise TooLarge(f"an event has at most {bytes_max} bytes") from error


def answer_broker(handle: Callable[[Event], Response | None]) -> Response:
    """Hand the request's event to `handle` and answer as a broker understands.

    Empty 204: done, or refused and on record.  400: malformed, or refused in
    any other way, to the dead letters.  403: not signed by who it says.  503: try
    again.  Never 404, 408, 409 or 429, which a broker would retry although
    nothing will change.
    """
    return answer_notice(handle, events.decode)


def answer_notice(
    handle: Callable[[T], Response | None],
    read: Callable[[Mapping[str, str], bytes], T],
    *,
    bytes_max: int = events.EVENT_BYTES_MAX,
) -> Response:
    """Answer as `answer_broker` does, whatever `read` makes of headers and body."""
    try:
        notice = read(_headers(), _received(bytes_max))
        return handle(notice) or Response(status=204)
    except Forbidden:
        raise
    except Refused as problem:
        log.warning("refused event: %s", _said(problem))
        return problem_response(problem.document() | {"status": 400})
