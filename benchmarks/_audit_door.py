"""The audit function with one route more, that answers the same and does nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import request

from functions.audit import app as audit
from functions.sink import Receipt
from functions.web import json_response

if TYPE_CHECKING:
    from flask import Flask, Response

NOTE = "x" * 180


def create_app() -> Flask:
    """Return the app that gunicorn serves."""
    app = audit.create_app()

    @app.post("/empty")
    def empty() -> Response:
        """Read what an event's request has, and answer as many bytes as a receipt."""
        request.get_data()
        return json_response(Receipt(0, "0" * 64, NOTE))

    return app
