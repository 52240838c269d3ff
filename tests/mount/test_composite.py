# SPDX-License-Identifier: BSD-3-Clause
"""Datasets that the client takes apart into a file per component."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from lsst.daf.butler import Butler, CollectionType, Config, DatasetType
from lsst.daf.butler.tests import MetricsExample

COMPONENTS = {"data": "StructuredDataList", "output": "StructuredDataDict", "summary": "StructuredDataDict"}


def metrics(number: int) -> MetricsExample:
    return MetricsExample({"n": number}, {"out": list(range(number))}, [number, 2, 3])


@pytest.fixture
def apart(tmp_path):
    """A repository with a whole and two disassembled composites; its root and their references."""
    root = tmp_path / "repo"
    config = Config()
    config["datastore", "composites", "disassembled"] = {"Metrics": True}
    config["storageClasses", "Metrics"] = {
        "pytype": "lsst.daf.butler.tests.MetricsExample",
        "delegate": "lsst.daf.butler.tests.MetricsDelegate",
        "components": COMPONENTS,
    }
    yaml = "lsst.daf.butler.formatters.yaml.YamlFormatter"
    config["datastore", "formatters", "StructuredDataList"] = yaml
    Butler.makeRepo(str(root), config)
    with Butler.from_config(str(root), run="u/run", writeable=True) as butler:
        butler.registry.insertDimensionData("instrument", {"name": "Cam"})
        for i in range(3):
            record = {"instrument": "Cam", "id": i, "full_name": f"d{i}"}
            butler.registry.insertDimensionData("detector", record)
        storage = butler.storageClasses.getStorageClass("Metrics")
        butler.registry.registerDatasetType(
            DatasetType("metric", ["instrument", "detector"], storage, universe=butler.dimensions)
        )
        refs = [butler.put(metrics(i), "metric", instrument="Cam", detector=i) for i in (1, 2)]
        files = {r.id: butler.getURIs(r).componentURIs for r in refs}
        butler.registry.registerCollection("tagged")
        butler.registry.associate("tagged", refs[:1])
        butler.collections.register("chain", type=CollectionType.CHAINED)
        butler.collections.redefine_chain("chain", ["tagged", "u/run"])
    assert all(set(f) == set(COMPONENTS) for f in files.values())
    return root, {str(k): {c: Path(u.ospath) for c, u in v.items()} for k, v in files.items()}


def test_each_component_is_a_file_with_its_bytes_wherever_it_is_reached(apart, mount):
    root, stored = apart
    m = mount(root)
    one, two = stored
    for collection in ("u/run", "chain", "tagged"):
        folder = m.path / "collections" / collection / "metric" / "instrument=Cam"
        names = ["metric_Cam_1.components", "metric_Cam_2.components"]
        assert sorted(os.listdir(folder)) == (names[:1] if collection == "tagged" else names)
        at = folder / names[0]
        assert sorted(os.listdir(at)) == [f"{c}.{stored[one][c].suffix[1:]}" for c in sorted(COMPONENTS)]
        for component, path in stored[one].items():
            file = at / f"{component}{path.suffix}"
            assert file.read_bytes() == path.read_bytes()
            assert file.stat().st_size == path.stat().st_size
            assert os.getxattr(file, "user.butler.component") == component.encode()
            assert os.getxattr(file, "user.butler.uuid") == one.encode()
    for uuid in stored:
        assert os.readlink(m.path / "by-uuid" / uuid).endswith(".components")
        listed = {p.stem for p in (m.path / "by-uuid" / uuid).iterdir()}
        assert listed == set(COMPONENTS)


def test_a_component_is_one_file_by_all_paths_and_none_is_another(apart, mount):
    root, stored = apart
    m = mount(root)
    seen = {}
    for path in (m.path / "collections").glob("**/*.components/*"):
        key = (os.getxattr(path, "user.butler.uuid"), os.getxattr(path, "user.butler.component"))
        seen.setdefault(key, set()).add(path.stat().st_ino)
    assert len(seen) == 6
    assert all(len(inodes) == 1 for inodes in seen.values())
    assert len(set.union(*seen.values())) == 6


def test_a_component_that_is_gone_is_eremoteio_and_the_others_are_read(apart, mount):
    root, stored = apart
    m = mount(root)
    (uuid, files) = next(iter(stored.items()))
    at = m.path / "by-uuid" / uuid
    files["data"].unlink()
    with pytest.raises(OSError, match="Remote I/O"):
        next(at.glob("data.*")).read_bytes()
    assert next(at.glob("summary.*")).read_bytes() == files["summary"].read_bytes()
