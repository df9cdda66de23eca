"""Which jobs used exactly this image: over HTTP and by hand, each hit proven."""

from __future__ import annotations

import base64
import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from functions import events
from functions.audit.merkle import leaf_hash
from functions.audit.searching import EXACT, every, search
from functions.audit.store import Store
from functions.cli import main
from functions.commitments import commitment
from functions.problems import NotFound
from tests.audit import jobs
from tests.audit.house import BOTH
from tests.audit.jobs import CROWD, PHOTO, RESULT, Job, found, sha256

if TYPE_CHECKING:
    from pathlib import Path

    from tests.audit.house import House

DATABASES = BOTH


def hits(house: House, image: bytes) -> list[dict[str, Any]]:
    answer = jobs.search(house, image)
    assert answer.status_code == 200
    document: dict[str, Any] = json.loads(answer.data)
    assert document["exact"] == EXACT
    return list(document["hits"])


def test_a_hit_says_who_when_on_what_ground_and_how_it_ended(house: House) -> None:
    """Everything a data-protection officer is asked for, and no name of anybody."""
    job = Job(house, "j-1").run()
    (hit,) = hits(house, PHOTO)
    leaf = house.entries()[0]
    assert hit == {
        "job": "j-1",
        "role": "source",
        "started": "2026-11-21T12:00:00.000Z",
        "actor": "ann",
        "operation": "swap",
        "basis": "consent",
        "consent": "given",
        "outcome": "completed",
        "ended": "2026-11-21T12:00:00.000Z",
        "proof": {
            "epoch": 1,
            "index": 0,
            "leaf_hash": leaf_hash(leaf).hex(),
            "commitment": commitment(job.salt, sha256(PHOTO)),
        },
    }


def test_the_proof_can_be_checked_in_the_log(house: House) -> None:
    """The commitment stands in the entry at that index, and the leaf has that hash."""
    Job(house, "j-0", source=b"somebody else").run()
    Job(house, "j-1").run()
    for image, name in ((PHOTO, "sources"), (CROWD, "target"), (RESULT, "result")):
        proof = next(hit for hit in hits(house, image) if hit["job"] == "j-1")["proof"]
        leaf = house.entries()[proof["index"]]
        assert leaf_hash(leaf).hex() == proof["leaf_hash"]
        said = msgspec.json.decode(leaf)["data"]["commitments"][name]
        assert proof["commitment"] in (said if isinstance(said, list) else [said])


@pytest.mark.parametrize("image", [b"", PHOTO[:-1], PHOTO + b"\n", b"another"])
def test_any_other_file_is_not_found(house: House, image: bytes) -> None:
    """One byte less or more is another file."""
    Job(house, "j-1").run()
    assert hits(house, image) == []


def test_each_tenant_is_asked_for_itself(house: House) -> None:
    """What another tenant used is nobody else's business."""
    Job(house, "j-1").run()
    Job(house, "j-2", tenant="globex").run()
    assert found(house, PHOTO) == [("j-1", "source")]
    assert found(house, PHOTO, "globex") == [("j-2", "source")]


def test_a_job_that_has_not_ended_is_found(house: House) -> None:
    """It used the image as soon as it began."""
    job = Job(house, "j-1")
    job.send(job.started())
    (hit,) = hits(house, PHOTO)
    assert "outcome" not in hit
    assert hit["proof"]["index"] == 0


def test_how_a_failed_job_ended_is_said(house: House) -> None:
    """The last word on a job is its ending."""
    job = Job(house, "j-1")
    job.send(job.started())
    job.send(job.started(2))
    failed = house.event(
        "ending", type=events.SWAP_FAILED, data={"job": "j-1", "outcome": "failed"}
    )
    house.post(failed)
    (hit,) = hits(house, PHOTO)
    assert hit["outcome"] == "failed"
    assert hit["proof"]["index"] == 0


