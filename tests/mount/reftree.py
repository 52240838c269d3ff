# SPDX-License-Identifier: BSD-3-Clause
"""The tree that a mount must show, computed from the real client's answers.

A second reading of the contract (the page that says what a user sees), which shares no code with the
filesystem: names, levels, suffixes, long names, and for every collection the datasets that the client
finds there. Where the two disagree, one of them has misread the page.

Everything is bytes: a name may be in no encoding at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import re
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import database
from refnames import (
    collection_parts,
    escape_value,
    file_name,
    level,
    levels,
    ordered_dimensions,
    shorten,
    suffix,
    to_bytes,
    validity,
)

# ---------------------------------------------------------------------------------------------- nodes


@dataclasses.dataclass(frozen=True)
class Artifact:
    path: str
    member: str | None = None  # of the zip archive at `path`

    def name(self) -> bytes:
        return os.fsencode(os.path.basename(self.member or self.path))

    def content(self) -> bytes | None:
        """None: gone."""
        if not os.path.isfile(self.path):
            return None
        if self.member is None:
            return Path(self.path).read_bytes()
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(self.member)

    def size(self) -> int | None:
        if self.member is None and os.path.isfile(self.path):
            return os.path.getsize(self.path)
        content = self.content()
        return None if content is None else len(content)


@dataclasses.dataclass(eq=False)
class File:
    uuid: str
    dataset_type: str
    storage_class: str
    run: str
    data_id: dict[str, Any]  # required and implied values, of the client's expanded data ID
    recorded_size: int | None  # None: unknown
    artifacts: list[Artifact]  # in the order in which the datastores are asked
    checksum: str | None
    ingest_ns: int  # TAI, as in the registry
    component: str | None = None

    def key(self) -> tuple[str, str | None]:
        """What one inode stands for."""
        return (self.uuid, self.component)

    def suffix(self) -> bytes:
        return suffix(self.artifacts[0].name())

    def artifact(self) -> Artifact | None:
        """The first that opens; None: gone."""
        return next((a for a in self.artifacts if os.path.isfile(a.path)), None)

    def content(self) -> bytes | None:
        a = self.artifact()
        return None if a is None else a.content()

    def shown_size(self) -> int | None:
        """What stat says before anybody has opened the file; None: not known here."""
        if self.recorded_size is not None:
            return self.recorded_size
        a = self.artifact()
        return None if a is None else a.size()


@dataclasses.dataclass(eq=False)
class Folder:
    children: dict[bytes, Folder | File] = dataclasses.field(default_factory=dict)
    collection: str | None = None
    collection_type: str | None = None
    doc: str | None = None
    chain: list[str] | None = None
    dataset_type: str | None = None
    data_id: dict[str, Any] | None = None
    is_composite: bool = False

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


@dataclasses.dataclass(frozen=True)
class Row:
    """A dataset in a CALIBRATION collection, with one of its validity ranges."""

    uuid: str
    key: tuple[Any, ...]  # the required values, in the order of the file's name
    begin_ns: int
    end_ns: int

    def overlaps(self, begin_ns: int, end_ns: int) -> bool:
        return self.begin_ns < end_ns and begin_ns < self.end_ns


@dataclasses.dataclass
class Calibrations:
    """What `calibs-at/` is made of."""

    rows: dict[tuple[str, str], list[Row]]  # (CALIBRATION collection, dataset type)
    plain: dict[tuple[str, str], dict[tuple[Any, ...], str]]  # (RUN or TAGGED collection, dataset type): key -> uuid
    paths: dict[str, list[str]]  # collection -> its search path
    naming: dict[str, Naming]
    datasets: dict[str, list[File]]
    values: dict[str, dict[str, Any]]

    def bounds(self) -> list[int]:
        """Every begin and end of every range."""
        return sorted({t for rows in self.rows.values() for r in rows for t in (r.begin_ns, r.end_ns)})

    def matches(self, collection: str, dataset_type: str, begin_ns: int, end_ns: int) -> dict[tuple[Any, ...], list[str]]:
        """By key: the uuids that hold at that time in the collection that decides. One that is there twice counts twice."""
        out: dict[tuple[Any, ...], list[str]] = {}
        for member in self.paths[collection]:
            here = {key: [uuid] for key, uuid in self.plain.get((member, dataset_type), {}).items()}
            for row in self.rows.get((member, dataset_type), []):
                if row.overlaps(begin_ns, end_ns):
                    here.setdefault(row.key, []).append(row.uuid)
            out = {**here, **out}
        return out

    def at(self, begin_ns: int, end_ns: int, collection: str, only: str | None = None) -> tuple[dict[bytes, File], dict[bytes, File]]:
        """A collection's calibrations at a time: path below calibs-at/<instant>/ -> file; and those that aren't unique.
        `only`: of that dataset type."""
        files: dict[bytes, File] = {}
        doubtful: dict[bytes, File] = {}
        for dataset_type in sorted({t for c, t in (*self.rows, *self.plain) if c in self.paths[collection] and only in (None, t)}):
            for uuids in self.matches(collection, dataset_type, begin_ns, end_ns).values():
                for uuid in uuids:
                    (files if len(uuids) == 1 else doubtful).update(self.names(collection, dataset_type, uuid))
        return files, doubtful

    def names(self, collection: str, dataset_type: str, uuid: str) -> dict[bytes, File]:
        """A dataset's paths below calibs-at/<instant>/, whenever it holds."""
        naming, values = self.naming[dataset_type], self.values[uuid]
        above = [*collection_parts(collection), shorten(to_bytes(dataset_type)), *naming.above(values)]
        return {b"/".join([*above, name]): file for name, file in naming.names(values, b"", self.datasets[uuid]).items()}


