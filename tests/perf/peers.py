# SPDX-License-Identifier: BSD-3-Clause
"""The S3 server of the object benchmarks, what stands between (a delay, a counter), and the mounts that are
compared: butlerfs, and of the others those that this machine has. None is needed but the server.

Server: `versitygw` if it is in PATH (or $VERSITYGW), else `rclone serve s3`, which is slower. Objects are
written straight into the folder it serves, with the ETag it would have given them.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from measure import BUILD, COMMAND, CONTROL, TOP

ACCESS, SECRET, REGION, BUCKET = "perf", "perfperfperf", "us-east-1", "bench"
VENV = TOP / ".venv" / "bin"


def program(name: str, variable: str | None = None) -> str | None:
    found = (os.environ.get(variable) if variable else None) or shutil.which(name)
    return found or (str(VENV / name) if (VENV / name).exists() else None)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_port(port: int, process: subprocess.Popen) -> None:
    for _ in range(400):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"{process.args} does not listen")


class Server:
    """An S3 server over a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bucket = folder / BUCKET
        self.bucket.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        versity, rclone = program("versitygw", "VERSITYGW"), program("rclone")
        environment = {**os.environ, "ROOT_ACCESS_KEY": ACCESS, "ROOT_SECRET_KEY": SECRET}
        if versity:
            self.name = "versitygw"
            command = [versity, "--quiet", "--keep-alive", "--port", f"127.0.0.1:{self.port}", "posix", str(folder)]
        elif rclone:
            self.name = "rclone serve s3"
            command = [rclone, "serve", "s3", "--addr", f"127.0.0.1:{self.port}", "--auth-key",
                       f"{ACCESS},{SECRET}", "--etag-hash", "", str(folder)]
        else:
            raise RuntimeError("there is no S3 server: put versitygw or rclone into PATH")
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_port(self.port, self.process)

    def put(self, key: str, data: bytes, size: int | None = None) -> Path:
        """An object; sparse beyond `data` where `size` is more."""
        path = self.bucket / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as f:
            f.write(data)
            if size is not None:
                f.truncate(size)
        self.tag(path)
        return path

    def tag(self, path: Path) -> None:
        """The ETag that clients check bytes against; the server keeps it there."""
        with path.open("rb") as f:
            digest = hashlib.file_digest(f, "md5").hexdigest()
        os.setxattr(path, "user.etag", f'"{digest}"'.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


class Proxy:
    """Adds a delay to each request and counts what passes (tests/perf/slow_proxy.c)."""

    def __init__(self, server_port: int, delay_ms: int, work: Path) -> None:
        binary = BUILD / "tests" / "perf" / "slow_proxy"
        subprocess.run(["ninja", "-C", BUILD, "tests/perf/slow_proxy"], check=True, stdout=subprocess.DEVNULL)
        counts = work / f"counts-{free_port()}"
        self.port = free_port()
        self.process = subprocess.Popen([binary, str(self.port), str(server_port), str(delay_ms), counts])
        wait_port(self.port, self.process)
        with counts.open("r+b") as f:
            self.map = mmap.mmap(f.fileno(), 32)

    def counts(self) -> tuple[int, int]:
        """Requests, bytes that the server sent; since the start."""
        _, requests, down, _ = struct.unpack("4Q", self.map[:32])
        return requests, down

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


# ---- mounts


@dataclass
class Mounted:
    point: Path
    pid: int
    folder: Path  # where the cache and all of it is

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mib(self) -> float:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        return float("nan")


class Peer:
    """A program that mounts the bucket. `with peer.mount(port, work) as m`."""

    name = ""
    kind = "fuse"
    writes = False # mounted to be written to

    def is_there(self) -> bool:
        raise NotImplementedError

    def start(self, port: int, point: Path, folder: Path) -> int:
        """Mounts with an empty cache in `folder`; the daemon's pid."""
        raise NotImplementedError

    def mount(self, port: int, work: Path) -> MountBlock:
        return MountBlock(self, port, work)


class MountBlock:
    def __init__(self, peer: Peer, port: int, work: Path) -> None:
        self.peer, self.port = peer, port
        self.folder = Path(tempfile.mkdtemp(prefix=f"{peer.name}-", dir=work))
        self.point = self.folder / "mnt"
        self.point.mkdir()

    def __enter__(self) -> Mounted:
        pid = self.peer.start(self.port, self.point, self.folder)
        return Mounted(self.point, pid, self.folder)

    def __exit__(self, *_: object) -> None:
        for _ in range(20):
            if subprocess.run(["umount", self.point], stderr=subprocess.DEVNULL).returncode == 0:
                break
            time.sleep(0.25)
        else:
            subprocess.run(["umount", "-l", self.point], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def wait_mounted(point: Path, process: subprocess.Popen | None = None) -> None:
    for _ in range(400):
        if os.path.ismount(point):
            return
        if process and process.poll() not in (None, 0):
            break
        time.sleep(0.05)
    raise RuntimeError(f"{point} was not mounted")


class Butlerfs(Peer):
    name = "butlerfs"

    def __init__(self, *options: str) -> None:
        self.options = options

    def is_there(self) -> bool:
        return COMMAND.exists()

    def start(self, port: int, point: Path, folder: Path) -> int:
        options = [f"cache_dir={folder}/cache", f"endpoint=http://127.0.0.1:{port}", *self.options]
        environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": ACCESS,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
        }
        subprocess.run([COMMAND, f"s3://{BUCKET}", point, "-o", ",".join(options)], check=True, env=environment)
        out = subprocess.run([CONTROL, "status", point, "--json"], check=True, capture_output=True, text=True)
        return int(json.loads(out.stdout)["pid"])


class S3fs(Peer):
    name = "s3fs"

    def is_there(self) -> bool:
        return shutil.which("s3fs") is not None

    def start(self, port: int, point: Path, folder: Path) -> int:
        secret = folder / "passwd"
        secret.write_text(f"{ACCESS}:{SECRET}\n")
        secret.chmod(0o600)
        options = (
            f"url=http://127.0.0.1:{port},endpoint={REGION},use_path_request_style,passwd_file={secret},{'rw' if self.writes else 'ro'},"
            f"allow_other,ensure_diskfree=1024,use_cache={folder}/cache"
        )
        process = subprocess.Popen(
            ["s3fs", BUCKET, point, "-f", "-o", options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_mounted(point, process)
        return process.pid


class Rclone(Peer):
    def __init__(self, mode: str) -> None:
        self.name = f"rclone_{mode}"
        self.mode = mode

    def is_there(self) -> bool:
        return program("rclone") is not None

    def start(self, port: int, point: Path, folder: Path) -> int:
        remote = (
            f":s3,provider=Other,access_key_id={ACCESS},secret_access_key={SECRET},region={REGION},"
            f'endpoint="http://127.0.0.1:{port}",force_path_style=true:{BUCKET}'
        )
        options = [*([] if self.writes else ["--read-only"]), "--allow-other", "--cache-dir", str(folder / "cache"), "--config", ""]
        if self.writes:
            options += ["--vfs-cache-mode", self.mode, "--vfs-write-back", "0s"]
        elif self.mode == "full":
            options += [
                "--vfs-cache-mode", "full", "--use-server-modtime", "--vfs-read-ahead", "64M",
                "--vfs-read-chunk-streams", "4", "--vfs-read-chunk-size", "16M", "--vfs-cache-max-size", "40G",
            ]
        process = subprocess.Popen(
            [program("rclone"), "mount", remote, point, *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_mounted(point, process)
        return process.pid


class Mountpoint(Peer):
    """mountpoint-s3, by a program of its library: BUCKET FOLDER ENDPOINT REGION."""

    name = "mountpoint"

    def is_there(self) -> bool:
        return bool(os.environ.get("MOUNT_S3"))

    def start(self, port: int, point: Path, folder: Path) -> int:
        environment = {**os.environ, "AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}
        process = subprocess.Popen([os.environ["MOUNT_S3"], BUCKET, point, f"http://127.0.0.1:{port}", REGION], env=environment,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_mounted(point, process)
        return process.pid


class PassthroughHp(Peer):
    """libfuse's own example over the server's files: the ceiling, not a client of the server."""

    name = "passthrough_hp"
    kind = "ceiling"

    def __init__(self, source: Path) -> None:
        self.source = source
        self.binary = BUILD / "passthrough_hp"

    def is_there(self) -> bool:
        library = next(BUILD.glob("subprojects/fuse3/lib/libfuse3.a"), None)
        example = TOP / "subprojects" / "fuse3" / "example" / "passthrough_hp.cc"
        if not self.binary.exists() and library and example.exists() and shutil.which("g++"):
            include = TOP / "subprojects" / "fuse3" / "include"
            subprocess.run(
                ["g++", "-std=gnu++17", "-O2", "-w", f"-I{include}", f"-I{BUILD}/subprojects/fuse3",
                 f"-I{TOP}/subprojects/fuse3/example", "-DFUSE_USE_VERSION=317",
                 example, library, "-o", self.binary, "-pthread", "-ldl"],
                check=False, stderr=subprocess.DEVNULL,
            )
        return self.binary.exists()

    def start(self, port: int, point: Path, folder: Path) -> int:
        process = subprocess.Popen(
            [self.binary, "--foreground", self.source, point],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        wait_mounted(point, process)
        return process.pid


class Native(Peer):
    """The server's own files, bind-mounted: the file system below."""

    name = "native"
    kind = "ceiling"

    def __init__(self, source: Path) -> None:
        self.source = source

    def is_there(self) -> bool:
        return True

    def start(self, port: int, point: Path, folder: Path) -> int:
        subprocess.run(["mount", "--bind", self.source, point], check=True)
        return os.getpid()


# ---- the machine


def drop_caches() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def advise_cached(path: Path) -> None:
    """Brings a file of the server into the page cache: its disk is not what is measured."""
    with path.open("rb") as f:
        while f.read(1 << 24):
            pass


