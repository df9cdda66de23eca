"""The activator, over tiny real gunicorns."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from http.client import HTTPException
from typing import TYPE_CHECKING

import psutil
import pytest

from functions.local.ports import LOOPBACK
from tests.local.rig import THREADS, Rig, alive, get, running, spec, uncovered, until

if TYPE_CHECKING:
    from pathlib import Path


def test_a_connection_wakes_a_service_and_idling_ends_it(tmp_path: Path) -> None:
    """Asleep there is no process; awake there are two; idle there is none again."""
    with running(tmp_path) as rig, ThreadPoolExecutor(1) as pool:
        before = rig.service()
        asking = pool.submit(rig.get, "/until/seen")
        until(lambda: len(rig.service().pids) > 1)
        pids = rig.service().pids
        (tmp_path / "seen").touch()
        status, _ = asking.result()
        rig.until("asleep")
        after = rig.service()
    assert (before.state, before.pids, before.starts) == ("asleep", (), 0)
    assert (status, len(pids)) == (200, 2)
    assert (after.pids, after.starts) == ((), 1)
    assert 0 < after.boot_seconds < 30
    until(lambda: not alive(pids))  # the kernel ends the pipe first


def test_two_hundred_connections_at_once_on_a_sleeping_service(tmp_path: Path) -> None:
    """All of them are answered, by one worker."""
    with running(tmp_path) as rig, ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(get, [rig.port()] * 200))
    assert {status for status, _ in answers} == {200}
    assert len({pid for _, pid in answers}) == 1


def test_a_request_that_arrives_while_the_service_ends(tmp_path: Path) -> None:
    """It is answered, by the last process or the next: a hundred times."""
    names = [f"tiny{number}" for number in range(5)]
    env = uncovered()
    specs = [spec(tmp_path, name, environ=env) for name in names]

    def twenty(name: str) -> list[tuple[int, int, bool]]:
        answers = []
        for turn in range(20):
            first, one = rig.get(name=name)
            rig.until("ending", name=name)
            time.sleep(0.012 * turn)
            second, other = rig.get(name=name)
            answers.append((first, second, one != other))
        return answers

    with (
        running(tmp_path, *specs, idle_seconds=0.02) as rig,
        ThreadPoolExecutor(5) as pool,
    ):
        answers = [answer for each in pool.map(twenty, names) for answer in each]
    assert [statuses for *statuses, _ in answers] == [[200, 200]] * 100
    assert sum(by_the_next for *_, by_the_next in answers) > 50


def test_there_are_never_two_of_one_service(tmp_path: Path) -> None:
    """However requests and endings fall, no second gunicorn is started beside one."""
    service = spec(tmp_path, environ=uncovered())
    mark = f"fd://{service.listener.fileno()}"
    most = 0
    with (
        running(tmp_path, service, idle_seconds=0.01) as rig,
        ThreadPoolExecutor(1) as pool,
    ):
        asking = pool.submit(thirty, rig)
        while not asking.done():
            most = max(most, len(arbiters(mark)))
        assert set(asking.result()) == {200}
        assert rig.service().starts > 1
    assert most == 1


def thirty(rig: Rig) -> list[int]:
    answers = []
    for turn in range(30):
        time.sleep(turn % 10 / 100)
        answers.append(rig.get()[0])
    return answers


def arbiters(mark: str) -> list[int]:
    """Return our children whose command line holds `mark`."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE and mark in child.cmdline():
                found.append(child.pid)
    return found


def test_a_long_request_keeps_its_service_awake(tmp_path: Path) -> None:
    """The idle window begins when the last request has ended."""
    with running(tmp_path, idle_seconds=0.05) as rig:
        status, _ = rig.get("/slow/0.6")
        assert rig.service().starts == 1
    assert status == 200


def test_attack_a_request_that_hangs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After the manifest's timeout its worker is replaced, and the next is served."""
    service = spec(tmp_path, timeout_seconds=0.5)
    with (
        running(tmp_path, service, idle_seconds=30.0, end_seconds_max=0.3) as rig,
        ThreadPoolExecutor(1) as pool,
    ):
        _, first = rig.get()
        hung = pool.submit(rig.get, "/slow/20")
        began = time.monotonic()
        assert isinstance(hung.exception(15), OSError | HTTPException)
        assert 0.5 < time.monotonic() - began < 10
        told = caplog.text
        status, second = rig.get()
    assert (status, first == second) == (200, False)
    assert told.count("a request took over") == 1
    assert told.count("killed") == 1


