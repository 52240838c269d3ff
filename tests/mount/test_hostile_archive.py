# SPDX-License-Identifier: BSD-3-Clause
"""Members of one hostile zip archive: each bad one is refused by itself, and the good ones beside it are read.

The archive is made by hand, header by header, as no library would write it.
"""

from __future__ import annotations

import dataclasses
import errno
import io
import os
import sqlite3
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import mounting
import pytest

HERE = Path(__file__).resolve().parent
DATA = b"what a good member holds, " * 40
BOMB = 192 << 20


def deflated(data: bytes) -> bytes:
    c = zlib.compressobj(9, wbits=-15)
    return c.compress(data) + c.flush()


@dataclasses.dataclass
class Member:
    """As it is written; what is None is as it must be."""

    data: bytes = DATA
    method: int = 8
    name: str | None = None  # in the archive; else the case's
    flags: int = 0x800
    size: int | None = None
    packed: int | None = None
    crc: int | None = None
    local_name: str | None = None
    offset_of: str | None = None  # the case whose place it claims
    shift: int = 0  # of the place it claims
    zip64: bool = False
    twice: bool = False
    good: bool = False
    recorded: int | None = None  # in the registry, else the true size
    ask: str | None = None  # the member that the record names


MEMBERS = {
    "stored": Member(method=0, good=True),
    "deflated": Member(good=True),
    "zip64": Member(method=0, zip64=True, good=True),
    "zip64 deflated": Member(zip64=True, good=True),
    "empty": Member(data=b"", method=0, good=True),
    "odd é #%41 name": Member(good=True),
    "in/a/folder.txt": Member(good=True),
    "record says less": Member(good=True, recorded=3),
    "record says more": Member(good=True, recorded=10**7),
    "a bomb within its word": Member(data=bytes(BOMB), good=True),
    "size too small": Member(size=len(DATA) - 100),
    "size too big": Member(size=len(DATA) + 100),
    "stored with two sizes": Member(method=0, size=10**6),
    "a size that deflate can't make": Member(size=1 << 40),
    "a size of 2^63": Member(size=1 << 63, zip64=True),
    "packed size too small": Member(packed=5),
    "packed size beyond the file": Member(method=0, packed=10**9, size=10**9),
    "reaches into the next": Member(method=0, packed=len(DATA) + 60, size=len(DATA) + 60),
    "what it reaches into": Member(method=0),
    "in the place of another": Member(method=0, offset_of="shared"),
    "shared": Member(method=0),
    "no header there": Member(shift=7),
    "before the file": Member(shift=-(1 << 30)),
    "wrong CRC": Member(crc=1),
    "wrong CRC, stored": Member(method=0, crc=1),
    "not deflate": Member(data=DATA, method=8, packed=len(DATA)),
    "encrypted": Member(flags=0x801),
    "a patch": Member(flags=0x820),
    "bzip2": Member(method=12),
    "another local name": Member(local_name="another locul name"),
    "twice": Member(twice=True),
    "absolute": Member(name="/etc/passwd", ask="/etc/passwd"),
    "up": Member(name="../../up.txt", ask="../../up.txt"),
    "up, inside": Member(name="a/../../b", ask="a/../../b"),
    "a folder": Member(name="folder/", data=b"", method=0, ask="folder/"),
    "not there": Member(name="something else", ask="nobody"),
}


def packed_of(m: Member) -> bytes:
    return m.data if m.method == 0 or m.packed == len(DATA) else deflated(m.data)


def write(members: dict[str, Member]) -> bytes:
    out, central, places = bytearray(), [], {}
    for case, m in members.items():
        stored = packed_of(m)
        name = (m.name or case).encode()
        local_name = (m.local_name or m.name or case).encode()
        crc = zlib.crc32(m.data) if m.crc is None else m.crc
        size = len(m.data) if m.size is None else m.size
        packed = len(stored) if m.packed is None else m.packed
        extra = struct.pack("<HHQQ", 1, 16, size, packed) if m.zip64 else b""
        shown = (0xFFFFFFFF, 0xFFFFFFFF) if m.zip64 else (min(packed, 0xFFFFFFFF), min(size, 0xFFFFFFFF))
        if not m.zip64 and size > 0xFFFFFFFE:
            extra = struct.pack("<HHQ", 1, 8, size)
        local_extra = struct.pack("<HHQQ", 1, 16, size, packed) if extra else b""
        common = struct.pack("<HHHHHLLLH", 45 if extra else 20, m.flags, m.method, 0, 0x21, crc, *((0xFFFFFFFF,) * 2 if local_extra else shown), len(local_name))
        places[case] = len(out)
        out += b"PK\3\4" + common + struct.pack("<H", len(local_extra)) + local_name + local_extra + stored
        header = struct.pack("<HHHHHHLLLHHHHHL", 45, 45 if extra else 20, m.flags, m.method, 0, 0x21, crc, *shown, len(name), len(extra), 0, 0, 0, 0)
        central += [(case, m, header, name, extra)] * (2 if m.twice else 1)
    begin = len(out)
    for case, m, header, name, extra in central:
        place = (places[m.offset_of or case] + m.shift) & 0xFFFFFFFF
        out += b"PK\1\2" + header + struct.pack("<L", place) + name + extra
    out += b"PK\5\6" + struct.pack("<HHHHLLH", 0, 0, len(central), len(central), len(out) - begin, begin, 0)
    return bytes(out)


