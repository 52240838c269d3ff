# SPDX-License-Identifier: BSD-3-Clause
"""The mount shows what the real client finds: all of it, and nothing else."""

from __future__ import annotations

import dataclasses
import datetime
import errno
import hashlib
import json
import os
import random
import re
import stat
from pathlib import Path
from typing import Any

import makerepo
import mounting
import pytest
import reftree

SEED = int(os.environ.get("BUTLERFS_TEST_SEED", "0"))
DATASETS = int(os.environ.get("BUTLERFS_TEST_DATASETS", "1500"))
CONFIGURATIONS = {
    "file": {"seed": SEED + 1, "datasets": DATASETS},
    "chained": {"seed": SEED + 2, "datasets": min(DATASETS, 1300), "store": "chained"},
    "sizes-unknown": {"seed": SEED + 3, "datasets": DATASETS, "sizes": False},
    "s3": {"seed": SEED + 1, "datasets": DATASETS},
    "chained-s3": {"seed": SEED + 2, "datasets": min(DATASETS, 1300), "store": "chained"},
    "postgres": {"seed": SEED + 4, "datasets": DATASETS, "on": "postgres"},
    "postgres-s3": {"seed": SEED + 4, "datasets": DATASETS, "on": "postgres"},
}
PREFIX = "user.butler."


@dataclasses.dataclass
class World:
    repo: makerepo.Repository
    tree: reftree.Tree
    mount: mounting.Mount
    seen: dict[bytes, os.stat_result]  # by a walk before anything was opened
    rng: random.Random

    def sample(self, things: Any, count: int) -> list[Any]:
        things = sorted(things)
        return self.rng.sample(things, min(count, len(things)))

    def telling(self, count: int) -> list[bytes]:
        """Paths of files: some at random, and the ones with the most peculiar names."""
        odd = [p for p in self.tree.files if b"%" in p or b"~" in p or re.search(rb"[^ -~]", p) or any(len(n) > 250 for n in p.split(b"/"))]
        return sorted(set(self.sample(self.tree.files, count)) | set(self.sample(odd, count)))


@pytest.fixture(scope="module", params=CONFIGURATIONS)
def world(request: Any, repository: Any, expected: Any, module_mount: Any, on_s3: Any) -> World:
    repo = repository(**CONFIGURATIONS[request.param])
    tree = expected(repo)
    assert len(tree.files) > 4000 and tree.unstored, "the maker has made too little"
    source, options = on_s3(repo) if request.param.endswith("s3") else (repo, {})
    mount = module_mount(source, **options)
    return World(repo, tree, mount, mounting.walk(mount.at(b"")), random.Random(SEED))


def xattr(path: bytes, name: str) -> bytes | None:
    try:
        return os.getxattr(path, PREFIX + name, follow_symlinks=False)
    except OSError as e:
        assert e.errno == errno.ENODATA, f"{path!r} {name}: {e}"
        return None


def differences(found: set[bytes], wanted: set[bytes]) -> str:
    def some(names: set[bytes]) -> str:
        return "".join(f"\n  {n!r}" for n in sorted(names)[:20])

    missing, surplus = wanted - found, found - wanted
    return f"{len(missing)} missing:{some(missing)}\n{len(surplus)} too many:{some(surplus)}"


def fails(call: Any, *args: Any) -> str:
    """The name of the errno that a call fails with."""
    try:
        call(*args)
    except OSError as e:
        return errno.errorcode[e.errno]
    return "no error"


# ------------------------------------------------------------------------------------- what is there


def test_every_dataset_that_the_client_finds_has_its_path_and_nothing_else_is_there(world):
    files = {p for p, st in world.seen.items() if stat.S_ISREG(st.st_mode) and p != b"README.txt"}
    assert files == set(world.tree.files), differences(files, set(world.tree.files))


def test_folders_are_those_of_collections_types_and_stored_data_ids_and_no_others(world):
    folders = {p for p, st in world.seen.items() if stat.S_ISDIR(st.st_mode) and p.startswith(b"collections/")}
    wanted = reftree.all_folders(world.tree)
    assert folders == wanted, differences(folders, wanted)


