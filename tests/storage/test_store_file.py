"""What only a store in a folder has to fear: the disk, and who else may write there."""

from __future__ import annotations

import io
import os
import resource
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, chdir, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from functions.problems import Changed, InvalidRequest, NotFound, Unavailable
from functions.storage.file import LOCKS, TEMPORARY, FileStore, _Reading
from functions.tenant import Key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from functions.storage import Store

A = Key("uploads/a.jpg")
DESCRIPTORS = Path("/proc/self/fd")
SECRET = b"another tenant's"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return where the store of the tests lies."""
    return tmp_path / "acme"


@pytest.fixture
def store(root: Path) -> FileStore:
    """Return a store in which one object is, so that its folders are."""
    store = FileStore(root)
    store.put(A, b"one")
    return store


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a folder that is not the tenant's, with a file in it."""
    folder = tmp_path / "globex"
    folder.mkdir()
    (folder / "secret").write_bytes(SECRET)
    return folder


def listed(store: Store, prefix: str = "") -> list[str]:
    return [info.key for info in store.list(Key(prefix)).objects]


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def left_over(root: Path) -> list[str]:
    return names(root / TEMPORARY)


@contextmanager
def no_gaps(used: int) -> Iterator[None]:
    """Hold every descriptor below `used`: who came before us may have closed some."""
    with ExitStack() as held:
        while (number := os.open(os.devnull, os.O_RDONLY)) < used:
            held.callback(os.close, number)
        os.close(number)
        yield


