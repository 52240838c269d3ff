# SPDX-License-Identifier: BSD-3-Clause
"""The database is away: refused, silent, failing over, forbidden. Each with its errno, its line in the log, its time.

A mount's registry is in PostgreSQL, behind a proxy of the tests' own.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mounting
import pgserver
import pytest
from tcpproxy import TcpProxy

RUN1 = "collections/u/alice/run1"
KNOWN = f"{RUN1}/detInfo/instrument=HSC"
UNKNOWN = f"{RUN1}/exposureLog/instrument=LSSTComCam"
LIMIT = 2.0


class World:
    def __init__(self, repo: Any, proxy: TcpProxy, server: Any, mount: Any):
        self.repo, self.proxy, self.server, self._mount = repo, proxy, server, mount
        self.database = repo.root.parent.name
        yaml = repo.root / "butler.yaml"
        self.direct = yaml.read_text()
        yaml.write_text(self.direct.replace(f":{server.port}/", f":{proxy.port}/"))

    def mount(self, **options: Any) -> mounting.Mount:
        self.m = self._mount(self.repo, **{"timeout": f"{LIMIT}s", "refresh": "200ms", **options})
        return self.m

    def learn(self) -> None:
        """What is known before the outage."""
        assert len(os.listdir(self.m / KNOWN)) == 4
        for name in os.listdir(self.m / KNOWN):
            (self.m / KNOWN / name).read_text()

    def assert_known_is_served(self) -> None:
        begin = time.monotonic()
        names = os.listdir(self.m / KNOWN)
        assert len(names) == 4 and all((self.m / KNOWN / n).read_text() for n in names)
        assert time.monotonic() - begin < mounting.SLACK

    def is_away(self) -> bool:
        space = self.m.status()["spaces"][0]
        return not space["registry_answers"]

    def client(self) -> Any:
        (self.repo.root / "butler.yaml").write_text(self.direct)
        return self.repo.butler()


@pytest.fixture
def world(own_repository, mount, postgres):
    with TcpProxy(postgres.port) as proxy:
        yield World(own_repository(on="postgres"), proxy, postgres, mount)
        proxy.heal()


def failure(path: Path) -> tuple[str, float]:
    begin = time.monotonic()
    try:
        os.listdir(path)
    except OSError as e:
        return errno.errorcode[e.errno], time.monotonic() - begin
    return "no error", time.monotonic() - begin


OUTAGES = {
    "refused": (lambda w: w.proxy.refuse(), "Connection refused"),
    "silent": (lambda w: w.proxy.stall(), "within the limit"),
    "server stopped": (lambda w: w.server.stop("immediate"), ""),
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_while_the_database_is_away_known_things_are_served_others_are_etimedout_at_once_and_it_ends_by_itself(world, outage):
    begin_outage, words = OUTAGES[outage]
    m = world.mount()
    world.learn()
    begin_outage(world)
    try:
        name, took = failure(m / UNKNOWN)
        assert (name, took < LIMIT + mounting.SLACK) == ("ETIMEDOUT", True), (name, took)
        mounting.eventually(world.is_away, LIMIT + mounting.SLACK)
        # From now on nobody waits for it, however many ask at once: more than there are workers.
        results: list[Any] = []
        askers = [threading.Thread(target=lambda k=k: results.append(failure(m / f"{RUN1}/calexp/instrument=LSSTComCam/day_obs={k}")))
                  for k in range(20240101, 20240121)]  # fmt: skip
        for a in askers:
            a.start()
        world.assert_known_is_served()
        for a in askers:
            a.join()
        assert {name for name, _ in results} == {"ETIMEDOUT"}
        assert max(took for _, took in results) < LIMIT / 2, results
        assert m.counters()["registry_away"] == 1
        assert words in m.log() and "the registry can't be asked" in m.log()
    finally:
        if outage == "server stopped":
            world.server.start()
        world.proxy.heal()
    mounting.eventually(lambda: not world.is_away(), 10 + mounting.SLACK)
    assert len(os.listdir(m / UNKNOWN)) > 0
    assert m.counters()["registry_away"] == 0
    assert "the registry answers again" in m.log()


def test_a_connection_that_was_cut_while_idle_is_made_again_without_anybody_noticing(world):
    m = world.mount(refresh="1h")
    world.learn()
    before = m.counters()["registry_failures"]
    world.proxy.cut()
    assert len(os.listdir(m / UNKNOWN)) > 0
    assert m.counters()["registry_failures"] == before


def test_a_server_without_room_for_more_connections_is_not_away_and_is_found_again_at_once(world):
    m = world.mount(refresh="1h", librarians=4)
    world.learn()
    limit = lambda n: world.server.execute("postgres", f"ALTER ROLE {pgserver.READER} CONNECTION LIMIT {n}")  # noqa: E731
    limit(0)
    world.proxy.cut()
    try:
        name, took = failure(m / UNKNOWN)
        assert (name, took < LIMIT) == ("ETIMEDOUT", True)
        assert m.counters()["registry_away"] == 0
        assert "too many connections for role" in m.log()
        world.assert_known_is_served()
    finally:
        limit(-1)
    assert failure(m / UNKNOWN)[0] == "no error"


@contextmanager
def locked(server: Any, database: str, table: str) -> Iterator[None]:
    """Nobody can read the table meanwhile."""
    with server.connect(database) as db, db.cursor() as sql:
        sql.execute(f"BEGIN; LOCK TABLE registry.{table} IN ACCESS EXCLUSIVE MODE")
        yield
        sql.execute("COMMIT")


def test_a_verb_whose_second_statement_is_too_slow_does_not_take_the_database_for_away(world):
    """Two tables are asked, one after the other; the first is slow, the other doesn't come."""
    m = world.mount(refresh="1h")
    world.learn()
    ((tags, calibs),) = world.server.execute(world.database, "SELECT tag_association_table, calibration_association_table FROM registry.dataset_type WHERE name = 'bias'")
    path = m / "calibs-at/2024-06-01T00:00:00/k/bias/instrument=HSC/bias_HSC_77.fits"
    os.stat(path.parent)
    results: list[Any] = []
    with locked(world.server, world.database, calibs):
        with locked(world.server, world.database, tags):
            asker = threading.Thread(target=lambda: results.append(failure(path)))
            asker.start()
            mounting.eventually(lambda: world.server.execute("postgres", "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == [(1,)], LIMIT)
            time.sleep(LIMIT * 0.6)
        asker.join()
    assert results[0][0] == "ETIMEDOUT"
    assert m.counters()["registry_away"] == 0
    assert "nothing, within the limit" not in m.log()
    assert failure(path)[0] == "ENOENT"


def waiting_for_locks(server: Any) -> list[str]:
    return [query for (query,) in server.execute("postgres", "SELECT query FROM pg_stat_activity WHERE wait_event_type = 'Lock'")]


def test_a_silence_shorter_than_the_limit_makes_listing_folders_slow_and_nothing_else(world):
    """Their names are looked for in a part of the limit: that is for the statement, not for the line."""
    m = world.mount(refresh="1h", timeout="8s")
    os.stat(m / f"{RUN1}/calexp")
    results: list[Any] = []
    world.proxy.stall()
    asker = threading.Thread(target=lambda: results.append(failure(m / f"{RUN1}/calexp")))
    asker.start()
    time.sleep(8 / 4 + 1)
    world.proxy.heal()
    asker.join()
    assert (results[0][0], m.counters()["registry_away"]) == ("no error", 0)
    assert "within the limit" not in m.log()


def test_folders_whose_names_take_long_to_be_looked_for_are_read_whole(world):
    m = world.mount(refresh="1h", timeout="12s")
    os.stat(m / f"{RUN1}/calexp")
    ((tags,),) = world.server.execute(world.database, "SELECT tag_association_table FROM registry.dataset_type WHERE name = 'calexp'")
    results: list[Any] = []
    with locked(world.server, world.database, tags):
        asker = threading.Thread(target=lambda: results.append(failure(m / f"{RUN1}/calexp")))
        asker.start()
        mounting.eventually(lambda: [q for q in waiting_for_locks(world.server) if "unnest" in q], 3)
        mounting.eventually(lambda: [q for q in waiting_for_locks(world.server) if "unnest" not in q], 3 + mounting.SLACK)
    asker.join()
    assert (results[0][0], m.counters()["set_loads"], m.counters()["registry_failures"]) == ("no error", 1, 0)


def test_a_url_that_leads_root_elsewhere_than_its_host_is_refused(world):
    if os.geteuid() != 0:
        pytest.skip("only a daemon of root has more rights than the repository's writer")
    yaml = world.repo.root / "butler.yaml"
    good = yaml.read_text()
    for option in ("hostaddr=127.0.0.1", "passfile=/etc/passwd"):
        yaml.write_text(good.replace(f"/{world.database}\n", f"/{world.database}?{option}\n"))
        assert option in yaml.read_text()
        with pytest.raises(AssertionError, match=f"says `{option.partition('=')[0]}`: a repository may not say that"):
            world._mount(world.repo)
    # A service has a password, which is meant for its own host.
    yaml.write_text(good.replace(f"/{world.database}\n", f"/{world.database}?service=facility\n"))
    with pytest.raises(AssertionError, match="may not send a service's password elsewhere"):
        world._mount(world.repo)


def test_a_result_that_breaks_off_is_etimedout_and_nothing_of_it_is_taken_for_the_whole(world):
    m = world.mount(refresh="1h")
    world.learn()
    world.proxy.cut()
    world.proxy.cut_after(9000)  # of the next connection: in the middle of a listing, or of what goes before it
    seen = []
    for _ in range(40):
        try:
            seen.append(len(os.listdir(m / f"{RUN1}/calexp")))
            break
        except OSError as e:
            assert e.errno == errno.ETIMEDOUT
            time.sleep(0.25)
    with_client = len({r.dataId["instrument"] for r in world.client().query_datasets("calexp", "u/alice/run1", limit=None)})
    assert seen == [with_client]


def test_a_slow_line_makes_it_slow_and_nothing_else(world):
    world.proxy.latency_s = 0.02
    m = world.mount()
    assert len(os.listdir(m / UNKNOWN)) > 0
    assert not world.is_away()


def test_a_restarted_server_is_found_again(world):
    m = world.mount()
    world.learn()
    world.server.restart()
    mounting.eventually(lambda: failure(m / UNKNOWN)[0] == "no error", 10 + mounting.SLACK)
    world.assert_known_is_served()


def test_who_looks_for_changes_seldom_finds_the_end_of_an_outage_all_the_same(world):
    m = world.mount(refresh="1h")
    world.learn()
    world.proxy.cut()
    world.proxy.refuse()
    assert failure(m / UNKNOWN)[0] == "ETIMEDOUT"
    mounting.eventually(world.is_away, LIMIT + mounting.SLACK)
    world.proxy.heal()
    mounting.eventually(lambda: failure(m / UNKNOWN)[0] == "no error", 15 + mounting.SLACK)


def test_a_read_only_replica_will_do(world):
    """As after a failover: no transaction may write."""
    world.server.execute("postgres", f"ALTER DATABASE {world.database} SET default_transaction_read_only = on")
    m = world.mount()
    world.learn()
    assert len(os.listdir(m / UNKNOWN)) > 0


def test_a_failover_to_a_standby_is_noticed_by_nobody_and_its_changes_are_seen(world, place):
    """The proxy is the name that moves. A transaction that was long on its way commits last: the standby's snapshot doesn't tell."""
    m = world.mount()
    world.learn()
    standby = world.server.standby(place / "standby")
    try:
        world.proxy.upstream = standby.port
        world.proxy.cut()
        mounting.eventually(lambda: failure(m / UNKNOWN)[0] == "no error", mounting.SLACK)
        assert standby.execute(world.database, "SELECT pg_is_in_recovery()") == [(True,)]

        def seen(run: str) -> bytes:
            path = m / f"collections/u/alice/{run}"
            return os.getxattr(path, "user.butler.doc") if "user.butler.doc" in os.listxattr(path) else b""

        with world.server.connect(world.database) as long, long.cursor() as sql:
            sql.execute("BEGIN; UPDATE registry.collection SET doc = 'first' WHERE name = 'u/alice/run1'")
            world.server.execute(world.database, "UPDATE registry.collection SET doc = 'other' WHERE name = 'u/alice/run2'")
            mounting.eventually(lambda: seen("run2") == b"other", 10 + mounting.SLACK)
            before = m.counters()["registry_changes"]
            sql.execute("COMMIT")
            mounting.eventually(lambda: seen("run1") == b"first", 10 + mounting.SLACK)
            assert m.counters()["registry_changes"] > before
        world.server.stop("immediate")
        standby.promote()
        standby.execute(world.database, "UPDATE registry.collection SET doc = 'promoted' WHERE name = 'u/alice/run1'")
        mounting.eventually(lambda: seen("run1") == b"promoted", 10 + mounting.SLACK)
        world.assert_known_is_served()
    finally:
        standby.stop("immediate")
        if not world.server.is_running():
            world.server.start()


def test_a_wrong_password_is_refused_at_mount_and_later_is_eacces_until_it_is_right(world, place):
    m = world.mount(db_auth=place / "changing-auth.yaml") if world.server.write_logins(place / "changing-auth.yaml", user=pgserver.READER) else None
    world.learn()
    world.server.write_logins(place / "changing-auth.yaml", user=pgserver.READER, password="wrong")
    world.proxy.cut()
    name, took = failure(m / UNKNOWN)
    assert (name, took < LIMIT) == ("EACCES", True)
    world.assert_known_is_served()
    assert "password authentication failed" in m.log() and "wrong" not in m.log()
    with pytest.raises(AssertionError, match="password authentication failed"):
        world._mount(world.repo, db_auth=place / "changing-auth.yaml")
    world.server.write_logins(place / "changing-auth.yaml", user=pgserver.READER)
    mounting.eventually(lambda: failure(m / UNKNOWN)[0] == "no error", mounting.SLACK)


def test_a_login_that_is_refused_is_not_tried_again_for_each_who_asks(world, place):
    logins = world.server.write_logins(place / "refused-auth.yaml", user=pgserver.READER)
    m = world.mount(db_auth=logins, refresh="1h")
    world.learn()
    world.server.write_logins(logins, user=pgserver.READER, password="wrong")
    world.proxy.cut()
    before = world.proxy.connections
    for i in range(60):
        assert failure(m / f"{UNKNOWN}{i}")[0] == "EACCES"
    assert world.proxy.connections - before < 20
    assert m.log().count("password authentication failed") <= 2
    world.server.write_logins(logins, user=pgserver.READER)
    mounting.eventually(lambda: failure(m / UNKNOWN)[0] == "no error", 10 + mounting.SLACK)


def test_a_daemon_that_dies_while_its_login_is_refused_is_followed_by_one_that_goes_on(world, place):
    logins = world.server.write_logins(place / "dying-auth.yaml", user=pgserver.READER)
    m = world.mount(db_auth=logins)
    world.learn()
    world.server.write_logins(logins, user=pgserver.READER, password="wrong")
    world.proxy.cut()
    m.pids.add(pid := m.pid())
    os.kill(pid, signal.SIGKILL)
    assert failure(m / UNKNOWN)[0] == "EACCES"
    world.server.write_logins(logins, user=pgserver.READER)
    mounting.eventually(lambda: failure(m / UNKNOWN)[0] == "no error", 10 + mounting.SLACK)
    world.assert_known_is_served()


def test_a_grant_that_is_taken_away_is_eacces_and_comes_back(world):
    m = world.mount()
    world.learn()
    table = "registry.file_datastore_records"
    world.server.execute(world.database, f"REVOKE SELECT ON {table} FROM {pgserver.READER}")
    mounting.eventually(lambda: failure(m / UNKNOWN)[0] == "EACCES", mounting.SLACK)
    assert "permission denied for table file_datastore_records" in m.log()
    world.server.execute(world.database, f"GRANT SELECT ON {table} TO {pgserver.READER}")
    mounting.eventually(lambda: failure(m / UNKNOWN)[0] == "no error", mounting.SLACK)


def test_a_schema_that_is_newer_than_known_is_refused(world):
    m = world.mount()
    world.learn()
    name = "version:lsst.daf.butler.registry.datasets.byDimensions._manager.ByDimensionsDatasetRecordStorageManagerUUID"
    world.server.execute(world.database, "UPDATE registry.butler_attributes SET value = '9.0.0' WHERE name = %s", name)
    with pytest.raises(AssertionError, match="version 9.0.0, which is newer than any known here"):
        world._mount(world.repo)
    # One that is mounted finds out at its next connection, and shows what it knows.
    world.proxy.cut()
    assert failure(m / UNKNOWN)[0] in ("EOPNOTSUPP", "ENOTSUP") # one number
    assert "version 9.0.0" in m.log()
