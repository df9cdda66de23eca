"""What docs/operations.md tells an operator to type works as it stands.

`kubectl` is a program of the test's: it notes what it is asked for, and reads each file
that it is given.  Everything else is what it says it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from functions.keys import FileKeys, events_key
from functions.roster import Isolation, Models, Spec, write
from tests.integration.stack import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

PAGE = (REPOSITORY / "docs" / "operations.md").read_text()
EXAMPLE = (REPOSITORY / "knative" / "cluster.example.yml").read_text()
NOW, NEXT = "sha256:" + "1" * 64, "sha256:" + "a" * 64
KUBECTL = f"""#!{sys.executable}
import json, pathlib, sys
for word in sys.argv[1:]:
    if word.startswith("--from-file="):
        pathlib.Path(word.rpartition("=")[2]).read_bytes()
with open("kubectl.log", "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
"""


def section(title: str, language: str) -> list[str]:
    """Return the code of one language under a heading, in order."""
    [text] = re.findall(rf"^## {title}\n(.*?)(?=^## )", PAGE, re.DOTALL | re.MULTILINE)
    found = re.findall(
        rf"^ *```{language}\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE
    )
    assert found, f"{title} has no {language}"
    return found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return an operator's folder: the repository in it, and a kubectl on the path."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "kubectl").write_text(KUBECTL)
    (tmp_path / "bin" / "kubectl").chmod(0o755)
    (tmp_path / "guise").symlink_to(REPOSITORY)
    (tmp_path / "tenants").mkdir()
    (tmp_path / "cluster.now.yml").write_text(EXAMPLE)
    (tmp_path / "cluster.next.yml").write_text(EXAMPLE.replace(NOW, NEXT))
    return tmp_path


def bash(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script as a person's shell would."""
    path = f"{folder / 'bin'}:{REPOSITORY / '.venv' / 'bin'}:{os.environ['PATH']}"
    ours = {name for name in os.environ if name.startswith("GUISE_")}
    kept = {name: text for name, text in os.environ.items() if name not in ours}
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={**kept, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def calls(folder: Path) -> list[list[str]]:
    """Return what kubectl was asked for, in order."""
    log = folder / "kubectl.log"
    return [json.loads(line) for line in log.read_text().splitlines()]


def put(folder: Path, *specs: Spec) -> None:
    """Put specs where the page has them."""
    for spec in specs:
        (folder / "tenants" / f"{spec.id}.yaml").write_bytes(write(spec))


def bucket(tenant: str) -> int:
    """Return which of 10,000 a tenant has in the page's release."""
    return int(hashlib.sha256(f"0.2.0/{tenant}".encode()).hexdigest()[:8], 16) % 10_000


NAMES = sorted((f"t{number}" for number in range(200)), key=bucket)
EARLY, LATE = NAMES[0], NAMES[-1]
OWN = Isolation(compute=1)


def doors(folder: Path) -> dict[str, str]:
    """Return the digest of each tenant's door, of what was to be applied."""
    return {
        each["metadata"]["labels"]["guise.dev/tenant"]: each["spec"]["template"][
            "spec"
        ]["containers"][0]["image"].partition("@")[2]
        for each in yaml.safe_load_all((folder / "objects.yaml").read_text())
        if (each["kind"], each["metadata"]["name"]) == ("Service", "door")
    }


def test_a_release_goes_to_some_tenants_before_others(place: Path) -> None:
    """By their buckets, and only to who has a namespace: nobody else is a fault."""
    put(place, Spec(id=EARLY, isolation=OWN), Spec(id=LATE, isolation=OWN))
    put(place, Spec(id="pooled"), Spec(id="gone", state="deleted", isolation=OWN))
    put(place, Spec(id="back", isolation=OWN))
    (place / "tenants" / "back.ended").write_text("deleted by 2026-11-21T00:00:00Z\n")
    (place / "tenants" / EARLY).mkdir()
    [script] = section("Gray release", "bash")
    ran = bash(script, place)
    assert ran.returncode == 0, ran.stderr
    assert doors(place) == {EARLY: NEXT, LATE: NOW}
    assert calls(place) == [["apply", "--server-side", "-f", "objects.yaml"]]
    wider = bash(script.replace("buckets=500", "buckets=10000"), place)
    assert wider.returncode == 0, wider.stderr
    assert doors(place) == {EARLY: NEXT, LATE: NEXT}


@pytest.mark.parametrize("broken", [True, False])
def test_a_release_that_cannot_be_for_somebody_is_for_nobody(
    place: Path, *, broken: bool
) -> None:
    """A spec that nobody can read, a version without images: it says whose."""
    put(place, Spec(id=EARLY, isolation=OWN))
    pins = Spec(
        id="pins", isolation=Isolation(model=1, compute=1), models=Models(pin="9.9.9")
    )
    put(place, pins)
    if broken:
        (place / "tenants" / "pins.yaml").write_text("tier: [")
    ran = bash(section("Gray release", "bash")[0], place)
    assert ran.returncode != 0
    assert "pins" in ran.stderr
    assert not (place / "kubectl.log").exists()


def test_a_cluster_is_begun_in_the_page_s_order(place: Path) -> None:
    """The namespace, then Secrets of files that are there by then, then the system."""
    [script] = section("The system", "sh")
    (place / "keys").mkdir(mode=0o700)
    for name in ("keys/provenance.key", "keys/provenance.pem", "jwks.json"):
        (place / name).write_text("the authority's, and the issuer's\n")
    ran = bash(f"set -e\n{script}", place)
    assert ran.returncode == 0, ran.stderr
    asked = calls(place)
    assert asked[0][:2] == ["apply", "--server-side"]
    assert (place / asked[0][-1]).is_file()
    assert asked[-2:][0] == ["apply", "--server-side", "-k", "my-cluster"]
    assert asked[-1][2] == "wait"


def test_a_first_tenant_s_key_gets_where_it_is_read(place: Path) -> None:
    """Each half into its Secrets, as the very text that its function reads."""
    made = bash("guise keys make keys", place)
    assert made.returncode == 0, made.stderr
    for name in ("provenance.key", "provenance.pem"):
        (place / "keys" / name).write_text("the authority's\n")
    first, _, *rest = section("A first tenant", "sh")
    ran = bash("set -e\n" + first + "".join(rest), place)
    assert ran.returncode == 0, ran.stderr
    held: dict[str, dict[str, str]] = {}
    for words in calls(place):
        if "patch" in words:
            patch = json.loads(words[-1])
            held.setdefault(words[4], {}).update(patch["stringData"])
    pair = {"events.acme.key", "events.acme.pub"}
    assert {name: set(data) for name, data in held.items()} == {
        "audit-keys": {"events.acme.pub"},
        "billing-keys": {"events.acme.pub"},
        "pool-keys": pair,
    }
    mounted = place / "mounted"
    mounted.mkdir()
    for key, text in held["pool-keys"].items():
        (mounted / key).write_text(text)
    keys, name = FileKeys(mounted), events_key("acme")
    assert set(keys.verifiers(name)) == {keys.signer(name).kid}


def test_what_calls_audit_is_what_the_command_takes() -> None:
    """The page's own line is one that `guise tenant create` can be given."""
    _, create, *_ = section("A first tenant", "sh")
    words = set(re.findall(r" (--[a-z]+)", create))
    listed = subprocess.run(
        [sys.executable, "-m", "functions.cli", "tenant", "create", "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    ).stdout
    assert words
    assert words <= set(re.findall(r"--[a-z]+", listed))