def entries_of(rows: list[Row], datasets: dict[str, list[File]], naming: Naming, values: dict[str, dict[str, Any]]) -> Iterator[tuple[set[bytes], str, bytes]]:
    """One entry for each dataset and range: the paths it takes below its type's folder, the uuid, the infix."""
    of_range: dict[tuple[Any, ...], list[str]] = {}
    for r in rows:
        uuids = of_range.setdefault((r.key, r.begin_ns, r.end_ns), [])
        if r.uuid not in uuids:
            uuids.append(r.uuid)
    for (_, begin, end), uuids in of_range.items():
        for uuid in uuids:
            infix = validity(begin, end, uuid if len(uuids) > 1 else None)
            names = naming.names(values[uuid], infix, datasets[uuid]) if datasets[uuid] else {}
            above = naming.above(values[uuid])
            yield {b"/".join([*above, n.partition(b"/")[0]]) for n in names}, uuid, infix


@dataclasses.dataclass
class Tree:
    collections: Folder
    by_uuid: dict[str, bytes]  # uuid -> the path of the file in its RUN, below the mount
    files: dict[bytes, File]  # path below the mount -> file
    unstored: dict[bytes, str]  # would-be path without its suffix, below the mount -> uuid
    calibrations: Calibrations

    def folders(self) -> dict[bytes, Folder]:
        return {b"collections/" + p: n for p, n in self.collections.walk() if isinstance(n, Folder)}


