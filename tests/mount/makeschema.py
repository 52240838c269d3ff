# SPDX-License-Identifier: BSD-3-Clause
"""Makes a small repository with whichever Butler client runs this, of 2022 or of today, in any schema.

    python makeschema.py OUT [--collections CLASS] [--datasets VERSION] [--universe FILE]

Only what all those clients have in common is used, and nothing of this project. OUT/repo is the repository;
OUT/answers.json is what this client itself finds in it, as a second judge: where, and by which ids and data
IDs. The content is the same wherever the universe has the dimensions for it.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

import astropy.time
from lsst.daf.butler import Butler, CollectionType, Config, DatasetRef, DatasetType, FileDataset, Timespan

try:
    from lsst.daf.butler import DimensionConfig
except ImportError:
    from lsst.daf.butler.core import DimensionConfig

NAME_KEY = "lsst.daf.butler.registry.collections.nameKey.NameKeyCollectionManager"
DATASETS = "lsst.daf.butler.registry.datasets.byDimensions.ByDimensionsDatasetRecordStorageManagerUUID"
INSTRUMENTS = ("LSSTComCam", "HSC a%41")
FILTERS = (("r_03", "r"), ("i/x~y", "i"))
TELESCOPES = ("north", "s/uth")
DAYS = (20240101, 20240102)
# The client's file templates know nothing of their dimensions.
INGESTED = frozenset({"vsys", "scope", "hit", "mix", "cause"})


def config(collections: str | None, datasets: str | None) -> Config:
    c = Config()
    if collections:
        c["registry", "managers", "collections"] = collections
    if datasets:
        c["registry", "managers", "datasets"] = {"cls": DATASETS, "schema_version": datasets}
    return c


class Maker:
    def __init__(self, root: Path, collections: str | None, datasets: str | None, universe: Path | None):
        dimensions = DimensionConfig(str(universe)) if universe else None
        Butler.makeRepo(str(root), config=config(collections, datasets), dimensionConfig=dimensions)
        self.butler = Butler(str(root), writeable=True)
        self.registry = self.butler.registry
        self.datastore = self.butler._datastore if hasattr(self.butler, "_datastore") else self.butler.datastore
        self.universe = self.registry.dimensions
        # By name, whatever this client's universe is an iterable of.
        self.elements = {e.name: e for e in self.universe.getStaticElements()} if hasattr(
            self.universe, "getStaticElements") else {e.name: e for e in self.universe.elements}  # fmt: skip
        self.types: list[str] = []
        self.root = root
        self.files = 0

    def has(self, *dimensions: str) -> bool:
        return all(d in self.elements or d.startswith("htm") for d in dimensions)

    def insert(self, element: str, *rows: dict[str, Any]) -> None:
        """Rows of an element's table, without what this universe doesn't know."""
        if element not in self.elements:
            return
        e = self.elements[element]
        known = {f.name if hasattr(f, "name") else f for f in e.RecordClass.fields.standard.names}
        self.registry.insertDimensionData(element, *[{k: v for k, v in r.items() if k in known} for r in rows])

    def type(self, name: str, *dimensions: str, calibration: bool = False) -> None:
        if self.has(*dimensions):
            self.registry.registerDatasetType(
                DatasetType(name, dimensions, "StructuredDataDict", universe=self.universe, isCalibration=calibration))  # fmt: skip
            self.types.append(name)

    def put(self, name: str, run: str, **data_id: Any) -> None:
        if name not in self.types:
            return
        content = {"of": [name, run, str(data_id)]}
        if name not in INGESTED:
            self.butler.put(content, name, data_id, run=run)
            return
        self.files += 1
        path = self.root / "in" / f"{self.files}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
        formatter = "lsst.daf.butler.formatters.yaml.YamlFormatter"
        t, values = self.registry.getDatasetType(name), self.registry.expandDataId(data_id)
        try:
            self.butler.ingest(FileDataset(path=str(path), refs=[DatasetRef(t, values, run=run)], formatter=formatter), transfer=None)
        except ValueError:  # a client before 26: the run was no part of a reference
            self.butler.ingest(FileDataset(path=str(path), refs=[DatasetRef(t, values)], formatter=formatter), transfer=None, run=run)

    def dimensions(self) -> None:
        for number, i in enumerate(INSTRUMENTS):
            self.insert("instrument", {"name": i, "visit_max": 10**15, "exposure_max": 10**15, "detector_max": 1000,
                                       "visit_system": 0, "class_name": "a.B"})  # fmt: skip
            self.insert("physical_filter", *[{"instrument": i, "name": f, "band": b} for f, b in FILTERS])
            self.insert("detector", *[{"instrument": i, "id": d, "full_name": f"R{d}"} for d in range(2)])
            self.insert("visit_system", {"instrument": i, "id": 0, "name": "one-to-one"})
            self.insert("day_obs", *[{"instrument": i, "id": d} for d in DAYS])
            self.insert("group", *[{"instrument": i, "name": g} for g in ("g1", "2024-01-01T00:00:00.1")])
            rows = [{"instrument": i, "id": d * 100000 + k, "day_obs": d, "physical_filter": FILTERS[k % 2][0], "visit_system": 0}
                    for d in DAYS for k in range(2)]  # fmt: skip
            if number == 0 and "day_obs" not in self.elements:
                rows[0]["day_obs"] = None  # mere metadata may be unknown
            self.insert("exposure", *[{**r, "obs_id": f"O{r['id']}", "group": "g1", "group_name": "g1"} for r in rows])
            self.insert("visit", *[{**r, "name": f"V{r['id']}"} for r in rows])
            self.insert("visit_definition", *[{"instrument": i, "exposure": r["id"], "visit": r["id"], "visit_system": 0} for r in rows])
            self.insert("visit_detector_region", *[{"instrument": i, "visit": r["id"], "detector": d} for r in rows for d in range(2)])
        self.ids = [r["id"] for r in rows]
        self.insert("skymap", {"name": "sky.v1", "hash": b"x" * 20, "tract_max": 10, "patch_nx_max": 3, "patch_ny_max": 3})
        self.insert("tract", *[{"skymap": "sky.v1", "id": t} for t in (0, 7)])
        self.insert("patch", *[{"skymap": "sky.v1", "tract": t, "id": p, "cell_x": p, "cell_y": 0} for t in (0, 7) for p in range(3)])
        self.insert("subfilter", *[{"band": "r", "id": k} for k in range(2)])
        # What a universe of another namespace may be of.
        self.insert("telescope", *[{"name": n} for n in TELESCOPES])
        self.insert("trigger", *[{"label": n} for n in ("mu.on", "e")])
        self.insert("pair", *[{"telescope": n, "trigger": t} for n in TELESCOPES for t in ("mu.on", "e")])
        self.insert("order", *[{"telescope": n, "number": k} for n in TELESCOPES for k in (1, 22)])
        self.insert("event", *[{"telescope": n, "order": k, "id": e, "trigger": "mu.on"} for n in TELESCOPES for k in (1, 22) for e in (5, 60)])

    def dataset_types(self) -> None:
        t = self.type
        t("cfg")
        t("camera", "instrument")
        t("raw", "instrument", "exposure", "detector")
        t("calexp", "instrument", "visit", "detector")
        t("visitLog", "instrument", "visit")
        t("both", "instrument", "exposure", "visit")
        t("flat", "instrument", "detector", "physical_filter", calibration=True)
        t("plan", "instrument", "group")
        t("night", "instrument", "day_obs")
        t("vsys", "instrument", "visit_system")
        t("coadd", "skymap", "tract", "patch", "band")
        t("dcr", "skymap", "tract", "patch", "subfilter")
        t("refcat", "htm7")
        t("gone", "instrument")
        t("scope", "telescope")
        t("hit", "telescope", "order", "event")
        t("cause", "trigger", "telescope")
        t("mix", "event", "htm7")

    def datasets(self, run: str, some: int) -> None:
        """`some`: one of how many there are."""
        put = self.put
        put("cfg", run)
        for i in INSTRUMENTS:
            put("camera", run, instrument=i)
            put("gone", run, instrument=i)
            put("vsys", run, instrument=i, visit_system=0)
            put("plan", run, instrument=i, group="2024-01-01T00:00:00.1")
            for day in DAYS:
                put("night", run, instrument=i, day_obs=day)
            for f, _ in FILTERS:
                put("flat", run, instrument=i, detector=1, physical_filter=f)
            for v in self.ids[::some]:
                put("visitLog", run, instrument=i, visit=v)
                put("both", run, instrument=i, visit=v, exposure=v)
                for d in range(2):
                    put("raw", run, instrument=i, exposure=v, detector=d)
                    put("calexp", run, instrument=i, visit=v, detector=d)
        for t in (0, 7):
            for p in range(3):
                put("coadd", run, skymap="sky.v1", tract=t, patch=p, band="r")
                put("dcr", run, skymap="sky.v1", tract=t, patch=p, band="r", subfilter=1)
        put("refcat", run, htm7=131072 + some)
        for n in TELESCOPES:
            put("scope", run, telescope=n)
            put("cause", run, telescope=n, trigger="e")
            for k in (1, 22):
                for e in (5, 60)[: 3 - some]:
                    put("hit", run, telescope=n, order=k, event=e)
                    put("mix", run, telescope=n, order=k, event=e, htm7=131073)

    def find(self, name: str, collection: str, first: bool) -> list[Any]:
        return list(self.registry.queryDatasets(name, collections=[collection], findFirst=first))

    def make(self) -> None:
        self.dimensions()
        self.dataset_types()
        register = self.registry.registerCollection
        for run, some in (("u/me", 1), ("u/me/run.2", 2), ("123", 2)):
            self.registry.registerRun(run)
            self.datasets(run, some)
        register("u/tag", CollectionType.TAGGED)
        for t in set(self.types) & {"raw", "coadd", "hit", "cfg"}:
            self.registry.associate("u/tag", self.find(t, "u/me/run.2", False))
        register("calib", CollectionType.CALIBRATION)
        if "flat" in self.types:
            begin, end = (astropy.time.Time(t, scale="tai") for t in ("2024-01-01T00:00:00", "2024-06-01T12:00:00.5"))
            flats = self.find("flat", "u/me", False)
            self.registry.certify("calib", flats[:1], Timespan(None, None))
            self.registry.certify("calib", flats[1:], Timespan(begin, end))
            self.registry.certify("calib", flats[1:], Timespan(end, None))
        for chain, members in (("u/chain", ["u/tag", "u/me/run.2", "u/me"]), ("u", ["calib", "123", "u/chain"])):
            register(chain, CollectionType.CHAINED)
            self.registry.setCollectionChain(chain, members)
        for t in set(self.types) & {"gone"}:
            self.butler.pruneDatasets(self.find(t, "u/me", False), unstore=True, disassociate=False)
        for t in set(self.types) & {"raw", "hit"}:
            self.butler.pruneDatasets(self.find(t, "123", False)[:2], unstore=True, disassociate=False)

    def answers(self) -> dict[str, Any]:
        """collection -> dataset type -> {id: [required values, run, where it is stored]}"""
        found: dict[str, Any] = {}
        for collection in sorted(self.registry.queryCollections()):
            found[collection] = {}
            # Without a time these have no answer; the ranges are today's client's to judge.
            ranged = {"flat"} if collection in ("calib", "u") else set()
            for t in sorted(set(self.types) - ranged):
                refs = self.find(t, collection, True)
                found[collection][t] = {str(r.id): self.answer(r) for r in refs if self.datastore.knows(r)}
        return found

    def answer(self, ref: Any) -> Any:
        required = ref.dataId.required if hasattr(ref.dataId, "required") else None
        values = {str(k): required[k] for k in required} if required is not None else {k.name: ref.dataId[k] for k in ref.dataId.graph.required}
        return [values, ref.run, self.datastore.getURI(ref).ospath]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--collections")
    parser.add_argument("--datasets")
    parser.add_argument("--universe", type=Path)
    args = parser.parse_args()
    logging.getLogger("lsst").setLevel(logging.ERROR)
    args.out.mkdir(parents=True, exist_ok=True)
    maker = Maker(args.out / "repo", args.collections, args.datasets, args.universe)
    maker.make()
    (args.out / "answers.json").write_text(json.dumps(maker.answers()))


if __name__ == "__main__":
    main()
