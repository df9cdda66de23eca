"""What a file says of itself, and which of it holds.  Nothing is fetched.

A `Report` is made of whatever the file carries, anybody's: its texts may have been
written to deceive whoever prints them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import msgspec

from functions.problems import InvalidRequest, Unsupported
from functions.swap.provenance import aigc, containers, store
from functions.swap.provenance.credentials import OFFLINE
from functions.swap.provenance.manifest import RECEIPT, Asserted
from functions.swap.provenance.redaction import lies_elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

UNTRUSTED: Final = "signingCredential.untrusted"
ELSEWHERE: Final = "manifest.inaccessible"

_ASSERTION: Final = re.compile(r"c2pa\.assertions/([^/\s]+)$")
_EARLIER: Final = "earlier manifest"
# The first that matches: which binding a status code of C2PA 2.2, 15.2.2 is about.
_BINDINGS: Final = (
    ("assertion.dataHash", "picture"),
    ("assertion.boxesHash", "picture"),
    ("assertion.bmffHash", "picture"),
    ("assertion", "assertion"),
    ("claimSignature", "claim signature"),
    ("signingCredential", "signer"),
    ("timeStamp", "time stamp"),
    ("ingredient", _EARLIER),
    ("claim", "claim"),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One binding that does not hold: its name, the code for it, and why."""

    binding: str
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Ingredient:
    """What the picture was made from; `manifest` is None if it carried none.

    `trusted` says whether its signer leads to a root that is trusted here, and
    `elsewhere` that it names a manifest which is not in the file.
    """

    title: str
    format: str
    manifest: str | None
    signer: str
    trusted: bool
    elsewhere: bool


@dataclass(frozen=True, slots=True)
class Report:
    """What was found; `faults` holds every binding that is broken, of all of it."""

    form: str
    manifest: str | None = None
    generator: str = ""
    signer: str = ""
    signer_name: str = ""
    signed_at: str | None = None
    actions: list[dict[str, str]] = field(default_factory=list)
    ingredients: list[Ingredient] = field(default_factory=list)
    label: dict[str, str] | None = None
    receipt: Asserted | None = None
    faults: list[Fault] = field(default_factory=list)

    @property
    def verified(self) -> bool:
        """Whether there are credentials, and all of them hold."""
        return self.manifest is not None and not self.faults


def read(data: bytes, anchors: str = "") -> Report:
    """Return what `data` says of itself; `anchors` are trusted roots, as PEM.

    Raises `Unsupported` for what is no JPEG, PNG or WebP, and `InvalidRequest` for
    anchors that are none.
    """
    form = containers.form_of(data)
    if form is None:
        raise Unsupported("Not a JPEG, PNG or WebP.")
    label = aigc.read(data, form)
    try:
        document = _document(data, f"image/{form}", anchors)
    except _Garbled as error:
        fault = Fault("manifest", "claim.malformed", str(error))
        return Report(form, label=label, faults=[fault])
    if document is None:
        return Report(form, label=label)
    try:
        store.check(data, form)
    except store.Irregular as error:
        faults = [Fault("manifest", "guise.store.irregular", str(error))]
        return _report(document, form, label, faults)
    return _report(document, form, label, [])


class _Garbled(Exception):
    """The manifest store cannot be parsed."""


def _document(data: bytes, mime: str, anchors: str) -> dict[str, Any] | None:
    """Return the library's findings; None where the file has no manifest."""
    from c2pa import C2paError, Context, Reader, Settings

    trust = {"trust": {"user_anchors": anchors}} if anchors else {}
    try:
        context = Context(Settings.from_dict({**OFFLINE, **trust}))
    except C2paError as error:
        raise InvalidRequest(f"The trusted roots cannot be read: {error}") from error
    try:
        reader = Reader.try_create(mime, BytesIO(data), context=context)
        if reader is None:
            return None
        with reader:
            document = msgspec.json.decode(reader.json())
    except C2paError as error:
        if lies_elsewhere(error):
            raise _Garbled("it lies elsewhere, and nothing is fetched") from error
        raise _Garbled(str(error)) from error
    return document if isinstance(document, dict) else None


def _report(
    document: Mapping[str, Any],
    form: str,
    label: dict[str, str] | None,
    more: list[Fault],
) -> Report:
    name, active = _active(document)
    signature = active.get("signature_info") or {}
    receipt, faults = _receipt(active, label)
    return Report(
        form=form,
        manifest=name,
        generator=_generator(active),
        signer=str(signature.get("issuer") or ""),
        signer_name=str(signature.get("common_name") or ""),
        signed_at=signature.get("time"),
        actions=list(_actions(active)),
        ingredients=list(_ingredients(document)),
        label=label,
        receipt=receipt,
        faults=[*_faults(document), *faults, *more],
    )


