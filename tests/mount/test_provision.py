# SPDX-License-Identifier: BSD-3-Clause
"""Homes and group folders that appear when they are looked for, and quotas as they are set and told."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import pwd
import shutil
import signal
import stat
import threading
from pathlib import Path

import mounting
import pytest
from acting import by
from mounting import quota

pytestmark = pytest.mark.usefixtures("root_only")

# Users and groups that every system has, with numbers below 1000.
GAMES, DAEMON = pwd.getpwnam("games"), pwd.getpwnam("daemon")


@pytest.fixture
def skeleton(place) -> Path:
    at = place / "skeleton"
    if not at.exists():
        (at / ".jupyter").mkdir(parents=True)
        (at / ".bashrc").write_text("export A=1\n")
        (at / ".bashrc").chmod(0o644)
        (at / ".jupyter" / "config").write_bytes(b"x" * 3000)
        (at / "tool").write_text("")
        (at / "tool").chmod(0o4755)
        (at / "link").symlink_to("/etc/shadow")
        os.mkfifo(at / "fifo")
    return at


@pytest.fixture
def below(place, request) -> Path:
    at = place / request.node.name
    at.mkdir()
    at.chmod(0o755)
    return at


@pytest.fixture
def homes(mount, below, place, skeleton, request):
    return mount(f"home:{below}", provision=f"{GAMES.pw_uid}", skeleton=skeleton, ledger_dir=place / f"ledger-{request.node.name}")


def names_in(path: Path) -> list[str]:
    return sorted(os.listdir(path))


def error(function, *args) -> str:
    with pytest.raises(OSError) as e:
        function(*args)
    return errno.errorcode[e.value.errno]


def owners(mount) -> dict:
    answer = mounting.control("quota", "report", mount.path, "--json")
    assert answer.returncode == 0, answer.stderr
    return {(o["kind"], o["id"]): o for o in json.loads(answer.stdout)["owners"]}


def assert_counted(mount) -> None:
    checked = mounting.control("quota", "check", mount.path)
    assert (checked.returncode, checked.stdout) == (0, "all is as it is counted\n"), checked.stdout + checked.stderr


def test_a_home_appears_when_its_user_first_looks(homes, below):
    home = homes.path / "games"
    assert by(GAMES.pw_uid, names_in, home, gid=GAMES.pw_gid) == [".bashrc", ".jupyter", "link", "tool"]
    st = home.stat()
    assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (GAMES.pw_uid, GAMES.pw_gid, 0o700)
    for name in (".bashrc", ".jupyter", ".jupyter/config", "link", "tool"):
        assert (home / name).lstat().st_uid == GAMES.pw_uid, name
    assert stat.S_IMODE((home / "tool").stat().st_mode) == 0o755, "no set-user-id bit"
    assert os.readlink(home / "link") == "/etc/shadow"
    assert names_in(below) == ["games"]
    assert homes.status()["counters"]["homes_made"] == 1


def test_others_who_look_find_nothing_and_make_nothing(homes, below):
    assert error(by, DAEMON.pw_uid, os.stat, homes.path / "games") == "ENOENT"
    assert error(os.stat, homes.path / "games") == "ENOENT"
    assert names_in(below) == []
    by(GAMES.pw_uid, os.stat, homes.path / "games")  # what others were told isn't remembered for him
    assert names_in(below) == ["games"]


def test_no_rule_no_home(homes, below):
    assert error(by, DAEMON.pw_uid, os.stat, homes.path / "daemon") == "ENOENT"
    assert error(by, GAMES.pw_uid, os.stat, homes.path / "daemon") == "ENOENT"
    assert error(by, GAMES.pw_uid, os.stat, homes.path / "nobody-has-this-name") == "ENOENT"
    assert names_in(below) == []


def test_who_makes_names_up_keeps_the_name_service_busy_for_a_few_only(homes):
    def look_for_many() -> int:
        return sum(os.path.exists(homes.path / f"nobody{n}") for n in range(200))

    before = homes.status()["counters"]["requests_parked"]
    assert by(GAMES.pw_uid, look_for_many) == 0
    assert homes.status()["counters"]["requests_parked"] - before <= 32
    assert error(by, GAMES.pw_uid, os.stat, homes.path / "games") == "ENOENT"  # he has to wait himself now


def test_who_makes_names_up_keeps_nobody_elses_home_from_being_made(mount, below, place):
    other = GAMES.pw_uid + 1024  # once both had the same slot
    homes = mount(f"home:{below}", provision=f"{GAMES.pw_uid}:{other}", ledger_dir=place / "ledger-others")

    def look_for_many() -> int:
        return sum(os.path.exists(homes.path / f"nobody{n}") for n in range(200))

    before = homes.status()["counters"]["requests_parked"]
    assert by(other, look_for_many) == 0
    assert 16 <= homes.status()["counters"]["requests_parked"] - before <= 32
    by(GAMES.pw_uid, os.stat, homes.path / "games")
    assert names_in(below) == ["games"]


def test_many_who_look_at_once_get_one_home(homes, below):
    results = []

    def look() -> None:
        results.append(by(GAMES.pw_uid, names_in, homes.path / "games"))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [[".bashrc", ".jupyter", "link", "tool"]] * 8
    assert names_in(below) == ["games"]
    assert homes.status()["counters"]["homes_made"] == 1


def test_what_stands_in_the_way_stays(homes, below):
    (below / "games").write_text("a file of root's")
    assert by(GAMES.pw_uid, os.lstat, homes.path / "games").st_uid == 0
    assert (below / "games").read_text() == "a file of root's"
    assert names_in(below) == ["games"]


def test_a_home_is_made_by_order(homes, below):
    def create(name: str):
        return mounting.control("home", "create", homes.path, name)

    assert create("games").returncode == 0
    assert names_in(below) == ["games"]
    for name, reason in (("games", "it is there already"), ("daemon", "doesn't allow that number"), ("nobody-has-this-name", "no such user"),
                         ("../x", "no name of a user")):  # fmt: skip
        answer = create(name)
        assert answer.returncode == 1 and reason in answer.stderr, name


def test_what_is_made_is_counted(homes):
    by(GAMES.pw_uid, os.stat, homes.path / "games")
    o = owners(homes)["user", GAMES.pw_uid]
    assert (o["used_bytes"], o["used_files"]) == (3000 + len("export A=1\n"), 6)
    assert_counted(homes)


def test_a_home_that_a_death_left_half_made_is_removed(homes, below):
    half = below / ".butlerfs-new-0123456789abcdef"
    (half / "sub").mkdir(parents=True)
    (half / "sub" / "file").write_text("x")
    os.kill(homes.status()["pid"], signal.SIGKILL)
    mounting.eventually(lambda: not half.exists(), 20)
    by(GAMES.pw_uid, os.stat, homes.path / "games")
    assert names_in(below) == ["games"]


def test_a_groups_folder_appears_for_its_members(mount, below, place, request):
    m = mount(f"group:{below}", provision=f"{GAMES.pw_gid}", ledger_dir=place / f"ledger-{request.node.name}")
    folder = m.path / "games"
    assert error(by, DAEMON.pw_uid, os.stat, folder) == "ENOENT"
    assert names_in(below) == []

    def share() -> None:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text("ours")

    by(DAEMON.pw_uid, share, gid=DAEMON.pw_gid, groups=[GAMES.pw_gid], umask=0o077)
    st = folder.stat()
    assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (0, GAMES.pw_gid, 0o2770)
    made = (folder / "sub" / "file").stat()
    assert (made.st_uid, made.st_gid) == (DAEMON.pw_uid, GAMES.pw_gid)

    def change() -> str:
        with (folder / "sub" / "file").open("a") as f:
            f.write(", too")
        return (folder / "sub" / "file").read_text()

    assert by(GAMES.pw_uid, change, gid=GAMES.pw_gid) == "ours, too"


def _attack(below: Path, name: str, ready) -> None:
    """As the user whose home is being made, on the tree below, where he may look: whatever he can put in its way."""
    os.setgid(GAMES.pw_gid)
    os.setuid(GAMES.pw_uid)
    ready.set()
    while True:
        for entry in os.listdir(below):
            at = below / entry
            for act in (
                lambda: os.rename(at, below / "away"),
                lambda: os.symlink("/etc", below / name),
                lambda: os.symlink("/etc", at / ".jupyter"),
                lambda: os.rename(at / ".jupyter", at / ".away"),
                lambda: os.symlink(below.parent / "theirs", at / ".bashrc"),
                lambda: os.unlink(at / ".bashrc"),
                lambda: os.link(below.parent / "theirs", at / "tool"),
            ):
                with contextlib.suppress(OSError):
                    act()


def test_a_user_who_puts_links_in_the_way_steers_nothing(homes, below, skeleton, place):
    theirs = below.parent / "theirs"
    theirs.write_text("not his")
    theirs.chmod(0o644)
    before = {at: at.lstat() for at in (theirs, Path("/etc"), below, skeleton / ".bashrc")}
    ready = multiprocessing.Event()
    attacker = multiprocessing.Process(target=_attack, args=(below, "games", ready))
    attacker.start()
    try:
        assert ready.wait(20)
        for _ in range(25):
            answer = mounting.control("home", "create", homes.path, "games")
            made = (below / "games").lstat()
            assert answer.returncode == 0 and stat.S_ISDIR(made.st_mode), answer.stderr
            assert (made.st_uid, made.st_gid, stat.S_IMODE(made.st_mode)) == (GAMES.pw_uid, GAMES.pw_gid, 0o700)
            assert names_in(below) == ["games"]  # he renamed none of it
            shutil.rmtree(homes.path / "games", ignore_errors=True)
            mounting.eventually(lambda: shutil.rmtree(homes.path / "games", ignore_errors=True) or not (homes.path / "games").exists(), 20)
    finally:
        attacker.kill()
        attacker.join()
    for at, was in before.items():
        now = at.lstat()
        assert (now.st_mode, now.st_uid, now.st_gid, now.st_ino) == (was.st_mode, was.st_uid, was.st_gid, was.st_ino), at
    assert theirs.read_text() == "not his"


# ---- quotas: what is set and told ----------------------------------------------------------------


def test_limits_are_told_as_they_were_set(homes):
    quota(homes, "set", "user", "games", "--soft-bytes", "1.5G", "--hard-bytes=2G", "--soft-files", "10k", "--grace", "1d")
    quota(homes, "set", "group", "default", "--hard-files", "7")
    quota(homes, "set", "user", "games", "--hard-bytes", "3G")  # the others stay
    o = owners(homes)["user", GAMES.pw_uid]
    assert [o[k] for k in ("soft_bytes", "hard_bytes", "soft_files", "hard_files", "grace")] == [3 << 29, 3 << 30, 10000, 0, 86400]
    assert owners(homes)["group", "default"]["hard_files"] == 7
    assert "games" in quota(homes, "report")
    quota(homes, "set", "user", "games", "--clear")
    assert ("user", GAMES.pw_uid) not in owners(homes)


@pytest.mark.parametrize("words", [
    ("user", "games", "--hard-bytes", "lots"),
    ("user", "games", "--soft-bytes", "2G", "--hard-bytes", "1G"),
    ("user", "nobody-has-this-name", "--hard-bytes", "1G"),
    ("house", "games", "--hard-bytes", "1G"),
    ("user", "games"),
    ("tree", "/", "--hard-bytes", "1G"),
])  # fmt: skip
def test_what_is_no_limit_is_refused(homes, words):
    answer = mounting.control("quota", "set", homes.path, *words)
    assert answer.returncode in (1, 2) and answer.stderr.startswith("butlerfsctl: ")
    assert ("user", GAMES.pw_uid) not in owners(homes)


def test_a_user_sees_himself_and_his_groups_and_sets_nothing(homes):
    quota(homes, "set", "user", "games", "--hard-bytes", "1G")
    quota(homes, "set", "user", "daemon", "--hard-bytes", "1G")
    quota(homes, "set", "group", "daemon", "--hard-bytes", "1G")
    quota(homes, "set", "group", "bin", "--hard-bytes", "1G")

    def seen(groups):
        return by(GAMES.pw_uid, lambda: set(owners(homes)), gid=GAMES.pw_gid, groups=groups)

    assert seen([]) == {("user", GAMES.pw_uid)}
    assert seen([DAEMON.pw_gid]) == {("user", GAMES.pw_uid), ("group", DAEMON.pw_gid)}
    by(GAMES.pw_uid, lambda: (homes.path / "games" / "mine").mkdir(), gid=GAMES.pw_gid)
    for name, owner, group, mode in (("all", 0, 0, 0o1777), ("few", 0, DAEMON.pw_gid, 0o2770), ("other", 2, 2, 0o755)):
        (homes.path / name).mkdir()
        os.chown(homes.path / name, owner, group)
        (homes.path / name).chmod(mode)
    for path in ("games/mine", "all", "few", "other"):
        quota(homes, "set", "tree", str(homes.path / path), "--hard-bytes", "1G")

    def trees(groups) -> list[str]:
        report = by(GAMES.pw_uid, owners, homes, gid=GAMES.pw_gid, groups=groups)
        return sorted(str(Path(o["path"]).relative_to(homes.path)) for (kind, _), o in report.items() if kind == "tree")

    assert (trees([]), trees([DAEMON.pw_gid])) == (["all", "games/mine"], ["all", "few", "games/mine"])
    for path in ("games/mine", "all", "few", "other"):
        quota(homes, "set", "tree", str(homes.path / path), "--clear")
    for words in (["set", homes.path, "user", "games", "--clear"], ["check", homes.path], ["repair", homes.path]):
        answer = by(GAMES.pw_uid, lambda words=words: mounting.control("quota", *words).returncode)
        assert answer == 1


def test_limits_are_exported_and_imported(homes, place):
    by(GAMES.pw_uid, os.stat, homes.path / "games")
    quota(homes, "set", "user", "games", "--hard-bytes", "1G", "--grace", "90s")
    quota(homes, "set", "user", "default", "--hard-bytes", "2G")
    quota(homes, "set", "tree", str(homes.path / "games"), "--hard-files", "99")
    before = owners(homes)
    saved = place / "limits.json"
    saved.write_text(quota(homes, "export"))
    for words in (("user", "games"), ("user", "default"), ("tree", str(homes.path / "games"))):
        quota(homes, "set", *words, "--clear")
    assert quota(homes, "import", str(saved)) == "3 limits set\n"
    after = mounting.eventually(lambda: not any(o["is_recounting"] for o in owners(homes).values() if o["id"] != "default") and owners(homes), 20)
    assert after.keys() == before.keys()
    for key, o in after.items():
        assert {k: v for k, v in o.items() if "bytes" in k or "files" in k} == {k: v for k, v in before[key].items() if "bytes" in k or "files" in k}


def test_df_shows_the_limit_that_leaves_least(homes):
    by(GAMES.pw_uid, os.stat, homes.path / "games")
    quota(homes, "set", "user", "games", "--hard-bytes", "1M", "--hard-files", "100")
    quota(homes, "set", "group", "games", "--hard-bytes", "2M", "--hard-files", "10")
    st = os.statvfs(homes.path / "games")
    assert st.f_blocks * st.f_frsize == 1 << 20
    assert (st.f_files, st.f_ffree) == (10, 4)
    whole = os.statvfs(homes.path)
    assert whole.f_blocks * whole.f_frsize > 1 << 20


def test_in_a_groups_folder_users_have_their_default_and_the_group_its_limit(mount, below, place, request):
    m = mount(f"group:{below}", provision=f"{GAMES.pw_gid}", ledger_dir=place / f"ledger-{request.node.name}")
    folder = m.path / "games"
    quota(m, "set", "user", "default", "--hard-bytes", "1M")
    quota(m, "set", "group", "games", "--hard-bytes", "2560K")

    def df(at: Path) -> int:
        st = os.statvfs(at)
        return st.f_blocks * st.f_frsize

    def write(name: str, size: int) -> str:
        try:
            with (folder / name).open("ab", buffering=0) as f:
                f.write(b"x" * size)
        except OSError as e:
            return errno.errorcode[e.errno]
        return "written"

    def member(user, name: str, size: int) -> str:
        return by(user.pw_uid, write, name, size, gid=user.pw_gid, groups=[GAMES.pw_gid])

    by(GAMES.pw_uid, os.mkdir, folder / "sub", gid=GAMES.pw_gid)
    assert (df(folder), df(folder / "sub")) == (2560 << 10, 1 << 20)  # root's, who has no default; a user's
    assert [member(GAMES, "a", 1 << 20), member(GAMES, "a", 1)] == ["written", "EDQUOT"]  # his own default
    assert [member(DAEMON, "b", 1 << 20), member(DAEMON, "b", 1)] == ["written", "EDQUOT"]
    (folder / "roots").touch()
    (folder / "roots").chmod(0o666)
    assert [member(DAEMON, "roots", 512 << 10), member(DAEMON, "roots", 1)] == ["written", "EDQUOT"]  # root's: the group's limit
    assert write("more", 1) == "written"  # root may
    whole = os.statvfs(folder)
    assert (whole.f_bavail, whole.f_blocks * whole.f_frsize - (2560 << 10)) == (0, whole.f_frsize)
    assert os.statvfs(folder / "sub").f_bavail == 0
    assert_counted(m)


def test_a_check_tells_what_others_changed_below_and_a_repair_takes_it(homes, below):
    by(GAMES.pw_uid, os.stat, homes.path / "games")
    (below / "games" / ".bashrc").unlink()
    answer = mounting.control("quota", "check", homes.path)
    assert answer.returncode == 1 and "user games: 3011 bytes and 6 files, counted are 3000 and 5" in answer.stdout
    assert "repaired" in quota(homes, "repair")
    assert_counted(homes)


def test_limits_and_usage_survive_an_unmount(homes, mount, below, place, request):
    by(GAMES.pw_uid, os.stat, homes.path / "games")
    quota(homes, "set", "user", "games", "--hard-bytes", "1M")
    before = owners(homes)
    homes.unmount()
    again = mount(f"home:{below}", ledger_dir=place / f"ledger-{request.node.name}")
    assert owners(again) == before
    assert_counted(again)


def test_with_quota_off_nothing_is_counted(mount, below):
    m = mount(f"home:{below}", quota="off")
    answer = mounting.control("quota", "report", m.path)
    assert answer.returncode == 1 and "no home or group space, or quota=off" in answer.stderr
