"""Each kind of store as the second store of the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from functions.audit import copies
from functions.tenant import Key
from tests.audit.shown import Shown, leaves

if TYPE_CHECKING:
    from functions.storage import Store


def test_copies_are_create_only_and_found_by_their_names(store: Store) -> None:
    """Whatever the store, a copy is never replaced, and the newest is found."""
    for epoch, sizes in ((1, (1, 2, 7, 300)), (2, (1,)), (10, (3,))):
        for size in sizes:
            note = Shown(leaves(size), epoch=epoch).checkpoint()
            key = copies.checkpoint_key(note)
            assert copies.copy(store, key, note) == "written"
            assert copies.copy(store, key, note) == "there"
            assert copies.copy(store, key, "another history") == "fork"
            assert copies.read_copy(store, "acme", epoch, size) == note
    assert copies.tenants(store) == ["acme"]
    assert copies.epochs(store, "acme") == [1, 2, 10]
    assert list(copies.sizes(store, "acme", 1)) == [1, 2, 7, 300]
    assert list(copies.sizes(store, "acme", 1, after=2)) == [7, 300]
    found = [copies.newest(store, "acme", 1, below=most) for most in (301, 300, 7, 1)]
    assert found == [300, 7, 2, -1]
    assert copies.newest(store, "acme", 10) == 3
    for job in ("job", "job-2", "another"):
        assert copies.copy(store, copies.statement_key("acme", job), job) == "written"
    store.put(Key("erasures/b/c"), b"b")
    assert copies.erasing_tenants(store) == ["acme", "b"]
    assert sorted(copies.statements(store, "acme")) == [
        (job, job) for job in ("another", "job", "job-2")
    ]