def views(tree: Tree) -> dict[bytes, dict[bytes, bytes]]:
    """Of each folder of names that has any: `@members/<link>` and `@latest`, with their targets."""
    found: dict[bytes, dict[bytes, bytes]] = {}
    for path, folder in [(b"collections", tree.collections), *tree.folders().items()]:
        if folder.dataset_type is not None:
            continue
        links: dict[bytes, bytes] = {}
        for i, name in enumerate(folder.chain or ()):
            width = max(3, len(str(len(folder.chain) - 1)))
            link = shorten(b"%0*d-%s" % (width, i, escape_value(name)))
            links[b"@members/" + link] = b"../" * len(path.split(b"/")) + b"/".join(collection_parts(name))
        dated = []
        for name, child in folder.children.items():
            stamp = re.search(rb"(?<![A-Za-z0-9])\d{8}T\d{6}Z$", name)
            if stamp and isinstance(child, Folder) and child.collection is not None:
                with contextlib.suppress(ValueError):
                    datetime.datetime.strptime(stamp[0].decode(), "%Y%m%dT%H%M%SZ")
                    dated.append((stamp[0], name))
        if dated:
            links[b"@latest"] = max(dated)[1]
        if links or folder.chain is not None:
            found[path] = links
    return found


def all_folders(tree: Tree) -> set[bytes]:
    """Those below collections/, with `@members`."""
    folders = tree.folders()
    return {*folders, *(p + b"/@members" for p, f in folders.items() if f.chain is not None)}


def listings(tree: Tree) -> dict[bytes, set[bytes]]:
    """What each folder below collections/ lists, views among it."""
    seen = {path: set(node.children) for path, node in tree.folders().items()}
    for path in (*tree.files, *all_folders(tree), *all_links(tree)):
        folder, _, name = path.rpartition(b"/")
        if folder != b"collections":
            seen.setdefault(folder, set()).add(name)
    return seen


def all_links(tree: Tree) -> set[bytes]:
    """Those below collections/."""
    return {p + b"/" + name for p, links in views(tree).items() for name in links}


def mtime_of(ingest_ns: int) -> int:
    """TAI nanoseconds to UTC seconds (37 leap seconds since 2017, which is before any of this)."""
    return (ingest_ns - 37_000_000_000) // 1_000_000_000


