# SPDX-License-Identifier: BSD-3-Clause
"""A bucket as it was (option version_at). What there was is said by boto3: of each key the newest version or deletion that is
not younger than the time."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mounting
import pytest
import s3server
from fakes3 import FakeS3
from mounting import eventually, refused
from versioneds3 import VersionedS3

BEGIN = 1_700_000_000
SERVERS: dict[str, dict[str, bool]] = {"as-s3": {}, "as-others": {"grouped": True, "inclusive": True, "quotes": False}}


def iso(unix_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_s))


def options(server: FakeS3, **more: Any) -> dict[str, Any]:
    return {"endpoint": server.url, "anonymous": "on", "region": "us-east-1", "refresh": None, **more}


def files(root: Path) -> dict[str, bytes]:
    found = mounting.walk(os.fsencode(str(root)))
    return {os.fsdecode(p): (root / os.fsdecode(p)).read_bytes() for p, st in found.items() if not os.path.isdir(root / os.fsdecode(p))}


def folders(root: Path) -> set[str]:
    found = mounting.walk(os.fsencode(str(root)))
    return {os.fsdecode(p) for p, st in found.items() if st.st_mode & 0o170000 == 0o040000}


def reference(s3: Any, bucket: str, unix_s: float) -> dict[str, bytes]:
    """Key -> bytes, as boto3 finds them."""
    newest: dict[str, tuple[float, str | None]] = {}
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        kinds = [(v, v["VersionId"]) for v in page.get("Versions", [])] + [(v, None) for v in page.get("DeleteMarkers", [])]
        for version, name in kinds:
            at = version["LastModified"].timestamp()
            if at <= unix_s and (version["Key"] not in newest or at > newest[version["Key"]][0]):
                newest[version["Key"]] = (at, name)
    got = {}
    for key, (_, version_id) in newest.items():
        if version_id is not None:
            got[key] = s3.get_object(Bucket=bucket, Key=key, VersionId=version_id)["Body"].read()
    return got


def as_paths(objects: dict[str, bytes]) -> dict[str, bytes]:
    """Keys as the tree's paths: an object beside a folder of its name has a `%` behind it."""
    above = {key[:i] for key in objects for i, c in enumerate(key) if c == "/"}
    return {key + "%" * (key in above): data for key, data in objects.items()}


@pytest.fixture(params=SERVERS)
def fake(request: pytest.FixtureRequest) -> Iterator[VersionedS3]:
    with VersionedS3(page_most=5, **SERVERS[request.param]) as server:
        yield server


# ---- what there was


def test_random_changes_are_seen_as_they_were_at_each_time(mount, fake, place):
    rng = random.Random(11)
    # "d 1" and "d!" stand between "d" and "d/"; three folders in a row are followed by a listing of all that is below.
    keys = [b"d", b"d 1", b"d!", b"d/a", b"d/b", b"d/deep/er/x", "é+&".encode(), b"x<y>", *(b"f%d/k%d" % (i % 5, i) for i in range(20))]
    at, times = BEGIN, [BEGIN - 1]
    for step in range(180):
        at += rng.choice([1, 1, 60, 3600])
        key = rng.choice(keys)
        if rng.random() < 0.35 and fake.history.get(key):
            fake.delete(key, at)
        else:
            fake.put(key, b"%d of " % step + key * rng.randrange(3), at)
        if step % 60 == 59:
            times += [at, at - 1]
    config = place / f"past-{fake.url[-5:]}.yaml"
    config.write_text("spaces:\n" + "".join(f"  t{i}: {{source: 's3://b', version_at: '{iso(t)}'}}\n" for i, t in enumerate(times)))
    s3 = fake.client()
    there = [as_paths(reference(s3, "b", t)) for t in times]
    walked = mount("buckets", config=config, **options(fake))
    for i, t in enumerate(times):
        assert files(walked / f"t{i}") == there[i], f"at {iso(t)}"
        assert folders(walked / f"t{i}") == {p[:j] for p in there[i] for j, c in enumerate(p) if c == "/"}
    walked.unmount()
    named = mount("buckets", config=config, **options(fake))  # where nothing was listed
    for i, t in enumerate(times):
        for path in {key.decode() + end for key in keys for end in ("", "%")}:
            is_there = path in there[i] or any(p.startswith(path + "/") for p in there[i])
            assert os.path.lexists(named / f"t{i}" / path) == is_there, f"{path} at {iso(t)}"
            if path in there[i]:
                assert (named / f"t{i}" / path).read_bytes() == there[i][path]


