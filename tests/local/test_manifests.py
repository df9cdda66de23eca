"""The manifests: valid on a cluster, and readable here."""

from __future__ import annotations

import copy
import itertools
import re
from typing import TYPE_CHECKING, Any

import pytest

import knative
from functions import events
from functions.billing import storing
from functions.local import manifests
from functions.local.manifests import Delivery, ManifestError, Reference, Trigger
from functions.settings import Limits, variables
from tests.local import crds

if TYPE_CHECKING:
    from pathlib import Path

VALUES = {"tenant": "acme", "prefix": ""}
SYSTEM = manifests.documents(knative.folder() / manifests.SYSTEM, {})
TENANT = manifests.documents(knative.folder() / manifests.TENANT, VALUES)
EVERYTHING = SYSTEM + TENANT
READ = manifests.parse(EVERYTHING)
SCALING = {
    "autoscaling.knative.dev/" + name
    for name in ("min-scale", "max-scale", "target-utilization-percentage")
}


def named(each: dict[str, Any]) -> str:
    return f"{each['kind']}-{each['metadata']['name']}"


def trigger(name: str) -> Trigger:
    [found] = [each for each in READ.triggers if each.name == name]
    return found


SERVICES = [each for each in EVERYTHING if each["kind"] == "Service"]
every_object = pytest.mark.parametrize("document", EVERYTHING, ids=named)
every_service = pytest.mark.parametrize("document", SERVICES, ids=named)


def test_there_are_four_services() -> None:
    """Two for all tenants, two for each."""
    assert {(each.namespace, each.name) for each in READ.services} == {
        ("guise-system", "audit"),
        ("guise-system", "billing"),
        ("guise-acme", "door"),
        ("guise-acme", "worker"),
    }


@every_object
def test_an_object_fits_its_schema(document: dict[str, Any]) -> None:
    """The API server takes every field of it."""
    if not crds.FOLDER.is_dir():
        pytest.skip(f"the CRDs are not beside the checkout: no {crds.FOLDER}")
    rule = crds.schema(document["apiVersion"], document["kind"])
    assert list(crds.faults(document, rule)) == []


def test_the_schemas_find_faults() -> None:
    """A misspelt field, a wrong type and a missing field are seen."""
    if not crds.FOLDER.is_dir():
        pytest.skip(f"the CRDs are not beside the checkout: no {crds.FOLDER}")
    document = copy.deepcopy(SERVICES[0])
    document["spec"]["template"]["spec"]["timeoutSecond"] = 1
    document["spec"]["template"]["spec"]["containerConcurrency"] = "8"
    document["spec"]["template"]["spec"]["containers"][0]["env"] = [{"value": "a"}]
    rule = crds.schema(document["apiVersion"], document["kind"])
    found = " ".join(crds.faults(document, rule))
    assert "timeoutSecond: no such field" in found
    assert "containerConcurrency: '8' is no integer" in found
    assert "name is missing" in found


@every_object
def test_an_object_is_where_its_tenant_is(document: dict[str, Any]) -> None:
    """System objects in one namespace, a tenant's in the tenant's own."""
    home = "guise-system" if document in SYSTEM else manifests.namespace_of("acme")
    assert document["metadata"]["namespace"] == home


@every_service
def test_every_variable_is_a_setting(document: dict[str, Any]) -> None:
    """No manifest sets what no function reads, or what Knative reserves."""
    [container] = document["spec"]["template"]["spec"]["containers"]
    names = {entry["name"] for entry in container["env"]}
    assert names <= variables()
    assert len(names) == len(container["env"])


@every_service
def test_gunicorn_is_started_as_it_must_be(document: dict[str, Any]) -> None:
    """One worker, more threads than requests, and a grace that fits the drain."""
    spec = document["spec"]["template"]["spec"]
    [container] = spec["containers"]
    args = container["args"]
    option = dict(itertools.pairwise(args))
    assert container["command"] == ["gunicorn"]
    assert (option["-k"], option["--workers"], option["--timeout"]) == (
        "functions.server.Patient",
        "1",
        "0",
    )
    assert int(option["--threads"]) > spec["containerConcurrency"] > 0
    assert int(option["--graceful-timeout"]) == spec["timeoutSeconds"] - 35
    assert option["--worker-tmp-dir"] in {
        mount["mountPath"] for mount in container["volumeMounts"]
    }
    assert re.fullmatch(r"functions(\.\w+)+:create_app\(\)", args[-1])


@every_service
def test_what_the_schema_cannot_see(document: dict[str, Any]) -> None:
    """Annotations that exist and lie where they count; no reserved port."""
    template = document["spec"]["template"]
    assert "annotations" not in document["metadata"]
    assert set(template["metadata"]["annotations"]) <= SCALING
    assert template["metadata"]["annotations"][SCALE_MIN] == "0"
    assert template["spec"]["timeoutSeconds"] <= 600
    [container] = template["spec"]["containers"]
    assert container["ports"] == [{"containerPort": 8080}]


SCALE_MIN = "autoscaling.knative.dev/min-scale"


