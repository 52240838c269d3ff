# SPDX-License-Identifier: BSD-3-Clause
"""The daemon dies at each step of an upload: its object is whole or absent, nothing of it stays at the server, nothing of
somebody else's goes, and the next life shows what there is.

At named points of the program (base/crash.h), and with each of its requests under way: never arrived, done and not heard of,
or done after the death."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mounting
import pytest
import s3server
from mounting import SLACK, eventually
from s3proxy import S3Proxy

PART = 5 << 20
DATA = random.Random(1).randbytes(2 * PART + 1)
POINTS = ("upload-recorded", "upload-begun", "upload-named", "upload-part-answered", "upload-finish-answered", "upload-whole",
          "upload-record-removed", "upload-put-answered")  # fmt: skip
POINTS_OF_UNDOING = ("upload-forgotten", "upload-found-to-undo", "upload-undone")
REQUESTS = {"begin": {"method": "POST", "query": "uploads"}, "part": {"method": "PUT", "query": "partNumber=2"},
            "finish": {"method": "POST", "query": "uploadId"}, "put": {"method": "PUT"}}  # fmt: skip


class World:
    def __init__(self, place: Path) -> None:
        self.points = place / "crash-points"
        self.points.mkdir()
        os.environ["BUTLERFS_CRASH_POINTS"] = str(self.points)
        folder = place / "deaths-server"
        folder.mkdir()
        self.server = s3server.whole(folder)
        self.server.bucket("deaths")
        self.client = self.server.client()
        self.proxy = S3Proxy(self.server.port)
        self.m: Any = None

    def end(self) -> None:
        del os.environ["BUTLERFS_CRASH_POINTS"]
        self.proxy.close()
        self.server.stop()

    def uploads(self) -> list[tuple[str, str]]:
        said = self.client.list_multipart_uploads(Bucket="deaths").get("Uploads") or []
        return sorted((u["Key"], u["UploadId"]) for u in said)

    def begin(self, key: str, has_part: bool) -> tuple[str, str]:
        """Somebody else's upload."""
        name = self.client.create_multipart_upload(Bucket="deaths", Key=key)["UploadId"]
        if has_part:
            self.client.upload_part(Bucket="deaths", Key=key, UploadId=name, PartNumber=1, Body=b"theirs")
        return key, name

    def get(self, key: str) -> bytes | None:
        if key not in [o["Key"] for o in self.client.list_objects_v2(Bucket="deaths").get("Contents", [])]:
            return None
        return bytes(self.client.get_object(Bucket="deaths", Key=key)["Body"].read())

    def is_recorded(self) -> bool:
        return bool(os.listdir(Path(self.m.options["cache_dir"]) / "uploads"))


@pytest.fixture(scope="module")
def world(place: Path, built: None) -> Iterator[World]:
    w = World(place)
    yield w
    w.end()


@pytest.fixture(scope="module")
def m(world: World, module_mount: Any, place: Path) -> Any:
    world.m = module_mount("s3://deaths", refresh=None, write="new", upload_part="5M", cache_dir=str(place / "deaths-cache"),
                           **world.server.options(world.proxy.url))  # fmt: skip
    if not world.m.began["modes"]["takeover"]:
        pytest.skip("this kernel cannot resend requests (Linux 6.9 can)")
    return world.m


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    return "".join(c if c.isalnum() else "-" for c in request.node.name)


def write(path: Path, data: bytes, end: Callable[[Any], Any] = lambda f: os.fsync(f.fileno())) -> bool:
    """Whether the writer was told that all is well. `end`: what he does before he closes it."""
    try:
        with open(path, "wb", buffering=0) as f:
            for at in range(0, len(data), 1 << 20):
                f.write(data[at : at + (1 << 20)])
            end(f)
    except OSError:
        return False
    return True


