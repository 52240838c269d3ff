# SPDX-License-Identifier: BSD-3-Clause
"""A change that the client makes to a mounted repository is seen within `refresh`."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import makecalibs
import mounting
import pytest
import reftree

REFRESH = 0.2
WITHIN = REFRESH + mounting.SLACK


class Shell:
    """One bash that lives on: its working folder, and what the kernel keeps for it, are old ones."""

    def __init__(self, folder: Path):
        self.bash = subprocess.Popen(["bash", "--norc"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, text=True)  # fmt: skip

    def __call__(self, line: str) -> list[str]:
        self.bash.stdin.write(f"{line}\necho -- END\n")
        self.bash.stdin.flush()
        out: list[str] = []
        while (got := self.bash.stdout.readline().rstrip("\n")) != "-- END":
            assert self.bash.poll() is None
            out.append(got)
        return out

    def end(self) -> None:
        self.bash.stdin.close()
        self.bash.stdout.close()
        self.bash.wait(10)


class Live:
    """A mounted repository and a writeable client of it, as another process would have."""

    def __init__(self, repo: Any, mount: mounting.Mount):
        self.repo, self.mount = repo, mount
        self.butler = repo.butler()
        self.shells: list[Shell] = []

    def shell(self, folder: str) -> Shell:
        self.shells.append(Shell(self.mount / folder))
        return self.shells[-1]

    def names(self, folder: str) -> list[str]:
        try:
            return sorted(os.listdir(self.mount / folder))
        except FileNotFoundError:
            return ["gone"]

    def is_there(self, path: str) -> bool:
        try:
            os.stat(self.mount / path)
            return True
        except FileNotFoundError:
            return False

    def uuid(self, path: str) -> str:
        try:
            return os.getxattr(self.mount / path, "user.butler.uuid").decode()
        except OSError as e:
            return errno.errorcode[e.errno]

    def put(self, run: str, detector: int, note: str = "new", type_name: str = "detInfo", instrument: str = "HSC") -> Any:
        return self.butler.put({"note": note}, type_name, run=run, instrument=instrument, detector=detector)


@pytest.fixture(params=["sqlite", "postgres"])
def live(own_repository, mount, request):
    made: list[Live] = []

    def get(**options: Any) -> Live:
        repo = own_repository(on=request.param)
        options = {"refresh": f"{int(REFRESH * 1000)}ms", **options}
        made.append(Live(repo, mount(repo, **options)))
        return made[-1]

    yield get
    for one in made:
        for shell in one.shells:
            shell.end()
        one.butler.close()


RUN1 = "collections/u/alice/run1"
TAG = "collections/tag"
FORWARD = "collections/c/forward"  # run1, run3
ONE = "collections/c/one"  # run3, run1


def info(detector: int) -> str:
    return f"detInfo/instrument=HSC/detInfo_HSC_{detector}.yaml"


def test_a_dataset_that_is_put_appears_where_it_was_known_to_be_missing(live):
    it = live()
    shell = it.shell(f"{RUN1}/detInfo/instrument=HSC")
    # One more detector than the run has. Its absence is known to the kernel: asked, and listed.
    assert shell("cat detInfo_HSC_4.yaml; ls")[1:] == [f"detInfo_HSC_{d}.yaml" for d in range(4)]
    assert not it.is_there(f"{RUN1}/{info(4)}")
    ref = it.put("u/alice/run1", 4)
    mounting.eventually(lambda: it.is_there(f"{RUN1}/{info(4)}"), WITHIN)
    mounting.eventually(lambda: len(it.names(f"{RUN1}/detInfo/instrument=HSC")) == 5, WITHIN)
    assert shell("cat detInfo_HSC_4.yaml; ls") == ["note: new", *(f"detInfo_HSC_{d}.yaml" for d in range(5))]
    assert it.uuid(f"{RUN1}/{info(4)}") == str(ref.id)
    assert os.readlink(it.mount / f"by-uuid/{ref.id}").endswith(info(4))


def test_a_dataset_of_a_new_visit_brings_its_folders(live):
    it = live()
    visit = 2024010199999
    folder = f"{RUN1}/visitTable/instrument=LSSTComCam"
    path = f"{RUN1}/exposureLog/instrument=LSSTComCam/day_obs=20240101/exposureLog_LSSTComCam_{visit}.yaml"
    assert not it.is_there(path)
    it.names(folder)
    insert = it.butler.registry.insertDimensionData
    insert("group", {"instrument": "LSSTComCam", "name": "g"})
    insert("exposure", {"instrument": "LSSTComCam", "id": visit, "day_obs": 20240101, "physical_filter": "r_03", "group": "g", "obs_id": "new"})
    it.butler.put({"new": 1}, "exposureLog", run="u/alice/run1", instrument="LSSTComCam", exposure=visit)
    mounting.eventually(lambda: it.is_there(path), WITHIN)
    mounting.eventually(lambda: os.path.basename(path) in it.names(os.path.dirname(path)), WITHIN)


def test_a_dataset_that_is_unstored_is_gone_from_listing_lookup_and_by_uuid(live):
    it = live()
    path = f"{RUN1}/{info(0)}"
    shell = it.shell(f"{RUN1}/detInfo/instrument=HSC")
    shell("ls; cat *")
    (ref,) = it.butler.query_datasets("detInfo", "u/alice/run1", data_id={"instrument": "HSC", "detector": 0})
    assert it.uuid(path) == str(ref.id)
    it.butler.pruneDatasets([ref], disassociate=False, unstore=True)
    mounting.eventually(lambda: not it.is_there(path), WITHIN)
    mounting.eventually(lambda: "detInfo_HSC_0.yaml" not in it.names(os.path.dirname(path)), WITHIN)
    mounting.eventually(lambda: not os.path.lexists(it.mount / f"by-uuid/{ref.id}"), WITHIN)
    assert shell("ls") == [f"detInfo_HSC_{d}.yaml" for d in (1, 2, 3)]


def test_a_winner_that_is_unstored_goes_on_hiding_the_next_and_one_that_is_removed_does_not(live):
    it = live()
    it.put("u/alice/run3", 1, "shadow")
    it.put("u/alice/run3", 2, "shadow")
    mounting.eventually(lambda: b"shadow" in (it.mount / f"{ONE}/{info(1)}").read_bytes(), WITHIN)
    mounting.eventually(lambda: b"shadow" in (it.mount / f"{ONE}/{info(2)}").read_bytes(), WITHIN)
    get = lambda d: it.butler.query_datasets("detInfo", "u/alice/run3", data_id={"instrument": "HSC", "detector": d})  # noqa: E731
    behind = it.butler.find_dataset("detInfo", instrument="HSC", detector=2, collections="u/alice/run1")
    it.butler.pruneDatasets(get(1), disassociate=False, unstore=True)
    it.butler.pruneDatasets(get(2), disassociate=True, unstore=True, purge=True)
    mounting.eventually(lambda: it.uuid(f"{ONE}/{info(2)}") == str(behind.id), WITHIN)
    mounting.eventually(lambda: not it.is_there(f"{ONE}/{info(1)}"), WITHIN)
    assert "detInfo_HSC_1.yaml" not in it.names(f"{ONE}/detInfo/instrument=HSC")


def test_a_dataset_that_is_replaced_has_its_new_bytes_and_an_open_file_its_old_ones(live):
    it = live()
    path = f"{RUN1}/{info(3)}"
    old = it.uuid(path)
    with open(it.mount / path, "rb") as held:
        before = (it.mount / path).read_bytes()
        refs = it.butler.query_datasets("detInfo", "u/alice/run1", data_id={"instrument": "HSC", "detector": 3})
        it.butler.pruneDatasets(refs, disassociate=True, unstore=True, purge=True)
        new = it.put("u/alice/run1", 3, "replaced")
        mounting.eventually(lambda: it.uuid(path) == str(new.id), WITHIN)
        assert (it.mount / path).read_bytes() == b"note: replaced\n" != before
        assert held.read() == before
    assert old != str(new.id)


def test_runs_that_are_removed_are_gone_with_their_folder(live):
    it = live()
    assert it.names("collections/u/alice") == ["run1", "run2", "run3"]
    shell = it.shell("collections/u/alice/run3")
    assert shell("ls") == ["calexp"]
    # What holds the run must let go of it first.
    for chain in ("c/reversed", "c/forward", "c/one"):
        it.butler.collections.remove_from_chain(chain, "u/alice/run3")
    it.butler.removeRuns(["u/alice/run3"], unlink_from_chains=True)
    mounting.eventually(lambda: it.names("collections/u/alice") == ["run1", "run2"], WITHIN)
    mounting.eventually(lambda: not it.is_there("collections/u/alice/run3"), WITHIN)
    mounting.eventually(lambda: "calexp_" not in " ".join(shell("ls -R . 2>&1")), WITHIN)


def test_tags_that_are_put_on_and_taken_off_are_seen(live):
    it = live()
    refs = it.butler.query_datasets("detInfo", "u/alice/run2", limit=None)
    refs = [r for r in refs if it.butler.stored(r)]
    it.butler.registry.disassociate("tag", it.butler.query_datasets("detInfo", "tag", explain=False))
    mounting.eventually(lambda: it.names(f"{TAG}/detInfo") == ["gone"], WITHIN)
    it.butler.registry.associate("tag", refs)
    path = f"{TAG}/detInfo/instrument={refs[0].dataId['instrument']}"
    name = f"detInfo_{refs[0].dataId['instrument']}_{refs[0].dataId['detector']}.yaml"
    mounting.eventually(lambda: name in it.names(path), WITHIN)
    assert it.uuid(f"{path}/{name}") == str(refs[0].id)
    it.butler.registry.disassociate("tag", refs[:1])
    mounting.eventually(lambda: not it.is_there(f"{path}/{name}"), WITHIN)


def test_a_chain_that_is_edited_has_other_winners(live):
    it = live()
    first = it.put("u/alice/run1", 5, "of run1")
    it.butler.collections.register("patch/run")
    second = it.put("patch/run", 5, "of the patch")
    path = f"{FORWARD}/{info(5)}"
    mounting.eventually(lambda: it.uuid(path) == str(first.id), WITHIN)
    shell = it.shell(f"{FORWARD}/detInfo/instrument=HSC")
    assert shell("cat detInfo_HSC_5.yaml") == ["note: of run1"]
    it.butler.collections.prepend_chain("c/forward", ["patch/run"])
    mounting.eventually(lambda: it.uuid(path) == str(second.id), WITHIN)
    mounting.eventually(lambda: shell("cat detInfo_HSC_5.yaml") == ["note: of the patch"], WITHIN)
    it.butler.collections.redefine_chain("c/forward", ["u/alice/run2"])
    mounting.eventually(lambda: not it.is_there(path), WITHIN)
    it.butler.collections.redefine_chain("c/forward", [])
    mounting.eventually(lambda: it.names(FORWARD) == ["@members"], WITHIN)
    # A chain of chains sees it as well.
    it.butler.collections.redefine_chain("c/forward", ["patch/run"])
    mounting.eventually(lambda: it.names(FORWARD) == ["@members", "detInfo"], WITHIN)


def test_collections_that_come_go_and_come_back_as_another_kind_are_seen(live):
    from lsst.daf.butler import CollectionType

    it = live()
    assert not it.is_there("collections/new")
    it.butler.collections.register("new/one", CollectionType.TAGGED)
    mounting.eventually(lambda: it.names("collections/new") == ["one"], WITHIN)
    assert os.getxattr(it.mount / "collections/new/one", "user.butler.collection_type") == b"TAGGED"
    it.butler.collections.x_remove("new/one")
    mounting.eventually(lambda: not it.is_there("collections/new"), WITHIN)
    it.butler.collections.register("new/one", CollectionType.CHAINED)
    it.butler.collections.redefine_chain("new/one", ["u/alice/run1"])
    mounting.eventually(lambda: "detInfo" in it.names("collections/new/one"), WITHIN)
    assert os.getxattr(it.mount / "collections/new/one", "user.butler.collection_type") == b"CHAINED"


def test_a_dataset_type_that_is_registered_while_mounted_is_shown_with_its_first_dataset(live):
    from lsst.daf.butler import DatasetType

    it = live()
    it.butler.registry.registerDatasetType(DatasetType("fresh", ["instrument", "physical_filter"], "StructuredDataDict", universe=it.butler.dimensions))
    assert "fresh" not in it.names(RUN1)
    it.butler.put({"a": 1}, "fresh", run="u/alice/run1", instrument="HSC", physical_filter="r_03")
    mounting.eventually(lambda: it.names(f"{RUN1}/fresh") == ["instrument=HSC"], WITHIN)
    assert it.names(f"{RUN1}/fresh/instrument=HSC") == ["fresh_HSC_r_03.yaml"]
    assert "fresh" in it.names(RUN1)


def test_the_whole_tree_is_right_after_a_burst_of_changes(live):
    it = live()
    mounting.walk(it.mount.at(b""))
    for k in range(5):
        it.butler.collections.register(f"burst/{k}")
        for d in range(4):
            it.put(f"burst/{k}", d)
        it.butler.collections.prepend_chain("c/one", [f"burst/{k}"])
    it.butler.pruneDatasets(it.butler.query_datasets("detInfo", "burst/3"), disassociate=False, unstore=True)
    it.butler.removeRuns(["burst/1"], unlink_from_chains=True)
    wanted = reftree.expected(it.repo.root)

    def is_right() -> bool:
        seen = mounting.walk(it.mount.at(b"collections"))
        return {b"collections/" + p for p in seen} == {*wanted.files, *reftree.all_folders(wanted), *reftree.all_links(wanted)}

    mounting.eventually(is_right, WITHIN + 6)
    for path, file in wanted.files.items():
        assert os.getxattr(it.mount.at(path), "user.butler.uuid") == file.uuid.encode(), path


def test_refresh_is_the_longest_that_a_change_stays_unseen(live):
    """Again and again, so that no lucky phase of the poll hides a late one."""
    it = live(refresh="500ms")
    late = []
    for d in range(6):
        path = f"collections/lag/run/{info(d)}"
        if d == 0:
            it.butler.collections.register("lag/run")
        assert not it.is_there(path)
        it.put("lag/run", d)
        begin = time.monotonic()
        mounting.eventually(lambda: it.is_there(path), 0.5 + mounting.SLACK)
        late.append(time.monotonic() - begin)
    assert sorted(late)[len(late) // 2] < 0.5 + 0.5, late


def test_butlerfsctl_refresh_sees_a_change_at_once_where_refresh_is_an_hour(live):
    it = live(refresh="1h")
    assert not it.is_there(f"{RUN1}/{info(4)}")
    it.names(f"{RUN1}/detInfo/instrument=HSC")
    it.put("u/alice/run1", 4)
    assert mounting.control("refresh", it.mount / RUN1).returncode == 0
    mounting.eventually(lambda: it.is_there(f"{RUN1}/{info(4)}"), mounting.SLACK)
    mounting.eventually(lambda: "detInfo_HSC_4.yaml" in it.names(f"{RUN1}/detInfo/instrument=HSC"), mounting.SLACK)


def test_a_quiet_repository_is_asked_nothing(live):
    """Whether another connection has committed is learnt without a statement on the tables."""
    it = live()
    mounting.walk(it.mount.at(b""))
    time.sleep(2 * REFRESH)
    before = it.mount.counters()
    time.sleep(10 * REFRESH)
    mounting.walk(it.mount.at(b""))
    after = it.mount.counters()
    assert after["set_loads"] == before["set_loads"]
    assert after["registry_changes"] == before["registry_changes"]
    assert after["requests"] > before["requests"]


def test_a_set_is_read_again_at_most_once_for_a_change(live):
    it = live()
    mounting.walk(it.mount.at(b""))
    before = it.mount.counters()
    it.put("u/alice/run1", 4)
    mounting.eventually(lambda: it.is_there(f"{RUN1}/{info(4)}"), WITHIN)
    for _ in range(3):
        mounting.walk(it.mount.at(b""))
    after = it.mount.counters()
    changes = after["registry_changes"] - before["registry_changes"]
    assert changes > 0
    assert after["set_loads"] - before["set_loads"] <= changes * (before["set_loads"] + 1)


def test_a_folder_that_is_being_listed_lists_one_generation(live):
    it = live()
    it.butler.collections.register("many/run")
    it.butler.registry.insertDimensionData("detector", *[{"instrument": "HSC", "id": 100 + k, "full_name": f"many{k}"} for k in range(600)])
    with it.butler.transaction():
        for k in range(600):
            it.put("many/run", 100 + k)
    folder = it.mount / "collections/many/run/detInfo/instrument=HSC"
    mounting.eventually(lambda: folder.is_dir() and len(os.listdir(folder)) == 600, WITHIN + 5)
    with os.scandir(folder) as listing:
        seen = [next(listing).name for _ in range(10)]
        last = it.butler.query_datasets("detInfo", "many/run", where="instrument = 'HSC' AND detector >= 650", limit=None)
        it.butler.pruneDatasets(last, disassociate=False, unstore=True)
        mounting.eventually(lambda: len(os.listdir(folder)) == 550, WITHIN + 5)
        seen += [e.name for e in listing]
    assert len(seen) == len(set(seen)), "an entry was repeated"
    assert set(os.listdir(folder)) <= set(seen), "an entry that was there all the time was skipped"


def test_readers_see_no_error_while_the_repository_is_written_to(live):
    it = live()
    tree = reftree.expected(it.repo.root)
    steady = [p for p in tree.files if p.startswith(b"collections/u/alice/run1/") and tree.files[p].artifact()]
    errors: list[str] = []
    rounds = 0
    done = threading.Event()

    def read() -> None:
        nonlocal rounds
        while not done.is_set():
            for path in steady:
                try:
                    with open(it.mount.at(path), "rb") as f:
                        if f.read() != tree.files[path].content():
                            errors.append(f"{path!r}: wrong bytes")
                except OSError as e:
                    errors.append(f"{path!r}: {e}")
            rounds += 1

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for k in range(20):
            it.butler.collections.register(f"noise/{k}")
            it.put(f"noise/{k}", 0)
    finally:
        mounting.eventually(lambda: rounds > 0 or errors, 60)
        done.set()
        reader.join()
    assert not errors, errors[:10]


def test_latest_leads_to_a_newer_run_although_its_name_is_as_long(live):
    it = live()
    link = it.mount / "collections/dated/@latest"
    assert [os.readlink(link) for _ in range(2)] == ["20240102T030405Z"] * 2
    it.butler.collections.register("dated/20250102T030405Z")
    mounting.eventually(lambda: os.readlink(link) == "20250102T030405Z", WITHIN)


# ---------------------------------------------------------------------------- calibrations and archives

CAL = "collections/live/cal"
SPRING_NS = makecalibs.NEW_YEAR_NS + 60 * makecalibs.DAY_NS
SUMMER_NS = makecalibs.NEW_YEAR_NS + 180 * makecalibs.DAY_NS
MAY = "calibs-at/2024-05-01T00:00:00Z/live"
BIAS = "bias/instrument=HSC/bias_HSC_1"


@pytest.fixture
def calibrated(live):
    """`live/cal`, with one bias of HSC's detector 1 for spring; and a chain of it and the run that has them."""
    from lsst.daf.butler import CollectionType

    it = live()
    it.butler.collections.register("live/cal", CollectionType.CALIBRATION)
    it.butler.collections.register("live/chain", CollectionType.CHAINED)
    it.butler.collections.redefine_chain("live/chain", ["live/cal", "HSC/calib/run2"])
    it.refs = {run: it.butler.find_dataset("bias", instrument="HSC", detector=1, collections=run) for run in ("HSC/calib/run1", "HSC/calib/run2")}
    it.suffixes = {run: "." + it.butler.getURI(ref).basename().partition(".")[2] for run, ref in it.refs.items()}
    it.certify = lambda run, *span: it.butler.registry.certify("live/cal", [it.refs[run]], makecalibs.timespan(*span))
    it.certify("HSC/calib/run1", SPRING_NS, SUMMER_NS)
    mounting.eventually(lambda: it.is_there(f"{CAL}/bias"), WITHIN)
    return it


