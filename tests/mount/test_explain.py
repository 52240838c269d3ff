# SPDX-License-Identifier: BSD-3-Clause
"""`butlerfsctl explain`: what a path is, which of a chain's members won, why it can't be read or isn't there."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import sqlite3
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import makerepo
import mounting
import pytest
import reftree
from test_calibration import calibrated, infix  # noqa: F401
from test_zip import zipped  # noqa: F401

SEED = int(os.environ.get("BUTLERFS_TEST_SEED", "1"))
USER = 48124


@pytest.fixture(scope="module")
def world(repository: Any, expected: Any, module_mount: Any) -> Any:
    repo = repository(seed=11, datasets=300)
    return module_mount(repo), expected(repo)


def explain(m: mounting.Mount, path: str | bytes) -> dict[str, Any]:
    done = mounting.control("explain", m / path, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["ok"] and answer["sentences"] and all(isinstance(s, str) for s in answer["sentences"])
    return answer


def stem_of(path: bytes) -> bytes:
    folder, name = os.path.split(path)
    return folder + b"/" + name.partition(b".")[0]


def search_path(tree: reftree.Tree, name: str) -> list[str]:
    """A chain's collections, each where it comes first."""
    folders = {f.collection: f for f in tree.folders().values() if f.collection is not None and f.dataset_type is None}
    found: list[str] = []

    def add(name: str, above: tuple[str, ...]) -> None:
        if name in found or name in above:
            return
        if folders[name].chain is None:
            found.append(name)
        for child in folders[name].chain or ():
            add(child, (*above, name))

    add(name, ())
    return found


def test_of_a_file_in_a_chain_it_tells_who_won_and_who_is_shadowed(world):
    m, tree = world
    rng = random.Random(SEED)
    base = {c: b"collections/" + b"/".join(reftree.collection_parts(c)) + b"/"
            for c in (f.collection for f in tree.folders().values()) if c is not None}  # fmt: skip
    in_chains = [(p, c) for c in ("c/reversed", "c/forward", "c/nested") for p in tree.files if p.startswith(base[c] + b"calexp/")]
    shadows = 0
    for path, chain in rng.sample(in_chains, 25):
        below = path.removeprefix(base[chain])
        stem = stem_of(below)
        wanted = []
        for member in search_path(tree, chain):
            for where, is_stored in ((tree.files, True), (tree.unstored, False)):
                for p in where:
                    if p.startswith(base[member]) and stem_of(p) == base[member] + stem:
                        uuid = where[p].uuid if is_stored else where[p]
                        wanted.append((member, uuid, is_stored))
        answer = explain(m, path)
        told = [(t["collection"], t["uuid"], "not stored" not in t["state"]) for t in answer["members"]]
        assert told == wanted, path
        assert [t["state"].split(",")[0] for t in answer["members"]] == ["wins"] + ["shadowed"] * (len(wanted) - 1)
        assert (answer["collection"], answer["collection_type"]) == (chain, "CHAINED")
        assert answer["uuid"] == tree.files[path].uuid == wanted[0][1]
        shadows += len(wanted) - 1
    assert shadows


def test_of_any_file_it_tells_what_the_client_knows(world):
    m, tree = world
    for path in random.Random(SEED).sample(sorted(tree.files), 40):
        file, answer = tree.files[path], explain(m, path)
        assert answer["exists"] and answer["kind"] == "file"
        assert (answer["uuid"], answer["dataset_type"], answer["run"]) == (file.uuid, file.dataset_type, file.run)
        assert answer["data_id"] == file.data_id
        (told,) = answer["files"]
        assert (told["artifact"], told.get("member")) == (file.artifacts[0].path, file.artifacts[0].member)
        assert told["can_read"] == (file.artifact() is not None)
        if file.artifact():
            assert told["size_bytes"] in (file.artifacts[0].size(), os.path.getsize(file.artifacts[0].path))


def test_of_a_dataset_that_is_not_stored_it_tells_so(world):
    m, tree = world
    for path, uuid in random.Random(SEED).sample(sorted((p, u) for p, u in tree.unstored.items() if b"@" not in os.path.basename(p)), 20):
        answer = explain(m, path + b".fits")
        assert not answer["exists"] and answer["reason"] == "not stored", answer
        assert answer["uuid"] == uuid
        assert any("not stored" in s for s in answer["sentences"])


RUN = "collections/u/alice/run1"