def test_the_root_has_what_the_contract_names_and_links_are_those_of_views(world):
    assert {p for p in world.seen if b"/" not in p} - {b"calibs-at"} == {b"README.txt", b"by-uuid", b"collections"}
    links = {p for p, st in world.seen.items() if stat.S_ISLNK(st.st_mode)}
    assert links == reftree.all_links(world.tree), differences(links, reftree.all_links(world.tree))
    assert all(stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode) for p, st in world.seen.items() if p not in links)


def test_chains_have_their_members_and_dated_runs_their_latest_as_links_and_nothing_else_has(world):
    wanted = reftree.views(world.tree)
    folders = world.tree.folders()
    assert any(b"@latest" in links for links in wanted.values())
    for path in [b"collections", *(p for p, f in folders.items() if f.dataset_type is None)]:
        at, links = world.mount.at(path), wanted.get(path, {})
        if getattr(folders.get(path), "chain", None) is None:
            assert fails(os.stat, at + b"/@members") == "ENOENT"
        else:
            assert sorted(os.listdir(at + b"/@members")) == sorted(n.removeprefix(b"@members/") for n in links if n != b"@latest")
        if b"@latest" not in links:
            assert fails(os.lstat, at + b"/@latest") == "ENOENT"
        for name, target in links.items():
            link = at + b"/" + name
            assert (os.readlink(link), os.lstat(link).st_size) == (target, len(target))
            led_to = os.path.realpath(link).removeprefix(os.path.realpath(world.mount.at(b"")) + b"/")
            assert led_to in folders and os.path.samestat(os.stat(link), os.stat(world.mount.at(led_to)))
            assert folders[led_to].collection is not None


def test_a_type_of_which_nothing_is_stored_is_an_empty_folder(world):
    empty = world.mount / "collections/u/alice/run1/gone"
    assert os.listdir(empty) == []
    # ... and one of which no dataset is left at all is no folder, whatever the summaries say.
    assert fails(os.stat, world.mount / "collections/u/alice/run1/purged") == "ENOENT"


def test_a_winner_that_is_not_stored_hides_those_behind_it(world):
    by_id = {}
    for path, file in world.tree.files.items():
        if path.startswith(b"collections/u/alice/run2/calexp/"):
            by_id[path.split(b"/calexp/")[1].rpartition(b".fits")[0]] = file
    hidden = [
        p for p in world.tree.unstored
        if p.startswith(b"collections/c/reversed/calexp/") and p.split(b"/calexp/")[1] in by_id
    ]  # fmt: skip
    assert hidden, "the maker has made no such case"
    for stem in hidden:
        folder, name = os.path.split(world.mount.at(stem))
        listed = [n for n in (os.listdir(folder) if os.path.isdir(folder) else []) if n.startswith(name + b".")]
        assert not listed
        for suffix in (b".fits", b".fits.fz", b".fits.gz"):
            assert fails(os.stat, folder + b"/" + name + suffix) == "ENOENT"


# ------------------------------------------------------------------------------------ bytes and sizes


def test_before_it_is_opened_a_file_has_its_recorded_size_or_else_its_artifact_s(world):
    wrong = {}
    for path, file in world.tree.files.items():
        shown = file.shown_size()
        if shown is not None and world.seen[path].st_size != shown:
            wrong[path] = (world.seen[path].st_size, shown)
    assert not wrong, list(wrong.items())[:10]