def test_a_folder_in_which_there_was_nothing_is_not_shown(mount, fake):
    fake.put(b"gone/a", b"a", BEGIN)
    fake.delete(b"gone/a", BEGIN + 10)
    fake.put(b"later/a", b"a", BEGIN + 30)
    fake.put(b"marked/", b"", BEGIN)
    for i in range(60):  # more than one look shows
        fake.put(b"far/%02d" % i, b"", BEGIN + 40)
    fake.put(b"far/zz", b"far", BEGIN)
    m = mount("s3://b", **options(fake, version_at=iso(BEGIN + 20)))
    assert sorted(os.listdir(m.path)) == ["far", "marked"]
    assert os.listdir(m / "far") == ["zz"]
    assert os.listdir(m / "marked") == []
    for name in ("gone", "later", "gone/a", "later/a", "far/01"):
        assert not os.path.lexists(m / name)
    fake.page_most = 2  # then names are asked for one by one
    fresh = mount("s3://b", **options(fake, version_at=iso(BEGIN + 20)))
    for name in ("gone", "later"):
        assert not os.path.lexists(fresh / name)
    assert (fresh / "far/zz").read_bytes() == b"far"


def test_a_folder_that_may_not_be_listed_is_shown_and_hides_no_other(mount, fake):
    for key in (b"open/a", b"shut/a", b"z"):
        fake.put(key, key, BEGIN)
    fake.closed = b"shut/"
    m = mount("s3://b", **options(fake, version_at=iso(BEGIN)))
    assert sorted(os.listdir(m.path)) == ["open", "shut", "z"]
    with pytest.raises(PermissionError):
        os.listdir(m / "shut")
    assert (m / "open/a").read_bytes() == b"open/a"


def test_a_name_is_asked_for_alone_however_many_younger_versions_it_has(mount, fake):
    for i in range(30):
        fake.put(b"busy", b"%d" % i, BEGIN + i)
        fake.put(b"busy-%02d" % i, b"", BEGIN)
    m = mount("s3://b", **options(fake, version_at=iso(BEGIN + 3)))
    assert (m / "busy").read_bytes() == b"3"
    assert len(os.listdir(m.path)) == 31


def test_of_one_second_the_servers_order_decides(mount):
    with VersionedS3() as server:
        for what in (b"1", None, b"2"):
            server.put(b"back", what, BEGIN) if what else server.delete(b"back", BEGIN)
        server.put(b"gone", b"1", BEGIN)
        server.delete(b"gone", BEGIN)
        for key in (b"back", b"gone"):
            server.put(key, b"later", BEGIN + 5)
        m = mount("s3://b", **options(server, version_at=iso(BEGIN)))
        assert files(m.path) == {"back": b"2"}


def test_thousands_of_keys_with_their_versions_come_page_by_page(mount):
    with VersionedS3() as server:
        for i in range(4000):
            for at in range(3):
                server.put(b"k/%05d" % i, b"%d" % at, BEGIN + at)
        m = mount("s3://b", **options(server, version_at=iso(BEGIN + 1)))
        assert len(os.listdir(m / "k")) == 4000
        pages = [r for r in server.requests if "versions" in r and "max-keys=1000" in r]
        assert len(pages) < 40
        assert (m / "k/03999").read_bytes() == b"1"


# ---- bytes and attributes


