# SPDX-License-Identifier: BSD-3-Clause
"""`calibs-at/<instant>/` and validity ranges, against the client's own find_dataset at every boundary of every range."""

from __future__ import annotations

import dataclasses
import errno
import os
import random
import stat
from typing import Any

import astropy.time
import mounting
import pytest
import reftree
from refnames import OPEN_BEGIN_NS, OPEN_END_NS, escape_value
from test_fidelity import CONFIGURATIONS, SEED, differences, fails, xattr

UTC_BEGINS_NS = 2 * 366 * 86400 * 10**9  # before 1972 its seconds had other lengths


@dataclasses.dataclass
class World:
    repo: Any
    tree: reftree.Tree
    mount: mounting.Mount
    rng: random.Random

    @property
    def calibrations(self) -> reftree.Calibrations:
        return self.tree.calibrations

    def at(self, instant: bytes, path: bytes = b"") -> bytes:
        return self.mount.at(b"calibs-at/" + instant + (b"/" + path if path else b""))

    def instants(self) -> list[int]:
        """The first and the last of each range, and their neighbours outside."""
        bounds = self.calibrations.bounds()
        return sorted({t for b in bounds for t in (b - 1, b) if OPEN_BEGIN_NS <= t < OPEN_END_NS - 1})

    def holders(self) -> list[str]:
        """The collections that have calibrations with a range, themselves or by a member."""
        with_rows = {c for c, _ in self.calibrations.rows}
        return sorted(c for c, path in self.calibrations.paths.items() if with_rows & set(path))


@pytest.fixture(scope="module")
def world(repository: Any, expected: Any, module_mount: Any, request: Any) -> World:
    repo = repository(**CONFIGURATIONS[getattr(request, "param", "file")])
    return World(repo, expected(repo), module_mount(repo), random.Random(SEED))


def to_time(ns: int) -> astropy.time.Time:
    from lsst.daf.butler.time_utils import TimeConverter

    return TimeConverter().nsec_to_astropy(ns)


def text(ns: int, scale: str) -> str:
    """ISO 8601 with nine digits, by astropy (of which butlerfs has nothing)."""
    at = getattr(to_time(ns), scale)
    at.precision = 9
    return at.isot


def spelled(ns: int, number: int) -> bytes:
    """One of the spellings of an instant."""
    if ns < UTC_BEGINS_NS:
        number = 0
    tai, utc = text(ns, "tai"), text(ns, "utc")
    basic = utc.replace("-", "").replace(":", "").replace(".", ",")
    all_ = [tai + "TAI", utc, utc + "Z", basic, basic + "Z", utc.replace("T", " "), utc + "+00:00", tai + " TAI",
            tai.replace("-", "").replace(":", "") + "TAI", utc.rstrip("0").rstrip(".") if utc.endswith("0") else utc]  # fmt: skip
    return all_[number % len(all_)].encode()


def found_in(world: World, instant: bytes, base: bytes) -> dict[bytes, bytes]:
    """Path below calibs-at/<instant>/ -> uuid."""
    top = world.at(instant, base)
    seen = mounting.walk(top)
    return {base + b"/" + p: xattr(top + b"/" + p, "uuid") for p, st in seen.items() if stat.S_ISREG(st.st_mode)}


def calibration_folders(world: World, collection: str) -> list[bytes]:
    base = b"/".join(reftree.collection_parts(collection))
    path = set(world.calibrations.paths[collection])
    types = {t for c, t in (*world.calibrations.rows, *world.calibrations.plain) if c in path}
    folders = world.tree.folders()
    names = [base + b"/" + reftree.shorten(t.encode()) for t in sorted(types)]
    return [n for n in names if b"collections/" + n in folders]


# ---------------------------------------------------------------------------------------- the reference


def client_says(client: reftree.Client, name: str, data_id: dict[str, Any], collection: str, span: Any = None) -> str:
    try:
        ref = client.butler.find_dataset(name, data_id, collections=[collection], timespan=span)
    except LookupError:
        return "not unique"
    # Of a type without dimensions it makes up a dataset where there is none: a UUID that nobody knows.
    return str(ref.id) if ref and client.butler.get_dataset(ref.id) else "nothing"


def verdict(world: World, collection: str, name: str, key: tuple[Any, ...], begin_ns: int, end_ns: int) -> str:
    """The reference's answer to the same question."""
    uuids = world.calibrations.matches(collection, name, begin_ns, end_ns).get(key, [])
    return "nothing" if not uuids else uuids[0] if len(uuids) == 1 else "not unique"


