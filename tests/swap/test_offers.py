"""What may be asked of a swap, and the refusal of what the pack has no model for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from functions.problems import InvalidRequest, UnsupportedOption
from functions.settings import Limits
from functions.swap.job import Options, SwapJob
from functions.swap.offers import Offers
from models.manifest import File, Input, Model, Pack, Tensor, Upstream
from tests.swap.house import ACME, SWAP, House, PaperEngine, picture

if TYPE_CHECKING:
    from models.manifest import Contract, Tier

DIGEST = "0" * 64
ALL = Offers("paper", "judge", ("nsfw",), True, False, (2, 4), ("box", "hull"), True)  # noqa: FBT003
ASKED: list[dict[str, Any]] = [
    {"restore": True},
    {"upscale": 2},
    {"weight": 0.5},
    {"mask": "hull"},
    {"mask": "occlusion"},
]


def parsed(options: dict[str, Any], **change: Any) -> Options:
    body = msgspec.json.encode(SWAP | {"options": options} | change)
    job = SwapJob.parse(body, job="j", tenant=ACME, actor="ann", limits=Limits())
    return job.request.options


def model(contract: Contract, name: str = "", **more: Any) -> Model:
    return Model(
        name=name or contract,
        file="m.onnx",
        contract=contract,
        licence="MIT",
        commercial=True,
        input=Input("image", (1, 3, 8, 8), (0, 0, 0), (1, 1, 1)),
        outputs=(Tensor("out", (1, 2)),),
        upstream=Upstream("here", DIGEST, 1),
        **more,
    )


def pack(*models: Model, tier: Tier = "standard") -> Pack:
    files = tuple(File(name, DIGEST, 1) for name in ("m.onnx", "golden.npz"))
    return Pack("paper", "1.0.0", "MIT", True, "golden.npz", models, files, tier)  # noqa: FBT003


def test_a_plain_swap_asks_for_nothing_special() -> None:
    """Unless said, the pack's tier decides."""
    options = parsed({})
    assert (options.restore, options.upscale, options.weight) == (None, None, None)
    assert options.mask == "box"


@pytest.mark.parametrize("options", [*ASKED, {"restore": False}, {"weight": 1}])
def test_every_option_of_a_swap_can_be_asked_for(options: dict[str, Any]) -> None:
    """As it stands in the request."""
    read = msgspec.to_builtins(parsed(options))
    assert read == options


