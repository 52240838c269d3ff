# SPDX-License-Identifier: BSD-3-Clause
"""Datasets that are members of a zip archive, made by the client's own retrieve_artifacts_zip and ingest_zip."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import makerepo
import pytest
from lsst.daf.butler import Butler


@pytest.fixture(params=["stored", "deflated"])
def zipped(request, tmp_path_factory):
    """A repository whose `exposureLog` datasets of one run were put into a zip; their bytes by uuid."""
    at = tmp_path_factory.mktemp("zip")
    repo = makerepo.make(at / "made", seed=5, datasets=300, nasty=False)
    with Butler.from_config(str(repo.root), writeable=True) as butler:
        refs = list(butler.registry.queryDatasets("exposureLog", collections="u/alice/run1"))
        refs = [r for r in refs if butler.stored(r)]
        assert len(refs) > 3
        content = {str(r.id): Path(butler.getURI(r).ospath).read_bytes() for r in refs}
        path = Path(butler.retrieve_artifacts_zip(refs, destination=str(at / "out")).ospath)
        butler.pruneDatasets(refs, disassociate=True, unstore=True, purge=True)
        if request.param == "deflated":
            pack(path)
        butler.ingest_zip(str(path), transfer="copy")
    return repo, content


def pack(path: Path) -> None:
    with zipfile.ZipFile(path) as z:
        members = [(i.filename, z.read(i)) for i in z.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, data in members:
            z.writestr(name, data)


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
    (archive,) = repo.root.glob("zips/**/*.zip")
    m = mount(repo)
    paths = [m.path / "by-uuid" / uuid for uuid in content]
    archive.write_bytes(archive.read_bytes()[:-30])
    done = subprocess.run(["cat", str(paths[0])], capture_output=True, text=True)
    assert "Remote I/O error" in done.stderr
    archive.unlink()
    done = subprocess.run(["cat", str(paths[1])], capture_output=True, text=True)
    assert "Remote I/O error" in done.stderr
