"""Traces: W3C Trace Context in and out, and spans that say nothing of anybody."""

from __future__ import annotations

import pytest

from functions import traces

PARENT = f"00-{'ab' * 16}-{'cd' * 8}-01"


def test_a_request_goes_on_with_the_trace_it_came_with() -> None:
    """Its own span is below the caller's."""
    span = traces.enter("GET /", traceparent=PARENT, spans=traces.Spans())
    traces.leave(span)
    assert (span.trace, span.parent) == ("ab" * 16, "cd" * 8)
    assert span.traceparent == f"00-{'ab' * 16}-{span.id}-01"
    assert traces.current() is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        PARENT.upper(),
        PARENT + "-more",
        f"00-{'0' * 32}-{'cd' * 8}-01",
        f"00-{'ab' * 16}-{'0' * 16}-01",
        f"ff-{'ab' * 16}-{'cd' * 8}-01",
    ],
)
def test_what_is_no_traceparent_begins_a_new_trace(text: str) -> None:
    """As the standard has it; nothing of it is kept."""
    span = traces.enter("GET /", traceparent=text)
    traces.leave(span)
    assert span.parent == ""
    assert len(span.trace) == 32
    assert span.trace != "ab" * 16


def test_a_call_is_a_span_of_its_own_below_the_request() -> None:
    """And what goes with it names that span."""
    spans = traces.Spans()
    above = traces.enter("GET /", spans=spans)
    with traces.within("call") as span:
        assert span is not None
        assert traces.headers() == {"traceparent": span.traceparent}
        traces.past("decode", 0.5)
    assert traces.headers() == {"traceparent": above.traceparent}
    traces.leave(above)
    stage, call, request = spans.take()
    assert (stage.name, stage.parent) == ("decode", call.id)
    assert stage.ended_ns - stage.began_ns == pytest.approx(5e8, rel=0.1)
    assert (call.parent, call.kind, request.kind) == (above.id, "client", "server")
    assert {each.trace for each in (stage, call, request)} == {above.trace}
    assert spans.take() == []


def test_a_failure_marks_the_span_and_leaves_no_word_in_it() -> None:
    """An error's text may hold anything."""
    spans = traces.Spans()
    span = traces.enter("GET /", spans=spans)
    with pytest.raises(ValueError, match="secret"), traces.within("call"):
        raise ValueError("secret")
    traces.leave(span)
    call = spans.take()[0]
    assert call.failed
    assert "secret" not in repr(call)


def test_outside_a_request_there_is_no_span() -> None:
    """A sweep, say; and nothing goes with its calls."""
    with traces.within("call") as span:
        assert span is None
        traces.past("decode", 1)
        assert traces.headers() == {}


def test_spans_that_nobody_fetches_end_at_a_bound() -> None:
    """What is lost is counted."""
    spans = traces.Spans(spans_max=2)
    for _ in range(5):
        traces.leave(traces.enter("GET /", spans=spans))
    assert len(spans.take()) == 2
    assert spans.lost == 3
