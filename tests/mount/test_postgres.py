# SPDX-License-Identifier: BSD-3-Clause
"""What a mount asks of PostgreSQL: how many statements, along which indexes, and that nothing is kept in a session."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import database
import mounting
import pgserver
import pytest
import reftree

RUN1 = "collections/u/alice/run1"
# What is asked of tables, without what begins and ends a connection or a transaction, and the look whether anything has changed.
FRAME = re.compile(r".*FROM (pg_catalog.pg_class AS c WHERE|\"registry\".\"butler_attributes\" WHERE name LIKE)|BEGIN|COMMIT|ROLLBACK|SELECT pg_catalog\.(set_config|txid_current_snapshot)|SELECT \$1$|SELECT 1$")


class Served:
    """A mounted repository and its server."""

    def __init__(self, repo: Any, server: Any, mount: Any):
        self.repo, self.server, self.mount = repo, server, mount
        self.database = repo.root.parent.name
        self.tree = reftree.expected(repo.root)
        self.m = mount(repo, refresh="1h")

    def statements(self) -> list[tuple[str, int]]:
        """Those of the mount since the last call."""
        rows = self.server.execute(
            self.database,
            "SELECT query, calls FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid JOIN pg_roles r ON r.oid = s.userid"
            " WHERE d.datname = %s AND r.rolname = 'reader'", self.database)  # fmt: skip
        self.server.execute(self.database, "SELECT pg_stat_statements_reset()")
        return [(q, n) for q, n in rows if not FRAME.match(q)]

    def count(self) -> int:
        return sum(n for _, n in self.statements())

    def folders_of_files(self, pattern: bytes) -> list[bytes]:
        """Folders whose entries are files, by a pattern of their path."""
        files = {p.rpartition(b"/")[0] for p in self.tree.files}
        return sorted(p for p in files if re.search(pattern, p) and not p.endswith(b".components"))


@pytest.fixture(scope="module")
def served(place, repository, module_mount, postgres, request):
    import shutil as sh

    import makerepo

    original = repository(seed=7, datasets=300, nasty=False, on="postgres")
    at = place / "counted"
    sh.copytree(original.root.parent, at, symlinks=True)
    postgres.create("counted", template=original.root.parent.name)
    yaml = at / "repo/butler.yaml"
    yaml.write_text(yaml.read_text().replace(postgres.url(original.root.parent.name), postgres.url("counted")))
    return Served(makerepo.Repository(at / "repo", original.elsewhere, original.seed), postgres, module_mount)


@pytest.fixture
def fresh(served, mount):
    """A mount that knows nothing but collections and dataset types."""
    served.m = mount(served.repo, refresh="1h")
    served.statements()
    return served


VISIT = rb"^collections/u/alice/run1/calexp/instrument=LSSTComCam/day_obs=\d+/visit=\d+$"


def two_of_a_day(served: Served) -> list[bytes]:
    by_day: dict[bytes, list[bytes]] = {}
    for f in served.folders_of_files(VISIT):
        by_day.setdefault(f.rpartition(b"/")[0], []).append(f)
    return max(by_day.values(), key=len)[:2]


def test_a_known_path_is_two_statements_once_the_folders_above_its_visit_are_known(fresh):
    first, second = two_of_a_day(fresh)
    for folder, most in ((first, 5), (second, 2)):
        path = next(p for p in fresh.tree.files if p.startswith(folder + b"/"))
        os.stat(fresh.m.at(path))
        asked = fresh.statements()
        assert sum(n for _, n in asked) <= most, asked
        os.stat(fresh.m.at(path))
        assert fresh.count() == 0


def test_a_visit_s_folder_is_listed_by_three_statements_and_nothing_else_of_its_set_is_read(fresh):
    first, other = two_of_a_day(fresh)
    os.listdir(fresh.m.at(first))
    fresh.statements()
    assert sorted(os.listdir(fresh.m.at(other))) == sorted(p.rpartition(b"/")[2] for p in fresh.tree.files if p.startswith(other + b"/"))
    asked = fresh.statements()
    assert 1 <= sum(n for _, n in asked) <= 3, asked
    os.listdir(fresh.m.at(other))
    for name in os.listdir(fresh.m.at(other)):
        os.stat(fresh.m.at(other) + b"/" + name)
    assert fresh.count() == 0
    assert fresh.m.counters()["set_loads"] == 0


def test_every_folder_of_files_lists_the_same_when_nothing_else_is_known(served, mount):
    """Each by itself, in no order: chains and tags too. Many are read by their own rows only."""
    folders = served.folders_of_files(rb"^collections/.*/[a-z_0-9]+=")
    wanted: dict[bytes, set[bytes]] = {f: set() for f in folders}
    for p in (*served.tree.files, *reftree.all_folders(served.tree)):
        if p.rpartition(b"/")[0] in wanted:
            wanted[p.rpartition(b"/")[0]].add(p.rpartition(b"/")[2])
    m = mount(served.repo, refresh="1h")
    served.statements()
    wrong = {}
    for f in sorted(folders, key=lambda f: hash(f)):
        got = set(os.listdir(m.at(f)))
        if got != wanted[f]:
            wrong[f] = (got - wanted[f], wanted[f] - got)
    assert not wrong, list(wrong.items())[:5]
    parts = sum(n for q, n in served.statements() if "array_position" in q)
    assert len(folders) > 200 and parts > 100, (len(folders), parts)


def test_those_who_ask_for_one_thing_at_a_time_wait_for_one_statement(fresh):
    folder = fresh.folders_of_files(VISIT)[-1]
    path = fresh.m.at(next(p for p in fresh.tree.files if p.startswith(folder + b"/")))
    os.stat(os.path.dirname(path))
    fresh.statements()
    askers = [threading.Thread(target=os.stat, args=(path,)) for _ in range(16)]
    for a in askers:
        a.start()
    for a in askers:
        a.join()
    assert fresh.count() <= 2


def test_all_is_asked_in_transactions_that_read_only_and_whose_statements_have_a_time_limit(fresh):
    """But for the look whether anything has changed, which is one statement."""
    mounting.walk(fresh.m.at(RUN1.encode()))
    mounting.eventually(lambda: served_idle(fresh.server), mounting.SLACK)
    rows = dict(fresh.server.execute(fresh.database, "SELECT query, calls FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid WHERE rolname = 'reader' AND dbid = (SELECT oid FROM pg_database WHERE datname = %s)", fresh.database))
    begun = sum(n for q, n in rows.items() if q == "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    limited = sum(n for q, n in rows.items() if q.startswith("SELECT pg_catalog.set_config(")) # constants are left out: statement_timeout, for one
    assert begun > 10 and not [q for q in rows if q.startswith("BEGIN") and "READ ONLY" not in q]
    assert limited >= begun, rows
    asked = [q for q in rows if not re.match(r"BEGIN|COMMIT|SELECT pg_catalog\.(set_config|txid_current_snapshot)", q)]
    assert len(asked) > 5 and all(re.match(r"SELECT|WITH", q) for q in asked), asked


def served_idle(server: Any) -> bool:
    return connections(server, "count(*) FILTER (WHERE state <> 'idle')") == 0


def test_however_many_ask_there_are_as_many_connections_as_librarians_and_one_more(served, mount):
    m = mount(served.repo, librarians=3, refresh="1h")
    ours = f"count(*) FILTER (WHERE datname = '{served.database}' AND backend_start > now() - interval '1 hour' AND application_name = 'butlerfs')"
    before = connections(served.server, ours)
    folders = [m.at(f) for f in served.folders_of_files(rb"^collections/.*/[a-z_0-9]+=")]
    most = []
    askers = [threading.Thread(target=lambda k=k: [os.listdir(f) for f in folders[k::16]]) for k in range(16)]
    for a in askers:
        a.start()
    while any(a.is_alive() for a in askers):
        most.append(connections(served.server, ours))
    for a in askers:
        a.join()
    assert max(most) - before <= 3, (before, most) # librarian/0 has had its own since the mount, as has the first that is asked
    assert max(most) > before


def test_a_quiet_mount_asks_one_small_statement_a_refresh(served, mount):
    m = mount(served.repo, refresh="200ms")
    mounting.eventually(lambda: served.count() == 0, mounting.SLACK)
    before = m.counters()["registry_statements"]
    time.sleep(2)
    asked = m.counters()["registry_statements"] - before
    assert 1 <= asked <= 2 / 0.15 + 2, asked
    assert served.count() == 0


DAEMONS, REFRESH, WATCHED = 10, 1.0, 3.0


def test_ten_daemons_ask_one_statement_each_a_refresh_and_those_of_a_walk_once(served, mount):
    """All that the server runs for them, whatever it is."""
    def calls() -> dict[str, int]:
        rows = served.server.execute(served.database, "SELECT query, sum(calls)::int FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid"
                                     " WHERE rolname = 'reader' GROUP BY 1")  # fmt: skip
        served.server.execute(served.database, "SELECT pg_stat_statements_reset()")
        return dict(rows)

    mounts = [mount(served.repo, refresh=f"{REFRESH:g}s") for _ in range(DAEMONS)]
    walk = lambda: [mounting.walk(m.at(RUN1.encode())) for m in mounts]  # noqa: E731
    seen = walk()
    assert len(seen[0]) > 100 and all(s.keys() == seen[0].keys() for s in seen)
    calls()
    begin = time.monotonic()
    time.sleep(WATCHED)
    idle, took = calls(), time.monotonic() - begin
    assert all("txid_current_snapshot" in q and "FROM" in q for q in idle), idle # and no BEGIN, COMMIT or SET beside it
    assert 0 < sum(idle.values()) <= DAEMONS * (took / (REFRESH * 3 / 4) + 1), idle
    begin = time.monotonic()
    assert [len(s) for s in walk()] == [len(s) for s in seen]
    again, took = calls(), time.monotonic() - begin
    assert all("txid_current_snapshot" in q for q in again), again # what was read is read no more
    assert sum(again.values()) <= DAEMONS * (took / (REFRESH * 3 / 4) + 1)


def test_collections_are_not_read_again_for_a_commit_that_is_not_about_them(served, mount):
    """What is small is compared at the server, by who wrote each row."""
    m = mount(served.repo, refresh="200ms")
    os.stat(m.at(RUN1.encode()))

    def asked_after(*commit: Any) -> str:
        before = m.counters()["registry_changes"]
        served.statements()
        served.server.execute(*commit)
        mounting.eventually(lambda: m.counters()["registry_changes"] > before, mounting.SLACK)
        os.stat(m.at(RUN1.encode()))
        return "\n".join(q for q, _ in served.statements())

    elsewhere = asked_after("postgres", "CREATE TABLE IF NOT EXISTS elsewhere (n int)")
    whole = 'FROM "registry"."collection" ORDER'
    assert "hashtext(xmin" in elsewhere and whole not in elsewhere, elsewhere
    inside = asked_after(served.database, "UPDATE registry.collection SET doc = 'another' WHERE name = 'u/alice/run1'")
    assert "hashtext(xmin" in inside and whole in inside, inside
    assert os.getxattr(m.at(RUN1.encode()), "user.butler.doc") == b"another"


@contextmanager
def written_to(path: Path, text: str, mode: int = 0o600) -> Iterator[Path]:
    path.write_text(text)
    path.chmod(mode)
    yield path
    path.unlink()


@pytest.fixture
def said_otherwise(served):
    """The registry's URL in butler.yaml."""
    yaml = served.repo.root / "butler.yaml"
    before = yaml.read_text()
    direct = served.server.url(served.database)
    assert direct in before
    yield lambda url: yaml.write_text(before.replace(direct, url))
    yaml.write_text(before)


