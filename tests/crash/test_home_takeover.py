# SPDX-License-Identifier: BSD-3-Clause
"""The daemon of a home space is killed while users write: nothing is done twice, nothing is lost."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

import mounting
import pytest

pytestmark = pytest.mark.usefixtures("root_only")

LOAD = Path(__file__).with_name("home_load.py")
SECONDS = float(os.environ.get("BUTLERFS_CRASH_SECONDS", "6"))
SEED = int(os.environ.get("BUTLERFS_TEST_SEED", "1"))


@pytest.fixture
def home(mount, tmp_path_factory):
    below = tmp_path_factory.mktemp("below")
    return mount(f"home:{below}", limit=120)


@pytest.mark.parametrize("passthrough", ["on", "off"])
def test_each_change_is_made_once_however_often_the_daemon_dies(mount, tmp_path_factory, passthrough):
    m = mount(f"home:{tmp_path_factory.mktemp('below')}", limit=120, passthrough=passthrough)
    users = []
    for k in range(4):
        folder = m / f"user{k}"
        folder.mkdir()
        users.append(subprocess.Popen([sys.executable, str(LOAD), str(folder), str(SECONDS), str(SEED + k), "orphans"], stdout=subprocess.PIPE, text=True))
    end, kills = time.monotonic() + SECONDS, 0
    while time.monotonic() < end - 0.5:
        time.sleep(0.4)
        m.kill_daemon()
        kills += 1
    results = [json.loads(u.communicate(timeout=60)[0]) for u in users]
    assert not [r["error"] for r in results if "error" in r]
    assert kills > 5 and m.status()["lives"] > 5
    assert all(sum(r["done"].values()) > 50 for r in results), results


def test_what_is_open_stays_open(home):
    path = home / "file"
    path.write_bytes(b"x" * 8192)
    with open(path, "r+b", buffering=0) as f, open(path, "rb", buffering=0) as reader:
        fcntl.lockf(f, fcntl.LOCK_EX)
        memory = mmap.mmap(f.fileno(), 8192)
        memory[0:3] = b"map"
        os.unlink(path)
        folder = os.open(home.path, os.O_RDONLY)
        home.kill_daemon()
        assert os.pread(reader.fileno(), 3, 0) == b"map"
        f.seek(8192)
        f.write(b"after")
        memory[3:6] = b"ped"
        assert os.pread(f.fileno(), 6, 0) == b"mapped" and os.pread(reader.fileno(), 5, 8192) == b"after"
        assert os.fstat(f.fileno()).st_size == 8197
        os.ftruncate(f.fileno(), 8000)
        os.fsync(f.fileno())
        assert os.fstat(reader.fileno()).st_size == 8000
        assert os.listdir(folder) == []
        os.close(folder)
        memory.close()


def test_a_listing_goes_on_where_it_was(home):
    names = {f"entry-{i}" for i in range(3000)}
    for name in names:
        (home / name).touch()
    got = []
    with os.scandir(home.path) as entries:
        for i, e in enumerate(entries):
            got.append(e.name)
            if i in (10, 1500):
                home.kill_daemon()
    assert len(got) == 3000 and set(got) == names


def test_an_unlinked_file_that_the_kernel_may_not_read_by_itself_stays_open(mount, tmp_path):
    """Passthrough is on, but not for what is on an overlayfs (stack=over): nobody but the daemon holds such a file."""
    subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path], check=True)
    below = tmp_path / "merged"
    try:
        for name in ("lower", "upper", "work", "merged"):
            (tmp_path / name).mkdir()
        folders = ",".join(f"{name}dir={tmp_path / name}" for name in ("lower", "upper", "work"))
        made = subprocess.run(["mount", "-t", "overlay", "none", "-o", f"{folders},index=on,nfs_export=on", below], capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"no overlayfs can be mounted: {made.stderr}")
        home = mount(f"home:{below}", quota="off", limit=120)
        assert home.status()["modes"]["passthrough"] == "on"
        for last in (os.unlink, lambda path: os.rename(home / "other", path)):
            (home / "other").write_bytes(b"other")
            (home / "file").write_bytes(b"kept")
            with open(home / "file", "r+b", buffering=0) as f:
                opened = home.counters()
                assert opened["open_cached"] > 0 and opened["open_passthrough"] == 0
                last(home / "file")
                home.kill_daemon()
                f.seek(4)
                f.write(b" still")
                assert os.pread(f.fileno(), 20, 0) == b"kept still"
        home.unmount()
    finally:
        subprocess.run(["umount", "-l", below, tmp_path], check=False)