@contextmanager
def no_file_may_be_opened() -> Iterator[None]:
    """Take the process's descriptors away for a moment."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def folders_without_end(top: Path) -> Iterator[None]:
    """Dig deeper than a recursive program can go, and fill the hole up again."""
    with chdir(top):
        for _ in range(1500):
            Path("d").mkdir()
            os.chdir("d")
        bottom = os.open(".", os.O_RDONLY)
    try:
        yield
    finally:
        with chdir(bottom):
            for _ in range(1500):
                os.chdir("..")
                Path("d").rmdir()
        os.close(bottom)


# Every way in, by name; each is given a key.
READS: dict[str, Callable[[FileStore, Key], object]] = {
    "get": lambda store, key: store.get(key),
    "head": lambda store, key: store.head(key),
    "open": lambda store, key: store.open(key).__enter__(),
}
WRITES: dict[str, Callable[[FileStore, Key], object]] = {
    "put": lambda store, key: store.put(key, b"new"),
    "put_if_absent": lambda store, key: store.put_if_absent(key, b"new"),
    "put_if_match": lambda store, key: store.put_if_match(key, b"new", 1),
}
DELETES: dict[str, Callable[[FileStore, Key], object]] = {
    "delete": lambda store, key: store.delete(key),
    "delete_if_match": lambda store, key: store.delete_if_match(key, 1),
}
reads = pytest.mark.parametrize("read", READS.values(), ids=READS)
writes = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)


class TestPlanted:
    """Somebody who may write into the folder by other ways tries to lead us out."""

    @reads
    def test_a_link_to_a_file_is_not_followed_by_a_reader(
        self,
        store: FileStore,
        root: Path,
        outside: Path,
        read: Callable[[FileStore, Key], object],
    ) -> None:
        """Another tenant's object is not there."""
        (root / "uploads/link").symlink_to(outside / "secret")
        with pytest.raises(NotFound):
            read(store, Key("uploads/link"))
        assert listed(store) == [A]

    def test_a_link_to_a_file_is_replaced_by_a_writer(
        self, store: FileStore, root: Path, outside: Path
    ) -> None:
        """What it led to stays as it was."""
        (root / "uploads/link").symlink_to(outside / "secret")
        store.put(Key("uploads/link"), b"mine")
        assert store.get(Key("uploads/link")).data == b"mine"
        assert (outside / "secret").read_bytes() == SECRET

    def test_a_link_that_dangles_makes_nothing_at_its_end(
        self, store: FileStore, root: Path, outside: Path
    ) -> None:
        """A conditional write says that there can be no file."""
        (root / "uploads/link").symlink_to(outside / "new")
        with pytest.raises(InvalidRequest):
            store.put_if_absent(Key("uploads/link"), b"mine")
        assert names(outside) == ["secret"]

    def test_deleting_a_link_deletes_the_link(
        self, store: FileStore, root: Path, outside: Path
    ) -> None:
        """And not what it leads to."""
        (root / "uploads/link").symlink_to(outside / "secret")
        store.delete(Key("uploads/link"))
        assert not (root / "uploads/link").is_symlink()
        assert (outside / "secret").read_bytes() == SECRET

    @reads
    def test_a_link_to_a_folder_is_not_followed_by_a_reader(
        self,
        store: FileStore,
        root: Path,
        outside: Path,
        read: Callable[[FileStore, Key], object],
    ) -> None:
        """Nothing below it is there."""
        (root / "uploads/in").symlink_to(outside)
        with pytest.raises(NotFound):
            read(store, Key("uploads/in/secret"))

    @pytest.mark.parametrize("prefix", ["", "uploads/", "uploads/in/", "uploads/in/s"])
    def test_a_link_to_a_folder_shows_nothing_of_it(
        self, store: FileStore, root: Path, outside: Path, prefix: str
    ) -> None:
        """Not even the names in it, whatever the prefix."""
        (root / "uploads/in").symlink_to(outside)
        assert [key for key in listed(store, prefix) if key != A] == []

    @writes
    def test_a_link_to_a_folder_is_not_followed_by_a_writer(
        self,
        store: FileStore,
        root: Path,
        outside: Path,
        write: Callable[[FileStore, Key], object],
    ) -> None:
        """Nothing is made at the other end."""
        (root / "uploads/in").symlink_to(outside)
        with pytest.raises(InvalidRequest):
            write(store, Key("uploads/in/new"))
        with pytest.raises(InvalidRequest):
            write(store, Key("uploads/in/deeper/new"))
        assert names(outside) == ["secret"]
        assert left_over(root) == []

    def test_a_link_to_a_folder_is_not_followed_to_delete(
        self, store: FileStore, root: Path, outside: Path
    ) -> None:
        """There is no object, so nothing is deleted."""
        (root / "uploads/in").symlink_to(outside)
        store.delete(Key("uploads/in/secret"))
        with pytest.raises(Changed):
            store.delete_if_match(Key("uploads/in/secret"), 1)
        assert (outside / "secret").read_bytes() == SECRET

    def test_a_link_to_itself_is_nothing(self, store: FileStore, root: Path) -> None:
        """It is not followed for ever."""
        (root / "uploads/loop").symlink_to("loop")
        with pytest.raises(NotFound):
            store.get(Key("uploads/loop"))
        assert listed(store) == [A]

    def test_our_temporary_folder_as_a_link_receives_nothing(
        self, store: FileStore, root: Path, outside: Path
    ) -> None:
        """What is being written does not show elsewhere, nor is it swept there."""
        (root / TEMPORARY).rmdir()
        (root / TEMPORARY).symlink_to(outside)
        os.utime(outside / "secret", (0, 0))
        with pytest.raises(InvalidRequest):
            store.put(A, b"two")
        with pytest.raises(NotFound):
            store.sweep()
        assert names(outside) == ["secret"]

    def test_a_lock_as_a_link_truncates_nothing(
        self, store: FileStore, root: Path, outside: Path
    ) -> None:
        """A lock is opened without following, and without emptying."""
        for number in range(256):
            (root / LOCKS / f"{number:02d}").unlink(missing_ok=True)
            (root / LOCKS / f"{number:02d}").symlink_to(outside / "secret")
        with pytest.raises(InvalidRequest):
            store.put(A, b"two")
        assert (outside / "secret").read_bytes() == SECRET
        assert store.get(A).data == b"one"

    def test_a_lock_as_a_pipe_does_not_hang(self, store: FileStore, root: Path) -> None:
        """It locks as well as a file does."""
        for number in range(64):
            (root / LOCKS / f"{number:02d}").unlink(missing_ok=True)
            os.mkfifo(root / LOCKS / f"{number:02d}")
        store.put(A, b"two")
        assert store.get(A).data == b"two"

    @reads
    def test_a_pipe_does_not_hang_a_reader(
        self,
        store: FileStore,
        root: Path,
        read: Callable[[FileStore, Key], object],
    ) -> None:
        """Nobody writes into it; nobody waits for that."""
        os.mkfifo(root / "uploads/pipe")
        with pytest.raises(NotFound):
            read(store, Key("uploads/pipe"))
        assert listed(store) == [A]

    def test_a_pipe_does_not_hang_a_writer(self, store: FileStore, root: Path) -> None:
        """It is replaced, or refused where nothing may be replaced."""
        os.mkfifo(root / "uploads/pipe")
        with pytest.raises(InvalidRequest):
            store.put_if_absent(Key("uploads/pipe"), b"x")
        store.put(Key("uploads/pipe"), b"x")
        assert store.get(Key("uploads/pipe")).data == b"x"

    def test_a_socket_is_nothing(self, store: FileStore, root: Path) -> None:
        """Neither to read nor to list."""
        with socket.socket(socket.AF_UNIX) as door:
            with chdir(root / "uploads"):  # a socket's path has 108 bytes at most
                door.bind("door")
            with pytest.raises(NotFound):
                store.get(Key("uploads/door"))
            assert listed(store) == [A]

    def test_a_name_that_is_not_unicode_is_not_listed(
        self, store: FileStore, root: Path
    ) -> None:
        """No answer that holds it could be written."""
        (root / "uploads" / os.fsdecode(b"\xff\xfe.jpg")).write_bytes(b"x")
        (root / "uploads" / os.fsdecode(b"\xff\xfe")).mkdir()
        assert listed(store) == [A]

    def test_a_hidden_file_or_folder_is_not_listed(
        self, store: FileStore, root: Path
    ) -> None:
        """No key has a part that begins with a full stop."""
        (root / "uploads/.hidden").mkdir()
        (root / "uploads/.hidden/a").write_bytes(b"x")
        (root / "uploads/.nfs0001").write_bytes(b"x")
        assert listed(store) == [A]

    def test_folders_without_end_are_listed_no_deeper_than_a_key(
        self, store: FileStore, root: Path
    ) -> None:
        """A listing neither recurses nor holds descriptors without bound."""
        with folders_without_end(root / "uploads"):
            assert listed(store) == [A]


