# SPDX-License-Identifier: BSD-3-Clause
"""What the server takes from a client that is no mount: the ceiling of whatever writes through one.

Signed beforehand, sent over connections that are kept, with the checksum that a mount would send; bytes come from memory.
"""

from __future__ import annotations

import base64
import http.client
import queue
import threading
import time
import zlib

import boto3
from botocore.config import Config
from peers import ACCESS, BUCKET, REGION, SECRET, Server

MIB = 1 << 20
PART_MIB = 16 # as butlerfs has them
SIDE_BY_SIDE = 4


def checksum(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


class RawClient:
    def __init__(self, server: Server) -> None:
        self.port = server.port
        # A URL that is signed says nothing of the payload.
        self.s3 = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{server.port}", region_name=REGION, aws_access_key_id=ACCESS,
                               aws_secret_access_key=SECRET, config=Config(signature_version="s3v4", s3={"addressing_style": "path"}))

    def presigned(self, method: str, **parameters: object) -> str:
        url = self.s3.generate_presigned_url(method, Params={"Bucket": BUCKET, **parameters}, ExpiresIn=3600)
        return url.partition(f":{self.port}")[2]

    def send(self, paths: list[str], body: memoryview, crc32: str, side_by_side: int) -> list[str]:
        """Each by a PUT, `side_by_side` at a time; their ETags."""
        left: queue.SimpleQueue[int] = queue.SimpleQueue()
        for i in range(len(paths)):
            left.put(i)
        etags = [""] * len(paths)
        threads = [threading.Thread(target=self.sender, args=(left, paths, body, crc32, etags)) for _ in range(side_by_side)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert all(etags), "not all was taken"
        return etags

    def sender(self, left: queue.SimpleQueue[int], paths: list[str], body: memoryview, crc32: str, etags: list[str]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, blocksize=MIB)
        while True:
            try:
                i = left.get_nowait()
            except queue.Empty:
                return
            connection.request("PUT", paths[i], body, {"x-amz-checksum-crc32": crc32})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{answer.status} {text!r}")
            etags[i] = answer.headers["ETag"]

    def large(self, key: str, mib: int, data: bytes, part_mib: int = PART_MIB, side_by_side: int = SIDE_BY_SIDE) -> float:
        """MiB/s of an object of `data`, each a MiB, in parts."""
        count = mib // part_mib
        part = data * part_mib
        crc32 = checksum(part)
        start = time.monotonic()
        upload = self.s3.create_multipart_upload(Bucket=BUCKET, Key=key, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")["UploadId"]
        paths = [self.presigned("upload_part", Key=key, UploadId=upload, PartNumber=i + 1, ChecksumCRC32=crc32) for i in range(count)]
        etags = self.send(paths, memoryview(part), crc32, side_by_side)
        parts = [{"PartNumber": i + 1, "ETag": etag, "ChecksumCRC32": crc32} for i, etag in enumerate(etags)]
        self.parts_seconds = time.monotonic() - start
        self.s3.complete_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}, ChecksumType="FULL_OBJECT")
        return mib / (time.monotonic() - start)

    def small(self, key: str, count: int, body: bytes, side_by_side: int = 1) -> float:
        """Objects/s, `side_by_side` at a time."""
        crc32 = checksum(body)
        paths = [self.presigned("put_object", Key=f"{key}/{i:05d}", ChecksumCRC32=crc32) for i in range(count)]
        start = time.monotonic()
        self.send(paths, memoryview(body), crc32, side_by_side)
        return count / (time.monotonic() - start)
