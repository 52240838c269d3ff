# SPDX-License-Identifier: BSD-3-Clause
"""What makerepo puts into a repository besides whole files: datasets in several files, and many datasets in one.

Each function takes makerepo's Maker and adds its kind of thing, by the real client.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

COMPONENTS = {"data": "StructuredDataList", "output": "StructuredDataDict", "summary": "StructuredDataDict"}
YAML_FORMATTER = "lsst.daf.butler.formatters.yaml.YamlFormatter"


def configure(config: Any, datastore: dict[str, Any]) -> dict[str, Any]:
    """`datastore` with what makes it take one storage class apart; `config` learns of that class and of one with the
    same parts that stays whole."""
    for name in ("Metrics", "WholeMetrics"):
        config["storageClasses", name] = {
            "pytype": "lsst.daf.butler.tests.MetricsExample",
            "delegate": "lsst.daf.butler.tests.MetricsDelegate",
            "components": COMPONENTS,
        }
    formatters = {
        "StructuredDataList": YAML_FORMATTER,
        "WholeMetrics": "lsst.daf.butler.tests.testFormatters.MetricsExampleFormatter",
    }
    return {**datastore, "composites": {"disassembled": {"Metrics": True}}, "formatters": formatters}


def metrics(number: int) -> Any:
    from lsst.daf.butler.tests import MetricsExample

    return MetricsExample({"n": number}, {"out": list(range(number % 7))}, [number, 2, 3])


# ------------------------------------------------------------------------- one dataset, several files

COMPOSITES = {"metric": ["instrument", "detector"], "metricVisit": ["instrument", "visit"], "metricAll": []}


def composites(maker: Any) -> None:
    """Composites that are taken apart, in RUN, TAGGED and CHAINED collections, one that hides others, some incomplete."""
    from lsst.daf.butler import CollectionType

    for name, dimensions in COMPOSITES.items():
        maker.type(name, dimensions, "Metrics")
    maker.type("metricWhole", ["instrument", "detector"], "WholeMetrics")
    put, number = maker.butler.put, iter(range(10**6))
    first, second = maker.run("parts/run1"), maker.run("parts/run2")
    instruments = [i for i in maker.instruments if i != "LSSTComCam"]
    with maker.butler.transaction():
        for run in (first, second):
            put(metrics(next(number)), "metricAll", run=run)
            for i in instruments:
                for d in range(4 if run == first else 2):
                    put(metrics(next(number)), "metric", run=run, instrument=i, detector=d)
                put(metrics(next(number)), "metricWhole", run=run, instrument=i, detector=1)
            for v in maker.visits["HSC"][:3]:
                put(metrics(next(number)), "metricVisit", run=run, instrument="HSC", visit=v)
    register = maker.butler.collections.register
    register("parts/tag", CollectionType.TAGGED)
    maker.registry.associate("parts/tag", maker.refs_of("metric", first)[::2])
    for name, children in (("parts/chain", [second, first]), ("parts", ["parts/tag", "parts/chain"])):
        register(name, CollectionType.CHAINED)
        maker.butler.collections.redefine_chain(name, children)
    refs = [r for r in maker.refs_of("metric", second) if r.dataId["instrument"] == "HSC"]
    # A winner that is not stored hides the composite behind it.
    maker.butler.pruneDatasets(refs[:1], disassociate=False, unstore=True)
    # A component that is gone, behind the client's back.
    uris = maker.butler.getURIs(maker.refs_of("metric", first)[1]).componentURIs
    os.unlink(uris["output"].ospath)


# ------------------------------------------------------------------------- several datasets, one file


def pack(path: Path) -> None:
    """The members of a zip archive, deflated. (The client stores them as they are.)"""
    with zipfile.ZipFile(path) as z:
        members = [(i.filename, z.read(i)) for i in z.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, data in members:
            z.writestr(name, data)


def archive(maker: Any, refs: list[Any], deflated: bool = False, transfer: str = "copy") -> Path:
    """Moves stored datasets into a zip archive; returns where the archive is."""
    at = maker.repo.elsewhere / "zipped" / str(maker.files_made)
    maker.files_made += 1
    path = Path(maker.butler.retrieve_artifacts_zip(refs, destination=str(at)).ospath)
    maker.butler.pruneDatasets(refs, disassociate=True, unstore=True, purge=True)
    if deflated:
        pack(path)
    maker.butler.ingest_zip(str(path), transfer=transfer)
    return path


def archives(maker: Any) -> None:
    """Zip archives with members of several types and runs, stored and deflated, in place and copied, and one that is gone."""
    from lsst.daf.butler import CollectionType

    runs = [maker.run(f"zip/run{k}") for k in range(3)]
    groups = maker.groups if maker.nasty else maker.groups[:3]
    groups = [g for g in groups if len(g) <= 60][:24]
    for run in runs:
        with maker.butler.transaction():
            maker.butler.put({"in": run}, "cfg", run=run)
            for d in range(4):
                maker.butler.put({"d": "x" * (700 * d)}, "detInfo", run=run, instrument="HSC", detector=d)
            # What goes into the archive that lies elsewhere has its sizes: outside the root nobody's rights but a reader's count.
            maker.ingest([(maker.ref("groupPlan", run, instrument="HSC", group=g), f"p{k}.fits.gz") for k, g in enumerate(groups)],
                         sizes=True if run == runs[1] else None)  # fmt: skip
            for d in range(2):
                maker.butler.put(metrics(d), "metric", run=run, instrument="HSC", detector=d)

    def of(run: str, *types: str) -> list[Any]:
        return [r for t in types for r in maker.refs_of(t, run)]

    archive(maker, of(runs[0], "cfg", "detInfo", "groupPlan"))
    archive(maker, of(runs[1], "detInfo", "groupPlan") + of(runs[2], "detInfo"), deflated=True, transfer="direct")
    archive(maker, of(runs[0], "metric"))
    lost = archive(maker, of(runs[2], "cfg"), transfer="direct")
    lost.unlink()
    maker.butler.collections.register("zip/tag", CollectionType.TAGGED)
    maker.registry.associate("zip/tag", of(runs[0], "detInfo")[::2])
    maker.butler.collections.register("zip", CollectionType.CHAINED)
    maker.butler.collections.redefine_chain("zip", ["zip/tag", *reversed(runs)])
    # A member that is not stored hides the one behind it.
    maker.butler.pruneDatasets(of(runs[2], "detInfo")[:1], disassociate=False, unstore=True)
