# SPDX-License-Identifier: BSD-3-Clause
"""What a registry row may lead a reader to: never through a door that is closed to him or, where he is
root and no door is closed to him, to whoever may write the registry."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from pathlib import Path

import pytest

WRITER = 48123


@pytest.fixture
def led_astray(own_repository, root_only):
    """A repository of a user's whose rows lead to a file of root's: by its name, and by a symlink."""
    repo = own_repository()
    at = repo.root.parent
    secret = at / "secret"
    secret.write_text("root's own")
    secret.chmod(0o600)
    link = repo.root / "link.yaml"
    link.symlink_to(secret)
    shared = at / "shared"
    shared.write_text("everybody's")
    shared.chmod(0o644)
    ways = {f"file://{secret}": None, "link.yaml": None, f"file://{shared}": "everybody's"}
    with sqlite3.connect(repo.root / "gen3.sqlite3") as db:
        rows = [r for (r,) in db.execute("SELECT dataset_id FROM file_datastore_records WHERE path LIKE '%.yaml' ORDER BY 1 LIMIT ?", (len(ways),))]
        assert len(rows) == len(ways)
        for row, path in zip(rows, ways):
            db.execute("UPDATE file_datastore_records SET path = ? WHERE dataset_id = ?", (path, row))
    db.close()
    named = dict(zip(rows, ways.values()))
    return repo, named


def read(mnt: Path, row: str, *as_user: str) -> str | None:
    uuid = "-".join([row[:8], row[8:12], row[12:16], row[16:20], row[20:]])
    done = subprocess.run([*as_user, "cat", str(mnt / "by-uuid" / uuid)], capture_output=True, text=True, timeout=30)
    if done.returncode:
        assert "Permission denied" in done.stderr, done.stderr
    return None if done.returncode else done.stdout


def test_root_is_not_led_where_the_registry_s_writer_could_not_go(led_astray, mount):
    repo, named = led_astray
    subprocess.run(["chown", "-hR", f"{WRITER}:{WRITER}", str(repo.root)], check=True)
    m = mount(repo)
    assert {row: read(m.path, row) for row in named} == named


def test_root_s_own_registry_may_lead_root_anywhere(led_astray, mount):
    repo, named = led_astray
    m = mount(repo)
    assert all(read(m.path, row) for row in named)


def test_a_user_is_led_nowhere_he_could_not_go_himself(led_astray, mount):
    repo, named = led_astray
    m = mount(repo)
    user = ["setpriv", f"--reuid={WRITER}", f"--regid={WRITER}", "--clear-groups", "--"]
    assert {row: read(m.path, row, *user) for row in named} == named


def test_root_reads_what_is_in_the_datastore_of_a_user_s_repository(led_astray, mount):
    repo, named = led_astray
    subprocess.run(["chown", "-hR", f"{WRITER}:{WRITER}", str(repo.root)], check=True)
    for folder, _, files in os.walk(repo.root):
        for name in files:
            if name.endswith(".fits") and not (Path(folder) / name).is_symlink():
                os.chmod(Path(folder) / name, 0o600)
    m = mount(repo)
    done = subprocess.run(["find", str(m.path / "collections"), "-name", "*.fits", "-exec", "cat", "{}", "+"], capture_output=True, timeout=60)
    assert b"Permission denied" not in done.stderr and done.stdout
