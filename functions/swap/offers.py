"""What a pack has models for, and the refusal of what it has not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from functions.problems import UnsupportedOption

if TYPE_CHECKING:
    from collections.abc import Iterable

    from functions.swap.job import Mask, Options
    from models.manifest import Contract, Model, Pack

_SWAPPERS: Final[tuple[Contract, ...]] = ("inswapper", "hyperswap", "ghost")
_RESTORERS: Final[tuple[Contract, ...]] = ("gfpgan", "restoreformer")
_UPSCALERS: Final[tuple[Contract, ...]] = ("realesrgan", "swin2sr")


@dataclass(frozen=True, slots=True)
class Offers:
    """What the engine can do beyond finding and swapping faces.

    `classifier` names the content gate's models, and `labels` what they tell apart;
    both are empty where there are none.  `upscales` are the factors, `restores_all`
    says that faces are restored unless the request says no.
    """

    pack: str = ""
    classifier: str = ""
    labels: tuple[str, ...] = ()
    restores: bool = False
    restores_all: bool = False
    upscales: tuple[int, ...] = ()
    masks: tuple[Mask, ...] = ("box",)
    weighs: bool = False

    @classmethod
    def of(cls, pack: Pack) -> Self:
        """Return what a manifest promises."""
        judges = pack.of("classifier")
        swaps = any(pack.of(contract) for contract in _SWAPPERS)
        restores = any(pack.of(contract) for contract in _RESTORERS)
        masks: tuple[Mask, ...] = ("box",)
        if swaps:
            masks = (
                ("box", "hull", "occlusion") if pack.of("bisenet") else ("box", "hull")
            )
        return cls(
            pack=pack.id,
            classifier=name_of(judges),
            labels=labels_of(judges),
            restores=restores,
            restores_all=restores and pack.tier == "quality",
            upscales=tuple(
                sorted({m.scale for each in _UPSCALERS for m in pack.of(each)})
            ),
            masks=masks,
            weighs=swaps,
        )

    def restoring(self, options: Options) -> bool:
        """Return whether faces are restored: as asked, else as the tier has it."""
        return self.restores_all if options.restore is None else options.restore

    def refuse_others(self, options: Options) -> None:
        """Raise `UnsupportedOption` for an option that this pack has no model for."""
        lacking = {
            "restore": bool(options.restore) and not self.restores,
            "upscale": bool(options.upscale) and options.upscale not in self.upscales,
            "weight": options.weight is not None and not self.weighs,
            "mask": options.mask not in self.masks,
        }
        for option, lacks in lacking.items():
            if lacks:
                value = getattr(options, option)
                raise UnsupportedOption(
                    f"options.{option}: the pack {self.pack} has no model for {value}"
                )


def name_of(classifiers: Iterable[Model]) -> str:
    """Return what a verdict calls the classifiers that came to it together."""
    return "+".join(model.name for model in classifiers)


def labels_of(classifiers: Iterable[Model]) -> tuple[str, ...]:
    """Return what they tell apart, one after the other."""
    return tuple(label for model in classifiers for label in model.labels)
