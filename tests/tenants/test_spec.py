"""The spec of a tenant: one strict door in, possible mixes alone, one level out."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from functions.events import OPERATOR
from functions.problems import TenantSuspended, UnknownTenant
from functions.roster import (
    Budget,
    Gate,
    Impossible,
    InvalidSpec,
    Isolation,
    Models,
    Policy,
    Quotas,
    Retention,
    Spec,
    parse,
    plain,
    write,
)
from functions.tenant import Tenant

if TYPE_CHECKING:
    from functions.roster.spec import State

ACME = Tenant("acme")
OWN = Isolation(data=1, model=1, compute=1)
KEY = "gcpkms://projects/acme/locations/eu/keyRings/guise/cryptoKeys/faces"


def read(**fields: object) -> Spec:
    """Return the spec that a file with `fields` makes."""
    return parse(yaml.safe_dump({"id": "acme", **fields}).encode(), tenant=ACME)


def faults(text: str) -> tuple[str, ...]:
    """Return why `text` is no spec."""
    with pytest.raises(InvalidSpec) as refused:
        parse(text.encode(), tenant=ACME)
    return refused.value.faults


def found(text: bytes) -> tuple[str, ...]:
    """Return why `text` is no spec, and nothing where it is one."""
    try:
        parse(text, tenant=ACME)
    except InvalidSpec as refused:
        return refused.faults
    return ()


# --- reading -----------------------------------------------------------------


def test_an_id_is_a_spec() -> None:
    """What is not said is the installation's own to say, or the weakest there is."""
    assert parse(b"id: acme\n", tenant=ACME) == Spec(id="acme")


def test_every_fault_is_named_at_once() -> None:
    """Who mends a file reads all that is wrong with it, by the path of each field."""
    text = """
id: other
tier: gold
colour: red
quotas: {gpus: 1.5, budget: {limit: 3, curency: USD}}
retention: 3
policy: {operations: [swap, paint], gate: {max: {nsfw: 2}}}
"""
    assert faults(text) == (
        "colour: no such field",
        "tier: invalid enum value 'gold' (it is 'gold')",
        "quotas.gpus: expected `int`, got `float` (it is 1.5)",
        "quotas.budget.curency: no such field",
        "quotas.budget.limit: expected `str`, got `int` (it is 3)",
        "quotas.budget.currency: it must be said",
        "retention: is not a mapping of fields",
        "policy.operations[1]: invalid enum value 'paint'",
        "policy.gate.max[...]: expected `float` <= 1.0",
        "id: it is 'other' in the file of 'acme'",
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("id: acme\nid: acme", "line 2: 'id' comes twice"),
        ("id: &a acme", "line 1: anchors and aliases are not read here"),
        ("id: acme\nname: *a", "line 2: anchors and aliases are not read here"),
        ("id: !!python/name:os.system x", "line 1: tags are not read here"),
        ("{" * 5_000, "line 1: nested over 8 deep"),
        ("[" * 50_000, "line 1: nested over 8 deep"),
        ("? [a]\n: 2", "line 1: a field's name is text"),
        ("1: 2", "line 1: a field's name is text"),
        ("id: acme\n---\nid: acme", "line 2: but found another document"),
        ("id: acme\nname: 'a\0'", "no YAML: ReaderError"),
        ("id: [acme", "line 1: expected ',' or ']', but got '<stream end>'"),
        ("- acme", "a spec: is not a mapping of fields"),
        ("", "a spec: is not a mapping of fields"),
        ("#" * 70_000, "a spec has at most 65536 bytes"),
        ("tier: trial", "id: it must be said"),
        ("id: acme\n<<: {tier: trial}", "<<: no such field"),
        ('id: acme\n"\\e[31m": 1', "'\\x1b[31m': no such field"),
    ],
)
def test_yaml_that_is_too_clever_is_refused(text: str, fault: str) -> None:
    """Nothing unfolds, builds an object, wins unseen, or reaches a terminal."""
    assert faults(text) == (fault,)


@pytest.mark.parametrize("text", ["\\n2026 forged", "\\e[2J", "\\u202e", "\\u2028"])
def test_attack_a_fault_that_writes_lines_of_its_own(text: str) -> None:
    """Whatever stands in a file, what is said of it is one plain line."""
    (fault,) = faults(f'id: acme\ntier: "gold{text}"')
    assert fault.isprintable()


