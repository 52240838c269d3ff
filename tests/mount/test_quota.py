# SPDX-License-Identifier: BSD-3-Clause
"""Quotas as users meet them: what is charged to whom, what has no room, and that it all adds up."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import mmap
import multiprocessing
import os
import pwd
import resource
import subprocess
import time
from pathlib import Path

import mounting
import pytest
from acting import ALICE, BOB, STAFF, by, lay_homes
from hammer import hammer
from mounting import quota

pytestmark = pytest.mark.usefixtures("root_only")

KIB = 1024
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2
AT_FDCWD, AT_SYMLINK_FOLLOW = -100, 0x400


@pytest.fixture
def below(place, request) -> Path:
    return lay_homes(place / request.node.name)


@pytest.fixture
def home(mount, below, place, request):
    return mount(f"home:{below}", ledger_dir=place / f"ledger-{request.node.name}")


@pytest.fixture
def alice(home) -> Path:
    return home.path / str(ALICE)


def used(mount, kind: str, number: int) -> tuple[int, int]:
    owners = json.loads(quota(mount, "report", "--json"))["owners"]
    return next(((o["used_bytes"], o["used_files"]) for o in owners if (o["kind"], o["id"]) == (kind, number)), (0, 0))


def limit(mount, kind: str, number: int | str, **limits) -> None:
    quota(mount, "set", kind, str(number), *(f"--{k.replace('_', '-')}={v}" for k, v in limits.items()))


def assert_counted(mount) -> None:
    checked = mounting.control("quota", "check", mount.path)
    assert (checked.returncode, checked.stdout) == (0, "all is as it is counted\n"), checked.stdout + checked.stderr


def error(function, *args, **how) -> str:
    with pytest.raises(OSError) as e:
        function(*args, **how)
    return errno.errorcode[e.value.errno]


def write(path: Path, size: int, mode: str = "wb") -> int:
    with path.open(mode, buffering=0) as f:
        return f.write(b"x" * size)


def fallocate(path: Path, mode: int, offset: int, length: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_WRONLY)
    try:
        if libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(fd)


# ---- what has no room ----------------------------------------------------------------------------


def test_a_write_has_room_to_the_byte(home, alice):
    limit(home, "user", ALICE, hard_bytes=10000)
    assert by(ALICE, write, alice / "a", 10000) == 10000
    assert error(by, ALICE, write, alice / "a", 1, "ab") == "EDQUOT"
    assert error(by, ALICE, write, alice / "b", 1) == "EDQUOT"
    assert used(home, "user", ALICE) == (10000, 3)
    assert_counted(home)


def test_what_is_written_over_needs_no_room(home, alice):
    limit(home, "user", ALICE, hard_bytes=10000)
    by(ALICE, write, alice / "a", 10000)
    assert by(ALICE, write, alice / "a", 10000, "r+b") == 10000
    assert used(home, "user", ALICE) == (10000, 2)


def test_a_file_has_room_or_not_when_it_is_made(home, alice):
    limit(home, "user", ALICE, hard_files=3)
    by(ALICE, (alice / "a").touch)
    by(ALICE, os.mkdir, alice / "b")
    for make in ((alice / "c").touch, lambda: os.mkdir(alice / "c"), lambda: os.symlink("a", alice / "c"), lambda: os.mkfifo(alice / "c")):
        assert error(by, ALICE, make) == "EDQUOT"
    by(ALICE, os.link, alice / "a", alice / "c")  # another name is no other file
    assert used(home, "user", ALICE) == (0, 3)
    by(ALICE, os.unlink, alice / "a")
    by(ALICE, os.rmdir, alice / "b")
    by(ALICE, (alice / "d").touch)
    assert_counted(home)


def test_truncate_and_fallocate_and_copies_need_room(home, alice):
    limit(home, "user", ALICE, hard_bytes=64 * KIB)
    by(ALICE, write, alice / "a", 40 * KIB)
    assert error(by, ALICE, os.truncate, alice / "a", 64 * KIB + 1) == "EDQUOT"
    assert error(by, ALICE, fallocate, alice / "a", 0, 0, 64 * KIB + 1) == "EDQUOT"
    assert error(by, ALICE, fallocate, alice / "a", FALLOC_FL_KEEP_SIZE, 60 * KIB, 5 * KIB) == "EDQUOT"

    def copy() -> int:
        with (alice / "a").open("rb") as source, (alice / "b").open("wb") as target:
            return os.copy_file_range(source.fileno(), target.fileno(), 40 * KIB)

    assert error(by, ALICE, copy) == "EDQUOT"
    by(ALICE, os.truncate, alice / "a", 10 * KIB)
    by(ALICE, fallocate, alice / "a", FALLOC_FL_KEEP_SIZE, 0, 30 * KIB)
    assert used(home, "user", ALICE)[0] == 30 * KIB  # the end of what is reserved
    assert_counted(home)
    by(ALICE, os.truncate, alice / "a", 20 * KIB)  # longer: what is reserved stays (ext4), and is charged
    assert used(home, "user", ALICE)[0] == 30 * KIB
    assert_counted(home)
    by(ALICE, os.truncate, alice / "a", 40 * KIB)
    assert used(home, "user", ALICE)[0] == 40 * KIB
    by(ALICE, fallocate, alice / "a", FALLOC_FL_KEEP_SIZE, 0, 50 * KIB)
    by(ALICE, os.truncate, alice / "a", 40 * KIB)  # as long as it was: what is reserved goes
    assert used(home, "user", ALICE)[0] == 40 * KIB
    assert_counted(home)
    by(ALICE, os.truncate, alice / "a", 0)
    assert used(home, "user", ALICE)[0] == 0
    assert_counted(home)


def test_what_has_no_room_changes_nothing(home, alice, below):
    limit(home, "user", ALICE, hard_bytes=10000)
    by(ALICE, write, alice / "a", 5000)
    by(ALICE, os.chmod, alice / "a", 0o4755)
    for change in (lambda: write(alice / "a", 6000, "ab"), lambda: os.truncate(alice / "a", 10001),
                   lambda: fallocate(alice / "a", 0, 0, 10001), lambda: fallocate(alice / "a", FALLOC_FL_KEEP_SIZE, 0, 10001)):  # fmt: skip
        assert error(by, ALICE, change) == "EDQUOT"
        for a in (alice / "a", below / str(ALICE) / "a"):
            assert (a.stat().st_mode & 0o7777, a.stat().st_size) == (0o4755, 5000)


def test_a_sparse_file_costs_its_length(home, alice):
    limit(home, "user", ALICE, hard_bytes="1G")
    by(ALICE, write, alice / "a", 1)
    by(ALICE, os.truncate, alice / "a", 1 << 30)
    assert used(home, "user", ALICE)[0] == 1 << 30

    def store() -> None:
        with (alice / "a").open("r+b") as f, mmap.mmap(f.fileno(), 1 << 20) as m:
            m[5000] = 7

    by(ALICE, store)
    assert used(home, "user", ALICE)[0] == 1 << 30
    assert_counted(home)


def test_deleting_always_works(home, alice):
    by(ALICE, write, alice / "a", 5000)
    limit(home, "user", ALICE, hard_bytes=1, hard_files=1)
    by(ALICE, os.truncate, alice / "a", 10)
    by(ALICE, os.rename, alice / "a", alice / "b")
    by(ALICE, os.unlink, alice / "b")
    assert used(home, "user", ALICE) == (0, 1)


def test_over_the_soft_limit_there_is_the_time_of_grace(home, alice):
    limit(home, "user", ALICE, soft_bytes=1000, hard_bytes=5000, grace="1s")
    by(ALICE, write, alice / "a", 2000)
    by(ALICE, write, alice / "a", 100, "ab")
    assert "over its soft limit" in quota(home, "report")
    time.sleep(1.2)
    assert error(by, ALICE, write, alice / "a", 1, "ab") == "EDQUOT"
    by(ALICE, os.truncate, alice / "a", 1000)
    by(ALICE, write, alice / "a", 1000, "ab")
    assert home.status()["counters"]["quota_denied"] >= 1


def test_root_and_who_is_exempt_may_go_beyond(mount, below, place):
    home = mount(f"home:{below}", ledger_dir=place / "ledger-exempt", quota_exempt=BOB)
    alice = home.path / str(ALICE)
    (below / str(ALICE)).chmod(0o777)
    limit(home, "user", "default", hard_bytes=10)
    assert error(by, ALICE, write, alice / "a", 11) == "EDQUOT"
    write(alice / "root", 11)
    by(BOB, write, alice / "bob", 11)
    assert used(home, "user", BOB)[0] == 11
    assert_counted(home)


def test_who_is_over_his_quota_may_still_write_what_a_session_needs(mount, below, place):
    home = mount(f"home:{below}", ledger_dir=place / "ledger-reserve", quota_reserve="8K")
    alice = home.path / str(ALICE)
    by(ALICE, (alice / ".cache" / "deep").mkdir, 0o777, True)
    limit(home, "user", ALICE, hard_bytes=10000, hard_files=4)
    by(ALICE, write, alice / "a", 10000)
    assert error(by, ALICE, write, alice / "a", 1, "ab") == "EDQUOT"
    assert error(by, ALICE, (alice / "b").touch) == "EDQUOT"
    assert by(ALICE, write, alice / ".cache" / "deep" / "history", 8 * KIB) == 8 * KIB
    assert error(by, ALICE, write, alice / ".cache" / "deep" / "history", 1, "ab") == "EDQUOT"
    by(ALICE, (alice / ".bash_history").touch)
    by(ALICE, os.rename, alice / ".cache" / "deep" / "history", alice / "history")
    assert error(by, ALICE, write, alice / ".more", 1) == "EDQUOT"  # it is used up
    assert used(home, "user", ALICE)[0] == 10000 + 8 * KIB
    with (alice / ".cache" / "none").open("w"):  # root's, who has no limit
        pass
    assert error(by, ALICE, os.mkdir, alice / "folder") == "EDQUOT"
    assert_counted(home)


# ---- whose it is -----------------------------------------------------------------------------------


def test_a_file_costs_its_owner_and_its_group(home, alice):
    by(ALICE, write, alice / "a", 700)
    assert used(home, "user", ALICE)[0] == used(home, "group", ALICE)[0] == 700
    by(ALICE, os.chown, alice / "a", -1, STAFF, groups=[STAFF])
    assert (used(home, "group", ALICE)[0], used(home, "group", STAFF)[0]) == (0, 700)
    os.chown(alice / "a", BOB, -1)
    assert (used(home, "user", ALICE)[0], used(home, "user", BOB)[0]) == (0, 700)
    assert_counted(home)


def test_a_group_that_is_full_takes_no_more(home, alice):
    limit(home, "group", STAFF, hard_bytes=1000)
    by(ALICE, write, alice / "a", 1001)
    assert error(by, ALICE, os.chown, alice / "a", -1, STAFF, groups=[STAFF]) == "EDQUOT"
    by(ALICE, os.truncate, alice / "a", 1000)
    by(ALICE, os.chown, alice / "a", -1, STAFF, groups=[STAFF])
    assert used(home, "group", STAFF) == (1000, 1)


def test_what_is_renamed_over_costs_nothing_any_more(home, alice):
    by(ALICE, write, alice / "a", 100)
    by(ALICE, write, alice / "b", 5000)
    by(ALICE, os.rename, alice / "a", alice / "b")
    assert used(home, "user", ALICE) == (100, 2)
    assert_counted(home)


def test_an_unlinked_file_costs_until_it_is_closed(home, alice):
    by(ALICE, write, alice / "a", 5000)
    fd = os.open(alice / "a", os.O_RDWR)
    by(ALICE, os.unlink, alice / "a")
    assert used(home, "user", ALICE) == (5000, 2)
    assert_counted(home)  # a walk doesn't meet it, and it is counted all the same
    os.ftruncate(fd, 100)
    assert used(home, "user", ALICE) == (100, 2)
    os.close(fd)
    mounting.eventually(lambda: used(home, "user", ALICE) == (0, 1), 10)
    assert_counted(home)


def test_who_opens_a_file_without_a_name_as_another_closes_it_pays_once(home, alice):
    def race() -> None:
        for _ in range(1000):
            write(alice / "a", 1000)
            fd, path_only = os.open(alice / "a", os.O_RDONLY), os.open(alice / "a", os.O_PATH)
            os.unlink(alice / "a")
            os.close(fd)  # the kernel tells of it without waiting for an answer, and of the next at once
            with contextlib.suppress(OSError):
                os.close(os.open(f"/proc/self/fd/{path_only}", os.O_RDONLY))
            os.close(path_only)

    by(ALICE, race)
    mounting.eventually(lambda: used(home, "user", ALICE) == (0, 1), 10)
    assert_counted(home)


def _make_and_remove(folder: Path, ready) -> int:
    """How often there was no descriptor left for it."""
    met = 0
    ready.wait()
    for n in range(400):
        for act in ((folder / "d").mkdir, lambda: os.mkfifo(folder / f"p{n % 5}"), (folder / "d").rmdir, (folder / f"p{n % 5}").unlink):
            try:
                act()
            except FileNotFoundError:
                pass
            except OSError as e:
                if e.errno not in (errno.EMFILE, errno.EEXIST):
                    raise
                met += e.errno == errno.EMFILE
    return met


def test_what_is_made_is_charged_where_the_daemon_has_no_descriptor_left(home, alice):
    folders = [alice / f"by{n}" for n in range(4)]
    for folder in folders:
        by(ALICE, folder.mkdir)
    pid = home.pid()
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    with multiprocessing.Manager() as manager, multiprocessing.Pool(4) as pool:
        ready = manager.Barrier(5)
        all_met = pool.starmap_async(_make_and_remove, [(folder, ready) for folder in folders])
        used_now = {int(p.name) for p in Path(f"/proc/{pid}/fd").iterdir()}
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(set(range(9999)) - used_now) + 2, limits[1]))
        ready.wait()
        try:
            assert sum(all_met.get(60)) > 0
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    assert_counted(home)


def test_a_temporary_file_without_a_name_costs_until_it_is_closed(home, alice):
    def temporary() -> tuple:
        fd = os.open(alice, os.O_TMPFILE | os.O_RDWR, 0o600)
        os.write(fd, b"x" * 300)
        return os.fstat(fd).st_nlink

    assert by(ALICE, temporary) == 0
    mounting.eventually(lambda: used(home, "user", ALICE) == (0, 1), 10)


def test_a_file_without_a_name_that_everybody_closed_gets_none_and_costs_nothing(home, alice):
    def named_too_late() -> tuple:
        fd = os.open(alice, os.O_TMPFILE | os.O_RDWR, 0o600)
        os.write(fd, b"x" * 300)
        os.fchmod(fd, 0o640)
        path = os.open(f"/proc/self/fd/{fd}", os.O_PATH)
        os.close(fd)
        time.sleep(0.5)  # the kernel tells of the close when it likes
        libc = ctypes.CDLL(None, use_errno=True)
        done = libc.linkat(AT_FDCWD, f"/proc/self/fd/{path}".encode(), AT_FDCWD, bytes(alice / "late"), AT_SYMLINK_FOLLOW)
        return ctypes.get_errno() if done < 0 else 0, os.listdir(alice)

    assert by(ALICE, named_too_late) == (errno.ENOENT, [])
    assert used(home, "user", ALICE) == (0, 1)
    assert_counted(home)


# ---- what would not be counted -------------------------------------------------------------------------


def test_a_path_descriptor_keeps_nothing_of_an_unlinked_file(home, alice):
    def kept() -> list[str]:
        links = [os.readlink(p) for p in Path(f"/proc/{home.pid()}/fd").iterdir()]
        return [to for to in links if to.endswith("(deleted)") and f"/{ALICE}/" in to]

    with contextlib.ExitStack() as descriptors:
        for name, is_open in (("a", False), ("b", True)):
            by(ALICE, write, alice / name, 5000)
            path_only = os.open(alice / name, os.O_PATH)
            descriptors.callback(os.close, path_only)
            fd = os.open(alice / name, os.O_RDONLY) if is_open else -1
            by(ALICE, os.unlink, alice / name)
            if is_open:
                assert os.fstat(fd).st_nlink == 0
                os.close(fd)
        mounting.eventually(lambda: used(home, "user", ALICE) == (0, 1), 10)
        mounting.eventually(lambda: not kept(), 10)


@pytest.fixture
def small(place, request):
    """A disk of 64 MiB, ext4."""
    disk, at = place / f"{request.node.name}.img", place / f"{request.node.name}-disk"
    with disk.open("wb") as f:
        f.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", disk], check=True)
    at.mkdir()
    if subprocess.run(["mount", "-o", "loop", disk, at], capture_output=True).returncode != 0:
        pytest.skip("no loop device can be mounted here")
    try:
        (at / "alice").mkdir()
        os.chown(at / "alice", ALICE, ALICE)
        yield at
    finally:
        subprocess.run(["umount", at], check=True)


def test_what_a_failed_reservation_left_is_given_back(mount, place, small):
    """ext4 leaves what it had found room for when the disk was full."""
    home = mount(f"home:{small}", ledger_dir=place / "ledger-small")
    alice = home.path / "alice"
    for mode, before in ((FALLOC_FL_KEEP_SIZE, 0), (0, 0), (FALLOC_FL_KEEP_SIZE, 8 * KIB)):
        by(ALICE, write, alice / "a", 4 * KIB)
        if before:
            by(ALICE, fallocate, alice / "a", FALLOC_FL_KEEP_SIZE, 0, before)
        assert error(fallocate, alice / "a", mode, 0, 200 << 20) == "ENOSPC"  # root, whom the file system below refuses
        st = os.stat(small / "alice" / "a")
        assert st.st_blocks * 512 <= used(home, "user", ALICE)[0] + 8 * KIB  # an attribute has a block of its own
        assert_counted(home)
    home.unmount()


def test_what_the_disk_keeps_for_root_is_not_for_users(mount, place, small):
    home = mount(f"home:{small}", ledger_dir=place / "ledger-reserved")
    alice = home.path / "alice"
    whole = os.statvfs(small)
    kept = (whole.f_bfree - whole.f_bavail) * whole.f_frsize
    assert kept > 2 << 20

    def free() -> int:
        os.sync()
        return os.statvfs(small).f_bfree * whole.f_frsize

    def fill() -> str:
        (alice / "sparse").touch()
        os.truncate(alice / "sparse", 20 << 20)
        with (alice / "sparse").open("r+b", buffering=0) as sparse, (alice / "a").open("wb", buffering=0) as f:
            sparse.write(b"x" * 64 * KIB)
            while f.write(b"x" * 64 * KIB):
                pass
        return ""

    def fill_on(offset: int) -> int:
        with (alice / "sparse").open("r+b", buffering=0) as f:
            return os.pwrite(f.fileno(), b"y" * 64 * KIB, offset)

    def copy() -> int:
        with (alice / "a").open("rb") as source, (alice / "b").open("wb") as target:
            return os.copy_file_range(source.fileno(), target.fileno(), 1 << 20)

    assert error(by, ALICE, fill) == "ENOSPC"
    assert kept - (64 << 10) <= free() <= kept + (256 << 10)
    assert error(by, ALICE, fill_on, 10 << 20) == "ENOSPC"  # a hole
    assert by(ALICE, fill_on, 0) == 64 * KIB  # what has its blocks
    assert by(ALICE, write, alice / "a", 1 << 20, "r+b") == 1 << 20
    by(ALICE, (alice / "c").touch)
    assert error(by, ALICE, fallocate, alice / "c", FALLOC_FL_KEEP_SIZE, 0, 1 << 20) == "ENOSPC"
    assert error(by, ALICE, copy) == "ENOSPC"
    assert write(alice / "root", 1 << 20) == 1 << 20
    by(ALICE, (alice / "a").unlink)
    mounting.eventually(lambda: by(ALICE, write, alice / "b", 1 << 20) == 1 << 20, 10)
    assert_counted(home)
    home.unmount()


def test_a_file_of_absurd_length_can_be_unlinked(mount, place):
    at = place / "vast"
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", at], check=True)
    try:
        for name in ("a", "b", "c"):
            (at / name).touch()
            os.truncate(at / name, (1 << 63) - 4096)
            os.chown(at / name, ALICE, ALICE)
        at.chmod(0o777)
        home = mount(f"home:{at}", ledger_dir=place / "ledger-vast")
        mounting.eventually(lambda: used(home, "user", ALICE)[1] == 3, 10)
        by(ALICE, os.truncate, home.path / "b", 10)
        by(ALICE, os.rename, home.path / "b", home.path / "c")
        by(ALICE, os.unlink, home.path / "a")
        assert used(home, "user", ALICE) == (10, 1)
        assert_counted(home)
        home.unmount()
    finally:
        subprocess.run(["umount", at], check=True)


def test_attributes_of_a_file_have_a_bound(home, alice):
    def fill() -> int:
        n = 0
        while n < 1000:
            os.setxattr(alice / "a", f"user.{n}", b"x" * 3000)
            n += 1
        return n

    by(ALICE, (alice / "a").touch)
    assert error(by, ALICE, fill) in ("ENOSPC", "EDQUOT")
    kept = os.listxattr(alice / "a")
    assert sum(len(os.getxattr(alice / "a", n)) for n in kept) <= 64 * KIB
    by(ALICE, os.setxattr, alice / "a", kept[0], b"y" * 3000)  # in place of what is there


def _move_files(a: Path, b: Path, count: int) -> None:
    for n in range(1 << 30):
        f = f"f{n % count}"
        there, here = (a, b) if n // count % 2 == 0 else (b, a)
        os.rename(there / f, here / f)


def _move_folders(a: Path, b: Path, count: int) -> None:
    for n in range(1 << 30):
        d = f"d{n % count}"
        there, here = (a, b) if n // count % 2 == 0 else (b, a)
        os.rename(there / d, here / d)


def _link_and_unlink(a: Path, b: Path, count: int) -> None:
    for n in range(1 << 30):
        f = f"f{n % count}"
        there, here = (a, b) if n // count % 2 == 0 else (b, a)
        os.link(there / f, here / f)
        os.unlink(there / f)


@pytest.mark.parametrize("mover", [_move_files, _move_folders, _link_and_unlink])
def test_a_count_ends_and_misses_nothing_while_names_move(home, alice, mover):
    a, b = alice / "a", alice / "b"
    for folder in (a, b):
        by(ALICE, folder.mkdir)
        for n in range(300):
            (folder / f"still{n}").touch()
    for n in range(20):
        (a / f"f{n}").touch()
        (a / f"d{n}").mkdir()
        for k in range(10):
            (a / f"d{n}" / f"in{k}").touch()
    process = multiprocessing.Process(target=mover, args=(a, b, 20))
    process.start()
    try:
        for _ in range(12):
            assert_counted(home)
    finally:
        process.kill()
        process.join()


# ---- trees -------------------------------------------------------------------------------------------


def test_a_tree_has_a_limit_of_its_own(home, alice):
    by(ALICE, os.mkdir, alice / "tree")
    by(ALICE, write, alice / "tree" / "before", 300)
    quota(home, "set", "tree", str(alice / "tree"), "--hard-bytes", "1000")

    def tree() -> dict:
        owners = json.loads(quota(home, "report", "--json"))["owners"]
        return next(o for o in owners if o["kind"] == "tree")

    mounting.eventually(lambda: not tree()["is_recounting"], 20)
    assert (tree()["used_bytes"], tree()["used_files"]) == (300, 2)  # itself, too
    by(ALICE, os.mkdir, alice / "tree" / "sub")
    by(ALICE, write, alice / "tree" / "sub" / "a", 700)
    assert error(by, ALICE, write, alice / "tree" / "sub" / "b", 1) == "EDQUOT"
    by(ALICE, write, alice / "outside", 5000)
    assert error(by, ALICE, os.rename, alice / "outside", alice / "tree" / "outside") == "EXDEV"
    assert error(by, ALICE, os.link, alice / "outside", alice / "tree" / "outside") == "EXDEV"
    assert_counted(home)


def test_a_trees_limit_holds_for_what_was_in_use_before_it_was_set(home, alice):
    (alice / "tree" / "sub").mkdir(parents=True)
    sub = os.open(alice / "tree" / "sub", os.O_RDONLY)
    fd = os.open("a", os.O_CREAT | os.O_WRONLY, dir_fd=sub)
    os.chown("a", ALICE, ALICE, dir_fd=sub)
    quota(home, "set", "tree", str(alice / "tree"), "--hard-bytes", "1000", "--hard-files", "4")

    def tree() -> dict:
        owners = json.loads(quota(home, "report", "--json"))["owners"]
        return next(o for o in owners if o["kind"] == "tree")

    mounting.eventually(lambda: not tree()["is_recounting"], 20)
    os.chmod(alice / "tree", 0o777)
    os.fchmod(sub, 0o777)

    def write_and_make() -> tuple[str, str]:
        os.write(fd, b"x" * 1000)
        too_long = error(os.write, fd, b"x")
        os.close(os.open("b", os.O_CREAT | os.O_WRONLY, dir_fd=sub))
        return too_long, error(os.open, "c", os.O_CREAT | os.O_WRONLY, dir_fd=sub)

    assert by(ALICE, write_and_make) == ("EDQUOT", "EDQUOT")
    assert (tree()["used_bytes"], tree()["used_files"]) == (1000, 4)
    os.close(fd)
    os.close(sub)
    assert_counted(home)


@pytest.mark.parametrize("is_named", [False, True])
def test_the_root_of_a_space_can_be_a_tree(mount, below, place, is_named):
    """With what is made in it by itself, and but for a tree of its own in it."""
    games = pwd.getpwnam("games")
    write(below / str(ALICE) / "before", 300)
    os.chown(below / str(ALICE) / "before", ALICE, ALICE)
    (below / str(BOB) / "inner").mkdir()
    (below / str(BOB) / "inner" / "a").write_bytes(b"x" * 5000)
    how = {"ledger_dir": place / f"ledger-root-tree-{is_named}", "provision": games.pw_uid, "skeleton": place / "root-tree-skeleton"}
    how["skeleton"].mkdir(exist_ok=True)
    (how["skeleton"] / "profile").write_bytes(b"x" * 50)
    if is_named:
        (place / "root-tree-groups").mkdir()
        how["config"] = place / "root-tree.yaml"
        how["config"].write_text(json.dumps({"spaces": {"homes": {"kind": "home", "source": str(below)},
                                                        "groups": {"kind": "group", "source": str(place / "root-tree-groups")}}}))  # fmt: skip
    m = mount("homes" if is_named else f"home:{below}", **how)
    root = m.path / "homes" if is_named else m.path
    alice = root / str(ALICE)

    def tree() -> tuple[int, int]:
        owners = json.loads(quota(m, "report", "--json"))["owners"]
        found = next(o for o in owners if o["kind"] == "tree" and o["path"] == str(root))
        mounting.eventually(lambda: not any(o.get("is_recounting") for o in json.loads(quota(m, "report", "--json"))["owners"]), 20)
        return found["used_bytes"], found["used_files"]

    held = (alice / "before").open("ab", buffering=0)  # known before it was in the tree
    quota(m, "set", "tree", str(root / str(BOB) / "inner"), "--hard-bytes", "10000")
    quota(m, "set", "tree", str(root), "--hard-bytes", "2000")
    tree()
    assert tree() == (300, 3)  # what is in it, without itself
    os.chown(held.fileno(), ALICE, ALICE)
    held.write(b"y" * 700)
    held.close()
    by(ALICE, write, alice / "a", 900)
    assert error(by, ALICE, write, alice / "b", 101) == "EDQUOT"
    assert tree() == (1900, 5)
    by(games.pw_uid, os.listdir, root / "games")
    assert tree() == (1950, 7)
    by(ALICE, os.rename, alice / "a", alice / "c")
    assert error(os.rename, alice / "c", root / str(BOB) / "inner" / "c") == "EXDEV"
    assert os.statvfs(root).f_bavail * os.statvfs(root).f_frsize <= 2000
    m.kill_daemon()
    by(ALICE, os.unlink, alice / "c")
    assert tree() == (1050, 6)
    (below).chmod(0o1777)  # a tree is told to those who may write to it
    told = by(ALICE, mounting.control, "quota", "report", root, "--json")
    assert told.returncode == 0, told.stderr
    assert [o["path"] for o in json.loads(told.stdout)["owners"] if o["kind"] == "tree"] == [str(root)]
    assert_counted(m)


# ---- many ----------------------------------------------------------------------------------------------


def test_users_at_their_limits_never_pass_them_and_it_adds_up(home, below):
    for user in (ALICE, BOB):
        limit(home, "user", user, hard_bytes=100000, hard_files=12)
        limit(home, "group", user, hard_bytes=90000)
    writers = [multiprocessing.Process(target=hammer, args=(home.path / str(user), user, seed, 4.0))
               for user in (ALICE, BOB) for seed in (1, 2, 3)]  # fmt: skip
    for w in writers:
        w.start()
    worst = 0
    while any(w.is_alive() for w in writers):
        worst = max(worst, used(home, "group", ALICE)[0], used(home, "group", BOB)[0])
    for w in writers:
        w.join()
        assert w.exitcode == 0
    assert 45000 < worst <= 90000
    assert home.status()["counters"]["quota_denied"] > 0
    mounting.eventually(lambda: home.status()["counters"]["open_files"] == 0, 10)
    assert_counted(home)
    for user in (ALICE, BOB):
        inodes = {p.lstat().st_ino: p.lstat().st_size if p.is_file() else 0 for p in (below / str(user)).iterdir()}
        assert used(home, "user", user) == (sum(inodes.values()), len(inodes) + 1)
