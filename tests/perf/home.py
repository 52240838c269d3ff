# SPDX-License-Identifier: BSD-3-Clause
"""A home space beside the file system it stands on: writing, small files, programs that people run there. Every
figure is taken in the same loop as its baseline, native, mount, native, mount; figures are rates, so that a ratio of
1 is as fast as native.

    tests/perf/run home [--rounds N] [--files N] [--only WORD] [--work FOLDER] [--option mount-option]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from measure import COMMAND, CONTROL, Table

MIB = 1 << 20


def rate(amount: float, act: Callable[[], object]) -> float:
    begin = time.perf_counter()
    act()
    return amount / (time.perf_counter() - begin)


def quiet(*words: object, **how: object) -> None:
    subprocess.run([str(w) for w in words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **how)


def write(path: Path, block: int, total: int, sync: bool = False) -> None:
    data = os.urandom(block)
    fd = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    for _ in range(total // block):
        os.write(fd, data)
    if sync:
        os.fsync(fd)
    os.close(fd)


def read(path: Path, block: int) -> None:
    fd = os.open(path, os.O_RDONLY)
    while os.read(fd, block):
        pass
    os.close(fd)


class Cases:
    """Each takes a folder that is empty and gives a rate."""

    def __init__(self, work: Path, files: int) -> None:
        self.files = files
        source = work / "source"
        for i in range(files):
            at = source / f"{i % 97:02d}" / f"{i % 13}"
            at.mkdir(parents=True, exist_ok=True)
            (at / f"file{i}").write_bytes(os.urandom(i * 37 % 9000))
        self.tar = work / "source.tar"
        with tarfile.open(self.tar, "w") as t:
            t.add(source, "source")
        env = {**os.environ, "HOME": str(work), "GIT_CONFIG_COUNT": "2", "GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": "x",
               "GIT_CONFIG_KEY_1": "user.email", "GIT_CONFIG_VALUE_1": "x@x"}  # fmt: skip
        self.env = env
        self.repository = work / "repository"
        quiet("git", "init", "-q", self.repository, env=env)
        shutil.copytree(source, self.repository / "source")
        quiet("git", "add", "-A", cwd=self.repository, env=env)
        quiet("git", "commit", "-qm", "all", cwd=self.repository, env=env)

    def reading(self, at: Path) -> float:
        write(at / "file", MIB, 256 * MIB)
        read(at / "file", MIB)
        return rate(4 * 256, lambda: [read(at / "file", MIB) for _ in range(4)])

    def writing_1m(self, at: Path) -> float:
        return rate(512, lambda: write(at / "file", MIB, 512 * MIB))

    def writing_1m_sync(self, at: Path) -> float:
        return rate(256, lambda: write(at / "file", MIB, 256 * MIB, sync=True))

    def writing_4k(self, at: Path) -> float:
        return rate(64, lambda: write(at / "file", 4096, 64 * MIB))

    def small_synced(self, at: Path) -> float:
        return rate(300, lambda: [write(at / f"f{i}", 4096, 4096, sync=True) for i in range(300)])

    def untar(self, at: Path) -> float:
        return rate(self.files, lambda: quiet("tar", "xf", self.tar, "-C", at))

    def remove(self, at: Path) -> float:
        quiet("tar", "xf", self.tar, "-C", at)
        return rate(self.files, lambda: quiet("rm", "-r", at / "source"))

    def find(self, at: Path) -> float:
        quiet("tar", "xf", self.tar, "-C", at)
        return rate(self.files, lambda: quiet("find", at, "-size", "+100M"))

    def sqlite(self, at: Path) -> float:
        db = sqlite3.connect(at / "db")
        db.execute("CREATE TABLE t (a INT, b TEXT)")

        def work() -> None:
            for i in range(300):
                with db:
                    db.execute("INSERT INTO t VALUES (?, ?)", (i, "x" * 100))

        result = rate(300, work)
        db.close()
        return result

    def git(self, at: Path) -> float:
        def work() -> None:
            quiet("git", "clone", "-q", "--no-hardlinks", self.repository, at / "clone", env=self.env)
            quiet("git", "status", "--porcelain", cwd=at / "clone", env=self.env)

        return rate(1, work)

    def venv_pip(self, at: Path) -> float:
        return rate(1, lambda: quiet(sys.executable, "-m", "venv", at / "venv", env={**self.env, "PYTHONDONTWRITEBYTECODE": "1"}))


def cpu_ns(daemon: int) -> int:
    """Of all threads of the daemon, and of this one."""
    ours = sum(int((t / "schedstat").read_text().split()[0]) for t in Path(f"/proc/{daemon}/task").iterdir())
    return ours + time.thread_time_ns()


def quota_cost(table: Table, work: Path, rounds: int) -> None:
    """What counting costs: processor time of writes that make a file longer, in turn with it and without. All on one
    processor: what waking another costs differs by more than what is looked for."""
    writes, all_processors = 4000, os.sched_getaffinity(0)
    one = {min(all_processors)}
    mounts: list[tuple[Path, int, list[float]]] = []
    for switch in ("on", "off"):
        at = work / f"quota-{switch}"
        (work / f"below-{switch}").mkdir()
        at.mkdir()
        quiet(COMMAND, f"home:{work}/below-{switch}", at, "-o", f"cache_dir={work}/cache-{switch},ledger_dir={work}/ledger-{switch},quota={switch}")
        status = subprocess.run([CONTROL, "status", at, "--json"], check=True, capture_output=True).stdout
        mounts.append((at, json.loads(status)["pid"], []))
        for thread in Path(f"/proc/{mounts[-1][1]}/task").iterdir():
            os.sched_setaffinity(int(thread.name), one)
    os.sched_setaffinity(0, one)
    try:
        for _ in range(max(rounds, 15)):
            for at, daemon, to in mounts:
                before = cpu_ns(daemon)
                write(at / "file", 4096, 4096 * writes)
                to.append(writes / ((cpu_ns(daemon) - before) / 1e9))
        table.row("4 KiB writes by quota, 1/CPU-s", mounts[0][2], mounts[1][2], "", 0.97, True)
    finally:
        os.sched_setaffinity(0, all_processors)
        for at, _, _ in mounts:
            quiet("umount", at)


TABLE: list[tuple[str, str, float | None]] = [
    ("reading", "read 1 MiB, MiB/s", 0.95),
    ("writing_1m", "write 1 MiB, MiB/s", 0.70),
    ("writing_1m_sync", "write 1 MiB, fsync, MiB/s", None),
    ("writing_4k", "write 4 KiB, MiB/s", None),
    ("small_synced", "create, 4 KiB, fsync, files/s", None),
    ("untar", "untar, files/s", 0.65),
    ("find", "find -size, files/s", None),
    ("sqlite", "sqlite, transactions/s", 0.70),
    ("git", "git clone and status, 1/s", 0.65),
    ("venv_pip", "venv with pip installed, 1/s", 0.65),
    ("remove", "rm -r, files/s", None),  # last, for what is said in main
]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", type=int, default=20000)
    parser.add_argument("--only", default="")
    parser.add_argument("--option", action="append", default=[])
    parser.add_argument("--work", type=Path)
    given = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="butlerfs-perf-", dir=given.work))
    (work / "below").mkdir()
    (work / "native").mkdir()
    (work / "mnt").mkdir()
    cases = Cases(work, given.files)
    table = Table()
    options = ",".join([f"cache_dir={work}/cache", *given.option])
    quiet(COMMAND, f"home:{work}/below", work / "mnt", "-o", options)
    try:
        for name, title, goal in TABLE:
            if given.only not in name:
                continue
            ours: list[float] = []
            base: list[float] = []
            for i in range(given.rounds):
                for at, to in ((work / "native", base), (work / "mnt", ours)):
                    folder = at / f"{name}{i}"
                    folder.mkdir()
                    to.append(getattr(cases, name)(folder))
                    # A few large files only: ext4 goes slowly past the numbers of many inodes that were just removed.
                    if name in ("reading", "writing_1m", "writing_1m_sync", "writing_4k"):
                        shutil.rmtree(folder)
            table.row(title, ours, base, "", goal, True)
        if given.only in "quota":
            quota_cost(table, work, given.rounds)
    finally:
        quiet("umount", work / "mnt")
        shutil.rmtree(work, ignore_errors=True)
    return 1 if table.missed else 0


if __name__ == "__main__":
    sys.exit(main())
