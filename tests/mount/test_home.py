# SPDX-License-Identifier: BSD-3-Clause
"""A home space: what users do in it, as on the file system below."""

from __future__ import annotations

import errno
import fcntl
import json
import mmap
import os
import socket
import stat
import subprocess
import time
from ctypes import CDLL, byref, c_char, c_int, c_long, get_errno
from pathlib import Path

import mounting
import pytest
from acting import ALICE, BOB, STAFF, by

pytestmark = pytest.mark.usefixtures("root_only")


def tree(at: Path) -> Path:
    at.mkdir()
    at.chmod(0o755)
    for user in (ALICE, BOB):
        home = at / str(user)
        home.mkdir()
        os.chown(home, user, user)
        home.chmod(0o755)
    shared = at / "shared"
    shared.mkdir()
    os.chown(shared, 0, STAFF)
    shared.chmod(0o2770)
    return at


@pytest.fixture(scope="module")
def below(place) -> Path:
    return tree(place / "homes")


@pytest.fixture
def home(mount, below):
    return mount(f"home:{below}")


@pytest.fixture
def alice(home, below, request) -> Path:
    """A new folder of hers on the mount."""
    name = request.node.name.replace("[", "-").rstrip("]")
    path = home / str(ALICE) / name
    by(ALICE, os.mkdir, path)
    return path


def error(function, *args, **how) -> str:
    with pytest.raises(OSError) as e:
        function(*args, **how)
    return errno.errorcode[e.value.errno]


# ---- whose a file is ---------------------------------------------------------------------------


def test_what_a_user_makes_is_his_with_his_umask(alice):
    def make():
        (alice / "file").write_text("hers")
        os.mkdir(alice / "folder")
        os.symlink("file", alice / "link")
        os.mkfifo(alice / "pipe")

    by(ALICE, make, umask=0o027)
    got = {e.name: (e.stat(follow_symlinks=False).st_uid, e.stat(follow_symlinks=False).st_gid, e.stat(follow_symlinks=False).st_mode) for e in os.scandir(alice)}
    assert got == {
        "file": (ALICE, ALICE, stat.S_IFREG | 0o640),
        "folder": (ALICE, ALICE, stat.S_IFDIR | 0o750),
        "link": (ALICE, ALICE, stat.S_IFLNK | 0o777),
        "pipe": (ALICE, ALICE, stat.S_IFIFO | 0o640),
    }


def test_a_file_is_nobody_else_s_at_any_instant(alice, below):
    """Looked at below, as fast as it goes, while files are made."""
    own = below / str(ALICE) / alice.name
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(ALICE)
            os.setuid(ALICE)
            for i in range(400):
                os.close(os.open(alice / f"f{i}", os.O_CREAT | os.O_WRONLY, 0o600))
        finally:
            os._exit(0)
    seen = set()
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        for e in os.scandir(own):
            s = e.stat()
            seen.add((s.st_uid, s.st_gid))
    assert len(os.listdir(own)) == 400
    assert seen <= {(ALICE, ALICE)}


def test_a_setgid_folder_gives_its_group(home):
    folder = home / "shared" / "project"

    def make():
        os.mkdir(folder)
        (folder / "file").write_text("ours")

    by(ALICE, make, groups=[STAFF], umask=0o007)
    assert folder.stat().st_gid == STAFF and folder.stat().st_mode & 0o7777 == 0o2770
    assert (folder / "file").stat().st_gid == STAFF
    assert by(BOB, (folder / "file").read_text, groups=[STAFF]) == "ours"
    assert error(by, BOB, (folder / "file").read_text) == "EACCES"


def test_others_may_what_the_modes_say(alice):
    by(ALICE, (alice / "secret").write_text, "x")
    by(ALICE, os.chmod, alice / "secret", 0o600)
    assert error(by, BOB, (alice / "secret").read_text) == "EACCES"
    assert error(by, BOB, (alice / "new").write_text, "x") == "EACCES"
    assert error(by, BOB, os.unlink, alice / "secret") == "EACCES"
    assert error(by, BOB, os.chmod, alice / "secret", 0o666) == "EPERM"
    assert error(by, BOB, os.chown, alice / "secret", BOB, BOB) == "EPERM"
    assert error(by, BOB, os.truncate, alice / "secret", 0) == "EACCES"
    assert error(by, ALICE, os.chown, alice / "secret", BOB, -1) == "EPERM"


