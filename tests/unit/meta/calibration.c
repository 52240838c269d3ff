// SPDX-License-Identifier: BSD-3-Clause
// CALIBRATION collections, and what is found at a time, over an in-memory registry.
#include "tests/unit/base/harness.h"

#include "tests/unit/meta/world.h"

#define DAY (86400 * NS_PER_S)
#define D(n) (INT64_C(1704067200) * NS_PER_S + (n) * DAY) // 2024-01-01 TAI, and so many days
#define TO(n) {0, D(n)}
#define FROM(n) {D(n), TIMESPAN_LAST}

// clang-format off
static const struct memory_type calib_types[] = {
    {"bias", "instrument detector", true},     // 1
    {"dark", "instrument detector exposure", true},
    {"lut", "", true},
    {"plain", "instrument detector"},
    {"note", "instrument group", true},
    {}};

static const char *const both[] = {"calib/a", "calib/b", NULL};
static const char *const with_run[] = {"u/run", "calib/a", "u/late", NULL};
static const char *const run_last[] = {"calib/b", "u/run", NULL};
static const char *const only[] = {"calib/b", NULL};
static const char *const nested[] = {"empty", "both", "u/run", NULL};
static const struct memory_collection calib_collections[] = {
    {"u/run", COLLECTION_RUN},          // 1
    {"u/late", COLLECTION_RUN},
    {"calib/a", COLLECTION_CALIBRATION},
    {"calib/b", COLLECTION_CALIBRATION},
    {"both", COLLECTION_CHAINED, both}, // 5
    {"with-run", COLLECTION_CHAINED, with_run},
    {"run-last", COLLECTION_CHAINED, run_last},
    {"only", COLLECTION_CHAINED, only},
    {"empty", COLLECTION_CALIBRATION},
    {"nested", COLLECTION_CHAINED, nested},
    {"two", COLLECTION_CALIBRATION},
    {}};

static const struct memory_record calib_records[] = {
    {"instrument", "name=Cam"}, {"instrument", "name=a/,b"},
    {"detector", "instrument=Cam,id=0"}, {"detector", "instrument=Cam,id=1"},
    {"detector", "instrument=Cam,id=2"}, {"detector", "instrument=Cam,id=3"},
    {"detector", "instrument=Cam,id=4"}, {"detector", "instrument=Cam,id=5"},
    {"exposure", "instrument=Cam,id=10,day_obs=20240101,begin=1704067200000000000,end=1704067230000000000"},
    {"visit", "instrument=Cam,id=20,day_obs=20240101,begin=1704931195000000000,end=1704931205000000000"},
    {"visit", "instrument=Cam,id=21,day_obs=20240101"},
    {"visit", "instrument=Cam,id=-2,begin=4102444800000000000,end=0"},
    {"group", "instrument=Cam,name=g"},
    {}};

