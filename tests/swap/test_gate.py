"""The content gate: what passes, what is refused, and what the record says of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import pytest

from functions.keys import MemoryKeys
from functions.problems import ContentRefused, Failed, Forbidden, NoContentGate
from functions.settings import Limits
from functions.storage.memory import MemoryStore
from functions.swap import gate
from functions.swap.gate import Policy
from functions.swap.job import SwapJob
from functions.swap.ledger import Record
from functions.swap.offers import Offers
from functions.swap.policy import admit, gate_policy
from functions.tenant import GATE, RESULTS
from tests.swap.house import ACME, SWAP, WITH_GATE, House, PaperEngine, picture

if TYPE_CHECKING:
    from werkzeug.test import TestResponse

GATE_FILE = r"policy/gate\.json"
UNFIT = picture(1, unfit=255)
COVER = {"operation": "anonymize", "target": "uploads/b.png"}


def ended(house: House, answer: TestResponse) -> Record:
    """Return the record of the job that was answered."""
    assert answer.json is not None
    stored = house.store.get(ACME.record(answer.json["job"])).data
    return msgspec.json.decode(stored, type=Record)


def kind(answer: TestResponse) -> str:
    assert answer.json is not None
    return str(answer.json["type"]).removeprefix("urn:guise:problem:")


def roles(record: Record) -> list[tuple[str, bool]]:
    assert record.gate is not None
    return [(each["role"], each["passed"]) for each in record.gate["pictures"]]


# Decisions


@pytest.mark.parametrize(
    ("score", "over"),
    [(0.0, False), (0.5, False), (0.500001, True), (1.0, True), (math.nan, True)],
)
def test_a_picture_passes_up_to_its_limit(score: float, over: bool) -> None:  # noqa: FBT001
    """The limit itself passes; a score that is no number does not."""
    judged = gate.judge("target", {"nsfw": score}, {"nsfw": 0.5})
    assert bool(judged.over) is over


def test_labels_without_a_limit_refuse_nothing() -> None:
    """Being fit for work is no fault."""
    assert not gate.judge("target", {"nsfw": 0.1, "sfw": 0.9}, {"nsfw": 0.5}).over


def test_a_policy_is_applied_to_the_labels_as_the_classifier_spells_them() -> None:
    """Case is no difference between labels."""
    assert gate.limits("m", ["NSFW", "SFW"], Policy({"nsfw": 0.3})) == {"NSFW": 0.3}


def test_the_defaults_apply_as_far_as_the_classifier_knows_them() -> None:
    """They name the labels of several classifiers."""
    assert gate.limits("m", ["neutral", "low", "medium", "high"], None) == {
        "medium": 0.5,
        "high": 0.5,
    }


def test_attack_a_pack_without_the_label_does_not_lift_its_limit() -> None:
    """A policy of the tenant's own is kept whole or nothing is swapped."""
    with pytest.raises(NoContentGate, match="gore"):
        gate.limits("m", ["nsfw", "sfw"], Policy({"nsfw": 0.3, "gore": 0.1}))


def test_a_classifier_of_other_things_is_no_gate() -> None:
    """One that knows no default label judges nothing, so it lets nothing pass."""
    with pytest.raises(NoContentGate, match=GATE_FILE):
        gate.limits("pets", ["cat", "dog"], None)


def test_where_a_gate_is_required_none_is_refused() -> None:
    """And the text names the pack."""
    with pytest.raises(NoContentGate, match="the pack lite"):
        gate.require(Offers("lite"))
    gate.require(Offers("lite"), accepted="42")
    gate.require(WITH_GATE)


def test_an_accepted_absence_stands_in_the_verdict() -> None:
    """Who answers for it can be looked up."""
    opened = gate.opened(Offers("lite"), None, required=True, accepted="42")
    opened.check("target", "target", None)
    said = {"gate": "absent", "reason": "no model", "accepted": "42"}
    assert opened.verdict() == said