def test_in_a_sticky_folder_only_owners_remove(alice):
    by(ALICE, os.chmod, alice, 0o1777)
    by(ALICE, (alice / "hers").write_text, "x")
    by(BOB, (alice / "his").write_text, "x")
    assert error(by, BOB, os.unlink, alice / "hers") == "EPERM"
    assert error(by, BOB, os.rename, alice / "hers", alice / "mine") == "EPERM"
    by(BOB, os.unlink, alice / "his")


def test_default_acls_are_inherited_in_place_of_the_umask(alice):
    by(ALICE, subprocess.run, ["setfacl", "-m", f"d:u:{BOB}:rwx,d:o:-", str(alice)])
    by(ALICE, (alice / "file").write_text, "for both", umask=0o077)
    assert by(BOB, (alice / "file").read_text) == "for both"
    by(BOB, (alice / "file").write_text, "his word")
    assert (alice / "file").stat().st_mode & 0o777 == 0o660
    os.chown(alice / "file", -1, -1)
    text = subprocess.run(["getfacl", "-npc", str(alice / "file")], capture_output=True, text=True, check=True).stdout
    assert f"user:{BOB}:rw" in text


def test_writing_takes_a_set_user_id_bit_away(alice):
    path = alice / "tool"

    def write():
        path.write_text("x")
        os.chmod(path, 0o6777)

    by(ALICE, write)
    assert path.stat().st_mode & 0o7777 == 0o6777

    def append():
        with open(path, "a") as f:
            f.write("y")

    by(BOB, append)
    assert path.stat().st_mode & 0o7777 == 0o777
    by(ALICE, os.chmod, path, 0o6777)
    by(BOB, os.truncate, path, 1)
    assert path.stat().st_mode & 0o7777 == 0o777
    by(ALICE, os.chmod, path, 0o6777)

    def reserve():
        with open(path, "r+b") as f:
            os.posix_fallocate(f.fileno(), 0, 5000)

    by(BOB, reserve)
    assert path.stat().st_mode & 0o7777 == 0o777 and path.stat().st_size == 5000
    by(ALICE, os.chmod, path, 0o6777)

    def copy():
        with open(path, "r+b") as f:
            return os.copy_file_range(f.fileno(), f.fileno(), 100, 0, 4000)

    assert by(BOB, copy) == 100
    assert path.stat().st_mode & 0o7777 == 0o777


def test_a_set_group_id_bit_that_nobody_runs_goes_where_the_file_is_changed_by_who_is_not_of_its_group(alice):
    """As on the file systems below since Linux 6.2."""
    path = alice / "a"

    def make():
        path.write_text("x")
        os.chmod(path, 0o666)

    def append():
        with open(path, "a") as f:
            f.write("y")

    by(ALICE, make)
    for change, user, groups, stays in ((append, ALICE, [], True), (append, BOB, [ALICE], True), (append, BOB, [], False),
                                        (lambda: os.truncate(path, 1), BOB, [], False)):  # fmt: skip
        os.chmod(path, 0o2666)
        by(user, change, groups=groups)
        assert path.stat().st_mode & 0o7777 == (0o2666 if stays else 0o666)
    for gid, stays in ((ALICE, True), (BOB, False)):  # given away by who is, or isn't, of the group it had
        os.chown(path, ALICE, gid)
        os.chmod(path, 0o2666)
        by(ALICE, os.chown, path, -1, STAFF, groups=[STAFF])
        assert path.stat().st_mode & 0o7777 == (0o2666 if stays else 0o666)


def test_a_set_user_id_program_runs_as_its_owner_only_where_the_mount_says_so(home, alice, mount, below):
    tool = alice / "id"
    tool.write_bytes(Path("/usr/bin/id").read_bytes())  # root's
    tool.chmod(0o4755)

    def run(path: Path) -> int:
        return int(by(ALICE, lambda: subprocess.run([path, "-u"], capture_output=True, text=True, check=True).stdout))

    assert run(tool) == ALICE
    assert run(mount(f"home:{below}", suid=True).path / tool.relative_to(home.path)) == 0


