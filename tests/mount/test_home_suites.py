# SPDX-License-Identifier: BSD-3-Clause
"""What others test file systems with, on a home: a lean round of each; how to run more is in tests/README.md."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mounting
import pytest
from acting import ALICE, by

pytestmark = pytest.mark.usefixtures("root_only")

# What stress-ng has for file systems, but for what is slow to begin, needs devices, or is about /proc and /sys.
STRESSORS = ["access", "chattr", "chdir", "chmod", "chown", "copy-file", "dentry", "dir", "dirdeep", "dirmany", "dup", "eventfd", "fallocate", "fault",
             "fcntl", "fiemap", "file-ioctl", "filename", "flock", "fpunch", "fsize", "fstat", "getdent", "handle", "hdd", "inode-flags", "inotify", "io",
             "iomix", "lease", "link", "locka", "lockf", "lockofd", "mknod", "mmapaddr", "open", "rename", "revio", "seek", "sendfile", "symlink",
             "sync-file", "touch", "unlink", "utime", "verity", "xattr"]  # fmt: skip
CPYTHON = ["test_os", "test_shutil", "test_fcntl", "test_mmap", "test_fileio", "test_tempfile"]


@pytest.fixture
def home(mount, place, request):
    below = place / request.node.name
    (below / "alice").mkdir(parents=True)
    below.chmod(0o755)
    os.chown(below / "alice", ALICE, ALICE)
    mounted = mount(f"home:{below}", ledger_dir=place / f"ledger-{request.node.name}", suid=None, dev=None)
    yield mounted
    checked = mounting.control("quota", "check", mounted.path, timeout=120)
    assert (checked.returncode, checked.stdout) == (0, "all is as it is counted\n"), checked.stdout + checked.stderr


def need(program: str) -> str:
    found = shutil.which(program)
    if not found:
        pytest.skip(f"{program} is not installed")
    return found


def run(*words: object, **how) -> subprocess.CompletedProcess:
    return subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=180, **how)


def test_fio_reads_what_it_wrote(home, tmp_path):
    need("fio")
    for number, how in enumerate((["--ioengine=psync", "--bs=512-64k"], ["--ioengine=mmap", "--bs=4k"],
                                  ["--ioengine=libaio", "--iodepth=8", "--direct=1", "--bs=4k"])):  # fmt: skip
        at = home.path / "alice" / str(number)
        by(ALICE, at.mkdir)
        done = run("fio", "--name=x", f"--directory={at}", "--rw=randrw", "--size=6m", "--verify=crc32c", "--numjobs=2", *how, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr


def test_stress_ng_finds_nothing(home):
    need("stress-ng")
    known = run("stress-ng", "--help").stdout
    words = [w for s in STRESSORS if re.search(rf"--{s} N", known) for w in (f"--{s}", "1", f"--{s}-ops", "20")]
    assert len(words) > 120
    at = home.path / "alice"
    done = run("stress-ng", *words, "--verify", "--timeout", "8s", "--temp-path", at)
    said = done.stdout + done.stderr
    assert "fail:" not in said and done.returncode in (0, 4), said  # 4: one could not be run here


def test_the_tests_of_pythons_own_library_pass(home):
    at = home.path / "tmp"
    at.mkdir()
    done = run(sys.executable, "-m", "test", *CPYTHON, env={**os.environ, "TMPDIR": str(at)}, cwd=at)
    if "No module named" in done.stderr:
        pytest.skip("this Python came without its tests")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr


def test_pjdfstest_finds_what_native_file_systems_have(home, place, tmp_path):
    program = need("pjdfstest")
    config = tmp_path / "pjdfstest.toml"
    config.write_text('[features]\nposix_fallocate = {}\nrename_ctime = {}\nstat_st_birthtime = {}\nutimensat = {}\nutime_now = {}\n'
                      '[settings]\nnaptime = 0.01\n[dummy_auth]\nentries = [["nobody", "nogroup"], ["games", "games"], ["daemon", "daemon"]]\n')  # fmt: skip
    done = run(program, "-c", config, "-p", home.path, "-s", place)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert sum(words[-1:] == ["ok"] for words in lines) > 350, done.stdout[-2000:] + done.stderr
    assert [words[0] for words in lines if len(words) == 2 and words[1] == "FAILED"] == []


@pytest.mark.parametrize("seed", [1, 2])
def test_fsx_finds_in_a_file_what_it_put_there(home, tmp_path, seed):
    """Random reads, writes, maps, truncations, holes and copies; no sendfile, which a writer's descriptor refuses."""
    program = need("fsx")
    config = tmp_path / "fsx.toml"
    config.write_text("[weights]\nclose_open = 1\nfsync = 1\nposix_fallocate = 5\npunch_hole = 5\ncopy_file_range = 5\n")
    done = run(program, "-f", config, "-N", "3000", "-S", seed, home.path / "alice" / "file", cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