@pytest.mark.parametrize("accepted", ["", "42"])
def test_a_policy_of_the_tenant_s_own_is_never_waived(accepted: str) -> None:
    """The operator may do without a gate, but not for who asked for one."""
    with pytest.raises(NoContentGate, match="your policy"):
        gate.opened(
            Offers("lite"), Policy({"nsfw": 0.9}), required=False, accepted=accepted
        )


@pytest.mark.parametrize("scores", [None, {}, {"sfw": 1.0}])
def test_a_classifier_that_does_not_judge_is_a_fault(
    scores: dict[str, float] | None,
) -> None:
    """Silence is not consent; and it is ours, not the caller's."""
    opened = gate.opened(WITH_GATE, None, required=True)
    with pytest.raises(Failed):
        opened.check("target", "target", scores)


def test_a_score_that_is_no_number_can_be_put_on_record() -> None:
    """JSON has no such numbers: it is null."""
    opened = gate.opened(WITH_GATE, None, required=True)
    with pytest.raises(ContentRefused):
        opened.check("target", "target", {"nsfw": math.nan, "sfw": math.nan})
    (judged,) = opened.verdict()["pictures"]
    assert judged == {
        "role": "target",
        "scores": {"nsfw": None, "sfw": None},
        "passed": False,
    }


# The tenant's policy


def admitted(policy: bytes | None) -> Policy | None:
    store = MemoryStore()
    if policy is not None:
        store.put(GATE, policy)
    body = msgspec.json.encode(SWAP)
    job = SwapJob.parse(body, job="j", tenant=ACME, actor="ann", limits=Limits())
    return gate_policy(admit(job, store, MemoryKeys()))


def test_a_tenant_s_policy_is_read_as_it_stands() -> None:
    """Label by label."""
    read = admitted(b'{"max": {"nsfw": 0.8, "gore": 0}}')
    assert read == Policy({"nsfw": 0.8, "gore": 0})


def test_without_a_policy_the_defaults_hold() -> None:
    """No object is no policy of one's own."""
    assert admitted(None) is None


@pytest.mark.parametrize(
    "policy",
    [
        b"",
        b"{}",
        b"null",
        b"not JSON",
        b'{"max": {}}',
        b'{"max": null}',
        b'{"max": {"nsfw": 1.1}}',
        b'{"max": {"nsfw": -0.1}}',
        b'{"max": {"nsfw": "0.5"}}',
        b'{"max": {"nsfw": true}}',
        b'{"max": {"nsfw": NaN}}',
        b'{"max": {"": 0.5}}',
        b'{"max": {"nsfw": 0.1, "nsfw": 0.9}}',
        b'{"max": {"nsfw": 0.1, "NSFW": 0.9}}',
        b'{"max": {"nsfw": 0.1}, "maximum": {}}',
        b'{"max": {"nsfw": 0.1}}' + b" " * 65_536,
    ],
)
def test_attack_a_policy_that_cannot_be_read_opens_nothing(policy: bytes) -> None:
    """It is refused by name, and nothing is swapped."""
    with pytest.raises(Forbidden, match=GATE_FILE):
        admitted(policy)


def test_a_broken_policy_stops_swaps_at_the_door_and_nothing_else(
    house: House,
) -> None:
    """Nothing is accepted; covering faces needs no gate."""
    house.store.put(GATE, b"{}")
    answer = house.post(SWAP)
    assert (answer.status_code, kind(answer)) == (403, "forbidden")
    assert house.calls == 0
    assert house.post(COVER).status_code == 201


def test_a_policy_broken_after_acceptance_still_stops_the_swap(house: House) -> None:
    """It is read again before the work."""
    house.post(SWAP, Prefer="respond-async")
    house.store.put(GATE, b"{}")
    house.send(house.sink.taken[0])
    assert house.sink.taken[-1].data["reason"].endswith(":forbidden")
    assert house.engine.calls == []


