# SPDX-License-Identifier: BSD-3-Clause
"""CALIBRATION collections and calibs-at/, held against the client's own find_dataset."""

from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
import signal
import sqlite3
from pathlib import Path
from uuid import UUID

import astropy.time
import mounting
import pytest
from lsst.daf.butler import Butler, CalibrationLookupError, CollectionType, DatasetType, Timespan

DETECTORS = 6
SECOND = 1_000_000_000
EPOCH = 1_704_067_200 * SECOND  # 2024-01-01, TAI


def span(begin: int | None, end: int | None) -> Timespan:
    return Timespan(None, None, _nsec=(0 if begin is None else begin, 4102444800 * SECOND if end is None else end))


def tai_name(ns: int) -> str:
    t = astropy.time.Time(ns // SECOND, format="unix_tai", scale="tai")
    fraction = f",{ns % SECOND:09d}".rstrip("0") if ns % SECOND else ""
    return t.strftime("%Y%m%dT%H%M%S") + fraction


def infix(nsec: tuple[int, int]) -> str:
    if nsec[0] >= nsec[1]:
        return "@empty"
    begin = "" if nsec[0] == 0 else tai_name(nsec[0])
    return f"@{begin}--" + ("" if nsec[1] == 4102444800 * SECOND else tai_name(nsec[1]))


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    """A repository with random validity ranges: its root, the rows of its calibs table, its boundaries."""
    root = tmp_path_factory.mktemp("calibs") / "repo"
    rng = random.Random(int(os.environ.get("BUTLERFS_TEST_SEED", "1")))
    Butler.makeRepo(str(root))
    bounds = {0, EPOCH}
    with Butler.from_config(str(root), writeable=True) as butler:
        registry = butler.registry
        registry.insertDimensionData("instrument", {"name": "Cam"})
        registry.insertDimensionData("physical_filter", {"instrument": "Cam", "name": "r", "band": "r"})
        registry.insertDimensionData("day_obs", {"instrument": "Cam", "id": 20240101})
        registry.insertDimensionData("group", {"instrument": "Cam", "name": "g"})
        for i in range(3):
            at = span(EPOCH + 1000 * i * SECOND, EPOCH + (1000 * i + 30) * SECOND)
            common = {"instrument": "Cam", "id": i, "day_obs": 20240101, "physical_filter": "r", "timespan": at}
            registry.insertDimensionData("exposure", {**common, "group": "g", "obs_id": f"e{i}"})
            registry.insertDimensionData("visit", {**common, "name": f"v{i}"})
        for i in range(DETECTORS):
            registry.insertDimensionData("detector", {"instrument": "Cam", "id": i, "full_name": f"d{i}"})
        storage = butler.storageClasses.getStorageClass("StructuredDataDict")
        for name, dimensions in (("bias", ["instrument", "detector"]), ("lut", [])):
            registry.registerDatasetType(
                DatasetType(name, dimensions, storage, universe=butler.dimensions, isCalibration=True)
            )
        refs = []
        for run in ("u/one", "u/two"):
            butler.collections.register(run)
            refs += [butler.put({"of": f"{run}{i}"}, "bias", instrument="Cam", detector=i, run=run)
                     for i in range(DETECTORS)]
            refs.append(butler.put({"of": run}, "lut", run=run))
        for name in ("calib/a", "calib/b"):
            butler.collections.register(name, CollectionType.CALIBRATION)
            for ref in refs:
                for _ in range(3):
                    begin = EPOCH + rng.choice([0, 500, 1000, 1010, 2000, 3000]) * SECOND + rng.choice([0, 0, 1, 500000000])
                    at = span(rng.choice([begin, begin, None]), rng.choice([begin + rng.choice([1, 7, 1000, 2000]) * SECOND, None]))
                    try:
                        registry.certify(name, [ref], at)
                    except Exception:  # it would overlap
                        continue
            registry.certify(name, refs[:1], Timespan.makeEmpty())
        butler.pruneDatasets([refs[2], refs[DETECTORS + 3]], unstore=True, disassociate=False)
        for name, members in {"ab": ["calib/a", "calib/b"], "mixed": ["calib/b", "u/one", "calib/a"],
                              "runs": ["u/two", "calib/a"], "deep": ["ab", "u/two"]}.items():
            butler.collections.register(name, CollectionType.CHAINED)
            butler.collections.redefine_chain(name, members)
    rows = read_rows(root)
    # What the client refuses, but another tool may have written: overlaps.
    with sqlite3.connect(root / "gen3.sqlite3") as db:
        for table in calibs_tables(db):
            columns = [r[1] for r in db.execute(f"PRAGMA table_info({table})") if r[1] != "id"]
            moved = ", ".join("timespan_end + 700000000000" if c == "timespan_end" else c for c in columns)
            db.execute(f"INSERT INTO {table} ({', '.join(columns)}) SELECT {moved} FROM {table}"
                       f" WHERE id % 3 = 0 AND timespan_end < 4102444800000000000 AND timespan_begin < timespan_end")
    rows = read_rows(root)
    for row in rows:
        bounds |= {row["begin"], row["end"]}
    return root, rows, sorted(b for b in bounds if 0 < b < 4102444800 * SECOND)


def calibs_tables(db):
    return [r[0] for r in db.execute("SELECT name FROM sqlite_master WHERE type='table' AND name LIKE 'dataset_calibs_%'")]


def read_rows(root: Path) -> list[dict]:
    out = []
    with sqlite3.connect(root / "gen3.sqlite3") as db:
        db.row_factory = sqlite3.Row
        stored = {r[0] for r in db.execute("SELECT dataset_id FROM file_datastore_records")}
        for table in calibs_tables(db):
            query = (f"SELECT t.*, c.name AS collection, y.name AS type FROM {table} t JOIN collection c USING (collection_id)"
                     " JOIN dataset_type y ON y.id = t.dataset_type_id")
            for r in db.execute(query):
                r = dict(r)
                out.append({"collection": r["collection"], "type": r["type"], "detector": r.get("detector"),
                            "uuid": r["dataset_id"], "begin": r["timespan_begin"], "end": r["timespan_end"],
                            "stored": r["dataset_id"] in stored})
    return out


def folder_of(at: Path, collection: str, type_: str) -> Path:
    return at / collection / type_ / ("instrument=Cam" if type_ == "bias" else ".")


def entries(rows: list[dict], collection: str, type_: str) -> dict[str, str]:
    """The names a CALIBRATION collection has, and the datasets behind them."""
    own = [r for r in rows if r["collection"] == collection and r["type"] == type_]
    out = {}
    for r in own:
        like = {o["uuid"] for o in own if (o["detector"], o["begin"], o["end"]) == (r["detector"], r["begin"], r["end"])}
        u = r["uuid"]
        twin = f"~{u[:8]}-{u[8:12]}-{u[12:16]}-{u[16:20]}-{u[20:]}" if len(like) > 1 else ""
        stem = f"bias_Cam_{r['detector']}" if type_ == "bias" else "lut"
        if r["stored"]:
            out[stem + infix((r["begin"], r["end"])) + twin + ".yaml"] = u
    return out


def uuid_of(path: Path) -> str:
    return os.getxattr(path, "user.butler.uuid").decode().replace("-", "")


@pytest.mark.parametrize("listed_first", [True, False])
def test_each_validity_range_is_an_entry_under_its_name(calibrated, mount, listed_first):
    root, rows, _ = calibrated
    m = mount(root)
    chains = {"calib/a": ["calib/a"], "calib/b": ["calib/b"], "ab": ["calib/a", "calib/b"],
              "mixed": ["calib/b", "calib/a"], "runs": ["calib/a"], "deep": ["calib/a", "calib/b"]}
    for (collection, members), type_ in itertools.product(chains.items(), ("bias", "lut")):
        expected: dict[str, str] = {}
        for member in members:
            expected = entries(rows, member, type_) | expected
        folder = folder_of(m.path / "collections", collection, type_)
        if listed_first:
            assert {n for n in os.listdir(folder) if "@" in n} == set(expected), collection
        for name, uuid in expected.items():
            assert uuid_of(folder / name) == uuid, (collection, name)
            assert os.path.samefile(folder / name, m.path / "by-uuid" / str(UUID(uuid)))


def test_at_every_boundary_the_client_is_agreed_with(calibrated, mount):
    root, rows, bounds = calibrated
    m = mount(root)
    instants = sorted({b + d for b in bounds for d in (-1, 0, 1) if b + d > 0})
    stored = {r["uuid"] for r in rows if r["stored"]}
    collections = ["calib/a", "calib/b", "ab", "mixed", "runs", "deep", "u/one"]
    ambiguous = found = 0
    with Butler.from_config(str(root)) as butler:
        kept = {r.id.hex for t in ("bias", "lut") for r in butler.registry.queryDatasets(t, collections=["u/one", "u/two"])
                if butler.stored(r)}
        rng = random.Random(3)
        for at in instants:
            for collection in rng.sample(collections, 3):
                whole = folder_of(m.path / "calibs-at" / f"{tai_name(at)}TAI", collection, "bias")
                if at % 2:
                    os.listdir(whole)
                expected = {}
                for detector in range(DETECTORS):
                    path = whole / f"bias_Cam_{detector}.yaml"
                    try:
                        ref = butler.find_dataset("bias", instrument="Cam", detector=detector, collections=collection,
                                                  timespan=span(at, at + 1))
                    except CalibrationLookupError:
                        ambiguous += 1
                        with pytest.raises(OSError) as failed:
                            path.stat()
                        assert failed.value.errno == errno.ENOTUNIQ, (path, failed.value)
                        continue
                    if ref is None or ref.id.hex not in kept:
                        assert not path.exists(), path
                        continue
                    found += 1
                    assert uuid_of(path) == ref.id.hex, path
                    expected[path.name] = ref.id.hex
                assert sorted(os.listdir(whole)) == sorted(expected), whole
    assert found > 50 and ambiguous > 5, (found, ambiguous)
    assert stored <= kept | stored


def test_a_visit_and_an_exposure_are_their_timespans(calibrated, mount):
    root, _, _ = calibrated
    m = mount(root)
    seen = 0
    with Butler.from_config(str(root)) as butler:
        for element, id_, collection, detector in itertools.product(
            ("visit", "exposure"), range(3), ("calib/a", "ab", "mixed"), range(DETECTORS)
        ):
            (record,) = butler.registry.queryDimensionRecords(element, where=f"instrument='Cam' AND {element}={id_}")
            path = folder_of(m.path / "calibs-at" / f"{element},Cam,{id_}", collection, "bias") / f"bias_Cam_{detector}.yaml"
            try:
                ref = butler.find_dataset("bias", instrument="Cam", detector=detector, collections=collection,
                                          timespan=record.timespan)
            except CalibrationLookupError:
                with pytest.raises(OSError) as failed:
                    path.stat()
                assert failed.value.errno == errno.ENOTUNIQ
                continue
            if ref is None or not butler.stored(ref):
                assert not path.exists()
                continue
            seen += 1
            assert uuid_of(path) == ref.id.hex
    assert seen > 5
    assert not (m.path / "calibs-at/visit,Cam,99").exists()
    assert os.listdir(m.path / "calibs-at") == []


def test_any_spelling_of_an_instant_leads_to_the_same_files(calibrated, mount):
    root, _, bounds = calibrated
    m = mount(root)
    at = astropy.time.Time(EPOCH // SECOND + 1200, format="unix_tai", scale="tai")
    spellings = [at.utc.isot, at.utc.isot + "Z", at.utc.strftime("%Y%m%dT%H%M%S"), at.isot + " TAI", at.isot + "TAI",
                 at.strftime("%Y-%jT%H:%M:%STAI"), at.utc.iso]
    folders = [folder_of(m.path / "calibs-at" / s, "ab", "bias") for s in spellings]
    inodes = [{(p.name, p.stat().st_ino) for p in f.iterdir()} for f in folders]
    assert inodes[0] and all(i == inodes[0] for i in inodes)
    assert len({f.stat().st_ino for f in folders}) == len(spellings)
    for bad in ("2024-02-30", "yesterday", "2024-01-01T25:00", "visit,Cam", "2024"):
        assert not (m.path / "calibs-at" / bad).exists()


def test_certify_and_decertify_are_seen(tmp_path, calibrated, mount):
    root = tmp_path / "repo"
    shutil.copytree(calibrated[0], root)
    m = mount(root, refresh="200ms")
    folder = folder_of(m.path / "collections", "calib/c", "bias")
    at = folder_of(m.path / "calibs-at/20240101T000005TAI", "calib/c", "bias") / "bias_Cam_0.yaml"
    assert not folder.exists() and not at.exists()
    with Butler.from_config(str(root), writeable=True) as butler:
        butler.collections.register("calib/c", CollectionType.CALIBRATION)
        ref = butler.find_dataset("bias", instrument="Cam", detector=0, collections="u/one")
        when = span(EPOCH, EPOCH + 10 * SECOND)
        butler.registry.certify("calib/c", [ref], when)
        mounting.eventually(lambda: at.exists() and uuid_of(at) == ref.id.hex, 20)
        assert os.listdir(folder) == ["bias_Cam_0@20240101T000000--20240101T000010.yaml"]
        butler.registry.decertify("calib/c", "bias", span(EPOCH + 4 * SECOND, EPOCH + 6 * SECOND))
        mounting.eventually(lambda: not at.exists(), 20)
        assert sorted(os.listdir(folder)) == ["bias_Cam_0@20240101T000000--20240101T000004.yaml",
                                              "bias_Cam_0@20240101T000006--20240101T000010.yaml"]


def test_folders_of_a_time_are_listed_on_by_the_next_life(calibrated, mount):
    root, _, _ = calibrated
    m = mount(root)
    if not m.began["modes"]["takeover"]:
        pytest.skip("this kernel cannot resend requests (Linux 6.9 can)")
    folder = folder_of(m.path / "calibs-at/20240101T000005TAI", "ab", "bias")
    whole = sorted(os.listdir(folder))
    assert len(whole) > 1
    inodes = {n: (folder / n).stat().st_ino for n in whole}
    with os.scandir(folder) as listing:
        seen = [next(listing).name]
        os.kill(m.pid(), signal.SIGKILL)
        seen += [e.name for e in listing]
    assert sorted(seen) == whole
    assert {n: (folder / n).stat().st_ino for n in whole} == inodes
    m.assert_nothing_leaked()
