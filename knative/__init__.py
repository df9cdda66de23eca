"""The manifests: `system/` once a cluster, `tenant/` once a tenant (templates).

The files in `tenant/` are `string.Template`s with one place to fill: `${tenant}`.
"""

from __future__ import annotations

from pathlib import Path


def folder() -> Path:
    """Return where the manifests lie, in a checkout and in an installed package."""
    return Path(__file__).parent
