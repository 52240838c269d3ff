# SPDX-License-Identifier: BSD-3-Clause
"""A world: a folder of a home mount in which some users do random things, one at a time, with a plain folder beside it in which
they do the same. What comes of each thing is compared; where the mount has no room it must be true that there is none.

Nobody else has the users and the group of a world, so what they use is known. Worlds are independent of each other.
"""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import random
import stat
import struct
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from home_calls import KEEP_SIZE, PUNCH_HOLE, Calls, name_of
from home_hand import MOUNT, PLAIN, attributes, seen, serve
from mounting import SLACK, eventually

USERS = 3
FIRST_USER = 48400
BYTES, FILES, GROUP_BYTES, TREE_BYTES, TREE_FILES = 150_000, 16, 200_000, 90_000, 8
RESERVED = "trusted.model.reserved"  # what fallocate left behind a file's end, on the plain one
RESERVED_BELOW = "trusted.butlerfs.reserved"
LENGTHS = ("truncate", "ftruncate", "write", "fallocate", "copy")

Owner = tuple[str, int]
Usage = dict[Owner, tuple[int, int]]
Growth = list[tuple[Owner, int, int]]


def cost(st: os.stat_result, path: str, attribute: str) -> int:
    if not stat.S_ISREG(st.st_mode):
        return 0
    try:
        return max(st.st_size, struct.unpack("<q", os.getxattr(path, attribute))[0])
    except OSError as e:
        assert e.errno == errno.ENODATA, e
        return st.st_size


def each(root: str, at: str = "") -> Iterator[str]:
    """All names below, folders before what is in them."""
    with os.scandir(f"{root}/{at}") as entries:
        found = sorted(entries, key=lambda e: e.name)
    for e in found:
        name = f"{at}/{e.name}" if at else e.name
        yield name
        if e.is_dir(follow_symlinks=False):
            yield from each(root, name)


def picture(root: str) -> dict[str, Any]:
    """The tree, its attributes and all contents."""
    found = {}
    for name in each(root):
        path = f"{root}/{name}"
        st = os.lstat(path)
        content: Any = None
        if stat.S_ISREG(st.st_mode):
            content = Path(path).read_bytes()
        elif stat.S_ISLNK(st.st_mode):
            content = os.readlink(path)
        found[name] = (seen(st), attributes(path), content)
    return found


def brief(what: Any) -> Any:
    """Without contents."""
    if isinstance(what, bytes):
        return f"<{len(what)} bytes>"
    if isinstance(what, dict):
        return {k: brief(v) for k, v in what.items()}
    return [brief(w) for w in what] if isinstance(what, (tuple, list)) else what


