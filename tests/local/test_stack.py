"""The whole of one machine, in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from functions.local.home import Home, HomeTaken, Running
from functions.local.manifests import ManifestError
from functions.local.ports import LOOPBACK, PortTaken, listen
from functions.local.stack import DOORS, Options, Stack, Sweep
from functions.local.status import dead_letters, replay, status
from functions.problems import NotFound, Unavailable
from functions.roster import Spec, write
from functions.sink import post_event
from functions.tenant import Tenant
from tests.local.machine import (
    WHOLE,
    Machine,
    five_free_ports,
    machine,
    nothing_left,
    prepare,
    running_at,
    start,
)
from tests.local.rig import get, until
from tests.local.subscriber import event

if TYPE_CHECKING:
    from pathlib import Path

ACME = Tenant("acme")
MEGABYTE = 1024 * 1024


def worked(made: Machine, job: str) -> bool:
    subject = f"objects/requests/{job}.json"
    return ("worker", "/events", subject) in {
        (each["service"], each["path"], each["subject"]) for each in made.seen()
    }


def test_at_rest_there_is_one_small_process(tmp_path: Path) -> None:
    """Every door is open, nothing runs behind it, and asking wakes nothing."""
    with machine(tmp_path) as made:
        found = made.status
        assert made.children() == []
        assert found.processes == 0
        assert found.settled
        assert found.rss_bytes < 60 * MEGABYTE
        assert set(found.urls) == set(DOORS)
        assert {each.name for each in found.services} == set(DOORS) - {"broker"}
        assert set(found.queue.values()) == {0}


def test_a_request_wakes_its_service_alone(tmp_path: Path) -> None:
    """Two processes while it is awake, none when it has been idle."""
    with machine(tmp_path) as made:
        assert made.get()[0] == 204
        assert made.status.processes == len(made.children()) == 2
        assert [made.state(name) for name in ("audit", "billing", "worker")] == [
            "asleep",
        ] * 3
        until(lambda: made.status.settled)
        assert made.children() == []


def test_an_upload_wakes_the_worker_and_audit(tmp_path: Path) -> None:
    """A file dropped into the folder becomes an event for both, and for no other."""
    with machine(tmp_path) as made:
        made.drop("job-1")
        until((made.home / "run" / "seen.jsonl").exists)
        until(lambda: len(made.seen()) == 2)
        until(lambda: made.status.settled)
        seen = {(each["service"], each["path"]) for each in made.seen()}
    assert seen == {("worker", "/events"), ("audit", "/v1/tenants/acme/events")}


def test_the_door_and_the_worker_know_the_broker(tmp_path: Path) -> None:
    """It is their K_SINK, whatever the manifest's is, and nobody else's."""
    with machine(tmp_path) as made:
        for name in ("door", "worker", "audit", "billing"):
            made.get(name=name)
        broker = made.status.urls["broker"]
        sinks = {each["service"]: each["sink"] for each in made.seen()}
    assert sinks == {"door": broker, "worker": broker, "audit": None, "billing": None}


def test_a_file_dropped_while_nothing_runs(tmp_path: Path) -> None:
    """It is processed after the next start, once."""
    with machine(tmp_path):
        pass
    home = tmp_path / "home"
    (home / "tenants" / "acme" / "requests" / "job-1.json").write_bytes(b"{}")
    with machine(tmp_path) as made:
        until((home / "run" / "seen.jsonl").exists)
        until(lambda: worked(made, "job-1"))
        until(lambda: made.status.settled)
    with machine(tmp_path) as made:
        time.sleep(0.3)
        assert [each["service"] for each in made.seen()].count("worker") == 1


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_everything(tmp_path: Path, kind: signal.Signals) -> None:
    """Services, doors, lock: nothing is left, and the exit is clean."""
    with machine(tmp_path, idle=30) as made:
        made.get()
        made.get(name="audit")
        pids = made.children()
        port = made.port()
        made.process.send_signal(kind)
        assert made.process.wait(15) == 0
        nothing_left(pids)
        assert running_at(made.home) is None
        assert status(made.home) is None
        with pytest.raises(ConnectionRefusedError):
            get(port)


def test_ctrl_c_answers_what_is_under_way(tmp_path: Path) -> None:
    """A request that has begun is finished."""
    with ThreadPoolExecutor(1) as pool, machine(tmp_path) as made:
        slow = pool.submit(get, made.port(), "/slow/0.8")
        until(lambda: made.state() == "awake")
        time.sleep(0.1)
        made.process.send_signal(signal.SIGINT)
        assert slow.result()[0] == 204
        assert made.process.wait(15) == 0


def test_kill_9_leaves_nothing_and_it_starts_again(tmp_path: Path) -> None:
    """No process outlives the stack, and its ports are free for the next one."""
    port = five_free_ports()
    for turn in range(2):
        with machine(tmp_path, idle=30, port=port) as made:
            assert made.port() == port
            assert [made.port(name) for name in DOORS] == list(range(port, port + 5))
            for name in ("door", "audit", "worker"):
                assert made.get(name=name)[0] == 204
            pids = made.children()
            assert len(pids) == 6
            if turn == 0:
                made.process.kill()
                nothing_left(pids)


def test_kill_9_loses_no_event(tmp_path: Path) -> None:
    """What was taken before the kill is delivered after the next start."""
    with machine(tmp_path) as made:
        (made.home / "run" / "refuse").touch()
        url = made.status.urls["broker"]
        taken = [post_event(url, event(n), timeout=10).status for n in range(10)]
        made.process.kill()
        made.process.wait(10)
    (made.home / "run" / "refuse").unlink()
    with machine(tmp_path) as made:
        until(lambda: made.status.settled)
        letters = {letter.event["id"] for letter in dead_letters(made.home)}
        done = {each["id"] for each in made.seen() if each["path"] == "/events"}
    assert taken == [202] * 10
    assert done | letters == {f"id-{number}" for number in range(10)}


def test_two_stacks_never_share_a_home(tmp_path: Path) -> None:
    """The second ends at once, and says who runs where."""
    with machine(tmp_path) as made:
        second = start(tmp_path)
        assert second.stderr is not None
        assert second.wait(15) == 1
        message = second.stderr.read().decode()
        second.stderr.close()
        assert str(made.process.pid) in message
        assert made.status.urls["door"] in message
        assert made.get()[0] == 204


def test_a_port_that_another_program_has(tmp_path: Path) -> None:
    """The door that cannot be opened is named, and nothing stays open."""
    port = five_free_ports()
    with listen(LOOPBACK, port + 2, "another"):
        second = start(tmp_path, port=port)
        assert second.stderr is not None
        assert second.wait(30) == 1
        message = second.stderr.read().decode()
        second.stderr.close()
    assert f"billing: 127.0.0.1:{port + 2}" in message
    with listen(LOOPBACK, port, "free again"):
        pass


def test_dead_letters_are_listed_and_replayed(tmp_path: Path) -> None:
    """While the stack runs, and while it does not."""
    home = tmp_path / "home"
    assert dead_letters(home) == []
    with pytest.raises(NotFound):
        replay(home, 1)
    with machine(tmp_path) as made:
        (home / "run" / "refuse").touch()
        made.drop("job-1")
        until(lambda: made.status.dead_letters == 2)
        (home / "run" / "refuse").unlink()
        [first, second] = dead_letters(home)
        replay(home, first.number)
        until(lambda: made.status.dead_letters == 1)
        with pytest.raises(NotFound):
            replay(home, first.number)
    replay(home, second.number)
    for number in (second.number, 10**30):
        with pytest.raises(NotFound):
            replay(home, number)
    assert dead_letters(home) == []
    with machine(tmp_path) as made:
        until(lambda: made.status.settled)
        assert len(made.seen()) == 4


def test_a_stack_that_does_not_answer(tmp_path: Path) -> None:
    """Its home is held, but nobody listens: that is told, not waited for."""
    home = prepare(tmp_path)
    stack = Stack(home, port=0, tenants=[ACME], options=options(tmp_path))

    def misled(running: Running) -> None:
        urls = dict(running.urls) | {"broker": "http://127.0.0.1:9"}
        stack._home.announce(Running(running.pid, urls))
        with pytest.raises(Unavailable):
            status(home)
        with pytest.raises(Unavailable):
            replay(home, 1)
        stack.stop()

    stack.run(misled)


def test_something_else_answers_for_the_stack(tmp_path: Path) -> None:
    """Whatever it says, it is neither a status nor a replay."""
    with machine(tmp_path) as made:
        urls = made.status.urls
        lie = Running(made.process.pid, urls | {"broker": urls["door"]})
        Home(made.home.resolve()).announce(lie)
        with pytest.raises(Unavailable):
            status(made.home)
        with pytest.raises(Unavailable):
            replay(made.home, 1)


def options(folder: Path, **changes: object) -> Options:
    return Options(manifests=folder / "knative", **changes)  # type: ignore[arg-type]


def test_a_stack_in_this_process(tmp_path: Path) -> None:
    """It tells when it is ready, sweeps every so often, and can be stopped."""
    home = prepare(tmp_path)
    swept: list[Running] = []
    chosen = options(tmp_path, sweep=Sweep(work=swept.append, seconds=0.05))
    stack = Stack(home, port=0, tenants=[ACME], options=chosen)
    ready: list[Running] = []

    def on_ready(running: Running) -> None:
        ready.append(running)
        threading.Thread(target=stop_when_swept).start()

    def stop_when_swept() -> None:
        until(lambda: len(swept) >= 2)
        stack.stop()

    before = signal.getsignal(signal.SIGINT)
    stack.run(on_ready)
    assert swept[0] == ready[0]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_stack_on_a_thread(tmp_path: Path) -> None:
    """It leaves the signals to whoever has them."""
    home = prepare(tmp_path)
    stack = Stack(home, port=0, tenants=[ACME], options=options(tmp_path))
    thread = threading.Thread(target=stack.run, args=(lambda _: stack.stop(),))
    thread.start()
    thread.join(15)
    assert not thread.is_alive()


def test_who_is_told_that_it_is_ready_fails(tmp_path: Path) -> None:
    """Then everything is closed again, and the home is free."""
    home = prepare(tmp_path)
    stack = Stack(home, port=0, tenants=[ACME], options=options(tmp_path))

    def fail(_: Running) -> None:
        raise RuntimeError("no terminal")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="no terminal"):
            stack.run(fail)
    assert running_at(home) is None


def test_stopping_what_does_not_run(tmp_path: Path) -> None:
    """Nothing happens."""
    Stack(tmp_path, port=0, tenants=[ACME]).stop()


def test_a_manifest_without_a_place(tmp_path: Path) -> None:
    """A Service that has no port on one machine is refused by its name."""
    home = prepare(tmp_path)
    audit = tmp_path / "knative" / "system" / "audit.yaml"
    text = audit.read_text().replace("  name: audit\n", "  name: stranger\n", 1)
    audit.with_name("stranger.yaml").write_text(text)
    stack = Stack(home, port=0, tenants=[ACME], options=options(tmp_path))
    with pytest.raises(ManifestError, match="stranger"):
        stack.run()


def test_two_tenants_share_the_machine(tmp_path: Path) -> None:
    """One worker for both, and each tenant's events at its own address."""
    home = prepare(tmp_path)
    tenants = [ACME, Tenant("beta")]
    stack = Stack(home, port=0, tenants=tenants, options=options(tmp_path))
    seen = home / "run" / "seen.jsonl"

    def on_ready(_: Running) -> None:
        (home / "tenants" / "beta" / "requests" / "job.json").write_bytes(b"{}")
        threading.Thread(target=stop_when_seen).start()

    def stop_when_seen() -> None:
        until(lambda: seen.exists() and len(seen.read_text().splitlines()) == 2)
        stack.stop()

    stack.run(on_ready)
    assert "/v1/tenants/beta/events" in seen.read_text()
    assert "acme" not in seen.read_text()


