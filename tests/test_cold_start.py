"""What a cold container pays for.  Each case is a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest

DOORS = (
    "functions.swap.door",
    "functions.swap.worker",
    "functions.audit.app",
    "functions.billing.app",
)
HEAVY = frozenset(
    {
        "alembic",
        "boto3",
        "botocore",
        "c2pa",
        "cloudevents",
        "cryptography",
        "cv2",
        "google",
        "httpx",
        "jwt",
        "numpy",
        "onnxruntime",
        "prometheus_client",
        "rfc8785",
        "rich",
        "sqlalchemy",
        "tink",
        "typer",
        "urllib3",
        "yaml",
    }
)


@pytest.mark.parametrize("door", DOORS)
def test_importing_a_door_imports_nothing_heavy(door: str) -> None:
    """A status poll or a scanner pays for the web server, and for nothing else."""
    code = f"import {door}, sys; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert door in loaded
    assert HEAVY.isdisjoint(loaded)
    # What pushes telemetry comes where there is a collector to push it to.
    assert not {"functions.otlp", "opentelemetry"} & set(loaded)


@pytest.mark.parametrize("url", ["file:///srv/{tenant}", "memory:"])
def test_a_store_of_one_kind_costs_nothing_of_another(url: str) -> None:
    """Who keeps data in folders does not pay for a bucket's client."""
    code = (
        "import sys; from functions.storage import open_store; "
        f"open_store({url!r}); print(*sys.modules)"
    )
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert "functions.storage.locate" in loaded
    assert HEAVY.isdisjoint(loaded)
