"""What OpenMeter's ingestion takes, restated as a JSON schema of our own.

Facts from the `Event` of its OpenAPI document, api/openapi.yaml of
https://github.com/openmeterio/openmeter (August 2026): which attributes it asks for,
that none of them is empty, that data is an object, and the two media types by which
events come.  It is stricter than that in one thing: an attribute that neither
CloudEvents nor we name is refused.
"""

from __future__ import annotations

from typing import Any, Final

MEDIA_TYPE: Final = "application/cloudevents+json"
BATCH_MEDIA_TYPE: Final = "application/cloudevents-batch+json"
PATH: Final = "/api/v1/events"

_TEXT: Final = {"type": "string", "minLength": 1}

EVENT: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["id", "source", "specversion", "type", "subject"],
    "properties": {
        "id": _TEXT,
        "source": {**_TEXT, "format": "uri-reference"},
        "specversion": _TEXT,
        "type": _TEXT,
        "subject": _TEXT,
        "time": {"type": ["string", "null"], "format": "date-time"},
        "datacontenttype": {"enum": ["application/json", None]},
        "dataschema": {"type": ["string", "null"], "minLength": 1, "format": "uri"},
        "data": {"type": ["object", "null"]},
        "tenant": _TEXT,
        "sig": _TEXT,
        "sigkid": _TEXT,
    },
    "additionalProperties": False,
}
BATCH: Final[dict[str, Any]] = {"type": "array", "items": EVENT}
