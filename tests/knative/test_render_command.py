"""`guise tenant render`, as an operator types it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
import yaml

from functions.cli import main
from functions.roster import Isolation, Models, Spec, write
from knative import cluster
from models import catalogue, channels
from tools import manifests

if TYPE_CHECKING:
    from pathlib import Path

OWN = Spec(id="acme", isolation=Isolation(compute=1))
POOLED = Spec(id="bolt")
AWAY = Spec(id="away", region="us-east1")
GONE = Spec(id="gone", state="deleted")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of specs: one of each kind."""
    for spec in (OWN, POOLED, GONE):
        (tmp_path / f"{spec.id}.yaml").write_bytes(write(spec))
    return tmp_path


@pytest.fixture
def away(folder: Path) -> Path:
    """Return the folder with somebody besides who is of another region."""
    (folder / "away.yaml").write_bytes(write(AWAY))
    return folder


def run(folder: Path, *arguments: str) -> int | str | None:
    """Run the command and return the exit status."""
    where = ("--tenants", str(folder), "--packs", str(folder / "packs"))
    with pytest.raises(SystemExit) as ended:
        main(["tenant", "render", *where, *arguments])
    return ended.value.code


CLUSTER = ("--cluster", str(manifests.EXAMPLE))


def mounts(name: str) -> list[dict[str, str]]:
    """Return what a Service of the system has mounted of ConfigMap guise-everybody."""
    [spec] = [
        each["spec"]["template"]["spec"]
        for each in manifests.system("trial")
        if (each["kind"], each["metadata"]["name"]) == ("Service", name)
    ]
    [volume] = [
        each["name"]
        for each in spec["volumes"]
        if each.get("configMap", {}).get("name") == "guise-everybody"
    ]
    found: list[dict[str, str]] = spec["containers"][0]["volumeMounts"]
    return [each for each in found if each["name"] == volume]


def test_one_tenant_is_printed_for_kubectl(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every object a document, the namespace before what lies in it, and no fault."""
    assert run(folder, "acme", *CLUSTER) == 0
    printed = capsys.readouterr()
    objects = list(yaml.safe_load_all(printed.out))
    assert objects[0]["kind"] == "Namespace"
    needed = ["kubernetes.podspec-priorityclassname"]  # the example's option
    assert manifests.lint(objects, needed) == []
    assert f"off by default: {needed[0]}; docs/operations.md" in printed.err


def test_no_flag_is_spoken_of_that_nothing_needs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The option for priority is no matter of who is in the pool."""
    assert run(folder, "bolt", *CLUSTER) == 0
    assert capsys.readouterr().err == ""


def test_everybody_and_what_the_pool_knows(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pool is told of its own tenants, audit and billing of all who are there."""
    assert run(folder, "--all", *CLUSTER) == 0
    objects = list(yaml.safe_load_all(capsys.readouterr().out))
    [pool] = [
        each
        for each in objects
        if each["metadata"] == {"name": "guise-tenants", "namespace": "guise-system"}
    ]
    assert set(pool["data"]) == {"bolt.yaml"}
    [told] = [each for each in objects if each["metadata"]["name"] == "guise-everybody"]
    folder_there = told["data"].pop("folder")
    assert set(told["data"]) == {"acme.yaml", "bolt.yaml"}
    for name in ("audit", "billing"):
        assert folder_there in {mount["mountPath"] for mount in mounts(name)}
    homes = {each["metadata"].get("namespace") for each in objects}
    assert homes == {None, "guise-acme", "guise-system"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (CLUSTER, "name a tenant"),
        (("gone", *CLUSTER), "gone is deleted"),
        (("nobody", *CLUSTER), "no spec of nobody"),
        (("acme", "acme", *CLUSTER), "twice"),
        (("acme", "--cluster", "nowhere.yml"), "nowhere.yml is not there"),
    ],
)
def test_what_cannot_be_rendered(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    """One line says why, and nothing is printed that could be applied."""
    assert run(folder, *arguments) == 1
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("said", ["region: europe-west4", "region: ''"])
def test_nobody_is_rendered_where_another_region_is(
    away: Path, capsys: pytest.CaptureFixture[str], said: str
) -> None:
    """Nor does the pool hear of them, whose region that is not; the others go on."""
    text = manifests.EXAMPLE.read_text().replace("region: europe-west4", said)
    (away / "cluster.yml").write_text(text)
    where = ("--cluster", str(away / "cluster.yml"))
    assert run(away, "away", *where) == 1
    assert "away: region: the spec says us-east1" in capsys.readouterr().err
    assert run(away, "--all", *where) == 1
    printed = capsys.readouterr()
    assert "all but 1 are rendered: away: region" in printed.err
    pool = list(yaml.safe_load_all(printed.out))[-1]
    assert set(pool["data"]) == {"bolt.yaml"}


def test_of_all_it_is_said_whose_cannot_be(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what is missing, and it ends with 1; one keeps no other back."""
    pinned = Spec(
        id="pins", isolation=Isolation(model=1, compute=1), models=Models(pin="9.9.9")
    )
    (folder / "pins.yaml").write_bytes(write(pinned))
    (folder / "torn.yaml").write_text("tier: [")
    assert run(folder, "--all", *CLUSTER) == 1
    printed = capsys.readouterr()
    assert "all but 2 are rendered" in printed.err
    assert (
        "pins: packs: the cluster's file names no images of lite 9.9.9" in printed.err
    )
    assert "torn.yaml" in printed.err
    objects = list(yaml.safe_load_all(printed.out))
    assert {each["metadata"].get("namespace") for each in objects} == {
        *(None, "guise-acme", "guise-system")
    }
    assert set(objects[-1]["data"]) == {"bolt.yaml"}


def test_of_all_whoever_gets_no_version_keeps_the_pool_back_neither(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There are channels, and none of them has a pack for the tenant."""
    (folder / "packs").mkdir()
    state = channels.Channels(lines={})
    (folder / "packs" / channels.NAME).write_bytes(msgspec.json.encode(state))
    assert run(folder, "--all", *CLUSTER) == 1
    printed = capsys.readouterr()
    assert "acme: which pack?" in printed.err
    assert "bolt.yaml" in printed.out


def test_the_example_has_the_pack_that_is_made_here() -> None:
    """What `make demo` makes is what the example's images hold, and the docs name."""
    [lite] = [pack for pack in catalogue.load().packs if pack.id == "lite"]
    assert list(cluster.read(manifests.EXAMPLE).packs["lite"]) == [lite.version]
    page = (manifests.EXAMPLE.parents[1] / "docs" / "operations.md").read_text()
    assert f".guise/models/lite/{lite.version}" in page
