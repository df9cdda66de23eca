"""The manifests in `knative/`, read and typed: what one machine needs of them.

Only what is understood is read, and what is not understood is refused: a
manifest means here what it means on a cluster.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import yaml

from functions.local.filters import Filter, FilterError, parse_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

SYSTEM: Final = "system"
TENANT: Final = "tenant"
_VISIBILITY: Final = "networking.knative.dev/visibility"
_DAILY: Final = re.compile(r"([0-9]|[1-5][0-9]) ([0-9]|1[0-9]|2[0-3]) \* \* \*")
_DURATION: Final = re.compile(
    r"P(?:(?P<d>\d+)D)?(?:T(?:(?P<h>\d+)H)?(?:(?P<m>\d+)M)?(?:(?P<s>\d+(?:\.\d+)?)S)?)?",
)


class ManifestError(Exception):
    """A manifest that cannot be run here; the message names it and the reason."""


def namespace_of(tenant: str) -> str:
    """Return the namespace that the templates give a tenant."""
    return f"guise-{tenant}"


@dataclass(frozen=True, slots=True)
class Reference:
    """An object by kind, namespace and name, and a path at its address."""

    kind: str
    namespace: str
    name: str
    uri: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """A `serving.knative.dev/v1` Service: one gunicorn that may scale to zero.

    `args` follow the command `gunicorn`; a value in `environ` is None where the
    cluster takes it from a ConfigMap or a Secret.
    How many there may be, and how much each takes at once, is the cluster's alone.
    """

    namespace: str
    name: str
    args: tuple[str, ...]
    environ: Mapping[str, str | None]
    timeout_seconds: int
    public: bool

    @property
    def app(self) -> str:
        """The WSGI application, as `module:factory()`."""
        return self.args[-1]


@dataclass(frozen=True, slots=True)
class Delivery:
    """How hard a Trigger tries, and where an event goes that it cannot deliver.

    `retry` counts the tries after the first.
    """

    retry: int
    policy: Literal["exponential", "linear"]
    delay_seconds: float
    timeout_seconds: float
    dead_letters: Reference

    def pause_seconds(self, retries: int) -> float:
        """Return how long to wait before one more try, after `retries` of them.

        As `RetryConfig` in knative/eventing computes it, and at most an hour.
        """
        factor = 2.0 ** min(retries, 32) if self.policy == "exponential" else retries
        return min(self.delay_seconds * factor, _PAUSE_SECONDS_MAX)


_PAUSE_SECONDS_MAX: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Trigger:
    """An `eventing.knative.dev/v1` Trigger: which events go where."""

    namespace: str
    name: str
    broker: str
    passes: Filter
    subscriber: Reference
    delivery: Delivery

    @property
    def key(self) -> str:
        """The name that no other Trigger has."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Broker:
    """An `eventing.knative.dev/v1` Broker: where events enter."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Ping:
    """A `sources.knative.dev/v1` PingSource: an event a day, at a time in UTC."""

    namespace: str
    name: str
    broker: str
    minutes: int
    """Of the day, at which it is due."""

    @property
    def source(self) -> str:
        """The CloudEvents source of its events, as on a cluster."""
        return f"/apis/v1/namespaces/{self.namespace}/pingsources/{self.name}"


@dataclass(frozen=True, slots=True)
class Manifests:
    """Everything in one folder of manifests."""

    services: tuple[Service, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    brokers: tuple[Broker, ...] = ()
    pings: tuple[Ping, ...] = ()


class Template:
    """A folder of manifests whose `${…}` are to be filled, read once.

    To read YAML takes a hundred times as long as to fill it, and each tenant has its
    own.  So it is read with a mark in each place, and the marks are replaced in what
    was read: whatever a tenant's id looks like, it is text.
    """

    def __init__(self, folder: Path) -> None:
        """Raise `ManifestError` on a file that is not YAML."""
        self._documents: list[tuple[str, dict[str, Any]]] = []
        for path in sorted(folder.glob("*.yaml")):
            try:
                text = string.Template(path.read_text(encoding="utf-8")).substitute(
                    _Marks()
                )
                found = [each for each in yaml.safe_load_all(text) if each]
            except (ValueError, yaml.YAMLError) as error:
                raise ManifestError(f"{path.name}: {error!r}") from error
            self._documents += [(path.name, each) for each in found]

    def documents(self, values: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return every object, or raise `ManifestError` where a value is missing."""
        found = []
        for name, document in self._documents:
            try:
                found.append(_filled(document, values))
            except KeyError as error:
                raise ManifestError(f"{name}: {error!r}") from error
        return found

    def fill(self, values: Mapping[str, str]) -> Manifests:
        """Return the manifests of one tenant, typed, or raise `ManifestError`."""
        return parse(self.documents(values))


class _Marks(dict[str, str]):
    """A mark that YAML takes for text, for any name."""

    def __missing__(self, name: str) -> str:
        return f"x_x{name}x_x"


_MARK: Final = re.compile(r"x_x(\w+?)x_x")


