# SPDX-License-Identifier: BSD-3-Clause
"""Usage after a power cut: the ledger is as it was at its last checkpoint, and not all that was written since is on the disk."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from acting import ALICE, BOB, STAFF, by, lay_homes
from mounting import SLACK, Mount, eventually, quota

pytestmark = pytest.mark.usefixtures("root_only")

FILES = int(os.environ.get("BUTLERFS_CRASH_FILES", "20000"))  # counting them takes a while


def owners(m: Mount) -> dict[tuple[str, int], dict[str, Any]]:
    return {(o["kind"], o["id"]): o for o in json.loads(quota(m, "report", "--json"))["owners"]}


def used(m: Mount, user: int) -> tuple[int, int]:
    o = owners(m)["user", user]
    return o["used_bytes"], o["used_files"]


def recounted(m: Mount) -> set[tuple[str, int]]:
    return {k for k, o in owners(m).items() if o.get("is_recounting")}


def write(path: Path, size: int) -> None:
    path.write_bytes(b"x" * size)


def cut_power(m: Mount, ledger: Path, checkpoint: Path) -> None:
    """Nothing of the processes is left, nor of what they had in memory; the ledger's store is what was copied before."""
    m.end_by_force()
    shutil.rmtree(ledger)
    shutil.copytree(checkpoint, ledger)
    for left in ledger.iterdir():
        if left.name not in ("data.mdb", "lock.mdb"):
            left.unlink()


@pytest.fixture
def below(place, request) -> Path:
    at = lay_homes(place / request.node.name)
    (at / "many").mkdir()
    for i in range(FILES):
        (at / "many" / str(i)).touch()
    return at


def test_who_wrote_since_the_last_checkpoint_is_counted_again_while_all_go_on(mount, below, place):
    ledger, checkpoint = place / "ledger-power-loss", place / "checkpoint-power-loss"
    how = {"ledger_dir": ledger, "quota_checkpoint": "1h", "limit": 120}
    m = mount(f"home:{below}", **how)
    alice, bob = m.path / str(ALICE), m.path / str(BOB)
    eventually(lambda: "usage counted again" in m.log() and not recounted(m), 15 * SLACK)
    by(BOB, write, bob / "a", 5000)
    m.unmount()  # written down, and nobody is marked

    m = mount(f"home:{below}", where=m.path, **how)
    for name in ("kept", "lost", "shortened"):
        by(ALICE, write, alice / name, 1000)
    by(ALICE, os.chown, alice / "lost", -1, STAFF, groups=[STAFF])
    write(alice / "roots", 10)
    # Whoever changes from now on is marked on the disk already.
    shutil.copytree(ledger, checkpoint)
    by(ALICE, write, alice / "later", 7000)
    by(ALICE, os.chown, alice / "kept", -1, STAFF, groups=[STAFF])
    unnamed = open(alice / "unnamed", "wb")
    unnamed.write(b"x" * 3000)
    unnamed.flush()
    os.unlink(unnamed.name)
    cut_power(m, ledger, checkpoint)
    unnamed.close()
    (below / str(ALICE) / "lost").unlink()
    os.truncate(below / str(ALICE) / "shortened", 10)

    m = mount(f"home:{below}", where=m.path, **how)
    began, written = recounted(m), 0
    assert not began or (("user", ALICE) in began and ("user", BOB) not in began)  # a fast machine is done already
    while recounted(m) or not written:
        by(ALICE, write, alice / f"meanwhile-{written}", 100)
        by(BOB, write, bob / f"meanwhile-{written}", 10)
        written += 1
    assert "usage counted again" in m.log()
    assert used(m, ALICE) == (1000 + 7000 + 10 + 100 * written, 1 + 3 + written)
    assert used(m, BOB) == (5000 + 10 * written, 1 + 1 + written)
    assert quota(m, "check") == "all is as it is counted\n"


def test_a_power_cut_while_nobody_wrote_needs_no_count(mount, below, place):
    ledger, checkpoint = place / "ledger-power-quiet", place / "checkpoint-power-quiet"
    how = {"ledger_dir": ledger, "quota_checkpoint": "1h", "limit": 120}
    m = mount(f"home:{below}", **how)
    eventually(lambda: "usage counted again" in m.log() and not recounted(m), 15 * SLACK)
    by(BOB, write, m.path / str(BOB) / "b", 5000)
    m.unmount()
    m = mount(f"home:{below}", where=m.path, **how)
    shutil.copytree(ledger, checkpoint)
    cut_power(m, ledger, checkpoint)
    m = mount(f"home:{below}", where=m.path, **how)
    assert not recounted(m) and "usage counted again" not in m.log()
    assert quota(m, "check") == "all is as it is counted\n"
