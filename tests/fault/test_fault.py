# SPDX-License-Identifier: BSD-3-Clause
"""What the mount stands on fails: the database, the cache's disk, the cache's files."""

from __future__ import annotations

import errno
import os
import random
import shutil
import sqlite3
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import mounting
import pytest
import reftree

RUN1 = "collections/u/alice/run1"


@pytest.fixture
def locked():
    """locked(repo): the database, locked against every reader until the returned call."""
    held = []

    def lock(repo: Any) -> Any:
        db = sqlite3.connect(repo.root / "gen3.sqlite3", timeout=30, check_same_thread=False)
        db.execute("BEGIN EXCLUSIVE")
        held.append(db)

        def release() -> None:
            db.rollback()
            db.close()
            held.remove(db)

        return release

    yield lock
    for db in list(held):
        db.rollback()
        db.close()


def name_of(error: OSError) -> str:
    return errno.errorcode[error.errno]


def test_a_database_that_stays_locked_gives_etimedout_within_the_limit_and_all_is_well_afterwards(own_repository, mount, locked):
    repo = own_repository()
    m = mount(repo, timeout="1s")
    release = locked(repo)
    for look in (lambda: os.listdir(m / RUN1), lambda: os.stat(m / f"{RUN1}/cfg/cfg.yaml")):
        begin = time.monotonic()
        with pytest.raises(OSError) as e:
            look()
        assert name_of(e.value) == "ETIMEDOUT"
        assert 0.5 < time.monotonic() - begin < 1 + mounting.SLACK
    assert m.counters()["requests_timed_out"] >= 2
    release()
    mounting.eventually(lambda: _works(lambda: "cfg" in os.listdir(m / RUN1)), mounting.SLACK)
    assert (m / f"{RUN1}/cfg/cfg.yaml").read_bytes()


def _works(call: Any) -> Any:
    try:
        return call()
    except OSError:
        return False


def test_what_is_known_stays_readable_while_the_database_is_locked(own_repository, mount, locked):
    repo = own_repository()
    m = mount(repo, timeout="2s", refresh="1h")
    seen = set(mounting.walk(m.at(b"collections/u")))
    content = (m / f"{RUN1}/cfg/cfg.yaml").read_bytes()
    release = locked(repo)
    assert set(mounting.walk(m.at(b"collections/u"))) == seen
    assert (m / f"{RUN1}/cfg/cfg.yaml").read_bytes() == content
    release()


def test_a_lock_that_is_shorter_than_the_limit_is_only_a_pause(own_repository, mount, locked):
    repo = own_repository()
    m = mount(repo, timeout="20s")
    release = locked(repo)
    threading.Timer(1.5, release).start()
    begin = time.monotonic()
    assert "cfg" in os.listdir(m / RUN1)
    assert time.monotonic() - begin > 1