@pytest.mark.parametrize(
    "options",
    [
        {"restore": "yes"},
        {"upscale": 1},
        {"upscale": 3},
        {"upscale": 2.5},
        {"weight": -0.1},
        {"weight": 1.1},
        {"weight": "1"},
        {"mask": "oval"},
        {"mask": None},
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    """By name."""
    with pytest.raises(InvalidRequest, match=next(iter(options))):
        parsed(options)


@pytest.mark.parametrize("operation", ["anonymize", "detect"])
@pytest.mark.parametrize("options", [*ASKED, {"restore": False}])
def test_the_options_of_a_swap_are_for_a_swap(
    operation: str, options: dict[str, Any]
) -> None:
    """What would do nothing is refused, not passed over."""
    with pytest.raises(InvalidRequest, match=f"{next(iter(options))} is for a swap"):
        parsed(options, operation=operation, source=[])


@pytest.mark.parametrize("options", ASKED)
def test_what_the_pack_has_no_model_for_is_refused(options: dict[str, Any]) -> None:
    """Naming the option and the pack."""
    name = next(iter(options))
    with pytest.raises(UnsupportedOption, match=rf"options\.{name}: the pack lite "):
        Offers("lite").refuse_others(parsed(options))


@pytest.mark.parametrize(
    "options", [{}, {"restore": False}, {"mask": "box"}, {"restore": True}, *ASKED[:4]]
)
def test_what_the_pack_has_a_model_for_is_done(options: dict[str, Any]) -> None:
    """And not asking is always possible."""
    ALL.refuse_others(parsed(options))


def test_a_factor_that_the_pack_lacks_is_refused() -> None:
    """Another factor is not what was asked for."""
    offers = Offers.of(pack(model("realesrgan", scale=4)))
    assert offers.upscales == (4,)
    with pytest.raises(UnsupportedOption, match="upscale"):
        offers.refuse_others(parsed({"upscale": 2}))


def test_a_pack_offers_what_its_manifest_names() -> None:
    """By contract, not by name."""
    offers = Offers.of(
        pack(
            model("inswapper"),
            model("gfpgan"),
            model("swin2sr", scale=4),
            model("realesrgan", scale=2),
            model("bisenet"),
            model("classifier", "judge", labels=("nsfw", "sfw")),
        )
    )
    assert offers == Offers(
        pack="paper",
        classifier="judge",
        labels=("nsfw", "sfw"),
        restores=True,
        upscales=(2, 4),
        masks=("box", "hull", "occlusion"),
        weighs=True,
    )


def test_several_classifiers_are_offered_as_one_gate() -> None:
    """In the manifest's order."""
    judges = (
        model("classifier", "one", labels=("nsfw", "sfw")),
        model("classifier", "two", labels=("high", "low")),
    )
    offers = Offers.of(pack(*judges))
    assert offers.classifier == "one+two"
    assert offers.labels == ("nsfw", "sfw", "high", "low")


def test_a_pack_of_the_mesh_engine_offers_nothing_more() -> None:
    """It has no identity network, no restorer, no parser and no classifier."""
    lite = pack(model("blazeface"), model("facemesh"), tier="lite")
    assert Offers.of(lite) == Offers("paper")


@pytest.mark.parametrize(
    ("tier", "asked", "done"),
    [
        ("quality", None, True),
        ("quality", False, False),
        ("standard", None, False),
        ("standard", True, True),
    ],
)
def test_faces_are_restored_as_asked_or_as_the_tier_has_it(
    tier: Tier,
    asked: bool | None,  # noqa: FBT001
    done: bool,  # noqa: FBT001
) -> None:
    """`quality` restores unless it is told not to."""
    offers = Offers.of(pack(model("restoreformer"), tier=tier))
    assert offers.restoring(Options(restore=asked)) is done


def test_a_tier_cannot_restore_without_a_restorer() -> None:
    """The manifest's models decide what can be done."""
    offers = Offers.of(pack(model("inswapper"), tier="quality"))
    assert not offers.restoring(Options())


# Through the doors


def test_an_unsupported_option_ends_the_job_before_the_device(house: House) -> None:
    """Nothing is looked at, nothing is billed."""
    answer = house.post(SWAP | {"options": {"restore": True}})
    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["type"].endswith(":unsupported-option")
    assert house.engine.calls == []
    (ending,) = house.sink.taken
    assert ending.type.endswith(".refused.v1")


def test_an_enlarged_picture_is_judged_and_stored_enlarged() -> None:
    """The record's faces stay where the target has them."""
    house = enlarging(Limits())
    answer = house.post(SWAP | {"options": {"upscale": 2, "format": "png"}})
    assert answer.status_code == 201, answer.text
    assert answer.json is not None
    result = house.get(f"/v1/swaps/{answer.json['job']}/result").data
    assert result[16:24] == bytes((0, 0, 0, 16)) * 2
    assert answer.json["faces"][0]["box"] == [0.0, 0.0, 4.0, 4.0]
    assert answer.json["gate"]["pictures"][-1]["role"] == "output"


@pytest.mark.parametrize(("side", "status"), [(128.0, 201), (256.0, 400)])
def test_a_label_keeps_off_the_faces_of_an_enlarged_picture(
    side: float, status: int
) -> None:
    """Where they are now: a face that fills the target leaves no room in the output."""
    house = enlarging(Limits(), size=256)
    house.engine.box = (0.0, 0.0, side, side)
    asked = {"upscale": 2, "visible_label": True, "format": "png"}
    assert house.post(SWAP | {"options": asked}).status_code == status


def test_attack_a_picture_is_not_enlarged_beyond_what_may_be_decoded() -> None:
    """A small file would otherwise take any memory."""
    house = enlarging(Limits(image_pixels_max=255))
    assert house.post(SWAP).status_code == 201
    answer = house.post(SWAP | {"options": {"upscale": 2}})
    assert answer.status_code == 413
    assert house.engine.calls[-1] == "judge"  # of the swap before


def test_a_side_is_not_enlarged_beyond_what_a_file_can_hold() -> None:
    """JPEG counts to 65,500; the job is refused before the work, not after."""
    house = enlarging(Limits())
    house.put("b.png", picture(1, 32_751, height=1))
    answer = house.post(SWAP | {"options": {"upscale": 2}})
    assert answer.status_code == 413
    assert house.engine.calls == []


def enlarging(limits: Limits, size: int = 8) -> House:
    house = House(limits, engine=PaperEngine(offers=ALL))
    house.put("a.png", picture(1))
    house.put("b.png", picture(1, size))
    return house