def _filled(part: Any, values: Mapping[str, str]) -> Any:  # noqa: ANN401  # any YAML
    match part:
        case str():
            return _MARK.sub(lambda found: values[found[1]], part)
        case dict():
            return {key: _filled(each, values) for key, each in part.items()}
        case list():
            return [_filled(each, values) for each in part]
    return part


def documents(folder: Path, values: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return every object in `folder`, its `${…}` filled from `values`.

    Raises `ManifestError` on a file that is not YAML or asks for another value.
    """
    return Template(folder).documents(values)


def read(folder: Path, values: Mapping[str, str] | None = None) -> Manifests:
    """Return the manifests in `folder`, typed, or raise `ManifestError`."""
    return parse(documents(folder, values or {}))


def parse(objects: Iterable[Mapping[str, Any]]) -> Manifests:
    """Return the objects typed, or raise `ManifestError` on the first bad one."""
    found: dict[str, list[Any]] = {kind: [] for kind in _READERS}
    for each in objects:
        kind = str(each.get("kind"))
        if kind not in _READERS:
            raise ManifestError(f"{kind}: not a kind that runs on one machine")
        try:
            found[kind].append(_READERS[kind](each))
        except (KeyError, TypeError, ValueError, FilterError) as error:
            name = each.get("metadata", {}).get("name")
            raise ManifestError(f"{kind} {name}: {error!r}") from error
    return Manifests(
        services=tuple(found["Service"]),
        triggers=tuple(found["Trigger"]),
        brokers=tuple(found["Broker"]),
        pings=tuple(found["PingSource"]),
    )


def seconds(duration: str) -> float:
    """Return an ISO 8601 duration of days, hours, minutes and seconds in seconds.

    Raises `ValueError` on anything else.
    """
    match = _DURATION.fullmatch(duration)
    parts = {k: float(v) for k, v in match.groupdict("").items() if v} if match else {}
    if not parts:
        raise ValueError(f"{duration!r} is not a duration such as PT0.2S")
    units = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}
    return sum(units[unit] * count for unit, count in parts.items())


def _names(each: Mapping[str, Any]) -> tuple[str, str]:
    return each["metadata"]["namespace"], each["metadata"]["name"]


def _may_be_unset(entry: Mapping[str, Any]) -> bool:
    """Return whether a cluster starts the service without this variable, as we do."""
    references = entry.get("valueFrom", {}).values()
    return any(each.get("optional", False) for each in references)


def _service(each: Mapping[str, Any]) -> Service:
    namespace, name = _names(each)
    template = each["spec"]["template"]
    (container,) = template["spec"]["containers"]
    if container["command"] != ["gunicorn"]:
        raise ValueError(f"command is {container['command']!r}, not gunicorn")
    labels = each["metadata"].get("labels", {})
    return Service(
        namespace=namespace,
        name=name,
        args=tuple(container["args"]),
        environ={
            entry["name"]: entry.get("value")
            for entry in container["env"]
            if not _may_be_unset(entry)
        },
        timeout_seconds=template["spec"]["timeoutSeconds"],
        public=labels.get(_VISIBILITY) != "cluster-local",
    )


def _reference(each: Mapping[str, Any], namespace: str) -> Reference:
    ref = each["ref"]
    home = ref.get("namespace", namespace)
    return Reference(ref["kind"], home, ref["name"], each.get("uri", ""))


def _delivery(each: Mapping[str, Any], namespace: str) -> Delivery:
    policy = each["backoffPolicy"]
    if policy not in ("exponential", "linear"):
        raise ValueError(f"backoffPolicy {policy!r}")
    return Delivery(
        retry=int(each["retry"]),
        policy=policy,
        delay_seconds=seconds(each["backoffDelay"]),
        timeout_seconds=seconds(each["timeout"]),
        dead_letters=_reference(each["deadLetterSink"], namespace),
    )


def _trigger(each: Mapping[str, Any]) -> Trigger:
    namespace, name = _names(each)
    spec = each["spec"]
    if "filter" in spec:
        raise ValueError("the old `filter` is not read; write `filters`")
    return Trigger(
        namespace=namespace,
        name=name,
        broker=spec["broker"],
        passes=parse_all(spec.get("filters", [])),
        subscriber=_reference(spec["subscriber"], namespace),
        delivery=_delivery(spec["delivery"], namespace),
    )


def _broker(each: Mapping[str, Any]) -> Broker:
    return Broker(*_names(each))


def _ping(each: Mapping[str, Any]) -> Ping:
    namespace, name = _names(each)
    spec = each["spec"]
    sink = _reference(spec["sink"], namespace)
    if (spec["timezone"], sink.kind, sink.namespace) != ("UTC", "Broker", namespace):
        raise ValueError("a PingSource goes by UTC, and to a broker beside it")
    daily = _DAILY.fullmatch(spec["schedule"])
    if daily is None:
        raise ValueError(f"the schedule {spec['schedule']!r} is not once a day")
    return Ping(namespace, name, sink.name, int(daily[2]) * 60 + int(daily[1]))


_READERS: Final[Mapping[str, Any]] = {
    "Service": _service,
    "Trigger": _trigger,
    "Broker": _broker,
    "PingSource": _ping,
}
