# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures of the suites that need a real mount: repositories, mounts, places that go away again."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import makerepo
import mounting
import pytest
import reftree


def pytest_report_header() -> str:
    return f"butlerfs: {mounting.BUILD} ({'built' if mounting.is_built() else 'NOT BUILT'})"


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
    subprocess.run(["chattr", "-R", "-i", str(at)], capture_output=True)
    shutil.rmtree(at, ignore_errors=True)


@pytest.fixture(scope="session")
def built() -> None:
    if not mounting.is_built():
        # A failure, not a skip: a suite that never ran must not look like one that passed.
        pytest.fail(f"no butlerfs in {mounting.BUILD}/fs: set BUTLERFS_BUILD or run tools/build")


@pytest.fixture(scope="session")
def repository(place: Path) -> Callable[..., makerepo.Repository]:
    """repository(**how): one per set of parameters of makerepo.make, for tests that only read."""
    made: dict[Any, makerepo.Repository] = {}

    def get(**how: Any) -> makerepo.Repository:
        key = tuple(sorted(how.items()))
        if key not in made:
            made[key] = makerepo.make(place / f"made{len(made)}", **how)
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
    yield mounts
    mounts.end()


@pytest.fixture
def own_repository(place: Path, repository: Any) -> Callable[..., makerepo.Repository]:
    """A copy that the test may change. (Artifacts ingested in place stay where they were.)"""

    def get(**how: Any) -> makerepo.Repository:
        how = {"seed": 7, "datasets": 300, "nasty": False, **how}
        original = repository(**how)
        at = place / f"own{next(_numbers)}"
        shutil.copytree(original.root.parent, at, symlinks=True)
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
