"""A pack of the InsightFace family through the real doors, by the same command."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from functions import events
from functions.local.home import Home
from functions.swap.media import decode
from models.verify import verify
from tests.engine.neural import packs
from tests.integration.stack import COLLINS, GUISE, HOPPER, up

if TYPE_CHECKING:
    from pathlib import Path

    from functions.swap.engine.arrays import Bytes

pytestmark = pytest.mark.xdist_group("neural-stack")


def guise(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command, and hold it to its exit status."""
    command = [str(GUISE), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def swap(home: Path, out: Path, *options: object) -> Any:
    """Swap the sample pictures; return the record."""
    place = ("-o", out, "--consent", "public-domain", "--home", home, "--json")
    done = guise("swap", COLLINS, HOPPER, *place, *options)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a pack of stand-ins of tier quality, for looking at only."""
    root = tmp_path_factory.mktemp("pack")
    return packs.imported(root, "insightface-quality", *packs.ALL[3:])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("neural") / "home"


@pytest.fixture(scope="module")
def record(pack: Path, home: Path) -> Any:
    """Swap by one command, with everything the pack can do."""
    options = ("--upscale", 2, "--weight", 0.8, "--mask", "hull")
    return swap(home, home.parent / "out.png", "--models", pack, *options)


def test_the_picture_is_whole(record: Any, home: Path) -> None:
    """It is a PNG, as was asked for, and twice as large as the target."""
    assert record["outcome"] == "completed"
    found = cv2.imread(str(home.parent / "out.png"))
    target = cv2.imread(str(HOPPER))
    assert found is not None
    assert target is not None
    assert found.shape == (2 * target.shape[0], 2 * target.shape[1], 3)


def test_the_record_is_complete(record: Any, pack: Path) -> None:
    """Counts, receipt, device, usage, verdict and by what right the models serve."""
    made = verify(pack)
    assert record["counts"]["done"] == 1
    assert record["receipt"]["index"] == 1  # after the tenant was made
    usage = record["usage"]
    assert usage["model_digest"] == made.pack_digest
    assert usage["device"]["kind"] == "cpu"
    assert float(usage["cpu_seconds"]) > 0
    assert record["vetted"] == {"verified": "full", "licence": "non-commercial"}
    verdict = record["gate"]
    assert (verdict["gate"], verdict["model"]) == ("judged", "nsfw_marqo")
    assert len(verdict["pictures"]) == 3
    assert record["provenance"]["c2pa"]


def test_the_log_names_the_pack(record: Any, pack: Path, home: Path) -> None:
    """`started`, the entry that had to be there first, and the ending."""
    made = verify(pack)
    with up(home) as stack:
        path = f"/v1/tenants/demo/log/entries?job={record['job']}"
        entries = stack.get(path, "audit").json()["entries"]
    started, completed = (entry["leaf"] for entry in entries)
    assert started["type"] == events.SWAP_STARTED
    assert started["data"]["pack"] == {
        "id": "insightface-quality",
        "version": made.version,
        "tier": "quality",
        "digest": made.pack_digest,
    }
    assert completed["type"] == events.SWAP_COMPLETED
    assert completed["data"]["vetted"] == record["vetted"]
    assert completed["data"]["gate"]["model"] == "nsfw_marqo"


def test_restoring_is_what_the_tier_does(
    pack: Path, home: Path, tmp_path: Path
) -> None:
    """Unless the command says no; what lies far from the face is left in any case."""

    def pixels(*options: str) -> Bytes:
        out = tmp_path / "out.png"
        swap(home, out, "--models", pack, *options)
        return decode(out.read_bytes()).pixels

    target = decode(HOPPER.read_bytes()).pixels
    unsaid, plain = pixels(), pixels("--no-restore")
    assert np.array_equal(unsaid, pixels("--restore"))
    assert np.any(unsaid != plain)
    for picture in (unsaid, plain):
        assert 0.1 < (picture == target).all(axis=2).mean() < 0.99


def test_detecting_gives_positions_that_choose(
    record: Any, pack: Path, home: Path, tmp_path: Path
) -> None:
    """The middle of a face that was found names that face."""
    assert record["outcome"] == "completed"
    place = ("--models", pack, "--home", home, "--json")
    done = guise("detect", HOPPER, *place)
    faces = json.loads(done.stdout.splitlines()[-1])["faces"]
    inside = [face for face in faces if min(face["box"]) >= 0]
    x0, y0, x1, y1 = inside[-1]["box"]
    middle = f"{(x0 + x1) / 2},{(y0 + y1) / 2}"
    told = swap(home, tmp_path / "out.png", "--models", pack, "--faces", middle)
    assert [face["index"] for face in told["faces"]] == [inside[-1]["index"]]


def test_what_is_accepted_here_is_on_the_next_record(
    pack: Path, tmp_path: Path
) -> None:
    """The stack's own worker reads what `guise models accept` has kept."""
    home = tmp_path / "home"
    with up(home):
        said = ("--reason", "a study", "--actor", "ada", "--home", home, "--json")
        done = guise("models", "accept", pack, *said)
    accepted = json.loads(done.stdout.splitlines()[-1])
    record = swap(home, tmp_path / "out.png", "--models", pack)
    assert record["vetted"] == {
        "verified": "full",
        "licence": "accepted",
        "acceptance": accepted["id"],
    }


def test_a_folder_that_is_no_pack(pack: Path, tmp_path: Path) -> None:
    """It is said at once and by file, and nothing is started."""
    out = ("-o", tmp_path / "out.png", "--consent", "public-domain")
    place = ("--home", tmp_path / "home")
    done = guise("swap", COLLINS, HOPPER, *out, *place, "--models", tmp_path, code=1)
    assert "pack.json: missing" in done.stderr
    cut = packs.spoilable(pack, tmp_path / "cut")
    (cut / "golden.npz").write_bytes(b"short")
    done = guise("swap", COLLINS, HOPPER, *out, *place, "--models", cut, code=1)
    assert "golden.npz: 5 bytes" in done.stderr
    assert Home(tmp_path / "home").running() is None
    assert not (tmp_path / "home" / "run").exists()


def test_a_pack_beside_a_stack_that_runs(pack: Path, tmp_path: Path) -> None:
    """Which pack that stack serves is its own affair: the command is refused."""
    home = tmp_path / "home"
    with up(home):
        done = guise(
            *("swap", COLLINS, HOPPER, "-o", tmp_path / "out.png"),
            *("--consent", "public-domain", "--home", home, "--models", pack),
            code=1,
        )
    assert "is served already: --models is for `guise up`" in done.stderr
    assert not (tmp_path / "out.png").exists()


def test_loading_a_pack_imports_one_engine(pack: Path) -> None:
    """A cold start pays for nothing of the mesh engine, nor of insightface."""
    code = (
        "import sys, pathlib\n"
        "from models.verify import verify\n"
        "from functions.swap import engine\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "engine.load(folder, verify(folder, full=False), device='cpu')\n"
        "print(*sys.modules)"
    )
    command = [sys.executable, "-c", code, str(pack)]
    loaded = set(subprocess.check_output(command, text=True).split())
    assert "functions.swap.engine.neural" in loaded
    heavy = {"functions.swap.engine.mesh", "flask", "insightface", "onnx", "skimage"}
    assert heavy.isdisjoint(loaded)