// Detector 0: two ranges that touch, and another dataset in b. 1: one of all time, and in b one with
// another suffix. 2: the same dataset in two ranges that overlap. 3: two datasets of one range. 4: an
// unstored one. 5: an empty range, twice the same.
static const struct memory_certified c0[] = {{"calib/a", {D(0), D(10)}}, {"calib/b", {D(0), D(20)}}, {}};
static const struct memory_certified c1[] = {{"calib/a", {D(10), D(20) + 500000000}}, {}};
static const struct memory_certified c2[] = {{"calib/a", {0, TIMESPAN_LAST}}, {}};
static const struct memory_certified c3[] = {{"calib/b", {0, TIMESPAN_LAST}}, {}};
static const struct memory_certified c4[] = {{"calib/a", TO(5)}, {"calib/a", {D(4), D(6)}}, {}};
static const struct memory_certified c5[] = {{"calib/a", FROM(1)}, {"two", FROM(1)}, {}};
static const struct memory_certified c6[] = {{"calib/a", {D(0), D(3)}}, {}};
static const struct memory_certified c7[] = {{"calib/b", {D(0), D(30)}}, {}};
static const struct memory_certified c8[] = {{"calib/a", {TIMESPAN_LAST, 0}}, {"calib/a", {TIMESPAN_LAST, 0}}, {}};
static const struct memory_certified c9[] = {{"calib/b", {D(0), D(10)}}, {}};
static const char *const lut_parts[] = {"curve=c.fits", NULL};
static const struct memory_dataset calib_datasets[] = {
    {"bias", "u/run", CAM "detector=0", NULL, "a.fits", NULL, 100, .certified = c0},
    {"bias", "u/late", CAM "detector=0", NULL, "b.fits", NULL, 101, .certified = c1},
    {"bias", "u/run", CAM "detector=1", NULL, "c.fits", NULL, 102, .certified = c2},
    {"bias", "u/late", CAM "detector=1", NULL, "d.yaml", NULL, 103, .certified = c3},
    {"bias", "u/late", CAM "detector=2", NULL, "e.fits", NULL, 104, .certified = c4},
    {"bias", "u/run", CAM "detector=3", NULL, "f.fits", NULL, 105, .certified = c5},
    {"bias", "u/late", CAM "detector=3", NULL, "g.fits", NULL, 106, .certified = c5},
    {"bias", "u/late", CAM "detector=4", NULL, NULL, NULL, 107, .certified = c6},
    {"bias", "u/run", CAM "detector=4", NULL, "h.fits", NULL, 108, .certified = c7},
    {"bias", "u/late", CAM "detector=5", NULL, "i.fits", NULL, 109, .certified = c8},
    {"dark", "u/late", CAM "detector=1,exposure=10", NULL, "j.fits", NULL, 110, .certified = c5},
    {"lut", "u/late", "", NULL, NULL, NULL, 111, .components = lut_parts, .certified = c0},
    {"plain", "u/run", CAM "detector=0", NULL, "k.fits", NULL, 112},
    {"note", "u/late", CAM "group=" LONG, NULL, "l.fits", NULL, 113, .certified = c0},
    {"bias", "u/run", CAM "detector=6", NULL, "m.fits", NULL, 114, .certified = c9},
    {"bias", "u/late", CAM "detector=6", NULL, "n.fits", NULL, 115, .certified = c9},
    {}};
// clang-format on
static const struct memory_description calibrated = {calib_types, calib_collections, calib_records,
                                                     calib_datasets};

static int set_up_calibrated(void **state)
{
    int r = set_up(state);
    change(&calibrated);
    return r;
}

#define UUID_OF(hex) "~00000000-0000-4000-8000-0000000000" hex

