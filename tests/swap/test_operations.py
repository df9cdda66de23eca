"""Which faces are worked on, which are kept, and what the record says of them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from functions.events import SWAP_COMPLETED, SWAP_ERASED
from functions.problems import InvalidRequest, NoFace
from functions.settings import Limits
from functions.swap.job import SwapJob
from functions.swap.ledger import Record
from tests.swap.house import ACME, SWAP, House, PaperEngine, PaperFace, picture

if TYPE_CHECKING:
    from collections.abc import Sequence

COVER = {"operation": "anonymize", "target": "uploads/b.png"}
FIRST, SECOND = {"index": 0}, {"index": 1}
LIKE_FIRST = {"reference": "uploads/a.png"}


def counted(house: House, request: dict[str, Any]) -> tuple[list[int], dict[str, int]]:
    """Return the indices of the faces covered, and the counts, of a completed job."""
    answer = house.post(request)
    assert answer.status_code == 201, answer.text
    assert answer.json is not None
    covered = answer.json.get("faces", [])
    return [face["index"] for face in covered], answer.json["counts"]


@pytest.mark.parametrize(
    ("keep", "covered", "kept"),
    [
        ([], [0, 1], 0),
        ([SECOND], [0], 1),
        ([LIKE_FIRST], [1], 1),
        ([FIRST, LIKE_FIRST], [1], 1),
        ([FIRST, SECOND], [], 2),
    ],
)
def test_faces_to_keep_are_not_covered(
    house: House, keep: list[Any], covered: list[int], kept: int
) -> None:
    """By index or by reference; one face named twice is one face."""
    counts = {"found": 2, "done": len(covered), "kept": kept}
    assert counted(house, COVER | {"keep": keep}) == (covered, counts)


def test_keeping_goes_before_choosing(house: House) -> None:
    """A face that is both to be covered and to be kept is kept."""
    request = COVER | {"faces": "largest", "keep": [FIRST]}
    assert counted(house, request) == ([], {"found": 2, "done": 0, "kept": 1})


def test_a_reference_like_nobody_keeps_nobody(house: House) -> None:
    """Everybody is covered, and the record says that nobody was kept."""
    house.engine.stranger = True
    request = COVER | {"keep": [LIKE_FIRST]}
    assert counted(house, request) == ([0, 1], {"found": 2, "done": 2, "kept": 0})


def test_a_face_to_choose_that_is_like_nobody_is_refused(house: House) -> None:
    """What was to be covered is not there: that is not passed over."""
    house.engine.stranger = True
    answer = house.post(COVER | {"faces": LIKE_FIRST})
    assert answer.status_code == 422
    assert answer.json is not None
    assert answer.json["type"].endswith(":no-such-face")


class Unalignable(PaperEngine):
    """Finds something in the target's second place that is no face."""

    def identity(self, image: Any, face: Any) -> Any:
        if face.index == 1:
            raise NoFace
        return super().identity(image, face)


def test_what_has_no_identity_is_like_nobody() -> None:
    """It keeps no other face from being chosen by its likeness."""
    house = House(engine=Unalignable())
    house.put("a.png", picture(1))
    house.put("b.png", picture(2))
    assert counted(house, COVER | {"faces": LIKE_FIRST})[0] == [0]


def test_attack_a_reference_named_often_is_looked_for_once(house: House) -> None:
    """Or 64 pairs by 64 faces would hold the device for minutes."""
    pair = {"face": LIKE_FIRST, "source": "uploads/a.png"}
    swap = {name: SWAP[name] for name in SWAP if name != "source"}
    looks = []
    for times in (1, 60):
        house.engine.calls.clear()
        answer = house.post(swap | {"faces": [pair] * times})
        assert answer.status_code == 201, answer.text
        looks.append(house.engine.calls.count("detect"))
    assert looks[0] == looks[1]


def test_an_index_to_keep_that_is_not_there_is_refused(house: House) -> None:
    """It was read off another picture, so the list is not to be trusted."""
    answer = house.post(COVER | {"keep": [FIRST, {"index": 2}]})
    assert answer.status_code == 422
    assert answer.json is not None
    assert answer.json["type"].endswith(":no-such-face")


def test_a_reference_without_a_face_is_refused(house: House) -> None:
    """It could keep nobody on any picture, which cannot be meant."""
    house.put("a.png", picture(0))
    answer = house.post(COVER | {"keep": [LIKE_FIRST]})
    assert answer.status_code == 422
    assert answer.json is not None
    assert "reference uploads/a.png" in answer.json["detail"]


def test_a_photograph_without_a_face_is_not_passed_as_anonymised(house: House) -> None:
    """Refused, with no output: whether a face was missed only a person can tell."""
    house.put("b.png", picture(0))
    answer = house.post(COVER)
    assert answer.status_code == 422
    assert answer.json is not None
    assert house.get(f"/v1/swaps/{answer.json['job']}/result").status_code == 404


def test_a_reference_is_an_input_like_any_other(house: House) -> None:
    """Changed between acceptance and work, it stops the job."""
    house.post(COVER | {"keep": [LIKE_FIRST]}, Prefer="respond-async")
    house.put("a.png", picture(2))
    house.send(house.sink.taken[0])
    assert house.sink.taken[-1].data["reason"].endswith(":conflict")


