"""What Serving's webhook refuses, and what it takes without a word and should not.

See `validate` in knative.dev/serving/pkg/apis, and the notes of what a genuine cluster
did.  Pods of Jobs are held to the same, as far as it concerns them.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

FLAGS: Final[Mapping[str, str]] = {
    "nodeSelector": "kubernetes.podspec-nodeselector",
    "tolerations": "kubernetes.podspec-tolerations",
    "priorityClassName": "kubernetes.podspec-priorityclassname",
    "runtimeClassName": "kubernetes.podspec-runtimeclassname",
    "image": "kubernetes.podspec-volumes-image",
    "initial-scale": "allow-zero-initial-scale",
}
"""Fields that need a feature flag which is off by default, by what they are called."""
PORT: Final = 8080
RESERVED_PORTS: Final = frozenset({8008, 8012, 8013, 8022, 8112, 9090, 9091})
"""8112 is taken without a word, and then nothing answers there."""
RESERVED_NAMES: Final = frozenset(
    {"PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION"}
)
SCRATCH: Final = "/tmp"  # noqa: S108  # the pod's own, in memory
SCALING: Final = "autoscaling.knative.dev/"
_OWNER: Final = "guise.dev/tenant"
VISIBILITY: Final = "networking.knative.dev/visibility"
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}
_WHOLE: Final = re.compile(r"0|[1-9][0-9]{0,5}")
_DURATION: Final = re.compile(r"(\d+)([smh])")
_PINNED: Final = re.compile(r"[^@\s:]+(:\d+/[^@\s:]+)?@sha256:[0-9a-f]{64}")
_APP: Final = re.compile(r"functions(\.\w+)+:create_app\(\)")
_TIMEOUT_SECONDS_MAX: Final = 600
_PROBE_SECONDS_MAX: Final = 5
_START_SECONDS: Final = 300
"""What config-defaults gives `responseStartTimeoutSeconds` where that is less than
`timeoutSeconds`: its `revision-timeout-seconds`."""
_DRAIN_SECONDS: Final = 35
"""From a pod's deletion to SIGTERM, and a little more."""
_BOUNDS: Final[Mapping[str, tuple[int, int]]] = {
    "min-scale": (0, 100),
    "max-scale": (1, 1000),  # 0 is without a bound
    "initial-scale": (0, 100),
    "target-utilization-percentage": (1, 100),
}
_TIMES: Final[Mapping[str, tuple[int, int]]] = {
    "window": (6, 3600),
    "scale-to-zero-pod-retention-period": (0, 3600),
}
_UNITS: Final = {"m": 10**-3, "Mi": 2**20, "Gi": 2**30}
_ON_SERVICE: Final = frozenset({"serving.knative.dev/rollout-duration"})


def service(each: Mapping[str, Any], flags: Collection[str]) -> Iterator[str]:
    """Yield what is wrong with a Service."""
    if strange := set(each["metadata"].get("annotations", {})) - _ON_SERVICE:
        yield f"annotations of the Service itself do nothing: {sorted(strange)}"
    yield from _visible(each["metadata"])
    template = each["spec"]["template"]
    notes = template["metadata"].get("annotations", {})
    spec = template["spec"]
    yield from _scaling(notes, flags)
    if spec.get("containerConcurrency") == 1:
        # At the default of 70 % one steady stream asks for a second pod.
        if notes.get(f"{SCALING}target-utilization-percentage") != "100":
            yield "one request at a time, and target-utilization-percentage not 100"
    elif not spec.get("containerConcurrency", 0) > 0:
        yield "containerConcurrency: there is no bound"
    yield from _timeouts(spec)
    yield from pod(spec)
    for name, flag in FLAGS.items():
        if name in spec and flag not in flags:
            yield f"{name}: needs {flag}, which is off by default"
    for container in spec["containers"]:
        yield from _served(container, spec)
    for volume in spec.get("volumes", []):
        if "image" in volume and FLAGS["image"] not in flags:
            yield f"image volume: needs {FLAGS['image']}, which is off by default"


