# SPDX-License-Identifier: BSD-3-Clause
"""Nearline objects: what readers get, what is asked of the server, and how often; at a server of the tests' own."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mounting
import pytest
import yaml
from mounting import SLACK, eventually
from nearline import NearlineS3

MIB = 1 << 20
DATA = random.Random(7).randbytes(3 * MIB + 12345)
FOLDER = [f"d/{i}.fits".encode() for i in range(12)]


@pytest.fixture
def nearline() -> Iterator[Any]:
    """nearline(**options): a server with a large object and a folder of small ones away, and one that is at hand."""
    with contextlib.ExitStack() as stack:

        def get(**options: Any) -> NearlineS3:
            objects = {b"big": DATA, b"here": b"at hand", **{k: b"bytes of " + k for k in FOLDER}}
            return stack.enter_context(NearlineS3(objects, [b"big", *FOLDER], **options))

        yield get


@pytest.fixture
def nearmount(mount):
    def get(server: NearlineS3, **options: Any):
        return mount("s3://archive", **{"endpoint": server.url, "anonymous": "on", "region": "us-east-1", "refresh": None,
                                        **options})  # fmt: skip

    return get


def locality(path: Path) -> str:
    return os.getxattr(path, "user.s3.locality").decode()


def read(path: Path, flags: int = 0) -> bytes:
    """By the system call: Python's files make nothing of EAGAIN."""
    fd = os.open(path, os.O_RDONLY | flags)
    try:
        return os.read(fd, 1 << 20)
    finally:
        os.close(fd)


def read_at_once(path: Path) -> bytes:
    return read(path, os.O_NONBLOCK)


def expect(number: int, call: Any, *args: Any) -> None:
    with pytest.raises(OSError) as caught:
        call(*args)
    assert caught.value.errno == number, caught.value


def until_readable(path: Path, within: float = 5 * SLACK) -> bytes:
    def get() -> bytes | None:
        try:
            return read(path)
        except BlockingIOError:
            return None

    return eventually(get, within, f"{path} can be read")


# ---- readers


def test_a_reader_waits_for_what_he_has_asked_for_by_reading(nearline, nearmount):
    server = nearline(delay=0.5)
    m = nearmount(server, recall_wait="1min")
    assert (m / "big").stat().st_size == len(DATA) and not server.restores
    assert (m / "big").read_bytes() == DATA
    assert server.restores == [(b"big", 3, "Standard")]
    assert (m / "here").read_bytes() == b"at hand" and len(server.restores) == 1
    counted = m.counters()
    assert counted["recalls"] == 0 and counted["recalls_asked"] == 1 and counted["recalls_ready"] == 1
    for name in ("big", "here"):
        eventually(lambda: locality(m / name) == "cached", SLACK, "it is kept")


def test_twenty_readers_at_once_make_one_request(nearline, nearmount):
    server = nearline(delay=1)
    m = nearmount(server, recall_wait="1min")

    def piece(i: int) -> bool:
        at = i * (len(DATA) // 20)
        with open(m / "big", "rb", buffering=0) as f:
            return os.pread(f.fileno(), 4096, at) == DATA[at : at + 4096]

    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(piece, range(20)))
    assert len(server.restores) == 1


def test_who_does_not_wait_gets_eagain_and_the_recall_goes_on(nearline, nearmount):
    server = nearline(delay=None)
    m = nearmount(server)
    path = m / FOLDER[0]
    assert locality(path) == "nearline" and not server.restores
    expect(errno.EAGAIN, read_at_once, path)
    eventually(lambda: server.restores, SLACK, "it is asked for")
    assert locality(path) == "recalling"
    expect(errno.EAGAIN, read_at_once, path)
    assert m.status()["cache"]["recalls"]["under_way"] == 1
    assert "1 nearline objects are being brought back, 1 of 16" in mounting.control("status", m.path).stdout
    server.finish(FOLDER[0])
    eventually(lambda: locality(path) == "online", 3 * SLACK, "it is back")
    assert read_at_once(path) == b"bytes of " + FOLDER[0]
    eventually(lambda: locality(path) == "cached", SLACK, "it is kept")
    assert len(server.restores) == 1


