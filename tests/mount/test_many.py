# SPDX-License-Identifier: BSD-3-Clause
"""Folders of a collection that is too large to be read whole for one of them: each is asked by itself.

What is listed is compared with what the tables say, in a collection with all that makes a shortcut go wrong.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import makemany
import mounting
import pgserver
import pytest

DETECTORS, VISITS, PER_NIGHT = 340, 120, 15 # more than 20,000 rows, and as many that are stored
ROWS = """
    SELECT c.name, t.instrument, v.day_obs, t.visit, t.detector, EXISTS (SELECT FROM file_datastore_records f WHERE f.dataset_id = t.dataset_id)
    FROM {tags} t JOIN collection c USING (collection_id) JOIN visit v ON v.instrument = t.instrument AND v.id = t.visit
    WHERE EXISTS (SELECT FROM dataset d WHERE d.id = t.dataset_id)
"""
RUN, CHAIN, GOOD = "big/run", "top", "good"


class Many:
    def __init__(self, repo: Any, server: Any, tags: str):
        self.repo, self.server, self.tags = repo, server, tags

    def sql(self, text: str, *values: Any) -> list[Any]:
        return self.server.execute("many", "SET search_path = registry; " + text.format(tags=self.tags), *values)

    def folders(self, collection: str) -> dict[str, set[str]]:
        """Each folder below the dataset type's with its entries: what is stored, of the first member that has a data ID."""
        members = ["hides", RUN] if collection == CHAIN else [collection]
        first: dict[tuple[Any, ...], bool] = {}
        rows = self.sql(ROWS)
        for member in members:
            for name, *key, is_stored in rows:
                if name == member:
                    first.setdefault(tuple(key), is_stored)
        folders: dict[str, set[str]] = {}
        for instrument, day, visit, detector in [k for k, is_stored in first.items() if is_stored]:
            path = ""
            for entry in (f"instrument={instrument}", f"day_obs={day}", f"visit={visit}", f"calexp_{instrument}_{visit}_{detector}.fits"):
                folders.setdefault(path, set()).add(entry)
                path = f"{path}/{entry}".lstrip("/")
        return folders

    def statements(self) -> list[tuple[str, int]]:
        # One is counted when its transaction ends, which isn't waited for.
        busy = "SELECT FROM pg_stat_activity WHERE usename = 'reader' AND state <> 'idle'"
        mounting.eventually(lambda: not self.server.execute("many", busy), mounting.SLACK)
        rows = self.server.execute("many", "SELECT query, calls FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid WHERE rolname = 'reader'")
        self.server.execute("many", "SELECT pg_stat_statements_reset()")
        return [(q, n) for q, n in rows if "LATERAL" in q]