def test_the_reference_and_find_dataset_agree_at_every_boundary_of_every_range(world):
    """Held against the client: every boundary in its own collection, and in a chain that has it."""
    from lsst.daf.butler import Timespan

    count = {"found": 0, "nothing": 0, "not unique": 0}
    with reftree.Client(world.repo.root) as client:
        for (collection, name), rows in sorted(world.calibrations.rows.items()):
            naming = world.calibrations.naming[name]
            if "visit" in naming.order:
                continue  # the client joins such a type's ranges with the visit's own time
            chains = [c for c in world.holders() if collection in world.calibrations.paths[c] and c != collection]
            for row in rows:
                data_id = dict(zip(naming.order, row.key, strict=True))
                for bound in {row.begin_ns, row.end_ns}:
                    for ns in (bound - 1, bound):
                        if not OPEN_BEGIN_NS <= ns < OPEN_END_NS - 1 or world.rng.random() < 0.5:
                            continue
                        for where in (collection, *world.rng.sample(chains, min(1, len(chains)))):
                            span = Timespan(None, None, _nsec=(ns, ns + 1))
                            said = client_says(client, name, data_id, where, span)
                            wanted = verdict(world, where, name, row.key, ns, ns + 1)
                            if said != wanted and len(world.calibrations.paths[where]) > 1:
                                # Of RUN and CALIBRATION members together the client makes one query, in which one dataset
                                # that is there twice is one; of a CALIBRATION collection alone it is not unique.
                                twice = world.calibrations.matches(where, name, ns, ns + 1)[row.key]
                                assert wanted == "not unique" and set(twice) == {said}, (where, name, data_id, ns)
                                continue
                            assert said == wanted, (where, name, data_id, ns)
                            count[said if said in count else "found"] += 1
    assert count["found"] > 50 and count["not unique"] > 5 and count["nothing"] > 5, count


def test_without_a_time_the_client_finds_what_a_chain_shows_without_a_range(world):
    with reftree.Client(world.repo.root) as client:
        done = 0
        for collection in world.holders():
            for name in ("bias", "camCalib", "metricCalib"):
                naming = world.calibrations.naming[name]
                plain = {}
                for member in reversed(world.calibrations.paths[collection]):
                    plain.update(world.calibrations.plain.get((member, name), {}))
                keys = {r.key for c in world.calibrations.paths[collection] for r in world.calibrations.rows.get((c, name), [])}
                for key in world.rng.sample(sorted(keys | plain.keys()), min(2, len(keys | plain.keys()))):
                    said = client_says(client, name, dict(zip(naming.order, key, strict=True)), collection)
                    assert said == plain.get(key, "nothing"), (collection, name, key)
                    done += 1
    assert done > 20


# -------------------------------------------------------------------------------------------- the mount


def test_calibs_at_lists_nothing_and_any_instant_has_every_collection(world):
    assert os.listdir(world.mount / "calibs-at") == []
    tops = sorted(os.listdir(world.mount.at(b"collections")))
    for instant in (b"2024-05-01T00:00:00", b"20240501T000000TAI", b"1999-12-31"):
        assert sorted(os.listdir(world.at(instant))) == tops
    for name in world.holders():
        path = b"/".join(reftree.collection_parts(name))
        assert xattr(world.at(b"2024-05-01T00:00:00", path), "collection") == reftree.to_bytes(name)


def test_at_every_boundary_each_range_s_own_data_id_leads_to_what_holds(world):
    wrong: dict[Any, Any] = {}
    asked = unique = 0
    holders = world.holders()
    for number, ((collection, name), rows) in enumerate(sorted(world.calibrations.rows.items())):
        where_all = [c for c in holders if collection in world.calibrations.paths[c]]
        for k, row in enumerate(rows):
            for bound in (row.begin_ns, row.end_ns):
                for ns in (bound - 1, bound):
                    if not OPEN_BEGIN_NS <= ns < OPEN_END_NS - 1:
                        continue
                    where = where_all[(k + number) % len(where_all)]
                    files, doubtful = world.calibrations.at(ns, ns + 1, where, name)
                    instant = spelled(ns, asked)
                    is_doubtful = len(world.calibrations.matches(where, name, ns, ns + 1).get(row.key, [])) > 1
                    for path in names_for(world, where, name, row.key):
                        wanted = files[path].uuid.encode() if path in files else "ENOTUNIQ" if path in doubtful else "ENOENT"
                        said = looked_up(world.at(instant, path))
                        if is_doubtful and said == "ENOTUNIQ":
                            wanted = said  # with the suffix of a dataset that isn't meant, it is as true
                        asked, unique = asked + 1, unique + (path in files)
                        if said != wanted:
                            wrong[instant, path] = (said, wanted)
    assert not wrong, f"{len(wrong)} of {asked}: {list(wrong.items())[:8]}"
    assert unique > 100


