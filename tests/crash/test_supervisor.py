# SPDX-License-Identifier: BSD-3-Clause
"""The supervisor by itself, with a daemon that does what a plan says and a socket in place of /dev/fuse.

The other end of that socket reads its end when nobody holds the mount's descriptor any more: that is
how an aborted connection looks from here.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mounting
import pytest

# What the daemon does in each life, one word a life; the last one stays for all that come after.
FAKE = r"""
import os, signal, socket, sys, time
arguments = dict(a[2:].split("=", 1) for a in sys.argv[1:] if a.startswith("--") and "=" in a)
where = os.path.dirname(os.path.abspath(sys.argv[0]))
if sys.argv[1:] == ["--version"]:
    sys.exit(1 if os.path.exists(where + "/broken") else 0)
life = int(arguments["life"])
with open(where + "/lives", "a") as f:
    f.write(f"{life} {arguments['last-signal']} {os.getpid()} {time.monotonic()} {' '.join(sys.argv[4:])}\n")
plan = open(where + "/plan").read().split(",")
what = plan[min(life, len(plan)) - 1]
channel = socket.socket(fileno=6)
def say(word):
    channel.send(word.encode())
for fd in (3, 4, 5):
    os.fstat(fd)
assert not [fd for fd in os.listdir("/proc/self/fd") if int(fd) > 9], os.listdir("/proc/self/fd")
def again(*_):
    os._exit(75)
def finishing(*_):
    for _ in range(7):
        say("busy")
        time.sleep(1)
    again()
signal.signal(signal.SIGTERM, signal.SIG_IGN if "deaf" in what else finishing if "busy" in what else again)
if what == "fail":
    sys.stderr.write("butlerfs: the repository is not to be read\n")
    os._exit(1)
if what == "silent":
    os._exit(9)
if what == "crash before":
    os.kill(os.getpid(), signal.SIGSEGV)
if what == "hang":
    time.sleep(3600)
sys.stderr.write("only the log's\n")
say("ready once" if what.startswith("once") else "ready takeover")
if what == "crash":
    os.kill(os.getpid(), signal.SIGSEGV)
if what == "unmounted":
    os._exit(0)
if what == "wants upgrade":
    while not os.path.exists(where + "/go"):
        time.sleep(0.01)
    say("upgrade")