def iso_of(ingest_ns: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp((ingest_ns - 37_000_000_000) / 1e9, datetime.UTC)


# --------------------------------------------------------------------------- what the client answers


def _children_of(datastore: Any) -> list[Any]:
    return [c for d in datastore.datastores for c in _children_of(d)] if hasattr(datastore, "datastores") else [datastore]


def _ingest_dates(config: Path) -> dict[str, int]:
    with database.connect(config) as db:
        return {str(id_).replace("-", ""): _ingest_ns(date) for id_, date in db.execute("SELECT id, ingest_date FROM dataset")}


def _ranges_in(config: Path, collection: str, dataset_type: str) -> list[tuple[uuid.UUID, int, int]]:
    with database.connect(config) as db:
        (table,) = db.execute("SELECT calibration_association_table FROM dataset_type WHERE name = ?", (dataset_type,)).fetchone()
        rows = db.execute(
            f"SELECT c.dataset_id, {db.begin_and_end('c')} FROM {table} c JOIN collection USING (collection_id)"
            " JOIN dataset_type t ON t.id = c.dataset_type_id WHERE collection.name = ? AND t.name = ?",
            (collection, dataset_type),
        )
        return [(uuid.UUID(str(id_)), begin, end) for id_, begin, end in rows]


def _ingest_ns(date: int | str) -> int:
    """TAI nanoseconds; version 1 of the datasets manager has a text in UTC."""
    if isinstance(date, int):
        return date
    at = datetime.datetime.fromisoformat(date).replace(tzinfo=datetime.UTC) - datetime.datetime.fromtimestamp(0, datetime.UTC)
    return (at // datetime.timedelta(microseconds=1) + 37_000_000) * 1000


def _day_of(ref: Any) -> int:
    """The day_obs that a data ID implies: a dimension, or before universe 6 a mere column of the exposure's or
    else the visit's row, where it may be unknown."""
    if "day_obs" in ref.dataId.dimensions:
        return ref.dataId["day_obs"]
    return ref.dataId.records["exposure" if "exposure" in ref.dataId.dimensions else "visit"].day_obs or 0


def is_glob(name: str) -> bool:
    return any(c in name for c in "*?[")


def _search(butler: Any, dataset_type: str, collections: list[str]) -> Any:
    """The datasets of one type that the client finds first, as a query's result."""
    if any(is_glob(c) for c in collections):
        # The client takes such a name for a pattern and will not search it first to last. A RUN's
        # datasets are those whose run it is; the maker makes no other kind of such a collection.
        return butler.registry.queryDatasets(dataset_type, collections=...)
    return butler.registry.queryDatasets(dataset_type, collections=collections, findFirst=True)


@dataclasses.dataclass
class Naming:
    """How the datasets of one type are laid out."""

    name: str
    order: list[str]  # the required dimensions, in the order of the values in a file's name
    keys: list[str]  # of the folders above a file
    is_calibration: bool

    @classmethod
    def of(cls, dataset_type: Any, universe_order: list[str]) -> Naming:
        order = ordered_dimensions(list(dataset_type.dimensions.required), universe_order)
        implied = set(dataset_type.dimensions.implied)
        if "day_obs" not in universe_order and ("exposure" in order or "visit" in order):
            implied.add("day_obs")
        keys = levels(order, implied)
        return cls(dataset_type.name, order, keys, dataset_type.isCalibration())

    def file(self, values: dict[str, Any], infix: bytes, suffix: bytes) -> bytes:
        return file_name(self.name, [values[k] for k in self.order], suffix, infix)

    def names(self, values: dict[str, Any], infix: bytes, parts: list[File]) -> dict[bytes, File]:
        """A dataset's files by their names: one, or those in the folder of its components."""
        if any(f.component is None for f in parts):
            (file,) = parts
            return {self.file(values, infix, file.suffix()): file}
        folder = self.file(values, infix, b".components")
        return {folder + b"/" + to_bytes(f.component or "") + f.suffix(): f for f in parts}

    def above(self, values: dict[str, Any]) -> list[bytes]:
        """The folders between the type's and the file."""
        return [level(k, values[k]) for k in self.keys]

    def key(self, data_id: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(data_id[k] for k in self.order)


Parts = list[File]  # one dataset: one file, or one for each component; empty: not stored


class Client:
    """Reads a repository with the real client and lays out the tree; used once, then thrown away."""

    def __init__(self, source: str | Path):
        from lsst.daf.butler import Butler

        self.butler = Butler.from_config(str(source), writeable=False)
        self.universe_order = [d.name for d in self.butler.dimensions.dimensions]
        self.datastores = _children_of(self.butler._datastore)
        self.config = Path(source) / "butler.yaml" if Path(source).is_dir() else Path(source)
        self.ingest = _ingest_dates(self.config)
        self.datasets: dict[str, Parts] = {}  # by uuid
        self.values: dict[str, dict[str, Any]] = {}  # by uuid; what its names are made of
        self.naming: dict[str, Naming] = {}
        self.kinds: dict[str, str] = {}
        self.tree_so_far = Tree(Folder(), {}, {}, {}, Calibrations({}, {}, {}, {}, self.datasets, self.values))

    def close(self) -> None:
        self.butler.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    # --------------------------------------------------------------------------------------- datasets

    def _find(self, dataset_type: str, collections: list[str], run: str | None = None) -> list[str]:
        """The uuids of what the client finds first; `run`: those of that run only."""
        answer = _search(self.butler, dataset_type, collections)
        refs = {r.id: r for r in answer if run is None or r.run == run}
        if any(str(id_) not in self.values for id_ in refs):
            full = {r.id: r for r in answer.expanded() if r.id in refs}
            # The expanding join loses data IDs that have no visit_detector_region row; one by one they are found.
            expand = self.butler.registry.expandDataId
            self._learn([full[id_] if id_ in full else r.expanded(expand(r.dataId)) for id_, r in refs.items()])
        return [str(id_) for id_ in refs]

    def _learn(self, refs: list[Any]) -> None:
        """What is stored of `refs`, whose data IDs are full."""
        new = [r for r in refs if str(r.id) not in self.datasets]
        places: dict[tuple[str, str | None], list[tuple[Artifact, Any]]] = {}
        for datastore in self.datastores if new else []:
            uris = datastore.getManyURIs(new, allow_missing=True)
            records = datastore._get_stored_records_associated_with_refs(new)
            for ref, got in uris.items():
                assert all(r.component is None for r in records[ref.id]) or not got.primaryURI
                for record in records[ref.id]:
                    uri = got.componentURIs[record.component] if record.component else got.primaryURI
                    assert uri.isLocal and (not uri.fragment or uri.fragment.startswith("zip-path=")), uri
                    member = unquote(uri.fragment).removeprefix("zip-path=") if uri.fragment else None
                    places.setdefault((str(ref.id), record.component), []).append((Artifact(uri.ospath, member), record))
        for ref in new:
            values = self.values[str(ref.id)] = dict(ref.dataId.mapping)
            if "day_obs" in self._type(ref.datasetType.name).keys:
                values["day_obs"] = _day_of(ref)
            self.datasets[str(ref.id)] = []
        by_id = {str(r.id): r for r in new}
        for (uuid, component), stored in places.items():
            self.datasets[uuid].append(self._file(by_id[uuid], component, stored))

    def _file(self, ref: Any, component: str | None, stored: list[tuple[Artifact, Any]]) -> File:
        record = stored[0][1]
        size = record.file_size
        return File(
            uuid=str(ref.id),
            dataset_type=ref.datasetType.name,
            storage_class=record.storageClass.name if component else ref.datasetType.storageClass_name,
            run=ref.run,
            data_id=dict(ref.dataId.mapping),
            recorded_size=None if size is None or size < 0 else size,
            artifacts=[a for a, _ in stored],
            checksum=record.checksum,
            ingest_ns=self.ingest[ref.id.hex],
            component=component,
        )

    def _type(self, name: str) -> Naming:
        if name not in self.naming:
            self.naming[name] = Naming.of(self.butler.get_dataset_type(name), self.universe_order)
        return self.naming[name]

    # -------------------------------------------------------------------------------------- the folders

    def tree(self) -> Tree:
        infos = self.butler.collections.query_info("*", include_summary=True, include_doc=True)
        assert {i.name for i in infos} == set(self.butler.registry.queryCollections())
        self.kinds = {i.name: i.type.name for i in infos}
        # What a chain shows of its CALIBRATION members is made from theirs.
        for info in sorted(infos, key=lambda i: i.type.name == "CHAINED"):
            self._collection(info)
        return self.tree_so_far

    def _collection(self, info: Any) -> None:
        parts = collection_parts(info.name)
        place = self.tree_so_far.collections
        for p in parts:
            place = place.folder(p)
        kind = info.type.name
        place.collection, place.collection_type, place.doc = info.name, kind, info.doc or None
        place.chain = list(info.children) if kind == "CHAINED" else None
        calibrations = self.tree_so_far.calibrations
        path = list(self.butler.collections.query(info.name, flatten_chains=True)) if kind == "CHAINED" else [info.name]
        calibrations.paths[info.name] = path
        for name in sorted(info.dataset_types):
            naming = self._type(name)
            base = b"/".join([b"collections", *parts, shorten(to_bytes(name))])
            if naming.is_calibration and (kind == "CALIBRATION" or any(self.kinds[c] == "CALIBRATION" for c in path)):
                self._with_ranges(info.name, kind, path, naming, base)
            else:
                found = self._find(name, [info.name], info.name if kind == "RUN" else None)
                if naming.is_calibration and kind != "CHAINED":
                    calibrations.plain[info.name, name] = {naming.key(self.values[uuid]): uuid for uuid in found}
                if found:  # a summary is a superset
                    self._type_folder(base, naming)
                for uuid in found:
                    self._place(base, naming, uuid, is_home=kind == "RUN")
            calibrations.naming[name] = naming

    def _type_folder(self, base: bytes, naming: Naming) -> Folder:
        at = self.tree_so_far.collections
        for part in base.split(b"/")[1:]:
            at = at.folder(part)
        at.dataset_type = naming.name
        return at

    def _place(self, base: bytes, naming: Naming, uuid: str, infix: bytes = b"", is_home: bool = False) -> bytes:
        """Puts a dataset into the tree below its type's folder `base`. Returns its path, without a suffix if unstored."""
        values, tree = self.values[uuid], self.tree_so_far
        names = naming.above(values)
        if not self.datasets[uuid]:
            path = b"/".join([base, *names, naming.file(values, infix, b"")])
            tree.unstored[path] = uuid
            return path
        at = self._type_folder(base, naming)
        for i, n in enumerate(names):
            at = at.folder(n)
            at.data_id = {k: values[k] for k in naming.keys[: i + 1]}
            at.dataset_type = naming.name
        for name, file in naming.names(values, infix, self.datasets[uuid]).items():
            path = b"/".join([base, *names, name])
            tree.files[path] = file
            folder, _, last = name.rpartition(b"/")
            if folder:
                inner = at.folder(folder)
                inner.data_id, inner.dataset_type, inner.is_composite = file.data_id, naming.name, True
                path = path.rpartition(b"/")[0]
            else:
                inner = at
            assert last not in inner.children, f"two things named {name!r} in {base!r}"
            inner.children[last] = file
        if is_home:
            assert uuid not in tree.by_uuid
            tree.by_uuid[uuid] = path
        return path

    # ------------------------------------------------------------------------------------- calibrations

    def _with_ranges(self, collection: str, kind: str, path: list[str], naming: Naming, base: bytes) -> None:
        """A CALIBRATION collection, or a chain that has some, and a type of calibrations."""
        rows = self.tree_so_far.calibrations.rows
        if kind == "CALIBRATION":
            rows[collection, naming.name] = self._rows(collection, naming)
        others = [c for c in path if self.kinds[c] != "CALIBRATION"]
        found = self._find(naming.name, others) if others else []
        entries = [(c, rows.get((c, naming.name), [])) for c in path if self.kinds[c] == "CALIBRATION"]
        if found or any(r for _, r in entries):
            self._type_folder(base, naming)
        for uuid in found:
            self._place(base, naming, uuid)
        taken: dict[bytes, str] = {}
        for _, of_member in entries:
            new = {}
            for names, uuid, infix in entries_of(of_member, self.datasets, naming, self.values):
                if not names & taken.keys():
                    self._place(base, naming, uuid, infix)
                    new.update(dict.fromkeys(names, uuid))
            taken.update(new)

    def _rows(self, collection: str, naming: Naming) -> list[Row]:
        """The validity ranges of a CALIBRATION collection, by the client's associations."""
        assert not is_glob(collection), collection
        if {"visit", "exposure", "day_obs"} & set(naming.order):
            # The associations would be only those whose range overlaps the visit's own time.
            found = _ranges_in(self.config, collection, naming.name)
        else:
            kind = self.butler.collections.get_info(collection).type
            answers = self.butler.registry.queryDatasetAssociations(naming.name, collections=[collection], collectionTypes={kind})
            found = [(a.ref.id, *a.timespan.nsec) for a in answers]
        new = {id_ for id_, _, _ in found if str(id_) not in self.values}
        refs = [self.butler.get_dataset(id_) for id_ in new]
        self._learn([r.expanded(self.butler.registry.expandDataId(r.dataId)) for r in refs])
        return [Row(str(id_), naming.key(self.values[str(id_)]), begin, end) for id_, begin, end in found]


def expected(source: str | Path) -> Tree:
    with Client(source) as client:
        return client.tree()


def data_id_equal(text: bytes, data_id: dict[str, Any]) -> bool:
    return json.loads(text) == data_id