class World:
    def __init__(self, number: int, roots: tuple[str, str], seed: int, kills: Callable[[], int]) -> None:
        self.number, self.roots, self.dice, self.kills = number, roots, random.Random(seed), kills
        self.cut_off = 0  # calls that were answered EIO as the daemon was killed
        self.users = [FIRST_USER + 10 * number + k for k in range(USERS)]
        self.group = FIRST_USER + 10 * number + 9
        self.calls = Calls(self.dice, self.users, self.group)
        # Of what a hand has open in a slot: where it was found, and how it was opened.
        self.areas: dict[tuple[int, int], str] = {}
        self.flags: dict[tuple[int, int], int] = {}
        self.there: list[str] = []  # names, as of late
        self.history: deque[Any] = deque(maxlen=1000)  # hand, word, what with, umask, what came of it
        self.done: Counter[str] = Counter()  # word and outcome
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may stand still
        self.hands, self.pipes = [], []
        for uid in (*self.users, 0):
            ours, theirs = context.Pipe()
            hand = context.Process(target=serve, args=(roots, uid, (self.group,), theirs), daemon=True)
            hand.start()
            self.hands.append(hand)
            self.pipes.append(ours)

    @staticmethod
    def lay(root: Path, number: int) -> None:
        """What a world begins with."""
        first, group = FIRST_USER + 10 * number, FIRST_USER + 10 * number + 9
        root.mkdir()
        root.chmod(0o755)
        for area, uid, gid, mode in (("own", first, first, 0o755), ("group", first + 1, group, 0o2775), ("sticky", 0, 0, 0o1777),
                                     ("tree", first + 2, group, 0o770)):  # fmt: skip
            (root / area).mkdir()
            os.chown(root / area, uid, gid)
            (root / area).chmod(mode)

    def close(self) -> None:
        for pipe in self.pipes:
            with contextlib.suppress(BrokenPipeError):
                pipe.send(None)
        for hand in self.hands:
            hand.join(20)
            hand.kill()

    def ask(self, hand: int, what: Any) -> Any:
        self.pipes[hand].send(what)
        assert self.pipes[hand].poll(60), f"world {self.number}: no answer to {what}"
        return self.pipes[hand].recv()

    # ---- where things are, on the plain side

    def resolve(self, name: str, follows: bool) -> str:
        """Below the root, with symlinks followed as the kernel does, the last one if it `follows`."""
        root, path = os.path.realpath(self.roots[PLAIN]), f"{self.roots[PLAIN]}/{name}"
        path = os.path.realpath(path) if follows else f"{os.path.realpath(os.path.dirname(path))}/{os.path.basename(path)}"
        return os.path.relpath(path, root)

    def area(self, name: str, follows: bool = False) -> str:
        return self.resolve(name, follows).split("/")[0]

    def plain_path(self, hand: int, slot: int) -> str | None:
        fd = self.ask(hand, "descriptors").get(slot)
        return None if fd is None else f"/proc/{self.hands[hand].pid}/fd/{fd}"

    # ---- what is used

    def owners(self, st: os.stat_result, area: str) -> list[tuple[str, int]]:
        return [("user", st.st_uid), ("group", st.st_gid), *([("tree", self.number)] if area == "tree" else [])]

    def used(self, root: str, attribute: str) -> Usage:
        """What a walk finds, and what is open without a name."""
        sums: dict[tuple[str, int], list[int]] = {}
        counted = set()

        def count(path: str, area: str, only_orphans: bool) -> None:
            st = os.stat(path, follow_symlinks=only_orphans)
            if st.st_ino in counted or (only_orphans and st.st_nlink):
                return
            counted.add(st.st_ino)
            for owner in self.owners(st, area):
                s = sums.setdefault(owner, [0, 0])
                s[0] += cost(st, path, RESERVED if only_orphans else attribute)
                s[1] += 1

        for name in each(root):
            count(f"{root}/{name}", name.split("/")[0], False)
        for k, hand in enumerate(self.hands):
            for slot, fd in self.ask(k, "descriptors").items():
                count(f"/proc/{hand.pid}/fd/{fd}", self.areas[k, slot], True)
        return {k: (v[0], v[1]) for k, v in sums.items() if k[1] in (*self.users, self.group) or k[0] == "tree"}

    def limits(self, owner: tuple[str, int]) -> tuple[int, int]:
        none = 1 << 60
        if owner[0] == "user":
            return (BYTES, FILES) if owner[1] else (none, none)
        if owner[0] == "tree":
            return TREE_BYTES, TREE_FILES
        return (GROUP_BYTES if owner[1] == self.group else none), none

    def over(self, growth: Growth, is_done: bool) -> list[str]:
        """Whose limits it would pass, or has."""
        usage = self.used(self.roots[PLAIN], RESERVED)
        found = []
        for owner, size, files in growth:
            now, limit = usage.get(owner, (0, 0)), self.limits(owner)
            then = now if is_done else (now[0] + size, now[1] + files)
            if (size > 0 and then[0] > limit[0]) or (files > 0 and then[1] > limit[1]):
                found.append(f"{owner} has {now} of {limit}, {size, files} of it new" if is_done else str(owner))
        return found

    # ---- what a call may cost, as it is before it

    def growth(self, hand: int, word: str, arguments: tuple[Any, ...]) -> Growth:
        if word in ("mkdir", "mkfifo", "symlink"):
            return self.of_new(hand, self.resolve(arguments[0], False))
        if word == "open":
            name, flags = self.resolve(arguments[1], True), arguments[2]
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                return self.of_new(hand, f"{name}/x")
            return self.of_new(hand, name) if flags & os.O_CREAT and not os.path.lexists(f"{self.roots[PLAIN]}/{name}") else []
        if word == "chown":
            return self.of_giving(*arguments)
        if word in LENGTHS:
            return self.of_longer(hand, word, arguments)
        return []

    def of_new(self, hand: int, name: str) -> Growth:
        try:
            folder = os.stat(f"{self.roots[PLAIN]}/{os.path.dirname(name)}")
        except OSError:
            return []
        uid = (*self.users, 0)[hand]
        group = folder.st_gid if folder.st_mode & stat.S_ISGID else uid
        trees = [(("tree", self.number), 0, 1)] if name.split("/")[0] == "tree" else []
        return [(("user", uid), 0, 1), (("group", group), 0, 1), *trees]

    def of_giving(self, name: str, uid: int, gid: int) -> Growth:
        path = f"{self.roots[PLAIN]}/{self.resolve(name, False)}"
        try:
            st = os.lstat(path)
            size = cost(st, path, RESERVED)
        except OSError:
            return []
        new = [(("user", uid), size, 1)] if uid not in (-1, st.st_uid) else []
        return [*new, (("group", gid), size, 1)] if gid not in (-1, st.st_gid) else new

    def of_longer(self, hand: int, word: str, arguments: tuple[Any, ...]) -> Growth:
        target = self.target(hand, word, arguments)
        if not target:
            return []
        path, area = target
        st = os.stat(path)
        now = cost(st, path, RESERVED)
        if word in ("truncate", "ftruncate"):
            end = arguments[1]
        elif word == "write":
            is_append = self.flags[hand, arguments[0]] & os.O_APPEND
            end = (st.st_size if is_append else arguments[2]) + len(arguments[1]) if arguments[1] else 0
        elif word == "fallocate":
            end = 0 if arguments[1] & PUNCH_HOLE else arguments[2] + arguments[3]
        else:
            source = self.plain_path(hand, arguments[0])
            length = min(arguments[2], max(os.stat(source).st_size - arguments[3], 0)) if source else 0
            end = arguments[4] + length if length else 0
        return [(owner, max(end - now, 0), 0) for owner in self.owners(st, area)]

    def target(self, hand: int, word: str, arguments: tuple[Any, ...]) -> tuple[str, str] | None:
        """The file whose length a call changes."""
        if word == "truncate" or word == "open":
            name = self.resolve(arguments[word == "open"], True)
            path = f"{self.roots[PLAIN]}/{name}"
            return (path, name.split("/")[0]) if os.path.isfile(path) else None
        slot = arguments[1] if word == "copy" else arguments[0]
        path = self.plain_path(hand, slot)
        return (path, self.areas[hand, slot]) if path and os.path.isfile(path) else None

    def remember_reserved(self, hand: int, word: str, arguments: tuple[Any, ...], target: tuple[str, str] | None, size: int) -> None:
        """After a call that succeeded, of a file that was that long."""
        if not target:
            return
        if word == "fallocate" and arguments[1] & KEEP_SIZE and not arguments[1] & PUNCH_HOLE:
            end = arguments[2] + arguments[3]
            if end > size:
                os.setxattr(target[0], RESERVED, struct.pack("<q", max(end, cost(os.stat(target[0]), target[0], RESERVED))))
        elif (word in ("truncate", "ftruncate") and arguments[1] <= size) or (word == "open" and arguments[2] & os.O_TRUNC):
            try:
                os.removexattr(target[0], RESERVED)
            except OSError as e:
                assert e.errno == errno.ENODATA

    # ---- one call

    def is_across(self, hand: int, word: str, arguments: tuple[Any, ...]) -> bool:
        """Whether it would move something into a folder with limits of its own, or out of it."""
        if word in ("rename", "link"):
            return (self.area(arguments[0]) == "tree") != (self.area(arguments[1]) == "tree")
        return word == "name_it" and (self.areas.get((hand, arguments[0])) == "tree") != (self.area(arguments[1]) == "tree")

    def when_it_was_closed(self, hand: int, call: Any) -> Any:
        """A file without a name costs until the daemon hears that it was closed, for which nobody waits."""
        got: Any = None

        def has_room() -> bool:
            nonlocal got
            got = self.ask(hand, call)
            return got != ("error", errno.EDQUOT)

        with contextlib.suppress(AssertionError):
            eventually(has_room, SLACK)
        return got

    def step(self) -> None:
        hand = USERS if self.dice.random() < 0.05 else self.dice.randrange(USERS)
        if sum(self.done.values()) % 10 == 0:
            self.there = [name for name in each(self.roots[PLAIN]) if "/" in name]
        word, arguments = self.calls.some(self.there, list(self.ask(hand, "descriptors")))
        umask = self.dice.choice((0o022, 0o022, 0o027, 0o002, 0))
        self.history.append([hand, word, brief(arguments), umask, ""])
        growth = self.growth(hand, word, arguments)
        area = self.area(arguments[1], True) if word == "open" else ""
        target = self.target(hand, word, arguments) if word in ("open", "truncate", "ftruncate", "fallocate") else None
        size = os.stat(target[0]).st_size if target else 0
        kills = self.kills()
        got = self.ask(hand, (MOUNT, umask, word, *arguments))
        if got == ("error", errno.EIO) and self.kills() > kills:
            # Linux answers so what it was handing to the daemon, or taking from it, in the moment that it was killed, if it
            # had to look for the memory: seldom, and not ours to mend (fs/README).
            self.cut_off += 1
            got = self.ask(hand, (MOUNT, umask, word, *arguments))
        if got == ("error", errno.EDQUOT) and not self.over(growth, False):
            got = self.when_it_was_closed(hand, (MOUNT, umask, word, *arguments))
        self.history[-1][-1] = name_of(got[1]) if got[0] == "error" else got[0]
        self.done[f"{word} {self.history[-1][-1]}"] += 1
        if got == ("error", errno.EDQUOT):
            assert hand != USERS and self.over(growth, False), f"there is room for {growth}: {self.used(self.roots[PLAIN], RESERVED)}"
            return
        if got == ("error", errno.EXDEV) and self.is_across(hand, word, arguments):
            return
        must = self.ask(hand, (PLAIN, umask, word, *arguments))
        assert got == must, f"{brief(got)}, {brief(must)} on the plain folder"
        if got[0] != "ok":
            return
        if word == "open":
            self.areas[hand, arguments[0]], self.flags[hand, arguments[0]] = area, arguments[2]
        self.remember_reserved(hand, word, arguments, target, size)
        if growth and hand != USERS:
            passed = self.over(growth, True)
            assert not passed, passed

    def run(self, goes_on: Callable[[], bool]) -> None:
        while goes_on():
            try:
                self.step()
            except Exception as e:
                raise AssertionError(f"world {self.number}, after {sum(self.done.values())} calls: {list(self.history)[-20:]}: {e!r}") from e

    # ---- all of it

    def check(self, below: str, report: Callable[[], Usage]) -> None:
        """Nobody does anything meanwhile. `below`: this world in the tree below the mount."""
        plain = picture(self.roots[PLAIN])
        for root in (self.roots[MOUNT], below):
            there = picture(root)
            differences = {name: (there.get(name), plain.get(name)) for name in there.keys() | plain.keys() if there.get(name) != plain.get(name)}
            assert not differences, f"{root}: there, and as it must be: {brief(differences)}; after {list(self.history)}"
        for hand in range(len(self.hands)):
            there, must = (self.ask(hand, (side, 0, "whole")) for side in (MOUNT, PLAIN))
            assert there == must, f"what is open in hand {hand}: {brief(there)}, must be {brief(must)}"
        must = self.used(self.roots[PLAIN], RESERVED)
        walked = self.used(below, RESERVED_BELOW)
        assert walked == must, f"a walk below finds {walked}, must be {must}; after {list(self.history)}"
        try:
            eventually(lambda: self.mine(report(), must) == must, SLACK)  # who closes a file doesn't wait for the daemon
        except AssertionError:
            raise AssertionError(f"{self.mine(report(), must)} is counted, must be {must}; after {list(self.history)}") from None

    def mine(self, usage: Usage, must: Usage) -> Usage:
        """What is of this world in a report."""
        return {k: v for k, v in usage.items() if v != (0, 0) and (k in must or k == ("tree", self.number) or k[1] in (*self.users, self.group))}
