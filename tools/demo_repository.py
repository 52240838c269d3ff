# SPDX-License-Identifier: BSD-3-Clause
"""Makes a small, real Butler repository with the real client, for tools/demo.

    python tools/demo_repository.py FOLDER

One instrument, two nights, three visits a night, four detectors. Of each visit and detector an image
(FITS, ingested) and a table of sources (Parquet, put). The collections:

    demo/first          RUN      everything
    demo/second         RUN      two visits, processed again
    demo/latest         CHAINED  second before first: the two visits of `second` shadow those of `first`
    demo/good-seeing    TAGGED   a choice of both

This module is also where the client finds the images' formatter: `butler.get` of an image works where
tools/ is on PYTHONPATH. butlerfs needs neither.
"""

import datetime
import shutil
import sys
import tempfile
from pathlib import Path

import astropy.io.fits
import astropy.time
import numpy
import pyarrow

from lsst.daf.butler import (
    Butler,
    CollectionType,
    Config,
    DatasetRef,
    DatasetType,
    DataCoordinate,
    FileDataset,
    FormatterV2,
    Timespan,
)

INSTRUMENT = "DemoCam"
NIGHTS = (20260110, 20260111)
VISITS_A_NIGHT = 3
FILTERS = {"g_01": "g", "r_01": "r", "i_01": "i"}
DETECTORS = {0: "R00_S00", 1: "R00_S01", 2: "R00_S02", 3: "R00_S10"}
SIDE = 256  # pixels


class FitsImageFormatter(FormatterV2):
    """FITS files as astropy has them."""

    default_extension = ".fits"
    can_read_from_local_file = True

    def read_from_local_file(self, path, component=None, expected_size=-1):
        return astropy.io.fits.open(path)

    def write_local_file(self, in_memory_dataset, uri):
        in_memory_dataset.writeto(uri.ospath)


def make_repository(folder: Path) -> Butler:
    config = Config()
    config["storageClasses", "FitsImage"] = {"pytype": "astropy.io.fits.HDUList"}
    config["datastore", "formatters"] = {"FitsImage": "demo_repository.FitsImageFormatter"}
    Butler.makeRepo(folder, config=config)
    return Butler.from_config(folder, writeable=True)


def visits():
    """Yields (visit, night, physical filter)."""
    for night in NIGHTS:
        for sequence, physical_filter in zip(range(1, VISITS_A_NIGHT + 1), FILTERS, strict=True):
            yield night * 100_000 + sequence, night, physical_filter


def night_begin(night: int) -> astropy.time.Time:
    noon = datetime.datetime.strptime(str(night), "%Y%m%d") + datetime.timedelta(hours=12)
    return astropy.time.Time(noon, scale="tai")


def insert_dimensions(butler: Butler) -> None:
    def insert(element, *records):
        butler.registry.insertDimensionData(element, *[{"instrument": INSTRUMENT, **r} for r in records])

    butler.registry.insertDimensionData(
        "instrument",
        {"name": INSTRUMENT, "class_name": "demo.DemoCam", "detector_max": len(DETECTORS),
         "visit_max": 10**14, "exposure_max": 10**14, "visit_system": 0},
    )
    insert("visit_system", {"id": 0, "name": "one-to-one"})
    insert("physical_filter", *[{"name": name, "band": band} for name, band in FILTERS.items()])
    insert("detector", *[{"id": id, "full_name": name, "purpose": "SCIENCE"} for id, name in DETECTORS.items()])
    day = astropy.time.TimeDelta(1, format="jd")
    insert("day_obs", *[
        {"id": night, "timespan": Timespan(night_begin(night), night_begin(night) + day)} for night in NIGHTS
    ])
    for visit, night, physical_filter in visits():
        begin = night_begin(night) + astropy.time.TimeDelta(14 * 3600 + visit % 1000 * 40, format="sec")
        common = {
            "day_obs": night, "physical_filter": physical_filter, "exposure_time": 30.0, "seq_num": visit % 1000,
            "timespan": Timespan(begin, begin + astropy.time.TimeDelta(30, format="sec")),
        }
        insert("group", {"name": str(visit)})
        insert("exposure", {"id": visit, "obs_id": f"DC_{visit}", "group": str(visit), **common})
        insert("visit", {"id": visit, "name": f"DC_{visit}", **common})
        insert("visit_definition", {"visit": visit, "exposure": visit})
        insert("visit_system_membership", {"visit": visit, "visit_system": 0})


