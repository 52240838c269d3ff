# SPDX-License-Identifier: BSD-3-Clause
"""The reference model against the examples that the contract gives: a model nobody checks proves nothing."""

import pytest
import refnames
import xxhash


@pytest.mark.parametrize(
    "value, escaped",
    [
        ("r", b"r"),
        (94, b"94"),
        (-5, b"-5"),
        ("", b"%"),
        (".", b"%2E"),
        ("..", b"%2E%2E"),
        (".hidden", b"%2Ehidden"),
        ("a.b", b"a.b"),
        ("a/b", b"a%2Fb"),
        ("%41", b"%2541"),
        ("a\nb\tc", b"a%0Ab%09c"),
        ("nul\0", b"nul%00"),
        ("\x7f", b"%7F"),
        ("a\u2028b", "a\u2028b".encode()),
        ("é", "é".encode()),
        ("e\u0301", "e\u0301".encode()),
        ("a=b@c", b"a=b@c"),
        ("two words ", b"two words "),
    ],
)
def test_a_value_is_escaped_as_the_contract_says(value, escaped):
    assert refnames.escape_value(value) == escaped
    assert refnames.unescape(escaped) == refnames.to_bytes(value)


def test_the_last_value_of_a_file_name_has_no_dot_and_no_at():
    assert refnames.file_name("flat", ["HSC", "a.b@c"], b".fits") == b"flat_HSC_a%2Eb%40c.fits"
    assert refnames.file_name("flat", ["a.b@c", 3], b".fits") == b"flat_a.b@c_3.fits"
    assert refnames.file_name("visit_image", ["LSSTComCam", 2024111100123, 94], b".fits") == (
        b"visit_image_LSSTComCam_2024111100123_94.fits"
    )
    assert refnames.file_name("skyMap", [], b".pickle") == b"skyMap.pickle"


@pytest.mark.parametrize(
    "name, parts",
    [
        ("u/alice/run1", [b"u", b"alice", b"run1"]),
        ("", [b"%"]),
        ("/leading", [b"%", b"leading"]),
        ("trailing/", [b"trailing", b"%"]),
        ("a//b", [b"a", b"%", b"b"]),
        ("u/../escape", [b"u", b"%2E%2E", b"escape"]),
        ("x/a=b", [b"x", b"a%3Db"]),
        ("@at/x@y", [b"%40at", b"x@y"]),
        ("a/a.b", [b"a", b"a%2Eb"]),
        ("a/a_b/a_b@", [b"a", b"a%5Fb", b"a_b%40"]),
        ("raw/raw@1", [b"raw", b"raw%401"]),
        ("raw/raw1", [b"raw", b"raw1"]),
        (".a/.a.b", [b"%2Ea", b"%2Ea%2Eb"]),
        ("%/%_", [b"%25", b"%25%5F"]),
        ("/_x", [b"%", b"_x"]),
    ],
)
def test_a_collection_is_a_path_of_escaped_parts(name, parts):
    assert refnames.collection_parts(name) == parts


def test_a_tilde_is_escaped_only_where_a_long_name_could_be_meant():
    mark = "~0123456789abcdef"
    assert refnames.level("group", mark) == b"group=%7E0123456789abcdef"
    assert refnames.level("group", mark + ".x") == b"group=%7E0123456789abcdef.x"
    assert refnames.level("group", mark + "0") == b"group=~0123456789abcdef0"
    assert refnames.level("group", "~") == b"group=~"
    assert refnames.file_name("t", ["I", mark], b".json") == b"t_I_%7E0123456789abcdef.json"
    assert refnames.file_name("t", [mark, 3], b".json") == b"t_%7E0123456789abcdef_3.json"
    assert refnames.file_name("t", ["x" + mark + "_", 3], b".json") == b"t_x~0123456789abcdef__3.json"


@pytest.mark.parametrize(
    "name, suffix",
    [
        (b"calexp.fits", b".fits"),
        (b"calexp.fits.fz", b".fits.fz"),
        (b"a.tar.gz", b".tar.gz"),
        (b"gaia.v1.2.fits", b".fits"),
        (b"README", b".data"),
        (b"ends.", b".data"),
        (b"x.a-b", b".data"),
        (b"x.weird", b".weird"),
        (b"x.fits.weird", b".fits.weird"),
        (b"x.weird.gz", b".gz"),
        (b".hidden", b".data"),
        (b".hidden.fits", b".fits"),
    ],
)
def test_a_suffix_is_the_last_one_and_the_known_ones_before_it(name, suffix):
    assert refnames.suffix(name) == suffix


def test_levels_are_in_one_order_with_day_obs_above_exposure_and_visit():
    order = refnames.ordered_dimensions(["detector", "visit", "instrument"], [])
    assert order == ["instrument", "visit", "detector"]
    assert refnames.levels(order, {"day_obs", "band"}) == ["instrument", "day_obs", "visit"]
    assert refnames.levels(["instrument", "visit"], {"day_obs"}) == ["instrument", "day_obs"]
    assert refnames.levels(["instrument", "exposure", "visit"], {"day_obs"}) == ["instrument", "day_obs", "exposure"]
    assert refnames.levels(["instrument", "day_obs"], set()) == ["instrument"]
    assert refnames.levels(["instrument", "day_obs", "detector"], set()) == ["instrument", "day_obs"]
    assert refnames.levels([], set()) == []
    assert refnames.ordered_dimensions(["htm7", "band"], ["band", "healpix9", "htm7"]) == ["band", "htm7"]


@pytest.mark.parametrize("unit", ["x", "é", "\n", "\u2028", "%"])
def test_a_long_name_is_cut_as_little_as_needed(unit):
    whole = [b"%0A", b"%25", unit.encode()][2 if unit not in "\n%" else "\n%".index(unit)]
    for offset in range(3):
        raw = "y" * offset + unit * 300
        name = b"group=" + b"y" * offset + whole * 300
        short = refnames.level("group", raw)
        digest = xxhash.xxh3_64(name).hexdigest().encode()
        assert short.endswith(b"~" + digest) and len(digest) == 16
        kept = short[: -17]
        assert name.startswith(kept) and (len(kept) - 6 - offset) % len(whole) == 0
        assert 255 - len(whole) < len(short) <= 255


def test_the_long_name_hash_is_xxh3_64_with_seed_0():
    # The published test vector of the empty input.
    assert xxhash.xxh3_64(b"").hexdigest() == "2d06800538d394c2"