def test_devices_are_made_by_root_only_and_opened_by_nobody(home, alice):
    zero = (alice / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    assert error(by, ALICE, os.mknod, *zero) == "EPERM"
    os.mknod(*zero)
    assert (alice / "zero").stat().st_rdev == os.makedev(1, 5)
    assert error(os.open, alice / "zero", os.O_RDONLY) == "EACCES"


FICLONE, FS_IOC_GETFLAGS, FS_IOC_FIEMAP = 0x40049409, 0x80086601, 0xC020660B
COLLAPSE, INSERT, UNSHARE, WHITEOUT, AT_FDCWD = 8, 32, 64, 4, -100


def test_what_differs_from_the_file_system_below_is_what_the_manual_says(home, alice):
    """butlerfs-tree(7), home and group folders."""
    libc = CDLL(None, use_errno=True)

    def called(name: str, *args) -> str:
        return "done" if getattr(libc, name)(*args) >= 0 else errno.errorcode[get_errno()]

    def asked(fd: int, request: int, argument) -> str:
        return error(fcntl.ioctl, fd, request, argument)

    a, b = alice / "a", alice / "b"
    a.write_bytes(b"x" * 65536)
    b.touch()
    with a.open("r+b") as f, b.open("r+b") as g, a.open("rb") as reader:
        for mode in (COLLAPSE, INSERT, UNSHARE):
            assert called("fallocate", f.fileno(), mode, c_long(4096), c_long(4096)) == "ENOTSUP"
        assert asked(g.fileno(), FICLONE, f.fileno()) == "ENOTSUP"
        assert asked(f.fileno(), FS_IOC_GETFLAGS, bytes(8)) == "ENOTTY"
        assert asked(f.fileno(), FS_IOC_FIEMAP, bytes(8) + (1 << 20).to_bytes(8, "little") + bytes(72)) == "ENOTSUP"
        assert error(os.preadv, f.fileno(), [bytearray(10)], 0, os.RWF_NOWAIT) == "ENOTSUP"
        out, into = socket.socketpair()
        with out, into:
            assert error(os.sendfile, into.fileno(), f.fileno(), 0, 100) == "EINVAL"
            assert os.sendfile(into.fileno(), reader.fileno(), 0, 100) == 100
        with Path("/tmp").joinpath(alice.name).open("wb") as elsewhere:
            os.unlink(elsewhere.name)
            assert error(os.copy_file_range, reader.fileno(), elsewhere.fileno(), 100) == "EXDEV"
    assert called("renameat2", AT_FDCWD, bytes(a), AT_FDCWD, bytes(b), WHITEOUT) == "EINVAL"
    for name in ("trusted.a", "security.a"):
        assert error(os.setxattr, a, name, b"1") == "ENOTSUP"
    handle = bytearray((128).to_bytes(4, "little") + bytes(132))
    assert called("name_to_handle_at", AT_FDCWD, bytes(a), (c_char * len(handle)).from_buffer(handle), byref(c_int()), 0) == "ENOTSUP"
    direct = os.open(a, os.O_RDWR | os.O_DIRECT)
    assert os.pwrite(direct, b"odd", 13) == 3 and os.pread(direct, 5, 12) == b"xoddx"
    os.close(direct)
    assert a.read_bytes()[:17] == b"x" * 13 + b"odd" + b"x"


# ---- bytes -------------------------------------------------------------------------------------


def test_readers_have_passthrough_and_see_at_once_what_is_written(home, alice):
    path = alice / "file"
    path.write_bytes(b"a" * 4096)
    before = home.counters()
    with open(path, "rb", buffering=0) as reader, open(path, "r+b", buffering=0) as writer:
        assert reader.read(4) == b"aaaa"
        writer.write(b"bbbb")
        reader.seek(0)
        assert reader.read(4) == b"bbbb"
        with mmap.mmap(writer.fileno(), 4096) as m:
            m[0:4] = b"cccc"
            assert os.pread(reader.fileno(), 4, 0) == b"cccc" and os.pread(writer.fileno(), 4, 0) == b"cccc"
        assert os.fstat(reader.fileno()).st_size == 4096
    after = home.counters()
    assert after["open_passthrough"] == before["open_passthrough"] + 2 and after["open_cached"] == before["open_cached"]


def test_without_passthrough_all_goes_through_the_daemon(mount, below):
    m = mount(f"home:{below}", passthrough="off")
    path = m / str(ALICE) / "through"
    path.write_bytes(os.urandom(300_000))
    with open(path, "r+b", buffering=0) as f, open(path, "rb", buffering=0) as reader:
        f.write(b"new")
        assert reader.read(3) == b"new"
        with mmap.mmap(f.fileno(), 0) as memory:
            memory[10:13] = b"map"
        assert os.pread(reader.fileno(), 3, 10) == b"map"
        os.unlink(path)
        assert os.fstat(reader.fileno()).st_nlink == 0 and os.pread(reader.fileno(), 3, 0) == b"new"
    assert m.counters()["open_passthrough"] == 0


def test_many_who_append_lose_nothing(alice):
    path = alice / "log"
    pids = []
    for k in range(6):
        pid = os.fork()
        if pid == 0:
            try:
                fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o666)
                for i in range(200):
                    os.write(fd, f"{k} {i}\n".encode())
            finally:
                os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    lines = path.read_text().splitlines()
    assert sorted(lines) == sorted(f"{k} {i}" for k in range(6) for i in range(200))


