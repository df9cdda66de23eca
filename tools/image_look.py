"""What an image has, and what it has not, before it is started.

Paths are the image's own, read where it is mounted; nothing of it runs.
"""

from __future__ import annotations

import json
import re
from importlib.metadata import distributions
from typing import TYPE_CHECKING, Final

from tools.image_container import USER

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tools.image_container import Image

    Parts = frozenset[tuple[str, str]]
    """Each part's name, as PyPI writes it in addresses, and its version."""

ADDS_MB_MAX: Final = {"audit": 80, "worker-cpu": 650}
"""Without weights, in millions of bytes."""
BUILDERS: Final = (
    "pip",
    "pip3",
    "gcc",
    "cc",
    "g++",
    "c++",
    "clang",
    "ld",
    "as",
    "make",
)
ML: Final = ("numpy", "cv2", "onnxruntime")
LABELS: Final = ("title", "description", "licenses", "vendor", "version", "revision")
PACKAGES: Final = "opt/guise"
WEIGHTS: Final = "models"
_OTHERS_MAY_WRITE: Final = 0o002


def look(image: Image, version: str) -> Iterable[tuple[str, object, object]]:
    """Yield each rule, whether the image holds to it, and what was seen."""
    name = image.target
    found = builders(image.root)
    yield "has no pip and no compiler", not found, ", ".join(found)
    user = image.config.get("User", "")
    yield "runs as nobody in particular", user == f"{USER}:{USER}", user
    told = labels(image)
    right = all(told.values()) and (told["title"], told["version"]) == (
        f"guise-{name}",
        version,
    )
    yield "says what it is in its labels", right, told["revision"]
    [site] = (image.root / PACKAGES).glob("lib/python3*/site-packages")
    said, there = billed(image.root), installed(site)
    wrong = ", ".join(sorted(each for each, _ in said ^ there)) or f"{len(there)} parts"
    yield "has a bill of materials, and it is true", said and said == there, wrong
    has = [each for each in ML if (site / each).exists()]
    wanted = list(ML) if name.startswith("worker") else []
    yield "has what models need, or none of it", has == wanted, " ".join(has)
    below = image.made[-2:-1] if name.startswith("worker") else ()
    layered = [each for each in image.made if f"/{WEIGHTS}" in each]
    yield "has weights right below its code, or none", layered == [*below], ""
    loose = writable(image.root)
    yield "has no code and no weights that it may write to", not loose, loose
    adds, most = size(image.root / PACKAGES) / 1e6, ADDS_MB_MAX.get(name)
    rule = f"adds under {most} MB" if most else "adds some"
    yield rule, most is None or adds < most, f"{adds:.1f} MB"


def builders(root: Path) -> list[str]:
    """Return what in an image would install or build something."""
    places = ("bin", "usr/bin", "usr/local/bin", f"{PACKAGES}/bin")
    found = [f"{place}/{each}" for place in places for each in BUILDERS]
    packages: list[Path] = []
    for place in ("site-packages/pip", "dist-packages/pip", "ensurepip"):
        for top in ("usr/lib", "usr/local/lib", f"{PACKAGES}/lib"):
            packages += (root / top).glob(f"python3*/{place}")
    return [each for each in found if (root / each).exists()] + [
        str(each.relative_to(root)) for each in packages
    ]


def labels(image: Image) -> dict[str, str]:
    """Return what OCI's labels say of an image; empty where one is not there."""
    told = image.config.get("Labels", {})
    return {each: told.get(f"org.opencontainers.image.{each}", "") for each in LABELS}


def billed(root: Path) -> Parts:
    """Return what the bill of materials tells of; nothing, where it is none."""
    try:
        bill = json.loads((root / PACKAGES / "sbom.cdx.json").read_bytes())
    except (OSError, ValueError):
        return frozenset()
    if bill.get("bomFormat") != "CycloneDX":
        return frozenset()
    return frozenset(
        (_plain(each["name"]), each["version"]) for each in bill["components"]
    )


def installed(site: Path) -> Parts:
    """Return what lies in a folder of packages, as each says itself."""
    found = distributions(path=[str(site)])
    return frozenset((_plain(each.metadata["Name"]), each.version) for each in found)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def writable(root: Path) -> str:
    """Return a file of ours that its function may write to; empty if there is none."""
    for top in (root / PACKAGES, root / WEIGHTS):
        for each in top.rglob("*"):
            about = each.lstat()
            open_to_all = not each.is_symlink() and about.st_mode & _OTHERS_MAY_WRITE
            if open_to_all or USER in {about.st_uid, about.st_gid}:
                return str(each.relative_to(root))
    return ""


def size(folder: Path) -> int:
    """Return the bytes of a folder's files, each counted once."""
    seen = {}
    for each in folder.rglob("*"):
        about = each.lstat()
        if each.is_file() and not each.is_symlink():
            seen[about.st_ino] = about.st_size
    return sum(seen.values())