static void each_range_is_an_entry(void **state)
{
    for (int i = 0; i < 2; i++) { // by points, then from the set
        const char *const a = "collections/calib/a/bias/instrument=Cam/";
        static const struct {
            const char *name;
            int64_t size;
        } entries[] = {
            {"bias_Cam_0@20240101T000000--20240111T000000.fits", 100},
            {"bias_Cam_0@20240111T000000--20240121T000000,5.fits", 101},
            {"bias_Cam_1@--.fits", 102},
            {"bias_Cam_2@--20240106T000000.fits", 104},
            {"bias_Cam_2@20240105T000000--20240107T000000.fits", 104},
            {"bias_Cam_3@20240102T000000--" UUID_OF("05") ".fits", 105},
            {"bias_Cam_3@20240102T000000--" UUID_OF("06") ".fits", 106},
            {"bias_Cam_5@empty.fits", 109},
            {"bias_Cam_3@20240102T000000--.fits", -ENOENT},
            {"bias_Cam_3@20240102T000000--" UUID_OF("04") ".fits", -ENOENT},
            {"bias_Cam_4@20240101T000000--20240104T000000.fits", -ENOENT},
            {"bias_Cam_4@20240101T000000--20240104T000000.data", -ENOENT},
            {"bias_Cam_0@20240101T000000--20240111T000000.fit", -ENOENT},
            {"bias_Cam_0@20240101T000000--20240111T000001.fits", -ENOENT},
            {"bias_Cam_0@20240101T000000--20240111T000000" UUID_OF("00") ".fits", -ENOENT},
            {"bias_Cam_0@--.fits", -ENOENT},
            {"bias_Cam_0.fits", -ENOENT},
            {"bias_Cam_0@20240101--20240111.fits", -ENOENT},
            {"bias_Cam_1@.fits", -ENOENT},
        };
        for (size_t n = 0; n < sizeof(entries) / sizeof(entries[0]); n++) {
            char path[256];
            snprintf(path, sizeof(path), "%s%s", a, entries[n].name);
            if (size_of(path) != entries[n].size)
                fail_msg("%s: %lld", path, (long long)size_of(path));
        }
        assert_lists("collections/calib/a/bias/instrument=Cam",
                     "bias_Cam_0@20240101T000000--20240111T000000.fits/"
                     "bias_Cam_0@20240111T000000--20240121T000000,5.fits/"
                     "bias_Cam_1@--.fits/"
                     "bias_Cam_2@--20240106T000000.fits/"
                     "bias_Cam_2@20240105T000000--20240107T000000.fits/"
                     "bias_Cam_3@20240102T000000--" UUID_OF("05") ".fits/"
                     "bias_Cam_3@20240102T000000--" UUID_OF("06") ".fits/"
                     "bias_Cam_5@empty.fits/");
    }
}

static void a_collections_types_are_those_that_were_certified(void **state)
{
    assert_int_equal(size_of("collections/calib/a/bias"), 0);
    assert_int_equal(size_of("collections/calib/a/dark"), 0);
    assert_int_equal(size_of("collections/calib/a/plain"), -ENOENT);
    assert_int_equal(size_of("collections/empty/bias"), -ENOENT);
    assert_lists("collections/empty", "");
    assert_lists("collections/calib/a/dark/instrument=Cam/day_obs=20240101/exposure=10",
                 "dark_Cam_10_1@20240102T000000--.fits/");
    assert_int_equal(size_of("collections/calib/a/dark/instrument=Cam/day_obs=20240102"), -ENOENT);
}

static void composites_and_long_names_have_ranges_too(void **state)
{
    const char *curves = "collections/calib/a/lut/lut@20240101T000000--20240111T000000.components";
    char path[1024], names[512];
    snprintf(path, sizeof(path), "%s/curve.fits", curves);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(size_of(path), 111);
        assert_lists("collections/calib/a/lut", "lut@20240101T000000--20240111T000000.components/");
        assert_lists(curves, "curve.fits/");
    }
    assert_int_equal(size_of("collections/calib/a/lut/lut.components"), -ENOENT);
    snprintf(names, sizeof(names), "%s", list("collections/calib/a/note/instrument=Cam"));
    names[strlen(names) - 1] = 0;
    assert_int_equal(strlen(names), 255);
    assert_string_equal(names + 255 - 38, "@20240101T000000--20240111T000000.fits");
    snprintf(path, sizeof(path), "collections/calib/a/note/instrument=Cam/%s", names);
    assert_int_equal(size_of(path), 113);
}

