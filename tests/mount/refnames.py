# SPDX-License-Identifier: BSD-3-Clause
"""The contract's names a second time: escapes, long names, suffixes, levels, validity ranges.

Everything is bytes: a name may be in no encoding at all.
"""

from __future__ import annotations

import datetime
import re

import xxhash

NAME_MAX = 255
# A time of the registry is nanoseconds of TAI since 1970; these two stand for an end that is open.
OPEN_BEGIN_NS = 0
OPEN_END_NS = 4102444800 * 10**9

# --------------------------------------------------------------------------------------------- names

def to_bytes(value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return b"%d" % value
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def _looks_cut(raw: bytes, at: int) -> bool:
    """Whether the `~` at `at` could be taken for the mark of a name that was cut."""
    return re.match(rb"~[0-9a-fA-F]{16}([.@]|\Z)", raw[at:]) is not None


def _escape(raw: bytes, everywhere: bytes = b"", first: bytes = b"", at: int = -1) -> bytes:
    """`everywhere`, `first`: bytes to escape besides the usual; `at`: a position to escape."""
    if raw == b"":
        return b"%"
    out = bytearray()
    for i, b in enumerate(raw):
        if (
            b < 0x20
            or b == 0x7F
            or b in b"/%"
            or b in everywhere
            or (i == 0 and (b == 0x2E or b in first))
            or raw == b".."
            or i == at
            or (b == 0x7E and _looks_cut(raw, i))
        ):
            out += b"%%%02X" % b
        else:
            out.append(b)
    return bytes(out)


def escape_value(value: bytes | str | int) -> bytes:
    """A data-ID value, the same in a folder's name and in a file's."""
    return _escape(to_bytes(value))


def escape_last_value(value: bytes | str | int) -> bytes:
    """The last value of a file's name."""
    return _escape(to_bytes(value), everywhere=b".@")


def unescape(name: bytes) -> bytes:
    """The inverse of the escapes (no check that the name is canonical)."""
    if name == b"%":
        return b""
    return re.sub(rb"%([0-9A-F]{2})", lambda m: bytes([int(m[1], 16)]), name)


def shorten(name: bytes, suffix: bytes = b"") -> bytes:
    """`name` ends with `suffix`; cut to 255 bytes if it is longer."""
    if len(name) <= NAME_MAX:
        return name
    assert name.endswith(suffix)
    tail = b"~%016x" % xxhash.xxh3_64_intdigest(name) + suffix
    stem = name[: len(name) - len(suffix)]
    cut = NAME_MAX - len(tail)

    def splits(at: int) -> bool:
        inside_character = stem[at] & 0xC0 == 0x80
        inside_escape = any(re.match(rb"%[0-9A-F]{2}", stem[at - k :]) for k in (1, 2))
        return inside_character or inside_escape

    while splits(cut):
        cut -= 1
    return stem[:cut] + tail


def collection_parts(name: str) -> list[bytes]:
    """A collection's name as the folders below collections/."""
    out = []
    parent: bytes | None = None
    for raw in to_bytes(name).split(b"/"):
        at = -1
        if parent and re.match(re.escape(parent) + rb"[._@]", raw, re.DOTALL):
            at = len(parent)
        out.append(shorten(_escape(raw, everywhere=b"=", first=b"@", at=at)))
        parent = raw
    return out


def level(key: str, value: str | int) -> bytes:
    """A `key=value` folder."""
    return shorten(to_bytes(key) + b"=" + escape_value(value))


KNOWN_SUFFIXES = frozenset(
    b"""fits fit fz gz bz2 xz zst lz4 tar zip parq parquet arrow feather csv ecsv tsv txt json yaml yml xml html
    pickle pkl npy npz h5 hdf5 asdf avro jpg jpeg png tif tiff svg pdf log cfg py fig qgraph sqlite3 db vot
    votable""".split()
)


def suffix(artifact_name: bytes) -> bytes:
    """The suffix that an artifact's name (no folders) gives to the file."""
    # A dot that begins a name hides the file; what follows it is no suffix.
    _, *rest = artifact_name[1:].split(b".")
    taken: list[bytes] = []
    for part in reversed(rest):
        if not re.fullmatch(rb"[A-Za-z0-9]+", part) or (taken and part not in KNOWN_SUFFIXES):
            break
        taken.insert(0, part)
    return b"".join(b"." + p for p in taken) or b".data"


# ----------------------------------------------------------------------------------- levels and files

LEVEL_ORDER = (
    "instrument",
    "skymap",
    "tract",
    "patch",
    "band",
    "physical_filter",
    "group",
    "day_obs",  # only where it is required; implied, it is put in below
    "exposure",
    "visit",
    "detector",
    "subfilter",
)


def ordered_dimensions(required: list[str], universe_order: list[str]) -> list[str]:
    known = [d for d in LEVEL_ORDER if d in required]
    return known + [d for d in universe_order if d in required and d not in LEVEL_ORDER]


def levels(ordered: list[str], implied: set[str]) -> list[str]:
    """The keys of the folders between the dataset type and the file."""
    keys = list(ordered)
    above = [d for d in keys if d in ("exposure", "visit")]
    last = keys[-1] if keys else None
    if "day_obs" in implied and above:
        keys.insert(keys.index(above[0]), "day_obs")
    if last is not None:
        keys.remove(last)
    return keys


def file_stem(dataset_type: str, values: list[str | int], infix: bytes = b"") -> bytes:
    """A file's name before its suffix, whole; `infix`: a calibration's validity range."""
    name = to_bytes(dataset_type)
    for i, value in enumerate(values):
        name += b"_" + (escape_last_value(value) if i == len(values) - 1 else escape_value(value))
    return name + infix


def file_name(dataset_type: str, values: list[str | int], file_suffix: bytes, infix: bytes = b"") -> bytes:
    """A name that is too long is cut before its range, which its reader wants to see."""
    return shorten(file_stem(dataset_type, values) + infix + file_suffix, infix + file_suffix)


def instant(tai_ns: int) -> bytes:
    """ISO basic to the second, and as many digits as needed after a comma."""
    seconds, ns = divmod(tai_ns, 10**9)
    date = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    fraction = b",%09d" % ns if ns else b""
    return date.strftime("%Y%m%dT%H%M%S").encode() + fraction.rstrip(b"0")


def validity(begin_ns: int, end_ns: int, uuid: str | None = None) -> bytes:
    """`uuid`: of a dataset that isn't the only one with its data ID and range."""
    if begin_ns >= end_ns:
        return b"@empty" + (b"~" + uuid.encode() if uuid else b"")
    begin = b"" if begin_ns == OPEN_BEGIN_NS else instant(begin_ns)
    end = b"" if end_ns == OPEN_END_NS else instant(end_ns)
    return b"@" + begin + b"--" + end + (b"~" + uuid.encode() if uuid else b"")
