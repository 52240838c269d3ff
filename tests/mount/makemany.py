# SPDX-License-Identifier: BSD-3-Clause
"""A repository in PostgreSQL with many datasets of one type, `calexp` (instrument, visit, detector): one by the client, the others by SQL,
in the order in which they would have come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import makerepo
import pgserver


def make(out: Path, server: Any, database: str, datasets: int, collections: int, detectors: int = 100, per_night: int = 500,
         small_runs: int = 200) -> makerepo.Repository:  # fmt: skip
    """Nine tenths of the datasets are in `big/run`, the rest in small ones; besides there are `collections` collections with nothing in them."""
    server.create(database)
    repo = makerepo.make_one(out, detectors, {"db": server.url(database), "namespace": "registry"})
    with server.connect(database, pgserver.OWNER) as db, db.cursor() as sql:
        def run(text: str, *values: Any) -> list[Any]:
            sql.execute(text, values or None)
            return sql.fetchall() if sql.description else []

        run("SET search_path = registry; SET maintenance_work_mem = '512MB'; SET work_mem = '256MB'; SET synchronous_commit = off")
        ((tags,),) = run("SELECT tag_association_table FROM dataset_type WHERE name = 'calexp'")
        big = (tags, "dataset", "file_datastore_records", "dataset_location")
        indexes = run("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'registry' AND tablename = ANY(%s) AND indexdef NOT LIKE 'CREATE UNIQUE%%'",
                      list(big))  # fmt: skip
        for name, _ in indexes:
            run(f'DROP INDEX registry."{name}"')
        triggers = [t for t in big]
        for t in triggers: # the keys' checks, row by row
            server.execute(database, f"ALTER TABLE registry.{t} DISABLE TRIGGER ALL")
        ((run_id,),) = run("SELECT collection_id FROM collection WHERE name = 'big/run'")
        ((type_id,),) = run("SELECT id FROM dataset_type WHERE name = 'calexp'")
        ((path, size, formatter, storage, component),) = run("SELECT path, file_size, formatter, storage_class, component FROM file_datastore_records")
        ((store,),) = run("SELECT datastore_name FROM dataset_location")
        ((top,),) = run("SELECT max(collection_id) FROM collection")
        run(f"INSERT INTO collection (collection_id, name, type, doc) SELECT {top} + k, 'small/run' || k, 1, NULL FROM generate_series(1, {small_runs}) k")
        run(f"INSERT INTO run (collection_id) SELECT {top} + k FROM generate_series(1, {small_runs}) k")
        run(f"INSERT INTO collection_summary_dataset_type SELECT {top} + k, {type_id} FROM generate_series(1, {small_runs}) k")
        run(f"INSERT INTO collection_summary_instrument SELECT {top} + k, 'LSSTCam' FROM generate_series(1, {small_runs}) k")
        top += small_runs
        run(f"INSERT INTO collection (collection_id, name, type, doc) SELECT {top} + k, 'u/user' || k %% 500 || '/c' || k, 2, NULL FROM generate_series(1, %s) k",
            collections)  # fmt: skip
        visits = -(-datasets // detectors)
        in_big = int(visits * 0.9)
        nights = -(-visits // per_night)
        run("CREATE TEMP TABLE v AS SELECT k, (to_char(date '2015-01-01' + (k / %s), 'YYYYMMDD'))::bigint AS day FROM generate_series(0, %s) k", per_night, visits - 1)
        run("INSERT INTO day_obs (instrument, id) SELECT DISTINCT 'LSSTCam', day FROM v ON CONFLICT DO NOTHING")
        run("INSERT INTO visit (instrument, id, day_obs, physical_filter, name) SELECT 'LSSTCam', day * 100000 + k, day, 'r_03', 'W' || k FROM v")
        for begin in range(0, visits, 5000):
            run(f"CREATE TEMP TABLE d AS SELECT gen_random_uuid() AS id, day * 100000 + k AS visit, n AS detector,"
                f" CASE WHEN k < {in_big} THEN {run_id} ELSE {top - small_runs} + 1 + k % {small_runs} END AS run"
                f" FROM v, generate_series(0, {detectors - 1}) n WHERE k >= {begin} AND k < {begin + 5000} ORDER BY k, n")  # fmt: skip
            run(f"INSERT INTO dataset (id, dataset_type_id, ingest_date, run_id) SELECT id, {type_id}, 1700000000000000000, run FROM d")
            run(f"INSERT INTO {tags} (dataset_type_id, dataset_id, collection_id, instrument, detector, visit) SELECT {type_id}, id, run, 'LSSTCam', detector, visit FROM d")
            run("INSERT INTO file_datastore_records (dataset_id, path, formatter, storage_class, component, checksum, file_size)"
                " SELECT id, %s, %s, %s, %s, NULL, %s FROM d", path, formatter, storage, component, size)  # fmt: skip
            run("INSERT INTO dataset_location (datastore_name, dataset_id) SELECT %s, id FROM d", store)
            run("DROP TABLE d")
        for _, definition in indexes:
            run(definition)
        for t in triggers:
            server.execute(database, f"ALTER TABLE registry.{t} ENABLE TRIGGER ALL")
        server.execute(database, "VACUUM ANALYZE")
    print(f"# {datasets} datasets, {visits} visits in {nights} nights, {collections + small_runs} collections")
    return repo