def test_an_entry_that_is_dropped_proves_nothing(house: House) -> None:
    """Its time was over: the hit stays, and says that it is not proven."""
    Job(house, "j-1").run()
    house.tamper("UPDATE entry SET leaf = NULL, type = '' WHERE idx = 0")
    (hit,) = hits(house, PHOTO)
    assert "proof" not in hit
    assert "actor" not in hit


def test_a_row_that_somebody_wrote_into_the_index_is_not_proven(house: House) -> None:
    """A person cannot be pinned on a job by whoever may write the table."""
    Job(house, "j-1").run()
    Job(house, "j-2", source=b"somebody else").run()
    house.tamper("UPDATE image SET job = 'j-2' WHERE job = 'j-1' AND role = 'source'")
    (hit,) = hits(house, PHOTO)
    assert hit["job"] == "j-2"
    assert "proof" not in hit


def test_a_job_whose_sidecar_is_gone_is_not_proven(house: House) -> None:
    """There is no salt to prove it with."""
    Job(house, "j-1").run()
    house.tamper("DELETE FROM record_key")
    assert "proof" not in hits(house, PHOTO)[0]


def test_an_erasure_that_was_cut_off_is_shown(house: House) -> None:
    """The entry stands, the rest does not: it is to be asked for again."""
    Job(house, "j-1").run()
    job = Job(house, "j-1")
    house.log.append(job.erased())  # and nothing of what follows
    (hit,) = hits(house, PHOTO)
    assert hit["erased"] is True


def test_what_expired_is_found_and_says_so(house: House) -> None:
    """The tenant keeps it no longer; that the photo was used is proven all the same."""
    job = Job(house, "j-1").run()
    job.send(job.expired())
    (hit,) = hits(house, PHOTO)
    assert hit["expired"] == "2026-11-21T12:00:00.000Z"
    assert ("erased" in hit, hit["proof"]["index"]) == (False, 0)
    house.log.append(job.erased())  # and nothing of what follows
    assert hits(house, PHOTO)[0]["erased"] is True


def test_strange_consents_break_nothing(house: House) -> None:
    """What an older function or another's said is shown as far as it is text."""
    job = Job(house, "j-1")
    event = job.started()
    strange_ones: list[Any] = [None, "x", {"consent": 7}, {"consent": {}}]
    for number, admission in enumerate(strange_ones):
        said = {**event.data, "admission": admission, "actor": number}
        strange = house.event(
            f"s-{number}", data=said, extensions=dict(event.extensions)
        )
        assert job.send(strange).status_code == 200
        (hit,) = hits(house, PHOTO)
        assert {"basis", "consent", "actor"}.isdisjoint(hit)


def test_many_jobs_come_in_pages(house: House) -> None:
    """A page has at most so many jobs, and says where to go on; all are found."""
    names = [f"j-{n}" for n in range(7)]
    for name in names:
        job = Job(house, name, target=PHOTO)
        job.send(job.started())
    store, keys = house.log.store, house.keys
    first = search(store, keys, "acme", sha256(PHOTO), limit=3)
    assert [hit.job for hit in first.hits] == ["j-0"] * 2 + ["j-1"] * 2 + ["j-2"] * 2
    assert first.following == "j-2"
    after = search(store, keys, "acme", sha256(PHOTO), after="j-5", limit=3)
    assert ([hit.job for hit in after.hits], after.following) == (["j-6"] * 2, "")
    whole = every(store, keys, "acme", sha256(PHOTO), limit=3)
    assert sorted({hit.job for hit in whole.hits}) == names
    assert len(whole.hits) == 14


