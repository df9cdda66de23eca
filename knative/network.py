"""Where pods may go, and who may come: held to what our pods need, no more and no less.

A policy that lets in too little is a pod that never answers, one that lets out too much
is seen by nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from knative.kustomize import Manifest

WALLS: Final = ("from-knative", "to-what-is-needed")
DATABASE: Final = "to-the-database"
_OUT: Final[Mapping[str, frozenset[tuple[str, int]]]] = {
    "kube-system": frozenset({("UDP", 53), ("TCP", 53)}),
    "knative-eventing": frozenset({("TCP", 8080), ("TCP", 8443)}),
    "minio": frozenset({("TCP", 9000)}),
    "observability": frozenset({("TCP", 4318)}),
}
"""Where pods may go, by namespace; whoever else is named is the gateway."""
_GATEWAY: Final = ("kourier-system", frozenset({("TCP", 8081), ("TCP", 8444)}))
_NAME: Final = "kubernetes.io/metadata.name"
_LABEL: Final = "app.kubernetes.io/name"
_AT_DATABASE: Final = frozenset(
    {"audit", "billing", "audit-migrate", "billing-migrate", "audit-prune"}
)


def policy(each: Manifest) -> Iterator[str]:
    """Yield whom a policy lets in or out, besides whom it should, or too little."""
    spec, name = each["spec"], each["metadata"]["name"]
    if name in WALLS and spec["podSelector"]:
        yield "podSelector: not all pods"
    match name:
        case "nothing":
            return
        case "from-knative":
            yield from _in(spec.get("ingress", []))
        case "to-what-is-needed":
            yield from _out(spec.get("egress", []))
        case "to-the-database":
            chosen = spec["podSelector"].get("matchExpressions", [])
            found = {(e["key"], e["operator"], *sorted(e["values"])) for e in chosen}
            if found != {(_LABEL, "In", *sorted(_AT_DATABASE))}:
                yield f"podSelector: not {sorted(_AT_DATABASE)} alone"
            if spec.get("egress") != [{"ports": [{"protocol": "TCP", "port": 5432}]}]:
                yield "egress: not PostgreSQL's port alone"
        case _:
            yield "lets in or out whom no policy of ours does"


def _in(rules: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    peers = [peer for rule in rules for peer in rule["from"]]
    if len(rules) != 1 or len(peers) != 1:
        yield "ingress: one rule, for Serving and the gateway"
        return
    if {each["protocol"] for each in rules[0]["ports"]} != {"TCP"}:
        yield "ingress: by TCP"
    chosen = peers[0].get("namespaceSelector", {}).get("matchExpressions", [])
    if len(chosen) != 1:
        yield "ingress: not by a namespace's name"
        return
    if (chosen[0]["key"], chosen[0]["operator"]) != (_NAME, "In"):
        yield f"ingress: {chosen[0]['operator']} {chosen[0]['key']}"
    values = set(chosen[0]["values"])
    if "knative-serving" not in values or len(values) != len(("Serving", "gateway")):
        yield f"ingress: {sorted(values)} is not Serving and the gateway"


def _out(rules: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    outside = False
    for rule in rules:
        ports = {(each["protocol"], each["port"]) for each in rule["ports"]}
        if len(rule.get("to", [])) != 1:
            yield "egress: to one place a rule; to none would be to all"
            continue
        [peer] = rule["to"]
        place = peer.get("namespaceSelector", {}).get("matchLabels", {}).get(_NAME)
        if "ipBlock" in peer:
            outside = peer["ipBlock"]["cidr"] == "0.0.0.0/0" and ports == {("TCP", 443)}
            if not outside:
                yield f"egress: {peer['ipBlock']['cidr']} at {sorted(ports)}"
        elif place is None:
            yield "egress: not by a namespace's name"
        elif ports != _OUT.get(place, ports):
            yield f"egress: {place} at {sorted(ports)}, not {sorted(_OUT[place])}"
        elif place == _GATEWAY[0] and ports != _GATEWAY[1]:
            yield f"egress: Kourier at {sorted(ports)}, not {sorted(_GATEWAY[1])}"
        elif place not in _OUT and {protocol for protocol, _ in ports} != {"TCP"}:
            yield f"egress: {place} is the gateway, and speaks TCP"
    if not outside:
        yield "egress: the store cannot be reached"


def gateway(own: Sequence[Manifest]) -> Iterator[str]:
    """Yield who is let into a namespace and is not the gateway that it calls."""
    selectors = [
        peer.get("namespaceSelector", {})
        for each in own
        if each["kind"] == "NetworkPolicy"
        for rules, end in (("egress", "to"), ("ingress", "from"))
        for rule in each["spec"].get(rules, [])
        for peer in rule.get(end, [])
    ]
    out = {each.get("matchLabels", {}).get(_NAME) for each in selectors}
    let = {
        value
        for each in selectors
        for some in each.get("matchExpressions", [])
        for value in some["values"]
    }
    if strange := let - out - {"knative-serving"}:
        yield f"{sorted(strange)} is let in, and is not the gateway that is called"
