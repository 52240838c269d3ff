# SPDX-License-Identifier: BSD-3-Clause
"""Butler repositories whose datastores, or whose butler.yaml, are on object stores and web servers. (That all of
a repository looks the same as on a local disk is test_fidelity's: it has a datastore on S3 among its own.)"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import makerepo
import mounting
import pytest
import yaml
from lsst.daf.butler import Butler, DatasetType
from mounting import SLACK, eventually
from s3proxy import S3Proxy
from s3server import S3Server, free_port, rclone

RUN1 = "collections/u/alice/run1"


@contextlib.contextmanager
def environment(**variables: str):
    before = {k: os.environ.get(k) for k in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for k, v in before.items():
            if v is None:
                del os.environ[k]
            else:
                os.environ[k] = v


@pytest.fixture
def with_s3(s3):
    """The environment by which the Butler client reaches the server."""
    with environment(S3_ENDPOINT_URL=s3.endpoint, AWS_ACCESS_KEY_ID=s3.key, AWS_SECRET_ACCESS_KEY=s3.secret):
        yield {"S3_ENDPOINT_URL": s3.endpoint, "AWS_ACCESS_KEY_ID": s3.key, "AWS_SECRET_ACCESS_KEY": s3.secret}


def files_below(root: Path) -> list[Path]:
    return [Path(w) / n for w, _, names in os.walk(root) for n in names]


def test_what_the_client_puts_on_s3_is_read_from_the_mount(s3, with_s3, mount, tmp_path):
    bucket = s3.bucket(f"client{time.monotonic_ns()}")
    root = tmp_path / "repo"
    Butler.makeRepo(str(root))
    config = yaml.safe_load((root / "butler.yaml").read_text())
    config["datastore"]["root"] = f"s3://{bucket.name}/store"
    (root / "butler.yaml").write_text(yaml.safe_dump(config))
    with Butler.from_config(str(root), run="u/me/run", writeable=True) as butler:
        dataset_type = DatasetType("notes", [], "StructuredDataDict", universe=butler.dimensions)
        butler.registry.registerDatasetType(dataset_type)
        butler.put({"a": 1, "b": [1, 2, 3]}, dataset_type)
    objects = files_below(bucket)
    assert len(objects) == 1
    m = mount(root, env=with_s3)
    shown = files_below(m / "collections")
    assert len(shown) == 1
    assert shown[0].read_bytes() == objects[0].read_bytes()
    eventually(lambda: os.getxattr(shown[0], "user.butler.cached") == b"100", SLACK)
    eventually(lambda: os.getxattr(shown[0], "user.butler.locality") == b"cached", SLACK)


def test_a_butler_yaml_may_itself_be_remote(s3, own_repository, on_s3, mount, tmp_path):
    repo = own_repository()
    bucket = s3.bucket(f"yaml{time.monotonic_ns()}")
    config = yaml.safe_load((repo.root / "butler.yaml").read_text())
    config["root"] = str(repo.root)
    (bucket / "repo").mkdir()
    (bucket / "repo/butler.yaml").write_text(yaml.safe_dump(config))
    m = mount(f"s3://{bucket.name}/repo/butler.yaml", **s3.options())
    assert (m / f"{RUN1}/cfg/cfg.yaml").read_bytes()
    assert "alice" in os.listdir(m / "collections/u")


def test_a_life_that_begins_while_its_butler_yaml_is_away_goes_on_with_what_it_was(s3, own_repository, mount, tmp_path):
    repo = own_repository()
    bucket = s3.bucket(f"away{time.monotonic_ns()}")
    config = yaml.safe_load((repo.root / "butler.yaml").read_text())
    config["root"] = str(repo.root)
    (bucket / "repo").mkdir()
    (bucket / "repo/butler.yaml").write_text(yaml.safe_dump(config))
    with S3Proxy(s3.port) as proxy:
        m = mount(f"s3://{bucket.name}/repo/butler.yaml", **s3.options(proxy.url))
        file = m / f"{RUN1}/cfg/cfg.yaml"
        expected = file.read_bytes()
        for fault in ({"reset": True}, {"status": 403}, {"status": 404}):
            proxy.fault(times=-1, key="butler.yaml", **fault)
            m.log_since()
            m.kill_daemon()
            assert file.read_bytes() == expected, fault
            assert m.log_since().count("going on with what it was") == 1
            proxy.clear()
        m.kill_daemon()
        assert file.read_bytes() == expected
        assert "going on with" not in m.log_since()
        proxy.fault(times=-1, key="butler.yaml", status=404)
        said = mounting.refused(f"s3://{bucket.name}/repo/butler.yaml", tmp_path, mount.env, **s3.options(proxy.url))
        assert "butler.yaml" in said
        assert file.read_bytes() == expected
        m.end()


@contextlib.contextmanager
def web_server(folder: Path) -> Iterator[str]:
    port = free_port()
    server = subprocess.Popen([str(rclone()), "serve", "webdav", str(folder), "--addr", f"127.0.0.1:{port}", "--config",
                               "/dev/null", "--read-only"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        eventually(lambda: _answers(f"http://127.0.0.1:{port}/butler.yaml"), 10)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def test_a_datastore_on_a_web_server_is_read(own_repository, mount, tmp_path):
    repo = own_repository()
    here = mount(repo)
    expected = (here / f"{RUN1}/cfg/cfg.yaml").read_bytes()
    with web_server(repo.root) as url:
        config = yaml.safe_load((repo.root / "butler.yaml").read_text())
        config["root"] = str(repo.root)
        config["datastore"].setdefault("name", f"FileDatastore@{config['datastore']['root']}")
        config["datastore"]["root"] = url
        (tmp_path / "butler.yaml").write_text(yaml.safe_dump(config))
        m = mount(tmp_path)
        assert (m / f"{RUN1}/cfg/cfg.yaml").read_bytes() == expected
        m.end()


def content(path: bytes) -> bytes | str:
    """Of some the artifact is gone."""
    try:
        return Path(os.fsdecode(path)).read_bytes()
    except OSError as e:
        return errno.errorcode[e.errno]


def test_a_chain_of_a_web_server_and_a_bucket_with_files_beside_is_one_repository(own_repository, on_s3, mount):
    """Its first datastore is on a web server, its second in a bucket, and what was ingested in place is on this machine."""
    repo = own_repository(store="chained")
    here = mount(repo)
    files = sorted(p for p, st in mounting.walk(here.at(b"collections")).items() if st.st_mode & 0o170000 == 0o100000)
    bytes_of = {p: content(here.at(b"collections/" + p)) for p in files}
    at, options = on_s3(repo)
    with web_server(repo.root) as url:
        config = yaml.safe_load((at / "butler.yaml").read_text())
        first, last = config["datastore"]["datastores"]
        first["root"] = first["root"].replace("<butlerRoot>", url)
        assert first["root"].startswith("http://") and last["root"].startswith("s3://")
        (at / "butler.yaml").write_text(yaml.safe_dump(config))
        m = mount(at, **options)
        assert sorted(p for p, st in mounting.walk(m.at(b"collections")).items() if st.st_mode & 0o170000 == 0o100000) == files
        assert {p: content(m.at(b"collections/" + p)) for p in files} == bytes_of
        answered = {e["endpoint"]: e["answered"] for e in m.status()["network"]["endpoints"]}
        assert answered[url] > 0 and answered[options["endpoint"]] > 0, answered
        local = [p for p in files if os.getxattr(m.at(b"collections/" + p), "user.butler.locality") == b"online"]
        assert local, "some were local"
        m.end()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status == 200
    except OSError:
        return False


def test_members_of_an_archive_on_s3_are_files(own_repository, on_s3, mount, tmp_path):
    repo = own_repository()
    with Butler.from_config(str(repo.root), writeable=True) as butler:
        refs = [r for r in butler.registry.queryDatasets("exposureLog", collections="u/alice/run1") if butler.stored(r)]
        content = {str(r.id): Path(butler.getURI(r).ospath).read_bytes() for r in refs}
        path = Path(butler.retrieve_artifacts_zip(refs, destination=str(tmp_path / "out")).ospath)
        butler.pruneDatasets(refs, disassociate=True, unstore=True, purge=True)
        butler.ingest_zip(str(path), transfer="copy")
    source, options = on_s3(repo)
    m = mount(source, **options)
    assert len(content) > 3
    for uuid, data in content.items():
        assert (m / "by-uuid" / uuid).read_bytes() == data
        assert os.stat(m / "by-uuid" / uuid).st_size == len(data)


def test_a_record_that_leads_elsewhere_is_not_fetched_unless_artifact_roots_says_so(s3, own_repository, on_s3, mount):
    repo = own_repository()
    secret = s3.bucket(f"secret{time.monotonic_ns()}")
    (secret / "f.yaml").write_bytes(b"not for everybody")
    with sqlite3.connect(repo.root / "gen3.sqlite3") as db:
        ids = db.execute("SELECT dataset_id FROM file_datastore_records WHERE path LIKE '%cfg%' LIMIT 1").fetchall()
        db.execute("UPDATE file_datastore_records SET path = ?, file_size = -1 WHERE dataset_id = ?",
                   (f"s3://{secret.name}/f.yaml", ids[0][0]))  # fmt: skip
    uuid = str(__import__("uuid").UUID(hex=ids[0][0].hex() if isinstance(ids[0][0], bytes) else str(ids[0][0]).replace("-", "")))
    m = mount(repo, **s3.options())
    with pytest.raises(OSError) as e:
        (m / "by-uuid" / uuid).read_bytes()
    assert e.value.errno == errno.EACCES
    m = mount(repo, artifact_roots=f"s3://{secret.name}", **s3.options())
    assert (m / "by-uuid" / uuid).read_bytes() == b"not for everybody"


def test_a_datastore_that_refuses_is_said_at_the_mount(s3, own_repository, mount, tmp_path):
    repo = own_repository()
    config = yaml.safe_load((repo.root / "butler.yaml").read_text())
    config["root"] = str(repo.root)
    config["datastore"]["root"] = "s3://nosuchbucket/store"
    (tmp_path / "repo").mkdir()
    (tmp_path / "mnt").mkdir()
    (tmp_path / "repo/butler.yaml").write_text(yaml.safe_dump(config))
    options = {**s3.options(), "cache_dir": tmp_path / "cache"}
    done = subprocess.run([mounting.program("butlerfs"), str(tmp_path / "repo"), str(tmp_path / "mnt"), "-o",
                           mounting.option_text(options)], capture_output=True, text=True, timeout=60, env=mount.env)  # fmt: skip
    assert done.returncode != 0 and len(done.stderr.splitlines()) == 1
    assert "nosuchbucket" in done.stderr


def put_frames(repo: Any, visit_count: int, detector_count: int) -> None:
    with Butler.from_config(str(repo.root), run="u/alice/run1", writeable=True) as butler:
        frame = DatasetType("frame", ["instrument", "visit", "detector"], "StructuredDataDict", universe=butler.dimensions)
        butler.registry.registerDatasetType(frame)
        visits = sorted(r.id for r in butler.query_dimension_records("visit", instrument="LSSTComCam"))[:visit_count]
        assert len(visits) == visit_count
        for visit in visits:
            for detector in range(detector_count):
                butler.put({"of": [visit, detector]}, frame, instrument="LSSTComCam", visit=visit, detector=detector)


def cached(path: Path) -> bytes:
    return os.getxattr(path, "user.butler.cached")


def assert_fetched_ahead(paths: list[Path]) -> None:
    """Who reads one after the other soon finds one there that he has not opened: when depends on how fast what is known of
    them comes."""
    for i, path in enumerate(paths):
        with contextlib.suppress(AssertionError):
            if i >= 3:
                eventually(lambda path=path: cached(path) == b"100", 1)
                return
        assert b"of" in path.read_bytes()
    pytest.fail("none of the files was there before it was opened")


def test_who_plays_visit_after_visit_of_one_detector_has_the_next_frames_fetched_ahead(own_repository, on_s3, mount):
    repo = own_repository()
    put_frames(repo, visit_count=6, detector_count=3)
    at, options = on_s3(repo)
    with S3Proxy(int(options["endpoint"].rsplit(":", 1)[1])) as proxy:
        proxy.latency_s = 0.02
        m = mount(at, **{**options, "endpoint": proxy.url})
        shown = sorted(files_below(m / RUN1 / "frame"))
        movie = [p for p in shown if p.name.split(".")[0].endswith("_1")]
        assert len({p.parent for p in movie}) == 6
        assert len({p.parent.parent for p in movie}) > 1, "across nights"
        assert_fetched_ahead(movie)
        assert m.counters()["objects_ahead"] > 0
        assert {cached(p) for p in shown if p not in movie} == {b"0"}, "and nothing of other detectors"


def test_who_goes_through_a_folder_of_datasets_has_the_next_fetched_ahead(own_repository, on_s3, mount):
    repo = own_repository()
    put_frames(repo, visit_count=2, detector_count=8)
    at, options = on_s3(repo)
    m = mount(at, **options)
    shown = sorted(files_below(m / RUN1 / "frame"))
    assert_fetched_ahead(shown[:8])
    assert m.counters()["objects_ahead"] > 0
    assert {cached(p) for p in shown[8:]} == {b"0"}, "and nothing of the next folder"
