# SPDX-License-Identifier: BSD-3-Clause
"""locks=backing: locks of a home's files are those of the file system below, for others who have it, too."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import multiprocessing
import os
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import mounting
import pytest

pytestmark = pytest.mark.usefixtures("root_only")

F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW = 36, 37, 38
KINDS = ["fcntl", "ofd", "flock"]


@pytest.fixture
def below(place, request) -> Path:
    at = place / request.node.name.replace("/", "-")
    at.mkdir()
    (at / "file").write_bytes(b"x" * 100)
    return at


@pytest.fixture
def home(mount, below):
    return mount(f"home:{below}", locks="backing")


def range_of(kind: int, start: int = 0, length: int = 0) -> bytes:
    return struct.pack("hhlli4x", kind, os.SEEK_SET, start, length, 0)


def lock(fd: int, how: str, kind: int, waits: bool = False, start: int = 0, length: int = 0) -> None:
    if how == "flock":
        fcntl.flock(fd, {fcntl.F_RDLCK: fcntl.LOCK_SH, fcntl.F_WRLCK: fcntl.LOCK_EX, fcntl.F_UNLCK: fcntl.LOCK_UN}[kind] | (0 if waits else fcntl.LOCK_NB))
        return
    command = {("fcntl", False): fcntl.F_SETLK, ("fcntl", True): fcntl.F_SETLKW, ("ofd", False): F_OFD_SETLK, ("ofd", True): F_OFD_SETLKW}[how, waits]
    fcntl.fcntl(fd, command, range_of(kind, start, length))


def can_lock(path: Path, how: str, kind: int, start: int = 0, length: int = 0) -> bool:
    """By another process, which gives it back at once."""
    def run() -> None:
        fd = os.open(path, os.O_RDWR)
        try:
            lock(fd, how, kind, False, start, length)
        except OSError as e:
            os._exit(1 if e.errno in (errno.EAGAIN, errno.EACCES) else 2)
        os._exit(0)

    process = multiprocessing.Process(target=run)
    process.start()
    process.join()
    assert process.exitcode in (0, 1)
    return process.exitcode == 0


@contextlib.contextmanager
def opened(path: Path, flags: int = os.O_RDWR) -> Iterator[int]:
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def waiting(path: Path, how: str) -> Iterator[multiprocessing.Process]:
    """A process that waits for the whole file and ends with 0 when it has it, with 3 when it was interrupted."""
    def run() -> None:
        def interrupt(*_: object) -> None:
            os._exit(3)

        signal.signal(signal.SIGUSR1, interrupt)
        lock(os.open(path, os.O_RDWR), how, fcntl.F_WRLCK, True)
        os._exit(0)

    process = multiprocessing.Process(target=run)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


@pytest.mark.parametrize("how", KINDS)
def test_a_lock_is_met_on_the_mount_and_below(home, below, how):
    with opened(home / "file") as fd:
        lock(fd, how, fcntl.F_WRLCK)
        assert not can_lock(below / "file", how, fcntl.F_RDLCK)
        assert not can_lock(home / "file", how, fcntl.F_RDLCK)
        lock(fd, how, fcntl.F_RDLCK)
        assert can_lock(below / "file", how, fcntl.F_RDLCK)
        assert not can_lock(home / "file", how, fcntl.F_WRLCK)
        lock(fd, how, fcntl.F_UNLCK)
        assert can_lock(below / "file", how, fcntl.F_WRLCK)
        lock(fd, how, fcntl.F_WRLCK)
    mounting.eventually(lambda: can_lock(below / "file", how, fcntl.F_WRLCK), 10, "given back when it was closed")
    with opened(below / "file") as fd:
        lock(fd, how, fcntl.F_WRLCK)
        assert not can_lock(home / "file", how, fcntl.F_WRLCK)


@pytest.mark.parametrize("how", ["fcntl", "ofd"])
def test_ranges_are_apart(home, below, how):
    with opened(home / "file") as fd:
        lock(fd, how, fcntl.F_WRLCK, start=10, length=10)
        lock(fd, how, fcntl.F_WRLCK, start=50, length=10)
        lock(fd, how, fcntl.F_UNLCK, start=10, length=5)
        assert can_lock(below / "file", how, fcntl.F_WRLCK, 0, 15)
        assert not can_lock(below / "file", how, fcntl.F_WRLCK, 0, 16)
        assert not can_lock(home / "file", how, fcntl.F_WRLCK, 55, 1)
    with opened(below / "file") as native, opened(home / "file") as fd:
        lock(native, "ofd", fcntl.F_WRLCK, start=20, length=5)
        kind, _, start, length, _ = struct.unpack("hhlli4x", fcntl.fcntl(fd, F_OFD_GETLK, range_of(fcntl.F_WRLCK)))
        assert (kind, start, length) == (fcntl.F_WRLCK, 20, 5)


def test_any_close_gives_a_processs_fcntl_locks_back(home, below):
    with opened(home / "file") as fd:
        lock(fd, "fcntl", fcntl.F_WRLCK)
        os.close(os.open(home / "file", os.O_RDONLY))
        assert can_lock(below / "file", "fcntl", fcntl.F_WRLCK)


@pytest.mark.parametrize("how", KINDS)
@pytest.mark.parametrize("where", ["here", "below"])
def test_who_waits_gets_the_lock_when_it_is_given_back(home, below, how, where):
    with opened(home / "file" if where == "here" else below / "file") as fd:
        lock(fd, how, fcntl.F_WRLCK)
        with waiting(home / "file", how) as process:
            mounting.eventually(lambda: home.status()["counters"]["waiters"] == 1, 10)
            assert process.exitcode is None
            lock(fd, how, fcntl.F_UNLCK)
            process.join(10)
            assert process.exitcode == 0


@pytest.mark.parametrize("how", KINDS)
def test_a_wait_outlasts_the_time_limit_and_can_be_interrupted_and_killed(mount, below, how):
    home = mount(f"home:{below}", locks="backing", timeout="100ms")
    with opened(below / "file") as fd:
        lock(fd, how, fcntl.F_WRLCK)
        for number, status in ((signal.SIGUSR1, 3), (signal.SIGKILL, -signal.SIGKILL)):
            with waiting(home / "file", how) as process:
                mounting.eventually(lambda: home.status()["counters"]["waiters"] == 1, 10)
                time.sleep(0.3)
                assert process.is_alive()
                os.kill(process.pid, number)
                process.join(10)
                assert process.exitcode == status
            mounting.eventually(lambda: home.status()["counters"]["waiters"] == 0, 10)


def test_who_waits_goes_on_waiting_over_a_death_and_held_locks_are_said_to_be_gone(home, below):
    with opened(below / "file") as fd:
        lock(fd, "ofd", fcntl.F_WRLCK)
        with waiting(home / "file", "fcntl") as process:
            mounting.eventually(lambda: home.status()["counters"]["waiters"] == 1, 10)
            os.kill(home.pid(), signal.SIGKILL)
            mounting.eventually(lambda: home.status()["life"] == 2 and home.status()["counters"]["waiters"] == 1, 20)
            lock(fd, "ofd", fcntl.F_UNLCK)
            process.join(10)
            assert process.exitcode == 0
    assert "ended with the daemon before this one" in home.log()


def test_archives_have_no_such_locks(repository, place, tmp_path):
    answer = subprocess.run([mounting.program("butlerfs"), str(repository().root), str(tmp_path), "-o", "locks=backing"], capture_output=True, text=True)
    assert answer.returncode != 0
    assert "locks=backing: " in answer.stderr and "is an archive" in answer.stderr
