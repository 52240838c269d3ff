# SPDX-License-Identifier: BSD-3-Clause
"""A group's folder that two users share: what each may do there, and what is left of it, as on the file system below."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from acting import ALICE, BOB, STAFF, by

pytestmark = [
    pytest.mark.usefixtures("root_only"),
    pytest.mark.skipif(not shutil.which("setfacl"), reason="setfacl (package acl) is not installed"),
]

STRANGER = 48209


def acl(path: Path, *words: object) -> None:
    subprocess.run(["setfacl", *map(str, words), str(path)], check=True)


def steps(g: Path) -> list[tuple[int, int, Callable[[], Any]]]:
    """Who, with which umask, does what."""
    file, other, folder = g / "file", g / "other", g / "folder"
    return [
        (ALICE, 0o022, lambda: file.write_text("hers")),
        (BOB, 0o022, lambda: file.write_text("his")),
        (BOB, 0o022, lambda: os.chmod(file, 0o600)),
        (BOB, 0o022, lambda: os.chown(file, BOB, -1)),
        (BOB, 0o022, lambda: os.rename(file, other)),
        (ALICE, 0o077, lambda: os.mkdir(folder)),
        (BOB, 0o077, lambda: (folder / "his").write_text("1")),
        (ALICE, 0o022, lambda: (folder / "his").read_text()),
        (BOB, 0o022, lambda: [(g / "new").write_text("n"), os.replace(g / "new", other)] and None),
        (ALICE, 0o022, lambda: other.write_text("back")),
        (ALICE, 0o022, lambda: os.utime(other)),
        (ALICE, 0o022, lambda: os.utime(other, (1, 1))),
        (ALICE, 0o022, lambda: (folder / "hers").write_text("1")),
        (ALICE, 0o022, lambda: os.chmod(folder, 0o3770)),
        (BOB, 0o022, lambda: os.unlink(folder / "hers")),
        (BOB, 0o022, lambda: os.rename(folder / "hers", folder / "moved")),
        (BOB, 0o022, lambda: os.unlink(folder / "his")),
        (BOB, 0o022, lambda: os.link(other, g / "link")),
        (STRANGER, 0o022, lambda: os.listdir(g)),
        (ALICE, 0o022, lambda: [(g / "shown").write_text("s"), os.chmod(g / "shown", 0o600)] and None),
        (ALICE, 0o022, lambda: acl(g / "shown", "-m", f"u:{BOB}:r")),
        (BOB, 0o022, lambda: (g / "shown").read_text()),
        (BOB, 0o022, lambda: (g / "shown").write_text("no")),
        (BOB, 0o022, lambda: [(g / "program").write_text("x"), os.chmod(g / "program", 0o6775)] and None),
        (ALICE, 0o022, lambda: (g / "program").write_text("y")),
    ]


def done(step: tuple[int, int, Callable[[], Any]]) -> Any:
    who, umask, act = step
    try:
        return by(who, act, groups=[] if who == STRANGER else [STAFF], umask=umask)
    except OSError as e:
        return f"errno {e.errno}"


def left(g: Path) -> list[tuple[Any, ...]]:
    found = []
    for p in sorted([g, *g.rglob("*")]):
        st = p.lstat()
        rights = subprocess.run(["getfacl", "-npcE", str(p)], check=True, capture_output=True).stdout
        found.append((p.relative_to(g), oct(st.st_mode), st.st_uid, st.st_gid, st.st_nlink, st.st_size, rights))
    return found


def shared(at: Path) -> Path:
    g = at / "shared"
    g.mkdir()
    os.chown(g, 0, STAFF)
    g.chmod(0o2770)
    acl(g, "-d", "-m", f"g:{STAFF}:rwx")
    return g


def test_a_group_folder_shared_by_two_users_is_as_on_the_file_system_below(mount, place):
    native, below = place / "group-native", place / "group-below"
    for folder in (native, below):
        folder.mkdir()
        folder.chmod(0o755)
    here, there = shared(mount(f"group:{below}").path), shared(native)
    told = [done(s) for s in steps(there)]
    assert [done(s) for s in steps(here)] == told
    assert left(here) == left(there)
    refused = [t for t in told if isinstance(t, str) and t.startswith("errno")]
    assert len(refused) == 7, told  # the others' chmod, chown, times, sticky folder (twice), listing, and what the ACL doesn't give
