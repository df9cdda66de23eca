"""What `kubectl kustomize` makes of a folder, as far as the folders here use it.

A `kustomization.yml` lists `resources` and `components` (files and folders), `images`
and `patches`: operations of RFC 6902 (JSON patch) on every object that is a `target`.
Kustomize knows a good deal more, which is refused here.  The files end in `.yml`, as
one machine reads every `*.yaml` beside its functions as a manifest.

Besides, `${name}` is filled in from `values`: that is what makes the folder `tenant/`
one tenant's.  YAML is read first, with a mark in each place, so that a tenant named
`on` or `0` stays text, and no value can be anything but the value that it is.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from string import Template
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

NAME: Final = "kustomization.yml"
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""As safe as the other, and five times as fast; PyYAML's wheels have it."""
_KNOWN: Final = frozenset(
    {"apiVersion", "kind", "resources", "components", "patches", "images"}
)
_PLAIN: Final = re.compile(r"[^\x00-\x1f\x7f\"\\]*")
"""What a value may be: nothing that would be an escape wherever it is read next."""
_MARK: Final = re.compile(r"x_x(\w+?)x_x")
_IMAGE: Final = re.compile(r"(?P<name>[^@]+?)(:[^:/@]+)?(@sha256:[0-9a-f]{64})?")

Manifest = dict[str, Any]
Values = Mapping[str, str | int]
"""What places are filled with; a number stays one where it is alone in its place."""


class KustomizeError(Exception):
    """A folder that cannot be built; the message names the file and the reason."""


def build(
    folder: Path,
    values: Values | None = None,
    *,
    components: Sequence[Path] = (),
) -> list[Manifest]:
    """Return the objects of a folder and then of `components`, patched.

    Raises `KustomizeError`: also for a patch that finds nothing, which kustomize
    lets pass.
    """
    values = values or {}
    for name, value in values.items():
        if not _PLAIN.fullmatch(str(value)):
            raise KustomizeError(f"{name}: {value!r} has no place in a manifest")
    objects = _apply(folder, values, [])
    for each in components:
        objects = _apply(each, values, objects)
    names = [identity(each) for each in objects]
    if twice := {name for name in names if names.count(name) > 1}:
        raise KustomizeError(f"{folder.name}: twice: {sorted(twice)}")
    return objects


