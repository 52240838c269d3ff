# SPDX-License-Identifier: BSD-3-Clause
"""An S3 server in memory, which holds any key there can be (servers over folders can't) and does to the letter what S3 says of
writing: checksums are compared, conditions kept, markers of folders are objects as any other. Signatures aren't looked at.

    with FakeS3({b"a": b"bytes", b"a/b": b"more"}) as server:
        server.url                # one bucket, whatever it is called
    server = FakeS3()             # any number of buckets, each made by its first use; as s3server.S3Server:
        server.client(), server.options(), server.bucket(name), server.port, server.stop()
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import time
import zlib
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import quote, unquote_to_bytes
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import s3server

LONG_AGO = 1731294245.0  # Mon, 11 Nov 2024 03:04:05 GMT: of what is there from the beginning


@dataclass
class Stored:
    data: bytes
    etag: str = ""
    at: float = LONG_AGO
    fields: dict[str, str] = field(default_factory=dict)  # of its making, that go with every answer

    def __post_init__(self) -> None:
        self.etag = self.etag or f'"{hashlib.md5(self.data).hexdigest()}"'


@dataclass
class Begun:
    bucket: str
    key: bytes
    fields: dict[str, str]
    at: float
    parts: dict[int, Stored] = field(default_factory=dict)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class FakeS3:
    handler: type[_Handler]

    def __init__(self, objects: dict[bytes, bytes] | None = None) -> None:
        self.lock = threading.Lock()  # of what follows
        self.only = {key: Stored(data) for key, data in objects.items()} if objects is not None else None
        self.buckets: dict[str, dict[bytes, Stored]] = {}
        self.uploads: dict[str, Begun] = {}
        self.numbers = count(1)
        self.key, self.secret = s3server.KEY, s3server.SECRET
        self.server = _Server(("127.0.0.1", 0), type("Handler", (self.handler,), {"owner": self}))
        self.port = self.server.server_address[1]
        self.url = self.endpoint = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    client = s3server.S3Server.client
    options = s3server.S3Server.options

    def __enter__(self) -> FakeS3:
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def bucket(self, name: str) -> dict[bytes, Stored]:
        return self.only if self.only is not None else self.buckets.setdefault(name, {})

    def page(self, bucket: str, prefix: bytes, delimiter: bytes, after: bytes, most: int) -> tuple[list[bytes], list[bytes], bytes]:
        """Keys and common prefixes after `after`, and where the next page begins (empty: nowhere)."""
        keys: list[bytes] = []
        prefixes: list[bytes] = []
        last = b""
        for key in sorted(k for k in self.bucket(bucket) if k.startswith(prefix)):
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            name = key if end < 0 else key[: end + len(delimiter)]
            if (after and name <= after) or name in prefixes:
                continue
            if len(keys) + len(prefixes) == most:
                return keys, prefixes, last
            (keys if end < 0 else prefixes).append(name)
            last = name
        return keys, prefixes, b""


def crc32_of(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at * 1000) % 1000:03d}Z"


class Refused(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    owner: FakeS3
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_: Any) -> None:
        pass

    def handle_expect_100(self) -> bool:
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def _answer(self, status: int, body: bytes = b"", **fields: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **fields}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _xml(self, name: str, inside: str, **fields: str) -> None:
        self._answer(200, f"<{name}>{inside}</{name}>".encode(), Content_Type="application/xml", **fields)

    def _dispatch(self) -> None:
        path, _, query = self.path.partition("?")
        self.query = {p.split("=")[0]: unquote_to_bytes(p.partition("=")[2].replace("+", "%20")) for p in query.split("&") if p}
        bucket, _, key = path.lstrip("/").partition("/")
        self.bucket, self.key = bucket, unquote_to_bytes(key)
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        if len(self.body) < length:  # it broke off: nothing has come to be
            self.close_connection = True
            return
        verb = {
            "GET": self._get, "HEAD": self._get, "PUT": self._put, "POST": self._post, "DELETE": self._delete,
        }[self.command]  # fmt: skip
        try:
            verb()
        except Refused as e:
            self._answer(e.status, f"<Error><Code>{e.code}</Code><Message>so it is</Message></Error>".encode())

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _dispatch

    # ---- reading

    def _get(self) -> None:
        if "uploads" in self.query:
            self._list_uploads()
        elif "uploadId" in self.query:
            self._list_parts()
        elif not self.key:
            self._answer(200) if self.command == "HEAD" else self._list()
        else:
            self._get_object()

    def _object(self) -> Stored:
        with self.owner.lock:
            found = self.owner.bucket(self.bucket).get(self.key)
        if found is None:
            raise Refused(404, "NoSuchKey")
        return found

    def _more_fields(self) -> dict[str, str]:
        """What else is said of an object that is there."""
        return {}

    def _get_object(self) -> None:
        found = self._object()
        if self.headers.get("If-Match", found.etag) != found.etag:
            raise Refused(412, "PreconditionFailed")
        if self.headers.get("If-None-Match") == found.etag:
            self._answer(304, ETag=found.etag)
            return
        data = found.data
        fields = {"ETag": found.etag, "Last_Modified": formatdate(found.at, usegmt=True), **found.fields, **self._more_fields()}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if self.headers.get("x-amz-checksum-mode") != "ENABLED" or asked:
            fields = {k: v for k, v in fields.items() if not k.startswith("x-amz-checksum")}
        if not asked:
            self._answer(200, data, **fields)
            return
        first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
        if first >= len(data):
            raise Refused(416, "InvalidRange")
        fields["Content_Range"] = f"bytes {first}-{last}/{len(data)}"
        self._answer(206, data[first : last + 1], **fields)

    def _list(self) -> None:
        asked = self.query
        after = unquote_to_bytes(asked.get("continuation-token", b"")) or asked.get("start-after", b"")
        most = int(asked.get("max-keys", b"1000"))
        with self.owner.lock:
            keys, prefixes, more = self.owner.page(self.bucket, asked.get("prefix", b""), asked.get("delimiter", b""), after, most)
            objects = [(key, self.owner.bucket(self.bucket)[key]) for key in keys]
        is_quoted = asked.get("encoding-type") == b"url"

        def named(key: bytes) -> str:
            return quote(key, safe="") if is_quoted else escape(key.decode())

        lines = ["<EncodingType>url</EncodingType>" if is_quoted else "", f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated>"]
        if more:
            lines.append(f"<NextContinuationToken>{quote(more, safe='')}</NextContinuationToken>")
        for key, found in objects:
            lines.append(f"<Contents><Key>{named(key)}</Key><LastModified>{_when(found.at)}</LastModified>"
                         f"<ETag>{found.etag.replace(chr(34), '&quot;')}</ETag><Size>{len(found.data)}</Size></Contents>")  # fmt: skip
        lines += [f"<CommonPrefixes><Prefix>{named(p)}</Prefix></CommonPrefixes>" for p in prefixes]
        self._xml("ListBucketResult", "".join(lines))

    def _list_uploads(self) -> None:
        prefix = self.query.get("prefix", b"")
        with self.owner.lock:
            found = [(i, u) for i, u in self.owner.uploads.items() if u.bucket == self.bucket and u.key.startswith(prefix)]
        lines = ["<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"]
        for name, u in sorted(found, key=lambda f: (f[1].key, f[1].at)):
            lines.append(f"<Upload><Key>{quote(u.key, safe='')}</Key><UploadId>{name}</UploadId><Initiated>{_when(u.at)}</Initiated></Upload>")
        self._xml("ListMultipartUploadsResult", "".join(lines))

    def _list_parts(self) -> None:
        parts = self._upload().parts
        lines = [f"<Part><PartNumber>{n}</PartNumber><ETag>{escape(p.etag)}</ETag><Size>{len(p.data)}</Size></Part>"
                 for n, p in sorted(parts.items())]  # fmt: skip
        self._xml("ListPartsResult", "<IsTruncated>false</IsTruncated>" + "".join(lines))

    # ---- writing

    def _upload(self) -> Begun:
        u = self.owner.uploads.get(self.query["uploadId"].decode())
        if u is None or (u.bucket, u.key) != (self.bucket, self.key):
            raise Refused(404, "NoSuchUpload")
        return u

    def _fields_of_making(self) -> dict[str, str]:
        kept = ("x-amz-meta-", "content-type", "x-amz-storage-class")
        return {k: v for k, v in self.headers.items() if k.lower().startswith(kept)}

    def _checked(self) -> dict[str, str]:
        """What the body was compared with."""
        md5, crc32 = self.headers.get("Content-MD5"), self.headers.get("x-amz-checksum-crc32")
        if md5 and md5 != base64.b64encode(hashlib.md5(self.body).digest()).decode():
            raise Refused(400, "BadDigest")
        if crc32 and crc32 != crc32_of(self.body):
            raise Refused(400, "BadDigest")
        return {"x-amz-checksum-crc32": crc32} if crc32 else {}

    def _store(self, made: Stored) -> None:
        """Under the lock."""
        objects = self.owner.bucket(self.bucket)
        there = objects.get(self.key)
        if self.headers.get("If-None-Match") == "*" and there:
            raise Refused(412, "PreconditionFailed")
        if "If-Match" in self.headers and (not there or there.etag != self.headers["If-Match"]):
            raise Refused(412, "PreconditionFailed")
        objects[self.key] = made

    def _put(self) -> None:
        if not self.key:
            self.owner.bucket(self.bucket)
            self._answer(200)
        elif "x-amz-copy-source" in self.headers:
            self._copy()
        elif "uploadId" in self.query:
            checked = self._checked()
            part = Stored(self.body)
            with self.owner.lock:
                self._upload().parts[int(self.query["partNumber"])] = part
            self._answer(200, ETag=part.etag, **checked)
        else:
            checked = self._checked()
            made = Stored(self.body, at=time.time(), fields=self._fields_of_making() | checked)
            with self.owner.lock:
                self._store(made)
            self._answer(200, ETag=made.etag, **checked)

    def _copy(self) -> None:
        bucket, _, key = self.headers["x-amz-copy-source"].lstrip("/").partition("/")
        with self.owner.lock:
            source = self.owner.bucket(bucket).get(unquote_to_bytes(key))
            if source is None:
                raise Refused(404, "NoSuchKey")
            if self.headers.get("x-amz-copy-source-if-match", source.etag) != source.etag:
                raise Refused(412, "PreconditionFailed")
            made = Stored(source.data, at=time.time(), fields=source.fields)
            self._store(made)
        self._xml("CopyObjectResult", f"<ETag>{escape(made.etag)}</ETag><LastModified>{_when(made.at)}</LastModified>")

    def _post(self) -> None:
        if "uploads" in self.query:
            name = f"upload{next(self.owner.numbers)}"
            asked = {k: v for k, v in self.headers.items() if k.lower() in ("x-amz-checksum-algorithm", "x-amz-checksum-type")}
            with self.owner.lock:
                self.owner.uploads[name] = Begun(self.bucket, self.key, self._fields_of_making(), time.time())
            self._xml("InitiateMultipartUploadResult", f"<UploadId>{name}</UploadId>", **asked)
        elif "uploadId" in self.query:
            self._complete()
        elif "delete" in self.query:
            keys = [e.text or "" for e in ElementTree.fromstring(self.body).iter() if e.tag.endswith("Key")]
            with self.owner.lock:
                for key in keys:
                    self.owner.bucket(self.bucket).pop(key.encode(), None)
            self._xml("DeleteResult", "")
        else:
            raise Refused(501, "NotImplemented")

    def _complete(self) -> None:
        root = ElementTree.fromstring(self.body)
        asked = [{e.tag.rpartition("}")[2]: e.text or "" for e in part} for part in root if part.tag.endswith("Part")]
        with self.owner.lock:
            upload = self._upload()
            parts = []
            for part in asked:
                found = upload.parts.get(int(part["PartNumber"]))
                if not found or found.etag.strip('"') != part["ETag"].strip('"'):
                    raise Refused(400, "InvalidPart")
                if part.get("ChecksumCRC32", crc32_of(found.data)) != crc32_of(found.data):
                    raise Refused(400, "InvalidPart")
                parts.append(found)
            if not parts or any(len(p.data) < 5 << 20 for p in parts[:-1]):
                raise Refused(400, "EntityTooSmall")
            data = b"".join(p.data for p in parts)
            crc32 = self.headers.get("x-amz-checksum-crc32")
            if crc32 and crc32 != crc32_of(data):
                raise Refused(400, "BadDigest")
            hashes = b"".join(bytes.fromhex(p.etag.strip('"')) for p in parts)
            etag = f'"{hashlib.md5(hashes).hexdigest()}-{len(parts)}"'
            fields = upload.fields | ({"x-amz-checksum-crc32": crc32} if crc32 else {})
            self._store(Stored(data, etag, time.time(), fields))
            del self.owner.uploads[self.query["uploadId"].decode()]
        self._xml("CompleteMultipartUploadResult", f"<ETag>{escape(etag)}</ETag>")

    def _delete(self) -> None:
        with self.owner.lock:
            if "uploadId" in self.query:
                self._upload()
                del self.owner.uploads[self.query["uploadId"].decode()]
            else:
                there = self.owner.bucket(self.bucket).get(self.key)
                if there and self.headers.get("If-Match", there.etag) != there.etag:
                    raise Refused(412, "PreconditionFailed")
                self.owner.bucket(self.bucket).pop(self.key, None)
        self._answer(204)


FakeS3.handler = _Handler
