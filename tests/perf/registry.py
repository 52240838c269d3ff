# SPDX-License-Identifier: BSD-3-Clause
"""A registry in PostgreSQL at scale, made by SQL, beside the real client asking the same: statements and seconds.

    tests/perf/run registry [--datasets N] [--collections N] [--latency-ms MS] [--paths N] [--rounds N] [--whole] [--kept FOLDER | --work FOLDER]

One tags table (instrument, visit, detector) has `--datasets` rows, nine tenths of them in one RUN, the rest in two hundred small
ones; besides there are `--collections` collections with nothing in them. Each figure is of a mount that knows nothing but
collections and dataset types, unless it says `again`: the median of `--rounds` such mounts. What is made stays in the folder --kept, and is used again from there.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "mount"))
import makemany  # noqa: E402
import makerepo  # noqa: E402
import pgserver  # noqa: E402
from measure import COMMAND, CONTROL  # noqa: E402
from tcpproxy import TcpProxy  # noqa: E402

DETECTORS = 100


class World:
    def __init__(self, repo: makerepo.Repository, server: Any, proxy: TcpProxy, work: Path):
        self.repo, self.server, self.proxy, self.work = repo, server, proxy, work
        yaml = repo.root / "butler.yaml"
        yaml.write_text(re.sub(r"127\.0\.0\.1:\d+/", f"127.0.0.1:{proxy.port}/", yaml.read_text()))

    def statements(self) -> int:
        rows = self.server.execute("big", "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid"
                                   " WHERE rolname = 'reader' AND query !~ 'butler_attributes|pg_class|^(BEGIN|COMMIT|SELECT pg_catalog|SELECT .1$)'")  # fmt: skip
        self.server.execute("big", "SELECT pg_stat_statements_reset()")
        return int(rows[0][0])

    def mounted(self, what: Callable[[Path], Any], again: bool = False) -> tuple[float, int, float, int, dict[str, Any]]:
        """(seconds, statements, seconds the second time, statements the second time, counters)."""
        point = Path(tempfile.mkdtemp(dir=self.work))
        cache = Path(tempfile.mkdtemp(dir=self.work))
        env = {**os.environ, "LSST_DB_AUTH": str(self.work / "reader.yaml")}
        subprocess.run([COMMAND, self.repo.root, point, "-o", f"cache_dir={cache},refresh=1h,timeout=200s"], check=True, env=env)
        try:
            self.statements()
            begin = time.perf_counter()
            what(point)
            first = time.perf_counter() - begin
            asked = self.statements()
            begin = time.perf_counter()
            what(point)
            second = time.perf_counter() - begin
            status = json.loads(subprocess.run([CONTROL, "status", point, "--json"], check=True, capture_output=True).stdout)
            rss = {line.split(":")[0]: int(line.split()[1]) for line in Path(f"/proc/{status['pid']}/status").read_text().splitlines() if "kB" in line}
            return first, asked, second, self.statements(), {"anonymous_kib": rss["RssAnon"], "catalogue": status.get("catalogue"), **status["counters"]}
        finally:
            subprocess.run(["umount", point], check=False)
            shutil.rmtree(cache, ignore_errors=True)


def timed(what: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    what()
    return time.perf_counter() - begin


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", type=int, default=10_000_000)
    parser.add_argument("--collections", type=int, default=50_000)
    parser.add_argument("--latency-ms", type=float, default=0)
    parser.add_argument("--paths", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--whole", action="store_true", help="also list what needs the whole set")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--kept", type=Path)
    args = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="butlerfs-perf-", dir=args.work))
    work.chmod(0o755)
    home = args.kept or work
    home.mkdir(exist_ok=True)
    server = pgserver.PostgresServer(home / "postgres", shared_buffers="512MB", max_wal_size="8GB")
    try:
        os.environ["LSST_DB_AUTH"] = str(server.write_logins(work / "owner.yaml"))
        server.write_logins(work / "reader.yaml", user=pgserver.READER)
        if not (home / "made").exists():
            took = timed(lambda: makemany.make(home / "big", server, "big", args.datasets, args.collections))
            (home / "made").write_text(f"{args.datasets}")
            print(f"# made in {took:.0f} s", flush=True)
        args.datasets = int((home / "made").read_text())
        with TcpProxy(server.port) as proxy:
            proxy.latency_s = args.latency_ms / 1000
            measure(World(makerepo.Repository(home / "big/repo", home / "big/elsewhere", 1), server, proxy, work), args)
    finally:
        server.stop("fast" if args.kept else "immediate")
        shutil.rmtree(work, ignore_errors=True)
    return 0


ASK = """
import os, sys
ask = os.stat if sys.argv[1] == "stat" else os.listdir
for line in sys.stdin:
    ask(line.rstrip())
