# SPDX-License-Identifier: BSD-3-Clause
"""Objects whose server knows a checksum of the whole: compared when all of it is there, asked for no more than is needed."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes3 import FakeS3, Stored, crc32_of
from mounting import SLACK, eventually
from s3proxy import S3Proxy

MIB = 1 << 20


def data_of(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def with_crc32(data: bytes, of: bytes | None = None) -> Stored:
    return Stored(data, fields={"x-amz-checksum-crc32": crc32_of(data if of is None else of), "x-amz-checksum-type": "FULL_OBJECT"})


class Place:
    def __init__(self, mount: Any, objects: dict[bytes, Stored]) -> None:
        self.server = FakeS3({})
        self.server.only.update(objects)
        self.proxy = S3Proxy(self.server.port)
        options = {**self.server.options(self.proxy.url), "refresh": None, "folder_ahead": "0"}
        self.mount = mount("s3://bucket", **options)
        os.listdir(self.mount.path)
        self.proxy.reset_counts()

    def asked(self, method: str) -> int:
        return sum(r.method == method and "list-type" not in r.query for r in list(self.proxy.log))

    def read(self, name: str) -> bytes:
        return (self.mount / name).read_bytes()

    def read_anew(self, name: str) -> bytes:
        """Not from the kernel's pages."""
        with open(self.mount / name, "rb") as f:
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return f.read()

    def cached(self, name: str) -> int:
        return int(os.getxattr(self.mount / name, "user.s3.cached"))

    def end(self) -> None:
        self.proxy.close()
        self.server.stop()


@pytest.fixture
def serve(mount: Any) -> Iterator[Any]:
    places: list[Place] = []

    def get(**objects: Stored) -> Place:
        places.append(Place(mount, {key.encode(): stored for key, stored in objects.items()}))
        return places[-1]

    yield get
    for place in places:
        place.end()


def test_a_small_objects_checksum_comes_with_its_bytes_and_costs_no_request(serve):
    data = {f"f{i}": data_of(20000 + i, seed=i) for i in range(8)}
    p = serve(**{name: with_crc32(bytes_) for name, bytes_ in data.items()})
    for name, bytes_ in data.items():
        assert p.read(name) == bytes_
    eventually(lambda: all(p.cached(name) == 100 for name in data), SLACK)
    assert (p.asked("GET"), p.asked("HEAD")) == (len(data), 0)
    assert p.mount.counters()["store_bad_objects"] == 0


def test_what_is_not_what_the_server_says_is_fetched_once_more_and_told(serve):
    data = data_of(50000)
    p = serve(f=with_crc32(data, of=b"another"))
    eventually(lambda: p.read_anew("f") == data and "twice; it is given as it is" in p.mount.log(), 5 * SLACK)
    assert p.mount.counters()["store_bad_objects"] == 2
    eventually(lambda: p.read_anew("f") == data and p.cached("f") == 100, SLACK)
    assert p.asked("GET") == 3 and p.asked("HEAD") == 0


def test_a_byte_that_changed_on_its_way_is_found_when_a_large_object_is_whole(serve):
    data = data_of(5 * MIB + 77)
    p = serve(f=with_crc32(data))
    path: Path = p.mount / "f"
    with open(path, "rb", buffering=0) as f:  # not from its beginning on: no answer is of all of it
        assert os.pread(f.fileno(), 4096, 3 * MIB) == data[3 * MIB : 3 * MIB + 4096]
        p.proxy.fault(flip=True, key="/f")
        for at in range(0, len(data), MIB):
            os.pread(f.fileno(), MIB, at)
        eventually(lambda: p.mount.counters()["store_bad_objects"] == 1, 5 * SLACK, "it is compared")
    assert "fetched once more" in p.mount.log()
    assert p.asked("HEAD") == 1
    eventually(lambda: p.cached("f") == 100, 5 * SLACK)
    assert p.read_anew("f") == data
    assert "twice" not in p.mount.log()


def test_a_checksum_of_parts_checksums_is_no_checksum_of_the_whole(serve):
    data = data_of(30000)
    fields = {"x-amz-checksum-crc32": crc32_of(b"parts") + "-2", "x-amz-checksum-type": "COMPOSITE"}
    p = serve(f=Stored(data, fields=fields))
    assert p.read("f") == data
    eventually(lambda: p.cached("f") == 100, SLACK)
    assert p.read("f") == data
    assert p.mount.counters()["store_bad_objects"] == 0


def test_a_server_that_knows_no_checksums_is_soon_not_asked_for_any(serve):
    data = {f"f{i}": data_of(20000 + i, seed=i) for i in range(12)}
    p = serve(**{name: Stored(bytes_) for name, bytes_ in data.items()})
    for name, bytes_ in data.items():
        assert p.read(name) == bytes_
    eventually(lambda: all(p.cached(name) == 100 for name in data), SLACK)
    assert p.asked("HEAD") <= 4
