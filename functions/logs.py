"""How every process of ours writes its log: a line a record, whoever wrote into it.

As text for people, or as JSON for a collector of logs, with the ids of the trace.
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from functions import traces

_NAMED: Final = re.compile(r"\b((?:uploads|consents)(?:/|%2F)).+", re.IGNORECASE)
_UNROOTED: Final = re.compile(r"(\[Errno \d+\] [^:\[]*: )'(?!/).*")
_LINE_CHARACTERS_MAX: Final = 4096
"""A longer line is cut: a stranger may have written most of it."""
_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"


def configure_logging(
    level: int = logging.INFO, *, form: Literal["text", "json"] = "text"
) -> None:
    """Write what is worth knowing to standard error, unless somebody has decided."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else LineFormatter(_FORMAT))
    logging.basicConfig(level=level, handlers=[handler])


class LineFormatter(logging.Formatter):
    """One record is one line, and a traceback's lines are indented below it.

    So no text of a caller's, whatever part of a message it is, begins a line or
    moves a terminal's cursor.  What a tenant calls its files, which may be a person's
    name, is left out with the rest of its line: a name may hold anything.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's lines; the traceback as ours, whoever wrote it before."""
        record.exc_text = None
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # as its base
        """Return the line, its control characters as escapes."""
        return _plain(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: ANN401, N802  # as its base
        """Return the traceback, indented, its control characters as escapes."""
        lines = super().formatException(ei).split("\n")
        return "\n".join(f"  {_plain(line)}" for line in lines)


class JsonFormatter(LineFormatter):
    """One record is one JSON object on one line, and holds what `LineFormatter` has.

    `severity`, `time` and `message` are named as Google Cloud's agent reads them;
    `trace_id` and `span_id` as OpenTelemetry writes them into logs that are no OTLP.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's object."""
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "severity": record.levelname,
            "logger": record.name,
            "message": _plain(record.getMessage()),
        }
        if span := traces.current():
            told |= {"trace_id": span.trace, "span_id": span.id}
        if record.exc_info and record.exc_info[0]:
            told["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(told).decode()


def _plain(text: str) -> str:
    """Return `text` with what is not printable as Python writes it, and no file's name.

    Of the system's errors only those that name a file by its whole path keep that: a
    file store names the files in its folders alone.
    """
    if len(text) > _LINE_CHARACTERS_MAX:
        text = text[:_LINE_CHARACTERS_MAX] + "…"
    text = _UNROOTED.sub(r"\1…", _NAMED.sub(r"\1…", text))
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
