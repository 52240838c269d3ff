# SPDX-License-Identifier: BSD-3-Clause
"""Writing to a bucket beside s3fs and rclone: one large object, and many small ones by one writer.

What counts is the time until the bytes are at the server: of mounts that answer close() before that (rclone with a cache), until
the server has the last object. Peers are those this machine has; mountpoint-s3 where $MOUNT_S3 names it (tests/perf/mount_s3
makes it of its library). A client that is no mount says what the server can take at all.

    tests/perf/run object_write [--rounds N] [--large MIB] [--small N]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from measure import Table
from peers import Butlerfs, Mounted, Mountpoint, Peer, Rclone, S3fs, Server
from raw_client import PART_MIB, RawClient

MIB = 1 << 20
SMALL_BYTES = 4096
GOAL = 1.5


def writer(peer: Peer) -> Peer:
    peer.writes = True
    return peer


def empty(server: Server) -> None:
    for path in server.bucket.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def until_there(path: Path, size: int) -> None:
    while not (path.exists() and path.stat().st_size == size):
        time.sleep(0.002)


def write_large(m: Mounted, server: Server, key: str, mib: int, data: bytes) -> float:
    start = time.monotonic()
    with open(m.point / key, "wb", buffering=0) as f:
        for _ in range(mib):
            f.write(data)
    until_there(server.bucket / key, mib * MIB)
    return mib / (time.monotonic() - start)


def write_small(m: Mounted, server: Server, key: str, count: int, data: bytes) -> float:
    os.mkdir(m.point / key)
    start = time.monotonic()
    for i in range(count):
        with open(m.point / key / f"{i:05d}", "wb", buffering=0) as f:
            f.write(data[:SMALL_BYTES])
    until_there(server.bucket / key / f"{count - 1:05d}", SMALL_BYTES)
    return count / (time.monotonic() - start)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", type=int, default=1024, help="MiB of the large object")
    parser.add_argument("--small", type=int, default=10000, help="how many small ones")
    parser.add_argument("--only", help="peers, apart by commas: s3fs, rclone_off, rclone_writes, mountpoint")
    options = parser.parse_args()
    # No disk is what is measured, neither the server's nor a peer's cache.
    work = Path(tempfile.mkdtemp(prefix="object-write-", dir="/dev/shm"))
    shelf = Path(tempfile.mkdtemp(prefix="object-write-", dir="/dev/shm"))
    server = Server(shelf)
    peers = [p for p in (Butlerfs("write=new"), writer(S3fs()), writer(Rclone("off")), writer(Rclone("writes")), writer(Mountpoint()))
             if p.is_there()]
    if options.only:
        peers = [p for p in peers if p.name in ("butlerfs", *options.only.split(","))]
    speeds: dict[str, dict[str, list[float]]] = {"large": {}, "small": {}}
    peak: dict[str, list[float]] = {}
    spent: dict[str, list[float]] = {} # of the processors, by the mount's own process
    data = os.urandom(MIB)
    print(f"server: {server.name}; {options.rounds} rounds; large: {options.large} MiB, small: {options.small} x 4 KiB")
    try:
        for number in range(options.rounds):
            for peer in peers:
                with peer.mount(server.port, work) as m:
                    before = m.cpu_seconds()
                    large = write_large(m, server, f"large{number}", options.large, data)
                    spent.setdefault(peer.name, []).append((m.cpu_seconds() - before) * 1024 / options.large)
                    small = write_small(m, server, f"small{number}", options.small, data)
                    speeds["large"].setdefault(peer.name, []).append(large)
                    speeds["small"].setdefault(peer.name, []).append(small)
                    peak.setdefault(peer.name, []).append(m.peak_mib())
                empty(server)
            raw = RawClient(server)
            speeds["large"].setdefault("no mount", []).append(raw.large("raw", options.large // PART_MIB * PART_MIB, data))
            speeds["small"].setdefault("no mount", []).append(raw.small("raw-small", options.small, data[:SMALL_BYTES]))
            empty(server)
        table = Table()
        for case, unit in (("large", "MiB/s"), ("small", "objects/s")):
            others = {n: v for n, v in speeds[case].items() if n != "butlerfs"}
            best = max((n for n in others if n != "no mount"), key=lambda n: statistics.median(others[n]), default=None)
            for name, values in others.items():
                table.row(f"{case}, beside {name}", speeds[case]["butlerfs"], values, unit, GOAL if name == best else None, True)
        for name, values in spent.items():
            table.figure(f"large, {name}", values, "CPU s/GiB", None, False)
        for name, values in peak.items():
            table.figure(f"peak memory, {name}", values, "MiB", None, False)
    finally:
        server.close()
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(shelf, ignore_errors=True)


if __name__ == "__main__":
    main()
