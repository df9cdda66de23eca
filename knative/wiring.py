"""Which event goes where, and what a namespace must have: held to what there is.

An object that is not there, or leads to somebody else, is refused by nobody: usage that
reaches no bill, a log of another tenant, a broker that takes nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from knative.isolation import SYSTEM
from knative.kustomize import identity
from knative.roles import pods, tenant_of
from knative.serving import SCALING, quantity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from knative.kustomize import Manifest

UPLOADS: Final = frozenset(
    {
        "google.cloud.storage.object.v1.finalized",
        "org.apache.camel.event.aws.s3.getObject",
        "dev.knative.connector.event.aws-s3",
        "dev.knative.eventing.aws-s3",
    }
)
"""Told with the object's name among the attributes."""
NOTICES: Final = frozenset(
    {
        "google.cloud.pubsub.topic.v1.messagePublished",
        "org.apache.camel.event.aws.sqs.receiveMessage",
        "dev.knative.connector.event.aws-sqs",
        "dev.knative.eventing.aws-sqs",
    }
)
"""Told with the object's name in the data, where no filter sees it."""
REQUESTED: Final = frozenset({"dev.guise.swap.requested.v1"})
ENDINGS: Final = frozenset(
    f"dev.guise.swap.{how}.v1" for how in ("completed", "failed", "refused", "erased")
)
USAGE: Final = frozenset({"dev.guise.usage.recorded.v1"})
PING: Final = frozenset({"dev.knative.sources.ping"})
WAYS: Final[Mapping[str, frozenset[str]]] = {
    "upload-to-worker": UPLOADS | NOTICES,
    "upload-to-audit": UPLOADS | NOTICES,
    "requested-to-worker": REQUESTED,
    "requested-to-audit": REQUESTED,
    "endings-to-audit": ENDINGS,
    "usage-to-billing": USAGE,
    "storage-to-billing": PING,
}
"""Each Trigger by its name, and the types that it lets pass, all of them."""
_STARTS: Final = ("upload-to-worker", "upload-to-audit", "requested-to-worker")
_NEEDS: Final[Mapping[str, frozenset[tuple[str, str]]]] = {
    "tenant": frozenset(
        {
            *(("Trigger", way) for way in WAYS),
            *(("Service", name) for name in ("door", "worker")),
            *(("Broker", name) for name in ("default", "dead-letters")),
            *(("ConfigMap", name) for name in ("guise", "guise-tenants")),
            ("PingSource", "storage"),
            ("CronJob", "sweeper"),
        }
    ),
    "system": frozenset(
        {
            *(("Trigger", way) for way in (*_STARTS, "requested-to-audit")),
            *(("Service", name) for name in ("door", "worker", "audit", "billing")),
            *(("Broker", name) for name in ("default", "dead-letters")),
        }
    ),
    "member": frozenset(
        {
            ("Trigger", "endings-to-audit"),
            ("Trigger", "usage-to-billing"),
            ("Trigger", "storage-to-billing"),
            ("PingSource", "storage"),
            ("CronJob", "sweeper"),
        }
    ),
}
"""What a namespace of a tenant's own has; the system's; and a tenant of the pool."""
_OUT: Final[Mapping[str, frozenset[tuple[str, int]]]] = {
    "kube-system": frozenset({("UDP", 53), ("TCP", 53)}),
    "knative-eventing": frozenset({("TCP", 8080), ("TCP", 8443)}),
    "minio": frozenset({("TCP", 9000)}),
    "observability": frozenset({("TCP", 4318)}),
}
"""Where pods may go, by namespace; whoever else is named is the gateway."""
_RETRY_MAX: Final = 20
_BACKOFF: Final = "PT0.2S"
_PRIORITY_MAX: Final = 1000
_ROUNDING: Final = 1e-6
_QUEUE_PROXY: Final = {
    ("requests", "cpu"): 0.025,
    ("requests", "memory"): 64 * 2**20,
    ("limits", "cpu"): 0.5,
    ("limits", "memory"): 256 * 2**20,
}


def faults(objects: Sequence[Manifest], *, tokens: bool) -> Iterator[str]:
    """Yield what leads elsewhere, or is not there.

    `tokens` tells whether calls come with the cluster's, and so whether a tenant's
    broker has a policy.
    """
    for each in objects:
        kind, home, name = identity(each)
        check = _EACH.get(kind)
        for fault in check(each) if check else ():
            yield f"{kind} {home}/{name}: {fault}"
    yield from _missing(objects, tokens=tokens)
    for home in sorted({identity(each)[1] for each in objects} - {""}):
        own = [each for each in objects if identity(each)[1] == home]
        yield from (f"{home}: {fault}" for fault in _alike(own))
        yield from (f"{home}: {fault}" for fault in _quota(own))


