"""`guise audit export|verify|keys`, as an operator and an auditor run them."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from functions import events
from functions.audit.log import Log
from functions.audit.tiles import NoteVerifier, origin
from functions.cli.commands import app
from functions.cli.terminal import counting, harmless
from functions.events import Event
from functions.keys import FileKeys, MemoryKeys, events_key
from functions.problems import Failed, InvalidRequest, NotFound, TooLarge
from tests.audit.bundles import changed, files

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result


def guise(*arguments: object) -> Result:
    """Run a command in this process; what it raises is what `main` would print."""
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


def done(*arguments: object) -> str:
    """Run a command that must succeed, and return what it prints."""
    result = guise(*arguments)
    assert result.exit_code == 0, result.output or result.exception
    return result.stdout


def refused(*arguments: object) -> str:
    """Run a command that must say no, and return what it prints."""
    result = guise(*arguments)
    assert result.exit_code == 1, result.output or result.exception
    return result.stdout


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a home with keys and a log of six jobs."""
    home = tmp_path / "home"
    home.mkdir()
    keys = FileKeys(home / "keys")
    keys.create("audit")
    keys.create(events_key("acme"))
    with closing(Log.at(f"sqlite:///{home}/audit.db", keys)) as log:
        for number in range(6):
            append(log, keys, number)
    (tmp_path / "log.keys").write_text(done("keys", "--tenant", "acme", "--home", home))
    return home


def append(log: Log, keys: FileKeys, number: int) -> None:
    """Append the start of a job, at noon of a day of its own."""
    event = Event(
        id=f"event-{number}",
        source=events.swap_source("acme"),
        type=events.SWAP_STARTED,
        time=f"2026-11-{number + 10}T12:00:00.000Z",
        tenant="acme",
        data={"job": f"job-{number}"},
    )
    log.append(events.sign(event, keys.signer(events_key("acme"))))


@pytest.fixture
def bundle(home: Path, tmp_path: Path) -> Path:
    """Return the bundle of that log."""
    path = tmp_path / "bundle"
    done("export", "--tenant", "acme", "--home", home, "-o", path)
    return path


@pytest.fixture
def key(tmp_path: Path, home: Path) -> Path:
    """Return the file of the log's verifier keys."""
    assert home.exists()
    return tmp_path / "log.keys"


def test_a_log_is_exported_and_verified(home: Path, key: Path, bundle: Path) -> None:
    """An auditor with the file and the key needs nothing else."""
    said = done("verify", bundle, "--key", key)
    assert ": verified" in said
    assert "6 entries of 6" in said
    pub = home / "keys" / "events" / "acme.pub"
    report = json.loads(
        done("verify", bundle, "--key", key, "--tenant-keys", pub, "--json")
    )
    assert report["verified"] is True
    assert report["fault"] is None
    assert report["logs"][0]["types"] == {events.SWAP_STARTED: 6}


def test_what_was_exported_is_said(home: Path, tmp_path: Path) -> None:
    """Whoever exports reads how much it is, and how to check it."""
    where = ("export", "--tenant", "acme", "--home", home, "-o", tmp_path / "b")
    said = done(*where)
    assert "6 entries of a log of 6 written" in said
    assert "guise audit verify" in said
    facts = json.loads(done(*where, "--json"))
    assert (facts["tenant"], facts["size"], facts["entries"]) == ("acme", 6, 6)
    assert facts["bytes"] == (tmp_path / "b").stat().st_size


def test_a_period_by_dates(home: Path, key: Path, tmp_path: Path) -> None:
    """A date is its first moment, and --to is not in."""
    period = ("--from", "2026-11-12", "--to", "2026-11-14T00:00:00Z")
    path = tmp_path / "b"
    done("export", "--tenant", "acme", "--home", home, *period, "-o", path)
    [log] = json.loads(files(path)["manifest.json"])["logs"]
    assert log["wanted"] == {"start": 2, "stop": 4}
    assert "2026-11-12T12:00:00.000Z to 2026-11-13" in done(
        "verify", path, "--key", key
    )