def names_for(world: World, collection: str, name: str, key: tuple[Any, ...]) -> set[bytes]:
    """The paths that files of a data ID may have in a collection of calibs-at, whichever holds."""
    c = world.calibrations
    uuids = {r.uuid for m in c.paths[collection] for r in c.rows.get((m, name), []) if r.key == key}
    uuids |= {p[key] for m in c.paths[collection] if key in (p := c.plain.get((m, name), {}))}
    return {path for uuid in uuids for path in c.names(collection, name, uuid)}


def looked_up(path: bytes) -> bytes | str:
    try:
        os.stat(path)
    except OSError as e:
        return errno.errorcode[e.errno]
    return xattr(path, "uuid") or b""


def test_the_whole_of_each_collection_is_what_holds_at_random_instants_and_nothing_else(world):
    for number, ns in enumerate(world.rng.sample(world.instants(), min(16, len(world.instants())))):
        instant = spelled(ns, number)
        for collection in world.rng.sample(world.holders(), 5):
            files, _ = world.calibrations.at(ns, ns + 1, collection)
            wanted = {p: f.uuid.encode() for p, f in files.items()}
            found: dict[bytes, bytes] = {}
            for base in calibration_folders(world, collection):
                found.update(found_in(world, instant, base))
            assert found.keys() == wanted.keys(), (instant, collection, differences(set(found), set(wanted)))
            assert found == wanted, (instant, collection)


def test_what_holds_has_the_bytes_and_the_inode_it_has_everywhere(world):
    ns = world.rng.choice(world.instants())
    inode_of = {f.key(): p for p, f in world.tree.files.items()}
    done = 0
    for collection in world.holders():
        files, _ = world.calibrations.at(ns, ns + 1, collection)
        for path, file in world.rng.sample(sorted(files.items()), min(6, len(files))):
            at = world.at(spelled(ns, 0), path)
            assert os.stat(at).st_ino == os.stat(world.mount.at(inode_of[file.key()])).st_ino
            content = file.content()
            if content is None:
                assert fails(open, at, "rb") == "EREMOTEIO"
            else:
                with open(at, "rb") as f:
                    assert f.read() == content
            done += 1
    assert done > 20


def test_all_spellings_of_an_instant_are_that_instant_to_the_nanosecond(world):
    row = next(r for r in world.calibrations.rows["k/leap", "bias"] if r.begin_ns != OPEN_BEGIN_NS)
    instants = [row.begin_ns, *(t for t in world.rng.sample(world.instants(), 12) if t > UTC_BEGINS_NS)]
    for ns in instants:
        seen = set()
        for number in range(10):
            base = b"k/leap/bias" if ns == row.begin_ns else b"HSC/calib/bias"
            seen.add(tuple(sorted(found_in(world, spelled(ns, number), base).items())))
        assert len(seen) == 1, ns


def test_a_leap_second_is_a_second(world):
    """The last second of 2016 in UTC is 23:59:60."""
    rows = sorted(world.calibrations.rows["k/leap", "bias"], key=lambda r: r.begin_ns)
    spelt = [b"2016-12-31T23:59:58.999999999", b"2016-12-31T23:59:59", b"2016-12-31T23:59:60", b"2016-12-31T23:59:60.999999999Z", b"2017-01-01T00:00:00"]
    seen = [set(found_in(world, s, b"k/leap/bias").values()) for s in spelt]
    assert seen == [{rows[k].uuid.encode()} for k in (0, 1, 2, 2, 3)]
    # As astropy says.
    for s, k in zip(spelt, (0, 1, 2, 2, 3), strict=True):
        ns = astropy.time.Time(s.decode().rstrip("Z"), scale="utc").tai
        assert abs((ns - to_time(max(rows[k].begin_ns, 1))).sec) >= 0
        assert rows[k].begin_ns <= round(ns.to_value("unix_tai", "decimal") * 10**9) < rows[k].end_ns


