"""What Eventing's webhook refuses, and what it takes without a word and should not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

Key = tuple[str, str, str]
"""Kind, namespace, name."""

ATTRIBUTES: Final = frozenset({"type", "source", "subject", "tenant"})
"""What our filters look at: a filter by a name misspelt passes nothing, in silence."""
ASYNC: Final = "messaging.knative.dev/async-handler"
CLASS: Final = "eventing.knative.dev/broker.class"
_KAFKA: Final = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "name": "kafka-broker-config",
    "namespace": "knative-eventing",
}
_DURATION: Final = re.compile(r"PT(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?")
_CRON: Final = re.compile(r"[0-9*/,-]+( [0-9*/,-]+){4}")
_DELIVERY: Final = frozenset(
    {"retry", "backoffPolicy", "backoffDelay", "timeout", "deadLetterSink"}
)
_VERSIONS: Final = {
    "Service": "serving.knative.dev/v1",
    "Broker": "eventing.knative.dev/v1",
    "Trigger": "eventing.knative.dev/v1",
    "PingSource": "sources.knative.dev/v1",
    "Job": "batch/v1",
}


@dataclass(frozen=True, slots=True)
class Known:
    """What else there is: `has` tells of an object, `types` are those of events.

    `tokens` tells whether calls come with the cluster's; `patience` how long a Service
    may take, in seconds.
    """

    has: Callable[[Key], bool]
    types: Collection[str]
    tokens: bool
    patience: Callable[[Key], int]


def trigger(each: Mapping[str, Any], known: Known) -> Iterator[str]:
    """Yield what is wrong with a Trigger."""
    spec, home = each["spec"], each["metadata"]["namespace"]
    if not known.has(("Broker", home, spec.get("broker", ""))):
        yield f"broker {spec.get('broker')!r}: there is none"
    if not spec.get("filters"):
        yield "filters: every event would pass"
    for part in spec.get("filters", []):
        yield from _filter(part, known)
    subscriber = spec.get("subscriber", {})
    if "ref" not in subscriber:
        yield "subscriber: not by reference"
        return
    yield from _reference(subscriber["ref"], home, known, {"Service"})
    yield from _path(subscriber, each)
    audience = subscriber.get("audience")
    wanted = f"guise-{subscriber['ref'].get('name')}" if known.tokens else None
    if audience != wanted:
        yield f"audience: {audience}, not {wanted}"
    yield from _delivery(spec.get("delivery", {}), home, spec.get("broker", ""), known)
    if subscriber["ref"].get("name") == "worker":
        key = _key(subscriber["ref"], home)
        timeout = seconds(spec.get("delivery", {}).get("timeout", ""))
        if 0 <= timeout < known.patience(key):
            yield "delivery.timeout: given up before the work is done, and done twice"


def _path(subscriber: Mapping[str, Any], each: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with where at a Service events go."""
    uri, name = subscriber.get("uri", ""), subscriber["ref"].get("name")
    ticks = each["metadata"]["name"].endswith("storage-to-billing")
    tail = "ticks" if ticks else "events"
    wanted = r"/events" if name == "worker" else rf"/v1/tenants/[a-z0-9-]+/{tail}"
    if not re.fullmatch(wanted, uri):
        yield f"uri {uri!r}: {name} takes events at {wanted}"


def _filter(part: Mapping[str, Any], known: Known) -> Iterator[str]:
    if len(part) != 1:
        yield f"filters: one dialect each, not {sorted(part)}"
    for dialect, inner in part.items():
        if not inner:
            yield f"filters: an empty {dialect}"
        elif isinstance(inner, list):
            for each in inner:
                yield from _filter(each, known)
        else:
            yield from _attributes(inner, known)


def _attributes(wanted: Mapping[str, str], known: Known) -> Iterator[str]:
    for name, value in wanted.items():
        if name not in ATTRIBUTES:
            yield f"filters: nothing has the attribute {name!r}"
        if name == "type" and value not in known.types:
            yield f"filters: nobody sends {value!r}"
        if name == "subject" and not value.endswith("requests/"):
            yield f"filters: {value!r} would pass results, too"
        if not value:
            yield f"filters: {name} is empty"