def test_a_period_that_ends_before_it_begins(home: Path, tmp_path: Path) -> None:
    """Two dates in the wrong order are refused, and no empty bundle is made."""
    period = ("--from", "2026-11-14", "--to", "2026-11-12")
    path = tmp_path / "b"
    result = guise("export", "--tenant", "acme", "--home", home, *period, "-o", path)
    assert isinstance(result.exception, InvalidRequest)
    assert not path.exists()


def test_one_job_and_one_proof(home: Path, key: Path, tmp_path: Path) -> None:
    """Any record is verifiable with one file and one key."""
    path, one = tmp_path / "b", tmp_path / "4.tlog-proof"
    done("export", "--tenant", "acme", "--home", home, "--job", "job-4", "-o", path)
    said = done("verify", path, "--key", key)
    assert "job-4" in said
    one.write_bytes(files(path)["proofs/4.tlog-proof"])
    said = done("verify", one, "--key", key)
    assert "4 of 6 in guise.audit/acme" in said
    assert "job-4" in said
    facts = json.loads(done("verify", one, "--key", key, "--json"))
    assert (facts["verified"], facts["index"]) == (True, 4)
    assert facts["entry"]["data"] == {"job": "job-4"}


def test_a_proof_without_its_entry(home: Path, key: Path, tmp_path: Path) -> None:
    """A proof as the log serves it is checked with the entry beside it."""
    path = tmp_path / "b"
    done("export", "--tenant", "acme", "--home", home, "--job", "job-4", "-o", path)
    lines = files(path)["proofs/4.tlog-proof"].decode().split("\n")
    proof, leaf = tmp_path / "p", tmp_path / "leaf"
    proof.write_text("\n".join([lines[0], *lines[2:]]))
    assert "holds no entry" in refused("verify", proof, "--key", key)
    import base64

    leaf.write_bytes(base64.b64decode(lines[1].removeprefix("extra ")))
    done("verify", proof, "--key", key, "--leaf", leaf)
    leaf.write_bytes(b"{}")
    said = json.loads(refused("verify", proof, "--key", key, "--leaf", leaf, "--json"))
    assert said["verified"] is False
    assert "not under this root" in said["fault"]["text"]
    proof.write_bytes(b"\xff")
    refused("verify", proof, "--key", key)


def test_a_file_that_is_neither(key: Path, tmp_path: Path) -> None:
    """What is no zip and no proof is said to be neither."""
    (tmp_path / "b").write_text("hello")
    said = refused("verify", tmp_path / "b", "--key", key)
    assert "neither a bundle (a zip) nor a tlog-proof" in said


def test_a_broken_bundle_names_its_entry(key: Path, bundle: Path) -> None:
    """The exit code is 1, and the entry that does not hold is named."""
    name = "tile/entries/000.p/6"
    changed(bundle, {name: lambda data: data.replace(b"job-3", b"job-7")})
    said = refused("verify", bundle, "--key", key)
    assert ": NOT verified" in said
    assert "entry 3 of epoch 1" in said
    assert "job-7" in said
    report = json.loads(refused("verify", bundle, "--key", key, "--json"))
    assert (report["verified"], report["fault"]["first"]) == (False, 3)


def test_a_range_that_does_not_hold(key: Path, bundle: Path) -> None:
    """Where no single entry can be named, the range is."""
    changed(bundle, {"tile/0/000.p/6": bytes(192)})
    for size in (1, 2, 3, 4, 5, 6):
        assert f"checkpoints/{size:020d}" in files(bundle)
    assert "entry 0 of epoch 1" in refused("verify", bundle, "--key", key)


def test_attack_the_key_in_the_bundle(bundle: Path, tmp_path: Path) -> None:
    """A key that came with the bundle is a key, and another is not the log's."""
    stranger = MemoryKeys().signer("audit").public_bytes()
    other = tmp_path / "other"
    other.write_text(NoteVerifier(origin("acme"), stranger).line)
    said = refused("verify", bundle, "--key", other)
    assert "not signed by a known key" in said
    assert "keys.txt, which is not trusted" in said