time.sleep(3600)
"""


class Life:
    def __init__(self, line: str):
        life, last_signal, pid, began, *self.rest = line.split()
        self.number, self.last_signal, self.pid, self.began = int(life), int(last_signal), int(pid), float(began)


class Supervised:
    def __init__(self, at: Path, plan: str, *extra: str, foreground: bool = False):
        self.at = at
        (at / "mnt").mkdir()
        (at / "plan").write_text(plan)
        fake = at / "daemon"
        fake.write_text(f"#!{os.path.realpath(sys.executable)} -IS\n{FAKE}")
        fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
        self.program = at / "butlerfs-supervisor"
        shutil.copy2(mounting.program("butlerfs-supervisor"), self.program)
        self.fuse, fuse = socket.socketpair()
        self.listen = socket.socket(socket.AF_UNIX)
        self.listen.bind(str(at / "control"))
        self.listen.listen()
        self.ready, ready = os.pipe()
        for fd in (fuse.fileno(), self.listen.fileno(), ready):
            os.set_inheritable(fd, True)
        self.process = subprocess.Popen(
            [str(self.program), *extra, f"--mountpoint={at}/mnt", f"--control-path={at}/control", f"--fuse-fd={fuse.fileno()}",
             f"--control-fd={self.listen.fileno()}", f"--ready-fd={ready}", "--major=0", "--minor=999999", "--privileged=1",
             f"--foreground={int(foreground)}", "--from-the-future=1", "--", str(fake), "--daemon", "some", "words"],
            close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)  # fmt: skip
        fuse.close()
        os.close(ready)

    def lives(self) -> list[Life]:
        try:
            return [Life(line) for line in (self.at / "lives").read_text().splitlines()]
        except FileNotFoundError:
            return []

    def wait_life(self, number: int, within: float = 5) -> Life:
        return mounting.eventually(
            lambda: next((x for x in self.lives() if x.number >= number), None), within, f"life {number}"
        )

    def is_ready(self, within: float = 5) -> bool:
        """Whether the command would be told that the mount answers; False when it never will."""
        assert select.select([self.ready], [], [], within)[0], "neither ready nor failed"
        return os.read(self.ready, 1) == b"R"

    def is_aborted(self, within: float = 5) -> bool:
        return bool(select.select([self.fuse], [], [], within)[0]) and self.fuse.recv(1) == b""

    def end(self, within: float = 5) -> int:
        return self.process.wait(timeout=within)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=5)
        if self.process.stderr:
            self.process.stderr.close()
        for life in self.lives():
            try:
                if str(self.at).encode() in Path(f"/proc/{life.pid}/cmdline").read_bytes():
                    os.kill(life.pid, signal.SIGKILL)
            except OSError:
                pass
        self.fuse.close()
        self.listen.close()
        os.close(self.ready)


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Callable[..., Supervised]]:
    if not os.access(mounting.program("butlerfs-supervisor"), os.X_OK):
        pytest.fail(f"no butlerfs-supervisor in {mounting.BUILD}/fs: set BUTLERFS_BUILD or run tools/build")
    made: list[Supervised] = []

    def make(plan: str, *extra: str, **how: bool) -> Supervised:
        made.append(Supervised(tmp_path, plan, *extra, **how))
        return made[-1]

    yield make
    for s in made:
        s.stop()


def test_the_daemon_gets_its_descriptors_and_arguments_and_the_command_is_told_when_it_is_ready(supervised):
    s = supervised("ready")
    assert s.is_ready()
    life = s.wait_life(1)
    assert (life.number, life.last_signal, life.rest) == (1, 0, ["some", "words"])
    assert s.process.poll() is None


def test_once_ready_nothing_of_the_commands_terminal_is_held(supervised):
    s = supervised("ready")
    assert s.is_ready()
    assert s.process.stderr.read() == ""  # the end: neither supervisor nor daemon holds it
    assert os.getsid(s.process.pid) == s.process.pid


def test_a_first_life_that_fails_passes_its_line_on_and_leaves_nothing(supervised):
    s = supervised("fail")
    assert not s.is_ready()
    assert s.end() == 1
    assert s.process.stderr.read() == "butlerfs: the repository is not to be read\n"
    assert s.is_aborted()
    assert not (s.at / "control").exists()
    assert len(s.lives()) == 1


@pytest.mark.parametrize(("plan", "said"), [("crash before", "Segmentation fault"), ("silent", "status 9")])
def test_a_first_life_that_ends_without_a_word_has_a_line_all_the_same(supervised, plan, said):
    s = supervised(plan)
    assert not s.is_ready()
    assert s.end() == 1
    line = s.process.stderr.read()
    assert said in line and line.count("\n") == 1


def test_kill_9_ten_times_in_a_second_is_only_pauses(supervised):
    s = supervised("ready")
    assert s.is_ready()
    for number in range(1, 11):
        life = s.wait_life(number)
        time.sleep(0.1)
        os.kill(life.pid, signal.SIGKILL)
        killed = time.monotonic()
        after = s.wait_life(number + 1)
        assert after.last_signal == signal.SIGKILL
        assert after.began - killed < 1
    assert s.process.poll() is None


def test_kill_9_of_daemons_that_were_not_yet_ready_is_forgiven_more_often_than_failures(supervised):
    s = supervised("ready,hang,hang,hang,hang,hang,hang,ready")
    assert s.is_ready()
    for number in range(1, 8):
        os.kill(s.wait_life(number).pid, signal.SIGKILL)
    s.wait_life(8)
    assert s.process.poll() is None


def test_five_starts_that_fail_in_a_row_are_the_end_and_nobody_hangs(supervised):
    s = supervised("ready,fail")
    assert s.is_ready()
    os.kill(s.wait_life(1).pid, signal.SIGKILL)
    assert s.end(10) == 1
    assert s.is_aborted()
    assert len(s.lives()) == 6
    began = [x.began for x in s.lives()]
    assert began[5] - began[4] > 0.9  # it got slower
    assert not (s.at / "control").exists()


def test_a_start_that_succeeds_forgives_those_that_failed(supervised):
    s = supervised("ready,fail,fail,fail,fail,ready,fail,fail,fail,ready")
    assert s.is_ready()
    os.kill(s.wait_life(1).pid, signal.SIGKILL)
    life = s.wait_life(6)
    time.sleep(0.2)
    os.kill(life.pid, signal.SIGKILL)
    s.wait_life(10)
    assert s.process.poll() is None


def test_thirty_crashes_in_a_minute_are_the_end(supervised):
    s = supervised("crash")
    assert s.is_ready()
    assert s.end(30) == 1
    assert s.is_aborted()
    assert len(s.lives()) == 31


def test_a_start_that_hangs_is_killed(supervised):
    s = supervised("hang", "--start-limit-ms=300")
    assert not s.is_ready()
    assert s.end() == 1
    assert "took too long" in s.process.stderr.read()


def test_a_later_start_that_hangs_is_killed_and_tried_again(supervised):
    s = supervised("ready,hang,ready", "--start-limit-ms=500")
    assert s.is_ready()
    os.kill(s.wait_life(1).pid, signal.SIGKILL)
    s.wait_life(3)
    assert s.process.poll() is None


def test_two_starts_that_hang_in_a_row_are_the_end_as_users_wait_meanwhile(supervised):
    s = supervised("ready,hang", "--start-limit-ms=500")
    assert s.is_ready()
    os.kill(s.wait_life(1).pid, signal.SIGKILL)
    assert s.end() == 1
    assert s.is_aborted()
    assert len(s.lives()) == 3


def test_without_resend_a_death_is_the_end(supervised):
    s = supervised("once")
    assert s.is_ready()
    os.kill(s.wait_life(1).pid, signal.SIGKILL)
    assert s.end() == 1
    assert s.is_aborted()
    assert len(s.lives()) == 1


def test_an_unmount_ends_it_with_status_0(supervised):
    s = supervised("unmounted")
    assert s.is_ready()
    assert s.end() == 0
    assert not (s.at / "control").exists()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_ends_also_if_the_daemon_does_not(supervised, how):
    s = supervised("ready deaf")
    assert s.is_ready()
    s.process.send_signal(how)
    time.sleep(0.2)
    s.process.send_signal(how)  # the second time says: at once
    assert s.end() == 0
    assert s.is_aborted()


@pytest.mark.parametrize("way", ["channel", "SIGHUP"])
def test_an_upgrade_starts_the_new_daemon_under_a_new_supervisor_with_the_same_pid(supervised, way):
    s = supervised("wants upgrade,ready" if way == "channel" else "ready")
    assert s.is_ready()
    shutil.copy2(s.program, s.at / "new")
    os.rename(s.at / "new", s.program)
    (s.at / "go").touch()
    if way == "SIGHUP":
        s.process.send_signal(signal.SIGHUP)
    first, second = s.wait_life(1), s.wait_life(2)
    assert os.stat(f"/proc/{s.process.pid}/exe").st_ino == os.stat(s.program).st_ino
    assert second.last_signal == 0  # it was asked to end
    assert b"--again" in Path(f"/proc/{s.process.pid}/cmdline").read_bytes()
    assert s.process.poll() is None
    mounting.eventually(lambda: not os.path.exists(f"/proc/{first.pid}"), 5)
    # The new one looks after its daemon as the old one did.
    time.sleep(0.2)
    os.kill(second.pid, signal.SIGKILL)
    assert s.wait_life(3).last_signal == signal.SIGKILL


def test_a_daemon_that_does_not_end_for_an_upgrade_is_killed(supervised):
    s = supervised("ready deaf,ready")
    assert s.is_ready()
    s.wait_life(1)
    s.process.send_signal(signal.SIGHUP)
    assert s.wait_life(2, within=10).last_signal == signal.SIGKILL


def test_a_daemon_that_says_it_has_something_to_finish_is_waited_for(supervised):
    s = supervised("ready busy,ready")
    assert s.is_ready()
    s.wait_life(1)
    s.process.send_signal(signal.SIGHUP)
    assert s.wait_life(2, within=20).last_signal == 0


def test_an_upgrade_to_a_supervisor_that_does_not_run_keeps_the_old_one(supervised):
    s = supervised("ready")
    assert s.is_ready()
    s.wait_life(1)
    (s.at / "new").write_text("#!/bin/false\n")
    (s.at / "new").chmod(0o755)
    os.rename(s.at / "new", s.program)
    s.process.send_signal(signal.SIGHUP)
    s.wait_life(2)
    assert b"--again" not in Path(f"/proc/{s.process.pid}/cmdline").read_bytes()


def test_an_upgrade_to_a_daemon_that_does_not_run_is_refused(supervised):
    s = supervised("ready")
    assert s.is_ready()
    life = s.wait_life(1)
    (s.at / "broken").touch()
    s.process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert [x.pid for x in s.lives()] == [life.pid]
    assert os.path.exists(f"/proc/{life.pid}")


def test_in_the_foreground_it_stays_in_its_session_and_says_what_happens_on_stderr(supervised, tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        s = supervised("ready", foreground=True)
        assert b"READY=1" in systemd.recv(200)  # no command waits to be told
    os.kill(s.wait_life(1).pid, signal.SIGKILL)
    s.wait_life(2)
    assert os.getsid(s.process.pid) == os.getsid(0)
    s.process.terminate()
    time.sleep(0.3)
    s.process.terminate()
    assert s.end() == 0
    assert "life 1 ended by signal 9" in s.process.stderr.read()


def test_the_daemon_outlives_its_supervisor(supervised):
    s = supervised("ready")
    assert s.is_ready()
    life = s.wait_life(1)
    s.process.kill()
    s.end()
    time.sleep(0.2)
    assert os.path.exists(f"/proc/{life.pid}")
    assert not s.is_aborted(within=0.1)
