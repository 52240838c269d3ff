# SPDX-License-Identifier: BSD-3-Clause
"""The tools that people use: each must see on the mount what it sees on a plain copy."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import mounting
import pytest
import reftree


@pytest.fixture(scope="module")
def science(repository: Any, expected: Any, module_mount: Any) -> Any:
    """A mount of a plain repository, and the part of its tree that the tools are let loose on."""
    repo = repository(seed=7, datasets=300, nasty=False)
    tree = expected(repo)
    m = module_mount(repo)
    part = {p: f for p, f in tree.files.items() if p.startswith(b"collections/u/alice/run2/") and f.artifact()}
    assert len(part) > 60
    return m, tree, part


PART = "collections/u/alice/run2"


def run(*line: str | Path, **how: Any) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run([*map(str, line)], capture_output=True, timeout=120, **how)
    assert done.returncode == 0, (line, done.stderr[-1000:])
    return done


def needs(name: str) -> None:
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")


def assert_same_as_expected(copy: Path, part: dict[bytes, reftree.File]) -> None:
    files = {b"collections/u/alice/run2/" + p for p, st in mounting.walk(os.fsencode(str(copy))).items() if st.st_mode & 0o170000 == 0o100000}
    assert files == set(part)
    for path, file in part.items():
        assert (copy / os.fsdecode(path.removeprefix(b"collections/u/alice/run2/"))).read_bytes() == file.content()


def test_ls_lR_lists_all_without_a_complaint(science):
    m, tree, part = science
    done = run("ls", "-lR", m / PART)
    assert done.stderr == b""
    names = {line.split(None, 8)[-1] for line in done.stdout.splitlines() if line.startswith(b"-")}
    assert names == {os.path.basename(p) for p in part}


def test_find_counts_and_sizes_are_those_of_the_client(science):
    m, tree, part = science
    found = run("find", m / PART, "-type", "f", "-printf", "%s %P\\0").stdout.split(b"\0")[:-1]
    assert {f.split(b" ", 1)[1] for f in found} == {p.removeprefix(b"collections/u/alice/run2/") for p in part}
    big = run("find", m / PART, "-type", "f", "-size", "+1000c", "-printf", "%P\\0").stdout.split(b"\0")[:-1]
    assert len(big) == sum((f.shown_size() or 0) > 1000 for f in part.values())


def test_find_finishes_although_chains_and_links_point_everywhere(science):
    m, tree, _ = science
    done = subprocess.run(["find", "-L", m.path, "-type", "f"], capture_output=True, timeout=200)
    assert len(done.stdout.splitlines()) >= len(tree.files)
    # @members below a name of its own member is a loop for who follows links: find says so and goes on.
    complaints = [line for line in done.stderr.splitlines() if line.startswith(b"find: ")]
    assert all(b"loop detected" in line and b"@members" in line for line in complaints), complaints


def test_du_adds_up_the_sizes_and_counts_a_dataset_once(science):
    m, tree, part = science
    once = int(run("du", "-s", "--apparent-size", "--block-size=1", m / PART).stdout.split()[0])
    files = sum(f.shown_size() or 0 for f in {f.uuid: f for f in part.values()}.values())
    folders = sum(st.st_size for st in mounting.walk(m.at(PART.encode())).values() if st.st_mode & 0o170000 == 0o040000)
    assert once == files + folders + os.stat(m / PART).st_size
    # st_blocks stands for something: a file of n bytes does not take nothing.
    assert int(run("du", "-s", "--block-size=1", m / PART).stdout.split()[0]) >= files // 2


def test_cp_r_copies_all(science, tmp_path):
    m, _, part = science
    run("cp", "-r", m / PART, tmp_path / "copy")
    assert_same_as_expected(tmp_path / "copy", part)


def test_cp_a_keeps_times_modes_and_attributes(science, tmp_path):
    m, _, part = science
    run("cp", "-a", m / PART / "cfg", tmp_path / "cfg")
    for path in (p for p in part if b"/cfg/" in p):
        copy, original = tmp_path / "cfg" / os.fsdecode(os.path.basename(path)), m / path
        assert int(copy.stat().st_mtime) == int(original.stat().st_mtime)
        if "user.butler.uuid" in os.listxattr(copy):
            assert os.getxattr(copy, "user.butler.uuid") == part[path].uuid.encode()


def test_rsync_copies_all_and_the_second_time_nothing(science, tmp_path):
    needs("rsync")
    m, _, part = science
    run("rsync", "-a", f"{m / PART}/", tmp_path / "copy/")
    assert_same_as_expected(tmp_path / "copy", part)
    again = run("rsync", "-a", "--itemize-changes", f"{m / PART}/", tmp_path / "copy/").stdout
    assert not re.search(rb"(?m)^>f", again), again
    run("rsync", "-ac", "--delete", "--itemize-changes", f"{m / PART}/", tmp_path / "copy/")


def test_tar_packs_all(science, tmp_path):
    m, _, part = science
    run("tar", "-C", m / PART, "-cf", tmp_path / "all.tar", ".")
    with tarfile.open(tmp_path / "all.tar") as tar:
        inside = {t.name.removeprefix("./"): t for t in tar.getmembers() if t.isfile() or t.islnk()}
        assert {b"collections/u/alice/run2/" + os.fsencode(n) for n in inside} == set(part)
        for name, member in inside.items():
            file = part[b"collections/u/alice/run2/" + os.fsencode(name)]
            assert tar.extractfile(member).read() == file.content()


@pytest.mark.parametrize("typed, completed", [
    ("collections/u/al", ["collections/u/alice"]),
    ("collections/u/alice/run", ["collections/u/alice/run1", "collections/u/alice/run2", "collections/u/alice/run3"]),
    ("collections/u/alice/run1/ca", ["collections/u/alice/run1/calexp", "collections/u/alice/run1/camera"]),
    ("collections/LSSTComCam/raw/all/raw/instrument=HS", ["collections/LSSTComCam/raw/all/raw/instrument=HSC"]),
    ("by-uuid/", []),
])  # fmt: skip
def test_tab_completion_completes_names(science, typed, completed):
    m, _, _ = science
    done = subprocess.run(["bash", "-c", 'compgen -f "$1"', "bash", typed], cwd=m.path, capture_output=True, text=True, timeout=30)
    assert sorted(done.stdout.split("\n")[:-1]) == completed


def test_head_tail_dd_and_cmp_read_any_part(science):
    m, _, part = science
    path, file = next((p, f) for p, f in part.items() if len(f.content()) > 3000)
    content = file.content()
    assert run("head", "-c", "100", m / path).stdout == content[:100]
    assert run("tail", "-c", "100", m / path).stdout == content[-100:]
    assert run("dd", f"if={m / path}", "bs=7", "skip=11", "count=13", "status=none").stdout == content[77:168]
    run("cmp", m / path, file.artifact().path)
    with open(m / path, "rb") as f:
        for offset, size in ((0, 1), (2999, 10), (len(content) - 1, 5), (len(content), 5), (len(content) + 4096, 5)):
            assert os.pread(f.fileno(), size, offset) == content[offset : offset + size]


def test_astropy_opens_an_image_by_memmap(science):
    fits = pytest.importorskip("astropy.io.fits")
    import numpy as np

    m, tree, _ = science
    path, file = next((p, f) for p, f in tree.files.items() if f.dataset_type == "raw" and len(f.content() or b"") == 5760)
    with fits.open(m / path, memmap=True) as image, fits.open(file.artifact().path, memmap=False) as original:
        assert image[0].data.base is not None
        assert np.array_equal(image[0].data, original[0].data)
        assert image[0].header["SEED"] == original[0].header["SEED"]


@pytest.mark.parametrize("passthrough", ["on", "off"])
def test_a_memory_map_is_shared_by_readers_and_outlives_the_descriptor(science, mount, passthrough):
    import mmap

    _, tree, _ = science
    m = mount(str(science[0].source), passthrough=passthrough)
    path, file = next((p, f) for p, f in tree.files.items() if len(f.content() or b"") > 4096)
    f = open(m / path, "rb")
    mapped = mmap.mmap(f.fileno(), 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    f.close()
    assert mapped[:] == file.content()
    mapped.close()


def test_pyarrow_reads_the_levels_as_columns(science):
    ds = pytest.importorskip("pyarrow.dataset")
    m, tree, _ = science
    folder = m / "collections/u/alice/run1/visitTable"
    table = ds.dataset(folder, format="parquet", partitioning="hive").to_table()
    wanted = {(f.data_id["instrument"], f.data_id["day_obs"]) for p, f in tree.files.items()
              if p.startswith(b"collections/u/alice/run1/visitTable/")}  # fmt: skip
    got = set(zip(table.column("instrument").to_pylist(), table.column("day_obs").to_pylist()))
    assert got == wanted
    files = [p for p in tree.files if p.startswith(b"collections/u/alice/run1/visitTable/")]
    assert table.num_rows == 5 * len(files)
    one = ds.dataset(folder, format="parquet", partitioning="hive").to_table(filter=ds.field("instrument") == "HSC")
    assert set(one.column("instrument").to_pylist()) == {"HSC"}


def test_duckdb_reads_the_levels_as_columns(science):
    duckdb = pytest.importorskip("duckdb")
    m, tree, _ = science
    pattern = str(m / "collections/u/alice/run1/objectTable/**/*.parq")
    rows = duckdb.sql(f"SELECT skymap, count(*) FROM read_parquet('{pattern}', hive_partitioning = true) GROUP BY 1").fetchall()
    count = sum(p.startswith(b"collections/u/alice/run1/objectTable/") for p in tree.files)
    assert rows == [("lsst_cells_v1", 4 * count)]


def test_a_python_pickle_of_paths_found_by_glob_still_opens_them(science):
    m, tree, part = science
    found = sorted(Path(m.path).glob("collections/u/alice/run2/calexp/instrument=LSSTComCam/day_obs=*/visit=*/*_0.*"))
    wanted = [p for p in part if b"/calexp/instrument=LSSTComCam/" in p and re.search(rb"_0\.[a-z.]+$", p)]
    assert len(found) == len(wanted) > 0
    for p in found:
        assert p.read_bytes() == tree.files[os.fsencode(str(p.relative_to(m.path)))].content()