@pytest.mark.parametrize("text", ["", "nonsense", "\xff", "a+b+c"])
def test_a_file_without_keys(bundle: Path, tmp_path: Path, text: str) -> None:
    """Without a key there is nothing to check against."""
    bad = tmp_path / "bad"
    bad.write_text(text, "latin-1")
    result = guise("verify", bundle, "--key", bad)
    assert isinstance(result.exception, InvalidRequest)
    assert "holds no verifier keys" in str(result.exception)
    if text:
        result = guise("verify", bundle, "--key", bad, "--tenant-keys", bad)
        assert isinstance(result.exception, InvalidRequest)


def test_tenant_keys_that_are_none(key: Path, bundle: Path) -> None:
    """A file that holds no public keys is not taken for one that holds none."""
    result = guise("verify", bundle, "--key", key, "--tenant-keys", key)
    assert isinstance(result.exception, InvalidRequest)
    assert "holds no public keys" in str(result.exception)


def test_files_that_cannot_be_read(key: Path, bundle: Path, tmp_path: Path) -> None:
    """A bundle that is not there is said so, and a key file has an end."""
    result = guise("verify", tmp_path / "none", "--key", key)
    assert isinstance(result.exception, NotFound)
    endless = tmp_path / "endless"
    endless.write_bytes(bytes(1_048_577))
    result = guise("verify", bundle, "--key", endless)
    assert isinstance(result.exception, TooLarge)


def test_a_job_or_a_period(home: Path, tmp_path: Path) -> None:
    """Both at once is a question that nobody meant."""
    place = ("--tenant", "acme", "--home", home, "-o", tmp_path / "b")
    result = guise("export", *place, "--job", "job-1", "--from", "2026-11-12")
    assert isinstance(result.exception, InvalidRequest)


# --- keys --------------------------------------------------------------------


def test_keys_are_printed_before_there_is_a_log(tmp_path: Path) -> None:
    """Who will check the log can be given its key before its first entry."""
    FileKeys(tmp_path / "keys").create("audit")
    [line] = done("keys", "--tenant", "acme", "--home", tmp_path).split()
    assert NoteVerifier.parse(line).name == "guise.audit/acme"


def test_there_are_no_keys(tmp_path: Path) -> None:
    """Where nothing signs, nothing is printed."""
    result = guise("keys", "--tenant", "acme", "--home", tmp_path)
    assert isinstance(result.exception, NotFound)
    result = guise("keys", "--tenant", "acme", "--home", tmp_path, "--rotate")
    assert isinstance(result.exception, Failed)


def test_a_rotation_keeps_history(home: Path, key: Path, tmp_path: Path) -> None:
    """After it the log signs with the new key; a verifier needs both lines."""
    rotate = ("keys", "--tenant", "acme", "--home", home, "--rotate")
    lines = done(*rotate).split()
    assert len(lines) == 2
    assert lines[0] == key.read_text().strip()
    keys = FileKeys(home / "keys")
    assert NoteVerifier.parse(lines[1]).public == keys.signer("audit").public_bytes()
    with closing(Log.at(f"sqlite:///{home}/audit.db", keys)) as log:
        append(log, keys, 6)
    path = tmp_path / "b"
    done("export", "--tenant", "acme", "--home", home, "-o", path)
    assert "not signed by a known key" in refused("verify", path, "--key", key)
    key.write_text("\n".join(lines))
    done("verify", path, "--key", key)


# --- on a terminal -----------------------------------------------------------


def test_a_terminal_shows_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits at a terminal sees how far it is; a script sees nothing."""
    with counting("entries") as progress:
        progress(1, 2)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    with counting("entries") as progress:
        progress(1, 2)
    assert "entries" in capsys.readouterr().err
    with counting("entries", quiet=True) as progress:
        progress(1, 2)
    assert capsys.readouterr().err == ""


def test_a_strangers_text_is_harmless() -> None:
    """No terminal obeys what a bundle says."""
    mark = "\N{REPLACEMENT CHARACTER}"
    assert harmless("a\x1b[31mb\nc") == f"a{mark}[31mb{mark}c"
    assert len(harmless("x" * 300)) == 200
