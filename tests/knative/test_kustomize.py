"""Our reading of kustomizations: what kubectl makes of them, and stricter."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import knative
from knative.kustomize import KustomizeError, build, identity, pin

if TYPE_CHECKING:
    from pathlib import Path

SYSTEMS = ("trial", "production", "production-oidc")
PLAIN = """
resources: [a.yaml]
"""
OBJECT = """
kind: Service
metadata: {name: a, namespace: n}
spec:
  image: shop/a:1
  list: [1, 2]
  map: {with/slash: 1}
"""


def folder(root: Path, plan: str, **files: str) -> Path:
    root.mkdir(exist_ok=True)
    (root / "kustomization.yml").write_text(plan)
    for name, text in ({"a": OBJECT} | files).items():
        (root / f"{name}.yaml").write_text(text)
    return root


def patched(root: Path, *operations: str, target: str = "{kind: Service}") -> Any:
    lines = "\n".join(f"      - {{{each}}}" for each in operations)
    plan = f"{PLAIN}patches:\n  - target: {target}\n    patch: |\n{lines}\n"
    [found] = build(folder(root, plan))
    return found["spec"]


@pytest.mark.parametrize("name", SYSTEMS)
def test_kubectl_makes_the_same_of_it(name: str) -> None:
    """Whoever applies a folder with kubectl has what is checked here."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not on this machine")
    done = subprocess.run(
        [kubectl, "kustomize", knative.folder() / name],
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = {identity(each): each for each in yaml.safe_load_all(done.stdout)}
    ours = {identity(each): each for each in build(knative.folder() / name)}
    assert ours == theirs


def test_operations(tmp_path: Path) -> None:
    """Added at a key, in a list and at its end; replaced; removed; tested first."""
    spec = patched(
        tmp_path,
        'op: test, path: "/spec/list/0", value: 1',
        'op: add, path: "/spec/list/-", value: 3',
        'op: add, path: "/spec/list/0", value: 0',
        'op: replace, path: "/spec/list/1", value: 9',
        'op: remove, path: "/spec/list/2"',
        'op: replace, path: "/spec/map/with~1slash", value: 2',
        'op: add, path: "/spec/new~0", value: {}',
        'op: test, path: "/spec/new~0", value: {}',
        'op: remove, path: "/spec/image"',
    )
    assert spec == {"list": [0, 9, 3], "map": {"with/slash": 2}, "new~": {}}


@pytest.mark.parametrize(
    "operation",
    [
        "op: replace, path: /spec/none, value: 1",
        "op: replace, path: /spec/list/7, value: 1",
        "op: remove, path: /spec/none",
        "op: add, path: /spec/none/deeper, value: 1",
        "op: test, path: /spec/image, value: other",
        "op: copy, path: /spec/a",
        "op: add",
    ],
)
def test_an_operation_that_cannot_be_done(tmp_path: Path, operation: str) -> None:
    """The message names the folder, the object and the operation."""
    with pytest.raises(KustomizeError, match=r"Service.*op"):
        patched(tmp_path, operation)


@pytest.mark.parametrize(
    "target",
    ["{kind: Deployment}", "{kind: Service, name: b}", "{kind: Serv}"],
)
def test_a_patch_that_finds_nothing(tmp_path: Path, target: str) -> None:
    """Kustomize lets it pass; here it is a mistake.  Names match as a whole."""
    with pytest.raises(KustomizeError, match="finds no"):
        patched(tmp_path, "op: remove, path: /spec/list", target=target)


def test_a_target_is_a_regular_expression(tmp_path: Path) -> None:
    """As kustomize takes it, anchored at both ends."""
    assert "list" not in patched(
        tmp_path,
        "op: remove, path: /spec/list",
        target="{kind: Service, name: a|b, namespace: n}",
    )


@pytest.mark.parametrize(
    "plan",
    [
        "namePrefix: x-",
        "resources: [none.yaml]",
        "resources: [a.yaml, a.yaml]",
        "resources: [a.yaml]\npatches: [{path: a.yaml}]",
        "resources: [a.yaml]\npatches: [{target: {group: x}, patch: ''}]",
        "resources: [a.yaml]\npatches: [{target: {label: x}, patch: '[]'}]",
        "resources: [bad.yaml]",
        "resources: [unfilled.yaml]",
    ],
)
def test_a_folder_that_cannot_be_built(tmp_path: Path, plan: str) -> None:
    """What is not read, not there, there twice or not filled in is refused."""
    with pytest.raises(KustomizeError):
        build(folder(tmp_path, plan, bad="a: [", unfilled="a: ${nobody}"))


@pytest.mark.parametrize("value", ['a"b', "a\\b", "a\nb", "\x7f"])
def test_a_value_that_would_end_its_quotes(tmp_path: Path, value: str) -> None:
    """Nobody's name or address adds a field to a manifest."""
    with pytest.raises(KustomizeError, match="has no place in a manifest"):
        build(folder(tmp_path, PLAIN), {"name": value})


def test_folders_add_up(tmp_path: Path) -> None:
    """Resources of another folder, then components; values reach all of them."""
    folder(tmp_path / "base", PLAIN)
    folder(
        tmp_path / "part",
        "resources: [b.yaml]\npatches:\n  - target: {name: a}\n"
        "    patch: '[{op: add, path: /spec/who, value: \"${who}\"}]'\n",
        b="kind: Broker\nmetadata: {name: '${who}'}\n",
    )
    top = folder(tmp_path / "top", "resources: [../base]\ncomponents: [../part]")
    found = build(top, {"who": "acme"})
    assert [identity(each) for each in found] == [
        ("Service", "n", "a"),
        ("Broker", "", "acme"),
    ]
    assert found[0]["spec"]["who"] == "acme"
    again = build(tmp_path / "base", {"who": "acme"}, components=[tmp_path / "part"])
    assert again == found


DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ("{name: shop/a, digest: '" + DIGEST + "'}", f"shop/a@{DIGEST}"),
        (
            "{name: shop/a, newName: other.io:5000/b, digest: '" + DIGEST + "'}",
            f"other.io:5000/b@{DIGEST}",
        ),
        ("{name: shop/b, newName: c}", "shop/a:1"),
    ],
)
def test_images_are_pinned(tmp_path: Path, images: str, expected: str) -> None:
    """An image that is named is replaced with its tag; any other stays."""
    [found] = build(folder(tmp_path, f"{PLAIN}images: [{images}]"))
    assert found["spec"]["image"] == expected


