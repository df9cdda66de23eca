"""Admission by a spec: what the operator said holds, and the tenant's is stricter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.keys import MemoryKeys
from functions.problems import (
    ConsentMissing,
    Forbidden,
    NoContentGate,
    TenantSuspended,
    UnknownTenant,
)
from functions.roster import Consent, Gate, Policy, Spec
from functions.settings import Limits
from functions.storage.memory import MemoryStore
from functions.swap import gate
from functions.swap.job import SwapJob
from functions.swap.policy import admit, gate_policy
from functions.tenant import GATE, Key, Tenant

if TYPE_CHECKING:
    from functions.roster.spec import State

ACME: Final = Tenant("acme")
SWAP: Final[dict[str, Any]] = {
    "operation": "swap",
    "source": "uploads/a.jpg",
    "target": "uploads/b.jpg",
    "consent": {"basis": "contract"},
}
DETECT: Final[dict[str, Any]] = {"operation": "detect", "target": "uploads/b.jpg"}


def admitted(
    request: dict[str, Any], spec: Spec, own: dict[str, float] | None = None
) -> dict[str, Any]:
    """Return the verdict on a request of a tenant with `own` limits in its store."""
    store = MemoryStore()
    store.put(Key("consents/1.json"), b'{"state": "given"}')
    if own is not None:
        store.put(GATE, msgspec.json.encode({"max": own}))
    job = SwapJob.parse(
        msgspec.json.encode(request), job="j1", tenant=ACME, actor="t", limits=Limits()
    )
    return admit(job, store, MemoryKeys(), spec)


def spec(**policy: Any) -> Spec:
    """Return a tenant's spec with a policy."""
    return Spec(id="acme", policy=Policy(**policy))


def test_what_the_spec_permits_is_admitted() -> None:
    """A spec that limits nothing changes no verdict."""
    verdict = admitted(SWAP, Spec(id="acme"))
    assert verdict == {
        "verdict": "admitted",
        "consent": {"basis": "contract"},
        "gate": "default",
    }


@pytest.mark.parametrize(
    ("state", "refusal"),
    [
        ("suspended", TenantSuspended),
        ("deleted", UnknownTenant),
        ("shredded", UnknownTenant),
    ],
)
def test_nothing_new_is_admitted_of_who_is_not_active(
    state: State, refusal: type[Forbidden]
) -> None:
    """Whatever it is; and it is said which of the two it is."""
    with pytest.raises(refusal):
        admitted(DETECT, Spec(id="acme", state=state))


def test_an_operation_that_the_operator_does_not_let_a_tenant_do_is_refused() -> None:
    """And the others go on."""
    limited = spec(operations=("detect", "anonymize"))
    with pytest.raises(Forbidden, match="may not swap"):
        admitted(SWAP, limited)
    assert admitted(DETECT, limited)["verdict"] == "admitted"


def test_only_the_bases_of_the_spec_are_grounds() -> None:
    """A tenant whose contract names consent alone swaps on no other ground."""
    limited = spec(consent=Consent(bases=("consent",)))
    with pytest.raises(ConsentMissing, match="'contract' is none of this tenant's"):
        admitted(SWAP, limited)
    consent = {"basis": "consent", "record": "consents/1.json"}
    assert admitted(SWAP | {"consent": consent}, limited)["consent"]["state"] == "given"
    assert admitted(DETECT, limited)["consent"] is None


def test_where_the_spec_asks_for_records_each_ground_names_one() -> None:
    """Whatever the ground is."""
    limited = spec(consent=Consent(record=True))
    with pytest.raises(ConsentMissing, match="names its record"):
        admitted(SWAP, limited)
    named = SWAP["consent"] | {"record": "consents/1.json"}
    assert admitted(SWAP | {"consent": named}, limited)["consent"]["id"]


@pytest.mark.parametrize(
    ("operators", "own", "said"),
    [
        ("tenant", {"nsfw": 1.0}, {"max": {"nsfw": 1.0}}),
        ("tenant", None, "default"),
        ("default", None, "default"),
        (Gate(max={"nsfw": 0.3}), None, {"max": {"nsfw": 0.3}}),
        (Gate(max={"nsfw": 0.3}), {"NSFW": 0.9}, {"max": {"nsfw": 0.3}}),
        (Gate(max={"nsfw": 0.3}), {"NSFW": 0.1}, {"max": {"nsfw": 0.1}}),
        (
            Gate(max={"nsfw": 0.3}),
            {"gore": 0.1},
            {"max": {"gore": 0.1, "nsfw": 0.3}},
        ),
    ],
)
def test_the_tenants_own_gate_is_only_ever_stricter(
    operators: Any, own: dict[str, float] | None, said: Any
) -> None:
    """The lower limit of the two counts, and no label of the operator's is dropped."""
    assert admitted(SWAP, spec(gate=operators), own)["gate"] == said


def test_a_tenant_cannot_write_itself_out_of_the_defaults() -> None:
    """A file of its own that leaves a label out, or raises it, opens nothing."""
    verdict = admitted(SWAP, spec(gate="default"), {"nsfw": 1.0, "sfw": 1.0})
    policy = gate_policy(verdict)
    maxima = gate.limits("judge", ("nsfw", "sfw", "porn"), policy)
    assert maxima == {"nsfw": 0.5, "sfw": 1.0, "porn": 0.5}
    with pytest.raises(NoContentGate, match="does not judge sfw"):
        gate.limits("judge", ("nsfw",), policy)


LABELS = st.sampled_from(["nsfw", "NSFW", "porn", "gore", "sfw", "high"])
LIMITS = st.dictionaries(LABELS, st.floats(0, 1), min_size=1, max_size=4).filter(
    lambda limits: len({label.casefold() for label in limits}) == len(limits)
)


@given(st.none() | LIMITS, LIMITS, LIMITS, st.sets(LABELS))
def test_no_policy_of_a_tenant_lets_pass_what_the_operators_would_not(
    ceiling: dict[str, float] | None,
    own: dict[str, float],
    also: dict[str, float],
    labels: set[str],
) -> None:
    """For every classifier that the operator's limits could be applied with."""
    operators = None if ceiling is None else gate.Policy(max=ceiling)
    policy = gate.under(ceiling, gate.Policy(max=own, also=also))
    try:
        held = gate.limits("judge", labels, operators)
        found = gate.limits("judge", labels, policy)
    except NoContentGate:
        return  # then nothing is swapped at all
    assert all(found[label] <= limit for label, limit in held.items())
