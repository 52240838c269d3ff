# SPDX-License-Identifier: BSD-3-Clause
"""Objects in S3 beside raw curl, the file system below and the mounts that this machine has (peers.py): the
same server, the same bucket, in turn, at 0 and at 20 ms of added delay. Medians; what counts is the ratio
within the run.

    tests/perf/run object [--rounds N] [--only CASE,...] [--peers NAME,...] [--work FOLDER]

Cold: a fresh mount with an empty cache, the server's files in the page cache. Warm: the same mount, the
page cache dropped. Hot: again. As root.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import mmap
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from measure import BUILD, Table, fio, timed
from peers import (
    ACCESS, BUCKET, REGION, SECRET, Butlerfs, Mounted, Native, PassthroughHp, Peer, Proxy, Rclone, S3fs,
    Server, advise_cached, drop_caches,
)

MIB = 1 << 20
GIB = 1 << 30
FRAMES = 60
FRAME = 32 * MIB
FAR_MS = 20
PATHS = BUILD / "tests" / "perf" / "perf-paths"


class Bench:
    """What the cases share: server, delay, peers, and what was measured."""

    def __init__(self, work: Path, rounds: int, wanted: set[str] | None) -> None:
        self.work = work
        self.rounds = rounds
        self.server = Server(work / "server")
        self.far = Proxy(self.server.port, FAR_MS, work)
        self.near = Proxy(self.server.port, 0, work)  # counts
        self.table = Table()
        peers: list[Peer] = [
            Butlerfs(), S3fs(), Rclone("off"), Rclone("full"), PassthroughHp(self.server.bucket),
            Native(self.server.bucket),
        ]
        self.peers = [p for p in peers if p.is_there() and (not wanted or p.name in wanted | {"butlerfs", "native"})]
        self.values: dict[tuple[str, str], list[float]] = {}

    def clients(self) -> list[Peer]:
        """Those that talk to the server."""
        return [p for p in self.peers if p.kind == "fuse"]

    def each(self, peers: list[Peer], port: int, run: Callable[[Peer, Mounted], None]) -> None:
        """Each of them mounted afresh, in turn, round after round. One that fails is said and left out."""
        for _ in range(self.rounds):
            for peer in peers:
                try:
                    with peer.mount(port, self.work) as m:
                        run(peer, m)
                except OSError as error:
                    if peer.name == "butlerfs":
                        raise
                    print(f"  ({peer.name} failed: {error})", flush=True)

    def add(self, case: str, who: str, value: float) -> None:
        self.values.setdefault((case, who), []).append(value)

    def get(self, case: str, who: str) -> list[float]:
        return self.values.get((case, who), [])

    def best(self, case: str, bigger: bool) -> str | None:
        """Of the others that talk to the server."""
        choose = max if bigger else min
        names = [p.name for p in self.clients() if p.name != "butlerfs" and self.get(case, p.name)]
        return choose(names, key=lambda n: statistics.median(self.get(case, n)), default=None)

    def report(
        self, case: str, unit: str, bigger: bool, base: str | None = None, goal: float | None = None
    ) -> None:
        """Each one's figure, and butlerfs's ratio to `base` ("best": the best other mount)."""
        for (name, who), values in self.values.items():
            if name == case and who not in ("butlerfs", base):
                self.table.figure(f"  {case}: {who}", values, unit, None, bigger)
        ours = self.get(case, "butlerfs")
        if not ours:
            return
        if base == "best":
            base = self.best(case, bigger)
        if base and self.get(case, base):
            self.table.row(f"{case} / {base}", ours, self.get(case, base), unit, goal, bigger)
        else:
            self.table.figure(case, ours, unit, goal if base is None else None, bigger)

    def url(self, key: str, port: int | None = None) -> str:
        import boto3
        from botocore.config import Config

        client = boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{port or self.server.port}", aws_access_key_id=ACCESS,
            aws_secret_access_key=SECRET, region_name=REGION,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )
        return client.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": key}, ExpiresIn=86400)

    def close(self) -> None:
        for part in (self.far, self.near, self.server):
            part.close()


def touch_memory() -> None:
    """Virtual machines are given memory when they first use it, at some microseconds a page: not what is measured."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemFree:"):
            size = int(line.split()[1]) * 1024 * 3 // 4
            with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE):
                pass