NO_LOGINS = {"LSST_DB_AUTH": "/nonexistent"}


def connections(server: Any, what: str = "count(*)") -> Any:
    return server.execute("postgres", f"SELECT {what} FROM pg_stat_activity LEFT JOIN pg_stat_ssl USING (pid) WHERE usename = 'reader'")[0][0]


def test_a_password_of_a_pgpass_file_will_do(served, said_otherwise, mount, place):
    said_otherwise(served.server.url(served.database, user=pgserver.READER))
    line = f"127.0.0.1:{served.server.port}:*:{pgserver.READER}:{pgserver.PASSWORDS[pgserver.READER]}\n"
    with written_to(place / "pgpass", line) as file:
        m = mount(served.repo, env={**NO_LOGINS, "PGPASSFILE": str(file)})
        assert len(mounting.walk(m.at(RUN1.encode()))) > 100
    with pytest.raises(AssertionError, match="fe_sendauth: no password supplied|password"):
        mount(served.repo, env={**NO_LOGINS, "PGPASSFILE": "/nonexistent"})


def test_a_service_of_a_service_file_will_do(served, said_otherwise, mount, place):
    said_otherwise("postgresql+psycopg2://?service=facility")
    text = (f"[facility]\nhost=127.0.0.1\nport={served.server.port}\ndbname={served.database}\nuser={pgserver.READER}\n"
            f"password={pgserver.PASSWORDS[pgserver.READER]}\napplication_name=by-service\n")  # fmt: skip
    with written_to(place / "services", text) as file:
        m = mount(served.repo, env={**NO_LOGINS, "PGSERVICEFILE": str(file)})
        assert len(mounting.walk(m.at(RUN1.encode()))) > 100
        assert connections(served.server, "bool_or(application_name = 'by-service')")
    with pytest.raises(AssertionError, match="service"):
        mount(served.repo, env={**NO_LOGINS, "PGSERVICEFILE": "/nonexistent"})


