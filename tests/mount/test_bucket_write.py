# SPDX-License-Identifier: BSD-3-Clause
"""A bucket that is written to: an object appears when its file is closed, whole, or not at all.

On rclone (which knows no CRCs, conditions and empty folders) and on servers that know all that: versitygw, where it is
installed, and the tests' own."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mounting
import pytest
import s3server
from fakes3 import FakeS3
from mounting import SLACK, eventually
from s3proxy import S3Proxy

MIB = 1 << 20
PART = 5 * MIB


def data_of(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture(scope="module", params=["rclone", "whole"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("servers") / request.param
    folder.mkdir()
    made = s3server.S3Server(folder) if request.param == "rclone" else s3server.whole(folder)
    yield made
    made.stop()


class Bucket:
    """What another client sees."""

    def __init__(self, server: Any, name: str) -> None:
        self.server, self.name, self.client = server, name, server.client()
        server.bucket(name)

    def keys(self) -> list[str]:
        return [o["Key"] for o in self.client.list_objects_v2(Bucket=self.name).get("Contents", [])]

    def uploads(self) -> list[str]:
        with contextlib.suppress(self.client.exceptions.NoSuchUpload):
            return [u["Key"] for u in self.client.list_multipart_uploads(Bucket=self.name).get("Uploads") or []]
        return []

    def get(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=self.name, Key=key)["Body"].read())

    def put(self, key: str, data: bytes = b"x") -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def assert_nothing(self) -> None:
        assert self.keys() == []
        eventually(lambda: self.uploads() == [], SLACK * 3, "no upload is left at the server")


_numbers = itertools.count()


@pytest.fixture
def bucket(server: Any) -> Bucket:
    return Bucket(server, f"bucket{next(_numbers)}")


@pytest.fixture
def writing(mount: Callable[..., Any], bucket: Bucket) -> Callable[..., Any]:
    def get(endpoint: str | None = None, **options: Any) -> Any:
        said = {"refresh": None, "write": "new", "upload_part": "5M", **bucket.server.options(endpoint), **options}
        return mount(f"s3://{bucket.name}", **said)

    return get


@contextlib.contextmanager
def refused(*numbers: int) -> Iterator[None]:
    with pytest.raises(OSError) as e:
        yield
    assert e.value.errno in numbers, e.value


def is_rclone(bucket: Bucket) -> bool:
    return type(bucket.server) is s3server.S3Server


def not_on_rclone(bucket: Bucket, why: str = "rclone reads each object again for its ETag at each listing") -> None:
    if is_rclone(bucket):
        pytest.skip(f"{why}: on others only")


def has_conditional_delete(bucket: Bucket) -> bool:
    bucket.put("probe")
    try:
        bucket.client.delete_object(Bucket=bucket.name, Key="probe", IfMatch='"another"')
    except bucket.client.exceptions.ClientError as e:
        bucket.client.delete_object(Bucket=bucket.name, Key="probe")
        return e.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    return False


def sh(command: str, where: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, shell=True, cwd=where, capture_output=True, text=True, timeout=60)


# ---- what is written


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 4 * PART + 12345])
def test_what_is_written_is_what_others_get(bucket, writing, size):
    m = writing()
    data = data_of(size)
    (m / "f").write_bytes(data)
    eventually(lambda: bucket.keys() == ["f"], SLACK)  # of an empty one the end is not waited for
    assert bucket.get("f") == data
    assert os.listdir(m.path) == ["f"]
    assert os.stat(m / "f").st_size == size
    assert (m / "f").read_bytes() == data
    assert bucket.uploads() == []


def test_it_appears_when_it_is_closed_and_not_before(bucket, writing):
    m = writing()
    with open(m / "f", "wb", buffering=0) as f:
        for i in range(3):
            f.write(data_of(PART, i))
        eventually(lambda: bucket.uploads() == ["f"], SLACK)
        assert bucket.keys() == [] and os.listdir(m.path) == []
        assert os.fstat(f.fileno()).st_size == os.stat(m / "f").st_size == 3 * PART
        with refused(errno.EBUSY):
            open(m / "f", "rb")
        with refused(errno.EEXIST):
            open(m / "f", "xb")
    assert bucket.keys() == ["f"] and bucket.uploads() == []
    assert bucket.get("f") == b"".join(data_of(PART, i) for i in range(3))


def test_programs_write_as_anywhere(bucket, writing, tmp_path):
    m = writing()
    (tmp_path / "big").write_bytes(data_of(2 * PART + 1))
    (tmp_path / "tree/d").mkdir(parents=True)
    for i in range(5):
        (tmp_path / f"tree/d/{i}").write_bytes(data_of(i * 1000, i))
    for command in (
        "echo hello > hello",
        f"(echo a; cat {tmp_path}/big; echo b) > sub",
        f"cp {tmp_path}/big cp",
        f"cp -r --preserve=timestamps {tmp_path}/tree cp-r",
        f"dd if={tmp_path}/big of=dd bs=64k conv=fsync status=none",
        f"tar cf - -C {tmp_path} tree > tar; mkdir x; tar xf tar --no-same-owner -C x",
        "mkdir -p deep/er; touch deep/er/none",
        f"{sys.executable} -c 'import gzip; gzip.open(\"z.gz\", \"wb\").write(b\"z\" * 100000)'",
    ):
        said = sh(command, m.path)
        assert said.returncode == 0 and said.stderr == "", (command, said.stderr)
    big = (tmp_path / "big").read_bytes()
    assert bucket.get("hello") == b"hello\n"
    assert bucket.get("sub") == b"a\n" + big + b"b\n"
    assert bucket.get("cp") == bucket.get("dd") == big
    for i in range(5):
        assert bucket.get(f"cp-r/d/{i}") == bucket.get(f"x/tree/d/{i}") == data_of(i * 1000, i)
    if shutil.which("rsync"):
        for how in ("--inplace",):
            said = sh(f"rsync -rt {how} {tmp_path}/tree/ r", m.path)
            assert said.returncode == 0, said.stderr
        assert bucket.get("r/d/3") == data_of(3000, 3)


def test_a_file_that_goes_on_after_fsync_is_whole_again_at_its_close(bucket, writing):
    m = writing()
    with open(m / "f", "wb", buffering=0) as f:
        f.write(b"one ")
        os.fsync(f.fileno())
        assert bucket.get("f") == b"one "
        f.write(b"two")
    assert bucket.get("f") == b"one two"
    with open(m / "large", "wb", buffering=0) as f:
        f.write(data_of(2 * PART))
        os.fsync(f.fileno())
        assert bucket.get("large") == data_of(2 * PART)
        with refused(errno.EOPNOTSUPP):
            f.write(b"more")
    assert bucket.get("large") == data_of(2 * PART)


def test_many_writers_share_a_bounded_memory(bucket, writing):
    not_on_rclone(bucket)
    m = writing(upload_memory="16M")
    files = [open(m / f"f{i}", "wb", buffering=0) for i in range(6)]
    most = 0
    for _ in range(24):
        for i, f in enumerate(files):
            f.write(data_of(MIB, i))
        most = max(most, m.status()["uploads"]["used_bytes"])
    for f in files:
        f.close()
    assert 16 * MIB <= most <= 16 * MIB + 6 * PART + MIB
    assert all(bucket.get(f"f{i}") == data_of(MIB, i) * 24 for i in range(6))


# ---- what can't be done is refused at once, and leaves nothing


def test_what_an_object_can_not_do_is_refused(bucket, writing):
    bucket.put("there", b"old")
    m = writing()
    for act, number in (
        (lambda: open(m / "there", "ab"), errno.EOPNOTSUPP),
        (lambda: open(m / "there", "r+b"), errno.EPERM),
        (lambda: open(m / "there", "wb"), errno.EPERM),
        (lambda: os.truncate(m / "there", 1), errno.EOPNOTSUPP),
        (lambda: os.rename(m / "there", m / "new"), errno.EXDEV),
        (lambda: os.link(m / "there", m / "new"), errno.EPERM),
        (lambda: os.symlink("there", m / "new"), errno.EPERM),
        (lambda: os.mkfifo(m / "new"), errno.EPERM),
        (lambda: os.chmod(m / "there", 0o600), errno.EPERM),
        (lambda: os.setxattr(m / "there", "user.a", b"b"), errno.EOPNOTSUPP),
        (lambda: open(m / "a%b", "wb"), errno.EINVAL),
        (lambda: open(m / "a%2Fb", "wb"), errno.EINVAL),
        (lambda: os.mkdir(m / "there"), errno.EEXIST),
    ):
        with refused(number):
            act()
    assert bucket.keys() == ["there"] and bucket.get("there") == b"old"


@pytest.mark.parametrize("size", [10, 2 * PART])
def test_bytes_out_of_order_fail_the_file_as_a_whole(bucket, writing, size):
    m = writing()
    f = open(m / "f", "wb", buffering=0)
    f.write(data_of(size))
    f.seek(1)
    with refused(errno.EOPNOTSUPP):
        f.write(b"x")
    with refused(errno.EOPNOTSUPP):
        f.seek(size)
        f.write(b"x")
    with refused(errno.EOPNOTSUPP):
        f.close()
    assert not os.path.exists(m / "f")
    bucket.assert_nothing()
    (m / "f").write_bytes(b"again")
    assert bucket.get("f") == b"again"


@pytest.mark.parametrize("size", [10, 2 * PART])
def test_an_object_that_appears_meanwhile_is_not_replaced(bucket, writing, size):
    not_on_rclone(bucket, "rclone knows no If-None-Match")
    m = writing()
    with refused(errno.EEXIST), open(m / "f", "wb", buffering=0) as f:
        f.write(data_of(size))
        bucket.put("f", b"another's")
    assert bucket.get("f") == b"another's" and bucket.keys() == ["f"]
    eventually(lambda: bucket.uploads() == [], SLACK)


def test_what_options_say_of_objects_goes_with_every_one(bucket, writing, proxy):
    m = writing(proxy.url, storage_class="STANDARD", sse="AES256", requester_pays="on", rename="copy")
    for name, size in (("small", 10), ("large", 2 * PART)):
        with contextlib.suppress(OSError):  # whether the server takes them isn't asked here
            (m / name).write_bytes(data_of(size))
    making = [r for r in proxy.log if r.method == "POST" and "uploads" in r.query or r.method == "PUT" and not r.query]
    assert len(making) >= 2
    for r in making:
        assert r.headers["x-amz-storage-class"] == "STANDARD" and r.headers["x-amz-server-side-encryption"] == "AES256"
    assert all(r.headers["x-amz-request-payer"] == "requester" for r in proxy.log if "x-amz-date" in r.headers)


def test_an_object_is_replaced_where_that_is_allowed(bucket, writing):
    bucket.put("f", b"old and long")
    m = writing(write="replace")
    with open(m / "f", "rb") as old:
        assert old.read(3) == b"old"
        with open(m / "f", "wb", buffering=0) as f:
            f.write(b"new")
            assert bucket.get("f") == b"old and long"
        assert bucket.get("f") == b"new"
    assert (m / "f").read_bytes() == b"new"
    with open(m / "f", "r+b", buffering=0) as f, refused(errno.EOPNOTSUPP):
        f.write(b"X")
    with refused(errno.EOPNOTSUPP):
        open(m / "f", "ab")
    assert bucket.get("f") == b"new"
    assert sh("echo shell > f; cat f", m.path).stdout == "shell\n"


def test_what_was_replaced_is_seen_at_once_by_who_listed_it_meanwhile(bucket, writing):
    bucket.put("f", b"old and long")
    m = writing(write="replace", list_time="1min")
    with open(m / "f", "wb", buffering=0) as f:
        f.write(b"new")
        assert [e.stat().st_size for e in os.scandir(m.path)] in ([12], [3])  # looks each up as it lists
        assert os.stat(m / "f").st_size in (12, 3)
    assert os.stat(m / "f").st_size == 3 and (m / "f").read_bytes() == b"new"


# ---- folders, deleting, renaming


def test_folders_are_made_emptied_and_removed(bucket, writing):
    m = writing()
    os.mkdir(m / "d")
    assert os.stat(m / "d").st_mode & 0o170000 == 0o040000
    (m / "d/f").write_bytes(b"1")
    assert os.listdir(m.path) == ["d"] and os.listdir(m / "d") == ["f"]
    with refused(errno.ENOTEMPTY):
        os.rmdir(m / "d")
    with refused(errno.EISDIR):
        os.unlink(m / "d")
    os.unlink(m / "d/f")
    assert os.listdir(m / "d") == [] and os.path.isdir(m / "d")
    assert "d/f" not in bucket.keys()
    os.rmdir(m / "d")
    assert not os.path.exists(m / "d") and os.listdir(m.path) == []
    assert bucket.keys() == []
    for i in range(4):
        os.makedirs(m / f"t/{i}")
        (m / f"t/{i}/f").write_bytes(b"x")
    shutil.rmtree(m / "t")
    assert bucket.keys() == []


def test_a_key_is_as_long_as_s3_has_them_and_a_folder_s_has_its_slash(bucket, writing):
    m = writing()
    folder = m.path / "/".join(["n" * 255] * 3 + ["x"])  # with its slash 770 bytes
    os.makedirs(folder)
    (folder / ("f" * 254)).write_bytes(b"1")
    assert bucket.get(f"{folder.relative_to(m.path)}/{'f' * 254}") == b"1"
    with refused(errno.ENAMETOOLONG):
        (folder / ("f" * 255)).write_bytes(b"1")
    os.mkdir(folder / ("d" * 253))
    with refused(errno.ENAMETOOLONG):
        os.mkdir(folder / ("d" * 254))


class Held:
    """The look at what is left of a folder, at a proxy: it goes on when it is let go."""

    def __init__(self, proxy: S3Proxy) -> None:
        self.asked, self.let_go = threading.Event(), threading.Event()
        proxy.fault(query="max-keys=2&", then=self.hold)

    def hold(self) -> None:
        self.asked.set()
        self.let_go.wait(SLACK * 10)


def test_a_delete_is_answered_before_its_folder_is_looked_at_which_stays(bucket, writing, proxy):
    not_on_rclone(bucket, "rclone keeps no empty folders")
    bucket.put("d/f")
    m = writing(proxy.url, list_time="0")
    held = Held(proxy)
    with ThreadPoolExecutor(2) as pool:
        pool.submit(os.unlink, m / "d/f").result(timeout=SLACK * 5)
        assert held.asked.wait(SLACK) and bucket.keys() == []
        assert os.path.isdir(m / "d")
        listing = pool.submit(os.listdir, m.path)
        held.let_go.set()
        assert listing.result() == ["d"]
    eventually(lambda: bucket.keys() == ["d/"], SLACK)
    assert os.listdir(m / "d") == []


def test_a_folder_that_is_removed_while_it_is_looked_at_is_gone(bucket, writing, proxy):
    not_on_rclone(bucket, "rclone keeps no empty folders")
    bucket.put("d/f")
    m = writing(proxy.url)
    held = Held(proxy)
    with ThreadPoolExecutor(2) as pool:
        pool.submit(os.unlink, m / "d/f").result(timeout=SLACK * 5)
        assert held.asked.wait(SLACK)
        removing = pool.submit(os.rmdir, m / "d")
        held.let_go.set()
        removing.result()
    assert not os.path.exists(m / "d") and bucket.keys() == []


def test_a_folder_that_was_removed_and_is_made_again_is_another_one(bucket, writing):
    m = writing(write="replace")
    os.mkdir(m / "d")
    with open(m / "d/f", "wb", buffering=0) as f:  # the kernel keeps the folder as long as it is open
        f.write(b"f")
        os.unlink(m / "d/f")
        os.rmdir(m / "d")
        assert not os.path.exists(m / "d")
        os.mkdir(m / "d")
        (m / "d/g").write_bytes(b"g")
        assert os.listdir(m / "d") == ["g"] and (m / "d/g").read_bytes() == b"g"
        with refused(errno.ECANCELED):
            f.close()


def test_a_file_that_is_being_written_is_busy_to_others_who_write(bucket, writing):
    m = writing(write="replace", list_time="1s")
    bucket.put("there")
    for name in ("there", "new"):
        with open(m / name, "wb", buffering=0) as f:
            f.write(b"first")
            with refused(errno.EBUSY):
                open(m / name, "wb")
            bucket.put(name, b"another's")  # the name may lead to that meanwhile
            eventually(lambda name=name: os.stat(m / name).st_size == 9 or name == "there", SLACK)
            with refused(errno.EBUSY):
                open(m / name, "wb")
            bucket.client.delete_object(Bucket=bucket.name, Key=name)
            eventually(lambda name=name: not os.path.exists(m / name) or name == "there", SLACK)
            with refused(errno.EBUSY):
                open(m / name, "wb")
        assert bucket.get(name) == b"first"


def test_an_object_is_renamed_by_a_copy_where_that_is_allowed(bucket, writing):
    m = writing(rename="copy")
    (m / "a").write_bytes(data_of(PART + 1))
    bucket.put("there", b"old")
    os.rename(m / "a", m / "b")
    assert bucket.keys() == ["b", "there"] and bucket.get("b") == data_of(PART + 1)
    assert not os.path.exists(m / "a") and (m / "b").read_bytes() == data_of(PART + 1)
    with refused(errno.EEXIST):
        os.rename(m / "b", m / "there")
    os.mkdir(m / "d")
    with refused(errno.EXDEV):
        os.rename(m / "d", m / "e")
    assert sh("mv b d/c && mv d e && cat e/c | wc -c", m.path).stdout.strip() == str(PART + 1)
    assert [k for k in bucket.keys() if not k.endswith("/")] == ["e/c", "there"]
    if shutil.which("rsync"):
        (m.path.parent / "from").mkdir(exist_ok=True)
        (m.path.parent / "from/r").write_bytes(b"r")
        said = sh(f"rsync -rt {m.path.parent}/from/ .", m.path)
        assert said.returncode == 0, said.stderr
        assert bucket.get("r") == b"r"


def test_a_url_to_put_is_given_to_who_may_write(bucket, writing):
    bucket.put("there")
    m = writing(umask="022")
    name = "a%25b"
    said = mounting.control("url", "--put", m / name, "--expires", "10min", env=m.env)
    assert said.returncode == 0 and "X-Amz-Expires=600" in said.stdout, said.stderr
    put = urllib.request.Request(said.stdout.strip(), data=b"from outside", method="PUT")
    with urllib.request.urlopen(put) as answer:
        assert answer.status == 200
    assert bucket.get(name.replace("%25", "%")) == b"from outside"
    for path, how, why in (
        ("there", {}, "already"),
        ("a%b", {}, "called that"),
        ("new", {"user": 65534, "group": 65534, "extra_groups": ()}, "may not write"),
    ):
        said = mounting.control("url", "--put", m / path, env=m.env, **how)
        assert said.returncode != 0 and not said.stdout and why in said.stderr, said
    m.unmount()
    said = mounting.control("url", "--put", writing(write="off") / "new", env=m.env)
    assert said.returncode != 0 and "option write" in said.stderr


# ---- what goes wrong


@pytest.fixture
def proxy(server: Any) -> Iterator[S3Proxy]:
    with S3Proxy(server.port) as p:
        yield p


PUT = {"method": "PUT", "key": "f"}


def test_a_server_that_refuses_is_eacces_and_its_reason_is_in_the_log(bucket, writing, proxy):
    m = writing(proxy.url)
    body = b"<Error><Code>AccessDenied</Code><Message>not for you</Message></Error>"
    for size in (10, 2 * PART):
        for method in ("PUT", "POST"):
            proxy.fault(method=method, key="f", status=403, body=body, times=-1)
        with refused(errno.EACCES):
            (m / "f").write_bytes(data_of(size))
        proxy.clear()
        bucket.assert_nothing()
    assert "AccessDenied: not for you" in m.log()
    assert not os.path.exists(m / "f")


@pytest.mark.parametrize(("status", "code", "number"), [(403, "QuotaExceeded", errno.EDQUOT), (507, "XMinioStorageFull", errno.ENOSPC)])
def test_a_server_without_room_says_so_as_a_disk_does(bucket, writing, proxy, status, code, number):
    m = writing(proxy.url)
    body = f"<Error><Code>{code}</Code><Message>buy more</Message></Error>".encode()
    for size, query in ((10, ""), (3 * PART, "partNumber=2")):
        proxy.fault(**PUT, query=query, status=status, body=body, times=-1)
        with refused(number):
            (m / "f").write_bytes(data_of(size))
        proxy.clear()
        bucket.assert_nothing()
    assert f"{code}: buy more" in m.log()


@pytest.mark.parametrize("size", [10, 2 * PART])
def test_bytes_changed_on_the_way_are_refused_by_the_server(bucket, writing, proxy, size):
    m = writing(proxy.url)
    proxy.fault(**PUT, flip_sent=True, times=-1)
    with refused(errno.EIO):
        (m / "f").write_bytes(data_of(size))
    proxy.clear()
    bucket.assert_nothing()


@pytest.mark.parametrize("what", [{"reset": True}, {"lose_answer": True}, {"status": 503}, {"status": 500}])
@pytest.mark.parametrize("request_of", ["begin", "part", "finish", "put"])
def test_a_request_that_breaks_off_is_made_again(bucket, writing, proxy, what, request_of):
    if "lose_answer" not in what:
        not_on_rclone(bucket)
    m = writing(proxy.url)
    which = {"begin": {"method": "POST", "query": "uploads"}, "part": {"method": "PUT", "query": "partNumber=2"},
             "finish": {"method": "POST", "query": "uploadId"}, "put": {"method": "PUT"}}[request_of]  # fmt: skip
    proxy.fault(key="f", **which, **what)
    size = 10 if request_of == "put" else 3 * PART
    if request_of == "finish" and "lose_answer" in what and is_rclone(bucket):
        with refused(errno.EIO):  # rclone's ETags aren't those of S3, and it has no checksums: it may be another's
            (m / "f").write_bytes(data_of(size))
        assert bucket.get("f") == data_of(size)
        return
    (m / "f").write_bytes(data_of(size))
    assert bucket.get("f") == data_of(size)
    assert (m / "f").read_bytes() == data_of(size)


def test_a_writer_who_is_killed_leaves_nothing(bucket, writing):
    m = writing()
    code = f"import sys, time; f = open(sys.argv[1], 'wb', 0); f.write(b'x' * {2 * PART + 1}); print('written', flush=True); time.sleep(60)"
    for which in (signal.SIGKILL, signal.SIGTERM):
        with subprocess.Popen([sys.executable, "-c", code, str(m / "f")], stdout=subprocess.PIPE, text=True) as p:
            assert p.stdout and p.stdout.readline() == "written\n"
            p.send_signal(which)
            p.wait(30)
        eventually(lambda: not os.path.exists(m / "f"), SLACK)
        bucket.assert_nothing()


def test_a_daemon_that_dies_fails_its_writers_and_leaves_nothing(bucket, writing):
    m = writing()
    f, small = open(m / "f", "wb", buffering=0), open(m / "small", "wb", buffering=0)
    f.write(data_of(2 * PART + 1))
    small.write(b"small")
    eventually(lambda: bucket.uploads() == ["f"], SLACK)
    os.kill(m.pid(), signal.SIGKILL)
    with refused(errno.EIO):
        f.write(b"more")
    for each in (f, small):
        with refused(errno.EIO):
            each.close()
    bucket.assert_nothing()
    assert os.listdir(m.path) == []
    (m / "f").write_bytes(b"again")
    assert bucket.get("f") == b"again"


def test_what_was_closed_is_written_before_a_planned_restart(bucket, writing, proxy):
    m = writing(proxy.url)
    life = m.pid()
    proxy.fault(**PUT, status=503, headers={"Retry-After": "3"})
    (m / "f").touch()  # an empty one's end is not waited for at its close
    eventually(lambda: proxy.requests["PUT"] > 0, SLACK)
    os.kill(life, signal.SIGTERM)
    eventually(lambda: bucket.keys() == ["f"], SLACK)
    eventually(lambda: m.pid() != life, SLACK)
    assert os.stat(m / "f").st_size == 0


def test_what_a_mount_that_was_killed_left_is_forgotten_by_the_next(bucket, writing, place):
    cache = place / f"uploads-{bucket.name}-{id(bucket)}"
    m = writing(cache_dir=cache)
    f = open(m / "f", "wb", buffering=0)
    f.write(data_of(2 * PART + 1))
    eventually(lambda: bucket.uploads() == ["f"], SLACK)
    m.end_by_force()
    with contextlib.suppress(OSError):
        f.close()
    assert bucket.uploads() == ["f"]
    writing(cache_dir=cache)
    bucket.assert_nothing()
    eventually(lambda: os.listdir(cache / "uploads") == [], SLACK)


def test_a_server_that_is_silent_is_a_time_out_and_nothing_appears_later(bucket, writing, proxy, server):
    m = writing(proxy.url, timeout="1s")
    f = open(m / "f", "wb", buffering=0)
    f.write(b"never")
    proxy.fault(**PUT, delay_s=6)
    with refused(errno.ETIMEDOUT):
        f.close()
    time.sleep(2.5)  # the server has taken it by now, and was told to delete it
    eventually(lambda: bucket.keys() == [], SLACK)
    assert not os.path.exists(m / "f")
    assert any("request timed out" in line and line.endswith(f"s3://{bucket.name}: /f") for line in m.log().splitlines()), m.log()


def test_who_was_told_of_a_time_out_finds_no_half_of_his_file(bucket, writing, proxy):
    not_on_rclone(bucket)
    m = writing(proxy.url, timeout="1s", upload_memory="16M")
    f = open(m / "f", "wb", buffering=0)
    parts = proxy.fault(**PUT, query="partNumber", delay_s=6, times=-1)
    with refused(errno.ETIMEDOUT):
        for i in range(8):
            f.write(data_of(PART, i))
    parts.times = 0
    time.sleep(2.5)  # what was on its way has arrived
    with refused(errno.ETIMEDOUT):
        f.close()
    bucket.assert_nothing()


def test_a_write_waits_as_long_as_parts_arrive(bucket, writing, proxy):
    not_on_rclone(bucket)
    m = writing(proxy.url, timeout="1s", upload_memory="16M", connections="1")
    files = [open(m / f"f{i}", "wb", buffering=0) for i in range(6)]
    parts = proxy.fault(method="PUT", query="partNumber", delay_s=1, times=-1)

    def write(f: Any) -> int:
        return sum(f.write(data_of(MIB, i)) for i in range(6))

    with ThreadPoolExecutor(len(files)) as threads:
        assert list(threads.map(write, files)) == [6 * MIB] * len(files)
    parts.times = 0
    for f in files:
        f.close()


# ---- names that are taken from files which are being written


def test_who_is_deleted_while_he_is_written_does_not_come_back(bucket, writing):
    bucket.put("f", b"old")
    m = writing(write="replace")
    with open(m / "f", "wb", buffering=0) as f:
        f.write(b"new")
        os.unlink(m / "f")
        assert bucket.keys() == []
        (m / "f").write_bytes(b"another")
        with refused(errno.ECANCELED):
            f.write(b"more")
        with refused(errno.ECANCELED):
            os.fsync(f.fileno())
        with refused(errno.ECANCELED):
            f.close()
    assert bucket.get("f") == b"another"
    with open(m / "f", "r+b", buffering=0) as f:
        os.unlink(m / "f")
        with refused(errno.EOPNOTSUPP):
            f.truncate(0)
    assert bucket.keys() == []


def test_a_file_that_was_whole_when_it_was_deleted_is_not_there_again_at_its_close(bucket, writing):
    m = writing()
    with open(m / "f", "wb", buffering=0) as f, subprocess.Popen(["sleep", "60"], pass_fds=[f.fileno()]) as child:
        f.write(b"whole")
        os.fsync(f.fileno())
        os.unlink(m / "f")
        f.close()
        assert not os.path.exists(m / "f")
        child.kill()
        child.wait(30)
        os.close(os.open(m / "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    eventually(lambda: bucket.keys() == ["f"], SLACK)
    assert bucket.get("f") == b""


def test_nothing_is_renamed_onto_a_file_that_is_being_written(bucket, writing):
    m = writing(rename="copy", write="replace")
    bucket.put("a", b"a")
    with open(m / "f", "wb", buffering=0) as f:
        f.write(b"f")
        with refused(errno.EBUSY):
            os.rename(m / "a", m / "f")
    assert bucket.get("a") == b"a" and bucket.get("f") == b"f"


@contextlib.contextmanager
def whole_and_open(path: Path, data: bytes) -> Iterator[int]:
    """Closed by who opened it, so that it is whole, and open still: as long as the kernel's release is on its way it is so, too."""
    fd = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    os.write(fd, data)
    again = os.dup(fd)
    os.close(fd)
    try:
        yield again
    finally:
        os.close(again)