def test_after_the_limit_readers_get_eagain_and_later_the_bytes(nearline, nearmount):
    server = nearline(delay=None)
    m = nearmount(server, recall_wait="300ms")
    path = m / FOLDER[0]
    began = time.monotonic()
    expect(errno.EAGAIN, read, path)
    assert time.monotonic() - began >= 0.3
    for _ in range(5):  # at once: its time is over
        expect(errno.EAGAIN, read, path)
    server.finish(FOLDER[0])
    assert until_readable(path) == b"bytes of " + FOLDER[0]
    assert len(server.restores) == 1


def test_an_expired_copy_is_asked_for_again(nearline, nearmount):
    server = nearline(delay=0)
    m = nearmount(server, recall_wait="1min", cache_size=0)
    path = m / FOLDER[0]
    assert path.read_bytes() == b"bytes of " + FOLDER[0]
    server.expire(FOLDER[0])
    other = nearmount(server, recall_wait="1min")  # which has nothing of it in memory
    assert (other / FOLDER[0]).read_bytes() == b"bytes of " + FOLDER[0]
    assert [k for k, _, _ in server.restores] == [FOLDER[0]] * 2
    with open(other / "big", "rb", buffering=0) as f:  # and so under an open file
        assert os.pread(f.fileno(), 4096, 0) == DATA[:4096]
        server.expire(b"big")
        assert os.pread(f.fileno(), 4096, len(DATA) - 4096) == DATA[-4096:]
    assert [k for k, _, _ in server.restores].count(b"big") in (1, 2)  # all of it may have been here by then


def test_a_refusal_is_eacces_and_the_log_has_the_servers_reason(nearline, nearmount):
    server = nearline()
    server.refusal = (403, "AccessDenied", "s3:RestoreObject is not for you")
    m = nearmount(server, recall_wait="1min")
    for _ in range(5):
        expect(errno.EACCES, read, m / "big")
    assert "s3:RestoreObject is not for you" in m.log()
    assert len(server.restores) == 1
    said = mounting.control("recall", m / "big")
    assert said.returncode == 1 and "s3:RestoreObject is not for you" in said.stderr


def test_no_more_are_asked_for_by_reading_than_the_limit(nearline, nearmount):
    server = nearline(delay=None)
    m = nearmount(server, recall_limit=2, recall_wait="100ms", folder_ahead=0)
    for key in FOLDER:
        expect(errno.EAGAIN, read, m / key)
    assert len(server.restores) == 2
    assert "recall_limit" in m.log()
    done = mounting.control("recall", "--quiet", m / FOLDER[5])  # by name is another matter
    assert done.returncode == 0, done.stderr
    assert len(server.restores) == 3


def test_nothing_but_a_read_asks(nearline, nearmount):
    server = nearline(delay=0)
    m = nearmount(server)
    subprocess.run(["find", str(m.path), "-type", "f", "-size", "+1"], check=True, capture_output=True)
    subprocess.run(["ls", "-lR", str(m.path)], check=True, capture_output=True)
    for key in FOLDER:
        os.close(os.open(m / key, os.O_RDONLY))
        assert locality(m / key) == "nearline"
        assert os.getxattr(m / key, "user.s3.storage_class") == b"GLACIER"
    said = mounting.control("warm", m / "d")
    assert said.returncode == 1 and said.stderr.count("butlerfsctl recall") == len(FOLDER), said.stderr
    for _ in range(3):  # in order: what follows is fetched ahead, as far as it is at hand
        (m / "here").read_bytes()
    assert not server.restores


@pytest.mark.parametrize("storage_class", ["DEEP_ARCHIVE", "INTELLIGENT_TIERING", "CLOUDTIER"])
def test_other_classes_are_recalled_as_they_want_it(nearline, nearmount, storage_class):
    server = nearline(delay=0.2, storage_class=storage_class)
    server.hides = storage_class == "CLOUDTIER"  # one of the server's own, of which nothing is said
    m = nearmount(server, recall_wait="1min", recall_tier="bulk", recall_days=5)
    path = m / FOLDER[0]
    assert path.read_bytes() == b"bytes of " + FOLDER[0]
    assert server.restores == [(FOLDER[0], None if storage_class == "INTELLIGENT_TIERING" else 5, "Bulk")]


def test_what_another_has_asked_for_is_not_asked_for_again(nearline, nearmount):
    server = nearline(delay=1)
    server.restore(FOLDER[0], b"<Days>1</Days>")
    server.restore(FOLDER[1], b"<Days>1</Days>")
    m = nearmount(server, recall_wait="1min")
    assert (m / FOLDER[0]).read_bytes() == b"bytes of " + FOLDER[0]
    assert len(server.restores) == 2
    server.hides = True  # a HEAD may not show it at once: then the server says so (409)
    assert (m / FOLDER[1]).read_bytes() == b"bytes of " + FOLDER[1]
    assert len(server.restores) <= 3