@pytest.mark.parametrize("world", ["file", "postgres"], indirect=True)  # where a span is two columns, and one
@pytest.mark.parametrize("element", ["visit", "exposure"])
def test_a_visit_or_exposure_stands_for_its_time_matched_by_overlap(world, element):
    from lsst.daf.butler import Timespan

    done = unknown = 0
    with reftree.Client(world.repo.root) as client:
        records = [r for i in ("HSC", "LSSTComCam", "N/A", "e\u0301") for r in client.butler.query_dimension_records(element, instrument=i)]
        for record in world.rng.sample(records, 40):
            name = b"%s,%s,%d" % (element.encode(), escape_value(record.instrument), record.id)
            span: Timespan | None = record.timespan
            if span is None:
                assert fails(os.stat, world.at(name)) == "ENOENT"
                unknown += 1
                continue
            for collection in world.rng.sample(world.holders(), 2):
                files, doubtful = world.calibrations.at(*span.nsec, collection)
                found: dict[bytes, bytes] = {}
                for base in calibration_folders(world, collection):
                    found.update(found_in(world, name, base))
                wanted = {p: f.uuid.encode() for p, f in files.items()}
                assert found == wanted, (name, collection, differences(set(found), set(wanted)))
                for path in list(doubtful)[:5]:
                    assert looked_up(world.at(name, path)) == "ENOTUNIQ", (name, path)
                done += 1
            # ... and as the client itself says, of one data ID.
            (row,) = world.rng.sample(world.calibrations.rows["HSC/calib", "bias"], 1)
            data_id = {"instrument": row.key[0], "detector": row.key[1]}
            said = client_says(client, "bias", data_id, "HSC/calib", span)
            assert said == verdict(world, "HSC/calib", "bias", row.key, *span.nsec)
    assert done > 30 and unknown > 0


def test_what_is_no_instant_is_enoent(world):
    for name in (b"now", b"2024", b"2024-13-01", b"2024-02-30", b"2024-05-01T25:00:00", b"2024-05-01T00:00:61", b"2015-12-31T23:59:60",
                 b"visit,HSC", b"visit,HSC,", b"visit,HSC,1", b"visit,Nobody,2024010100001", b"visit,HSC,x", b"detector,HSC,1",
                 b"2024-05-01T00:00:00TAI TAI", b"2024-05-01T00:00:00ZTAI", b"x2024-05-01", b"@", b"%"):  # fmt: skip
        assert fails(os.stat, world.at(name)) == "ENOENT", name


def test_before_1970_is_1970_and_after_2099_nothing_is_valid(world):
    first, _ = world.calibrations.at(0, 1, "k/ever", "bias")
    for name in (b"1969-12-31T00:00:00TAI", b"1970-01-01T00:00:00TAI", b"2099-12-31T23:59:59TAI"):
        assert set(found_in(world, name, b"k/ever/bias")) == set(first) != set()
    assert not found_in(world, b"2100-01-01T00:00:01TAI", b"k/ever/bias")


def test_ranges_are_names_below_collections_only_and_plain_names_below_calibs_at_only(world):
    with_range = [p for p in world.tree.files if b"/bias_HSC_" in p and b"@" in p]
    assert len(with_range) > 20
    for path in world.rng.sample(with_range, 20):
        assert fails(os.stat, world.at(b"2024-05-01", path.removeprefix(b"collections/"))) == "ENOENT"
        plain = path[: path.rindex(b"@")] + world.tree.files[path].suffix()
        if plain not in world.tree.files:
            assert fails(os.stat, world.mount.at(plain)) == "ENOENT"
        for nearly in (b"@20240101T000000--", b"@--", b"@", b"@2024-01-01T00:00:00--", b"@empty"):
            other = path[: path.rindex(b"@")] + nearly + world.tree.files[path].suffix()
            if other not in world.tree.files:
                assert fails(os.stat, world.mount.at(other)) == "ENOENT", other


def test_other_dataset_types_are_the_same_there(world):
    for base in (b"u/alice/run1/calexp", b"c/reversed/detInfo", b"parts/chain/metric", b"zip/groupPlan"):
        here = {p: st.st_ino for p, st in mounting.walk(world.mount.at(b"collections/" + base)).items() if stat.S_ISREG(st.st_mode)}
        there = {p: st.st_ino for p, st in mounting.walk(world.at(b"2024-05-01", base)).items() if stat.S_ISREG(st.st_mode)}
        assert here == there and len(here) > 3
