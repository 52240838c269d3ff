# SPDX-License-Identifier: BSD-3-Clause
"""A user who works in a folder of his own and knows at each moment what is in it: home_load.py FOLDER SECONDS SEED [orphans].

Each system call must do what it does once: a second mkdir of one name would be EEXIST, a second unlink ENOENT, a
second append a line too many. At the end the folder is compared with what it must hold. The last line is JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
EXCHANGE = 2


class User:
    def __init__(self, folder: str, seed: int, with_orphan: bool):
        self.folder = folder
        self.random = random.Random(seed)
        self.files: dict[str, bytearray] = {}  # names of one file share one value
        self.folders: set[str] = set()
        self.links: dict[str, str] = {}
        self.serial = 0
        self.done: dict[str, int] = {}
        self.act = ""
        # Open from the beginning to the end, and without a name.
        self.orphan = -1
        self.orphan_bytes = bytearray()
        if with_orphan:
            self.orphan = os.open(self.path("orphan"), os.O_CREAT | os.O_EXCL | os.O_RDWR)
            os.unlink(self.path("orphan"))

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def new_name(self) -> str:
        self.serial += 1
        return f"n{self.serial}"

    def some(self, names) -> str | None:
        return self.random.choice(sorted(names)) if names else None

    def create(self) -> None:
        name = self.new_name()
        data = self.random.randbytes(self.random.randrange(20_000))
        fd = os.open(self.path(name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)
        os.write(fd, data)
        os.close(fd)
        self.files[name] = bytearray(data)

    def append(self) -> None:
        name = self.some(self.files)
        if not name:
            return
        fd = os.open(self.path(name), os.O_WRONLY | os.O_APPEND)
        for _ in range(3):
            data = self.random.randbytes(self.random.randrange(1, 3000))
            os.write(fd, data)
            self.files[name] += data
        os.close(fd)

    def truncate(self) -> None:
        name = self.some(self.files)
        if name:
            size = self.random.randrange(30_000)
            os.truncate(self.path(name), size)
            data = self.files[name]
            data[:] = data[:size].ljust(size, b"\0")

    def unlink(self) -> None:
        name = self.some(self.files)
        if name and self.random.random() < 0.7:
            os.unlink(self.path(name))
            del self.files[name]

    def rename(self) -> None:
        name, to = self.some(self.files), self.some(self.files)
        if not name or not to or self.files[name] is self.files[to]:
            return
        if self.random.random() < 0.5:
            to = self.new_name()
        os.rename(self.path(name), self.path(to))
        self.files[to] = self.files.pop(name)

    def exchange(self) -> None:
        a, b = self.some(self.files), self.some(self.files)
        if not a or not b or a == b:
            return
        if libc.renameat2(-100, self.path(a).encode(), -100, self.path(b).encode(), EXCHANGE):
            raise OSError(ctypes.get_errno(), "exchange")
        self.files[a], self.files[b] = self.files[b], self.files[a]

    def link(self) -> None:
        name = self.some(self.files)
        if name:
            to = self.new_name()
            os.link(self.path(name), self.path(to))
            self.files[to] = self.files[name]

    def symlink(self) -> None:
        name = self.new_name()
        os.symlink("to " + name, self.path(name))
        self.links[name] = "to " + name

    def mkdir(self) -> None:
        name = self.new_name()
        os.mkdir(self.path(name))
        self.folders.add(name)

    def rmdir(self) -> None:
        name = self.some(self.folders)
        if name:
            os.rmdir(self.path(name))
            self.folders.remove(name)

    def xattr(self) -> None:
        name = self.some(self.files)
        if name:
            os.setxattr(self.path(name), "user.once", b"x", os.XATTR_CREATE)
            os.removexattr(self.path(name), "user.once")

    def orphan_write(self) -> None:
        if self.orphan < 0:
            return
        data = self.random.randbytes(1000)
        os.pwrite(self.orphan, data, len(self.orphan_bytes))
        self.orphan_bytes += data

    def check(self) -> None:
        listed = {e.name: e for e in os.scandir(self.folder)}
        assert set(listed) == set(self.files) | self.folders | set(self.links), (
            f"not there: {(set(self.files) | self.folders | set(self.links)) - set(listed)}, too many: {set(listed) - set(self.files) - self.folders - set(self.links)}"
        )
        for name, data in self.files.items():
            with open(self.path(name), "rb") as f:
                got = f.read()
            assert got == bytes(data), f"{name}: {len(got)} bytes, {len(data)} expected"
            links = sum(d is data for d in self.files.values())
            assert os.stat(self.path(name)).st_nlink == links
        for name, to in self.links.items():
            assert os.readlink(self.path(name)) == to
        if self.orphan >= 0:
            assert os.pread(self.orphan, len(self.orphan_bytes) + 1, 0) == bytes(self.orphan_bytes)

    def work(self, until: float) -> None:
        acts = [self.create, self.create, self.append, self.append, self.truncate, self.unlink, self.unlink, self.rename,
                self.exchange, self.link, self.symlink, self.mkdir, self.rmdir, self.xattr, self.orphan_write]  # fmt: skip
        while time.monotonic() < until:
            act = self.random.choice(acts)
            if len(self.files) > 60:
                act = self.unlink
            self.act = act.__name__
            act()
            self.done[act.__name__] = self.done.get(act.__name__, 0) + 1
            if sum(self.done.values()) % 500 == 0:
                self.check()


def main() -> None:
    folder, seconds, seed = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    user = User(folder, seed, "orphans" in sys.argv[4:])
    try:
        user.work(time.monotonic() + seconds)
        user.check()
        print(json.dumps({"done": user.done}))
    except (AssertionError, OSError) as e:
        print(json.dumps({"done": user.done, "error": f"{user.act}: {e!r} {getattr(e, 'filename', None)} {getattr(e, 'filename2', None)}"}))


if __name__ == "__main__":
    main()