static void a_chain_shows_what_find_first_finds_and_each_name_of_its_calibrations(void **state)
{
    for (int i = 0; i < 2; i++) {
        // The first member's of one name; all of another name, of another suffix too.
        assert_int_equal(
            size_of("collections/both/bias/instrument=Cam/"
                    "bias_Cam_0@20240101T000000--20240111T000000.fits"), 100);
        assert_int_equal(size_of("collections/both/bias/instrument=Cam/bias_Cam_1@--.yaml"), 103);
        // In one member alone they would be told apart; their names are not those of the other's.
        assert_int_equal(
            size_of("collections/both/bias/instrument=Cam/"
                    "bias_Cam_4@20240101T000000--20240131T000000.fits"), 108);
        assert_int_equal(size_of("collections/both/bias/instrument=Cam/bias_Cam_0.fits"), -ENOENT);
        assert_lists("collections/both/bias/instrument=Cam",
                     "bias_Cam_0@20240101T000000--20240111T000000.fits/"
                     "bias_Cam_0@20240101T000000--20240121T000000.fits/"
                     "bias_Cam_0@20240111T000000--20240121T000000,5.fits/"
                     "bias_Cam_1@--.fits/bias_Cam_1@--.yaml/"
                     "bias_Cam_2@--20240106T000000.fits/"
                     "bias_Cam_2@20240105T000000--20240107T000000.fits/"
                     "bias_Cam_3@20240102T000000--" UUID_OF("05") ".fits/"
                     "bias_Cam_3@20240102T000000--" UUID_OF("06") ".fits/"
                     "bias_Cam_4@20240101T000000--20240131T000000.fits/"
                     "bias_Cam_5@empty.fits/"
                     "bias_Cam_6@20240101T000000--20240111T000000" UUID_OF("0e") ".fits/"
                     "bias_Cam_6@20240101T000000--20240111T000000" UUID_OF("0f") ".fits/");
        // RUN and TAGGED members by find-first, the ranges besides.
        assert_int_equal(size_of("collections/with-run/bias/instrument=Cam/bias_Cam_0.fits"), 100);
        assert_int_equal(size_of("collections/with-run/bias/instrument=Cam/bias_Cam_2.fits"), 104);
        assert_int_equal(size_of("collections/with-run/bias/instrument=Cam/"
                                 "bias_Cam_2@--20240106T000000.fits"), 104);
        assert_lists("collections/run-last/lut",
                     "lut@20240101T000000--20240121T000000.components/");
        assert_lists("collections/only/lut", "lut@20240101T000000--20240121T000000.components/");
    }
}

// At a time.

#define AT "calibs-at/"

static void a_range_is_found_from_its_begin_to_before_its_end(void **state)
{
    static const struct {
        const char *at;
        int64_t size;
    } cases[] = {
        {"20240101T000000TAI", 100},
        {"20231231T235959,999999999TAI", -ENOENT},
        {"20240110T235959,999999999TAI", 100},
        {"2024-01-11T00:00:00 TAI", 101},
        {"2024-01-10T23:59:23", 101}, // UTC is 37 s behind
        {"2024-01-10T23:59:22.999999999Z", 100},
        {"20240121T000000,499999999TAI", 101},
        {"20240121T000000.5TAI", -ENOENT},
        {"2100-01-01", -ENOENT},
        {"1066-10-14", -ENOENT},
    };
    for (int pass_number = 0; pass_number < 2; pass_number++)
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
            char path[256];
            snprintf(path, sizeof(path), AT "%s/calib/a/bias/instrument=Cam/bias_Cam_0.fits",
                     cases[i].at);
            if (size_of(path) != cases[i].size)
                fail_msg("%s: %lld", path, (long long)size_of(path));
            if (pass_number == 0)
                continue; // by points; then from the set
            *strrchr(path, '/') = 0;
            list(path);
        }
}