def test_every_file_has_the_bytes_of_its_artifact_and_once_open_their_size(world):
    before = world.mount.counters()
    contents: dict[Any, bytes | None] = {}
    wrong = []
    for path, file in world.tree.files.items():
        if file.key() not in contents:
            contents[file.key()] = file.content()
        content = contents[file.key()]
        try:
            with open(world.mount.at(path), "rb", buffering=0) as f:
                size = os.fstat(f.fileno()).st_size
                got: bytes | None = f.read(len(content or b"") + 1)
        except OSError as e:
            assert e.errno == errno.EREMOTEIO, f"{path!r}: {e}"
            got = size = None
        if got != content or (content is not None and size != len(content)):
            wrong.append((path, size, None if content is None else len(content)))
    assert not wrong, f"{len(wrong)}: {wrong[:10]}"
    after = world.mount.counters()
    assert any(c is None for c in contents.values()), "the maker has lost no artifact"
    opened = sum(after[k] - before[k] for k in ("open_passthrough", "open_cached"))
    assert opened >= len(world.tree.files) - 100
    if world.mount.began["modes"]["passthrough"] == "on":
        assert after["open_passthrough"] > before["open_passthrough"]


@pytest.mark.parametrize("world", ["chained"], indirect=True)
def test_a_dataset_known_in_two_datastores_is_read_from_the_first_that_still_has_it(world):
    twice = {p: f for p, f in world.tree.files.items() if len(f.artifacts) > 1}
    assert twice
    second = {p: f for p, f in twice.items() if f.artifact() == f.artifacts[1]}
    assert second, "the maker has lost no first copy"
    for p, f in list(second.items())[:20]:
        assert Path(os.fsdecode(world.mount.at(p))).read_bytes() == f.artifacts[1].content()


# -------------------------------------------------------------------------------------- what they are


def test_every_file_names_its_uuid_and_its_run(world):
    wrong = []
    for path, file in world.tree.files.items():
        at = world.mount.at(path)
        got = (xattr(at, "uuid"), xattr(at, "run"))
        if got != (file.uuid.encode(), reftree.to_bytes(file.run)):
            wrong.append((path, got, file.uuid, file.run))
    assert not wrong, f"{len(wrong)}: {wrong[:10]}"


def test_the_client_s_find_dataset_agrees_on_the_winners(world):
    """Another door of the client than the one that the reference model uses."""
    chains = {n.collection: p for p, n in world.tree.folders().items() if isinstance(n, reftree.Folder) and n.collection_type == "CHAINED"}
    assert len(chains) > 10
    inside = [(c, p, f) for c, at in chains.items() for p, f in world.tree.files.items()
              if p.startswith(at + b"/" + f.dataset_type.encode() + b"/") and not has_range(p)]  # fmt: skip
    with reftree.Client(world.repo.root) as client:
        types = {}
        for collection, path, file in world.rng.sample(inside, 60):
            t = types.setdefault(file.dataset_type, client.butler.get_dataset_type(file.dataset_type))
            required = {k: file.data_id[k] for k in t.dimensions.required}
            ref = client.butler.find_dataset(t, required, collections=[collection])
            assert xattr(world.mount.at(path), "uuid") == str(ref.id).encode(), (collection, path)


def test_one_dataset_is_one_inode_whatever_path_leads_to_it(world):
    inode_of: dict[Any, int] = {}
    key_of: dict[int, Any] = {}
    for path, file in world.tree.files.items():
        inode = world.seen[path].st_ino
        assert inode_of.setdefault(file.key(), inode) == inode, path
        assert key_of.setdefault(inode, file.key()) == file.key(), path
    assert len(inode_of) < len(world.tree.files), "no dataset has two paths"


def test_a_folder_s_inode_belongs_to_its_path(world):
    folders = [st.st_ino for st in world.seen.values() if stat.S_ISDIR(st.st_mode)]
    assert len(set(folders)) == len(folders)


def test_files_and_folders_have_butler_yaml_s_owner_and_read_bits_and_the_ingest_time(world):
    yaml = os.stat(world.repo.root / "butler.yaml")
    read = yaml.st_mode & 0o444
    for path, st in world.seen.items():
        assert (st.st_uid, st.st_gid) == (yaml.st_uid, yaml.st_gid), path
        if stat.S_ISDIR(st.st_mode):
            assert stat.S_IMODE(st.st_mode) == read | read >> 2, path
        elif stat.S_ISLNK(st.st_mode):
            assert (stat.S_IMODE(st.st_mode), st.st_nlink) == (0o777, 1), path
        else:
            assert (stat.S_IMODE(st.st_mode), st.st_nlink) == (read, 1), path
    for path, file in world.tree.files.items():
        assert int(world.seen[path].st_mtime) == reftree.mtime_of(file.ingest_ns), path


