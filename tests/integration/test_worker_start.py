"""Which packs a worker starts with, in a real process as a cluster starts it.

Whatever is wrong, the function ends with the status that tells gunicorn not to try
again, its log names what is wrong, and no answer, result or event has left.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from functions.events import MODELS_ACCEPTED, OPERATOR, SWAP_COMPLETED
from models import manifest
from tests.audit.house import House
from tests.engine.neural import packs
from tests.integration.production import Cluster, cluster
from tests.models.paper import key_pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from functions.acceptances import Kind

LICENCE: Kind = "non-commercial-licence"
NO_GATE: Kind = "no-content-gate"


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a pack of stand-ins whose swapper is mapped; it may serve nobody."""
    return packs.imported(tmp_path_factory.mktemp("prepared"), halved=True)


@pytest.fixture
def place(tmp_path: Path, prepared: Path) -> Iterator[Cluster]:
    """Return a cluster with the pack signed, and nothing accepted."""
    with cluster(tmp_path, prepared) as made:
        yield made


@pytest.fixture
def answered(place: Cluster) -> Cluster:
    """Return the cluster, and have the operator answer for licence and gate."""
    place.accept(LICENCE)
    place.accept(NO_GATE)
    return place


def log_of(place: Cluster) -> list[Any]:
    """Return the operator's audit log."""
    house = House(place.log, place.keys, None, place.audit)  # type: ignore[arg-type]
    return [json.loads(leaf) for leaf in house.entries(OPERATOR)]


def refused(place: Cluster, *said: str, **changes: str) -> None:
    """Hold a worker to not starting, though a job is there for it at once."""
    with place.worker(**changes) as worker:
        assert worker.run("j1") in {None, 503}
        log = worker.ended()
    for text in said:
        assert text in log
    assert place.results == []
    assert place.sunk == []


# --- spoiled packs -----------------------------------------------------------

FILES = (
    "det_10g.onnx",
    "golden.npz",
    "inswapper_128-emap.npy",
    "inswapper_128.bin",
    "inswapper_128.onnx",
    "w600k_r50.onnx",
)


def test_every_file_of_the_pack_is_tried(prepared: Path) -> None:
    """The list below is the pack's own."""
    assert sorted(path.name for path in prepared.iterdir()) == sorted(
        (*FILES, manifest.NAME)
    )


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte(answered: Cluster, name: str) -> None:
    """In any file, mapped weights among them, which are hashed beside the job."""
    packs.flip(answered.pack / name)
    refused(answered, f"{name}: its SHA-256 is")


@pytest.mark.parametrize("at", [0, 0.5, 0.999])
def test_a_flipped_byte_in_the_manifest(answered: Cluster, at: float) -> None:
    """Whether it still reads or not."""
    packs.flip(answered.pack / manifest.NAME, at)
    refused(answered, f"{manifest.NAME}: ")


def test_a_missing_file(answered: Cluster) -> None:
    """It is named."""
    (answered.pack / "inswapper_128-emap.npy").unlink()
    refused(answered, "inswapper_128-emap.npy: missing")


def test_an_extra_file(answered: Cluster) -> None:
    """It is named."""
    (answered.pack / "extra.onnx").write_bytes(b"")
    refused(answered, "extra.onnx: not in the manifest")


def wrong_key(place: Cluster) -> None:
    key_pair(place.root / "trust", "approver")


def swapped(place: Cluster) -> None:
    shutil.copy(place.pack / "publisher.sig.json", place.pack / "approver.sig.json")


def unsigned(place: Cluster) -> None:
    (place.pack / "publisher.sig.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (wrong_key, "approver.sig.json: signed by a key that is not trusted"),
        (swapped, "approver.sig.json: signed by the publisher"),
        (unsigned, "publisher.sig.json: missing"),
    ],
)
def test_a_wrong_signature(
    answered: Cluster, spoil: Callable[[Cluster], None], said: str
) -> None:
    """A wrong key, the publisher's in the approver's place, or none."""
    spoil(answered)
    refused(answered, said)


def test_production_asks_who_vouches(answered: Cluster) -> None:
    """Without keys nobody does."""
    refused(answered, "GUISE_MODEL_KEYS: not set", GUISE_MODEL_KEYS="")


# --- licences and the gate ---------------------------------------------------


def test_a_licence_that_is_not_commercial(place: Cluster) -> None:
    """Production does not start; once it is accepted, on record, it does."""
    refused(place, "may not be used commercially", "guise models accept")
    licence, gate = place.accept(LICENCE), place.accept(NO_GATE)
    leaves = log_of(place)
    assert [leaf["id"] for leaf in leaves] == [licence.id, gate.id]
    assert {leaf["type"] for leaf in leaves} == {MODELS_ACCEPTED}
    assert [leaf["data"]["kind"] for leaf in leaves] == [LICENCE, NO_GATE]
    with place.worker() as worker:
        record = worker.record("j2")
    assert record["outcome"] == "completed"
    assert record["vetted"] == {
        "verified": "full",
        "licence": "accepted",
        "acceptance": licence.id,
    }
    assert record["gate"]["accepted"] == gate.id
    assert SWAP_COMPLETED in place.sunk


def test_without_a_gate_nothing_is_swapped(place: Cluster) -> None:
    """Unless that is accepted, too: the worker serves, and refuses by name."""
    place.accept(LICENCE)
    with place.worker() as worker:
        record = worker.record("j1")
    assert record["outcome"] == "refused"
    assert record["problem"]["type"] == "urn:guise:problem:no-content-gate"
    assert "output" not in record


def test_an_acceptance_of_another_pack(place: Cluster) -> None:
    """Or one that somebody has changed: neither helps."""
    place.accept(LICENCE)
    (kept,) = (place.root / "acceptances").iterdir()
    kept.write_text(kept.read_text().replace("a study", "a strudel"))
    refused(place, f"GUISE_ACCEPTANCES: {kept.name}: ")


def test_a_layer_that_others_have_verified(answered: Cluster) -> None:
    """GUISE_VERIFY=manifest: it is not hashed, and the record says so."""
    with answered.worker(GUISE_VERIFY="manifest") as worker:
        record = worker.record("j1")
    assert record["outcome"] == "completed"
    assert record["vetted"]["verified"] == "manifest"
