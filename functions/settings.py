"""Settings: read once from a mapping, frozen, every fault reported together."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self, get_args
from urllib.parse import urlsplit

import msgspec

from functions.events import Event
from functions.problems import InvalidRequest, UnknownTenant
from functions.tenant import Tenant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MIB: Final = 1024 * 1024
DAYS_MAX: Final = 3_650
"""The longest that anything may be kept, by settings or a tenant's policy."""
DEVELOPMENT_ISSUER: Final = "guise-local"
"""The issuer of the development profile's own tokens."""
DEVELOPMENT_MARK: Final = "DEVELOPMENT"
"""The name of a file beside keys that the development profile made for itself."""
_PARTS_MAX: Final = 1_000
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""A DNS label (RFC 1123), as a namespace's name is one."""
_REGION: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
log = logging.getLogger(__name__)

Profile = Literal["production", "development"]
Verify = Literal["full", "manifest"]
LogFormat = Literal["text", "json"]


class SettingsError(Exception):
    """The environment is wrong; the message names every variable that is."""


def _setting(name: str, parse: Callable[[str], Any], default: Any) -> Any:  # noqa: ANN401  # as dataclasses.field
    """Declare a setting: its variable, how to read it, its value when unset."""
    return field(default=default, metadata={"env": name, "parse": parse})


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(f"{text!r} is not a positive whole number")
    return number


def _url(text: str) -> str:
    if "@" in text:  # a password would be logged with it, and never be sent
        raise ValueError("a URL here has no '@'")
    try:
        parts = urlsplit(text)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, a broken IPv6 address
        usable = False
    plain = text.isascii() and text.isprintable() and " " not in text
    if not (usable and plain and text.startswith(("http://", "https://"))):
        raise ValueError(f"{text!r} is not an http(s) URL")
    if parts.fragment:
        raise ValueError(f"{text!r} has a fragment, which is sent to nobody")
    return text.rstrip("/")


def _key_set(text: str) -> Path | str:
    """Return where an issuer's keys are: a path, or an https URL as it stands."""
    if "://" not in text:
        return Path(text)
    parts = urlsplit(text)
    if parts.scheme != "https" or "@" in parts.netloc or parts.fragment:
        raise ValueError(f"{text!r} is neither a path nor a plain https URL")
    _url(text)
    return text


def _names(text: str) -> tuple[str, ...]:
    """Return the names in a list with commas between them, each once, in order."""
    found = tuple(name.strip() for name in text.split(","))
    if not all(_LABEL.fullmatch(name) for name in found):
        raise ValueError(f"{text!r} is no list of names with commas between them")
    return tuple(dict.fromkeys(found))


def _tenant(text: str) -> Tenant:
    try:
        return Tenant(text)
    except UnknownTenant as error:
        raise ValueError(f"{text!r} cannot name a tenant") from error


def _region(text: str) -> str:
    if not _REGION.fullmatch(text):
        raise ValueError(f"{text!r} cannot name a region")
    return text


def _overrides(text: str) -> tuple[tuple[str, str], ...]:
    """Return the extensions in a SinkBinding's `{"extensions": {name: text}}`."""
    try:
        document = msgspec.json.decode(text, type=_Overrides)
        # Of what an event names itself, signed or not, none may be overridden.
        Event(id="-", source="-", type="-", extensions=document.extensions)
    except (msgspec.DecodeError, InvalidRequest) as error:
        raise ValueError(f"no CloudEvents overrides: {error}") from error
    return tuple(sorted(document.extensions.items()))


def _certificates(text: str) -> str:
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, TypeError) as error:  # the second for text not in ASCII
        raise ValueError("no certificates in PEM") from error
    return text


def _days(text: str) -> int:
    number = _positive(text)
    if number > DAYS_MAX:
        raise ValueError(f"{text!r} is over {DAYS_MAX} days")
    return number