def test_holes_are_holes(alice):
    path = alice / "sparse"
    with open(path, "w+b", buffering=0) as f:
        f.truncate(8 << 20)
        os.pwrite(f.fileno(), b"x" * 4096, 4 << 20)
        assert os.lseek(f.fileno(), 0, os.SEEK_DATA) == 4 << 20
        assert os.lseek(f.fileno(), 4 << 20, os.SEEK_HOLE) == (4 << 20) + 4096
        assert path.stat().st_blocks * 512 < 1 << 20
        subprocess.run(["fallocate", "-p", "-o", str(4 << 20), "-l", "4096", str(path)], check=True)
        assert os.pread(f.fileno(), 1, 4 << 20) == b"\0"
    assert path.stat().st_blocks == 0
    subprocess.run(["fallocate", "-n", "-l", str(16 << 20), str(path)], check=True)
    assert path.stat().st_size == 8 << 20 and path.stat().st_blocks * 512 >= 16 << 20
    subprocess.run(["fallocate", "-l", str(12 << 20), str(path)], check=True)
    assert path.stat().st_size == 12 << 20


def test_copy_file_range_copies_below(home, alice):
    data = os.urandom(2 << 20)
    (alice / "from").write_bytes(data)
    before = home.counters()["read_bytes"]
    with open(alice / "from", "rb") as a, open(alice / "to", "wb") as b:
        done = 0
        while done < len(data):
            done += os.copy_file_range(a.fileno(), b.fileno(), len(data) - done)
    assert (alice / "to").read_bytes() == data
    assert home.counters()["read_bytes"] == before


def test_a_file_made_for_writing_only_can_be_written(alice):
    def make():
        fd = os.open(alice / "file", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o000)
        os.write(fd, b"once")
        os.close(fd)

    by(ALICE, make)
    assert (alice / "file").read_bytes() == b"once"
    assert error(by, ALICE, os.open, alice / "file", os.O_RDONLY) == "EACCES"


# ---- names -------------------------------------------------------------------------------------


def test_an_unlinked_file_lives_until_its_last_close(alice, below):
    path = alice / "gone"
    with open(path, "w+b", buffering=0) as f:
        f.write(b"still ")
        os.unlink(path)
        f.write(b"here")
        assert os.fstat(f.fileno()).st_nlink == 0 and os.pread(f.fileno(), 20, 0) == b"still here"
        os.ftruncate(f.fileno(), 5)
        assert os.fstat(f.fileno()).st_size == 5
    assert not path.exists()


def test_a_file_that_is_gone_leaves_its_blocks(home, alice, below):
    free = lambda: os.statvfs(below).f_bfree * os.statvfs(below).f_frsize
    path = alice / "big"
    path.write_bytes(b"x" * (64 << 20))
    os.stat(path)
    os.sync()  # some file systems find room as late as that
    held = free()
    os.unlink(path)
    os.sync()
    mounting.eventually(lambda: free() > held + (32 << 20), 10, "the blocks of an unlinked file are free")