static void what_is_valid_twice_is_not_listed_and_not_unique(void **state)
{
    static const char *const listed =
        "bias_Cam_0.fits/bias_Cam_1.fits/"; // not 2 (twice), 3 (two), 4 (unstored), 5 (empty)
    for (int i = 0; i < 2; i++) {
        const char *const in = AT "20240105T120000TAI/calib/a/bias/instrument=Cam/";
        static const struct {
            const char *name;
            int64_t size;
        } cases[] = {{"bias_Cam_2.fits", -ENOTUNIQ},
                     {"bias_Cam_3.fits", -ENOTUNIQ},
                     {"bias_Cam_3.other", -ENOTUNIQ},
                     {"bias_Cam_4.fits", -ENOENT},
                     {"bias_Cam_5.fits", -ENOENT},
                     {"bias_Cam_1.fits", 102},
                     {"bias_Cam_1@--.fits", -ENOENT},
                     {"bias_Cam_1.yaml", -ENOENT}};
        for (size_t n = 0; n < sizeof(cases) / sizeof(cases[0]); n++) {
            char path[256];
            snprintf(path, sizeof(path), "%s%s", in, cases[n].name);
            if (size_of(path) != cases[n].size)
                fail_msg("%s: %lld", path, (long long)size_of(path));
        }
        assert_lists(AT "20240105T120000TAI/calib/a/bias/instrument=Cam", listed);
    }
    assert_lists(AT "20240106T120000TAI/calib/a/bias/instrument=Cam",
                 "bias_Cam_0.fits/bias_Cam_1.fits/bias_Cam_2.fits/");
    // A folder in which nothing is unique isn't listed, but leads to what isn't: after listing too.
    const char *alike = AT "20240105T120000TAI/two/bias/instrument=Cam/bias_Cam_3.fits";
    for (int i = 0; i < 2; i++) {
        assert_int_equal(size_of(alike), -ENOTUNIQ);
        assert_int_equal(size_of(AT "20240105T120000TAI/two/bias/instrument=Cam"), 0);
        assert_lists(AT "20240105T120000TAI/two/bias", "");
    }
    assert_lists(AT "20240101T120000TAI/calib/a/dark", "");
}

static void the_first_collection_that_has_something_valid_decides(void **state)
{
    static const struct {
        const char *path;
        int64_t size;
    } cases[] = {
        {"20240105TAI/both/bias/instrument=Cam/bias_Cam_0.fits", 100},
        {"20240115TAI/both/bias/instrument=Cam/bias_Cam_0.fits", 101},
        {"20240125TAI/both/bias/instrument=Cam/bias_Cam_0.fits", -ENOENT},
        {"20240102TAI/both/bias/instrument=Cam/bias_Cam_4.fits", -ENOENT}, // unstored, hides b's
        {"20240104TAI/both/bias/instrument=Cam/bias_Cam_4.fits", 108},
        {"20240105TAI/both/bias/instrument=Cam/bias_Cam_6.fits", -ENOTUNIQ},
        {"20240105TAI/with-run/bias/instrument=Cam/bias_Cam_0.fits", 100}, // the RUN's, always
        {"20300101TAI/with-run/bias/instrument=Cam/bias_Cam_0.fits", 100},
        {"20240115TAI/run-last/bias/instrument=Cam/bias_Cam_0.fits", 100},
        {"20240115TAI/run-last/bias/instrument=Cam/bias_Cam_1.yaml", 103},
        {"20240105T12TAI/with-run/bias/instrument=Cam/bias_Cam_2.fits", -ENOTUNIQ},
        {"20240108TAI/with-run/bias/instrument=Cam/bias_Cam_2.fits", 104}, // u/late's
        {"20240105TAI/nested/bias/instrument=Cam/bias_Cam_0.fits", 100},
        {"20240105TAI/u/run/bias/instrument=Cam/bias_Cam_0.fits", 100},
        {"20240105TAI/with-run/plain/instrument=Cam/plain_Cam_0.fits", 112},
        {"21500105TAI/with-run/plain/instrument=Cam/plain_Cam_0.fits", 112},
        {"20240105TAI/only/lut/lut.components/curve.fits", 111},
        {"20240105TAI/calib/a/dark/instrument=Cam/day_obs=20240101/exposure=10/dark_Cam_10_1.fits", 110},
        {"20240101TAI/calib/a/dark/instrument=Cam/day_obs=20240101/exposure=10/dark_Cam_10_1.fits", -ENOENT},
    };
    for (int pass_number = 0; pass_number < 2; pass_number++)
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
            char path[256];
            snprintf(path, sizeof(path), AT "%s", cases[i].path);
            if (size_of(path) != cases[i].size)
                fail_msg("%s: %lld", path, (long long)size_of(path));
            *strrchr(path, '/') = 0;
            list(path);
        }
    assert_lists(AT "20240105TAI/with-run/bias/instrument=Cam",
                 "bias_Cam_0.fits/bias_Cam_1.fits/bias_Cam_3.fits/bias_Cam_4.fits/bias_Cam_5.fits/"
                 "bias_Cam_6.fits/");
}

