# SPDX-License-Identifier: BSD-3-Clause
"""What makerepo puts into a repository of calibrations: certified with validity ranges of every kind.

Ranges that touch, that leave gaps, that are open, that have fractions of a second; a dataset with several
ranges; two datasets with one range, which the client refuses to choose from; ranges that overlap in part
(only another tool makes those, so SQL does); an empty range. And chains in which the collections that hold
them stand before, between and behind RUN and TAGGED collections that hold the same dataset types.
"""

from __future__ import annotations

import datetime
from typing import Any

import database

import makeparts

DAY_NS = 86400 * 10**9
SECOND_NS = 10**9
LEAP_NS = 1483228836 * SECOND_NS
NEW_YEAR_NS = int((datetime.datetime(2024, 1, 1) - datetime.datetime(1970, 1, 1)).total_seconds()) * SECOND_NS

TYPES = {
    "bias": ["instrument", "detector"],
    "camCalib": ["instrument"],
    "globalCalib": [],
    "groupCalib": ["instrument", "group"],
    "visitCalib": ["instrument", "visit"],
    "skyCalib": ["htm7"],
}
COMPOSITE = "metricCalib"  # (instrument, detector), in several files
COLLECTIONS = ["HSC/calib", "HSC/calib/gen3", "k/cal1", "k/cal2", "k/cal3"]
NASTY_COLLECTIONS = ["k/new\nline", "k/=@c/..", "k/" + "v" * 270, "bias/bias_x"]


def timespan(begin_ns: int, end_ns: int) -> Any:
    from lsst.daf.butler import Timespan

    return Timespan(None, None, _nsec=(begin_ns, end_ns))


def unbounded() -> tuple[int, int]:
    from lsst.daf.butler import Timespan

    return Timespan(None, None).nsec