def _active(document: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return name and content of the file's own manifest; a broken one may be gone."""
    name = str(document.get("active_manifest", ""))
    return name, document["manifests"].get(name) or {}


def _generator(manifest: Mapping[str, Any]) -> str:
    made = manifest.get("claim_generator_info") or [{}]
    return f"{made[0].get('name', '')} {made[0].get('version', '')}".strip()


def _assertions(manifest: Mapping[str, Any], label: str) -> Iterator[Any]:
    for each in manifest.get("assertions") or []:
        if str(each.get("label", "")).partition("__")[0] == label:
            yield each.get("data")


def _actions(manifest: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    names = ("action", "digitalSourceType", "description", "reason")
    for label in ("c2pa.actions", "c2pa.actions.v2"):
        for data in _assertions(manifest, label):
            for each in data.get("actions", []):
                yield {name: str(each[name]) for name in names if name in each}


def _ingredients(document: Mapping[str, Any]) -> Iterator[Ingredient]:
    """Yield what went into the picture itself; older ancestors are only checked."""
    _, active = _active(document)
    for each in active.get("ingredients") or []:
        name = each.get("active_manifest")
        manifest = document["manifests"].get(name) or {}
        signature = manifest.get("signature_info") or {}
        codes = {code for code, _, _ in _failures(each)}
        yield Ingredient(
            title=str(each.get("title") or ""),
            format=str(each.get("format") or ""),
            manifest=name,
            signer=str(signature.get("issuer") or ""),
            trusted=UNTRUSTED not in codes,
            elsewhere=ELSEWHERE in codes,
        )


def _receipt(
    manifest: Mapping[str, Any], label: Mapping[str, str] | None
) -> tuple[Asserted | None, list[Fault]]:
    """Return our own assertion, and what of it is wrong."""
    data = next(_assertions(manifest, RECEIPT), None)
    if data is None:
        return None, []
    try:
        receipt = msgspec.convert(data, Asserted)
    except msgspec.ValidationError as error:
        return None, [Fault("receipt", "guise.receipt.malformed", str(error))]
    if receipt.aigc == label:
        return receipt, []
    text = "the label in the file is not the one that was signed"
    return receipt, [Fault("AI label", "guise.label.mismatch", text)]


def _faults(document: Mapping[str, Any]) -> Iterator[Fault]:
    results = document.get("validation_results") or {}
    yield from _named(_failed(results.get("activeManifest")))
    for delta in results.get("ingredientDeltas") or []:
        yield from _earlier(_failed(delta.get("validationDeltas")))
    for manifest in document["manifests"].values():
        for each in manifest.get("ingredients") or []:
            yield from _earlier(_failures(each))


def _failures(ingredient: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield what was already broken when the ingredient was opened."""
    results = ingredient.get("validation_results") or {}
    yield from _failed(results.get("activeManifest"))
    for delta in results.get("ingredientDeltas") or []:
        yield from _failed(delta.get("validationDeltas"))


def _failed(results: Mapping[str, Any] | None) -> Iterator[tuple[str, str, str]]:
    for each in (results or {}).get("failure") or []:
        code, url = str(each.get("code", "")), str(each.get("url") or "")
        yield code, url, str(each.get("explanation") or "")


def _named(failures: Iterable[tuple[str, str, str]]) -> Iterator[Fault]:
    for code, url, text in failures:
        names = (name for prefix, name in _BINDINGS if code.startswith(prefix))
        binding = next(names, "manifest")
        found = _ASSERTION.search(url) or _ASSERTION.search(text)
        if binding == "assertion" and found:
            binding = f"assertion {found[1]}"
        yield Fault(binding, code, text)


def _earlier(failures: Iterable[tuple[str, str, str]]) -> Iterator[Fault]:
    """Yield what is broken in an earlier manifest.

    That its signer is a stranger, or that it is not in the file, breaks nothing: it
    was kept, not vouched for.
    """
    for code, url, text in failures:
        if code not in {UNTRUSTED, ELSEWHERE}:
            [fault] = _named([(code, url, text)])
            inside = "" if fault.binding == _EARLIER else f", {fault.binding}"
            yield Fault(_EARLIER + inside, code, text)