def test_what_was_closed_is_an_object_before_the_kernel_has_released_it(bucket, writing):
    m = writing(rename="copy", write="replace")
    with whole_and_open(m / "a", b"a"):
        assert (m / "a").read_bytes() == b"a"
        os.rename(m / "a", m / "b")
        assert (m / "b").read_bytes() == b"a" and bucket.keys() == ["b"]
    with whole_and_open(m / "c", b"c") as c, whole_and_open(m / "d", b"d") as d:
        os.rename(m / "b", m / "c")
        (m / "d").write_bytes(b"another")
        for fd in (c, d):
            with refused(errno.ECANCELED):
                os.write(fd, b"more")
    assert bucket.keys() == ["c", "d"] and bucket.get("c") == b"a" and bucket.get("d") == b"another"
    with whole_and_open(m / "e", b"e") as e:
        os.write(e, b"f")
        with refused(errno.EBUSY):
            os.rename(m / "e", m / "f")
    eventually(lambda: bucket.get("e") == b"ef", SLACK)
    assert bucket.keys() == ["c", "d", "e"]


def test_after_a_rename_each_name_is_its_own_file(bucket, writing):
    m = writing(rename="copy", write="replace")
    (m / "a").write_bytes(b"first")
    assert (m / "a").read_bytes() == b"first"
    os.rename(m / "a", m / "b")
    (m / "a").write_bytes(b"second")
    assert (m / "b").read_bytes() == b"first" and (m / "a").read_bytes() == b"second"
    (m / "b").write_bytes(b"third")
    assert bucket.get("a") == b"second" and bucket.get("b") == b"third"
    assert os.stat(m / "a").st_ino != os.stat(m / "b").st_ino