def _missing(objects: Sequence[Manifest], *, tokens: bool) -> Iterator[str]:
    """Yield what nothing refers to, and what should be there all the same."""
    there = {identity(each) for each in objects}
    homes = {name for kind, _, name in there if kind == "Namespace"}
    for home in sorted(homes):
        needs = set(_NEEDS["system" if home == SYSTEM else "tenant"])
        if tokens and home != SYSTEM:
            needs.add(("EventPolicy", "default"))
        for kind, name in sorted(needs):
            if (kind, home, name) not in there:
                yield f"{home}: no {kind} {name}"
    if SYSTEM in homes:
        return
    shared = [each for each in objects if identity(each)[1] == SYSTEM]
    for tenant in sorted({tenant_of(each) for each in shared} - {""}):
        for kind, name in sorted(_NEEDS["member"]):
            if (kind, SYSTEM, f"{tenant}-{name}") not in there:
                yield f"{SYSTEM}: no {kind} {tenant}-{name}"


def _trigger(each: Manifest) -> Iterator[str]:
    """Yield where a Trigger leads that is not what it is called after."""
    _, home, name = identity(each)
    tenant = tenant_of(each)
    way = name.removeprefix(f"{tenant}-") if home == SYSTEM else name
    spec = each["spec"]
    if way not in WAYS:
        yield f"none of {sorted(WAYS)}"
        return
    wanted = WAYS[way]
    if home == SYSTEM and tenant and "upload" in way:
        wanted = UPLOADS  # by its prefix; of the others the pool's own Triggers tell
    passed = {text for which, text in _asked(spec["filters"]) if which == "type"}
    if passed != wanted:
        yield f"filters: {sorted(passed ^ wanted)} of what it is called after"
    yield from _whose(spec["filters"], home, tenant, way)
    target = way.rpartition("-")[2]
    place = spec["subscriber"]["ref"].get("namespace", home)
    if place != (home if target == "worker" else SYSTEM):
        yield f"subscriber: the {target} of {place}"
    if target != spec["subscriber"]["ref"]["name"]:
        yield f"subscriber: not {target}"
    door = spec["subscriber"]["uri"].split("/")
    if target != "worker" and door[3] != (tenant or "pool"):
        yield f"subscriber: the door of {door[3]}"
    delivery = spec["delivery"]
    if delivery["retry"] > _RETRY_MAX or delivery["backoffDelay"] != _BACKOFF:
        yield f"delivery: {delivery['retry']} times from {delivery['backoffDelay']} on"
    if delivery["deadLetterSink"]["ref"].get("namespace", home) != home:
        yield "delivery.deadLetterSink: of another namespace"


def _whose(filters: Sequence[Any], home: str, tenant: str, way: str) -> Iterator[str]:
    """Yield where a filter lets another tenant's events pass."""
    exact = [part["exact"] for part in filters if "exact" in part]
    if way == "storage-to-billing":
        name = f"{tenant}-storage" if home == SYSTEM else "storage"
        source = f"/apis/v1/namespaces/{home}/pingsources/{name}"
        if {"source": source} not in exact:
            yield f"filters: not from {source} alone"
    elif home == SYSTEM and tenant and "upload" not in way:
        if {"tenant": tenant} not in exact:
            yield f"filters: not {tenant}'s alone"
    elif home == SYSTEM and tenant:
        prefixes = {t for which, t in _asked(filters) if which == "subject"}
        if not all(f"{tenant}/" in text for text in prefixes):
            yield f"filters: {sorted(prefixes)} are not {tenant}'s alone"