static void a_visit_or_an_exposure_is_a_time(void **state)
{
    for (int i = 0; i < 2; i++) {
        // The visit is around the 11th, 0:00: it touches both ranges.
        assert_int_equal(size_of(AT "visit,Cam,20/calib/a/bias/instrument=Cam/bias_Cam_0.fits"),
                         -ENOTUNIQ);
        assert_int_equal(size_of(AT "visit,Cam,20/calib/b/bias/instrument=Cam/bias_Cam_0.fits"),
                         100);
        assert_int_equal(size_of(AT "exposure,Cam,10/calib/a/bias/instrument=Cam/bias_Cam_0.fits"),
                         100);
        assert_int_equal(size_of(AT "visit,Cam,-2/calib/a/bias/instrument=Cam/bias_Cam_1.fits"),
                         -ENOENT); // an empty time
        assert_lists(AT "visit,Cam,20/calib/b/bias/instrument=Cam",
                     "bias_Cam_0.fits/bias_Cam_1.yaml/bias_Cam_4.fits/");
    }
    static const char *const none[] = {
        "visit,Cam,21", "visit,Cam,22", "visit,Cam,020", "visit,Cam,", "visit,Cam", "visit,,20",
        "visit,Other,20", "detector,Cam,1", "group,Cam,g", "visit,a%2F,b,20", "VISIT,Cam,20",
        "visit,Cam,20,", "visit,Cam,9999999999999999999", "now", "latest", "%", ".."};
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        char path[128];
        snprintf(path, sizeof(path), AT "%s", none[i]);
        if (size_of(path) != -ENOENT)
            fail_msg("%s is there", path);
    }
}

static void times_are_entered_and_not_listed(void **state)
{
    assert_lists("calibs-at", "");
    assert_int_equal(size_of("calibs-at"), 0);
    assert_int_equal(size_of("calibs-at/2024-01-01"), 0);
    assert_int_equal(size_of("calibs-at/2024-01-01T00:00:00Z/calib"), 0);
    assert_int_equal(size_of("calibs-at/visit,Cam,20/calib/a/bias/instrument=Cam"), 0);
    assert_int_equal(size_of("calibs-at/20240105TAI/nothing"), -ENOENT);
    assert_string_equal(list("calibs-at/20240105TAI"), list("calibs-at/2024-01-05"));
}

static void a_time_is_looked_up_with_one_question_and_then_with_none(void **state)
{
    const char *path = AT "20240105TAI/both/bias/instrument=Cam/bias_Cam_0.fits";
    assert_int_equal(size_of(AT "20240105TAI/both/bias/instrument=Cam"), 0);
    uint64_t asked = verbs();
    int64_t loads = metric_get(METRIC_SET_LOADS);
    assert_int_equal(size_of(path), 100);
    assert_int_equal(verbs(), asked + 1);
    assert_int_equal(size_of(path), 100);
    assert_int_equal(verbs(), asked + 1);
    assert_int_equal(metric_get(METRIC_SET_LOADS), loads);
    // Listing reads each member's set once, whatever the time.
    list(AT "20240105TAI/both/bias/instrument=Cam");
    assert_int_equal(metric_get(METRIC_SET_LOADS), loads + 2);
    asked = verbs();
    for (int i = 1; i < 29; i++) {
        char at[128];
        snprintf(at, sizeof(at), AT "202401%02dTAI/both/bias/instrument=Cam", i);
        list(at);
    }
    assert_int_equal(verbs(), asked);
}

