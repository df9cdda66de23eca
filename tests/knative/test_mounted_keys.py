"""Keys as a cluster mounts them: a Secret's keys have no slash in their names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from functions.keys import FileKeys, events_key
from functions.problems import Failed

if TYPE_CHECKING:
    from pathlib import Path

NAME = events_key("acme")


def mounted(root: Path, made: FileKeys, generation: int) -> None:
    """Lay `events.acme.*` out as the kubelet does: links, through one that moves."""
    made.signer(NAME)
    folder = root / f"..{generation}"
    folder.mkdir(parents=True)
    for suffix in (".key", ".pub"):
        text = (root.parent / "made" / f"{NAME}{suffix}").read_bytes()
        (folder / f"events.acme{suffix}").write_bytes(text)
        link = root / f"events.acme{suffix}"
        if not link.is_symlink():
            link.symlink_to(f"..data/events.acme{suffix}")
    (root / "..new").symlink_to(folder.name)
    os.replace(root / "..new", root / "..data")  # noqa: PTH105  # as the kubelet's


def test_a_mounted_secret_has_the_keys_of_tenants(tmp_path: Path) -> None:
    """`events.acme.pub` in a Secret is the tenant's `events/acme`."""
    made = FileKeys(tmp_path / "made")
    signer = made.create(NAME)
    mounted(tmp_path / "secret", made, 1)
    keys = FileKeys(tmp_path / "secret")
    assert keys.signer(NAME).kid == signer.kid
    assert set(keys.verifiers(NAME)) == {signer.kid}
    assert keys.verifiers(events_key("bolt")) == {}
    with pytest.raises(Failed):
        keys.signer(events_key("bolt"))


def test_a_secret_that_changes_is_read_again(tmp_path: Path) -> None:
    """The kubelet moves one link, and the next look sees the rotation."""
    made = FileKeys(tmp_path / "made")
    made.create(NAME)
    mounted(tmp_path / "secret", made, 1)
    keys = FileKeys(tmp_path / "secret")
    before = keys.signer(NAME)
    made.rotate(NAME)
    mounted(tmp_path / "secret", made, 2)
    assert keys.signer(NAME).kid != before.kid
    assert len(keys.verifiers(NAME)) == 2


def test_a_folder_goes_before_a_mounted_file(tmp_path: Path) -> None:
    """What is written is what is read: a file beside it takes no name over."""
    made = FileKeys(tmp_path / "made")
    signer = made.create(NAME)
    other = FileKeys(tmp_path / "other")
    other.create(NAME)
    for suffix in (".key", ".pub"):
        text = (tmp_path / "other" / f"{NAME}{suffix}").read_bytes()
        (tmp_path / "made" / f"events.acme{suffix}").write_bytes(text)
    assert FileKeys(tmp_path / "made").signer(NAME).kid == signer.kid
