"""The content gate: which pictures may be swapped.  Decisions only; no pixels.

A classifier gives each label a probability; a picture passes while none is over
what the policy allows.  What cannot be judged does not pass: a probability that is
no number, a limited label that the classifier does not tell, no classifier at all.
The sources and the target are judged before anything is drawn, the output before it
is encoded.  Only swaps pass through the gate: `detect` makes no picture, and
`anonymize` makes one that shows less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from functions.problems import ContentRefused, Failed, NoContentGate

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from functions.swap.offers import Offers

Role = Literal["source", "target", "output"]

DEFAULT_MAX: Final[Mapping[str, float]] = dict.fromkeys(
    ("nsfw", "porn", "hentai", "medium", "high"), 0.5
)
"""More likely than not, for the labels that published classifiers use for nudity.

Where the tenant has no policy of its own; labels the classifier lacks are left out.
"""
_PLACES: Final = 2  # enough to see why, too few to know a picture again by

_Label = Annotated[str, Meta(min_length=1, max_length=256)]
_Probability = Annotated[float, Meta(ge=0, le=1)]


class Policy(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True
):
    """The content of `policy/gate.json`: how probable a label may be, at most.

    Labels are compared without regard to case.  Every label of `max` must be told by
    the classifier; one of `also` is limited where the classifier knows it.
    """

    max: Annotated[dict[_Label, _Probability], Meta(min_length=1, max_length=64)]
    also: Annotated[dict[_Label, _Probability], Meta(max_length=64)] = {}

    def __post_init__(self) -> None:
        """Refuse two limits for one label.

        Raises:
            ValueError: two labels differ in case only.
        """
        for name, limits in (("max", self.max), ("also", self.also)):
            if len({label.casefold() for label in limits}) != len(limits):
                raise ValueError(f"{name}: two labels differ in case only")


@dataclass(frozen=True, slots=True)
class Judged:
    """One picture's probabilities, and the labels that are over their limit."""

    role: Role
    scores: Mapping[str, float]
    over: tuple[str, ...]

    def said(self) -> dict[str, Any]:
        """Return it as plain data, without the picture's name."""
        rounded = {
            label: round(p, _PLACES) if math.isfinite(p) else None
            for label, p in self.scores.items()
        }
        return {"role": self.role, "scores": rounded, "passed": not self.over}


def tightest(*every: Mapping[str, float]) -> dict[str, float]:
    """Return the lowest limit that any of `every` has for a label, in lower case."""
    found: dict[str, float] = {}
    for limits in every:
        for label, limit in limits.items():
            low = label.casefold()
            found[low] = min(limit, found.get(low, limit))
    return found


def under(ceiling: Mapping[str, float] | None, own: Policy | None) -> Policy | None:
    """Return the tenant's `own` policy, nowhere laxer than the operator's `ceiling`.

    A ceiling of None is `DEFAULT_MAX`, of which a classifier need not know every
    label; what neither says anything of stays None: the defaults.
    """
    if own is None:
        return None if ceiling is None else Policy(max=dict(ceiling))
    must = tightest(own.max, ceiling or {})
    may = tightest(own.also, DEFAULT_MAX if ceiling is None else {})
    return Policy(
        max={label: min(limit, may.get(label, limit)) for label, limit in must.items()},
        also={label: limit for label, limit in may.items() if label not in must},
    )


def limits(
    model: str, labels: Collection[str], policy: Policy | None
) -> dict[str, float]:
    """Return the limit of each label that has one, as the classifier spells it.

    `policy` has those that must be told by the classifier and those that may be; None
    is for `DEFAULT_MAX`, of which some must be; else `NoContentGate` is raised.
    """
    must = {} if policy is None else tightest(policy.max)
    wanted = tightest(must, DEFAULT_MAX if policy is None else policy.also)
    told = {
        label: wanted[low] for label in labels if (low := label.casefold()) in wanted
    }
    missing = must.keys() - {label.casefold() for label in told}
    if missing:
        raise NoContentGate(f"{model} does not judge {', '.join(sorted(missing))}")
    if not told:
        raise NoContentGate(f"no label of {model} has a limit: set policy/gate.json")
    return told


def judge(
    role: Role, scores: Mapping[str, float], maxima: Mapping[str, float]
) -> Judged:
    """Return what a picture's probabilities mean; one that is no number is over."""
    over = [label for label, limit in maxima.items() if not scores[label] <= limit]
    return Judged(role, scores, tuple(over))


def require(offers: Offers, *, accepted: str = "") -> None:
    """Raise `NoContentGate` where there must be a classifier and is none.

    `accepted` is the id of the operator's acceptance of swaps without one.
    """
    if not offers.classifier and not accepted:
        raise NoContentGate(
            f"the pack {offers.pack} has no content gate, and its operator has not"
            " accepted swaps without one"
        )


@dataclass(slots=True)
class Gate:
    """One job's way through the gate, and what the record says of it."""

    model: str
    max: Mapping[str, float]
    accepted: str = ""
    pictures: list[Judged] = field(default_factory=list)

    def check(self, role: Role, name: str, scores: Mapping[str, float] | None) -> None:
        """Note a picture's verdict, or raise `ContentRefused` naming picture and label.

        Without a classifier there is nothing to note and nothing to refuse: whether
        that may be is for `require`.
        """
        if not self.model:
            return
        if scores is None or self.max.keys() - scores.keys():
            raise Failed(internal=f"{self.model} did not judge the {name}")
        judged = judge(role, scores, self.max)
        self.pictures.append(judged)
        if judged.over:
            label = judged.over[0]
            raise ContentRefused(
                f"the content gate refuses the {name}: {label} is over"
                f" {self.max[label]:g}"
            )

    def verdict(self) -> dict[str, Any]:
        """Return what the record and the ending event say; it holds no names.

        `pictures` has the sources in the order of their commitments, the target and
        the output, as far as they were judged.  Scores are rounded; the decision was
        taken before.
        """
        if not self.model:
            said = {"gate": "absent", "reason": "no model"}
            return said | ({"accepted": self.accepted} if self.accepted else {})
        return {
            "gate": "judged",
            "model": self.model,
            "max": dict(self.max),
            "pictures": [judged.said() for judged in self.pictures],
        }


def opened(
    offers: Offers, policy: Policy | None, *, required: bool, accepted: str = ""
) -> Gate:
    """Return the gate of one swap, or raise `NoContentGate`.

    Where there is no classifier, and need not be one, nothing is judged; but never
    under a policy of the tenant's own.
    """
    if required:
        require(offers, accepted=accepted)
    if offers.classifier:
        maxima = limits(offers.classifier, offers.labels, policy)
        return Gate(offers.classifier, maxima)
    if policy is not None:
        raise NoContentGate(f"nothing in the pack {offers.pack} judges by your policy")
    return Gate("", {}, accepted)