def test_bytes_that_are_no_text_are_no_spec() -> None:
    """What is not UTF-8 is refused as what it is, not as a crash."""
    with pytest.raises(InvalidSpec, match="no YAML: UnicodeDecodeError"):
        parse(b"\xff\xfe", tenant=ACME)


@pytest.mark.parametrize("text", ["no", "on", "1:30", "010", "0x10", "2026-11-21"])
def test_what_yaml_would_guess_is_read_as_the_text_it_is(text: str) -> None:
    """`no` is a name and not false, as Norway is no region called false."""
    assert parse(f"id: acme\nname: {text}".encode(), tenant=ACME).name == text


SPECS = st.builds(
    Spec,
    id=st.just("acme"),
    name=st.text(
        st.characters(exclude_categories=["Cs", "Cc"]),
        max_size=120,
    ),
    tier=st.sampled_from(["trial", "standard", "premium"]),
    region=st.sampled_from(["", "no", "eu-west-1", "0", "1e3"]),
    state=st.sampled_from(["active", "suspended", "deleted", "shredded"]),
    isolation=st.builds(Isolation, data=st.sampled_from([0, 1])),
    quotas=st.builds(
        Quotas,
        concurrency=st.none() | st.integers(1, 1_000),
        requests_per_second=st.floats(0.01, 10_000).map(lambda rate: round(rate, 2)),
        storage_gib=st.none() | st.integers(1, 1_000_000),
        budget=st.none()
        | st.builds(
            Budget,
            limit=st.decimals(0, 10**9, places=2).map(lambda amount: f"{amount:f}"),
            currency=st.sampled_from(["USD", "NOK"]),
            hard=st.booleans(),
        ),
    ),
    policy=st.builds(
        Policy,
        gate=st.sampled_from(["default", "tenant"])
        | st.builds(
            Gate,
            max=st.dictionaries(
                st.sampled_from(["nsfw", "no", "1"]), st.sampled_from([0.0, 0.25, 1.0])
            ).filter(bool),
        ),
    ),
)


@given(SPECS)
def test_what_is_written_is_read_back(spec: Spec) -> None:
    """The file that a command writes says exactly what the command was told."""
    assert parse(write(spec), tenant=ACME) == spec


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_whatever_is_in_the_file_is_a_spec_or_refused(text: bytes) -> None:
    """No text makes the reader fail in another way than by saying why."""
    assert all(found(text))


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.sampled_from(sorted(plain(Spec(id="acme")))), VALUES)
def test_a_value_of_another_kind_is_refused_by_its_field(
    name: str, value: Any
) -> None:  # whatever
    """Each fault begins with the field that it is in."""
    text = yaml.safe_dump({"id": "acme", name: value}).encode()
    assert all(each.startswith((name, "no YAML", "line ")) for each in found(text))


# --- mixes -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"isolation": Isolation(model=1), "models": Models(pin="1.0.0")}, "model 1"),
        ({"models": Models(channel="beta")}, "models.channel"),
        ({"isolation": Isolation(data=2), "key": KEY}, "isolation.data 2"),
        ({"quotas": Quotas(gpus=1)}, "quotas.gpus"),
        ({"quotas": Quotas(gpu_memory_gib=20)}, "quotas.gpu_memory_gib"),
        ({"quotas": Quotas(cpus=4)}, "quotas.cpus"),
        ({"models": Models(pin="1.0.0")}, "models.pin"),
        ({"isolation": OWN}, "isolation.model 1"),
        (
            {"isolation": OWN, "models": Models(pin="1.0.0", channel="beta")},
            "models.channel",
        ),
        (
            {"isolation": Isolation(model=2, compute=1), "models": Models(pin="1.0.0")},
            "isolation.model 2",
        ),
        (
            {"isolation": OWN, "models": Models(pin="1.0.0", pack="acme-faces")},
            "models.pack",
        ),
        ({"isolation": Isolation(data=2, compute=1)}, "isolation.data 2"),
        ({"isolation": Isolation(data=1), "key": KEY}, "key"),
        (
            {"isolation": Isolation(compute=1), "quotas": Quotas(gpu_memory_gib=20)},
            "quotas.gpu_memory_gib",
        ),
        ({"isolation": Isolation(compute=2)}, "isolation.compute 2"),
        ({"quotas": Quotas(burst=5)}, "quotas.burst"),
        (
            {"quotas": Quotas(budget=Budget(limit="1", currency="USD", alerts=(9, 9)))},
            "quotas.budget.alerts",
        ),
        ({"retention": Retention(results_days=200, log_days=190)}, "results_days"),
        ({"retention": Retention(uploads_days=200, log_days=190)}, "uploads_days"),
        ({"policy": Policy(operations=("swap", "swap"))}, "policy.operations"),
        (
            {"policy": Policy(gate=Gate(max={"a": 0.1, "A": 0.9}))},
            "policy.gate.max",
        ),
    ],
)
def test_a_mix_that_nothing_could_keep_is_refused(
    fields: dict[str, Any], where: str
) -> None:
    """One reason, at the field that cannot be; by hand and in a file alike."""
    with pytest.raises(Impossible) as made:
        Spec(id="acme", **fields)
    (fault,) = made.value.faults
    assert where in fault
    with pytest.raises(InvalidSpec) as refused:
        read(**{name: msgspec.to_builtins(value) for name, value in fields.items()})
    assert refused.value.faults == (fault,)


