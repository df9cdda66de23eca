"""What a pod is told, by variables and volumes: held to what it must know.

A variable that is not there stops a function at its start, one that says another thing
does not: a store by the issuer's key, a certificate that is the signing key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from knative.isolation import SYSTEM
from knative.kustomize import identity
from knative.serving import quantity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from knative.kustomize import Manifest
    from knative.roles import Role

CLUSTER: Final = "svc.cluster.local"
_RUN: Final = "/var/run/guise"
_EVERYBODY: Final = frozenset({"GUISE_PROFILE", "GUISE_KEYS"})
_SWAPPING: Final = _EVERYBODY | {
    *("GUISE_TENANTS", "GUISE_STORE", "GUISE_REGION", "K_SINK")
}
_ASKED: Final = _EVERYBODY | {"GUISE_JWKS", "GUISE_ISSUER"}
NEEDS: Final[Mapping[str, frozenset[str]]] = {
    "door": _SWAPPING | _ASKED | {"GUISE_WORKER_URL", "GUISE_AUDIT_URL"},
    "worker": _SWAPPING
    | {"GUISE_AUDIT_URL", "GUISE_MODELS", "GUISE_PROVENANCE", "GUISE_MODEL_KEYS"}
    | {"GUISE_ACCEPTANCES"},
    "sweeper": _SWAPPING | {"GUISE_TENANT"},
    "audit": _ASKED | {"GUISE_DATABASE", "GUISE_WITNESS", "GUISE_DOOR_REQUESTS_MAX"},
    "billing": _ASKED
    | {"GUISE_DATABASE", "GUISE_STORE", "GUISE_RATES", "GUISE_DOOR_REQUESTS_MAX"},
}
"""What each function must be told; a command only where its database is."""
_TOGETHER: Final = (
    ("GUISE_OIDC_JWKS", "GUISE_OIDC_AUDIENCE", "GUISE_OIDC_ISSUER"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "GUISE_LOG_FORMAT"),
    ("GUNICORN_CMD_ARGS", "GUISE_LOG_FORMAT"),
)
"""All of these, or none."""
_LITERAL: Final[Mapping[str, frozenset[str]]] = {
    name: frozenset(texts)
    for name, texts in {
        "GUISE_PROFILE": {"production"},
        "GUISE_TENANTS": {f"{_RUN}/tenants"},
        "GUISE_KEYS": {f"{_RUN}/keys"},
        "GUISE_MODELS": {"/models"},
        "GUISE_MODEL_KEYS": {f"{_RUN}/model-keys"},
        "GUISE_ACCEPTANCES": {f"{_RUN}/acceptances"},
        "GUISE_PROVENANCE": {f"{_RUN}/keys/provenance.pem"},
        "GUISE_OIDC_JWKS": {f"{_RUN}/oidc/jwks.json"},
        "GUISE_AUDIT_URL": {f"http://audit.{SYSTEM}.{CLUSTER}"},
        "GUISE_LOG_FORMAT": {"json"},
        "GUNICORN_CMD_ARGS": {"--logger-class functions.server.JsonLogger"},
        "OTEL_EXPORTER_OTLP_ENDPOINT": {
            f"http://collector.observability.{CLUSTER}:4318"
        },
    }.items()
}
_KEYS: Final[Mapping[str, str]] = {
    "GUISE_STORE": "store",
    "GUISE_ISSUER": "issuer",
    "GUISE_OIDC_ISSUER": "oidc-issuer",
    "GUISE_REGION": "region",
    "GUISE_WITNESS": "witness",
    "GUISE_RATES": "rates",
}
"""Which key of the ConfigMap `guise` a variable has."""
_OPTIONAL: Final = frozenset({"GUISE_WITNESS", "GUISE_RATES", "GUISE_REGION"})
_VOLUMES: Final[Mapping[str, Mapping[str, Any]]] = {
    "tenants": {"name": "guise-tenants"},
    "everybody": {"name": "guise-everybody", "optional": True},
    "jwks": {"name": "guise-jwks"},
    "model-keys": {"name": "guise-model-keys"},
    "acceptances": {"name": "guise-acceptances", "optional": True},
    "rates": {"name": "guise-rates", "optional": True},
    "oidc": {"name": "guise-oidc"},
}
_TOKENS: Final = {
    "GUISE_AUDIT_TOKEN_FILE": "guise-audit",
    "GUISE_WORKER_TOKEN_FILE": "guise-worker",
}
_CORES_MAX: Final = 64
_SCRATCH_BYTES: Final = 32 * 2**20


def faults(each: Manifest, spec: Mapping[str, Any], what: Role) -> Iterator[str]:
    """Yield what a pod's variables and volumes say that is not so."""
    if not spec["containers"]:
        return
    container = spec["containers"][0]
    env = {entry["name"]: entry for entry in container.get("env", [])}
    needed = NEEDS.get(what.name, frozenset({"GUISE_DATABASE"}))
    if missing := needed - env.keys():
        yield f"env: it is not told {sorted(missing)}"
    for some in _TOGETHER:
        if "GUNICORN_CMD_ARGS" in some and what.name == "sweeper":
            continue  # no server
        if 0 < len(env.keys() & set(some)) < len(some):
            yield f"env: all of {some}, or none"
    values = {name: entry["value"] for name, entry in env.items() if "value" in entry}
    yield from _values(each, values, what)
    yield from _from_config(env)
    for one in [container, *spec.get("initContainers", [])]:
        yield from _database(one, what)
    logins = [one["secretRef"] for one in container.get("envFrom", [])]
    wanted = [{"name": what.login, "optional": True}] if what.login else []
    if logins != wanted:
        yield f"envFrom: {logins}, not {wanted}"
    yield from _volumes(spec, what, shared=identity(each)[1] == SYSTEM)
    yield from _files(container, spec, env)
    yield from _scratch(container, spec)