def test_errors_of_the_plain_command(tmp_path: Path) -> None:
    """One line, exit code 1, no traceback."""
    command = [sys.executable, "-m", "functions.local", "--tenant", "../x"]
    result = subprocess.run(
        [*command, "--home", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "../x" in result.stderr


def test_a_free_port_is_never_waited_for() -> None:
    """Only a port that was asked for may be held by a predecessor."""
    with pytest.raises(PortTaken):
        listen("192.0.2.1", 0, "nowhere")


def test_a_home_is_taken_by_name(tmp_path: Path) -> None:
    """The error is the one the command line knows."""
    with machine(tmp_path) as made:
        stack = Stack(made.home, port=0, tenants=[ACME], options=options(tmp_path))
        with pytest.raises(HomeTaken):
            stack.run()


def test_attack_a_second_stack_changes_a_home_that_is_taken(tmp_path: Path) -> None:
    """It is refused before it writes: the token stays, and no tenant is added."""
    with machine(tmp_path) as made:
        token = (made.home / "token").read_bytes()
        intruder = [Tenant("intruder")]
        stack = Stack(made.home, port=0, tenants=intruder, options=options(tmp_path))
        with pytest.raises(HomeTaken):
            stack.run()
        assert (made.home / "token").read_bytes() == token
        assert not (made.home / "tenants" / "intruder").exists()


def test_attack_a_name_begins_no_line_of_the_log(tmp_path: Path) -> None:
    """What others may write is logged with its line ends as escapes."""
    prepare(tmp_path)
    bad = tmp_path / "knative" / "tenant" / "x\nERROR forged.yaml"
    bad.write_text("a: [")
    process = start(tmp_path)
    assert process.stderr is not None
    assert process.wait(15) == 1
    message = process.stderr.read().decode()
    process.stderr.close()
    assert r"x\nERROR forged.yaml" in message
    assert "\nERROR forged" not in message


def test_a_tenant_comes_while_the_stack_runs(tmp_path: Path) -> None:
    """A spec is all it takes: within a second its uploads become events."""
    with machine(tmp_path) as made:
        spec = write(Spec(id="late"))
        (made.home / "tenants" / "late.yaml").write_bytes(spec)
        requests = made.home / "tenants" / "late" / "requests"
        began = time.monotonic()
        until(requests.is_dir)
        until(lambda: "guise-late/upload-to-worker" in made.status.queue)
        assert time.monotonic() - began < 10  # a second, and a busy machine's
        (requests / "job-1.json").write_bytes(WHOLE)
        until((made.home / "run" / "seen.jsonl").exists)
        until(lambda: len(made.seen()) == 2)
        assert {each["path"] for each in made.seen()} == {
            "/events",
            "/v1/tenants/late/events",
        }


def test_settings_of_the_environment_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the stack decides itself ends it with a line that says so."""
    monkeypatch.setenv("GUISE_STORE", "s3://elsewhere")
    process = start(tmp_path)
    assert process.stderr is not None
    assert process.wait(30) == 1
    message = process.stderr.read().decode()
    process.stderr.close()
    assert "GUISE_STORE: the stack decides it: see --store" in message
    assert "Traceback" not in message
