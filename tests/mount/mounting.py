# SPDX-License-Identifier: BSD-3-Clause
"""A butlerfs mount in a test: made, watched and always ended.

A request that the daemon never answers blocks its caller out of reach of signals. So each mount has a
watchdog: when its time is up the processes are killed, every blocked request fails, and the test with it.
"""

from __future__ import annotations

import errno
import glob
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("BUTLERFS_BUILD") or TOP / "build" / "asan").absolute()
IS_ROOT = os.geteuid() == 0
# Sanitizers slow everything; what is waited for is not.
SLACK = float(os.environ.get("BUTLERFS_TEST_SLACK", "4"))


def program(name: str) -> str:
    return str(BUILD / "fs" / name)


def is_built() -> bool:
    return all(os.access(program(p), os.X_OK) for p in ("butlerfs", "butlerfs-supervisor", "butlerfsctl"))


def eventually(true: Callable[[], Any], within: float, what: str = "") -> Any:
    """Calls until the result is true; the last result, or a failure that says what never came."""
    end = time.monotonic() + within
    while True:
        result = true()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"not so within {within} s: {what or true}")
        time.sleep(0.01)


def option_text(options: dict[str, Any]) -> str:
    out = []
    for key, value in options.items():
        if value is True:
            out.append(key)
        elif value is not None and value is not False:
            out.append(f"{key}={str(value).replace(',', chr(92) + ',')}")
    return ",".join(out)


def is_mounted(where: str | Path) -> bool:
    wanted = os.fsencode(str(where))
    with open("/proc/self/mountinfo", "rb") as f:
        return any(unoctal(line.split(b" ")[4]) == wanted for line in f)


def unoctal(text: bytes) -> bytes:
    out, i = bytearray(), 0
    while i < len(text):
        if text[i : i + 1] == b"\\" and text[i + 1 : i + 4].isdigit():
            out.append(int(text[i + 1 : i + 4], 8))
            i += 4
        else:
            out.append(text[i])
            i += 1
    return bytes(out)


def sanitizer_environment(reports: Path) -> dict[str, str]:
    """A daemon in the background has no stderr that we would see: its sanitizers report to files."""
    env = dict(os.environ)
    for variable, base in (("ASAN_OPTIONS", "detect_leaks=1:strict_string_checks=1"),
                           ("UBSAN_OPTIONS", "print_stacktrace=1:halt_on_error=1")):  # fmt: skip
        said = env.get(variable, base)
        if "log_path=" not in said:
            said += f":log_path={reports}/{variable[:4].lower()}"
        env[variable] = said
    # A mount must not depend on what the caller's shell happens to say.
    for variable in list(env):
        if variable.startswith(("DAF_BUTLER_", "AWS_", "S3_ENDPOINT_URL", "LSST_RESOURCES_S3_")):
            del env[variable]
    return env


def sanitizer_reports(env: dict[str, str]) -> set[str]:
    found: set[str] = set()
    for variable in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"):
        for part in env.get(variable, "").split(":"):
            if part.startswith("log_path="):
                found.update(glob.glob(part.removeprefix("log_path=") + ".*"))
    return found