def assert_whole_or_nothing(world: World, key: str, data: bytes, is_well: bool, theirs: list[tuple[str, str]]) -> None:
    eventually(lambda: not world.is_recorded(), 3 * SLACK, "no record is left")
    eventually(lambda: world.uploads() == sorted(theirs), 3 * SLACK, f"{theirs} and nothing else is at the server")
    found = world.get(key)
    assert found == data if is_well else found in (None, data)
    assert os.path.exists(world.m / key) == (found is not None)
    assert (key in os.listdir(world.m.path)) == (found is not None)
    if found is not None:
        assert (world.m / key).read_bytes() == data
    for at, name in theirs:
        world.client.abort_multipart_upload(Bucket="deaths", Key=at, UploadId=name)
    assert write(world.m / f"{key}-again", b"after it")
    assert world.get(f"{key}-again") == b"after it"


@pytest.mark.parametrize("point", POINTS)
def test_a_death_at_a_step_leaves_it_whole_or_absent(world, m, key, point):
    data = DATA[:1000] if point == "upload-put-answered" else DATA
    theirs = [world.begin(key, True), world.begin(key + "2", False)]
    (world.points / point).touch()
    is_well = write(m / key, data)
    assert not (world.points / point).exists(), "the point was never reached"
    assert_whole_or_nothing(world, key, data, is_well, theirs)


@pytest.mark.parametrize("point", POINTS_OF_UNDOING)
def test_a_death_while_it_is_undone_leaves_it_whole_or_absent(world, m, key, point):
    data = DATA if point == "upload-forgotten" else DATA[:1000]
    theirs = [world.begin(key, True)]
    (world.points / point).touch()
    if point == "upload-forgotten":  # bytes out of order
        assert not write(m / key, data, lambda f: os.pwrite(f.fileno(), b"x", 0))
    else:
        sending = world.proxy.fault(method="PUT", key=key, lose_answer=True, then=lambda: os.unlink(m / key))
        assert not write(m / key, data, lambda f: None)  # whose fsync would hold the unlink up
        assert sending.times == 0
    eventually(lambda: not (world.points / point).exists(), 3 * SLACK, "the point is reached")
    assert_whole_or_nothing(world, key, data, False, theirs)


@pytest.mark.parametrize("what", ["never arrives", "is done", "is done later"])
@pytest.mark.parametrize("request_of", REQUESTS)
def test_a_death_with_a_request_under_way_leaves_it_whole_or_absent(world, m, key, request_of, what):
    data = DATA[:1000] if request_of == "put" else DATA
    theirs = [world.begin(key, True)]
    how = {"never arrives": {"reset": True}, "is done": {"lose_answer": True}, "is done later": {}}[what]
    dying = world.proxy.fault(key=key, **REQUESTS[request_of], **how, then=world.m.kill_daemon)
    is_well = write(m / key, data)
    assert dying.times == 0 and not is_well
    assert_whole_or_nothing(world, key, data, is_well, theirs)


def test_a_second_death_while_it_is_cleared_up_is_cleared_up_after(world, m, key):
    for point in ("upload-named", "upload-recovered"):
        (world.points / point).touch()
    assert not write(m / key, DATA)
    eventually(lambda: not (world.points / "upload-recovered").exists(), 3 * SLACK, "the point is reached")
    assert_whole_or_nothing(world, key, DATA, False, [])


def test_a_death_of_all_of_it_is_cleared_up_by_the_next_mount(world, m, key, mount, place):
    options = {"refresh": None, "write": "new", "upload_part": "5M", **world.server.options(world.proxy.url)}
    for point in ("upload-recorded", "upload-begun", "upload-named", "upload-part-answered"):
        cache = place / f"deaths-{point}"
        theirs = [world.begin(key, True)]
        first = mount("s3://deaths", cache_dir=cache, **options)
        os.kill(first.began["supervisor_pid"], signal.SIGKILL)
        (world.points / point).touch()
        assert not write(first / key, DATA)
        first.end_by_force()
        second = mount("s3://deaths", cache_dir=cache, **options)
        eventually(lambda cache=cache: not os.listdir(cache / "uploads"), 3 * SLACK, "no record is left")
        eventually(lambda theirs=theirs: world.uploads() == theirs, 3 * SLACK, point)
        assert os.listdir(second.path) == os.listdir(m.path)
        world.client.abort_multipart_upload(Bucket="deaths", Key=key, UploadId=theirs[0][1])
        second.unmount()