"""


def ten_at_once(what: str, shares: list[list[Path]]) -> None:
    running = [subprocess.Popen([sys.executable, "-c", ASK, what], stdin=subprocess.PIPE, text=True) for _ in shares]
    for process, paths in zip(running, shares, strict=True):
        process.stdin.write("".join(f"{p}\n" for p in paths))
        process.stdin.close()
    assert all(process.wait() == 0 for process in running)


def changing(world: World, args: argparse.Namespace, folders: list[Path]) -> None:
    """Known folders listed one after the other while somebody commits something else all the time: with the whole set known."""
    point, cache = (Path(tempfile.mkdtemp(dir=world.work)) for _ in range(2))
    env = {**os.environ, "LSST_DB_AUTH": str(world.work / "reader.yaml")}
    subprocess.run([COMMAND, world.repo.root, point, "-o", f"cache_dir={cache},refresh=1s,timeout=200s"], check=True, env=env)
    stop, took = threading.Event(), []

    def commit() -> None:
        with world.server.connect("big", pgserver.OWNER) as db, db.cursor() as cursor:
            while not stop.wait(0.1):
                cursor.execute("UPDATE registry.day_obs SET timespan = timespan WHERE id = 20150101")

    def counters() -> dict[str, int]:
        return json.loads(subprocess.run([CONTROL, "status", point, "--json"], check=True, capture_output=True).stdout)["counters"]

    try:
        for f in folders[:200]:
            os.listdir(point / f)
        unseen = iter(folders[200:])
        world.statements()
        while os.listdir(point / next(unseen)) and world.statements(): # as long as the whole set is being read
            time.sleep(1)
        committing = threading.Thread(target=commit)
        committing.start()
        world.statements()
        before, begin = counters(), time.perf_counter()
        while time.perf_counter() - begin < 20:
            for f in folders[:200]:
                took.append(timed(lambda: os.listdir(point / f)))  # noqa: B023
        spent, asked, after = time.perf_counter() - begin, world.statements(), counters()
    finally:
        stop.set()
        committing.join()
        subprocess.run(["umount", point], check=False)
        shutil.rmtree(cache, ignore_errors=True)
    took.sort()
    said = ", ".join(f"{after[k] - before[k]} {k}" for k in ("registry_changes", "set_digests", "set_loads", "sets_old", "point_queries"))
    print(f"{'ls of known folders, others commit':34} {took[len(took) // 2] * 1000:9.2f} ms, 99 %: {took[len(took) * 99 // 100] * 1000:.2f}, most: {took[-1] * 1000:.1f},"
          f" {len(took) / spent:.0f}/s, {asked / spent:.1f} statements/s; {said}", flush=True)  # fmt: skip


def measure(world: World, args: argparse.Namespace) -> None:
    visits = [v for (v,) in world.server.execute("big", "SELECT id FROM registry.visit ORDER BY id")][: int(args.datasets / DETECTORS * 0.9)]
    visits = visits[:: max(1, len(visits) // args.paths)][: args.paths]
    level = lambda v: f"calexp/instrument=LSSTCam/day_obs={v // 100000}/visit={v}"  # noqa: E731
    top = Path("collections/big/run")
    middle = visits[len(visits) // 2]

    def row(name: str, what: Callable[[Path], Any], client: Callable[[], Any] | None, count: int = 1) -> None:
        mounts = [world.mounted(what) for _ in range(args.rounds)]
        first, asked, second, asked_again, seen = sorted(mounts, key=lambda m: m[0])[args.rounds // 2]
        theirs = sorted(timed(client) for _ in range(args.rounds))[args.rounds // 2] if client else 0
        print(f"{name:34} {first * 1000 / count:9.2f} ms (the server's first time {mounts[0][0] * 1000 / count:9.2f}) {asked / count:7.2f} statements | again"
              f" {second * 1000 / count:8.3f} ms {asked_again:4} | client {theirs * 1000 / count:9.2f} ms {theirs / first if first else 0:6.1f}x"
              f" | anonymous {seen['anonymous_kib'] // 1024} MiB, catalogue {seen['catalogue']['used_bytes'] >> 10} KiB", flush=True)  # fmt: skip

    butler = world.repo.butler(writeable=False)
    butler.find_dataset("calexp", instrument="LSSTCam", visit=visits[0], detector=0, collections="big/run")

    def find(v: int, detector: int = 7) -> Any:
        return butler.find_dataset("calexp", instrument="LSSTCam", visit=v, detector=detector, collections="big/run")

    row("ls of the collection", lambda m: os.listdir(m / top), lambda: butler.collections.get_info("big/run", include_summary=True))
    def dimension(name: str, where: str) -> Any:
        return list(butler.registry.queryDimensionRecords(name, datasets="calexp", collections="big/run", where=where))

    day = f"{level(middle)}".rpartition("/")[0]
    row("ls of the dataset type", lambda m: os.listdir(m / top / "calexp"), lambda: dimension("instrument", ""))
    row("ls of the instrument: its days", lambda m: os.listdir((m / top / day).parent), lambda: dimension("day_obs", "instrument = 'LSSTCam'"))
    row("ls of a day: its visits", lambda m: os.listdir(m / top / day), lambda: dimension("visit", f"instrument = 'LSSTCam' AND day_obs = {middle // 100000}"))
    row("ls of a visit's folder", lambda m: os.listdir(m / top / level(middle)),
        lambda: butler.query_datasets("calexp", "big/run", data_id={"instrument": "LSSTCam", "visit": middle}, limit=None))  # fmt: skip
    row("ls of its folder, with stat", lambda m: [e.stat() for e in os.scandir(m / top / level(middle))],
        lambda: [butler.getURI(r) for r in butler.query_datasets("calexp", "big/run", data_id={"instrument": "LSSTCam", "visit": middle}, limit=None)])  # fmt: skip
    row(f"stat of {len(visits)} known paths, each", lambda m: [os.stat(m / top / level(v) / f"calexp_LSSTCam_{v}_7.fits") for v in visits],
        lambda: [butler.getURI(find(v)) for v in visits], len(visits))  # fmt: skip
    row("the same by ten processes", lambda m: ten_at_once("stat", [[m / top / level(v) / f"calexp_LSSTCam_{v}_7.fits" for v in visits[k::10]] for k in range(10)]),
        None, len(visits))  # fmt: skip
    days = sorted({v // 100000 for v in visits})
    row(f"ls of {len(days)} days by ten processes", lambda m: ten_at_once("ls", [[m / top / f"calexp/instrument=LSSTCam/day_obs={d}" for d in days[k::10]] for k in range(10)]),
        None, len(days))  # fmt: skip
    changing(world, args, [top / level(v) for v in visits])
    if args.whole:
        total = int(args.datasets * 0.9)
        args.rounds = 1
        row("find, all of it", lambda m: subprocess.run(["find", m / top], stdout=subprocess.DEVNULL, check=True), None, total)
    butler.close()


if __name__ == "__main__":
    sys.exit(main())