def test_the_bytes_are_the_versions_and_are_not_asked_for_again(mount, fake, place):
    old = fake.put(b"f", b"old" * 100000, BEGIN)
    fake.put(b"f", b"new", BEGIN + 100)
    config = place / f"both-{fake.url[-5:]}.yaml"
    at = iso(BEGIN + 50)
    config.write_text(f"spaces:\n  now: {{source: 's3://b'}}\n  then: {{source: 's3://b', version_at: '{at}'}}\n")
    m = mount("buckets", config=config, **options(fake, list_time="0"))
    for _ in range(3):  # in turns, one cache
        assert (m / "now/f").read_bytes() == b"new"
        assert (m / "then/f").read_bytes() == b"old" * 100000
    assert os.getxattr(m / "then/f", "user.s3.version_id") == old.encode()
    assert os.getxattr(m / "now/f", "user.s3.version_id") != old.encode()
    assert os.getxattr(m / "then/f", "user.s3.etag") == os.getxattr(m / "then/f", "user.s3.etag")
    assert "user.s3.version_id" in os.listxattr(m / "then/f")
    assert abs(os.stat(m / "then/f").st_mtime - BEGIN) < 1
    gets = [r for r in fake.requests if r.startswith("GET /b/f")]
    assert any(f"versionId={old}" in r for r in gets)
    fake.requests.clear()
    assert (m / "now/f").read_bytes() == b"new"
    assert (m / "then/f").read_bytes() == b"old" * 100000
    assert not [r for r in fake.requests if r.startswith("GET /b/f") or "versionId" in r]
    for name in ("now", "then"):  # each is an object of its own in the cache
        assert eventually(lambda name=name: os.getxattr(m / name / "f", "user.s3.cached") == b"100", 5)
    spaces = {s["name"]: s for s in m.status()["spaces"]}
    assert spaces["then"]["version_at"] == at and "version_at" not in spaces["now"]


def test_a_version_that_is_deleted_for_good_is_stale_to_who_reads_it_and_then_not_there(mount, fake):
    old = fake.put(b"f", b"old" * 1000000, BEGIN)
    fake.put(b"f", b"new", BEGIN + 100)
    m = mount("s3://b", **options(fake, version_at=iso(BEGIN + 50), list_time="1h"))
    with open(m / "f", "rb") as f:
        fake.forget(b"f", old)
        with pytest.raises(OSError) as e:
            f.read()
        assert e.value.errno == errno.ESTALE

    def gone() -> bool:
        with contextlib.suppress(FileNotFoundError):
            open(m / "f", "rb").close()
            return False
        return True

    assert eventually(gone, 10, "the name is gone")
    assert os.listdir(m.path) == []


def test_a_url_is_of_the_version(mount, fake):
    old = fake.put(b"a b", b"old", BEGIN)
    fake.put(b"a b", b"new", BEGIN + 100)
    keys = {"anonymous": "off", "access_key": "who", "secret_key": "secret"}
    m = mount("s3://b", **options(fake, version_at=iso(BEGIN + 50), **keys))
    said = mounting.control("url", m / "a b", env=m.env)
    assert said.returncode == 0 and f"versionId={old}" in said.stdout
    with urllib.request.urlopen(said.stdout.strip()) as answer:
        assert answer.read() == b"old"


def test_nothing_can_be_written(mount, fake):
    fake.put(b"f", b"f", BEGIN)
    m = mount("s3://b", **options(fake, version_at=iso(BEGIN)))
    for act in (lambda: open(m / "new", "wb"), lambda: os.unlink(m / "f"), lambda: os.mkdir(m / "d")):
        with pytest.raises(OSError) as e:
            act()
        assert e.value.errno == errno.EROFS


# ---- buckets that had no versions


def test_a_bucket_without_versions_shows_what_is_not_younger(mount, fake):
    fake.is_versioned = False
    fake.put(b"old", b"old", BEGIN)
    fake.put(b"new", b"new", BEGIN + 100)
    m = mount("s3://b", **options(fake, version_at=iso(BEGIN + 50), list_time="1s"))
    assert files(m.path) == {"old": b"old"}
    assert not any("versionId" in r for r in fake.requests)
    fake.put(b"old", b"replaced", BEGIN + 200)  # what it was is kept by nobody
    assert eventually(lambda: os.listdir(m.path) == [], 10)