def test_one_locked_repository_does_not_hold_up_another_of_the_same_mount(own_repository, expected, mount, locked):
    import yaml

    one, two = own_repository(), own_repository()
    config = mount.at / "mount.yaml"
    config.write_text(yaml.safe_dump({"spaces": {n: {"kind": "butler", "source": str(r.root)} for n, r in (("one", one), ("two", two))}}))
    paths = [p for p in expected(one).files if b"/run1/" in p][:24]
    assert len(paths) == 24
    m = mount("both", config=config, timeout="20s")
    release = locked(one)
    # More waiting requests than there are threads that answer.
    waiting = [subprocess.Popen(["ls", m.at(b"one/" + p)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for p in paths]
    mounting.eventually(lambda: m.counters()["waiters"] >= 1, mounting.SLACK)
    begin = time.monotonic()
    assert (m / f"two/{RUN1}/cfg/cfg.yaml").read_bytes()
    assert "README.txt" in os.listdir(m / "two")
    assert time.monotonic() - begin < mounting.SLACK
    release()
    for p in waiting:
        p.wait(60)


def test_a_user_who_gives_up_waiting_can_be_interrupted(own_repository, mount, locked):
    repo = own_repository()
    m = mount(repo, timeout="25s")
    release = locked(repo)
    waiting = subprocess.Popen(["ls", str(m / RUN1)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    mounting.eventually(lambda: m.counters()["waiters"] >= 1, mounting.SLACK)
    begin = time.monotonic()
    waiting.terminate()
    waiting.wait(20)
    assert time.monotonic() - begin < mounting.SLACK
    mounting.eventually(lambda: m.counters()["waiters"] == 0, mounting.SLACK, "nobody waits for one who left")
    release()


def test_a_database_that_is_taken_away_gives_errors_and_its_return_ends_them(own_repository, mount):
    repo = own_repository()
    m = mount(repo, timeout="2s")
    (repo.root / "gen3.sqlite3").rename(repo.root / "away")
    time.sleep(0.5)
    for _ in range(3):
        try:
            os.listdir(m / RUN1)
        except OSError as e:
            assert name_of(e) in ("EIO", "ETIMEDOUT", "EREMOTEIO", "ENOENT", "EACCES", "ESTALE"), e
    (repo.root / "away").rename(repo.root / "gen3.sqlite3")
    mounting.eventually(lambda: _works(lambda: "cfg" in os.listdir(m / RUN1)), mounting.SLACK + 4)


def test_a_database_that_is_replaced_by_another_is_noticed(own_repository, repository, mount):
    repo = own_repository()
    other = own_repository()
    butler = other.butler()
    butler.collections.register("only/other")
    butler.put({"of": "the other"}, "cfg", run="only/other")
    butler.close()
    m = mount(repo)
    mounting.walk(m.at(b"collections"))
    shutil.copy(other.root / "gen3.sqlite3", repo.root / "new")
    (repo.root / "new").rename(repo.root / "gen3.sqlite3")
    mounting.eventually(lambda: (m / "collections/only/other").is_dir(), 1 + mounting.SLACK)


# ---------------------------------------------------------------------------------------- the cache's disk


@pytest.fixture
def small_disk(root_only, mount):
    """small_disk(bytes): a tmpfs of that size."""
    made = []

    def make(size: int) -> Path:
        at = mount.at / f"disk{len(made)}"
        at.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(at)], check=True)
        made.append(at)
        return at

    yield make
    mount.end()
    mount.mounts.clear()
    for at in made:
        subprocess.run(["umount", "-l", str(at)], check=True)


def fill(at: Path, leave: int) -> None:
    with open(at / "filler", "wb") as f:
        free = os.statvfs(at).f_bavail * os.statvfs(at).f_frsize - leave
        f.write(b"x" * max(0, free))


@pytest.mark.parametrize("leave", [0, 200_000])
def test_a_full_cache_disk_costs_speed_or_refuses_to_mount_but_is_never_a_wrong_answer(repository, expected, mount, small_disk, leave):
    repo = repository(seed=7, datasets=300, nasty=False)
    disk = small_disk(16 << 20)
    (disk / "cache").mkdir()
    fill(disk, leave)
    try:
        m = mount(repo, cache_dir=disk / "cache")
    except AssertionError as e:
        # One clear line that names the folder is an answer too.
        assert "No space left" in str(e) and str(disk) in str(e), e
        return
    _assert_right_or_enospc(m, expected(repo))


def _assert_right_or_enospc(m: mounting.Mount, tree: Any) -> None:
    wrong = []
    for path, file in list(tree.files.items())[::7]:
        content = file.content()
        if content is None:
            continue
        try:
            with open(m.at(path), "rb") as f:
                if f.read() != content:
                    wrong.append(path)
        except OSError as e:
            if name_of(e) not in ("ENOSPC", "EIO"):
                wrong.append((path, name_of(e)))
    assert not wrong, wrong[:10]
    assert m.status()["lives"] == 1, "the daemon died of it"


def test_a_cache_disk_that_fills_up_later_is_never_a_wrong_answer_nor_a_death(repository, expected, mount, small_disk):
    repo = repository(seed=7, datasets=300, nasty=False)
    disk = small_disk(24 << 20)
    (disk / "cache").mkdir()
    m = mount(repo, cache_dir=disk / "cache")
    os.listdir(m / RUN1)
    fill(disk, 0)
    _assert_right_or_enospc(m, expected(repo))
    (disk / "filler").unlink()
    tree = expected(repo)
    for path, file in list(tree.files.items())[::11]:
        if file.artifact():
            assert Path(os.fsdecode(m.at(path))).read_bytes() == file.content()


def test_a_catalogue_that_reaches_its_limit_is_emptied_and_goes_on(own_repository, mount):
    repo = own_repository(datasets=9000)
    m = mount(repo, catalogue_size="64M")
    first = set(mounting.walk(m.at(b"collections/c")))
    assert set(mounting.walk(m.at(b"collections/c"))) == first


def test_a_cache_dir_that_cannot_be_written_costs_its_memory_only_and_is_told(repository, expected, mount, root_only):
    repo = repository(seed=7, datasets=300, nasty=False)
    at = mount.at / "readonly"
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", str(at)], check=True)
    try:
        m = mount(repo, cache_dir=at / "cache")
        _assert_right_or_enospc(m, expected(repo))
        told = [line for line in m.log().splitlines() if " warn" in line or " error" in line]
        assert str(at) in told[0] and "Read-only" in told[0], m.log()
        assert ["catalogue" in told[0], "cache/objects" in told[1], "cache/uploads" in told[2], len(told)] == [True, True, True, 3], "one of each"
        said = mounting.control("status", m.path).stdout
        (line,) = [x for x in said.splitlines() if "catalogue" in x]
        assert "memory" in line, line
        m.end()
        mount.mounts.clear()
    finally:
        subprocess.run(["umount", str(at)], check=True)


@pytest.mark.parametrize("damage", ["emptied", "cut", "zeros", "noise", "bits", "folder"])
def test_a_catalogue_that_is_damaged_while_unmounted_is_made_anew_or_refused_never_believed(repository, expected, mount, damage):
    repo = repository(seed=7, datasets=300, nasty=False)
    tree = expected(repo)
    cache = mount.at / "damaged"
    first = mount(repo, cache_dir=cache)
    mounting.walk(first.at(b""))
    first.unmount()
    files = sorted((p for p in cache.rglob("*") if p.is_file() and p.stat().st_size), key=lambda p: -p.stat().st_blocks)
    assert files, "nothing is kept"
    target = files[0]
    rng = random.Random(5)
    used = min(target.stat().st_size, target.stat().st_blocks * 512)
    if damage == "emptied":
        os.truncate(target, 0)
    elif damage == "cut":
        os.truncate(target, used // 2 + 13)
    elif damage == "folder":
        target.unlink()
        target.mkdir()
    else:
        with open(target, "r+b") as f:
            for _ in range(60):
                at = rng.randrange(0, max(1, used - 4096))
                f.seek(at)
                old = f.read(1)
                f.seek(at)
                f.write({"zeros": bytes(3000), "noise": rng.randbytes(3000), "bits": bytes([old[0] ^ 1 << rng.randrange(8)])}[damage])
    try:
        second = mount(repo, cache_dir=cache)
    except AssertionError as e:
        assert str(cache) in str(e), e
        return
    seen = set(mounting.walk(second.at(b"collections")))
    wanted = {p.removeprefix(b"collections/") for p in (*tree.files, *reftree.all_folders(tree), *reftree.all_links(tree))}
    assert seen == wanted, (sorted(seen - wanted)[:5], sorted(wanted - seen)[:5])
    for path, file in list(tree.files.items())[::9]:
        if file.artifact():
            assert Path(os.fsdecode(second.at(path))).read_bytes() == file.content()
            assert os.getxattr(second.at(path), "user.butler.uuid") == file.uuid.encode()


def test_a_cache_dir_of_another_version_is_made_anew(repository, expected, mount):
    repo = repository(seed=7, datasets=300, nasty=False)
    cache = mount.at / "foreign"
    cache.mkdir()
    for name in ("data.mdb", "catalogue", "catalogue.mdb", "lock.mdb"):
        (cache / name).write_bytes(b"of another time" * 1000)
    try:
        m = mount(repo, cache_dir=cache)
    except AssertionError as e:
        assert str(cache) in str(e)
        return
    assert sorted(os.listdir(m / "collections/u/alice")) == ["run1", "run2", "run3"]


def test_rows_that_are_not_well_formed_or_lead_astray_spoil_nothing_and_open_no_door(own_repository, mount, root_only):
    repo = own_repository()
    secret = repo.root.parent / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    beside = repo.root.parent / "beside"
    beside.write_text("outside the root")
    paths = ["", "/", "../beside", f"file://{secret}", "http://[", "a\0b", "x" * 5000, "s3://bucket/key", "%ZZ%2", "/proc/self/environ", "/dev/zero"]
    with sqlite3.connect(repo.root / "gen3.sqlite3") as db:
        rows = [r for (r,) in db.execute("SELECT r.dataset_id FROM file_datastore_records r JOIN dataset d ON d.id = r.dataset_id JOIN dataset_type t "
                                         "ON t.id = d.dataset_type_id WHERE t.name = 'exposureLog' ORDER BY 1 LIMIT ?", (len(paths),))]  # fmt: skip
        assert len(rows) == len(paths)
        for row, path in zip(rows, paths):
            db.execute("UPDATE file_datastore_records SET path = ? WHERE dataset_id = ?", (path, row))
        db.execute("UPDATE file_datastore_records SET file_size = -5 WHERE path LIKE '%detInfo%' AND path LIKE '%run1%'")
    db.close()
    m = mount(repo)
    seen = mounting.walk(m.at(b""))
    assert any(b"/run1/cfg/" in p for p in seen)
    said = {}
    for path in seen:
        if b"/run1/exposureLog/" in path and b"/exposureLog_" in path or b"/run2/exposureLog/" in path and b"/exposureLog_" in path:
            read = subprocess.run(["setpriv", "--reuid=48123", "--regid=48123", "--clear-groups", "--", "head", "-c", "100", m.at(path)],
                                  capture_output=True, timeout=30)  # fmt: skip
            uuid = os.getxattr(m.at(path), "user.butler.uuid").decode().replace("-", "")
            said[uuid] = read.stdout if read.returncode == 0 else read.stderr.strip().rpartition(b": ")[2]
    shown = {p: said.get(r) for r, p in zip(rows, paths)}
    # What lies where this build can't reach is said to be so.
    errors = {None, b"Remote I/O error", b"Permission denied", b"Operation not supported"}
    assert {p: s for p, s in shown.items() if s not in errors} == {}
    assert shown[f"file://{secret}"] == b"Permission denied"
    intact = [s for r, s in said.items() if r not in rows]
    assert intact and all(s.startswith(b"v: ") for s in intact)
    assert m.status()["lives"] == 1