# ---- by name


def test_recall_waits_until_all_can_be_read(nearline, nearmount):
    server = nearline(delay=0.5)
    m = nearmount(server, recall_days=4)
    done = mounting.control("recall", "--wait", m / "d", m / "here", timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"{len(FOLDER) + 1} files can be read, 0 under way, 0 being asked for, 0 failed" in done.stderr
    assert sorted(server.restores) == sorted((k, 4, "Standard") for k in FOLDER)
    for key in FOLDER:
        assert (m / key).read_bytes() == b"bytes of " + key
    again = mounting.control("recall", "--wait", m / "d")
    assert again.returncode == 0 and len(server.restores) == len(FOLDER)


def test_recall_takes_names_from_standard_input_and_says_what_is_under_way(nearline, nearmount):
    server = nearline(delay=None)
    m = nearmount(server, recall="explicit")
    names = "".join(f"{m / k}\0" for k in FOLDER[:3]) + f"{m / 'nothing'}\0"
    done = mounting.control("recall", "-0", input=names)
    assert done.returncode == 1
    assert "0 files can be read, 3 under way, 0 being asked for, 1 failed" in done.stderr
    assert "nothing: No such file" in done.stderr
    assert len(server.restores) == 3


def test_interrupting_it_leaves_what_was_asked_for(nearline, nearmount):
    server = nearline(delay=None)
    m = nearmount(server)
    command = [mounting.program("butlerfsctl"), "recall", "--wait", str(m / FOLDER[0])]
    waiting = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    eventually(lambda: server.restores, SLACK, "it is asked for")
    waiting.send_signal(signal.SIGINT)
    _, said = waiting.communicate(timeout=SLACK * 5)
    assert waiting.returncode == 1 and "goes on" in said
    server.finish(FOLDER[0])
    assert until_readable(m / FOLDER[0]) and len(server.restores) == 1


def test_days_may_be_said_and_lengthen_what_is_there(nearline, nearmount):
    server = nearline(delay=0)
    m = nearmount(server)
    assert mounting.control("recall", "--wait", m / FOLDER[0]).returncode == 0
    done = mounting.control("recall", "--wait", "--days", 20, m / FOLDER[0])
    assert done.returncode == 0, done.stderr
    assert [d for _, d, _ in server.restores] == [3, 20]
    assert mounting.control("recall", "--wait", "--days", 10, m / FOLDER[0]).returncode == 0
    assert len(server.restores) == 2
    for wrong in ("0", "366", "x", "1.5", "-1"):
        said = mounting.control("recall", "--days", wrong, m / FOLDER[0])
        assert said.returncode == 2 and "--days" in said.stderr


@pytest.mark.skipif(not mounting.IS_ROOT, reason="another user is needed")
def test_more_days_than_the_option_says_are_for_administrators(nearline, nearmount):
    server = nearline(delay=None)
    m = nearmount(server, recall_days=2)
    as_user = dict(user=65534, group=65534, extra_groups=[])
    said = mounting.control("recall", "--days", 3, m / FOLDER[0], build=mounting.public_build(m.path.parent / "public"), **as_user)
    assert said.returncode == 1 and "recall_days" in said.stderr and not server.restores


def test_where_it_must_be_asked_for_by_name_reading_asks_for_nothing(nearline, nearmount):
    server = nearline(delay=0.5)
    m = nearmount(server, recall="explicit", recall_wait="1min")
    path = m / FOLDER[0]
    expect(errno.EREMOTEIO, read, path)
    assert not server.restores and "must be restored" in m.log()
    assert mounting.control("recall", path).returncode == 0
    assert path.read_bytes() == b"bytes of " + FOLDER[0]  # under way: he waits
    assert len(server.restores) == 1


def test_where_it_is_off_nothing_is_asked_for(nearline, nearmount):
    server = nearline(delay=0)
    m = nearmount(server, recall="off")
    expect(errno.EREMOTEIO, read, m / FOLDER[0])
    said = mounting.control("recall", m / FOLDER[0])
    assert said.returncode == 1 and "recall=off" in said.stderr
    assert not server.restores


# ---- deaths


@pytest.mark.skipif(not mounting.IS_ROOT, reason="take-over needs root")
def test_a_daemons_death_makes_no_second_request(nearline, nearmount):
    server = nearline(delay=None)
    m = nearmount(server, recall_wait="1min")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append((m / "big").read_bytes()))
    reader.start()
    eventually(lambda: server.restores, SLACK, "it is asked for")
    old = m.pid()
    os.kill(old, signal.SIGKILL)
    eventually(lambda: m.pid() != old, 5 * SLACK, "the next life")
    looked = len(server.heads)
    eventually(lambda: len(server.heads) > looked, 5 * SLACK, "it has looked")
    server.finish(b"big")
    reader.join(10 * SLACK)
    assert got == [DATA]
    assert len(server.restores) == 1


