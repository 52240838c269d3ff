# SPDX-License-Identifier: BSD-3-Clause
"""fakes3's server, keeping versions, whose times are what one likes. One bucket, whatever it is called.

    with VersionedS3() as server:
        server.put(b"a", b"bytes", at=1000)
        server.delete(b"a", at=2000)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

import fakes3
from fakes3 import FakeS3, Refused, Stored


@dataclass
class Version:
    id: str
    stored: Stored | None  # None: it was deleted
    at: int


class VersionedS3(FakeS3):
    """What servers do differently can be chosen: `grouped`: deletions in front of all versions (versitygw), else among them
    (S3); `inclusive`: a key-marker alone is where the listing begins (versitygw), else behind it (S3); `quotes`: keys.
    `page_most`: entries of a page, whatever was asked for. `requests`: paths that were asked for."""

    def __init__(self, page_most: int = 1000, *, grouped: bool = False, inclusive: bool = False, quotes: bool = True) -> None:
        super().__init__({})
        self.history: dict[bytes, list[Version]] = {}  # the newest first
        self.page_most, self.grouped, self.inclusive, self.quotes = page_most, grouped, inclusive, quotes
        self.requests: list[str] = []
        self.is_versioned = True
        self.closed = b"\0"  # what begins with this may not be listed
        self.server.RequestHandlerClass = type("Handler", (_Handler,), {"owner": self})

    def _set(self, key: bytes, versions: list[Version]) -> None:
        self.history[key] = versions
        objects = self.bucket("")
        objects.pop(key, None)
        if versions and versions[0].stored:
            objects[key] = versions[0].stored

    def _add(self, key: bytes, stored: Stored | None, at: int) -> str:
        # An id doesn't say which is newer; the server's order does.
        name = hashlib.sha256(b"%d" % next(self.numbers)).hexdigest()[:32] if self.is_versioned else "null"
        self._set(key, [Version(name, stored, at), *(v for v in self.history.get(key, []) if v.id != name)])
        return name

    def put(self, key: bytes, data: bytes, at: int) -> str:
        return self._add(key, Stored(data, at=at), at)

    def delete(self, key: bytes, at: int) -> str:
        return self._add(key, None, at)

    def forget(self, key: bytes, version: str) -> None:
        """Deletes a version for good."""
        self._set(key, [v for v in self.history[key] if v.id != version])

    def _names(self, prefix: bytes, delimiter: bytes) -> Iterator[tuple[bytes, Version | None]]:
        """(key, version), the newest first, and (prefix, None), in order."""
        last = b""
        for key in sorted(k for k, v in self.history.items() if v and k.startswith(prefix)):
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            if end < 0:
                yield from ((key, version) for version in self.history[key])
            elif key[: end + 1] != last:
                last = key[: end + 1]
                yield last, None

    def versions_page(
        self, prefix: bytes, delimiter: bytes, key_marker: bytes, version_marker: str, most: int
    ) -> tuple[list[tuple[bytes, Version | None]], tuple[bytes, str] | None]:
        """Behind the markers; and where the next page begins."""
        found: list[tuple[bytes, Version | None]] = []
        waits = bool(version_marker)
        for name, version in self._names(prefix, delimiter):
            is_marked = name == key_marker
            if name < key_marker or (is_marked and not version_marker and not (self.inclusive and version)):
                continue
            if is_marked and waits:
                waits = not version or version.id != version_marker
                continue
            if len(found) == most:
                key, last = found[-1]
                return found, (key, last.id if last else "")
            found.append((name, version))
        return found, None


class _Handler(fakes3._Handler):
    owner: Any

    def _get(self) -> None:
        self.owner.requests.append(f"{self.command} {self.path}")
        if "versions" in self.query:
            self._list_versions()
        else:
            super()._get()

    def _object(self) -> Stored:
        versions = self.owner.history.get(self.key, [])
        asked = self.query.get("versionId", b"").decode()
        version = next((v for v in versions if not asked or v.id == asked), None)
        if not version or not version.stored:
            raise Refused(404, "NoSuchVersion" if asked else "NoSuchKey")
        version.stored.fields["x-amz-version-id"] = version.id
        return version.stored

    def _list_versions(self) -> None:
        owner, asked = self.owner, self.query
        if asked.get("prefix", b"").startswith(owner.closed):
            raise Refused(403, "AccessDenied")
        most = min(int(asked.get("max-keys", b"1000")), owner.page_most)
        markers = asked.get("key-marker", b""), asked.get("version-id-marker", b"").decode()
        found, more = owner.versions_page(asked.get("prefix", b""), asked.get("delimiter", b""), *markers, most)
        quotes = owner.quotes and asked.get("encoding-type") == b"url"

        def shown(key: bytes) -> str:
            return quote(key, safe="") if quotes else escape(key.decode())

        def one(key: bytes, version: Version) -> str:
            kind = "Version" if version.stored else "DeleteMarker"
            text = (f"<Key>{shown(key)}</Key><VersionId>{version.id}</VersionId><LastModified>{fakes3._when(version.at)}</LastModified>"
                    f"<IsLatest>{str(version is owner.history[key][0]).lower()}</IsLatest>")  # fmt: skip
            if version.stored:
                text += f"<ETag>{escape(version.stored.etag)}</ETag><Size>{len(version.stored.data)}</Size>"
            return f"<{kind}>{text}</{kind}>"

        lines = [f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated>"]
        if quotes:
            lines.append("<EncodingType>url</EncodingType>")
        if more:
            lines.append(f"<NextKeyMarker>{shown(more[0])}</NextKeyMarker><NextVersionIdMarker>{more[1]}</NextVersionIdMarker>")
        versions = [(key, version) for key, version in found if version]
        if owner.grouped:
            versions.sort(key=lambda v: v[1].stored is not None)
        lines += [one(key, version) for key, version in versions]
        lines += [f"<CommonPrefixes><Prefix>{shown(p)}</Prefix></CommonPrefixes>" for p, version in found if not version]
        self._xml("ListVersionsResult", "".join(lines))
