# SPDX-License-Identifier: BSD-3-Clause
"""The command: what it refuses and how it says so; mount(8), fstab, autofs, systemd; users; errno."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import pwd
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mounting
import pytest

NOBODY = 48123  # no account is needed: numbers are enough
GROUP = 48200
NOTHING_THERE = "(?i)no such|not there|not exist"


def command(*args: str | Path, env: dict[str, str], timeout: float = 60, as_user: Any = (), build: Path | None = None,
            cwd: Path | None = None) -> subprocess.CompletedProcess[str]:  # fmt: skip
    name = str((build or mounting.BUILD) / "fs" / "butlerfs")
    return subprocess.run([*as_user, name, *map(str, args)], capture_output=True, text=True, timeout=timeout, env=env,
                          stdin=subprocess.DEVNULL, cwd=cwd)  # fmt: skip


def somebody() -> int:
    """fusermount3 asks for the user's name, so this one must have an account: a user that every system has."""
    for name in ("nobody", "daemon"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
    pytest.skip("there is no account but root's here")


def user(uid: int, *groups: int) -> list[str]:
    how = [f"--groups={','.join(map(str, groups))}"] if groups else ["--clear-groups"]
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", *how, "--"]


def as_user_run(uid: int, groups: tuple[int, ...], *line: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*user(uid, *groups), *map(str, line)], capture_output=True, timeout=60)


@pytest.fixture
def small(repository):
    return repository(seed=7, datasets=300, nasty=False)


class Refusal:
    def __init__(self, mount: Any):
        self.mount = mount
        self.at = mount.at / "mnt-refused"
        self.at.mkdir()

    def __call__(self, source: str | Path, *words: str, where: Path | None = None, **options: Any) -> str:
        """The command must refuse, in one line that has these words, and leave nothing mounted."""
        where = where or self.at
        options.setdefault("cache_dir", self.mount.at / "cache-refused")
        extra = {k: options.pop(k) for k in ("as_user", "build", "timeout_s") if k in options}
        extra["timeout"] = extra.pop("timeout_s", 60)
        begin = time.monotonic()
        done = command(source, where, "-o", mounting.option_text(options), env=self.mount.env, **extra)
        self.took = time.monotonic() - begin
        mounted = mounting.is_mounted(where)
        if mounted:
            subprocess.run(["umount", "-l", str(where)], capture_output=True)
        assert done.returncode > 0, f"status {done.returncode}: {done.stderr!r}"
        assert not mounted, "it was mounted all the same"
        assert done.stdout == ""
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        line = lines[0]
        assert line.startswith("butlerfs: ") and len(line) < 600, line
        for word in words:
            assert re.search(word, line), f"{word!r} is not in: {line}"
        leftover = _processes_of(where)
        assert not leftover, f"processes are left: {leftover}"
        return line