class TestNoKey:
    """A key that no `Tenant` makes gets no further than the last door."""

    @pytest.mark.parametrize(
        "key",
        [
            "../globex/secret",
            "uploads/../../globex/secret",
            "/etc/passwd",
            "uploads//a.jpg",
            "uploads/",
            "./uploads/a.jpg",
            f"{TEMPORARY}/x",
            f"{LOCKS}/00",
            "",
            "..",
            "uploads/a\0.jpg",
            "uploads/\ud800",
            "uploads/" + "a/" * 300 + "a",
        ],
    )
    @pytest.mark.parametrize(
        "use",
        [*READS.values(), *WRITES.values(), *DELETES.values()],
        ids=[*READS, *WRITES, *DELETES],
    )
    def test_a_path_trick_is_refused(
        self,
        store: FileStore,
        outside: Path,
        key: str,
        use: Callable[[FileStore, Key], object],
    ) -> None:
        """By every method, and nothing is made or unmade."""
        with pytest.raises(InvalidRequest):
            use(store, Key(key))
        assert (outside / "secret").read_bytes() == SECRET
        assert listed(store) == [A]

    @pytest.mark.parametrize(
        "prefix", ["../", "../globex/", "/", "/etc/", f"{TEMPORARY}/", "uploads/../"]
    )
    def test_a_prefix_that_leads_out_is_refused(
        self, store: FileStore, outside: Path, prefix: str
    ) -> None:
        """A listing goes down and nowhere else."""
        assert outside.exists()
        with pytest.raises(InvalidRequest):
            store.list(Key(prefix))

    @writes
    def test_a_name_longer_than_the_disk_takes_is_refused(
        self, store: FileStore, write: Callable[[FileStore, Key], object]
    ) -> None:
        """It fits into a key, but not into a folder: the caller can mend that."""
        key = Key("uploads/" + "a" * 300)
        with pytest.raises(InvalidRequest):
            write(store, key)
        with pytest.raises(NotFound):
            store.get(key)
        store.delete(key)