def _flag(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError(f"{text!r} is neither true nor false")
    return text == "true"


def _share(text: str) -> Fraction:
    try:
        share = Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{text!r} is no fraction such as 1/7") from error
    if not 0 < share <= 1 or share.denominator > _PARTS_MAX:
        raise ValueError(f"{text!r} is no part of a device, in {_PARTS_MAX}ths at most")
    return share


def _one_of(kind: object) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in get_args(kind):
            raise ValueError(f"{text!r} is none of {', '.join(get_args(kind))}")
        return text

    return parse


class _Overrides(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    extensions: dict[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Everything that could grow, and how far it may."""

    image_bytes_max: int = _setting("GUISE_IMAGE_BYTES_MAX", _positive, 25 * MIB)
    image_pixels_max: int = _setting("GUISE_IMAGE_PIXELS_MAX", _positive, 50_000_000)
    job_pixels_max: int = _setting("GUISE_JOB_PIXELS_MAX", _positive, 120_000_000)
    faces_max: int = _setting("GUISE_FACES_MAX", _positive, 64)
    sources_max: int = _setting("GUISE_SOURCES_MAX", _positive, 8)
    request_bytes_max: int = _setting("GUISE_REQUEST_BYTES_MAX", _positive, 65_536)
    event_bytes_max: int = _setting("GUISE_EVENT_BYTES_MAX", _positive, 65_535)
    attempts_max: int = _setting("GUISE_ATTEMPTS_MAX", _positive, 3)
    queue_jobs_max: int = _setting("GUISE_QUEUE_JOBS_MAX", _positive, 64)
    door_requests_max: int = _setting("GUISE_DOOR_REQUESTS_MAX", _positive, 48)
    reads_per_second_max: int = _setting("GUISE_READS_PER_SECOND_MAX", _positive, 50)
    reads_burst_max: int = _setting("GUISE_READS_BURST_MAX", _positive, 500)
    refusals_per_minute_max: int = _setting(
        "GUISE_REFUSALS_PER_MINUTE_MAX",
        _positive,
        60,
    )
    delivery_ms_max: int = _setting("GUISE_DELIVERY_MS_MAX", _positive, 2_000)
    receipt_ms_max: int = _setting("GUISE_RECEIPT_MS_MAX", _positive, 20_000)
    job_seconds_max: int = _setting("GUISE_JOB_SECONDS_MAX", _positive, 300)
    claim_seconds: int = _setting("GUISE_CLAIM_SECONDS", _positive, 20)
    sweep_jobs_max: int = _setting("GUISE_SWEEP_JOBS_MAX", _positive, 1_000)
    sweep_seconds_max: int = _setting("GUISE_SWEEP_SECONDS_MAX", _positive, 30)
    gpu_memory_bytes_max: int = _setting(
        "GUISE_GPU_MEMORY_BYTES_MAX", _positive, 8 * 1024 * MIB
    )
    retention_days: int = _setting("GUISE_RETENTION_DAYS", _days, 30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a deployment may decide, and nothing else may."""

    profile: Profile = _setting("GUISE_PROFILE", _one_of(Profile), "production")
    tenant: Tenant | None = _setting("GUISE_TENANT", _tenant, None)
    tenants: Path | None = _setting("GUISE_TENANTS", Path, None)
    envelopes: str = _setting("GUISE_ENVELOPES", str, "")
    region: str = _setting("GUISE_REGION", _region, "")
    store: str = _setting("GUISE_STORE", str, "")
    models: Path | None = _setting("GUISE_MODELS", Path, None)
    model_keys: Path | None = _setting("GUISE_MODEL_KEYS", Path, None)
    acceptances: Path | None = _setting("GUISE_ACCEPTANCES", Path, None)
    verify: Verify = _setting("GUISE_VERIFY", _one_of(Verify), "full")
    device: str = _setting("GUISE_DEVICE", str, "auto")
    device_share: Fraction = _setting("GUISE_DEVICE_SHARE", _share, Fraction(1))
    cuda_graph: bool = _setting("GUISE_CUDA_GRAPH", _flag, False)  # noqa: FBT003  # its default
    worker_url: str = _setting("GUISE_WORKER_URL", _url, "")
    audit_url: str = _setting("GUISE_AUDIT_URL", _url, "")
    sink_url: str = _setting("K_SINK", _url, "")
    ce_overrides: tuple[tuple[str, str], ...] = _setting(
        "K_CE_OVERRIDES", _overrides, ()
    )
    ca_certs: str = _setting("K_CA_CERTS", _certificates, "")
    token_file: Path | None = _setting("GUISE_TOKEN_FILE", Path, None)
    audit_token_file: Path | None = _setting("GUISE_AUDIT_TOKEN_FILE", Path, None)
    worker_token_file: Path | None = _setting("GUISE_WORKER_TOKEN_FILE", Path, None)
    oidc_issuer: str = _setting("GUISE_OIDC_ISSUER", str, "")
    oidc_jwks: Path | str | None = _setting("GUISE_OIDC_JWKS", _key_set, None)
    oidc_audience: str = _setting("GUISE_OIDC_AUDIENCE", str, "")
    oidc_reader: Path | None = _setting("GUISE_OIDC_READER", Path, None)
    oidc_namespaces: tuple[str, ...] = _setting(
        "GUISE_OIDC_NAMESPACES", _names, ("guise-system",)
    )
    database: str = _setting("GUISE_DATABASE", str, "")
    rates: Path | None = _setting("GUISE_RATES", Path, None)
    witness: str = _setting("GUISE_WITNESS", str, "")
    keys: Path | None = _setting("GUISE_KEYS", Path, None)
    provenance: Path | None = _setting("GUISE_PROVENANCE", Path, None)
    producer: str = _setting("GUISE_PRODUCER", str, "Guise")
    timestamp_url: str = _setting("GUISE_TIMESTAMP_URL", _url, "")
    jwks: Path | str | None = _setting("GUISE_JWKS", _key_set, None)
    issuer: str = _setting("GUISE_ISSUER", str, "")
    audience: str = _setting("GUISE_AUDIENCE", str, "guise")
    otlp_url: str = _setting("OTEL_EXPORTER_OTLP_ENDPOINT", _url, "")
    log_format: LogFormat = _setting("GUISE_LOG_FORMAT", _one_of(LogFormat), "text")
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read every setting, or raise `SettingsError` with every fault there is."""
        faults = [
            f"{name}: no such setting"
            for name in sorted(environ)
            if name.startswith("GUISE_") and name not in variables()
        ]
        limits = _read(Limits, environ, faults)
        values = _read(cls, environ, faults)
        settings = cls(**values, limits=Limits(**limits))
        if settings.profile == "development":
            log.warning("the development profile trusts keys that it made itself")
        else:
            faults += _insecure(settings)
        if faults:
            raise SettingsError("; ".join(faults))
        return settings

    def require(self, *names: str) -> None:
        """Raise `SettingsError` naming each of `names` that is not set."""
        by_name = {each.name: each.metadata.get("env") for each in fields(self)}
        missing = [str(by_name[name]) for name in names if not getattr(self, name)]
        if missing:
            raise SettingsError("; ".join(f"{name}: not set" for name in missing))

    def need(self, name: str) -> Any:  # noqa: ANN401  # of the setting's type
        """Return a setting that must be there, or raise `SettingsError`."""
        self.require(name)
        return getattr(self, name)


def _insecure(settings: Settings) -> Iterator[str]:
    """Yield each fault that only the development profile lives with."""
    if settings.store.startswith("memory:"):
        yield "GUISE_STORE: a production profile needs a durable store"
    if settings.issuer == DEVELOPMENT_ISSUER:
        yield "GUISE_ISSUER: the development profile's own"
    if settings.keys and (settings.keys / DEVELOPMENT_MARK).exists():
        yield "GUISE_KEYS: made by the development profile, for itself"


def variables() -> frozenset[str]:
    """Return the name of every environment variable that is a setting."""
    every = (*fields(Settings), *fields(Limits))
    return frozenset(each.metadata["env"] for each in every if each.metadata)


def _read(kind: type, environ: Mapping[str, str], faults: list[str]) -> dict[str, Any]:
    values = {}
    for each in fields(kind):
        name = each.metadata.get("env")
        if name is None or not environ.get(name):
            continue
        try:
            values[each.name] = each.metadata["parse"](environ[name])
        except ValueError as error:
            faults.append(f"{name}: {error}")
    return values
