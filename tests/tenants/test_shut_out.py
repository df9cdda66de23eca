"""What is wrong with one tenant shuts out that tenant, and no stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from functions.local.home import Home
from tests.tenants.home import guise, start, up

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("store", ["", "file://{folder}/srv/{{tenant}}"])
def test_a_plain_file_in_one_folder_stops_no_stack(tmp_path: Path, store: str) -> None:
    """Whoever put it there; the others are served."""
    home, url = tmp_path / "home", store.format(folder=tmp_path)
    with up(home, "--store", url):
        guise(home, "create", "e7", "--data", "1")
    bare = (tmp_path / "srv" if url else home / "tenants") / "e7/uploads"
    bare.mkdir(parents=True)
    (bare / "x.jpg").write_bytes(b"\xff\xd8\xff")
    with start(home, "--store", url) as stack:
        assert stack.stdout is not None
        assert '"door"' in stack.stdout.readline()
        _, said = stack.communicate(timeout=30)
    assert "e7 is shut out" in said
    assert "guise tenant envelop e7" in said


def test_a_spec_of_somebody_deleted_stops_no_stack(tmp_path: Path) -> None:
    """Put back from a backup, it brings nobody back."""
    home = tmp_path / "home"
    guise(home, "create", "dthens")
    spec = home / "tenants/dthens.yaml"
    backup = spec.read_text()
    guise(home, "suspend", "dthens")
    guise(home, "delete", "dthens", "--yes")
    spec.write_text(backup)
    with start(home) as stack:
        assert stack.stdout is not None
        assert '"door"' in stack.stdout.readline()
        _, said = stack.communicate(timeout=30)
    assert "dthens" in said
    assert not (home / "tenants/dthens").exists()


def test_nor_does_that_of_the_tenant_it_is_started_for(tmp_path: Path) -> None:
    """Who sits here may have deleted their own."""
    home = tmp_path / "home"
    guise(home, "create", "demo")
    spec = home / "tenants/demo.yaml"
    backup = spec.read_text()
    guise(home, "suspend", "demo")
    guise(home, "delete", "demo", "--yes")
    spec.write_text(backup)
    with up(home) as urls:
        assert set(urls) >= {"door", "audit"}
    assert not Home(home).tenants.joinpath("demo").exists()
