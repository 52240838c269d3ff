# SPDX-License-Identifier: BSD-3-Clause
"""A user's process that does each call twice, as it is told: on the mount, and on a plain folder beside it. It says what came
of it: ("ok", value) or ("error", errno). What it has open stands in slots, the two files of a slot side by side."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import stat
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

MOUNT, PLAIN = 0, 1
AT_FDCWD, AT_SYMLINK_FOLLOW = -100, 0x400
SLOTS = 4
libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def attributes(path: str | int) -> dict[str, bytes]:
    follow = {} if isinstance(path, int) else {"follow_symlinks": False}
    return {n: os.getxattr(path, n, **follow) for n in sorted(os.listxattr(path, **follow)) if n.startswith(("user.", "system.posix_acl_"))}


def seen(st: os.stat_result) -> tuple[int, ...]:
    """Of an inode, what is the same on both sides. A folder's size is the file system's own."""
    return st.st_mode, st.st_uid, st.st_gid, st.st_nlink, 0 if stat.S_ISDIR(st.st_mode) else st.st_size


class Hand:
    def __init__(self, roots: tuple[str, str]) -> None:
        self.roots = roots
        self.side = MOUNT
        self.open_files: list[dict[int, int]] = [{}, {}]

    def at(self, name: str) -> str:
        return f"{self.roots[self.side]}/{name}"

    def fd(self, slot: int) -> int:
        return self.open_files[self.side][slot]

    # ---- names

    def mkdir(self, name: str, mode: int) -> None:
        os.mkdir(self.at(name), mode)

    def rmdir(self, name: str) -> None:
        os.rmdir(self.at(name))

    def mkfifo(self, name: str, mode: int) -> None:
        os.mkfifo(self.at(name), mode)

    def symlink(self, name: str, to: str) -> None:
        os.symlink(to, self.at(name))

    def link(self, name: str, to: str) -> None:
        os.link(self.at(name), self.at(to), follow_symlinks=False)

    def unlink(self, name: str) -> None:
        os.unlink(self.at(name))

    def rename(self, name: str, to: str, flags: int) -> None:
        checked(libc.renameat2(AT_FDCWD, os.fsencode(self.at(name)), AT_FDCWD, os.fsencode(self.at(to)), flags))

    def list(self, name: str) -> list[tuple[str, int]]:
        with os.scandir(self.at(name)) as entries:
            return sorted((e.name, e.is_dir(follow_symlinks=False) + 2 * e.is_symlink()) for e in entries)

    # ---- attributes

    def stat(self, name: str) -> Any:
        return seen(os.lstat(self.at(name)))

    def readlink(self, name: str) -> str:
        return os.readlink(self.at(name))

    def chmod(self, name: str, mode: int) -> None:
        os.chmod(self.at(name), mode)

    def chown(self, name: str, uid: int, gid: int) -> None:
        os.chown(self.at(name), uid, gid, follow_symlinks=False)

    def setxattr(self, name: str, attribute: str, value: bytes, flags: int) -> None:
        os.setxattr(self.at(name), attribute, value, flags)

    def removexattr(self, name: str, attribute: str) -> None:
        os.removexattr(self.at(name), attribute)

    def attributes(self, name: str) -> dict[str, bytes]:
        return attributes(self.at(name))

    def access(self, name: str, how: int) -> bool:
        return os.access(self.at(name), how)

    # ---- files

    def open(self, slot: int, name: str, flags: int, mode: int) -> None:
        """Folders and pipes only for the moment: one that is unlinked while it is open is ESTALE after a death (fs/README.md)."""
        fd = os.open(self.at(name), flags | os.O_NONBLOCK, mode)
        self.close(slot)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return
        self.open_files[self.side][slot] = fd

    def close(self, slot: int) -> None:
        if slot in self.open_files[self.side]:
            os.close(self.open_files[self.side].pop(slot))

    def name_it(self, slot: int, to: str) -> None:
        """What was made without a name gets one."""
        path = f"/proc/self/fd/{self.fd(slot)}".encode()
        checked(libc.linkat(AT_FDCWD, path, AT_FDCWD, os.fsencode(self.at(to)), AT_SYMLINK_FOLLOW))

    def read(self, slot: int, size: int, offset: int) -> bytes:
        return os.pread(self.fd(slot), size, offset)

    def write(self, slot: int, data: bytes, offset: int) -> int:
        return os.pwrite(self.fd(slot), data, offset)

    def truncate(self, name: str, size: int) -> None:
        os.truncate(self.at(name), size)

    def ftruncate(self, slot: int, size: int) -> None:
        os.ftruncate(self.fd(slot), size)

    def fallocate(self, slot: int, mode: int, offset: int, size: int) -> None:
        checked(libc.fallocate(self.fd(slot), mode, ctypes.c_long(offset), ctypes.c_long(size)))

    def copy(self, slot: int, to: int, size: int, offset: int, to_offset: int) -> int:
        return os.copy_file_range(self.fd(slot), self.fd(to), size, offset, to_offset)

    def seek(self, slot: int, offset: int, whence: int) -> int:
        return os.lseek(self.fd(slot), offset, whence)

    def store(self, slot: int, data: bytes, offset: int) -> None:
        """By a memory map, within the file."""
        with mmap.mmap(self.fd(slot), os.fstat(self.fd(slot)).st_size) as memory:
            data = data[: max(len(memory) - offset, 0)]
            memory[offset : offset + len(data)] = data

    def lock(self, slot: int, how: int) -> None:
        fcntl.flock(self.fd(slot), how | fcntl.LOCK_NB)

    def fstat(self, slot: int) -> Any:
        return seen(os.fstat(self.fd(slot)))

    def whole(self) -> dict[int, Any]:
        """All that is open."""
        found = {}
        for slot, fd in self.open_files[self.side].items():
            st = os.fstat(fd)
            is_read = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_WRONLY and stat.S_ISREG(st.st_mode)
            found[slot] = (seen(st), attributes(fd), os.pread(fd, st.st_size, 0) if is_read else b"")
        return found

    # ---- of both sides

    def do(self, side: int, umask: int, word: str, *arguments: Any) -> tuple[str, Any]:
        self.side = side
        os.umask(umask)
        act: Callable[..., Any] = getattr(self, word)
        try:
            return "ok", act(*arguments)
        except OSError as e:
            return "error", e.errno
        except (KeyError, ValueError) as e:  # nothing is open there; an empty file's map
            return "none", type(e).__name__

    def plain_descriptors(self) -> dict[int, int]:
        return dict(self.open_files[PLAIN])


def serve(roots: tuple[str, str], uid: int, groups: tuple[int, ...], pipe: Connection) -> None:
    os.setgroups(groups)
    os.setgid(uid)
    os.setuid(uid)
    hand = Hand(roots)
    while (asked := pipe.recv()) is not None:
        pipe.send(hand.plain_descriptors() if asked == "descriptors" else hand.do(*asked))
