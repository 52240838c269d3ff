# SPDX-License-Identifier: BSD-3-Clause
"""Random changes of a bucket by several processes on a mount and by another client, against a model of what each may see.

The client sees what is there, exactly. The mount sees of each name what was there at some time within the last `list_time`,
but nothing older than its own last change of it (unless the daemon died since, which forgets that). Names at the top are
independent of each other: several are changed at once.

BUTLERFS_MODEL_SECONDS: how long each (default 8; hours by hand); BUTLERFS_TEST_SEED: which changes.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mounting
import pytest
import s3server
from bucket_hand import serve
from mounting import SLACK, eventually

SECONDS = float(os.environ.get("BUTLERFS_MODEL_SECONDS", "8"))
SEED = int(os.environ.get("BUTLERFS_TEST_SEED", "0"))
HANDS = 3
LIST_TIME, LATE = 1.0, 1.5  # of a machine with much to do
PART = 5 << 20
FOLDERS = ("d0", "d1")
TOPS = ("f0", "f1", "f2", "f3", *FOLDERS)
FILES = ("f0", "f1", "f2", "f3", *(f"{d}/g{i}" for d in FOLDERS for i in range(2)))
ABSENT = None

Value = bytes | None


class Truth:
    """What is in the bucket, and what the mount may take for it."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.was: dict[str, list[tuple[float, Any]]] = {}  # name -> (until when, what it was), of files and folders
        self.own: dict[str, float] = {}                    # when the mount last changed it

    def now(self, name: str) -> Any:
        """Of a file: its bytes; of a folder: whether it is there."""
        if name in FOLDERS:
            return any(k.startswith(name + "/") for k in self.objects)
        return self.objects.get(name, ABSENT)

    def become(self, objects: dict[str, bytes], by_mount: tuple[str, ...] = ()) -> None:
        at = time.monotonic()
        before = {name: self.now(name) for name in (*FILES, *FOLDERS)}
        self.objects = objects
        for name, old in before.items():
            if self.now(name) != old:
                self.was.setdefault(name, []).append((at, old))
        for name in by_mount:
            self.own[name] = at

    def may_be(self, name: str) -> list[Any]:
        since = max(time.monotonic() - LIST_TIME - LATE, self.own.get(name, 0))
        self.was[name] = [w for w in self.was.get(name, []) if w[0] >= time.monotonic() - 60]
        return [self.now(name), *(old for until, old in self.was[name] if until > since)]

    def may_be_there(self, name: str) -> set[bool]:
        return {v is not ABSENT and v is not False for v in self.may_be(name)}


