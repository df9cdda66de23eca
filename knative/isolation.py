"""What keeps a namespace apart: it fails without a sound where it is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from knative import eventing, serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SYSTEM: Final = "guise-system"
QUEUE_PROXY_PORTS: Final = frozenset({8012, 8013, 8112, 9090, 9091})
_LEVELS: Final = {
    f"pod-security.kubernetes.io/{m}" for m in ("enforce", "audit", "warn")
}
_HARD: Final = frozenset(
    {
        "pods",
        "requests.cpu",
        "requests.memory",
        "limits.cpu",
        "limits.memory",
        "requests.nvidia.com/gpu",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.loadbalancers",
        "services.nodeports",
        "count/services.serving.knative.dev",
    }
)
_CONTAINERS: Final = {
    "type": "Container",
    "defaultRequest": {"cpu": "25m", "memory": "64Mi"},
    "default": {"cpu": "500m", "memory": "256Mi"},
}
_PRIVATE: Final = frozenset(
    {"10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"}
)
_NAME: Final = "kubernetes.io/metadata.name"
_JOB_SECONDS_MAX: Final = 24 * 3600
_STEPS: Final = {"m": 1000, "Mi": 1024, "Gi": 1024}


def namespace(each: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a Namespace."""
    labels = each["metadata"].get("labels", {})
    if {labels.get(name) for name in _LEVELS} != {"restricted"}:
        yield f"pods may be anything: {sorted(_LEVELS)} are not all restricted"


def account(each: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a ServiceAccount."""
    if each.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken: not false"


def quota(each: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a ResourceQuota."""
    hard = each["spec"].get("hard", {})
    if set(hard) != _HARD:
        yield f"hard: {sorted(set(hard) ^ _HARD)}"
    for name, amount in hard.items():
        number = amount.rstrip("mKMGi")
        step = _STEPS.get(amount.removeprefix(number))
        if step and int(number) % step == 0:
            yield f"hard: {name} {amount}: a cluster keeps it as another text"
    for name in (
        "persistentvolumeclaims",
        "services.loadbalancers",
        "services.nodeports",
    ):
        if hard.get(name) != "0":
            yield f"hard: {name} is not 0"


def limits(each: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a LimitRange: queue-proxy has no limits of its own."""
    if each["spec"].get("limits") != [_CONTAINERS]:
        yield "limits: queue-proxy gets others than the quota counts with"


def network(each: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a NetworkPolicy."""
    spec = each["spec"]
    kinds = set(spec.get("policyTypes", []))
    for kind in ("ingress", "egress"):
        if kind in spec and kind.capitalize() not in kinds:
            yield f"policyTypes: {kind} is not in force"
    if not kinds or kinds - {"Ingress", "Egress"}:
        yield f"policyTypes: {sorted(kinds)}"
    for rule in spec.get("ingress", []):
        ports = {each["port"] for each in rule.get("ports", [])}
        if not rule.get("from") or ports != QUEUE_PROXY_PORTS:
            yield f"ingress: from Knative, to queue-proxy's ports alone, not {ports}"
    for rule in spec.get("egress", []):
        if not rule.get("ports"):
            yield "egress: to every port"
        for peer in rule.get("to", []):
            block = peer.get("ipBlock")
            if block and set(block.get("except", [])) != _PRIVATE:
                yield "egress: the outside is what is not private, and no more"


def walls(policies: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what the policies of one namespace lack, taken together."""
    specs = [each["spec"] for each in policies]
    deny = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if deny not in specs:
        yield "no NetworkPolicy denies what the others do not allow"
    if not any("ingress" in spec for spec in specs):
        yield "Knative is not let in"
    out = {
        (peer["namespaceSelector"]["matchLabels"].get(_NAME), port)
        for spec in specs
        for rule in spec.get("egress", [])
        for peer in rule.get("to", [])
        if "matchLabels" in peer.get("namespaceSelector", {})
        for port in (each["port"] for each in rule.get("ports", []))
    }
    # A cluster-local Service's name leads to the gateway's pods, a broker's to these.
    for place in (("kube-system", 53), ("knative-eventing", 8080)):
        if place not in out:
            yield f"egress: {place[0]} cannot be reached"
    if len(out) < len(("dns", "dns", "gateway", "gateway", "broker", "broker")) - 1:
        yield "egress: the internal gateway cannot be reached"


def priority(each: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a PriorityClass: none may end another's work."""
    if (
        each.get("preemptionPolicy") != "Never"
        or each.get("globalDefault") is not False
    ):
        yield "preemptionPolicy Never, and nobody's default"


def cron(each: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a CronJob."""
    spec = each["spec"]
    if (
        not eventing.is_cron(spec.get("schedule", ""))
        or spec.get("timeZone") != "Etc/UTC"
    ):
        yield "schedule: five fields, and timeZone Etc/UTC"
    if spec.get("concurrencyPolicy") != "Forbid":
        yield "concurrencyPolicy: two would run at once"
    if not {"startingDeadlineSeconds", "failedJobsHistoryLimit"} <= set(spec):
        yield "startingDeadlineSeconds, failedJobsHistoryLimit: without a bound"
    work = spec["jobTemplate"]["spec"]
    if not 0 < work.get("activeDeadlineSeconds", 0) <= _JOB_SECONDS_MAX:
        yield "activeDeadlineSeconds: a Job that hangs is never ended"
    yield from _work(work)


def job(each: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a Job."""
    if "ttlSecondsAfterFinished" not in each["spec"]:
        yield "ttlSecondsAfterFinished: it stays for ever"
    yield from _work(each["spec"])


def _work(work: Mapping[str, Any]) -> Iterator[str]:
    if "backoffLimit" not in work:
        yield "backoffLimit: without a bound"
    spec = work["template"]["spec"]
    if spec.get("restartPolicy") != "Never":
        yield "restartPolicy: not Never"
    yield from serving.pod(spec)