@pytest.mark.parametrize("path, reason, words", [
    ("collections/u/alic", "no such name", "alice"),
    (f"{RUN}/calexpo", "no such name", "calexp"),
    (f"{RUN}/warp/visit=7", "another level", "instrument="),
    (f"{RUN}/calexp/instrument=HSX/day_obs=1/visit=2", "no such value", "{0}"),
    (f"{RUN}/calexp/{{0}}/{{1}}/visit=7", "no such value", "visit=20"),
    (f"{RUN}/calexp/{{0}}/day_obs=0{{2}}", "another spelling", "{1}"),
    ("collections/u/alice/run%31", "another spelling", "run1"),
    (f"{RUN}/detInfo/instrument=HSC/detInfo_HSC_0.yml", "another suffix", "detInfo_HSC_0.yaml"),
    (f"{RUN}/detInfo/instrument=HSC/detInfo_HSC_999.yaml", "no dataset", "None of the collections"),
    (f"{RUN}/detInfo/instrument=HSC/readme", "not a file's name", "detInfo_<instrument>_<detector>"),
    ("by-uuid/6ba7b810-9dad-11d1-80b4-00c04fd430c8", "no dataset", "no dataset of this id"),
    ("by-uuid/nonsense", None, "in lower case"),
    (f"{RUN}/@latest", None, "@members"),
    ("nothing/at/all", None, "collections"),
    ("x" * 256, None, "255 bytes"),
])  # fmt: skip
def test_of_a_path_that_is_not_there_it_tells_why(world, path, reason, words):
    m, tree = world
    for level in (m / RUN).glob("*/instrument=*"):
        os.listdir(level)  # what is there can be told if the set was read
    some = next(p for p in tree.files if p.startswith(f"{RUN}/calexp/".encode())).decode().split("/")[5:7]
    path, words = (t.format(*some, some[1].removeprefix("day_obs=")) for t in (path, words))
    answer = explain(m, path)
    assert not answer["exists"]
    assert answer.get("reason") == reason, answer
    assert any(words in s for s in answer["sentences"]), answer


def test_of_folders_and_links_it_tells_what_they_are(world):
    m, tree = world
    assert explain(m, "")["kind"] == "folder"
    answer = explain(m, "collections/c/reversed")
    assert answer["chain"] == ["u/alice/run3", "u/alice/run2", "u/alice/run1"]
    assert explain(m, "collections/u")["kind"] == "folder"
    uuid, target = next(iter(tree.by_uuid.items()))
    answer = explain(m, f"by-uuid/{uuid}")
    assert (answer["kind"], answer["target"].encode(), answer["uuid"]) == ("link", b"../" + target, uuid)
    plain = mounting.control("explain", m / "collections/c/reversed").stdout.splitlines()
    assert plain[0] == str(m / "collections/c/reversed") and all(line.startswith("  ") for line in plain[1:])
    answer = explain(m, next(iter(tree.files)) + b"/x")
    assert "It is no folder: nothing is below it." in answer["sentences"]


def spoil(path: Path, how: str) -> None:
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "device":
        os.mkfifo(path)
    elif how == "closed":
        path.write_text("root's")
        path.chmod(0o600)


