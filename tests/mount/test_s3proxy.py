# SPDX-License-Identifier: BSD-3-Clause
"""The S3 server and the proxy of the tests do what the tests rely on, seen by the real client."""
import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ReadTimeoutError
from s3proxy import S3Proxy
from s3server import S3Server, rclone

pytestmark = pytest.mark.skipif(not rclone(), reason="rclone is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("s3") / "data"
    folder.mkdir()
    it = S3Server(folder)
    (it.bucket("bucket") / "a b+c").write_bytes(bytes(range(256)) * 1000)
    yield it
    it.stop()


@pytest.fixture
def proxy(server):
    with S3Proxy(server.port) as it:
        yield it


def client(server, proxy, timeout=5):
    return boto3.client("s3", endpoint_url=proxy.url, aws_access_key_id=server.key,
                        aws_secret_access_key=server.secret, region_name="us-east-1",
                        config=Config(retries={"total_max_attempts": 1}, read_timeout=timeout,
                                      request_checksum_calculation="when_required",
                                      response_checksum_validation="when_required"))


def get(c):
    return c.get_object(Bucket="bucket", Key="a b+c", Range="bytes=0-9999")["Body"].read()


def test_an_object_passes_unchanged_and_is_counted(server, proxy):
    assert get(client(server, proxy)) == (bytes(range(256)) * 1000)[:10000]
    assert proxy.requests == {"GET": 1} and proxy.bytes == 10000
    assert proxy.log[0].path == "/bucket/a b+c" and proxy.log[0].headers["range"] == "bytes=0-9999"


def test_a_listing_passes_unchanged(server, proxy):
    found = client(server, proxy).list_objects_v2(Bucket="bucket")
    assert [o["Key"] for o in found["Contents"]] == ["a b+c"]


def test_faults_happen_as_often_as_they_are_asked_for(server, proxy):
    proxy.fault(status=503, body=b"<Error><Code>SlowDown</Code></Error>", times=1)
    with pytest.raises(ClientError, match="SlowDown"):
        get(client(server, proxy))
    assert len(get(client(server, proxy))) == 10000
    proxy.fault(flip=True)
    assert get(client(server, proxy))[0] == 1
    proxy.fault(cut_after=100)
    with pytest.raises(Exception, match="(?i)reset|broken|incomplete"):
        get(client(server, proxy))
    proxy.fault(stall_after=100)
    with pytest.raises(ReadTimeoutError):
        get(client(server, proxy, timeout=0.5))
    proxy.release()


def test_a_paused_server_answers_again_when_it_is_resumed(server, proxy):
    server.pause()
    with pytest.raises(ReadTimeoutError):
        get(client(server, proxy, timeout=0.5))
    server.resume()
    assert len(get(client(server, proxy))) == 10000