class TestFolders:
    """A bucket may hold `a` and `a/b`; a folder cannot, and says so."""

    @writes
    def test_nothing_is_written_over_a_folder(
        self, store: FileStore, write: Callable[[FileStore, Key], object]
    ) -> None:
        """Or else a whole prefix would vanish."""
        with pytest.raises((InvalidRequest, Changed)):
            write(store, Key("uploads"))
        assert listed(store) == [A]

    @writes
    def test_nothing_is_written_below_a_file(
        self, store: FileStore, write: Callable[[FileStore, Key], object]
    ) -> None:
        """A file holds no other."""
        with pytest.raises(InvalidRequest):
            write(store, Key(f"{A}/b"))
        assert store.get(A).data == b"one"

    @reads
    def test_a_folder_is_no_object(
        self, store: FileStore, read: Callable[[FileStore, Key], object]
    ) -> None:
        """And asking for it a thousand times uses no descriptor up."""
        before = len(names(DESCRIPTORS))
        for _ in range(20):
            with pytest.raises(NotFound):
                read(store, Key("uploads"))
            with pytest.raises(NotFound):
                read(store, Key(f"{A}/b"))
        assert len(names(DESCRIPTORS)) == before

    def test_deleting_a_folder_deletes_nothing(self, store: FileStore) -> None:
        """There is no object of that name."""
        store.delete(Key("uploads"))
        store.delete(Key(f"{A}/b"))
        with pytest.raises(Changed):
            store.delete_if_match(Key("uploads"), 1)
        assert listed(store) == [A]

    def test_reading_leaves_nothing_behind(self, root: Path) -> None:
        """An event may name any tenant; only a write makes its folder."""
        store = FileStore(root)
        with pytest.raises(NotFound):
            store.get(A)
        assert store.list(Key("requests/")).objects == ()
        assert not root.exists()

    def test_only_the_owner_may_look_in(self, store: FileStore, root: Path) -> None:
        """Whatever the umask."""
        store.put(A, b"two")
        for folder in (root, root / "uploads", root / TEMPORARY, root / LOCKS):
            assert folder.stat().st_mode & 0o077 == 0

    def test_the_root_itself_may_be_a_link(self, tmp_path: Path, root: Path) -> None:
        """It is the operator who says where the root is."""
        (tmp_path / "volume").mkdir()
        root.symlink_to(tmp_path / "volume")
        FileStore(root).put(A, b"one")
        assert (tmp_path / "volume" / A).read_bytes() == b"one"
        assert listed(FileStore(root)) == [A]

    def test_somebody_may_empty_the_root_while_it_is_used(
        self, store: FileStore, root: Path
    ) -> None:
        """Our own folders come back with the next write."""
        for number in names(root / LOCKS):
            (root / LOCKS / number).unlink()
        (root / LOCKS).rmdir()
        (root / TEMPORARY).rmdir()
        store.put(A, b"two")
        assert store.get(A).data == b"two"