def _processes_of(at: Path) -> list[str]:
    """Command lines of butlerfs processes that serve something below `at`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes()
                if b"butlerfs" in line.split(b"\0")[0] and os.fsencode(str(at)) in line:
                    found.append(f"{entry.name} {line!r}")
    return found


@pytest.fixture
def refused(mount: Any) -> Refusal:
    return Refusal(mount)


# --------------------------------------------------------------------------------- wrong arguments


def test_help_names_every_option_and_exits_0(mount):
    done = command("--help", env=mount.env)
    assert done.returncode == 0 and done.stderr == ""
    for word in ("SOURCE", "MOUNTPOINT", "refresh", "cache_dir", "open_as", "config", "timeout", "passthrough", "-f"):
        assert word in done.stdout, word


def test_version_is_one_line_and_exits_0(mount):
    done = command("--version", env=mount.env)
    assert done.returncode == 0 and done.stderr == ""
    assert re.fullmatch(r"butlerfs \d+\.\d+\.\d+.*\n", done.stdout)
    assert mounting.control("--version").stdout.split()[1] == done.stdout.split()[1]


@pytest.mark.parametrize(
    "args, word",
    [
        ([], "(?i)source"),
        (["/nowhere"], "(?i)mount ?point"),
        (["/nowhere", "/tmp", "/third"], "/third"),
        (["--wrong"], "--wrong"),
        (["-z", "/nowhere", "/tmp"], "-z"),
        (["/nowhere", "/tmp", "-o"], "-o"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line_that_points_to_help(mount, args, word):
    done = command(*args, env=mount.env)
    assert done.returncode > 0 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("butlerfs: ") and re.search(word, line), line
    assert "--help" in line, line


@pytest.mark.parametrize(
    "options, words",
    [
        ({"refesh": "1s"}, ["refesh", "refresh"]),
        ({"refresh": "soon"}, ["refresh", "soon"]),
        ({"refresh": "0"}, ["refresh", "10ms"]),
        ({"timeout": "-1s"}, ["timeout", "-1s"]),
        ({"passthrough": "maybe"}, ["passthrough", "maybe", "on"]),
        ({"open_as": "root"}, ["open_as", "root", "caller"]),
        ({"uid": "no-such-user"}, ["uid", "no-such-user"]),
        ({"gid": "no-such-group"}, ["gid", "no-such-group"]),
        ({"umask": "9"}, ["umask", "9"]),
        ({"space": "disk"}, ["space", "disk", "butler"]),
        ({"workers": "0"}, ["workers"]),
        ({"config": "/nowhere/config.yaml"}, ["/nowhere/config.yaml", NOTHING_THERE]),
        ({"remount": True}, ["remount"]),
        ({"cache_dir": ""}, ["cache_dir"]),
    ],
)
def test_a_wrong_option_is_refused_with_its_name_and_what_would_do(small, refused, options, words):
    refused(small.root, *words, **options)


@pytest.mark.parametrize(
    "text, words",
    [
        ("spaces: [", ["line|:[0-9]+"]),
        ("", ["spaces"]),
        ("spaces: {}", ["spaces"]),
        ("spaces: {dp1: {kind: butler}}", ["dp1", "source"]),
        ("spaces: {dp1: {kind: tape, source: /x}}", ["dp1", "tape"]),
        ("spaces: {dp1: {kind: butler, source: /x, colour: red}}", ["colour"]),
        ("spaces: {a/b: {kind: butler, source: /x}}", ["a/b"]),
        ("spaces: {'..': {kind: butler, source: /x}}", [r"\.\."]),
        ("spaces: {dp1: {kind: butler, source: /nowhere}}", ["/nowhere"]),
        ("spaces: 3", ["spaces"]),
    ],
)
def test_a_wrong_configuration_is_refused_with_its_file_and_what_is_wrong(refused, mount, text, words):
    config = mount.at / "mount.yaml"
    config.write_text(text)
    refused("name", *words, config=config)


def test_one_space_that_cannot_be_read_refuses_the_whole_mount(small, refused, mount):
    config = mount.at / "mount.yaml"
    config.write_text(f"spaces: {{good: {{kind: butler, source: {small.root}}}, bad: {{kind: butler, source: /nowhere}}}}")
    refused("name", "bad|/nowhere", config=config)


# ------------------------------------------------------------------------- repositories that can't be read


def test_a_missing_folder_is_refused(refused):
    refused("/nowhere/repo", "/nowhere/repo", NOTHING_THERE)


def test_a_folder_without_butler_yaml_is_refused(refused, mount):
    (mount.at / "plain").mkdir()
    refused(mount.at / "plain", "butler.yaml", str(mount.at / "plain"))


def test_a_label_that_no_index_knows_is_refused(refused):
    refused("no-such-label", "no-such-label", "repository_index|index|label")


def test_a_label_is_looked_up_in_the_index(small, mount):
    index = mount.at / "index.yaml"
    index.write_text(f"dp1: {small.root}\nbroken: /nowhere\n")
    assert (mount("dp1", repository_index=index) / "collections/u").is_dir()
    assert (mount("dp1", repositories=json.dumps({"dp1": str(small.root)})) / "collections/u").is_dir()
    assert (mount("dp1", env={"DAF_BUTLER_REPOSITORY_INDEX": str(index)}) / "collections/u").is_dir()
    assert (mount(f"file://{small.root}/butler.yaml") / "collections/u").is_dir()
    assert (mount(small.root / "butler.yaml") / "collections/u").is_dir()


def test_two_answers_to_what_a_label_is_are_refused(small, refused):
    refused("dp1", "repositor", repository_index="/x.yaml", repositories="{}")


@pytest.mark.parametrize("text", ["{", "- a\n- b\n", "registry: [\n", "\0\1\2", "a: &x [*x", "registry: 3\n"])
def test_a_butler_yaml_that_is_no_such_thing_is_refused(own_repository, refused, text):
    repo = own_repository()
    (repo.root / "butler.yaml").write_text(text)
    refused(repo.root, "butler.yaml")


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("sqlite:///<butlerRoot>/gen3.sqlite3", "sqlite:///<butlerRoot>/other.sqlite3", ["other.sqlite3"]),
        ("sqlite:///<butlerRoot>/gen3.sqlite3", "postgresql://db.example/x", ["(?i)postgres"]),
        ("sqlite:///<butlerRoot>/gen3.sqlite3", "oracle://db.example/x", ["registry.db", "postgresql"]),
        ("fileDatastore.FileDatastore", "tapeDatastore.TapeDatastore", ["TapeDatastore"]),
        ("root: <butlerRoot>", "root: s3://bucket/prefix", ["s3"]),
    ],
)
def test_a_butler_yaml_that_asks_for_what_is_not_supported_is_refused(own_repository, refused, old, new, words):
    repo = own_repository()
    yaml = repo.root / "butler.yaml"
    text = yaml.read_text()
    assert old in text
    yaml.write_text(text.replace(old, new))
    refused(repo.root, *words)
    assert not (repo.root / "other.sqlite3").exists(), "a database was made"


def test_a_remote_butler_is_refused(mount, refused):
    (mount.at / "remote").mkdir()
    (mount.at / "remote/butler.yaml").write_text("cls: lsst.daf.butler.remote_butler.RemoteButler\nremote_butler: {url: <butlerRoot>}\n")
    refused(mount.at / "remote", "RemoteButler")


def test_a_mount_point_inside_its_own_source_is_refused(own_repository, refused):
    repo = own_repository()
    (repo.root / "mnt").mkdir()
    refused(repo.root, "inside the source", where=repo.root / "mnt")


def _change(repo: Any, sql: str, *args: Any) -> None:
    with sqlite3.connect(repo.root / "gen3.sqlite3") as db:
        db.execute(sql, args)
    db.close()


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("config:registry.managers.collections", "my.own.CollectionManager", ["my.own.CollectionManager"]),
        ("config:registry.managers.datasets", "my.own.Datasets", ["my.own.Datasets"]),
        ("config:registry.managers.opaque", "my.own.Opaque", ["my.own.Opaque"]),
        ("version:lsst.daf.butler.registry.datasets.byDimensions._manager.ByDimensionsDatasetRecordStorageManagerUUID", "3.0.0", ["3.0.0"]),
        ("version:lsst.daf.butler.registry.collections.synthIntKey.SynthIntKeyCollectionManager", "4.1.0", ["4.1.0"]),
        ("version:lsst.daf.butler.registry.dimensions.static.StaticDimensionRecordStorageManager", "7.0.0", ["7.0.0"]),
        ("config:dimensions.json", "{", ["dimension"]),
        ("config:dimensions.json", "[]", ["dimension"]),
    ],
)
def test_a_registry_of_an_unknown_kind_or_a_newer_major_version_is_refused(own_repository, refused, name, value, words):
    repo = own_repository()
    _change(repo, "UPDATE butler_attributes SET value = ? WHERE name = ?", value, name)
    refused(repo.root, *words)


def test_a_newer_minor_version_is_accepted(own_repository, mount):
    repo = own_repository()
    _change(repo, "UPDATE butler_attributes SET value = '2.9.9' WHERE name LIKE 'version:%synthIntKey%'")
    assert (mount(repo) / "collections/u").is_dir()


@pytest.mark.parametrize("table", ["butler_attributes", "collection", "dataset_type", "file_datastore_records"])
def test_a_registry_without_a_table_that_is_needed_is_refused(own_repository, refused, table):
    repo = own_repository()
    _change(repo, f"DROP TABLE {table}")
    refused(repo.root, "gen3.sqlite3|" + table)


@pytest.mark.parametrize("content", [b"", b"this is no database\n" * 100, b"SQLite format 3\0" + b"\xff" * 4000])
def test_a_database_file_that_is_none_is_refused(own_repository, refused, content):
    repo = own_repository()
    (repo.root / "gen3.sqlite3").write_bytes(content)
    refused(repo.root, "gen3.sqlite3")


def test_a_database_cut_in_the_middle_is_refused_or_answers_errors_never_a_hang(own_repository, mount, refused):
    repo = own_repository()
    db = repo.root / "gen3.sqlite3"
    os.truncate(db, os.path.getsize(db) // 3)
    refused(repo.root, "gen3.sqlite3")


def test_a_repository_that_the_user_may_not_read_is_refused(own_repository, refused, root_only, dev_fuse_for_all, mount):
    repo = own_repository()
    (repo.root / "gen3.sqlite3").chmod(0o600)
    me = somebody()
    build = mounting.public_build(mount.at / "build")
    for folder in (refused.at, mount.at / "cache-user"):
        folder.mkdir(exist_ok=True)
        os.chown(folder, me, me)
    refused(repo.root, "gen3.sqlite3|" + str(repo.root), "(?i)permission denied", as_user=user(me), build=build, cache_dir=mount.at / "cache-user")
    repo.root.chmod(0o700)
    refused(repo.root, str(repo.root), "(?i)permission denied", as_user=user(me), build=build, cache_dir=mount.at / "cache-user")


def test_a_database_that_stays_locked_is_refused_within_the_limit(own_repository, refused):
    repo = own_repository()
    db = sqlite3.connect(repo.root / "gen3.sqlite3")
    try:
        db.execute("BEGIN EXCLUSIVE")
        refused(repo.root, "gen3.sqlite3", "lock", timeout="1s")
        assert refused.took < 1 + 2 * mounting.SLACK
    finally:
        db.rollback()
        db.close()


# ------------------------------------------------------------------------------------------ mount points


def test_a_mount_point_that_is_missing_or_no_folder_is_refused(small, refused, mount):
    refused(small.root, "/nowhere/mnt", NOTHING_THERE, where=Path("/nowhere/mnt"))
    (mount.at / "file").write_text("")
    refused(small.root, str(mount.at / "file"), "(?i)not a (folder|directory)", where=mount.at / "file")


def test_a_mount_point_that_is_not_empty_is_covered_and_comes_back(small, mount):
    where = mount.at / "full"
    where.mkdir()
    (where / "mine").write_text("mine")
    m = mount(small, where=where)
    assert sorted(os.listdir(where)) == ["README.txt", "by-uuid", "calibs-at", "collections"]
    m.unmount()
    assert (where / "mine").read_text() == "mine"


def test_a_folder_that_is_already_such_a_mount_is_refused_and_the_mount_stays(small, refused, mount):
    m = mount(small)
    done = command(small.root, m.path, "-o", f"cache_dir={mount.at}/c2", env=mount.env)
    again = subprocess.run(["grep", "-c", f" {m.path} ", "/proc/self/mountinfo"], capture_output=True, text=True)
    for _ in range(int(again.stdout) - 1):
        subprocess.run(["umount", str(m.path)])
    assert done.returncode > 0 and len(done.stderr.splitlines()) == 1 and str(m.path) in done.stderr
    assert (m / "collections/u").is_dir()


def test_a_cache_dir_that_another_mount_owns_is_refused(small, refused, mount):
    mount(small, cache_dir=mount.at / "owned")
    refused(small.root, "owned", cache_dir=mount.at / "owned")


def test_a_cache_dir_inside_the_mount_point_is_refused_or_works_but_never_hangs(small, mount):
    where = mount.at / "inside"
    (where / "cache").mkdir(parents=True)
    done = command(small.root, where, "-o", f"cache_dir={where}/cache", env=mount.env, timeout=60)
    try:
        if done.returncode == 0:
            assert sorted(os.listdir(where)) == ["README.txt", "by-uuid", "calibs-at", "collections"]
        else:
            assert len(done.stderr.splitlines()) == 1 and "cache" in done.stderr
    finally:
        while mounting.is_mounted(where):
            subprocess.run(["umount", "-l", str(where)], capture_output=True)
    mounting.eventually(lambda: not _processes_of(where), 20)


# ------------------------------------------------------------------------------- life in the background


def test_the_command_comes_back_when_the_mount_answers_and_umount_ends_every_process(small, mount):
    m = mount(small, foreground=False)
    assert os.listdir(m / "collections/u") == ["alice"]
    status = m.status()
    for pid in (status["pid"], status["supervisor_pid"]):
        for fd in (0, 1, 2):
            assert os.readlink(f"/proc/{pid}/fd/{fd}") != m.log_path or fd == 2, "the caller's output is still held"
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
    m.unmount()


def test_a_caller_that_reads_the_command_s_output_to_its_end_is_not_kept_waiting(small, mount):
    where = mount.at / "piped"
    where.mkdir()
    try:
        # capture_output reads until every holder of the pipe has closed it.
        done = command(small.root, where, "-o", f"cache_dir={mount.at}/c", env=mount.env, timeout=30)
        assert done.returncode == 0 and done.stdout == "" and done.stderr == ""
    finally:
        subprocess.run(["umount", str(where)], check=True)
    mounting.eventually(lambda: not _processes_of(where), 20)


def test_relative_source_and_mount_point_mean_the_callers_folder(small, mount):
    where = mount.at / "relative"
    where.mkdir()
    source = os.path.relpath(small.root, mount.at)
    done = command(source, "relative", "-o", f"cache_dir={mount.at}/c", env=mount.env, cwd=mount.at)
    try:
        assert done.returncode == 0, done.stderr
        assert json.loads(mounting.control("status", where, "--json").stdout)["mountpoint"] == str(where)
    finally:
        subprocess.run(["umount", str(where)], check=True)


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_foreground_ends_it_cleanly(small, mount, name):
    m = mount(small)
    os.kill(m.process.pid, name)
    m.process.wait(timeout=30)
    mounting.eventually(lambda: not mounting.is_mounted(m.path), 20)


def test_umount_of_a_busy_mount_is_refused_and_a_lazy_one_ends_it_after_the_last_close(small, mount):
    m = mount(small)
    with open(m / "README.txt", "rb") as held:
        done = subprocess.run(["umount", str(m.path)], capture_output=True, text=True)
        assert done.returncode != 0 and "busy" in done.stderr
        assert (m / "collections").is_dir()
        subprocess.run(["umount", "-l", str(m.path)], check=True)
        assert b"butlerfs" in held.read()
    m.wait_end()


# ---------------------------------------------------------------------------------------- butlerfsctl


def test_status_tells_in_a_screenful_what_is_mounted(small, mount):
    m = mount(small)
    done = mounting.control("status", m.path)
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert 5 <= len(lines) <= 50
    for word in (str(m.path), str(small.root), "passthrough", str(m.pid())):
        assert word in done.stdout, word


def test_status_json_has_the_keys_that_programs_hold_to(small, mount):
    m = mount(small)
    (m / "README.txt").read_text()
    s = m.status()
    assert s["version"] in command("--version", env=mount.env).stdout
    assert s["mountpoint"] == str(m.path)
    assert s["lives"] == 1
    assert Path(f"/proc/{s['pid']}").exists() and Path(f"/proc/{s['supervisor_pid']}").exists()
    (space,) = s["spaces"]
    assert (space["kind"], space["source"]) == ("butler", str(small.root)) and "epoch" in space and "name" in space
    assert s["modes"]["privileged"] is mounting.IS_ROOT
    assert s["modes"]["passthrough"] in ("on", "off") and isinstance(s["modes"]["takeover"], bool)
    for counter in ("open_passthrough", "open_cached", "requests", "registry_statements", "set_loads", "waiters", "open_files", "open_folders"):
        assert isinstance(s["counters"][counter], int), counter
    assert s["counters"]["requests"] > 0


def test_passthrough_off_says_so_with_its_reason_and_files_are_read_by_the_daemon(small, mount, expected):
    m = mount(small, passthrough="off")
    tree = expected(small)
    path = next(p for p, f in tree.files.items() if len(f.content() or b"") > 1000)
    assert Path(os.fsdecode(m.at(path))).read_bytes() == tree.files[path].content()
    s = m.status()
    assert s["modes"]["passthrough"] == "off" and "passthrough=off" in json.dumps(s["modes"])
    assert s["counters"]["open_cached"] >= 1 and s["counters"]["open_passthrough"] == 0
    assert s["counters"]["read_bytes"] >= len(tree.files[path].content())


def test_where_the_kernel_can_a_local_file_is_opened_by_passthrough(small, mount, expected):
    m = mount(small)
    s = m.status()
    if s["modes"]["passthrough"] != "on":
        assert s["modes"]["passthrough_why"]
        pytest.skip(f"passthrough is off here: {s['modes']['passthrough_why']}")
    tree = expected(small)
    path = next(p for p, f in tree.files.items() if len(f.content() or b"") > 1000)
    assert Path(os.fsdecode(m.at(path))).read_bytes() == tree.files[path].content()
    after = m.counters()
    assert after["open_passthrough"] > s["counters"]["open_passthrough"]
    assert after["read_bytes"] == s["counters"]["read_bytes"]


def test_the_log_level_is_changed_live(guarded, mount):
    repo, path, artifact = guarded
    m = mount(repo)
    artifact.unlink()

    def warns() -> bool:
        before = len(m.log())
        with pytest.raises(OSError):
            open(m / path, "rb")
        mounting.eventually(lambda: " error" in m.log()[before:], mounting.SLACK)
        return " warn" in m.log()[before:]

    assert warns()
    for level, told in (("error", False), ("warn", True), ("error", False), ("debug", True)):
        done = mounting.control("log-level", m.path, level)
        assert done.returncode == 0, done.stderr
        assert m.status()["log_level"] == level
        assert warns() is told
    wrong = mounting.control("log-level", m.path, "shout")
    assert wrong.returncode > 0 and len(wrong.stderr.splitlines()) == 1 and "debug" in wrong.stderr


def test_the_control_program_refuses_in_one_line(small, mount):
    m = mount(small)
    for args in (["status", "/nowhere"], ["status", str(mount.at)], ["status", str(m.path), "--yaml"], ["dance", str(m.path)],
                 ["status"], [], ["refresh", "/nowhere"], ["log-level", str(m.path)]):  # fmt: skip
        done = mounting.control(*args)
        assert done.returncode > 0 and done.stdout == "", args
        assert len(done.stderr.splitlines()) == 1, (args, done.stderr)


def test_status_is_for_everyone_and_the_log_level_for_administrators(small, mount, root_only):
    m = mount(small)
    build = mounting.public_build(mount.at / "build")
    ctl = build / "fs/butlerfsctl"
    assert as_user_run(NOBODY, (), ctl, "status", m.path).returncode == 0
    assert as_user_run(NOBODY, (), ctl, "refresh", m.path / "collections").returncode == 0
    for verb in (("log-level", m.path, "debug"), ("upgrade", m.path)):
        done = as_user_run(NOBODY, (), ctl, *verb)
        assert done.returncode > 0 and len(done.stderr.splitlines()) == 1
    assert m.status()["lives"] == 1


# ------------------------------------------------------------------------- mount(8), fstab, autofs, systemd


@pytest.fixture
def helper(root_only) -> Iterator[None]:
    """mount(8) looks for /sbin/mount.TYPE; the test puts a link there unless one is installed."""
    at = Path("/sbin/mount.butlerfs")
    target = Path(mounting.program("mount.butlerfs"))
    if not target.exists():
        target = Path(mounting.program("butlerfs"))
    if os.path.lexists(at):
        if os.path.realpath(at) != os.path.realpath(target):
            pytest.skip(f"{at} is there and is not the build under test")
        yield
        return
    at.symlink_to(target)
    yield
    at.unlink()


def test_mount_8_mounts_it_with_the_usual_options(small, mount, helper):
    where = mount.at / "by-mount"
    where.mkdir()
    line = ["mount", "-t", "butlerfs", "-o", f"ro,noatime,noexec,_netdev,nofail,x-systemd.automount,refresh=2s,cache_dir={mount.at}/c",
            str(small.root), str(where)]  # fmt: skip
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, env=mount.env)
    try:
        assert done.returncode == 0, done.stderr
        assert (where / "collections/u").is_dir()
        (info,) = [x for x in Path("/proc/self/mountinfo").read_text().splitlines() if f" {where} " in x]
        options = set(info.split(" ")[5].split(","))
        assert {"ro", "noexec", "nosuid", "nodev", "noatime"} <= options
        assert re.search(r" - (fuse\.)?butlerfs ", info), info
        assert str(small.root) in info.split(" - ")[1]
    finally:
        subprocess.run(["umount", str(where)], check=True)
    done = subprocess.run([*line[:-2], "/nowhere/repo", str(where)], capture_output=True, text=True, timeout=60, env=mount.env)
    assert done.returncode != 0 and "/nowhere/repo" in done.stderr and not mounting.is_mounted(where)


def test_an_fstab_line_mounts_it(small, mount, helper):
    where = mount.at / "by-fstab"
    where.mkdir()
    fstab = mount.at / "fstab"
    fstab.write_text(f"{small.root} {where} butlerfs ro,noauto,nofail,_netdev,uid=12,cache_dir={mount.at}/c 0 0\n")
    done = subprocess.run(["mount", "-T", str(fstab), str(where)], capture_output=True, text=True, timeout=60, env=mount.env)
    try:
        assert done.returncode == 0, done.stderr
        assert os.stat(where / "collections").st_uid == 12
    finally:
        subprocess.run(["umount", str(where)], check=True)


def test_autofs_mounts_it_at_first_use_and_ends_it_when_idle(small, mount, helper):
    if not shutil.which("automount"):
        pytest.skip("autofs is not installed")
    if "autofs" not in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel has no autofs")
    top = mount.at / "auto"
    top.mkdir()
    maps = mount.at / "auto.map"
    maps.write_text(f"dp1 -fstype=butlerfs,ro,cache_dir={mount.at}/c1 :{small.root}\n")
    maps.chmod(0o644)
    master = mount.at / "auto.master"
    master.write_text(f"{top} {maps} --timeout=3\n")
    daemon = subprocess.Popen(["automount", "-f", "--pid-file", str(mount.at / "auto.pid"), str(master)],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=mount.env, start_new_session=True)  # fmt: skip
    try:
        mounting.eventually(lambda: mounting.is_mounted(top) or daemon.poll() is not None, 20)
        if daemon.poll() is not None:
            pytest.skip(f"automount does not run here: {daemon.stdout.read()[-300:]!r}")
        listed = subprocess.run(["ls", str(top / "dp1/collections/u")], capture_output=True, text=True, timeout=60)
        assert listed.stdout == "alice\n", listed.stderr
        assert mounting.is_mounted(top / "dp1")
        mounting.eventually(lambda: not mounting.is_mounted(top / "dp1"), 40, "idle expiry")
        mounting.eventually(lambda: not _processes_of(top), 20)
        assert subprocess.run(["ls", str(top / "dp1")], capture_output=True, timeout=60).returncode == 0
    finally:
        daemon.terminate()
        try:
            daemon.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(daemon.pid, signal.SIGKILL)
        for below in (top / "dp1", top):
            if mounting.is_mounted(below):
                subprocess.run(["umount", "-l", str(below)], capture_output=True)


def test_the_systemd_unit_is_well_formed(mount):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not here")
    unit = mounting.BUILD / "mount.d" / "butlerfs@.service"
    assert unit.exists()
    copy = mount.at / "butlerfs@.service"
    text = unit.read_text()
    # The build isn't installed: verify wants programs that exist.
    text = re.sub(r"(?m)^(Exec\w+=)(\S*/)?(butlerfs\w*)", lambda m: m[1] + mounting.program(m[3]), text)
    copy.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60)
    complaints = [x for x in done.stderr.splitlines() if "butlerfs" in x]
    assert done.returncode == 0 and not complaints, done.stderr


# ------------------------------------------------------------------------------------------- who may read


@pytest.fixture
def guarded(own_repository, root_only) -> Any:
    """A repository with one artifact that only root and the group 48200 may read."""
    repo = own_repository(seed=9)
    butler = repo.butler()
    (ref,) = butler.query_datasets("cfg", "u/alice/run1")
    artifact = Path(butler.getURI(ref).ospath)
    butler.close()
    os.chown(artifact, 0, GROUP)
    artifact.chmod(0o640)
    return repo, "collections/u/alice/run1/cfg/cfg.yaml", artifact


@pytest.mark.parametrize("passthrough", ["on", "off"])
def test_an_artifact_is_opened_with_the_reader_s_own_groups(guarded, mount, passthrough):
    repo, path, artifact = guarded
    m = mount(repo, passthrough=passthrough)
    inside = as_user_run(NOBODY, (GROUP, 7), "cat", m / path)
    assert inside.returncode == 0 and inside.stdout == artifact.read_bytes()
    for groups in ((), (GROUP + 1,)):
        outside = as_user_run(NOBODY + 1, groups, "cat", m / path)
        assert outside.returncode != 0 and b"Permission denied" in outside.stderr
    # What the one was let to read is no door for the other, cached or held open.
    with subprocess.Popen([*user(NOBODY, GROUP), "sleep", "20"], stdin=open(m / path)) as holder:
        assert b"Permission denied" in as_user_run(NOBODY + 1, (), "cat", m / path).stderr
        holder.terminate()
    seen = as_user_run(NOBODY + 1, (), "stat", "-c", "%s", m / path)
    assert seen.returncode == 0 and int(seen.stdout) == artifact.stat().st_size
    assert m.counters()["open_failed"] >= 3


def test_a_folder_that_is_closed_to_the_reader_closes_what_is_in_it(guarded, mount):
    repo, path, artifact = guarded
    artifact.chmod(0o644)
    m = mount(repo)
    assert as_user_run(NOBODY, (), "cat", m / path).returncode == 0
    artifact.parent.chmod(0o700)
    assert b"Permission denied" in as_user_run(NOBODY, (), "cat", m / path).stderr


def test_open_as_owner_lets_a_reader_in_whom_the_artifact_would_not(guarded, mount):
    repo, path, artifact = guarded
    artifact.chmod(0o600)
    m = mount(repo, open_as="owner")
    read = as_user_run(NOBODY, (), "cat", m / path)
    assert read.returncode == 0 and read.stdout == artifact.read_bytes()


def test_open_as_owner_serves_nothing_from_outside_the_roots(guarded, mount):
    """Datasets that were ingested in place lie elsewhere; artifact_roots= says where one may go."""
    repo, _, _ = guarded
    inside = mount(repo, open_as="owner")
    folder = "collections/LSSTComCam/raw/all/raw_1/instrument=HSC"
    day = sorted(os.listdir(inside / folder))[0]
    name = sorted(os.listdir(inside / folder / day))[0]
    path = f"{folder}/{day}/{name}"
    with pytest.raises(OSError) as e:
        open(inside / path, "rb")
    assert e.value.errno == errno.EACCES
    allowed = mount(repo, open_as="owner", artifact_roots=repo.elsewhere)
    with open(allowed / path, "rb") as f:
        f.read()


@pytest.mark.parametrize("open_as", ["caller", "owner"])
def test_an_artifact_that_leads_out_of_the_root_by_a_link_opens_no_closed_door(guarded, mount, open_as):
    repo, path, artifact = guarded
    secret = mount.at / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    artifact.unlink()
    artifact.symlink_to(secret)
    m = mount(repo, open_as=open_as)
    read = as_user_run(NOBODY, (), "cat", m / path)
    assert read.returncode != 0 and b"secret" not in read.stdout
    assert b"Permission denied" in read.stderr or b"Remote I/O" in read.stderr


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "socket"])
def test_an_artifact_that_is_no_regular_file_is_not_opened_and_nothing_waits_for_it(guarded, mount, kind):
    repo, path, artifact = guarded
    artifact.unlink()
    if kind == "fifo":
        os.mkfifo(artifact)
    elif kind == "device":
        os.mknod(artifact, 0o20666, os.makedev(1, 5))
    elif kind == "folder":
        artifact.mkdir()
    else:
        import socket

        here = os.getcwd()
        os.chdir(artifact.parent)
        try:
            socket.socket(socket.AF_UNIX).bind(artifact.name)
        finally:
            os.chdir(here)
    m = mount(repo)
    begin = time.monotonic()
    with pytest.raises(OSError) as e:
        open(m / path, "rb")
    assert e.value.errno in (errno.EREMOTEIO, errno.EACCES), e.value
    assert time.monotonic() - begin < mounting.SLACK


def test_a_user_mounts_without_root_through_fusermount3(small, mount, root_only, dev_fuse_for_all, expected):
    if not shutil.which("fusermount3"):
        pytest.skip("fusermount3 is not installed")
    me = somebody()
    build = mounting.public_build(mount.at / "build")
    where, cache = mount.at / "mine", mount.at / "my-cache"
    for folder in (where, cache):
        folder.mkdir()
        os.chown(folder, me, me)
    line = [*user(me), str(build / "fs/butlerfs"), str(small.root), str(where), "-o", f"cache_dir={cache}"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, env=mount.env)
    try:
        assert done.returncode == 0, done.stderr
        tree = expected(small)
        for path in sorted(tree.files)[::40]:
            content = tree.files[path].content()
            if content is not None:
                read = as_user_run(me, (), "cat", where / os.fsdecode(path))
                assert read.stdout == content, read.stderr
        status = json.loads(as_user_run(me, (), build / "fs/butlerfsctl", "status", where, "--json").stdout)
        assert status["modes"]["privileged"] is False and status["modes"]["passthrough"] == "off"
        assert status["modes"]["passthrough_why"]
        assert status["counters"]["open_cached"] > 0
        # Without allow_other nobody else looks in, root included.
        assert as_user_run(NOBODY, (), "ls", where).returncode != 0
    finally:
        subprocess.run([*user(me), "fusermount3", "-u", str(where)], capture_output=True, timeout=30)
        still = mounting.is_mounted(where)
        if still:
            subprocess.run(["umount", "-l", str(where)], capture_output=True)
    assert not still
    mounting.eventually(lambda: not _processes_of(where), 20)


# --------------------------------------------------------------------------------------------- errno


def test_writing_of_every_kind_is_erofs(small, mount, expected):
    m = mount(small)
    file = m / os.fsdecode(next(p for p, f in expected(small).files.items() if f.artifact()))
    folder = m / "collections/u"
    attempts = {
        "create": lambda: os.open(folder / "new", os.O_CREAT | os.O_WRONLY),
        "create over": lambda: os.open(file, os.O_CREAT | os.O_RDWR),
        "write": lambda: os.open(file, os.O_WRONLY),
        "append": lambda: os.open(file, os.O_RDWR | os.O_APPEND),
        "truncate": lambda: os.truncate(file, 0),
        "open and truncate": lambda: os.open(file, os.O_WRONLY | os.O_TRUNC),
        "mkdir": lambda: os.mkdir(folder / "new"),
        "mknod": lambda: os.mkfifo(folder / "new"),
        "unlink": lambda: os.unlink(file),
        "rmdir": lambda: os.rmdir(folder / "alice"),
        "rename": lambda: os.rename(file, folder / "new"),
        "link": lambda: os.link(file, folder / "new"),
        "symlink": lambda: os.symlink("x", folder / "new"),
        "chmod": lambda: os.chmod(file, 0o777),
        "chown": lambda: os.chown(file, 1, 1),
        "utime": lambda: os.utime(file),
        "setxattr": lambda: os.setxattr(file, "user.x", b"1"),
        "removexattr": lambda: os.removexattr(file, "user.butler.uuid"),
    }
    said = {}
    for name, attempt in attempts.items():
        try:
            attempt()
            said[name] = "no error"
        except OSError as e:
            said[name] = errno.errorcode[e.errno]
    assert said == dict.fromkeys(attempts, "EROFS")


def test_an_artifact_that_is_gone_is_shown_and_gives_eremoteio_and_the_log_says_which(guarded, mount):
    repo, path, artifact = guarded
    m = mount(repo)
    size = os.stat(m / path).st_size
    assert size == artifact.stat().st_size
    content = artifact.read_bytes()
    artifact.unlink()
    assert os.stat(m / path).st_size == size
    assert os.path.basename(path) in os.listdir((m / path).parent)
    with pytest.raises(OSError) as e:
        open(m / path, "rb")
    assert e.value.errno == errno.EREMOTEIO
    mounting.eventually(lambda: artifact.name in m.log(), mounting.SLACK, "the log names the artifact")
    artifact.write_bytes(content)
    assert (m / path).read_bytes() == content, "it is back"


@pytest.mark.parametrize("passthrough", ["on", "off"])
def test_an_artifact_that_is_replaced_shows_its_new_bytes_and_an_open_file_never_a_mixture(guarded, mount, passthrough):
    repo, path, artifact = guarded
    old, new = b"o" * 300_000, b"n" * 200_001
    artifact.write_bytes(old)
    m = mount(repo, passthrough=passthrough)
    with open(m / path, "rb", buffering=0) as held:
        head = held.read(4096)
        other = artifact.with_name("other")
        other.write_bytes(new)
        other.rename(artifact)
        for _ in range(2):
            with open(m / path, "rb") as f:
                assert f.read() == new
                assert os.fstat(f.fileno()).st_size == len(new)
        rest = b""
        try:
            while chunk := held.read(65536):
                rest += chunk
        except OSError as e:
            assert e.errno == errno.ESTALE
        got = head + rest
        assert set(got) == {ord("o")}, "bytes of two versions are mixed"


@pytest.mark.parametrize("passthrough", ["on", "off"])
def test_an_artifact_that_is_rewritten_in_place_is_read_as_it_is_at_the_next_open(guarded, mount, passthrough):
    repo, path, artifact = guarded
    m = mount(repo, passthrough=passthrough)
    for content in (b"first\n" * 1000, b"second version\n" * 2000, b"3\n", b"", b"fifth\n" * 50):
        artifact.write_bytes(content)
        os.utime(artifact, ns=(time.time_ns(), time.time_ns()))
        with open(m / path, "rb") as f:
            assert f.read() == content
            assert os.fstat(f.fileno()).st_size == len(content)


def test_a_mapped_file_and_a_read_one_agree_while_both_are_open(guarded, mount):
    import mmap

    repo, path, artifact = guarded
    content = os.urandom(1_000_003)
    artifact.write_bytes(content)
    for passthrough in ("on", "off"):
        m = mount(repo, passthrough=passthrough)
        with open(m / path, "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            with open(m / path, "rb") as g:
                assert g.read() == content == mapped[:]
            assert mapped[999_999:] == content[999_999:]


def test_flock_and_odd_calls_on_a_file_do_not_hang(small, mount, expected):
    m = mount(small)
    path = m / os.fsdecode(next(p for p, f in expected(small).files.items() if f.artifact() and (f.recorded_size or 0) > 0))
    with open(path, "rb") as f:
        fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
        assert os.lseek(f.fileno(), 0, os.SEEK_END) == os.fstat(f.fileno()).st_size
        os.fsync(f.fileno())
    st = os.statvfs(m.path)
    assert st.f_namemax >= 255
