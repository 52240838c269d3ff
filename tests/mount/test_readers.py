# SPDX-License-Identifier: BSD-3-Clause
"""What astronomers read with: astropy on members of archives and on compressed images, pyarrow on a thousand tracts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import makerepo
import mounting
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest
from astropy.io import fits

TRACTS = 1000
ROWS = 3


def image(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 60, (200, 300), dtype=np.int16)


def ingest(butler: Any, files: list[tuple[Any, Path]], transfer: str = "copy") -> None:
    from lsst.daf.butler import FileDataset

    butler.ingest(*[FileDataset(path=str(p), refs=[r], formatter=makerepo._formatter()) for r, p in files], transfer=transfer)


def reference(butler: Any, name: str, run: str, **data_id: Any) -> Any:
    from lsst.daf.butler import DataCoordinate, DatasetRef

    t = butler.get_dataset_type(name)
    return DatasetRef(t, DataCoordinate.standardize(data_id, dimensions=t.dimensions), run=run)


@pytest.fixture(scope="module")
def science(repository: Any, place: Path, module_mount: Any) -> mounting.Mount:
    """A repository with real images, whole, compressed and in an archive, and a catalogue of a thousand tracts."""
    original = repository(seed=7, datasets=300, nasty=False)
    at = place / "readers"
    shutil.copytree(original.root.parent, at, symlinks=True)
    repo = makerepo.Repository(at / "repo", original.elsewhere, original.seed)
    new = at / "new"
    new.mkdir()
    with repo.butler() as butler:
        for run in ("read/images", "read/tables", "read/packed"):
            butler.collections.register(run)
        files = []
        for d in range(3):
            whole = fits.PrimaryHDU(image(d))
            whole.writeto(new / f"whole{d}.fits")
            fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(image(d), name="SCI", compression_type="RICE_1")]).writeto(new / f"tile{d}.fits.fz")
            files.append((reference(butler, "flat", "read/images", instrument="HSC", physical_filter="r_03", detector=d), new / f"tile{d}.fits.fz"))
            files.append((reference(butler, "bias", "read/packed", instrument="HSC", detector=d), new / f"whole{d}.fits"))
            files.append((reference(butler, "flat", "read/packed", instrument="HSC", physical_filter="r_03", detector=d), new / f"tile{d}.fits.fz"))
        ingest(butler, files, "direct")
        packed = [r for t in ("bias", "flat") for r in butler.query_datasets(t, "read/packed")]
        path = butler.retrieve_artifacts_zip(packed, destination=str(at / "packed"))
        butler.pruneDatasets(packed, disassociate=True, unstore=True, purge=True)
        butler.ingest_zip(path, transfer="copy")
        insert, tracts = butler.registry.insertDimensionData, [t for t in range(TRACTS) if t not in (0, 3)]
        insert("tract", *[{"skymap": "lsst_cells_v1", "id": t} for t in tracts])
        insert("patch", *[{"skymap": "lsst_cells_v1", "tract": t, "id": 0, "cell_x": 0, "cell_y": 0} for t in tracts])
        # A patch is the last dimension, so each tract is a folder.
        files = []
        for t in range(TRACTS):
            pa.parquet.write_table(pa.table({"id": [t * ROWS + k for k in range(ROWS)], "flux": [t / 7] * ROWS}), new / f"t{t}.parq")
            files.append((reference(butler, "patchTable", "read/tables", skymap="lsst_cells_v1", tract=t, patch=0), new / f"t{t}.parq"))
        ingest(butler, files, "direct")
    return module_mount(repo)


def test_astropy_reads_an_image_that_is_a_member_of_an_archive(science):
    before = science.counters()["open_cached"]
    for d in range(3):
        path = science / f"collections/read/packed/bias/instrument=HSC/bias_HSC_{d}.fits"
        for memmap in (True, False):
            with fits.open(path, memmap=memmap) as found:
                found.verify("exception")
                assert np.array_equal(found[0].data, image(d))
    assert science.counters()["open_cached"] > before, "it was no member of an archive"


def test_astropy_reads_a_tile_compressed_image_whole_and_in_parts(science):
    for run in ("images", "packed"):
        for d in range(3):
            path = science / f"collections/read/{run}/flat/instrument=HSC/physical_filter=r_03/flat_HSC_r_03_{d}.fits.fz"
            with fits.open(path) as found:
                assert isinstance(found["SCI"], fits.CompImageHDU)
                assert np.array_equal(found["SCI"].data, image(d))
            with fits.open(path) as found:
                assert np.array_equal(found["SCI"].section[50:60, 7:250], image(d)[50:60, 7:250])


def test_pyarrow_reads_a_thousand_datasets_as_one_with_the_keys_as_columns(science):
    folder = science / "collections/read/tables/patchTable"
    found = pa.dataset.dataset(folder, format="parquet", partitioning="hive")
    assert len(found.files) == TRACTS
    assert {"skymap", "tract"} <= set(found.schema.names)
    table = found.to_table()
    assert table.num_rows == TRACTS * ROWS
    assert set(table.column("skymap").to_pylist()) == {"lsst_cells_v1"}
    by_tract = dict(zip(table.column("id").to_pylist(), table.column("tract").to_pylist(), strict=True))
    assert by_tract == {t * ROWS + k: t for t in range(TRACTS) for k in range(ROWS)}


def test_a_filter_on_a_key_opens_only_the_files_that_can_have_it(science):
    field = pa.dataset.field
    found = pa.dataset.dataset(science / "collections/read/tables/patchTable", format="parquet", partitioning="hive")
    before = science.counters()
    some = found.to_table(filter=(field("tract") >= 100) & (field("tract") < 110))
    after = science.counters()
    assert sorted(some.column("id").to_pylist()) == list(range(100 * ROWS, 110 * ROWS))
    opened = sum(after[k] - before[k] for k in ("open_passthrough", "open_cached"))
    assert 10 <= opened <= 40, opened