def test_what_judges_stands_in_the_receipt(house: House) -> None:
    """The `started` event says by which limits, before anything runs."""
    house.post(SWAP)
    house.store.put(GATE, b'{"max": {"nsfw": 0.25}}')
    house.post(SWAP)
    told = [event.data["admission"]["gate"] for event in house.auditor.seen]
    assert told == ["default", {"max": {"nsfw": 0.25}}]


# Through the doors


def test_every_picture_of_a_swap_is_judged(house: House) -> None:
    """Sources and target before anything is looked for, the output at the end."""
    house.put("c.png", picture(1, unfit=51))
    answer = house.post(SWAP | {"source": ["uploads/a.png", "uploads/c.png"]})
    record = ended(house, answer)
    assert record.gate == {
        "gate": "judged",
        "model": "judge",
        "max": {"nsfw": 0.5},
        "pictures": [
            {"role": "source", "scores": {"nsfw": 0.0, "sfw": 1.0}, "passed": True},
            {"role": "source", "scores": {"nsfw": 0.2, "sfw": 0.8}, "passed": True},
            {"role": "target", "scores": {"nsfw": 0.0, "sfw": 1.0}, "passed": True},
            {"role": "output", "scores": {"nsfw": 0.0, "sfw": 1.0}, "passed": True},
        ],
    }
    assert house.sink.taken[0].data["gate"] == record.gate
    assert house.engine.calls[:4] == ["judge", "judge", "judge", "detect"]
    assert house.engine.calls[-2:] == ["swap", "judge"]


@pytest.mark.parametrize(
    ("unfit", "name", "seen"),
    [
        ("a.png", "source uploads/a.png", [("source", False)]),
        ("b.png", "target", [("source", True), ("target", False)]),
    ],
)
def test_an_input_over_its_limit_is_refused_by_name(
    house: House, unfit: str, name: str, seen: list[tuple[str, bool]]
) -> None:
    """With the label, before a face is looked for; the rest is not looked at."""
    house.put(unfit, UNFIT)
    answer = house.post(SWAP)
    assert (answer.status_code, kind(answer)) == (403, "content-refused")
    assert answer.json is not None
    assert f"the {name}: nsfw is over 0.5" in answer.json["detail"]
    assert roles(ended(house, answer)) == seen
    assert set(house.engine.calls) == {"judge"}


def test_an_output_over_its_limit_is_never_stored(house: House) -> None:
    """Not encoded, not stored, not to be had."""
    house.engine.spoils = True
    answer = house.post(SWAP)
    assert kind(answer) == "content-refused"
    record = ended(house, answer)
    assert roles(record)[-1] == ("output", False)
    assert record.output is None
    assert record.provenance is None
    stored = [info.key for info in house.store.list(RESULTS).objects]
    assert stored == [ACME.record(record.job)]


def test_a_refusal_is_audited_and_not_billed(house: House) -> None:
    """It is an ending: the log has its type and the verdict, the bill nothing."""
    house.put("a.png", UNFIT)
    house.post(SWAP)
    ending, usage = house.sink.taken
    assert ending.type.endswith(".refused.v1")
    assert ending.data["reason"] == "urn:guise:problem:content-refused"
    assert ending.data["gate"]["pictures"][0]["scores"] == {"nsfw": 1.0, "sfw": 0.0}
    assert usage.data["billable"] is False


def test_the_log_learns_no_names_from_the_gate(house: House) -> None:
    """What a picture is called is not for the log, which outlives an erasure."""
    house.put("a.png", UNFIT)
    house.post(SWAP)
    assert b"uploads/" not in msgspec.json.encode(house.sink.taken[0].data)


def test_a_tenant_may_be_stricter_or_more_lenient_than_the_defaults(
    house: House,
) -> None:
    """Its policy takes their place."""
    house.put("a.png", picture(1, unfit=60))
    assert house.post(SWAP).status_code == 201
    house.store.put(GATE, b'{"max": {"nsfw": 0.2}}')
    assert kind(house.post(SWAP)) == "content-refused"
    house.put("a.png", UNFIT)
    house.store.put(GATE, b'{"max": {"nsfw": 1}}')
    assert house.post(SWAP).status_code == 201


