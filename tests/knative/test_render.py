"""A tenant's spec and a cluster become objects."""

from __future__ import annotations

import dataclasses
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import yaml

from functions.cli.tenant.render import as_yaml, tenancy_of
from functions.roster import Isolation, Models, Quotas, Retention, Spec, parse
from knative import cluster as clusters
from knative.cluster import ClusterError
from knative.kustomize import identity
from knative.render import WINDOWS, render
from models import channels
from tools import manifests
from tools.manifests import EXAMPLE, SPECS, cluster, spec, tenant

if TYPE_CHECKING:
    from pathlib import Path

    from knative.kustomize import Manifest

PREFIX = "autoscaling.knative.dev/"


def one(objects: list[Manifest], kind: str, name: str) -> Any:
    [found] = [
        each
        for each in objects
        if (each["kind"], each["metadata"]["name"]) == (kind, name)
    ]
    return found


def pods(service: Any) -> Any:
    return service["spec"]["template"]["spec"]


def notes(service: Any) -> dict[str, str]:
    return {
        name.removeprefix(PREFIX): value
        for name, value in service["spec"]["template"]["metadata"][
            "annotations"
        ].items()
    }


def env(service: Any) -> dict[str, Any]:
    return {each["name"]: each for each in pods(service)["containers"][0]["env"]}


@pytest.mark.parametrize(
    ("name", "most"), [("own", "2"), ("trial", "2"), ("gpu", "2"), ("apart", "1")]
)
def test_a_tier_decides_how_long_a_worker_stays(name: str, most: str) -> None:
    """Window and retention by tier; as many workers as GPUs, or as cores allow."""
    worker = one(tenant(name, cluster()), "Service", "worker")
    window, retention = WINDOWS[SPECS[name].tier]
    assert notes(worker) == {
        "min-scale": "0",
        "max-scale": most,
        "target-utilization-percentage": "100",
        "window": window,
        "scale-to-zero-pod-retention-period": retention,
    }
    assert pods(worker)["containerConcurrency"] == 1


@pytest.mark.parametrize(("cpus", "cores", "most"), [(1, "1", "1"), (9, "4", "2")])
def test_a_worker_has_no_more_cores_than_its_tenant(
    cpus: int, cores: str, most: str
) -> None:
    """Four each, or all there are."""
    where = cluster()
    made = spec(isolation=Isolation(compute=1), quotas=Quotas(cpus=cpus))
    objects = render(tenancy_of(made, where, EXAMPLE, manifests.NOWHERE), where)
    worker = one(objects, "Service", "worker")
    assert pods(worker)["containers"][0]["resources"]["limits"]["cpu"] == cores
    assert notes(worker)["max-scale"] == most
    assert manifests.check("a tenant", objects) == []