def test_rename_s_flags(alice):
    libc = CDLL(None, use_errno=True)

    def rename(a, b, flags):
        return 0 if libc.renameat2(-100, os.fsencode(alice / a), -100, os.fsencode(alice / b), flags) == 0 else errno.errorcode[get_errno()]

    (alice / "a").write_text("a")
    (alice / "b").write_text("b")
    assert rename("a", "b", 1) == "EEXIST"
    assert rename("a", "b", 2) == 0
    assert (alice / "a").read_text() == "b" and (alice / "b").read_text() == "a"
    assert rename("a", "b", 0) == 0
    assert os.listdir(alice) == ["b"] and (alice / "b").read_text() == "b"
    assert rename("b", "b2", 4) == "EINVAL"


def test_hard_links_are_one_inode(alice):
    (alice / "a").write_text("one")
    os.link(alice / "a", alice / "b")
    a, b = os.stat(alice / "a"), os.stat(alice / "b")
    assert (a.st_ino, a.st_nlink) == (b.st_ino, 2)
    (alice / "b").write_text("two")
    assert (alice / "a").read_text() == "two"
    os.unlink(alice / "a")
    assert os.stat(alice / "b").st_nlink == 1


def give_name(fd: int, path: Path) -> None:
    follow = 0x400  # AT_SYMLINK_FOLLOW, which os.link does not pass on
    if CDLL(None, use_errno=True).linkat(-100, f"/proc/self/fd/{fd}".encode(), -100, os.fsencode(path), follow):
        raise OSError(get_errno(), "linkat")


def test_a_file_without_a_name_can_get_one(alice):
    def make():
        fd = os.open(alice, os.O_TMPFILE | os.O_RDWR, 0o640)
        os.write(fd, b"at once")
        assert os.listdir(alice) == []
        give_name(fd, alice / "whole")
        os.close(fd)

    by(ALICE, make)
    assert (alice / "whole").read_text() == "at once" and (alice / "whole").stat().st_uid == ALICE


@pytest.mark.parametrize("passthrough", ["on", "off"])
def test_a_file_that_got_its_name_late_gives_its_room_back_when_it_is_unlinked(mount, place, passthrough):
    at = place / f"late-{passthrough}"
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", at], check=True)
    try:
        home = mount(f"home:{at}", ledger_dir=place / f"ledger-late-{passthrough}", passthrough=passthrough)
        free = os.statvfs(at).f_bfree
        for name in ("a", "b"):
            fd = os.open(home.path, os.O_TMPFILE | os.O_RDWR, 0o640)
            os.write(fd, bytes(1 << 20))
            give_name(fd, home / name)
            assert os.statvfs(at).f_bfree < free
            if name == "b":
                os.unlink(home / name)  # and loses it again while it is open
            os.close(fd)
            if name == "a":
                os.unlink(home / name)
            mounting.eventually(lambda: os.statvfs(at).f_bfree == free, 10)
        home.unmount()
    finally:
        subprocess.run(["umount", at], check=True)


def test_names_of_255_bytes_and_deep_trees(alice):
    name = "\N{LATIN SMALL LETTER U WITH DIAERESIS}" * 127 + "x"
    (alice / name).write_text("long")
    assert os.listdir(alice) == [name]
    assert error(os.mkdir, alice / (name + "y")) == "ENAMETOOLONG"
    fd = os.open(alice, os.O_RDONLY)
    for i in range(200):
        os.mkdir("deep", dir_fd=fd)
        below = os.open("deep", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    with open(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd), "w") as f:
        f.write("bottom")
    assert os.stat("file", dir_fd=fd).st_size == 6
    os.close(fd)


def test_attributes_of_users_only(alice, below):
    path = alice / "file"
    path.write_text("x")
    os.setxattr(path, "user.note", b"hello")
    os.setxattr(below / str(ALICE) / alice.name / "file", "trusted.secret", b"ours")
    assert os.listxattr(path) == ["user.note"] and os.getxattr(path, "user.note") == b"hello"
    assert error(os.getxattr, path, "trusted.secret") == "ENOTSUP"
    assert error(os.setxattr, path, "trusted.other", b"x") == "ENOTSUP"
    assert error(os.setxattr, path, "user.note", b"x", os.XATTR_CREATE) == "EEXIST"
    os.removexattr(path, "user.note")
    assert os.listxattr(path) == []


