# SPDX-License-Identifier: BSD-3-Clause
"""`calibs-at/`: the calibrations of an instant, beside the client's find_dataset of the same. A CALIBRATION
collection of 200 detectors with `--ranges` validity ranges each, behind another in a chain.

    tests/perf/run calibs [--rounds N] [--ranges N] [--work FOLDER]
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "mount"))
from local import Mount  # noqa: E402
from lsst.daf.butler import Butler, CollectionType, DatasetType, Timespan  # noqa: E402
from measure import Table  # noqa: E402

DETECTORS = 200
DAY_NS = 86400 * 10**9
BEGIN_NS = 1_704_067_200 * 10**9  # 2024-01-01, TAI


def make(root: Path, ranges: int) -> None:
    Butler.makeRepo(str(root))
    with Butler.from_config(str(root), run="u/run", writeable=True) as butler:
        butler.registry.insertDimensionData("instrument", {"name": "Cam"})
        detectors = [{"instrument": "Cam", "id": i, "full_name": f"d{i}"} for i in range(DETECTORS)]
        butler.registry.insertDimensionData("detector", *detectors)
        storage = butler.storageClasses.getStorageClass("StructuredDataDict")
        bias = DatasetType("bias", ["instrument", "detector"], storage, universe=butler.dimensions, isCalibration=True)
        butler.registry.registerDatasetType(bias)
        refs = [butler.put({"n": i}, "bias", instrument="Cam", detector=i) for i in range(DETECTORS)]
        for name in ("calib/new", "calib/old"):
            butler.collections.register(name, CollectionType.CALIBRATION)
        butler.registry.certify("calib/new", refs[:1], Timespan(None, None, _nsec=(1, 2)))
        butler.registry.certify("calib/old", refs, Timespan(None, None, _nsec=(BEGIN_NS, BEGIN_NS + DAY_NS)))
        butler.collections.register("calib", CollectionType.CHAINED)
        butler.collections.redefine_chain("calib", ["calib/new", "calib/old"])
    with sqlite3.connect(root / "gen3.sqlite3") as db:
        ((table,),) = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'dataset_calibs_%'")
        columns = "dataset_type_id, dataset_id, collection_id, instrument, detector"
        for k in range(1, ranges):
            db.execute(
                f"INSERT INTO {table} ({columns}, timespan_begin, timespan_end) SELECT {columns}, timespan_begin + ?1,"
                " timespan_end + ?1 FROM " + table + " WHERE timespan_begin = ?2", (k * DAY_NS, BEGIN_NS))


def instant(number: int) -> str:
    t = time.gmtime(BEGIN_NS // 10**9 + number * 60)
    return time.strftime("%Y%m%dT%H%M%STAI", t)


def by_client(butler: Butler, number: int, detectors: range) -> float:
    at = BEGIN_NS + number * 60 * 10**9
    span = Timespan(None, None, _nsec=(at, at + 1))
    begin = time.perf_counter()
    for d in detectors:
        assert butler.find_dataset("bias", instrument="Cam", detector=d, collections="calib", timespan=span)
    return (time.perf_counter() - begin) * 1000 / len(detectors)


def by_name(mount: Path, number: int, detectors: range) -> float:
    folder = mount / "calibs-at" / instant(number) / "calib/bias/instrument=Cam"
    begin = time.perf_counter()
    for d in detectors:
        os.stat(folder / f"bias_Cam_{d}.yaml")
    return (time.perf_counter() - begin) * 1000 / len(detectors)


def by_list(mount: Path, number: int) -> float:
    folder = mount / "calibs-at" / instant(number) / "calib/bias/instrument=Cam"
    begin = time.perf_counter()
    assert len(os.listdir(folder)) == DETECTORS
    return (time.perf_counter() - begin) * 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--ranges", type=int, default=100)
    parser.add_argument("--work", type=Path, help="where to make the repository (a folder on ext4)")
    args = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="butlerfs-perf-", dir=args.work))
    work.chmod(0o755)
    table = Table()
    print(f"# {os.uname().release}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {args.rounds} rounds")
    print(f"{'case':34s} {'butlerfs':>28s} {'baseline (the client)':>28s}")
    try:
        make(work / "repo", args.ranges)
        with Mount(work / "repo", work) as m, Butler.from_config(str(work / "repo")) as butler:
            some = range(0, DETECTORS, 10)
            names, client, lists = [], [], []
            by_list(m.point, 0)  # reads the members' sets, once
            for k in range(1, args.rounds + 1):
                client.append(by_client(butler, k, some))
                names.append(by_name(m.point, k, some))
                lists.append(by_list(m.point, args.rounds + k))
            table.row("look-up at a new instant, ms", names, client, "ms", None, False)
            table.figure(f"listing {DETECTORS} at a new instant", lists, "ms", None, False)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
