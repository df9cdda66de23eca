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
        "boto3",
        "cloudevents",
        "cv2",
        "google",
        "jwt",
        "numpy",
        "onnxruntime",
        "prometheus_client",
        "sqlalchemy",
    }
)


@pytest.mark.parametrize("door", DOORS)
def test_importing_a_door_imports_nothing_heavy(door: str) -> None:
    """A status poll or a scanner pays for the web server, and for nothing else."""
    code = f"import {door}, sys; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert door in loaded
    assert HEAVY.isdisjoint(loaded)