def test_times_have_nanoseconds_and_a_birth(alice):
    path = alice / "file"
    path.write_text("x")
    os.utime(path, ns=(1_234_567_890_123_456_789, 987_654_321_987_654_321))
    assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (1_234_567_890_123_456_789, 987_654_321_987_654_321)
    birth = subprocess.run(["stat", "-c", "%W", str(path)], capture_output=True, text=True, check=True).stdout
    assert abs(int(birth) - time.time()) < 60


def test_a_large_folder_is_listed_once_and_whole(alice):
    names = {f"entry {i}" for i in range(1200)}
    for name in names:
        os.close(os.open(alice / name, os.O_CREAT | os.O_WRONLY))
    listed = os.listdir(alice)
    assert len(listed) == 1200 and set(listed) == names
    assert {e.name for e in os.scandir(alice) if e.stat().st_uid == 0} == names


def test_sockets_and_pipes_work(alice):
    server = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(alice)
    try:
        server.bind("socket")
        server.listen()
        client = socket.socket(socket.AF_UNIX)
        client.connect("socket")
        client.close()
        server.close()
        os.mkfifo("pipe")
        reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
        writer = os.open("pipe", os.O_WRONLY)
        os.write(writer, b"through")
        assert os.read(reader, 10) == b"through"
        os.close(reader)
        os.close(writer)
    finally:
        os.chdir(here)


def test_locks_are_seen_by_others_and_can_be_interrupted(alice):
    path = alice / "file"
    path.write_text("x")
    with open(path, "r+") as f:
        fcntl.flock(f, fcntl.LOCK_EX)

        def try_lock():
            with open(path, "r+") as g:
                fcntl.flock(g, fcntl.LOCK_EX | fcntl.LOCK_NB)

        assert error(by, 0, try_lock) == "EAGAIN"
        fcntl.flock(f, fcntl.LOCK_UN)
        by(0, try_lock)
        fcntl.lockf(f, fcntl.LOCK_EX, 1, 0)

        def try_range(start, wait=False):
            with open(path, "r+") as g:
                fcntl.lockf(g, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, start)

        assert error(by, 0, try_range, 0) in ("EAGAIN", "EACCES")
        by(0, try_range, 1)
        waiter = subprocess.Popen(["flock", str(path), "true"])
        fcntl.flock(f, fcntl.LOCK_EX) if waiter.poll() is None else None
        other = subprocess.Popen(["flock", str(path), "true"])
        time.sleep(0.2)
        other.kill()
        assert other.wait(10) == -9
        waiter.kill()
        waiter.wait(10)


# ---- nothing reaches outside -------------------------------------------------------------------


def test_a_link_below_leads_nowhere_by_itself(home, alice, below):
    """A symlink is read by who follows it, in his own view; the daemon follows none."""
    secret = below.parent / "secret-of-root"
    secret.write_text("root's")
    secret.chmod(0o600)
    by(ALICE, os.symlink, str(secret), alice / "link")
    assert os.readlink(alice / "link") == str(secret)
    assert error(by, ALICE, (alice / "link").read_text) == "EACCES"


def test_a_folder_that_is_swapped_for_a_link_opens_nothing_else(alice, below):
    """A user races renames against a walk through the same name."""
    outside = below.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "file").write_text("outside")
    os.mkdir(alice / "a")
    (alice / "a" / "file").write_text("inside")
    os.symlink(outside, below / str(ALICE) / alice.name / "b")
    libc = CDLL(None)
    a, b = os.fsencode(below / str(ALICE) / alice.name / "a"), os.fsencode(below / str(ALICE) / alice.name / "b")
    pid = os.fork()
    if pid == 0:
        end = time.monotonic() + 2
        while time.monotonic() < end:
            libc.renameat2(-100, a, -100, b, 2)
        os._exit(0)
    seen = set()
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        try:
            fd = os.open(alice / "a", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                with open(os.open("file", os.O_RDONLY | os.O_NOFOLLOW, dir_fd=fd)) as f:
                    seen.add(f.read())
            finally:
                os.close(fd)
        except OSError as e:
            assert e.errno in (errno.ENOTDIR, errno.ELOOP, errno.ESTALE, errno.ENOENT, errno.EINVAL), e
    assert seen <= {"inside"}


def test_a_mount_below_is_not_entered(home, alice, below):
    inside = below / str(ALICE) / alice.name / "mounted"
    inside.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(inside)], check=True)
    try:
        (inside / "file").write_text("another file system")
        time.sleep(0.3) # what was known of it before (refresh)
        assert error(os.stat, alice / "mounted" / "file") == "EXDEV"
    finally:
        subprocess.run(["umount", str(inside)], check=True)