def control(*args: str | Path, build: Path | None = None, timeout: float = 30, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    name = str((build or BUILD) / "fs" / "butlerfsctl")
    return subprocess.run([name, *map(str, args)], capture_output=True, text=True, timeout=timeout, **kwargs)


def quota(mount: Mount, verb: str, *words: str) -> str:
    answer = control("quota", verb, mount.path, *words)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


class Mount:
    alive: list[Mount] = []

    def __init__(
        self,
        source: str | Path,
        where: Path,
        env: dict[str, str],
        *,
        limit: float = 180,
        foreground: bool = True,
        build: Path | None = None,
        as_user: Sequence[str] = (),
        leak_check: bool = True,
        **options: Any,
    ):
        self.source, self.path, self.env = str(source), where, env
        self.options = {"refresh": "200ms", **options}
        if self.source.startswith(("home:", "group:")):  # not the machine's own
            self.options.setdefault("ledger_dir", where.parent / f"ledger-{where.name}")
        self.build = build or BUILD
        self.leak_check = leak_check
        self.overdue = False
        self.reports_before = sanitizer_reports(env)
        self.pids: set[int] = set()
        where.mkdir(exist_ok=True)
        fd, self.log_path = tempfile.mkstemp(prefix="log-", dir=where.parent)
        self.log_seen = 0
        self.kills = 0
        Mount.alive.append(self)
        command = [*as_user, str(self.build / "fs" / "butlerfs"), self.source, str(where), "-o", option_text(self.options)]
        if foreground:
            command.append("-f")
        self.command = command
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=fd, stderr=fd, env=env, start_new_session=True)  # fmt: skip
        os.close(fd)
        self.limit = limit
        self.watchdog: threading.Timer | None = None
        self.watch()
        try:
            self._wait_ready(foreground)
        except BaseException:
            self.end_by_force()
            raise
        self.began = self.status()
        self.descriptors_at_start = self._descriptors()
        self.threads_at_start = self._threads()

    # ------------------------------------------------------------------------------------ at start

    def _wait_ready(self, foreground: bool) -> None:
        end = time.monotonic() + 40
        while True:
            code = self.process.poll()
            if code is not None and (foreground or code != 0):
                raise AssertionError(f"{self.command} ended with status {code}: {self.log()[-2000:]}")
            if (not foreground and code == 0) or (foreground and is_mounted(self.path)):
                answer = control("status", self.path, "--json", build=self.build, env=self.env)
                if answer.returncode == 0:
                    self._learn(json.loads(answer.stdout))
                    return
                if not foreground:
                    raise AssertionError(f"the command came back and the mount doesn't answer: {answer.stderr}")
            if time.monotonic() > end:
                raise AssertionError(f"{self.command} did not mount within 40 s: {self.log()[-2000:]}")
            time.sleep(0.02)

    def _learn(self, status: dict[str, Any]) -> None:
        self.pids |= {status["pid"], status["supervisor_pid"]}

    def log(self) -> str:
        return Path(self.log_path).read_text(errors="replace")

    def log_since(self) -> str:
        """What it logged since this was last asked."""
        text = Path(self.log_path).read_bytes()[self.log_seen :] if os.path.exists(self.log_path) else b""
        self.log_seen += len(text)
        return text.decode(errors="replace")

    # ---------------------------------------------------------------------------------- questions

    def status(self) -> dict[str, Any]:
        answer = control("status", self.path, "--json", build=self.build, env=self.env)
        assert answer.returncode == 0, f"status: {answer.returncode} {answer.stderr}"
        status = json.loads(answer.stdout)
        self._learn(status)
        return status

    def counters(self) -> dict[str, int]:
        return self.status()["counters"]

    def pid(self) -> int:
        return self.status()["pid"]

    def _descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid()}/fd"))

    def _open_things(self) -> list[str]:
        at = f"/proc/{self.pid()}/fd"
        return sorted(os.readlink(f"{at}/{n}") for n in os.listdir(at) if os.path.lexists(f"{at}/{n}"))

    def _threads(self) -> int:
        return len(os.listdir(f"/proc/{self.pid()}/task"))

    def kill_daemon(self) -> None:
        """By the supervisor's word: the mount itself may be asked by nobody meanwhile."""
        supervisor = self.began["supervisor_pid"]
        self.kills += 1
        for pid in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split():
            self.pids.add(int(pid))
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass

    def __truediv__(self, name: str | bytes) -> Path:
        return self.path / (os.fsdecode(name) if isinstance(name, bytes) else name)

    def at(self, path: bytes) -> bytes:
        """The path of something below the mount, as bytes."""
        return os.fsencode(str(self.path)) + b"/" + path if path else os.fsencode(str(self.path))

    # --------------------------------------------------------------------------------------- the end

    def assert_nothing_leaked(self) -> None:
        """After the last close nothing is held: no handle, no waiter, no descriptor, no thread."""
        held = ("waiters", "open_files", "open_folders")
        # The question itself comes by an opened folder.
        own = {"open_folders": 1}

        def none() -> bool:
            c = self.counters()
            return all(c[k] <= own.get(k, 0) for k in held)

        try:
            eventually(none, SLACK)
        except AssertionError:
            raise AssertionError({k: v for k, v in self.counters().items() if k in held}) from None
        # A registry's connections are made when first used: a few descriptors, whatever was done. Connections to
        # servers, and what was open last, are kept within bounds that status tells. What the kernel forgets it tells a
        # little later.
        def few() -> bool:
            status = self.status()
            kept = sum(e["connections"] for e in status["network"]["endpoints"]) + 3 * status["cache"]["objects_idle"]
            kept += sum(s.get("descriptors", 0) for s in status["spaces"])
            return self._descriptors() <= self.descriptors_at_start + 12 + kept

        try:
            eventually(few, SLACK)
        except AssertionError:
            raise AssertionError(f"{self.descriptors_at_start} descriptors at the start, now {self._open_things()}") from None
        now = self._threads()
        assert now <= self.threads_at_start + 4, f"{self.threads_at_start} threads at the start, {now} at the end"

    def unmount(self) -> None:
        """As an administrator would; the processes must end by themselves, with status 0."""
        command = ["umount", str(self.path)] if IS_ROOT else ["fusermount3", "-u", str(self.path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        self.wait_end()

    def wait_end(self, within: float = 30) -> None:
        code = self.process.wait(timeout=within)
        assert code == 0, f"butlerfs ended with status {code}: {self.log()[-2000:]}"
        eventually(lambda: not any(_is_alive(p) for p in self.pids), within, f"processes {self.pids} end")

    def end(self) -> None:
        """At the end of a test: checks, a clean end, and force if that is not to be had."""
        try:
            if is_mounted(self.path):
                if self.leak_check:
                    self.assert_nothing_leaked()
                self.unmount()
            assert not self.overdue, "the mount was killed by its watchdog: something hung"
            new = sanitizer_reports(self.env) - self.reports_before
            assert not new, "\n".join(Path(p).read_text(errors="replace")[:4000] for p in sorted(new))
        finally:
            self.end_by_force()

    def watch(self) -> None:
        """From now on the mount has `limit` seconds; a mount that serves several tests has them for each."""
        if self.watchdog:
            self.watchdog.cancel()
        self.watchdog = threading.Timer(self.limit, self._bark)
        self.watchdog.daemon = True
        self.watchdog.start()

    def end_by_force(self) -> None:
        self.watchdog.cancel()
        if is_mounted(self.path):
            subprocess.run(["umount", "-l", str(self.path)] if IS_ROOT else ["fusermount3", "-uz", str(self.path)],
                           capture_output=True, timeout=30)  # fmt: skip
        self._kill()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            pass

    def _kill(self) -> None:
        # The session that we started; the processes that the mount told of, if they still are butlerfs.
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except OSError:
            pass
        for pid in self.pids:
            if _is_alive(pid):
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass

    def _bark(self) -> None:
        self.overdue = True
        self._kill()


def _is_alive(pid: int) -> bool:
    """Whether `pid` is a process of butlerfs (not another that got the number since, not a zombie)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        exe = os.readlink(f"/proc/{pid}/exe")
    except OSError as e:
        assert e.errno in (errno.ENOENT, errno.ESRCH, errno.EACCES, errno.EPERM), e
        return False
    return "butlerfs" in exe and stat.rpartition(")")[2].split()[0] not in "ZX"


def public_build(to: Path) -> Path:
    """A copy of the programs that other users can run (and that a test may sabotage)."""
    (to / "fs").mkdir(parents=True)
    for name in ("butlerfs", "butlerfs-supervisor", "butlerfsctl"):
        shutil.copy2(program(name), to / "fs" / name)
    for p in (to, to / "fs"):
        p.chmod(0o755)
    return to


def refused(source: str, place: Path, env: dict[str, str], **options: Any) -> str:
    """The one line that says why it can't be mounted."""
    where = place / "refused"
    where.mkdir(exist_ok=True)
    options.setdefault("cache_dir", place / "refused-cache")
    done = subprocess.run(
        [program("butlerfs"), source, str(where), "-o", option_text(options)],
        capture_output=True, text=True, timeout=60, env=env,
    )  # fmt: skip
    assert done.returncode != 0
    assert not is_mounted(where)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def walk(root: bytes) -> dict[bytes, os.stat_result]:
    """Everything below `root`, by os.scandir: path relative to root -> lstat. Checks the listing's types."""
    found: dict[bytes, os.stat_result] = {}
    todo = [b""]
    while todo:
        at = todo.pop()
        with os.scandir(root + b"/" + at if at else root) as entries:
            for e in entries:
                path = at + b"/" + e.name if at else e.name
                assert path not in found, f"{path!r} is listed twice"
                is_dir = e.is_dir(follow_symlinks=False)  # the listing's word, no stat
                st = e.stat(follow_symlinks=False)
                assert is_dir == (st.st_mode & 0o170000 == 0o040000), f"{path!r}: listing and stat differ"
                assert e.inode() == st.st_ino, f"{path!r}: {e.inode()} listed, {st.st_ino} by stat"
                found[path] = st
                if is_dir:
                    todo.append(path)
    return found
