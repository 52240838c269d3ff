# SPDX-License-Identifier: BSD-3-Clause
"""The tree that a mount must show, computed from the real client's answers.

A second reading of the contract (the page that says what a user sees), which shares no code with the
filesystem: names, levels, suffixes, long names, and for every collection the datasets that the client
finds there. Where the two disagree, one of them has misread the page.

Everything is bytes: a name may be in no encoding at all.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xxhash

NAME_MAX = 255

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


def file_name(dataset_type: str, values: list[str | int], file_suffix: bytes, infix: bytes = b"") -> bytes:
    """`infix`: a calibration's validity range; the next step of this model."""
    name = to_bytes(dataset_type)
    for i, value in enumerate(values):
        name += b"_" + (escape_last_value(value) if i == len(values) - 1 else escape_value(value))
    return shorten(name + infix + file_suffix, file_suffix)


# ---------------------------------------------------------------------------------------------- nodes


@dataclasses.dataclass(eq=False)
class File:
    uuid: str
    dataset_type: str
    storage_class: str
    run: str
    data_id: dict[str, Any]  # required and implied values, of the client's expanded data ID
    recorded_size: int | None  # None: unknown
    artifacts: list[str]  # local paths, in the order in which the datastores are asked
    checksum: str | None
    ingest_ns: int  # TAI, as in the registry
    component: str | None = None

    def artifact(self) -> str | None:
        """The first that opens; None: gone."""
        return next((a for a in self.artifacts if os.path.isfile(a)), None)

    def content(self) -> bytes | None:
        a = self.artifact()
        return None if a is None else Path(a).read_bytes()

    def shown_size(self) -> int | None:
        """What stat says before anybody has opened the file; None: not known here."""
        if self.recorded_size is not None:
            return self.recorded_size
        a = self.artifact()
        return None if a is None else os.path.getsize(a)


@dataclasses.dataclass(eq=False)
class Folder:
    children: dict[bytes, Folder | File] = dataclasses.field(default_factory=dict)
    collection: str | None = None
    collection_type: str | None = None
    doc: str | None = None
    chain: list[str] | None = None
    dataset_type: str | None = None
    data_id: dict[str, Any] | None = None

    def folder(self, name: bytes) -> Folder:
        child = self.children.setdefault(name, Folder())
        assert isinstance(child, Folder), f"{name!r} is a file and a folder: the names collide"
        return child

    def walk(self, at: bytes = b"") -> Iterator[tuple[bytes, Folder | File]]:
        for name, child in self.children.items():
            path = at + b"/" + name if at else name
            yield path, child
            if isinstance(child, Folder):
                yield from child.walk(path)


@dataclasses.dataclass
class Tree:
    collections: Folder
    by_uuid: dict[str, bytes]  # uuid -> the path of the file in its RUN, below the mount
    files: dict[bytes, File]  # path below the mount -> file
    unstored: dict[bytes, str]  # would-be path without its suffix, below the mount -> uuid

    def folders(self) -> dict[bytes, Folder]:
        return {b"collections/" + p: n for p, n in self.collections.walk() if isinstance(n, Folder)}


def mtime_of(ingest_ns: int) -> int:
    """TAI nanoseconds to UTC seconds (37 leap seconds since 2017, which is before any of this)."""
    return (ingest_ns - 37_000_000_000) // 1_000_000_000


def iso_of(ingest_ns: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp((ingest_ns - 37_000_000_000) / 1e9, datetime.UTC)


# --------------------------------------------------------------------------- what the client answers


def _children_of(datastore: Any) -> list[Any]:
    return [c for d in datastore.datastores for c in _children_of(d)] if hasattr(datastore, "datastores") else [datastore]


def _ingest_dates(database: str) -> dict[str, int]:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=20) as db:
        return {id_: ns for id_, ns in db.execute("SELECT id, ingest_date FROM dataset")}


def is_glob(name: str) -> bool:
    return any(c in name for c in "*?[")


def _refs(butler: Any, dataset_type: str, collection: str, kind: str) -> list[Any]:
    """The datasets of one type that the client finds first in a collection, with full data IDs."""
    registry = butler.registry
    if is_glob(collection):
        # The client takes such a name for a pattern and will not search it first to last. A RUN's
        # datasets are those whose run it is; the maker makes no other kind of such a collection.
        assert kind == "RUN", collection
        found = registry.queryDatasets(dataset_type, collections=...)
    else:
        found = registry.queryDatasets(dataset_type, collections=[collection], findFirst=True)
    refs = {r.id: r for r in found if kind != "RUN" or r.run == collection}
    full = {r.id: r for r in found.expanded() if r.id in refs}
    # The expanding join loses data IDs that have no visit_detector_region row; one by one they are found.
    return [full[id_] if id_ in full else r.expanded(registry.expandDataId(r.dataId)) for id_, r in refs.items()]