class TestByHand:
    """Files that were copied in, by a person or another program."""

    def test_a_copied_file_is_an_object(self, store: FileStore, root: Path) -> None:
        """It has a generation, and may be replaced by whoever saw it."""
        (root / "uploads/b.jpg").write_bytes(b"by hand")
        seen = store.get(Key("uploads/b.jpg"))
        assert seen.data == b"by hand"
        store.put_if_match(Key("uploads/b.jpg"), b"by us", seen.generation)
        with pytest.raises(Changed):
            store.put_if_match(Key("uploads/b.jpg"), b"x", seen.generation)

    @pytest.mark.parametrize("seconds", [0, -1, -(10**9)])
    def test_a_file_of_1970_is_there(
        self, store: FileStore, root: Path, seconds: int
    ) -> None:
        """Generation 0 would say that it is not."""
        os.utime(root / A, (seconds, seconds))
        seen = store.head(A)
        assert seen.generation > 0
        with pytest.raises(Changed):
            store.put_if_absent(A, b"two")
        with pytest.raises(Changed):
            store.delete_if_match(A, 0)
        assert store.put_if_match(A, b"two", seen.generation) > seen.generation

    def test_a_file_from_the_future_stays_in_order(
        self, store: FileStore, root: Path
    ) -> None:
        """What is written over it has a later generation still."""
        later = time.time() + 10**6
        os.utime(root / A, (later, later))
        seen = store.head(A).generation
        first = store.put(A, b"two")
        second = store.put(A, b"three")
        assert seen < first < second == store.head(A).generation

    def test_a_file_from_the_end_of_time_is_not_written_over_unseen(
        self, store: FileStore, root: Path
    ) -> None:
        """Where a later time cannot be kept, the write fails rather than lie."""
        os.utime(root / A, (2**40, 2**40))
        seen = store.head(A).generation
        try:
            store.put(A, b"two")
        except Unavailable:
            assert store.get(A).data == b"one"
            assert store.head(A).generation == seen
        else:
            assert store.head(A).generation > seen
        assert left_over(root) == []

    def test_a_file_copied_in_at_the_same_moment_is_changed(
        self, store: FileStore, root: Path
    ) -> None:
        """Whoever copies takes no lock of ours; still only one of the two is first."""
        done = threading.Event()

        def copy() -> None:
            while not done.is_set():
                (root / "uploads/b.jpg").write_bytes(b"by hand")
                (root / "uploads/b.jpg").unlink(missing_ok=True)

        with ThreadPoolExecutor(1) as thread:
            copying = thread.submit(copy)
            try:
                for _ in range(300):
                    with suppress(Changed):
                        store.put_if_absent(Key("uploads/b.jpg"), b"by us")
            finally:
                done.set()
            copying.result()
        assert left_over(root) == []


class TestDisk:
    """The system says no."""

    @pytest.mark.parametrize(
        "use",
        [*READS.values(), *WRITES.values(), *DELETES.values(), lambda s, k: s.list(k)],
        ids=[*READS, *WRITES, *DELETES, "list"],
    )
    def test_what_only_we_can_mend_is_unavailable(
        self, store: FileStore, root: Path, use: Callable[[FileStore, Key], object]
    ) -> None:
        """Not absent, not an empty page, not a crash; and nothing has changed."""
        with pytest.raises(Unavailable) as caught, no_file_may_be_opened():
            use(store, A)
        assert caught.value.detail == ""
        assert store.get(A).data == b"one"
        assert left_over(root) == []

    def test_a_folder_that_may_not_be_read_is_not_an_empty_one(
        self, store: FileStore, root: Path
    ) -> None:
        """A listing that leaves something out would leave it unerased, unbilled."""
        for number in range(40):
            store.put(Key(f"jobs/{number}/claim.json"), b"")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = max(int(number) for number in names(DESCRIPTORS))
        with no_gaps(used):
            # Enough for the root and the first folder, not for those in it.
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + 2, hard))
            try:
                with pytest.raises(Unavailable):
                    store.list(Key(""))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert len(listed(store, "jobs/")) == 40

    def test_a_disk_that_fails_amid_a_file_is_unavailable(self) -> None:
        """Whoever streams is told so by the store: the fault is not the reader's."""
        for size in (1, -1):
            # The first page of a process's memory is nobody's: reading it is EIO.
            with _Reading("/proc/self/mem") as raw, io.BufferedReader(raw) as stream:
                with pytest.raises(Unavailable) as caught:
                    stream.read(size)
                assert caught.value.detail == ""

    def test_a_root_that_is_a_file_is_no_store(self, tmp_path: Path) -> None:
        """Whoever reads finds nothing; whoever writes is told."""
        (tmp_path / "acme").write_bytes(b"")
        store = FileStore(tmp_path / "acme")
        with pytest.raises(Unavailable):
            store.put(A, b"one")
        with pytest.raises(NotFound):
            store.get(A)


