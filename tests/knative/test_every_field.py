"""Each field of what is applied, changed in every simple way: somebody says so.

Dropped, misspelt, a letter or one more.  What is not seen is named here, with why it
does no harm.  There are some ten thousand such changes; a test tries a part of them,
another part for each set, and all of them with `EVERY_FIELD=1 pytest …`.
"""

from __future__ import annotations

import copy
import os
import re
from typing import TYPE_CHECKING, Any, Final

import pytest

from tools import manifests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knative.kustomize import Manifest

Path = tuple[str | int, ...]

EVERYTHING = manifests.everything()
PART: Final = 1 if os.environ.get("EVERY_FIELD") else 12
SETS: Final = (
    *("own+oidc", "trial", "pooled+", "apart+", "gpu+kafka"),
    *("production-oidc", "pooled+oidc"),
)
HARMLESS: Final = {
    "one more try, or a job that may take a second longer": re.compile(
        r"plus .*(retry|backoffLimit|HistoryLimit|Seconds|ttlSecondsAfterFinished)"
    ),
    "one more at once, as there are threads for it": re.compile(
        r"plus .*containerConcurrency"
    ),
    "the cluster's own to say": re.compile(
        r"text ConfigMap/guise data/(store|issuer|oidc-issuer|region)"
        r"|text .*(GUISE_JWKS|GUISE_GPU_MEMORY_BYTES_MAX)/value"
        r"|drop .*GUISE_GPU_MEMORY_BYTES_MAX"
    ),
    "the tenant's own, which its functions read strictly": re.compile(
        r"text ConfigMap/guise-tenants data/acme.yaml"
    ),
    "a word for people, or one more of a hundred": re.compile(
        r"text PriorityClass/\S+ description|plus PriorityClass/\S+ value"
    ),
    "labels of a Job that nothing selects by": re.compile(
        r"drop CronJob/\S+ spec/jobTemplate/metadata"
    ),
    "the namespace that it is in anyway": re.compile(
        r"drop Trigger/\S+ spec/subscriber/ref/namespace"
    ),
}
"""What may change and nothing be said, by why."""


def paths(value: Any, above: Path = ()) -> Iterator[Path]:
    """Yield the way to each field and each element of a list."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for step, each in items:
        yield (*above, step)
        yield from paths(each, (*above, step))


def changes(each: Manifest) -> Iterator[tuple[str, Path]]:
    """Yield how each field may be changed, and the way to it."""
    for path in paths(each):
        yield "drop", path
        if isinstance(path[-1], str):
            yield "misspell", path
        value = reach(each, path)
        for kind, how in ((str, "text"), (bool, "flip"), (int, "plus")):
            if type(value) is kind:
                yield how, path


def reach(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value


def changed(each: Manifest, how: str, path: Path) -> Manifest:
    """Return an object with one field changed."""
    found = copy.deepcopy(each)
    place, last = reach(found, path[:-1]), path[-1]
    match how:
        case "drop":
            del place[last]
        case "misspell":
            place[f"{last}x"] = place.pop(last)
        case "text":
            place[last] += "x"
        case "flip":
            place[last] = not place[last]
        case _:
            place[last] += 1
    return found


def named(each: Manifest, how: str, path: Path) -> str:
    """Return a change as `HARMLESS` names it; what has a name goes by that."""
    steps, place = [], each
    for step in path:
        place = place[step]  # type: ignore[index]
        has_name = isinstance(step, int) and isinstance(place, dict)
        steps.append(place.get("name", str(step)) if has_name else str(step))
    return f"{how} {each['kind']}/{each['metadata']['name']} {'/'.join(steps)}"


@pytest.mark.parametrize("name", SETS)
def test_every_change_of_a_field_is_seen(name: str) -> None:
    """Or it is one that does no harm, and the reason is written down."""
    objects, flags = EVERYTHING[name], manifests.flags_of(name)
    unseen = []
    every = [
        (number, *change)
        for number, each in enumerate(objects)
        for change in changes(each)
    ]
    for number, how, path in every[SETS.index(name) % PART :: PART]:
        mutant = list(objects)
        mutant[number] = changed(objects[number], how, path)
        if not manifests.lint(mutant, flags):
            unseen.append(named(objects[number], how, path))
    harmful = [
        each
        for each in unseen
        if not any(why.search(each) for why in HARMLESS.values())
    ]
    assert harmful == []
    assert len(every) > 500