def test_a_rename_that_takes_longer_than_the_limit_is_answered_when_it_is_done(bucket, writing, proxy):
    bucket.put("a", b"a")
    m = writing(proxy.url, rename="copy", timeout="1s")
    proxy.fault(method="PUT", key="/b", delay_s=3)
    os.rename(m / "a", m / "b")
    assert bucket.keys() == ["b"] == os.listdir(m.path)


def test_large_objects_that_are_renamed_at_once_keep_nobody_from_looking_names_up(mount):
    numbers, large = range(8), bytes(64 * MIB)
    with FakeS3({b"other/x": b"x", **{f"{i}/f".encode(): large for i in numbers}}) as server, S3Proxy(server.port) as proxy:
        m = mount("s3://bucket", refresh=None, write="new", rename="copy", timeout="3s", **server.options(proxy.url))
        copying = threading.Event()
        proxy.fault(method="PUT", times=-1, then=copying.wait)
        with ThreadPoolExecutor(len(numbers)) as pool:
            moves = [pool.submit(os.rename, m / f"{i}/f", m / f"{i}/g") for i in numbers]
            try:
                eventually(lambda: proxy.requests["PUT"] >= 3 and m.counters()["waiters"] == len(numbers), SLACK)
                assert os.listdir(m / "other") == ["x"]
                assert not os.path.exists(m / "other/none")
                assert not any(move.done() for move in moves)
            finally:
                copying.set()
            for move in moves:
                move.result()
        assert sorted(server.only) == [*(f"{i}/g".encode() for i in numbers), b"other/x"]