def _visible(metadata: Mapping[str, Any]) -> Iterator[str]:
    for name, value in metadata.get("labels", {}).items():
        known = name.startswith("app.kubernetes.io/") or name in {VISIBILITY, _OWNER}
        if not known or (name == VISIBILITY and value != "cluster-local"):
            yield f"label {name}: {value} is none of ours"
    public = VISIBILITY not in metadata.get("labels", {})
    if public != (metadata["name"] == "door"):
        yield "the door is public, and nothing besides"


def _scaling(notes: Mapping[str, str], flags: Collection[str]) -> Iterator[str]:
    """Yield what is wrong with annotations of the autoscaler; it checks few of them."""
    for name, value in notes.items():
        short = name.removeprefix(SCALING)
        if short in _BOUNDS:
            low, high = _BOUNDS[short]
            if not (_WHOLE.fullmatch(value) and low <= int(value) <= high):
                yield f"{name}: {value!r} is not {low} to {high}"
        elif short in _TIMES:
            low, high = _TIMES[short]
            if not low <= _duration(value) <= high:
                yield f"{name}: {value!r} is not {low}s to {high}s, in whole seconds"
        else:
            yield f"annotation {name}: there is none, and nobody says so"
    scale = {
        short: int(notes[SCALING + short])
        for short in ("min-scale", "max-scale", "initial-scale")
        if _WHOLE.fullmatch(notes.get(SCALING + short, ""))
    }
    most = scale.get("max-scale")
    if most is None:
        yield "max-scale: there is no bound"
        return
    for short in ("min-scale", "initial-scale"):
        if scale.get(short, 0) > most:
            yield f"{short} is above max-scale"
    if scale.get("initial-scale") == 0 and FLAGS["initial-scale"] not in flags:
        yield f"initial-scale 0: needs {FLAGS['initial-scale']}, off by default"


def _duration(text: str) -> int:
    """Return a duration of Go's in seconds, and -1 for another one."""
    match = _DURATION.fullmatch(text)
    return int(match[1]) * _SECONDS[match[2]] if match else -1


def _timeouts(spec: Mapping[str, Any]) -> Iterator[str]:
    whole = spec.get("timeoutSeconds", 0)
    if not _DRAIN_SECONDS < whole <= _TIMEOUT_SECONDS_MAX:
        low, high = _DRAIN_SECONDS, _TIMEOUT_SECONDS_MAX
        yield f"timeoutSeconds: {whole} is not above {low}, {high} at most"
    # Ours answer when all is done, so the first byte may be as late as the last.
    start = spec.get("responseStartTimeoutSeconds", min(whole, _START_SECONDS))
    if start != whole:
        yield f"responseStartTimeoutSeconds: {start} is not timeoutSeconds, {whole}"