def test_a_connection_is_encrypted_and_the_server_s_certificate_is_checked_where_that_is_said(served, said_otherwise, mount, place):
    server, folder = served.server, place / "tls"
    folder.mkdir()
    for name in ("server", "other"):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                        "-addext", "subjectAltName=DNS:localhost", "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt"],
                       check=True, capture_output=True)  # fmt: skip
    for name in ("server.key", "server.crt"):
        server.keep_file(folder / name)
    server.execute("postgres", "ALTER SYSTEM SET ssl = on")
    server.execute("postgres", "SELECT pg_reload_conf()")
    url = server.url(served.database, user=pgserver.READER).replace("127.0.0.1", "localhost") + "?sslmode=verify-full"
    said_otherwise(url)
    env = {**NO_LOGINS, "PGPASSWORD": pgserver.PASSWORDS[pgserver.READER]}
    try:
        mounting.eventually(lambda: server.execute("postgres", "SHOW ssl") == [("on",)], mounting.SLACK)
        before = connections(server, "count(*) FILTER (WHERE ssl)")
        m = mount(served.repo, env={**env, "PGSSLROOTCERT": str(folder / "server.crt")})
        assert len(mounting.walk(m.at(RUN1.encode()))) > 100
        assert connections(server, "count(*) FILTER (WHERE ssl)") >= before + 2
        with pytest.raises(AssertionError, match="certificate verify failed"):
            mount(served.repo, env={**env, "PGSSLROOTCERT": str(folder / "other.crt")})
    finally:
        server.execute("postgres", "ALTER SYSTEM RESET ssl")
        server.execute("postgres", "SELECT pg_reload_conf()")