static void a_walk_through_time_doesnt_fill_the_catalogue(void **state)
{
    char at[128];
    for (int i = 0; i < 500; i++) {
        snprintf(at, sizeof(at), AT "20240105T%02d%02dTAI/both/bias/instrument=Cam", i / 60, i % 60);
        assert_non_null(strstr(list(at), "bias_Cam_0.fits"));
    }
    struct set_state s;
    struct set_id id = set_id_of(repo, 5, 1);
    uint32_t kept = 0;
    for (int i = 0; i < 500; i++) {
        snprintf(at, sizeof(at), "20240105T%02d%02dTAI", i / 60, i % 60);
        int64_t tai_ns;
        assert_int_equal(timespan_parse_instant(text_of(at), &tai_ns), 0);
        id.at = timespan_of_instant(tai_ns);
        kept += catalogue_set(catalogue, &id, &s) == 0;
    }
    assert_int_equal(kept, 64);
}

static void what_is_certified_is_seen_after_the_refresh(void **state)
{
    static const struct memory_certified more[] = {{"calib/a", {D(20) + 500000000, D(25)}}, {}};
    static struct memory_dataset changed[sizeof(calib_datasets) / sizeof(calib_datasets[0])];
    memcpy(changed, calib_datasets, sizeof(changed));
    changed[0].certified = more; // decertified, and certified later
    const struct memory_description later = {calib_types, calib_collections, calib_records, changed};
    const char *entry = "collections/calib/a/bias/instrument=Cam/"
                         "bias_Cam_0@20240101T000000--20240111T000000.fits";
    const char *at = AT "20240105TAI/calib/a/bias/instrument=Cam/bias_Cam_0.fits";
    const char *at_late = AT "20240123TAI/calib/a/bias/instrument=Cam/bias_Cam_0.fits";
    assert_int_equal(size_of(entry), 100);
    assert_int_equal(size_of(at), 100);
    assert_int_equal(size_of(at_late), -ENOENT);
    list(AT "20240105TAI/calib/a/bias/instrument=Cam");
    change(&later);
    assert_int_equal(size_of(entry), -ENOENT);
    assert_int_equal(size_of(at), -ENOENT);
    assert_int_equal(size_of(at_late), 100);
    assert_int_equal(size_of("collections/calib/a/bias/instrument=Cam/"
                             "bias_Cam_0@20240121T000000,5--20240126T000000.fits"), 100);
    change(&calibrated);
}

static void an_answer_that_cant_be_kept_reaches_who_asked(void **state)
{
    const char *path = AT "20240105TAI/both/bias/instrument=Cam/bias_Cam_0.fits";
    char name[128];
    // More questions at a time than are remembered, round and round.
    for (int i = 0; i < ANSWERS_KEPT + 10; i++) {
        snprintf(name, sizeof(name), AT "20240105T000000,%06dTAI/both/bias/instrument=Cam/bias_Cam_0.fits", i);
        if (i % 97 == 0)
            assert_int_equal(size_of(name), 100);
    }
    assert_int_equal(size_of(path), 100);
    struct uuid u = memory_uuid(0);
    struct entry e;
    BUFFER_CLEANUP target = {0};
    char uuid[UUID_TEXT_BYTES];
    uuid_format(&u, uuid);
    snprintf(name, sizeof(name), "by-uuid/%s", uuid);
    assert_int_equal(look_up(name, &e, &target), 0);
    assert_string_equal(target.data, "../collections/u/run/bias/instrument=Cam/bias_Cam_0.fits");
}

// Random ranges: what is found by asking for each name is what the resolved set has, twice, and
// what is listed.

static uint64_t random_state = 88172645463325252u;

static unsigned random_below(unsigned n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 20) % n;
}

#define RANDOM_DATASETS 24

