# SPDX-License-Identifier: BSD-3-Clause
"""The mount does not go away: the daemon is killed, upgraded, kept from starting, under load."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import makerepo
import mounting
import pytest
import reftree

LOAD = Path(__file__).with_name("load.py")
KILLS, SECONDS = 10, 10.0


@pytest.fixture(scope="module")
def big_folder(place: Path) -> tuple[makerepo.Repository, Path, dict[str, Any]]:
    """A repository with one folder of some thousand entries, and what is in all of it, as JSON."""
    repo = makerepo.make(place / "crash", seed=11, datasets=300, nasty=False)
    butler = repo.butler()
    maker_ref = butler.get_dataset_type("groupPlan")
    from lsst.daf.butler import DataCoordinate, DatasetRef, FileDataset

    butler.collections.register("many/run")
    groups = [f"2024-01-{k % 28 + 1:02d}T{k:05d}" for k in range(1500)]
    butler.registry.insertDimensionData("group", *[{"instrument": "HSC", "name": g} for g in groups])
    shared = repo.elsewhere / "shared"
    shared.mkdir()
    datasets = []
    for k, g in enumerate(groups):
        path = shared / f"{k % 50}.json"
        path.write_bytes(hashlib.blake2b(str(k % 50).encode()).digest() * (k % 50 + 1))
        ref = DatasetRef(maker_ref, DataCoordinate.standardize(instrument="HSC", group=g, universe=butler.dimensions), run="many/run")
        datasets.append((path, ref))
    by_path: dict[Path, list[Any]] = {}
    for path, ref in datasets:
        by_path.setdefault(path, []).append(ref)
    butler.ingest(*[FileDataset(path=str(p), refs=refs, formatter=makerepo._formatter()) for p, refs in by_path.items()], transfer="direct")
    # And one file that takes a while to read.
    big = repo.elsewhere / "big.bin"
    big.write_bytes(os.urandom(6 << 20))
    ref = DatasetRef(butler.get_dataset_type("cfg"), DataCoordinate.make_empty(butler.dimensions), run="many/run")
    butler.ingest(FileDataset(path=str(big), refs=[ref], formatter=makerepo._formatter()), transfer="direct")
    butler.close()
    tree = reftree.expected(repo.root)
    digests: dict[tuple[str, str | None], str] = {}
    files = {}
    for p, f in tree.files.items():
        content = f.content()
        if content is not None and f.recorded_size == len(content):
            d = digests.setdefault((f.uuid, f.component), hashlib.blake2b(content, digest_size=16).hexdigest())
            files[os.fsdecode(p)] = {"size": len(content), "digest": d, "uuid": f.uuid}
    folders = {os.fsdecode(p): sorted(map(os.fsdecode, names)) for p, names in reftree.listings(tree).items()}
    described = {"files": files, "folders": folders}
    where = place / "crash.json"
    where.write_text(json.dumps(described))
    return repo, where, described


class Load:
    def __init__(self, mount: mounting.Mount, tree: Path, kinds: list[str], seconds: float):
        self.processes = [
            subprocess.Popen([sys.executable, str(LOAD), kind, str(mount.path), str(tree), str(seconds)], stdout=subprocess.PIPE, text=True)
            for kind in kinds
        ]
        self.seconds = seconds

    def results(self) -> list[dict[str, Any]]:
        out = []
        try:
            for p in self.processes:
                said, _ = p.communicate(timeout=self.seconds + 60)
                out.append(json.loads(said))
        finally:
            for p in self.processes:
                p.kill()
        return out


def assert_unharmed(results: list[dict[str, Any]], longest: float) -> None:
    for r in results:
        assert not r["errors"], r
        assert r["done"] > (0 if r["kind"] == "slow" else 3), f"{r['kind']} did almost nothing: {r}"
        assert r["longest"] < longest, f"{r['kind']} waited {r['longest']} s"


def needs_takeover(m: mounting.Mount) -> None:
    if not m.began["modes"]["takeover"]:
        pytest.skip("this kernel cannot resend requests (Linux 6.9 can)")


KINDS = ["read", "read", "hold", "map", "stat", "list", "slow"]


@pytest.mark.parametrize("passthrough", ["on", "off"])
def test_ten_deaths_in_ten_seconds_under_load_give_no_error_no_wrong_byte_and_no_hang(big_folder, mount, passthrough):
    repo, described, _ = big_folder
    # Short-lived entries make the kernel ask again and again.
    m = mount(repo, passthrough=passthrough, cache_time="100ms")
    needs_takeover(m)
    load = Load(m, described, KINDS, SECONDS + 4)
    killed = []
    begin = time.monotonic()
    for k in range(KILLS):
        time.sleep(max(0.0, begin + 1 + k * SECONDS / KILLS - time.monotonic()))
        pid = m.pid()
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)
    results = load.results()
    assert len(set(killed)) == KILLS, "the same daemon was killed twice"
    # Under sanitizers a start takes a good part of a second.
    assert_unharmed(results, longest=8)
    after = m.status()
    assert after["lives"] == KILLS + 1
    if passthrough == "off":
        assert after["counters"]["open_passthrough"] == 0
    elif m.began["modes"]["passthrough"] == "on":
        assert after["modes"]["passthrough"] == "on"


def test_requests_that_were_being_worked_on_are_answered_by_the_next_life(big_folder, mount):
    """Without READDIRPLUS caches or luck: the registry is locked, so that requests wait, and then the daemon dies."""
    import sqlite3

    repo, _, tree = big_folder
    m = mount(repo)
    needs_takeover(m)
    db = sqlite3.connect(repo.root / "gen3.sqlite3", timeout=30)
    readers = []
    try:
        db.execute("BEGIN EXCLUSIVE")
        paths = [p for p in tree["files"] if "/run1/" in p][:4]
        readers = [subprocess.Popen(["cat", str(m / p)], stdout=subprocess.PIPE) for p in paths]
        mounting.eventually(lambda: m.counters()["waiters"] >= 1, mounting.SLACK, "requests wait for the registry")
        os.kill(m.pid(), signal.SIGKILL)
        time.sleep(0.3)
    finally:
        db.rollback()
        db.close()
    for p, reader in zip(paths, readers):
        data, _ = reader.communicate(timeout=60)
        assert reader.returncode == 0
        assert hashlib.blake2b(data, digest_size=16).hexdigest() == tree["files"][p]["digest"]
    assert m.counters()["requests_resent"] >= 1


def test_a_passthrough_file_that_is_open_goes_on_being_read_while_no_daemon_lives(big_folder, mount):
    repo, _, tree = big_folder
    m = mount(repo)
    needs_takeover(m)
    if m.began["modes"]["passthrough"] != "on":
        pytest.skip(f"passthrough is off here: {m.began['modes']['passthrough_why']}")
    path = max(tree["files"], key=lambda p: tree["files"][p]["size"])
    with open(m / path, "rb", buffering=0) as f:
        pid = m.pid()
        os.kill(pid, signal.SIGSTOP)  # alive and deaf: nobody else takes over
        try:
            data = b"".join(iter(lambda: f.read(1 << 20), b""))
        finally:
            os.kill(pid, signal.SIGCONT)
    assert hashlib.blake2b(data, digest_size=16).hexdigest() == tree["files"][path]["digest"]


def test_files_and_folders_held_open_over_a_death_still_work_and_are_counted_right(big_folder, mount):
    repo, _, tree = big_folder
    for passthrough in ("on", "off"):
        m = mount(repo, passthrough=passthrough)
        needs_takeover(m)
        paths = [p for p in tree["files"] if "/run1/" in p][:5]
        files = [open(m / p, "rb", buffering=0) for p in paths]
        many = os.scandir(m / "collections/many/run/groupPlan/instrument=HSC")
        seen = [next(many).name for _ in range(5)]
        here = os.open(m / "collections/u/alice/run1", os.O_RDONLY | os.O_DIRECTORY)
        os.kill(m.pid(), signal.SIGKILL)
        for p, f in zip(paths, files):
            assert hashlib.blake2b(f.read(), digest_size=16).hexdigest() == tree["files"][p]["digest"]
        # The same file by another open, while the old one is held.
        for p in paths:
            with open(m / p, "rb") as again:
                assert hashlib.blake2b(again.read(), digest_size=16).hexdigest() == tree["files"][p]["digest"]
        assert sorted(os.listdir(here)) == tree["folders"]["collections/u/alice/run1"]
        seen += [e.name for e in many]
        assert sorted(seen) == tree["folders"]["collections/many/run/groupPlan/instrument=HSC"]
        assert m.counters()["open_files"] == len(files)
        for f in files:
            f.close()
        os.close(here)
        m.assert_nothing_leaked()


def test_inodes_and_a_working_folder_are_the_same_after_a_death(big_folder, mount):
    repo, _, tree = big_folder
    m = mount(repo)
    needs_takeover(m)
    before = {p: os.stat(m / p).st_ino for p in list(tree["files"])[:100]}
    with subprocess.Popen(["bash", "-c", "read; ls; pwd -P"], cwd=m / "collections/u/alice/run1", stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as shell:  # fmt: skip
        os.kill(m.pid(), signal.SIGKILL)
        said, _ = shell.communicate("\n", timeout=60)
    assert said.splitlines() == [*tree["folders"]["collections/u/alice/run1"], str(m / "collections/u/alice/run1")]
    assert {p: os.stat(m / p).st_ino for p in before} == before


def test_an_upgrade_under_load_is_seen_by_nobody(big_folder, mount):
    repo, described, _ = big_folder
    m = mount(repo)
    needs_takeover(m)
    first = m.status()
    load = Load(m, described, KINDS, 6)
    time.sleep(2)
    done = mounting.control("upgrade", m.path)
    assert done.returncode == 0, done.stderr
    mounting.eventually(lambda: m.pid() != first["pid"], mounting.SLACK + 5, "another daemon answers")
    assert_unharmed(load.results(), longest=8)
    assert m.status()["lives"] == 2


def test_an_upgrade_takes_the_programs_that_are_installed_now(big_folder, mount):
    repo, _, tree = big_folder
    build = mounting.public_build(mount.at / "build")
    m = mount(repo, build=build)
    needs_takeover(m)
    old = os.stat(build / "fs/butlerfs").st_ino
    for name in ("butlerfs", "butlerfs-supervisor"):
        # As a package manager does it: a new file takes the name.
        new = build / "fs" / f"{name}.new"
        new.write_bytes((build / "fs" / name).read_bytes())
        new.chmod(0o755)
        new.rename(build / "fs" / name)
    first = m.status()
    assert mounting.control("upgrade", m.path).returncode == 0
    mounting.eventually(lambda: m.pid() != first["pid"], mounting.SLACK + 5)
    for pid in (m.status()["pid"], m.status()["supervisor_pid"]):
        assert not os.readlink(f"/proc/{pid}/exe").endswith("(deleted)"), "an old program still runs"
    assert os.stat(f"/proc/{m.pid()}/exe").st_ino not in (old,)
    assert sorted(os.listdir(m / "collections/u/alice/run1")) == tree["folders"]["collections/u/alice/run1"]


@pytest.mark.parametrize("sabotage", ["removed", "not a program", "ends at once", "hangs at start"])
def test_a_daemon_that_cannot_start_again_gives_users_errors_within_a_limit_and_never_a_hang(big_folder, mount, sabotage):
    repo, _, tree = big_folder
    build = mounting.public_build(mount.at / "build")
    # With less patience than users would get, so that the test ends before they would.
    supervisor = build / "fs/butlerfs-supervisor"
    supervisor.rename(build / "fs/butlerfs-supervisor.real")
    supervisor.write_text(f'#!/bin/sh\nexec "{supervisor}.real" --start-limit-ms=4000 "$@"\n')
    supervisor.chmod(0o755)
    m = mount(repo, build=build, timeout="2s", leak_check=False)
    needs_takeover(m)
    daemon = build / "fs/butlerfs"
    pid = m.pid()
    daemon.rename(build / "fs/gone")
    if sabotage == "not a program":
        daemon.write_text("nonsense")
        daemon.chmod(0o755)
    elif sabotage in ("ends at once", "hangs at start"):
        daemon.write_text("#!/bin/sh\n" + ("exit 1\n" if sabotage == "ends at once" else "exec sleep 1000\n"))
        daemon.chmod(0o755)
    reader = subprocess.Popen(["cat", str(m / next(iter(tree["files"])))], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    os.kill(pid, signal.SIGKILL)
    late = subprocess.Popen(["ls", str(m / "collections/u/alice")], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    for p in (reader, late):
        try:
            p.communicate(timeout=90)
        except subprocess.TimeoutExpired:
            m.end_by_force()
            p.kill()
            raise AssertionError("a user's request hangs") from None
    assert late.returncode != 0, "there is no daemon, so what answered?"
    subprocess.run(["umount", "-l", str(m.path)], capture_output=True)
    mounting.eventually(lambda: not mounting._is_alive(m.began["supervisor_pid"]), 20, "the supervisor ends")
    assert str(daemon) in m.log() or "start" in m.log()
    m.end_by_force()


def test_a_request_that_kills_two_lives_is_answered_eio_and_the_third_life_lives_on(big_folder, mount):
    """Poison: the registry is locked and one reader waits; the daemon crashes under him twice."""
    import sqlite3

    repo, _, tree = big_folder
    m = mount(repo)
    needs_takeover(m)
    db = sqlite3.connect(repo.root / "gen3.sqlite3", timeout=30)
    path = next(p for p in tree["files"] if "/run1/" in p)
    try:
        db.execute("BEGIN EXCLUSIVE")
        reader = subprocess.Popen(["cat", str(m / path)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(2):
            mounting.eventually(lambda: m.counters()["waiters"] >= 1, mounting.SLACK + 4)
            # A crash (being killed would prove nothing against the request) that no sanitizer reports.
            os.kill(m.pid(), signal.SIGABRT)
        _, said = reader.communicate(timeout=60)
        assert reader.returncode != 0 and b"Input/output error" in said, said
        assert m.counters()["requests_poisoned"] >= 1
    finally:
        db.rollback()
        db.close()
    assert sorted(os.listdir(m / "collections/u/alice/run1")) == tree["folders"]["collections/u/alice/run1"]


def test_the_supervisor_s_death_ends_the_mount_cleanly(big_folder, mount):
    repo, _, _ = big_folder
    m = mount(repo, leak_check=False)
    status = m.status()
    os.kill(status["supervisor_pid"], signal.SIGKILL)
    done = subprocess.run(["ls", str(m.path)], capture_output=True, timeout=60)
    assert done.returncode in (0, 1, 2)
    subprocess.run(["umount", "-l", str(m.path)], capture_output=True)
    mounting.eventually(lambda: not mounting._is_alive(status["pid"]), 30, "the daemon ends")
    m.end_by_force()


def test_a_mount_can_be_ended_while_the_daemon_is_dead_and_restarting(big_folder, mount):
    repo, _, _ = big_folder
    m = mount(repo, leak_check=False)
    needs_takeover(m)
    os.kill(m.pid(), signal.SIGKILL)
    m.unmount()
    assert not mounting.is_mounted(m.path)