def make_sources(random, count=60):
    return {
        "x": random.uniform(8, SIDE - 8, count),
        "y": random.uniform(8, SIDE - 8, count),
        "flux": random.lognormal(7.0, 1.0, count),
    }


def write_image(path: Path, data_id: dict, sources: dict, random) -> None:
    y, x = numpy.mgrid[0:SIDE, 0:SIDE]
    pixels = random.normal(100.0, 5.0, (SIDE, SIDE)).astype(">f4")
    for sx, sy, flux in zip(sources["x"], sources["y"], sources["flux"], strict=True):
        box = numpy.s_[max(0, int(sy) - 8):int(sy) + 9, max(0, int(sx) - 8):int(sx) + 9]
        pixels[box] += flux / 25.0 * numpy.exp(-((x[box] - sx) ** 2 + (y[box] - sy) ** 2) / 8.0)
    header = astropy.io.fits.Header()
    for key, value in data_id.items():
        header[f"HIERARCH {key.upper()}"] = value
    astropy.io.fits.HDUList(
        [astropy.io.fits.PrimaryHDU(header=header), astropy.io.fits.ImageHDU(pixels, name="IMAGE")]
    ).writeto(path)


def process(butler: Butler, run: str, wanted, staging: Path, seed: int) -> None:
    """Fills a RUN with an image and a table for every detector of the visits in `wanted`."""
    dimensions = ("instrument", "visit", "detector")
    image_type = DatasetType("visit_image", dimensions, "FitsImage", universe=butler.dimensions)
    source_type = DatasetType("source", dimensions, "ArrowTable", universe=butler.dimensions)
    config_type = DatasetType("process_config", (), "StructuredDataDict", universe=butler.dimensions)
    for dataset_type in (image_type, source_type, config_type):
        butler.registry.registerDatasetType(dataset_type)
    butler.collections.register(run, CollectionType.RUN)

    images = []
    for visit in wanted:
        for detector in DETECTORS:
            random = numpy.random.default_rng([seed, visit, detector])
            data_id = {"instrument": INSTRUMENT, "visit": visit, "detector": detector}
            sources = make_sources(random)
            path = staging / f"{run.replace('/', '-')}-{visit}-{detector}.fits"
            write_image(path, data_id, sources, random)
            ref = DatasetRef(image_type, DataCoordinate.standardize(data_id, universe=butler.dimensions), run=run)
            images.append(FileDataset(path=str(path), refs=[ref]))
            butler.put(pyarrow.table(sources), source_type, data_id, run=run)
    butler.ingest(*images, transfer="copy")
    butler.put({"run": run, "seed": seed}, config_type, run=run)


def main(folder: Path) -> None:
    if (folder / "butler.yaml").exists():
        return
    # Under another name until it is whole: a demo stopped midway starts again.
    unfinished = folder.with_name(folder.name + "-unfinished") # a dot would make it a file to the client
    shutil.rmtree(unfinished, ignore_errors=True)
    all_visits = [visit for visit, _, _ in visits()]
    butler = make_repository(unfinished)
    insert_dimensions(butler)
    with tempfile.TemporaryDirectory() as staging:
        process(butler, "demo/first", all_visits, Path(staging), seed=1)
        process(butler, "demo/second", all_visits[1:3], Path(staging), seed=2)

    butler.collections.register("demo/latest", CollectionType.CHAINED)
    butler.collections.redefine_chain("demo/latest", ["demo/second", "demo/first"])
    butler.collections.register("demo/good-seeing", CollectionType.TAGGED)
    good = butler.query_datasets("visit_image", collections="demo/latest", find_first=True)
    butler.registry.associate("demo/good-seeing", [ref for ref in good if ref.dataId["visit"] % 2])
    butler.close()
    unfinished.rename(folder)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: demo_repository.py FOLDER")
    # What the repository writes down must be importable by name, not as __main__.
    import demo_repository

    demo_repository.main(Path(sys.argv[1]))
