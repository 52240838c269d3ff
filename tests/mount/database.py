# SPDX-License-Identifier: BSD-3-Clause
"""A repository's database, for what tests do to it behind the client's back: SQLite or PostgreSQL, by one door."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lsst.daf.butler import ButlerConfig


class Database:
    """Statements have `?` for parameters, and no other question mark."""

    def __init__(self, db: Any, is_postgres: bool):
        self.db, self.is_postgres = db, is_postgres

    def execute(self, sql: str, values: Any = ()) -> Any:
        cursor = self.db.cursor()
        cursor.execute(sql.replace("%", "%%").replace("?", "%s") if self.is_postgres else sql, tuple(values))
        return cursor

    def columns(self, table: str) -> list[str]:
        return [c[0] for c in self.execute(f'SELECT * FROM "{table}" LIMIT 0').description]

    def begin_and_end(self, alias: str) -> str:
        """The two ends of the timespan of a calibs table's row, as integers."""
        if not self.is_postgres:
            return f"{alias}.timespan_begin, {alias}.timespan_end"
        first, last = 0, 4102444800000000000
        return (f"CASE WHEN isempty({alias}.timespan) THEN {last} ELSE coalesce(lower({alias}.timespan), {first}) END,"
                f" CASE WHEN isempty({alias}.timespan) THEN {first} ELSE coalesce(upper({alias}.timespan), {last}) END")  # fmt: skip


@contextmanager
def connect(config: str | Path) -> Iterator[Database]:
    """`config`: a butler.yaml, or its folder. Committed at the end."""
    at = Path(config)
    at = at / "butler.yaml" if at.is_dir() else at
    registry = ButlerConfig(str(at))["registry"]  # it may be in pieces, that only the client puts together
    if registry["db"].startswith("sqlite:///"):
        db: Any = sqlite3.connect(registry["db"].removeprefix("sqlite:///").replace("<butlerRoot>", str(at.parent)), timeout=20)
    else:
        import psycopg2
        from lsst.utils.db_auth import DbAuth

        db = psycopg2.connect(DbAuth().getUrl(registry["db"]).replace("+psycopg2", ""))
        if "namespace" in registry:
            with db.cursor() as cursor:
                cursor.execute(f"SET search_path = {registry['namespace']}")
    try:
        yield Database(db, not isinstance(db, sqlite3.Connection))
        db.commit()
    finally:
        db.close()
