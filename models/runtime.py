"""ONNX Runtime, imported so that it tells nobody."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType


def load() -> ModuleType:
    """Return ONNX Runtime, imported with its telemetry off.

    Since 1.29 the official wheels, on import and by default, write a device id into
    the user's cache and send events about the machine, the models and the runs to
    their maker (Privacy.md inside the wheel).  This variable, read once at the first
    import in a process, is the only complete refusal, so it is set and not passed.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    return importlib.import_module("onnxruntime")