def test_an_open_connection_does_not_keep_a_service_awake(tmp_path: Path) -> None:
    """Whoever holds a connection open and says nothing costs no process for ever."""
    with running(tmp_path) as rig:
        client = socket.create_connection((LOOPBACK, rig.port()), timeout=30)
        with client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: tiny\r\n\r\n")
            client.recv(4096)
            rig.until("asleep")


def test_attack_half_a_request_line(tmp_path: Path) -> None:
    """A request that never becomes whole cannot keep a service from ending."""
    with running(tmp_path, end_seconds_max=0.3) as rig:
        client = socket.create_connection((LOOPBACK, rig.port()), timeout=30)
        with client:
            client.sendall(b"GET / HT")
            rig.until("awake")
            rig.until("asleep")
            assert rig.get()[0] == 200


def test_attack_half_requests_on_every_thread(tmp_path: Path) -> None:
    """Who says nothing more is cut off, and who waits behind them is answered."""
    half = [b"GET / HT", b"GET / HTTP/1.1\r\nHost: tiny\r\n"]
    with running(tmp_path, idle_seconds=30.0) as rig, ExitStack() as clients:
        assert rig.get()[0] == 200
        for number in range(THREADS):
            address = (LOOPBACK, rig.port())
            client = clients.enter_context(socket.create_connection(address))
            client.sendall(half[number % 2])
        time.sleep(0.3)
        assert rig.get()[0] == 200
        assert rig.service().starts == 1


