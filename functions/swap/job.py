"""What a tenant asks for, parsed once into a `SwapJob` that is valid from then on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

import msgspec
from msgspec import Meta

from functions import events
from functions.problems import ConsentMissing, InvalidRequest, TooLarge
from functions.tenant import Key, Tenant, job_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from functions.settings import Limits

Operation = Literal["swap", "anonymize", "detect"]
Basis = Literal["consent", "contract", "public-domain", "own-likeness"]
Group = Literal["all", "largest"]
Format = Literal["jpeg", "png", "webp"]
Cover = Literal["blur", "mosaic", "box"]
Mask = Literal["box", "hull", "occlusion"]

MEDIA_TYPES: Final[Mapping[str, str]] = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "json": "application/json",
}


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a request: unknown keys are refused by name."""


Index = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Pixels = Annotated[float, Meta(ge=0)]


class One(_Strict, frozen=True, omit_defaults=True):
    """One face, named in one of three ways.

    By its index as `detect` reports it, as the one like a reference, or by its
    position: x and y in the target's pixels, from its upper left corner.
    """

    index: Index | None = None
    reference: str | None = None
    position: tuple[Pixels, Pixels] | None = None


class Pair(_Strict, frozen=True):
    """Which face gets which source."""

    face: Group | One
    source: str


Selector = Group | One | list[Pair]


class Options(_Strict, frozen=True, omit_defaults=True):
    """How the output is made; `format` is the target's unless said.

    `visible_label` writes in a corner, over no face, what was done.  The last four
    are for a swap: `restore` as the pack's tier has it unless said, `upscale` by how
    much the whole picture grows, `weight` how much of the identity is the source's
    (all of it unless said), `mask` where the new face may show.
    """

    format: Format | None = None
    quality: Annotated[int, Meta(ge=1, le=100)] = 92
    cover: Cover = "blur"
    visible_label: bool = False
    restore: bool | None = None
    upscale: Literal[2, 4] | None = None
    weight: Annotated[float, Meta(ge=0, le=1)] | None = None
    mask: Mask = "box"


class Consent(_Strict, frozen=True, omit_defaults=True):
    """On what ground the source's face may be used, and where that is on record."""

    basis: Basis
    record: str | None = None


class Request(_Strict, frozen=True, omit_defaults=True):
    """The JSON of `requests/<job>.json` and of `POST /v1/swaps`.

    `keep` names the faces that `anonymize` may leave as they are.  It permits, and
    promises nothing: a reference that is like nobody in the target is no fault, for
    a person is not on every photograph of an album, and a face covered too many
    harms nobody.  The record's counts say how many were kept.  An index or a
    position, though, speaks of this very picture: one where no face is was read off
    another, and the rest of the list may then spare a stranger, so all of it is
    refused.
    """

    operation: Operation
    target: str
    source: str | list[str] = []
    faces: Selector | None = None
    keep: list[One] = []
    options: Options = Options()
    consent: Consent | None = None


@dataclass(frozen=True, slots=True)
class SwapJob:
    """One request of one tenant, every key in it made by the tenant.

    `sources` holds every key that gives an identity, the pairs' ones included.
    """

    id: str
    tenant: Tenant
    actor: str
    request: Request
    sources: tuple[Key, ...]
    target: Key

    @classmethod
    def parse(
        cls,
        body: bytes,
        *,
        job: str,
        tenant: Tenant,
        actor: str,
        limits: Limits,
    ) -> Self:
        """Return the job in `body`, or raise a `Refused` that names the fault."""
        if len(body) > limits.request_bytes_max:
            raise TooLarge(f"a request has at most {limits.request_bytes_max} bytes")
        request = decode_request(body)
        sources = tuple(dict.fromkeys(tenant.upload(key) for key in _sources(request)))
        if len(sources) > limits.sources_max:
            raise InvalidRequest(f"at most {limits.sources_max} sources")
        _check(request, sources)
        references = {tenant.upload(key) for key in _references(request)}
        if len(references) > limits.sources_max:
            raise InvalidRequest(f"at most {limits.sources_max} references")
        if isinstance(request.faces, list) and len(request.faces) > limits.faces_max:
            raise InvalidRequest(f"at most {limits.faces_max} pairs of faces")
        if len(request.keep) > limits.faces_max:
            raise InvalidRequest(f"at most {limits.faces_max} faces to keep")
        if request.consent and request.consent.record is not None:
            tenant.consent(request.consent.record)
        target = tenant.upload(request.target)
        return cls(job_id(job), tenant, actor, request, sources, target)

    @property
    def operation(self) -> Operation:
        """What to do."""
        return self.request.operation

    @property
    def faces(self) -> Selector:
        """Which faces: the largest for a swap, all of them otherwise, unless said."""
        if self.request.faces is not None:
            return self.request.faces
        return "largest" if self.operation == "swap" else "all"

    @property
    def references(self) -> tuple[Key, ...]:
        """Every image that only says which face is meant."""
        named = _references(self.request)
        return tuple(dict.fromkeys(self.tenant.upload(key) for key in named))

    @property
    def inputs(self) -> tuple[Key, ...]:
        """Every image the job reads: the target, the sources, the references."""
        return tuple(dict.fromkeys((self.target, *self.sources, *self.references)))

    def digest(self, inputs: Mapping[Key, str]) -> str:
        """Return the SHA-256 of what is asked and of which bytes, to tell repeats."""
        content = {
            "request": msgspec.to_builtins(self.request),
            "inputs": [inputs[key] for key in self.inputs],
        }
        return hashlib.sha256(events.canonical(content)).hexdigest()


def decode_request(body: bytes) -> Request:
    """Return the typed request in `body`, or raise `InvalidRequest` naming the key."""
    try:
        return msgspec.json.decode(body, type=Request)
    except msgspec.ValidationError as error:
        raise InvalidRequest(str(error)) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidRequest("the request is not JSON") from error


def encode_request(request: Request) -> bytes:
    """Return the request as JSON."""
    return msgspec.json.encode(request)


def _sources(request: Request) -> list[str]:
    named = [request.source] if isinstance(request.source, str) else request.source
    if isinstance(request.faces, list):
        return [*named, *(pair.source for pair in request.faces)]
    return named


def _ones(request: Request) -> list[One]:
    chosen: list[Any] = [request.faces]
    if isinstance(request.faces, list):
        chosen = [pair.face for pair in request.faces]
    return [one for one in (*chosen, *request.keep) if isinstance(one, One)]


def _references(request: Request) -> list[str]:
    return [one.reference for one in _ones(request) if one.reference is not None]


def _named_once(one: One) -> bool:
    return sum(way is not None for way in (one.index, one.reference, one.position)) == 1


def _check(request: Request, sources: tuple[Key, ...]) -> None:
    """Refuse what is well formed and makes no sense."""
    if not all(_named_once(one) for one in _ones(request)):
        raise InvalidRequest("a face is named by one of index, reference and position")
    if request.keep and request.operation != "anonymize":
        raise InvalidRequest("faces to keep are for anonymize")
    if request.operation == "swap":
        if not sources:
            raise InvalidRequest("a swap needs a source")
        if isinstance(request.faces, list) and request.source:
            raise InvalidRequest("source is either at the top or in each pair of faces")
        if request.consent is None:
            raise ConsentMissing("a swap needs consent: say its basis")
        return
    if sources:
        raise InvalidRequest(f"{request.operation} takes no source")
    plain = Options()
    for option in ("restore", "upscale", "weight", "mask"):
        if getattr(request.options, option) != getattr(plain, option):
            raise InvalidRequest(f"options.{option} is for a swap")