def test_what_was_there_before_the_versions_is_read_by_its_own_id(mount, fake):
    fake.is_versioned = False
    fake.put(b"f", b"first", BEGIN)
    fake.is_versioned = True
    fake.put(b"f", b"second", BEGIN + 100)
    m = mount("s3://b", **options(fake, version_at=iso(BEGIN + 50)))
    assert files(m.path) == {"f": b"first"}
    assert os.getxattr(m / "f", "user.s3.version_id") == b"null"


# ---- what is refused


def test_times_that_are_none_or_still_to_come_are_refused(mount, place):
    with VersionedS3() as server:
        for wrong in ("yesterday", "2026-13-01", "1960-01-01", "12:00", ""):
            line = refused("s3://b", place, mount.env, **options(server, version_at=wrong))
            assert "version_at" in line and "2026-11-01T12:00:00Z" in line
        line = refused("s3://b", place, mount.env, **options(server, version_at=iso(time.time() + 3600)))
        assert "still to come" in line
        for write in ("new", "replace"):
            line = refused("s3://b", place, mount.env, **options(server, version_at="2020-01-01", write=write))
            assert "write" in line and "2020-01-01T00:00:00Z" in line
        line = refused(str(place), place, mount.env, version_at="2020-01-01")
        assert "S3 spaces only" in line
        assert not server.requests


def test_a_server_that_keeps_no_versions_is_refused_with_its_own_reason(mount, place, s3):
    s3.bucket("plain")
    line = refused("s3://plain", place, mount.env, **{**options(FakeS3({})), **s3.options(), "anonymous": None}, version_at="2020-01-01")
    assert "versions" in line and "NotImplemented" in line
    with FakeS3({b"f": b"f"}) as server:
        line = refused("s3://b", place, mount.env, **options(server, version_at="2020-01-01"))
        assert "kind of listing" in line


# ---- a real server


@pytest.fixture
def versity(tmp_path: Path) -> Iterator[Any]:
    if not s3server.versitygw():
        pytest.skip("versitygw is not installed")
    (tmp_path / "objects").mkdir()
    (tmp_path / "versions").mkdir()
    server = s3server.VersityServer(tmp_path / "objects", versions=tmp_path / "versions")
    yield server
    server.stop()


def test_a_real_servers_bucket_is_seen_as_it_was(mount, versity):
    s3, rng = versity.client(), random.Random(5)
    keys = ["top", "d/a", "d/b c", "d/e/f", "x/1", "x/2"]
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="before", Body=b"without a version")
    s3.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
    times = []
    for phase in range(3):
        for key in keys:
            if rng.random() < 0.6:
                s3.put_object(Bucket="bucket", Key=key, Body=f"{key} of {phase}".encode() * 50)
            elif phase:
                s3.delete_object(Bucket="bucket", Key=key)
        s3.put_object(Bucket="bucket", Key="before", Body=b"%d" % phase)
        times.append(int(time.time()) + 1)
        time.sleep(2.1)  # its times are to the second, and those of two phases must differ
    for t in times:
        m = mount("s3://bucket", **versity.options(), refresh=None, version_at=iso(t))
        there = reference(s3, "bucket", t)
        assert there and files(m.path) == as_paths(there)
        assert folders(m.path) == {k[:i] for k in there for i, c in enumerate(k) if c == "/"}
    old = s3.get_paginator("list_object_versions").paginate(Bucket="bucket", Prefix="before").build_full_result()["Versions"]
    assert os.getxattr(m / "before", "user.s3.version_id").decode() in {v["VersionId"] for v in old}
    said = mounting.control("url", m / "before", env=m.env)
    with urllib.request.urlopen(said.stdout.strip()) as answer:
        assert answer.read() == b"2"