def test_an_app_that_does_not_start(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After three tries the activator answers 503 itself, and the log says why."""
    (tmp_path / "broken").write_text("no database here")
    with running(tmp_path, spec(tmp_path, environ=uncovered())) as rig:
        with socket.create_connection((LOOPBACK, rig.port()), timeout=30) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: tiny\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(4096), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        tried = rig.service().starts
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"application/problem+json" in head
    assert b"Retry-After" in head
    assert json.loads(body)["type"] == "urn:guise:problem:unavailable"
    assert tried == 3
    assert "status 3: no database here" in caplog.text
    assert str(tmp_path / "tiny.log") in caplog.text


def test_an_app_that_is_mended(tmp_path: Path) -> None:
    """After a while of 503 the service is tried again, and answers."""
    broken = tmp_path / "broken"
    broken.write_text("not yet")
    mendable = spec(tmp_path, environ=uncovered())
    with running(tmp_path, mendable, apology_seconds=0.5) as rig:
        assert rig.get()[0] == 503
        broken.unlink()
        until(lambda: rig.get()[0] == 200)


def test_two_hundred_connections_on_a_broken_service(tmp_path: Path) -> None:
    """All of them are answered, with 503."""
    (tmp_path / "broken").write_text("")
    with (
        running(
            tmp_path, spec(tmp_path, environ=uncovered()), apology_seconds=9
        ) as rig,
        ThreadPoolExecutor(200) as pool,
    ):
        answers = list(pool.map(get, [rig.port()] * 200))
    assert {status for status, _ in answers} == {503}


def test_an_app_that_hangs_while_it_starts(tmp_path: Path) -> None:
    """It is given a bounded time, then killed."""
    (tmp_path / "stuck").write_text("")
    hanging = spec(tmp_path, environ=uncovered())
    with running(tmp_path, hanging, boot_seconds_max=0.3, failures_max=2) as rig:
        assert rig.get()[0] == 503
        assert rig.service().starts == 2


def test_a_service_that_cannot_be_started_at_all(tmp_path: Path) -> None:
    """No folder, no process: 503, and the activator lives on."""
    gone = replace(spec(tmp_path), folder=tmp_path / "gone")
    with running(tmp_path, gone) as rig:
        assert rig.get()[0] == 503
        assert rig.service().starts == 3


def test_a_worker_that_dies_is_started_again(tmp_path: Path) -> None:
    """The request it died on is lost, the next is answered by another process."""
    with running(tmp_path, idle_seconds=30) as rig:
        _, first = rig.get()
        with pytest.raises(ConnectionError):
            rig.get("/crash")
        status, second = rig.get()
    assert status == 200
    assert first != second


def test_a_killed_arbiter_takes_its_worker_along(tmp_path: Path) -> None:
    """And the service sleeps, ready for the next connection."""
    with running(tmp_path, idle_seconds=30) as rig:
        rig.get()
        pids = rig.service().pids
        os.kill(pids[0], 9)
        rig.until("asleep")
        until(lambda: not alive(pids))  # the kernel ends the pipe first
        assert rig.get()[0] == 200


def test_stopping_answers_what_is_under_way(tmp_path: Path) -> None:
    """A request that has begun is finished before its service ends."""
    with ThreadPoolExecutor(1) as pool, running(tmp_path) as rig:
        slow = pool.submit(rig.get, "/slow/0.5")
        rig.until("awake")
        time.sleep(0.1)
        rig.activator.stop()
        status, _ = slow.result()
    assert status == 200


def test_stopping_twice_waits_for_nobody(tmp_path: Path) -> None:
    """Who asks again wants it to end now."""
    with ThreadPoolExecutor(1) as pool, running(tmp_path) as rig:
        slow = pool.submit(rig.get, "/slow/20")
        rig.until("awake")
        rig.activator.stop()
        rig.activator.stop()
        rig.thread.join(5)
        assert not rig.thread.is_alive()
        assert isinstance(slow.exception(), OSError)


def test_stopping_ends_by_force_in_the_end(tmp_path: Path) -> None:
    """A request that outlasts the stop is cut off."""
    with (
        ThreadPoolExecutor(1) as pool,
        running(tmp_path, stop_seconds_max=0.3) as rig,
    ):
        slow = pool.submit(rig.get, "/slow/20")
        rig.until("awake")
        time.sleep(0.1)
        rig.activator.stop()
        rig.thread.join(5)
        assert not rig.thread.is_alive()
        assert isinstance(slow.exception(), OSError)


def test_while_one_service_ends_the_others_answer_it(tmp_path: Path) -> None:
    """Who is not public still wakes for one that is finishing its work."""
    (tmp_path / "front.py").write_text(FRONT)
    back = spec(tmp_path, "back", public=False)
    port = back.listener.getsockname()[1]
    front = spec(
        tmp_path,
        "front",
        args=(*back.args[:-1], "front:create_app()"),
        environ=os.environ | {"BACK": str(port)},
    )
    with ThreadPoolExecutor(1) as pool, running(tmp_path, front, back) as rig:
        asked = pool.submit(rig.get, "/", "front")
        rig.until("awake", name="front")
        time.sleep(0.1)
        rig.activator.stop()
        assert asked.result() == (200, b"200")
        rig.thread.join(10)
        assert rig.service("back").starts == 1
        assert not any(each.pids for each in rig.activator.snapshot())


FRONT = """
import http.client, os, time

def create_app():
    def app(environ, start_response):
        time.sleep(0.5)
        back = http.client.HTTPConnection("127.0.0.1", int(os.environ["BACK"]))
        back.request("GET", "/")
        body = str(back.getresponse().status).encode()
        back.close()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]
    return app
"""


def test_stopping_while_a_service_starts(tmp_path: Path) -> None:
    """It has taken no connection yet: it is ended at once, and that is no failure."""
    (tmp_path / "stuck").write_text("")
    with running(tmp_path, spec(tmp_path, environ=uncovered())) as rig:
        client = socket.create_connection((LOOPBACK, rig.port()), timeout=30)
        with client:
            rig.until("starting")
            rig.activator.stop()
            rig.thread.join(5)
            assert not rig.thread.is_alive()


def test_the_log_of_a_service_has_a_bound(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A log over its limit is begun anew at the next start."""
    caplog.set_level(logging.INFO)
    log = tmp_path / "tiny.log"
    log.write_bytes(b"old\n" * 1_000_000)
    with running(tmp_path) as rig:
        rig.get()
    assert log.stat().st_size < 100_000
    assert b"old" not in log.read_bytes()


def test_closing_without_having_stopped_leaves_nothing(tmp_path: Path) -> None:
    """Whatever went wrong, `close` kills what runs."""
    rig: Rig
    with running(tmp_path, idle_seconds=30) as rig:
        rig.get()
        pids = rig.service().pids
        service = rig.activator._services[0]
        rig.activator.stop()
        rig.thread.join(10)
        service.gunicorn = service.start()
        again = service.status().pids
    until(lambda: not alive((*pids, *again)), 5)