def test_a_file_s_extended_attributes_tell_what_the_client_knows(world):
    wanted_names = {"uuid", "dataset_type", "storage_class", "run", "size", "ingest_date", "data_id"}
    for path in world.telling(150):
        file, at = world.tree.files[path], world.mount.at(path)
        assert xattr(at, "dataset_type") == file.dataset_type.encode()
        assert xattr(at, "storage_class") == file.storage_class.encode()
        assert json.loads(xattr(at, "data_id")) == file.data_id, path
        assert xattr(at, "component") == (file.component.encode() if file.component else None)
        checksum = None if file.checksum is None else b"blake2b:" + file.checksum.encode()
        assert xattr(at, "checksum") == checksum
        if file.shown_size() is not None:
            size = xattr(at, "size")
            assert size is not None and int(size) in {file.shown_size(), len(file.content() or b"")}, path
        date = datetime.datetime.fromisoformat(xattr(at, "ingest_date").decode())
        assert date.tzinfo is not None and date.utcoffset() == datetime.timedelta(0)
        assert abs((date - reftree.iso_of(file.ingest_ns)).total_seconds()) <= 1
        listed = {n.removeprefix(PREFIX) for n in os.listxattr(at)}
        must = wanted_names if file.shown_size() is not None else wanted_names - {"size"}
        assert must <= listed and ("checksum" in listed) == (checksum is not None)
        assert ("component" in listed) == (file.component is not None)
        for name in listed:
            assert xattr(at, name) is not None, f"{name} is listed and has no value"
        assert fails(os.getxattr, at, "user.nothing") == "ENODATA"
        assert fails(os.getxattr, at, "security.selinux") in ("EOPNOTSUPP", "ENOTSUP")
        assert fails(os.getxattr, at, "system.posix_acl_access") in ("EOPNOTSUPP", "ENOTSUP")


@pytest.mark.parametrize("world", ["chained"], indirect=True)
def test_checksums_are_told_where_they_are_recorded(world):
    with_checksum = [p for p, f in world.tree.files.items() if f.checksum]
    done = 0
    for path in world.sample(with_checksum, 50):
        content = world.tree.files[path].content()
        # A file whose first copy is gone, or was overwritten, has another's bytes.
        if content is not None and world.tree.files[path].artifact() == world.tree.files[path].artifacts[0]:
            told = xattr(world.mount.at(path), "checksum")
            done += told == b"blake2b:" + hashlib.blake2b(content).hexdigest().encode()
    assert done > 30


def test_a_folder_s_extended_attributes_tell_what_it_is(world):
    folders = world.tree.folders()
    collections = {p: n for p, n in folders.items() if n.collection is not None and n.dataset_type is None}
    for path in world.sample(collections, 80):
        node, at = folders[path], world.mount.at(path)
        assert xattr(at, "collection") == reftree.to_bytes(node.collection), path
        assert xattr(at, "collection_type") == node.collection_type.encode(), path
        assert xattr(at, "doc") == (node.doc.encode() if node.doc else None), path
    types = {p: n for p, n in folders.items() if n.dataset_type is not None and n.data_id is None and n.collection is None}
    for path in world.sample(types, 60):
        assert xattr(world.mount.at(path), "dataset_type") == folders[path].dataset_type.encode(), path
    levels = {p: n for p, n in folders.items() if n.data_id is not None}
    for path in world.sample(levels, 80):
        assert xattr(world.mount.at(path), "dataset_type") == folders[path].dataset_type.encode(), path
        told = json.loads(xattr(world.mount.at(path), "data_id"))
        # Of the folder of a composite's parts it is a dataset's, of which the names tell the required values.
        known = folders[path].data_id if not folders[path].is_composite else {k: folders[path].data_id[k] for k in told}
        assert told == known and (folders[path].is_composite or told), path
    mere = {p: n for p, n in folders.items() if n.collection is None and n.dataset_type is None}
    for path in world.sample(mere, 20):
        assert xattr(world.mount.at(path), "collection_type") is None, path