def _delivery(
    delivery: Mapping[str, Any], home: str, broker: str, known: Known
) -> Iterator[str]:
    if missing := _DELIVERY - set(delivery):
        yield f"delivery: no {', '.join(sorted(missing))}"
        return
    if delivery["retry"] < 1:
        yield "delivery.retry: an event is lost at the first fault"
    if delivery["backoffPolicy"] not in {"exponential", "linear"}:
        yield f"delivery.backoffPolicy: {delivery['backoffPolicy']!r}"
    for name in ("backoffDelay", "timeout"):
        if seconds(delivery[name]) <= 0:
            yield f"delivery.{name}: {delivery[name]!r} is no duration, as PT0.2S is"
    sink = delivery["deadLetterSink"].get("ref", {})
    yield from _reference(sink, home, known, {"Broker"})
    if sink.get("name") == broker:
        yield "delivery.deadLetterSink: where the event came from"


def seconds(text: str) -> float:
    """Return a duration such as PT0.2S in seconds, and -1 for what is none."""
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        return -1
    return int(match[1] or 0) * 60 + float(match[2] or 0)


def _key(ref: Mapping[str, str], home: str) -> Key:
    return ref.get("kind", ""), ref.get("namespace", home), ref.get("name", "")


def _reference(
    ref: Mapping[str, str], home: str, known: Known, kinds: Collection[str]
) -> Iterator[str]:
    """Yield what is wrong with a reference to one of `kinds`."""
    kind = ref.get("kind", "")
    if kind not in kinds:
        yield f"{kind!r} is none of {sorted(kinds)}"
    elif ref.get("apiVersion") != _VERSIONS[kind]:
        yield f"apiVersion {ref.get('apiVersion')!r} of a {kind}: {_VERSIONS[kind]}"
    elif not known.has(_key(ref, home)):
        yield f"no {kind} {ref.get('name')!r} in {ref.get('namespace', home)}"


def broker(each: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a Broker: one of two ways, and nothing in between."""
    notes = each["metadata"].get("annotations", {})
    config = each.get("spec", {}).get("config")
    in_memory = notes == {ASYNC: "true"} and config is None
    kafka = notes == {CLASS: "Kafka"} and config == _KAFKA
    if not (in_memory or kafka):
        yield f"neither in memory with {ASYNC}, nor Kafka's with its config"


def ping(each: Mapping[str, Any], known: Known) -> Iterator[str]:
    """Yield what is wrong with a PingSource."""
    spec, home = each["spec"], each["metadata"]["namespace"]
    if not is_cron(spec.get("schedule", "")) or spec.get("timezone") != "UTC":
        yield "schedule: five fields, and timezone UTC"
    yield from _reference(spec.get("sink", {}).get("ref", {}), home, known, {"Broker"})


def is_cron(text: str) -> bool:
    """Return whether a text is a schedule, as far as ours go."""
    return bool(_CRON.fullmatch(text))


def policy(each: Mapping[str, Any], known: Known) -> Iterator[str]:
    """Yield what is wrong with an EventPolicy: an empty end means everybody."""
    spec, home = each["spec"], each["metadata"]["namespace"]
    if not spec.get("to") or not spec.get("from"):
        yield "to, from: an empty one is everything in the namespace, or nobody"
    for part in spec.get("to", []):
        yield from _reference(part.get("ref", {}), home, known, {"Broker"})
    for part in spec.get("from", []):
        if "sub" in part:
            yield from _account(part["sub"], home, known)
        else:
            kinds = {"PingSource", "Trigger"}
            yield from _reference(part.get("ref", {}), home, known, kinds)


def _account(subject: str, home: str, known: Known) -> Iterator[str]:
    """Yield what is wrong with a token's `sub` that a policy lets in."""
    ours = f"system:serviceaccount:{home}:"
    name = subject.removeprefix(ours)
    if not subject.startswith(ours):
        yield f"sub {subject!r}: no service account of {home}"
    elif not known.has(("ServiceAccount", home, name)):
        yield f"no ServiceAccount {name!r} in {home}"


def addresses(home: str, broker: Mapping[str, Any] | None) -> list[str]:
    """Return where the broker `default` of a namespace may take events in.

    Without the Broker itself it is of either class.
    """
    hosts = {"broker-ingress", "kafka-broker-ingress"}
    if broker is not None:
        notes = broker["metadata"].get("annotations", {})
        hosts = {"kafka-broker-ingress" if CLASS in notes else "broker-ingress"}
    place = f"knative-eventing.svc.cluster.local/{home}/default"
    return [f"http://{host}.{place}" for host in sorted(hosts)]


def audience(home: str) -> str:
    """Return whom a token for the broker `default` of a namespace is meant for."""
    return f"eventing.knative.dev/broker/{home}/default"