@pytest.mark.parametrize("how, words", [
    ("gone", "not there"), ("folder", "not a regular file"), ("device", "not a regular file"), ("closed", "may not read it"),
])  # fmt: skip
def test_of_an_artifact_that_can_not_be_read_it_tells_why(place, mount, root_only, how, words):
    at = place / f"spoilt-{how.replace(' ', '-')}"
    at.mkdir()
    repo = makerepo.make(at / "made", seed=3, datasets=60, nasty=False)
    artifact = next(Path(repo.root).glob("u/alice/run1/detInfo/**/*.yaml"))
    spoil(artifact, how)
    m = mount(repo)
    found = [p for p in (m / RUN / "detInfo").rglob("*.yaml")]
    user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--"]
    told = []
    for path in found:
        done = subprocess.run([*user, mounting.program("butlerfsctl"), "explain", "--json", str(path)], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        told += [f for f in json.loads(done.stdout)["files"] if f["artifact"] == str(artifact)]
    assert len(told) == 1 and not told[0]["can_read"]
    assert words in told[0]["why"], told


def test_of_a_record_that_leaves_the_root_or_holds_a_secret_it_tells_no_secret(own_repository, mount):
    repo = own_repository()
    with sqlite3.connect(repo.root / "gen3.sqlite3") as db:
        rows = [r for (r,) in db.execute("SELECT dataset_id FROM file_datastore_records WHERE path LIKE '%.yaml' ORDER BY 1 LIMIT 2")]
        db.execute("UPDATE file_datastore_records SET path = '../../etc/x.yaml' WHERE dataset_id = ?", (rows[0],))
        db.execute("UPDATE file_datastore_records SET path = 'https://me:word@host.example/a/b.yaml?X-Amz-Signature=abc' WHERE dataset_id = ?", (rows[1],))
    db.close()
    m = mount(repo)
    leaves, secret = (explain(m, f"by-uuid/{r[:8]}-{r[8:12]}-{r[12:16]}-{r[16:20]}-{r[20:]}") for r in rows)
    assert "leaves the datastore's root" in leaves["files"][0]["why"]
    assert not secret["files"][0]["can_read"]
    assert secret["files"][0]["artifact"] == "https://host.example/a/b.yaml"
    assert "word" not in json.dumps(secret) and "abc" not in json.dumps(secret)


def test_of_a_zip_member_it_tells_the_archive_and_what_is_wrong_with_it(zipped, mount):  # noqa: F811
    repo, content = zipped
    m = mount(repo)
    uuid = next(iter(content))
    (told,) = explain(m, f"by-uuid/{uuid}")["files"]
    assert told["can_read"] and told["member"] and told["artifact"].endswith(".zip")
    assert told["size_bytes"] == len(content[uuid])
    path = Path(told["artifact"])
    with zipfile.ZipFile(path) as z:
        others = [(i, z.read(i)) for i in z.infolist() if i.filename != told["member"]]
    with zipfile.ZipFile(path.with_suffix(".new"), "w") as z:
        for info, data in others:
            z.writestr(info, data)
    shutil.move(path.with_suffix(".new"), path)
    (told,) = explain(m, f"by-uuid/{uuid}")["files"]
    assert not told["can_read"] and told["why"] == "the archive has no such member"


def test_of_a_calibration_it_tells_the_range_and_of_which_member_it_is(calibrated, mount):  # noqa: F811
    root, rows, bounds = calibrated
    m = mount(root)
    order = {"calib/a": ["calib/a"], "ab": ["calib/a", "calib/b"], "mixed": ["calib/b", "calib/a"], "deep": ["calib/a", "calib/b"]}
    shadows = 0
    for collection, members in order.items():
        for path in sorted((m / "collections" / collection / "bias/instrument=Cam").glob("*_[01]@*")):
            answer = explain(m, path)
            detector, text = path.name.removeprefix("bias_Cam_").partition("@")[::2]
            about = [r for c in members for r in rows if r["collection"] == c and r["type"] == "bias" and str(r["detector"]) == detector]
            same = [r for r in about if infix((r["begin"], r["end"])) == "@" + text.partition("~")[0].removesuffix(".yaml")]
            told = answer["members"]
            if "~" not in text:  # else others of the range have other names
                assert {(t["collection"], t["uuid"].replace("-", "")) for t in told} == {(r["collection"], r["uuid"]) for r in same}
            assert told[0]["state"] == "wins" and told[0]["uuid"] == answer["uuid"] == os.getxattr(path, "user.butler.uuid").decode()
            assert len(told) + len(answer.get("other_ranges", [])) == len({(r["collection"], r["uuid"], r["begin"], r["end"]) for r in about})
            shadows += len(told) > 1
    assert shadows


def test_of_a_time_it_tells_what_is_valid_or_that_there_is_no_telling(calibrated, mount):  # noqa: F811
    root, _, bounds = calibrated
    m = mount(root)
    ambiguous = found = 0
    for bound in bounds:
        at = infix((bound, bound + 1)).split("--")[0].removeprefix("@").replace(",", ".") + "TAI"
        for detector in range(3):
            path = m / f"calibs-at/{at}/collections/ab/bias/instrument=Cam/bias_Cam_{detector}.yaml"
            path = Path(str(path).replace("/collections/ab", "/ab")) if not (m / f"calibs-at/{at}/collections").exists() else path
            answer = explain(m, path)
            try:
                uuid = os.getxattr(path, "user.butler.uuid").decode()
                assert answer["uuid"] == uuid and answer["at"]
                found += 1
            except OSError as e:
                assert answer["exists"] is False
                if e.errno == errno.ENOTUNIQ:
                    assert answer["reason"] == "not unique" and [t["state"].split(",")[0] for t in answer["members"]][:2] == ["wins", "wins as well"]
                    ambiguous += 1
                else:
                    assert answer["reason"] in ("no dataset", "not stored", "no such value")
    assert found and ambiguous
    answer = explain(m, "calibs-at/2024-13-01/ab")
    assert "instants" in answer["sentences"][1]


def test_it_waits_for_a_librarian_without_a_worker(world):
    m, tree = world
    before = m.counters()["requests_parked"]
    path = next(p for p in tree.files if p.startswith(b"collections/c/diamond/calexp/"))
    explain(m, path)
    assert m.counters()["requests_parked"] > before


def test_it_needs_a_butlerfs(tmp_path):
    done = mounting.control("explain", tmp_path)
    assert done.returncode == 1 and "no butlerfs is mounted there" in done.stderr