def test_names_of_more_than_255_bytes_are_cut_and_the_whole_value_is_told(world):
    long = [p for p in world.tree.files if re.search(rb"~[0-9a-f]{16}(\.[a-z.]+)?$", p) and len(os.path.basename(p)) > 250]
    assert len(long) > 20
    for path in world.sample(long, 40):
        assert 250 < len(os.path.basename(path)) <= 255
        assert json.loads(xattr(world.mount.at(path), "data_id")) == world.tree.files[path].data_id
        assert xattr(world.mount.at(path), "dataset_type") == world.tree.files[path].dataset_type.encode()


# --------------------------------------------------------------------------------- by-uuid, README.txt


def test_by_uuid_leads_to_the_dataset_in_its_run_and_lists_nothing(world):
    for uuid in world.sample(world.tree.by_uuid, 300):
        at = os.fsdecode(world.mount.at(b"by-uuid/" + uuid.encode()))
        assert stat.S_ISLNK(os.lstat(at).st_mode)
        target = os.readlink(at)
        assert not target.startswith("/"), "an absolute link breaks where the mount is seen elsewhere"
        resolved = os.path.normpath(os.path.join(os.path.dirname(at), target))
        assert os.fsencode(resolved) == world.mount.at(world.tree.by_uuid[uuid])
        assert os.stat(at).st_ino == world.seen[world.tree.by_uuid[uuid]].st_ino
    assert os.listdir(world.mount / "by-uuid") == []


def test_by_uuid_knows_no_unstored_dataset_no_stranger_and_no_other_spelling(world):
    known = next(iter(world.tree.by_uuid))
    others = [*world.sample(set(world.tree.unstored.values()), 5), "00000000-0000-4000-8000-000000000000", known.upper(),
              known.replace("-", ""), known[:-1], known + "0", "{" + known + "}", "x"]  # fmt: skip
    for name in others:
        assert fails(os.lstat, world.mount / f"by-uuid/{name}") == "ENOENT", name


def test_the_readme_tells_what_this_is_in_a_screenful(world):
    text = (world.mount / "README.txt").read_text()
    assert len(text) == os.stat(world.mount / "README.txt").st_size
    lines = text.splitlines()
    assert 5 <= len(lines) <= 25 and max(map(len, lines)) <= 132
    for word in ("butlerfs", "collections/", "by-uuid/", world.mount.source):
        assert word in text, word


# -------------------------------------------------------------------------------------- looked up cold


def is_cut(path: bytes) -> bool:
    return any(len(n) > 250 and re.search(rb"~[0-9a-f]{16}([.@]|$)", n) for n in path.split(b"/"))


def open_cold(world: World, cold: mounting.Mount, paths: list[bytes]) -> None:
    world.rng.shuffle(paths)
    for path in paths:
        file = world.tree.files[path]
        content = file.content()
        if content is None:
            assert fails(open, cold.at(path), "rb") == "EREMOTEIO"
            continue
        with open(cold.at(path), "rb") as f:
            assert f.read() == content, path
        assert xattr(cold.at(path), "uuid") == file.uuid.encode(), path
        assert os.stat(cold.at(path)).st_ino == world.seen[path].st_ino, path


def test_deep_paths_open_at_once_by_point_queries_with_nothing_cached(world, mount):
    cold = mount(world.repo)
    paths = [p for p in world.telling(40) if not is_cut(p)]
    assert len(paths) > 40
    open_cold(world, cold, paths)
    for uuid in world.sample(world.tree.by_uuid, 10):
        path = world.tree.by_uuid[uuid]
        if path in world.tree.files and not is_cut(path):
            assert xattr(os.path.realpath(cold.at(b"by-uuid/" + uuid.encode())), "uuid") == uuid.encode()
    counters = cold.counters()
    assert counters["point_queries"] > 0
    assert counters["set_loads"] == 0, "a single path is no reason to read a whole set"