static void make_random(struct memory_dataset *made, struct memory_certified (*ranges)[4])
{
    static const char *const runs[] = {"u/run", "u/late"};
    static const char *const data_ids[] = {CAM "detector=0", CAM "detector=1", CAM "detector=2"};
    for (unsigned i = 0; i < RANDOM_DATASETS; i++) {
        unsigned n = 1 + random_below(3);
        for (unsigned k = 0; k < n; k++) {
            int64_t begin = D(random_below(4)), end = begin + (int64_t)(1 + random_below(3)) * DAY;
            ranges[i][k] = (struct memory_certified){
                random_below(2) ? "calib/a" : "calib/b",
                {random_below(6) ? begin : 0, random_below(6) ? end : TIMESPAN_LAST}};
            if (random_below(12) == 0)
                ranges[i][k].range = TIMESPAN_EMPTY;
        }
        ranges[i][n] = (struct memory_certified){0};
        made[i] = (struct memory_dataset){"bias", runs[i % 2], data_ids[i / 2 % 3], NULL,
                                          random_below(4) ? "x.fits" : NULL, NULL, 100 + i,
                                          .certified = random_below(3) ? ranges[i] : NULL};
    }
    for (unsigned i = 6; i < RANDOM_DATASETS; i++) // one data ID a run, the others in none that is seen
        made[i].run = "empty-run";
}

static unsigned times_found, times_ambiguous;

static void compare_at(const char *collection, unsigned day)
{
    char in[128], path[192];
    int64_t found[3];
    BUFFER_CLEANUP listed = {0};
    snprintf(in, sizeof(in), AT "202401%02dTAI/%s/bias/instrument=Cam", day, collection);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/bias_Cam_%d.fits", in, i);
        found[i] = size_of(path);
        times_found += found[i] >= 0;
        times_ambiguous += found[i] == -ENOTUNIQ;
        if (found[i] >= 0)
            buffer_format(&listed, "bias_Cam_%d.fits/", i);
    }
    assert_string_equal(list(in), listed.data ? listed.data : "");
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/bias_Cam_%d.fits", in, i);
        assert_int_equal(size_of(path), found[i]);
    }
}

static void names_and_lists_agree_whatever_the_ranges_are(void **state)
{
    static struct memory_dataset made[RANDOM_DATASETS + 1];
    static struct memory_certified ranges[RANDOM_DATASETS][4];
    static struct memory_collection more[sizeof(calib_collections) / sizeof(calib_collections[0]) + 1];
    static const char *const all[] = {"both", "with-run", "run-last", "calib/a", "nested"};
    memcpy(more, calib_collections, sizeof(calib_collections));
    more[sizeof(calib_collections) / sizeof(calib_collections[0]) - 1] =
        (struct memory_collection){"empty-run", COLLECTION_RUN, NULL};
    const struct memory_description described = {calib_types, more, calib_records, made};
    for (int world_number = 0; world_number < 60; world_number++) {
        make_random(made, ranges);
        change(&described);
        for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
            for (unsigned day = 1; day < 8; day++)
                compare_at(all[i], day);
    }
    assert_true(times_found > 500 && times_ambiguous > 100);
    change(&calibrated);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up_calibrated, tear_down)
    const struct CMUnitTest tests[] = {
        T(each_range_is_an_entry),
        T(a_collections_types_are_those_that_were_certified),
        T(composites_and_long_names_have_ranges_too),
        T(a_chain_shows_what_find_first_finds_and_each_name_of_its_calibrations),
        T(a_range_is_found_from_its_begin_to_before_its_end),
        T(what_is_valid_twice_is_not_listed_and_not_unique),
        T(the_first_collection_that_has_something_valid_decides),
        T(a_visit_or_an_exposure_is_a_time),
        T(times_are_entered_and_not_listed),
        T(a_time_is_looked_up_with_one_question_and_then_with_none),
        T(a_walk_through_time_doesnt_fill_the_catalogue),
        T(what_is_certified_is_seen_after_the_refresh),
        T(an_answer_that_cant_be_kept_reaches_who_asked),
        T(names_and_lists_agree_whatever_the_ranges_are),
    };
    return run_group(tests);
}