def _served(container: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[str]:
    ports = container.get("ports", [])
    if [each["containerPort"] for each in ports] != [PORT]:
        yield f"ports: one, {PORT}, which NetworkPolicies keep shut"
    for each in ports:
        if each["containerPort"] in RESERVED_PORTS:
            yield f"port {each['containerPort']} is queue-proxy's own"
        if each.get("name", "") not in {"", "http1", "h2c"}:
            yield f"port name {each['name']!r}: http1, h2c or none"
    probe = container.get("readinessProbe", {})
    if probe.get("httpGet") != {"path": "/health/ready"}:
        yield "readinessProbe: not GET /health/ready"
    if "periodSeconds" not in probe and len(probe) > 1:
        yield "readinessProbe: without periodSeconds nothing else of it may be said"
    if probe.get("periodSeconds", 1) > _PROBE_SECONDS_MAX:
        yield f"readinessProbe: {probe['periodSeconds']} s, which a cold start waits"
    yield from _gunicorn(container, spec)


def _gunicorn(container: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[str]:
    args = container.get("args", [])
    option = dict(pairwise(args))
    wanted = {
        "-k": "functions.server.Patient",
        "--workers": "1",
        "--timeout": "0",
        "--graceful-timeout": str(spec.get("timeoutSeconds", 0) - _DRAIN_SECONDS),
        "--worker-tmp-dir": SCRATCH,
    }
    for name, value in wanted.items():
        if option.get(name) != value:
            yield f"gunicorn {name} is {option.get(name)}, not {value}"
    threads = option.get("--threads", "0")
    if not (_WHOLE.fullmatch(threads) and int(threads) > spec["containerConcurrency"]):
        yield "gunicorn: a probe needs a thread beside those of the requests"
    if container.get("command") != ["gunicorn"] or not _APP.fullmatch(
        "".join(args[-1:])
    ):
        yield "the command is no gunicorn with an application of ours"


def pod(spec: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a pod, whoever starts it."""
    if spec.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken: not false"
    if not spec.get("serviceAccountName"):
        yield "serviceAccountName: nobody's"
    volumes = {each["name"]: each for each in spec.get("volumes", [])}
    if len(volumes) != len(spec.get("volumes", [])):
        yield "volumes: a name twice"
    containers = [*spec.get("initContainers", []), *spec["containers"]]
    mounted = {
        mount["name"] for each in containers for mount in each.get("volumeMounts", [])
    }
    if mounted != set(volumes):
        yield f"volumes and mounts differ: {sorted(mounted ^ set(volumes))}"
    for volume in volumes.values():
        yield from _volume(volume)
    for each in containers:
        yield from container(each, volumes)


def _volume(volume: Mapping[str, Any]) -> Iterator[str]:
    if len(volume) != len(("name", "source")):
        yield f"volume {volume['name']}: of no one kind"
    if "emptyDir" in volume and (
        volume["emptyDir"].get("medium") != "Memory"
        or not volume["emptyDir"].get("sizeLimit")
    ):
        yield f"volume {volume['name']}: not in memory, or without a limit"
    if "image" in volume and not _PINNED.fullmatch(volume["image"]["reference"]):
        yield f"volume {volume['name']}: an image by no digest, and nobody resolves it"


def container(
    each: Mapping[str, Any], volumes: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Yield what is wrong with a container."""
    if not _PINNED.fullmatch(each.get("image", "")):
        yield f"image {each.get('image')}: by no digest"
    if each.get("securityContext") != RESTRICTED:
        yield "securityContext: not the one that all have"
    yield from _environment(each.get("env", []))
    yield from _mounts(each.get("volumeMounts", []), volumes)
    yield from _resources(each.get("resources", {}))


RESTRICTED: Final = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def _environment(env: list[Mapping[str, Any]]) -> Iterator[str]:
    names = [entry["name"] for entry in env]
    if len(names) != len(set(names)):
        yield "env: a name twice"
    for name in names:
        if name in RESERVED_NAMES:
            yield f"env {name}: is Knative's to set"
    for entry in env:
        sources = entry.get("valueFrom", {})
        if ("value" in entry) == bool(sources) or len(sources) > 1:
            yield f"env {entry['name']}: not one value"


def _mounts(
    mounts: list[Mapping[str, Any]], volumes: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    paths = [mount["mountPath"].rstrip("/") for mount in mounts]
    if len(paths) != len(set(paths)):
        yield "volumeMounts: a path twice"
    by_path = {mount["mountPath"]: mount["name"] for mount in mounts}
    if "emptyDir" not in volumes.get(by_path.get(SCRATCH, ""), {}):
        yield "nothing is mounted in memory where temporary files go"
    for mount in mounts:
        is_scratch = "emptyDir" in volumes.get(mount["name"], {})
        if not mount["mountPath"].startswith("/") or mount["mountPath"] in {
            "/",
            "/dev",
        }:
            yield f"mountPath {mount['mountPath']}: not one to mount at"
        if not is_scratch and mount.get("readOnly") is not True:
            yield f"mount {mount['name']}: not readOnly"


def _resources(resources: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    requests, limits = resources.get("requests", {}), resources.get("limits", {})
    for what in ("cpu", "memory"):
        if what not in requests or what not in limits:
            yield f"resources: {what} is not both asked for and limited"
        elif not 0 < quantity(requests[what]) <= quantity(limits[what]):
            yield f"resources: {what} {requests[what]} of {limits[what]} at most"
    if strange := (set(requests) | set(limits)) - {"cpu", "memory", "nvidia.com/gpu"}:
        yield f"resources: what are {sorted(strange)}?"
    if limits.get("nvidia.com/gpu", "1") != "1":
        yield "nvidia.com/gpu: one a worker"


def quantity(text: str) -> float:
    """Return a quantity as a number, and -1 for what is none."""
    match = re.fullmatch(r"(\d+)(m|Mi|Gi)?", text)
    return int(match[1]) * _UNITS.get(match[2] or "", 1) if match else -1
