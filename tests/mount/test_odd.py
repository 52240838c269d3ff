# SPDX-License-Identifier: BSD-3-Clause
"""Odd states of a dataset's artifact and its record: each has its rule in butlerfs-tree(7)."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mounting
import pytest

HERE = Path(__file__).resolve().parent
CONTENT = b"what was put here by the test"


@dataclasses.dataclass
class Case:
    """One dataset's record and artifact, and what must be seen of it."""

    size: Any = "kept"  # as recorded from now on
    path: str | None = None  # likewise; {out}: the folder the repository is in
    artifact: Callable[[Path], None] | None = None  # changes what is stored
    file: str | None = None  # a file below the root that holds CONTENT
    stat: int | str = "recorded"  # before it was opened
    read: bytes | str = "stored"


def _nothing(p: Path) -> None:
    p.write_bytes(b"")


def _folder(p: Path) -> None:
    p.unlink()
    p.mkdir()


def _fifo(p: Path) -> None:
    p.unlink()
    os.mkfifo(p)


def _link_to_folder(p: Path) -> None:
    p.unlink()
    p.symlink_to("/")


CASES = {
    "size -1": Case(size=-1, stat="stored"),
    "size NULL": Case(size=None, stat="stored"),
    "size a text": Case(size="many", stat="stored"),
    "size a real": Case(size=17.5, stat="stored"),
    "size more than any file's": Case(size=2**63 - 1, stat="stored"),
    "size the largest": Case(size=2**60, stat=2**60),
    "size too big": Case(size=10**6, stat=10**6),
    "size too small": Case(size=3, stat=3),
    "size 0 of a file that isn't empty": Case(size=0, stat=0),
    "empty": Case(size=0, artifact=_nothing, stat=0, read=b""),
    "empty and of unknown size": Case(size=-1, artifact=_nothing, stat=0, read=b""),
    "empty, against the record": Case(artifact=_nothing, read=b""),
    "gone": Case(artifact=Path.unlink, read="EREMOTEIO"),
    "gone and of unknown size": Case(size=-1, artifact=Path.unlink, stat=0, read="EREMOTEIO"),
    "a folder": Case(artifact=_folder, read="EACCES"),
    "a pipe": Case(artifact=_fifo, read="EACCES"),
    "a link to a folder": Case(artifact=_link_to_folder, read="EACCES"),
    "leaves the root": Case(path="../outside.yaml", read="EACCES"),
    "leaves the root from below": Case(path="in/../../outside.yaml", read="EACCES"),
    "leaves and comes back": Case(path="in/../in/back.yaml", file="in/back.yaml", read=CONTENT),
    "slashes and dots": Case(path="in//./dots.yaml", file="in/dots.yaml", read=CONTENT),
    "an absolute URI": Case(path="file://{out}/outside.yaml", read=CONTENT),
    "an absolute URI, quoted": Case(path="file://{out}/out%20side.yaml", read=CONTENT),
    "a URI with a host": Case(path="file://elsewhere{out}/outside.yaml", read=CONTENT),  # the client ignores it too
    "quoted": Case(path="in/a%20b.yaml", file="in/a b.yaml", read=CONTENT),
    "quoted, with a fragment": Case(path="in/a%20c.yaml#x", file="in/a c.yaml", read=CONTENT),
    "not quoted": Case(path="in/100% true.yaml", file="in/100% true.yaml", read=CONTENT),
    "a fragment's sign in a folder": Case(path="in#1/x.yaml", file="in#1/x.yaml", read=CONTENT),
    "a variable": Case(path="in/$HOME.yaml", file="in/$HOME.yaml", read=CONTENT),
    "a variable in braces": Case(path="in/${HOME}.yaml", file="in/${HOME}.yaml", read=CONTENT),
    "a tilde": Case(path="~/x.yaml", file="~/x.yaml", read=CONTENT),
    "a package's folder": Case(path="$AFW_DIR/x.yaml", file="$AFW_DIR/x.yaml", read=CONTENT),
    "a folder's path": Case(path="in/", read="EREMOTEIO"),
    "the root itself": Case(path=".", read="EREMOTEIO"),
    "a NUL": Case(path="in/a\0b.yaml", read="EREMOTEIO"),
    "a newline": Case(path="in/new\nline.yaml", file="in/new\nline.yaml", read=CONTENT),
    "too long for any file": Case(path="in/" + "x" * 300 + ".yaml", read="EREMOTEIO"),
    "longer than any path": Case(path="y/" * 3000 + "x.yaml", read="EREMOTEIO"),
    "no path": Case(path="", stat="ENOENT", read="ENOENT"),
}  # fmt: skip


def uuid_of(digits: str) -> str:
    return "-".join([digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]])