def of_visit(rng: Any, day: int, number: int) -> Any:
    """When a visit or exposure was: some seconds of that day, or nobody knows."""
    if number % 7 == 3:
        return None
    midnight = datetime.datetime.strptime(str(day), "%Y%m%d") - datetime.datetime(1970, 1, 1)
    begin = int(midnight.total_seconds()) * SECOND_NS + rng.randrange(DAY_NS // SECOND_NS) * SECOND_NS
    # Two visits of the same second, whole seconds and nanoseconds, and one that is an instant.
    return timespan(begin, begin + rng.choice([1, 30 * SECOND_NS, 15 * SECOND_NS + 123456789, 2 * DAY_NS]))


def moment(maker: Any) -> int:
    rng = maker.rng
    whole = NEW_YEAR_NS + rng.randrange(-400, 500) * DAY_NS
    return whole + rng.choice([0, 0, 3600 * SECOND_NS, 1, 120_000_000, 999_999_999, 86399 * SECOND_NS + 999_999_990, 12345 * SECOND_NS + 500_000_000])


def ranges(maker: Any, count: int) -> list[tuple[int, int]]:
    """`count` ranges that don't overlap; most touch, some leave a gap; the outer ends are open now and then."""
    rng = maker.rng
    open_begin, open_end = unbounded()
    cuts = sorted({moment(maker) for _ in range(count + 1)} | {moment(maker)})
    if rng.random() < 0.4:
        cuts[0] = open_begin
    if rng.random() < 0.4:
        cuts[-1] = open_end
    found = list(zip(cuts, cuts[1:], strict=False))
    gap = rng.randrange(len(found)) if rng.random() < 0.5 and len(found) > 1 else None
    return [r for k, r in enumerate(found) if k != gap]


def _visit_refs(maker: Any, run: str, instrument: str) -> list[Any]:
    return [maker.ref("visitCalib", run, instrument=instrument, visit=v) for v in maker.visits[instrument][:2]]


def _types(maker: Any) -> dict[str, list[str]]:
    return {**TYPES, maker.long_calib: ["instrument", "detector"]}


def _datasets(maker: Any, runs: list[str]) -> None:
    names = ["b.fits", "b.fits.fz", "b.ecsv", "none"]
    instruments = ["HSC", *([".."] if maker.nasty else [])]
    groups = maker.groups[::16] if maker.nasty else maker.groups[:2]
    for number, run in enumerate(runs):
        maker.run(run)
        refs = []
        for i in instruments:
            refs += [maker.ref(t, run, instrument=i, detector=d) for t in ("bias", maker.long_calib) for d in range(3)]
            refs += [maker.ref("camCalib", run, instrument=i), *_visit_refs(maker, run, i)]
            refs += [maker.ref("groupCalib", run, instrument=i, group=g) for g in groups]
            refs += [maker.ref("flat", run, instrument=i, physical_filter=f, detector=0) for f, _ in maker.filters[::3]]
        refs += [maker.ref("globalCalib", run)] + [maker.ref("skyCalib", run, htm7=131072 + k) for k in range(2)]
        maker.ingest([(r, names[(number + k) % len(names)]) for k, r in enumerate(refs)])
        with maker.butler.transaction():
            for d in range(2):
                maker.butler.put(makeparts.metrics(d + 10 * number), COMPOSITE, run=run, instrument="HSC", detector=d)


def _certify(maker: Any, collections: list[str], runs: list[str]) -> None:
    certify, rng = maker.registry.certify, maker.rng
    of_type = {t: [maker.refs_of(t, run) for run in runs] for t in (*_types(maker), COMPOSITE, "flat")}
    for number, collection in enumerate(collections):
        for t, by_run in of_type.items():
            if number and rng.random() < 0.3:
                continue  # not every collection has every type
            spans = ranges(maker, 1 + (number + len(t)) % 4)
            for k, span in enumerate(spans):
                refs = by_run[(k + number) % len(runs)]
                if k == 0:
                    refs = rng.sample(refs, (len(refs) + 1) // 2)
                elif k == len(spans) - 1 and len(spans) > 2:
                    refs = by_run[number % len(runs)]  # the same datasets as those of the first range
                if k == 1:
                    # Two datasets with one data ID and one range, in one go: the client asks nothing.
                    refs = refs + by_run[(k + number + 1) % len(runs)][:1]
                certify(collection, refs, timespan(*span))
    # Of the last collection: what holds for ever, and at no time.
    ever = maker.refs_of("bias", runs[2])[:1]
    certify("k/ever", ever, timespan(*unbounded()))
    certify("k/never", maker.refs_of("bias", runs[1])[:2], _empty())
    # About the last leap second: 2016-12-31T23:59:60 UTC is 2017-01-01T00:00:36 TAI.
    cuts = [0, LEAP_NS - SECOND_NS, LEAP_NS, LEAP_NS + SECOND_NS, LEAP_NS + 2 * SECOND_NS]
    for k, span in enumerate(zip(cuts, cuts[1:], strict=False)):
        certify("k/leap", maker.refs_of("bias", runs[k % len(runs)])[1:2], timespan(*span))


def _empty() -> Any:
    from lsst.daf.butler import Timespan

    return Timespan.makeEmpty()


def _kind(name: str) -> Any:
    from lsst.daf.butler import CollectionType

    return CollectionType[name]


def calibrations(maker: Any) -> None:
    for name, dimensions in _types(maker).items():
        maker.type(name, dimensions, calibration=True)
    maker.type(COMPOSITE, ["instrument", "detector"], "Metrics", calibration=True)
    runs = ["HSC/calib/run1", "HSC/calib/run2", "k/run3"]
    _datasets(maker, runs)
    register = maker.butler.collections.register
    collections = COLLECTIONS + (NASTY_COLLECTIONS if maker.nasty else [])
    for name in collections:
        register(name, _kind("CALIBRATION"))
    for name in ("k/empty", "k/ever", "k/never", "k/leap"):
        register(name, _kind("CALIBRATION"))
    with maker.butler.transaction():
        _certify(maker, collections, runs)
    register("k/tag", _kind("TAGGED"))
    maker.registry.associate("k/tag", [r for t in ("bias", "camCalib", COMPOSITE) for r in maker.refs_of(t, runs[1])[::2]])
    chains = {
        "k/c/calfirst": ["k/cal1", runs[0]],
        "k/c/runfirst": [runs[1], "k/cal1"],
        "k/c/tagfirst": ["k/tag", "HSC/calib", runs[0]],
        "k/c/two": ["k/cal2", "k/empty", "k/cal1"],
        "k/c/between": ["k/cal3", "k/tag", "k/cal2", runs[2], "HSC/calib"],
        "k/c/ofchains": ["k/c/two", "k/never", "k/c/tagfirst"],
        "k": ["k/ever", "k/c/between"],
        "HSC/defaults": ["LSSTComCam/raw/all", "HSC/calib", "HSC/calib/gen3", "c"],
    }
    if maker.nasty:
        chains["k/n/\t.."] = [NASTY_COLLECTIONS[0], "k/c/calfirst", *NASTY_COLLECTIONS[1:]]
    for name, children in chains.items():
        register(name, _kind("CHAINED"))
        maker.butler.collections.redefine_chain(name, children)
    # A calibration that is not stored, and one whose artifact is gone.
    biases = maker.refs_of("bias", runs[0])
    maker.butler.pruneDatasets(biases[:1], disassociate=False, unstore=True)
    gone = maker.repo.elsewhere.rglob("b.ecsv")
    next(iter(sorted(gone))).unlink()


def overlaps(maker: Any) -> None:
    """Rows that only another tool makes: ranges that overlap in part, a row that stands twice."""
    with database.connect(maker.repo.root) as db:
        (table,) = db.execute("SELECT calibration_association_table FROM dataset_type WHERE name = 'bias'").fetchone()
        columns = [c for c in db.columns(table) if c != "id"]
        ends = "upper(timespan)" if db.is_postgres else "timespan_end"
        rows = db.execute(
            f"SELECT id FROM {table} JOIN collection USING (collection_id)"
            f" WHERE name IN ('k/cal1', 'k/cal2', 'HSC/calib') AND {ends} < 4102444800000000000 ORDER BY id"
        ).fetchall()
        chosen = maker.rng.sample([i for (i,) in rows], min(4, len(rows)))
        longer = "timespan = int8range(lower(timespan), upper(timespan) + ?)" if db.is_postgres else "timespan_end = timespan_end + ?"
        for k, i in enumerate(chosen[:-1]):
            db.execute(f"UPDATE {table} SET {longer} WHERE id = ?", (DAY_NS + k, i))
        names = ", ".join(f'"{c}"' for c in columns)
        number = f"nextval('{table}_seq_id')" if db.is_postgres else f"(SELECT max(id) + 1 FROM {table})"
        db.execute(f"INSERT INTO {table} (id, {names}) SELECT {number}, {names} FROM {table} WHERE id = ?", chosen[-1:])