class Client:
    """Reads a repository with the real client and lays out the tree; used once, then thrown away."""

    def __init__(self, source: str | Path):
        from lsst.daf.butler import Butler

        self.butler = Butler.from_config(str(source), writeable=False)
        self.universe_order = [d.name for d in self.butler.dimensions.dimensions]
        self.datastores = _children_of(self.butler._datastore)
        database = self.butler._config["registry", "db"].removeprefix("sqlite:///")
        database = database.replace("<butlerRoot>", str(self.butler._config.configDir.ospath))
        self.ingest = _ingest_dates(database)
        self.records: dict[str, list[tuple[str, Any]]] = {}  # uuid -> [(local path, record), ...]

    def close(self) -> None:
        self.butler.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _learn_records(self, refs: list[Any]) -> None:
        new = [r for r in refs if str(r.id) not in self.records]
        for r in new:
            self.records[str(r.id)] = []
        if not new:
            return
        for datastore in self.datastores:
            uris = datastore.getManyURIs(new, allow_missing=True)
            records = datastore._get_stored_records_associated_with_refs(new)
            for ref, got in uris.items():
                assert got.primaryURI is not None and not got.componentURIs, "composites are not made yet"
                assert got.primaryURI.isLocal and not got.primaryURI.fragment, got.primaryURI
                (record,) = records[ref.id]
                self.records[str(ref.id)].append((got.primaryURI.ospath, record))

    def _file(self, ref: Any) -> File | None:
        stored = self.records[str(ref.id)]
        if not stored:
            return None
        _, record = stored[0]
        size = record.file_size
        mapping = ref.dataId.mapping
        return File(
            uuid=str(ref.id),
            dataset_type=ref.datasetType.name,
            storage_class=ref.datasetType.storageClass_name,
            run=ref.run,
            data_id={k: mapping[k] for k in mapping.keys()},
            recorded_size=None if size is None or size < 0 else size,
            artifacts=[p for p, _ in stored],
            checksum=record.checksum,
            ingest_ns=self.ingest[ref.id.hex],
        )

    def tree(self) -> Tree:
        root = Folder()
        by_uuid: dict[str, bytes] = {}
        files: dict[bytes, File] = {}
        unstored: dict[bytes, str] = {}
        known: dict[str, File | None] = {}
        infos = self.butler.collections.query_info("*", include_summary=True, include_doc=True)
        assert {i.name for i in infos} == set(self.butler.registry.queryCollections())
        for info in infos:
            parts = collection_parts(info.name)
            place = root
            for p in parts:
                place = place.folder(p)
            kind = info.type.name
            place.collection, place.collection_type, place.doc = info.name, kind, info.doc or None
            place.chain = list(info.children) if kind == "CHAINED" else None
            assert kind != "CALIBRATION", "the next step of this model"
            for type_name in sorted(info.dataset_types):
                refs = _refs(self.butler, type_name, info.name, kind)
                if not refs:
                    continue  # a summary is a superset
                self._learn_records(refs)
                dataset_type = refs[0].datasetType
                required = list(dataset_type.dimensions.required)
                implied = set(dataset_type.dimensions.implied)
                order = ordered_dimensions(required, self.universe_order)
                keys = levels(order, implied)
                type_folder = place.folder(shorten(to_bytes(type_name)))
                type_folder.dataset_type = type_name
                base = b"/".join([b"collections", *parts, shorten(to_bytes(type_name))])
                for ref in refs:
                    id_ = str(ref.id)
                    if id_ not in known:
                        known[id_] = self._file(ref)
                    file = known[id_]
                    values = {k: ref.dataId[k] for k in (*required, *(["day_obs"] if "day_obs" in keys else []))}
                    names = [level(k, values[k]) for k in keys]
                    if file is None:
                        stem = file_name(type_name, [values[k] for k in order], b"")
                        unstored[b"/".join([base, *names, stem])] = id_
                        continue
                    at = type_folder
                    for i, n in enumerate(names):
                        at = at.folder(n)
                        at.data_id = {k: values[k] for k in keys[: i + 1]}
                        at.dataset_type = type_name
                    name = file_name(type_name, [values[k] for k in order], suffix(os.fsencode(os.path.basename(file.artifacts[0]))))
                    assert name not in at.children, f"two things named {name!r} in {base!r}"
                    at.children[name] = file
                    path = b"/".join([base, *names, name])
                    files[path] = file
                    if kind == "RUN":
                        assert ref.run == info.name and id_ not in by_uuid
                        by_uuid[id_] = path
        return Tree(root, by_uuid, files, unstored)


def expected(source: str | Path) -> Tree:
    with Client(source) as client:
        return client.tree()


def data_id_equal(text: bytes, data_id: dict[str, Any]) -> bool:
    return json.loads(text) == data_id
