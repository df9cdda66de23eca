"""What a manifest claims: the action, its kind of source, and the receipt.  Pure.

The digital source types are IPTC's.  A swap composes the photograph with what
trained models made.  Covering faces alters a photograph by an algorithm: models
find the faces, but not one pixel of the result is theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec

from functions import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from functions.sink import Receipt

RECEIPT: Final = "dev.guise.receipt"
"""The label of our own assertion."""

SOURCE_TYPES: Final[Mapping[str, str]] = {
    "swap": "compositeWithTrainedAlgorithmicMedia",
    "anonymize": "algorithmicallyEnhanced",
}
_VOCABULARY: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_DESCRIPTIONS: Final[Mapping[str, str]] = {
    "swap": "A face was replaced by another person's.",
    "anonymize": "Faces were covered so that nobody is recognised.",
}
_SOFTWARE: Final[Mapping[str, str]] = {"name": "Guise", "version": __version__}
_REDACTED: Final = "c2pa.PII.present"  # C2PA 2.2, 18.16: why it was taken out


class Asserted(msgspec.Struct, frozen=True, kw_only=True):
    """The data of our assertion, as written; fields that come later are passed over.

    `log` is the audit log's origin, `leaf_hash` hex, `checkpoint` a C2SP signed note;
    `aigc` is the AI label in the file, None where it has none.
    """

    version: Literal[1] = 1
    job: str
    operation: str
    pack: dict[str, str]
    log: str
    index: Annotated[int, msgspec.Meta(ge=0)]
    leaf_hash: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}\\Z")]
    checkpoint: str
    aigc: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class Work:
    """What was done, and where it is on record.

    `operation` is swap or anonymize; `pack` has the id, version and digest of the
    models.  `receipt` is the audit log's, whose checkpoint begins with its origin.
    """

    job: str
    operation: str
    pack: Mapping[str, str]
    receipt: Receipt


def definition(
    work: Work,
    name: str,
    mime: str,
    label: Mapping[str, str] | None,
    redacted: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the manifest `name` as the library wants it.

    `label` is the AI label in the file, repeated here so that a reader can tell a
    changed label from a changed picture.  `redacted` holds JUMBF URIs.
    """
    asserted = (
        ("c2pa.actions.v2", _actions(work, redacted)),
        (RECEIPT, _receipt(work, label)),
    )
    made: dict[str, Any] = {
        "label": name,
        "format": mime,
        "claim_generator_info": [_SOFTWARE],
        "assertions": [
            {"label": each, "data": data, "created": True} for each, data in asserted
        ],
    }
    return made | ({"redactions": list(redacted)} if redacted else {})


def _actions(work: Work, redacted: Sequence[str]) -> dict[str, Any]:
    done = {
        "action": "c2pa.edited",
        "softwareAgent": _SOFTWARE,
        "digitalSourceType": _VOCABULARY + SOURCE_TYPES[work.operation],
        "description": _DESCRIPTIONS[work.operation],
    }
    taken = [
        {
            "action": "c2pa.redacted",
            "reason": _REDACTED,
            "parameters": {"redacted": uri},
        }
        for uri in redacted
    ]
    return {"actions": [done, *taken]}


def _receipt(work: Work, label: Mapping[str, str] | None) -> Asserted:
    receipt = work.receipt
    return Asserted(
        job=work.job,
        operation=work.operation,
        pack=dict(work.pack),
        log=receipt.checkpoint.partition("\n")[0],
        index=receipt.index,
        leaf_hash=receipt.leaf_hash,
        checkpoint=receipt.checkpoint,
        aigc=dict(label) if label else None,
    )
