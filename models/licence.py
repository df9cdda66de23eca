"""Which models may be used commercially, and what a `MODEL.LICENSE` says of it.

InsightFace licenses its weights with signed `MODEL.LICENSE` files.  insightface
itself judges one, when the weights are imported and never while serving; what it
said is recorded in the pack as `licences.json`, which the manifest lists and the
publisher and the approver therefore sign.  What runs out is looked at again at
every start.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal, cast, get_args

import msgspec
from msgspec import Meta

from models.errors import ModelError, PackRefused
from models.manifest import Id, Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from models.manifest import Model, Pack

NAME: Final = "licences.json"
"""The file of a pack with its grants; a pack without one has none."""
BYTES_MAX: Final = 65_536
ISSUER: Final = "InsightFace"
"""Who issues a `MODEL.LICENSE`, and how the licences of its models begin."""

Status = Literal[
    "verified_commercial",
    "verified_non_commercial",
    "default_non_commercial",
    "not_active",
    "expired",
    "invalid",
    "invalid_manifest",
]
"""As insightface calls them; `default_non_commercial` is a package without a file."""


Moment = Annotated[str, Meta(pattern=r"^([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z)?\Z")]


class Grant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the `MODEL.LICENSE` of one package said when its weights were imported.

    `models` names the models of the pack that came out of the package.  `sha256` is
    the file's; times are RFC 3339, and empty where the licence states none.
    """

    status: Status
    package: Text
    models: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=64)]
    sha256: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    licence_id: str = ""
    customer: str = ""
    valid_from: Moment = ""
    valid_until: Moment = ""

    def __post_init__(self) -> None:
        """Refuse a time that is on no calendar.

        Raises:
            ValueError: one is.
        """
        for text in (self.valid_from, self.valid_until):
            datetime.fromisoformat(text or "1970-01-01")

    def commercial_at(self, moment: datetime) -> bool:
        """Return whether it lets its models be used commercially at `moment`."""
        if self.status != "verified_commercial" or not self.valid_from:
            return False
        starts = datetime.fromisoformat(self.valid_from)
        ends = datetime.fromisoformat(self.valid_until) if self.valid_until else None
        return starts <= moment and (ends is None or moment < ends)


class _Grants(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    grants: Annotated[tuple[Grant, ...], Meta(min_length=1, max_length=64)]
    format: Literal[1] = 1


def inspect(
    package: Path,
    models: Iterable[str],
    *,
    model_id: str | None = None,
    moment: datetime | None = None,
    public_keys: Sequence[Ed25519PublicKey] | None = None,
) -> Grant:
    """Return what insightface says of the licence in the folder `package`.

    `models` are the names, in the pack, of those that come out of it.  `model_id` is
    what the licence must be for, unless the package's own manifest says; the name of
    the folder without either.  `public_keys` replaces the ones insightface trusts.

    Raises:
        ModelError: insightface is not installed.
    """
    try:
        from insightface.model_zoo import model_license
    except ImportError as error:
        raise ModelError(
            "insightface checks a MODEL.LICENSE: pip install --no-deps insightface"
        ) from error
    found = model_license.inspect_model_package_license(
        package, expected_model_id=model_id, now=moment, public_keys=public_keys
    )
    if found.status not in get_args(Status):
        raise ModelError(f"{package.name}: {found.message}")
    status, said = cast("Status", found.status), found.public_summary()
    file = found.license_path
    there = file is not None and file.is_file()
    return Grant(
        status=status,
        package=found.model_id,
        models=tuple(sorted(models)),
        sha256=hashlib.sha256(file.read_bytes()).hexdigest() if there else "",
        licence_id=said["license_id"] or "",
        customer=said["customer"] or "",
        valid_from=said["valid_from"] or "",
        valid_until=said["valid_until"] or "",
    )


def encode(grants: Iterable[Grant]) -> bytes:
    """Return what `licences.json` holds."""
    return msgspec.json.encode(_Grants(tuple(grants)), order="sorted")


_GRANTS: Final = msgspec.json.Decoder(_Grants)  # made on one thread: see `manifest`


def decode(raw: bytes) -> tuple[Grant, ...]:
    """Return the grants in `raw`.

    Raises:
        PackRefused: it is too long, or says what it may not.
    """
    if len(raw) > BYTES_MAX:
        raise PackRefused(f"{NAME}: more than {BYTES_MAX} bytes")
    try:
        return _GRANTS.decode(raw).grants
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise PackRefused(f"{NAME}: {error}") from error


def read(folder: Path, pack: Pack) -> tuple[Grant, ...]:
    """Return the grants recorded in the pack; none where its manifest lists none.

    Raises:
        PackRefused: the file is not the one that the manifest lists, or says what
            it may not.
    """
    listed = {file.name: file for file in pack.files}.get(NAME)
    if listed is None:
        return ()
    try:
        with (folder / NAME).open("rb") as file:
            raw = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise PackRefused(f"{NAME}: {error.strerror}") from error
    if hashlib.sha256(raw).hexdigest() != listed.sha256:
        raise PackRefused(f"{NAME}: not the one that the manifest lists")
    return decode(raw)


def unlicensed(
    pack: Pack, grants: Iterable[Grant], moment: datetime | None = None
) -> tuple[Model, ...]:
    """Return the models that nothing lets be used commercially at `moment`, or now.

    Whoever issued a licence can license its own models only, whatever lay beside it,
    and as it published them: a build of the operator's own is nobody's to license.
    """
    moment = moment or datetime.now(UTC)
    valid = [grant for grant in grants if grant.commercial_at(moment)]
    covered = {name for grant in valid for name in grant.models}
    return tuple(
        model
        for model in pack.models
        if not model.commercial
        and not (
            model.name in covered
            and model.licence.startswith(ISSUER)
            and not model.upstream.private
        )
    )


def why_not(model: Model, grants: Iterable[Grant]) -> str:
    """Return in words why `model` may not be used commercially."""
    own = [grant for grant in grants if model.name in grant.models]
    said = "; ".join(f"MODEL.LICENSE of {one.package}: {_state(one)}" for one in own)
    return f"{model.name}: {model.licence} ({said or 'no MODEL.LICENSE'})"


def _state(grant: Grant) -> str:
    if grant.status != "verified_commercial":
        return grant.status.replace("_", " ")
    until = f" until {grant.valid_until}" if grant.valid_until else ""
    return f"valid from {grant.valid_from}{until}"
