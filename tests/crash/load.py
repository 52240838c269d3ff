# SPDX-License-Identifier: BSD-3-Clause
"""A reader of a mount, in a process of its own: it checks every byte and every listing, and reports.

    load.py KIND MOUNT TREE SECONDS   writes one JSON line: {"done": N, "errors": [...], "longest": seconds}

KIND: read (whole files), hold (one file, opened once, read again and again), map, stat, list (whole
folders), slow (one big folder, a few entries at a time). TREE: JSON, {path: {size, blake2b}} and
{"folders": {path: [names]}}.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import mmap
import os
import random
import sys
import time

kind, mount, tree_path, seconds = sys.argv[1:5]
with open(tree_path) as f:
    tree = json.load(f)
files = list(tree["files"].items())
folders = list(tree["folders"].items())
rng = random.Random(os.getpid())
end = time.monotonic() + float(seconds)
done, errors, longest = 0, [], 0.0
GETDENTS64 = 217 if os.uname().machine == "x86_64" else 61
libc = ctypes.CDLL(None, use_errno=True)


def digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def at(path: str) -> str:
    return f"{mount}/{path}"


def names_in(buffer: bytes) -> list[str]:
    out, i = [], 0
    while i < len(buffer):
        size = int.from_bytes(buffer[i + 16 : i + 18], "little")
        out.append(os.fsdecode(buffer[i + 19 : i + size].split(b"\0", 1)[0]))
        i += size
    return out


def slowly(path: str) -> list[str]:
    """The entries of a folder by a small getdents64 at a time, with rests: a death falls in between."""
    fd = os.open(at(path), os.O_RDONLY | os.O_DIRECTORY)
    room = ctypes.create_string_buffer(512)
    names: list[str] = []
    try:
        while True:
            got = libc.syscall(GETDENTS64, fd, room, 512)
            if got < 0:
                raise OSError(ctypes.get_errno(), "getdents64")
            if got == 0:
                return [n for n in names if n not in (".", "..")]
            names += names_in(room.raw[:got])
            time.sleep(0.004)
    finally:
        os.close(fd)


held = None
while time.monotonic() < end and len(errors) < 20:
    begin = time.monotonic()
    what = ""
    try:
        if kind == "read":
            what, want = rng.choice(files)
            with open(at(what), "rb", buffering=0) as f:
                data = b""
                while chunk := f.read(rng.choice([100, 4096, 65536])):
                    data += chunk
            if digest(data) != want["digest"]:
                errors.append(f"{what}: wrong bytes, {len(data)} of {want['size']}")
        elif kind == "hold":
            if held is None:
                name, want = max(files, key=lambda x: x[1]["size"])
                held = (name, want, open(at(name), "rb", buffering=0))
            what, want, f = held
            data = os.pread(f.fileno(), want["size"] + 1, 0)
            if digest(data) != want["digest"]:
                errors.append(f"{what}: wrong bytes while held open")
        elif kind == "map":
            what, want = rng.choice([x for x in files[:200] if x[1]["size"]])
            with open(at(what), "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
                if digest(m[:]) != want["digest"]:
                    errors.append(f"{what}: wrong bytes in the map")
        elif kind == "stat":
            what, want = rng.choice(files)
            if os.stat(at(what)).st_size != want["size"]:
                errors.append(f"{what}: wrong size")
            if os.getxattr(at(what), "user.butler.uuid").decode() != want["uuid"]:
                errors.append(f"{what}: wrong uuid")
            if os.path.exists(at(what + ".not")):
                errors.append(f"{what}.not exists")
        elif kind == "list":
            what, names = rng.choice(folders)
            if sorted(os.listdir(at(what))) != names:
                errors.append(f"{what}: wrong listing")
        elif kind == "slow":
            what, names = max(folders, key=lambda x: len(x[1]))
            got = slowly(what)
            if sorted(got) != names:
                errors.append(f"{what}: {len(got)} listed, {len(set(got))} of them different, {len(names)} are there")
    except OSError as e:
        errors.append(f"{kind} {what}: {e}")
    longest = max(longest, time.monotonic() - begin)
    done += 1

print(json.dumps({"kind": kind, "done": done, "errors": errors, "longest": longest}))