def test_a_search_takes_a_token_of_the_tenant_that_may_read(house: House) -> None:
    """Another tenant's, none, and one without the scope are refused."""
    Job(house, "j-1").run()
    assert jobs.search(house, PHOTO, token="globex").status_code == 404  # noqa: S106  # a name
    assert jobs.search(house, PHOTO, token="").status_code == 401
    nobody = jobs.search(house, PHOTO, tenant="nobody", token="nobody")  # noqa: S106  # a name
    assert nobody.status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"sha256": "ab"}',
        b'{"sha256": 7}',
        b'{"sha256": "%s"}' % (b"AB" * 32),
        b'{"sha256": "%s", "face": 1}' % (b"ab" * 32),
    ],
)
def test_a_malformed_search_is_refused(house: House, body: bytes) -> None:
    """By name; a digest is lower-case hex."""
    answer = house.client.post(
        "/v1/tenants/acme/log/searches",
        data=body,
        headers={"Authorization": "Bearer acme"},
    )
    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"


def test_a_search_changes_nothing(house: House) -> None:
    """Who asked about whom is in no log."""
    Job(house, "j-1").run()
    before = house.entries()
    hits(house, PHOTO)
    assert house.entries() == before


# --- the checkpoint in every answer ------------------------------------------


def noted(house: House, path: str, **headers: str) -> tuple[int, str]:
    answer = house.get(path, **headers)
    note = answer.headers.get("Guise-Checkpoint", "")
    return answer.status_code, base64.b64decode(note).decode()


def test_every_answer_of_the_log_carries_the_newest_checkpoint(house: House) -> None:
    """Whoever keeps one can tell a rewritten log from it; a 404, too, is an answer."""
    Job(house, "j-1").run()
    newest = house.get("checkpoint").text
    assert newest.startswith("guise.audit/acme\n2\n")
    paths = ("checkpoint", "tile/0/000.p/1", "tile/entries/000.p/2", "entries")
    for path in (*paths, "proof/0", "entries?job=j-1"):
        assert noted(house, path) == (200, newest), path
    assert noted(house, "proof/0", Accept="text/plain") == (200, newest)
    for path in ("proof/2", "tile/0/000", "tile/0/x000", "erasures/j-1"):
        assert noted(house, path) == (404, newest), path
    for answer in (jobs.search(house, PHOTO), jobs.erase(house, "j-1")):
        assert answer.status_code == 200
        assert "Guise-Checkpoint" in answer.headers
    assert noted(house, "erasures/j-1")[1] == house.get("checkpoint").text


def test_an_empty_log_has_no_checkpoint_to_carry(house: House) -> None:
    """The header is left out; who may not read gets none either."""
    assert noted(house, "checkpoint") == (404, "")
    assert noted(house, "entries") == (200, "")
    Job(house, "j-1").run()
    strangers = house.get("checkpoint", token="globex")  # noqa: S106  # a name
    assert (strangers.status_code, "Guise-Checkpoint" in strangers.headers) == (
        404,
        False,
    )


def test_an_epoch_is_read_under_its_number(house: House) -> None:
    """The newest one under both; one that there is not, as a log that is empty."""
    Job(house, "j-1").run()

    def of_epoch(number: str, path: str = "checkpoint") -> tuple[int, bytes]:
        answer = house.client.get(
            f"/v1/tenants/acme/logs/{number}/{path}",
            headers={"Authorization": "Bearer acme"},
        )
        return answer.status_code, answer.data

    for path in ("checkpoint", "proof/0", "entries", "tile/0/000.p/2"):
        assert of_epoch("1", path) == (200, house.get(path).data)
    assert of_epoch("2")[0] == 404
    assert json.loads(of_epoch("2", "entries")[1])["entries"] == []
    assert of_epoch("x")[0] == of_epoch("01")[0] == 400
    assert of_epoch("99999")[0] == 404


# --- by hand -----------------------------------------------------------------