# ---- Butler repositories


def butler_objects(root: Path, bucket: str) -> tuple[dict[bytes, bytes], dict[str, Any]]:
    """A repository's artifacts as objects, and the butler.yaml by which they are there."""
    objects = {os.fsencode(str(p.relative_to(root))): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    config = yaml.safe_load((root / "butler.yaml").read_text())
    config["root"] = str(root)
    config["datastore"].setdefault("name", f"FileDatastore@{config['datastore']['root']}")
    config["datastore"]["root"] = f"s3://{bucket}"
    return objects, config


def test_a_butlers_artifact_is_recalled_by_reading_its_dataset(own_repository, mount, tmp_path):
    repo = own_repository()
    here = mount(repo)
    run = "collections/u/alice/run1"
    expected = (here / run / "cfg/cfg.yaml").read_bytes()
    objects, config = butler_objects(repo.root, "archive")
    with NearlineS3(objects, list(objects), delay=0.5) as server:
        (tmp_path / "butler.yaml").write_text(yaml.safe_dump(config))
        m = mount(tmp_path, endpoint=server.url, anonymous="on", region="us-east-1", recall_wait="1min")
        path = m / run / "cfg/cfg.yaml"
        assert os.getxattr(path, "user.butler.locality") == b"nearline"
        fd = os.open(path, os.O_RDONLY)
        os.close(fd)
        assert not server.restores
        assert path.read_bytes() == expected
        assert len(server.restores) == 1
        eventually(lambda: os.getxattr(path, "user.butler.locality") == b"cached", SLACK, "it is kept")


def test_a_replica_at_hand_is_read_before_one_that_is_nearline(own_repository, mount, tmp_path):
    repo = own_repository(store="chained")
    here = mount(repo)
    path = "collections/u/alice/run1/cfg/cfg.yaml"
    expected = (here / path).read_bytes()
    config = yaml.safe_load((repo.root / "butler.yaml").read_text())
    config["root"] = str(repo.root)
    stores = config["datastore"]["datastores"]
    for store in stores:
        store.setdefault("name", f"FileDatastore@{store['root']}")
    folder = Path(stores[0]["root"].replace("<butlerRoot>", str(repo.root)))
    objects = {os.fsencode(str(p.relative_to(folder))): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with NearlineS3(objects, list(objects), delay=0) as server:
        stores[0]["root"] = "s3://archive"
        (tmp_path / "butler.yaml").write_text(yaml.safe_dump(config))
        m = mount(tmp_path, endpoint=server.url, anonymous="on", region="us-east-1")
        assert (m / path).read_bytes() == expected
        assert server.refused_gets and not server.restores


def test_an_archive_of_members_is_recalled_when_one_is_opened(own_repository, mount, tmp_path):
    repo = own_repository()
    here = mount(repo)
    member = "collections/zip/run0/cfg/cfg.yaml"
    expected = (here / member).read_bytes()
    objects, config = butler_objects(repo.root, "archive")
    with NearlineS3(objects, [k for k in objects if k.endswith(b".zip")], delay=0.5) as server:
        (tmp_path / "butler.yaml").write_text(yaml.safe_dump(config))
        m = mount(tmp_path, endpoint=server.url, anonymous="on", region="us-east-1", recall_wait="1min")
        path = m / member
        explained = mounting.control("explain", path)
        assert "nearline" in explained.stdout and not server.restores
        expect(errno.EAGAIN, os.open, path, os.O_RDONLY | os.O_NONBLOCK)
        done = mounting.control("recall", "--wait", path)
        assert done.returncode == 0 and "1 files can be read" in done.stderr
        assert path.read_bytes() == expected
        assert len(server.restores) == 1