def blob(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def put_large(server: Server, key: str, size: int, seed: int) -> Path:
    """Not sparse, no two MiB alike, made fast; once."""
    path = server.bucket / key
    if path.exists():
        return path
    server.put(key, b"")
    one = bytearray(blob(MIB, seed))
    with path.open("r+b") as f:
        for i in range(size // MIB):
            one[:8] = i.to_bytes(8, "little")
            f.write(one)
    server.tag(path)
    return path


def read_all(path: Path, size: int = MIB) -> float:
    """Seconds to read a file from its beginning to its end, opening included."""
    begin = time.perf_counter()
    buffer = bytearray(size)
    fd = os.open(path, os.O_RDONLY)
    try:
        while os.readv(fd, [buffer]):
            pass
    finally:
        os.close(fd)
    return time.perf_counter() - begin


def first_bytes(path: Path, count: int) -> float:
    begin = time.perf_counter()
    fd = os.open(path, os.O_RDONLY)
    os.pread(fd, count, 0)
    os.close(fd)
    return time.perf_counter() - begin


def ask_each(what: str, paths: list[Path]) -> tuple[float, float]:
    """perf-paths: "stat" of each, or so many first bytes; seconds in all, and of the median."""
    given = b"".join(bytes(p) + b"\0" for p in paths)
    out = subprocess.run([PATHS, what], input=given, check=True, capture_output=True)
    whole, median = out.stdout.split()
    return float(whole), float(median)


def curl(urls: list[tuple[str, str | None]], parallel: int = 1) -> float:
    """Seconds for these (url, range) on kept connections."""
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as config:
        parts = []
        for url, span in urls:
            part = f'url = "{url}"\noutput = "/dev/null"\n'
            parts.append(part + (f'range = "{span}"\n' if span else ""))
        config.write("next\n".join(parts))
        config.flush()
        more = ["--no-progress-meter", "-Z", "--parallel-immediate", "--parallel-max", str(parallel)] if parallel > 1 else []
        return timed("curl", "-s", *more, "-K", config.name)


# ---- cases


def sequential(b: Bench) -> None:
    """1 GiB: cold, warm, hot; what it costs."""
    path = put_large(b.server, "seq/large.bin", GIB, 1)
    advise_cached(path)
    for _ in range(b.rounds):
        b.add("seq cold", "curl", GIB / 1e6 / curl([(b.url("seq/large.bin"), None)]))

    def one_file(peer: Peer, m: Mounted) -> None:
        advise_cached(path)
        file = m.point / "seq/large.bin"
        before = m.cpu_seconds()
        b.add("seq cold", peer.name, GIB / 1e6 / read_all(file))
        cold = m.cpu_seconds()
        if peer.kind == "fuse":
            time.sleep(0.5)
        drop_caches()
        warm_from = m.cpu_seconds()
        b.add("seq warm", peer.name, GIB / 1e6 / read_all(file))
        warm = m.cpu_seconds()
        b.add("seq hot", peer.name, GIB / 1e6 / read_all(file))
        if peer.kind == "fuse":
            b.add("seq cpu cold", peer.name, cold - before)
            b.add("seq cpu warm", peer.name, warm - warm_from)
            b.add("seq peak", peer.name, m.peak_mib())

    b.each(b.peers, b.server.port, one_file)
    b.report("seq cold", "MB/s", True, "best", 2.0)
    b.report("seq warm", "MB/s", True, "native", 0.95)
    b.report("seq hot", "MB/s", True, "native", 0.9)
    b.report("seq cpu cold", "s/GiB", False, goal=0.45)
    b.report("seq cpu warm", "s/GiB", False, goal=0.01)
    b.report("seq peak", "MiB", False, goal=128)


def sequential_far(b: Bench) -> None:
    """1 GiB, 20 ms away: beside its own rate nearby."""
    path = put_large(b.server, "seq/large.bin", GIB, 1)
    advise_cached(path)
    for _ in range(b.rounds):
        for name, port in (("near", b.server.port), ("far", b.far.port)):
            for peer in b.clients():
                with peer.mount(port, b.work) as m:
                    b.add(f"seq {name}", peer.name, GIB / 1e6 / read_all(m.point / "seq/large.bin"))
    b.report("seq far", "MB/s", True, "best")
    b.table.row("seq far / seq near", b.get("seq far", "butlerfs"), b.get("seq near", "butlerfs"), "MB/s", 0.8, True)


def play(folder: Path) -> list[float]:
    """Seconds of each frame, read one after the other in listing order."""
    return [read_all(folder / name) for name in sorted(os.listdir(folder))]


def movie(b: Bench) -> None:
    for i in range(FRAMES):
        put_large(b.server, f"movie/frame-{i:04d}.fits", FRAME, 100 + i)
    for _ in range(b.rounds):
        b.add("movie cold", "curl", FRAMES / curl([(b.url(f"movie/frame-{i:04d}.fits"), None) for i in range(FRAMES)]))

    def near(peer: Peer, m: Mounted) -> None:
        for i in range(FRAMES):
            advise_cached(b.server.bucket / f"movie/frame-{i:04d}.fits")
        folder = m.point / "movie"
        b.add("movie cold", peer.name, FRAMES / sum(play(folder)))
        time.sleep(1)
        drop_caches()
        b.add("movie warm", peer.name, FRAMES / sum(play(folder)))
        b.add("movie hot", peer.name, FRAMES / sum(play(folder)))

    b.each(b.peers, b.server.port, near)

    def far(peer: Peer, m: Mounted) -> None:
        frames = play(m.point / "movie")[2:]
        b.add("movie far, from the third", peer.name, len(frames) / sum(frames))

    b.each(b.clients(), b.far.port, far)
    b.report("movie cold", "frames/s", True, goal=80)
    b.report("movie warm", "frames/s", True, "native", 0.9)
    b.report("movie hot", "frames/s", True, "native", 0.9)
    b.report("movie far, from the third", "frames/s", True, goal=40)


RANDOM_BYTES = 4 * GIB


def random_reads(b: Bench) -> None:
    path = put_large(b.server, "random/four.bin", RANDOM_BYTES, 2)
    advise_cached(path)
    url = b.url("random/four.bin")
    spans = random.Random(3)

    def some(count: int) -> list[tuple[str, str | None]]:
        starts = [spans.randrange(RANDOM_BYTES // 4096) * 4096 for _ in range(count)]
        return [(url, f"{s}-{s + 4095}") for s in starts]

    for _ in range(b.rounds):
        b.add("4k cold j1", "curl", 1000 / curl(some(1000)))
        b.add("4k cold j16", "curl", 2000 / curl(some(2000), 16))

    def one_reader(peer: Peer, m: Mounted) -> None:
        file = m.point / "random/four.bin"
        b.add("4k cold j1", peer.name, fio(file, "randread", "psync", "4k", 2))

    b.each(b.clients(), b.server.port, one_reader)

    def sixteen(peer: Peer, m: Mounted) -> None:
        file = m.point / "random/four.bin"
        b.add("4k cold j16", peer.name, fio(file, "randread", "psync", "4k", 2, jobs=16))

    b.each(b.clients(), b.server.port, sixteen)
    b.report("4k cold j1", "IOPS", True, "curl", 0.7)
    b.report("4k cold j16", "IOPS", True, "curl", 0.7)


def random_warm(b: Bench) -> None:
    put_large(b.server, "seq/large.bin", GIB, 1)

    def again(peer: Peer, m: Mounted) -> None:
        file = m.point / "seq/large.bin"
        read_all(file)
        time.sleep(0.5)
        for block in ("4k", "128k"):
            drop_caches()
            b.add(f"{block} warm j1", peer.name, fio(file, "randread", "psync", block, 2))

    b.each(b.peers, b.server.port, again)
    b.report("4k warm j1", "IOPS", True, "native", 0.9)
    b.report("128k warm j1", "IOPS", True, "native", 0.9)


def amplification(b: Bench) -> None:
    """What the server sends for what was asked."""
    path = put_large(b.server, "random/four.bin", RANDOM_BYTES, 2)
    advise_cached(path)
    for i in range(500):
        b.server.put(f"heads/{i:04d}.fits", blob(65536, i), FRAME)
    picks = random.Random(4)

    def scattered(peer: Peer, m: Mounted) -> None:
        _, before = b.near.counts()
        fd = os.open(m.point / "random/four.bin", os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        for _ in range(300):
            os.pread(fd, 4096, picks.randrange(RANDOM_BYTES // 4096) * 4096)
        os.close(fd)
        b.add("4k random, sent/asked", peer.name, (b.near.counts()[1] - before) / (300 * 4096))

    b.each(b.clients(), b.near.port, scattered)

    def headers(peer: Peer, m: Mounted) -> None:
        names = sorted(os.listdir(m.point / "heads"))
        requests, before = b.near.counts()
        picks.shuffle(names)
        for name in names:
            first_bytes(m.point / "heads" / name, 65536)
        after, now = b.near.counts()
        b.add("64k headers, sent/asked", peer.name, (now - before) / (500 * 65536))
        b.add("64k headers, requests a file", peer.name, (after - requests) / 500)

    b.each(b.clients(), b.near.port, headers)
    b.report("4k random, sent/asked", "x", False, goal=33)
    b.report("64k headers, sent/asked", "x", False, goal=2.05)
    b.report("64k headers, requests a file", "", False, goal=1.02)


def small(b: Bench) -> None:
    """The first KiB of 2,000 objects."""
    names = [f"{i:04d}.json" for i in range(2000)]
    for name in names:
        b.server.put(f"small/{name}", blob(1024, 5))
    order = random.Random(6)
    urls = [b.url(f"small/{n}") for n in names]
    for _ in range(b.rounds):
        begin = curl([(u, None) for u in urls[:1]])
        b.add("first KiB p50", "curl", (curl([(u, None) for u in urls]) - begin) / (len(urls) - 1) * 1000)
    for port, label in ((b.server.port, ""), (b.far.port, ", far")):
        def first(peer: Peer, m: Mounted) -> None:
            mine = list(names)
            order.shuffle(mine)
            mine = mine if not label else mine[:200]
            os.listdir(m.point / "small")
            paths = [m.point / "small" / n for n in mine]
            b.add(f"first KiB p50{label}", peer.name, ask_each("1024", paths)[1] * 1000)
            if not label:
                b.add("first KiB again p50", peer.name, ask_each("1024", paths)[1] * 1000)

        b.each(b.clients(), port, first)
    b.report("first KiB p50", "ms", False, "curl", 2.0)
    b.report("first KiB p50, far", "ms", False, goal=FAR_MS * 1.25)
    b.report("first KiB again p50", "ms", False, goal=0.03)


def listings(b: Bench) -> None:
    for i in range(1000):
        for j in range(100):
            b.server.put(f"tree/{i:04d}/{j:03d}.bin", b"x" * 1024)
    for i in range(20_000):
        b.server.put(f"flat/{i:06d}.bin", b"x" * 1024)
    picks = random.Random(7)
    known = [f"tree/{picks.randrange(1000):04d}/{picks.randrange(100):03d}.bin" for _ in range(2000)]
    for _ in range(b.rounds):
        b.add("ls -l 20,000", "raw listing", raw_listing(b, "flat/"))

    def walk(peer: Peer, m: Mounted) -> None:
        for label in ("", ", again"):
            b.add(f"find 100,000{label}", peer.name, timed("find", m.point / "tree"))
        for label in ("", ", again"):
            b.add(f"ls -l 20,000{label}", peer.name, timed("ls", "-l", m.point / "flat"))

    b.each([p for p in b.peers if p.name != "passthrough_hp"], b.server.port, walk)

    def known_paths(peer: Peer, m: Mounted) -> None:
        for label in ("cold", "again"):
            whole, _ = ask_each("stat", [m.point / name for name in known])
            b.add(f"stat/s {label}", peer.name, len(known) / whole)

    b.each([p for p in b.peers if p.name != "passthrough_hp"], b.server.port, known_paths)
    b.report("find 100,000", "s", False, goal=1.0)
    b.report("find 100,000, again", "s", False, "native", 2.0)
    b.report("ls -l 20,000", "s", False, "raw listing", 1.0)
    b.report("ls -l 20,000, again", "s", False, goal=0.1)
    b.report("stat/s cold", "/s", True, goal=5000)
    b.report("stat/s again", "/s", True, goal=700_000)


def raw_listing(b: Bench, prefix: str) -> float:
    import boto3
    from botocore.config import Config

    client = boto3.client(
        "s3", endpoint_url=f"http://127.0.0.1:{b.server.port}", aws_access_key_id=ACCESS,
        aws_secret_access_key=SECRET, region_name=REGION, config=Config(s3={"addressing_style": "path"}),
    )
    begin = time.perf_counter()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix):
        assert page["KeyCount"]
    return time.perf_counter() - begin


HOT_BYTES = 256 * MIB


def hot_spot(b: Bench) -> None:
    """32 processes read one cold object."""
    path = put_large(b.server, "hot/object.bin", HOT_BYTES, 8)
    advise_cached(path)
    url = b.url("hot/object.bin", b.near.port)
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        for _ in range(b.rounds):
            begin = time.perf_counter()
            list(pool.map(lambda _: curl([(url, None)]), range(32)))
            b.add("32 readers", "curl", time.perf_counter() - begin)

        def crowd(peer: Peer, m: Mounted) -> None:
            _, before = b.near.counts()
            file = m.point / "hot/object.bin"
            begin = time.perf_counter()
            readers = [subprocess.Popen(["cat", file], stdout=subprocess.DEVNULL) for _ in range(32)]
            assert all(r.wait() == 0 for r in readers)
            b.add("32 readers", peer.name, time.perf_counter() - begin)
            b.add("32 readers, sent/size", peer.name, (b.near.counts()[1] - before) / HOT_BYTES)

        b.each(b.clients(), b.near.port, crowd)
    b.report("32 readers", "s", False, "curl", 0.5)
    b.report("32 readers, sent/size", "x", False, goal=1.01)


CASES: dict[str, Callable[[Bench], None]] = {
    "sequential": sequential,
    "far": sequential_far,
    "movie": movie,
    "random": random_reads,
    "warm": random_warm,
    "amplification": amplification,
    "small": small,
    "listings": listings,
    "hot": hot_spot,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help=f"some of {', '.join(CASES)}")
    parser.add_argument("--peers", help="compare with these only")
    parser.add_argument("--work", type=Path, help="where server and caches are (a folder on ext4, 20 GB)")
    args = parser.parse_args()
    names = args.only.split(",") if args.only else list(CASES)
    work = Path(tempfile.mkdtemp(prefix="butlerfs-perf-", dir=args.work))
    bench = Bench(work, args.rounds, set(args.peers.split(",")) if args.peers else None)
    print(
        f"# {os.uname().release}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {args.rounds} rounds; "
        f"server {bench.server.name}; beside {', '.join(p.name for p in bench.peers)}",
        flush=True,
    )
    subprocess.run(["ninja", "-C", BUILD, "tests/perf/perf-paths"], check=True, stdout=subprocess.DEVNULL)
    try:
        for name in names:
            touch_memory()
            print(f"# {name}", flush=True)
            CASES[name](bench)
    finally:
        bench.close()
        shutil.rmtree(work, ignore_errors=True)
    print(f"# {bench.table.missed} goals missed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