class TestSweep:
    """What a crash leaves in the temporary folder."""

    def test_old_files_go_and_fresh_ones_stay(
        self, store: FileStore, root: Path
    ) -> None:
        """Somebody may still be writing the fresh ones."""
        for name in ("old", "older", "fresh"):
            (root / TEMPORARY / name).write_bytes(b"x")
        for name in ("old", "older"):
            os.utime(root / TEMPORARY / name, (0, 0))
        assert store.sweep() == 2
        assert left_over(root) == ["fresh"]
        assert store.get(A).data == b"one"

    def test_what_cannot_be_swept_stops_nothing(
        self, store: FileStore, root: Path
    ) -> None:
        """A planted folder stays, what is beside it goes."""
        (root / TEMPORARY / "folder").mkdir()
        (root / TEMPORARY / "zzz").write_bytes(b"x")
        for name in ("folder", "zzz"):
            os.utime(root / TEMPORARY / name, (0, 0))
        assert store.sweep() == 1
        assert left_over(root) == ["folder"]

    def test_a_swept_link_leaves_what_it_leads_to(
        self, store: FileStore, root: Path, outside: Path
    ) -> None:
        """The link's own age counts, and only the link goes."""
        os.utime(outside / "secret", (0, 0))
        (root / TEMPORARY / "link").symlink_to(outside / "secret")
        assert store.sweep() == 0
        os.utime(root / TEMPORARY / "link", (0, 0), follow_symlinks=False)
        assert store.sweep() == 1
        assert (outside / "secret").read_bytes() == SECRET


SCANS: list[bool] = []


def _count(event: str, _arguments: object) -> None:
    if event == "os.scandir" and SCANS:
        SCANS.append(True)


def test_listing_many_folders_opens_each_of_them_once(
    store: FileStore, root: Path
) -> None:
    """Page after page, the cost is that of the pages and not of their square."""
    sys.addaudithook(_count)
    for number in range(600):
        folder = root / f"results/{number:04d}"
        folder.mkdir(parents=True)
        (folder / "1.jpg").write_bytes(b"")
        (folder / "job.json").write_bytes(b"")
    SCANS.append(True)
    found, cursor, pages = 0, "", 0
    while True:
        page = store.list(Key("results/"), cursor=cursor, limit=25)
        found, cursor, pages = found + len(page.objects), page.cursor, pages + 1
        if not cursor:
            break
    scans = len(SCANS) - 1
    SCANS.clear()
    assert found == 1200
    assert pages == 48
    # One a folder; at each page's edge `results` itself and one folder again or two.
    assert scans <= 600 + 3 * pages


def test_a_large_folder_is_listed_in_pages_without_delay(root: Path) -> None:
    """20,000 objects in 20 pages: a second or so, where a stat each time took many."""
    folder = root / "uploads"
    folder.mkdir(parents=True)
    for number in range(20_000):
        os.close(os.open(folder / f"{number:05d}.jpg", os.O_CREAT | os.O_WRONLY))
    store = FileStore(root)
    began = time.monotonic()
    seen: list[str] = []
    cursor = ""
    while True:
        page = store.list(Key("uploads/"), cursor=cursor)
        seen += [info.key for info in page.objects]
        cursor = page.cursor
        if not cursor:
            break
    assert time.monotonic() - began < 10
    assert seen == [f"uploads/{number:05d}.jpg" for number in range(20_000)]
