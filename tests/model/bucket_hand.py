# SPDX-License-Identifier: BSD-3-Clause
"""A process that does on a mount what it is told, one call at a time, and says what came of it: ("ok", value) or ("error", errno)."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from typing import Any


class Hand:
    def __init__(self, root: str) -> None:
        self.root = root
        self.writing: Any = None

    def at(self, name: str) -> str:
        return f"{self.root}/{name}"

    def write(self, name: str, data: bytes) -> None:
        with open(self.at(name), "wb", buffering=0) as f:
            self._all(f, data)

    @staticmethod
    def _all(f: Any, data: bytes) -> None:
        for at in range(0, len(data), 1 << 20):
            f.write(data[at : at + (1 << 20)])

    def begin(self, name: str) -> None:
        self.writing = open(self.at(name), "wb", buffering=0)

    def go_on(self, data: bytes) -> None:
        self._all(self.writing, data)

    def sync(self) -> None:
        os.fsync(self.writing.fileno())

    def end(self) -> None:
        f, self.writing = self.writing, None
        f.close()

    def unlink(self, name: str) -> None:
        os.unlink(self.at(name))

    def mkdir(self, name: str) -> None:
        os.mkdir(self.at(name))

    def rmdir(self, name: str) -> None:
        os.rmdir(self.at(name))

    def rename(self, name: str, to: str) -> None:
        os.rename(self.at(name), self.at(to))

    def stat(self, name: str) -> tuple[bool, int]:
        st = os.stat(self.at(name))
        return st.st_mode & 0o170000 == 0o040000, st.st_size

    def list(self, name: str) -> list[str]:
        return sorted(os.listdir(self.at(name)))

    def read(self, name: str) -> bytes:
        with open(self.at(name), "rb", buffering=0) as f:
            pieces = []
            while piece := f.read(1 << 20):
                pieces.append(piece)
        return b"".join(pieces)


def serve(root: str, pipe: Connection) -> None:
    hand = Hand(root)
    while (asked := pipe.recv()) is not None:
        try:
            pipe.send(("ok", getattr(hand, asked[0])(*asked[1:])))
        except OSError as e:
            pipe.send(("error", e.errno))