def test_a_consent_basis_comes_once() -> None:
    """A list that says a thing twice was not written by who meant it."""
    (fault,) = faults("id: acme\npolicy: {consent: {bases: [contract, contract]}}")
    assert fault == "policy.consent.bases: one comes twice"


@pytest.mark.parametrize("name", [OPERATOR, "system", "-", "A", "x" * 33, "../acme"])
def test_who_can_be_no_tenant_has_no_spec(name: str) -> None:
    """The operator's log and namespace are no tenant's; an id is one path segment."""
    with pytest.raises(Impossible, match="id: "):
        Spec(id=name)


# --- what it comes to --------------------------------------------------------


@pytest.mark.parametrize(
    ("isolation", "level", "why"),
    [
        (Isolation(), 0, "data, model and compute are all at 0"),
        (Isolation(data=1), 0, "model and compute are at 0, though data 1"),
        (
            Isolation(data=1, compute=2),
            0,
            "model is at 0, though data 1, compute 2",
        ),
        (OWN, 1, "data, model and compute are all at 1"),
    ],
)
def test_the_level_is_that_of_the_weakest_part(
    isolation: Isolation, level: int, why: str
) -> None:
    """Who asks how far a tenant is apart hears one number, and what holds it there."""
    models = Models(pin="1.0.0") if isolation.model else Models()
    spec = Spec(id="acme", isolation=isolation, models=models, quotas=_sized(isolation))
    assert (spec.level, spec.why) == (level, why)


def _sized(isolation: Isolation) -> Quotas:
    return Quotas(gpus=1) if isolation.compute else Quotas()


def test_everything_of_ones_own_is_level_two() -> None:
    """The highest mix there is can be."""
    spec = Spec(
        id="acme",
        isolation=Isolation(data=2, model=2, compute=2),
        key=KEY,
        models=Models(pack="acme-faces", pin="1.0.0"),
        quotas=Quotas(gpus=1, gpu_memory_gib=40),
    )
    assert spec.level == 2  # the highest
    assert parse(write(spec), tenant=ACME) == spec


def test_a_higher_tier_has_more_of_the_device_and_goes_first() -> None:
    """Weights and priorities rise together, tier by tier."""
    tiers = ("trial", "standard", "premium")
    specs = [Spec(id="acme", tier=tier) for tier in tiers]  # type: ignore[arg-type]  # they are
    assert [spec.weight for spec in specs] == [Fraction(1, 2), 1, 4]
    assert [spec.priority for spec in specs] == [0, 1, 2]


@pytest.mark.parametrize(
    ("quotas", "bucket"),
    [
        (Quotas(), None),
        (Quotas(requests_per_second=0.5), (0.5, 1)),
        (Quotas(requests_per_second=2.5), (2.5, 3)),
        (Quotas(requests_per_second=2.5, burst=10), (2.5, 10)),
    ],
)
def test_a_rate_without_a_burst_lets_a_second_of_it_come_at_once(
    quotas: Quotas, bucket: tuple[float, int] | None
) -> None:
    """At least one may come, or none ever would."""
    assert quotas.bucket == bucket


def test_something_new_begins_for_the_active_alone() -> None:
    """Suspended is said so; of who is gone nothing is."""
    Spec(id="acme").admit()
    with pytest.raises(TenantSuspended):
        Spec(id="acme", state="suspended").admit()
    gone: tuple[State, ...] = ("deleted", "shredded")
    for state in gone:
        with pytest.raises(UnknownTenant) as refused:
            Spec(id="acme", state=state).admit()
        assert not refused.value.detail
