# SPDX-License-Identifier: BSD-3-Clause
"""An S3 server some of whose objects are nearline (GLACIER and the like): their bytes are refused until a copy was asked
for and has come, and again when it has expired; as AWS S3 says it, and as others do.

    with NearlineS3({b"a": b"bytes"}, away=[b"a"]) as server:
        server.delay = 0.5          # seconds until a copy is there; None: until server.finish(b"a")
"""

from __future__ import annotations

import re
import threading
import time
from email.utils import formatdate

import fakes3

DAY = 86400


class NearlineS3(fakes3.FakeS3):
    def __init__(self, objects: dict[bytes, bytes], away: list[bytes], storage_class: str = "GLACIER", delay: float | None = None) -> None:  # fmt: skip
        self.held = threading.Lock()
        self.storage_class = storage_class
        self.delay = delay
        self.away = set(away)
        self.coming: dict[bytes, tuple[float, int]] = {}  # when it will be there (monotonic), days
        self.until: dict[bytes, float] = {}
        self.restores: list[tuple[bytes, int | None, str | None]] = []
        self.refused_gets: list[bytes] = []
        self.heads: list[bytes] = []  # HEADs, and GETs that were answered
        self.refusal: tuple[int, str, str] | None = None  # of restores
        self.hides = False  # HEAD says nothing of restores
        super().__init__(objects)

    def is_here(self, key: bytes) -> bool:
        """Under the lock: with what has come meanwhile."""
        when, days = self.coming.get(key, (float("inf"), 0))
        if when <= time.monotonic():
            self.finish_held(key, days)
        return key not in self.away or self.until.get(key, 0) > time.time()

    def finish_held(self, key: bytes, days: int) -> None:
        self.coming.pop(key, None)
        self.until[key] = time.time() + days * DAY

    def finish(self, key: bytes, days: int = 1) -> None:
        with self.held:
            self.finish_held(key, days)

    def expire(self, key: bytes) -> None:
        with self.held:
            self.until.pop(key, None)

    def said(self, key: bytes) -> dict[str, str]:
        with self.held:
            here = self.is_here(key)
            if key not in self.away:
                return {}
            fields = {"x_amz_storage_class": self.storage_class}
            if self.hides:
                return fields
            if key in self.coming:
                fields["x_amz_restore"] = 'ongoing-request="true"'
            elif self.storage_class == "INTELLIGENT_TIERING":
                fields |= {} if here else {"x_amz_archive_status": "ARCHIVE_ACCESS"}
            elif here:
                date = formatdate(self.until[key], usegmt=True)
                fields["x_amz_restore"] = f'ongoing-request="false", expiry-date="{date}"'
            return fields

    def restore(self, key: bytes, body: bytes) -> tuple[int, str, str]:
        days = re.search(rb"<Days>(\d+)</Days>", body)
        tier = re.search(rb"<Tier>(\w+)</Tier>", body)
        with self.held:
            self.restores.append((key, int(days[1]) if days else None, tier[1].decode() if tier else None))
            here = self.is_here(key)
            if self.refusal:
                return self.refusal
            if key not in self.away:
                return 403, "InvalidObjectState", "Restore is not allowed for the object's current storage class"
            if (self.storage_class == "INTELLIGENT_TIERING") != (not days):
                return 400, "InvalidArgument", "Days"
            if key in self.coming:
                return 409, "RestoreAlreadyInProgress", "Object restore is already in progress"
            if here:
                self.finish_held(key, int(days[1]) if days else 1)
                return 200, "", ""
            when = time.monotonic() + self.delay if self.delay is not None else float("inf")
            self.coming[key] = (when, int(days[1]) if days else 36500)
            return 202, "", ""


class _Handler(fakes3._Handler):
    owner: NearlineS3

    def _more_fields(self) -> dict[str, str]:
        return self.owner.said(self.key)

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode())

    def _get_object(self) -> None:
        with self.owner.held:
            is_refused = self.command == "GET" and not self.owner.is_here(self.key)
        (self.owner.refused_gets if is_refused else self.owner.heads).append(self.key)
        if is_refused:
            self._refuse(403, "InvalidObjectState", "The operation is not valid for the object's storage class")
        else:
            super()._get_object()

    def _post(self) -> None:
        if "restore" not in self.query:
            super()._post()
            return
        status, code, message = self.owner.restore(self.key, self.body)
        if code:
            self._refuse(status, code, message)
        else:
            self._answer(status)


NearlineS3.handler = _Handler
