# SPDX-License-Identifier: BSD-3-Clause
"""An S3 server that holds any key there can be, which servers over folders can't: objects are in memory, and only read.

    with FakeS3({b"a": b"bytes", b"a/b": b"more"}) as server:
        server.url                # one bucket, whatever it is called; signatures aren't looked at
"""

from __future__ import annotations

import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote_to_bytes


class FakeS3:
    def __init__(self, objects: dict[bytes, bytes]) -> None:
        self.objects = objects
        handler = type("Handler", (_Handler,), {"owner": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> FakeS3:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.server.shutdown()
        self.server.server_close()

    def page(self, prefix: bytes, delimiter: bytes, after: bytes, most: int) -> tuple[list[bytes], list[bytes], bytes]:
        """Keys and common prefixes after `after`, and where the next page begins (empty: nowhere)."""
        keys: list[bytes] = []
        prefixes: list[bytes] = []
        last = b""
        for key in sorted(k for k in self.objects if k.startswith(prefix)):
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            name = key if end < 0 else key[: end + len(delimiter)]
            if (after and name <= after) or name in prefixes:
                continue
            if len(keys) + len(prefixes) == most:
                return keys, prefixes, last
            (keys if end < 0 else prefixes).append(name)
            last = name
        return keys, prefixes, b""


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


class _Handler(BaseHTTPRequestHandler):
    owner: FakeS3
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, body: bytes, head: bool = False, **fields: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **fields}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if not head:
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET(head=True)

    def do_GET(self, head: bool = False) -> None:
        path, query = self.path.split("?", 1) if "?" in self.path else (self.path, "")
        if "list-type" in query:
            self._list({p.split("=")[0]: unquote_to_bytes(p.partition("=")[2]) for p in query.split("&")})
            return
        key = unquote_to_bytes(path[1:].partition("/")[2])
        data = self.owner.objects.get(key)
        if data is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>", head)
            return
        fields = {"ETag": _etag(data), "Last_Modified": "Mon, 11 Nov 2024 03:04:05 GMT"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            self._answer(200, data, head, **fields)
            return
        first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
        if first >= len(data):
            self._answer(416, b"", head)
            return
        fields["Content_Range"] = f"bytes {first}-{last}/{len(data)}"
        self._answer(206, data[first : last + 1], head, **fields)

    def _list(self, asked: dict[str, bytes]) -> None:
        after = unquote_to_bytes(asked.get("continuation-token", b"")) or asked.get("start-after", b"")
        most = int(asked.get("max-keys", b"1000"))
        keys, prefixes, more = self.owner.page(asked.get("prefix", b""), asked.get("delimiter", b""), after, most)
        lines = ["<ListBucketResult><EncodingType>url</EncodingType>", f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated>"]
        if more:
            lines.append(f"<NextContinuationToken>{quote(more, safe='')}</NextContinuationToken>")
        for key in keys:
            data = self.owner.objects[key]
            lines.append(f"<Contents><Key>{quote(key, safe='')}</Key><LastModified>2024-11-11T03:04:05.000Z</LastModified>"
                         f"<ETag>{_etag(data).replace(chr(34), '&quot;')}</ETag><Size>{len(data)}</Size></Contents>")  # fmt: skip
        lines += [f"<CommonPrefixes><Prefix>{quote(p, safe='')}</Prefix></CommonPrefixes>" for p in prefixes]
        self._answer(200, ("".join(lines) + "</ListBucketResult>").encode(), Content_Type="application/xml")