def test_a_gpu_is_asked_for_where_there_is_one() -> None:
    """One a pod, the image that can use it, and so much of its memory."""
    worker = one(tenant("gpu", cluster()), "Service", "worker")
    [container] = pods(worker)["containers"]
    assert "guise-worker-gpu@" in container["image"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert env(worker)["GUISE_DEVICE"]["value"] == "cuda:0"
    assert env(worker)["GUISE_GPU_MEMORY_BYTES_MAX"]["value"] == str(20 * 2**30)
    plain = one(tenant("own", cluster()), "Service", "worker")
    assert "guise-worker-cpu@" in pods(plain)["containers"][0]["image"]
    assert "nvidia.com/gpu" not in str(plain)


def quantity(text: str) -> Decimal:
    for unit, size in (("m", "0.001"), ("Mi", 2**20), ("Gi", 2**30)):
        if text.endswith(unit):
            return Decimal(text.removesuffix(unit)) * Decimal(size)
    return Decimal(text)


def test_the_quota_lets_in_what_may_run() -> None:
    """All doors and workers with their queue-proxies, a sweeper, one more of each."""
    objects = tenant("gpu", cluster())
    hard = one(objects, "ResourceQuota", "tenant")["spec"]["hard"]
    sums = {"requests.cpu": Decimal(0), "limits.memory": Decimal(0)}
    proxy = {"requests.cpu": Decimal("0.025"), "limits.memory": Decimal(256 * 2**20)}
    for name in ("door", "worker"):
        service = one(objects, "Service", name)
        many = int(notes(service)["max-scale"]) + 1
        wanted = pods(service)["containers"][0]["resources"]
        for each in sums:
            kind, what = each.split(".")
            sums[each] += many * (quantity(wanted[kind][what]) + proxy[each])
    sums["requests.cpu"] += 2 * Decimal("0.05")
    sums["limits.memory"] += 2 * 512 * 2**20
    for each, total in sums.items():
        assert quantity(hard[each]) == total
    assert hard["requests.nvidia.com/gpu"] == "3"
    assert hard["pods"] == str(9 + 3 + 2)
    own = one(tenant("own", cluster()), "ResourceQuota", "tenant")["spec"]["hard"]
    assert own["requests.nvidia.com/gpu"] == "0"


def test_the_highest_level_has_nodes_and_a_sandbox_of_its_own() -> None:
    """Door and worker both; and its log is pruned, as its spec has it."""
    objects = tenant("apart", cluster("priority"))
    for name in ("door", "worker"):
        spec = pods(one(objects, "Service", name))
        assert spec["runtimeClassName"] == "gvisor"
        assert spec["nodeSelector"] == {"guise.dev/tenant": "acme"}
        assert [each["value"] for each in spec["tolerations"]] == ["acme"]
    # The sweeper has the tenant's keys; on its nodes it would keep them up for ever.
    job = one(objects, "CronJob", "sweeper")["spec"]["jobTemplate"]
    assert pods(job)["runtimeClassName"] == "gvisor"
    assert "nodeSelector" not in pods(job)
    worker = pods(one(objects, "Service", "worker"))
    assert worker["priorityClassName"] == "guise-standard"
    prune = one(objects, "CronJob", "acme-audit-prune")
    assert "400" in str(prune["spec"])
    assert "runtimeClassName" not in str(tenant("own", cluster()))


def test_a_tenant_of_the_pool_has_no_namespace() -> None:
    """Only what leads to its own doors, in the system's namespace."""
    objects = tenant("pooled", cluster())
    assert {each["metadata"]["namespace"] for each in objects} == {"guise-system"}
    assert {identity(each)[0] for each in objects} == {
        "Trigger",
        "PingSource",
        "CronJob",
    }
    assert all("acme" in each["metadata"]["name"] for each in objects)


@pytest.mark.parametrize(
    "ids", [("sweeper", "audit-prune"), ("a", "a-storage"), ("x-sweeper", "x")]
)
def test_no_two_tenants_objects_have_one_name(ids: tuple[str, str]) -> None:
    """However they are called; and each object says by its label whose it is."""
    where, objects = cluster(), []
    for name in ids:
        made = Spec(id=name, retention=Retention(log_days=9))
        own = render(tenancy_of(made, where, EXAMPLE, manifests.NOWHERE), where)
        labels = [each["metadata"]["labels"]["guise.dev/tenant"] for each in own]
        assert set(labels) == {name}
        objects += own
    assert manifests.lint(objects) == []


@pytest.mark.parametrize("name", ["on", "null", "true", "0", "0x1f", "1e3", "y", "n"])
@pytest.mark.parametrize("isolation", [Isolation(), Isolation(compute=1)])
def test_a_tenant_may_be_called_as_yaml_calls_something_else(
    name: str, isolation: Isolation
) -> None:
    """Text it is in every place, and quoted wherever kubectl would read another."""
    where = cluster()
    made = Spec(id=name, isolation=isolation)
    objects = render(tenancy_of(made, where, EXAMPLE, manifests.NOWHERE), where)
    assert manifests.check(name, objects) == []
    text = as_yaml(objects)
    assert re.search(rf"name: GUISE_TENANT\n +value: '{name}'\n", text)
    assert list(yaml.safe_load_all(text)) == objects


def test_telemetry_is_everybody_s() -> None:
    """Each pod that serves or sweeps is told where to push; and may get there."""
    told = "OTEL_EXPORTER_OTLP_ENDPOINT"
    for objects in (
        tenant("own", cluster("telemetry")),
        tenant("pooled", cluster("telemetry")),
        manifests.system("production", "telemetry-system"),
    ):
        speakers = [
            each
            for each in objects
            if each["kind"] == "Service"
            or (each["kind"], "sweeper" in each["metadata"]["name"])
            == ("CronJob", True)
        ]
        assert speakers
        for each in speakers:
            assert told in str(each), identity(each)
            assert "GUISE_LOG_FORMAT" in str(each), identity(each)
        outs = [each for each in objects if each["kind"] == "NetworkPolicy"]
        assert not outs or "4318" in str(outs)


def test_a_shared_bucket_s_uploads_are_told_apart_by_prefix() -> None:
    """Its own Triggers, where the pool's cannot know what its names begin with."""
    shared = cluster(store="s3://shared/eu/{tenant}?region=eu-central-1")
    names = {each["metadata"]["name"] for each in tenant("pooled", shared)}
    assert "acme-upload-to-worker" in names
    assert "eu/acme/requests/" in str(tenant("pooled", shared))
    assert "upload" not in str({identity(e) for e in tenant("pooled", cluster())})
    assert "eu/acme/requests/" in str(
        one(tenant("own", shared), "Trigger", "upload-to-worker")
    )
    tokens = tenant("pooled", cluster("oidc", store=shared.store))
    woken = one(tokens, "Trigger", "acme-upload-to-worker")["spec"]["subscriber"]
    assert woken["audience"] == "guise-worker"


def test_keys_come_from_an_address_or_a_config_map() -> None:
    """With an address nothing is mounted; without one it has to be made."""
    door = one(tenant("own", cluster()), "Service", "door")
    assert env(door)["GUISE_JWKS"]["value"].startswith("https://")
    assert "guise-jwks" not in str(door)
    door = one(tenant("own", cluster(jwks="")), "Service", "door")
    assert env(door)["GUISE_JWKS"]["value"].startswith("/var/run/guise/jwks/")
    assert "guise-jwks" in str(door)


def test_each_is_told_where_alone_tenants_are_served() -> None:
    """Door, worker and sweeper, of the pool as well: by the ConfigMap guise."""
    told = {"configMapKeyRef": {"name": "guise", "key": "region", "optional": True}}
    objects = tenant("own", cluster())
    assert one(objects, "ConfigMap", "guise")["data"]["region"] == "europe-west4"
    for each in (*objects, *manifests.system("trial")):
        if identity(each)[0] == "Service" and identity(each)[2] in {"door", "worker"}:
            assert env(each)["GUISE_REGION"]["valueFrom"] == told
    for sweeper in (
        one(objects, "CronJob", "sweeper"),
        one(tenant("pooled", cluster()), "CronJob", "acme-sweeper"),
    ):
        assert env(sweeper["spec"]["jobTemplate"])["GUISE_REGION"]["valueFrom"] == told


def test_a_pack_may_be_an_image_of_its_own() -> None:
    """Mounted where the worker looks for it, by digest."""
    worker = one(tenant("own", cluster("image-volume")), "Service", "worker")
    [volume] = [each for each in pods(worker)["volumes"] if each["name"] == "models"]
    assert volume["image"]["reference"].endswith("guise-pack-lite@sha256:" + "6" * 64)
    [mount] = [
        each
        for each in pods(worker)["containers"][0]["volumeMounts"]
        if each["name"] == "models"
    ]
    assert mount["mountPath"] == env(worker)["GUISE_MODELS"]["value"]


def test_what_a_tenant_may_reaches_its_functions() -> None:
    """The spec is mounted as it stands, and parses."""
    objects = tenant("gpu", cluster())
    told = one(objects, "ConfigMap", "guise-tenants")["data"]["acme.yaml"]
    assert parse(told.encode(), tenant=SPECS["gpu"].tenant) == SPECS["gpu"]


def test_who_vouches_for_a_pack_is_rendered(tmp_path: Path) -> None:
    """Beside the cluster's file lie the public keys, if it names a folder."""
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust" / "publisher.pem").write_text("PUBLIC\n")
    where = cluster(trust="trust")
    made = tenancy_of(SPECS["own"], where, tmp_path / "cluster.yml", tmp_path)
    keys = one(render(made, where), "ConfigMap", "guise-model-keys")
    assert keys["data"] == {"publisher.pem": "PUBLIC\n"}


def test_every_document_stands_by_itself() -> None:
    """What is printed is read back as it was, without an alias in it."""
    objects = tenant("apart", cluster())
    text = as_yaml(objects)
    assert list(yaml.safe_load_all(text)) == objects
    assert "&id" not in text


PACKS = {
    version: clusters.Held(cpu=f"r/w@sha256:{digit * 64}")
    for version, digit in (("1.0.0", "a"), ("2.0.0", "b"))
}


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        (Models(pin="1.0.0"), "a"),
        (Models(channel="alpha"), "b"),
        (Models(), "a"),
    ],
)
def test_which_version_a_tenant_gets(
    tmp_path: Path, models: Models, expected: str
) -> None:
    """Its pin, then its channel, then its share: as `guise models resolve` says."""
    line = channels.Line("lite", "0" * 32, alpha=("1.0.0", "2.0.0"), stable=("1.0.0",))
    state = channels.Channels(lines={"lite": line})
    (tmp_path / channels.NAME).write_bytes(msgspec.json.encode(state))
    where = cluster(packs={"lite": PACKS})
    own = Isolation(compute=1, model=1 if models.pin else 0)
    wanted = spec(isolation=own, models=models)
    made = tenancy_of(wanted, where, EXAMPLE, tmp_path)
    worker = one(render(made, where), "Service", "worker")
    assert pods(worker)["containers"][0]["image"].endswith(expected * 64)


