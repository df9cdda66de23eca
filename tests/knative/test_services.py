"""What the manifests say of the functions, held to the functions."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from gunicorn.config import Config  # type: ignore[import-untyped]

import knative
from functions.audit.store import SCHEMA as AUDIT
from functions.billing.ledger import SCHEMA as BILLING
from functions.settings import Limits, variables
from tools import manifests

if TYPE_CHECKING:
    from knative.kustomize import Manifest

EVERYTHING = manifests.everything()
REPOSITORY = Path(__file__).parents[2]
OWN_PATCH = {
    "GUISE_AUDIENCE": "guise, unless the issuer's tokens say another",
    "GUISE_CUDA_GRAPH": "where a pack's shapes never change",
    "GUISE_ENVELOPES": "where stores are folders; buckets encrypt by themselves",
    "GUISE_DEVICE_SHARE": "where a device is shared by MIG or time slices",
    "GUISE_OIDC_NAMESPACES": "guise-system, where the pool is",
    "GUISE_OIDC_READER": "where the cluster's keys are fetched and not copied",
    "GUISE_PRODUCER": "the name in Content Credentials",
    "GUISE_TIMESTAMP_URL": "where Content Credentials are timestamped",
    "GUISE_VERIFY": "full",
    "K_CA_CERTS": "where the broker has a certificate of the cluster's own",
    "K_CE_OVERRIDES": "where who receives events wants more attributes",
}
"""Settings that no manifest names, and why not."""


def named(value: Any) -> set[str]:
    """Return every variable that anything in a document names."""
    if isinstance(value, list):
        return set().union(*map(named, value))
    if not isinstance(value, dict):
        return set()
    own = {each["name"] for each in value.get("env", [])}
    return own.union(*map(named, value.values()))


def limits() -> set[str]:
    from dataclasses import fields

    return {each.metadata["env"] for each in fields(Limits)}


def test_variables_and_settings_are_the_same_both_ways() -> None:
    """Nothing is set that nothing reads, and nothing read that nobody thought of."""
    told = named([*EVERYTHING.values()]) - manifests.SERVERS
    assert told <= variables()
    assert variables() - told - limits() == set(OWN_PATCH)
    assert not told & set(OWN_PATCH)


def of(name: str, kind: str, which: str) -> Manifest:
    [found] = [
        each
        for each in EVERYTHING[name]
        if (each["kind"], each["metadata"]["name"]) == (kind, which)
    ]
    return found


@pytest.mark.parametrize(("name", "schema"), [("audit", AUDIT), ("billing", BILLING)])
def test_a_migration_is_named_after_the_tables_version(name: str, schema: Any) -> None:
    """A Job cannot be changed: another version is another Job."""
    migrate = of("trial", "Job", f"{name}-migrate-{schema.newest}")
    [container] = migrate["spec"]["template"]["spec"]["containers"]
    assert f"`{' '.join(container['command'])}`" == schema.command


@pytest.mark.parametrize("name", ["door", "worker"])
def test_the_pool_s_functions_are_a_tenant_s(name: str) -> None:
    """But for whose they are, how many requests at once, and starting with nobody."""
    mine = (knative.folder() / "tenant" / f"{name}.yaml").read_text()
    theirs = (knative.folder() / "pooled" / f"{name}.yaml").read_text()
    expected = (
        mine.replace("guise-${tenant}", "guise-system")
        .replace(
            "            - name: GUISE_TENANT\n              value: ${tenant}\n", ""
        )
        .replace("events-key", "pool-keys")
        .replace("{name: guise-tenants}", "{name: guise-tenants, optional: true}")
    )
    left = {line.strip() for line in theirs.splitlines()}
    right = {line.strip() for line in expected.splitlines()}
    changed = {line for line in left ^ right if not line.startswith("#")}
    concurrency = {"containerConcurrency: 1", "containerConcurrency: 8"}
    assert changed == (concurrency if name == "worker" else set())


TARGETS = ("door", "worker-cpu", "worker-gpu", "audit", "billing")


def gunicorn(words: list[str]) -> dict[str, Any]:
    """Return what gunicorn is told by its command line."""
    command, *told = words
    assert command == "gunicorn"
    return dict(vars(Config(prog=command).parser().parse_args(told)))


def test_an_image_starts_as_its_manifest_does() -> None:
    """Whoever runs an image by hand runs what the cluster would."""
    text = (REPOSITORY / "Dockerfile").read_text().replace("\\\n", "")
    services = {
        "door": of("own+", "Service", "door"),
        "worker-cpu": of("own+", "Service", "worker"),
        "worker-gpu": of("gpu+", "Service", "worker"),
        "audit": of("trial", "Service", "audit"),
        "billing": of("trial", "Service", "billing"),
    }
    [entry] = re.findall("^ENTRYPOINT (.*)", text, re.MULTILINE)
    for target in TARGETS:
        stage = text.partition(f" AS {target}\n")[2].partition("\nFROM ")[0]
        words = json.loads(entry) + json.loads(stage.partition("CMD ")[2])
        [container] = services[target]["spec"]["template"]["spec"]["containers"]
        told = [*container["command"], *container["args"]]
        assert gunicorn(words) == gunicorn(told)
        assert f"guise-{target}@" in container["image"]


def test_every_option_says_which_flags_it_needs() -> None:
    """The file's own comment names each flag that the linter wants for it."""
    from knative.render import FLAGS

    for path in sorted((knative.folder() / "options").glob("*/kustomization.yml")):
        name = path.parent.name.removesuffix("-system").removesuffix("-member")
        if path.parent.name == "oidc-member":
            continue
        for flag in FLAGS.get(name, []):
            assert flag in path.read_text()
        assert ("Needs" in path.read_text()) == (name in FLAGS)
