# SPDX-License-Identifier: BSD-3-Clause
"""Users at their limits while the daemon is killed: usage is what a walk finds, no limit was passed, no file is half owned.

By hand with a hundred processes of ten users: BUTLERFS_CRASH_USERS=10 BUTLERFS_CRASH_WRITERS=10 BUTLERFS_CRASH_SECONDS=60
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path

import mounting
import pytest
from acting import STAFF
from hammer import hammer
from mounting import quota

pytestmark = pytest.mark.usefixtures("root_only")

SECONDS = float(os.environ.get("BUTLERFS_CRASH_SECONDS", "6"))
USERS = range(48300, 48300 + int(os.environ.get("BUTLERFS_CRASH_USERS", "3")))
WRITERS = int(os.environ.get("BUTLERFS_CRASH_WRITERS", "3"))
SEED = int(os.environ.get("BUTLERFS_TEST_SEED", "1"))
BYTES, FILES, GROUP_BYTES = 150_000, 25, 120_000


def usage(m) -> dict[tuple[str, int], tuple[int, int]]:
    owners = json.loads(quota(m, "report", "--json"))["owners"]
    return {(o["kind"], o["id"]): (o["used_bytes"], o["used_files"]) for o in owners if o["id"] != "default"}


def walked(below: Path) -> dict[tuple[str, int], tuple[int, int]]:
    """What a second program finds, which shares nothing with the daemon."""
    sums: dict[tuple[str, int], list[int]] = {}
    seen = set()
    for folder, names, files in os.walk(below):
        for path in (os.path.join(folder, f) for f in [*names, *files]):
            st = os.lstat(path)
            if st.st_ino in seen:
                continue
            seen.add(st.st_ino)
            for owner in (("user", st.st_uid), ("group", st.st_gid)):
                s = sums.setdefault(owner, [0, 0])
                s[0] += st.st_size if os.path.isfile(path) else 0
                s[1] += 1
    return {k: (v[0], v[1]) for k, v in sums.items()}


def half_owned(below: Path) -> list[str]:
    bad = []
    for user in USERS:
        for path in (below / str(user)).rglob("*"):
            st = path.lstat()
            if st.st_uid != user or st.st_gid not in (user, STAFF):
                bad.append(f"{path}: {st.st_uid}:{st.st_gid}")
    return bad


@pytest.fixture
def below(place) -> Path:
    at = place / "homes-of-many"
    for user in USERS:
        (at / str(user)).mkdir(parents=True)
        os.chown(at / str(user), user, user)
    at.chmod(0o755)
    return at


@pytest.mark.timeout(120 + 3 * SECONDS)
def test_users_at_their_limits_and_a_daemon_that_dies_again_and_again(mount, below):
    m = mount(f"home:{below}", limit=100 + 3 * SECONDS)
    quota(m, "set", "user", "default", "--hard-bytes", str(BYTES), "--hard-files", str(FILES))
    quota(m, "set", "group", str(STAFF), "--hard-bytes", str(GROUP_BYTES))
    mounting.eventually(lambda: not any(o["is_recounting"] for o in json.loads(quota(m, "report", "--json"))["owners"] if "is_recounting" in o), 20)
    writers = [multiprocessing.Process(target=hammer, args=(m.path / str(user), user, SEED * 1000 + k, SECONDS))
               for user in USERS for k in range(WRITERS)]  # fmt: skip
    for w in writers:
        w.start()
    end = time.monotonic() + SECONDS - 0.5
    while time.monotonic() < end:
        time.sleep(0.35)
        m.kill_daemon()
    for w in writers:
        w.join(60)
        assert w.exitcode == 0
    assert m.status()["lives"] > 5
    mounting.eventually(lambda: m.status()["counters"]["open_files"] == 0, 20)
    for (kind, number), (used_bytes, used_files) in usage(m).items():
        if number in USERS and kind == "user":
            assert used_bytes <= BYTES and used_files <= FILES
        if (kind, number) == ("group", STAFF):
            assert 0 < used_bytes <= GROUP_BYTES
    found = {k: v for k, v in walked(below).items() if v != (0, 0)}
    assert {k: v for k, v in usage(m).items() if v != (0, 0)} == found
    assert half_owned(below) == []
