# SPDX-License-Identifier: BSD-3-Clause
"""The daemon dies at named points (base/crash.h) of making, opening and closing a file in a home: who asked is answered as if
nothing had been, there is one file and one handle, and it costs what it costs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from acting import ALICE, by
from mounting import SLACK, Mount, eventually, quota

pytestmark = pytest.mark.usefixtures("root_only")

OPENING = ("home-open-handle", "home-open-unanswered")
CREATING = ("home-create-made", "home-create-charged", "home-create-known", *OPENING)
UNNAMED = ("home-tmpfile-made", "home-tmpfile-charging", *OPENING)
CLOSING = ("home-release-begun", "home-release-charging", "home-release-dropped", "home-release-unanswered")


class Home:
    def __init__(self, m: Mount, points: Path, alice: Path) -> None:
        self.m, self.points, self.alice = m, points, alice
        self.deaths = 0

    def die_at(self, point: str) -> None:
        (self.points / point).touch()
        self.deaths += 1

    def used(self) -> tuple[int, int]:
        """By alice; her folder is a file."""
        owners = json.loads(quota(self.m, "report", "--json"))["owners"]
        return next((o["used_bytes"], o["used_files"]) for o in owners if (o["kind"], o["id"]) == ("user", ALICE))

    def costs(self, size: int, files: int) -> None:
        eventually(lambda: self.used() == (size, files + 1), SLACK, f"{size} bytes and {files} files are charged; {self.used()} now")

    def settle(self, open_files: int) -> None:
        """The deaths that were wished for have been, and so many handles are left: a release is waited for by nobody."""
        eventually(lambda: self.m.status()["lives"] == 1 + self.deaths, SLACK, f"{self.deaths} deaths at {os.listdir(self.points)}")
        eventually(lambda: self.m.counters()["open_files"] == open_files, SLACK, f"{open_files} open files")
        assert os.listdir(self.points) == []


@pytest.fixture(params=["on", "off"])
def home(mount: Any, place: Path, request: pytest.FixtureRequest) -> Iterator[Home]:
    at = place / "".join(c if c.isalnum() else "-" for c in request.node.name)
    (at / "below" / "alice").mkdir(parents=True)
    (at / "points").mkdir()
    for folder in (at, at / "below"):
        folder.chmod(0o755)
    os.chown(at / "below" / "alice", ALICE, ALICE)
    m = mount(f"home:{at / 'below'}", passthrough=request.param, env={"BUTLERFS_CRASH_POINTS": str(at / "points")})
    if not m.began["modes"]["takeover"]:
        pytest.skip("this kernel cannot resend requests (Linux 6.9 can)")
    home = Home(m, at / "points", m.path / "alice")
    yield home
    assert quota(m, "check") == "all is as it is counted\n"


@pytest.mark.parametrize("point", CREATING)
def test_a_file_is_created_once(home, point):
    def create() -> tuple[int, int]:
        with open(os.open(home.alice / "a", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o640), "r+b", buffering=0) as f:
            f.write(b"x" * 1000)
            f.seek(0)
            st = os.fstat(f.fileno())
            assert f.read() == b"x" * 1000
        return st.st_mode, st.st_uid

    home.die_at(point)
    assert by(ALICE, create) == (0o100640, ALICE)
    home.settle(open_files=0)
    assert os.listdir(home.alice) == ["a"]
    home.costs(1000, 1)


@pytest.mark.parametrize("point", UNNAMED)
def test_a_file_without_a_name_is_made_once(home, point):
    home.die_at(point)
    with open(os.open(home.alice, os.O_TMPFILE | os.O_RDWR, 0o600), "r+b", buffering=0) as f:
        os.fchown(f.fileno(), ALICE, ALICE)
        f.write(b"x" * 1000)
        home.settle(open_files=1)
        home.costs(1000, 1)
        assert os.fstat(f.fileno()).st_nlink == 0 and os.pread(f.fileno(), 2000, 0) == b"x" * 1000
    home.settle(open_files=0)
    home.costs(0, 0)


@pytest.mark.parametrize("point", CLOSING)
@pytest.mark.parametrize("is_unlinked", [False, True])
def test_a_file_is_closed_once(home, point, is_unlinked):
    path = home.alice / "a"
    path.write_bytes(b"x" * 1000)
    os.chown(path, ALICE, ALICE)
    home.settle(open_files=0)
    first, second = open(path, "r+b", buffering=0), open(path, "r+b", buffering=0)
    if is_unlinked:
        path.unlink()
    home.die_at(point)
    first.close()
    home.settle(open_files=1)
    home.costs(1000, 1)
    second.write(b"y")
    assert os.pread(second.fileno(), 2, 0) == b"yx"
    home.die_at(point)
    second.close()
    home.settle(open_files=0)
    home.costs(*((0, 0) if is_unlinked else (1000, 1)))


@pytest.mark.parametrize("point", OPENING)
def test_a_file_is_opened_once(home, point):
    path = home.alice / "a"
    path.write_bytes(b"x")
    home.settle(open_files=0)
    home.die_at(point)
    with path.open("r+b", buffering=0) as f:
        home.settle(open_files=1)
        f.write(b"yy")
        assert os.pread(f.fileno(), 5, 0) == b"yy"
    home.settle(open_files=0)
