"""Whether a pack may serve here: who vouches for it, and under which licence.

Called once, on the thread that loads, before anything is opened.  Development takes
what production refuses, with a warning; a signature that is wrong, nobody takes.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from functions.acceptances import Acceptances
from functions.settings import SettingsError

if TYPE_CHECKING:
    from functions.keys import KeyProvider
    from functions.settings import Settings
    from models.manifest import Pack
    from models.signature import Trust

log = logging.getLogger(__name__)


def trust(settings: Settings) -> Trust | None:
    """Return whose signatures a pack must carry, None where nobody's are looked at.

    Raises:
        SettingsError: production, and no keys are named.
        models.errors.KeyRefused: they are named, and not fit.
    """
    required = settings.profile == "production"
    if settings.model_keys is None:
        if required:
            raise SettingsError(
                "GUISE_MODEL_KEYS: not set; production serves signed packs only"
            )
        log.warning("no GUISE_MODEL_KEYS: nobody vouches for the pack")
        return None
    from models.signature import Trust

    return Trust.load(settings.model_keys, required=required)


def admit_pack(pack: Pack, settings: Settings, keys: KeyProvider) -> dict[str, str]:
    """Return what records say of the pack's licence, if it may serve here.

    `licence` is one of: `commercial`, `licensed` (by MODEL.LICENSE, whose ids are in
    `licence_ids`), `accepted` (by the operator; `acceptance` is the event's id in
    its log), `non-commercial` (development alone).

    Raises:
        models.errors.PackRefused: production, and a model may not be used
            commercially, and the operator has not accepted that; the message names
            the model and says what to do.  Or the grants in the pack are not those
            that its manifest lists.
        SettingsError: an acceptance is not what it should be.
    """
    if all(model.commercial for model in pack.models):
        return {"licence": "commercial"}
    from models import licence
    from models.errors import PackRefused

    grants = licence.read(settings.need("models"), pack)
    left = licence.unlicensed(pack, grants)
    if not left:
        ids = sorted({grant.licence_id for grant in grants if grant.licence_id})
        return {"licence": "licensed", "licence_ids": ", ".join(ids)}
    accepted = Acceptances.load(settings.acceptances, keys).find(
        "non-commercial-licence", pack.pack_digest
    )
    if accepted is not None:
        log.warning("%s: %s accepted its licence", pack.id, accepted.statement.actor)
        return {"licence": "accepted", "acceptance": accepted.id}
    why = "; ".join(licence.why_not(model, grants) for model in left)
    if settings.profile == "production":
        raise PackRefused(
            f"{pack.id} {pack.version} may not be used commercially: {why}. Import it "
            "with the MODEL.LICENSE you have been given, or accept this on record "
            "with `guise models accept`, and name the folder in GUISE_ACCEPTANCES"
        )
    log.warning("%s may not be used commercially: %s", pack.id, why)
    return {"licence": "non-commercial"}


def without_gate(pack: Pack, settings: Settings, keys: KeyProvider) -> str:
    """Return the id of the operator's acceptance of swaps without a gate, or none."""
    found = Acceptances.load(settings.acceptances, keys).find(
        "no-content-gate", pack.pack_digest
    )
    return found.id if found else ""
