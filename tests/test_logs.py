"""A log as JSON: one object a line, masked as the text is, with the trace's ids."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from functions import traces
from functions.logs import JsonFormatter


def written(message: str, *args: object, exc_info: Any = None) -> dict[str, Any]:
    """Return what a collector of logs would read of a record."""
    record = logging.LogRecord(
        "functions.x", logging.WARNING, __file__, 1, message, args, exc_info
    )
    line = JsonFormatter().format(record)
    assert "\n" not in line
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


def test_a_record_is_an_object_on_one_line() -> None:
    """With what the text has, named as collectors read it."""
    told = written("refused: %s", "a\nb\x1b[2J")
    assert told.pop("time").endswith("+00:00")
    assert told == {
        "severity": "WARNING",
        "logger": "functions.x",
        "message": "refused: a\\nb\\x1b[2J",
    }


def test_what_a_tenant_calls_its_files_is_left_out() -> None:
    """As in the text; of an error, too."""
    try:
        raise ValueError("uploads/anna-k.jpg is none")  # noqa: TRY301  # as it would be
    except ValueError:
        told = written("fetch uploads/anna-k.jpg", exc_info=sys.exc_info())
    assert "anna" not in str(told)
    assert "ValueError" in told["exception"]


def test_a_line_is_cut_before_it_is_searched() -> None:
    """However often a stranger begins what is searched for: he wrote all of it."""
    began = time.process_time()
    told = written("refused: %s", "[Errno 1] " * 100_000)
    assert len(told["message"]) < 5000
    assert time.process_time() - began < 1


def test_inside_a_request_it_has_the_ids_of_the_trace() -> None:
    """So that a line leads to its trace."""
    span = traces.enter("GET /")
    told = written("x")
    traces.leave(span)
    assert (told["trace_id"], told["span_id"]) == (span.trace, span.id)
    assert "trace_id" not in written("x")