def test_pictures_of_whom_to_keep_may_come_along(house: House) -> None:
    """By multipart they are the files `keep`."""
    form = {
        "request": '{"operation":"anonymize"}',
        "target": (io.BytesIO(picture(2)), "t.png"),
        "keep": (io.BytesIO(picture(1)), "k.png"),
    }
    headers = {"Authorization": "Bearer acme"}
    answer = house.door.post("/v1/swaps", data=form, headers=headers)
    assert answer.json is not None
    assert answer.json["counts"] == {"found": 2, "done": 1, "kept": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"operation": "detect", "keep": [FIRST]},
        {**SWAP, "keep": [FIRST]},
        {"keep": [{}]},
        {"keep": [{"index": 0, "reference": "uploads/a.png"}]},
        {"keep": [{"index": 0, "position": [1, 2]}]},
        {"faces": {"reference": "uploads/a.png", "position": [1, 2]}},
        {"faces": {"position": [1]}},
        {"faces": {"position": [1, 2, 3]}},
        {"faces": {"position": [-1, 2]}},
        {"faces": {"position": ["1", "2"]}},
        {"keep": [{"index": -1}]},
        {"keep": ["largest"]},
        {"keep": [{"reference": "results/j/1.png"}]},
        {"keep": [{"reference": f"uploads/{n}.png"} for n in range(9)]},
        {"keep": [{"index": n} for n in range(65)]},
    ],
)
def test_a_list_to_keep_that_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    """For another operation, of no face, or longer than its limit."""
    body = msgspec.json.encode(COVER | change)
    with pytest.raises(InvalidRequest):
        SwapJob.parse(body, job="j", tenant=ACME, actor="ann", limits=Limits())


def test_the_log_and_the_bill_count_the_same_faces(house: House) -> None:
    """The ending event has the counts, and only faces worked on are billed."""
    house.post(COVER | {"keep": [FIRST]})
    ending, usage = house.sink.taken
    assert ending.type == SWAP_COMPLETED
    assert ending.data["counts"] == {"found": 2, "done": 1, "kept": 1}
    assert ending.data["faces"] == usage.data["faces"] == 1


@pytest.mark.parametrize(
    ("request_", "counts"),
    [
        (SWAP, {"found": 2, "done": 1, "kept": 0}),
        (COVER | {"operation": "detect"}, {"found": 2, "done": 2, "kept": 0}),
    ],
)
def test_every_operation_counts(
    house: House, request_: dict[str, Any], counts: dict[str, int]
) -> None:
    """Found, done and kept mean the same everywhere."""
    assert counted(house, request_)[1] == counts


def test_an_erased_job_counts_nothing(house: House) -> None:
    """How many people were on a photograph is said of it, too."""
    job = house.post(COVER).json["job"]  # type: ignore[index]
    headers = {"Authorization": "Bearer acme"}
    assert house.door.delete(f"/v1/swaps/{job}", headers=headers).status_code == 204
    erased = house.sink.taken[-1]
    assert erased.type == SWAP_ERASED
    assert "counts" not in erased.data


def test_a_record_from_before_there_were_counts_is_read() -> None:
    """Every version of a stored thing stays readable."""
    old = (
        b'{"job":"j","operation":"swap","outcome":"completed","attempt":1,'
        b'"ended":"2025-01-01T00:00:00Z","faces":[{"index":0}]}'
    )
    assert msgspec.json.decode(old, type=Record).counts is None


# --- by position -------------------------------------------------------------


class Apart(PaperEngine):
    """Sees three faces in a picture of 64 x 64: one in another, and one aside."""

    def detect(self, image: Any, *, small: bool = True) -> Sequence[PaperFace]:
        boxes = ((0.0, 0.0, 40.0, 40.0), (20.0, 20.0, 36.0, 36.0), (50, 0, 60, 10))
        return [PaperFace(index, box) for index, box in enumerate(boxes)]


@pytest.fixture
def apart() -> House:
    made = House(engine=Apart())
    for name in ("a.png", "b.png"):
        made.put(name, picture(3, size=64))
    return made


@pytest.mark.parametrize(
    ("x", "y", "index"),
    [
        (5, 5, 0),  # in the first alone
        (30.5, 30, 1),  # in both, in the middle of the second
        (20.5, 20.5, 0),  # in both, in the middle of the first
        (40, 40, 0),  # on its edge, though the second's centre is nearer
        (44, 41, 1),  # in none: the second's centre is nearest
        (64, 0, 2),
        (64, 64, 1),
    ],
)
def test_a_position_names_a_face(apart: House, x: float, y: float, index: int) -> None:
    """The face whose box holds it, or else the one whose centre is nearest."""
    request = COVER | {"faces": {"position": [x, y]}}
    assert counted(apart, request)[0] == [index]
    assert counted(apart, {**SWAP, "faces": {"position": [x, y]}})[0] == [index]


def test_of_equal_faces_the_first_is_meant(house: House) -> None:
    """Two with the same box are told apart by nothing but their order."""
    assert counted(house, COVER | {"faces": {"position": [2, 2]}})[0] == [0]


def test_a_position_gets_a_source(apart: House) -> None:
    """A pair may name its face so."""
    pair = {"face": {"position": [55, 5]}, "source": "uploads/a.png"}
    request = {key: value for key, value in SWAP.items() if key != "source"}
    assert counted(apart, {**request, "faces": [pair]})[0] == [2]


def test_a_position_beyond_the_picture_is_refused(apart: House) -> None:
    """It was read off another picture."""
    answer = apart.post(COVER | {"faces": {"position": [65, 5]}})
    assert answer.status_code == 422
    assert answer.json is not None
    assert "no face at 65, 5" in answer.json["detail"]


def test_a_position_keeps_the_face_that_holds_it(apart: House) -> None:
    """And every other one is covered."""
    assert counted(apart, COVER | {"keep": [{"position": [55, 5]}]})[0] == [0, 1]


def test_a_position_beside_every_face_keeps_nobody(apart: House) -> None:
    """To spare the nearest could spare a stranger, so the whole of it is refused."""
    answer = apart.post(COVER | {"keep": [{"position": [62, 5]}]})
    assert answer.status_code == 422
    assert answer.json is not None
    assert answer.json["type"].endswith(":no-such-face")
