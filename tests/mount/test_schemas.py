# SPDX-License-Identifier: BSD-3-Clause
"""Repositories of every schema: older clients, older universes, other managers. Two judges: today's client, and the
client that made the repository."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.resources
import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mounting
import pytest
import reftree

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
NAME_KEY = "lsst.daf.butler.registry.collections.nameKey.NameKeyCollectionManager"
FOREIGN = str(HERE / "universe_foreign.yaml")


def universe(number: int) -> str:
    return str(importlib.resources.files("lsst.daf.butler") / f"configs/old_dimensions/daf_butler_universe{number}.yaml")


# What makes it: a version of the client ("": today's), and the options of makeschema.py.
MADE: dict[str, tuple[str, dict[str, str]]] = {
    "client-24": ("24.0.0a20222401", {}),
    "client-24-names": ("24.0.0a20222401", {"collections": NAME_KEY}),
    "client-26": ("26.0.2", {}),
    "client-28": ("28.0.2", {}),
    "client-28-names": ("28.0.2", {"collections": NAME_KEY}),
    **{f"universe-{n}": ("", {"universe": universe(n)}) for n in (0, 1, 5, 6, 8)},
    "datasets-1": ("", {"datasets": "1.0.0"}),
    "foreign": ("", {"universe": FOREIGN}),
    "foreign-names": ("", {"universe": FOREIGN, "collections": NAME_KEY}),
}


def python_of(client: str) -> str:
    """The Python that has this version of the client; made where it isn't there yet."""
    if not client:
        return sys.executable
    done = subprocess.run([TOP / "tests" / "old-clients", client], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@dataclasses.dataclass
class Made:
    name: str
    root: Path
    answers: dict[str, dict[str, dict[str, Any]]]
    tree: reftree.Tree
    mount: mounting.Mount
    seen: dict[bytes, os.stat_result]

    def attribute(self, name: str) -> str:
        with sqlite3.connect(f"file:{self.root}/gen3.sqlite3?mode=ro", uri=True) as db:
            ((value,),) = db.execute("SELECT value FROM butler_attributes WHERE name LIKE ?", (name,))
        return value


@pytest.fixture(scope="module", params=MADE)
def made(request: Any, place: Path, module_mount: Any) -> Iterator[Made]:
    client, options = MADE[request.param]
    out = place / request.param
    said = [f"--{key}={value}" for key, value in options.items()]
    done = subprocess.run([python_of(client), "-W", "ignore", HERE / "makeschema.py", out, *said], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    mount = module_mount(out / "repo")
    answers = json.loads((out / "answers.json").read_text())
    yield Made(request.param, out / "repo", answers, reftree.expected(out / "repo"), mount, mounting.walk(mount.at(b"")))
    mount.end()


def test_the_repository_has_the_schema_that_is_meant(made):
    client, options = MADE[made.name]
    wanted = {"client-24": 2, "client-26": 4, "client-28": 7}.get(made.name.removesuffix("-names"))
    if made.name.startswith("universe-"):
        wanted = int(made.name.removeprefix("universe-"))
    said = json.loads(made.attribute("config:dimensions.json"))
    if wanted is not None:
        assert said["version"] == wanted
    assert said.get("namespace", "daf_butler") == ("neutrino" if made.name.startswith("foreign") else "daf_butler")
    assert made.attribute("config:registry.managers.collections").endswith("NameKeyCollectionManager") == ("names" in made.name)
    version = made.attribute("version:%ByDimensionsDatasetRecordStorageManagerUUID")
    assert version == ("1.0.0" if options.get("datasets") or client.startswith(("24", "26")) else "2.0.0")


def test_what_today_s_client_finds_is_there_and_nothing_else(made):
    files = {p for p, st in made.seen.items() if stat.S_ISREG(st.st_mode)} - {b"README.txt"}
    assert len(files) > 30
    assert files == set(made.tree.files), sorted(files ^ set(made.tree.files))[:20]
    folders = {p for p, st in made.seen.items() if stat.S_ISDIR(st.st_mode) and p.startswith(b"collections/")}
    wanted = reftree.all_folders(made.tree)
    assert folders == wanted, sorted(folders ^ wanted)[:20]


def test_what_the_client_that_made_it_found_is_there_and_nothing_else(made):
    shown: dict[tuple[str, str], set[str]] = {}
    for path, file in made.tree.files.items():
        at = made.mount.at(path)
        uuid = os.getxattr(at, "user.butler.uuid").decode()
        folder = at
        while True:
            folder = os.path.dirname(folder)
            try:
                collection = os.getxattr(folder, "user.butler.collection").decode()
                break
            except OSError:
                assert len(folder) > len(made.mount.at(b""))
        if file.dataset_type not in made.answers[collection]:
            assert file.dataset_type == "flat"
            continue
        shown.setdefault((collection, file.dataset_type), set()).add(uuid)
        values, run, stored = made.answers[collection][file.dataset_type][uuid]
        assert os.getxattr(at, "user.butler.run").decode() == run
        data_id = json.loads(os.getxattr(at, "user.butler.data_id"))
        assert {k: data_id[k] for k in values} == values
        assert Path(os.fsdecode(at)).read_bytes() == Path(stored).read_bytes()
    found = {(c, t): set(refs) for c, types in made.answers.items() for t, refs in types.items() if refs}
    assert shown == found


def test_its_data_ids_and_dates_are_the_client_s(made):
    for path, file in made.tree.files.items():
        at = made.mount.at(path)
        assert json.loads(os.getxattr(at, "user.butler.data_id")) == file.data_id, path
        assert int(made.seen[path].st_mtime) == reftree.mtime_of(file.ingest_ns), path
        told = datetime.datetime.fromisoformat(os.getxattr(at, "user.butler.ingest_date").decode())
        assert abs(told - reftree.iso_of(file.ingest_ns)) < datetime.timedelta(milliseconds=1), path


def test_every_dataset_is_found_by_its_id(made):
    for uuid, path in made.tree.by_uuid.items():
        link = made.mount.at(b"by-uuid/" + uuid.encode())
        assert os.path.normpath(os.path.join(os.path.dirname(link), os.readlink(link))) == made.mount.at(path)


def test_deep_paths_open_with_nothing_cached(made, mount):
    cold = mount(made.root)
    for path in sorted(made.tree.files)[:: max(1, len(made.tree.files) // 40)]:
        assert Path(os.fsdecode(cold.at(path))).read_bytes() == made.tree.files[path].content(), path
    for path in sorted(made.tree.unstored)[:5]:
        assert not os.path.exists(cold.at(path + b".yaml")), path
    assert cold.counters()["set_loads"] == 0


def test_nothing_in_it_was_refused(made):
    assert made.mount.counters()["rows_refused"] == 0


def test_a_butler_yaml_in_pieces_is_read_as_the_client_reads_it(place, mount):
    out = place / "pieces"
    subprocess.run([sys.executable, HERE / "makeschema.py", out], check=True, timeout=120)
    root = out / "repo"
    whole = (root / "butler.yaml").read_text()
    (root / "site").mkdir()
    (root / "site" / "butler.yaml").write_text(whole)
    (root / "site" / "records.yaml").write_text("table: file_datastore_records\n")
    (root / "site" / "store.yaml").write_text("datastore:\n  root: /nowhere\n  records: !include records.yaml\n")
    (root / "butler.yaml").write_text("includeConfigs: [site/butler.yaml, site/store.yaml]\ndatastore: {root: <butlerRoot>}\n"
                                      "storageClasses: {}\n.datastore.root: /not/a/key\n")  # fmt: skip
    tree = reftree.expected(root)
    m = mount(root)
    seen = mounting.walk(m.at(b""))
    assert {p for p, st in seen.items() if stat.S_ISREG(st.st_mode)} - {b"README.txt"} == set(tree.files)
    path = next(iter(tree.files))
    assert Path(os.fsdecode(m.at(path))).read_bytes() == tree.files[path].content()
