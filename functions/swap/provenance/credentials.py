"""Content Credentials on every output: the one way out of the pipeline.

sign(output, target, work)
    label       the AI label goes into the file
    ingredient  the target's own bytes, with the manifests they carried
    manifest    what was done, by which models, and the audit receipt
    signature   over all of it, checked once more by the library
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from functions.problems import Failed, Problem, Unreadable
from functions.settings import SettingsError
from functions.swap.provenance import aigc, chain, containers, manifest, redaction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from c2pa import Builder, Context

    from functions.keys import KeyProvider
    from functions.settings import Settings
    from functions.swap.provenance.containers import Form
    from functions.swap.provenance.manifest import Work

# Nothing is fetched for anybody's manifest: not the manifest, not a revocation.
OFFLINE: Final[Mapping[str, Any]] = {
    "verify": {
        "verify_after_sign": True,
        "remote_manifest_fetch": False,
        "ocsp_fetch": False,
    },
    "builder": {"thumbnail": {"enabled": False}},
}


@dataclass(frozen=True, slots=True)
class Signed:
    """A file with its label and credentials; `manifest` is the label of the latter."""

    data: bytes
    manifest: str
    aigc: bool

    def described(self) -> dict[str, Any]:
        """Return what records and events say of it."""
        return {"c2pa": True, "manifest": self.manifest, "aigc": self.aigc}


class Credentials:
    """Signs outputs.  Made once in a worker, and used by all its threads at once.

    `sign` is handed bytes and returns the 64-byte Ed25519 signature: the key stays
    where it is.  `pem` is the certificate chain, the leaf first.
    """

    def __init__(
        self,
        sign: Callable[[bytes], bytes],
        pem: str,
        *,
        producer: str = "Guise",
        timestamp_url: str = "",
    ) -> None:
        from c2pa import C2paError, C2paSigningAlg, Context, Signer
        from c2pa import Settings as Options

        alg = C2paSigningAlg.ED25519
        try:
            signer = Signer.from_callback(sign, alg, pem, timestamp_url or None)
            options = Options.from_dict(dict(OFFLINE))
            self._signing: Context = Context(options, signer)
            self._reading: Context = Context(options)
        except C2paError as error:
            raise SettingsError(f"GUISE_PROVENANCE: {error}") from error
        self._fault = C2paError
        self._producer = producer

    @classmethod
    def load(cls, settings: Settings, keys: KeyProvider) -> Self:
        """Return what signs here, or raise `SettingsError`: none, unfit, self-made."""
        path = settings.need("provenance")
        signer = keys.signer(chain.KEY)
        try:
            pem = path.read_text("ascii")
        except (OSError, ValueError) as error:
            raise SettingsError(f"GUISE_PROVENANCE: {error}") from error
        chain.check(pem, signer, production=settings.profile == "production")
        return cls(
            signer.sign,
            pem,
            producer=settings.producer,
            timestamp_url=settings.timestamp_url,
        )

    def sign(self, data: bytes, form: Form, target: bytes, work: Work) -> Signed:
        """Return the output `data` in `form`, labelled and signed.

        `target` are the very bytes that were edited: a JPEG, PNG or WebP.

        Raises:
            Unreadable: the target is no image, or its Content Credentials are garbled
                or contradict themselves.
            Unsupported: they hold what cannot be taken out, and faces were covered.
            Failed: there is no signature.

        """
        kind = containers.form_of(target)
        if kind is None:
            raise Unreadable("These bytes are not a JPEG, PNG or WebP image.")
        label = self._label(target, kind, work)
        labelled = aigc.write(data, form, label) if label else data
        name = f"urn:c2pa:{uuid.uuid4()}"
        redacted = self._redacted(target, kind, work)
        made = manifest.definition(work, name, f"image/{form}", label, redacted)
        signed = BytesIO()
        try:
            with self._builder(made, target, kind) as builder:
                store = builder.sign(f"image/{form}", BytesIO(labelled), signed)
        except self._fault as error:
            raise _blamed(error, target) from error
        if work.operation == "anonymize":
            redaction.check_reach(store)
        return Signed(signed.getvalue(), name, label is not None)

    def _label(self, target: bytes, kind: Form, work: Work) -> dict[str, str] | None:
        """Return the AI label; a covered photograph has it only if it came with one."""
        if work.operation == "anonymize":
            return aigc.read(target, kind)
        return aigc.label(self._producer, work.job)

    def _redacted(self, target: bytes, kind: Form, work: Work) -> list[str]:
        if work.operation != "anonymize":
            return []
        try:
            return redaction.to_redact(target, f"image/{kind}", self._reading)
        except self._fault as error:
            raise _garbled(error) from error

    def _builder(self, made: Mapping[str, Any], target: bytes, kind: Form) -> Builder:
        from c2pa import Builder, C2paBuilderIntent

        builder = Builder(msgspec.json.encode(made).decode(), self._signing)
        builder.set_intent(C2paBuilderIntent.EDIT)
        parent = {
            "title": "target",
            "relationship": "parentOf",
            # Or it would be the target's own, and lead back to it.
            "instance_id": f"xmp.iid:{uuid.uuid4()}",
        }
        text = msgspec.json.encode(parent).decode()
        try:
            builder.add_ingredient(text, f"image/{kind}", BytesIO(target))
        except self._fault as error:
            builder.close()
            raise _garbled(error) from error
        return builder


def _blamed(error: Exception, target: bytes) -> Problem:
    """Return whose fault it is that there is no signature.

    A key that fails is "Signature: …".  "Verify: …" is the library's check of what it
    just signed, which fails on an earlier manifest that contradicts itself.
    """
    if str(error).startswith("Verify") and b"jumb" in target:
        return _garbled(error)
    return Failed(internal=f"no signature: {error}")


def _garbled(error: Exception) -> Unreadable:
    return Unreadable(
        "The photograph's Content Credentials are garbled; remove them first.",
        internal=str(error),
    )