class Desk:
    """The command line over the log of a house."""

    def __init__(
        self, house: House, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.house, self.folder, self.capsys = house, folder, capsys
        (folder / "audit.secret").write_bytes(
            base64.b64encode(house.keys.secret("audit"))
        )
        (folder / "photo.jpg").write_bytes(PHOTO)

    def search(self, *arguments: object, code: int = 0) -> str:
        where = ("--database", self.house.url, "--keys", self.folder)
        with pytest.raises(SystemExit) as ended:
            main(["audit", "search", *map(str, (*arguments, *where))])
        assert (ended.value.code or 0) == code
        said = self.capsys.readouterr()
        return said.out if code == 0 else said.err


@pytest.fixture
def desk(house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    """Return a command line with the photo, the database and the keys at hand."""
    return Desk(house, tmp_path, capsys)


def test_a_photo_is_looked_up_by_hand(desk: Desk) -> None:
    """A table for a person, which says what kind of search it was."""
    Job(desk.house, "a-job-with-a-rather-long-name").run()
    shown = desk.search("--tenant", "acme", "--image", desk.folder / "photo.jpg")
    words = " ".join(shown.split())
    for expected in (
        "a-job-with-a-rather-long-name",
        "source",
        "consent given",
        "swap completed",
        "entry 0 commits to exactly this image",
        "exact bytes",
        "biometric",
    ):
        assert expected in words


def test_a_script_gets_json(desk: Desk) -> None:
    """The same that HTTP answers, all pages in one."""
    Job(desk.house, "j-1").run()
    for named in (
        ("--image", desk.folder / "photo.jpg"),
        ("--sha256", sha256(PHOTO).upper()),
    ):
        printed = json.loads(desk.search("--tenant", "acme", *named, "--json"))
        assert printed["hits"] == hits(desk.house, PHOTO)
        assert printed["following"] == ""


def test_what_is_wrong_with_a_hit_is_said(desk: Desk) -> None:
    """Not proven, not ended, erasure not finished: a person must not guess."""
    job = Job(desk.house, "j-1")
    job.send(job.started())
    desk.house.log.append(job.erased())
    desk.house.tamper("UPDATE entry SET leaf = NULL WHERE idx = 0")
    shown = desk.search("--tenant", "acme", "--sha256", sha256(PHOTO))
    words = " ".join(shown.split())
    for expected in ("proof none", "ended not yet", "erasure not finished"):
        assert expected in words


def test_what_expired_is_shown_by_hand(desk: Desk) -> None:
    """Since when, and not as if it were erased."""
    job = Job(desk.house, "j-1").run()
    job.send(job.expired())
    shown = desk.search("--tenant", "acme", "--sha256", sha256(PHOTO))
    expected = "expired 2026-11-21T12:00:00.000Z: the tenant's store has it no"
    assert expected in " ".join(shown.split())
    assert "erasure" not in shown


def test_an_image_that_nobody_used_is_said_not_to_be_found(desk: Desk) -> None:
    """With what that does not mean."""
    Job(desk.house, "j-1").run()
    shown = desk.search("--tenant", "acme", "--sha256", sha256(b"another"))
    assert "no job that is not erased used exactly this image" in shown
    assert EXACT in shown


@pytest.mark.parametrize(
    "arguments",
    [(), ("--sha256", "ab"), ("--sha256", "ab" * 32, "--image", "photo.jpg")],
)
def test_an_image_is_named_once_and_well(desk: Desk, arguments: tuple[str]) -> None:
    """One line says what is wrong."""
    said = desk.search("--tenant", "acme", *arguments, code=1)
    assert "invalid-request" in said


def test_without_the_secret_nobody_searches(desk: Desk) -> None:
    """The database alone is not enough, and one line says so."""
    (desk.folder / "audit.secret").unlink()
    desk.search("--tenant", "acme", "--sha256", "ab" * 32, code=1)


def test_a_search_waits_for_no_function(house: House) -> None:
    """Another process with the secret finds the same."""
    Job(house, "j-1").run()
    with closing(Store.open(house.url)) as store:
        answer = search(store, house.keys, "acme", sha256(PHOTO))
    assert [hit.job for hit in answer.hits] == ["j-1"]


def test_a_tenant_without_a_log_is_not_one_whose_jobs_used_nothing(
    house: House,
) -> None:
    """A mistyped name must not become a wrong answer to a person's request."""
    with pytest.raises(NotFound, match="there is no log of acmee"):
        search(house.log.store, house.keys, "acmee", "0" * 64)
