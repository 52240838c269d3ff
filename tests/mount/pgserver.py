# SPDX-License-Identifier: BSD-3-Clause
"""A real PostgreSQL server for tests, in a folder of its own, as an unprivileged user.

Text is sorted as people sort it (ICU, en-US), not by bytes: whoever takes one order for the other is found out.
Logins are by password, from a db-auth.yaml, as at a facility: `butler` owns the tables, `reader` may read them.
"""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2

OWNER, READER = "butler", "reader"
PASSWORDS = {"postgres": "of-tests-only", OWNER: "owner:of/tests@only", READER: "reader-of-tests"}


def program(name: str) -> str:
    """Debian keeps the server's programs out of the path."""
    found = shutil.which(name) or next(iter(sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), reverse=True)), None)
    assert found, f"{name} is not installed (tools/deps --test: postgresql)"
    return os.path.realpath(found)


def _user() -> dict[str, Any]:
    """The server refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise AssertionError("there is neither a user postgres nor nobody")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class PostgresServer:
    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder, self.port = folder, free_port()
        self.settings = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": folder, "fsync": "off",
            "full_page_writes": "off", "synchronous_commit": "off", "max_connections": 60, "shared_buffers": "64MB",
            "jit": "off", "autovacuum": "off", "shared_preload_libraries": "pg_stat_statements", **settings,
        }  # fmt: skip
        self._as = _user()
        self.logins = folder / "db-auth.yaml"
        if (folder / "data").exists(): # kept from another time
            self.start()
            return
        folder.mkdir()
        folder.chmod(0o755)
        if self._as:
            os.chown(folder, self._as["user"], self._as["group"])
        password = folder / "password"
        password.write_text(PASSWORDS["postgres"])
        password.chmod(0o644)
        self._run(program("initdb"), "-D", folder / "data", "-U", "postgres", "-A", "scram-sha-256", "--pwfile", password,
                  "-E", "UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US", "--no-sync")  # fmt: skip
        self.start()
        for name in (OWNER, READER):
            self.execute("postgres", f"CREATE ROLE {name} LOGIN PASSWORD %s", PASSWORDS[name])
        self.execute("postgres", f"ALTER ROLE {OWNER} CREATEDB")

    def _run(self, *command: Any) -> str:
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True, cwd=self.folder,
                              env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}, **self._as)  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stderr or done.stdout}"
        return done.stdout

    def start(self) -> None:
        said = " ".join(f"-c {k}='{v}'" for k, v in self.settings.items())
        self._run(program("pg_ctl"), "-D", self.folder / "data", "-l", self.folder / "log", "-w", "-o", said, "start")

    def stop(self, how: str = "fast") -> None:
        self._run(program("pg_ctl"), "-D", self.folder / "data", "-m", how, "-w", "stop")

    def keep_file(self, path: Path) -> None:
        """A copy in its data folder that only it can read."""
        to = self.folder / "data" / path.name
        shutil.copyfile(path, to)
        to.chmod(0o600)
        if self._as:
            os.chown(to, self._as["user"], self._as["group"])

    def is_running(self) -> bool:
        return (self.folder / "data/postmaster.pid").exists() and self._answers()

    def _answers(self) -> bool:
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def restart(self) -> None:
        self.stop()
        self.start()

    def standby(self, folder: Path) -> PostgresServer:
        """A read-only copy that follows this one, promoted by `promote`."""
        copy = object.__new__(PostgresServer)
        copy.folder, copy.port, copy._as = folder, free_port(), self._as
        copy.settings = {**self.settings, "port": copy.port, "unix_socket_directories": folder}
        copy.logins = self.logins
        folder.mkdir()
        if self._as:
            os.chown(folder, self._as["user"], self._as["group"])
        said = f"host={self.folder} port={self.port} user=postgres password={PASSWORDS['postgres']}"
        self._run(Path(program("pg_ctl")).with_name("pg_basebackup"), "-D", folder / "data", "-R", "-X", "stream", "-c", "fast", "--no-sync", "-d", said)
        copy.start()
        return copy

    def promote(self) -> None:
        self._run(program("pg_ctl"), "-D", self.folder / "data", "-w", "promote")

    # -------------------------------------------------------------------------------- for clients

    def url(self, database: str, user: str | None = None, port: int | None = None) -> str:
        """By default without a user: the logins tell."""
        who = f"{user}@" if user else ""
        return f"postgresql+psycopg2://{who}127.0.0.1:{port or self.port}/{database}"

    def write_logins(self, to: Path, user: str = OWNER, password: str | None = None) -> Path:
        """A db-auth.yaml that logs in as `user`."""
        to.write_text(
            "- url: postgresql://*.example/x\n  username: nobody\n  password: none\n"
            f"- url: postgresql://127.0.0.*\n  username: {user}\n  password: {password or PASSWORDS[user]!r}\n"
        )
        to.chmod(0o600)
        return to

    @contextmanager
    def connect(self, database: str = "postgres", user: str = "postgres") -> Iterator[Any]:
        db = psycopg2.connect(host="127.0.0.1", port=self.port, user=user, password=PASSWORDS[user], dbname=database)
        try:
            db.autocommit = True
            yield db
        finally:
            db.close()

    def execute(self, database: str, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.connect(database) as db, db.cursor() as cursor:
            cursor.execute(sql, values or None)
            return cursor.fetchall() if cursor.description else []

    def create(self, database: str, template: str | None = None) -> None:
        self.execute("postgres", f"CREATE DATABASE {database} OWNER {OWNER}" + (f" TEMPLATE {template}" if template else ""))
        for extension in ("btree_gist", "pg_stat_statements"): # the client asks for the first, tests count by the other
            self.execute(database, f"CREATE EXTENSION IF NOT EXISTS {extension}")
        for what, right in (("TABLES", "SELECT"), ("SCHEMAS", "USAGE")):
            self.execute(database, f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} GRANT {right} ON {what} TO {READER}")
