"""What must not survive in the earlier manifests of an anonymised photograph.

An earlier manifest is kept, but a camera's may hold a thumbnail of the very face
that was covered, or where it was taken.  C2PA 2.2, section 6.8 lets an assertion
be taken out while the rest still verifies; all but a few kinds are.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import msgspec

from functions.problems import Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator

    from c2pa import Context

# What binds and what was done; the standard lets nobody redact the first three.
_KEPT: Final = (
    "c2pa.actions",
    "c2pa.hash.",
    "c2pa.ingredient",
    "c2pa.training-mining",
    "cawg.training-mining",
    "dev.guise.receipt",
)
# Boxes beside the assertions that no redaction reaches.
_OUT_OF_REACH: Final = (b"c2pa.databoxes\0", b"c2pa.credentials\0")


def to_redact(data: bytes, mime: str, reading: Context) -> list[str]:
    """Return the JUMBF URIs of what goes, in every manifest that `data` carries.

    Raises `Unsupported` where the manifest lies elsewhere, beyond our reach, and the
    library's error where it cannot be read.
    """
    from c2pa import C2paError, Reader

    try:
        reader = Reader.try_create(mime, BytesIO(data), context=reading)
    except C2paError as error:
        if not lies_elsewhere(error):
            raise
        raise Unsupported(
            "The photograph names Content Credentials kept elsewhere, which would "
            "lead back to the faces; remove the reference first.",
        ) from error
    if reader is None:
        return []
    with reader:
        document = msgspec.json.decode(reader.detailed_json())
    return list(_revealing(document["manifests"]))


def lies_elsewhere(error: Exception) -> bool:
    """Return whether the library says that it would have to fetch the manifest.

    c2pa 0.91 has a class for this error and does not raise it.
    """
    return str(error).startswith("Remote")


def _revealing(manifests: dict[str, Any]) -> Iterator[str]:
    for name, manifest in manifests.items():
        for assertion in manifest["assertion_store"]:
            if not assertion.startswith(_KEPT):
                yield f"self#jumbf=/c2pa/{name}/c2pa.assertions/{assertion}"


def check_reach(store: bytes) -> None:
    """Return if redaction reached everything in this manifest store.

    Raises `Unsupported` where pictures or persons may hide beside the assertions.
    """
    if any(label in store for label in _OUT_OF_REACH):
        raise Unsupported(
            "The photograph's earlier Content Credentials embed data that cannot be "
            "taken out; remove them first.",
        )
