# SPDX-License-Identifier: BSD-3-Clause
"""How a bucket is reached: over TLS, by a host of its own, with keys that are fetched and renewed. Servers are the tests' own."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import mounting
import pytest
from fakes3 import FakeS3
from mounting import refused
from s3proxy import S3Proxy


@pytest.fixture
def server() -> Iterator[FakeS3]:
    with FakeS3({b"d/f%d" % i: b"bytes of %d" % i for i in range(1000)}) as s:
        yield s


# ---- TLS


@pytest.fixture
def certificate(place: Path) -> Path:
    """A certificate of our own for localhost, with its key beside it."""
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl to make a certificate with")
    at = place / "certificate.pem"
    if not at.exists():
        made = subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
                               "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", f"{at}.key", "-out", str(at)], capture_output=True)  # fmt: skip
        assert made.returncode == 0, made.stderr
    return at


@pytest.fixture
def secure(server: FakeS3, certificate: Path) -> dict[str, Any]:
    """The server speaks TLS; how it is reached."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, f"{certificate}.key")
    server.server.socket = context.wrap_socket(server.server.socket, server_side=True)
    return {"endpoint": f"https://localhost:{server.port}", "access_key": "K", "secret_key": "S", "region": "us-east-1", "refresh": None}


def test_a_server_whose_certificate_is_in_the_bundle_is_read(secure, certificate, mount):
    m = mount("s3://bucket", ca_bundle=certificate, **secure)
    assert (m / "d/f7").read_bytes() == b"bytes of 7"


def test_a_server_whose_certificate_nobody_vouches_for_is_refused_with_one_line_that_says_so(secure, mount, place):
    secure.pop("refresh")
    line = refused("s3://bucket", place, mount.env, timeout="3s", **secure)
    assert "certificate" in line and "localhost" in line, line


# ---- a host for each bucket


def test_by_virtual_host_style_a_request_goes_to_the_buckets_own_host(server, mount, place):
    hosts: set[str] = set()
    usual = server.server.RequestHandlerClass

    class ByHost(usual):  # type: ignore[misc, valid-type]
        def _dispatch(self) -> None:
            hosts.add(self.headers["Host"])
            self.path = "/" + self.headers["Host"].partition(".")[0] + self.path
            super()._dispatch()

        do_GET = do_HEAD = _dispatch

    server.server.RequestHandlerClass = ByHost
    config = place / "host-style-config"
    config.write_text("[default]\ns3 =\n  addressing_style = virtual\n")
    m = mount("s3://bucket", endpoint=f"http://localhost:{server.port}", access_key="K", secret_key="S", region="us-east-1",
              env={"AWS_CONFIG_FILE": str(config)}, refresh=None)  # fmt: skip
    assert (m / "d/f8").read_bytes() == b"bytes of 8"
    assert hosts == {f"bucket.localhost:{server.port}"}


# ---- keys that are fetched


class Giver:
    """A server that gives what `answer(method, path)` says, and counts."""

    def __init__(self, answer: Callable[[str, str], str]) -> None:
        self.asked: list[tuple[str, str]] = []

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(handler) -> None:  # noqa: N805
                self.asked.append((handler.command, handler.path))
                body = answer(handler.command, handler.path).encode()
                handler.send_response(200)
                handler.send_header("Content-Length", str(len(body)))
                handler.end_headers()
                handler.wfile.write(body)

            do_PUT = do_GET

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> Giver:
        return self

    def __exit__(self, *_: Any) -> None:
        self.server.shutdown()
        self.server.server_close()


def when(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def test_keys_of_a_web_identity_are_asked_of_its_endpoint(server, mount, place):
    token = place / "web-identity-token"
    token.write_text("the.token\n")
    given = ("<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>OFROLE</AccessKeyId>"
             f"<SecretAccessKey>s</SecretAccessKey><SessionToken>SESSION</SessionToken><Expiration>{when(time.time() + 3600)}</Expiration>"
             "</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>")  # fmt: skip
    with Giver(lambda *_: given) as giver, S3Proxy(server.port) as proxy:
        env = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(token), "AWS_ROLE_ARN": "arn:aws:iam::1:role/r", "AWS_ENDPOINT_URL_STS": giver.url}
        m = mount("s3://bucket", endpoint=proxy.url, region="us-east-1", env=env, refresh=None)
        assert (m / "d/f9").read_bytes() == b"bytes of 9"
        assert 1 <= len(giver.asked) <= 2  # the command looks first whether the bucket can be read
        path = giver.asked[-1][1]
        assert "Action=AssumeRoleWithWebIdentity" in path and "WebIdentityToken=the.token" in path
        assert all("Credential=OFROLE/" in r.headers["authorization"] for r in proxy.log)
        assert all(r.headers["x-amz-security-token"] == "SESSION" for r in proxy.log)
        m.end()


def test_keys_are_renewed_before_they_expire_while_reads_go_on(server, mount):
    ends = {"SECOND": time.time() + 3600}
    is_up = threading.Event()
    renewals: list[float] = []

    def answer(method: str, path: str) -> str:
        if method == "PUT":
            return "token"
        if path.endswith("/security-credentials/"):
            return "role"
        key = "SECOND" if is_up.is_set() else "FIRST"
        if key == "FIRST":  # the command's, then the daemon's
            ends[key] = time.time() + 24
        else:
            renewals.append(time.time())
        return json.dumps({"AccessKeyId": key, "SecretAccessKey": "s", "Token": "t", "Expiration": when(ends[key])})

    with Giver(answer) as giver, S3Proxy(server.port) as proxy:
        env = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": giver.url, "HOME": "/nonexistent"}
        m = mount("s3://bucket", endpoint=proxy.url, region="us-east-1", env=env, refresh=None, folder_ahead="0")

        assert (m / "d/f999").read_bytes() == b"bytes of 999"
        is_up.set()

        def used() -> set[str]:
            return {key for r in list(proxy.log) for key in ends if f"Credential={key}/" in r.headers["authorization"]}

        for i in range(999):
            assert (m / f"d/f{i}").read_bytes() == b"bytes of %d" % i
            if "SECOND" in used():
                break
            time.sleep(0.05)
        assert used() == {"FIRST", "SECOND"}
        late = [r for r in proxy.log if "Credential=FIRST/" in r.headers["authorization"] and r.at - time.monotonic() + time.time() > ends["FIRST"]]
        assert not late
        assert len(renewals) == 1 and renewals[0] < ends["FIRST"]
        m.end()