BIG = re.compile(r"Seq Scan on (dataset_tags_\w+|dataset_calibs_\w+|dataset|visit|exposure|\w*records) ")


def test_no_statement_scans_a_table_that_grows(fresh, calibration_times=("2024-06-01T00:00:00",)):
    """Its plan, where scanning is forbidden as far as an index will do."""
    tree, m = fresh.tree, fresh.m
    for pattern in (VISIT, rb"^collections/c/[a-z]+/calexp/.*visit=", rb"/flat/", rb"/bias/", rb"/deepCoadd/", rb"/visitTable/", rb"/refcat"):
        for f in fresh.folders_of_files(pattern)[:3]:
            for p in [p for p in tree.files if p.startswith(f + b"/")][:2]:
                os.stat(m.at(p))
                os.getxattr(m.at(p), "user.butler.data_id")
            os.listdir(m.at(f))
    for uuid in list(tree.by_uuid)[:5]:
        os.readlink(m.at(b"by-uuid/" + uuid.encode()))
    mounting.walk(m.at(b"collections/HSC"))
    mounting.walk(m.at(b"collections/c"))
    for t in calibration_times:
        mounting.walk(m.at(f"calibs-at/{t}/k".encode()))
    asked = [q for q, _ in fresh.statements() if re.search(r"dataset_tags|dataset_calibs|\bdataset\b|_records", q)]
    assert len(asked) > 12
    scans, seen = [], 0
    with fresh.server.connect(fresh.database) as db, db.cursor() as cursor:
        cursor.execute("SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off")
        for query in asked:
            if "butler_attributes" in query or "pg_class" in query or "collection_summary" in query or "dataset_type ORDER" in query:
                continue # small, or the catalog; read whole on purpose
            seen += 1
            count = max(map(int, re.findall(r"\$(\d+)", query)), default=0)
            cursor.execute("PREPARE q AS " + query.replace("%", "%%"))
            cursor.execute("EXPLAIN EXECUTE q" + (f"({', '.join(['NULL'] * count)})" if count else ""))
            plan = "\n".join(r[0] for r in cursor.fetchall())
            cursor.execute("DEALLOCATE q")
            if BIG.search(plan):
                scans.append((query, plan))
    assert seen > 8
    assert not scans, "\n\n".join(f"{q}\n{p}" for q, p in scans[:3])


