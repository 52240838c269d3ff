# SPDX-License-Identifier: BSD-3-Clause
"""Random calls by several users of a home mount against the same calls in a plain folder, with the daemon killed again and
again: each call has the same outcome, and after each death the tree, the contents, what is open and the usage are the same.

BUTLERFS_MODEL_SECONDS: how long (default 16; hours by hand); BUTLERFS_MODEL_WORLDS: how many groups of users at once (2);
BUTLERFS_TEST_SEED: which calls.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mounting
import pytest
from home_world import BYTES, FILES, GROUP_BYTES, TREE_BYTES, TREE_FILES, Usage, World
from mounting import SLACK, eventually, quota

pytestmark = pytest.mark.usefixtures("root_only")

SECONDS = float(os.environ.get("BUTLERFS_MODEL_SECONDS", "16"))
WORLDS = int(os.environ.get("BUTLERFS_MODEL_WORLDS", "2"))
SEED = int(os.environ.get("BUTLERFS_TEST_SEED", "0"))


def owners(m: mounting.Mount) -> list[dict[str, Any]]:
    return [o for o in json.loads(quota(m, "report", "--json"))["owners"] if o["id"] != "default"]


def report(m: mounting.Mount) -> Usage:
    """Trees by the number of their world. No death makes anybody's usage uncertain."""
    usage = {}
    for o in owners(m):
        assert not o["is_recounting"], o
        number = int(Path(o["path"]).parent.name) if o["kind"] == "tree" else o["id"]
        usage[o["kind"], number] = (o["used_bytes"], o["used_files"])
    return usage


def limit(m: mounting.Mount, worlds: list[World]) -> None:
    quota(m, "set", "user", "default", f"--hard-bytes={BYTES}", f"--hard-files={FILES}")
    for world in worlds:
        quota(m, "set", "group", str(world.group), f"--hard-bytes={GROUP_BYTES}")
        quota(m, "set", "tree", str(m.path / str(world.number) / "tree"), f"--hard-bytes={TREE_BYTES}", f"--hard-files={TREE_FILES}")
    eventually(lambda: not any(o["is_recounting"] for o in owners(m)), SLACK)


def act_until_it_died(m: mounting.Mount, worlds: list[World], dice: random.Random) -> None:
    stop = threading.Event()
    with ThreadPoolExecutor(len(worlds)) as threads:
        running = [threads.submit(world.run, lambda: not stop.is_set()) for world in worlds]
        try:
            for _ in range(dice.choice((1, 1, 2))):
                stop.wait(dice.uniform(0.02, 0.5))
                m.kill_daemon()
        finally:
            stop.set()
    for r in running:
        r.result()


@pytest.mark.timeout(120 + 2 * SECONDS)
@pytest.mark.parametrize("passthrough", ["on", "off"])
def test_users_find_what_they_would_on_a_plain_file_system_whatever_dies(mount, place, passthrough):
    below, plain = place / f"model-below-{passthrough}", place / f"model-plain-{passthrough}"
    for root in (below, plain):
        root.mkdir()
        root.chmod(0o755)
        for number in range(WORLDS):
            World.lay(root / str(number), number)
    m = mount(f"home:{below}", limit=100 + 2 * SECONDS, passthrough=passthrough)
    dice = random.Random(SEED)
    worlds = [World(number, (str(m.path / str(number)), str(plain / str(number))), SEED * 1000 + number, lambda: m.kills) for number in range(WORLDS)]
    try:
        limit(m, worlds)
        end = time.monotonic() + SECONDS / 2
        while time.monotonic() < end:
            act_until_it_died(m, worlds, dice)
            for world in worlds:
                world.check(str(below / str(world.number)), lambda: report(m))
    finally:
        for world in worlds:
            world.close()
    done = sum((world.done for world in worlds), Counter())
    print(m.status()["lives"], "lives,", sum(done.values()), "calls:", dict(sorted(done.items())))
    assert sum(world.cut_off for world in worlds) <= 1 + m.kills // 100
    assert m.status()["lives"] > 2 and done["write EDQUOT"] > 0 and done["open EDQUOT"] > 0
    eventually(lambda: m.status()["counters"]["open_files"] == 0, SLACK)