def _asked(part: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401  # a filter, in part
    """Yield each attribute that filters look at, and what they want of it."""
    if isinstance(part, list):
        for each in part:
            yield from _asked(each)
        return
    for dialect, inner in part.items():
        if dialect in {"any", "all"}:
            yield from _asked(inner)
        else:
            yield from inner.items()


def _ping(each: Manifest) -> Iterator[str]:
    sink = each["spec"]["sink"]["ref"]
    home = each["metadata"]["namespace"]
    if (sink["name"], sink.get("namespace", home)) != ("default", home):
        yield "sink: not the broker that its Trigger is at"


def _policy(each: Manifest) -> Iterator[str]:
    """Yield who of a tenant's speaks to its broker and is not let in."""
    subjects = {part["sub"] for part in each["spec"]["from"] if "sub" in part}
    refs = {
        (part["ref"]["kind"], part["ref"]["name"])
        for part in each["spec"]["from"]
        if "ref" in part
    }
    home = each["metadata"]["namespace"]
    names = ("door", "worker", "sweeper")
    if subjects != {f"system:serviceaccount:{home}:{name}" for name in names}:
        yield f"from: not {', '.join(names)} alone"
    if refs != {("PingSource", "storage"), ("Trigger", "storage-to-billing")}:
        yield "from: not the measuring and its answer alone"
    if {part["ref"]["name"] for part in each["spec"]["to"]} != {"default"}:
        yield "to: not the broker default"


def _network(each: Manifest) -> Iterator[str]:
    """Yield whom a policy lets in or out, besides whom it should, or too little."""
    spec, name = each["spec"], each["metadata"]["name"]
    if name in {"from-knative", "to-what-is-needed"} and spec["podSelector"]:
        yield "podSelector: not all pods"
    if name == "to-what-is-needed":
        yield from _out(spec["egress"])
    for rule in spec.get("ingress", []):
        for peer in rule["from"]:
            [wanted] = peer["namespaceSelector"].get("matchExpressions", [{}])
            values = set(wanted.get("values", []))
            key = (wanted.get("key"), wanted.get("operator"))
            if key != ("kubernetes.io/metadata.name", "In"):
                yield f"ingress: by {key}, which is on no namespace by itself"
            if "knative-serving" not in values or len(values) != len(("it", "gateway")):
                yield f"ingress: {sorted(values)} is not Serving and the gateway"


def _out(rules: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for rule in rules:
        ports = {(each.get("protocol"), each["port"]) for each in rule["ports"]}
        for peer in rule["to"]:
            if "ipBlock" in peer:
                if peer["ipBlock"]["cidr"] != "0.0.0.0/0" or ports != {("TCP", 443)}:
                    yield f"egress: {peer['ipBlock']['cidr']} at {sorted(ports)}"
                continue
            labels = peer["namespaceSelector"]["matchLabels"]
            place = labels.get("kubernetes.io/metadata.name", "")
            if place in _OUT and ports != _OUT[place]:
                yield f"egress: {place} at {sorted(ports)}, not {sorted(_OUT[place])}"
            if place not in _OUT and {protocol for protocol, _ in ports} != {"TCP"}:
                yield f"egress: {place} is the gateway, and speaks TCP"


def _priority(each: Manifest) -> Iterator[str]:
    if abs(each["value"]) > _PRIORITY_MAX:
        yield f"value: {each['value']} is above pods of the cluster itself"


def _config(each: Manifest) -> Iterator[str]:
    home, data = each["metadata"]["namespace"], each["data"]
    if each["metadata"]["name"] != "guise":
        return
    if home.removeprefix("guise-") not in data["store"]:
        yield f"store: {data['store']!r} is not the tenant's"
    if not data["issuer"]:
        yield "issuer: nobody's tokens would be taken"


def _alike(own: Sequence[Manifest]) -> Iterator[str]:
    """Yield what of one namespace is of two kinds, or lets in whom it does not ask."""
    brokers = [each for each in own if each["kind"] == "Broker"]
    if len({str(each["metadata"]["annotations"]) for each in brokers}) > 1:
        yield "brokers of two classes: one would not hear of the other's dead letters"
    walls = {
        each["metadata"]["name"]: each["spec"]
        for each in own
        if each["kind"] == "NetworkPolicy"
    }
    if {"from-knative", "to-what-is-needed"} <= walls.keys():
        out = {
            peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
            for rule in walls["to-what-is-needed"]["egress"]
            for peer in rule["to"]
            if "namespaceSelector" in peer
        }
        let = {
            value
            for rule in walls["from-knative"]["ingress"]
            for peer in rule["from"]
            for each in peer["namespaceSelector"].get("matchExpressions", [])
            for value in each["values"]
        }
        if strange := let - out - {"knative-serving"}:
            yield f"{sorted(strange)} is let in, and is not the gateway that is called"


def _quota(own: Sequence[Manifest]) -> Iterator[str]:
    """Yield where a quota lets in less than may run, with one of each to spare."""
    quotas = [each for each in own if each["kind"] == "ResourceQuota"]
    if not quotas:
        return
    hard = quotas[0]["spec"]["hard"]
    need: Counter[str] = Counter()
    for each in own:
        need.update(_wanted(each))
    for name, amount in sorted(need.items()):
        if quantity(hard[name]) < amount - _ROUNDING:
            yield f"the quota lets in {hard[name]} of {name}, and {amount:g} may run"


def _wanted(each: Manifest) -> Counter[str]:
    """Return what an object's pods may ask for together, one more than there may be."""
    found: Counter[str] = Counter()
    if each["kind"] == "Service":
        found["count/services.serving.knative.dev"] += 1
        notes = each["spec"]["template"]["metadata"]["annotations"]
        many, beside = int(notes[f"{SCALING}max-scale"]) + 1, _QUEUE_PROXY
    else:
        many, beside = 2, dict.fromkeys(_QUEUE_PROXY, 0.0)
    for template in pods(each):
        found["pods"] += many
        [container] = template["spec"]["containers"]
        for (kind, what), more in beside.items():
            asked = quantity(container["resources"][kind][what]) + more
            found[f"{kind}.{what}"] += many * asked  # type: ignore[assignment]
        gpus = container["resources"]["limits"].get("nvidia.com/gpu", "0")
        found["requests.nvidia.com/gpu"] += many * int(gpus)
    return found


_EACH: Final[Mapping[str, Any]] = {
    "Trigger": _trigger,
    "PingSource": _ping,
    "EventPolicy": _policy,
    "NetworkPolicy": _network,
    "PriorityClass": _priority,
    "ConfigMap": _config,
}