@pytest.fixture(scope="module")
def many(place, postgres):
    repo = makemany.make(place / "many", postgres, "many", DETECTORS * VISITS, 3, DETECTORS, PER_NIGHT, 2)
    ((tags,),) = postgres.execute("many", "SELECT tag_association_table FROM registry.dataset_type WHERE name = 'calexp'")
    m = Many(repo, postgres, tags)
    visits = [v for (v,) in m.sql("SELECT DISTINCT visit FROM {tags} t JOIN collection c USING (collection_id) WHERE name = 'big/run' ORDER BY 1")]
    night = [v for v in visits if v // 100000 == visits[40] // 100000]
    unstore = "DELETE FROM file_datastore_records WHERE dataset_id IN (SELECT dataset_id FROM {tags} WHERE visit = ANY(%s) AND detector < %s)"
    m.sql(unstore, night, DETECTORS) # a night of which nothing is stored,
    m.sql(unstore, [visits[3]], DETECTORS) # a visit,
    m.sql(unstore, [visits[4]], DETECTORS - 1) # and one of which just the last detector is
    m.sql("DELETE FROM {tags} WHERE visit = ANY(%s) AND detector < %s", visits[5:8], DETECTORS - 1)
    # Of one night all but the last visit are gone; of another all, but a visit with a number far from theirs is of it.
    other, far = ([v for v in visits if v // 100000 == visits[k] // 100000] for k in (60, 80))
    m.sql("DELETE FROM {tags} WHERE visit = ANY(%s)", other[:-1] + far)
    m.sql("UPDATE visit SET day_obs = %s WHERE id = %s", far[0] // 100000, visits[-2]) # the last is the client's own
    # A dataset whose row is gone.
    m.sql("SET session_replication_role = replica; DELETE FROM dataset WHERE id = (SELECT dataset_id FROM {tags} WHERE visit = %s AND detector = 9)", visits[20])
    # A chain whose first member has what isn't stored: all of one visit, half of another.
    ((top, kind),) = m.sql("SELECT max(collection_id), (SELECT id FROM dataset_type WHERE name = 'calexp') FROM collection")
    m.sql(f"INSERT INTO collection VALUES ({top + 1}, 'hides', 1, NULL), ({top + 2}, 'top', 3, NULL); INSERT INTO run VALUES ({top + 1});"
          f"INSERT INTO collection_chain SELECT {top + 2}, 0, {top + 1} UNION SELECT {top + 2}, 1, collection_id FROM collection WHERE name = 'big/run';"
          f"INSERT INTO collection_summary_dataset_type VALUES ({top + 1}, {kind}); INSERT INTO collection_summary_instrument VALUES ({top + 1}, 'LSSTCam')")  # fmt: skip
    m.sql("CREATE TEMP TABLE h AS SELECT gen_random_uuid() AS id, visit, detector FROM {tags} WHERE visit = %s OR (visit = %s AND detector < 20);"
          f"INSERT INTO dataset (id, dataset_type_id, ingest_date, run_id) SELECT id, {kind}, 1700000000000000000, {top + 1} FROM h;"
          f"INSERT INTO {tags} (dataset_type_id, dataset_id, collection_id, instrument, detector, visit) SELECT {kind}, id, {top + 1}, 'LSSTCam', detector, visit FROM h",
          visits[10], visits[11])  # fmt: skip
    # All that is stored, in a collection of its own: such a set can be compared.
    m.sql(f"INSERT INTO collection VALUES ({top + 3}, 'good', 2, NULL); INSERT INTO collection_summary_dataset_type VALUES ({top + 3}, {kind});"
          f"INSERT INTO collection_summary_instrument VALUES ({top + 3}, 'LSSTCam');"
          f"INSERT INTO {{tags}} (dataset_type_id, dataset_id, collection_id, instrument, detector, visit) SELECT t.dataset_type_id, dataset_id, {top + 3}, instrument, detector, visit"
          f" FROM {{tags}} t JOIN collection c USING (collection_id) WHERE name = 'big/run' AND dataset_id IN (SELECT dataset_id FROM file_datastore_records)"
          f" AND dataset_id IN (SELECT id FROM dataset)")  # fmt: skip
    # Nights of which the type has nothing, so that visits are many, too.
    m.sql("INSERT INTO day_obs (instrument, id) SELECT 'LSSTCam', 20300101 + k FROM generate_series(0, 19) k;"
          "INSERT INTO visit (instrument, id, day_obs, physical_filter, name)"
          " SELECT 'LSSTCam', (20300101 + k / 500) * 100000::bigint + k, 20300101 + k / 500, 'r_03', 'X' || k FROM generate_series(0, 9999) k")  # fmt: skip
    m.sql("ANALYZE")
    return m


@pytest.mark.parametrize("collection", [RUN, CHAIN])
def test_every_folder_of_a_large_collection_lists_what_its_whole_set_would(many, mount, collection):
    """From the top and from the bottom, each folder by a statement of its own."""
    expected = many.folders(collection)
    assert len(expected) > 60 and len(expected["instrument=LSSTCam"]) == 8
    for folders in (sorted(expected), sorted(expected, reverse=True)):
        m = mount(many.repo, refresh="1h")
        many.statements()
        wrong = {}
        for path in folders[:60]: # of more than 64 the whole set is read besides
            got = set(os.listdir(m / "collections" / collection / "calexp" / path))
            if got != expected[path]:
                wrong[path] = (got - expected[path], expected[path] - got)
        assert not wrong, list(wrong.items())[:3]
        assert m.counters()["set_loads"] == 0
        assert sum(n for _, n in many.statements()) == 60


def test_what_a_listed_folder_does_not_list_is_not_there_and_is_not_asked_for(many, mount):
    m = mount(many.repo, refresh="1h")
    top = m / "collections" / RUN / "calexp/instrument=LSSTCam"
    days = os.listdir(top)
    many.statements()
    before = m.counters()["point_queries"]
    assert all((top / d).is_dir() for d in days)
    ((absent,),) = many.sql("SELECT max(id) FROM day_obs WHERE NOT id::text = ANY(%s)", [d.rpartition("=")[2] for d in days])
    assert not (top / f"day_obs={absent}").exists()
    assert m.counters()["point_queries"] == before


@pytest.mark.parametrize("collection", [RUN, CHAIN])
def test_a_folder_in_which_nothing_is_stored_is_empty_and_nothing_else_is_read_for_it(many, mount, collection):
    known = many.folders(collection)["instrument=LSSTCam"]
    (empty,) = {f"day_obs={day}" for name, _, day, *_ in many.sql(ROWS) if name == RUN} - known
    m = mount(many.repo, refresh="1h")
    assert os.listdir(m / "collections" / collection / "calexp/instrument=LSSTCam" / empty) == []
    assert m.counters()["set_loads"] == 0
    few = os.listdir(m / "collections/small/run1/calexp")
    assert (few, m.counters()["set_loads"]) == (["instrument=LSSTCam"], 1)


def test_the_whole_set_lists_the_same(many, mount):
    """And no row is missing because another one before it has no dataset."""
    m = mount(many.repo, refresh="1h")
    found = {p for p in Path(m / "collections" / RUN / "calexp").rglob("*.fits")}
    mounting.eventually(lambda: m.counters()["set_rows"] > 0, mounting.SLACK) # asked for by those who walk
    assert m.counters()["set_loads"] == 1
    expected = many.folders(RUN)
    assert {p.name for p in found} == {name for f in expected.values() for name in f if name.endswith(".fits")}


def test_a_walk_through_a_registry_that_keeps_changing_reads_the_whole_set_more_and_more_seldom(many, mount):
    """After 64 folders, then after 128."""
    m = mount(many.repo, refresh="200ms", stale="0")
    folders = sorted(many.folders(RUN))
    assert 64 < len(folders) < 96
    loads = []
    for step in range(3):
        for path in folders:
            os.listdir(m / "collections" / RUN / "calexp" / path)
        # Read to its end: a set that moves while it is read is read once more.
        mounting.eventually(lambda: m.counters()["set_rows"] > 0, mounting.SLACK)
        loads.append(m.counters()["set_loads"])
        before = m.counters()["registry_changes"]
        many.sql("UPDATE collection SET doc = %s WHERE name = 'hides'", f"changed {step}")
        mounting.eventually(lambda: m.counters()["registry_changes"] > before, mounting.SLACK)
    assert loads[:2] == [1, 1] and loads[2] <= 2, loads # each time anew: 1, 2, 3


def whole_of(many: Any, mount: Any, collection: str, **options: Any) -> tuple[Any, list[str]]:
    """A mount that has read all of it, and its folders of files."""
    m = mount(many.repo, refresh="200ms", **options)
    at, known = m / "collections" / collection / "calexp", sorted(many.folders(collection))
    for path in known:
        os.listdir(at / path)
    # Counted when the last page was read: a commit before that would have it read again.
    mounting.eventually(lambda: m.counters()["set_rows"] > 0, mounting.SLACK)
    assert m.counters()["set_loads"] == 1
    return m, [str(at / f) for f in known if "visit=" in f]


def change_elsewhere(many: Any, m: Any, doc: str) -> None:
    before = m.counters()["registry_changes"]
    many.sql("UPDATE collection SET doc = %s WHERE name = 'hides'", doc)
    mounting.eventually(lambda: m.counters()["registry_changes"] > before, mounting.SLACK)


def test_a_large_set_that_others_commits_are_not_about_is_compared_and_not_asked_for(many, mount):
    """Neither folder by folder nor name by name; and what is about it is seen."""
    m, folders = whole_of(many, mount, GOOD)
    before = m.counters()["set_digests"]
    change_elsewhere(many, m, "compared")
    # Not before fifty times as long as the first comparison took.
    mounting.eventually(lambda: os.listdir(folders[0]) and m.counters()["set_digests"] > before, 15 * mounting.SLACK)
    many.statements()
    points = m.counters()["point_queries"]
    for f in folders[1:40]:
        assert all(os.stat(f"{f}/{name}") for name in os.listdir(f)[:3])
    assert (m.counters()["point_queries"], m.counters()["set_loads"], many.statements()) == (points, 1, [])
    gone = sorted(os.listdir(folders[5]))[0]
    visit, detector = re.match(r"calexp_LSSTCam_(\d+)_(\d+)", gone).groups()
    many.sql("DELETE FROM {tags} t USING collection c WHERE c.collection_id = t.collection_id AND name = 'good' AND visit = %s AND detector = %s", int(visit), int(detector))
    mounting.eventually(lambda: not os.path.exists(f"{folders[5]}/{gone}"), mounting.SLACK)
    mounting.eventually(lambda: gone not in os.listdir(folders[5]), 15 * mounting.SLACK) # once it was compared again


COMMITS = 12


@pytest.mark.parametrize("collection", [GOOD, RUN, CHAIN])
def test_folders_that_were_listed_are_entered_without_a_statement_while_others_commit_all_the_time(many, mount, collection):
    """Whether their set can be compared or not."""
    m = mount(many.repo, refresh="200ms", stale="1h")
    at, known = m / "collections" / collection / "calexp", many.folders(collection)
    for path in sorted(p for p in known if "visit=" not in p):
        os.listdir(at / path)
    folders = [str(at / p) for p in known if p]
    many.statements()
    points = m.counters()["point_queries"]
    for k in range(COMMITS):
        change_elsewhere(many, m, f"entering {k}")
        for f in folders:
            os.stat(f)
    assert (m.counters()["point_queries"] - points, many.statements()) == (0, []), len(folders) * COMMITS


@pytest.mark.parametrize("collection", [GOOD, RUN])
def test_a_walk_through_a_large_set_asks_for_few_of_its_folders_while_others_commit_all_the_time(many, mount, collection):
    """Whether it can be compared or not."""
    m, folders = whole_of(many, mount, collection, stale="1h")
    mounting.eventually(lambda: os.listdir(folders[0]) and many.statements() == [], mounting.SLACK)
    points = m.counters()["point_queries"]
    for k in range(COMMITS):
        change_elsewhere(many, m, f"walking {k}")
        assert all(os.listdir(f) for f in folders)
    assert m.counters()["point_queries"] - points <= 16, len(folders) * COMMITS
    assert m.counters()["set_loads"] == 1


def test_a_listing_is_shown_while_the_database_takes_its_time_and_only_for_as_long_as_is_said(many, mount):
    """Somebody holds a lock that keeps the rows from being read."""
    known, strict = (mount(many.repo, refresh="200ms", timeout="2s", stale=s) for s in ("1h", "0"))
    folder = "collections/big/run/calexp/" + [p for p in sorted(many.folders(RUN)) if "visit=" in p][1]
    names = sorted(os.listdir(known / folder))
    assert names and sorted(os.listdir(strict / folder)) == names
    with many.server.connect("many", pgserver.OWNER) as db, db.cursor() as cursor:
        cursor.execute(f"SET search_path = registry; BEGIN; LOCK TABLE {many.tags}")
        for m in (known, strict):
            change_elsewhere(many, m, f"locked {m}")
        for _ in range(3):
            assert sorted(os.listdir(known / folder)) == names
        assert known.counters()["sets_old"] >= 1
        with pytest.raises(OSError, match="timed out"):
            os.listdir(strict / folder)
        cursor.execute("ROLLBACK")
    assert sorted(os.listdir(strict / folder)) == names
    mounting.control("refresh", known.path)
    old = known.counters()["sets_old"]
    mounting.eventually(lambda: sorted(os.listdir(known / folder)) == names and known.counters()["sets_old"] == old, mounting.SLACK)


SCAN = re.compile(r"(Seq|Bitmap Heap) Scan on (dataset_tags_\w+|dataset|\w*records)\b")
WALK = re.compile(r"(Seq Scan|Index (Only )?Scan using visit_pkey) on visit(_\d+)?( \w+)? .*\n(?!\s+Index Cond: .*\bid = )")


def plans(many: Any, queries: list[str], settings: str) -> list[str]:
    found = []
    with many.server.connect("many") as db, db.cursor() as cursor:
        cursor.execute("SET plan_cache_mode = force_generic_plan; " + settings)
        for query in queries:
            cursor.execute("PREPARE q AS " + query.replace("%", "%%"))
            count = max(map(int, re.findall(r"\$(\d+)", query)))
            cursor.execute(f"EXPLAIN EXECUTE q({', '.join(['NULL'] * count)})")
            found.append("\n".join(r[0] for r in cursor.fetchall()))
            cursor.execute("DEALLOCATE q")
    return found


def test_no_folder_s_statement_scans_or_hashes_a_large_table(many, mount):
    """Its plan, where scanning is forbidden as far as an index will do; and the planner finds the visits of a day by their index."""
    m = mount(many.repo, refresh="1h")
    many.statements()
    for path in ("", "instrument=LSSTCam", *sorted(many.folders(CHAIN))[2:4]):
        os.listdir(m / "collections" / CHAIN / "calexp" / path)
    asked = [q for q, _ in many.statements() if "array_position" in q]
    assert len(asked) == 4, asked
    for plan in plans(many, asked, "SET enable_seqscan = off"):
        assert not SCAN.search(plan), plan
        assert "hashed SubPlan" not in plan and "Hash Join" not in plan, plan
    for plan in plans(many, asked, ""):
        assert not WALK.search(plan), plan