@every_service
def test_a_container_may_do_nothing_but_its_work(document: dict[str, Any]) -> None:
    """The restricted Pod Security profile, a read-only root, no cluster token."""
    spec = document["spec"]["template"]["spec"]
    [container] = spec["containers"]
    context = container["securityContext"]
    assert spec["automountServiceAccountToken"] is False
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["runAsNonRoot"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in spec["volumes"]}


def test_the_worker_needs_no_second_pod_for_a_steady_stream() -> None:
    """At the default target of 70 % one steady request asks for two."""
    [worker] = [each for each in SERVICES if each["metadata"]["name"] == "worker"]
    notes = worker["spec"]["template"]["metadata"]["annotations"]
    assert notes["autoscaling.knative.dev/target-utilization-percentage"] == "100"


def test_only_the_door_is_public() -> None:
    """Everything else is reachable inside the cluster only."""
    assert [each.name for each in READ.services if each.public] == ["door"]


def test_the_door_and_the_worker_find_the_broker() -> None:
    """Their K_SINK is its address from the start, so that none waits for a binding."""
    sinks = {
        each.name: each.environ["K_SINK"]
        for each in READ.services
        if "K_SINK" in each.environ
    }
    there = (
        "http://broker-ingress.knative-eventing.svc.cluster.local/guise-acme/default"
    )
    assert sinks == {"door": there, "worker": there}


AUDIT = Reference("Service", "guise-system", "audit", "/v1/tenants/acme/events")
BILLING = Reference("Service", "guise-system", "billing", "/v1/tenants/acme/events")
WORKER = Reference("Service", "guise-acme", "worker", "/events")
UPLOAD = {"type": events.OBJECT_FINALIZED, "subject": "objects/requests/a.json"}


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (UPLOAD, {WORKER, AUDIT}),
        (UPLOAD | {"subject": "objects/results/a/job.json"}, set()),
        *(
            ({"type": kind, "subject": "requests/a.json"}, {WORKER, AUDIT})
            for kind in sorted(events.S3_OBJECTS)
        ),
        *(
            ({"type": kind, "subject": "results/a/job.json"}, set())
            for kind in sorted(events.S3_OBJECTS)
        ),
        # Knative's own source for S3 names no object: nobody can do anything with it.
        ({"type": "dev.knative.eventing.aws-s3", "subject": "aws-s3-source"}, set()),
        *(({"type": kind}, {WORKER, AUDIT}) for kind in sorted(events.NOTICES)),
        ({"type": events.SWAP_REQUESTED}, {WORKER, AUDIT}),
        ({"type": events.SWAP_STARTED}, set()),
        ({"type": events.SWAP_COMPLETED}, {AUDIT}),
        ({"type": events.SWAP_FAILED}, {AUDIT}),
        ({"type": events.SWAP_REFUSED}, {AUDIT}),
        ({"type": events.SWAP_ERASED}, {AUDIT}),
        ({"type": events.USAGE_RECORDED}, {BILLING}),
        ({"type": "com.example.other"}, set()),
    ],
)
def test_an_event_goes_where_it_should(
    attributes: dict[str, str],
    expected: set[Reference],
) -> None:
    """Requests to the worker and, as a wake-up, to audit; endings on record."""
    found = [each.subscriber for each in READ.triggers if each.passes(attributes)]
    assert set(found) == expected
    assert len(found) == len(expected)


def test_every_trigger_tries_again_and_keeps_what_it_cannot_deliver() -> None:
    """Retries with backoff, a timeout, and a dead letter sink of the tenant's own."""
    letters = Reference("Broker", "guise-acme", "dead-letters")
    assert {each.delivery.dead_letters for each in READ.triggers} == {letters}
    assert ("guise-acme", "dead-letters") in {
        (each.namespace, each.name) for each in READ.brokers
    }
    for each in READ.triggers:
        assert each.delivery.retry >= 2
        assert each.delivery.delay_seconds > 0


def test_a_delivery_to_the_worker_outlasts_the_work() -> None:
    """A delivery given up too early would have the job run again beside itself."""
    [worker] = [each for each in READ.services if each.name == "worker"]
    seconds = trigger("upload-to-worker").delivery.timeout_seconds
    assert seconds >= worker.timeout_seconds


CROWD_JOBS = 2_000
WARM_JOB_SECONDS = 1.0
"""A second of one device for each, which is slow: `make crowd` takes a twentieth."""


@pytest.mark.parametrize("name", ["upload-to-worker", "requested-to-worker"])
def test_a_worker_is_asked_for_longer_than_a_claim_can_stand(name: str) -> None:
    """503 is no end: neither a dead holder's claim nor a crowd makes a dead letter."""
    limits, tries = Limits(), trigger(name).delivery
    pauses = [tries.pause_seconds(n) for n in range(tries.retry)]
    assert sum(pauses) > 10 * limits.attempts_max * limits.claim_seconds
    assert sum(pauses) > limits.job_seconds_max + limits.claim_seconds
    assert sum(pauses) > CROWD_JOBS * WARM_JOB_SECONDS
    # And no single pause keeps an idle device waiting for longer than half an hour.
    assert max(pauses) <= 1_800


