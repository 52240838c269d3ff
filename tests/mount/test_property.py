# SPDX-License-Identifier: BSD-3-Clause
"""Properties that hold for whatever names and chains there are: random ones, made and judged by the real client.

That any bytes come through escape and back is also fuzzed (fuzz/name.c); here they come through a registry.
"""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path
from typing import Any

import makerepo
import mounting
import pytest
import refnames
import reftree

SEED = int(os.environ.get("BUTLERFS_TEST_SEED", "0"))
# Without the client's wildcards and delimiters: it would take such a name for a pattern.
PIECES = ["a", "B", "0", "é", "e\u0301", "\u2028", "𝔘", " ", "~", "~0123456789abcdef", "%", "%2F", "%41", ".", "..", "=", "@", "_", "-",
          "/", "//", "#", "$HOME", "&", "'", '"', "\\", ":", ";", "<", "|", "\n", "\t", "\x01", "\x7f", "\r", "x" * 90, "ü" * 120, "\0"]  # fmt: skip


def name(rng: random.Random) -> str:
    return "".join(rng.choice(PIECES) for _ in range(rng.choice([1, 1, 2, 3, 4, 6, 9])))


def names(rng: random.Random, count: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found[name(rng)] = None
    return list(found)


class World:
    """Some RUNs, each with datasets of random data IDs; chains of runs and of chains, in random order."""

    def __init__(self, at: Path, seed: int):
        from lsst.daf.butler import CollectionType

        rng = self.rng = random.Random(seed)
        maker = makerepo.Maker(at, seed, 0, "file", True, False)
        makerepo.quiet()
        self.repo = maker.repo
        instruments = [n for n in names(rng, 6) if 1 <= len(n) <= 32]
        insert = maker.registry.insertDimensionData
        insert("instrument", *[{"name": i, "visit_max": 9, "exposure_max": 9, "detector_max": 9, "class_name": "x"} for i in instruments])
        self.groups = {i: names(rng, 8) for i in instruments}
        for i, groups in self.groups.items():
            insert("group", *[{"instrument": i, "name": g} for g in groups])
        maker.type("plan", ["instrument", "group"])
        maker.type("only", ["instrument"])
        every = names(rng, 34)
        self.runs, chains = every[:12], every[12:]
        self.held: dict[str, set[tuple[str, str]]] = {}
        for run in self.runs:
            maker.run(run)
            keys = [(i, g) for i, groups in self.groups.items() for g in groups if rng.random() < 0.4]
            self.held[run] = set(keys)
            items = [(maker.ref("plan", run, instrument=i, group=g), "p.json") for i, g in keys]
            maker.ingest(items + [(maker.ref("only", run, instrument=i), "o.yaml") for i in instruments if rng.random() < 0.5])
        self.chains: dict[str, list[str]] = {}
        for chain in chains:
            known = [*self.runs, *self.chains]
            self.chains[chain] = rng.sample(known, min(len(known), rng.randrange(6)))
            maker.butler.collections.register(chain, CollectionType.CHAINED)
            maker.butler.collections.redefine_chain(chain, self.chains[chain])
        self.flattened = {c: list(maker.butler.registry.queryCollections([c], flattenChains=True)) for c in chains}
        maker.butler.close()


@pytest.fixture(scope="module", params=[1, 2, 3])
def world(request: Any, place: Path) -> World:
    return World(place / f"property{request.param}", SEED * 100 + request.param)


def collection_of(path: bytes) -> str:
    """The name that a path below collections/ stands for, by unescaping only."""
    return b"/".join(refnames.unescape(p) for p in path.split(b"/")).decode()


def test_random_names_are_all_there_by_one_path_each_and_read_back(world, mount):
    m = mount(world.repo)
    tree = reftree.expected(world.repo.root)
    seen = mounting.walk(m.at(b""))
    files = {p for p, st in seen.items() if stat.S_ISREG(st.st_mode)} - {b"README.txt"}
    assert files == set(tree.files), sorted(files ^ set(tree.files))[:6]
    paths = [p for p, node in tree.folders().items() if node.collection is not None]
    of = {os.getxattr(m.at(p), "user.butler.collection").decode(): p.removeprefix(b"collections/") for p in paths}
    assert len(of) == len(paths) and set(of) == {*world.runs, *world.chains}
    for told, path in of.items():
        if not any(len(p) > 250 for p in path.split(b"/")):
            assert collection_of(path) == told


def test_random_chains_find_what_the_client_s_own_flattening_finds(world, mount):
    m = mount(world.repo)
    tree = reftree.expected(world.repo.root)
    winners: dict[tuple[str, str, str], str] = {}
    for folder, node in tree.folders().items():
        if node.collection not in world.chains:
            continue
        for path, file in ((p, f) for p, f in tree.files.items() if p.startswith(folder + b"/plan/")):
            run = os.getxattr(m.at(path), "user.butler.run").decode()
            winners[node.collection, file.data_id["instrument"], file.data_id["group"]] = run
    wanted = {}
    for chain, path in world.flattened.items():
        for run in reversed([c for c in path if c in world.held]):
            wanted.update({(chain, *key): run for key in world.held[run]})
    assert len(wanted) > 100
    assert winners == wanted


def test_random_chains_list_their_members_in_the_client_s_order(world, mount):
    m = mount(world.repo)
    tree = reftree.expected(world.repo.root)
    for folder, node in tree.folders().items():
        if node.collection not in world.chains:
            continue
        at = m.at(folder + b"/@members")
        members = [collection_of(os.path.relpath(os.path.realpath(at + b"/" + n), m.at(b"collections")))
                   for n in sorted(os.listdir(at))]  # fmt: skip
        short = [(a, b) for a, b in zip(members, world.chains[node.collection], strict=True) if not any(len(p.encode()) > 80 for p in b.split("/"))]
        assert all(a == b for a, b in short), (node.collection, short)
