# SPDX-License-Identifier: BSD-3-Clause
"""Makes Butler repositories with the real client: small ones that hold every trap we know of, and a
big one by multiplying the rows of a small one.

    python makerepo.py OUT [--seed N] [--datasets N] [--store file|chained] [--no-sizes]
    python makerepo.py OUT --big 1000000

OUT gets `repo/` (the repository) and `elsewhere/` (artifacts that were ingested in place).
The same seed makes the same names and the same bytes; only the UUIDs differ.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import random
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import database
import makecalibs
import makeparts

HERE = Path(__file__).resolve().parent

# Group names: a text column without a limit. Each of these broke a naive tree once.
NASTY_GROUPS = [
    "two words", "two_words", "a/b", "a_b", "x:y", "x_y", "%41", "%", "%2F", "..", ".", ".hidden", "...",
    "", "caf\u00e9", "cafe\u0301", "new\nline", "tab\there", "line\u2028sep", "del\x7f", "nul\0byte",
    " lead", "trail ", "a=b", "@at", "x@y", "dot.ted", "dot.fits", "~0123456789abcdef", "x~0123456789abcdef",
    "~0123456789abcdef.y", "~0123456789abcdeg", "~", "Case", "case", "007", "7", "$HOME", "~root", "#frag", "a#b",
    "\\back", "'quote'", '"dquote"', "*", "?", "[x]", "-", "--flag", "\U0001f52d", "\ufeffbom", "a\u0085b",
    "g" * 255, "g" * 256, "g" * 300, "h" * 239, "h" * 238, "h" * 237, "\u00e9" * 150, "/" * 120, "%" * 100 + "z",
    "z" + "\u2028" * 100, "zz" + "\u2028" * 100, "long." * 60,
]  # fmt: skip

# Names of instruments and filters are varchar(32).
NASTY_FILTERS = [
    ("g DECam SDSS c0001 4720.0 1520.0", "g"), ("SDSSr_65mm~empty", "r"), ("N/A", "N/A"), ("..", "i"),
    ("x#1", "g"), ("a.b@c", "r"), ("%41", "white light"), ("\u00e9" * 32, "u"),
]  # fmt: skip

# Names that a collection may have. Each becomes a RUN with at least one dataset.
NASTY_RUNS = [
    "", ".", "..", "...", ".hidden", "/leading", "trailing/", "a//b", "/", "//", "u/../escape", "u/./here",
    "#", "%", "%41", "a%2Fb", "sp ace", " lead", "trail ", "new\nline", "tab\t", "del\x7f", "nul\0byte", "x\u2028y",
    "a=b", "x/instrument=LSSTComCam", "=", "@at", "x/@latest", "x/@members", "x@y", "a/a", "a/a.b", "a/a_b", "a/a@b",
    "a/ab", "a/a/a.b", "raw/raw", "raw/raw_1", "raw/raw.fits", "caf\u00e9", "cafe\u0301", "Case", "case",
    "~0123456789abcdef", "x~0123456789abcdef", "~0123456789abcdef.d", "l/~0123456789ABCDEF", "~", "$HOME", "~root",
    "README.txt", "by-uuid", "collections", "a*b", "[x]", "q?", "-rf", "\\", "'", '"', "\U0001f52d/\ufeff",
    "p" * 300, "p/" + "q" * 255, "p/" + "q" * 256, "p/" + "\u00e9" * 200, "p/" + "%" * 200, "p/p" + "_" * 300,
    "/".join("d" for _ in range(100)), "u/alice/raw", "u/alice/raw/raw.x", "u/alice/run1/cfg",
    "u/alice/run1/exposureLog",
]  # fmt: skip

FITS_NAMES = ["plain.fits", "tile.fits.fz", "z.fits.gz", "gaia.v1.2.fits", "bare", "ends.", "odd.a-b", "x.weird",
              "log.tar.gz", "sp ace.fits", "pct%41.fits", "caf\u00e9.fits", "UP.FITS", "$BCASE.txt", "~user.json",
              "hash#tag.fits"]  # fmt: skip
# A relative path holds these as they are, and the client would read them as escapes or a fragment.
QUOTED_ONLY = ("pct%41.fits", "hash#tag.fits")


def fits_bytes(rng: random.Random, side: int = 16) -> bytes:
    """A small image that astropy opens."""
    cards = ["SIMPLE  =                    T", "BITPIX  =                   16", "NAXIS   =                    2",
             f"NAXIS1  = {side:20d}", f"NAXIS2  = {side:20d}", f"SEED    = {rng.randrange(10**9):20d}", "END"]  # fmt: skip
    header = "".join(c.ljust(80) for c in cards).encode().ljust(2880)
    data = rng.randbytes(2 * side * side)
    return header + data + bytes(-len(data) % 2880)


@dataclasses.dataclass
class Repository:
    root: Path  # the folder that holds butler.yaml
    elsewhere: Path  # artifacts outside the repository
    seed: int

    def butler(self, run: str | None = None, writeable: bool = True) -> Any:
        from lsst.daf.butler import Butler

        return Butler.from_config(str(self.root), run=run, writeable=writeable)


class Maker:
    def __init__(self, out: Path, seed: int, datasets: int, store: str, sizes: bool, nasty: bool,
                 registry: dict[str, str] | None = None):  # fmt: skip
        from lsst.daf.butler import Butler, Config

        out = out.absolute()
        self.rng = random.Random(seed)
        self.scale = datasets
        self.sizes = sizes
        self.nasty = nasty
        self.repo = Repository(out / "repo", out / "elsewhere", seed)
        self.repo.elsewhere.mkdir(parents=True)
        config = Config()
        for key, value in (registry or {}).items():
            config["registry", key] = value
        # A NUL can't be stored there, and names of more than 48 bytes break the client's statements.
        self.postgres = bool(registry)
        self.groups_made = [g for g in NASTY_GROUPS if not (self.postgres and "\0" in g)]
        self.runs_made = [r for r in NASTY_RUNS if not (self.postgres and "\0" in r)]
        self.long_type = "long_" + "t" * (42 if self.postgres else 195)
        self.long_calib = "calib_" + "c" * (42 if self.postgres else 200)
        child = "lsst.daf.butler.datastores.fileDatastore.FileDatastore"
        fast = {"cls": child, "records": {"table": "fast_records"}, "checksum": True,
                "constraints": {"reject": ["objectTable", "deepCoadd", "flat"]}}  # fmt: skip
        bulk = {"cls": child, "records": {"table": "bulk_records"}}
        if store == "chained":
            config["datastore"] = {
                "cls": "lsst.daf.butler.datastores.chainedDatastore.ChainedDatastore",
                "datastores": [{"datastore": makeparts.configure(config, d)} for d in (fast, bulk)],
            }
        else:
            config["datastore"] = makeparts.configure(config, {})
        Butler.makeRepo(str(self.repo.root), config=config)
        self.chained = store == "chained"
        self.butler = self.repo.butler()
        self.registry = self.butler.registry
        self.universe = self.butler.dimensions
        self.types: dict[str, Any] = {}
        self.files_made = 0

    # ------------------------------------------------------------------------------------- helpers

    def type(self, name: str, dimensions: list[str], storage: str = "StructuredDataDict", calibration: bool = False) -> Any:
        from lsst.daf.butler import DatasetType

        t = DatasetType(name, dimensions, storage, universe=self.universe, isCalibration=calibration)
        self.registry.registerDatasetType(t)
        self.types[name] = t
        return t

    def ref(self, type_name: str, run: str, **data_id: Any) -> Any:
        from lsst.daf.butler import DataCoordinate, DatasetRef

        t = self.types[type_name]
        return DatasetRef(t, DataCoordinate.standardize(data_id, dimensions=t.dimensions), run=run)

    def blob(self, label: str, fits: bool = False) -> bytes:
        """Bytes that no other artifact has, of an odd length."""
        if fits:
            return fits_bytes(self.rng)
        head = f"{label} {self.repo.seed} {self.files_made}\n".encode("utf-8", "backslashreplace")
        return head + self.rng.randbytes(self.rng.choice([0, 1, 100, 511, 4096 - len(head) % 4096, 5000]))

    def ingest(self, items: list[tuple[Any, str]], transfer: str | None = "direct", sizes: bool | None = None,
               folder: str = "in", fits: bool = False, empty: bool = False) -> None:  # fmt: skip
        """`items`: (ref or list of refs, file name). With transfer None the file is laid below the root."""
        from lsst.daf.butler import FileDataset
        from lsst.resources import ResourcePath

        if self.chained and transfer is None:
            transfer = "copy"
        base = (self.repo.root if transfer is None else self.repo.elsewhere) / folder
        what = []
        for refs, name in items:
            self.files_made += 1
            # A folder of its own keeps equal names apart.
            path = base / f"{self.files_made // 500}" / str(self.files_made) / name
            path.parent.mkdir(parents=True)
            path.write_bytes(b"" if empty else self.blob(name, fits))
            refs = refs if isinstance(refs, list) else [refs]
            what.append(FileDataset(path=ResourcePath("file://" + quote(str(path))), refs=refs, formatter=_formatter()))
        self.butler.ingest(*what, transfer=transfer, record_validation_info=self.sizes if sizes is None else sizes)

    def run(self, name: str) -> str:
        self.butler.collections.register(name)
        return name

    # ---------------------------------------------------------------------------------- dimensions

    def dimensions(self) -> None:
        insert = self.registry.insertDimensionData
        n = max(6, (self.scale - 1100) // 11)
        self.visits: dict[str, list[int]] = {}
        self.day: dict[int, int] = {}
        instruments = ["LSSTComCam", "HSC"]
        if self.nasty:
            instruments += ["two words", "two_words", "A%41", "..", "N/A", "e\u0301", "\u00e9"]
        big = 10**15
        insert("instrument", *[{"name": i, "visit_max": big, "exposure_max": big, "detector_max": 1000,
                                "class_name": "lsst.obs.base.Instrument"} for i in instruments])  # fmt: skip
        filters = [("r_03", "r"), ("g_01", "g")] + (NASTY_FILTERS if self.nasty else [])
        for number, i in enumerate(instruments):
            insert("physical_filter", *[{"instrument": i, "name": f, "band": b} for f, b in filters])
            insert("detector", *[{"instrument": i, "id": d, "full_name": f"R{d // 9}S{d % 9}"} for d in range(8 + number)])
            insert("visit_system", {"instrument": i, "id": 0, "name": "one-to-one"})
            days = [20240101, 20240102, 20241231, 20250228]
            insert("day_obs", *[{"instrument": i, "id": d} for d in days])
            ids = []
            count = n if number == 0 else max(4, n // 8)
            for k in range(count):
                d = days[k * len(days) // count] if k else days[self.rng.randrange(len(days))]
                ids.append(d * 100000 + k + 1)
                self.day[ids[-1]] = d
            groups = [f"2024-01-01T00:00:{k:02d}.123" for k in range(3)] + (self.groups_made if self.nasty else [])
            insert("group", *[{"instrument": i, "name": g} for g in groups])
            rows = [{"instrument": i, "id": v, "day_obs": self.day[v], "physical_filter": filters[v % len(filters)][0]} for v in ids]
            rows = [{**r, "timespan": makecalibs.of_visit(self.rng, r["day_obs"], k)} for k, r in enumerate(rows)]
            insert("exposure", *[{**r, "group": self.rng.choice(groups), "obs_id": f"O{r['id']}"} for r in rows])
            insert("visit", *[{**r, "name": f"V{r['id']}"} for r in rows])
            insert("visit_definition", *[{"instrument": i, "exposure": v, "visit": v} for v in ids])
            if i != "HSC":
                # Without these rows the client still finds datasets, but not with expanded data IDs.
                insert("visit_detector_region", *[{"instrument": i, "visit": v, "detector": d} for v in ids for d in range(4)])
            self.visits[i] = ids
        self.instruments = instruments
        self.groups = groups
        self.filters = filters
        self.skymaps = ["lsst_cells_v1"] + (["a/b", "s" * 256, "sky.map@x", "~0123456789abcdef"] if self.nasty else [])
        for number, s in enumerate(self.skymaps):
            insert("skymap", {"name": s, "hash": bytes([number]) * 20, "tract_max": 10**6, "patch_nx_max": 10, "patch_ny_max": 10})
            insert("tract", *[{"skymap": s, "id": t} for t in (0, 3, 9813)])
            insert("patch", *[{"skymap": s, "tract": t, "id": p, "cell_x": p % 10, "cell_y": p // 10} for t in (0, 3, 9813) for p in range(12)])
        for band in ("r", "g"):
            insert("subfilter", *[{"band": band, "id": k} for k in range(3)])
        insert("ssp_hypothesis_table", {"name": "mpc orb"})
        insert("ssp_hypothesis_bundle", *[{"ssp_hypothesis_table": "mpc orb", "id": k} for k in (1, 20)])

    # -------------------------------------------------------------------------------- ordinary life

    def dataset_types(self) -> None:
        t = self.type
        t("cfg", [])
        t("table0", [], "ArrowTable")
        t("camera", ["instrument"])
        t("detInfo", ["instrument", "detector"])
        t("raw", ["instrument", "exposure", "detector"])
        t("raw_1", ["instrument", "exposure"])
        t("calexp", ["instrument", "visit", "detector"])
        t("visitTable", ["instrument", "visit"], "ArrowTable")
        t("exposureLog", ["instrument", "exposure"])
        t("snap", ["instrument", "exposure", "visit"])
        t("skyMap", ["skymap"])
        t("objectTable", ["skymap", "tract"], "ArrowTable")
        t("patchTable", ["skymap", "tract", "patch"], "ArrowTable")
        t("deepCoadd", ["skymap", "tract", "patch", "band"])
        t("dcrCoadd", ["skymap", "tract", "patch", "band", "subfilter"])
        t("warp", ["instrument", "visit", "skymap", "tract", "patch"])
        t("flat", ["instrument", "detector", "physical_filter"], calibration=True)
        t("transmission", ["instrument", "physical_filter"])
        t("groupPlan", ["instrument", "group"])
        t("groupDet", ["instrument", "group", "detector"])
        t("refcat", ["htm7"])
        t("hips", ["healpix9", "band"])
        t("bandInfo", ["band"])
        t("night", ["instrument", "day_obs"])
        t("nightDet", ["instrument", "day_obs", "detector"])
        t("vsys", ["instrument", "visit_system"])
        t("ssp", ["ssp_hypothesis_table", "ssp_hypothesis_bundle"])
        t(self.long_type, ["instrument", "detector"])
        t("gone", ["instrument", "detector"])  # every dataset unstored
        t("purged", ["instrument", "detector"])  # no dataset left, the summary still says so
        t("never", ["instrument", "detector"])  # never had a dataset

    def science(self) -> None:
        import pyarrow as pa

        put, rng = self.butler.put, self.rng
        first, second, shadow = (self.run(f"u/alice/run{k}") for k in (1, 2, 3))
        raws = self.run("LSSTComCam/raw/all")
        table = lambda n: pa.table({"id": list(range(n)), "flux": [rng.random() for _ in range(n)]})  # noqa: E731
        with self.butler.transaction():
            for run in (first, second):
                put({"run": run}, "cfg", run=run)
                put(table(3), "table0", run=run)
                for i in self.instruments:
                    put({"camera": i}, "camera", run=run, instrument=i)
                for i in ("LSSTComCam", "HSC"):
                    for d in range(4):
                        put({"d": d}, "detInfo", run=run, instrument=i, detector=d)
                    for v in self.visits[i][: 8 if run == first else 5]:
                        put(table(5), "visitTable", run=run, instrument=i, visit=v)
                        put({"v": v}, "exposureLog", run=run, instrument=i, exposure=v)
                        put({"v": v}, "snap", run=run, instrument=i, exposure=v, visit=v)
                for s in self.skymaps:
                    if len(s) < 200:
                        put({"s": s}, "skyMap", run=run, skymap=s)
                        for t in (0, 3, 9813):
                            put(table(4), "objectTable", run=run, skymap=s, tract=t)
                for tract, patch, band in [(0, 1, "r"), (0, 10, "g"), (0, 2, "r"), (9813, 11, "g")]:
                    id_ = {"skymap": "lsst_cells_v1", "tract": tract, "patch": patch}
                    put({"b": band}, "deepCoadd", run=run, band=band, **id_)
                    for k in range(3):
                        put({"k": k}, "dcrCoadd", run=run, band=band, subfilter=k, **id_)
                    put({"w": 1}, "warp", run=run, instrument="LSSTComCam", visit=self.visits["LSSTComCam"][0], **id_)
                for day in (20240101, 20250228):
                    put({"n": day}, "night", run=run, instrument="LSSTComCam", day_obs=day)
                    for d in (0, 3):
                        put({"n": day}, "nightDet", run=run, instrument="LSSTComCam", day_obs=day, detector=d)
                for b in ("r", "g"):
                    put({"b": b}, "bandInfo", run=run, band=b)
                    put({"b": b}, "hips", run=run, band=b, healpix9=rng.randrange(12 * 4**9))
                put({"s": 1}, "ssp", run=run, ssp_hypothesis_table="mpc orb", ssp_hypothesis_bundle=20)
                put({"x": 1}, "gone", run=run, instrument="HSC", detector=1)
                put({"x": 1}, "purged", run=run, instrument="HSC", detector=1)
        self.ingest([(self.ref("vsys", first, instrument=i, visit_system=0), "v.cfg") for i in self.instruments])
        # Most datasets come in bulk: ingested in place, as raws are.
        visits = self.visits["LSSTComCam"]
        self.ingest([(self.ref("raw", raws, instrument="LSSTComCam", exposure=v, detector=d), f"raw_{v}_{d}.fits")
                     for v in visits for d in range(4)], fits=True)  # fmt: skip
        self.ingest([(self.ref("calexp", first, instrument="LSSTComCam", visit=v, detector=d), f"calexp_{d}.fits.fz")
                     for v in visits for d in range(4)], transfer=None)  # fmt: skip
        self.ingest([(self.ref("calexp", second, instrument="LSSTComCam", visit=v, detector=d), f"calexp_{d}.fits")
                     for v in visits[::2] for d in range(3)], transfer=None, sizes=False)  # fmt: skip
        self.ingest([(self.ref("calexp", shadow, instrument="LSSTComCam", visit=v, detector=d), f"c_{d}.fits.gz")
                     for v in visits[::3] for d in range(2)], transfer="copy")  # fmt: skip
        self.ingest([(self.ref("calexp", shadow, instrument="HSC", visit=v, detector=d), "c.fits")
                     for v in self.visits["HSC"] for d in range(5)], transfer="symlink")  # fmt: skip
        # One file with several datasets: a raw with all its detectors.
        self.ingest([([self.ref("raw", raws, instrument="HSC", exposure=v, detector=d) for d in range(5)], f"exp_{v}.fits")
                     for v in self.visits["HSC"]], fits=True)  # fmt: skip
        self.ingest([(self.ref("raw_1", raws, instrument="HSC", exposure=v), "e.txt") for v in self.visits["HSC"]], empty=True)
        self.ingest([(self.ref("refcat", raws, htm7=131072 + 17 * k), FITS_NAMES[k % len(FITS_NAMES)]) for k in range(45)])
        in_place = [n for n in FITS_NAMES if n not in QUOTED_ONLY]
        self.ingest([(self.ref("refcat", first, htm7=131072 + 17 * k), in_place[k % len(in_place)]) for k in range(30)],
                    transfer=None)  # fmt: skip
        self.refs_of = lambda t, run: list(self.registry.queryDatasets(t, collections=[run]))

    # ------------------------------------------------------------------------------------- the traps

    def nasty_values(self) -> None:
        run = self.run("nasty/values")
        other = self.run("nasty/values2")
        every = [(g, i) for g in self.groups_made for i in ("LSSTComCam", "..")]
        self.ingest([(self.ref("groupPlan", run, instrument=i, group=g), f"plan{k}.json") for k, (g, i) in enumerate(every)])
        self.ingest([(self.ref("groupDet", run, instrument=i, group=g, detector=d), "det.fits")
                     for g, i in every for d in range(2)], transfer="direct" if self.chained else None)  # fmt: skip
        self.ingest([(self.ref("groupPlan", other, instrument="LSSTComCam", group=g), "shadow.tar.gz") for g in self.groups_made[::2]])
        self.ingest([(self.ref("transmission", run, instrument=i, physical_filter=f), "t.ecsv")
                     for i in self.instruments for f, _ in NASTY_FILTERS])  # fmt: skip
        self.ingest([(self.ref("flat", run, instrument=i, physical_filter=f, detector=2), "flat.fits")
                     for i in self.instruments for f, _ in NASTY_FILTERS])  # fmt: skip
        self.ingest([(self.ref("skyMap", run, skymap=s), "skyMap.pickle") for s in self.skymaps])
        self.ingest([(self.ref("objectTable", run, skymap=s, tract=3), "o.parq") for s in self.skymaps])
        self.ingest([(self.ref("bandInfo", run, band=b), "b.yaml") for b in ("N/A", "white light", "u", "i")])
        self.ingest([(self.ref(self.long_type, run, instrument=i, detector=d), "l.fits.fz")
                     for i in self.instruments for d in range(3)])  # fmt: skip
        # Two data IDs that the default template gives one file: the second put overwrites the first's bytes.
        for k, i in enumerate(("two words", "two_words")):
            self.butler.put({"camera": "x" * (10 * k)}, "camera", run=run, instrument=i)

    def nasty_collections(self) -> None:
        for name in self.runs_made:
            self.run(name)
            items = [(self.ref("cfg", name), "cfg.yaml")]
            if self.rng.random() < 0.5 or name.startswith(("u/alice", "raw", "a")):
                items += [(self.ref("detInfo", name, instrument="HSC", detector=d), "d.json") for d in (0, 3)]
            if name.startswith(("u/alice", "raw")):
                v = self.visits["HSC"][0]
                items += [(self.ref("raw", name, instrument="HSC", exposure=v, detector=0), "r.fits"),
                          (self.ref("raw_1", name, instrument="HSC", exposure=v), "r1.fits")]  # fmt: skip
            self.ingest(items)
        # A collection whose name is a dataset type of the collection above it.
        self.run("u/alice")
        v = self.visits["LSSTComCam"][1]
        self.ingest([(self.ref("raw", "u/alice", instrument="LSSTComCam", exposure=v, detector=d), "r.fits") for d in range(3)]
                    + [(self.ref("raw_1", "u/alice", instrument="LSSTComCam", exposure=v), "r.fits"),
                       (self.ref("cfg", "u/alice"), "c.py")])  # fmt: skip

    def tags_and_chains(self) -> None:
        from lsst.daf.butler import CollectionType

        register, rng = self.butler.collections.register, self.rng
        pool = [r for t in ("calexp", "detInfo", "cfg") for r in self.refs_of(t, "u/alice/run1")]
        tagged = ["u/alice/run1/tagged", "tag", "t/=@tag"]
        if self.nasty:
            tagged += ["t/..", "t//", "t/" + "w" * 300, "t/new\nline"]
        for k, name in enumerate(tagged):
            register(name, CollectionType.TAGGED)
            refs = rng.sample(pool, min(len(pool), 60))
            # At most one dataset of a data ID, from several runs.
            taken = {(r.datasetType, r.dataId) for r in refs}
            refs += [r for t in ("calexp", "camera") for r in self.refs_of(t, "u/alice/run2") if (r.datasetType, r.dataId) not in taken]
            self.butler.registry.associate(name, refs)
        register("t/empty", CollectionType.TAGGED)
        self.run("t/emptyrun")
        for name in ("20240102T030405Z", "20231231T235959Z", "20249999T000000Z", "x20250101T000000Z"):
            self.run(f"dated/{name}")
        chains: dict[str, list[str]] = {
            "empty/chain": [],
            "c/one": ["u/alice/run1"],
            "c/reversed": ["u/alice/run3", "u/alice/run2", "u/alice/run1"],
            "c/forward": ["u/alice/run1", "u/alice/run2", "u/alice/run3"],
            "c/tagfirst": ["tag", "u/alice/run2", "empty/chain"],
            "c/nested": ["c/tagfirst", "c/reversed", "LSSTComCam/raw/all"],
            "c/diamond": ["c/one", "c/forward", "u/alice/run1"],
            "c": ["c/diamond", "c/nested", "u/alice/run2"],
            "u/alice/run1/chain": ["u/alice/run2", "u/alice/run1"],
            "dated": ["dated/20240102T030405Z", "u/alice/run1"],
            "LSSTComCam/defaults": ["LSSTComCam/raw/all", "c"],
        }
        if self.nasty:
            chains["n/.."] = ["nasty/values2", "nasty/values"]
            chains["n/\n=@"] = ["", ".", "..", "nasty/values", "sp ace"]
            chains["n/" + "k" * 260] = ["p" * 300, "a/a.b", *(r for r in self.runs_made if "\0" in r), "u/alice/raw"]
            chains["u/alice/raw/chain"] = ["u/alice", "u/alice/raw"]
        for name, children in chains.items():
            register(name, CollectionType.CHAINED, doc=f"chain of {len(children)}" if len(children) > 1 else None)
            self.butler.collections.redefine_chain(name, children)
        # Prepending makes negative positions, removing makes gaps.
        self.butler.collections.prepend_chain("c/one", ["u/alice/run3"])
        self.butler.collections.remove_from_chain("c/forward", ["u/alice/run2"])

    def losses(self) -> None:
        """Datasets that are no longer stored, artifacts that are gone, sizes that are stale."""
        rng = self.rng
        prune = self.butler.pruneDatasets
        for t, run in (("gone", "u/alice/run1"), ("gone", "u/alice/run2")):
            prune(self.refs_of(t, run), disassociate=False, unstore=True)
        for run in ("u/alice/run1", "u/alice/run2"):
            prune(self.refs_of("purged", run), purge=True, unstore=True, disassociate=True)
        # Winners that are not stored hide what is behind them.
        for run in ("u/alice/run1", "u/alice/run3"):
            refs = self.refs_of("calexp", run)
            # One at least that is in all three runs.
            everywhere = [r for r in refs if r.dataId["visit"] == self.visits["LSSTComCam"][0] and r.dataId["detector"] == 1]
            prune(everywhere + rng.sample(refs, len(refs) // 8), disassociate=False, unstore=True)
        for t in ("detInfo", "cfg", "objectTable"):
            refs = self.refs_of(t, "u/alice/run2")
            prune(rng.sample(refs, (len(refs) + 1) // 2), disassociate=False, unstore=True)
        # Trashed, and the trash not emptied: the client still reads it.
        for ref in rng.sample(self.refs_of("calexp", "u/alice/run2"), 3):
            self.butler._datastore.trash(ref)
        # Artifacts that are gone, grown and shrunk behind the client's back.
        files = sorted(p for p in (self.repo.elsewhere).rglob("*raw_*.fits") if p.is_file())
        for p in rng.sample(files, 4):
            p.unlink()
        for p in rng.sample([p for p in files if p.exists()], 2):
            p.write_bytes(p.read_bytes() + b"grown" * 300)
        for p in rng.sample([p for p in files if p.exists()], 2):
            p.write_bytes(p.read_bytes()[:1000])
        if self.chained:
            # makeRepo names the roots of a chain's children itself.
            fast = sorted(p for p in (self.repo.root / "FileDatastore_0").rglob("*") if p.is_file() and "visitTable" in p.name)
            for p in rng.sample(fast, len(fast) // 2):
                p.unlink()

    def make(self) -> Repository:
        self.dimensions()
        self.dataset_types()
        self.science()
        if self.nasty:
            self.nasty_values()
            self.nasty_collections()
        self.tags_and_chains()
        makeparts.composites(self)
        makeparts.archives(self)
        makecalibs.calibrations(self)
        self.losses()
        self.butler.close()
        makecalibs.overlaps(self)
        # Another tool may have stored a quoted path; upper-case escapes make the client take it for one.
        with database.connect(self.repo.root) as db:
            table = "bulk_records" if self.chained else "file_datastore_records"
            changed = db.execute(f"UPDATE {table} SET path = replace(path, '/calexp_2.', '/%63alexp_2.') WHERE path NOT LIKE 'file:%'")
            assert changed.rowcount > 0
        return self.repo


def _formatter() -> type:
    """A formatter that takes any file; named by its full name in the records, never imported by us."""
    global AnyFile
    if AnyFile is None:
        from lsst.daf.butler.formatters.json import JsonFormatter

        class _AnyFile(JsonFormatter):
            @classmethod
            def validate_extension(cls, location: Any) -> None:
                pass

        _AnyFile.__module__, _AnyFile.__qualname__ = "makerepo", "AnyFile"
        AnyFile = _AnyFile
    return AnyFile


AnyFile: Any = None


def quiet() -> None:
    """The client warns of every name that looks quoted twice; these do."""
    logging.getLogger("lsst").setLevel(logging.ERROR)


def make(out: str | Path, seed: int = 1, datasets: int = 2500, store: str = "file", sizes: bool = True, nasty: bool = True,
         registry: dict[str, str] | None = None) -> Repository:  # fmt: skip
    """`datasets`: about how many; `sizes` False: none recorded for what is ingested; `registry`: its `db` and
    `namespace`, where it is in PostgreSQL."""
    quiet()
    return Maker(Path(out), seed, datasets, store, sizes, nasty, registry).make()


def make_one(out: str | Path, detectors: int, registry: dict[str, str] | None = None) -> Repository:
    """One RUN, `big/run`, with one dataset of the type `calexp` (instrument, visit, detector): what others are made from by SQL."""
    quiet()
    maker = Maker(Path(out), 1, 0, "file", True, False, registry)
    insert = maker.registry.insertDimensionData
    insert("instrument", {"name": "LSSTCam", "visit_max": 10**15, "exposure_max": 10**15, "detector_max": 1000, "class_name": "x"})
    insert("physical_filter", {"instrument": "LSSTCam", "name": "r_03", "band": "r"})
    insert("detector", *[{"instrument": "LSSTCam", "id": d, "full_name": f"D{d}"} for d in range(detectors)])
    insert("day_obs", {"instrument": "LSSTCam", "id": 20240101})
    insert("visit", {"instrument": "LSSTCam", "id": 2024010100000, "day_obs": 20240101, "physical_filter": "r_03", "name": "V0"})
    maker.type("calexp", ["instrument", "visit", "detector"])
    maker.run("big/run")
    maker.ingest([(maker.ref("calexp", "big/run", instrument="LSSTCam", visit=2024010100000, detector=0), "0.fits")],
                 transfer="copy", fits=True)  # fmt: skip
    maker.butler.close()
    return maker.repo


def make_big(out: str | Path, datasets: int, detectors: int = 100, artifacts: int = 100) -> Repository:
    """One RUN, `big/run`, with `datasets` datasets of the type `calexp` (instrument, visit, detector).

    One dataset is made by the client and its rows are multiplied by SQL; the artifacts are shared.
    """
    repo = make_one(out, detectors)
    root = repo.root
    with sqlite3.connect(root / "gen3.sqlite3") as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA cache_size = -200000")
        (path, size), *_ = db.execute("SELECT path, file_size FROM file_datastore_records").fetchall()
        content = (root / path).read_bytes()
        for k in range(artifacts):
            (root / path).with_name(f"shared{k}.fits").write_bytes(content)
        (tags,) = db.execute("SELECT tag_association_table FROM dataset_type").fetchone()
        visits = -(-datasets // detectors)
        # A folder of one night has a few hundred visits, as at a telescope.
        per_night = 500
        nights = [f"{2000 + n // 336}{1 + n // 28 % 12:02d}{1 + n % 28:02d}" for n in range(-(-visits // per_night))]
        db.execute("CREATE TEMP TABLE number AS WITH RECURSIVE c(k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM c WHERE k + 1 < ?) SELECT k FROM c",
                   (max(visits, detectors),))  # fmt: skip
        indexes = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN (?, 'dataset', 'file_datastore_records', 'dataset_location', 'visit')",
                             (tags,)).fetchall()  # fmt: skip
        for name, _ in indexes:
            db.execute(f'DROP INDEX "{name}"')

        def copy(table: str, changed: dict[str, str], source: str, where: str = "1") -> None:
            columns = [r[1] for r in db.execute(f'PRAGMA table_info("{table}")')]
            values = ", ".join(changed.get(c, f'o."{c}"') for c in columns)
            db.execute(f'CREATE TEMP TABLE one AS SELECT * FROM "{table}" LIMIT 1')
            db.execute(f'DELETE FROM "{table}"')
            db.execute(f'INSERT INTO "{table}" SELECT {values} FROM one o, {source} WHERE {where}')
            db.execute("DROP TABLE one")

        db.execute("CREATE TEMP TABLE night (n INTEGER PRIMARY KEY, id INTEGER)")
        db.executemany("INSERT INTO night VALUES (?, ?)", enumerate(map(int, nights)))
        db.execute(f"CREATE TEMP TABLE v AS SELECT k, night.id AS day, night.id * 100000 + k AS visit FROM number JOIN night ON night.n = k / {per_night} WHERE k < {visits}")
        db.execute(f"CREATE TEMP TABLE d AS SELECT lower(hex(randomblob(16))) AS uuid, day, visit, number.k AS detector, v.k * {detectors} + number.k AS n FROM v, number WHERE number.k < {detectors} AND v.k * {detectors} + number.k < {datasets}")
        copy("day_obs", {"id": "night.id"}, "night")
        copy("visit", {"id": "v.visit", "day_obs": "v.day", "name": "'V' || v.k", "seq_num": "v.k"}, "v")
        copy("dataset", {"id": "d.uuid"}, "d")
        copy(tags, {"dataset_id": "d.uuid", "visit": "d.visit", "detector": "d.detector"}, "d")
        folder = os.path.dirname(path)
        copy("file_datastore_records", {"dataset_id": "d.uuid", "path": f"'{folder}/shared' || (d.n % {artifacts}) || '.fits'"}, "d")
        copy("dataset_location", {"dataset_id": "d.uuid"}, "d")
        for _, sql in indexes:
            db.execute(sql)
    db.close()
    return repo


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--datasets", type=int, default=2500)
    parser.add_argument("--store", choices=("file", "chained"), default="file")
    parser.add_argument("--no-sizes", action="store_true")
    parser.add_argument("--simple", action="store_true", help="no nasty names")
    parser.add_argument("--big", type=int, metavar="N", help="one RUN with N datasets, made by SQL")
    args = parser.parse_args()
    begin = time.monotonic()
    if args.big:
        repo = make_big(args.out, args.big)
    else:
        repo = make(args.out, args.seed, args.datasets, args.store, not args.no_sizes, not args.simple)
    with sqlite3.connect(repo.root / "gen3.sqlite3") as db:
        (count,) = db.execute("SELECT count(*) FROM dataset").fetchone()
        (names,) = db.execute("SELECT count(*) FROM collection").fetchone()
    print(f"{repo.root}: {count} datasets, {names} collections, {time.monotonic() - begin:.1f} s")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    import makerepo

    sys.exit(makerepo.main())