def identity(each: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return by what a cluster tells an object from others."""
    metadata = each["metadata"]
    return each["kind"], metadata.get("namespace", ""), metadata["name"]


def pin(objects: Iterable[Manifest], images: Mapping[str, str]) -> list[Manifest]:
    """Return the objects with each image that is named here replaced, tag and all."""
    return [_pinned(each, images) for each in objects]


def _pinned(value: Any, images: Mapping[str, str]) -> Any:  # noqa: ANN401  # YAML
    if isinstance(value, list):
        return [_pinned(each, images) for each in value]
    if not isinstance(value, dict):
        return value
    found = {key: _pinned(each, images) for key, each in value.items()}
    if isinstance(image := found.get("image"), str):
        match = _IMAGE.fullmatch(image)
        found["image"] = images.get(match["name"] if match else image, image)
    return found


def _apply(folder: Path, values: Values, before: list[Manifest]) -> list[Manifest]:
    """Return `before` with what one folder adds to it and changes in it."""
    [plan] = _read(folder / NAME)
    if strange := plan.keys() - _KNOWN:
        raise KustomizeError(f"{folder.name}: no {', '.join(sorted(strange))} here")
    objects = list(before)
    for name in plan.get("resources", []):
        path = folder / name
        objects += build(path, values) if path.is_dir() else _documents(path, values)
    for name in plan.get("components", []):
        objects = _apply(folder / name, values, objects)
    for patch in plan.get("patches", []):
        objects = _patched(objects, patch, folder, values)
    images = {each["name"]: _reference(each) for each in plan.get("images", [])}
    return pin(objects, images)


def _reference(image: Mapping[str, str]) -> str:
    name = image.get("newName", image["name"])
    return f"{name}@{image['digest']}" if "digest" in image else name


def _read(path: Path) -> list[Manifest]:
    """Return the documents of a file, with a mark wherever a value belongs."""
    try:
        text = Template(path.read_text(encoding="utf-8")).substitute(_Marks())
        return [each for each in yaml.load_all(text, _LOADER) if each]
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise KustomizeError(f"{path.parent.name}/{path.name}: {error!r}") from error


class _Marks(dict[str, str]):
    """A mark that YAML takes for text, for any name."""

    def __missing__(self, name: str) -> str:
        return f"x_x{name}x_x"


def _documents(path: Path, values: Values) -> list[Manifest]:
    try:
        return [_filled(each, values) for each in _read(path)]
    except KeyError as error:
        raise KustomizeError(f"{path.parent.name}/{path.name}: {error!r}") from error


def _filled(value: Any, values: Values) -> Any:  # noqa: ANN401  # YAML
    """Return what was read, with values for its marks."""
    match value:
        case dict():
            return {_filled(k, values): _filled(v, values) for k, v in value.items()}
        case list():
            return [_filled(each, values) for each in value]
        case str():
            whole = _MARK.fullmatch(value)
            return (
                values[whole[1]]
                if whole
                else _MARK.sub(lambda mark: str(values[mark[1]]), value)
            )
    return value


def _patched(
    objects: list[Manifest], patch: Mapping[str, Any], folder: Path, values: Values
) -> list[Manifest]:
    """Return the objects with one patch applied to each that it means."""
    if patch.keys() != {"target", "patch"}:
        raise KustomizeError(f"{folder.name}: a patch is a target and operations")
    try:
        target = _filled(patch["target"], values)
        operations = _filled(yaml.safe_load(patch["patch"]), values)
    except KeyError as error:
        raise KustomizeError(f"{folder.name}: {error!r}") from error
    hits = [each for each in objects if _is_meant(each, target)]
    if not hits:
        raise KustomizeError(f"{folder.name}: a patch finds no {target}")
    changed = {id(each): _changed(each, operations, folder) for each in hits}
    return [changed.get(id(each), each) for each in objects]


def _is_meant(each: Manifest, target: Mapping[str, str]) -> bool:
    kind, namespace, name = identity(each)
    known = {"kind": kind, "namespace": namespace, "name": name}
    if strange := target.keys() - known.keys():
        raise KustomizeError(f"a target by {', '.join(sorted(strange))} is not read")
    # Kustomize takes each for a regular expression, anchored at both ends.
    return all(re.fullmatch(target[key], known[key]) for key in target)


def _changed(
    each: Manifest, operations: Iterable[Mapping[str, Any]], folder: Path
) -> Manifest:
    found = copy.deepcopy(each)
    for operation in operations:
        try:
            _operate(found, operation)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            where = f"{folder.name}: {identity(each)}: {operation}"
            raise KustomizeError(f"{where}: {error!r}") from error
    return found


def _operate(document: Manifest, operation: Mapping[str, Any]) -> None:
    """Do one operation of RFC 6902 to a document, or raise what is wrong with it."""
    *path, last = [
        step.replace("~1", "/").replace("~0", "~")
        for step in operation["path"].split("/")[1:]
    ]
    place: Any = document
    for step in path:
        place = place[int(step)] if isinstance(place, list) else place[step]
    match operation["op"]:
        case "test":
            here = place[int(last)] if isinstance(place, list) else place[last]
            if here != operation["value"]:
                raise ValueError(f"it is {here!r}")
        case "add" if isinstance(place, list):
            place.insert(len(place) if last == "-" else int(last), operation["value"])
        case "add":
            place[last] = operation["value"]
        case "replace":
            key = int(last) if isinstance(place, list) else last
            place[key]  # it must be there
            place[key] = operation["value"]
        case "remove":
            del place[int(last) if isinstance(place, list) else last]
        case other:
            raise ValueError(f"no operation {other}")
