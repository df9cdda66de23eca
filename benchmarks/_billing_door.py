"""The billing function with one route more, that answers the same and does nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Response, request

from functions.billing import app as billing

if TYPE_CHECKING:
    from flask import Flask


def create_app() -> Flask:
    """Return the app that gunicorn serves."""
    app = billing.create_app()

    @app.post("/empty")
    def empty() -> Response:
        """Read what an event's request has, and answer as a counted event is."""
        request.get_data()
        return Response(status=204)

    return app
