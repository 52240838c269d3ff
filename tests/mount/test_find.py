# SPDX-License-Identifier: BSD-3-Clause
"""`butlerfsctl find`: what the client's query_datasets(where=...) finds, as paths."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
from typing import Any

import mounting
import pytest
import reftree

SEED = int(os.environ.get("BUTLERFS_TEST_SEED", "1"))
ROUNDS = int(os.environ.get("BUTLERFS_FIND_ROUNDS", "60"))


class World:
    def __init__(self, repo: Any, tree: reftree.Tree, mount: mounting.Mount):
        self.repo, self.tree, self.mount = repo, tree, mount
        self.butler = repo.butler()
        self.tables: dict[str, dict[str, list[Any]]] = {}
        with sqlite3.connect(repo.root / "gen3.sqlite3") as db:
            for name in ("instrument", "detector", "visit", "exposure", "physical_filter", "skymap", "tract", "patch"):
                rows = db.execute(f'SELECT * FROM "{name}"')
                columns = [c[0] for c in rows.description]
                values = list(zip(*rows.fetchall())) or [()] * len(columns)
                self.tables[name] = {c: sorted(set(v), key=str) for c, v in zip(columns, values)}
        db.close()

    def found(self, collection: str, dataset_type: str, where: str, *options: str) -> list[bytes]:
        folder = self.mount / b"/".join([b"collections", *reftree.collection_parts(collection)])
        done = subprocess.run([mounting.program("butlerfsctl"), "find", "-0", *options, folder, dataset_type, where], capture_output=True, timeout=60)
        assert done.returncode == 0, (where, done.stderr)
        base = os.fsencode(str(self.mount.path)) + b"/"
        paths = done.stdout.split(b"\0")
        assert paths.pop() == b"" and all(p.startswith(base) for p in paths)
        return [p.removeprefix(base) for p in paths]

    def known(self, collection: str, dataset_type: str, where: str) -> set[str]:
        refs = self.butler.query_datasets(dataset_type, collections=[collection], where=where, find_first=True, limit=None, explain=False)
        stored = {f.uuid for f in self.tree.files.values()}
        return {str(r.id) for r in refs} & stored

    def refused(self, *arguments: str) -> str:
        done = mounting.control("find", *arguments)
        assert done.returncode == 1, done.stdout
        return done.stderr.removeprefix("butlerfsctl: ").rstrip("\n")


@pytest.fixture(scope="module")
def world(repository: Any, expected: Any, module_mount: Any) -> Any:
    repo = repository(seed=13, datasets=2000, nasty=False)
    it = World(repo, expected(repo), module_mount(repo))
    yield it
    it.butler.close()


# Type: the governor that the client wants to see in the expression, and the elements it may speak of.
TYPES = {
    "calexp": ("instrument", ["visit", "detector", "physical_filter", "instrument"]),
    "raw": ("instrument", ["exposure", "detector", "physical_filter", "instrument"]),
    "detInfo": ("instrument", ["detector", "instrument"]),
    "deepCoadd": ("skymap", ["tract", "patch", "skymap"]),
}
NOT_COMPARED = {"region", "timespan_begin", "timespan_end", "hash"}


def literal(value: Any) -> str | None:
    if isinstance(value, str):
        return None if "'" in value else f"'{value}'"
    return repr(value)


class Speaker:
    """Says random expressions about a dataset type."""

    def __init__(self, world: World, rng: random.Random, dataset_type: str):
        self.world, self.rng = world, rng
        self.governor, self.elements = TYPES[dataset_type]
        self.bools = {c.name for e in world.butler.dimensions.elements for c in e.schema.remainder if c.type == "bool"}

    def key(self) -> tuple[str, list[Any], str]:
        rng = self.rng
        element = rng.choice(self.elements)
        table = self.world.tables[element]
        name = rng.choice([c for c in table if c not in NOT_COMPARED])
        primary = self.world.butler.dimensions.dimensions[element].primaryKey.name
        said = f"{element}.{name}"
        if name == primary and rng.random() < 0.6:
            said = element
        elif name in ("band", "day_obs", "instrument", "physical_filter") and rng.random() < 0.5:
            said = name
        return said, table[name], name

    def leaf(self) -> str:
        rng = self.rng
        said, values, name = self.key()
        if name in self.bools:
            return rng.choice([said, f"{said} = null", f"not {said}"])
        values = [v for v in values if v is not None and literal(v) is not None] or ([0] if rng.random() < 0.5 else [])
        kind = type(values[0]) if values else None
        if kind is None:
            return f"{said} != null"
        how = rng.random()
        if how < 0.1:
            return f"{said} {rng.choice(['=', '!='])} null"
        if how < 0.5 or (kind is float and how < 0.8):
            flip = f"{literal(rng.choice(values))} {{}} {said}" if rng.random() < 0.2 else f"{said} {{}} {literal(rng.choice(values))}"
            return flip.format(rng.choice(["=", "!=", "<", "<=", ">", ">="]))
        items = [literal(v) for v in rng.sample(values, min(len(values), rng.randint(1, 4)))]
        if kind is int and rng.random() < 0.6:
            a, b = sorted((rng.choice(values), rng.choice(values)))
            items.append(f"{a}..{b}" + (f":{rng.randint(1, 3)}" if rng.random() < 0.4 else ""))
        return f"{said} {rng.choice(['in', 'not in', 'IN'])} ({', '.join(i for i in items if i)})"

    def expression(self, depth: int = 0) -> str:
        how = self.rng.random()
        if depth == 3 or how < 0.35:
            return self.leaf()
        if how < 0.5:
            return f"not ({self.expression(depth + 1)})"
        word = self.rng.choice([" and ", " or ", " AND "])
        return word.join(f"({self.expression(depth + 1)})" for _ in range(2))


@pytest.mark.parametrize("dataset_type", TYPES)
def test_random_expressions_find_what_the_client_finds(world, dataset_type):
    from lsst.daf.butler import InvalidQueryError

    rng = random.Random(f"{SEED} {dataset_type}")
    speaker = Speaker(world, rng, dataset_type)
    collections = [f.collection for f in world.tree.folders().values()
                   if f.collection and f.dataset_type is None and f.collection_type != "CALIBRATION"
                   and dataset_type.encode() in f.children]  # fmt: skip
    assert collections
    some = refused = 0
    for _ in range(ROUNDS):
        where = f"{speaker.governor} != 'nowhere' and ({speaker.expression()})"
        collection = rng.choice(collections)
        try:
            wanted = world.known(collection, dataset_type, where)
        except InvalidQueryError as e:
            refused += 1
            folder = world.mount / b"/".join([b"collections", *reftree.collection_parts(collection)])
            done = mounting.control("find", folder, dataset_type, where)
            assert done.returncode == 1, (where, str(e), done.stdout)
            continue
        paths = world.found(collection, dataset_type, where)
        uuids = [uuid_at(world, p) for p in paths]
        assert len(set(paths)) == len(paths)
        assert set(uuids) == wanted, (collection, where)
        some += bool(wanted)
    assert some > ROUNDS // 10 and refused < ROUNDS // 2, (some, refused)


def uuid_at(world: World, path: bytes) -> str:
    if path in world.tree.files:
        return world.tree.files[path].uuid
    return next(f.uuid for p, f in world.tree.files.items() if p.startswith(path + b"/"))  # a composite's folder


def test_without_an_expression_it_finds_all_that_is_stored(world):
    for collection in ("u/alice/run1", "c/nested", "tag"):
        base = b"/".join([b"collections", *reftree.collection_parts(collection)]) + b"/calexp/"
        wanted = {p.partition(b".components/")[0] + b".components" if b".components/" in p else p
                  for p in world.tree.files if p.startswith(base)}  # fmt: skip
        assert set(world.found(collection, "calexp", "")) == wanted and wanted


def test_paths_come_in_order_of_the_tree_and_as_many_as_wanted(world):
    count: dict[tuple[str, str], int] = {}
    for path, folder in world.tree.folders().items():
        if folder.collection and folder.dataset_type is None:
            for file in (f for p, f in world.tree.files.items() if p.startswith(path + b"/")):
                if file.dataset_type.encode() in folder.children:
                    count[folder.collection, file.dataset_type] = count.get((folder.collection, file.dataset_type), 0) + 1
    most = max(count, key=lambda k: count[k])
    every = world.found(*most, "")
    assert world.found(*most, "", "--limit", "7") == every[:7]
    assert world.found(*most, "", "--limit", "0") == []
    assert len(b"".join(every)) > 8192  # more than a page


def test_xargs_takes_what_it_prints(world):
    folder = world.mount / "collections/u/alice/run1"
    line = f"{mounting.program('butlerfsctl')} find -0 {folder} detInfo 'detector < 2' | xargs -0 ls"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == len(world.found("u/alice/run1", "detInfo", "detector < 2")) > 0


@pytest.mark.parametrize("where, words", [
    ("visit.day_ob = 3", 'at character 1: "visit.day_ob" is no key of "calexp"; its keys are '),
    ("detector = 1 and tract = 2", 'at character 18: "tract" is no key of "calexp"'),
    ("detector = ", "at character 12: it ends where a key, a number or a 'string' was expected"),
    ("detector = 1 visit = 2", "at character 14: and, or, or the end was expected"),
    ("detector in (1, 2", "at character 18: it ends where , or ) was expected"),
    ("(detector = 1", "at character 14: it ends where ) was expected"),
    ("detector = 'a", "at character 12: this quote has no end"),
    ("detector = 'a'", "at character 10: a whole number can't be compared with a string"),
    ("detector in (3..1)", "at character 14: a range goes up"),
    ("id = 3", 'at character 1: "id" is of several dimensions'),
    ("detector", "a comparison was expected"),
    ("detector = 99999999999999999999", "too large"),
])  # fmt: skip
def test_what_is_wrong_is_told_with_where_it_stands(world, where, words):
    assert words in world.refused(world.mount / "collections/u/alice/run1", "calexp", where)


def test_what_can_not_be_searched_is_told(world, tmp_path):
    assert 'no dataset type "nothing"; it has ' in world.refused(world.mount / "collections/u/alice/run1", "nothing", "")
    assert "no collection's folder" in world.refused(world.mount / "collections/c/nested/calexp", "calexp")
    assert "No such file" in world.refused(world.mount / "collections/nowhere", "calexp")
    assert "no butlerfs is mounted" in world.refused(tmp_path, "calexp")
    assert mounting.control("find", world.mount.path).returncode == 2