def test_an_image_s_registry_may_have_a_port() -> None:
    """What follows the last colon after a slash is the tag, and nothing else is."""
    objects: list[dict[str, Any]] = [
        {"image": "host:5000/a"},
        {"image": "host:5000/a:1"},
        {"image": {}},
    ]
    assert pin(objects, {"host:5000/a": "b"}) == [
        {"image": "b"},
        {"image": "b"},
        {"image": {}},
    ]


@pytest.mark.parametrize("value", ["on", "null", "0", "0x1f", "a: b", "- c", "[d", "#"])
def test_a_value_is_text_whatever_it_looks_like(tmp_path: Path, value: str) -> None:
    """In an object, as a key, inside other text and in a patch."""
    plan = """
resources: [a.yaml]
patches:
  - target: {kind: Service}
    patch: |
      - {op: add, path: /spec/patched, value: {is: ${name}}}
"""
    text = "kind: Service\nmetadata: {name: a}\nspec: {${name}: [${name}, 'a-${name}']}"
    [found] = build(folder(tmp_path, plan, a=text), {"name": value})
    assert found["spec"] == {value: [value, f"a-{value}"], "patched": {"is": value}}


def test_a_number_is_one_where_it_is_alone(tmp_path: Path) -> None:
    """As a port is; within other text it is text."""
    text = (
        "kind: Service\nmetadata: {name: a}\nspec: {port: ${n}, url: 'http://b:${n}'}"
    )
    [found] = build(folder(tmp_path, PLAIN, a=text), {"n": 80})
    assert found["spec"] == {"port": 80, "url": "http://b:80"}


def test_a_patch_that_asks_for_a_value_that_is_not_there(tmp_path: Path) -> None:
    """The message names the folder and the value."""
    with pytest.raises(KustomizeError, match="'missing'"):
        patched(tmp_path, "op: add, path: /spec/x, value: '${missing}'")