def test_a_tenant_s_stored_bytes_are_asked_for_once_a_day() -> None:
    """The PingSource's event passes the Trigger to billing, and no other's does."""
    [ping] = READ.pings
    assert (ping.namespace, ping.broker, ping.minutes) == ("guise-acme", "default", 17)
    asked = trigger("storage-to-billing")
    assert asked.passes({"type": events.PING, "source": ping.source})
    assert not asked.passes({"type": events.PING, "source": f"{ping.source}-2"})
    assert asked.subscriber.uri == "/v1/tenants/acme/ticks"
    [billing] = [each for each in READ.services if each.name == "billing"]
    assert asked.delivery.timeout_seconds >= billing.timeout_seconds


def test_billing_gives_a_listing_up_before_its_request_ends() -> None:
    """Who asks hears 503, and asks again."""
    [billing] = [each for each in READ.services if each.name == "billing"]
    assert billing.timeout_seconds > storing.SECONDS_MAX


def delivery(**changes: Any) -> Delivery:
    fields = {
        "retry": 3,
        "policy": "exponential",
        "delay_seconds": 0.2,
        "timeout_seconds": 1.0,
        "dead_letters": Reference("Broker", "n", "dead"),
        **changes,
    }
    return Delivery(**fields)


def test_pauses_double_or_grow_evenly() -> None:
    """As knative/eventing computes them, and never longer than an hour."""
    assert [delivery().pause_seconds(n) for n in range(3)] == [0.2, 0.4, 0.8]
    linear = delivery(policy="linear")
    assert [linear.pause_seconds(n) for n in range(3)] == pytest.approx([0, 0.2, 0.4])
    assert delivery().pause_seconds(10_000) == 3600


@pytest.mark.parametrize(
    ("text", "expected"),
    [("PT0.2S", 0.2), ("PT10M", 600), ("PT1H30M", 5400), ("P1DT1S", 86_401)],
)
def test_durations(text: str, expected: float) -> None:
    """ISO 8601, days to seconds."""
    assert manifests.seconds(text) == expected


@pytest.mark.parametrize("text", ["", "P", "PT", "10s", "PT1.5H", "P1M", "PT-1S"])
def test_what_is_no_duration(text: str) -> None:
    """Months have no length, and Go's durations are another language."""
    with pytest.raises(ValueError, match="not a duration"):
        manifests.seconds(text)


def broken(name: str, *path: str | int, value: Any) -> dict[str, Any]:
    """Return the object `name` with one field changed."""
    [document] = [copy.deepcopy(e) for e in EVERYTHING if named(e) == name]
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return document


TRIGGER = "Trigger-usage-to-billing"
PING = "PingSource-storage"


@pytest.mark.parametrize(
    "document",
    [
        {"kind": "ConfigMap", "metadata": {"name": "a"}},
        broken("Service-audit", "spec", "template", "spec", "containers", value=[]),
        broken(
            *("Service-audit", "spec", "template", "spec", "containers", 0, "command"),
            value=["python"],
        ),
        broken(TRIGGER, "spec", "filter", value={"attributes": {"type": "a"}}),
        broken(TRIGGER, "spec", "filters", value=[{"cesql": "true"}]),
        broken(TRIGGER, "spec", "delivery", value={}),
        broken(TRIGGER, "spec", "delivery", "backoffPolicy", value="random"),
        broken(TRIGGER, "spec", "delivery", "timeout", value="1 minute"),
        broken(TRIGGER, "spec", "subscriber", value={"uri": "http://example.com"}),
        broken(PING, "spec", "schedule", value="* * * * *"),
        broken(PING, "spec", "schedule", value="17 24 * * *"),
        broken(PING, "spec", "timezone", value="Europe/Berlin"),
        broken(PING, "spec", "sink", "ref", "kind", value="Service"),
        broken(PING, "spec", "sink", "ref", "namespace", value="elsewhere"),
    ],
    ids=named,
)
def test_what_cannot_be_run_here_is_refused(document: dict[str, Any]) -> None:
    """The message names the object, so that its author finds it."""
    with pytest.raises(ManifestError, match=document["kind"]):
        manifests.parse([document])


@pytest.mark.parametrize("text", ["a: [", "a: ${nobody}", "a: $"])
def test_a_file_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    """Neither bad YAML nor a value that nobody fills in passes; the file is named."""
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ManifestError, match=r"bad\.yaml"):
        manifests.read(tmp_path, VALUES)


def test_what_a_cluster_may_leave_unset_is_unset_here() -> None:
    """The rate cards are the operator's own, or those that come along."""
    [billing] = [each for each in READ.services if each.name == "billing"]
    assert "GUISE_RATES" in str(SYSTEM)
    assert "GUISE_RATES" not in billing.environ
    assert "GUISE_KEYS" in billing.environ


def test_a_service_knows_its_app() -> None:
    """The application is the last argument."""
    [door] = [each for each in READ.services if each.name == "door"]
    assert door.app == "functions.swap.door:create_app()"