@pytest.mark.parametrize("operation", ["anonymize", "detect"])
def test_what_makes_no_face_passes_through_no_gate(
    house: House, operation: str
) -> None:
    """Neither judged nor refused, and the record says nothing of a gate."""
    house.put("b.png", UNFIT)
    answer = house.post(COVER | {"operation": operation})
    assert answer.status_code == 201
    assert ended(house, answer).gate is None
    assert "gate" not in house.sink.taken[0].data
    assert "judge" not in house.engine.calls


def test_production_swaps_nothing_without_a_gate() -> None:
    """It still covers faces."""
    house = filled(House(engine=PaperEngine(offers=Offers("lite"))))
    answer = house.post(SWAP)
    assert (answer.status_code, kind(answer)) == (403, "no-content-gate")
    assert house.engine.calls == []
    assert house.post(COVER).status_code == 201


def test_development_swaps_without_a_gate_and_says_so() -> None:
    """The verdict says that there was none."""
    engine = PaperEngine(offers=Offers("lite"))
    house = filled(House(engine=engine, profile="development"))
    answer = house.post(SWAP)
    assert answer.status_code == 201
    said = {"gate": "absent", "reason": "no model"}
    assert ended(house, answer).gate == house.sink.taken[0].data["gate"] == said


def test_production_swaps_without_a_gate_where_its_operator_answers_for_it() -> None:
    """The acceptance is on record with every swap."""
    engine = PaperEngine(offers=Offers("lite"))
    house = filled(House(engine=engine, accepted="a-42"))
    answer = house.post(SWAP)
    assert answer.status_code == 201
    said = {"gate": "absent", "reason": "no model", "accepted": "a-42"}
    assert ended(house, answer).gate == house.sink.taken[0].data["gate"] == said


def filled(house: House) -> House:
    house.put("a.png", picture(1))
    house.put("b.png", picture(2))
    return house


def test_an_erased_job_has_no_verdict(house: House) -> None:
    """What a photograph showed is said of it, too."""
    job = ended(house, house.post(SWAP)).job
    headers = {"Authorization": "Bearer acme"}
    assert house.door.delete(f"/v1/swaps/{job}", headers=headers).status_code == 204
    stored = house.store.get(ACME.record(job)).data
    assert msgspec.json.decode(stored, type=Record).gate is None
    assert "gate" not in house.sink.taken[-1].data


def test_a_record_from_before_there_was_a_gate_is_read() -> None:
    """Every version of a stored thing stays readable."""
    old = (
        b'{"job":"j","operation":"swap","outcome":"completed","attempt":1,'
        b'"ended":"2025-01-01T00:00:00Z"}'
    )
    assert msgspec.json.decode(old, type=Record).gate is None


def test_a_classifier_that_fails_lets_nothing_out(house: House) -> None:
    """It is tried again, and fails for good after the last attempt."""
    house.engine.offers = Offers("paper", "judge", ("nsfw", "gore"))
    house.store.put(GATE, b'{"max": {"gore": 0.1}}')
    answer = house.post(SWAP, Prefer="respond-async")
    for _ in range(house.limits.attempts_max):
        house.send(house.sink.taken[0])
    record = ended(house, answer)
    assert (record.outcome, record.output) == ("failed", None)


@pytest.mark.parametrize("unfit", [0, 255])
def test_attack_models_that_are_not_proved_neither_swap_nor_refuse(unfit: int) -> None:
    """What a network says of a picture is an answer, and waits for the proof too."""

    def broken() -> None:
        raise ValueError("a digest is wrong")

    house = filled(House(proof=broken, limits=Limits(attempts_max=1)))
    house.put("a.png", picture(1, unfit=unfit))
    record = ended(house, house.post(SWAP))
    assert (record.outcome, record.output) == ("failed", None)
    assert record.problem is not None
    assert record.problem["type"].endswith(":failed")
