# SPDX-License-Identifier: BSD-3-Clause
"""Which random calls the users of a world make (home_world.py). Names are few, so that they meet."""

from __future__ import annotations

import errno
import os
import random
import struct
from typing import Any

from home_hand import SLOTS

AREAS = ("own", "group", "sticky", "tree")
NOREPLACE, EXCHANGE = 1, 2
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
ANYBODY = 0xFFFFFFFF

# How often each is made.
CALLS = {
    "mkdir": 5, "rmdir": 3, "mkfifo": 1, "symlink": 2, "link": 5, "unlink": 7, "rename": 9, "list": 1,
    "stat": 2, "readlink": 1, "chmod": 4, "chown": 5, "setxattr": 4, "removexattr": 1, "attributes": 1, "access": 1,
    "open": 22, "close": 4, "name_it": 4, "read": 4, "write": 20, "truncate": 4, "ftruncate": 4, "fallocate": 5, "copy": 4,
    "seek": 2, "store": 3, "lock": 2, "fstat": 1,
}  # fmt: skip
OF_SLOTS = ("close", "fstat")


def acl(*entries: tuple[int, int, int]) -> bytes:
    """As setfacl(1) gives it to the kernel: tag, rights, id."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)


class Calls:
    def __init__(self, dice: random.Random, users: list[int], group: int) -> None:
        self.dice, self.users, self.group = dice, users, group
        self.there: list[str] = []
        self.open_slots: list[int] = []

    def some(self, there: list[str], open_slots: list[int]) -> tuple[str, tuple[Any, ...]]:
        """What a hand is told, but for the umask: mostly of what is there, and of what it has open."""
        self.there, self.open_slots = there, open_slots
        word = self.dice.choices(list(CALLS), list(CALLS.values()))[0]
        arguments = getattr(self, word, self.of_slot if word in OF_SLOTS else self.of_name)
        return word, arguments()

    # ---- names

    def folder(self) -> str:
        area = self.dice.choice(AREAS)
        return f"{area}/d{self.dice.randrange(2)}" if self.dice.random() < 0.3 else area

    def name(self) -> str:
        if self.there and self.dice.random() < 0.5:
            return self.dice.choice(self.there)
        last = self.dice.choice(("d0", "d1", "n0", "n0", "n1", "n1", "n2", "n2", "n3", "n4", "x" * 255 if self.dice.random() < 0.2 else "n5"))
        return f"{self.folder()}/{last}"

    def of_name(self) -> tuple[Any, ...]:
        return (self.name(),)

    def mkdir(self) -> tuple[Any, ...]:
        return f"{self.folder()}/d{self.dice.randrange(2)}", self.dice.choice((0o755, 0o777, 0o2775, 0o1777))

    def mkfifo(self) -> tuple[Any, ...]:
        return self.name(), 0o666

    def symlink(self) -> tuple[Any, ...]:
        to = self.name().split("/")[-1]
        return self.name(), to if self.dice.random() < 0.5 else f"../{self.dice.choice(AREAS)}/{to}"

    def link(self) -> tuple[Any, ...]:
        return self.name(), self.name()

    def rename(self) -> tuple[Any, ...]:
        return self.name(), self.name(), self.dice.choice((0, 0, 0, NOREPLACE, EXCHANGE, EXCHANGE, NOREPLACE | EXCHANGE))

    # ---- attributes

    def chmod(self) -> tuple[Any, ...]:
        return self.name(), self.dice.choice((0o644, 0o666, 0o777, 0o600, 0o4755, 0o2755, 0o6775, 0o2644, 0o1777))

    def chown(self) -> tuple[Any, ...]:
        # Never of neither: FUSE keeps that from us, and a file keeps its set-user-id bit.
        uid = self.dice.choice((-1, -1, -1, *self.users))
        return self.name(), uid, self.dice.choice((self.group, self.group, *self.users, *([-1] if uid >= 0 else [])))

    def setxattr(self) -> tuple[Any, ...]:
        if self.dice.random() < 0.5:
            return self.name(), f"user.a{self.dice.randrange(2)}", self.dice.randbytes(self.dice.randrange(100)), self.dice.choice((0, 0, 1, 2))
        entries = acl((1, 7, ANYBODY), (2, self.dice.choice((4, 6, 7)), self.dice.choice(self.users)), (4, 5, ANYBODY),
                      (16, self.dice.choice((4, 6, 7)), ANYBODY), (32, self.dice.choice((0, 5)), ANYBODY))  # fmt: skip
        return self.name(), self.dice.choice(("system.posix_acl_access", "system.posix_acl_default")), entries, 0

    def removexattr(self) -> tuple[Any, ...]:
        return self.name(), self.dice.choice(("user.a0", "user.a1", "system.posix_acl_access", "system.posix_acl_default"))

    def access(self) -> tuple[Any, ...]:
        return self.name(), self.dice.choice((os.R_OK, os.W_OK, os.X_OK))

    # ---- files

    def slot(self) -> int:
        if self.open_slots and self.dice.random() < 0.8:
            return self.dice.choice(self.open_slots)
        return self.dice.randrange(SLOTS)

    def of_slot(self) -> tuple[Any, ...]:
        return (self.slot(),)

    def size(self) -> int:
        return self.dice.choice((0, 1, 100, 4096, 5000, 20_000, 20_000, 60_000, 200_000))

    def offset(self) -> int:
        return self.dice.choice((0, 0, 1, 4096, 10_000, 30_000))

    def open(self) -> tuple[Any, ...]:
        if self.dice.random() < 0.15:
            return self.dice.randrange(SLOTS), self.folder(), os.O_TMPFILE | os.O_RDWR | self.dice.choice((0, 0, os.O_EXCL)), 0o644
        makes = (os.O_CREAT, os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_CREAT | os.O_TRUNC, 0, os.O_TRUNC, os.O_NOFOLLOW, os.O_DIRECTORY)
        flags = self.dice.choice((os.O_RDONLY, os.O_RDWR, os.O_RDWR, os.O_RDWR, os.O_WRONLY, os.O_WRONLY | os.O_APPEND, os.O_RDWR | os.O_APPEND))
        return self.dice.randrange(SLOTS), self.name(), flags | self.dice.choice(makes), self.dice.choice((0o644, 0o666, 0o600, 0o4755))

    def name_it(self) -> tuple[Any, ...]:
        return self.slot(), self.name()

    def read(self) -> tuple[Any, ...]:
        return self.slot(), self.size(), self.offset()

    def write(self) -> tuple[Any, ...]:
        return self.slot(), self.dice.randbytes(self.size()), self.offset()

    def truncate(self) -> tuple[Any, ...]:
        return self.name(), self.size()

    def ftruncate(self) -> tuple[Any, ...]:
        return self.slot(), self.size()

    def fallocate(self) -> tuple[Any, ...]:
        mode = self.dice.choice((0, KEEP_SIZE, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE, PUNCH_HOLE))
        return self.slot(), mode, self.offset(), self.size()

    def copy(self) -> tuple[Any, ...]:
        return self.slot(), self.slot(), self.size(), self.offset(), self.offset()

    def seek(self) -> tuple[Any, ...]:
        return self.slot(), self.offset(), os.SEEK_END  # holes: what is written back decides

    def store(self) -> tuple[Any, ...]:
        return self.slot(), self.dice.randbytes(100), self.offset()

    def lock(self) -> tuple[Any, ...]:
        return self.slot(), self.dice.choice((1, 2, 8))


def name_of(error: int) -> str:
    return errno.errorcode.get(error, str(error))
