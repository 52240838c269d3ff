# SPDX-License-Identifier: BSD-3-Clause
"""A user at his limits: one process that makes, lengthens, truncates, gives to a group, renames over, links and unlinks
what is open, in a folder that others of his use, too. Limits are met; anything else that fails ends it."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import time
from pathlib import Path

from acting import STAFF

# ESTALE: who opens a name again and again that is unlinked and made anew each time; the kernel tries twice.
MET = {errno.EDQUOT, errno.ENOENT, errno.EEXIST, errno.ESTALE}


def write(path: Path, size: int, mode: str = "wb") -> int:
    with path.open(mode, buffering=0) as f:
        return f.write(b"x" * size)


def unlink_open(path: Path, size: int) -> None:
    with path.open("r+b", buffering=0) as f:
        os.unlink(path)
        f.write(b"y" * size)


def unlink_open_twice(path: Path, size: int) -> None:
    with path.open("r+b", buffering=0) as f, path.open("rb", buffering=0):
        os.unlink(path)
        f.write(b"z" * size)


def write_without_a_name(folder: Path, size: int) -> None:
    with open(os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600), "r+b", buffering=0) as f:
        f.write(b"t" * size)


def one(dice: random.Random, a: Path, b: Path) -> None:
    what = dice.randrange(11)
    if what <= 1:
        write(a, dice.randrange(20000), "ab")
    elif what == 2:
        os.truncate(a, dice.randrange(30000))
    elif what == 3:
        os.rename(a, b)
    elif what == 4:
        os.link(a, b)
    elif what == 5:
        os.unlink(a)
    elif what == 6:
        os.chown(a, -1, dice.choice([STAFF, os.getgid()]))
    elif what == 7:
        folder = a.with_suffix(".d")
        os.mkdir(folder)
        os.rename(folder, b.with_suffix(".e"))
        os.rmdir(b.with_suffix(".e"))
    elif what == 8:
        unlink_open_twice(a, dice.randrange(20000))
    elif what == 9:
        write_without_a_name(a.parent, dice.randrange(20000))
    else:
        unlink_open(a, dice.randrange(20000))


def hammer(folder: Path, user: int, seed: int, seconds: float) -> None:
    """In a process of its own: it becomes that user."""
    os.setgroups([STAFF])
    os.setgid(user)
    os.setuid(user)
    dice = random.Random(seed)
    names = [folder / f"{seed}-{i}" for i in range(6)] + [folder / "shared"]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            one(dice, dice.choice(names), dice.choice(names))
        except OSError as e:
            if e.errno not in MET:
                raise
    with contextlib.suppress(OSError):  # so that the group has something at the end, or no room
        write(names[0], 100)
        os.chown(names[0], -1, STAFF)
