# SPDX-License-Identifier: BSD-3-Clause
"""Local repositories beside native ext4: bytes, names, start. Every figure is taken in the same loop as
its baseline, A B A B, and quoted as the median with its spread; what counts is the ratio.

    tests/perf/run local [--rounds N] [--datasets N] [--big N] [--work FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "mount"))
import makerepo  # noqa: E402
from measure import COMMAND, CONTROL, Table, fio, timed  # noqa: E402


class Mount:
    """A mount with an empty catalogue of its own; ends with the block."""

    def __init__(self, repo: Path, work: Path, *options: str) -> None:
        self.point = Path(tempfile.mkdtemp(prefix="mnt-", dir=work))
        self.cache = Path(tempfile.mkdtemp(prefix="cache-", dir=work))
        begin = time.perf_counter()
        subprocess.run(
            [COMMAND, repo, self.point, "-o", ",".join([f"cache_dir={self.cache}", *options])], check=True
        )
        os.listdir(self.point)
        self.seconds = time.perf_counter() - begin

    def __enter__(self) -> Mount:
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", self.point], check=False)
        shutil.rmtree(self.cache, ignore_errors=True)
        self.point.rmdir()

    def status(self) -> dict:
        out = subprocess.run([CONTROL, "status", self.point, "--json"], check=True, capture_output=True)
        return json.loads(out.stdout)

    def anonymous_mib(self) -> float:
        for line in Path(f"/proc/{self.status()['pid']}/smaps_rollup").read_text().splitlines():
            if line.startswith("Anonymous:"):
                return int(line.split()[1]) / 1024
        return float("nan")


def bytes_case(work: Path, rounds: int, table: Table) -> None:
    """One artifact of 1 GiB, ingested in place, read natively and through the mount."""
    made = makerepo.make(work / "bytes", seed=1, datasets=50, nasty=False)
    with Mount(made.root, work) as m:
        target = None
        for folder, _, files in os.walk(m.point / "collections"):
            if files:
                target = Path(folder) / files[0]
                break
        assert target is not None
        relative = target.relative_to(m.point)
        native = artifact_of(made.root, os.getxattr(target, "user.butler.uuid").decode())
    with native.open("wb") as f:
        for _ in range(1024):
            f.write(os.urandom(1 << 20))
    with Mount(made.root, work) as m:
        path = m.point / relative
        with path.open("rb") as f:  # the store's own size replaces the recorded one
            f.read(1)
        for name, rw, engine, block, seconds, goal in [
            ("sequential read 1 MiB, MB/s", "read", "psync", "1M", None, 0.95),
            ("random read 4 KiB, IOPS", "randread", "psync", "4k", 1.5, 0.90),
            ("mmap random touch 4 KiB, IOPS", "randread", "mmap", "4k", 1.5, 0.95),
        ]:
            ours, base = [], []
            for _ in range(rounds):
                base.append(fio(native, rw, engine, block, seconds))
                ours.append(fio(path, rw, engine, block, seconds))
            table.row(name, ours, base, name.split(", ")[1], goal, True)
        assert m.status()["counters"]["open_passthrough"] > 0, "passthrough was not used"


def artifact_of(root: Path, uuid: str) -> Path:
    import sqlite3

    with sqlite3.connect(root / "gen3.sqlite3") as db:
        (path,) = db.execute(
            "SELECT path FROM file_datastore_records WHERE dataset_id = ?", (uuid.replace("-", ""),)
        ).fetchone()
    return root / path


def copy_names(source: Path, target: Path) -> int:
    """A native tree of the same names and sizes."""
    count = 0
    for folder, folders, files in os.walk(source):
        here = target / Path(folder).relative_to(source)
        here.mkdir(parents=True, exist_ok=True)
        for name in files:
            size = os.stat(Path(folder) / name).st_size
            with (here / name).open("wb") as f:
                f.truncate(size)
            count += 1
    return count


def names_case(work: Path, datasets: int, rounds: int, table: Table) -> None:
    made = makerepo.make_big(work / "names", datasets)
    native = work / "native"
    with Mount(made.root, work) as m:
        count = copy_names(m.point / "collections", native)
    print(f"# {count} files in the tree", flush=True)
    cases = [
        ("find, again", ["find"], [], 1.5),
        ("find -size, again", ["find"], ["-size", "+100G"], 1.0),
        ("ls -lR, again", ["ls", "-lR"], [], 1.0),
    ]
    first, memory = [], []
    for _ in range(rounds):
        with Mount(made.root, work) as m:
            first.append(count / timed("find", m.point / "collections"))
            memory.append(m.anonymous_mib())
    table.figure("find, first time, entries/s", first, "entries/s", 50_000, True)
    table.figure("anonymous memory after the walk", memory, "MiB", 64, False)
    with Mount(made.root, work) as m:
        tree = m.point / "collections"
        for name, head, tail, goal in cases:
            ours, base = [], []
            timed(*head, native, *tail)
            timed(*head, tree, *tail)
            for _ in range(rounds):
                base.append(timed(*head, native, *tail))
                ours.append(timed(*head, tree, *tail))
            table.row(name + ", s", ours, base, "s", goal, False)


def start_case(work: Path, big: int, rounds: int, table: Table) -> None:
    small = makerepo.make(work / "ten", seed=1, datasets=10, nasty=False)
    large = makerepo.make_big(work / "large", big)
    for name, made in [("10 datasets", small), (f"{big:,} datasets", large)]:
        seconds = []
        for _ in range(rounds):
            with Mount(made.root, work) as m:
                seconds.append(m.seconds * 1000)
        table.figure(f"mount to ls, {name}", seconds, "ms", 100, False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--datasets", type=int, default=100_000)
    parser.add_argument("--big", type=int, default=1_000_000)
    parser.add_argument("--work", type=Path, help="where to make the repositories (a folder on ext4)")
    parser.add_argument("--only", choices=["bytes", "names", "start"])
    args = parser.parse_args()
    makerepo.quiet()
    work = Path(tempfile.mkdtemp(prefix="butlerfs-perf-", dir=args.work))
    work.chmod(0o755)
    table = Table()
    print(f"# {os.uname().release}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {args.rounds} rounds")
    print(f"{'case':34s} {'butlerfs':>28s} {'baseline (ext4)':>28s}")
    try:
        if args.only in (None, "bytes"):
            bytes_case(work, args.rounds, table)
        if args.only in (None, "names"):
            names_case(work, args.datasets, args.rounds, table)
        if args.only in (None, "start"):
            start_case(work, args.big, args.rounds, table)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"# {table.missed} goals missed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