def test_a_rename_deletes_nothing_but_what_it_has_copied(bucket, writing, proxy):
    bucket.put("a", b"old")
    bucket.put("c", b"a longer one")
    m = writing(proxy.url, rename="copy", write="replace")
    copying = proxy.fault(method="PUT", key="/b", delay_s=1)
    with ThreadPoolExecutor(1) as threads:
        renamed = threads.submit(os.rename, m / "a", m / "b")
        eventually(lambda: copying.times == 0, SLACK, "the copy is on its way")
        looking = proxy.fault(method="HEAD", key="/a", delay_s=1)
        eventually(lambda: looking.times == 0, SLACK, "the source is looked at again")
        bucket.put("a", b"somebody else's")
        renamed.result(30)
    assert bucket.get("a") == (m / "a").read_bytes() == b"somebody else's"
    assert bucket.get("b") == (m / "b").read_bytes() == b"old"
    if has_conditional_delete(bucket):
        (m / "d").write_bytes(b"old")
        proxy.fault(method="DELETE", key="/d", then=lambda: bucket.put("d", b"somebody else's"))
        os.rename(m / "d", m / "e")
        assert bucket.get("d") == (m / "d").read_bytes() == b"somebody else's"
        assert bucket.get("e") == b"old"
    copied = b'<CopyObjectResult><ETag>"0"</ETag></CopyObjectResult>'
    proxy.fault(method="PUT", key="/c", status=200, body=copied)
    with refused(errno.EIO):
        os.rename(m / "b", m / "c")
    assert bucket.get("b") == b"old" and bucket.get("c") == b"a longer one"
