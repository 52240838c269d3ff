# SPDX-License-Identifier: BSD-3-Clause
"""Random changes by the client, random looks at the mount; after each burst the whole tree is compared.

BUTLERFS_MODEL_STEPS: how many changes (default 36); BUTLERFS_TEST_SEED: which ones.
"""

from __future__ import annotations

import errno
import os
import random
import stat
from typing import Any

import makecalibs
import mounting
import pytest
import reftree
from refnames import instant

STEPS = int(os.environ.get("BUTLERFS_MODEL_STEPS", "36"))
SEED = int(os.environ.get("BUTLERFS_TEST_SEED", "0"))


class Model:
    """The client's hand; each verb makes one change, or says that it can't."""

    def __init__(self, repo: Any, rng: random.Random):
        from lsst.daf.butler import CollectionType

        self.rng = rng
        self.butler = repo.butler()
        self.type = CollectionType
        self.scratch = repo.root.parent / "packed"
        self.history: list[str] = []
        self.made = 0

    def _collections(self, kind: Any) -> list[str]:
        return sorted(self.butler.collections.query("*", collection_types=kind, flatten_chains=False))

    def _refs(self) -> list[Any]:
        runs = self._collections(self.type.RUN)
        run = self.rng.choice(runs)
        types = sorted(self.butler.collections.get_info(run, include_summary=True).dataset_types)
        if not types:
            return []
        return self.butler.query_datasets(self.rng.choice(types), run, explain=False, limit=None)

    def put(self) -> None:
        from lsst.daf.butler import CollectionType  # noqa: F401

        run = self.rng.choice([*self._collections(self.type.RUN)[:6], f"model/{self.rng.randrange(4)}"])
        self.butler.collections.register(run)
        name, data_id = self.rng.choice([
            ("cfg", {}),
            ("detInfo", {"instrument": self.rng.choice(["HSC", "LSSTComCam"]), "detector": self.rng.randrange(4)}),
            ("camera", {"instrument": self.rng.choice(["HSC", "LSSTComCam"])}),
            ("night", {"instrument": "HSC", "day_obs": self.rng.choice([20240101, 20240102, 20250228])}),
            ("skyMap", {"skymap": "lsst_cells_v1"}),
            ("deepCoadd", {"skymap": "lsst_cells_v1", "tract": self.rng.choice([0, 3]), "patch": self.rng.randrange(12), "band": self.rng.choice("gr")}),
        ])  # fmt: skip
        if self.butler.find_dataset(name, data_id, collections=run) is None:
            self.made += 1
            self.butler.put({"n": "x" * self.made}, name, data_id, run=run)

    def unstore(self) -> None:
        refs = self._refs()
        self.butler.pruneDatasets(self.rng.sample(refs, min(len(refs), 3)), disassociate=False, unstore=True)

    def purge(self) -> None:
        refs = self._refs()
        self.butler.pruneDatasets(self.rng.sample(refs, min(len(refs), 2)), disassociate=True, unstore=True, purge=True)

    def tag(self) -> None:
        name = f"model/tag{self.rng.randrange(3)}"
        self.butler.collections.register(name, self.type.TAGGED)
        refs = self._refs()
        refs = self.rng.sample(refs, min(len(refs), 4))
        self.butler.registry.disassociate(name, [r for ref in refs if (r := self.butler.find_dataset(ref.datasetType, ref.dataId, collections=name))])
        self.butler.registry.associate(name, refs)

    def untag(self) -> None:
        for name in self._collections(self.type.TAGGED):
            for t in sorted(self.butler.collections.get_info(name, include_summary=True).dataset_types):
                refs = self.butler.query_datasets(t, name, explain=False, limit=None)
                self.butler.registry.disassociate(name, self.rng.sample(refs, len(refs) // 3))

    def chain(self) -> None:
        name = self.rng.choice([*self._collections(self.type.CHAINED), "model/chain"])
        self.butler.collections.register(name, self.type.CHAINED)
        pool = [c for c in self._collections({self.type.RUN, self.type.TAGGED, self.type.CALIBRATION}) if c != name]
        self.butler.collections.redefine_chain(name, self.rng.sample(pool, self.rng.randrange(4)))

    def prepend(self) -> None:
        name = self.rng.choice(self._collections(self.type.CHAINED))
        self.butler.collections.prepend_chain(name, [self.rng.choice(self._collections(self.type.RUN))])

    def remove_run(self) -> None:
        runs = [r for r in self._collections(self.type.RUN) if r.startswith("model/")]
        if runs:
            self.butler.removeRuns([self.rng.choice(runs)], unlink_from_chains=True)

    def remove_tag(self) -> None:
        used = {c for i in self.butler.collections.query_info("*") for c in i.children}
        tags = [t for t in self._collections(self.type.TAGGED) if t.startswith("model/") and t not in used]
        if tags:
            self.butler.collections.x_remove(self.rng.choice(tags))

    def _span(self) -> Any:
        cuts = sorted(self.rng.sample(range(-8, 9), 2))
        begin, end = (makecalibs.NEW_YEAR_NS + c * makecalibs.DAY_NS // self.rng.choice([1, 1, 7]) for c in cuts)
        first, last = makecalibs.unbounded()
        return makecalibs.timespan(first if cuts[0] == -8 else begin, last if cuts[1] == 8 else end)

    def certify(self) -> None:
        from lsst.daf.butler.registry import ConflictingDefinitionError

        name = f"model/cal{self.rng.randrange(2)}"
        self.butler.collections.register(name, self.type.CALIBRATION)
        run = self.rng.choice([["HSC/calib/run1"], ["HSC/calib/run2"], ["HSC/calib/run1", "HSC/calib/run2"]])
        refs = [r for c in run for r in self.butler.query_datasets("bias", c, explain=False, limit=None)]
        try:
            self.butler.registry.certify(name, self.rng.sample(refs, min(len(refs), 2)), self._span())
        except ConflictingDefinitionError:
            self.history.append("(refused)")

    def decertify(self) -> None:
        name = self.rng.choice(self._collections(self.type.CALIBRATION))
        types = [t for t in ("bias", "camCalib") if t in self.butler.collections.get_info(name, include_summary=True).dataset_types]
        if types:
            self.butler.registry.decertify(name, self.rng.choice(types), self._span())

    def pack(self) -> None:
        """Some stored datasets of a run go into an archive."""
        refs = [r for r in self._refs() if self.butler.stored(r) and r.run.startswith(("model/", "u/alice/run1"))]
        refs = [r for r in refs if r.datasetType.name in ("detInfo", "cfg", "camera", "night")][:4]
        if refs:
            self.made += 1
            path = self.butler.retrieve_artifacts_zip(refs, destination=f"{self.scratch}/{self.made}")
            self.butler.pruneDatasets(refs, disassociate=True, unstore=True, purge=True)
            self.butler.ingest_zip(path, transfer="copy")

    VERBS = (put, put, put, put, unstore, purge, tag, untag, chain, prepend, remove_run, remove_tag, certify, certify, decertify, pack)

    def step(self) -> None:
        verb = self.rng.choice(self.VERBS)
        self.history.append(verb.__name__)
        verb(self)


def difference(m: mounting.Mount, wanted: reftree.Tree) -> str:
    """What is not as the model says; empty: nothing."""
    try:
        seen = mounting.walk(m.at(b"collections"))
    except FileNotFoundError as e:
        return f"a folder went away during the walk: {e}"
    found = {b"collections/" + p for p in seen}
    expected = {*wanted.files, *reftree.all_folders(wanted), *reftree.all_links(wanted)}
    if found != expected:
        return f"missing {sorted(expected - found)[:5]}, too many {sorted(found - expected)[:5]}"
    for path, file in wanted.files.items():
        uuid = os.getxattr(m.at(path), "user.butler.uuid")
        if uuid != file.uuid.encode():
            return f"{path!r} is {uuid!r}, should be {file.uuid}"
    return difference_at(m, wanted.calibrations)


def difference_at(m: mounting.Mount, calibrations: reftree.Calibrations) -> str:
    """What `calibs-at/` has of the model's own collections, at some instants."""
    names = [c for c in calibrations.paths if c.startswith("model/ca")]
    for days in (-9, -3, 0, 5):
        ns = makecalibs.NEW_YEAR_NS + days * makecalibs.DAY_NS
        for name in names:
            files, doubtful = calibrations.at(ns, ns + 1, name, "bias")
            top = b"calibs-at/%sTAI/" % instant(ns)
            for path in files.keys() | doubtful.keys():
                try:
                    said: str | bytes = os.getxattr(m.at(top + path), "user.butler.uuid")
                except OSError as e:
                    said = errno.errorcode[e.errno]
                right = (files[path].uuid.encode(),) if path in files else ("ENOTUNIQ", "ENOENT")
                if said not in right:
                    return f"{top + path!r} is {said!r}, should be {right}"
            base = b"/".join([*reftree.collection_parts(name), b"bias"])
            if os.path.isdir(m.at(top + base)):
                found = {base + b"/" + p for p, st in mounting.walk(m.at(top + base)).items() if stat.S_ISREG(st.st_mode)}
                if found != files.keys():
                    return f"{top!r}: {found} listed, should be {set(files)}"
    return ""


@pytest.mark.parametrize("restart", [False, True], ids=["one life", "with restarts"])
def test_after_any_sequence_of_changes_the_mount_shows_what_the_client_finds(own_repository, mount, restart):
    rng = random.Random(SEED * 2 + restart)
    repo = own_repository()
    model = Model(repo, rng)
    m = mount(repo, refresh="100ms")
    known = list(reftree.expected(repo.root).files)
    changes = 0
    for step in range(STEPS):
        model.step()
        # Looks in between leave positive and negative entries of every age behind.
        for path in rng.sample(known, 5):
            try:
                os.stat(m.at(path))
                os.listdir(m.at(os.path.dirname(path)))
            except FileNotFoundError:
                pass
        if restart and rng.random() < 0.1:
            changes += m.counters()["registry_changes"]
            os.kill(m.pid(), 9)
        if step % 12 == 11 or step == STEPS - 1:
            wanted = reftree.expected(repo.root)
            said = ""

            def is_right() -> bool:
                nonlocal said
                said = difference(m, wanted)
                return not said

            try:
                mounting.eventually(is_right, 1 + mounting.SLACK)
            except AssertionError:
                raise AssertionError(f"seed {SEED}, after {model.history}: {said}") from None
            for path in rng.sample(sorted(wanted.files), 20):
                content = wanted.files[path].content()
                if content is not None:
                    with open(m.at(path), "rb") as f:
                        assert f.read() == content, path
            known = list(wanted.files)
    model.butler.close()
    assert changes + m.counters()["registry_changes"] > 0
