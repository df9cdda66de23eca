"""Everything that can be applied is as it should be, and whatever is not is seen."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml

from knative import wiring
from knative.kustomize import identity
from tools import manifests, schemas

if TYPE_CHECKING:
    from knative.kustomize import Manifest

EVERYTHING = manifests.everything()
GONE = object()
"""Take the field away."""
POD = "spec/template/spec"


@pytest.mark.parametrize("name", EVERYTHING)
def test_every_set_is_as_it_should_be(name: str) -> None:
    """By Kubernetes' schemas, Knative's CRDs where they are, and our own rules.

    With the flags that the set says it needs, and none besides: by default, none.
    """
    assert manifests.check(name, EVERYTHING[name]) == []


def test_the_default_set_needs_no_flag_that_is_off() -> None:
    """A tenant without options, and the system, run on a cluster as it comes."""
    for name in ("own+", "gpu+", "own+kafka", "own+minio", "trial", "production"):
        assert manifests.flags_of(name) == []
        assert EVERYTHING[name]


class Mutation(NamedTuple):
    """One field changed: of which object, where, to what; and what is said of it."""

    what: str
    object: str
    path: str
    to: Any = GONE
    said: str = ""
    of: str = "own+"


MUTATIONS = [
    Mutation(**each)
    for each in yaml.safe_load(Path(__file__).with_name("mutations.yaml").read_text())
]


def at(place: Any, step: str) -> Any:
    """Return where in a mapping or a list a step leads: by index there, or by name."""
    if not isinstance(place, list) or step.isdecimal():
        return int(step) if isinstance(place, list) else step
    [found] = [number for number, each in enumerate(place) if each.get("name") == step]
    return found


def mutated(each: Mutation) -> list[Manifest]:
    """Return a set with one object's field changed."""
    objects = copy.deepcopy(EVERYTHING[each.of])
    [found] = [
        one
        for one in objects
        if f"{one['kind']}/{one['metadata']['name']}" == each.object
    ]
    steps = [step.replace("~", "/") for step in each.path.split("/")]
    place: Any = found
    for step in steps[:-1]:
        place = place[at(place, step)]
    last = at(place, steps[-1])
    if each.to is GONE:
        del place[last]
    elif isinstance(place, list) and last == len(place):
        place.append(each.to)
    else:
        place[last] = each.to
    return objects


@pytest.mark.parametrize("each", MUTATIONS, ids=lambda each: each.what)
def test_a_mutation_is_seen(each: Mutation) -> None:
    """One fault in an otherwise good set is told, by what it is."""
    found = manifests.lint(mutated(each), manifests.flags_of(each.of))
    assert any(re.search(each.said, fault) for fault in found), found


@pytest.mark.parametrize(
    ("kind", "name"),
    sorted({(kind, name) for kind, _, name in map(identity, EVERYTHING["own+oidc"])}),
)
def test_an_object_that_is_missing_is_missed(kind: str, name: str) -> None:
    """Whatever refers to it, or nothing: each is there for something."""
    left = [
        each
        for each in EVERYTHING["own+oidc"]
        if (each["kind"], each["metadata"]["name"]) != (kind, name)
    ]
    assert manifests.lint(left, manifests.flags_of("own+oidc"))


@pytest.mark.parametrize("name", ["pooled+", "trial", "pooled, in a shared bucket"])
def test_what_the_pool_lacks_is_missed(name: str) -> None:
    """A Trigger, a sweeper or a PingSource that is not there is nobody's fault."""
    objects = EVERYTHING[name]
    for each in objects:
        if each["kind"] in {"Trigger", "PingSource", "CronJob", "Service", "Broker"}:
            left = [other for other in objects if other is not each]
            which = each["metadata"]["name"]  # these two kinds not every tenant has
            loose = "prune" in which or ("upload" in which and name != "trial")
            assert bool(manifests.lint(left)) != loose, identity(each)


def test_the_linter_knows_the_events_that_there_are() -> None:
    """No Trigger is for what nobody sends, and each type has its way."""
    assert set().union(*wiring.WAYS.values()) == manifests.TYPES


def test_an_object_twice() -> None:
    """Whichever is applied last would win."""
    objects = EVERYTHING["own+"]
    assert "twice" in str(manifests.lint([*objects, objects[-1]]))


def test_a_worker_without_the_time_that_a_job_may_take() -> None:
    """Whatever the three say together: a job may take 300 s after a cold start."""
    objects = copy.deepcopy(EVERYTHING["own+"])
    [worker] = [each for each in objects if each["metadata"]["name"] == "worker"][1:]
    spec = worker["spec"]["template"]["spec"]
    spec |= {"timeoutSeconds": 300, "responseStartTimeoutSeconds": 300}
    args = spec["containers"][0]["args"]
    args[args.index("--graceful-timeout") + 1] = "265"
    assert "its work may take 360" in str(manifests.lint(objects))


def test_a_second_quota() -> None:
    """Of two the narrower holds, and only one is counted with."""
    objects = copy.deepcopy(EVERYTHING["own+"])
    [quota] = [each for each in objects if each["kind"] == "ResourceQuota"]
    second = copy.deepcopy(quota)
    second["metadata"]["name"] = "second"
    assert "two ResourceQuotas" in str(manifests.lint([*objects, second]))


@pytest.mark.parametrize(
    "each",
    [
        {"kind": "Service"},
        {"kind": "Service", "metadata": None},
        {"kind": "Service", "metadata": {"name": "a", "namespace": "guise-a"}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "guise-a"}},
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": "guise-a", "namespace": "guise-a"},
        },
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "a", "namespace": "guise-a"},
            "spec": {},
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "a", "namespace": "guise-a"},
            "data": [],
        },
    ],
)
def test_what_is_hardly_an_object(each: Manifest) -> None:
    """A fault is told, and never raised."""
    assert manifests.lint([each])


CORE = [
    Mutation("a field unknown", "NetworkPolicy/nothing", "spec/podSelectors", {}),
    Mutation("a type mistaken", "ResourceQuota/tenant", "spec/hard", "none"),
    Mutation("a field missing", "Job/audit-migrate-0002", "spec/template", of="trial"),
    Mutation("a kind unknown", "ServiceAccount/worker", "kind", "Account"),
]
KNATIVE = [
    Mutation("a field unknown", "Service/worker", f"{POD}/timeoutSecond", 600),
    Mutation("a type mistaken", "Service/worker", f"{POD}/containerConcurrency", "1"),
    Mutation("a type mistaken", "Trigger/usage-to-billing", "spec/broker", 1),
    Mutation("a field missing", "Service/worker", f"{POD}/containers/0/env/0/name"),
    Mutation("a kind unknown", "Broker/default", "kind", "Brokers"),
]


@pytest.mark.parametrize(
    "each", [*CORE, *KNATIVE], ids=lambda e: f"{e.what} {e.object}"
)
def test_the_schemas_see_it_too(each: Mutation) -> None:
    """Strict: what the API server would drop without a word is a fault."""
    if each in KNATIVE and not schemas.CRDS.is_dir():
        pytest.skip(f"the CRDs are not beside the checkout: no {schemas.CRDS}")
    assert any(schemas.faults(one) for one in mutated(each))
