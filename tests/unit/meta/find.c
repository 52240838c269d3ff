// SPDX-License-Identifier: BSD-3-Clause
// Expressions, and finding datasets by them, over an in-memory registry.
#include "tests/unit/base/harness.h"

#include "meta/find.h"
#include "meta/where.h"
#include "tests/unit/meta/world.h"

// Expressions.

static struct snapshot *snapshot_now(void)
{
    struct registry *r = memory_world_connect(&world);
    struct snapshot *s = NULL;
    char *why = NULL;
    assert_int_equal(registry_snapshot(r, &s, &why), 0);
    registry_close(r);
    return s;
}

// The columns that the tests speak of, as a database might have them.
static struct field value_of(struct text name)
{
    static const struct {
        const char *name;
        struct field field;
    } all[] = {
        {"instrument", {.kind = FIELD_TEXT, .text = {"Cam", 3}}},
        {"detector", {.kind = FIELD_INTEGER, .integer = 7}},
        {"visit", {.kind = FIELD_INTEGER, .integer = 2024111100123}},
        {"day_obs", {.kind = FIELD_INTEGER, .integer = 20241111}},
        {"band", {.kind = FIELD_TEXT, .text = {"r", 1}}},
        {"exposure_time", {.kind = FIELD_REAL, .real = 30.5}},
        {"target", {.kind = FIELD_NULL}},
        {"is_good", {.kind = FIELD_INTEGER, .integer = 1}},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (text_equal(name, text_of(all[i].name)))
            return all[i].field;
    return (struct field){.kind = FIELD_OPEN};
}

static enum truth truth_of(const char *expression)
{
    struct snapshot *s = snapshot_now();
    cleanup(cleanup_where_free) struct where *w = NULL;
    struct field fields[WHERE_COLUMNS_MAX];
    uint32_t count;
    char *why = NULL;
    if (where_parse(s, snapshot_type_by_name(s, TEXT("calexp")), text_of(expression), &w, &why) < 0)
        fail_msg("%s: %s", expression, why);
    const struct where_column *columns = where_columns(w, &count);
    for (uint32_t i = 0; i < count; i++)
        fields[i] = value_of(columns[i].name);
    enum truth t = where_test(w, fields);
    snapshot_unref(s);
    return t;
}

static void comparisons_are_those_of_sql(void **state)
{
    static const char *const are_true[] = {
        "", "detector = 7", "7 = detector", "detector != 8", "detector < 7.5", "detector >= 7", "8 > detector",
        "visit = 2024111100123", "visit.id = 2024111100123", "visit.day_obs = 20241111", "day_obs=20241111",
        "band = 'r'", "physical_filter.band = \"r\"", "instrument = 'Cam'", "visit.instrument = 'Cam'",
        "exposure_time > 30", "visit.exposure_time = 30.5", "exposure_time = 305e-1", "exposure_time < .5e2",
        "target = null", "visit.target = NULL", "is_good", "visit.is_good", "detector != null",
        "detector in (1, 7)", "detector IN (1..10)", "detector in (1..10:3)", "detector in (-3 .. 7)",
        "detector not in (1..6, 8, 9..11)", "band in ('g', 'r')", "instrument < 'Cbm'", "target in (null)"};
    static const char *const are_false[] = {
        "detector = 8", "detector in (1..10:4)", "not is_good", "target != null", "band != 'r'",
        "detector in (8..10)", "exposure_time <= 30", "instrument > 'Cam'", "detector in (null)", "day_obs < 20241111"};
    static const char *const are_null[] = {"target = 'x'", "target != 'x'", "not target = 'x'", "target in ('a', 'b')",
                                           "target = 'x' and detector = 7", "target = 'x' or detector = 8",
                                           "target not in ('a')"};
    for (size_t i = 0; i < sizeof(are_true) / sizeof(are_true[0]); i++)
        if (truth_of(are_true[i]) != TRUTH_TRUE)
            fail_msg("not true: %s", are_true[i]);
    for (size_t i = 0; i < sizeof(are_false) / sizeof(are_false[0]); i++)
        if (truth_of(are_false[i]) != TRUTH_FALSE)
            fail_msg("not false: %s", are_false[i]);
    for (size_t i = 0; i < sizeof(are_null) / sizeof(are_null[0]); i++)
        if (truth_of(are_null[i]) != TRUTH_NULL)
            fail_msg("not null: %s", are_null[i]);
}

static void words_bind_as_usual(void **state)
{
    assert_int_equal(truth_of("detector = 7 or detector = 8 and detector = 9"), TRUTH_TRUE);
    assert_int_equal(truth_of("(detector = 7 or detector = 8) and detector = 9"), TRUTH_FALSE);
    assert_int_equal(truth_of("not detector = 8 and detector = 7"), TRUTH_TRUE);
    assert_int_equal(truth_of("NOT (detector = 8 OR detector = 7)"), TRUTH_FALSE);
    assert_int_equal(truth_of("not not detector = 7"), TRUTH_TRUE);
    assert_int_equal(truth_of("detector = 7\n\tAnd(band='r')"), TRUTH_TRUE);
}

static void assert_refused(const char *expression, const char *words)
{
    struct snapshot *s = snapshot_now();
    struct where *w = NULL;
    char *why = NULL;
    assert_int_equal(where_parse(s, snapshot_type_by_name(s, TEXT("calexp")), text_of(expression), &w, &why), -EINVAL);
    if (!strstr(why, words))
        fail_msg("%s: \"%s\" is not in: %s", expression, words, why);
    free(why);
    snapshot_unref(s);
}

static void what_is_wrong_is_told_with_its_place(void **state)
{
    assert_refused("detector = 1 and visit.x = 2", "at character 18: \"visit.x\" is no key of \"calexp\"; its keys are band");
    assert_refused("tract = 1", "\"tract\" is no key");
    assert_refused("tract.id = 1", "\"tract.id\" is no key");
    assert_refused("visit.timespan = 1", "is no key");
    assert_refused("name = 'x'", "is of several dimensions");
    assert_refused("detector =", "at character 11: it ends");
    assert_refused("detector = 1)", "at character 13: and, or, or the end was expected, not \")\"");
    assert_refused("detector = 'x'", "can't be compared");
    assert_refused("band in (1)", "can't be compared");
    assert_refused("band in (1..2)", "which this key is not");
    assert_refused("detector in (2..1)", "a range goes up");
    assert_refused("detector in (1..2:0)", "a range goes up");
    assert_refused("detector in (1.5..2)", "whole numbers");
    assert_refused("detector in ()", "a number, a range");
    assert_refused("detector in 1", "( and a list");
    assert_refused("null = null", "null is only compared");
    assert_refused("detector < null", "null is only compared");
    assert_refused("is_good = 1", "can't be compared");
    assert_refused("12x = 1", "a number ends in");
    assert_refused("detector = 9223372036854775808", "too large");
    assert_refused("and", "a key, a number");
    assert_refused("detector ~ 1", "a comparison was expected");
}

static void what_is_too_long_or_too_deep_is_refused(void **state)
{
    BUFFER_CLEANUP deep = {0}, wide = {0}, listed = {0};
    for (int i = 0; i < 100; i++)
        buffer_append_byte(&deep, '(');
    assert_refused(deep.data, "nested deeper");
    for (int i = 0; i < 600; i++)
        buffer_append_string(&wide, "detector = 1 and ");
    assert_refused(wide.data, "too long");
    buffer_append_string(&listed, "detector in (1");
    for (int i = 0; i < 5000; i++)
        buffer_append_string(&listed, ",1");
    assert_refused(listed.data, "more than 4096 values");
}

// Finding.

static char *found_with(const char *collection, const char *type, const char *where, int *ret_pages)
{
    static char paths[8192];
    struct key last;
    bool has_more = true, has_after = false;
    struct place p;
    paths[0] = 0;
    *ret_pages = 0;
    while (has_more) {
        struct find_page page = {0};
        char *why = NULL;
        struct text path;
        assert_int_equal(place_at(repo, collection, &p), 0);
        int r = asking(repo, place_find(&p, text_of(type), text_of(where), has_after ? &last : NULL, &page, &why, &want_));
        place_release(&p);
        if (r < 0) {
            snprintf(paths, sizeof(paths), "%s", why ? why : strerror(-r));
            free(why);
            find_page_release(&page);
            return paths;
        }
        while (find_page_next(&page, &path))
            snprintf(paths + strlen(paths), sizeof(paths) - strlen(paths), "%.*s ", (int)path.size_bytes, path.data);
        has_more = page.has_more;
        last = page.last;
        has_after = true;
        find_page_release(&page);
        assert_true(++*ret_pages < 100);
    }
    return paths;
}

static char *found(const char *collection, const char *type, const char *where)
{
    int pages;
    return found_with(collection, type, where, &pages);
}

#define PATH(day, visit, detector, suffix)                                                                             \
    "calexp/instrument=Cam/day_obs=" #day "/visit=" #visit "/calexp_Cam_" #visit "_" #detector suffix " "

static void what_an_expression_is_true_of_is_found(void **state)
{
    assert_string_equal(found("collections/u/base", "calexp", ""),
                        PATH(20240101, 10, 1, ".fits") PATH(20240101, 10, 2, ".fits.fz") PATH(20240102, 20, 1, ".fits"));
    assert_string_equal(found("collections/u/base", "calexp", "visit = 20"), PATH(20240102, 20, 1, ".fits"));
    assert_string_equal(found("collections/u/base", "calexp", "day_obs > 20240101"), PATH(20240102, 20, 1, ".fits"));
    assert_string_equal(found("collections/u/base", "calexp", "visit < 20 and detector in (2..9)"),
                        PATH(20240101, 10, 2, ".fits.fz"));
    assert_string_equal(found("collections/u/base", "calexp", "band = 'r' and detector = 2"),
                        PATH(20240101, 10, 2, ".fits.fz"));
    assert_string_equal(found("collections/u/base", "calexp", "physical_filter = 'r_2'"), "");
    assert_string_equal(found("collections/u/base", "calexp", "visit.target = null and visit = 20"),
                        PATH(20240102, 20, 1, ".fits"));
    assert_string_equal(found("collections/u/base", "calexp", "visit = 10000"), "");
    assert_string_equal(found("collections/u/base", "cfg", ""), "cfg/cfg.py ");
    assert_string_equal(found("collections/u/parts", "calexp", "detector = 1"),
                        PATH(20240101, 10, 1, ".components"));
}

static void in_a_chain_winners_are_found(void **state)
{
    assert_string_equal(found("collections/chain", "calexp", "visit in (10, 11)"),
                        PATH(20240101, 10, 1, ".fits") PATH(20240101, 11, 1, ".fits"));
}

static void what_can_not_be_searched_is_told(void **state)
{
    assert_non_null(strstr(found("collections/u/base", "raw", ""), "no dataset type \"raw\"; it has calexp"));
    assert_non_null(strstr(found("collections", "raw", ""), "no collection's folder"));
    assert_non_null(strstr(found("collections/u/base", "calexp", "x = 1"), "is no key"));
}

// Many rows, by pages.

#define MANY 3000
static struct memory_dataset many_datasets[MANY + 1];
static char many_ids[MANY][64];

static const struct memory_description *many(void)
{
    static struct memory_description d;
    for (int i = 0; i < MANY; i++) {
        snprintf(many_ids[i], sizeof(many_ids[i]), CAM "detector=%d,visit=%d", i % 100, i / 100 % 2 ? 10 : 20 + i / 100);
        many_datasets[i] = (struct memory_dataset){.type = "calexp", .run = "u/base", .data_id = many_ids[i], .path = "m.fits"};
    }
    d = (struct memory_description){types, collections, records, many_datasets};
    return &d;
}

static void pages_follow_each_other_without_a_gap(void **state)
{
    int pages = 0;
    change(many());
    char *paths = found_with("collections/u/base", "calexp", "detector = 7 and visit > 20", &pages);
    int count = 0;
    for (char *at = paths; (at = strchr(at, ' ')); at++)
        count++;
    assert_int_equal(count, 14);
    paths = found_with("collections/u/base", "calexp", "detector in (3..40:37) or visit = 22", &pages);
    assert_true(pages > 1);
    char last[256] = "";
    for (char *at = strtok(paths, " "); at; at = strtok(NULL, " ")) {
        assert_true(strcmp(last, at) != 0);
        snprintf(last, sizeof(last), "%s", at);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(comparisons_are_those_of_sql),
        T(words_bind_as_usual),
        T(what_is_wrong_is_told_with_its_place),
        T(what_is_too_long_or_too_deep_is_refused),
        T(what_an_expression_is_true_of_is_found),
        T(in_a_chain_winners_are_found),
        T(what_can_not_be_searched_is_told),
        T(pages_follow_each_other_without_a_gap),
    };
    return run_group(tests);
}
