# SPDX-License-Identifier: BSD-3-Clause
"""What is asked of a mount beside its files: explain, find; calibs-at; members of archives.

    tests/perf/run ask [--rounds N] [--datasets N] [--work FOLDER]
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "mount"))
import makerepo  # noqa: E402
from local import Mount  # noqa: E402
from measure import CONTROL, Table, fio  # noqa: E402

EXPLAINS = 30


def milliseconds(*line: str | Path) -> float:
    begin = time.perf_counter()
    subprocess.run([*map(str, line)], check=True, capture_output=True)
    return (time.perf_counter() - begin) * 1000


def some_files(at: Path, collection: str, count: int) -> list[Path]:
    out = subprocess.run(["find", at / "collections" / collection, "-type", "f"], check=True, capture_output=True, text=True)
    paths = [Path(p) for p in out.stdout.splitlines()]
    return random.Random(1).sample(paths, min(count, len(paths)))


def explain_case(work: Path, datasets: int, rounds: int, table: Table) -> None:
    """A process each, so that its start is in the figure; no set is loaded, each file is asked for the first time."""
    made = makerepo.make_big(work / "explain", datasets)
    with Mount(made.root, work) as m:
        relative = [p.relative_to(m.point) for p in some_files(m.point, "big/run", EXPLAINS)]
    first, again, missing = [], [], []
    for _ in range(rounds):
        with Mount(made.root, work) as m:
            paths = [m.point / p for p in relative]
            first += [milliseconds(CONTROL, "explain", p) for p in paths]
            again += [milliseconds(CONTROL, "explain", p) for p in paths]
            missing += [milliseconds(CONTROL, "explain", p.with_name("x" + p.name)) for p in paths]
    table.figure("explain, first time", first, "ms", 10, False)
    table.figure("explain, again", again, "ms", 10, False)
    table.figure("explain what isn't there", missing, "ms", 10, False)
    every = []
    with Mount(made.root, work) as m:
        folder = m.point / "collections/big/run"
        for _ in range(rounds):
            begin = time.perf_counter()
            out = subprocess.run([CONTROL, "find", folder, "calexp", "visit.id != 0"], check=True, capture_output=True)
            every.append(len(out.stdout.splitlines()) / (time.perf_counter() - begin))
    table.figure("find, paths/s", every, "paths/s", 10_000, True)


MEMBER_BYTES = 256 << 20


def zip_case(work: Path, rounds: int, table: Table) -> None:
    """A stored member beside the artifact itself, both read through the daemon."""
    made = makerepo.make(work / "zip", seed=5, datasets=100, nasty=False)
    with Mount(made.root, work) as m:
        names = some_files(m.point, "u/alice/run1", 1000)
        path = next(p for p in names if p.suffix == ".yaml")
        relative, uuid = path.relative_to(m.point), os.getxattr(path, "user.butler.uuid").decode()
    import sqlite3

    with sqlite3.connect(made.root / "gen3.sqlite3") as db:
        where = (uuid.replace("-", ""),)
        (recorded,) = db.execute("SELECT path FROM file_datastore_records WHERE dataset_id = ?", where).fetchone()
        plain = made.root / recorded
        plain.write_bytes(os.urandom(1 << 20) * (MEMBER_BYTES >> 20))
        with zipfile.ZipFile(made.root / "all.zip", "w") as z:
            z.write(plain, "member.yaml")
        others = db.execute("SELECT dataset_id, path FROM file_datastore_records WHERE path LIKE '%.yaml' AND dataset_id != ?", where).fetchall()
        other = next(o for o in others if (made.root / o[1]).is_file())
        db.execute("UPDATE file_datastore_records SET path = 'all.zip#zip-path=member.yaml' WHERE dataset_id = ?", (other[0],))
    db.close()
    member = f"by-uuid/{'-'.join([other[0][:8], other[0][8:12], other[0][12:16], other[0][16:20], other[0][20:]])}"
    with Mount(made.root, work, "passthrough=off") as m:
        at, beside = m.point / relative, (m.point / member).resolve()
        for p in (at, beside):
            with p.open("rb") as f:  # the store's own size replaces the recorded one
                f.read(1)
            assert p.stat().st_size == MEMBER_BYTES
        for name, rw, block in [("zip member, read 1 MiB, MB/s", "read", "1M"), ("zip member, random 4 KiB, IOPS", "randread", "4k")]:
            ours, base = [], []
            for _ in range(rounds):
                base.append(fio(at, rw, "psync", block, 1.5))
                ours.append(fio(beside, rw, "psync", block, 1.5))
            table.row(name, ours, base, name.split(", ")[2], 0.8, True)


def calibs_case(work: Path, rounds: int, table: Table) -> None:
    """A look-up at an instant that nobody asked for, beside one of an entry by its name, each for the first time."""
    made = makerepo.make(work / "calibs", seed=5, datasets=400, nasty=False, calibrations=True)
    with Mount(made.root, work) as m:
        entries = [p for p in some_files(m.point, "HSC/calib", 2000) if "/bias/" in str(p)]
        assert entries, "the maker has made no calibrations"
        relative = [p.relative_to(m.point) for p in random.Random(1).sample(entries, min(20, len(entries)))]
    named, at = [], []
    for round_ in range(rounds):
        with Mount(made.root, work) as m:
            for p in relative:
                begin = time.perf_counter()
                os.stat(m.point / p)
                named.append((time.perf_counter() - begin) * 1000)
            for i, p in enumerate(relative):
                below = Path(*p.parts[1:])
                plain = below.with_name(below.name.partition("@")[0] + below.suffix)
                begin = time.perf_counter()
                try:
                    os.stat(m.point / f"calibs-at/2024-01-0{1 + round_ % 9}T00:00:{i:02d}" / plain)
                except OSError:
                    pass
                at.append((time.perf_counter() - begin) * 1000)
    table.figure("an entry by its name", named, "ms", 10, False)
    table.figure("calibs-at, a new instant", at, "ms", 10, False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--datasets", type=int, default=100_000)
    parser.add_argument("--work", type=Path, help="where to make the repositories (a folder on ext4)")
    parser.add_argument("--only", choices=["explain", "zip", "calibs"])
    args = parser.parse_args()
    makerepo.quiet()
    work = Path(tempfile.mkdtemp(prefix="butlerfs-perf-", dir=args.work))
    work.chmod(0o755)
    table = Table()
    print(f"# {os.uname().release}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {args.rounds} rounds")
    print(f"{'case':34s} {'butlerfs':>28s} {'baseline':>28s}")
    try:
        if args.only in (None, "explain"):
            explain_case(work, args.datasets, args.rounds, table)
        if args.only in (None, "zip"):
            zip_case(work, args.rounds, table)
        if args.only in (None, "calibs"):
            calibs_case(work, args.rounds, table)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"# {table.missed} goals missed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
