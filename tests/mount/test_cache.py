# SPDX-License-Identifier: BSD-3-Clause
"""Objects through the block cache: fetched once whoever asks, and what becomes of readers when servers, objects,
disks and the daemon itself fail. The server is a real one, behind a proxy that counts and misbehaves."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import re
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import mounting
import pytest
from mounting import SLACK, eventually
from s3proxy import S3Proxy
from s3server import S3Server

MIB = 1 << 20


def data_of(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


class Far:
    """A server of the test's own and a proxy before it."""

    def __init__(self, place: Path):
        place.mkdir()
        self.server = S3Server(place)
        self.proxy = S3Proxy(self.server.port)
        self.bucket = self.server.bucket("bucket")

    def put(self, key: str, data: bytes) -> bytes:
        path = self.bucket / key
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(path.name + ".new")
        fresh.write_bytes(data)
        os.rename(fresh, path)
        return data

    def options(self, **more: Any) -> dict[str, Any]:
        return {"refresh": None, **self.server.options(self.proxy.url), **more}

    def end(self) -> None:
        self.proxy.close()
        self.server.stop()


_numbers = iter(range(10**9))


@pytest.fixture
def far(place: Path):
    f = Far(place / f"far{next(_numbers)}")
    yield f
    f.end()


def read_slowly(path: Path, pause_s: float = 0.0) -> str:
    """The sha256 of a file read in small pieces."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as f:
        while piece := f.read(65536):
            digest.update(piece)
            time.sleep(pause_s)
    return digest.hexdigest()


class Reader(threading.Thread):
    def __init__(self, path: Path, pause_s: float = 0.0):
        super().__init__(daemon=True)
        self.path, self.pause_s = path, pause_s
        self.sum: str | None = None
        self.error: OSError | None = None
        self.start()

    def run(self) -> None:
        try:
            self.sum = read_slowly(self.path, self.pause_s)
        except OSError as e:
            self.error = e


def cached(path: Path) -> int:
    return int(os.getxattr(path, "user.s3.cached"))


# ---- once, whoever asks


def test_32_readers_of_one_cold_object_fetch_its_bytes_once(far, mount):
    data = far.put("f", data_of(24 * MIB))
    far.proxy.latency_s = 0.02
    m = mount("s3://bucket", **far.options())
    os.stat(m / "f")
    far.proxy.reset_counts()
    readers = [Reader(m / "f") for _ in range(32)]
    for r in readers:
        r.join(120)
    assert {r.sum for r in readers} == {hashlib.sha256(data).hexdigest()}
    # The folder's listing, 535 bytes, may be under way when the counting begins: it isn't of the object.
    assert far.proxy.bytes_of["/bucket/f"] == len(data)
    # They are read ahead for as one reader: not a round trip for each MiB.
    assert far.proxy.requests["GET"] < 20


def test_a_block_of_a_large_object_is_fetched_without_the_rest(far, mount):
    data = far.put("f", data_of(64 * MIB))
    m = mount("s3://bucket", **far.options())
    os.stat(m / "f")
    far.proxy.reset_counts()
    with open(m / "f", "rb", buffering=0) as f:
        assert os.pread(f.fileno(), 4096, 40 * MIB + 5) == data[40 * MIB + 5 : 40 * MIB + 4101]
    assert far.proxy.bytes <= 2 * MIB


def test_what_was_read_is_not_fetched_again(far, mount):
    data = far.put("f", data_of(8 * MIB))
    m = mount("s3://bucket", **far.options())
    assert (m / "f").read_bytes() == data
    eventually(lambda: cached(m / "f") == 100, SLACK)
    far.proxy.reset_counts()
    for _ in range(3):
        assert (m / "f").read_bytes() == data
    assert far.proxy.bytes == 0 and far.proxy.requests["GET"] == 0


def test_who_goes_through_a_folder_has_the_next_files_fetched_ahead(far, mount):
    data = {f"d/{i:03d}": far.put(f"d/{i:03d}", data_of(MIB, seed=i)) for i in range(12)}
    far.put("d/other", b"x")
    m = mount("s3://bucket", **far.options())
    os.listdir(m / "d")
    for i in range(5):
        assert (m / f"d/{i:03d}").read_bytes() == data[f"d/{i:03d}"]
    eventually(lambda: cached(m / "d/005") == 100, SLACK, "the next file is there before it is opened")
    assert m.counters()["objects_ahead"] > 0


# ---- bytes that go bad


def flip_cache(cache: Path) -> int:
    """A byte in every data file of the cache; how many."""
    count = 0
    for path in sorted(p for p in (cache / "objects").rglob("*") if p.is_file() and p.stat().st_size >= MIB):
        with open(path, "r+b") as f:
            f.seek(path.stat().st_size // 2)
            byte = f.read(1)
            f.seek(-1, os.SEEK_CUR)
            f.write(bytes([byte[0] ^ 1]))
        count += 1
    return count


def test_a_flipped_byte_in_every_cache_file_is_repaired_and_never_served(far, mount, place):
    files = {f"f{i}": far.put(f"f{i}", data_of(2 * MIB + i, seed=i)) for i in range(4)}
    cache = place / f"flipped{next(_numbers)}"
    m = mount("s3://bucket", **far.options(cache_dir=cache))
    for name, data in files.items():
        assert (m / name).read_bytes() == data
    m.unmount()
    assert flip_cache(cache) == len(files)
    m = mount("s3://bucket", **far.options(cache_dir=cache))
    for _ in range(2):
        for name, data in files.items():
            assert (m / name).read_bytes() == data
    assert m.counters()["store_bad_blocks"] >= len(files)
    for name in files:
        eventually(lambda name=name: cached(m / name) == 100, SLACK)


# ---- objects that are replaced


def test_an_object_replaced_under_an_open_reader_is_estale_and_new_at_once_for_who_opens_it(far, mount):
    old = far.put("f", data_of(32 * MIB))
    m = mount("s3://bucket", **far.options(list_time="1h", readahead="1M"))
    with open(m / "f", "rb", buffering=0) as f:
        assert f.read(4096) == old[:4096]
        new = far.put("f", data_of(30 * MIB, seed=2))
        with pytest.raises(OSError) as e:
            at = 16 * MIB
            while True:
                piece = os.pread(f.fileno(), MIB, at)
                assert piece == old[at : at + len(piece)], "bytes of another version"
                at += MIB
                assert at < 32 * MIB, "the old version was read to its end"
        assert e.value.errno == errno.ESTALE
        assert (m / "f").read_bytes() == new
        assert os.stat(m / "f").st_size == len(new)


@pytest.mark.parametrize("passthrough", ["off", "on"])
def test_a_file_that_is_here_whole_is_read_to_its_end_as_it_was_opened(far, mount, passthrough):
    old = far.put("f", data_of(4 * MIB))
    m = mount("s3://bucket", **far.options(list_time="1h", passthrough=passthrough))
    assert (m / "f").read_bytes() == old
    eventually(lambda: cached(m / "f") == 100, SLACK)
    before = m.counters()["open_passthrough"]
    with open(m / "f", "rb", buffering=0) as f:
        if passthrough == "on" and m.status()["modes"]["passthrough"] == "on":
            assert m.counters()["open_passthrough"] > before
        new = far.put("f", data_of(3 * MIB, seed=2))
        assert mounting.control("refresh", m.path, env=m.env).returncode == 0
        eventually(lambda: (m / "f").read_bytes() == new, SLACK, "who opens it gets the new bytes")
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert b"".join(iter(lambda: f.read(MIB), b"")) == old
    assert (m / "f").read_bytes() == new


# ---- servers that fail


def test_a_server_that_is_killed_and_comes_back_is_waited_for(far, mount):
    data = far.put("f", data_of(48 * MIB))
    m = mount("s3://bucket", **far.options(readahead="1M"))
    reader = Reader(m / "f", pause_s=0.005)
    time.sleep(0.5)
    far.server.stop()
    far.proxy.cut_all()
    time.sleep(5)
    far.server.start()
    reader.join(60)
    assert reader.error is None and reader.sum == hashlib.sha256(data).hexdigest()


def test_a_server_that_stops_for_a_while_is_waited_for(far, mount):
    data = far.put("f", data_of(24 * MIB))
    m = mount("s3://bucket", **far.options(readahead="1M"))
    reader = Reader(m / "f", pause_s=0.005)
    time.sleep(0.3)
    far.server.pause()
    time.sleep(float(os.environ.get("BUTLERFS_TEST_STOPPED_S", "6")))
    far.server.resume()
    reader.join(90)
    assert reader.error is None and reader.sum == hashlib.sha256(data).hexdigest()


def test_a_server_that_never_answers_is_etimedout_within_the_limit(far, mount):
    far.put("f", data_of(8 * MIB))
    m = mount("s3://bucket", **far.options(timeout="2s"))
    os.stat(m / "f")
    far.server.pause()
    try:
        begin = time.monotonic()
        with pytest.raises(OSError) as e:
            (m / "f").read_bytes()
        assert e.value.errno == errno.ETIMEDOUT
        assert time.monotonic() - begin < 2 + 2 * SLACK
    finally:
        far.server.resume()


def test_a_server_that_never_answers_keeps_nobody_from_another(far, mount, place):
    """More readers of it than there may be requests to one server, and than the kernel lets wait by itself."""
    near = Far(place / f"far{next(_numbers)}")
    try:
        far.put("f", data_of(40 * MIB))
        data = near.put("f", data_of(8 * MIB, seed=2))
        config = place / f"two-{near.bucket.parent.name}.yaml"
        spaces = [f"  {name}: {{kind: s3, source: 's3://bucket', endpoint: '{f.proxy.url}', access_key: {f.server.key},"
                  f" secret_key: '{f.server.secret}', region: us-east-1}}\n" for name, f in (("far", far), ("near", near))]  # fmt: skip
        config.write_text("spaces:\n" + "".join(spaces))
        m = mount("two", config=config, refresh=None, connections=4, timeout="40s")
        os.stat(m / "far/f")
        far.server.pause()
        waiting = [subprocess.Popen(["dd", f"if={m / 'far/f'}", "of=/dev/null", "bs=1M", "count=1", f"skip={i}"], stderr=subprocess.DEVNULL)
                   for i in range(40)]  # fmt: skip
        try:
            eventually(lambda: m.status()["cache"]["flights_queued"] > 0 and m.counters()["waiters"] >= 16, 5 * SLACK)
            assert (m / "near/f").read_bytes() == data
            assert all(p.poll() is None for p in waiting), "the other one's readers were waited for"
        finally:
            for p in waiting:
                p.kill()
            far.server.resume()
            for p in waiting:
                p.wait()
    finally:
        near.end()


def test_a_storm_of_errors_is_ridden_out(far, mount):
    data = far.put("f", data_of(16 * MIB))
    m = mount("s3://bucket", **far.options())
    far.proxy.fault(status=503, headers={"Retry-After": "0"}, times=6)
    far.proxy.fault(cut_after=100000, times=4)
    assert (m / "f").read_bytes() == data


def test_credentials_that_are_refused_later_are_eacces_and_no_storm(far, mount):
    far.put("f", data_of(8 * MIB))
    m = mount("s3://bucket", **far.options())
    os.stat(m / "f")
    far.proxy.fault(status=403, body=b"<Error><Code>ExpiredToken</Code><Message>The token has expired</Message></Error>", times=-1)
    far.proxy.reset_counts()
    for _ in range(5):
        with pytest.raises(OSError) as e:
            (m / "f").read_bytes()
        assert e.value.errno == errno.EACCES
    assert far.proxy.requests["GET"] <= 20
    assert "ExpiredToken" in m.log() or "expired" in m.log()


# ---- disks that fail


def test_a_full_cache_disk_does_not_stop_readers(far, mount, place, root_only):
    disk = place / f"disk{next(_numbers)}"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], check=True)
    try:
        files = {f"f{i}": far.put(f"f{i}", data_of(8 * MIB, seed=i)) for i in range(6)}
        (disk / "others").write_bytes(b"x" * 20 * MIB)
        m = mount("s3://bucket", **far.options(cache_dir=disk / "cache", cache_reserve="0", catalogue_size="64M"))
        for _ in range(2):
            for name, data in files.items():
                assert (m / name).read_bytes() == data
        told = [line for line in m.log().splitlines() if re.search(r" (warn|error)\b", line)]
        assert len(told) == 1 and re.search("space|full", told[0]), m.log()
        m.end()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_without_any_cache_disk_everything_is_read_all_the_same(far, mount):
    data = far.put("f", data_of(20 * MIB))
    m = mount("s3://bucket", **far.options(cache_size="0"))
    for _ in range(2):
        assert (m / "f").read_bytes() == data


# ---- the daemon dies


def test_a_daemon_that_is_killed_with_downloads_in_flight_is_taken_over(far, mount):
    files = {f"f{i}": far.put(f"f{i}", data_of(24 * MIB + i, seed=i)) for i in range(3)}
    far.proxy.latency_s = 0.02
    m = mount("s3://bucket", **far.options())
    if not m.status()["modes"]["takeover"]:
        pytest.skip("this kernel can't resend requests (Linux 6.9 or later does)")
    readers = {name: Reader(m / name, pause_s=0.002) for name in files}
    for _ in range(3):
        time.sleep(0.4)
        os.kill(m.pid(), signal.SIGKILL)
    for name, reader in readers.items():
        reader.join(90)
        assert reader.error is None, reader.error
        assert reader.sum == hashlib.sha256(files[name]).hexdigest()
    assert m.status()["life"] >= 4
    assert far.server.secret not in str(m.status())


def test_an_upgrade_with_downloads_in_flight_is_seen_by_nobody(far, mount):
    files = {f"f{i}": far.put(f"f{i}", data_of(16 * MIB + i, seed=i)) for i in range(3)}
    far.proxy.latency_s = 0.02
    m = mount("s3://bucket", **far.options())
    if not m.status()["modes"]["takeover"]:
        pytest.skip("this kernel can't resend requests (Linux 6.9 or later does)")
    readers = {name: Reader(m / name, pause_s=0.004) for name in files}
    eventually(lambda: m.status()["cache"]["flights"] > 0, SLACK)
    life = m.status()["life"]
    assert mounting.control("upgrade", m.path, env=m.env).returncode == 0
    for name, reader in readers.items():
        reader.join(90)
        assert reader.error is None, reader.error
        assert reader.sum == hashlib.sha256(files[name]).hexdigest()
    assert m.status()["life"] > life


def test_a_handle_of_an_earlier_life_is_of_the_same_version_or_estale(far, mount):
    old = far.put("f", data_of(32 * MIB))
    m = mount("s3://bucket", **far.options(readahead="1M"))
    if not m.status()["modes"]["takeover"]:
        pytest.skip("this kernel can't resend requests (Linux 6.9 or later does)")
    with open(m / "f", "rb", buffering=0) as f:
        assert f.read(4096) == old[:4096]
        os.kill(m.pid(), signal.SIGKILL)
        assert os.pread(f.fileno(), 4096, 8 * MIB) == old[8 * MIB : 8 * MIB + 4096]
        far.put("f", data_of(32 * MIB, seed=9))
        os.kill(m.pid(), signal.SIGKILL)
        with pytest.raises(OSError) as e:
            os.pread(f.fileno(), 4096, 24 * MIB)
        assert e.value.errno == errno.ESTALE