def test_deep_paths_with_cut_names_open_with_nothing_cached(world, mount):
    """Such a name can't be read back, so the set that has it is read: that one only."""
    paths = world.sample([p for p in world.tree.files if is_cut(p)], 12)
    assert len(paths) == 12
    cold = mount(world.repo)
    open_cold(world, cold, paths)
    # In a chain, of each member that has calibrations.
    assert cold.counters()["set_loads"] <= sum(members_searched(world, p) for p in paths)


def has_range(path: bytes) -> bool:
    """Whether it may be a calibration's range that the name has; then the client finds it at a time only."""
    return any(b"@" in name for name in path.split(b"/")[-2:])


def members_searched(world: World, path: bytes) -> int:
    """How many collections stand in the search path of the one that `path` is in, where all of them may matter."""
    folders = world.tree.folders()
    parts = path.split(b"/")
    above = [folders.get(b"/".join(parts[:n])) for n in range(len(parts))]
    collection = [f.collection for f in above if f is not None and f.collection is not None][-1]
    return len(world.tree.calibrations.paths[collection]) if has_range(path) else 1


def wrong_names(path: bytes, file: reftree.File) -> list[bytes]:
    """Paths that differ from `path` and must not lead anywhere, though each is nearly right."""
    folder, name = os.path.split(path)
    out = [path + b"x", folder + b"/" + name.upper() if name.upper() != name else path + b"y", path + b".", folder + b"/." + name]
    stem, dot, _ = name.partition(b".")
    suffix = file.suffix()
    stem = name.removesuffix(suffix)
    out += [folder + b"/" + stem, folder + b"/" + stem + b".wrong", folder + b"/" + stem + suffix + b".gz"]
    out += [folder + b"/" + stem + b"_0" + suffix, folder + b"/" + name.replace(b"_", b"__", 1) if b"_" in name else path + b"z"]
    parts = path.split(b"/")
    for i, part in enumerate(parts):
        key, equals, value = part.partition(b"=")
        changed = []
        if equals and i > 1 and re.fullmatch(rb"[a-z_0-9]+", key):
            if value.isdigit():
                changed += [b"0" + value, value + b".0", b"+" + value, value + b" ", b"%" + b"%02X" % value[0] + value[1:]]
                if key == b"day_obs":
                    changed += [b"20240102" if value != b"20240102" else b"20240101", b"19990101", value + b"0"]
                else:
                    changed += [b"9" * 18, b"9" * 30, b"-" + value]
            else:
                changed += [value + b"%20", b"%%%02X" % value[0] + value[1:] if value[:1].isalnum() else value + b"%", value.lower() + b"?"]
            changed = [key + b"=" + c for c in changed] + [key, key + b"=", b"=" + value, key.upper() + b"=" + value]
        elif i in (1, 2):
            # A part of a collection's name, most of the time.
            changed = [part + b"%20", b"%" + part if part != b"%" else b"%%", part[:-1] + b"%%%02X" % part[-1] if part[-1:].isalnum() else part + b"%41"]
        out += [b"/".join(parts[:i] + [c] + parts[i + 1 :]) for c in changed]
    lower = re.sub(rb"%[0-9A-F]{2}", lambda m: m[0].lower(), path)
    plain = re.sub(rb"%2F", b"/", path)
    return [p for p in dict.fromkeys([*out, lower, plain]) if p != path]


def test_a_name_that_is_nearly_right_is_enoent(world, mount):
    cold = mount(world.repo)
    wrong = {}
    for path in world.telling(12):
        for other in wrong_names(path, world.tree.files[path]):
            if other in world.tree.files or other in world.seen:
                continue
            said = fails(os.stat, cold.at(other))
            too_long = any(len(n) > 255 for n in other.split(b"/"))
            if said != "ENOENT" and not (too_long and said == "ENAMETOOLONG") and not (said == "ENOTDIR" and b"/." in other):
                wrong[other] = (said, path)
    assert not wrong, f"{len(wrong)}: {list(wrong.items())[:12]}"


