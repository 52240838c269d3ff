# SPDX-License-Identifier: BSD-3-Clause
"""A bucket as a folder, on a real S3 server: names, bytes, attributes, freshness, and what is refused."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import pty
import random
import re
import struct
import subprocess
import termios
import urllib.request
from pathlib import Path
from typing import Any

import mounting
import pytest
from mounting import SLACK, eventually, refused
from s3proxy import S3Proxy

MIB = 1 << 20


def data_of(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture
def bucket(s3):
    """A new bucket: its folder, and its name."""
    number = len(os.listdir(s3.folder))
    path = s3.bucket(f"bucket{number}")
    return path


@pytest.fixture
def s3mount(mount, s3):
    def get(source: str, **options: Any):
        return mount(source, **{"refresh": None, **s3.options(), **options})

    return get


def put(bucket: Path, key: str, data: bytes = b"x") -> Path:
    path = bucket / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def tree(root: Path) -> dict[str, int | None]:
    """Every path below with its size; None: a folder."""
    found = mounting.walk(os.fsencode(str(root)))
    return {os.fsdecode(p): None if st.st_mode & 0o170000 == 0o040000 else st.st_size for p, st in found.items()}


# ---- names and bytes


def test_keys_are_paths_and_objects_are_their_bytes(bucket, s3mount):
    put(bucket, "top.txt", b"hello")
    put(bucket, "raw/2024/a.fits", data_of(3 * MIB))
    put(bucket, "raw/2024/empty", b"")
    m = s3mount(f"s3://{bucket.name}")
    assert tree(m.path) == {
        "top.txt": 5,
        "raw": None,
        "raw/2024": None,
        "raw/2024/a.fits": 3 * MIB,
        "raw/2024/empty": 0,
    }
    assert (m / "top.txt").read_bytes() == b"hello"
    assert (m / "raw/2024/a.fits").read_bytes() == data_of(3 * MIB)
    assert (m / "raw/2024/empty").read_bytes() == b""


def test_a_prefix_is_the_root_of_the_mount(bucket, s3mount):
    put(bucket, "raw/2024/a", b"a")
    put(bucket, "rawer/b", b"b")
    for source in ("raw", "raw/"):
        m = s3mount(f"s3://{bucket.name}/{source}")
        assert tree(m.path) == {"2024": None, "2024/a": 1}
        assert (m / "2024/a").read_bytes() == b"a"


def test_names_are_escaped_and_lead_back_to_their_objects(bucket, s3mount):
    keys = [".zarray", "a%b", "d~0123456789abcdef", "ü", "k" * 255]
    for key in keys:
        put(bucket, key, key.encode())
    m = s3mount(f"s3://{bucket.name}")
    names = os.listdir(m.path)
    assert len(names) == len(keys)
    assert {(m / n).read_bytes().decode() for n in names} == set(keys)
    assert "a%25b" in names and ".zarray" in names
    with pytest.raises(FileNotFoundError):
        os.stat(m / "a%b")
    with pytest.raises(FileNotFoundError):
        os.stat(m / "%2Ezarray")


def test_a_random_read_is_of_the_right_bytes(bucket, s3mount):
    data = data_of(5 * MIB + 12345)
    put(bucket, "big", data)
    m = s3mount(f"s3://{bucket.name}")
    rng = random.Random(3)
    with open(m / "big", "rb", buffering=0) as f:
        for _ in range(60):
            at, size = rng.randrange(len(data) + 1000), rng.choice([1, 100, 4096, 70000, 300000])
            f.seek(at)
            assert f.read(size) == data[at : at + size]


def test_a_complete_object_is_read_by_passthrough(bucket, s3mount):
    if not mounting.IS_ROOT:
        pytest.skip("passthrough needs root")
    put(bucket, "f", data_of(2 * MIB))
    m = s3mount(f"s3://{bucket.name}")
    if m.status()["modes"]["passthrough"] != "on":
        pytest.skip("passthrough is off here: " + str(m.status()["modes"]["passthrough_why"]))
    assert (m / "f").read_bytes() == data_of(2 * MIB)

    def by_passthrough() -> bool:
        before = m.counters()["open_passthrough"]
        assert (m / "f").read_bytes() == data_of(2 * MIB)
        return m.counters()["open_passthrough"] > before

    eventually(by_passthrough, 10, "a complete object is opened by passthrough")


def test_what_was_read_is_there_after_the_next_mount(bucket, s3, s3mount, place):
    data = data_of(4 * MIB)
    put(bucket, "f", data)
    cache = place / f"kept-{bucket.name}"
    m = s3mount(f"s3://{bucket.name}", cache_dir=cache)
    assert (m / "f").read_bytes() == data
    m.unmount()
    m = s3mount(f"s3://{bucket.name}", cache_dir=cache)
    assert os.getxattr(m / "f", "user.s3.cached") == b"100"
    s3.pause()
    try:
        assert (m / "f").read_bytes() == data
    finally:
        s3.resume()


def test_the_kernel_reads_ahead_by_a_megabyte(bucket, s3mount):
    put(bucket, "f", data_of(8 * MIB))
    m = s3mount(f"s3://{bucket.name}", folder_ahead="0")
    device = os.stat(m.path).st_dev
    knob = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    if not os.access(knob, os.W_OK):
        pytest.skip("read_ahead_kb can't be written here")
    assert eventually(lambda: knob.read_text().strip() == "1024", SLACK)
    before = m.counters()["requests"]
    assert (m / "f").read_bytes() == data_of(8 * MIB)
    assert m.counters()["requests"] - before < 30


# ---- attributes


def test_attributes_are_the_objects_and_the_spaces(bucket, s3mount):
    path = put(bucket, "d/f", b"12345")
    m = s3mount(f"s3://{bucket.name}", umask="027")
    st = os.stat(m / "d/f")
    assert (st.st_size, st.st_nlink, oct(st.st_mode)) == (5, 1, "0o100440")
    assert abs(st.st_mtime - path.stat().st_mtime) < 2
    assert oct(os.stat(m / "d").st_mode) == "0o40550"
    assert (st.st_uid, st.st_gid) == (os.geteuid(), os.getegid())


def test_extended_attributes_say_what_the_server_said(bucket, s3, s3mount):
    s3.client().put_object(Bucket=bucket.name, Key="f", Body=b"abc", ContentType="text/plain", Metadata={"who": "me"})
    m = s3mount(f"s3://{bucket.name}")
    head = s3.client().head_object(Bucket=bucket.name, Key="f")
    assert os.getxattr(m / "f", "user.s3.etag").decode() == head["ETag"]
    assert os.getxattr(m / "f", "user.s3.content_type").decode() == head["ContentType"]
    for key, value in head["Metadata"].items():
        assert os.getxattr(m / "f", f"user.s3.metadata.{key.lower()}").decode() == value
    assert "user.s3.etag" in os.listxattr(m / "f")
    with pytest.raises(OSError) as e:
        os.getxattr(m / "f", "user.s3.none")
    assert e.value.errno == errno.ENODATA


def test_nothing_can_be_written(bucket, s3mount):
    put(bucket, "f")
    m = s3mount(f"s3://{bucket.name}")
    for act in (
        lambda: open(m / "f", "wb"),
        lambda: open(m / "new", "wb"),
        lambda: os.mkdir(m / "d"),
        lambda: os.unlink(m / "f"),
        lambda: os.rename(m / "f", m / "g"),
    ):
        with pytest.raises(OSError) as e:
            act()
        assert e.value.errno == errno.EROFS


# ---- listings


def test_a_folder_of_many_pages_is_listed_whole_and_once(bucket, s3mount):
    for i in range(2345):
        put(bucket, f"big/{i:05d}", b"x" * (i % 7))
    m = s3mount(f"s3://{bucket.name}")
    assert sorted(os.listdir(m / "big")) == [f"{i:05d}" for i in range(2345)]
    assert all(os.stat(m / "big" / f"{i:05d}").st_size == i % 7 for i in range(2345))
    before = m.counters()["list_pages"]
    assert len(os.listdir(m / "big")) == 2345
    assert m.counters()["list_pages"] == before


def test_a_name_that_is_not_there_is_asked_once(bucket, s3mount):
    put(bucket, "d/f")
    m = s3mount(f"s3://{bucket.name}", cache_time="0")
    for _ in range(3):
        with pytest.raises(FileNotFoundError):
            os.stat(m / "d/none")
    before = m.counters()["list_pages"]
    with pytest.raises(FileNotFoundError):
        os.stat(m / "d/none2")
    assert m.counters()["list_pages"] == before


def test_a_walk_needs_fewer_listings_than_there_are_folders(bucket, s3mount):
    for d in range(60):
        for f in range(3):
            put(bucket, f"d{d:02d}/f{f}")
    m = s3mount(f"s3://{bucket.name}")
    found = subprocess.run(["find", str(m.path), "-type", "f"], capture_output=True, text=True, check=True)
    assert len(found.stdout.splitlines()) == 180
    assert m.counters()["list_pages"] < 30


def test_a_change_is_seen_within_list_time(bucket, s3mount):
    put(bucket, "d/a", b"1")
    m = s3mount(f"s3://{bucket.name}", list_time="1s")
    assert os.listdir(m / "d") == ["a"]
    put(bucket, "d/b", b"2")
    put(bucket, "d/a", b"now longer")
    eventually(lambda: sorted(os.listdir(m / "d")) == ["a", "b"], 1 + mounting.SLACK)
    eventually(lambda: (m / "d/a").read_bytes() == b"now longer", 1 + mounting.SLACK)


def test_refresh_shows_a_change_at_once(bucket, s3mount):
    put(bucket, "d/a", b"1")
    m = s3mount(f"s3://{bucket.name}", list_time="1h")
    assert os.listdir(m / "d") == ["a"]
    put(bucket, "d/b", b"2")
    assert mounting.control("refresh", m.path, env=m.env).returncode == 0
    eventually(lambda: sorted(os.listdir(m / "d")) == ["a", "b"], mounting.SLACK)


def test_a_folder_that_the_server_refuses_is_eacces_and_the_log_has_its_reason_once(bucket, s3, s3mount):
    put(bucket, "a/closed/f")
    put(bucket, "b/open/f")
    with S3Proxy(s3.port) as proxy:
        m = s3mount(f"s3://{bucket.name}", endpoint=proxy.url)
        proxy.fault(
            query="prefix=a%2Fclosed%2F", status=403, times=-1, body=b"<Error><Code>AccessDenied</Code><Message>not for you</Message></Error>"
        )
        for _ in range(2):  # at the third all that is below `a` would be listed at once
            with pytest.raises(PermissionError):
                os.listdir(m / "a/closed")
            assert os.listdir(m / "b/open") == ["f"]
            assert mounting.control("refresh", m.path, env=m.env).returncode == 0
        lines = [line for line in m.log().splitlines() if "AccessDenied: not for you" in line]
        assert len(lines) == 1 and f"{bucket.name}/a/closed/" in lines[0], m.log()
        assert "answers again" not in m.log()  # others were answered all the time


# ---- what is refused at the mount


def test_wrong_credentials_are_refused_with_the_servers_reason(bucket, s3, mount, place):
    put(bucket, "f")
    options = {**s3.options(), "secret_key": "wrong"}
    line = refused(f"s3://{bucket.name}", place, mount.env, **options)
    assert "SignatureDoesNotMatch" in line or "signature" in line.lower() or "denied" in line.lower(), line
    assert "wrong" not in line


def test_a_bucket_that_is_not_there_is_refused(s3, mount, place):
    line = refused("s3://nosuchbucket", place, mount.env, **s3.options())
    assert "nosuchbucket" in line and ("NoSuchBucket" in line or "does not exist" in line or "no such" in line.lower()), line


def test_an_endpoint_that_is_not_there_is_refused(s3, mount, place):
    from s3server import free_port

    options = {**s3.options(), "endpoint": f"http://127.0.0.1:{free_port()}", "timeout": "2s"}
    line = refused("s3://bucket", place, mount.env, **options)
    assert "127.0.0.1" in line, line


# ---- configured mounts, secrets


def test_a_configured_mount_shows_buckets_beside_others(bucket, s3, mount, place):
    put(bucket, "raw/f", b"abc")
    config = place / f"config-{bucket.name}.yaml"
    config.write_text(
        f"spaces:\n  lfa: {{source: 's3://{bucket.name}/raw', endpoint: '{s3.endpoint}', access_key: {s3.key},"
        f" secret_key: '{s3.secret}', region: us-east-1}}\n"
        f"  all: {{kind: s3, source: 's3://{bucket.name}', endpoint: '{s3.endpoint}', access_key: {s3.key},"
        f" secret_key: '{s3.secret}', region: us-east-1}}\n"
    )
    m = mount("buckets", config=config, refresh=None)
    assert sorted(os.listdir(m.path)) == ["all", "lfa"]
    assert (m / "lfa/f").read_bytes() == b"abc"
    assert (m / "all/raw/f").read_bytes() == b"abc"
    for pid in m.pids:
        assert s3.secret.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert s3.secret not in str(m.status())


def test_credentials_come_from_the_environment(bucket, s3, mount):
    put(bucket, "f", b"abc")
    env = {"AWS_ACCESS_KEY_ID": s3.key, "AWS_SECRET_ACCESS_KEY": s3.secret, "S3_ENDPOINT_URL": s3.endpoint}
    m = mount(f"s3://{bucket.name}", env=env, refresh=None)
    assert (m / "f").read_bytes() == b"abc"


# ---- the operator's hand


def test_a_url_can_be_fetched_by_anybody(bucket, s3mount):
    put(bucket, "f", b"abc")
    m = s3mount(f"s3://{bucket.name}")
    said = mounting.control("url", m / "f", "--expires", "10min", env=m.env)
    assert said.returncode == 0, said.stderr
    with urllib.request.urlopen(said.stdout.strip()) as answer:
        assert answer.read() == b"abc"
    assert said.stdout.strip() not in m.log()


def test_a_url_is_good_for_no_longer_than_the_mount_allows(bucket, s3mount):
    put(bucket, "f", b"abc")
    m = s3mount(f"s3://{bucket.name}", url_time="10min")
    said = mounting.control("url", m / "f", env=m.env)
    assert said.returncode == 0 and "X-Amz-Expires=600" in said.stdout, said.stderr
    assert mounting.control("url", m / "f", "--expires", "5min", env=m.env).returncode == 0
    said = mounting.control("url", m / "f", "--expires", "11min", env=m.env)
    assert said.returncode != 0 and "600" in said.stderr and "url_time" in said.stderr


def test_a_mount_may_give_no_urls(bucket, s3mount):
    put(bucket, "f", b"abc")
    m = s3mount(f"s3://{bucket.name}", url_time="0")
    said = mounting.control("url", m / "f", env=m.env)
    assert said.returncode != 0 and not said.stdout and "url_time" in said.stderr


def test_warm_brings_everything_in_and_evict_forgets_it(bucket, s3, s3mount):
    for i in range(12):
        put(bucket, f"d/{i}", data_of(MIB + i, seed=i))
    m = s3mount(f"s3://{bucket.name}")
    said = mounting.control("warm", m / "d", env=m.env, timeout=60)
    assert said.returncode == 0, said.stderr
    assert "12 files" in said.stderr
    assert all(os.getxattr(m / f"d/{i}", "user.s3.cached") == b"100" for i in range(12))
    s3.pause()
    try:
        assert all((m / f"d/{i}").read_bytes() == data_of(MIB + i, seed=i) for i in range(12))
    finally:
        s3.resume()
    listed = mounting.control("cache", "ls", m.path, env=m.env)
    assert listed.returncode == 0 and len(re.findall(r"^100%", listed.stdout, re.M)) == 12, listed.stdout + listed.stderr
    verified = mounting.control("cache", "verify", m.path, env=m.env)
    assert verified.returncode == 0 and "0 bad" in verified.stdout, verified.stdout + verified.stderr
    said = mounting.control("evict", m / "d/3", env=m.env)
    assert said.returncode == 0, said.stderr
    assert os.getxattr(m / "d/3", "user.s3.cached") == b"0"


def on_a_terminal(*command: Any, env: dict[str, str], input: bytes = b"") -> tuple[int, str]:
    """Run with a terminal of 100 columns as its standard error: its status, and all that was written there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    run = subprocess.Popen([*map(str, command)], env=env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    run.stdin.write(input)
    run.stdin.close()
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # as a terminal ends
        pass
    os.close(ours)
    return run.wait(60), shown.decode()


@pytest.mark.parametrize("by_names", [False, True])
def test_warm_shows_on_a_terminal_how_far_it_is(bucket, s3, s3mount, by_names):
    for i in range(3):
        put(bucket, f"d/{i}", data_of(4 * MIB, seed=i))
    with S3Proxy(s3.port) as slow:
        slow.latency_s = 0.3
        m = s3mount(f"s3://{bucket.name}", **s3.options(slow.url))
        names = "".join(f"{m / 'd'}/{i}\n" for i in range(3)).encode() if by_names else b""
        what = () if by_names else (m / "d",)
        status, shown = on_a_terminal(mounting.BUILD / "fs" / "butlerfsctl", "warm", *what, env=m.env, input=names)
        assert status == 0, shown
        lines = shown.replace("\33[K", "").split("\r")
        assert re.match(r"\[-{30}\]   0 %  0/3 files here, .* of 12\.0 MiB", lines[1]), lines
        assert any(re.match(r"\[#+-*\] ", line) and "/s" in line for line in lines), lines
        assert all(len(line) < 100 for line in lines)
        assert re.search(r"3/3 files here, 12\.0 MiB of 12\.0 MiB, .*/s, 0 failed", lines[-2] + lines[-1]), lines
        m.unmount()


def test_who_may_read_may_warm_but_only_administrators_pin(bucket, s3mount):
    put(bucket, "f", b"abc")
    m = s3mount(f"s3://{bucket.name}")
    nobody = {"user": 65534, "group": 65534, "extra_groups": ()}
    said = mounting.control("warm", "--pin", m / "f", env=m.env, **nobody)
    assert said.returncode == 1 and "may pin" in said.stderr
    assert os.getxattr(m / "f", "user.s3.cached") == b"0"
    said = mounting.control("warm", m / "f", env=m.env, **nobody)
    assert said.returncode == 0, said.stderr
    said = mounting.control("warm", "--pin", m / "f", env=m.env)
    assert said.returncode == 0, said.stderr


def test_a_url_is_only_for_who_may_read(bucket, s3mount):
    put(bucket, "f", b"abc")
    m = s3mount(f"s3://{bucket.name}", umask="077")
    said = mounting.control("url", m / "f", env=m.env, user=65534, group=65534, extra_groups=())
    assert said.returncode != 0 and "http" not in said.stdout + said.stderr


def test_warm_reads_names_from_standard_input(bucket, s3mount):
    put(bucket, "a", b"1")
    put(bucket, "b", b"2")
    m = s3mount(f"s3://{bucket.name}")
    said = mounting.control("warm", "--quiet", "-0", env=m.env, input=f"{m / 'a'}\0{m / 'b'}\0")
    assert said.returncode == 0, said.stderr
    assert os.getxattr(m / "a", "user.s3.cached") == os.getxattr(m / "b", "user.s3.cached") == b"100"
    said = mounting.control("warm", m / "none", env=m.env)
    assert said.returncode == 1 and "none" in said.stderr


def test_every_byte_of_many_files_is_right_whoever_reads(bucket, s3mount):
    """A real copy, by a program that knows nothing of us."""
    sums = {}
    for i in range(40):
        data = data_of(i * 7919 % (3 * MIB), seed=i)
        put(bucket, f"d{i % 3}/f{i}", data)
        sums[f"d{i % 3}/f{i}"] = hashlib.sha256(data).hexdigest()
    m = s3mount(f"s3://{bucket.name}")
    for _ in range(2):
        got = subprocess.run(["sha256sum", *sorted(sums)], cwd=m.path, capture_output=True, text=True, check=True)
        assert {line.split()[1]: line.split()[0] for line in got.stdout.splitlines()} == sums


# ---- keys that are hard to name, on a server of the tests' own: those over folders can't hold them


def hard_keys() -> list[bytes]:
    keys = [b"a", b"a/b", b"a/b/c", b"a//b", b"a//", b"/", b"/x", b"//", b"//x", b"x//y//z", b"d/", b"d/e", b"m/", b"t/ /",
            b".", b"..", b"./x", b"../x", b"x/./y", b"x/../y", b"x/.", b".hidden/.z", b"a%", b"a%/b", b"a%2Fb", b"%", b"%/%",
            b"~", b"q~0123456789abcdef", b"q~0123456789abcdef.fits", b"new\nline", b"tab\tand\x01\x7f", b"\xff\xfe/\x80", b"\xc3\xbc",
            b" ", b" /x", b"+&=?#<>\"'\\", b"n" * 255, b"n" * 256, b"n" * 300 + b".fits", b"n" * 300 + b"/x", b"n" * 400 + b"a",
            b"n" * 400 + b"b", b"\x01" * 100, b"k" * 1024, (b"p" * 100 + b"/") * 10 + b"z" * 14, b"%" * 200]  # fmt: skip
    assert max(map(len, keys)) == 1024
    return keys


def test_every_key_however_hard_is_one_file_and_none_is_two(mount):
    from fakes3 import FakeS3

    objects = {key: b"bytes of " + key for key in hard_keys()}
    objects[b"m/"] = objects[b"t/ /"] = b""  # markers of folders, which are no files
    files = {data for key, data in objects.items() if data}
    with FakeS3(objects) as server:
        m = mount("s3://hard", endpoint=server.url, anonymous="on", region="us-east-1", refresh=None)
        found = mounting.walk(os.fsencode(str(m.path)))
        paths = [m.at(p) for p, st in found.items() if st.st_mode & 0o170000 != 0o040000]
        assert len(paths) == len(files)
        read = [Path(os.fsdecode(p)).read_bytes() for p in paths]
        assert set(read) == files
        assert all(len(part) <= 255 for p in paths for part in p.split(b"/"))
        assert os.path.isdir(m / "m") and os.listdir(m / "m") == []
        fresh = mount("s3://hard", endpoint=server.url, anonymous="on", region="us-east-1", refresh=None)
        for path in paths:  # by its name alone, where nothing was listed
            below = os.path.relpath(path, os.fsencode(str(m.path)))
            assert os.stat(fresh.at(below)).st_size == os.stat(path).st_size