@pytest.mark.parametrize(
    ("name", "packs"),
    [
        ("own", {}),
        ("own", {"lite": {}}),
        ("own", {"lite": {"1.1.0": clusters.Held()}}),
        ("gpu", {"lite": {"1.1.0": PACKS["1.0.0"]}}),
    ],
)
def test_an_image_that_nobody_named(name: str, packs: Any) -> None:
    """A tenant is not given another pack, or another device's worker."""
    where = cluster(packs=packs)
    wanted = tenancy_of(SPECS["apart"], where, EXAMPLE, manifests.NOWHERE)
    wanted = dataclasses.replace(wanted, gpus=SPECS[name].quotas.gpus)
    with pytest.raises(ClusterError, match="packs"):
        render(wanted, where)


def test_no_volume_for_the_pack() -> None:
    """The option asks for an image that this version has not."""
    where = cluster("image-volume", packs={"lite": {"1.0.0": PACKS["1.0.0"]}})
    with pytest.raises(ClusterError, match="volume"):
        tenant("own", where)


@pytest.mark.parametrize(
    "change",
    [
        {"store": "gs://one"},
        {"store": 'gs://{tenant}"'},
        {"options": ["oidc"]},
        {"options": ["unheard"]},
        {"jwks": "http://plain.example.com"},
        {"images": {"guise-door": "guise-door:1"}},
        {"gateway": {"http": 0}},
        {"unknown": 1},
    ],
)
def test_a_cluster_that_cannot_be(tmp_path: Path, change: dict[str, Any]) -> None:
    """Each fault is told with the file's name; a tag is no digest."""
    told = yaml.safe_load(EXAMPLE.read_text()) | change
    (tmp_path / "cluster.yml").write_text(yaml.safe_dump(told))
    with pytest.raises(ClusterError, match=r"cluster\.yml"):
        clusters.read(tmp_path / "cluster.yml")


def test_a_cluster_with_tokens_is_told_where_its_name_is(tmp_path: Path) -> None:
    """The fault names the field, and what to type to get it."""
    told = yaml.safe_load(EXAMPLE.read_text()) | {"options": ["oidc"]}
    (tmp_path / "cluster.yml").write_text(yaml.safe_dump(told))
    with pytest.raises(ClusterError, match=r"oidc_issuer.*openid-configuration"):
        clusters.read(tmp_path / "cluster.yml")


def test_a_cluster_that_is_not_there(tmp_path: Path) -> None:
    """No file, no cluster."""
    with pytest.raises(ClusterError):
        clusters.read(tmp_path / "none.yml")
