"""Which fields our manifests have, and no others: a field misspelt is a field unknown.

The API server refuses an unknown field of Knative's and prunes one of Kubernetes'; the
schemas say so where they are at hand.  This says it always, and is narrower: what is
not here we do not use, and whoever adds it here has thought about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TEXT: Final = str
NUMBER: Final = int
FLAG: Final = bool
TEXTS: Final = {"*": str}
"""A mapping from any name to text: a number in it is a mistake.

Of other mappings each name must be there, but for those with a `?` at their end.
"""

_META: Final = {
    "name": TEXT,
    "namespace?": TEXT,
    "labels?": TEXTS,
    "annotations?": TEXTS,
}
_REF: Final = {"apiVersion": TEXT, "kind": TEXT, "name": TEXT, "namespace?": TEXT}
_KEY: Final = {"name": TEXT, "key": TEXT, "optional?": FLAG}
_CONTAINER: Final = {
    "name": TEXT,
    "image": TEXT,
    "command": [TEXT],
    "args?": [TEXT],
    "ports?": [{"containerPort": NUMBER, "name?": TEXT}],
    "env?": [
        {
            "name": TEXT,
            "value?": TEXT,
            "valueFrom?": {"secretKeyRef?": _KEY, "configMapKeyRef?": _KEY},
        },
    ],
    "envFrom?": [{"secretRef": {"name": TEXT, "optional?": FLAG}}],
    "readinessProbe?": {
        "httpGet": {"path": TEXT},
        "periodSeconds?": NUMBER,
        "timeoutSeconds?": NUMBER,
        "failureThreshold?": NUMBER,
    },
    "resources": {"requests": TEXTS, "limits": TEXTS},
    "securityContext": {
        "allowPrivilegeEscalation": FLAG,
        "capabilities": {"drop": [TEXT]},
        "readOnlyRootFilesystem": FLAG,
        "runAsNonRoot": FLAG,
        "runAsUser": NUMBER,
        "seccompProfile": {"type": TEXT},
    },
    "volumeMounts": [{"name": TEXT, "mountPath": TEXT, "readOnly?": FLAG}],
}
_POD: Final = {
    "serviceAccountName": TEXT,
    "automountServiceAccountToken": FLAG,
    "containers": [_CONTAINER],
    "volumes": [
        {
            "name": TEXT,
            "emptyDir?": {"medium": TEXT, "sizeLimit": TEXT},
            "secret?": {"secretName": TEXT},
            "configMap?": {"name": TEXT, "optional?": FLAG},
            "image?": {"reference": TEXT, "pullPolicy": TEXT},
            "projected?": {
                "sources": [{"serviceAccountToken": {"audience": TEXT, "path": TEXT}}],
            },
        },
    ],
    "priorityClassName?": TEXT,
    "runtimeClassName?": TEXT,
    "nodeSelector?": TEXTS,
    "tolerations?": [{"key": TEXT, "operator": TEXT, "value": TEXT, "effect": TEXT}],
}
_SERVING: Final = _POD | {
    "containerConcurrency": NUMBER,
    "timeoutSeconds": NUMBER,
    "responseStartTimeoutSeconds?": NUMBER,
}
_JOB: Final = {
    "backoffLimit": NUMBER,
    "activeDeadlineSeconds?": NUMBER,
    "ttlSecondsAfterFinished?": NUMBER,
    "template": {
        "metadata": {"labels": TEXTS},
        "spec": _POD | {"restartPolicy": TEXT, "initContainers?": [_CONTAINER]},
    },
}
_LEAF: Final = {"exact?": TEXTS, "prefix?": TEXTS, "suffix?": TEXTS}
_FILTER: Final = _LEAF | {
    "any?": [_LEAF | {"all?": [_LEAF | {"any?": [_LEAF]}]}],
    "all?": [_LEAF | {"any?": [_LEAF]}],
}
_PEER: Final = {
    "namespaceSelector?": {
        "matchLabels?": TEXTS,
        "matchExpressions?": [{"key": TEXT, "operator": TEXT, "values": [TEXT]}],
    },
    "ipBlock?": {"cidr": TEXT, "except": [TEXT]},
}
_PORTS: Final = [{"protocol": TEXT, "port": NUMBER}]

SPECS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "Namespace": ("v1", {}),
    "ServiceAccount": ("v1", {"automountServiceAccountToken": FLAG}),
    "ConfigMap": ("v1", {"data": TEXTS}),
    "ResourceQuota": ("v1", {"spec": {"hard": TEXTS}}),
    "LimitRange": (
        "v1",
        {
            "spec": {
                "limits": [{"type": TEXT, "defaultRequest": TEXTS, "default": TEXTS}]
            }
        },
    ),
    "NetworkPolicy": (
        "networking.k8s.io/v1",
        {
            "spec": {
                "podSelector": {
                    "matchLabels?": TEXTS,
                    "matchExpressions?": [
                        {"key": TEXT, "operator": TEXT, "values": [TEXT]},
                    ],
                },
                "policyTypes": [TEXT],
                "ingress?": [{"from": [_PEER], "ports": _PORTS}],
                "egress?": [{"to?": [_PEER], "ports": _PORTS}],
            },
        },
    ),
    "PriorityClass": (
        "scheduling.k8s.io/v1",
        {
            "value": NUMBER,
            "preemptionPolicy": TEXT,
            "globalDefault": FLAG,
            "description": TEXT,
        },
    ),
    "Job": ("batch/v1", {"spec": _JOB}),
    "CronJob": (
        "batch/v1",
        {
            "spec": {
                "schedule": TEXT,
                "timeZone": TEXT,
                "concurrencyPolicy": TEXT,
                "startingDeadlineSeconds": NUMBER,
                "successfulJobsHistoryLimit": NUMBER,
                "failedJobsHistoryLimit": NUMBER,
                "jobTemplate": {"metadata?": {"labels": TEXTS}, "spec": _JOB},
            },
        },
    ),
    "Service": (
        "serving.knative.dev/v1",
        {
            "spec": {
                "template": {
                    "metadata": {"labels": TEXTS, "annotations": TEXTS},
                    "spec": _SERVING,
                },
            },
        },
    ),
    "Broker": ("eventing.knative.dev/v1", {"spec?": {"config": _REF}}),
    "Trigger": (
        "eventing.knative.dev/v1",
        {
            "spec": {
                "broker": TEXT,
                "filters": [_FILTER],
                "subscriber": {"ref": _REF, "uri": TEXT, "audience?": TEXT},
                "delivery": {
                    "retry": NUMBER,
                    "backoffPolicy": TEXT,
                    "backoffDelay": TEXT,
                    "timeout": TEXT,
                    "deadLetterSink": {"ref": _REF},
                },
            },
        },
    ),
    "PingSource": (
        "sources.knative.dev/v1",
        {"spec": {"schedule": TEXT, "timezone": TEXT, "sink": {"ref": _REF}}},
    ),
    "EventPolicy": (
        "eventing.knative.dev/v1alpha1",
        {"spec": {"to": [{"ref": _REF}], "from": [{"ref?": _REF, "sub?": TEXT}]}},
    ),
}


def faults(each: Mapping[str, Any]) -> Iterator[str]:
    """Yield what of an object is of no shape that our manifests have."""
    kind = str(each.get("kind"))
    if kind not in SPECS:
        yield f"kind: {kind!r} is none of ours"
        return
    version, shape = SPECS[kind]
    if each.get("apiVersion") != version:
        yield f"apiVersion: {each.get('apiVersion')!r}, where {kind} is of {version}"
    whole = {"apiVersion": TEXT, "kind": TEXT, "metadata": _META, **shape}
    yield from _compare(each, whole, "")


def _compare(value: Any, shape: Any, where: str) -> Iterator[str]:  # noqa: ANN401  # YAML
    if isinstance(shape, type):
        # A flag is a number to Python, and none to Kubernetes.
        if type(value) is not shape:
            yield f"{where}: {value!r} is no {shape.__name__}"
    elif isinstance(shape, list):
        yield from _compare_list(value, shape[0], where)
    elif not isinstance(value, dict):
        yield f"{where}: {value!r} is no mapping"
    else:
        yield from _compare_mapping(value, shape, where)


def _compare_mapping(value: Any, shape: Any, where: str) -> Iterator[str]:  # noqa: ANN401
    if "*" in shape:
        shape = dict.fromkeys(value, shape["*"])
    known = {str(name).removesuffix("?"): each for name, each in shape.items()}
    for name, each in value.items():
        if name not in known:
            yield f"{where}.{name}: no such field here"
        else:
            yield from _compare(each, known[name], f"{where}.{name}")
    for name in shape.keys() - value.keys():
        if not str(name).endswith("?"):
            yield f"{where}.{name}: there is none, and there must be"


def _compare_list(value: Any, shape: Any, where: str) -> Iterator[str]:  # noqa: ANN401
    if not isinstance(value, list):
        yield f"{where}: {value!r} is no list"
        return
    for number, each in enumerate(value):
        yield from _compare(each, shape, f"{where}[{number}]")