@dataclasses.dataclass
class Hostile:
    at: dict[str, Path]
    mount: mounting.Mount


@pytest.fixture(scope="module")
def hostile(place: Path, module_mount: Any) -> Hostile:
    out = place / "hostile"
    subprocess.run([sys.executable, HERE / "makeschema.py", out], check=True, timeout=120)
    root = out / "repo"
    (root / "zips").mkdir()
    (root / "zips/hostile.zip").write_bytes(write(MEMBERS))
    ids = {}
    with sqlite3.connect(root / "gen3.sqlite3") as db:
        rows = db.execute("SELECT dataset_id FROM file_datastore_records WHERE path LIKE '%/raw%' OR path LIKE '%/calexp%' ORDER BY path").fetchall()
        assert len(rows) >= len(MEMBERS)
        for (case, m), (digits,) in zip(MEMBERS.items(), rows):
            path = "zips/hostile.zip#zip-path=" + quote(m.ask or m.name or case, safe="")
            size = len(m.data) if m.recorded is None else m.recorded
            db.execute("UPDATE file_datastore_records SET path = ?, file_size = ? WHERE dataset_id = ?", (path, size, digits))
            ids[case] = "-".join([digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]])
    db.close()
    mount = module_mount(root)
    return Hostile({case: mount.path / "by-uuid" / i for case, i in ids.items()}, mount)


def test_python_reads_the_good_members_too():
    """The archive is hostile, not broken: another reader finds what is good in it."""
    with zipfile.ZipFile(io.BytesIO(write({c: m for c, m in MEMBERS.items() if m.good or m.name}))) as z:
        for case, m in MEMBERS.items():
            if m.good and case != "a bomb within its word":
                assert z.read(case) == m.data


@pytest.mark.parametrize("case", [c for c, m in MEMBERS.items() if m.good and len(m.data) < BOMB])
def test_a_good_member_beside_bad_ones_is_read(hostile, case):
    at = hostile.at[case]
    assert at.read_bytes() == MEMBERS[case].data
    assert os.stat(at).st_size == len(MEMBERS[case].data)
    with open(at, "rb") as f:
        assert os.pread(f.fileno(), 10, 5) == MEMBERS[case].data[5:15]


@pytest.mark.parametrize("case", [c for c, m in MEMBERS.items() if not m.good])
def test_a_bad_member_is_refused_by_itself(hostile, case):
    with pytest.raises(OSError) as e:
        hostile.at[case].read_bytes()
    assert e.value.errno == errno.EREMOTEIO
    assert hostile.at["stored"].read_bytes() == DATA


def resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no VmRSS")


def test_a_bomb_is_read_in_little_memory(hostile):
    at, pid = hostile.at["a bomb within its word"], hostile.mount.pid()
    before, seen = resident(pid), 0
    with open(at, "rb", buffering=0) as f:
        while piece := f.read(1 << 20):
            seen += len(piece)
            assert not piece.strip(b"\0")
    assert seen == BOMB
    assert resident(pid) - before < BOMB / 2


@pytest.mark.parametrize("case, words", [("absolute", "its name is absolute"), ("shared", "it overlaps with another member"), ("wrong CRC", "its checksum is not what the directory says")])
def test_the_log_says_what_is_wrong_with_a_member(hostile, case, words):
    with pytest.raises(OSError):
        hostile.at[case].read_bytes()
    named = "zips/hostile.zip" + ("#zip-path=" + quote(MEMBERS[case].ask or case, safe="") if case != "wrong CRC" else "")
    mounting.eventually(lambda: any(named in line and words in line for line in hostile.mount.log().splitlines()), mounting.SLACK, hostile.mount.log()[-600:])