def said(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except OSError as e:
        return mounting.errno.errorcode[e.errno]


@dataclasses.dataclass
class Odd:
    root: Path
    ids: dict[str, str]  # case -> uuid
    artifacts: dict[str, Path]
    recorded: dict[str, int]
    mount: mounting.Mount

    def at(self, name: str) -> Path:
        return self.mount.path / "by-uuid" / self.ids[name]


ROWS = """SELECT r.dataset_id, r.path, r.file_size FROM file_datastore_records r JOIN dataset d ON d.id = r.dataset_id
    JOIN dataset_type t ON t.id = d.dataset_type_id WHERE t.name IN ('raw', 'calexp') ORDER BY r.path"""


@pytest.fixture(scope="module")
def odd(place: Path, module_mount: Any) -> Odd:
    out = place / "odd"
    subprocess.run([sys.executable, HERE / "makeschema.py", out], check=True, timeout=120)
    root = out / "repo"
    for name in ("outside.yaml", "out side.yaml"):
        (out / name).write_bytes(CONTENT)
    (root / "in").mkdir(exist_ok=True)
    made = Odd(root, {}, {}, {}, None)  # type: ignore[arg-type]
    with sqlite3.connect(root / "gen3.sqlite3") as db:
        rows = db.execute(ROWS).fetchall()
        for (name, case), (digits, path, size) in zip(CASES.items(), rows):
            made.ids[name], made.artifacts[name], made.recorded[name] = uuid_of(digits), root / path, size
            if case.artifact:
                case.artifact(root / path)
            if case.file:
                (root / case.file).parent.mkdir(exist_ok=True)
                (root / case.file).write_bytes(CONTENT)
            if case.path is not None:
                new = case.path.replace("{out}", str(out))
                db.execute("UPDATE file_datastore_records SET path = ? WHERE dataset_id = ?", (new, digits))
            if case.size != "kept":
                db.execute("UPDATE file_datastore_records SET file_size = ? WHERE dataset_id = ?", (case.size, digits))
                made.recorded[name] = case.size
        # Two datasets with one path, and a third whose record is in the trash.
        spare = rows[len(CASES) :]
        db.execute("UPDATE file_datastore_records SET path = ?, file_size = 5 WHERE dataset_id = ?", (spare[0][1], spare[1][0]))
        db.execute("INSERT INTO dataset_location_trash (dataset_id, datastore_name) SELECT dataset_id, datastore_name FROM dataset_location WHERE dataset_id = ?", (spare[2][0],))
        db.execute("DELETE FROM dataset_location WHERE dataset_id = ?", (spare[2][0],))
        for name, row in zip(("one", "two", "trashed"), spare):
            made.ids[name], made.artifacts[name], made.recorded[name] = uuid_of(row[0]), root / row[1], row[2]
    db.close()
    assert set(CASES) < set(made.ids), "the repository is too small"
    made.mount = module_mount(root)
    return made


@pytest.mark.parametrize("name", CASES)
def test_an_odd_state_has_its_rule(odd, name):
    case, at, stored = CASES[name], odd.at(name), odd.artifacts[name]
    content = stored.read_bytes() if stored.is_file() else b""
    size = {"stored": len(content), "recorded": odd.recorded[name]}.get(case.stat, case.stat)
    assert said(lambda: os.stat(at).st_size) == size
    if size != "ENOENT":
        where = Path(os.path.realpath(at))
        assert stat.S_ISREG(os.stat(where).st_mode) and where.name in os.listdir(where.parent), "it is listed"
    wanted = content if case.read == "stored" else case.read
    assert said(at.read_bytes) == wanted
    if isinstance(wanted, bytes):
        assert os.stat(at).st_size == len(wanted), "once open, its own size"


def test_two_datasets_with_one_path_are_two_files_with_the_same_bytes(odd):
    one, two = odd.at("one"), odd.at("two")
    assert one.read_bytes() == two.read_bytes() == odd.artifacts["one"].read_bytes()
    assert os.stat(one).st_ino != os.stat(two).st_ino
    assert os.getxattr(two, "user.butler.uuid").decode() == odd.ids["two"]


def test_what_is_trashed_is_read_as_long_as_its_record_stands(odd):
    assert odd.at("trashed").read_bytes() == odd.artifacts["trashed"].read_bytes()


def test_odd_rows_are_counted_and_the_others_are_not_the_worse_for_it(odd):
    assert said(lambda: os.stat(odd.at("no path"))) == "ENOENT"
    assert odd.mount.counters()["rows_refused"] >= 1
    assert "damaged" not in odd.mount.log()
    for path in sorted((odd.root / "123").rglob("coadd*.yaml")):
        assert path.read_bytes() in {p.read_bytes() for p in (odd.mount.path / "collections/123/coadd").rglob("*.yaml")}
