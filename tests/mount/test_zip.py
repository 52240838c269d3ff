# SPDX-License-Identifier: BSD-3-Clause
"""Datasets that are members of a zip archive, made by the client's own retrieve_artifacts_zip and ingest_zip."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from pathlib import Path

import makeparts
import pytest
from lsst.daf.butler import Butler


@pytest.fixture(params=["stored", "deflated"])
def zipped(request, own_repository, tmp_path):
    """A repository whose `exposureLog` datasets of one run were put into a zip; their bytes by uuid."""
    repo = own_repository()
    with Butler.from_config(str(repo.root), writeable=True) as butler:
        refs = list(butler.registry.queryDatasets("exposureLog", collections="u/alice/run1"))
        refs = [r for r in refs if butler.stored(r)]
        assert len(refs) > 3
        content = {str(r.id): Path(butler.getURI(r).ospath).read_bytes() for r in refs}
        path = Path(butler.retrieve_artifacts_zip(refs, destination=str(tmp_path / "out")).ospath)
        butler.pruneDatasets(refs, disassociate=True, unstore=True, purge=True)
        if request.param == "deflated":
            makeparts.pack(path)
        butler.ingest_zip(str(path), transfer="copy")
    return repo, content


def test_members_of_an_archive_are_files_with_their_own_bytes_and_sizes(zipped, mount):
    repo, content = zipped
    m = mount(repo)
    folder = m.path / "collections/u/alice/run1/exposureLog"
    seen = {}
    for where, _, files in os.walk(folder):
        for name in files:
            path = Path(where) / name
            assert name.startswith("exposureLog_") and name.endswith(".yaml"), name
            seen[os.getxattr(path, "user.butler.uuid").decode()] = path
    assert content.keys() <= seen.keys()
    for uuid, data in content.items():
        assert seen[uuid].read_bytes() == data
        assert seen[uuid].stat().st_size == len(data)
        assert (m.path / "by-uuid" / uuid).read_bytes() == data
    assert m.counters()["open_cached"] >= 2 * len(content)


def test_an_archive_that_is_gone_or_damaged_is_eremoteio(zipped, mount):
    repo, content = zipped
    with Butler.from_config(str(repo.root)) as butler:
        archive = Path(butler.getURI(butler.get_dataset(next(iter(content)))).ospath)
    m = mount(repo)
    paths = [m.path / "by-uuid" / uuid for uuid in content]
    archive.write_bytes(archive.read_bytes()[:-30])
    done = subprocess.run(["cat", str(paths[0])], capture_output=True, text=True)
    assert "Remote I/O error" in done.stderr
    archive.unlink()
    done = subprocess.run(["cat", str(paths[1])], capture_output=True, text=True)
    assert "Remote I/O error" in done.stderr


def test_a_member_whose_size_is_not_recorded_has_it_before_it_is_opened(zipped, mount):
    repo, content = zipped
    with sqlite3.connect(repo.root / "gen3.sqlite3") as db:
        db.execute("UPDATE file_datastore_records SET file_size = -1 WHERE path LIKE 'zips/%'")
    m = mount(repo)
    for uuid, data in content.items():
        assert (m.path / "by-uuid" / uuid).stat().st_size == len(data)
    assert m.counters()["open_cached"] == 0
