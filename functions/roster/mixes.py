"""Mixes of a spec that cannot be, each with its reason.  Pure.

What is merely weak is allowed: a tenant with nodes of its own and a shared pack is at
level 0 of one and 2 of the other, and `Spec.level` says so.  Refused is what nothing
could keep: a promise that the pooled worker breaks by being pooled, a limit on what
the tenant has not, and two fields that say different things.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.roster.spec import Spec

# The highest levels, by what they are.
_CUSTOMERS_KEY: Final = 2
_OWN_PACK: Final = 2
_OWN_NODES: Final = 2


def faults(spec: Spec) -> Iterator[str]:
    """Yield why `spec` cannot be, nothing where it can."""
    for rule in (_pooled, _models, _key, _quotas, _retention, _policy):
        yield from rule(spec)


def _pooled(spec: Spec) -> Iterator[str]:
    """Yield what the pooled worker, which is everybody's, cannot do for one."""
    if spec.isolation.compute > 0:
        return
    pooled = "the pooled worker (isolation.compute 0)"
    if spec.isolation.model > 0:
        yield (
            f"isolation.model {spec.isolation.model}: {pooled} has one pack loaded, "
            "for everybody; models of one's own need compute 1"
        )
    if spec.models.channel != "stable":
        yield f"models.channel: {pooled} has the stable pack, for everybody"
    if spec.isolation.data == _CUSTOMERS_KEY:
        yield (
            f"isolation.data 2: {pooled} would use the customer's key with the "
            "identity that serves everybody; it needs compute 1"
        )
    quotas = spec.quotas
    owned = {
        "gpus": quotas.gpus,
        "gpu_memory_gib": quotas.gpu_memory_gib,
        "cpus": quotas.cpus,
    }
    for name, value in owned.items():
        if value:
            yield (
                f"quotas.{name}: {pooled} is shared by tier and concurrency; "
                "there is no device of the tenant's to give"
            )


def _models(spec: Spec) -> Iterator[str]:
    level, models = spec.isolation.model, spec.models
    if level == 0 and models.pin:
        yield "models.pin: a version of one's own is isolation.model 1"
    if level > 0 and not models.pin:
        yield f"isolation.model {level}: models.pin says which version"
    if models.pin and models.channel != "stable":
        yield "models.channel: a pinned version follows no channel"
    if level == _OWN_PACK and not models.pack:
        yield "isolation.model 2: models.pack says which pack is the tenant's own"
    if level < _OWN_PACK and models.pack:
        yield "models.pack: a pack of one's own is isolation.model 2"


def _key(spec: Spec) -> Iterator[str]:
    if spec.isolation.data == _CUSTOMERS_KEY and not spec.key:
        yield "isolation.data 2: key says which key of the customer's KMS"
    if spec.isolation.data < _CUSTOMERS_KEY and spec.key:
        yield "key: a key in the customer's KMS is isolation.data 2"


def _quotas(spec: Spec) -> Iterator[str]:
    quotas = spec.quotas
    if quotas.gpu_memory_gib and not quotas.gpus and spec.isolation.compute > 0:
        yield "quotas.gpu_memory_gib: there is no GPU whose memory it would be"
    if spec.isolation.compute == _OWN_NODES and not (quotas.gpus or quotas.cpus):
        yield "isolation.compute 2: quotas.gpus or quotas.cpus says how large the nodes"
    if quotas.burst and quotas.requests_per_second is None:
        yield "quotas.burst: there is no requests_per_second to go beyond"
    budget = quotas.budget
    if budget and list(budget.alerts) != sorted(set(budget.alerts)):
        yield "quotas.budget.alerts: they rise, and none comes twice"


def _retention(spec: Spec) -> Iterator[str]:
    kept = spec.retention
    if kept.log_days is None:
        return
    for name in ("uploads_days", "results_days"):
        days = getattr(kept, name)
        if days is not None and days > kept.log_days:
            yield f"retention.{name}: longer than the log that accounts for them"


def _policy(spec: Spec) -> Iterator[str]:
    policy = spec.policy
    if len(set(policy.operations)) != len(policy.operations):
        yield "policy.operations: one comes twice"
    bases = policy.consent.bases
    if len(set(bases)) != len(bases):
        yield "policy.consent.bases: one comes twice"
    if not isinstance(policy.gate, str):
        labels = [label.casefold() for label in policy.gate.max]
        if len(set(labels)) != len(labels):
            yield "policy.gate.max: two labels differ in case only"