class Model:
    def __init__(self, m: mounting.Mount, client: Any, bucket: str, rng: random.Random, write: str) -> None:
        self.m, self.client, self.bucket, self.rng, self.may_replace = m, client, bucket, rng, write == "replace"
        self.truth = Truth()
        self.writing: dict[int, tuple[str, bytes, int]] = {}  # hand -> name, bytes so far, the errno that it was given
        # Names that the client has changed while they were being written here: the mount may have lost sight of those files,
        # and the kernel may know them as the client's for a while.
        self.shadowed: set[str] = set()
        self.history: list[Any] = []
        self.made = 0
        # A fork of a process with threads may stand still.
        context = multiprocessing.get_context("spawn")
        self.pipes, self.hands = [], []
        for _ in range(HANDS):
            ours, theirs = context.Pipe()
            hand = context.Process(target=serve, args=(str(m.path), theirs), daemon=True)
            hand.start()
            self.pipes.append(ours)
            self.hands.append(hand)

    def close(self) -> None:
        for pipe in self.pipes:
            pipe.send(None)
        for hand in self.hands:
            hand.join(10)
            hand.kill()

    # ---- the bucket

    def in_bucket(self) -> dict[str, bytes]:
        keys = [o["Key"] for o in self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])]
        return {k: bytes(self.client.get_object(Bucket=self.bucket, Key=k)["Body"].read()) for k in keys}

    def part_of(self, objects: dict[str, bytes], tops: set[str]) -> dict[str, bytes]:
        return {k: v for k, v in objects.items() if k.split("/")[0] in tops}

    def observe(self, outcomes: list[dict[str, bytes]], tops: set[str], by_mount: tuple[str, ...], what: Any) -> None:
        """What is there below `tops` is one of these, soon (an empty file's end isn't waited for, nor a folder's marker)."""
        seen: dict[str, bytes] = {}

        def is_one() -> bool:
            nonlocal seen
            seen = self.in_bucket()
            return self.part_of(seen, tops) in outcomes

        try:
            eventually(is_one, SLACK)
        except AssertionError:
            brief = [sorted((k, len(v)) for k, v in o.items()) for o in (self.part_of(seen, tops), *outcomes)]
            raise AssertionError(f"{what}: the bucket has {brief[0]}, may have {brief[1:]}") from None
        others = {k: v for k, v in self.truth.objects.items() if k.split("/")[0] not in tops}
        has_changed = self.part_of(seen, tops) != self.part_of(self.truth.objects, tops)
        self.truth.become(others | self.part_of(seen, tops), by_mount if has_changed else ())

    # ---- words

    def data(self) -> bytes:
        self.made += 1
        size = self.rng.choice([0, 1, 10, 1000, 1000, 70000, PART + 77])
        return (b"%d " % self.made * (size // 2 + 1))[:size]

    def written(self, name: str) -> list[int]:
        return [hand for hand, (n, _, error) in self.writing.items() if n == name and not error]

    def parent_may_be_missing(self, name: str) -> bool:
        return "/" in name and False in self.truth.may_be_there(name.split("/")[0])

    def with_marker(self, objects: dict[str, bytes], gone: str) -> dict[str, bytes]:
        """After the mount has taken something from a folder."""
        folder = gone.split("/")[0] + "/"
        if "/" in gone and not any(k.startswith(folder) for k in objects):
            return objects | {folder: b""}
        return objects

    # ---- one step: what is asked of whom, and what may come of it. Each returns the check of its answer.

    def beginning_errors(self, name: str) -> set[int]:
        errors = {errno.ENOENT} if self.parent_may_be_missing(name) else set()
        if self.written(name):
            errors |= {errno.EBUSY, errno.EEXIST, errno.EPERM}
        if not self.may_replace and True in self.truth.may_be_there(name):
            errors |= {errno.EPERM, errno.EEXIST}
        return errors

    def can_begin(self, name: str) -> bool:
        """Whether it may succeed."""
        is_free = self.may_replace or False in self.truth.may_be_there(name)
        has_parent = "/" not in name or True in self.truth.may_be_there(name.split("/")[0])
        return is_free and has_parent and not self.written(name)

    def close_check(self, name: str, data: bytes, said: Any, errors: set[int], what: Any) -> None:
        tops, objects = {name.split("/")[0]}, self.truth.objects
        before = self.part_of(objects, tops)
        after = self.part_of(objects | {name: data}, tops)
        if said[0] == "ok":
            there = not self.may_replace and name in objects
            assert not there or not data, f"{what}: it was there, and is replaced"
            outcomes = [before] if there else [after]
        else:
            if not self.may_replace and name in objects:
                errors = errors | {errno.EEXIST}
            assert said[1] in errors, f"{what}: {errno.errorcode[said[1]]}, may be {errors}"
            outcomes = [before]
        # The kernel may keep it in mind for a while that its folder was removed.
        is_seen = name not in self.shadowed and not self.parent_may_be_missing(name)
        self.observe(outcomes, tops, (name, *tops) if said[0] == "ok" and is_seen else (), what)

    def do_write(self, hand: int, name: str) -> Any:
        data, errors, can = self.data(), self.beginning_errors(name), self.can_begin(name)

        def check(said: Any) -> None:
            assert can or said[0] == "error", f"write {name}: it succeeded"
            self.close_check(name, data, said, errors, f"write {name}")

        return ("write", name, data), check

    def do_begin(self, hand: int, name: str) -> Any:
        errors, can = self.beginning_errors(name), self.can_begin(name)

        def check(said: Any) -> None:
            assert said == ("ok", None) if not errors else can or said[0] == "error", f"begin {name}: {said}, may be {errors}"
            if said[0] == "ok":
                self.writing[hand] = (name, b"", 0)
                self.shadowed.discard(name)
            else:
                assert said[1] in errors, f"begin {name}: {errno.errorcode[said[1]]}, may be {errors}"

        return ("begin", name), check

    def do_go_on(self, hand: int, name: str) -> Any:
        more = self.data() or b"x"
        name, data, error = self.writing[hand]

        def check(said: Any) -> None:
            assert said == (("error", error) if error else ("ok", None)), f"go on with {name}: {said}, {error}"
            self.writing[hand] = (name, data + more, error)

        return ("go_on", more), check

    def do_end(self, hand: int, name: str) -> Any:
        name, data, error = self.writing[hand]

        def check(said: Any) -> None:
            del self.writing[hand]
            # Of what was lost before anything was written, or deleted, an empty file's close says nothing.
            assert not error or said[0] == "error" or not data, f"end {name}: it was lost, and all is said to be well"
            if error:
                tops = {name.split("/")[0]}
                self.observe([self.part_of(self.truth.objects, tops)], tops, (), f"end {name} that was lost")
            else:
                self.close_check(name, data, said, set(), f"end {name}")

        return ("end",), check

    def do_unlink(self, hand: int, name: str) -> Any:
        may, tops = self.truth.may_be_there(name), {name.split("/")[0]}
        writers = self.written(name)

        def check(said: Any) -> None:
            if said[0] == "error":
                is_lost = not writers or name in self.shadowed or self.parent_may_be_missing(name)
                assert said[1] == errno.ENOENT and False in may and is_lost, f"unlink {name}: {said}"
                return
            assert True in may or writers, f"unlink {name}: it succeeded"
            for hand in writers:
                self.writing[hand] = (name, self.writing[hand][1], errno.ECANCELED)
            gone = {k: v for k, v in self.truth.objects.items() if k != name}
            outcomes = [self.part_of(self.with_marker(gone, name), tops)] if True in may else []
            outcomes += [self.part_of(self.truth.objects, tops)] if writers and False in may else []
            self.observe(outcomes, tops, (name, *tops), f"unlink {name}")

        return ("unlink", name), check

    def do_mkdir(self, hand: int, name: str) -> Any:
        name = name.split("/")[0] if "/" in name else self.rng.choice(FOLDERS)
        may = self.truth.may_be_there(name)

        def check(said: Any) -> None:
            if said[0] == "error":
                assert said[1] == errno.EEXIST and True in may, f"mkdir {name}: {said}"
                return
            assert False in may, f"mkdir {name}: it succeeded"
            self.observe([self.part_of(self.truth.objects, {name}) | {name + "/": b""}], {name}, (name,), f"mkdir {name}")

        return ("mkdir", name), check

    def do_rmdir(self, hand: int, name: str) -> Any:
        name = name.split("/")[0] if "/" in name else self.rng.choice(FOLDERS)
        may = self.truth.may_be_there(name)
        is_empty = not [k for k in self.truth.objects if k.startswith(name + "/") and k != name + "/"]

        def check(said: Any) -> None:
            if said[0] == "error":
                right = said[1] == errno.ENOENT and False in may or said[1] == errno.ENOTEMPTY and not is_empty
                assert right, f"rmdir {name}: {said}, {may}"
                return
            assert is_empty, f"rmdir {name}: it succeeded"
            self.observe([{}], {name}, (name,), f"rmdir {name}")

        return ("rmdir", name), check

    def do_rename(self, hand: int, name: str) -> Any:
        to = self.rng.choice([f for f in FILES if f != name])
        tops = {name.split("/")[0], to.split("/")[0]}
        may, errors = self.truth.may_be_there(name), set()
        source = self.truth.objects.get(name)
        if False in may or source is None or self.parent_may_be_missing(name) or self.parent_may_be_missing(to):
            errors.add(errno.ENOENT)
        if self.written(name) or self.written(to):
            errors.add(errno.EBUSY)
        if not self.may_replace and (True in self.truth.may_be_there(to) or to in self.truth.objects):
            errors.add(errno.EEXIST)
        errors |= {errno.ESTALE} if len(self.truth.may_be(name)) > 1 else set()

        def check(said: Any) -> None:
            if said[0] == "error":
                assert said[1] in errors, f"rename {name} {to}: {errno.errorcode[said[1]]}, may be {errors}"
                return
            assert source is not None and not self.written(name) and not self.written(to), f"rename {name} {to}: it succeeded"
            moved = {k: v for k, v in self.truth.objects.items() if k != name} | {to: source}
            old = self.truth.may_be(name)[1:]
            self.observe([self.part_of(self.with_marker(moved, name), tops)], tops, (name, to, *tops), f"rename {name} {to}")
            # The kernel moves what it knew of the file, too.
            self.truth.was.setdefault(to, []).extend((time.monotonic(), v) for v in old)

        return ("rename", name, to), check

    # ---- looking

    def do_stat(self, hand: int, name: str) -> Any:
        if self.rng.random() < 0.3:
            name = self.rng.choice(FOLDERS)
        writers = self.written(name)
        sizes = [len(self.writing[w][1]) for w in writers]

        def check(said: Any) -> None:
            may = self.truth.may_be(name)
            if said[0] == "error":
                missing = {ABSENT, False} & set(may) or (self.parent_may_be_missing(name))
                assert said[1] == errno.ENOENT and missing, f"stat {name}: {said}"
            elif name in FOLDERS:
                assert said[1][0] and True in may, f"stat {name}: {said}"
            else:
                right = [(False, len(v)) for v in may if v is not ABSENT] + [(False, s) for s in sizes]
                assert said[1] in right, f"stat {name}: {said[1]}, may be {right}"

        return ("stat", name), check

    def do_list(self, hand: int, name: str) -> Any:
        folder = self.rng.choice(["", *FOLDERS])
        names = TOPS if not folder else [f"{folder}/g{i}" for i in range(2)]

        def check(said: Any) -> None:
            if said[0] == "error":
                assert said[1] == errno.ENOENT and folder and False in self.truth.may_be_there(folder), f"list {folder}: {said}"
                return
            listed = set(said[1])
            for n in names:
                is_there = n.split("/")[-1] in listed
                assert is_there in self.truth.may_be_there(n), f"list {folder!r}: {sorted(listed)}, {n} is {not is_there}"
            assert listed <= {n.split("/")[-1] for n in names}, f"list {folder!r}: {listed}"

        return ("list", folder), check

    def do_read(self, hand: int, name: str) -> Any:
        writers = self.written(name)

        def check(said: Any) -> None:
            may = self.truth.may_be(name)
            if said[0] == "ok":
                assert said[1] in may, f"read {name}: {len(said[1])} bytes {said[1][:20]!r}"
                return
            errors = {errno.EBUSY} if writers else set()
            errors |= {errno.ENOENT} if ABSENT in may or self.parent_may_be_missing(name) else set()
            errors |= {errno.ESTALE, errno.EREMOTEIO, errno.ENOENT} if len(may) > 1 else set()
            assert said[1] in errors, f"read {name}: {errno.errorcode[said[1]]}, may be {errors}"

        return ("read", name), check

    VERBS = (do_write, do_write, do_begin, do_unlink, do_mkdir, do_rmdir, do_rename, do_stat, do_stat, do_list, do_list, do_read, do_read)
    OF_WRITERS = (do_go_on, do_go_on, do_end)

    # ---- the other client

    def elsewhere(self) -> None:
        name = self.rng.choice(FILES)
        objects = dict(self.truth.objects)
        if self.rng.random() < 0.6:
            objects[name] = self.data()
            self.history.append(("client put", name, len(objects[name])))
            self.client.put_object(Bucket=self.bucket, Key=name, Body=objects[name])
        else:
            objects.pop(name, None)
            self.history.append(("client delete", name))
            self.client.delete_object(Bucket=self.bucket, Key=name)
        self.truth.become(objects)
        if self.written(name):
            self.shadowed.add(name)

    def step(self) -> None:
        """Some hands at once, at different tops; or the client."""
        if self.rng.random() < 0.25:
            self.elsewhere()
            return
        taken: set[str] = set()
        asked = []
        for hand in self.rng.sample(range(HANDS), self.rng.choice([1, 1, 2, 3])):
            name = self.rng.choice(FILES)
            is_writer = hand in self.writing and self.rng.random() < 0.5
            verbs = self.OF_WRITERS if is_writer else [v for v in self.VERBS if hand not in self.writing or v is not Model.do_begin]
            words, check = self.rng.choice(verbs)(self, hand, name)
            at = self.writing[hand][:1] if is_writer else [w for w in words[1:] if isinstance(w, str)]
            tops = {n.split("/")[0] for n in at} if words[0] != "list" else set(TOPS)
            if taken & tops:
                continue
            taken |= tops
            asked.append((hand, words, check))
        for hand, words, _ in asked:
            self.history.append((hand, *(len(w) if isinstance(w, bytes) else w for w in words)))
            self.pipes[hand].send(words)
        answers = [self.pipes[hand].recv() for hand, _, _ in asked]
        for (_, _, check), said in zip(asked, answers, strict=True):
            check(said)

    def die(self) -> None:
        self.history.append("death")
        os.kill(self.m.pid(), signal.SIGKILL)
        self.truth.own.clear()
        self.writing = {hand: (name, data, errno.EIO) for hand, (name, data, _) in self.writing.items()}

    def settle(self) -> None:
        """Both see the same, once there was time."""
        assert self.in_bucket() == self.truth.objects
        for hand in list(self.writing):
            words, check = self.do_end(hand, "")
            self.history.append((hand, *words))
            self.pipes[hand].send(words)
            check(self.pipes[hand].recv())
        wanted = {n: v for n in (*FILES, *FOLDERS) if (v := self.truth.now(n)) not in (ABSENT, False)}
        seen: dict[str, Any] = {}

        def is_same() -> bool:
            nonlocal seen
            seen = {os.fsdecode(p): True if st.st_mode & 0o170000 == 0o040000 else Path(self.m.path, os.fsdecode(p)).read_bytes()
                    for p, st in mounting.walk(os.fsencode(str(self.m.path))).items()}  # fmt: skip
            return seen == wanted

        def is_same_by_now() -> bool:
            try:
                return is_same()
            except (OSError, AssertionError):  # it changed midway
                return False

        try:
            eventually(is_same_by_now, LIST_TIME + SLACK)
        except AssertionError:
            raise AssertionError(f"the mount has {sorted(seen)}, the bucket {sorted(wanted)}") from None


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Any]:
    folder = place / "model-server"
    folder.mkdir()
    made = s3server.whole(folder)
    yield made
    made.stop()


@pytest.mark.parametrize(("write", "has_deaths"), [("replace", False), ("replace", True), ("new", False)])
def test_mount_and_client_see_what_they_may_after_any_changes(server, mount, write, has_deaths):
    rng = random.Random(f"{SEED} {write} {has_deaths}")
    bucket = f"model-{write}-{has_deaths}".lower()
    server.bucket(bucket)
    client = server.client()
    theirs = client.create_multipart_upload(Bucket=bucket, Key="f0")["UploadId"]
    client.upload_part(Bucket=bucket, Key="f0", UploadId=theirs, PartNumber=1, Body=b"theirs")
    m = mount(f"s3://{bucket}", refresh=None, write=write, rename="copy", upload_part="5M", list_time="1s", **server.options())
    if has_deaths and not m.began["modes"]["takeover"]:
        pytest.skip("this kernel cannot resend requests (Linux 6.9 can)")
    m.limit = SECONDS + 120
    m.watch()
    model = Model(m, client, bucket, rng, write)
    end, steps = time.monotonic() + SECONDS, 0
    try:
        while time.monotonic() < end:
            model.step()
            steps += 1
            if has_deaths and rng.random() < 0.02:
                model.die()
            if steps % 100 == 0:
                model.settle()
        model.settle()
    except AssertionError as e:
        raise AssertionError(f"seed {SEED}, step {steps}: {e}; before it: {model.history[-40:]}") from None
    finally:
        model.close()
    print(f"seed {SEED}: {steps} steps")
    left: list[Any] = []

    def is_only_theirs() -> bool:
        left[:] = [(u["Key"], u["UploadId"]) for u in client.list_multipart_uploads(Bucket=bucket).get("Uploads") or []]
        return left == [("f0", theirs)]

    try:
        eventually(is_only_theirs, 3 * SLACK)
    except AssertionError:
        raise AssertionError(f"seed {SEED}: uploads {left}, of the other client: {theirs}; {m.log()[-3000:]}") from None