def test_a_wrong_day_obs_above_a_visit_is_enoent_at_the_visit(world):
    some = [p for p in world.tree.folders() if re.search(rb"/day_obs=20240101/(visit|exposure)=\d+$", p)]
    for path in world.sample(some, 10):
        for day in (b"20240102", b"20241231"):
            assert fails(os.stat, world.mount.at(path.replace(b"day_obs=20240101", b"day_obs=" + day))) == "ENOENT"


def test_what_was_not_there_is_not_there_the_second_time_either(world):
    for name in ("collections/nobody", "collections/u/alice/run1/nothing", "collections/u/alice/run1/raw/instrument=NoCam"):
        for _ in range(3):
            assert fails(os.stat, world.mount / name) == "ENOENT"
    assert sorted(os.listdir(world.mount / "collections/u/alice")) == sorted(
        os.fsdecode(p.rsplit(b"/", 1)[1]) for p in world.seen if re.fullmatch(rb"collections/u/alice/[^/]+", p)
    )


# ------------------------------------------------------------------------------------ again, elsewhere


def test_a_second_life_on_the_same_cache_shows_the_same_tree(world, mount):
    cache = mount.at / "kept"
    first = mount(world.repo, cache_dir=cache)
    seen = {p: st.st_ino for p, st in mounting.walk(first.at(b"collections/u")).items()}
    assert first.counters()["set_loads"] > 0
    first.unmount()
    second = mount(world.repo, where=first.path, cache_dir=cache)
    assert {p: st.st_ino for p, st in mounting.walk(second.at(b"collections/u")).items()} == seen
    assert seen == {p.removeprefix(b"collections/u/"): st.st_ino for p, st in world.seen.items() if p.startswith(b"collections/u/")}


def test_a_level_is_read_from_the_registry_once(world, mount):
    m = mount(world.repo, refresh="1h")
    mounting.walk(m.at(b"collections/u"))
    once = m.counters()
    mounting.walk(m.at(b"collections/u"))
    twice = m.counters()
    assert once["set_loads"] > 0 and twice["set_loads"] == once["set_loads"]
    assert twice["registry_statements"] == once["registry_statements"]


def test_uid_gid_and_umask_options_decide_who_may_look(world, mount):
    m = mount(world.repo, uid=12345, gid=23456, umask="027")
    for path in (b"collections", b"collections/u/alice/run1", b"README.txt", *world.telling(3)):
        st = os.stat(m.at(path))
        assert (st.st_uid, st.st_gid) == (12345, 23456)
        assert stat.S_IMODE(st.st_mode) == (0o550 if stat.S_ISDIR(st.st_mode) else 0o440)


def test_a_configured_mount_has_a_folder_for_each_space_and_an_inode_for_each_space_s_dataset(repository, expected, mount):
    import yaml

    one = repository(seed=7, datasets=300, nasty=False)
    two = repository(seed=8, datasets=300, nasty=False)
    config = mount.at / "mount.yaml"
    spaces = {name: {"kind": "butler", "source": str(r.root)} for name, r in (("dp1", one), ("again", one), ("other", two))}
    config.write_text(yaml.safe_dump({"spaces": spaces}))
    m = mount("rubin", config=config)
    assert sorted(os.listdir(m.path)) == ["again", "dp1", "other"]
    for name, repo in (("dp1", one), ("other", two)):
        seen = mounting.walk(m.at(name.encode()))
        files = {p for p, st in seen.items() if stat.S_ISREG(st.st_mode)} - {b"README.txt"}
        assert files == set(expected(repo).files), differences(files, set(expected(repo).files))
    path = next(iter(expected(one).files))
    assert os.stat(m.at(b"dp1/" + path)).st_ino != os.stat(m.at(b"again/" + path)).st_ino
    assert xattr(m.at(b"dp1/" + path), "uuid") == xattr(m.at(b"again/" + path), "uuid")
    assert [(s["name"], s["kind"], s["source"]) for s in m.status()["spaces"]] == [
        (n, "butler", str(r)) for n, r in (("dp1", one.root), ("again", one.root), ("other", two.root))
    ] or {s["name"] for s in m.status()["spaces"]} == set(spaces)