def test_visits_of_no_known_day_are_listed_in_day_obs_0(own_repository, mount, postgres):
    """Old universes have such; here a column is made as they have it."""
    repo = own_repository(on="postgres")
    database = repo.root.parent.name
    folder = sorted(f for f in {p.rpartition(b"/")[0] for p in reftree.expected(repo.root).files} if re.search(VISIT, f))[0].decode()
    names = sorted(os.listdir(mount(repo) / folder))
    visit = folder.rpartition("visit=")[2]
    postgres.execute(database, "ALTER TABLE registry.visit ALTER day_obs DROP NOT NULL")
    postgres.execute(database, "UPDATE registry.visit SET day_obs = NULL WHERE instrument = 'LSSTComCam' AND id = %s", int(visit))
    m = mount(repo, refresh="1h")
    assert sorted(os.listdir(m / re.sub("day_obs=[0-9]+", "day_obs=0", folder))) == names
    assert m.counters()["set_loads"] == 0


class Bouncer:
    """pgbouncer with fewer servers than clients: each transaction may be another session."""

    def __init__(self, folder: Path, server: Any, databases: list[str]):
        self.port = pgserver.free_port()
        program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        assert os.path.exists(program), "pgbouncer is not installed (tools/deps --test)"
        folder.mkdir()
        (folder / "users").write_text("".join(f'"{u}" "{p}"\n' for u, p in pgserver.PASSWORDS.items()))
        (folder / "ini").write_text(
            "[databases]\n" + "".join(f"{d} = host=127.0.0.1 port={server.port}\n" for d in databases)
            + f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\nauth_type = scram-sha-256\n"
              f"auth_file = {folder}/users\npool_mode = transaction\ndefault_pool_size = 2\nserver_reset_query_always = 1\n"
              f"server_reset_query = DISCARD ALL\nlogfile = {folder}/log\npidfile = {folder}/pid\n"
        )  # fmt: skip
        for p in (folder, *folder.iterdir()):
            if pgserver._user():
                os.chown(p, pgserver._user()["user"], pgserver._user()["group"])
        self.process = subprocess.Popen([program, "-q", str(folder / "ini")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **pgserver._user())
        mounting.eventually(self._answers, 20)

    def _answers(self) -> bool:
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


def test_through_a_pgbouncer_that_pools_transactions_the_tree_is_the_same(served, place, mount, postgres):
    bouncer = Bouncer(place / "pgbouncer", postgres, [served.database])
    try:
        yaml = served.repo.root / "butler.yaml"
        direct = yaml.read_text()
        yaml.write_text(direct.replace(f":{postgres.port}/", f":{bouncer.port}/"))
        try:
            mounts = [mount(served.repo, librarians=3) for _ in range(2)]
        finally:
            yaml.write_text(direct)
        for m in mounts:
            assert {p for p, st in mounting.walk(m.at(b"")).items() if p in served.tree.files} == set(served.tree.files)
        assert postgres.execute("postgres", "SELECT count(*) FROM pg_stat_activity WHERE usename = 'reader' AND datname = %s AND pid IN"
                                " (SELECT pid FROM pg_stat_activity WHERE application_name = 'butlerfs')", served.database)[0][0] >= 1  # fmt: skip
    finally:
        bouncer.stop()