def _values(each: Manifest, values: Mapping[str, str], what: Role) -> Iterator[str]:
    _, home, name = identity(each)
    pinned = what.name == "sweeper" or (home != SYSTEM and what.login == "store-login")
    tenant = name.removesuffix("-sweeper") if home == SYSTEM else home[len("guise-") :]
    own: dict[str, str | None] = {
        "GUISE_TENANT": tenant if pinned else None,
        "GUISE_DEVICE": "cuda:0" if what.image.endswith("-gpu") else None,
    }
    if "GUISE_WORKER_URL" in values:
        own["GUISE_WORKER_URL"] = f"http://worker.{home}.{CLUSTER}"
    if "GUISE_OIDC_AUDIENCE" in values:
        own["GUISE_OIDC_AUDIENCE"] = f"guise-{what.name}"
    for variable, text in own.items():
        if values.get(variable) != text:
            yield f"env {variable}: {values.get(variable)}, not {text}"
    for variable, texts in _LITERAL.items():
        if values.get(variable, min(texts)) not in texts:
            yield f"env {variable}: {values[variable]}, not {min(texts)}"
    jwks = values.get("GUISE_JWKS", "https://")
    if jwks != f"{_RUN}/jwks/jwks.json" and not jwks.startswith("https://"):
        yield f"env GUISE_JWKS: {jwks} is no address, and not where the keys are"
    if values.get("GUISE_DOOR_REQUESTS_MAX", "16") != "16":
        yield "env GUISE_DOOR_REQUESTS_MAX: events find no thread beside people"