# ---- with other spaces -------------------------------------------------------------------------


def test_homes_stand_beside_other_spaces_of_one_mount(mount, below, repository, place):
    repo = repository(seed=3, datasets=60, nasty=False)
    (place / "groups").mkdir(exist_ok=True)
    config = place / "with-homes.yaml"
    config.write_text(json.dumps({"spaces": {
        "dp1": {"source": str(repo.root)},
        "home": {"kind": "home", "source": str(below)},
        "group": {"kind": "group", "source": str(place / "groups")},
    }}))  # fmt: skip
    m = mount("rubin", config=config)
    assert sorted(os.listdir(m.path)) == ["dp1", "group", "home"]
    by(ALICE, (m / "home" / str(ALICE) / "beside").write_text, "x")
    assert (below / str(ALICE) / "beside").stat().st_uid == ALICE
    assert error(os.mkdir, m / "dp1" / "new") == "EROFS"
    assert error((m / "dp1" / "README.txt").write_text, "x") == "EROFS"
    assert error(os.mkdir, m / "new") == "EROFS"
    assert error(os.rename, m / "home" / str(ALICE) / "beside", m / "group" / "beside") == "EXDEV"
    assert error(os.link, m / "home" / str(ALICE) / "beside", m / "group" / "beside") == "EXDEV"
    assert {s["kind"] for s in m.status()["spaces"]} == {"butler", "home", "group"}
    for name in ("home", "group"):
        listed = next(e for e in os.scandir(m.path) if e.name == name)
        assert listed.inode() == os.stat(m / name).st_ino


def test_a_mount_that_is_asked_for_read_only_is(mount, below):
    m = mount(f"home:{below}", ro=True)
    assert error((m / str(ALICE) / "new").write_text, "x") == "EROFS"


def test_a_mount_becomes_read_only_and_writable_again(home, alice):
    """As mount(8) says it, with all that fstab and /proc/mounts have."""

    def remount(*more: str) -> set[str]:
        words = ["rw", "user_id=0", "group_id=0", "default_permissions", "allow_other", "refresh=200ms", "remount", *more]
        done = subprocess.run([mounting.program("butlerfs"), home.source, home.path, "-o", ",".join(words)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        (line,) = [x for x in Path("/proc/self/mountinfo").read_text().splitlines() if f" {home.path} " in x]
        return set(line.split(" ")[5].split(","))

    assert {"ro", "nosuid", "nodev"} <= remount("ro")
    assert error((alice / "a").write_text, "x") == "EROFS"
    assert {"rw", "nosuid", "nodev", "noatime"} <= remount("noatime")
    by(ALICE, (alice / "a").write_text, "x")
    with (alice / "a").open("a") as f:
        f.write("y")
        f.flush()
        words = [mounting.program("butlerfs"), home.source, home.path, "-o", "remount,ro"]
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 32 and "something is open for writing there" in done.stderr
    assert (alice / "a").read_text() == "xy"


def test_a_mount_is_known_by_the_source_that_was_said(home):
    """By which umount(8), findmnt(8) and `mount -a` find it."""
    assert home.source.startswith("home:/")
    assert any(x.split(" - ")[1].split(" ")[:2] == ["fuse.butlerfs", home.source] for x in Path("/proc/self/mountinfo").read_text().splitlines())
    subprocess.run(["umount", home.source], check=True)
    home.wait_end()


def test_who_is_not_root_is_told_that_homes_need_it(below, place, built):
    at = place / "not-root"
    at.mkdir()
    os.chown(at, ALICE, ALICE)
    done = subprocess.run(["setpriv", f"--reuid={ALICE}", f"--regid={ALICE}", "--clear-groups",
                           str(mounting.public_build(place / "public") / "fs" / "butlerfs"), f"home:{below}", str(at)],
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode != 0 and "need root" in done.stderr