def entries(it: Live) -> list[str]:
    return it.names(f"{CAL}/bias/instrument=HSC")


def test_a_certified_range_appears_as_a_name_and_holds_from_then_on(calibrated):
    it = calibrated
    one, two = it.suffixes.values()
    assert entries(it) == [f"bias_HSC_1@20240301T000000--20240629T000000{one}"]
    assert it.uuid(f"{MAY}/cal/{BIAS}{one}") == str(it.refs["HSC/calib/run1"].id)
    august = "calibs-at/2024-08-01T00:00:00Z/live"
    assert not it.is_there(f"{august}/cal/{BIAS}{two}")
    it.certify("HSC/calib/run2", SUMMER_NS, makecalibs.unbounded()[1])
    mounting.eventually(lambda: f"bias_HSC_1@20240629T000000--{two}" in entries(it), WITHIN)
    mounting.eventually(lambda: it.uuid(f"{august}/cal/{BIAS}{two}") == str(it.refs["HSC/calib/run2"].id), WITHIN)
    assert len(entries(it)) == 2 and it.names(f"{august}/cal/bias/instrument=HSC") == [f"bias_HSC_1{two}"]


def test_a_decertified_range_is_cut_and_the_chain_s_next_member_holds(calibrated):
    it = calibrated
    one, two = it.suffixes.values()
    assert it.uuid(f"{MAY}/chain/{BIAS}{one}") == str(it.refs["HSC/calib/run1"].id)
    middle = (SPRING_NS + 10 * makecalibs.DAY_NS, SUMMER_NS - makecalibs.SECOND_NS // 2)
    it.butler.registry.decertify("live/cal", "bias", makecalibs.timespan(*middle))
    cut = [f"bias_HSC_1@20240301T000000--20240311T000000{one}", f"bias_HSC_1@20240628T235959,5--20240629T000000{one}"]
    mounting.eventually(lambda: entries(it) == cut, WITHIN)
    mounting.eventually(lambda: not it.is_there(f"{MAY}/cal/{BIAS}{one}"), WITHIN)
    mounting.eventually(lambda: it.uuid(f"{MAY}/chain/{BIAS}{two}") == str(it.refs["HSC/calib/run2"].id), WITHIN)
    it.butler.registry.decertify("live/cal", "bias", makecalibs.timespan(*makecalibs.unbounded()))
    mounting.eventually(lambda: it.names(CAL) == [], WITHIN)


def test_a_second_certified_dataset_makes_it_ambiguous_and_a_decertified_one_clear_again(calibrated):
    it = calibrated
    one, _ = it.suffixes.values()
    it.butler.registry.decertify("live/cal", "bias", makecalibs.timespan(*makecalibs.unbounded()))
    it.butler.registry.certify("live/cal", it.refs.values(), makecalibs.timespan(SPRING_NS, SUMMER_NS))
    stem = "bias_HSC_1@20240301T000000--20240629T000000"
    both = sorted(f"{stem}~{ref.id}{it.suffixes[run]}" for run, ref in it.refs.items())
    mounting.eventually(lambda: entries(it) == both, WITHIN)
    mounting.eventually(lambda: it.uuid(f"{MAY}/cal/{BIAS}{one}") == "ENOTUNIQ", WITHIN)
    assert it.names(f"{MAY}/cal/bias") in ([], ["instrument=HSC"])
    it.butler.pruneDatasets([it.refs["HSC/calib/run2"]], disassociate=True, unstore=True, purge=True)
    mounting.eventually(lambda: entries(it) == [f"{stem}{one}"], WITHIN)
    mounting.eventually(lambda: it.uuid(f"{MAY}/cal/{BIAS}{one}") == str(it.refs["HSC/calib/run1"].id), WITHIN)


def test_a_calibration_that_is_unstored_is_gone_wherever_it_was_and_still_hides_the_next(calibrated):
    it = calibrated
    one, two = it.suffixes.values()
    assert it.is_there(f"{MAY}/chain/{BIAS}{one}")
    it.butler.pruneDatasets([it.refs["HSC/calib/run1"]], disassociate=False, unstore=True)
    mounting.eventually(lambda: not it.is_there(f"{MAY}/chain/{BIAS}{one}"), WITHIN)
    mounting.eventually(lambda: entries(it) in (["gone"], []), WITHIN)
    assert not it.is_there(f"{MAY}/chain/{BIAS}{two}")
    # Without a time the chain's RUN members count alone.
    assert it.uuid(f"collections/live/chain/{BIAS}{two}") == str(it.refs["HSC/calib/run2"].id)


def test_datasets_that_move_into_an_archive_are_the_same_files_with_the_same_bytes(live):
    it = live()
    refs = [r for r in it.butler.query_datasets("detInfo", "u/alice/run1", limit=None) if it.butler.stored(r)]
    before = {str(r.id): Path(it.butler.getURI(r).ospath).read_bytes() for r in refs}
    path = it.butler.retrieve_artifacts_zip(refs, destination=str(it.repo.root.parent / "packed"))
    it.butler.pruneDatasets(refs, disassociate=True, unstore=True, purge=True)
    mounting.eventually(lambda: it.names(f"{RUN1}/detInfo") == ["gone"], WITHIN)
    it.butler.ingest_zip(path, transfer="copy")
    mounting.eventually(lambda: it.is_there(f"{RUN1}/{info(0)}"), WITHIN)
    assert len(before) > 3
    for uuid, content in before.items():
        file = it.mount / f"by-uuid/{uuid}"
        assert file.read_bytes() == content and file.stat().st_size == len(content)
    assert it.names(f"{RUN1}/detInfo/instrument=HSC") == [f"detInfo_HSC_{d}.yaml" for d in range(4)]


def test_a_composite_that_is_put_or_pruned_comes_and_goes_with_its_folder(live):
    import makeparts

    it = live()
    folder = "collections/parts/run1/metric/instrument=HSC/metric_HSC_7.components"
    assert not it.is_there(folder)
    ref = it.butler.put(makeparts.metrics(3), "metric", run="parts/run1", instrument="HSC", detector=7)
    mounting.eventually(lambda: it.names(folder) == ["data.yaml", "output.yaml", "summary.yaml"], WITHIN)
    assert it.uuid(f"{folder}/data.yaml") == str(ref.id)
    it.butler.pruneDatasets([ref], disassociate=False, unstore=True)
    mounting.eventually(lambda: not it.is_there(folder), WITHIN)
    mounting.eventually(lambda: os.path.basename(folder) not in it.names(os.path.dirname(folder)), WITHIN)


def test_a_universe_that_can_no_longer_be_read_is_said_once(own_repository, mount):
    repo = own_repository()
    m = mount(repo, refresh="100ms")
    assert (m / "collections").is_dir()
    with sqlite3.connect(repo.root / "gen3.sqlite3") as db:
        db.execute("UPDATE butler_attributes SET value = '{' WHERE name LIKE 'config:dimensions.json'")
    m.log_since()

    def fails(name: str) -> bool:
        try:
            os.stat(m / f"collections/u/{name}")
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    mounting.eventually(lambda: fails("none"), WITHIN)
    for i in range(20):
        assert fails(f"none{i}")
    assert 1 <= m.log_since().count(" error: ") <= 2
