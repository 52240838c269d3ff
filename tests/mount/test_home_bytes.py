# SPDX-License-Identifier: BSD-3-Clause
"""The bytes of a home's files: random operations against memory, and programs that trust their file system."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import random
import shutil
import sqlite3
import subprocess
import threading
from contextlib import closing
from pathlib import Path

import pytest
from acting import ALICE, by

pytestmark = pytest.mark.usefixtures("root_only")

STEPS = int(os.environ.get("BUTLERFS_MODEL_STEPS", "1500"))
SEED = int(os.environ.get("BUTLERFS_TEST_SEED", "1"))
SIZE_MAX = 300_000
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16

libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture(params=["on", "off"])
def alice(mount, place, request) -> Path:
    """Her folder, with and without passthrough."""
    below = place / f"bytes-{request.node.name}"
    below.mkdir()
    below.chmod(0o755)
    (below / "alice").mkdir()
    os.chown(below / "alice", ALICE, ALICE)
    return mount(f"home:{below}", passthrough=request.param) / "alice"


class File:
    """One file by several descriptors, and what must be in it."""

    def __init__(self, path: Path, out: Path, seed: int):
        self.random = random.Random(seed)
        self.path = path
        self.data = bytearray()
        self.fds = [os.open(path, os.O_CREAT | os.O_RDWR), os.open(path, os.O_RDWR), os.open(path, os.O_RDWR | os.O_APPEND)]
        self.reader = os.open(path, os.O_RDONLY)
        self.out = out

    def grow(self, end: int) -> None:
        if end > len(self.data):
            self.data.extend(bytes(end - len(self.data)))

    def range(self) -> tuple[int, int]:
        at = self.random.randrange(SIZE_MAX)
        return at, self.random.randrange(1, 40_000)

    def write(self) -> None:
        at, n = self.range()
        piece = self.random.randbytes(n)
        assert os.pwrite(self.fds[self.random.randrange(2)], piece, at) == n
        self.grow(at + n)
        self.data[at : at + n] = piece

    def append(self) -> None:
        if len(self.data) < SIZE_MAX:
            piece = self.random.randbytes(self.random.randrange(1, 5000))
            assert os.write(self.fds[2], piece) == len(piece)
            self.data += piece

    def read(self) -> None:
        at, n = self.range()
        fd = self.random.choice([self.reader, *self.fds])
        assert os.pread(fd, n, at) == self.data[at : at + n]

    def truncate(self) -> None:
        size = self.random.randrange(SIZE_MAX)
        os.ftruncate(self.fds[0], size) if self.random.random() < 0.5 else os.truncate(self.path, size)
        self.data[size:] = b""
        self.grow(size)

    def map_write(self) -> None:
        if not self.data:
            return
        with mmap.mmap(self.fds[1], len(self.data)) as m:
            at = self.random.randrange(len(self.data))
            piece = self.random.randbytes(min(self.random.randrange(1, 9000), len(self.data) - at))
            m[at : at + len(piece)] = piece
        self.data[at : at + len(piece)] = piece

    def map_read(self) -> None:
        if self.data:
            with mmap.mmap(self.reader, len(self.data), prot=mmap.PROT_READ) as m:
                assert m[:] == bytes(self.data)

    def allocate(self, mode: int) -> None:
        at, n = self.range()
        if libc.fallocate(self.fds[0], mode, ctypes.c_long(at), ctypes.c_long(n)):
            raise OSError(ctypes.get_errno(), f"fallocate {mode}")
        if not mode & KEEP_SIZE:
            self.grow(at + n)
        if mode & (PUNCH_HOLE | ZERO_RANGE):
            end = min(at + n, len(self.data))
            if at < end:
                self.data[at:end] = bytes(end - at)

    def copy(self) -> None:
        half = len(self.data) // 2
        if half < 2:
            return
        n = self.random.randrange(1, half)
        done = os.copy_file_range(self.fds[0], self.fds[1], n, 0, half)
        self.data[half : half + done] = self.data[:done]

    def send(self) -> None:
        """The kernel has no page of a writer's file that can't be old: it sends none, and what sends then reads."""
        at, n = self.range()
        fd = self.random.choice([self.reader, *self.fds])
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)
        with self.out.open("w+b") as out:
            try:
                while n and (done := os.sendfile(out.fileno(), fd, at + out.tell(), n)):
                    n -= done
                    out.seek(0, os.SEEK_END)
            except OSError as e:
                assert e.errno == errno.EINVAL and fd != self.reader
                return
            out.seek(0)
            sent = out.read()
            assert sent == self.data[at : at + len(sent)] and len(sent) == max(0, min(len(self.data) - at, len(sent) + n))

    def check(self) -> None:
        assert os.fstat(self.reader).st_size == os.stat(self.path).st_size == len(self.data)
        assert os.pread(self.reader, SIZE_MAX * 2, 0) == bytes(self.data)

    def step(self) -> None:
        acts = [self.write, self.write, self.write, self.append, self.read, self.read, self.truncate, self.map_write, self.map_read,
                lambda: self.allocate(0), lambda: self.allocate(KEEP_SIZE), lambda: self.allocate(PUNCH_HOLE | KEEP_SIZE),
                lambda: self.allocate(ZERO_RANGE), self.copy, self.send, self.check]  # fmt: skip
        self.random.choice(acts)()


def test_random_operations_leave_what_they_must(alice, place):
    file = File(alice / "file", place / "sent", SEED)
    for _ in range(STEPS):
        file.step()
    file.check()
    for fd in (*file.fds, file.reader):
        os.close(fd)
    assert (alice / "file").read_bytes() == bytes(file.data)


def test_an_sqlite_database_is_written_by_several_at_once(alice):
    def one(k: int) -> None:
        with closing(sqlite3.connect(alice / "db", timeout=30)) as db:
            for i in range(20):
                with db:
                    db.execute("INSERT INTO t VALUES (?, ?)", (k, i))

    for mode in ("delete", "wal"):
        with closing(sqlite3.connect(alice / "db")) as db:
            db.execute(f"PRAGMA journal_mode={mode}")
            db.execute("DROP TABLE IF EXISTS t")
            db.execute("CREATE TABLE t (k INT, i INT)")
        threads = [threading.Thread(target=one, args=(k,)) for k in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        with closing(sqlite3.connect(alice / "db")) as db:
            assert db.execute("SELECT count(*), count(DISTINCT k) FROM t").fetchone() == (80, 4)
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_git_works_in_a_home(alice):
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    env = {"PATH": os.environ["PATH"], "HOME": str(alice), "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=alice, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def work() -> None:
        git("init", "-q", "repo")
        for i in range(60):
            (alice / "repo" / f"file{i}").write_text(f"{i}\n" * i)
        git("-C", "repo", "add", "-A")
        git("-C", "repo", "commit", "-qm", "all")
        git("clone", "-q", "repo", "clone")
        assert git("-C", "clone", "status", "--porcelain") == ""
        git("-C", "clone", "checkout", "-qb", "other")
        (alice / "clone" / "file3").write_text("changed\n")
        assert git("-C", "clone", "status", "--porcelain") == " M file3\n"
        git("-C", "clone", "commit", "-qam", "more")
        git("-C", "clone", "gc", "-q")
        git("-C", "clone", "fsck", "--strict")

    by(ALICE, work)