def _from_config(env: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, key in _KEYS.items():
        if name not in env:
            continue
        wanted: dict[str, Any] = {"name": "guise", "key": key}
        if name in _OPTIONAL:
            wanted["optional"] = True
        if env[name].get("valueFrom", {}).get("configMapKeyRef") != wanted:
            yield f"env {name}: not the key {key} of the ConfigMap guise"
    everybody = {"name": "guise-everybody", "key": "folder", "optional": True}
    told = env.get("GUISE_TENANTS", {}).get("valueFrom", {"configMapKeyRef": everybody})
    if told != {"configMapKeyRef": everybody}:
        yield f"env GUISE_TENANTS: {told}"


def _database(container: Mapping[str, Any], what: Role) -> Iterator[str]:
    """Yield where a login is another's, or written out for all to read."""
    found = [e for e in container.get("env", []) if e["name"] == "GUISE_DATABASE"]
    logins = [each.get("valueFrom", {}).get("secretKeyRef", {}) for each in found]
    name, key = what.database
    if logins != ([{"name": name, "key": key}] if name else []):
        yield f"env GUISE_DATABASE: {logins}, not {name} {key}"


def _volumes(spec: Mapping[str, Any], what: Role, *, shared: bool) -> Iterator[str]:
    held = {v["secret"]["secretName"] for v in spec["volumes"] if "secret" in v}
    if held != ({what.keys} if what.keys else set()):
        yield f"volumes: the Secrets {sorted(held)}, not {what.keys!r}"
    for volume in spec["volumes"]:
        told = volume.get("configMap")
        wanted = dict(_VOLUMES.get(volume["name"], {}))
        if shared and volume["name"] == "tenants" and what.runs[0] != "python3":
            wanted["optional"] = True  # a pool starts before it has a tenant
        if told is not None and told != wanted:
            yield f"volume {volume['name']}: {told}, not {wanted}"
        if volume.get("image", {}).get("pullPolicy", "IfNotPresent") != "IfNotPresent":
            yield f"volume {volume['name']}: pulled when the node has it"


def _files(
    container: Mapping[str, Any],
    spec: Mapping[str, Any],
    env: Mapping[str, Mapping[str, Any]],
) -> Iterator[str]:
    """Yield files that a variable names and nothing brings, and the other way."""
    values = {name: entry["value"] for name, entry in env.items() if "value" in entry}
    places = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
    ours = {path for path in places.values() if path.startswith(f"{_RUN}/")}
    named = {text for text in values.values() if text.startswith(f"{_RUN}/")}
    for text in sorted(named):
        if not any(text == path or text.startswith(f"{path}/") for path in ours):
            yield f"{text}: nothing is mounted there"
    by_config = {"GUISE_RATES": f"{_RUN}/rates", "GUISE_TENANTS": f"{_RUN}/tenants"}
    told = {
        path for name, path in by_config.items() if "valueFrom" in env.get(name, {})
    }
    for path in sorted(ours - told):
        if not any(text == path or text.startswith(f"{path}/") for text in named):
            yield f"{path}: no variable names what is mounted there"
    tokens = {
        f"{places[volume['name']]}/{token['path']}": token["audience"]
        for volume in spec["volumes"]
        for source in volume.get("projected", {}).get("sources", [])
        for token in [source["serviceAccountToken"]]
    }
    for name, audience in _TOKENS.items():
        if name in values and tokens.get(values[name]) != audience:
            yield f"env {name}: a token for {tokens.get(values[name])}, not {audience}"
    for path in sorted(tokens.keys() - named):
        yield f"{path}: a token that no variable names"


def _scratch(container: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[str]:
    """Yield where what is in memory is more than there is, or next to nothing."""
    limits = container["resources"]["limits"]
    if quantity(limits["cpu"]) > _CORES_MAX:
        yield f"limits: {limits['cpu']} cores; a thousandth of a core is 1m"
    if "nvidia.com/gpu" in container["resources"]["requests"]:
        yield "requests: GPUs are asked for by their limit"
    for volume in spec["volumes"]:
        size = volume.get("emptyDir", {}).get("sizeLimit")
        half = quantity(limits["memory"]) / 2
        if size and not _SCRATCH_BYTES <= quantity(size) <= half:
            yield f"volume {volume['name']}: {size} of {limits['memory']} of memory"
